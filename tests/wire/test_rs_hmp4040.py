"""The HMP4040 driver against the simulated supply: one client, two at once, TCP and a pseudo-terminal."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.rs_hmp4040 import RsHmp4040
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
from simulated_hw.rs_hmp4040 import SimHmp4040
from simulated_hw.world.parts_coils import CoilChannel


@dataclass
class Bench:
    sim: SimHmp4040
    clock: VirtualClock
    address: dict[str, str] = field(default_factory=dict[str, str])
    drivers: list[RsHmp4040] = field(default_factory=list[RsHmp4040])

    @property
    def coils(self) -> list[CoilChannel]:
        return self.sim.coils

    @property
    def port(self) -> int:
        return int(self.address["tcp"].rpartition(":")[2])

    def driver(self, way: str = "tcp", timeout_s: float = 0.2) -> RsHmp4040:
        supply = RsHmp4040(connect(self.address[way], "coils", timeout_s), "coils")
        supply.timeout_s = timeout_s
        self.drivers.append(supply)
        supply.open()
        return supply


def unserved() -> Bench:
    clock = VirtualClock()
    sim = SimHmp4040([CoilChannel() for _ in range(3)], clock.now, np.random.default_rng(7))
    return Bench(sim, clock)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = unserved()
    server = SimServer()
    bench.address["tcp"] = f"tcp://127.0.0.1:{server.serve_tcp(bench.sim)}"
    bench.address["visa"] = f"visa://TCPIP::127.0.0.1::{bench.port}::SOCKET"
    bench.address["pty"] = f"serial://{server.serve_pty(bench.sim)}?baudrate=9600"
    with server:
        yield bench
        for driver in bench.drivers:
            driver.close()


@pytest.mark.parametrize("way", ["tcp", "visa", "pty"])
def test_every_signal_of_every_channel(bench: Bench, way: str) -> None:
    supply = bench.driver(way)
    assert supply.identity().startswith("ROHDE&SCHWARZ,HMP4040")
    for n in (1, 2, 3, 4):
        supply.signal(f"voltage_{n}").set(n + 0.125)
        supply.signal(f"current_{n}").set(n * 0.2)
    for n, coil in enumerate(bench.coils, 1):
        assert (coil.set_v, coil.limit_a) == pytest.approx((n + 0.125, n * 0.2))
        assert supply.signal(f"voltage_{n}").get() == pytest.approx(n + 0.125)
        assert supply.signal(f"current_{n}").get() == pytest.approx(n * 0.2)
        assert supply.signal(f"output_{n}").get() is False
    supply.output_2.set(True)
    assert [coil.on for coil in bench.coils] == [False, True, False, False]
    bench.clock.advance(1.0)
    assert supply.measured_current_2.get() == pytest.approx(0.4, abs=1e-3)
    assert supply.measured_voltage_2.get() == pytest.approx(0.8, abs=5e-3)
    assert bench.coils[1].field_t() == pytest.approx(4.8e-5)
    assert supply.measured_current_1.get() == 0.0
    supply.output_2.set(False)
    assert supply.output_2.get() is False and not bench.coils[1].on
    assert supply.not_ready() == ""


def test_the_field_follows_with_the_coils_time_constant(bench: Bench) -> None:
    supply = bench.driver()
    supply.voltage_1.set(2.0)
    supply.current_1.set(5.0)
    supply.output_1.set(True)
    bench.clock.advance(1e-3)  # L/R
    bench.sim.advance()
    assert bench.coils[0].flowing_a == pytest.approx(1 - np.exp(-1), rel=1e-6)
    bench.clock.advance(1.0)
    supply.safe()
    bench.clock.advance(1e-3)
    bench.sim.advance()
    assert bench.coils[0].flowing_a == pytest.approx(np.exp(-1), rel=1e-6)


def test_an_open_coil_and_a_channel_at_its_power_limit(bench: Bench) -> None:
    supply = bench.driver()
    for n in (1, 4):
        supply.signal(f"voltage_{n}").set(32.05)
        supply.signal(f"current_{n}").set(10.0)
        supply.signal(f"output_{n}").set(True)
    bench.clock.advance(1.0)
    assert supply.measured_current_1.get() == pytest.approx(80**0.5, abs=1e-2)
    assert supply.measured_current_4.get() == 0.0
    assert supply.measured_voltage_4.get() == pytest.approx(32.05, abs=0.01)


def test_limits_hold_before_anything_is_sent(bench: Bench) -> None:
    supply = bench.driver()
    bench.sim.faults.switch("silent")
    for name, value in (
        ("voltage_1", 32.06),
        ("voltage_2", -0.1),
        ("current_3", 10.01),
        ("current_4", -1e-3),
        ("measured_current_1", 1.0),
    ):
        with pytest.raises(LimitError):
            supply.signal(name).set(value)


def test_no_other_channel_comes_on_with_the_master_switch(bench: Bench) -> None:
    supply = bench.driver()
    bench.sim.active[2] = True  # pressed at the front panel, while the master switch is off
    with pytest.raises(
        RefusedError,
        match=r"coils at tcp://127.*channel 3 would come on together with 1 .*set output_3 to false",
    ):
        supply.output_1.set(True)
    assert not any(coil.on for coil in bench.coils)
    supply.output_3.set(False)
    supply.output_1.set(True)
    assert [coil.on for coil in bench.coils] == [True, False, False, False]


def test_what_is_not_taken_is_an_error(bench: Bench) -> None:
    supply = bench.driver()
    with pytest.raises(
        RefusedError, match=r"did not take VOLT 40\.0000 of channel 2, it stays 0: -222,\"Data out of range\""
    ):
        supply.set_number(2, "VOLT", 40.0, 1e-3)
    assert supply.query("SYST:ERR?") == '0,"No error"'


def test_a_tripped_fuse_is_not_ready(bench: Bench) -> None:
    supply = bench.driver()
    supply.output_1.set(True)
    assert supply.not_ready() == ""
    bench.sim.own_faults()["fuse"]()
    assert supply.not_ready().startswith("output 1 went off")
    supply.output_1.set(False)
    assert supply.not_ready() == ""
    bench.sim.own_faults()["coil_off"]()
    supply.output_1.set(True)
    bench.clock.advance(1.0)
    assert supply.measured_current_1.get() == 0.0
    bench.sim.own_faults()["coil_on"]()


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_safe_switches_everything_off_even_if_a_reply_is_lost(bench: Bench, way: str) -> None:
    supply = bench.driver(way)
    for n in (1, 2, 3, 4):
        supply.signal(f"output_{n}").set(True)
    bench.sim.faults.switch("drop", 1)
    supply.safe()
    assert not any(coil.on for coil in bench.coils)
    assert bench.sim.active == [False] * 4 and not bench.sim.master
    bench.sim.faults.switch("silent")
    with pytest.raises(NoAnswerError, match="coils at"):
        supply.safe()


def test_selecting_and_acting_apart_is_a_race(bench: Bench) -> None:
    """What the driver must not do: a client that selects first and acts later hits somebody else's channel."""
    with socket.create_connection(("127.0.0.1", bench.port), 2) as naive:
        naive.sendall(b"INST:NSEL 1;NSEL?\n")
        assert naive.recv(100) == b"1\n"
        bench.driver().voltage_2.set(3.0)
        naive.sendall(b"VOLT 30;VOLT?\n")
        assert naive.recv(100) == b"30.000\n"
    assert [coil.set_v for coil in bench.coils] == [0.0, 30.0, 0.0, 0.0]


def test_two_clients_do_not_corrupt_each_other(bench: Bench) -> None:
    """Two drivers set, switch and read their own channels as fast as they can while a third client keeps selecting."""
    rounds, stop = 120, threading.Event()
    clients = [(bench.driver(timeout_s=5.0), (1, 2)), (bench.driver(timeout_s=5.0), (3, 4))]
    bench.sim.master = True
    start = threading.Barrier(3, timeout=10)

    def hammer(supply: RsHmp4040, channels: tuple[int, int]) -> dict[int, tuple[float, float, bool]]:
        rng = np.random.default_rng(channels[0])
        last: dict[int, tuple[float, float, bool]] = {}
        start.wait()
        for turn in range(rounds):
            for n in channels:
                volt, ampere = (round(float(x), 2) for x in rng.uniform((0.0, 0.0), (32.0, 10.0)))
                supply.signal(f"voltage_{n}").set(volt)  # reads itself back, and raises if it is not so
                supply.signal(f"current_{n}").set(ampere)
                supply.signal(f"output_{n}").set(bool(turn % 2))
                last[n] = volt, ampere, bool(turn % 2)
            for n, (volt, ampere, on) in last.items():
                assert supply.signal(f"voltage_{n}").get() == pytest.approx(volt)
                assert supply.signal(f"current_{n}").get() == pytest.approx(ampere)
                assert supply.signal(f"output_{n}").get() is on
        return last

    def meddle() -> None:
        with socket.create_connection(("127.0.0.1", bench.port), 5) as other:
            start.wait()
            while not stop.is_set():
                for n in (1, 2, 3, 4):
                    other.sendall(b"INST:NSEL %d\n" % n)
                other.sendall(b"INST:NSEL?\n")
                assert other.recv(100) in (b"1\n", b"2\n", b"3\n", b"4\n")

    with ThreadPoolExecutor(3) as pool:
        meddling = pool.submit(meddle)
        hammering = [pool.submit(hammer, *client) for client in clients]
        try:
            wanted = {n: state for future in hammering for n, state in future.result(60).items()}
        finally:
            stop.set()
        meddling.result(10)
    for n, coil in enumerate(bench.coils, 1):
        assert (coil.set_v, coil.limit_a, coil.on) == pytest.approx(wanted[n])
    assert not bench.sim.errors


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("INST:NSEL 2;:VOLT 3.3;:VOLT?", "3.300"),
        ("INST:NSEL 2;VOLT 3.3;:SYST:ERR?", '-113,"Undefined header"'),
        ("INST OUT3;INST?;:INST:NSEL?", "OUTP3;3"),
        ("INST:NSEL 5;NSEL?;:SYST:ERR?", '1;-222,"Data out of range"'),
        ("APPL 3.3, 1.5;:APPL?", "3.300, 1.5000"),
        ("VOLT? MAX;:CURR? MAX;:VOLT? MIN", "32.050;10.0000;0.000"),
        ("VOLT:STEP 0.5;:VOLT UP;:VOLT UP;:VOLT?", "1.000"),
        ("CURR:STEP 0.2;:CURR 9.9;:CURR UP;:CURR?", "10.0000"),
        ("CURR DOWN;DOWN;:CURR?", "0.0000"),
        ("CURR 0.12345;:CURR?", "0.1234"),
        ("VOLT nan;:VOLT?;:SYST:ERR?", '0.000;-222,"Data out of range"'),
        ("VOLT? SOME;:SYST:ERR?", '-224,"Illegal parameter value"'),
        ("OUTPUT:SEL 1;SEL?;:OUTP:GEN?", "1;0"),
        ("OUTP:SEL maybe;:SYST:ERR?", '-224,"Illegal parameter value"'),
        ("SYST:MIX;VERS?", "1999.0"),
        ("SYST:BEEP", None),
        ("*RST;*OPC?", "1"),
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
    sent.clear()
    session.receive(b"\n*CLS\nsyst:err?\r\n")
    assert sent[-1] == b'0,"No error"\n'


HEADERS = st.sampled_from(
    ["VOLT", "CURR", "APPL", "INST:NSEL", "OUTP:SEL", "OUTP:GEN", "VOLT:STEP", "CURR:STEP"]
)


@given(HEADERS, st.text(st.characters(codec="latin-1"), max_size=20))
def test_no_argument_upsets_the_simulator(name: str, argument: str) -> None:
    sim = unserved().sim
    sim.answer(f"{name} {argument}")
    for coil in sim.coils:
        assert 0 <= coil.set_v <= 32.05 and 0 <= coil.limit_a <= 10
    assert sim.answer(":INST:NSEL?") in ("1", "2", "3", "4")


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_silence_then_a_late_answer_never_taken_for_the_next(bench: Bench, way: str) -> None:
    supply = bench.driver(way)
    supply.voltage_1.set(5.0)
    supply.voltage_2.set(7.0)
    bench.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError) as failure:
        supply.voltage_1.get()
    assert f"coils at {bench.address[way]}: no answer to b'INST:NSEL 1;:VOLT?" in str(failure.value)
    bench.sim.faults.clear()
    assert supply.voltage_2.get() == 7.0
    assert supply.current_2.get() == pytest.approx(0.1)


@pytest.mark.parametrize("way", ["tcp", "visa", "pty"])
@pytest.mark.parametrize("kind", ["garble", "garbage"])
def test_broken_answers_are_refused_and_the_next_is_clean(bench: Bench, way: str, kind: str) -> None:
    supply = bench.driver(way)
    bench.sim.faults.switch(kind)
    for name in ("voltage_1", "current_2"):
        with pytest.raises(DeviceError, match="coils at"):
            supply.signal(name).get()
    bench.sim.faults.clear()
    assert supply.current_1.get() == pytest.approx(0.1)


@pytest.mark.parametrize("way", ["tcp", "visa", "pty"])
def test_a_broken_connection_and_split_replies(bench: Bench, way: str) -> None:
    supply = bench.driver(way)
    bench.sim.faults.switch("disconnect")
    with pytest.raises((NotConnectedError, NoAnswerError), match="coils at"):
        supply.voltage_1.get()
    assert supply.voltage_1.get() == 0.0
    bench.sim.faults.switch("split", 0.02)
    assert supply.current_1.get() == pytest.approx(0.1)


def test_another_supply_is_refused(bench: Bench) -> None:
    bench.sim.model = "HMP2030"
    with pytest.raises(BadAnswerError, match=r"HMP2030.*expected an HMP4040 power supply"):
        bench.driver()
