"""Requests over the bus: straight from client to the device's own thread and back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from bus_parts import Instrument, MemoryLaser, clock, hosted, wait_until

from labctl.bus.client import Client
from labctl.bus.host import Host
from labctl.bus.hub import Hub
from labctl.bus.owner import HostedDevice
from labctl.bus.remote import Lab
from labctl.bus.service import HostedService
from labctl.errors import (
    BusError,
    ConfigError,
    LabError,
    LimitError,
    NoAnswerError,
    NoHubError,
    RefusedError,
    UnknownNameError,
    WireError,
)

LASER = "alice.laser_397"


class Counter:
    """A service."""

    def __init__(self) -> None:
        self.count = 0

    def call(self, name: str, /, *arguments: Any) -> Any:
        if name != "add":
            raise UnknownNameError(f"counter has no action {name!r}; it has add")
        self.count += arguments[0]
        return self.count

    def describe(self) -> dict[str, Any]:
        return {"driver": "counter", "actions": {"add": {"doc": "Add.", "arguments": "(number)"}}}


@pytest.fixture
def instrument() -> Instrument:
    return Instrument()


@pytest.fixture
def hub() -> Iterator[str]:
    with Hub("tcp://127.0.0.1:0") as running:
        yield running.addresses.registry


@pytest.fixture
def client(hub: str, instrument: Instrument) -> Iterator[Client]:
    devices = [hosted(LASER, instrument), hosted("alice.laser_866", Instrument())]
    with Host("alice", devices, hub, services=[HostedService("alice.counter", Counter())]) as host:
        host.wait_registered()
        with Client(hub) as one:
            wait_until(lambda: one.cached(LASER)["state"] == "ready", "ready")
            yield one


def test_get_set_call(client: Client, instrument: Instrument) -> None:
    client.set(f"{LASER}.current", 0.12)
    assert client.get(f"{LASER}.current") == 0.12
    assert instrument.values["current"] == 0.12
    assert client.call(f"{LASER}.relock", 3) == "locked after 3"
    described = client.describe(LASER)
    assert described["signals"]["current"]["limits"] == [0.0, 0.18]
    assert described["actions"]["relock"]["doc"] == "Lock again."


def test_limits_and_refusals_come_back_as_their_own_errors(client: Client, instrument: Instrument) -> None:
    with pytest.raises(LimitError) as limit:
        client.set(f"{LASER}.current", 0.2)
    assert str(limit.value) == f"{LASER}.current: 200 mA is outside 0 A to 180 mA; nothing was sent"
    assert instrument.log == []
    with pytest.raises(RefusedError, match="no"):
        client.call(f"{LASER}.fail")
    with pytest.raises(LabError, match="ZeroDivisionError: oops"):
        client.call(f"{LASER}.broken")
    with pytest.raises(UnknownNameError, match="argument"):
        client.call(f"{LASER}.relock")
    assert client.get(f"{LASER}.wave") == 0  # and it still answers


def test_unknown_names_list_near_ones(client: Client) -> None:
    with pytest.raises(UnknownNameError, match=r"no device 'alice.laser_379'; did you mean alice\.laser_397"):
        client.get("alice.laser_379.current")
    with pytest.raises(UnknownNameError, match="no signal 'curent'; it has current, power, wave"):
        client.get(f"{LASER}.curent")


def test_only_actions_can_be_called(client: Client) -> None:
    for name in ("close", "open", "__class__", "_write", "transport"):
        with pytest.raises(UnknownNameError):
            client.call(f"{LASER}.{name}")


def test_arrays_come_back_as_arrays(client: Client) -> None:
    np.testing.assert_array_equal(client.call(f"{LASER}.samples", 100_000), np.arange(100_000))


def test_a_value_that_cannot_travel_is_refused(client: Client) -> None:
    with pytest.raises(WireError, match="cannot travel"):
        client.call(f"{LASER}.relock", object())


def test_friendly_layer(client: Client) -> None:
    lab = Lab(client)
    laser = lab[LASER]
    laser.current.set(0.05)
    assert laser.current.get() == 0.05
    assert laser.current.unit == "A"
    assert laser.relock(2) == "locked after 2"
    assert "relock" in dir(laser)
    assert [*lab] == ["alice.counter", LASER, "alice.laser_866"]
    with pytest.raises(UnknownNameError, match="did you mean current"):
        laser.curent.get()
    assert not hasattr(laser, "nothing_like_it")


def test_a_service_is_called_like_a_device(client: Client) -> None:
    assert client.call("alice.counter.add", 2) == 2
    assert Lab(client)["alice.counter"].add(3) == 5
    with pytest.raises(UnknownNameError, match="has no action"):
        client.call("alice.counter.subtract", 2)
    with pytest.raises(UnknownNameError, match="service"):
        client.get("alice.counter.count")


def test_the_list_shows_state_age_and_offset(client: Client) -> None:
    row = wait_until(
        lambda: next((r for r in client.devices() if r.device == LASER and r.state == "ready"), None),
        "listed as ready",
    )
    assert row.node == "alice"
    assert row.driver == "bus_parts:MemoryLaser"
    assert 0 <= row.age_s < 5
    assert row.latency_s > 0
    assert abs(row.clock_offset_s) < 1
    assert abs(client.ping(LASER) - row.since) < 60


def test_two_clients_and_many_threads(client: Client, hub: str) -> None:
    wrong: list[Any] = []

    def work(own: Client, device: str, value: float) -> None:
        for _ in range(100):
            if own.call(f"{device}.relock", value) != f"locked after {value}":
                wrong.append(value)

    with Client(hub) as other:
        threads = [
            threading.Thread(target=work, args=(own, device, number))
            for number, (own, device) in enumerate(
                (own, device)
                for own in (client, other)
                for device in (LASER, "alice.laser_866")
                for _ in "ab"
            )
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_late_reply_is_not_taken_for_another_answer(client: Client, instrument: Instrument) -> None:
    with pytest.raises(NoAnswerError, match=r"no answer within 0\.1 s.*may or may not"):
        client.call(f"{LASER}.ponder", 0.4, timeout_s=0.1)
    assert client.get(f"{LASER}.current") == 0.0
    assert client.call(f"{LASER}.relock", 7) == "locked after 7"


def test_without_a_hub_the_error_says_so() -> None:
    with Client("tcp://127.0.0.1:1", timeout_s=0.2) as client:
        with pytest.raises(NoHubError, match="labctl up"):
            client.get("alice.laser.current")


def test_a_second_hub_on_the_same_port_is_refused(hub: str) -> None:
    with pytest.raises(BusError, match="cannot listen"):
        Hub(hub)


def test_two_hosts_cannot_have_the_same_device(client: Client, hub: str) -> None:
    with Host("bob", [hosted(LASER, Instrument())], hub) as second:
        wait_until(lambda: "already belongs to host 'alice'" in second.problem, "refused")
    assert client.get(f"{LASER}.current") == 0.0
    with pytest.raises(ConfigError, match="twice"):
        Host("bob", [hosted("x", Instrument()), hosted("x", Instrument())], hub)


def test_a_restarted_host_is_found_again(hub: str) -> None:
    with Client(hub) as client:
        for wave in (1, 2):
            instrument = Instrument()
            instrument.values["wave"] = wave
            with Host("alice", [hosted(LASER, instrument)], hub) as host:
                host.wait_registered()
                wait_until(lambda: client.cached(LASER)["state"] == "ready", "ready")
                assert client.get(f"{LASER}.wave") == wave
        with pytest.raises(BusError, match=r"its host 'alice' .* is gone"):
            client.get(f"{LASER}.wave")


def test_a_port_that_now_serves_another_device_is_noticed(hub: str) -> None:
    with Host("alice", [hosted(LASER, Instrument())], hub) as host, Client(hub) as client:
        host.wait_registered()
        wait_until(lambda: client.cached(LASER)["state"] == "ready", "ready")
        row = client.row(LASER)
        client._rows["alice.other"] = type(row)(
            "alice.other", row.node, row.driver, row.address, row.control, row.epoch, row.required
        )
        with pytest.raises(BusError, match="gone"):
            client.set("alice.other.current", 0.1)
        assert client.get(f"{LASER}.current") == 0.0


def test_a_host_starts_before_its_hub() -> None:
    with Hub("tcp://127.0.0.1:0") as first:
        address = first.addresses.registry
    with Host("alice", [hosted(LASER, Instrument())], address) as host:
        clock.sleep(0.1)
        with Hub(address), Client(address) as client:
            host.wait_registered()
            assert client.row(LASER).node == "alice"


def test_closing_lets_go_of_the_instrument(hub: str) -> None:
    instrument = Instrument()
    with Host("alice", [HostedDevice(LASER, lambda: MemoryLaser(instrument, LASER))], hub):
        wait_until(lambda: instrument.open == 1, "opened")
    assert instrument.open == 0
    assert ("safe", None) not in instrument.log
    host = Host("alice", [hosted(LASER, instrument)], hub).start()
    wait_until(lambda: instrument.open == 1, "opened")
    assert host.close(safe=True) == {}
    assert instrument.log[-1] == ("safe", None)
