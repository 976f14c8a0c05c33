"""Interbus telegrams: both codecs against the golden frames, and against everything else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import nkt_koheras as driver
from drivers.nkt_koheras import ACK, DATAGRAM, NACK, READ, WRITE, Telegram
from simulated_hw import nkt_koheras as sim
from simulated_hw.world.parts_pump import PumpSeed

# as on the wire (DEVICES.md 3.2)
ASK_TYPE = bytes.fromhex("0d 01 a1 04 61 4c 5b 0a")
TYPE = bytes.fromhex("0d a1 01 08 61 33 61 0b 0a")
EMISSION_ON = bytes.fromhex("0d 01 a1 05 30 01 c8 d7 0a")
ACKNOWLEDGED = bytes.fromhex("0d a1 01 03 30 c8 f2 0a")
REFUSED = bytes.fromhex("0d a1 01 00 8d eb d7 0a")
WITH_ESCAPES = bytes.fromhex("0d a1 01 08 1c 5e 4d 5e 9e 70 7f 0a")

GOLDEN = [
    (Telegram(0x01, 0xA1, READ, 0x61), ASK_TYPE),
    (Telegram(0xA1, 0x01, DATAGRAM, 0x61, b"\x33"), TYPE),
    (Telegram(0x01, 0xA1, WRITE, 0x30, b"\x01"), EMISSION_ON),
    (Telegram(0xA1, 0x01, ACK, 0x30), ACKNOWLEDGED),
    (Telegram(0xA1, 0x01, NACK, 0x8D), REFUSED),
    (Telegram(0xA1, 0x01, DATAGRAM, 0x1C, b"\x0d\x5e"), WITH_ESCAPES),
]

ADDRESSES = st.integers(1, 255)
TELEGRAMS = st.builds(
    Telegram, ADDRESSES, ADDRESSES, st.integers(0, 9), st.integers(0, 255), st.binary(max_size=240)
)


def message(telegram: Telegram) -> bytes:
    return bytes((telegram.destination, telegram.source, telegram.kind, telegram.register)) + telegram.data


def laser() -> sim.SimNktKoheras:
    return sim.SimNktKoheras(PumpSeed(), lambda: 0.0, np.random.default_rng(1))


def conversation(instrument: sim.SimNktKoheras, *pieces: bytes) -> bytes:
    sent: list[bytes] = []
    session = instrument.session("main", sent.append)
    for piece in pieces:
        session.receive(piece)
    return b"".join(sent)


@pytest.mark.parametrize(("telegram", "line"), GOLDEN)
def test_golden_frames(telegram: Telegram, line: bytes) -> None:
    assert driver.encode(telegram) == line
    assert driver.decode(line) == telegram
    assert sim.wrap(message(telegram)) == line
    assert sim.unwrap(line[1:-1]) == (message(telegram), True)


def test_the_laser_answers_golden_requests_with_golden_answers() -> None:
    instrument = laser()
    assert conversation(instrument, ASK_TYPE) == TYPE
    assert conversation(instrument, EMISSION_ON) == ACKNOWLEDGED
    assert instrument.seed.emission
    assert conversation(instrument, driver.encode(Telegram(1, 0xA1, READ, 0x8D))) == REFUSED


@given(TELEGRAMS)
def test_each_side_reads_the_other_and_itself(telegram: Telegram) -> None:
    line = driver.encode(telegram)
    assert line == sim.wrap(message(telegram))
    assert driver.decode(line) == telegram
    assert sim.unwrap(line[1:-1]) == (message(telegram), True)
    assert not set(line[1:-1]) & {0x0A, 0x0D}


@given(st.binary(max_size=80))
def test_noise_is_refused(noise: bytes) -> None:
    for line in (noise, b"\r" + noise + b"\n"):
        with pytest.raises(ValueError):
            driver.decode(line)


@given(TELEGRAMS, st.data())
def test_a_changed_byte_is_noticed(telegram: Telegram, data: st.DataObject) -> None:
    line = bytearray(driver.encode(telegram))
    line[data.draw(st.integers(0, len(line) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError):
        driver.decode(bytes(line))


@given(st.lists(st.binary(max_size=700), max_size=6))
def test_no_bytes_upset_the_laser(pieces: list[bytes]) -> None:
    instrument = laser()
    sent: list[bytes] = []
    session = instrument.session("main", sent.append)
    for piece in pieces:
        session.receive(piece)
    sent.clear()
    session.receive(ASK_TYPE)
    assert sent == [TYPE]


@given(st.binary(min_size=1, max_size=8))
def test_a_spoilt_request_is_told_apart_from_one_for_another_module(data: bytes) -> None:
    request = sim.wrap(bytes((0x01, 0xA1, WRITE, 0x22)) + data)
    spoilt = bytearray(request)
    spoilt[4] ^= 0x80  # the register; 0x22 and 0xa2 need no escape
    instrument = laser()
    assert driver.decode(conversation(instrument, bytes(spoilt))).kind == driver.CRC_ERROR
    assert instrument.seed.power_setpoint_w == 0.0
    assert conversation(instrument, sim.wrap(bytes((0x0A, 0xA1, READ, 0x61)))) == b""


@pytest.mark.parametrize("host", [0x40, 0xA1, 0xFF])
def test_the_answer_goes_to_who_asked(host: int) -> None:
    answer = driver.decode(conversation(laser(), driver.encode(Telegram(0x80, host, READ, 0x61))))
    assert answer == Telegram(host, 0x80, DATAGRAM, 0x61, b"\x34")


def test_single_bits_of_a_register() -> None:
    instrument = laser()

    def change(kind: int, value: int) -> int:
        telegram = Telegram(1, 0xA1, kind, 0x31, value.to_bytes(2, "little"))
        assert driver.decode(conversation(instrument, driver.encode(telegram))).kind == ACK
        return instrument.setup_bits

    assert change(WRITE, 0x0104) == 0x0104
    assert change(sim.SET_BITS, 0x0002) == 0x0106
    assert change(sim.CLEAR_BITS, 0x0100) == 0x0006
    assert change(sim.TOGGLE_BITS, 0x0005) == 0x0003


@pytest.mark.parametrize(
    ("register", "data"),
    [
        (0x17, b"\x01\x00"),  # read-only
        (0x30, b"\x02"),  # not a switch position
        (0x30, b"\x01\x00"),  # a byte too many
        (0x22, b"\xff\xff"),  # more than the module can give
        (0x2A, b"\xff\x7f"),  # further than it tunes
    ],
)
def test_what_the_laser_does_not_allow(register: int, data: bytes) -> None:
    answer = conversation(laser(), driver.encode(Telegram(1, 0xA1, WRITE, register, data)))
    assert driver.decode(answer) == Telegram(0xA1, 1, NACK, register)


def test_the_seed_follows_its_setpoints() -> None:
    seed = PumpSeed(power_time_s=0.1, tuning_time_s=1.0)
    seed.emission, seed.power_setpoint_w, seed.offset_setpoint_m = True, 0.02, 100e-12
    seed.advance(0.1)
    assert seed.power_w() == pytest.approx(0.02 * (1 - np.exp(-1)))
    seed.advance(10.0)
    assert seed.power_w() == pytest.approx(0.02)
    assert seed.offset_m == pytest.approx(100e-12, rel=1e-3)
    assert seed.frequency_hz() == pytest.approx(299792458 / 1054.1e-9, rel=1e-6)
    seed.interlock_closed = False
    assert seed.power_w() == 0.0
