"""A device whose setpoint was moved is not ready from that moment on, until it says that it is there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from bus_parts import Instrument, MemoryLaser, hosted, wait_until

from labctl.bus.client import Client
from labctl.bus.events import Subscriber
from labctl.bus.host import Host
from labctl.bus.hub import Hub
from labctl.bus.owner import HostedDevice
from labctl.errors import LimitError

LASER = "alice.laser"


class SlowLaser(MemoryLaser):
    """Takes a setpoint; the test moves the value itself."""

    def _write(self, name: str, value: Any) -> None:
        self.instrument.log.append((name, value))


@pytest.fixture
def hub() -> Iterator[str]:
    with Hub("tcp://127.0.0.1:0") as running:
        yield running.addresses.registry


@pytest.fixture
def instrument() -> Instrument:
    return Instrument()


@pytest.fixture
def slow(hub: str, instrument: Instrument) -> Iterator[Client]:
    """A client of a SlowLaser that is ready."""
    laser = HostedDevice(LASER, lambda: SlowLaser(instrument, LASER))
    with Host("alice", [laser], hub) as host, Client(hub) as client:
        host.wait_registered()
        settle(client, "ready")
        yield client


def state(client: Client) -> str:
    return client.cached(LASER)["state"]


def settle(client: Client, wanted: str) -> None:
    wait_until(lambda: state(client) == wanted, wanted)


def test_not_ready_from_the_reply_to_set_until_it_is_there(slow: Client, instrument: Instrument) -> None:
    slow.set(f"{LASER}.current", 0.1)
    assert state(slow) == "settling"
    wait_until(lambda: "not yet 0.1" in slow.cached(LASER)["reason"], "reason shown")
    assert state(slow) == "settling"
    instrument.values["current"] = 0.1
    settle(slow, "ready")


def test_the_hub_learns_it_at_once_not_with_the_next_heartbeat(
    hub: str, instrument: Instrument, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.bus.host.BEAT_S", 1000.0)
    monkeypatch.setattr("labctl.bus.hub.SILENT_S", 1000.0)
    laser = HostedDevice(LASER, lambda: SlowLaser(instrument, LASER))
    with Host("alice", [laser], hub) as host, Client(hub) as client:
        host.wait_registered()
        wait_until(lambda: client.devices()[0].state == "ready", "listed as ready")
        client.set(f"{LASER}.current", 0.1)
        wait_until(lambda: client.devices()[0].state == "settling", "listed as settling")


def test_a_value_that_is_there_at_once_settles_too_and_is_ready(hub: str, instrument: Instrument) -> None:
    with Host("alice", [hosted(LASER, instrument)], hub) as host, Client(hub) as client:
        host.wait_registered()
        settle(client, "ready")
        with Subscriber(hub, f"device.{LASER}") as events:
            seen: list[str] = []

            def heard() -> bool:
                client.set(f"{LASER}.current", 0.1)
                event = events.receive(0.1)
                return event is not None and event.payload["state"] == "settling"

            wait_until(heard, "settling published")  # once the subscription has arrived
            for event in events.events(5.0):
                seen.append(event.payload["state"])
                if seen[-1] == "ready":
                    break
        assert seen[-1] == "ready"


def test_the_reply_does_not_wait_for_the_question_whether_it_is_ready(
    hub: str, instrument: Instrument
) -> None:
    with Host("alice", [hosted(LASER, instrument)], hub) as host, Client(hub) as client:
        host.wait_registered()
        settle(client, "ready")
        lane = host._lanes[LASER]
        replied = threading.Event()
        asked: list[bool] = []

        def not_ready() -> str:
            if lane.state().state == "settling":
                asked.append(replied.wait(5))
            return ""

        lane.device.not_ready = not_ready
        client.set(f"{LASER}.current", 0.1)
        replied.set()
        settle(client, "ready")
        assert asked == [True]


def test_what_does_not_move_a_setpoint_with_tolerance_changes_no_state(slow: Client, hub: str) -> None:
    since = slow.cached(LASER)["since"]
    slow.set(f"{LASER}.power", 0.2)
    with pytest.raises(LimitError):
        slow.set(f"{LASER}.current", 5.0)
    assert slow.cached(LASER)["since"] == since
    assert state(slow) == "ready"


def test_a_set_does_not_end_safe(slow: Client, instrument: Instrument) -> None:
    slow.safe([LASER])
    slow.set(f"{LASER}.current", 0.1)
    instrument.values["current"] = 0.1
    slow.ping(LASER)
    assert state(slow) == "safe"
