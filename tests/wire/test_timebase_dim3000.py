"""The DIM3000 driver against the simulated AOM driver, over a pseudo-terminal and TCP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from drivers.timebase_dim3000 import TimebaseDim3000
from labctl.clock import VirtualClock
from labctl.errors import (
    BadAnswerError,
    ConfigError,
    DeviceError,
    LimitError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
)
from labctl.sim.inprocess import Bench
from labctl.sim.server import SimServer
from labctl.transport import SimTransport, connect
from simulated_hw.timebase_dim3000 import MOST_WAITING, SimTimebaseDim3000
from simulated_hw.world.parts import RfChannel


@dataclass
class Aom:
    sim: SimTimebaseDim3000
    clock: VirtualClock
    addresses: dict[str, str]

    @property
    def rf(self) -> RfChannel:
        return self.sim.rf

    def driver(self, way: str = "pty", **options: float) -> TimebaseDim3000:
        dim = TimebaseDim3000(connect(self.addresses[way], "aom", 0.2), "aom", **options)
        dim.timeout_s, dim.spacing_s = 0.2, 0.0
        dim.open()
        return dim


@pytest.fixture
def aom() -> Iterator[Aom]:
    clock = VirtualClock()
    sim = SimTimebaseDim3000(RfChannel(), clock.now, np.random.default_rng(7), spacing_s=0.0)
    server = SimServer()
    port = server.serve_tcp(sim)
    addresses = {
        "pty": f"serial://{server.serve_pty(sim)}",
        "tcp": f"tcp://127.0.0.1:{port}",
        "url": f"serial://socket://127.0.0.1:{port}",
    }
    with server:
        yield Aom(sim, clock, addresses)


@pytest.mark.parametrize("way", ["pty", "tcp", "url"])
def test_every_signal(aom: Aom, way: str) -> None:
    dim = aom.driver(way)
    assert dim.identity() == "DIM3000 ADRV4 111111, hardware 4, firmware 5.168"
    dim.frequency.set(80_123_456.0)
    dim.power_dbm.set(15.4)
    dim.output.set(True)
    dim.fm_deviation.set(25_600.0)
    dim.fm_input.set(True)
    assert (aom.rf.frequency_hz, aom.rf.power_dbm) == (80_123_456.0, 15.4)
    assert aom.rf.signal_on and aom.rf.amplifier_on
    assert (dim.frequency.get(), dim.power_dbm.get()) == (80_123_456.0, 15.4)
    assert dim.output.get() is True and dim.fm_input.get() is True
    assert dim.fm_deviation.get() == 25_600.0 and aom.sim.values["fmdev"] == 3
    assert 308 < dim.temperature.get() < 316
    assert dim.supply.get() == 24.0
    assert dim.not_ready() == ""
    dim.output.set(False)
    assert not aom.rf.signal_on and not aom.rf.amplifier_on
    dim.close()


def test_readiness_of_all_signals_costs_one_question(aom: Aom, monkeypatch: pytest.MonkeyPatch) -> None:
    dim = aom.driver()
    dim.frequency.set(81e6)
    dim.power_dbm.set(20.0)
    asked: list[str] = []
    answer = aom.sim.answer
    monkeypatch.setattr(aom.sim, "answer", lambda line: asked.append(line) or answer(line))
    assert dim.not_ready() == "" and asked == ["Gpar"]
    aom.sim.values["ampl"] = 100
    assert dim.not_ready() == "power_dbm is 10.0 dBm, not yet 20.0"
    assert dim.power_dbm.get() == 10.0 and asked == ["Gpar"] * 3
    dim.close()


def test_safe_switches_the_output_off(aom: Aom) -> None:
    dim = aom.driver()
    dim.output.set(True)
    aom.sim.faults.switch("drop")
    dim.safe()
    assert not aom.rf.signal_on
    assert dim.output.get() is False
    dim.close()


def test_limits_hold_before_anything_is_sent(aom: Aom) -> None:
    dim = aom.driver(highest_dbm=30.0)
    aom.sim.faults.switch("silent")
    for signal, wrong in (
        (dim.frequency, 5.0),
        (dim.frequency, 401e6),
        (dim.power_dbm, 30.1),
        (dim.power_dbm, -1.0),
    ):
        with pytest.raises(LimitError, match="nothing was sent"):
            signal.set(wrong)
    with pytest.raises(LimitError, match="not one of"):
        dim.fm_deviation.set(5000.0)
    dim.close()
    with pytest.raises(ConfigError, match="highest_dbm = 60"):
        aom.driver(highest_dbm=60.0)


@pytest.mark.parametrize("quietly", [False, True])
def test_a_setting_the_instrument_does_not_take_is_noticed(aom: Aom, quietly: bool) -> None:
    dim = aom.driver(highest_dbm=40.0)
    aom.sim.refuses_quietly = quietly
    text = "did not take Sampl:390, it has 0" if quietly else "reports an error at or before 'Gpar'"
    with pytest.raises(RefusedError, match=f"aom at serial://.*{text}"):
        dim.power_dbm.set(39.0)
    assert dim.frequency.get() == 80e6  # the answer that was still to come is gone
    with pytest.raises(RefusedError, match="reports an error"):
        dim.ask("Gnothing")
    assert dim.frequency.get() == 80e6
    dim.close()


def test_sweep_and_back(aom: Aom) -> None:
    dim = aom.driver()
    dim.sweep(79e6, 81e6, 1e6, 100e-6)
    seen: list[float] = []
    for _ in range(8):
        aom.sim.drive()
        seen.append(aom.rf.frequency_hz / 1e6)
        aom.clock.advance(100.0001e-6)
    assert seen == [79, 80, 81, 80, 79, 80, 81, 80]
    assert dim.not_ready() == ""
    dim.sweep(79e6, 81e6, 1e6, 100e-6, "sawtooth")
    seen.clear()
    for _ in range(6):
        aom.sim.drive()
        seen.append(aom.rf.frequency_hz / 1e6)
        aom.clock.advance(100.0001e-6)
    assert seen == [79, 80, 81, 79, 80, 81]
    dim.single_tone()
    assert aom.rf.frequency_hz == 80e6 and aom.sim.values["swpm"] == 0
    aom.sim.values["swpm"] = 1  # somebody else's
    assert "sweeps" in dim.not_ready()
    aom.sim.values |= {"swpm": 0, "plson": 1}
    assert "pulse mode" in dim.not_ready()
    dim.single_tone()
    assert dim.not_ready() == ""
    dim.close()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((79e6, 81e6, 1e6, 1e-3), "4 ns to 262 us"),
        ((81e6, 79e6, 1e6, 1e-6), "goes up"),
        ((79e6, 81e6, 1.0, 1e-6), "at least 10 Hz"),
        ((79e6, 81e6, float("nan"), 1e-6), "at least 10 Hz"),
        ((1.0, 81e6, 1e6, 1e-6), "outside 10 Hz to 400 MHz"),
        ((79e6, 81e6, 1e6, 1e-6, "square"), "not one of triangle"),
    ],
)
def test_impossible_sweeps_are_refused(aom: Aom, arguments: tuple[float, ...], text: str) -> None:
    dim = aom.driver()
    before = dict(aom.sim.values)
    with pytest.raises(LimitError, match=f"{text}.*nothing was sent|nothing was sent.*{text}"):
        dim.call("sweep", *arguments)
    assert aom.sim.values == before
    dim.close()


def test_another_instrument_is_refused(aom: Aom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aom.sim, "answer", lambda line: "Acme,FG100,1,1.0")
    with pytest.raises(BadAnswerError, match=r"aom at serial://.*'Gdev' was answered with 'Acme"):
        aom.driver()


@pytest.mark.parametrize("way", ["pty", "tcp"])
def test_silence_names_device_and_address(aom: Aom, way: str) -> None:
    dim = aom.driver(way)
    aom.sim.faults.switch("silent")
    with pytest.raises(NoAnswerError) as failure:
        dim.frequency.get()
    assert "aom at" in str(failure.value) and aom.addresses[way] in str(failure.value)
    aom.sim.faults.clear()
    assert dim.frequency.get() == 80e6
    dim.close()


@pytest.mark.parametrize("way", ["pty", "tcp"])
@pytest.mark.parametrize("kind", ["garble", "garbage"])
def test_broken_answers_are_refused_and_the_next_is_clean(aom: Aom, way: str, kind: str) -> None:
    dim = aom.driver(way)
    aom.sim.faults.switch(kind)
    with pytest.raises((BadAnswerError, NoAnswerError), match="aom at"):
        dim.frequency.get()
    aom.sim.faults.clear()
    assert dim.frequency.get() == 80e6
    dim.close()


@pytest.mark.parametrize("way", ["pty", "tcp"])
def test_a_late_answer_is_never_taken_for_the_next(aom: Aom, way: str) -> None:
    dim = aom.driver(way)
    aom.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError):
        dim.frequency.get()
    aom.sim.faults.clear()
    aom.sim.values["freq"] = 90_000_000
    assert dim.frequency.get() == 90e6
    dim.close()


def test_a_broken_connection_comes_back(aom: Aom) -> None:
    dim = aom.driver("tcp")
    aom.sim.faults.switch("disconnect")
    with pytest.raises(NotConnectedError, match="aom at"):
        dim.frequency.get()
    assert dim.frequency.get() == 80e6
    aom.sim.faults.switch("split", 0.01)
    assert dim.frequency.get() == 80e6
    aom.sim.faults.clear()
    aom.sim.faults.switch("drop")
    with pytest.raises(NoAnswerError):
        dim.output.set(True)
    assert dim.output.get() is True
    dim.close()


def virtual(spacing_s: float) -> tuple[TimebaseDim3000, SimTimebaseDim3000, VirtualClock]:
    clock = VirtualClock()
    sim = SimTimebaseDim3000(RfChannel(), clock.now, np.random.default_rng(3))
    bench = Bench({"aom": sim}, clock)
    dim = TimebaseDim3000(
        SimTransport("sim://aom", "aom", 1.0, lambda address: bench.connection(address.target), clock)
    )
    dim.spacing_s = spacing_s
    dim.open()
    return dim, sim, clock


def test_the_driver_sends_ten_commands_a_second_and_no_more() -> None:
    dim, sim, clock = virtual(0.1)
    begin = clock.now()
    for step in range(10):
        dim.frequency.set(80e6 + step)  # a setting and a question each
    assert clock.now() - begin == pytest.approx(2.0, abs=0.15)
    assert sim.lost == 0
    dim.close()


def test_a_hasty_client_waits_and_then_loses_commands() -> None:
    dim, sim, clock = virtual(0.0)
    begin = clock.now()
    for _ in range(5):
        dim.frequency.get()
    assert clock.now() - begin == pytest.approx(0.5, abs=0.1)
    dim.transport.write(b"Sfreq:90000000\n" * 20)
    assert sim.lost >= 20 - MOST_WAITING - 1
    with pytest.raises(DeviceError):
        dim.parameters()
    clock.sleep(2)
    dim.transport.mark_stale()
    assert dim.frequency.get() == 90e6
    dim.close()
