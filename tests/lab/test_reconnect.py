"""An instrument that vanishes for 20 s comes back by itself, in its declared state before it counts as ready, and the gap is an event.

The owner's clock is virtual and its work is done in the test's own thread, so 20 s are over at once; sockets are real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from drivers.rs_hmp4040 import RsHmp4040
from labctl.bus.leases import Leases
from labctl.bus.owner import LAST_RETRY_S, DeviceLane, HostedDevice
from labctl.clock import SystemClock, VirtualClock
from labctl.sim.server import TICK_S, SimServer
from labctl.transport import connect
from simulated_hw.rs_hmp4040 import SimHmp4040
from simulated_hw.world.parts_coils import CoilChannel

NAME = "bob.coils"
DECLARED = {"voltage_1": 5.0, "current_1": 2.0, "output_1": True}
AWAY_S = 20.0


@dataclass
class Told:
    """An event of the device, and what the instrument was like at that moment."""

    at_s: float
    content: dict[str, Any]
    as_declared: bool


@dataclass
class Supply:
    """The supply, and the owner of its driver."""

    sim: SimHmp4040
    clock: VirtualClock
    told: list[Told] = field(default_factory=list[Told])
    lane: DeviceLane = field(init=False)

    def hear(self, topic: str, content: dict[str, Any]) -> None:
        if topic == f"device.{NAME}":
            self.told.append(Told(self.clock.now(), content, self.as_declared()))

    def as_declared(self) -> bool:
        coil = self.sim.coils[0]
        return (coil.set_v, coil.limit_a, coil.on) == (5.0, 2.0, True)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """The owner's work for so long on the virtual clock, or until something is so."""
        end = self.clock.now() + seconds
        while self.clock.now() < end and not until():
            wait_s = self.lane.work()
            self.clock.advance(min(max(wait_s, 0.01), max(0.0, end - self.clock.now())))

    def vanish(self, kind: str) -> None:
        """The fault, and time enough on the server's own clock to drop its connections."""
        self.sim.faults.switch(kind)
        SystemClock().sleep(10 * TICK_S)

    def states(self) -> list[str]:
        return [one.content["state"] for one in self.told]

    def ready(self) -> bool:
        return self.states()[-1:] == ["ready"]


@pytest.fixture
def supply() -> Iterator[Supply]:
    clock = VirtualClock(1000.0)
    sim = SimHmp4040([CoilChannel()], clock.now, np.random.default_rng(3))
    with SimServer() as server:
        port = server.serve_tcp(sim)

        def make() -> RsHmp4040:
            driver = RsHmp4040(connect(f"tcp://127.0.0.1:{port}", NAME, 0.1), NAME)
            driver.timeout_s = 0.1
            return driver

        one = Supply(sim, clock)
        hosted = HostedDevice(NAME, make, DECLARED)
        one.lane = DeviceLane(hosted, "tcp://127.0.0.1:0", Leases(clock), one.hear, clock=clock)
        yield one
        one.lane.finish()
        one.lane.close()


@pytest.mark.parametrize("kind", ["refuse", "silent"])
def test_back_after_20_s_with_its_declared_state_and_the_gap_told(supply: Supply, kind: str) -> None:
    supply.run(30.0, supply.ready)
    assert supply.ready() and supply.as_declared()
    supply.told.clear()

    supply.vanish(kind)
    gone_at = supply.clock.now()
    supply.run(AWAY_S)
    assert "ready" not in supply.states()
    lost = next(one.content for one in supply.told if one.content["state"] == "lost")
    assert NAME in lost["reason"] and "127.0.0.1" in lost["reason"]

    supply.sim.restart()  # the mains were gone: all settings are lost
    assert not supply.as_declared()
    supply.sim.faults.clear()
    supply.run(2 * LAST_RETRY_S, supply.ready)

    assert supply.states()[-2:] == ["settling", "ready"]
    assert all(one.as_declared for one in supply.told[-2:])
    back = supply.told[-2]
    assert back.at_s - gone_at <= AWAY_S + LAST_RETRY_S + 1.0
    gap_s = back.content["gap_s"]
    assert (
        AWAY_S - 2.0 <= gap_s <= AWAY_S + LAST_RETRY_S + 3.0
    )  # the last answer was a poll, at most 2 s before
    assert f"back after {gap_s:.1f} s" in back.content["reason"]


def test_as_long_as_its_declared_state_is_refused_it_is_not_ready(
    supply: Supply, monkeypatch: pytest.MonkeyPatch
) -> None:
    supply.run(30.0, supply.ready)
    supply.vanish("refuse")
    supply.run(AWAY_S)
    supply.sim.restart()
    supply.sim.faults.clear()
    with monkeypatch.context() as fuse:
        fuse.setattr(supply.sim, "_apply", lambda: None)  # what is switched on does not come on
        fuse.setattr(SimHmp4040, "set_voltage", lambda self, text: None)
        supply.told.clear()
        supply.run(30.0)
        assert set(supply.states()) == {"fault"}
        assert "VOLT 5.0000 of channel 1" in supply.told[-1].content["reason"]
    supply.run(2 * LAST_RETRY_S, supply.ready)
    assert supply.ready() and supply.as_declared()
    assert [one.content["gap_s"] for one in supply.told if "gap_s" in one.content] == [
        pytest.approx(AWAY_S + 30.0, abs=8.0)
    ]


def test_a_gap_while_it_is_safe_is_told_and_leaves_it_safe(supply: Supply) -> None:
    supply.run(30.0, supply.ready)
    supply.lane.order_safe("made safe by the test")
    supply.run(1.0)
    assert supply.states()[-1] == "safe"
    supply.vanish("refuse")
    supply.run(AWAY_S)
    assert supply.states()[-1] == "lost"
    supply.sim.faults.clear()
    supply.told.clear()
    supply.run(2 * LAST_RETRY_S, lambda: supply.states() == ["safe"])
    assert supply.told[-1].content["gap_s"] >= AWAY_S - 2.0
    assert not supply.sim.coils[0].on
