"""The Bristol 871 driver against the simulated meter."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.bristol_871 import STATUS, Bristol871, BusyError, Measurement
from labctl.clock import VirtualClock
from labctl.errors import (
    BadAnswerError,
    DeviceError,
    LimitError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
)
from labctl.sim.inprocess import Bench as InProcess
from labctl.sim.server import SimServer
from labctl.transport import SimTransport, connect
from simulated_hw.bristol_871 import SimBristol871
from simulated_hw.scpi_lines import header

LIGHT_M_S = 299792458.0
GREEN_HZ = 755.222766e12


@dataclass
class Light:
    """What comes through the fibre, Hz; None for nothing."""

    hertz: float | None = GREEN_HZ

    def __call__(self) -> float | None:
        return self.hertz


@dataclass
class Bench:
    sim: SimBristol871
    lights: list[Light]
    clock: VirtualClock
    port: int = 0
    drivers: list[Bristol871] = field(default_factory=list[Bristol871])

    def unopened(self) -> Bristol871:
        meter = Bristol871(connect(f"tcp://127.0.0.1:{self.port}", "wavemeter", 0.2), "wavemeter")
        meter.timeout_s = 0.2
        self.drivers.append(meter)
        return meter

    def driver(self) -> Bristol871:
        meter = self.unopened()
        meter.open()
        return meter


def unserved() -> Bench:
    clock = VirtualClock()
    lights = [Light(), Light(None)]
    return Bench(SimBristol871(lights, clock.now, np.random.default_rng(7)), lights, clock)


def in_process(bench: Bench) -> Bristol871:
    """A driver whose timeouts count on the bench's virtual clock."""
    room = InProcess({"wavemeter": bench.sim}, bench.clock)
    transport = SimTransport(
        "sim://wavemeter", "wavemeter", 0.5, lambda address: room.connection(address.target), bench.clock
    )
    return Bristol871(transport, "wavemeter")


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = unserved()
    server = SimServer()
    bench.port = server.serve_tcp(bench.sim)
    with server:
        yield bench
        for driver in bench.drivers:
            driver.close()


def test_every_signal(bench: Bench) -> None:
    meter = bench.driver()
    assert meter.identity() == "BRISTOL WAVELENGTH METER, 871A-VIS4, 6894, 1.2.0"
    assert meter.frequency.get() == pytest.approx(GREEN_HZ, abs=10e6)
    assert meter.wavelength.get() == pytest.approx(LIGHT_M_S / GREEN_HZ, abs=1e-14)
    assert 0.3 < meter.intensity.get() < 0.5
    assert meter.state.get() == "ok"
    assert meter.not_ready() == ""
    for name, value in (("trigger", "rising"), ("rate", 250), ("calibration_method", "temperature")):
        signal = meter.signal(name)
        signal.set(value)
        assert signal.get() == value
    assert (bench.sim.trigger, bench.sim.rate_hz, bench.sim.method) == ("RISE", "250", "TEMP")
    meter.rate.set(20)
    meter.adjust_rate()
    assert meter.rate.get() == 250
    meter.safe()


def test_wavelength_zero_is_never_returned(bench: Bench) -> None:
    meter = bench.driver()
    bench.lights[0].hertz = None
    for signal in (meter.wavelength, meter.frequency):
        with pytest.raises(
            RefusedError,
            match=r"wavemeter at tcp://127.*no good reading: low detector signal \(status 0x20000004",
        ):
            signal.get()
    assert meter.measure().wavelength_m == 0.0
    assert meter.intensity.get() == 0.0
    assert meter.state.get() == "low detector signal"
    assert meter.not_ready() == ""
    bench.lights[:] = [Light(), Light(400e12)]
    bench.sim.sources = [*bench.lights]
    assert meter.state.get() == "etalon fringe error"


@pytest.mark.parametrize("bit", STATUS)
def test_no_reading_with_a_trouble_bit_is_returned(bench: Bench, bit: int) -> None:
    meter = bench.driver()
    bench.sim.answer = lambda line: f"17,{4 | 1 << bit},729.347276,0.4"
    with pytest.raises(RefusedError, match=STATUS[bit]):
        meter.wavelength.get()
    assert meter.state.get() == STATUS[bit]


def test_an_unlocked_reference_and_a_zero_without_reason(bench: Bench) -> None:
    meter = bench.driver()
    bench.sim.answer = lambda line: "17,0,729.347276,0.4"
    with pytest.raises(RefusedError, match="reference laser not locked"):
        meter.wavelength.get()
    assert meter.not_ready() == "reference laser not locked"
    bench.sim.answer = lambda line: "17,4,0.0,0.4"
    with pytest.raises(RefusedError, match="no measurement"):
        meter.frequency.get()
    assert Measurement(1, 4, 7e-7, 0.1).state == "ok"


@pytest.mark.parametrize("silent", [False, True])
def test_a_calibration_takes_seconds_and_takes_the_offset_away(silent: bool) -> None:
    bench = unserved()
    bench.sim.offset_hz, bench.sim.silent_while_calibrating = 200e6, silent
    with in_process(bench) as meter:
        assert meter.frequency.get() - GREEN_HZ == pytest.approx(200e6, abs=10e6)
        started = bench.clock.now()
        meter.calibrate()
        if silent:  # the answer waits for the end
            assert meter.state.get() == "ok"
            assert 2 <= bench.clock.now() - started <= 5.1
        else:
            assert meter.state.get() == "calibration in progress" == meter.not_ready()
            with pytest.raises(RefusedError, match="calibration in progress"):
                meter.frequency.get()
            bench.clock.advance(5.0)
        assert meter.frequency.get() == pytest.approx(GREEN_HZ, abs=10e6)
        assert meter.not_ready() == ""
        bench.sim.calibration_works = False
        meter.calibrate()
        bench.clock.advance(6.0)
        assert meter.not_ready() == "calibration failure"


def test_a_busy_meter(bench: Bench) -> None:
    first, second = bench.driver(), bench.unopened()
    with pytest.raises(
        NotConnectedError, match=r"wavemeter at tcp://127.*no free connection; close the other"
    ):
        second.open()
    first.close()
    for _ in range(50):  # until the meter has noticed
        try:
            second.open()
        except NotConnectedError:
            continue
        break
    assert second.state.get() == "ok"


def test_settings_that_do_not_take_are_errors(bench: Bench) -> None:
    meter = bench.driver()
    bench.sim.faults.switch("silent")
    with pytest.raises(LimitError):
        meter.rate.set(30)
    with pytest.raises(LimitError):
        meter.trigger.set("never")
    with pytest.raises(LimitError):
        meter.wavelength.set(700e-9)
    bench.sim.faults.clear()
    with pytest.raises(RefusedError, match=r"did not take ':TRIG:SEQ:RATE 5000': it still says '100'"):
        meter.set_and_check(":TRIG:SEQ:RATE 5000", ":TRIG:SEQ:RATE:ADJ?", "5000")
    assert meter.query("SYST:ERR?") == '-224,"Illegal parameter value"'


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("*idn?", "BRISTOL WAVELENGTH METER, 871A-VIS4, 6894, 1.2.0"),
        (":TRIGGER:SEQUENCE:RATE 500;RATE?", "500"),
        ("trig:seq:rate 20;:trig:seq:meth fall;meth?", "FALL"),
        (":SENS:CALI:METH TIME;METH?", "TIME"),
        (":SENS:CALI:TIM 4;TIM?;:SYST:ERR?;ERR?", '30;-222,"Data out of range";0,"No error"'),
        (":SENS:CALI:TEMP 50;TEMP?", "50"),
        (":STAT:QUES:COND?", "0"),
        (":READ:WAV?", None),
        ("nonsense;*OPC?", "1"),
        ("", None),
    ],
)
def test_grammar(line: str, reply: str | None) -> None:
    assert unserved().sim.answer(line) == reply


def test_headers() -> None:

    pattern = re.compile(header("[SOURce:]VOLTage#[:LEVel]?"))
    for text in ("VOLT1?", ":SOUR:VOLTAGE12:LEV?", "source:volt3:level?"):
        match = pattern.fullmatch(text)
        assert match is not None and match[1] in ("1", "12", "3")
    for text in ("VOL1?", "VOLT?", "VOLT1", "SOURVOLT1?", ":SOUR:VOLT1:"):
        assert pattern.fullmatch(text) is None


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_no_bytes_upset_the_simulator(pieces: list[bytes]) -> None:
    sent: list[bytes] = []
    session = unserved().sim.session("main", sent.append)
    session.connected()
    for piece in pieces:
        session.receive(piece)
    sent.clear()
    session.receive(b"\n*CLS\n:syst:err?\r\n")
    assert sent[-1] == b'0,"No error"\r\n'


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_no_answer_makes_a_wrong_reading(answer: str) -> None:
    bench = unserved()
    with in_process(bench) as meter:
        bench.sim.answer = lambda line: answer
        try:
            value = meter.wavelength.get()
        except DeviceError as error:
            assert "wavemeter at sim://wavemeter" in str(error)
        else:
            assert answer.split(",")[1].strip() == "4" and 300e-9 <= value <= 20e-6


def test_silence_then_a_late_answer_never_taken_for_the_next(bench: Bench) -> None:
    meter = bench.driver()
    bench.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError) as failure:
        meter.rate.get()
    assert f"wavemeter at tcp://127.0.0.1:{bench.port}: no answer to b':TRIG:SEQ:RATE:ADJ?" in str(
        failure.value
    )
    bench.sim.faults.clear()
    assert meter.frequency.get() == pytest.approx(GREEN_HZ, abs=10e6)
    assert meter.trigger.get() == "internal"


@pytest.mark.parametrize("kind", ["garble", "garbage"])
def test_broken_answers_are_refused_and_the_next_is_clean(bench: Bench, kind: str) -> None:
    meter = bench.driver()
    bench.sim.faults.switch(kind)
    for name in ("wavelength", "state", "trigger", "calibration_method"):
        with pytest.raises(DeviceError, match="wavemeter at"):
            meter.signal(name).get()
    bench.sim.faults.clear()
    assert meter.frequency.get() == pytest.approx(GREEN_HZ, abs=10e6)


def test_a_broken_connection_a_lost_reply_and_split_replies(bench: Bench) -> None:
    meter = bench.driver()
    bench.sim.faults.switch("disconnect")
    with pytest.raises(NotConnectedError, match="wavemeter at"):
        meter.state.get()
    assert meter.state.get() == "ok"
    bench.sim.faults.switch("drop")
    with pytest.raises(NoAnswerError):
        meter.state.get()
    bench.sim.faults.switch("split", 0.02)
    assert meter.state.get() == "ok"


def test_other_instruments_are_refused(bench: Bench) -> None:
    bench.sim.model = "671A-VIS"
    with pytest.raises(BadAnswerError, match=r"671A-VIS.*expected a Bristol 871"):
        bench.driver()
    with socket.create_server(("127.0.0.1", 0)) as other:
        meter = Bristol871(
            connect(f"tcp://127.0.0.1:{other.getsockname()[1]}", "wavemeter", 0.2), "wavemeter"
        )
        meter.timeout_s = 0.2
        meter.transport.open()
        connection, _ = other.accept()
        with connection:
            connection.sendall(b"login:\r\n" * 30)
            with pytest.raises(BadAnswerError, match="greeted with 'login:', expected the banner of Bristol"):
                meter.greet()
        meter.close()


def test_a_meter_without_a_free_connection_says_so_and_is_well_when_there_is_one(bench: Bench) -> None:
    bench.sim.own_faults()["busy"]()
    meter = bench.unopened()
    with pytest.raises(BusyError, match=r"wavemeter at tcp://.*close the other telnet session"):
        meter.open()
    bench.sim.own_faults()["free"]()
    meter.open()
    assert meter.identity()
