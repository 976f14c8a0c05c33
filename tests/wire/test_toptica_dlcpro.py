"""The DLC pro driver against the simulated DLC pro, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from drivers.toptica_dlcpro import LOCK_STATES, DlcPro
from labctl.clock import SystemClock, VirtualClock
from labctl.errors import (
    BadAnswerError,
    ConfigError,
    LimitError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
)
from labctl.sim.inprocess import Bench
from labctl.sim.instrument import Send, Session
from labctl.sim.server import SimServer
from labctl.transport import SimTransport, connect
from simulated_hw.toptica_dlcpro import SimDlcPro
from simulated_hw.world.parts import Laser


def make_laser(seed: int = 1) -> Laser:
    laser = Laser(
        np.random.default_rng(seed),
        wavelength_m=397e-9,
        power_w=20e-3,
        nominal_current_a=0.12,
        threshold_current_a=0.04,
        largest_current_a=0.16,
        drift_hz_per_sqrt_s=0.0,
    )
    laser.emission = True
    return laser


class Recording(SimDlcPro):
    """Keeps the bytes that come and go on the command line."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.received: list[bytes] = []
        self.sent: list[bytes] = []
        self.before = self.after = b""
        """Bytes sent once, around the next answer."""

    def session(self, port: str, send: Send) -> Session:
        def record(data: bytes) -> None:
            self.sent.append(data)
            before, after, self.before, self.after = self.before, self.after, b"", b""
            send(before + data + after)

        session = super().session(port, record)
        receive = session.receive

        def listen(data: bytes) -> None:
            self.received.append(data)
            receive(data)

        session.receive = listen  # type: ignore[method-assign]
        return session


@dataclass
class Setup:
    sim: Recording
    lasers: list[Laser]
    clock: VirtualClock
    server: SimServer
    address: str

    def driver(self, name: str = "laser_397", laser: int = 1, timeout_s: float = 1.0) -> DlcPro:
        device = DlcPro(connect(self.address, name, timeout_s), name, laser)
        device.timeout_s = timeout_s
        return device


@pytest.fixture
def setup() -> Iterator[Setup]:
    clock = VirtualClock(100.0)
    lasers = [make_laser(1), make_laser(2)]
    sim = Recording(lasers, clock.now)
    server = SimServer(clock=clock)
    command = server.serve_tcp(sim, "command")
    monitor = server.serve_tcp(sim, "monitor")
    with server:
        yield Setup(sim, lasers, clock, server, f"tcp://127.0.0.1:{command}?monitor={monitor}")


@pytest.fixture
def laser(setup: Setup) -> Iterator[DlcPro]:
    device = setup.driver()
    with device:
        yield device


def test_reads_every_signal(laser: DlcPro) -> None:
    values = {name: laser.signal(name).get() for name in type(laser).signals}
    assert values == {
        "current": 0.12,
        "current_setpoint": 0.12,
        "feedforward": True,
        "temperature": 294.15,
        "piezo_voltage": 70.0,
        "piezo_output": 70.0,
        "emission": True,
        "enabled": True,
        "locked": False,
        "lock": False,
        "lock_state": "idle",
        "scan_enabled": False,
        "scan_amplitude": 10.0,
        "scan_offset": 70.0,
        "scan_frequency": 10.0,
        "wavelength": 397e-9,
        "laser_type": "DL pro",
        "product_name": "DL pro",
        "serial_number": "DL pro_000001",
        "controller_serial_number": "DLC PRO_000001",
        "health": "Ok",
    }


def test_writes_every_signal(setup: Setup, laser: DlcPro) -> None:
    for name, value in {
        "current": 0.1215,
        "feedforward": False,
        "piezo_voltage": 71.25,
        "scan_amplitude": 4.0,
        "scan_offset": 60.0,
        "scan_frequency": 20.0,
        "scan_enabled": True,
        "enabled": False,
    }.items():
        laser.signal(name).set(value)
        read = "current_setpoint" if name == "current" else name
        assert laser.signal(read).get() == value, name
    assert setup.lasers[0].current_a == pytest.approx(0.1215)
    assert not setup.lasers[0].emission
    laser.temperature.set(295.15)
    assert not laser.temperature.settled()
    setup.clock.advance(60)
    assert laser.temperature.settled()


def test_bytes_on_the_wire(setup: Setup, laser: DlcPro) -> None:
    assert setup.sim.sent[0].endswith(b"DeCoF Command Line\r\n> ")
    setup.sim.received.clear()
    setup.sim.sent.clear()
    laser.current.set(0.1215)
    assert laser.current.get() == 0.1215
    laser.enabled.set(True)
    assert setup.sim.received == [
        b"(param-set! 'laser1:dl:cc:current-set 121.5)\n",
        b"(param-ref 'laser1:dl:cc:current-act)\n",
        b"(param-set! 'laser1:dl:cc:enabled #t)\n",
    ]
    assert setup.sim.sent == [b"0\n> ", b"121.5\n> ", b"0\n> "]


def test_limits_come_from_the_instrument_and_stop_before_the_wire(setup: Setup, laser: DlcPro) -> None:
    assert laser.current.limits == (0.0, 0.16)
    assert laser.piezo_voltage.limits == (-1.0, 140.0)
    assert laser.temperature.limits == (278.15, 323.15)
    setup.sim.received.clear()
    for signal, value in (
        (laser.current, 0.2),
        (laser.current, float("nan")),
        (laser.piezo_voltage, -2.0),
        (laser.temperature, 400.0),
    ):
        with pytest.raises(LimitError, match="laser_397"):
            signal.set(value)
    with pytest.raises(LimitError, match="read-only"):
        laser.emission.set(True)
    assert setup.sim.received == []


def test_refused_by_the_instrument_says_why(laser: DlcPro) -> None:
    with pytest.raises(RefusedError, match=r"laser_397 at tcp://.*scan:frequency.*-6 \(value not allowed\)"):
        laser.scan_frequency.set(1e6)
    with pytest.raises(RefusedError, match="Error: -4"):
        laser.parameter("laser1:no-such-thing")
    with pytest.raises(LimitError, match="not a parameter name"):
        laser.parameter("serial-number) (exec 'laser1:dl:lock:close")
    assert laser.parameter("fw-ver") == "3.3.3"


def test_head_that_is_not_there(setup: Setup) -> None:
    device = setup.driver(laser=3)
    with pytest.raises(RefusedError, match="has no laser 3"):
        device.open()
    assert not device.transport.is_open


def test_something_else_at_the_port(setup: Setup) -> None:
    """The monitoring port says nothing: the error names it."""
    monitor = setup.address.rpartition("=")[2]
    device = DlcPro(connect(f"tcp://127.0.0.1:{monitor}", "laser_397", 0.2), "laser_397")
    device.timeout_s = 0.2
    with pytest.raises(NoAnswerError, match=r"laser_397 at .*after connecting"):
        device.open()
    assert not device.transport.is_open


def test_locks_relocks_and_says_when_not_ready(setup: Setup, laser: DlcPro) -> None:
    assert laser.not_ready() == ""
    laser.lock.set(True)
    assert laser.lock_state.get() == "locking"
    assert laser.not_ready() == "lock state is locking (4), not locked (5)"
    setup.clock.advance(1.0)
    assert laser.locked.get()
    assert laser.not_ready() == ""
    laser.unlock()
    assert laser.lock_state.get() == "idle"
    assert not setup.lasers[0].lock_enabled
    laser.relock()
    setup.clock.advance(1.0)
    assert laser.locked.get()


def test_unlock_fault_is_seen(setup: Setup, laser: DlcPro) -> None:
    laser.lock.set(True)
    setup.clock.advance(1.0)
    assert laser.locked.get()
    setup.sim.unlock()
    assert not laser.locked.get()
    assert laser.not_ready() == "lock state is idle (0), not locked (5)"
    assert abs(setup.lasers[0].detuning_hz()) > 1e6


def test_mode_hop_searches_until_tuned_back(setup: Setup, laser: DlcPro) -> None:
    laser.lock.set(True)
    setup.clock.advance(1.0)
    assert laser.locked.get()
    setup.sim.mode_hop()
    setup.clock.advance(5.0)
    assert laser.lock_state.get() == "relocking"
    hop_v = setup.lasers[0].free_running_offset_hz() / setup.lasers[0].piezo_tuning_hz_per_v
    laser.piezo_voltage.set(70.0 - hop_v)
    setup.clock.advance(1.0)
    laser.locked.get()
    setup.clock.advance(1.0)
    assert laser.locked.get()


def test_lock_of_a_dark_laser_is_refused(setup: Setup, laser: DlcPro) -> None:
    """Enabling does not engage it, so the driver sends lock:close, which says why not."""
    laser.enabled.set(False)
    setup.sim.received.clear()
    with pytest.raises(RefusedError, match="lockpoint not found"):
        laser.lock.set(True)
    assert setup.sim.received[-1] == b"(exec 'laser1:dl:lock:close)\n"


def test_emission_off_gives_all_reasons(setup: Setup, laser: DlcPro) -> None:
    setup.sim.interlock_open = True
    setup.sim.key_locked = True
    assert not laser.emission.get()
    assert laser.not_ready() == "emission off: interlock open, key turned off"
    setup.sim.interlock_open = setup.sim.key_locked = False
    laser.enabled.set(False)
    assert laser.not_ready() == "emission off: current driver off"


def test_safe_is_dark_and_open(setup: Setup, laser: DlcPro) -> None:
    laser.lock.set(True)
    setup.clock.advance(1.0)
    assert laser.locked.get()
    laser.safe()
    assert not setup.lasers[0].emission
    assert setup.lasers[0].power_w() == 0
    assert not setup.lasers[0].lock_enabled
    assert setup.lasers[1].emission, "the other head is none of this device's business"


def test_safe_opens_the_lock_even_if_the_current_driver_refuses(setup: Setup, laser: DlcPro) -> None:
    from simulated_hw.decop import Parameter

    laser.lock.set(True)
    assert isinstance(setup.sim.system.parameters, dict)
    setup.sim.system.parameters["laser1:dl:cc:enabled"] = Parameter(bool, lambda: True)
    with pytest.raises(RefusedError, match=r"cc:enabled to #f: status -3 \(access denied"):
        laser.safe()
    assert not setup.lasers[0].lock_enabled


def test_feedforward_takes_the_current_along(setup: Setup, laser: DlcPro) -> None:
    laser.line.set("laser1:dl:cc:feedforward-factor", -0.25)
    laser.piezo_voltage.set(74.0)
    assert laser.current_setpoint.get() == pytest.approx(0.119)
    laser.feedforward.set(False)
    laser.piezo_voltage.set(70.0)
    assert laser.current_setpoint.get() == pytest.approx(0.119)


def test_scan_moves_the_laser_and_comes_back(setup: Setup, laser: DlcPro) -> None:
    laser.scan_enabled.set(True)
    seen: list[float] = []
    for _ in range(20):
        setup.clock.advance(0.013)
        seen.append(laser.piezo_output.get())
    assert laser.lock_state.get() == "scanning"
    assert 65.0 <= min(seen) < 68.0
    assert 72.0 < max(seen) <= 75.0
    laser.scan_enabled.set(False)
    assert laser.piezo_voltage.get() == 70.0


def test_scan_of_another_output_is_not_volts(laser: DlcPro) -> None:
    laser.line.set("laser1:scan:output-channel", 51)
    with pytest.raises(LimitError, match="not the piezo"):
        laser.scan_amplitude.get()
    with pytest.raises(LimitError, match="not the piezo"):
        laser.scan_amplitude.set(1.0)


def test_two_clients_share_the_instrument(setup: Setup, laser: DlcPro) -> None:
    with setup.driver("laser_866", laser=2) as other, setup.driver("again") as again:
        laser.current.set(0.11)
        other.current.set(0.09)
        assert again.current_setpoint.get() == 0.11
        assert other.current_setpoint.get() == 0.09


def test_identity(laser: DlcPro) -> None:
    assert laser.identity() == "DLC pro DLC PRO_000001, firmware 3.3.3, laser 1: DL pro DL pro_000001"


def test_half_a_line_and_rubbish_from_another_client(setup: Setup, laser: DlcPro) -> None:
    port = laser.transport.address.port
    with socket.create_connection(("127.0.0.1", port)) as rude:
        for junk in (b"(param-ref 'laser1:", b"\x00\xff\xfe", b"(" * 1000 + b"\n", b")\n", b"\n", b"`\n"):
            rude.sendall(junk)
        assert laser.current.get() == 0.12
    assert laser.current.get() == 0.12


def test_reply_in_two_parts(setup: Setup, laser: DlcPro) -> None:
    setup.sim.faults.switch("split", 0.03)
    assert [laser.current.get() for _ in range(5)] == [0.12] * 5


@pytest.mark.parametrize("fault", ["garbage", "garble"])
def test_spoilt_answer_then_a_good_one(setup: Setup, fault: str) -> None:
    with setup.driver(timeout_s=0.2) as laser:
        setup.sim.faults.switch(fault)
        with pytest.raises((BadAnswerError, NoAnswerError, RefusedError), match="laser_397 at tcp://127"):
            laser.current.get()
        setup.sim.faults.clear()
        assert laser.current.get() == 0.12


def test_an_answer_too_many_is_never_taken_for_the_next(setup: Setup, laser: DlcPro) -> None:
    setup.sim.after = b"99.0\n> "
    assert laser.current.get() == 0.12
    assert laser.piezo_voltage.get() == 70.0
    setup.sim.before = b"?\n> "
    with pytest.raises(BadAnswerError, match=r"current-act.*answered with '\?'"):
        laser.current.get()
    assert laser.piezo_voltage.get() == 70.0
    setup.sim.before = b'"what"\n> '
    with pytest.raises(BadAnswerError, match="expected a float"):
        laser.current.get()
    assert laser.piezo_voltage.get() == 70.0
    setup.sim.before = b"#t\n> "
    with pytest.raises(BadAnswerError, match="expected a status number"):
        laser.current.set(0.1)
    assert laser.piezo_voltage.get() == 70.0


def test_silent_instrument(setup: Setup) -> None:
    with setup.driver(timeout_s=0.2) as laser:
        setup.sim.faults.switch("drop")
        with pytest.raises(NoAnswerError, match=r"laser_397 at tcp://127.0.0.1:\d+.*current-act"):
            laser.current.get()
        assert laser.piezo_voltage.get() == 70.0


def test_late_answer_is_never_taken_for_another(setup: Setup) -> None:
    with setup.driver(timeout_s=0.2) as laser:
        setup.sim.faults.switch("late", 0.3)
        with pytest.raises(NoAnswerError):
            laser.current.get()
        setup.sim.faults.clear()
        for _ in range(30):
            assert laser.piezo_voltage.get() == 70.0
            SystemClock().sleep(0.01)


def test_disconnect_then_recovers(setup: Setup, laser: DlcPro) -> None:
    setup.sim.faults.switch("disconnect")
    with pytest.raises(NotConnectedError, match="laser_397 at tcp://127"):
        laser.current.get()
    assert laser.current.get() == 0.12


def test_switched_off_and_on_again(setup: Setup, laser: DlcPro) -> None:
    setup.sim.faults.switch("refuse")
    for _ in range(3):
        with pytest.raises(NotConnectedError, match="laser_397 at tcp://127"):
            for _ in range(100):
                laser.current.get()
                SystemClock().sleep(0.01)
    setup.sim.faults.clear()
    assert laser.current.get() == 0.12


def test_nobody_there() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    device = DlcPro(connect(f"tcp://127.0.0.1:{port}", "laser_397", 0.5), "laser_397")
    with pytest.raises(NotConnectedError, match=r"laser_397 at tcp://127.*cannot connect"):
        device.open()


def test_echo_is_taken_off(setup: Setup, laser: DlcPro) -> None:
    laser.line.set("echo", True)
    assert laser.current.get() == 0.12
    laser.current.set(0.11)
    assert laser.current_setpoint.get() == 0.11


def test_warning_status_is_logged_not_raised(
    setup: Setup, laser: DlcPro, caplog: pytest.LogCaptureFixture
) -> None:
    from simulated_hw.decop import Parameter

    assert isinstance(setup.sim.system.parameters, dict)
    setup.sim.system.parameters["odd"] = Parameter(int, lambda: 99, lambda value: 3)
    laser.line.set("odd", 1)
    assert "warning 3" in caplog.text
    setup.sim.system.parameters["laser1:dl:lock:state"] = setup.sim.system.parameters["odd"]
    with pytest.raises(BadAnswerError, match="lock state 99"):
        laser.lock_state.get()


def test_nan_from_the_instrument_is_never_a_value(setup: Setup, laser: DlcPro) -> None:
    from simulated_hw.decop import Parameter

    assert isinstance(setup.sim.system.parameters, dict)
    setup.sim.system.parameters["laser1:dl:cc:current-act"] = Parameter(float, lambda: float("nan"))
    with pytest.raises(BadAnswerError, match="nan"):
        laser.current.get()


def test_over_a_serial_line(setup: Setup) -> None:
    server = SimServer(clock=setup.clock)
    path = server.serve_pty(setup.sim, "command")
    with server:
        device = DlcPro(connect(f"serial://{path}?baudrate=115200", "laser_397"), "laser_397")
        device.timeout_s = 0.3
        with device:
            device.current.set(0.1)
            assert device.current_setpoint.get() == 0.1
            with pytest.raises(ConfigError, match="TCP only"):
                device.monitor()
            setup.sim.faults.switch("late", 0.5)
            with pytest.raises(NoAnswerError):
                device.current.get()
            setup.sim.faults.clear()
            for _ in range(10):
                assert device.piezo_voltage.get() == 70.0
        with device:  # once more, with what the last one left behind
            assert device.piezo_voltage.get() == 70.0


def test_in_process_in_virtual_time() -> None:
    clock = VirtualClock()
    sim = SimDlcPro(make_laser(), clock.now, np.random.default_rng(7), epoch_s=1.8e9)
    bench = Bench({"laser_397": sim}, clock)
    transport = SimTransport(
        "sim://laser_397",
        "laser_397",
        1.0,
        lambda address: bench.connection(address.target, address.options.get("port", "")),
        clock,
    )
    with DlcPro(transport, "laser_397") as laser:
        laser.lock.set(True)
        clock.advance(2.0)
        assert laser.locked.get()
        with laser.monitor() as monitor:
            monitor.subscribe("laser1:dl:lock:state", 0.1)
            assert monitor.next(1.0).value == LOCK_STATES.index("locked")
            sim.unlock()
            assert monitor.next(1.0).value == 0
        sim.faults.switch("silent")
        before = clock.now()
        with pytest.raises(NoAnswerError):
            laser.current.get()
        assert clock.now() - before == pytest.approx(laser.timeout_s)
