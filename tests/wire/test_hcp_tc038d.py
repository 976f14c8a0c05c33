"""The TC038D driver against the simulated oven, over a pseudo-terminal and TCP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from drivers.hcp_tc038d import SETPOINT, TEMPERATURE, HcpTc038d
from labctl.clock import VirtualClock
from labctl.errors import BadAnswerError, LimitError, NoAnswerError, NotConnectedError, RefusedError
from labctl.sim.inprocess import Bench
from labctl.sim.server import SimServer
from labctl.transport import SimTransport, connect
from simulated_hw.hcp_tc038d import SimHcpTc038d, frame
from simulated_hw.world.parts import HeatedBody


@dataclass
class Oven:
    """A served oven, how to reach it, and what to close at the end."""

    sim: SimHcpTc038d
    clock: VirtualClock
    addresses: dict[str, str]
    opened: list[HcpTc038d] = field(default_factory=list[HcpTc038d])

    def driver(self, way: str = "pty", unit: int = 1, **options: float) -> HcpTc038d:
        oven = HcpTc038d(connect(self.addresses[way], "oven", 0.2), "oven", unit, **options)
        oven.timeout_s = 0.2
        self.opened.append(oven)
        oven.open()
        return oven


@pytest.fixture
def oven() -> Iterator[Oven]:
    clock = VirtualClock()
    sim = SimHcpTc038d(HeatedBody(), clock.now, np.random.default_rng(7))
    server = SimServer()
    port = server.serve_tcp(sim)
    addresses = {
        "pty": f"serial://{server.serve_pty(sim)}",
        "tcp": f"tcp://127.0.0.1:{port}",
        "url": f"serial://socket://127.0.0.1:{port}",
    }
    with server:
        served = Oven(sim, clock, addresses)
        yield served
        for opened in served.opened:
            opened.close()


@pytest.mark.parametrize("way", ["pty", "tcp", "url"])
def test_heat_and_read_back(oven: Oven, way: str) -> None:
    hot = oven.driver(way)
    assert hot.identity() == "HC Photonics TC038D, Modbus unit 1"
    assert hot.temperature.get() == pytest.approx(294.15, abs=0.06)
    hot.temperature.set(318.17)
    assert oven.sim.body.setpoint_k == pytest.approx(318.15)
    assert hot.setpoint.get() == pytest.approx(318.15)
    assert hot.not_ready() == "temperature is 21.0 degC, setpoint 45.0 degC"
    oven.clock.advance(60)
    assert hot.temperature.get() == pytest.approx(318.15, abs=0.06)
    assert hot.temperature.settled() and hot.not_ready() == ""


def test_safe_lets_it_cool(oven: Oven) -> None:
    hot = oven.driver(safe_k=295.15)
    hot.temperature.set(450.0)
    hot.safe()
    assert oven.sim.body.setpoint_k == pytest.approx(295.15)


def test_tolerance_belongs_to_the_device(oven: Oven) -> None:
    coarse = oven.driver(tolerance_k=30.0)
    coarse.temperature.set(318.15)
    assert coarse.not_ready() == "" and coarse.temperature.settled()
    assert coarse.describe()["signals"]["temperature"]["tolerance"] == 30.0


def test_limits_and_refusals(oven: Oven) -> None:
    hot = oven.driver()
    for wrong in (292.0, 474.0, float("nan")):
        with pytest.raises(LimitError):
            hot.temperature.set(wrong)
    oven.sim.body.highest_k = 373.15
    with pytest.raises(RefusedError, match=r"oven at serial://.*unit 1 refused 01 10 01 06.*out of range"):
        hot.temperature.set(400.0)
    with pytest.raises(RefusedError, match="wrong start address"):
        hot.read(0x0008)
    assert hot.setpoint.get() == pytest.approx(294.15)


def test_another_unit_does_not_answer(oven: Oven) -> None:
    with pytest.raises(NoAnswerError, match="oven at serial://"):
        oven.driver(unit=9)


@pytest.mark.parametrize("way", ["pty", "tcp"])
def test_silence_names_device_and_address(oven: Oven, way: str) -> None:
    hot = oven.driver(way)
    oven.sim.faults.switch("silent")
    for failing in (hot.temperature.get, lambda: hot.temperature.set(300.0), hot.safe):
        with pytest.raises(NoAnswerError) as failure:
            failing()
        assert f"oven at {oven.addresses[way]}" in str(failure.value)
    oven.sim.faults.clear()
    assert hot.temperature.get() == pytest.approx(294.15, abs=0.06)


@pytest.mark.parametrize("kind", ["garble", "garbage"])
@pytest.mark.parametrize("way", ["pty", "tcp"])
def test_broken_answers_are_refused_and_the_next_is_clean(oven: Oven, way: str, kind: str) -> None:
    hot = oven.driver(way)
    oven.sim.faults.switch(kind)
    with pytest.raises(BadAnswerError, match=r"oven at .*was answered with"):
        hot.temperature.get()
    oven.sim.faults.clear()
    assert hot.temperature.get() == pytest.approx(294.15, abs=0.06)


@pytest.mark.parametrize("way", ["pty", "tcp"])
def test_a_late_answer_is_never_taken_for_the_next(oven: Oven, way: str) -> None:
    """The answers to the two readings differ in nothing but their number."""
    hot = oven.driver(way)
    hot.temperature.set(400.0)
    hot.timeout_s = 0.1
    oven.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError):
        hot.read(TEMPERATURE)
    oven.sim.faults.clear()
    hot.timeout_s = 2.0
    assert hot.read(SETPOINT) == 1269
    assert hot.read(TEMPERATURE) == pytest.approx(210, abs=1)


def test_one_answer_too_many_is_not_taken_for_the_next(oven: Oven, monkeypatch: pytest.MonkeyPatch) -> None:
    hot = oven.driver()
    hot.temperature.set(400.0)
    stale = frame(bytes.fromhex("01 03 04 00 00 00 63"))

    def followed_by_another(message: bytes) -> bytes:
        return frame(message) + stale

    monkeypatch.setattr("simulated_hw.hcp_tc038d.frame", followed_by_another)
    hot.read(TEMPERATURE)
    monkeypatch.undo()
    assert hot.read(SETPOINT) == 1269


def test_a_broken_connection_comes_back(oven: Oven) -> None:
    hot = oven.driver("tcp")
    oven.sim.faults.switch("disconnect")
    with pytest.raises(NotConnectedError, match="oven at"):
        hot.setpoint.get()
    assert hot.setpoint.get() == pytest.approx(294.15)
    oven.sim.faults.switch("split", 0.02)
    assert hot.setpoint.get() == pytest.approx(294.15)
    oven.sim.faults.clear()
    hot.temperature.set(400.0)
    oven.sim.faults.switch("disconnect")
    hot.safe()
    assert oven.sim.body.setpoint_k == pytest.approx(298.15)


def test_an_identity_that_gets_no_answer(oven: Oven) -> None:
    hot = oven.driver()
    oven.sim.faults.switch("drop")
    with pytest.raises(NoAnswerError, match=r"oven at serial"):
        hot.identity()
    assert hot.setpoint.get() == pytest.approx(294.15)


def test_several_clients_see_one_state(oven: Oven) -> None:
    clients = [oven.driver(way) for way in ("tcp", "pty")]
    for number, hot in enumerate(clients):
        hot.temperature.set(310.15 + number)
        assert [c.setpoint.get() for c in clients] == pytest.approx([310.15 + number] * 2)


def test_the_same_bytes_in_process() -> None:
    clock = VirtualClock()
    sim = SimHcpTc038d(HeatedBody(), clock.now, np.random.default_rng(3))
    bench = Bench({"oven": sim}, clock)
    hot = HcpTc038d(
        SimTransport("sim://oven", "oven", 1.0, lambda address: bench.connection(address.target), clock),
        "oven",
    )
    hot.open()
    hot.temperature.set(350.15)
    clock.sleep(100)
    assert hot.temperature.get() == pytest.approx(350.15, abs=0.06)
    sim.faults.switch("silent")
    with pytest.raises(NoAnswerError):
        hot.temperature.get()
    hot.close()
