"""The SRS LDC501 driver against the simulated controller, over TCP and a pseudo-terminal."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.srs_ldc501 import SrsLdc501
from labctl.clock import SystemClock
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
from simulated_hw.srs_ldc501 import SimSrsLdc501
from simulated_hw.world.parts import HeatedBody
from simulated_hw.world.parts_diode import LaserDiode


@dataclass
class Ahead:
    """Real time that can be moved on: error codes come late by real milliseconds, temperatures by minutes."""

    ahead_s: float = 0.0
    _real: SystemClock = field(default_factory=SystemClock)

    def now(self) -> float:
        return self._real.now() + self.ahead_s

    def advance(self, seconds: float) -> None:
        self.ahead_s += seconds


@dataclass
class Bench:
    sim: SimSrsLdc501
    clock: Ahead
    address: dict[str, str] = field(default_factory=dict[str, str])
    drivers: list[SrsLdc501] = field(default_factory=list[SrsLdc501])

    @property
    def diode(self) -> LaserDiode:
        return self.sim.diode

    @property
    def body(self) -> HeatedBody:
        return self.sim.body

    def driver(self, way: str = "tcp") -> SrsLdc501:
        ldc = SrsLdc501(connect(self.address[way], "diode", 0.2), "diode")
        ldc.timeout_s = 0.2
        self.drivers.append(ldc)
        ldc.open()
        return ldc


def unserved() -> Bench:
    clock = Ahead()
    sim = SimSrsLdc501(HeatedBody(), LaserDiode(), clock.now, np.random.default_rng(7))
    sim.advance()
    return Bench(sim, clock)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = unserved()
    server = SimServer()
    bench.address["tcp"] = f"tcp://127.0.0.1:{server.serve_tcp(bench.sim)}"
    bench.address["pty"] = f"serial://{server.serve_pty(bench.sim)}?baudrate=9600"
    with server:
        yield bench
        for driver in bench.drivers:
            driver.close()


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_every_signal(bench: Bench, way: str) -> None:
    ldc = bench.driver(way)
    assert ldc.identity() == "Stanford_Research_Systems,LDC501,s/n148011,ver1.20"
    assert ldc.interlock.get() is True
    assert ldc.not_ready() == "the TEC is off"
    ldc.tec.set(True)
    ldc.temperature.set(303.15)
    assert ldc.temperature_setpoint.get() == pytest.approx(303.15)
    assert ldc.not_ready().startswith("temperature is 21.")
    assert ldc.tec_current.get() > 0.1 and ldc.tec_voltage.get() > 0.1
    bench.clock.advance(120.0)
    assert ldc.temperature.get() == pytest.approx(303.15, abs=0.01)
    assert ldc.not_ready() == ""
    ldc.tec_current_limit.set(2.0)
    assert ldc.tec_current_limit.get() == 2.0
    ldc.current_limit.set(0.15)
    ldc.current.set(0.08)
    assert ldc.current.get() == pytest.approx(0.0, abs=1e-4)
    ldc.laser.set(True)
    assert ldc.laser.get() is True
    assert ldc.current.get() == pytest.approx(0.08, abs=1e-4) and ldc.current.settled()
    assert ldc.current_setpoint.get() == pytest.approx(0.08)
    assert ldc.diode_voltage.get() == pytest.approx(1.74, abs=0.01)
    assert ldc.photodiode_current.get() == pytest.approx(bench.diode.monitor_a(), rel=0.01)
    assert bench.diode.power_w() > 0.03
    ldc.safe()
    assert not bench.diode.on and not bench.body.enabled


def test_light_follows_current_and_temperature(bench: Bench) -> None:
    ldc = bench.driver()
    ldc.tec.set(True)
    ldc.temperature.set(298.15)
    ldc.current.set(0.08)
    assert bench.diode.frequency_hz() is None
    bench.clock.advance(120.0)
    ldc.laser.set(True)
    before = bench.diode.frequency_hz()
    assert before is not None and before == pytest.approx(299792458.0 / 852.347e-9, abs=1e6)
    ldc.current.set(0.09)
    now = bench.diode.frequency_hz()
    assert now is not None and now - before == pytest.approx(-1e10, abs=1e6)


def test_limits_hold_before_anything_is_sent(bench: Bench) -> None:
    ldc = bench.driver()
    assert ldc.temperature.limits == (283.15, 333.15)
    assert ldc.current.limits == (0.0, pytest.approx(0.2))
    ldc.current_limit.set(0.1)
    bench.sim.faults.switch("silent")
    for name, value in (
        ("temperature", 283.0),
        ("temperature", 334.0),
        ("current", 0.101),
        ("current", -1e-3),
        ("current_limit", 0.501),
        ("tec_current_limit", 5.0),
        ("diode_voltage", 1.0),
    ):
        with pytest.raises(LimitError):
            ldc.signal(name).set(value)


def test_a_lower_limit_takes_the_setpoint_along(bench: Bench) -> None:
    ldc = bench.driver()
    ldc.current.set(0.12)
    ldc.current_limit.set(0.1)
    assert ldc.current_setpoint.get() == pytest.approx(0.1)


def test_what_is_not_taken_is_an_error(bench: Bench) -> None:
    ldc = bench.driver()
    bench.sim.limit_ma = 50.0  # lowered at the front panel, behind the driver's back
    with pytest.raises(
        RefusedError,
        match=r"diode at tcp://127.*did not take 'SILD 80', it stays 0: execution error 1, command error 0",
    ):
        ldc.current.set(0.08)
    ldc.current.set(0.04)
    assert ldc.query("LEXE?") == "0"


def test_the_interlock(bench: Bench) -> None:
    ldc = bench.driver()
    ldc.tec.set(True)
    ldc.temperature.set(ldc.temperature.get())
    ldc.laser.set(True)
    bench.sim.own_faults()["interlock_open"]()
    assert ldc.laser.get() is False and ldc.interlock.get() is False
    assert ldc.not_ready() == "the laser went off: interlock open"
    with pytest.raises(RefusedError, match="did not take 'LDON ON', it stays OFF: the interlock is open"):
        ldc.laser.set(True)
    bench.sim.own_faults()["interlock_closed"]()
    ldc.laser.set(True)
    bench.sim.own_faults()["diode_off"]()
    assert ldc.not_ready() == "the laser went off: look at the front panel"
    bench.sim.own_faults()["diode_on"]()
    ldc.laser.set(True)
    assert ldc.not_ready() == ""


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_safe_goes_on_when_replies_are_lost(bench: Bench, way: str) -> None:
    ldc = bench.driver(way)
    ldc.tec.set(True)
    ldc.laser.set(True)
    bench.sim.faults.switch("drop", 1)
    ldc.safe()
    assert not bench.diode.on and not bench.body.enabled
    bench.sim.faults.switch("silent")
    bench.sim.body.enabled = bench.diode.on = True
    with pytest.raises(NoAnswerError, match="diode at"):
        ldc.safe()
    bench.sim.faults.clear()
    ldc.safe()
    assert not bench.diode.on and not bench.body.enabled


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("*IDN?", "Stanford_Research_Systems,LDC501,s/n148011,ver1.20"),
        ("sild15;SILD?", "15.00"),
        ("SILD 15.004;SILD?", "15.00"),
        ("LDON 1;LDON?", "OFF"),
        ("LDON ON;LDON?", "ON"),
        ("TEON ON;TEON?", "1"),
        ("TEON 1;TEON?", "1"),
        ("SILD;SILD?", "0.00"),
        ("SILD 1e3;SILD?", "0.00"),
        ("SILD nan;SILD?", "0.00"),
        ("RNGE LOW;SILM 300;SILM?", "200.00"),
        ("SILM 300;RNGE LOW;SILM?;RNGE?", "250.00;LOW"),
        ("LDON ON;RNGE LOW;RNGE?", "HIGH"),
        ("TEMP 61;TEMP?", "21.000"),
        ("TMAX 40;TEMP 45;TEMP?", "21.000"),
        ("TMIN 70;TMIN?", "10.000"),
        ("TRTH 10;TEMP?;TRTH?", "25.000;10.0000"),
        ("TRMN 5;TMAX?", "41.460"),
        ("TRMX 20;TMIN?", "10.177"),
        ("TILM -5;TILM?", "1.5000"),
        ("TCUR 2;TCUR?", "0.0000"),
        ("SMOD CP;SMOD?", "CP"),
        ("SMOD AB;SMOD?", "CC"),
        ("RESP 50;SWPD 2;SIPD?;SWPD?", "100.00;2.0000"),
        ("PWLM 10;PILM?", "200.000"),
        ("TSNR 6;TSNR?;TMOD?", "6;CT"),
        ("RILD 5", None),
        ("CALP?", None),
        ("what", None),
        ("", None),
    ],
)
def test_grammar(line: str, reply: str | None) -> None:
    assert unserved().sim.answer(line) == reply


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("SILD 900", ("1", "0")),
        ("SILD fast", ("1", "0")),
        ("LDON 1", ("2", "0")),
        ("NONS 1", ("0", "2")),
        ("RILD 1", ("0", "3")),
        ("CALP?", ("0", "4")),
        ("SILD", ("0", "5")),
        ("SILD 10", ("0", "0")),
    ],
)
def test_error_codes_come_late_and_once(line: str, codes: tuple[str, str]) -> None:
    bench = unserved()
    bench.sim.answer(line)
    bench.clock.advance(0.02)
    assert (bench.sim.answer("LEXE?"), bench.sim.answer("LCME?")) == codes
    assert (bench.sim.answer("LEXE?"), bench.sim.answer("LCME?")) == ("0", "0")


def test_constant_power_holds_the_light_when_the_diode_warms() -> None:
    bench = unserved()
    for line in ("TEON 1", "TEMP 21", "SILD 80", "LDON ON", "SMOD CP"):
        bench.sim.answer(line)
    power_w = bench.diode.power_w()
    bench.sim.answer("TEMP 35")
    bench.clock.advance(120.0)
    bench.sim.answer("*IDN?")
    assert bench.diode.power_w() == pytest.approx(power_w, rel=1e-6)
    assert bench.diode.current_a > 0.085
    bench.sim.answer("SMOD CC")
    assert float(bench.sim.answer("SILD?") or "") == pytest.approx(bench.diode.current_a * 1e3, abs=0.01)


def test_constant_tec_current_leads_to_its_own_temperature() -> None:
    bench = unserved()
    for line in ("TEON 1", "TMOD CC", "TCUR 0.2"):
        bench.sim.answer(line)
    bench.clock.advance(120.0)
    assert float(bench.sim.answer("TTRD?") or "") == pytest.approx(31.0, abs=0.05)
    bench.sim.answer("TMOD CT")
    assert float(bench.sim.answer("TEMP?") or "") == pytest.approx(31.0, abs=0.05)


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_no_bytes_upset_the_simulator(pieces: list[bytes]) -> None:
    sent: list[bytes] = []
    session = unserved().sim.session("main", sent.append)
    for piece in pieces:
        session.receive(piece)
    sent.clear()
    session.receive(b"\n*IDN?\r\n")
    assert sent[-1].startswith(b"Stanford_Research_Systems,LDC501")


MNEMONICS = st.sampled_from(sorted(unserved().sim._table))  # pyright: ignore[reportPrivateUsage]


@given(MNEMONICS, st.text(st.characters(codec="latin-1"), max_size=20))
def test_no_argument_upsets_the_simulator(mnemonic: str, argument: str) -> None:
    sim = unserved().sim
    assert sim.answer(f"{mnemonic} {argument.replace(';', '').replace('?', '')}") is None
    assert sim.answer("TTRD?") is not None


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_silence_then_a_late_answer_never_taken_for_the_next(bench: Bench, way: str) -> None:
    ldc = bench.driver(way)
    ldc.current.set(0.033)
    bench.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError) as failure:
        ldc.current_setpoint.get()
    assert f"diode at {bench.address[way]}: no answer to b'SILD?" in str(failure.value)
    bench.sim.faults.clear()
    assert ldc.temperature_setpoint.get() == pytest.approx(294.15)
    assert ldc.current_limit.get() == pytest.approx(0.2)


@pytest.mark.parametrize("way", ["tcp", "pty"])
@pytest.mark.parametrize("kind", ["garble", "garbage"])
def test_broken_answers_are_refused_and_the_next_is_clean(bench: Bench, way: str, kind: str) -> None:
    ldc = bench.driver(way)
    bench.sim.faults.switch(kind)
    for name in ("temperature", "current_limit", "interlock", "laser"):
        with pytest.raises(DeviceError, match="diode at"):
            ldc.signal(name).get()
    bench.sim.faults.clear()
    assert ldc.temperature.get() == pytest.approx(294.15, abs=0.01)


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_a_broken_connection_a_lost_reply_and_split_replies(bench: Bench, way: str) -> None:
    ldc = bench.driver(way)
    bench.sim.faults.switch("disconnect")
    with pytest.raises(NotConnectedError if way == "tcp" else NoAnswerError, match="diode at"):
        ldc.laser.get()
    assert ldc.laser.get() is False
    bench.sim.faults.switch("split", 0.02)
    assert ldc.temperature.get() == pytest.approx(294.15, abs=0.01)


def test_several_clients_and_half_a_line(bench: Bench) -> None:
    port = int(bench.address["tcp"].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 2) as slow:
        slow.sendall(b"SIL")
        clients = [bench.driver() for _ in range(3)]
        for n, ldc in enumerate(clients, 1):
            ldc.current.set(n * 0.01)
            assert [other.current_setpoint.get() for other in clients] == [pytest.approx(n * 0.01)] * 3
        slow.sendall(b"D?\r\n")
        assert slow.recv(100) == b"30.00\n"


def test_another_instrument_is_refused(bench: Bench) -> None:
    bench.sim.model = "CTC100"
    with pytest.raises(BadAnswerError, match=r"CTC100.*expected an SRS LDC500-series controller"):
        bench.driver()
