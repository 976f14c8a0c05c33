"""The Thorlabs PM100 driver against the simulated meter, through pyvisa and over plain TCP."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.thorlabs_pm100 import ThorlabsPm100
from labctl.errors import BadAnswerError, DeviceError, LimitError, NoAnswerError, RefusedError
from labctl.sim.server import SimServer
from labctl.transport import connect
from simulated_hw.thorlabs_pm100 import SimThorlabsPm100
from simulated_hw.world.parts import PowerSensor


class Light:
    """What falls on the sensor, W."""

    def __init__(self) -> None:
        self.watts = 1.25e-3

    def __call__(self) -> float:
        return self.watts


@dataclass
class Meter:
    sim: SimThorlabsPm100
    light: Light
    port: int

    def address(self, way: str = "tcp") -> str:
        return {
            "tcp": f"tcp://127.0.0.1:{self.port}",
            "visa": f"visa://TCPIP::127.0.0.1::{self.port}::SOCKET",
        }[way]

    def driver(self, way: str = "tcp") -> ThorlabsPm100:
        meter = ThorlabsPm100(connect(self.address(way), "meter", 0.2), "meter")
        meter.timeout_s = 0.2
        meter.open()
        return meter


def instrument(light: Light) -> SimThorlabsPm100:
    return SimThorlabsPm100(PowerSensor(light), lambda: 0.0, np.random.default_rng(5))


@pytest.fixture
def meter() -> Iterator[Meter]:
    light = Light()
    sim = instrument(light)
    server = SimServer()
    port = server.serve_tcp(sim)
    with server:
        yield Meter(sim, light, port)


@pytest.mark.parametrize("way", ["tcp", "visa"])
def test_every_signal(meter: Meter, way: str) -> None:
    pm = meter.driver(way)
    assert pm.identity().startswith("Thorlabs,PM100USB,")
    assert pm.sensor.get() == "S132C 17052306"
    assert pm.power.get() == pytest.approx(1.25e-3, rel=1e-6)
    pm.averages.set(100)
    assert pm.averages.get() == 100 == meter.sim.averages
    pm.auto_range.set(False)
    assert pm.auto_range.get() is False is meter.sim.auto_range
    pm.auto_range.set(True)
    assert pm.auto_range.get() is True
    pm.wavelength.set(775e-9)
    assert pm.wavelength.get() == pytest.approx(775e-9, abs=1e-14)
    assert pm.wavelength.settled()
    assert pm.power.get() == pytest.approx(2.5e-3, rel=1e-6)
    assert pm.not_ready() == ""
    pm.safe()
    pm.close()


def test_noise_shrinks_with_averages(meter: Meter) -> None:
    pm = meter.driver()
    meter.light.watts = 0.0
    spread: list[float] = []
    for count in (1, 1000):
        pm.averages.set(count)
        spread.append(float(np.std([pm.power.get() for _ in range(60)])))
    assert 0 < spread[1] < spread[0] / 10
    pm.close()


def test_a_meter_in_dbm_is_never_read_as_watts(meter: Meter) -> None:
    pm = meter.driver()
    meter.sim.unit = "DBM"
    assert pm.power.get() == pytest.approx(1.25e-3, rel=1e-6)
    assert meter.sim.unit == "W"
    pm.close()


def test_limits_hold_before_anything_is_sent(meter: Meter) -> None:
    pm = meter.driver()
    assert pm.wavelength.limits == (400e-9, 1700e-9)
    meter.sim.faults.switch("silent")
    for wrong in (399e-9, 1800e-9, 1550.0):
        with pytest.raises(LimitError):
            pm.wavelength.set(wrong)
    with pytest.raises(LimitError):
        pm.averages.set(0)
    with pytest.raises(LimitError):
        pm.power.set(1.0)
    assert meter.sim.wavelength_m == 1550e-9
    meter.sim.faults.clear()
    pm.close()


def test_the_meters_refusal_is_an_error(meter: Meter) -> None:
    pm = meter.driver()
    meter.sim.sensor.longest_m = 1100e-9  # another head, behind the driver's back
    with pytest.raises(RefusedError, match=r"meter at tcp://127.*-222.*out of range"):
        pm.wavelength.set(1310e-9)
    assert pm.power.get() > 0
    pm.close()


def test_overrange_and_no_sensor(meter: Meter) -> None:
    pm = meter.driver()
    meter.light.watts = 1.0
    with pytest.raises(RefusedError, match="range is exceeded"):
        pm.power.get()
    meter.sim.sensor_connected = False
    with pytest.raises(RefusedError, match="unplugged"):
        pm.power.get()
    assert pm.sensor.get() == ""
    assert pm.not_ready() == "no sensor is connected"
    pm.close()


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("SENS:CORR:WAV?", "1.550000E+03"),
        ("sense:correction:wavelength?", "1.550000E+03"),
        (":Sens1:Corr:Wavelength? max", "1.700000E+03"),
        ("SENS:POW:UNIT DBM;UNIT?;:SENS:AVER?", "DBM;1"),
        ("SENSE:POWER:DC:RANGE:UPPER 2E-4;AUTO?;UPP?", "0;5.00000000E-04"),
        ("MEAS?;*OPC?", None),
        ("SENSCORRWAV?", ""),
        ("SENSE:CORR:WAVE?", ""),
        ("SENS:CORR:WAV", ""),
        ("SENS:AVER ten;:SYST:ERR?", '-120,"Numeric data error"'),
        ("SENS:POW:RANG:AUTO MAYBE;:SYST:ERR?", '-224,"Illegal parameter value"'),
        ("NOSUCH?;SYST:ERR?;ERR?", '-113,"Undefined header";+0,"No error"'),
        ("ABOR;FETC?;:SYSTEM:ERROR:NEXT?", '-230,"Data corrupt or stale"'),
        ("CONF:POW;:INIT;:FETC?", None),
        ("SENS1:TEMP:DATA?", None),
    ],
)
def test_grammar(line: str, reply: str | None) -> None:
    """``reply`` "" is none at all, None any number."""
    sim = instrument(Light())
    answer = sim.answer(line)
    if reply is None:
        assert answer is not None and float(answer.split(";")[0]) != 0
    else:
        assert (answer or "") == reply


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_no_bytes_upset_the_simulator(pieces: list[bytes]) -> None:
    sent: list[bytes] = []
    session = instrument(Light()).session("main", sent.append)
    for piece in pieces:
        session.receive(piece)
    sent.clear()
    session.receive(b"\n*CLS\nsyst:err?\r\n")
    assert sent[-1] == b'+0,"No error"\n'


def test_the_error_queue_overflows_as_scpi_says() -> None:
    sim = instrument(Light())
    for _ in range(40):
        sim.answer("WHAT")
    codes: list[str] = []
    while (answer := sim.answer("SYST:ERR?") or "") != '+0,"No error"':
        codes.append(answer.partition(",")[0])
    assert codes == ["-113"] * 29 + ["-350"]


def test_a_wedged_meter_is_silent_until_power_cycled(meter: Meter) -> None:
    pm = meter.driver()
    meter.sim.wedge()
    with pytest.raises(NoAnswerError, match="meter at"):
        pm.query("NO:SUCH:HEADER?")
    with pytest.raises(NoAnswerError):
        pm.power.get()
    meter.sim.unwedge()
    assert pm.power.get() > 0
    pm.close()


def test_the_driver_never_wedges_the_meter(meter: Meter) -> None:
    meter.sim.wedge()
    pm = meter.driver()
    pm.wavelength.set(1310e-9)
    for name in ThorlabsPm100.signals:
        pm.signal(name).get()
    assert not meter.sim.wedged and not meter.sim.errors
    pm.close()


@pytest.mark.parametrize("way", ["tcp", "visa"])
def test_silence_then_a_late_answer_never_taken_for_the_next(meter: Meter, way: str) -> None:
    pm = meter.driver(way)
    meter.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError) as failure:
        pm.power.get()
    assert f"meter at {meter.address(way)}" in str(failure.value)
    meter.sim.faults.clear()
    assert pm.averages.get() == 1
    assert pm.power.get() == pytest.approx(1.25e-3, rel=1e-6)
    pm.close()


@pytest.mark.parametrize("way", ["tcp", "visa"])
@pytest.mark.parametrize("kind", ["garble", "garbage"])
def test_broken_answers_are_refused_and_the_next_is_clean(meter: Meter, way: str, kind: str) -> None:
    pm = meter.driver(way)
    meter.sim.faults.switch(kind)
    names = ["power", "wavelength"] + (["averages", "auto_range", "sensor"] if kind == "garbage" else [])
    for name in names:  # one flipped character in a name or a single digit cannot be noticed
        with pytest.raises(BadAnswerError, match="meter at"):
            pm.signal(name).get()
    meter.sim.faults.clear()
    assert pm.power.get() == pytest.approx(1.25e-3, rel=1e-6)
    pm.close()


@pytest.mark.parametrize("way", ["tcp", "visa"])
def test_a_broken_connection_and_split_replies(meter: Meter, way: str) -> None:
    pm = meter.driver(way)
    meter.sim.faults.switch("disconnect")
    with pytest.raises(DeviceError, match="meter at"):
        pm.power.get()
    meter.sim.faults.switch("split", 0.02)
    assert pm.power.get() == pytest.approx(1.25e-3, rel=1e-6)
    pm.close()


def test_half_a_line_and_several_clients(meter: Meter) -> None:
    with socket.create_connection(("127.0.0.1", meter.port), 2) as slow:
        slow.sendall(b"*ID")
        clients = [meter.driver("tcp"), meter.driver("visa"), meter.driver("tcp")]
        for count, pm in enumerate(clients, start=7):
            pm.averages.set(count)
            assert [other.averages.get() for other in clients] == [count] * 3
        for pm in clients:
            pm.close()
        slow.sendall(b"N?\r\n")
        assert slow.recv(100).startswith(b"Thorlabs,PM100USB")


def test_another_instrument_is_refused(meter: Meter) -> None:
    meter.sim.model = "ITC4005"
    with pytest.raises(BadAnswerError, match="expected a Thorlabs PM power meter"):
        meter.driver()
