"""The ion pump driver against the simulated controller, over telnet's port and a pseudo-terminal."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from drivers.agilent_ipcmini import AgilentIpcMini, encode_request
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
from simulated_hw.agilent_ipcmini import SimAgilentIpcMini
from simulated_hw.world.parts_vacuum import VacuumChamber


@dataclass
class Pump:
    """A served controller and how to reach it."""

    sim: SimAgilentIpcMini
    clock: VirtualClock
    addresses: dict[str, str]

    @property
    def chamber(self) -> VacuumChamber:
        return self.sim.chamber

    def driver(self, way: str = "tcp", **options: float) -> AgilentIpcMini:
        pump = AgilentIpcMini(connect(self.addresses[way], "pump", 0.2), "pump", **options)  # type: ignore[arg-type]
        pump.timeout_s = 0.2
        pump.open()
        return pump


@pytest.fixture
def pump() -> Iterator[Pump]:
    clock = VirtualClock()
    chamber = VacuumChamber(base_pressure_pa=2e-9, time_constant_s=10.0)
    sim = SimAgilentIpcMini(chamber, clock.now, np.random.default_rng(7))
    server = SimServer()
    port = server.serve_tcp(sim)
    addresses = {
        "tcp": f"tcp://127.0.0.1:{port}",
        "pty": f"serial://{server.serve_pty(sim)}",
        "url": f"serial://socket://127.0.0.1:{port}",
    }
    with server:
        yield Pump(sim, clock, addresses)


@pytest.mark.parametrize("command_digit", [True, False])
@pytest.mark.parametrize("way", ["tcp", "pty", "url"])
def test_read_everything(pump: Pump, way: str, command_digit: bool) -> None:
    pump.sim.command_digit = command_digit
    driver = pump.driver(way)
    assert driver.identity() == "IPCMini IT1725L003"
    assert driver.pressure.get() == pytest.approx(2e-9)
    assert driver.high_voltage.get() is True
    assert driver.voltage.get() == 5000
    assert driver.current.get() == pytest.approx(2e-10)
    assert driver.status.get() == "normal"
    assert driver.error.get() == ""
    assert driver.not_ready() == ""
    driver.close()


@pytest.mark.parametrize(("unit", "factor"), [(0, 101325 / 760), (1, 100.0), (2, 1.0)])
def test_pressure_is_in_pascal_whatever_the_front_panel_shows(pump: Pump, unit: int, factor: float) -> None:
    driver = pump.driver()
    pump.chamber.pressure_pa = 5e-6
    pump.sim.unit = unit  # somebody at the front panel, while we are connected
    shown = float(f"{5e-6 / factor:.1E}")
    assert driver.pressure.get() == pytest.approx(shown * factor, rel=1e-12)
    assert driver.pressure.get() == pytest.approx(5e-6, rel=0.05)
    driver.close()


def test_the_chamber_fills_without_the_pump_and_empties_with_it(pump: Pump) -> None:
    driver = pump.driver(limit_pa=1e-8)
    driver.high_voltage.set(False)
    assert driver.high_voltage.get() is False and not pump.chamber.pumping
    assert driver.status.get() == "stopped"
    assert driver.voltage.get() == 0
    with pytest.raises(RefusedError, match="no pressure reading; is the pump's high voltage off"):
        driver.pressure.get()
    assert "high voltage is off" in driver.not_ready()
    pump.clock.advance(200)
    driver.high_voltage.set(True)
    assert driver.pressure.get() == pytest.approx(2e-9 * (1 + 200 / 10), rel=0.05)
    assert driver.not_ready() == "vacuum interlock: pressure is 4.2e-08 Pa, above the limit of 1e-08 Pa"
    pump.clock.advance(100)
    assert driver.pressure.get() == pytest.approx(2e-9, rel=0.05)
    assert driver.not_ready() == ""
    driver.close()


def test_a_leak_closes_the_interlock(pump: Pump) -> None:
    driver = pump.driver()
    assert driver.not_ready() == ""
    pump.sim.own_faults()["leak"]()
    pump.clock.advance(100)
    assert driver.not_ready() == "vacuum interlock: pressure is 1e-06 Pa, above the limit of 1e-07 Pa"
    pump.sim.own_faults()["seal"]()
    pump.clock.advance(100)
    assert driver.not_ready() == ""
    driver.close()


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("short_circuit", "short circuit"),
        ("interlock_cable", "interlock cable"),
        ("over_temperature", "over temperature"),
    ],
)
def test_a_tripped_controller_says_why(pump: Pump, fault: str, text: str) -> None:
    driver = pump.driver()
    pump.sim.own_faults()[fault]()
    assert driver.error.get() == text
    assert driver.status.get() == "failed"
    assert driver.not_ready() == f"vacuum interlock: the pump controller reports {text}"
    driver.high_voltage.set(True)
    assert driver.error.get() == "" and driver.not_ready() == ""
    driver.close()


def test_a_pump_that_trips_at_once_is_not_taken_for_one_that_is_on(pump: Pump) -> None:
    driver = pump.driver()
    pump.chamber.pumping = False
    pump.chamber.pressure_pa = 1.0
    pump.sim.protect = 1
    with pytest.raises(
        RefusedError, match=r"pump at tcp.*high voltage did not go on; status failed, error protect"
    ):
        driver.high_voltage.set(True)
    assert not pump.chamber.pumping
    driver.close()


def test_several_errors_and_unknown_numbers(pump: Pump) -> None:
    driver = pump.driver()
    pump.sim.error = 4 + 128 + 256
    assert driver.error.get() == "over temperature, protect, error 256"
    pump.sim.unit = 7
    with pytest.raises(BadAnswerError, match=r"window 600 was answered with 7, expected 0 \(Torr\)"):
        driver.read_pressure()
    driver.close()


def test_safe_leaves_the_pump_on_and_says_nothing(pump: Pump) -> None:
    driver = pump.driver()
    pump.sim.faults.switch("silent")
    driver.safe()
    assert pump.chamber.pumping
    assert "stays as it is, normally ON" in AgilentIpcMini.actions["safe"]
    driver.close()


def test_limits_and_configuration(pump: Pump) -> None:
    driver = pump.driver()
    with pytest.raises(LimitError, match="read-only"):
        driver.pressure.set(1e-9)
    driver.close()
    with pytest.raises(ConfigError, match="limit_pa = 0"):
        pump.driver(limit_pa=0.0)


def test_refusals_say_what_and_where(pump: Pump) -> None:
    driver = pump.driver()
    pump.sim.mode = 2
    with pytest.raises(
        RefusedError, match=r"pump at tcp.*refused window 11 = 0: .*disabled in the present mode"
    ):
        driver.high_voltage.set(False)
    with pytest.raises(RefusedError, match="refused window 999: it has no such window"):
        driver.read_text(999)
    assert driver.status.get() == "normal"
    driver.close()


def test_another_address_is_no_answer(pump: Pump) -> None:
    with pytest.raises(NoAnswerError, match="pump at tcp://"):
        pump.driver(device_address=9)
    pump.sim.address = 9
    driver = pump.driver(device_address=9)
    assert driver.status.get() == "normal"
    driver.close()


def test_half_a_frame_garbage_and_a_client_that_leaves(pump: Pump) -> None:
    host, port = "127.0.0.1", int(pump.addresses["tcp"].rpartition(":")[2])
    frame = encode_request(0, 205, b"0")
    with socket.create_connection((host, port), 2) as leaver:
        leaver.sendall(frame[:4])
    with socket.create_connection((host, port), 2) as client:
        client.settimeout(2)
        client.sendall(b"\xff\xfd\x01junk\x03\x02\x80205\x02\x80wrong\x0300" + frame[:3])
        driver = pump.driver()
        assert driver.status.get() == "normal"
        driver.close()
        client.sendall(frame[3:])
        answer = b""
        while len(answer) < 15:
            answer += client.recv(100)
        assert answer.startswith(b"\x02\x802050000005\x03")


def test_a_telnet_greeting_is_no_answer(pump: Pump, monkeypatch: pytest.MonkeyPatch) -> None:
    """Telnet servers may negotiate options on connecting: 0xFF, a verb, an option."""
    session = pump.sim.session

    def greeting(port: str, send):  # type: ignore[no-untyped-def]
        made = session(port, send)
        monkeypatch.setattr(made, "connected", lambda: send(b"\xff\xfb\x03\xff\xfb\x01"))
        return made

    monkeypatch.setattr(pump.sim, "session", greeting)
    driver = pump.driver()
    assert driver.status.get() == "normal"
    driver.close()


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_silence_names_device_and_address(pump: Pump, way: str) -> None:
    driver = pump.driver(way)
    pump.sim.faults.switch("silent")
    with pytest.raises(NoAnswerError) as failure:
        driver.pressure.get()
    assert "pump at" in str(failure.value) and pump.addresses[way].partition("?")[0] in str(failure.value)
    pump.sim.faults.clear()
    assert driver.status.get() == "normal"
    driver.close()


@pytest.mark.parametrize("way", ["tcp", "pty"])
@pytest.mark.parametrize("kind", ["garble", "garbage"])
def test_broken_answers_are_refused_and_the_next_is_clean(pump: Pump, way: str, kind: str) -> None:
    driver = pump.driver(way)
    pump.sim.faults.switch(kind)
    with pytest.raises((BadAnswerError, NoAnswerError), match="pump at"):
        driver.high_voltage.get()
    pump.sim.faults.clear()
    assert driver.status.get() == "normal"
    driver.close()


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_a_late_answer_is_never_taken_for_the_next(pump: Pump, way: str) -> None:
    driver = pump.driver(way)
    pump.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError):
        driver.high_voltage.get()
    pump.sim.faults.clear()
    pump.chamber.pumping = False
    assert driver.high_voltage.get() is False
    pump.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError):
        driver.write_window(11, b"1")
    pump.sim.faults.clear()
    pump.sim.mode = 2
    with pytest.raises(RefusedError):  # not the late acknowledgement
        driver.write_window(11, b"0")
    driver.close()


def test_a_broken_connection_comes_back(pump: Pump) -> None:
    driver = pump.driver()
    pump.sim.faults.switch("disconnect")
    with pytest.raises(NotConnectedError, match="pump at"):
        driver.status.get()
    assert driver.status.get() == "normal"
    pump.sim.faults.switch("split", 0.01)
    assert driver.pressure.get() == pytest.approx(2e-9)
    driver.close()


def test_a_lost_answer_is_noticed(pump: Pump) -> None:
    driver = pump.driver()
    pump.sim.faults.switch("drop")
    with pytest.raises(NoAnswerError):
        driver.status.get()
    assert driver.status.get() == "normal"
    driver.close()


def test_the_same_bytes_in_process() -> None:
    clock = VirtualClock()
    sim = SimAgilentIpcMini(VacuumChamber(), clock.now, np.random.default_rng(3))
    bench = Bench({"pump": sim}, clock)
    driver = AgilentIpcMini(
        SimTransport("sim://pump", "pump", 1.0, lambda address: bench.connection(address.target), clock)
    )
    driver.open()
    driver.high_voltage.set(False)
    clock.sleep(3600)
    driver.high_voltage.set(True)
    assert "above the limit" in driver.not_ready()
    clock.sleep(600)
    assert driver.not_ready() == ""
    driver.close()
