"""The Quantum Composers driver against the simulated generator, over TCP and a pseudo-terminal."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.quantum_composers_9530 import QuantumComposers9530
from labctl.clock import VirtualClock
from labctl.errors import (
    BadAnswerError,
    DeviceError,
    LimitError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
)
from labctl.sim.server import SimServer
from labctl.transport import connect
from simulated_hw.quantum_composers_9530 import Sim9530
from simulated_hw.world.parts_pulses import DelayGenerator, PulseOutput


@dataclass
class Bench:
    sim: Sim9530
    clock: VirtualClock
    address: dict[str, str] = field(default_factory=dict[str, str])
    drivers: list[QuantumComposers9530] = field(default_factory=list[QuantumComposers9530])

    @property
    def generator(self) -> DelayGenerator:
        return self.sim.generator

    def driver(self, way: str = "tcp") -> QuantumComposers9530:
        qc = QuantumComposers9530(connect(self.address[way], "gate", 0.2), "gate")
        qc.timeout_s = 0.2
        self.drivers.append(qc)
        qc.open()
        return qc


def unserved(outputs: int = 8) -> Bench:
    clock = VirtualClock()
    generator = DelayGenerator([PulseOutput() for _ in range(outputs)])
    return Bench(Sim9530(generator, clock.now, np.random.default_rng(7)), clock)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = unserved()
    server = SimServer()
    bench.address["tcp"] = f"tcp://127.0.0.1:{server.serve_tcp(bench.sim)}"
    bench.address["pty"] = f"serial://{server.serve_pty(bench.sim)}"
    with server:
        yield bench
        for driver in bench.drivers:
            driver.close()


@pytest.mark.parametrize("letter", "abcdefgh")
def test_every_signal_of_every_channel(bench: Bench, letter: str) -> None:
    qc = bench.driver()
    values = {
        "state": True,
        "delay": 1.25000001e-3,
        "width": 10e-9,
        "polarity": "inverted",
        "amplitude": 3.3,
        "ttl": False,
    }
    for kind, value in values.items():
        signal = qc.signal(f"{kind}_{letter}")
        signal.set(value)
        assert signal.get() == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value)
    output = bench.generator.outputs["abcdefgh".index(letter)]
    assert (output.enabled, output.inverted, output.adjustable) == (True, True, True)
    assert (output.delay_s, output.width_s, output.amplitude_v) == pytest.approx((1.25000001e-3, 1e-8, 3.3))
    assert [other.enabled for other in bench.generator.outputs].count(True) == 1
    qc.signal(f"ttl_{letter}").set(True)
    assert qc.signal(f"amplitude_{letter}").get() == 4.0


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_every_signal_of_the_generator(bench: Bench, way: str) -> None:
    qc = bench.driver(way)
    assert qc.identity() == "QC,9538,12345,2.0.1"
    for name, value in (
        ("period", 2.5e-6),
        ("mode", "duty_cycle"),
        ("burst_count", 12),
        ("trigger", "external"),
        ("reference", "external"),
        ("running", True),
    ):
        signal = qc.signal(name)
        signal.set(value)
        assert signal.get() == value
    assert (bench.generator.period_s, bench.generator.mode, bench.generator.burst) == (2.5e-6, "DCYC", 12)
    assert bench.generator.external and bench.generator.running
    assert qc.not_ready() == ""
    qc.safe()
    assert not bench.generator.running


def test_pulses_come_when_they_should(bench: Bench) -> None:
    qc = bench.driver()
    qc.period.set(1e-3)
    qc.delay_b.set(2e-4)
    qc.width_b.set(1e-4)
    qc.amplitude_b.set(5.0)
    qc.state_b.set(True)
    bench.clock.advance(3.0)
    qc.running.set(True)
    levels = [bench.generator.level_v(1, 3.0 + t) for t in (0.0, 1.9e-4, 2.1e-4, 2.9e-4, 3.1e-4, 5.25e-3)]
    assert levels == [0.0, 0.0, 5.0, 5.0, 0.0, 5.0]
    qc.polarity_b.set("inverted")
    assert (bench.generator.level_v(1, 3.0), bench.generator.level_v(1, 3.00025)) == (5.0, 0.0)
    assert bench.generator.level_v(0, 3.0) == 0.0
    qc.safe()
    assert bench.generator.level_v(1, 3.00025) == 5.0  # inverted: rest is high


@pytest.mark.parametrize(
    ("mode", "fired"),
    [
        ("NORM", [1, 1, 1, 1, 1, 1, 1, 1]),
        ("SING", [1, 0, 0, 0, 0, 0, 0, 0]),
        ("BURS", [1, 1, 1, 0, 0, 0, 0, 0]),
        ("DCYC", [1, 1, 0, 0, 0, 1, 1, 0]),
    ],
)
def test_modes(mode: str, fired: list[int]) -> None:
    generator = DelayGenerator(
        [PulseOutput(enabled=True, width_s=0.5)], period_s=1.0, mode=mode, burst=3, pulses=2, skips=3
    )
    generator.start(10.0)
    assert [int(generator.is_high(0, 10.25 + k)) for k in range(8)] == fired
    assert not any(generator.is_high(0, 10.75 + k) for k in range(8))
    alone = DelayGenerator(
        [PulseOutput(enabled=True, width_s=0.5, mode=mode, burst=3, pulses=2, skips=3)], period_s=1.0
    )
    alone.start(10.0)
    assert [int(alone.is_high(0, 10.25 + k)) for k in range(8)] == fired


def test_external_triggers_and_long_pulses() -> None:
    generator = DelayGenerator(
        [PulseOutput(enabled=True, delay_s=0.2, width_s=0.5)], period_s=1.0, external=True
    )
    generator.start(0.0)
    assert not generator.is_high(0, 0.3)
    generator.trigger(5.0)
    generator.trigger(5.1)  # within the period: not seen
    assert [generator.is_high(0, t) for t in (5.1, 5.25, 5.65, 5.75)] == [False, True, True, False]
    long = DelayGenerator([PulseOutput(enabled=True, width_s=2.5)], period_s=1.0, mode="SING")
    long.start(0.0)
    assert [long.is_high(0, t) for t in (0.0, 2.4, 2.6)] == [True, True, False]


def test_limits_hold_before_anything_is_sent(bench: Bench) -> None:
    qc = bench.driver()
    bench.sim.faults.switch("silent")
    for name, value in (
        ("width_a", 9e-9),
        ("width_a", 1e-8 + 1e-12),
        ("delay_b", 1000.0),
        ("delay_b", 1e-12),
        ("amplitude_c", 1.9),
        ("amplitude_c", 20.1),
        ("period", 4e-8),
        ("period", 1.0000000005e-3),
        ("mode", "sometimes"),
        ("polarity_d", "up"),
        ("burst_count", 0),
    ):
        with pytest.raises(LimitError):
            qc.signal(name).set(value)


def test_a_generator_with_four_channels() -> None:
    bench = unserved(4)
    server = SimServer()
    bench.address["tcp"] = f"tcp://127.0.0.1:{server.serve_tcp(bench.sim)}"
    with server:
        qc = bench.driver()
        assert qc.identity() == "QC,9534,12345,2.0.1"
        qc.state_d.set(True)
        with pytest.raises(LimitError, match="there is no channel E; this generator has A to D"):
            qc.state_e.set(True)
        with pytest.raises(LimitError, match="no channel H"):
            qc.delay_h.get()
        qc.close()


def test_a_new_level_is_set_before_it_is_let_out(bench: Bench) -> None:
    """The level set some time ago may be 20 V, and what is connected takes 5 V."""
    qc = bench.driver()
    bench.generator.outputs[0].amplitude_v = 20.0
    seen: list[float] = []
    answer = bench.sim.answer

    def watched(line: str) -> str | None:
        reply = answer(line)
        seen.append(bench.generator.outputs[0].high_v())
        return reply

    bench.sim.answer = watched
    qc.amplitude_a.set(5.0)
    assert set(seen) == {4.0, 5.0} and seen[-1] == 5.0


def test_refusals_carry_what_they_mean(bench: Bench) -> None:
    qc = bench.driver()
    for text, why in (
        ("PULSE0:STAT 1", "incorrect prefix"),
        (":", "missing keyword"),
        (":PULSE1:HUE 3", "invalid keyword"),
        (":PULSE0:STAT", "missing parameter"),
        (":PULSE0:PER 0.0010000000001", "invalid parameter"),
        (":INST:CAT", "a query only"),
    ):
        with pytest.raises(RefusedError) as failure:
            qc.order(text)
        assert f"gate at {bench.address['tcp']}: refused {text!r}: {why}" in str(failure.value)


def test_a_setting_that_changes_under_our_hands(bench: Bench) -> None:
    qc = bench.driver()
    answer = bench.sim.answer
    bench.sim.answer = lambda line: "0.00000100000" if line == ":PULSE1:WIDT?" else answer(line)
    with pytest.raises(
        BadAnswerError, match=r"said ok to ':PULSE1:WIDT 0\.00000200000', but now says '0\.00000100000'"
    ):
        qc.width_a.set(2e-6)


def test_stopped_and_unlocked(bench: Bench) -> None:
    qc = bench.driver()
    qc.running.set(True)
    assert qc.not_ready() == ""
    bench.sim.own_faults()["stop_pressed"]()
    assert qc.not_ready() == "the generator has stopped"
    qc.running.set(True)
    qc.reference.set("external_pll")
    assert qc.not_ready() == ""
    bench.sim.own_faults()["reference_lost"]()
    assert "not locked" in qc.not_ready()
    assert qc.reference.get() == "external_pll"
    bench.sim.own_faults()["reference_back"]()
    assert qc.not_ready() == ""


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_safe_stops_even_if_a_reply_is_lost(bench: Bench, way: str) -> None:
    qc = bench.driver(way)
    qc.running.set(True)
    bench.sim.faults.switch("drop", 1)
    qc.safe()
    assert not bench.generator.running
    bench.sim.faults.switch("silent")
    with pytest.raises(NoAnswerError, match="gate at"):
        qc.safe()


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("*IDN?", "QC,9538,12345,2.0.1"),
        (":INST:CAT?", "T0, CHA, CHB, CHC, CHD, CHE, CHF, CHG, CHH"),
        (":PULSE0:PER?", "0.001000000"),
        (":PULS0:PERIOD 0.002", "ok"),
        (":pulse1:widt 0.00000010000", "ok"),
        (":PULSE1:WIDT?", "0.00000100000"),
        (":PULSE8:STATE ON", "ok"),
        (":PULSE9:STAT 1", "?3"),
        (":PULSE1:OUTP:AMPL 2.5", "ok"),
        (":PULSE1:OUTPUT:MODE ADJ", "ok"),
        (":PULSE1:POL?", "NORM"),
        (":PULSE0:TRIG:MOD?", "DIS"),
        (":PULSE0:TRIG:LEVEL 1.5", "ok"),
        (":PULSE0:ICL:RAT 10.5", "?5"),
        (":PULSE0:ICL:LEV?", "0.500"),
        (":PULSE0:PCO 7", "ok"),
        (":PULSE0:OCO?", "2"),
        (":PULSE1:CMOD BURS", "ok"),
        (":PULSE1:DEL nan", "?5"),
        (":PULSE1:", "?2"),
        (":PULSE1", "?2"),
        (":DISP:ENAB 0", "ok"),
        ("*RST", "ok"),
        ("*IDN", "?6"),
        ("*TRG?", "?3"),
        ("STAT?", "?1"),
        ("", None),
    ],
)
def test_grammar(line: str, reply: str | None) -> None:
    assert unserved().sim.answer(line) == reply


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_no_bytes_upset_the_simulator(pieces: list[bytes]) -> None:
    sent: list[bytes] = []
    session = unserved().sim.session("main", sent.append)
    for piece in pieces:
        session.receive(piece)
    session.receive(b"\r\n*IDN?\r\n")
    assert sent[-1] == b"QC,9538,12345,2.0.1\r\n"


KEYWORDS = st.sampled_from(
    ["PER", "WIDT", "DEL", "BCO", "MOD", "STAT", "POL", "OUTP:AMPL", "TRIG:MOD", "ICL:RAT"]
)


@given(st.integers(0, 9), KEYWORDS, st.text(st.characters(codec="latin-1"), max_size=20))
def test_no_argument_upsets_the_simulator(number: int, keyword: str, argument: str) -> None:
    sim = unserved().sim
    reply = sim.answer(f":PULSE{number}:{keyword} {argument}")
    assert reply is not None and (reply == "ok" or (len(reply) == 2 and reply[0] == "?"))
    assert 0 < sim.generator.period_s <= 5000


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20))
def test_no_answer_is_taken_for_ok(text: str) -> None:
    bench = unserved()
    server = SimServer()
    bench.address["tcp"] = f"tcp://127.0.0.1:{server.serve_tcp(bench.sim)}"
    with server:
        qc = bench.driver()
        bench.sim.answer = lambda line: text
        if text.strip().lower() == "ok":
            qc.order(":PULSE0:STAT 0")
        else:
            with pytest.raises((BadAnswerError, RefusedError), match="gate at"):
                qc.order(":PULSE0:STAT 0")
        qc.close()


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_silence_then_a_late_answer_never_taken_for_the_next(bench: Bench, way: str) -> None:
    qc = bench.driver(way)
    qc.delay_a.set(1e-6)
    qc.delay_b.set(2e-6)
    bench.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError) as failure:
        qc.delay_a.get()
    assert "gate at" in str(failure.value) and "no answer to b':PULSE1:DEL?" in str(failure.value)
    with pytest.raises(DeviceError, match="gate at"):
        qc.running.set(True)
    bench.sim.faults.clear()
    value, errors = 0.0, 0
    while (
        not value
    ):  # on a serial line a late identity may come yet: an error or two more, never a wrong value
        try:
            value = qc.delay_b.get()
        except DeviceError:
            errors += 1
            assert way == "pty" and errors < 4
    assert value == 2e-6
    qc.delay_b.set(3e-6)
    assert bench.generator.outputs[1].delay_s == 3e-6


@pytest.mark.parametrize("way", ["tcp", "pty"])
@pytest.mark.parametrize("kind", ["garble", "garbage"])
def test_broken_answers_are_refused_and_the_next_is_clean(bench: Bench, way: str, kind: str) -> None:
    qc = bench.driver(way)
    bench.sim.faults.switch(kind)
    for attempt in (
        lambda: qc.delay_a.get(),
        lambda: qc.mode.get(),
        lambda: qc.running.set(True),
    ):
        with pytest.raises(DeviceError, match="gate at"):
            attempt()
    bench.sim.faults.clear()
    assert qc.mode.get() == "normal"


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_a_broken_connection_and_split_replies(bench: Bench, way: str) -> None:
    qc = bench.driver(way)
    bench.sim.faults.switch("disconnect")
    with pytest.raises(NotConnectedError if way == "tcp" else NoAnswerError, match="gate at"):
        qc.mode.get()
    assert qc.mode.get() == "normal"
    bench.sim.faults.switch("split", 0.02)
    assert qc.period.get() == 1e-3


def test_several_clients_and_half_a_line(bench: Bench) -> None:
    port = int(bench.address["tcp"].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 2) as slow:
        slow.sendall(b":PULSE0:P")
        clients = [bench.driver() for _ in range(3)]
        for n, qc in enumerate(clients, 1):
            qc.period.set(n * 1e-3)
            assert [other.period.get() for other in clients] == [pytest.approx(n * 1e-3)] * 3
        slow.sendall(b"ER?\r\n")
        assert slow.recv(100) == b"0.003000000\r\n"


def test_another_instrument_is_refused(bench: Bench) -> None:
    bench.sim.maker = "SRS"
    with pytest.raises(BadAnswerError, match=r"SRS,9538.*expected a Quantum Composers 9520 or 9530"):
        bench.driver()
