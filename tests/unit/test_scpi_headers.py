"""SCPI headers as the simulated generators read them, and the levels of the generator driver."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import scpi_generator as driver
from simulated_hw.scpi_generator import SimKeysight33622A, SimRigolDg4102, SimSmb100A
from simulated_hw.scpi_headers import canonical, number
from simulated_hw.world.parts import RfChannel

SIMS = [SimRigolDg4102, SimKeysight33622A, SimSmb100A]


def instrument(kind: Any) -> Any:
    return kind([RfChannel(), RfChannel()], lambda: 0.0, np.random.default_rng(1))


@pytest.mark.parametrize(
    ("command", "plain"),
    [
        (":SOURce1:FREQuency?", "SOUR:FREQ? 1"),
        ("sour2:freq:fix 80e6", "SOUR:FREQ 2 80E6"),
        ("FREQ:CW 1 MHz", "SOUR:FREQ 1 1 MHZ"),
        (":OUTP2:STATe ON", "OUTP 2 ON"),
        ("SOUR:POW:LEV:IMM:AMPL -10", "SOUR:POW 1 -10"),
        ("SYSTem:ERRor:NEXT?", "SYST:ERR? 1"),
        ("*idn?", "*IDN?"),
        ("SOURC1:FREQ?", None),
        ("FREQ2?", None),
        ("", None),
        (":", None),
        ("?", None),
    ],
)
def test_headers(command: str, plain: str | None) -> None:
    assert canonical(command) == plain


@pytest.mark.parametrize(
    ("text", "value"),
    [("80E6", 80e6), ("80 MHZ", 80e6), ("-.5DBM", -0.5), ("1,5", None), ("NAN", None), ("1 PS", None)],
)
def test_numbers(text: str, value: float | None) -> None:
    assert number(text) == value


@given(st.text(max_size=60))
def test_no_text_upsets_the_parser(noise: str) -> None:
    canonical(noise)
    number(noise)


@pytest.mark.parametrize("kind", SIMS)
@given(pieces=st.lists(st.binary(max_size=60), max_size=6))
def test_no_bytes_upset_the_simulators(kind: Any, pieces: list[bytes]) -> None:
    sim = instrument(kind)
    sent: list[bytes] = []
    session = sim.session("main", sent.append)
    for piece in pieces:
        session.receive(piece)
    session.receive(b"\n*CLS\n")
    sent.clear()
    session.receive(b"*I")
    session.receive(b"DN?\n")
    assert sent == [sim.identity.encode() + b"\n"]


PARTS = st.sampled_from(
    [
        "SOUR1:",
        "SOUR2:",
        ":OUTP1",
        "OUTP9",
        "FREQ",
        "VOLT",
        "POW",
        "PHAS",
        "FUNC",
        "UNIT:",
        "ANGL",
        "LOAD",
        "?",
        ";",
        "MIN",
        "80E6",
        "1E999",
        "-3",
        "ON",
        "SIN",
        "INF",
        "DBM",
        "VPP",
    ]
)


@pytest.mark.parametrize("kind", SIMS)
@given(words=st.lists(PARTS, max_size=12), glue=st.sampled_from(["", " "]))
def test_no_mixture_of_their_own_words_upsets_the_simulators(kind: Any, words: list[str], glue: str) -> None:
    sim = instrument(kind)
    sim.answer(glue.join(words))
    sim.answer("*CLS")
    assert sim.answer("SYST:ERR?") == f'{sim.no_error},"No error"'
    for channel in sim.channels:
        assert sim.volts_pp[0] <= channel.volts_pp <= sim.volts_pp[1] * 1.001
        assert math.isfinite(channel.rf.power_dbm)


def test_the_extra_line_end_of_the_dg4102() -> None:
    sent: list[bytes] = []
    session = instrument(SimRigolDg4102).session("main", sent.append)
    session.receive(b":OUTP1?\n:SOURce1:FREQ?\n")
    assert sent == [b"OFF\n\n", b"8.000000E+07\n"]


def test_chained_commands_share_their_path() -> None:
    sim = instrument(SimKeysight33622A)
    assert (
        sim.answer("SOUR2:FREQ 70e6;PHAS 90;:SOUR1:FREQ?;PHAS?")
        == "+8.00000000000000E+07;+0.00000000000000E+00"
    )
    assert (sim.channels[1].rf.frequency_hz, sim.channels[1].rf.phase_turns) == (70e6, 0.25)


@pytest.mark.parametrize(
    ("kind", "line", "error"),
    [
        (SimRigolDg4102, "SOUR1:FREQ 200e6", -222),
        (SimRigolDg4102, "SOUR1:POW 3", -113),
        (SimRigolDg4102, "SOUR3:FREQ 1e6", -113),
        (SimRigolDg4102, "UNIT:ANGL DEG", -113),
        (SimKeysight33622A, "SOUR1:VOLT 11", -222),
        (SimKeysight33622A, "UNIT:ANGL GRAD", -224),
        (SimSmb100A, "SOUR:VOLT 1", -113),
        (SimSmb100A, "SOUR:FREQ 1", -222),
        (SimSmb100A, "SOUR:POW nonsense", -104),
        (SimSmb100A, "OUTP", -109),
        (SimSmb100A, "SOUR:FREQ", -109),
        (SimSmb100A, "OUTP MAYBE", -224),
    ],
)
def test_errors_go_to_the_queue(kind: Any, line: str, error: int) -> None:
    sim = instrument(kind)
    assert sim.answer(line) is None
    assert [*sim.errors] == [error]
    assert sim.answer("SYST:ERR?").startswith(f"{error},")


def test_the_whole_queue_at_once() -> None:
    sim = instrument(SimSmb100A)
    sim.answer("OUTP;NONSENSE")
    assert sim.answer("SYST:ERR:ALL?") == '-109,"Missing parameter",-113,"Undefined header"'
    assert sim.answer("SYST:ERR:ALL?") == '0,"No error"'


def test_levels_of_a_sine_at_50_ohm() -> None:
    assert driver.dbm_of(2 * math.sqrt(2) * math.sqrt(50 * 1e-3)) == pytest.approx(0.0, abs=1e-12)
    assert driver.volts_of(0.0) == pytest.approx(0.6325, abs=1e-4)


@given(st.floats(-120, 40))
def test_levels_survive_conversion(dbm: float) -> None:
    assert driver.dbm_of(driver.volts_of(dbm)) == pytest.approx(dbm, abs=1e-9)


def test_a_high_impedance_setting_shows_twice_the_voltage() -> None:
    sim = instrument(SimKeysight33622A)
    sim.answer("SOUR1:VOLT 1")
    before = sim.channels[0].rf.power_dbm
    sim.answer("OUTP1:LOAD INF")
    assert float(sim.answer("SOUR1:VOLT?")) == pytest.approx(2.0)
    assert sim.channels[0].rf.power_dbm == before
    sim.answer("SOUR1:VOLT 1")
    assert sim.channels[0].rf.power_dbm == pytest.approx(before - 6.0206, abs=1e-3)
