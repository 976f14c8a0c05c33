"""The MDT693B driver against the simulated controller, both firmwares, over a pseudo-terminal and TCP."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from drivers.thorlabs_mdt693b import ThorlabsMdt693b
from labctl.clock import VirtualClock
from labctl.errors import (
    BadAnswerError,
    DeviceError,
    LimitError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
)
from labctl.sim.inprocess import Bench
from labctl.sim.server import SimServer
from labctl.transport import SimTransport, connect
from simulated_hw.thorlabs_mdt693b import SimThorlabsMdt693b
from simulated_hw.world.parts_piezo import Piezo

BOTH = pytest.mark.parametrize("firmware", ["1.06", "1.09"])
WAYS = pytest.mark.parametrize("way", ["pty", "tcp"])


@dataclass
class Controller:
    """A served controller, how to reach it, and what to close at the end."""

    sim: SimThorlabsMdt693b
    clock: VirtualClock
    addresses: dict[str, str]
    opened: list[ThorlabsMdt693b] = field(default_factory=list[ThorlabsMdt693b])

    def setpoints(self) -> list[float]:
        return [piezo.setpoint_v for piezo in self.sim.piezos.values()]

    def driver(self, way: str = "pty") -> ThorlabsMdt693b:
        mdt = ThorlabsMdt693b(connect(self.addresses[way], "cavity", 0.2), "cavity")
        mdt.timeout_s, mdt.quiet_s = 0.15, 0.03
        self.opened.append(mdt)
        mdt.open()
        return mdt


Serve = Callable[..., Controller]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[SimServer] = []
    controllers: list[Controller] = []

    def make(firmware: str = "1.09", axes: int = 3, echo: bool = True, limit_v: int = 150) -> Controller:
        clock = VirtualClock()
        sim = SimThorlabsMdt693b(
            [Piezo() for _ in range(axes)],
            clock.now,
            np.random.default_rng(7),
            firmware=firmware,
            limit_v=limit_v,
            echo=echo,
        )
        server = SimServer()
        port = server.serve_tcp(sim)
        addresses = {
            "pty": f"serial://{server.serve_pty(sim)}",
            "tcp": f"tcp://127.0.0.1:{port}",
            "url": f"serial://socket://127.0.0.1:{port}",
        }
        servers.append(server.start())
        controllers.append(Controller(sim, clock, addresses))
        return controllers[-1]

    yield make
    for controller in controllers:
        for opened in controller.opened:
            opened.close()
    for server in servers:
        server.close()


@BOTH
@pytest.mark.parametrize("way", ["pty", "tcp", "url"])
@pytest.mark.parametrize("echo", [True, False])
def test_set_and_read_back(serve: Serve, firmware: str, way: str, echo: bool) -> None:
    controller = serve(firmware, echo=echo, limit_v=100)
    mdt = controller.driver(way)
    assert f"Model MDT693B Piezo Control Module, Firmware Version: {firmware}" in mdt.identity()
    assert mdt.identity().endswith("Serial#:140421-07")
    assert mdt.voltage_limit.get() == 100.0
    for axis, volts in zip("xyz", (12.345, 99.0, 0.0), strict=True):
        mdt.signal(f"voltage_{axis}").set(volts)
    assert controller.setpoints() == [12.345, 99.0, 0.0]
    controller.clock.advance(1.0)
    for axis, volts in zip("xyz", (12.345, 99.0, 0.0), strict=True):
        off = controller.sim.monitor_offsets_v[axis]
        assert mdt.signal(f"voltage_{axis}").get() == pytest.approx(volts + off, abs=0.06)
    assert mdt.not_ready() == ""


@BOTH
def test_safe_takes_the_voltage_off(serve: Serve, firmware: str) -> None:
    controller = serve(firmware)
    mdt = controller.driver()
    for axis in "xyz":
        mdt.signal(f"voltage_{axis}").set(50.0)
    mdt.safe()
    assert controller.setpoints() == [0.0, 0.0, 0.0]


@BOTH
@WAYS
def test_safe_gets_through_lost_replies_and_a_switched_off_echo(
    serve: Serve, firmware: str, way: str
) -> None:
    controller = serve(firmware)
    mdt = controller.driver(way)
    for axis in "xyz":
        mdt.signal(f"voltage_{axis}").set(50.0)
    controller.sim.echo = False
    mdt.safe()
    assert controller.setpoints() == [0.0, 0.0, 0.0] and controller.sim.echo
    mdt.voltage_z.set(50.0)
    controller.sim.faults.switch("drop")
    mdt.safe()
    assert controller.setpoints() == [0.0, 0.0, 0.0]
    mdt.voltage_z.set(50.0)
    controller.sim.faults.switch("silent")
    with pytest.raises(NoAnswerError):
        mdt.safe()
    assert controller.setpoints() == [0.0, 0.0, 0.0]  # it was told all the same


@BOTH
def test_one_axis_that_fails_does_not_keep_the_others_up(
    serve: Serve, firmware: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = serve(firmware)
    mdt = controller.driver()
    for axis in "xyz":
        mdt.signal(f"voltage_{axis}").set(50.0)
    answer = controller.sim.answer

    def stuck_x(line: str) -> str:
        return answer("nonsense" if line.startswith("x") else line).replace("nonsense", line)

    monkeypatch.setattr(controller.sim, "answer", stuck_x)
    with pytest.raises(RefusedError, match=r"cavity at serial://.*refused 'xvoltage=0.000'"):
        mdt.safe()
    assert controller.setpoints() == [50.0, 0.0, 0.0]


@pytest.mark.parametrize("limit_v", [75, 100, 150])
def test_the_limit_is_the_switch_at_the_back(serve: Serve, limit_v: int) -> None:
    controller = serve(limit_v=limit_v)
    mdt = controller.driver()
    assert mdt.voltage_x.limits == (0.0, limit_v)
    for wrong in (limit_v + 0.01, -0.01, float("nan")):
        with pytest.raises(LimitError):
            mdt.voltage_x.set(wrong)
    assert controller.setpoints() == [0.0, 0.0, 0.0]


@BOTH
def test_refusals(serve: Serve, firmware: str) -> None:
    controller = serve(firmware)
    mdt = controller.driver()
    controller.sim.limit_v = 75  # somebody turned the switch
    with pytest.raises(RefusedError, match=r"cavity at serial://.*refused 'yvoltage=100.000'"):
        mdt.voltage_y.set(100.0)
    with pytest.raises(RefusedError, match=r"refused 'volts\?'"):
        mdt.query_number("volts")
    assert mdt.voltage_limit.get() == 75.0


@BOTH
def test_the_controller_with_one_axis(serve: Serve, firmware: str) -> None:
    controller = serve(firmware, axes=1)
    mdt = controller.driver()
    mdt.voltage_x.set(20.0)
    with pytest.raises(LimitError, match="no axis y; it has x"):
        mdt.voltage_y.set(20.0)
    mdt.safe()
    assert controller.setpoints() == [0.0]


def test_firmware_between_the_two_is_told_by_its_prompt(serve: Serve) -> None:
    controller = serve("1.06")
    controller.sim.firmware = "1.07"
    assert controller.driver().voltage_limit.get() == 150.0
    controller.sim.with_prompt = True
    mdt = controller.driver("tcp")
    mdt.voltage_x.set(10.0)
    assert mdt.voltage_limit.get() == 150.0


def test_another_instrument(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    controller = serve()

    def other(line: str) -> str:
        return f"{line}\rTHORLABS TC300B HV 1.0 FV 1.0\r> "

    monkeypatch.setattr(controller.sim, "answer", other)
    with pytest.raises(BadAnswerError, match=r"cavity at .*TC300B.*expected an MDT693B"):
        controller.driver()


@BOTH
@WAYS
def test_silence_names_device_and_address(serve: Serve, firmware: str, way: str) -> None:
    controller = serve(firmware)
    mdt = controller.driver(way)
    mdt.timeout_s = 0.1
    controller.sim.faults.switch("silent")
    for failing in (mdt.voltage_x.get, lambda: mdt.voltage_x.set(1.0), mdt.safe):
        with pytest.raises(NoAnswerError) as failure:
            failing()
        assert f"cavity at {controller.addresses[way]}" in str(failure.value)
    controller.sim.faults.clear()
    assert mdt.voltage_limit.get() == 150.0


@BOTH
@WAYS
@pytest.mark.parametrize("kind", ["garble", "garbage"])
def test_broken_answers_are_refused_and_the_next_is_clean(
    serve: Serve, firmware: str, way: str, kind: str
) -> None:
    controller = serve(firmware)
    mdt = controller.driver(way)
    controller.sim.faults.switch(kind)
    with pytest.raises(DeviceError, match=r"cavity at .*vlimit"):
        mdt.voltage_limit.get()
    controller.sim.faults.clear()
    assert mdt.voltage_limit.get() == 150.0


@BOTH
def test_an_answer_that_is_no_number(serve: Serve, firmware: str, monkeypatch: pytest.MonkeyPatch) -> None:
    controller = serve(firmware)
    mdt = controller.driver()
    answer = controller.sim.answer

    def words(line: str) -> str:
        return answer(line).replace("[", "[about ")

    monkeypatch.setattr(controller.sim, "answer", words)
    with pytest.raises(BadAnswerError, match=r"'vlimit\?' was answered with '\[about  150\]'"):
        mdt.voltage_limit.get()
    monkeypatch.undo()
    assert mdt.voltage_limit.get() == 150.0


@BOTH
@WAYS
def test_a_late_answer_is_never_taken_for_the_next(serve: Serve, firmware: str, way: str) -> None:
    controller = serve(firmware)
    mdt = controller.driver(way)
    mdt.voltage_y.set(70.0)
    controller.clock.advance(1.0)
    mdt.timeout_s = 0.1
    controller.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError):
        mdt.voltage_limit.get()
    controller.sim.faults.clear()
    mdt.timeout_s = 2.0
    assert mdt.voltage_y.get() == pytest.approx(70.0, abs=1.5)
    assert mdt.voltage_x.get() == pytest.approx(0.0, abs=1.5)
    assert mdt.voltage_limit.get() == 150.0


@BOTH
def test_answers_left_on_the_line_are_passed_over(
    serve: Serve, firmware: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = serve(firmware)
    mdt = controller.driver()
    answer = controller.sim.answer
    stale = answer("vlimit?") + answer("volts?")

    def after_stale_ones(line: str) -> str:
        return stale + answer(line)

    monkeypatch.setattr(controller.sim, "answer", after_stale_ones)
    assert mdt.voltage_x.get() == pytest.approx(0.0, abs=1.5)
    mdt.voltage_x.set(30.0)
    assert controller.setpoints()[0] == 30.0


@BOTH
def test_a_broken_connection_comes_back(serve: Serve, firmware: str) -> None:
    controller = serve(firmware)
    mdt = controller.driver("tcp")
    controller.sim.faults.switch("disconnect")
    with pytest.raises(NotConnectedError, match="cavity at"):
        mdt.voltage_x.get()
    assert mdt.voltage_x.get() == pytest.approx(0.0, abs=1.5)
    controller.sim.faults.switch("split", 0.02)
    assert mdt.voltage_limit.get() == 150.0


def test_half_a_line_of_somebody_who_left(serve: Serve) -> None:
    controller = serve()
    with socket.socket() as leaver:
        leaver.connect(("127.0.0.1", int(controller.addresses["tcp"].rpartition(":")[2])))
        leaver.sendall(b"xvolt")
    first = controller.driver()
    first.transport.write(b"yvolt")  # its line has not ended
    first.close()
    mdt = controller.driver()
    mdt.voltage_x.set(15.0)
    assert controller.setpoints() == [15.0, 0.0, 0.0]


@BOTH
def test_the_same_bytes_in_process(firmware: str) -> None:
    clock = VirtualClock()
    sim = SimThorlabsMdt693b(
        [Piezo() for _ in range(3)], clock.now, np.random.default_rng(3), firmware=firmware
    )
    bench = Bench({"cavity": sim}, clock)
    mdt = ThorlabsMdt693b(
        SimTransport("sim://cavity", "cavity", 1.0, lambda address: bench.connection(address.target), clock),
        "cavity",
    )
    mdt.open()
    mdt.voltage_z.set(60.0)
    clock.sleep(1)
    assert mdt.voltage_z.get() == pytest.approx(60.0, abs=1.5)
    sim.faults.switch("silent")
    with pytest.raises(NoAnswerError):
        mdt.voltage_z.get()
    mdt.close()
