"""What keeps outputs off: declared state, leases, safe() past a slow query."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from bus_parts import Instrument, hosted, wait_until

from labctl.bus.client import Client
from labctl.bus.events import Subscriber
from labctl.bus.host import Host
from labctl.bus.hub import Hub
from labctl.errors import DeviceError, LabError, LeaseError, NotConnectedError

LASER = "alice.laser"


@pytest.fixture
def instrument() -> Instrument:
    return Instrument()


@pytest.fixture
def hub() -> Iterator[str]:
    with Hub("tcp://127.0.0.1:0") as running:
        yield running.addresses.registry


@pytest.fixture
def client(hub: str, instrument: Instrument) -> Iterator[Client]:
    with Host("alice", [hosted(LASER, instrument, power=0.3, current=0.1)], hub) as host, Client(hub) as one:
        host.wait_registered()
        yield one


def state(client: Client) -> str:
    return client.cached(LASER)["state"]


def settle(client: Client, wanted: str) -> None:
    wait_until(lambda: state(client) == wanted, wanted)


def states_seen(events: Subscriber, last: str) -> list[str]:
    seen: list[str] = []
    for event in events.events(5.0):
        if not seen or event.payload["state"] != seen[-1]:
            seen.append(event.payload["state"])
        if seen[-1] == last:
            break
    return seen


# life of a device


def test_declared_state_is_set_in_order_before_ready(client: Client, instrument: Instrument) -> None:
    settle(client, "ready")
    assert instrument.log == [("power", 0.3), ("current", 0.1)]


def test_a_lost_device_comes_back_to_its_declared_state_before_it_is_ready(
    client: Client, instrument: Instrument, hub: str
) -> None:
    settle(client, "ready")
    with Subscriber(hub, f"device.{LASER}") as events:
        wait_until(lambda: instrument.values["power"] == 0.3, "declared")
        states_seen(events, "ready")  # the state that a new subscriber is told
        client.set(f"{LASER}.current", 0.15)
        states_seen(events, "ready")  # the set made it settle
        instrument.reachable = False
        wait_until(lambda: state(client) == "lost", "lost (its poll fails)")
        with pytest.raises(NotConnectedError, match=r"alice\.laser is lost since \d+ s: .*connection lost"):
            client.get(f"{LASER}.current")
        instrument.values.update(current=0.0, power=0.0)  # it was switched off
        instrument.log.clear()
        instrument.reachable = True
        assert states_seen(events, "ready") == ["lost", "settling", "ready"]
    assert instrument.log == [("power", 0.3), ("current", 0.1)]
    assert client.get(f"{LASER}.current") == 0.1


def test_settling_says_what_it_waits_for(client: Client, instrument: Instrument) -> None:
    settle(client, "ready")
    instrument.values["current"] = 0.02
    client.restore(LASER)
    settle(client, "ready")
    instrument.values["current"] = 0.02  # drifts off after it was set
    wait_until(lambda: "current is 0.02 A, not yet 0.1" in client.cached(LASER)["reason"], "reason shown")
    assert state(client) == "settling"


def test_a_declared_state_beyond_the_limits_is_a_fault_not_ready(hub: str) -> None:
    instrument = Instrument()
    with Host("alice", [hosted(LASER, instrument, current=5.0)], hub) as host, Client(hub) as client:
        host.wait_registered()
        settle(client, "fault")
        assert "outside 0 A to 180 mA" in client.cached(LASER)["reason"]
        assert client.get(f"{LASER}.current") == 0.0  # reading works


def test_an_absent_device_says_so_at_once(hub: str) -> None:
    instrument = Instrument()
    instrument.reachable = False
    with Host("alice", [hosted(LASER, instrument)], hub) as host, Client(hub) as client:
        host.wait_registered()
        settle(client, "lost")
        with pytest.raises(NotConnectedError, match="cannot connect"):
            client.get(f"{LASER}.current")
        assert client.describe(LASER)["signals"]["current"]["unit"] == "A"
        instrument.reachable = True
        settle(client, "ready")


# safe


def test_safe_stays_safe_until_restored(client: Client, instrument: Instrument) -> None:
    settle(client, "ready")
    client.safe([LASER])
    assert instrument.values["current"] == 0.0
    assert state(client) == "safe"
    instrument.reachable = False
    wait_until(lambda: state(client) == "lost", "lost")
    instrument.values["current"] = 0.1
    instrument.reachable = True
    settle(client, "safe")  # a reconnection does not switch it on
    assert instrument.values["current"] == 0.0
    client.restore(LASER)
    settle(client, "ready")
    assert instrument.values["current"] == 0.1


@pytest.mark.parametrize("way", ["all", "named", "action"])
def test_every_way_to_say_safe(client: Client, instrument: Instrument, way: str) -> None:
    settle(client, "ready")
    if way == "all":
        client.safe()
    elif way == "named":
        client.safe([LASER])
    else:
        client.call(f"{LASER}.safe")
    assert ("safe", None) in instrument.log
    assert state(client) == "safe"


def ponder(hub: str, outcome: list[Any]) -> threading.Thread:
    """A client that keeps the device's thread busy for 8 s."""

    def run() -> None:
        with Client(hub) as client:
            try:
                outcome.append(client.call(f"{LASER}.ponder", 8.0, timeout_s=12))
            except LabError as error:
                outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_safe_works_while_a_slow_query_blocks(client: Client, instrument: Instrument, hub: str) -> None:
    settle(client, "ready")
    outcome: list[Any] = []
    thread = ponder(hub, outcome)
    assert instrument.busy.wait(5)
    client.safe([LASER])
    assert instrument.busy.is_set()  # the query is still under way
    assert instrument.log[-1] == ("safe", None)
    instrument.values["current"] = 0.1  # what the query might do at its end
    instrument.interrupted.set()
    thread.join()
    wait_until(lambda: instrument.values["current"] == 0.0, "made safe again after the query")
    wait_until(lambda: state(client) == "safe", "safe")


def test_safe_interrupts_where_a_second_connection_is_refused(hub: str) -> None:
    instrument = Instrument(connections=1)
    with Host("alice", [hosted(LASER, instrument, current=0.1)], hub) as host, Client(hub) as client:
        host.wait_registered()
        settle(client, "ready")
        lane = host._lanes[LASER]
        lane.device.transport.interrupt = instrument.interrupted.set  # the memory laser's "shutdown"
        outcome: list[Any] = []
        thread = ponder(hub, outcome)
        assert instrument.busy.wait(5)
        client.safe([LASER])
        assert not instrument.busy.is_set()
        assert instrument.values["current"] == 0.0
        thread.join()
        assert isinstance(outcome[0], NotConnectedError)
        settle(client, "safe")


def test_safe_that_fails_is_loud(client: Client, instrument: Instrument) -> None:
    settle(client, "ready")
    instrument.reachable = False
    with pytest.raises(DeviceError, match=r"NOT made safe: alice\.laser: "):
        client.safe()
    instrument.reachable = True
    settle(client, "safe")  # made up for as soon as it is back
    assert instrument.values["current"] == 0.0


# leases


def test_a_lease_keeps_others_out_but_lets_them_read(client: Client, hub: str) -> None:
    settle(client, "ready")
    with Client(hub, owner="bob's notebook") as other:
        with other.lease([LASER], owner="run 17"):
            for attempt in (
                lambda: client.set(f"{LASER}.current", 0.1),
                lambda: client.call(f"{LASER}.relock", 1),
                lambda: client.restore(LASER),
                lambda: client.lease([LASER]).__enter__(),
            ):
                with pytest.raises(LeaseError, match=r"alice\.laser is leased by 'run 17'"):
                    attempt()
            assert client.get(f"{LASER}.current") == 0.1
            other.set(f"{LASER}.current", 0.11)
            wait_until(lambda: client.devices()[0].leased_by == "run 17", "listed")
        client.set(f"{LASER}.current", 0.12)
    settle(client, "ready")  # given back in order: nothing is switched off
    assert client.get(f"{LASER}.current") == 0.12


def test_a_lease_is_renewed_in_the_background(client: Client) -> None:
    settle(client, "ready")
    with client.lease([LASER], ttl_s=0.3) as lease:
        lease._ended.wait(1.0)
        lease.check()
        client.set(f"{LASER}.current", 0.11)
    settle(client, "ready")


def test_anybody_may_make_a_leased_device_safe(client: Client, hub: str, instrument: Instrument) -> None:
    settle(client, "ready")
    with Client(hub) as other, other.lease([LASER]):
        client.safe()
    assert instrument.values["current"] == 0.0


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "during a slow query"])
def test_a_lease_that_runs_out_makes_the_device_safe(
    client: Client, hub: str, instrument: Instrument, busy: bool
) -> None:
    settle(client, "ready")
    outcome: list[Any] = []
    thread = ponder(hub, outcome) if busy else None
    if busy:
        assert instrument.busy.wait(5)
    with Subscriber(hub, "lease.") as events, Client(hub, owner="run 18") as other:
        wait_until(lambda: events.receive(0.05) or ready_to_hear(client, events), "subscribed")
        lease = other.lease([LASER], ttl_s=0.4)
        lease._renew = lambda: None  # its process hangs: never renewed
        lease._thread = threading.Thread(target=lease._renew)
        lease.__enter__()
        expired = next(e for e in events.events(5.0) if e.payload["lease"] == "expired")
        assert expired.payload["owner"] == "run 18"
        wait_until(lambda: ("safe", None) in instrument.log, "safe")
        with pytest.raises(LeaseError, match="ran out"):
            other.control(other.row(LASER).control, "renew", [[LASER], 1.0])
    instrument.interrupted.set()
    if thread is not None:
        thread.join()
    wait_until(lambda: "lease of 'run 18' ran out" in client.cached(LASER)["reason"], "reason shown")


def ready_to_hear(client: Client, events: Subscriber) -> bool:
    """Provoke an event and see whether it arrives."""
    with suppress(LeaseError), client.lease([LASER]):
        return events.receive(0.2) is not None
    return False
