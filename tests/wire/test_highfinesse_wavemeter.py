"""The HighFinesse driver against the simulated network server, and against the lasers that a DLC pro drives."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.highfinesse_wavemeter import STATES, HighFinesseWavemeter
from drivers.toptica_dlcpro import DlcPro
from labctl.clock import SystemClock, VirtualClock
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
from simulated_hw.highfinesse_wavemeter import SimHighFinesse
from simulated_hw.toptica_dlcpro import SimDlcPro
from simulated_hw.world.parts import Laser
from simulated_hw.world.parts_tap import tap

LIGHT_M_S = 299792458.0


@dataclass
class Light:
    """What comes out of a fibre, Hz; None for nothing."""

    hertz: float | None = 755.222766e12

    def __call__(self) -> float | None:
        return self.hertz


@dataclass
class Bench:
    sim: SimHighFinesse
    lights: list[Light]
    clock: VirtualClock
    port: int = 0
    drivers: list[HighFinesseWavemeter] = field(default_factory=list[HighFinesseWavemeter])

    def driver(self, channels: int = 8) -> HighFinesseWavemeter:
        meter = HighFinesseWavemeter(
            connect(f"tcp://127.0.0.1:{self.port}", "wavemeter", 0.2), "wavemeter", channels
        )
        meter.timeout_s = 0.2
        self.drivers.append(meter)
        meter.open()
        return meter


def unserved() -> Bench:
    clock = VirtualClock()
    lights = [Light(400e12 + n * 50e12) for n in range(8)]
    return Bench(SimHighFinesse(lights, clock.now, np.random.default_rng(7)), lights, clock)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = unserved()
    server = SimServer()
    bench.port = server.serve_tcp(bench.sim)
    with server:
        yield bench
        for driver in bench.drivers:
            driver.close()


def test_every_channel_reads_its_own_light(bench: Bench) -> None:
    meter = bench.driver()
    assert meter.identity() == "HighFinesse WS8 1234, software 5.6"
    for n, light in enumerate(bench.lights, 1):
        assert light.hertz is not None
        assert meter.signal(f"frequency_{n}").get() == pytest.approx(light.hertz, abs=5e6)
        assert meter.signal(f"wavelength_{n}").get() == pytest.approx(LIGHT_M_S / light.hertz, rel=1e-8)
        assert meter.signal(f"state_{n}").get() == "ok"
        assert meter.signal(f"exposure_{n}").get() == pytest.approx(12e-3)
        assert meter.signal(f"auto_exposure_{n}").get() is True
    assert 297 < meter.temperature.get() < 300
    assert 90e3 < meter.pressure.get() < 100e3
    assert meter.not_ready() == ""
    meter.safe()


@pytest.mark.parametrize("code", [code for code in STATES if code < 0])
def test_no_state_is_ever_returned_as_a_number(bench: Bench, code: int) -> None:
    meter = bench.driver()
    bench.sim.force(code, 3)
    for name in ("frequency_3", "wavelength_3"):
        with pytest.raises(RefusedError) as failure:
            meter.signal(name).get()
        text = str(failure.value)
        assert f"wavemeter at tcp://127.0.0.1:{bench.port}: channel 3 has no reading: {STATES[code]}" in text
    assert meter.state_3.get() == STATES[code]
    assert meter.frequency_4.get() > 0
    bench.sim.force(0, 3)
    assert meter.state_3.get() == "ok"


def test_states_never_heard_of_and_zero(bench: Bench) -> None:
    meter = bench.driver()
    bench.sim.force(-99, 1)
    with pytest.raises(RefusedError, match="unknown state -99"):
        meter.frequency_1.get()
    assert meter.state_1.get() == "unknown state -99"
    meter.switch_mode.set(False)
    meter.active_channel.set(2)
    assert meter.frequency_2.get() > 0
    with pytest.raises(RefusedError, match="channel 5 has no reading: no value yet"):
        meter.wavelength_5.get()


def test_dark_light_is_no_signal(bench: Bench) -> None:
    meter = bench.driver()
    assert meter.state_1.get() == "ok"
    bench.lights[0].hertz = None
    assert meter.state_1.get() == "ok"  # the reading of this cycle of the switch
    bench.clock.advance(1.0)
    with pytest.raises(
        RefusedError, match=r"channel 1 has no reading: no signal .-1.; check shutter and fibre"
    ):
        meter.frequency_1.get()


def test_exposure_by_hand(bench: Bench) -> None:
    meter = bench.driver()
    meter.auto_exposure_2.set(False)
    for seconds, state in ((1e-3, "under-exposed"), (15e-3, "ok"), (0.5, "over-exposed")):
        meter.exposure_2.set(seconds)
        assert meter.exposure_2.settled()
        assert meter.state_2.get() == state
    meter.auto_exposure_2.set(True)
    bench.clock.advance(5.0)
    assert meter.state_2.get() == "ok"
    assert meter.exposure_2.get() == pytest.approx(12e-3)


def test_calibration_shifts_every_channel(bench: Bench) -> None:
    meter = bench.driver()
    bench.sim.offset_hz = 80e6
    known_hz, other_hz = bench.lights[0].hertz, bench.lights[1].hertz
    assert known_hz is not None and other_hz is not None
    assert meter.frequency_2.get() - other_hz == pytest.approx(80e6, abs=4e6)
    meter.calibrate(1, known_hz)
    assert meter.frequency_2.get() == pytest.approx(other_hz, abs=4e6)
    with pytest.raises(RefusedError, match=r"refused 'calibration 2,500.000000000,1': it could not be set"):
        meter.calibrate(1, 500e12)


def test_stopped_and_started(bench: Bench) -> None:
    meter = bench.driver()
    meter.stop()
    assert "not running" in meter.not_ready()
    assert meter.state_1.get() == "wavemeter not running"
    meter.start()
    assert meter.not_ready() == ""


def test_sensors_without_a_value(bench: Bench) -> None:
    meter = bench.driver()
    bench.sim.sensors_work = False
    for signal in (meter.temperature, meter.pressure):
        with pytest.raises(RefusedError, match=r"wavemeter at.*has no value: not available"):
            signal.get()


def test_channels_without_a_fibre_are_not_asked(bench: Bench) -> None:
    meter = bench.driver(channels=2)
    bench.sim.faults.switch("silent")
    with pytest.raises(LimitError, match="channel 3 is not in use"):
        meter.frequency_3.get()
    assert meter.state_3.get() == "not in use"
    with pytest.raises(LimitError):
        meter.active_channel.set(3)
    with pytest.raises(LimitError, match=r"729 Hz is no frequency of light"):
        meter.calibrate(1, 729.0)
    with pytest.raises(LimitError):
        meter.exposure_1.set(20.0)
    with pytest.raises(LimitError):
        meter.frequency_1.set(1e15)


def test_it_sees_the_laser_that_a_dlc_pro_drives() -> None:
    clock = VirtualClock()
    rng = np.random.default_rng(3)
    laser = Laser(
        rng,
        wavelength_m=729.347e-9,
        power_w=0.02,
        nominal_current_a=0.12,
        threshold_current_a=0.04,
        largest_current_a=0.2,
        drift_hz_per_sqrt_s=0.0,
    )
    server = SimServer()
    address = f"tcp://127.0.0.1:{server.serve_tcp(SimDlcPro(laser, clock.now))}"
    seen = f"tcp://127.0.0.1:{server.serve_tcp(SimHighFinesse([tap(laser, clock.now)], clock.now, rng))}"
    with (
        server,
        DlcPro(connect(address, "laser"), "laser") as dlc,
        HighFinesseWavemeter(connect(seen, "wavemeter"), "wavemeter", 1) as meter,
    ):
        assert meter.state_1.get() == "no signal"
        dlc.feedforward.set(False)
        dlc.enabled.set(True)
        assert dlc.emission.get()
        clock.advance(1.0)
        before = meter.frequency_1.get()
        assert before == pytest.approx(LIGHT_M_S / 729.347e-9, abs=1e9)
        dlc.piezo_voltage.set(dlc.piezo_voltage.get() + 2.0)
        clock.advance(1.0)
        assert meter.frequency_1.get() - before == pytest.approx(600e6, abs=5e6)
        dlc.safe()
        assert not dlc.emission.get()
        clock.advance(1.0)
        assert meter.state_1.get() == "no signal"


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("getVersion", "8,1234,5,6"),
        ("getChannelCount", "8"),
        ("getExposureNum 1, 1", "12"),
        ("setAutoExposureNum 1,1", "0"),
        ("setAutoExposureNum 9,1", "-3"),
        ("setSwitchMode 1", "0"),
        ("setActiveChannel 3", "0"),
        ("setActiveChannel 9", "-3"),
        ("getFrequencyNum 9", "-10"),
        ("getWavelengthNum 0", "-10"),
        ("calibration 2,nonsense,1", "unknown command"),
        ("calibration 2,1e400,1", "-3"),
        ("calibration 2,0,1", "-3"),
        ("calibration 2,-.,1", "-3"),
        ("startDevice", "0"),
        ("frequency?", "unknown command"),
    ],
)
def test_grammar(line: str, reply: str) -> None:
    assert unserved().sim.answer(line) == reply


@pytest.mark.parametrize(
    ("unit", "value"),
    [(0, LIGHT_M_S / 400e12 * 1e9), (2, 400.0), (3, 400e12 / LIGHT_M_S / 100), (4, 1.654267)],
)
def test_calibration_units_mean_the_same_light(unit: int, value: float) -> None:
    bench = unserved()
    bench.sim.noise_hz, bench.sim.offset_hz = 0.0, 1e9
    assert bench.sim.answer(f"calibration {unit},{value!r},1") == "0"
    assert abs(bench.sim.offset_hz) < 50e6


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_no_bytes_upset_the_simulator(pieces: list[bytes]) -> None:
    sent: list[bytes] = []
    session = unserved().sim.session("main", sent.append)
    session.connected()
    assert sent == [b"200\r\n"]
    for piece in pieces:
        session.receive(piece)
    session.receive(b"\r\ngetVersion\r\n")
    assert sent[-1] == b"8,1234,5,6\r\n"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=24))
def test_no_answer_makes_a_wrong_reading(answer: str) -> None:
    """Whatever text comes back, a reading is a plausible frequency, or an error that names the device."""
    bench = unserved()
    clock = bench.clock
    room = InProcess({"wavemeter": bench.sim}, clock)
    transport = SimTransport(
        "sim://wavemeter", "wavemeter", 0.5, lambda address: room.connection(address.target), clock
    )
    meter = HighFinesseWavemeter(transport, "wavemeter")
    meter.open()
    bench.sim.answer = lambda line: answer
    try:
        value = meter.frequency_1.get()
    except DeviceError as error:
        assert "wavemeter at sim://wavemeter" in str(error)
    else:
        assert 10e12 <= value <= 2000e12 and value == float(answer) * 1e12
    meter.close()


def test_silence_then_a_late_answer_never_taken_for_the_next(bench: Bench) -> None:
    meter = bench.driver()
    bench.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError) as failure:
        meter.wavelength_1.get()
    assert f"wavemeter at tcp://127.0.0.1:{bench.port}: no answer to b'getWavelengthNum 1" in str(
        failure.value
    )
    bench.sim.faults.clear()
    assert meter.frequency_8.get() == pytest.approx(750e12, abs=5e6)
    assert meter.frequency_2.get() == pytest.approx(450e12, abs=5e6)


@pytest.mark.parametrize("kind", ["garble", "garbage"])
def test_broken_answers_are_refused_and_the_next_is_clean(bench: Bench, kind: str) -> None:
    meter = bench.driver()
    bench.sim.faults.switch(kind)
    for attempt in (meter.wavelength_1.get, meter.frequency_1.get, meter.temperature.get, meter.start):
        with pytest.raises(DeviceError, match="wavemeter at"):
            attempt()
    bench.sim.faults.clear()
    assert meter.frequency_1.get() == pytest.approx(400e12, abs=5e6)


def test_a_broken_connection_a_lost_reply_and_split_replies(bench: Bench) -> None:
    meter = bench.driver()
    bench.sim.faults.switch("disconnect")
    with pytest.raises(NotConnectedError, match="wavemeter at"):
        meter.frequency_1.get()
    assert meter.frequency_1.get() > 0
    bench.sim.faults.switch("refuse")
    with pytest.raises(NotConnectedError, match="wavemeter at"):
        while True:  # until the server has noticed
            meter.frequency_1.get()
    bench.sim.faults.clear()
    assert meter.frequency_1.get() > 0
    bench.sim.faults.switch("drop")
    with pytest.raises(NoAnswerError):
        meter.frequency_1.get()
    bench.sim.faults.switch("split", 0.02)
    assert meter.frequency_2.get() == pytest.approx(450e12, abs=5e6)


def test_a_line_nobody_asked_for_is_not_an_answer(bench: Bench) -> None:
    meter = bench.driver()
    meter.transport.write(
        b"getFrequencyNum 1\r\ngetTemperature\r\n"
    )  # as if somebody had asked once too often
    assert float(meter.transport.read_until(b"\r\n")) == pytest.approx(400, abs=1e-5)
    SystemClock().sleep(0.05)  # the line nobody reads is on its way
    assert meter.frequency_3.get() == pytest.approx(500e12, abs=5e6)


def test_several_clients_and_half_a_line(bench: Bench) -> None:
    with socket.create_connection(("127.0.0.1", bench.port), 2) as slow:
        slow.sendall(b"getVer")
        assert slow.recv(100) == b"200\r\n"
        meters = [bench.driver() for _ in range(3)]
        assert [meter.state_1.get() for meter in meters] == ["ok"] * 3
        slow.sendall(b"sion\r\n")
        assert slow.recv(100) == b"8,1234,5,6\r\n"


def test_another_server_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        meter = HighFinesseWavemeter(connect(f"tcp://127.0.0.1:{port}", "wavemeter", 0.2), "wavemeter")
        meter.timeout_s = 0.2
        meter.transport.after_open = None
        meter.transport.open()
        connection, _ = other.accept()
        with connection:
            connection.sendall(b"SSH-2.0-OpenSSH\r\n")
            with pytest.raises(BadAnswerError, match=r"greeted with 'SSH-2\.0-OpenSSH', expected '200'"):
                meter.greet()
        meter.close()
