"""The 409B's QUE lines and commands: both ends against the published shapes, and against everything else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import novatech_409b as driver
from simulated_hw.novatech_409b import SimNovatech409B
from simulated_hw.world.parts import RfChannel

# what the driver of another project expects
CHANNEL = "00989680 2000 01F5 0000 00000000 00000000 000301"
LAST = "80 BC0000 0000 0102 21"


def instrument() -> SimNovatech409B:
    return SimNovatech409B([RfChannel() for _ in range(4)], lambda: 0.0, np.random.default_rng(1))


def test_the_published_lines() -> None:
    assert driver.decode_channel(CHANNEL) == (10_000_000, 0x2000, 501)
    assert driver.decode_version(LAST) == "21"
    sim = instrument()
    for order in ("F0 1.0000000", "P0 8192", "V0 501"):
        assert sim.answer(order) == "OK"
    answer = sim.answer("QUE")
    assert answer is not None
    lines = answer.split("\r\n")
    assert len(lines) == 5 and lines[4] == LAST
    assert lines[0].split()[:3] == CHANNEL.split()[:3]
    assert [len(field) for field in lines[0].split()] == [len(field) for field in CHANNEL.split()]


@given(st.integers(0, 1_711_276_000), st.integers(0, 16383), st.integers(0, 1023), st.integers(0, 3))
def test_settings_survive_the_wire(decihertz: int, phase: int, amplitude: int, n: int) -> None:
    sim = instrument()
    assert sim.answer(f"F{n} {decihertz / 10 / 1e6:.7f}") == "OK"
    assert sim.answer(f"P{n} {phase}") == "OK"
    assert sim.answer(f"V{n} {amplitude}") == "OK"
    line = (sim.answer("QUE") or "").split("\r\n")[n]
    assert driver.decode_channel(line) == (decihertz, phase, amplitude)
    assert sim.rf[n].frequency_hz == decihertz / 10
    assert sim.rf[n].signal_on == (amplitude > 0)


@given(st.floats(0, driver.HIGHEST_RAD))
def test_phases_are_rounded_to_the_nearest_step(radians: float) -> None:
    word = driver.phase_word(radians)
    assert 0 <= word < 16384
    off = abs(word / 16384 * 2 * math.pi - radians)
    assert min(off, 2 * math.pi - off) <= math.pi / 16384 * 1.0001


@given(st.text(max_size=60))
def test_no_text_upsets_the_driver(noise: str) -> None:
    with pytest.raises(ValueError):
        driver.decode_channel(noise)
    with pytest.raises(ValueError):
        driver.decode_version(noise)


@pytest.mark.parametrize(
    "line", [CHANNEL[:-1] + "G", CHANNEL.replace("2000", "4000"), CHANNEL + " 00", LAST, "OK", ""]
)
def test_other_lines_are_no_channel(line: str) -> None:
    with pytest.raises(ValueError):
        driver.decode_channel(line)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("F0 171.2", "?1"),
        ("F0 -1", "?1"),
        ("F0 1e1", "?1"),
        ("F4 10.0", "?1"),
        ("P0 16384", "?4"),
        ("P0 1.5", "?4"),
        ("V0 -1", "?7"),
        ("M t", "?6"),
        ("I q", "?6"),
        ("nonsense", "?0"),
        ("x" * 61, "?3"),
        ("f1 80.0000000", "OK"),
        ("", "OK"),
    ],
)
def test_refusals(line: str, reply: str) -> None:
    assert instrument().answer(line) == reply


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_bytes_upset_the_simulator(pieces: list[bytes]) -> None:
    sim = instrument()
    sent: list[bytes] = []
    session = sim.session("main", sent.append)
    for piece in pieces:
        session.receive(piece)
    sim.silent_until_s = 0.0
    sim.echo = False
    session.receive(b"\r\n")
    sim.silent_until_s = 0.0  # an "r" before it was a restart
    sent.clear()
    session.receive(b"F1 7")
    session.receive(b"0.0\r\n")
    assert sent == [b"OK\r\n"]
