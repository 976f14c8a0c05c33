"""APT messages of the polarisation controller: both codecs, and what the paddles do to light."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import thorlabs_mpc320 as driver
from drivers.thorlabs_mpc320 import Message
from simulated_hw import thorlabs_mpc320 as sim
from simulated_hw.world.parts_polarisation import PolarisationPaddles

# as on the wire (DEVICES.md 3.8)
ASK_INFO = bytes.fromhex("05 00 00 00 50 01")
ALL_ON = bytes.fromhex("10 02 07 01 50 01")
MOVE_HEADER = bytes.fromhex("53 04 06 00 d0 01")

ANSWERS = st.one_of(
    st.builds(
        Message,
        st.sampled_from((driver.MOVE_HOMED, driver.RESPONSE)),
        st.integers(0, 255),
        st.integers(0, 255),
    ),
    st.sampled_from([*driver.LENGTHS.items(), (driver.MOVE_COMPLETED, 14)]).flatmap(
        lambda pair: st.binary(min_size=pair[1], max_size=pair[1]).map(
            lambda data: Message(pair[0], data=data)
        )
    ),
)
ORDERS = st.one_of(
    st.builds(Message, st.sampled_from(sorted(sim.SHORT)), st.integers(0, 255), st.integers(0, 255)),
    st.sampled_from([*sim.DATA_LENGTHS.items()]).flatmap(
        lambda pair: st.binary(min_size=pair[1], max_size=pair[1]).map(
            lambda data: Message(pair[0], data=data)
        )
    ),
)


def controller() -> sim.SimThorlabsMpc320:
    return sim.SimThorlabsMpc320(PolarisationPaddles(), lambda: 0.0, np.random.default_rng(1))


def from_controller(message: Message) -> bytes:
    if message.data:
        return sim.long_message(message.kind, message.data)
    return sim.short_message(message.kind, message.first, message.second)


def test_golden_messages() -> None:
    assert driver.encode(Message(driver.REQ_INFO)) == ASK_INFO
    assert driver.encode(Message(driver.SET_ENABLED, 7, 1)) == ALL_ON
    move = driver.encode(Message(driver.MOVE_ABSOLUTE, data=struct.pack("<Hi", 2, 1370)))
    assert move == MOVE_HEADER + bytes.fromhex("02 00 5a 05 00 00")
    assert sim.next_message(bytearray(ASK_INFO)) == (0x0005, 0, 0, b"")
    assert sim.next_message(bytearray(ALL_ON)) == (0x0210, 7, 1, b"")
    assert sim.next_message(bytearray(move)) == (0x0453, 0, 0, move[6:])


def test_the_hardware_information_has_84_bytes() -> None:
    info = controller().info()
    assert len(info) == 84
    assert driver.unpack_info(info)[:2] == (38_000_042, "MPC320")
    assert sim.long_message(0x0006, info)[:6] == bytes.fromhex("06 00 54 00 81 50")


@given(ORDERS)
def test_the_controller_reads_what_the_driver_sends(message: Message) -> None:
    buffer = bytearray(driver.encode(message) + b"\x01\x02")
    assert sim.next_message(buffer) == (message.kind, message.first, message.second, message.data)
    assert buffer == b"\x01\x02"


@given(ANSWERS)
def test_the_driver_reads_what_the_controller_sends(message: Message) -> None:
    line = from_controller(message)
    head, length = driver.decode_header(line[:6])
    assert Message(head.kind, head.first, head.second, line[6:]) == message
    assert length == len(message.data)


@given(st.binary(min_size=6, max_size=6))
def test_noise_is_no_header(noise: bytes) -> None:
    """Whatever is accepted would be sent as the same bytes by a controller."""
    try:
        message, length = driver.decode_header(noise)
    except ValueError:
        return
    assert noise == from_controller(Message(message.kind, message.first, message.second, bytes(length)))[:6]


@given(st.integers(0, 5), st.integers(1, 255))
def test_with_a_changed_byte_it_is_not_taken_for_the_answer(at: int, value: int) -> None:
    header = bytearray(sim.long_message(0x0491, bytes(14))[:6])
    header[at] ^= value
    try:
        message, _ = driver.decode_header(bytes(header))
    except ValueError:
        return
    assert message.kind in (driver.MOVE_COMPLETED, driver.MOVE_STOPPED)  # which are passed over


@given(st.lists(st.binary(max_size=100), max_size=6))
def test_no_bytes_upset_the_controller(pieces: list[bytes]) -> None:
    sent: list[bytes] = []
    session = controller().session("main", sent.append)
    for piece in pieces:
        session.receive(piece)
    session.receive(bytes(40))  # longer than any message: whatever had begun has ended
    sent.clear()
    session.receive(ASK_INFO)
    assert len(sent) == 1 and sent[0][:6] == bytes.fromhex("06 00 54 00 81 50")


@given(st.tuples(*[st.floats(0, math.radians(170))] * 3), st.floats(500e-9, 2e-6))
def test_paddles_lose_no_light(angles: tuple[float, float, float], wavelength_m: float) -> None:
    paddles = PolarisationPaddles()
    paddles.angles_rad = [*angles]
    jones = paddles.jones(wavelength_m)
    assert np.allclose(jones @ jones.conj().T, np.eye(2))


def test_one_and_two_loops_are_a_quarter_and_a_half_wave_in_the_telecom_band() -> None:
    paddles = PolarisationPaddles()
    waves = [paddles.retardance_rad(n, 1550e-9) / (2 * math.pi) for n in range(3)]
    assert waves == pytest.approx([0.25, 0.5, 0.25], rel=0.08)


def test_paddles_reach_every_polarisation() -> None:
    """From horizontal light, a coarse search comes close to vertical, diagonal and circular."""
    paddles = PolarisationPaddles()
    wanted = [np.array([0, 1]), np.array([1, 1]) / math.sqrt(2), np.array([1, 1j]) / math.sqrt(2)]
    best = [0.0, 0.0, 0.0]
    steps = np.linspace(0, math.radians(170), 18)
    for first in steps:
        for second in steps:
            for third in steps:
                paddles.angles_rad = [float(first), float(second), float(third)]
                light = paddles.jones(1550e-9) @ np.array([1, 0])
                best = [max(b, abs(np.vdot(w, light)) ** 2) for b, w in zip(best, wanted, strict=True)]
    assert min(best) > 0.98


def test_paddles_turn_at_their_speed() -> None:
    paddles = PolarisationPaddles()
    paddles.speed_rad_per_s = 1.0
    paddles.turn_to(1, 2.0)
    paddles.turn_to(2, 99.0)
    paddles.advance(1.5)
    assert paddles.angles_rad == pytest.approx([0.0, 1.5, 1.5])
    paddles.stop(1)
    paddles.advance(10.0)
    assert paddles.angles_rad == pytest.approx([0.0, 1.5, math.radians(170)])
    assert not any(map(paddles.moving, range(3)))
