"""Modbus RTU frames of the oven: both codecs against the golden frames, and against everything else."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import hcp_tc038d as driver
from simulated_hw import hcp_tc038d as sim
from simulated_hw.world.parts import HeatedBody

READ = bytes.fromhex("01 03 00 00 00 02 C4 0B")  # as on the wire (DEVICES.md 3.4)
VALUES = st.integers(-(2**31), 2**31 - 1)
REGISTERS = st.integers(0, 0xFFFF)
UNITS = st.integers(0, 255)


def oven() -> sim.SimHcpTc038d:
    return sim.SimHcpTc038d(HeatedBody(noise_k=0.0), lambda: 0.0, np.random.default_rng(1))


def conversation(instrument: sim.SimHcpTc038d, *pieces: bytes) -> list[bytes]:
    sent: list[bytes] = []
    session = instrument.session("main", sent.append)
    for piece in pieces:
        session.receive(piece)
    return sent


def test_golden_frames() -> None:
    assert driver.encode_read(1, 0) == READ
    assert sim.find_request(READ) == (READ[:-2], 8)
    assert driver.encode_write(1, 0x0106, -250)[:-2] == bytes.fromhex("01 10 01 06 00 02 04 ff ff ff 06")
    (answer,) = conversation(oven(), READ)
    assert answer[:-2] == bytes.fromhex("01 03 04 00 00 00 d2")  # 21.0 degC
    driver.check_answer(answer, READ)


def test_the_check_value_of_the_checksum() -> None:
    """0x4B37 over "123456789" is the published check value of CRC-16/MODBUS."""
    assert driver.crc(b"123456789") == b"\x37\x4b"
    assert sim.crc(b"123456789") == 0x4B37


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (driver.encode_write(1, 0x0107, 300), "01 90 02"),
        (driver.encode_write(1, 0x0106, 9000), "01 90 03"),
        (driver.encode_read(1, 2), "01 83 02"),
        (sim.frame(bytes.fromhex("01 03 00 00 00 01")), "01 83 03"),
        (sim.frame(bytes.fromhex("01 06 01 06 00 fa")), "01 86 01"),
        (sim.frame(bytes.fromhex("01 08 00 01 00 00")), "01 88 03"),
    ],
)
def test_refusals(request_: bytes, answer: str) -> None:
    instrument = oven()
    before = instrument.body.setpoint_k
    assert conversation(instrument, request_) == [sim.frame(bytes.fromhex(answer))]
    assert instrument.body.setpoint_k == before


def test_another_unit_is_silent_and_a_broadcast_is_obeyed_silently() -> None:
    instrument = oven()
    assert conversation(instrument, driver.encode_read(2, 0)) == []
    assert conversation(instrument, driver.encode_write(0, 0x0106, 400)) == []
    assert instrument.body.setpoint_k == pytest.approx(313.15)


@given(UNITS, REGISTERS, VALUES)
def test_the_oven_reads_what_the_driver_sends(unit: int, register: int, value: int) -> None:
    for line in (
        driver.encode_read(unit, register),
        driver.encode_write(unit, register, value),
        driver.encode_echo(unit, register),
    ):
        assert sim.find_request(line) == (line[:-2], len(line))
        assert sim.frame(line[:-2]) == line
    assert struct.unpack(">i", driver.encode_write(unit, register, value)[7:-2])[0] == value


@given(VALUES)
def test_the_driver_reads_what_the_oven_sends(value: int) -> None:
    answer = sim.frame(b"\x01\x03\x04" + value.to_bytes(4, "big", signed=True))
    driver.check_answer(answer, READ)
    assert struct.unpack(">i", answer[3:-2])[0] == value


@given(st.binary(min_size=5, max_size=9))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(ValueError):
        driver.check_answer(noise, READ)


@given(st.integers(0, 8), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, value: int) -> None:
    answer = bytearray(conversation(oven(), READ)[0])
    answer[at] ^= value
    with pytest.raises(ValueError):
        driver.check_answer(bytes(answer), READ)


def test_answers_to_other_requests_are_refused() -> None:
    instrument = oven()
    write, echo = driver.encode_write(1, 0x0106, 300), driver.encode_echo(1, 7)
    lines = (READ, write, echo)
    answers = [conversation(instrument, line)[0] for line in lines]
    for line, own in zip(lines, answers, strict=True):
        driver.check_answer(own, line)
        for other in answers:
            if other != own:
                with pytest.raises(ValueError):
                    driver.check_answer(other, line)
    with pytest.raises(ValueError, match="number"):
        driver.check_answer(answers[2], driver.encode_echo(1, 8))
    with pytest.raises(ValueError, match="register"):
        driver.check_answer(answers[1], driver.encode_write(1, 0x0107, 300))


@given(st.lists(st.binary(max_size=100), max_size=6))
def test_no_bytes_upset_the_oven(pieces: list[bytes]) -> None:
    assert conversation(oven(), *pieces, READ)[-1][:3] == b"\x01\x03\x04"
