"""Events: values and states as they change, and an honest count of what was lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bus_parts import Instrument, clock, hosted, wait_until

from labctl.bus import sockets
from labctl.bus.events import Publisher, Subscriber
from labctl.bus.host import Host
from labctl.bus.hub import Hub
from labctl.errors import NoHubError
from labctl.up.free_ports import free_ports


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub("tcp://127.0.0.1:0") as running:
        yield running


def connect(publisher: Publisher, hub: Hub, subscriber: Subscriber) -> None:
    """Publish until it arrives: the path is then open."""
    publisher.connect(hub.addresses.publish)
    wait_until(lambda: (publisher.publish("x.warm", 0), subscriber.receive(0.05))[1], "connected")
    clock.sleep(0.1)
    subscriber.drain(0.1)


def test_polled_values_arrive_when_they_change(hub: Hub) -> None:
    instrument = Instrument()
    address = hub.addresses.registry
    with Subscriber(address, "signal.alice.laser.") as events:
        with Host("alice", [hosted("alice.laser", instrument)], address):
            seen: list[float] = []
            for power in (0.1, 0.2, 0.3):
                instrument.values["power"] = power
                event = wait_until(
                    lambda power=power: next(
                        (e for e in events.drain(0.1) if e.payload["value"] == power), None
                    ),
                    f"{power} W seen",
                )
                seen.append(event.payload["value"])
                assert event.payload["unit"] == "W"
                assert event.topic == "signal.alice.laser.power"
            events.drain(0.3)
            assert events.drain(0.3) == []  # no change, no event
    assert events.lost == {}


def test_only_the_wanted_topics_arrive(hub: Hub) -> None:
    with Subscriber(hub.addresses.registry, ["x.", "z"]) as events:
        publisher = Publisher("test/1")
        connect(publisher, hub, events)
        for topic in ("x.a", "y.a", "z", "xx", "x.b"):
            publisher.publish(topic, {"n": 1})
        assert [event.topic for event in events.events(0.5)] == ["x.a", "z", "x.b"]
        publisher.close()


def test_order_and_sequence_are_kept_per_topic(hub: Hub) -> None:
    with Subscriber(hub.addresses.registry, "x.") as events:
        publisher = Publisher("test/1")
        connect(publisher, hub, events)
        for number in range(2000):
            publisher.publish(f"x.{number % 2}", number)
        got = [(event.sequence, event.payload) for event in events.events(1.0)]
        assert got == [(number // 2 + 1, number) for number in range(2000)]
        assert events.lost == {}
        publisher.close()


def test_a_reader_that_is_too_slow_counts_what_it_lost(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "HIGH_WATER", 10)
    with Hub("tcp://127.0.0.1:0") as small, Subscriber(small.addresses.registry, "x.") as events:
        publisher = Publisher("test/1")
        connect(publisher, small, events)
        sent = 20_000
        for number in range(sent):
            publisher.publish("x.flood", {"number": number, "padding": "p" * 1000})
        got = [*events.events(1.0)]
        while True:  # now slowly, until one gets through behind the gap
            publisher.publish("x.flood", {"number": sent, "padding": ""})
            sent += 1
            last = events.drain(0.2)
            got += last
            if last:
                break
        assert len(got) < sent
        missing = got[-1].sequence - got[0].sequence + 1 - len(got)
        assert missing > 0
        assert events.lost == {"x.flood": missing}
        publisher.close()


def test_a_restarted_source_is_not_a_loss(hub: Hub) -> None:
    with Subscriber(hub.addresses.registry, "x.") as events:
        for epoch in (1, 2):
            publisher = Publisher(f"test/{epoch}")
            connect(publisher, hub, events)
            publisher.publish("x.a", epoch)
            assert [event.payload for event in events.events(0.5)] == [epoch]
            publisher.close()
        assert events.lost == {}


def test_events_go_on_after_the_hub_was_restarted() -> None:
    with Hub(f"tcp://127.0.0.1:{free_ports(1)[0]}") as first:  # (a port of its own: it is taken again below)
        address = first.addresses.registry
        events = Subscriber(address, "device.")
    instrument = Instrument()
    with Host("alice", [hosted("alice.laser", instrument)], address) as host, Hub(address):
        host.wait_registered()
        wait_until(lambda: not host.problem, "registered")

        def flicker() -> bool:
            instrument.reachable = not instrument.reachable
            return bool(events.drain(0.3))

        wait_until(flicker, "events from the new exchange", 20)
    events.close()


def test_subscribing_without_a_hub_says_so() -> None:
    with pytest.raises(NoHubError):
        Subscriber("tcp://127.0.0.1:1", timeout_s=0.1)


def test_the_state_of_a_device_from_before_its_host_was_registered_is_heard() -> None:
    with Hub(f"tcp://127.0.0.1:{free_ports(1)[0]}") as first:  # (a port of its own: it is taken again below)
        address = first.addresses.registry
    instrument = Instrument()
    with Host("alice", [hosted("alice.laser", instrument, current=0.1)], address):
        wait_until(lambda: ("current", 0.1) in instrument.log, "set up without a hub")
        clock.sleep(0.2)
        with Hub(address), Subscriber(address, "device.") as events:
            heard = wait_until(lambda: events.drain(0.2), "told")
    assert [(event.topic, event.payload["state"]) for event in heard] == [("device.alice.laser", "ready")]


def test_who_subscribes_late_hears_the_present_state_of_each_device_once(hub: Hub) -> None:
    address = hub.addresses.registry
    devices = [hosted(f"alice.laser_{n}", Instrument()) for n in range(5)]
    with Subscriber(address, "device.") as early, Host("alice", devices, address) as host:
        host.wait_registered()
        ready: set[str] = set()
        wait_until(
            lambda: (
                ready.update(e.topic for e in early.drain(0.1) if e.payload["state"] == "ready"),
                len(ready) == 5,
            )[1],
            "all ready",
        )
        with Subscriber(address, ["device.alice.laser_3", "device.alice.laser_4", "x."]) as late:
            heard = wait_until(lambda: late.drain(1.0), "told")
            heard += late.drain(0.7)
        assert [(e.topic, e.payload["state"]) for e in heard] == [
            ("device.alice.laser_3", "ready"),
            ("device.alice.laser_4", "ready"),
        ]
        assert early.drain(0.1) == []  # nothing new for those who knew
        assert late.lost == early.lost == {}
