"""The Novatech driver against the simulated synthesizer, over a pseudo-terminal and TCP."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from drivers.novatech_409b import Novatech409B
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
from simulated_hw.novatech_409b import SimNovatech409B
from simulated_hw.world.parts import RfChannel


@dataclass
class Synthesizer:
    sim: SimNovatech409B
    clock: VirtualClock
    addresses: dict[str, str]

    @property
    def rf(self) -> list[RfChannel]:
        return self.sim.rf

    def driver(self, way: str = "tcp", **options: float) -> Novatech409B:
        dds = Novatech409B(connect(self.addresses[way], "aoms", 0.2), "aoms", **options)
        dds.timeout_s = 0.2
        dds.open()
        return dds


@pytest.fixture
def synth() -> Iterator[Synthesizer]:
    clock = VirtualClock()
    sim = SimNovatech409B([RfChannel() for _ in range(4)], clock.now, np.random.default_rng(7))
    server = SimServer()
    port = server.serve_tcp(sim)
    addresses = {
        "pty": f"serial://{server.serve_pty(sim)}",
        "tcp": f"tcp://127.0.0.1:{port}",
        "url": f"serial://socket://127.0.0.1:{port}",
    }
    with server:
        yield Synthesizer(sim, clock, addresses)


@pytest.mark.parametrize("way", ["pty", "tcp", "url"])
def test_every_signal_of_every_channel(synth: Synthesizer, way: str) -> None:
    dds = synth.driver(way)
    assert dds.identity() == "Novatech 409B, firmware 21"
    for n in range(4):
        values = {"frequency": 80.1234567e6 + n, "amplitude": 0.5 + 0.1 * n, "phase": math.pi / (n + 1)}
        for kind, value in values.items():
            signal = dds.signal(f"{kind}_{n}")
            signal.set(value)
            assert signal.settled()
            assert signal.get() == pytest.approx(value, abs=1e-3, rel=1e-9)
        rf = synth.rf[n]
        assert rf.frequency_hz == pytest.approx(80.1234567e6 + n, abs=0.06)
        assert rf.phase_turns == pytest.approx(0.5 / (n + 1), abs=1 / 16384)
        assert rf.signal_on and rf.amplifier_on
        vpp = 0.5 + 0.1 * n
        assert rf.power_dbm == pytest.approx(10 * math.log10(vpp**2 / 400 * 1e3) + 26, abs=0.02)
    assert dds.not_ready() == ""
    dds.close()


def test_readiness_of_all_signals_costs_one_question(
    synth: Synthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    dds = synth.driver()
    for n in range(4):
        dds.signal(f"frequency_{n}").set(81e6)
    asked: list[str] = []
    answer = synth.sim.answer
    monkeypatch.setattr(synth.sim, "answer", lambda line: asked.append(line) or answer(line))
    assert dds.not_ready() == "" and asked == ["QUE"]
    synth.sim.words[3].decihertz = 0
    assert "frequency_3 is 0.0 Hz" in dds.not_ready()
    assert dds.frequency_3.get() == 0.0 and asked == ["QUE"] * 3
    dds.close()


def test_full_amplitude_through_the_amplifier_diffracts_fully(synth: Synthesizer) -> None:
    dds = synth.driver()
    dds.amplitude_0.set(1.02)
    assert synth.rf[0].relative_power() == pytest.approx(1.0, abs=0.01)
    dds.amplitude_0.set(0.0)
    assert synth.rf[0].relative_power() == 0.0
    dds.close()


def test_echo_is_on_at_power_up_and_off_afterwards(synth: Synthesizer) -> None:
    assert synth.sim.echo
    dds = synth.driver()
    assert not synth.sim.echo
    dds.close()


@pytest.mark.parametrize("way", ["pty", "tcp"])
def test_an_instrument_that_was_restarted_is_noticed_and_understood(synth: Synthesizer, way: str) -> None:
    dds = synth.driver(way)
    dds.frequency_1.set(90e6)
    dds.amplitude_1.set(0.8)
    synth.sim.own_faults()["power_cycle"]()
    assert dds.not_ready() == "frequency_1 is 80000000.0 Hz, not yet 90000000.0"
    assert not synth.sim.echo
    synth.sim.power_up()
    dds.frequency_1.set(90e6)
    assert synth.rf[1].frequency_hz == 90e6 and not synth.sim.echo
    dds.amplitude_1.set(0.8)
    assert dds.not_ready() == ""
    synth.sim.power_up()
    with pytest.raises(RefusedError, match=r"refused 'X1': \?0, unrecognized command"):
        dds.order("X1")
    dds.store()
    dds.frequency_1.set(70e6)
    synth.sim.power_up()
    assert dds.frequency_1.get() == 80e6
    dds.close()


def test_safe_switches_all_channels_off_whatever_one_of_them_does(synth: Synthesizer) -> None:
    dds = synth.driver()
    for n in range(4):
        dds.signal(f"amplitude_{n}").set(0.5)
    synth.sim.faults.switch("drop")
    with pytest.raises(NoAnswerError):
        dds.safe()
    assert not any(rf.signal_on for rf in synth.rf)
    dds.close()


def test_several_channels_change_at_one_instant(synth: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    dds = synth.driver()
    seen: list[tuple[float, float]] = []
    answer = synth.sim.answer

    def watch(line: str) -> str | None:
        reply = answer(line)
        seen.append((synth.rf[0].frequency_hz, synth.rf[3].frequency_hz))
        return reply

    monkeypatch.setattr(synth.sim, "answer", watch)
    dds.set_together([[0, 70e6, 0.5, 0.0], [3, 75e6, 0.25, math.pi]])
    assert set(seen) == {(80e6, 80e6), (70e6, 75e6)}
    assert synth.rf[3].phase_turns == 0.5 and synth.sim.automatic
    dds.clear_phase(True)
    dds.close()


def test_limits_hold_before_anything_is_sent(synth: Synthesizer) -> None:
    dds = synth.driver(full_scale_v=0.9)
    synth.sim.faults.switch("silent")
    for name, wrong in (
        ("frequency_0", 172e6),
        ("frequency_0", -1.0),
        ("amplitude_2", 0.95),
        ("amplitude_2", -0.1),
        ("phase_3", 2 * math.pi),
        ("phase_3", float("nan")),
    ):
        with pytest.raises(LimitError):
            dds.signal(name).set(wrong)
    for setting in ([4, 80e6, 0.5, 0.0], [0, 80e6, 0.5], [0, 80e6, 2.0, 0.0], [0, 200e6, 0.5, 0.0]):
        with pytest.raises(LimitError):
            dds.set_together([[1, 80e6, 0.5, 0.0], setting])
    dds.close()
    with pytest.raises(ConfigError, match="full_scale_v = 0"):
        synth.driver(full_scale_v=0.0)


def test_refusals_say_what_and_where(synth: Synthesizer) -> None:
    dds = synth.driver()
    with pytest.raises(RefusedError, match=r"aoms at tcp://.*refused 'F0 999.0': \?1, bad frequency"):
        dds.order("F0 999.0")
    assert dds.frequency_0.get() == 80e6
    dds.close()


def test_another_instrument_is_refused(synth: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth.sim, "answer", lambda line: "Acme FG100")
    with pytest.raises(
        BadAnswerError, match=r"aoms at tcp://.*'E d' was answered with 'Acme FG100', expected OK"
    ):
        synth.driver()


def test_half_a_line_of_somebody_else_is_ended_first(synth: Synthesizer) -> None:
    synth.driver("pty").close()
    other = connect(synth.addresses["pty"], "other", 0.3)
    other.open()
    other.write(b"F0 12")
    other.close()
    dds = synth.driver("pty")
    assert dds.frequency_0.get() in (80e6, 12e6)
    dds.frequency_0.set(81e6)
    assert synth.rf[0].frequency_hz == 81e6
    dds.close()


@pytest.mark.parametrize("way", ["pty", "tcp"])
def test_silence_names_device_and_address(synth: Synthesizer, way: str) -> None:
    dds = synth.driver(way)
    synth.sim.faults.switch("silent")
    with pytest.raises(NoAnswerError) as failure:
        dds.frequency_0.get()
    assert "aoms at" in str(failure.value) and synth.addresses[way] in str(failure.value)
    synth.sim.faults.clear()
    assert dds.frequency_0.get() == 80e6
    dds.close()


@pytest.mark.parametrize("way", ["pty", "tcp"])
@pytest.mark.parametrize("kind", ["garble", "garbage"])
def test_broken_answers_are_refused_and_the_next_is_clean(synth: Synthesizer, way: str, kind: str) -> None:
    dds = synth.driver(way)
    synth.sim.faults.switch(kind)
    with pytest.raises((BadAnswerError, NoAnswerError), match="aoms at"):
        dds.frequency_0.get()
    with pytest.raises((BadAnswerError, NoAnswerError), match="aoms at"):
        dds.frequency_0.set(81e6)
    synth.sim.faults.clear()
    assert dds.frequency_0.get() == 81e6
    dds.close()


@pytest.mark.parametrize("way", ["pty", "tcp"])
def test_a_late_answer_is_never_taken_for_the_next(synth: Synthesizer, way: str) -> None:
    dds = synth.driver(way)
    synth.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError):
        dds.frequency_0.set(90e6)
    synth.sim.faults.clear()
    with pytest.raises(RefusedError):  # not the late OK
        dds.order("F0 999.0")
    synth.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError):
        dds.frequency_0.get()
    synth.sim.faults.clear()
    synth.sim.words[0].decihertz = 700_000_000
    assert dds.frequency_0.get() == 70e6
    dds.close()


def test_a_broken_connection_comes_back(synth: Synthesizer) -> None:
    dds = synth.driver()
    synth.sim.faults.switch("disconnect")
    with pytest.raises(NotConnectedError, match="aoms at"):
        dds.frequency_0.get()
    assert dds.frequency_0.get() == 80e6
    synth.sim.faults.switch("split", 0.01)
    assert dds.frequency_0.get() == 80e6
    dds.close()


def test_the_same_bytes_in_process() -> None:
    clock = VirtualClock()
    sim = SimNovatech409B([RfChannel() for _ in range(4)], clock.now, np.random.default_rng(3))
    bench = Bench({"aoms": sim}, clock)
    dds = Novatech409B(
        SimTransport("sim://aoms", "aoms", 1.0, lambda address: bench.connection(address.target), clock)
    )
    dds.open()
    dds.frequency_2.set(72e6)
    dds.store()
    dds.transport.write(b"R\r\n")
    with pytest.raises(NoAnswerError):
        dds.frequency_2.get()
    clock.sleep(1)
    assert dds.frequency_2.get() == 72e6
    dds.close()
