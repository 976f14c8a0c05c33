"""The MPC320 driver against the simulated controller, over a pseudo-terminal and TCP."""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from drivers.thorlabs_mpc320 import COUNT_RAD, REQ_STATUS, ThorlabsMpc320
from labctl.clock import VirtualClock
from labctl.errors import BadAnswerError, LimitError, NoAnswerError, NotConnectedError, RefusedError
from labctl.sim.inprocess import Bench
from labctl.sim.server import SimServer
from labctl.transport import SimTransport, connect
from simulated_hw.thorlabs_mpc320 import AptSession, SimThorlabsMpc320, long_message, short_message
from simulated_hw.world.parts_polarisation import PolarisationPaddles

DEGREE = math.radians(1)


@dataclass
class Controller:
    """A served controller, how to reach it, and what to close at the end."""

    sim: SimThorlabsMpc320
    clock: VirtualClock
    addresses: dict[str, str]
    opened: list[ThorlabsMpc320] = field(default_factory=list[ThorlabsMpc320])

    @property
    def degrees(self) -> list[float]:
        self.sim.advance()
        return [angle / DEGREE for angle in self.sim.paddles.angles_rad]

    def driver(self, way: str = "pty") -> ThorlabsMpc320:
        mpc = ThorlabsMpc320(connect(self.addresses[way], "paddles", 0.2), "paddles")
        mpc.timeout_s = 0.2
        self.opened.append(mpc)
        mpc.open()
        return mpc


@pytest.fixture
def controller() -> Iterator[Controller]:
    clock = VirtualClock()
    sim = SimThorlabsMpc320(PolarisationPaddles(), clock.now, np.random.default_rng(7))
    server = SimServer(clock=clock)
    port = server.serve_tcp(sim)
    addresses = {
        "pty": f"serial://{server.serve_pty(sim)}",
        "tcp": f"tcp://127.0.0.1:{port}",
        "url": f"serial://socket://127.0.0.1:{port}",
    }
    with server:
        served = Controller(sim, clock, addresses)
        yield served
        for opened in served.opened:
            opened.close()


@pytest.mark.parametrize("way", ["pty", "tcp", "url"])
def test_turn_and_read_back(controller: Controller, way: str) -> None:
    mpc = controller.driver(way)
    assert mpc.identity() == "Thorlabs MPC320, serial 38000042, firmware 1.0.5"
    assert [mpc.signal(f"position_{n}").get() for n in (1, 2, 3)] == [0.0, 0.0, 0.0]
    assert mpc.not_ready() == "" and mpc.moving.get() is False
    mpc.position_1.set(100 * DEGREE)
    mpc.position_3.set(30 * DEGREE)
    assert mpc.moving.get() is True
    assert mpc.not_ready() == "paddles are turning"
    controller.clock.advance(0.2)
    assert controller.degrees == pytest.approx([40.0, 0.0, 30.0], abs=0.1)
    assert mpc.position_1.get() == pytest.approx(40 * DEGREE, abs=COUNT_RAD)
    assert not mpc.position_1.settled()
    controller.clock.advance(0.4)
    assert mpc.position_1.get() == pytest.approx(100 * DEGREE, abs=COUNT_RAD)
    assert mpc.position_1.settled() and mpc.not_ready() == ""


def test_velocity(controller: Controller) -> None:
    mpc = controller.driver()
    controller.sim.jog_counts = [11, 22, 33]
    mpc.velocity.set(41 * DEGREE)
    assert controller.sim.percent == 10
    assert (controller.sim.home_counts, controller.sim.jog_counts) == (685, [11, 22, 33])
    assert mpc.velocity.get() == pytest.approx(40 * DEGREE) and mpc.velocity.settled()
    mpc.position_2.set(170 * DEGREE)
    controller.clock.advance(1.0)
    assert controller.degrees[1] == pytest.approx(40.0, abs=0.1)


def test_home_stop_and_safe(controller: Controller) -> None:
    mpc = controller.driver()
    mpc.call("home")
    controller.clock.advance(5.0)
    assert controller.degrees == pytest.approx([85.0] * 3)
    mpc.position_1.set(0.0)
    mpc.position_2.set(170 * DEGREE)
    controller.clock.advance(0.1)
    mpc.call("stop")
    controller.clock.advance(5.0)
    assert controller.degrees == pytest.approx([65.0, 105.0, 85.0], abs=0.1)
    assert controller.sim.enabled == 7
    mpc.position_3.set(0.0)
    controller.clock.advance(0.1)
    mpc.safe()
    assert controller.sim.enabled == 0
    controller.clock.advance(5.0)
    assert controller.degrees[2] == pytest.approx(65.0, abs=0.1)
    assert mpc.moving.get() is False
    mpc.position_3.set(0.0)
    controller.clock.advance(5.0)
    assert controller.degrees[2] == pytest.approx(0.0, abs=0.1)


def test_a_paddle_that_does_not_stop_is_reported(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    mpc = controller.driver()
    mpc.position_1.set(2.0)

    def ignore(paddle: int) -> None:
        del paddle

    monkeypatch.setattr(controller.sim.paddles, "stop", ignore)
    with pytest.raises(RefusedError, match=r"paddles at serial://.*still turns"):
        mpc.stop()


def test_motors_that_lost_power_are_noticed_and_come_back(controller: Controller) -> None:
    mpc = controller.driver()
    mpc.position_1.set(1.0)
    controller.clock.advance(0.05)
    controller.sim.own_faults()["motors_off"]()
    controller.clock.advance(5.0)
    assert "position_1" in mpc.not_ready()
    mpc.position_1.set(1.0)
    controller.clock.advance(5.0)
    assert mpc.not_ready() == ""


def test_limits_hold_before_anything_is_sent(controller: Controller) -> None:
    mpc = controller.driver()
    controller.sim.faults.switch("silent")
    for wrong in (-0.001, 171 * DEGREE, float("nan")):
        with pytest.raises(LimitError):
            mpc.position_1.set(wrong)
    for wrong in (39 * DEGREE, 401 * DEGREE):
        with pytest.raises(LimitError):
            mpc.velocity.set(wrong)
    with pytest.raises(LimitError, match="no paddle 4"):
        mpc.status(4)
    assert controller.sim.enabled == 0


def test_a_speed_that_is_not_taken_is_refused(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    mpc = controller.driver()

    def ignore(data: bytes) -> None:
        del data

    monkeypatch.setattr(controller.sim, "set_parameters", ignore)
    with pytest.raises(RefusedError, match=r"paddles at serial://.*75 %.*stays at 50 %"):
        mpc.velocity.set(300 * DEGREE)


@pytest.mark.parametrize("way", ["pty", "tcp"])
def test_ends_of_moves_come_unasked_and_are_passed_over(
    controller: Controller, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mpc = controller.driver(way)
    reported = threading.Event()

    def noting(kind: int, data: bytes) -> bytes:
        if kind == 0x0464:
            reported.set()
        return long_message(kind, data)

    monkeypatch.setattr("simulated_hw.thorlabs_mpc320.long_message", noting)
    mpc.home()
    for paddle in (1, 2, 3):
        mpc.turn(paddle, 1.0)
    assert not reported.is_set()
    controller.clock.advance(5.0)
    assert reported.wait(5)
    assert mpc.position_2.get() == pytest.approx(1.0, abs=COUNT_RAD)


def test_unasked_messages_right_before_the_answer(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A move's end, an update of another paddle, a late hardware information: none is taken for the answer."""
    mpc = controller.driver()
    other = struct.pack("<HiHhI", 2, 999, 0, 0, 0)
    unasked = (
        long_message(0x0464, struct.pack("<HiHhI", 1, 777, 0, 0, 0))
        + short_message(0x0444, 1)
        + long_message(0x0491, other)
        + long_message(0x0006, bytes(84))
        + long_message(0x0466, other)
    )
    handle = AptSession.handle

    def talkative(session: AptSession, kind: int, first: int, second: int, data: bytes) -> None:
        session.send(unasked)
        handle(session, kind, first, second, data)

    monkeypatch.setattr(AptSession, "handle", talkative)
    assert mpc.status(1).counts == 0
    assert mpc.velocity.get() == pytest.approx(200 * DEGREE)


def test_a_controller_that_only_chatters_does_not_answer(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    mpc = controller.driver()
    mpc.timeout_s = 0.1

    def chatter(session: AptSession, now_s: float) -> None:
        session.send(short_message(0x0444, 1))

    def deaf(session: AptSession, *message: object) -> None:
        del session, message

    monkeypatch.setattr(AptSession, "tick", chatter)
    monkeypatch.setattr(AptSession, "handle", deaf)
    with pytest.raises(NoAnswerError, match=r"paddles at serial://.*no answer to"):
        mpc.status(1)


def test_updates_left_on_by_somebody_else_are_switched_off(controller: Controller) -> None:
    first = controller.driver()
    first.transport.write(bytes.fromhex("11 00 00 00 50 01"))
    first.close()
    controller.clock.advance(1.0)
    mpc = controller.driver()
    assert mpc.position_1.get() == 0.0
    controller.clock.advance(1.0)
    assert mpc.transport.read_available(0.05) == b""


def test_an_error_report_is_raised(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    mpc = controller.driver()

    def complain(session: AptSession, kind: int, *rest: object) -> None:
        session.send(long_message(0x0081, struct.pack("<HH64s", kind, 13, b"Hardware limit")))

    monkeypatch.setattr(AptSession, "handle", complain)
    with pytest.raises(RefusedError, match=r"paddles at serial://.*Hardware limit"):
        mpc.status(1)


def test_another_instrument(controller: Controller) -> None:
    controller.sim.model = "KDC101"
    with pytest.raises(BadAnswerError, match="'KDC101', expected an MPC320"):
        controller.driver()


@pytest.mark.parametrize("way", ["pty", "tcp"])
def test_silence_names_device_and_address(controller: Controller, way: str) -> None:
    mpc = controller.driver(way)
    mpc.timeout_s = 0.1
    controller.sim.faults.switch("silent")
    for failing in (mpc.position_1.get, mpc.stop, lambda: mpc.position_1.set(1.0), mpc.safe):
        with pytest.raises(NoAnswerError) as failure:
            failing()
        assert f"paddles at {controller.addresses[way]}" in str(failure.value)
    controller.sim.faults.clear()
    assert mpc.position_2.get() == 0.0


@pytest.mark.parametrize("kind", ["garble", "garbage"])
@pytest.mark.parametrize("way", ["pty", "tcp"])
def test_broken_answers_are_refused_and_the_next_is_clean(
    controller: Controller, way: str, kind: str
) -> None:
    mpc = controller.driver(way)
    controller.sim.faults.switch(kind)
    with pytest.raises(BadAnswerError, match="paddles at"):
        mpc.position_1.get()
    controller.sim.faults.clear()
    assert mpc.position_1.get() == 0.0


def test_a_position_that_cannot_be_is_refused(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    mpc = controller.driver()

    def nonsense(paddle: int) -> bytes:
        return struct.pack("<HiHhI", 1 << paddle, 100_000, 0, 0, 0)

    monkeypatch.setattr(controller.sim, "status", nonsense)
    with pytest.raises(BadAnswerError, match="position 100000 of paddle 1"):
        mpc.position_1.get()
    monkeypatch.undo()
    controller.sim.percent = 0
    with pytest.raises(BadAnswerError, match="0 %"):
        mpc.velocity.get()


@pytest.mark.parametrize("way", ["pty", "tcp"])
def test_a_late_answer_is_never_taken_for_the_next(controller: Controller, way: str) -> None:
    """Neither of another paddle nor, harder, of the same paddle before it turned."""
    mpc = controller.driver(way)
    mpc.timeout_s = 0.1
    controller.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError):
        mpc.status(1)
    controller.sim.faults.clear()
    mpc.timeout_s = 2.0
    controller.sim.paddles.angles_rad = [1.0, 1.5, 2.0]
    controller.sim.paddles.targets_rad = [1.0, 1.5, 2.0]
    assert [mpc.position(n) for n in (1, 2, 3)] == pytest.approx([1.0, 1.5, 2.0], abs=COUNT_RAD)


def test_a_broken_connection_comes_back(controller: Controller) -> None:
    mpc = controller.driver("tcp")
    controller.sim.faults.switch("disconnect")
    with pytest.raises(NotConnectedError, match="paddles at"):
        mpc.position_1.get()
    assert mpc.position_1.get() == 0.0
    controller.sim.faults.switch("split", 0.02)
    assert mpc.identity().startswith("Thorlabs MPC320")
    controller.sim.faults.clear()
    controller.sim.faults.switch("disconnect")
    mpc.safe()


def test_channels_are_masks_on_the_wire(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    mpc = controller.driver()
    heard: list[tuple[int, int]] = []
    handle = AptSession.handle

    def listen(session: AptSession, kind: int, first: int, second: int, data: bytes) -> None:
        heard.append((kind, data[0] if data else first))
        handle(session, kind, first, second, data)

    monkeypatch.setattr(AptSession, "handle", listen)
    mpc.position_3.set(1.0)
    assert heard == [(0x0210, 7), (0x0453, 4), (REQ_STATUS, 4)]


def test_the_same_bytes_in_process() -> None:
    clock = VirtualClock()
    sim = SimThorlabsMpc320(PolarisationPaddles(), clock.now, np.random.default_rng(3))
    bench = Bench({"paddles": sim}, clock)
    mpc = ThorlabsMpc320(
        SimTransport(
            "sim://paddles", "paddles", 1.0, lambda address: bench.connection(address.target), clock
        ),
        "paddles",
    )
    mpc.open()
    mpc.position_2.set(1.0)
    clock.sleep(5)
    assert mpc.position_2.get() == pytest.approx(1.0, abs=COUNT_RAD)
    sim.faults.switch("silent")
    with pytest.raises(NoAnswerError):
        mpc.position_2.get()
    mpc.close()
