"""The generator driver against the simulated generators of its three dialects, over TCP, VISA and a serial line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from drivers.scpi_generator import ScpiGenerator, dbm_of
from labctl.clock import VirtualClock
from labctl.errors import (
    BadAnswerError,
    ConfigError,
    LimitError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
)
from labctl.sim.inprocess import Bench
from labctl.sim.server import SimServer
from labctl.transport import SimTransport, connect
from simulated_hw.scpi_generator import SimKeysight33622A, SimRigolDg4102, SimScpiGenerator, SimSmb100A
from simulated_hw.world.parts import RfChannel

SIMS: dict[str, type[SimScpiGenerator]] = {
    "rigol": SimRigolDg4102,
    "keysight": SimKeysight33622A,
    "rohde_schwarz": SimSmb100A,
}
DIALECTS = sorted(SIMS)


@dataclass
class Bench3:
    """A served generator of each dialect."""

    sims: dict[str, SimScpiGenerator]
    ports: dict[str, int]

    def rf(self, dialect: str, channel: int = 1) -> RfChannel:
        return self.sims[dialect].channels[channel - 1].rf

    def driver(self, dialect: str, channel: int = 1, way: str = "tcp", spoken: str = "") -> ScpiGenerator:
        port = self.ports[dialect]
        address = {"tcp": f"tcp://127.0.0.1:{port}", "visa": f"visa://TCPIP::127.0.0.1::{port}::SOCKET"}[way]
        gen = ScpiGenerator(connect(address, "rf", 0.2), "rf", spoken or dialect, channel)
        gen.timeout_s = 0.2
        gen.open()
        return gen


@pytest.fixture
def bench() -> Iterator[Bench3]:
    clock = VirtualClock()
    server = SimServer()
    sims: dict[str, SimScpiGenerator] = {}
    ports: dict[str, int] = {}
    for dialect, kind in SIMS.items():
        channels = [RfChannel() for _ in range(1 if kind is SimSmb100A else 2)]
        sims[dialect] = kind(channels, clock.now, np.random.default_rng(7))
        ports[dialect] = server.serve_tcp(sims[dialect])
    with server:
        yield Bench3(sims, ports)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("way", ["tcp", "visa"])
def test_every_signal_in_every_dialect(bench: Bench3, dialect: str, way: str) -> None:
    gen = bench.driver(dialect, way=way)
    rf = bench.rf(dialect)
    gen.frequency.set(81.25e6)
    gen.power_dbm.set(3.5)
    gen.phase.set(math.pi / 3)
    assert gen.output.get() is False
    gen.output.set(True)
    assert gen.output.get() is True
    assert gen.frequency.get() == pytest.approx(81.25e6)
    assert gen.power_dbm.get() == pytest.approx(3.5, abs=1e-4)
    assert gen.phase.get() == pytest.approx(math.pi / 3, abs=1e-5)
    assert (rf.frequency_hz, rf.power_dbm) == pytest.approx((81.25e6, 29.5), abs=1e-4)
    assert rf.phase_turns == pytest.approx(1 / 6, abs=1e-6)
    assert rf.signal_on and rf.amplifier_on
    gen.amplitude.set(1.0)
    assert gen.amplitude.get() == pytest.approx(1.0, rel=1e-5)
    assert gen.power_dbm.get() == pytest.approx(dbm_of(1.0), abs=1e-4)
    assert gen.output.get() is True
    gen.power_dbm.set(dbm_of(1.0))
    assert gen.not_ready() == ""
    gen.output.set(False)
    assert not rf.signal_on
    gen.close()


@pytest.mark.parametrize("dialect", ["rigol", "keysight"])
def test_channels_are_separate(bench: Bench3, dialect: str) -> None:
    first, second = bench.driver(dialect), bench.driver(dialect, 2)
    second.frequency.set(70e6)
    second.amplitude.set(0.25)
    second.output.set(True)
    assert first.frequency.get() == 80e6 and first.output.get() is False
    assert bench.rf(dialect, 2).frequency_hz == 70e6 and not bench.rf(dialect, 1).signal_on
    first.safe()
    assert bench.rf(dialect, 2).signal_on
    second.safe()
    assert not bench.rf(dialect, 2).signal_on
    first.close()
    second.close()


def test_the_empty_line_of_the_dg4102_is_no_answer(bench: Bench3) -> None:
    gen = bench.driver("rigol")
    for on in (True, False):
        gen.output.set(on)
        for _ in range(3):
            assert gen.output.get() is on
            assert gen.frequency.get() == 80e6
    gen.close()


@pytest.mark.parametrize("unit", ["VRMS", "DBM"])
@pytest.mark.parametrize("dialect", ["rigol", "keysight"])
def test_a_unit_changed_at_the_front_panel_changes_nothing(bench: Bench3, dialect: str, unit: str) -> None:
    gen = bench.driver(dialect)
    gen.amplitude.set(0.8)
    bench.sims[dialect].channels[0].unit = unit
    assert gen.amplitude.get() == pytest.approx(0.8, rel=1e-5)
    bench.sims[dialect].channels[0].unit = unit
    gen.amplitude.set(0.4)
    assert bench.sims[dialect].channels[0].volts_pp == pytest.approx(0.4)
    gen.close()


def test_units_of_power_and_angle_are_asked_too(bench: Bench3) -> None:
    gen = bench.driver("rohde_schwarz")
    gen.power_dbm.set(-7.0)
    bench.sims["rohde_schwarz"].channels[0].unit = "VRMS"
    assert gen.power_dbm.get() == pytest.approx(-7.0)
    gen.close()
    gen = bench.driver("keysight")
    bench.sims["keysight"].angle = "RAD"
    gen.phase.set(math.pi / 2)
    assert bench.rf("keysight").phase_turns == pytest.approx(0.25)
    bench.sims["keysight"].angle = "RAD"
    assert gen.phase.get() == pytest.approx(math.pi / 2)
    gen.close()


@pytest.mark.parametrize("dialect", ["rigol", "keysight"])
def test_what_is_not_a_sine_into_50_ohm_is_not_ready(bench: Bench3, dialect: str) -> None:
    gen = bench.driver(dialect)
    sim = bench.sims[dialect]
    sim.answer("SOUR1:FUNC SQU")
    assert gen.not_ready() == "its waveform is SQU, not a sine"
    sim.answer("SOUR1:FUNC SIN")
    sim.answer("OUTP1:LOAD INF")
    assert gen.not_ready() == "its levels are for a load of 9.9e+37 ohm; set it to 50 ohm"
    sim.answer("OUTP1:LOAD 50")
    assert gen.not_ready() == ""
    gen.close()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_limits_hold_before_anything_is_sent(bench: Bench3, dialect: str) -> None:
    gen = bench.driver(dialect)
    assert gen.frequency.limits == pytest.approx(bench.sims[dialect].frequencies_hz)
    bench.sims[dialect].faults.switch("silent")
    for signal, wrong in (
        (gen.frequency, 2e9),
        (gen.power_dbm, 31.0),
        (gen.amplitude, 25.0),
        (gen.amplitude, -1.0),
        (gen.phase, 7.0),
    ):
        with pytest.raises(LimitError, match="nothing was sent"):
            signal.set(wrong)
    gen.close()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_refusals_carry_the_generators_own_words(bench: Bench3, dialect: str) -> None:
    gen = bench.driver(dialect)
    with pytest.raises(
        RefusedError, match=r"rf at tcp://.*refused 'SOUR:NONSENSE 1': -113, \"Undefined header\""
    ):
        gen.command("SOUR:NONSENSE 1")
    assert gen.frequency.get() == 80e6
    gen.close()


def test_configuration_mistakes(bench: Bench3) -> None:
    with pytest.raises(ConfigError, match="dialect 'tektronix' is not one of rigol, keysight, rohde_schwarz"):
        bench.driver("rigol", spoken="tektronix")
    with pytest.raises(ConfigError, match="channel = 2, but a rohde_schwarz generator has 1"):
        bench.driver("rohde_schwarz", 2)
    with pytest.raises(
        BadAnswerError, match=r"identifies as 'Rigol.*expected a model that begins with 335 or 336"
    ):
        bench.driver("rigol", spoken="keysight")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_silence_names_device_and_address(bench: Bench3, dialect: str) -> None:
    gen = bench.driver(dialect)
    bench.sims[dialect].faults.switch("silent")
    with pytest.raises(NoAnswerError, match=f"rf at tcp://127.0.0.1:{bench.ports[dialect]}"):
        gen.frequency.get()
    bench.sims[dialect].faults.clear()
    assert gen.frequency.get() == 80e6
    gen.close()


@pytest.mark.parametrize("kind", ["garble", "garbage"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_broken_answers_are_refused_and_the_next_is_clean(bench: Bench3, dialect: str, kind: str) -> None:
    gen = bench.driver(dialect)
    faults = bench.sims[dialect].faults
    gen.phase.set(1.0)
    asked = [gen.frequency.get, gen.power_dbm.get, gen.phase.get]
    if dialect == "rigol":  # where an answer has more than one character to spoil
        asked.append(gen.output.get)
    for ask in asked if dialect == "rohde_schwarz" else [*asked, gen.not_ready]:
        faults.switch(kind)
        with pytest.raises((BadAnswerError, NoAnswerError), match="rf at"):
            ask()
        faults.clear()
        assert gen.frequency.get() == 80e6
    gen.close()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_late_answer_is_never_taken_for_the_next(bench: Bench3, dialect: str) -> None:
    gen = bench.driver(dialect)
    faults = bench.sims[dialect].faults
    faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError):
        gen.frequency.get()
    faults.clear()
    assert gen.output.get() is False
    faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError):
        gen.frequency.set(90e6)  # the error queue answers late
    faults.clear()
    assert gen.frequency.get() == 90e6
    gen.close()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_broken_connection_comes_back(bench: Bench3, dialect: str) -> None:
    gen = bench.driver(dialect)
    gen.output.set(True)
    faults = bench.sims[dialect].faults
    faults.switch("disconnect")
    with pytest.raises(NotConnectedError, match="rf at"):
        gen.frequency.get()
    faults.switch("disconnect")
    gen.safe()
    assert not bench.rf(dialect).signal_on
    faults.switch("split", 0.01)
    assert gen.frequency.get() == 80e6
    faults.clear()
    faults.switch("drop")
    with pytest.raises(NoAnswerError):
        gen.output.get()
    assert gen.output.get() is False
    gen.close()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_same_bytes_in_process(dialect: str) -> None:
    clock = VirtualClock()
    sim = SIMS[dialect]([RfChannel()], clock.now, np.random.default_rng(3))
    virtual = Bench({"rf": sim}, clock)
    gen = ScpiGenerator(
        SimTransport("sim://rf", "rf", 1.0, lambda address: virtual.connection(address.target), clock),
        dialect=dialect,
    )
    gen.open()
    gen.power_dbm.set(4.0)
    gen.output.set(True)
    assert sim.channels[0].rf.relative_power() == pytest.approx(1.0, abs=1e-3)
    gen.close()
