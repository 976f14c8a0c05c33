"""Answers of the piezo controller in both framings, and the piezo itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.thorlabs_mdt693b import parse_number
from simulated_hw.thorlabs_mdt693b import SimThorlabsMdt693b
from simulated_hw.world.parts_piezo import Piezo


def controller(firmware: str, echo: bool) -> SimThorlabsMdt693b:
    piezos = [Piezo(charging_s=0.01) for _ in range(3)]
    clock = iter(range(1000))
    return SimThorlabsMdt693b(
        piezos,
        lambda: float(next(clock)),
        np.random.default_rng(1),
        firmware=firmware,
        limit_v=100,
        monitor_offset_v=0.0,
        echo=echo,
    )


def conversation(instrument: SimThorlabsMdt693b, *lines: bytes) -> list[bytes]:
    sent: list[bytes] = []
    session = instrument.session("main", sent.append)
    for line in lines:
        session.receive(line)
    return sent


DIALOGUES = {  # firmware, echo -> line and what comes
    ("1.05", True): [
        (b"vlimit?\r", b"vlimit?\r*[ 100]\r*"),
        (b"xvoltage=24.680\r", b"xvoltage=24.680\r*"),
        (b"xvoltage?\r", b"xvoltage?\r*[  24.7]\r"),
        (b"serial?\r", b"serial?\r140421-07\r*"),
        (b"volts?\r", b"volts?\r!"),
        (b"xvoltage=101\r", b"xvoltage=101\r!"),
        (b"echo?\r", b"echo?\r*[Echo On]\r"),
    ],
    ("1.06", False): [
        (b"xvoltage=24.680\r", b"*"),
        (b"xvoltage?\r", b"*[  24.7]\r"),
        (b"echo=0\r", b"*[Echo Off]\r"),
    ],
    ("1.09", True): [
        (b"vlimit?\r", b"vlimit?\r[ 100]\r>"),
        (b"yvoltage=5\r", b"yvoltage=5\r>"),
        (b"yvoltage?\r", b"yvoltage?\r[   5.0]\r>"),
        (b"volts?\r", b"volts?\rCMD_NOT_DEFINED>"),
        (b"echo=0\r", b"echo=0\r[Echo Off]\r>"),
        (b"yvoltage?\r", b"[   5.0]\r>"),
        (b"echo=1\r", b"[Echo On]\r>"),
    ],
}


@pytest.mark.parametrize("kind", DIALOGUES, ids=str)
def test_dialogues(kind: tuple[str, bool]) -> None:
    lines, answers = zip(*DIALOGUES[kind], strict=True)
    assert conversation(controller(*kind), *lines) == [*answers]


@pytest.mark.parametrize("text", ["[ 100]", "[  24.8]\r", "[-0.1]", "0", "100.5", " [150] "])
def test_numbers(text: str) -> None:
    assert parse_number(text) == float(text.strip("[] \r"))


@given(st.floats(-99.0, 150.0))
def test_numbers_as_the_controller_writes_them(volts: float) -> None:
    assert parse_number(f"[{volts:6.1f}]\r") == pytest.approx(volts, abs=0.051)


@given(st.text(max_size=20))
def test_other_text_is_no_number(text: str) -> None:
    """What is accepted means the same to Python."""
    try:
        value = parse_number(text)
    except ValueError:
        return
    assert value == float(text.strip().removeprefix("[").removesuffix("]"))


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_no_bytes_upset_the_controller(pieces: list[bytes]) -> None:
    sent = conversation(controller("1.09", False), *pieces, b"\recho=0\r", b"vlimit?\r")
    assert sent[-1] == b"[ 100]\r>"


def test_a_piezo_follows_and_creeps() -> None:
    piezo = Piezo(travel_m_per_v=20e-9, creep=0.1)
    piezo.setpoint_v = 100.0
    piezo.advance(0.5)
    assert piezo.voltage_v == pytest.approx(100.0)
    assert piezo.length_m() == pytest.approx(1.8e-6, rel=0.01)
    piezo.advance(1000.0)
    assert piezo.length_m() == pytest.approx(2.0e-6)
