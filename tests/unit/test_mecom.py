"""MeCom frames: both codecs against the golden frames, and against everything else."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import meerstetter_tec as driver
from simulated_hw import meerstetter_tec as sim
from simulated_hw.world.parts import HeatedBody

# request and answer as on the wire, without CR (DEVICES.md 3.4)
READ = (b"#020002?VR03E801C340", b"!02000241C7EB85CCCA")
WRITE = (b"#020003VS0BB80141FC0000E4E2", b"!020003E4E2")
REFUSED = (WRITE[0], b"!020003+0793FC")
STATUS = (b"#020004?VR0068018784", b"!020004000000027CF0")
IDENTITY = b"#020005?IF293B"

PAYLOADS = st.text(st.sampled_from("0123456789ABCDEF?VRSIL+"), min_size=1, max_size=40)
ADDRESSES = st.integers(0, 255)
SEQUENCES = st.integers(0, 0xFFFF)


def instrument() -> sim.SimMeerstetterTec:
    return sim.SimMeerstetterTec(HeatedBody(), lambda: 0.0, np.random.default_rng(1))


def test_driver_makes_the_golden_requests() -> None:
    assert driver.encode_request(2, 2, "?VR03E801") == READ[0]
    assert driver.encode_request(2, 3, "VS0BB801" + struct.pack(">f", 31.5).hex().upper()) == WRITE[0]
    assert driver.encode_request(2, 4, "?VR006801") == STATUS[0]
    assert driver.encode_request(2, 5, "?IF") == IDENTITY


def test_driver_reads_the_golden_answers() -> None:
    reply = driver.decode_answer(READ[1], READ[0])
    assert struct.unpack(">f", bytes.fromhex(reply))[0] == pytest.approx(24.99, abs=1e-6)
    assert driver.decode_answer(WRITE[1], WRITE[0]) == ""
    assert driver.decode_answer(REFUSED[1], REFUSED[0]) == "+07"
    assert driver.decode_answer(STATUS[1], STATUS[0]) == "00000002"


def test_simulator_reads_the_golden_requests_and_makes_the_golden_answers() -> None:
    assert sim.decode_request(READ[0].decode()) == (2, "0002", "?VR03E801")
    assert sim.encode_answer(2, "0002", "41C7EB85").encode() == READ[1]
    assert sim.decode_request(WRITE[0].decode()) == (2, "0003", "VS0BB80141FC0000")
    assert sim.encode_acknowledgement(2, "0003", "E4E2").encode() == WRITE[1]
    assert sim.encode_answer(2, "0003", "+07").encode() == REFUSED[1]
    assert sim.encode_answer(2, "0004", "00000002").encode() == STATUS[1]


def test_the_instrument_answers_golden_requests_with_golden_answers() -> None:
    tec = instrument()
    tec.channels[0].body.enabled = True
    assert tec.answer(STATUS[0].decode()) == STATUS[1].decode()
    assert tec.answer(WRITE[0].decode()) == WRITE[1].decode()
    assert tec.channels[0].flash_target_c == 31.5
    tec.channels[0].body.highest_k = 273.15 + 30
    assert tec.answer(WRITE[0].decode()) == REFUSED[1].decode()
    identity = tec.answer(IDENTITY.decode())
    assert identity is not None and len(identity) == 1 + 6 + 20 + 4


def test_lengths_that_clients_tell_answers_apart_by() -> None:
    """10 characters after the ``!`` are an acknowledgement, 30 the identity."""
    assert len(WRITE[1]) - 1 == 10
    identity = instrument().answer(IDENTITY.decode())
    assert identity is not None and len(identity) - 1 == 30


@pytest.mark.parametrize(
    ("payload", "reply"),
    [
        ("?VR03E701", "+05"),
        ("?VR03E802", "+08"),
        ("?VR03E800", "+08"),
        ("?VR03E8", "+04"),
        ("VS03E80100000000", "+06"),
        ("VS0BB8017FC00000", "+07"),
        ("VS0BB80144FA0000", "+07"),
        ("?XY", "+01"),
    ],
)
def test_refusals(payload: str, reply: str) -> None:
    answer = instrument().answer(driver.encode_request(2, 1, payload).decode())
    assert answer is not None and answer[7:-4] == reply


@given(ADDRESSES, SEQUENCES, PAYLOADS)
def test_the_simulator_decodes_what_the_driver_encodes(address: int, sequence: int, payload: str) -> None:
    request = driver.encode_request(address, sequence, payload)
    assert sim.decode_request(request.decode()) == (address, f"{sequence:04X}", payload)


@given(ADDRESSES, SEQUENCES, PAYLOADS)
def test_the_driver_decodes_what_the_simulator_encodes(address: int, sequence: int, payload: str) -> None:
    request = driver.encode_request(address, sequence, "?VR03E801")
    answer = sim.encode_answer(address, f"{sequence:04X}", payload).encode()
    assert driver.decode_answer(answer, request) == payload
    acknowledgement = sim.encode_acknowledgement(address, f"{sequence:04X}", request[-4:].decode()).encode()
    assert driver.decode_answer(acknowledgement, request) == ""


@given(st.floats(width=32, allow_nan=False))
def test_floats_survive_the_wire(value: float) -> None:
    parameter = sim.PARAMETERS[50012]
    assert parameter.decode(parameter.encode(value)) == value
    assert struct.unpack(">f", bytes.fromhex(parameter.encode(value)))[0] == value


@given(st.binary(max_size=80))
def test_no_bytes_upset_the_driver(noise: bytes) -> None:
    """Noise is refused with a ValueError, never taken for an answer."""
    with pytest.raises(ValueError):
        driver.decode_answer(noise, READ[0])


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_bytes_upset_the_simulator(pieces: list[bytes]) -> None:
    sent: list[bytes] = []
    session = instrument().session("main", sent.append)
    for piece in pieces:
        session.receive(piece)
    sent.clear()
    session.receive(b"\r" + IDENTITY + b"\r")
    assert len(sent) == 1 and sent[0].startswith(b"!0200058065-TEC-SW-G01")


@given(st.integers(0, 18), st.integers(1, 255))
def test_one_wrong_character_is_noticed(at: int, flip: int) -> None:
    spoiled = bytearray(READ[1])
    spoiled[at] ^= flip
    with pytest.raises(ValueError):
        driver.decode_answer(bytes(spoiled), READ[0])
