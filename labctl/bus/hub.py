"""The hub: who hosts which device at which address, and the exchange that passes events on. Requests never go through it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from labctl.bus.events import HUB_BEAT, HUB_BEAT_S, Publisher
from labctl.bus.lane import Lane
from labctl.bus.sockets import Exchange
from labctl.bus.wire import Beat, DeviceRow, DeviceState, Registration, Request, convert
from labctl.clock import wall_time
from labctl.errors import BusError, WireError

SILENT_S = 2.5
"""A host unheard of for so long is dropped, s: with a beat every 0.5 s it is gone 3 s after its death at the latest."""


@dataclass(frozen=True)
class Addresses:
    """Where a hub listens."""

    registry: str
    """The only one anybody needs to be told."""
    publish: str
    subscribe: str


@dataclass
class _HostRecord:
    registration: Registration
    heard: float
    clock_offset_s: float = 0.0
    states: dict[str, DeviceState] = field(default_factory=dict[str, DeviceState])


class Hub:
    """Registry and event exchange on ``tcp://host:port`` (port 0: any free one; see ``addresses``)."""

    def __init__(self, address: str) -> None:
        self._exchange = Exchange(f"{address.rpartition(':')[0]}:0")
        try:
            self._registry = _Registry(
                address, self._exchange.publish_address, self._exchange.subscribe_address
            )
        except BusError:
            self._exchange.close()
            raise
        self.addresses = self._registry.addresses

    def start(self) -> Hub:
        """Serve in threads, until ``close``."""
        self._registry.start()
        return self

    def run_forever(self, stop: threading.Event) -> None:
        """Serve until ``stop`` is set."""
        self.start()
        try:
            stop.wait()
        finally:
            self.close()

    def close(self) -> None:
        """Stop; hosts and clients go on without it."""
        self._registry.close()
        self._registry.publisher.close()
        self._exchange.close()

    def __enter__(self) -> Hub:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


class _Registry(Lane):
    """Who is there."""

    def __init__(self, listen: str, publish: str, subscribe: str) -> None:
        super().__init__("hub", listen)
        self.addresses = Addresses(self.address, publish, subscribe)
        self.publisher = Publisher(f"hub/{int(wall_time() * 1000)}")
        self.publisher.connect(publish)
        self._hosts: dict[str, _HostRecord] = {}
        self._next_beat = 0.0

    def answer(self, request: Request, sender: bytes) -> Any:
        """``list``, ``exchange``, and from hosts ``register``, ``beat``, ``leave``."""
        verb = request.verb
        if verb == "beat":
            return self._beat(convert(request.arguments, tuple[Beat])[0])
        if verb == "list":
            return [row for record in self._hosts.values() for row in self._rows(record)]
        if verb == "exchange":
            return self.addresses.publish, self.addresses.subscribe
        if verb == "register":
            return self._register(convert(request.arguments, tuple[Registration])[0])
        if verb == "leave":
            node, epoch = convert(request.arguments, tuple[str, int])
            if node in self._hosts and self._hosts[node].registration.epoch == epoch:
                self._drop(node, "closed")
            return None
        if verb == "ping":
            return wall_time()
        raise WireError(
            f"the hub does not understand {verb!r}: that goes to the device's host, at the address `list` gives"
        )

    def work(self) -> float:
        """Drop hosts that fell silent; show that the hub lives."""
        now = self.clock.now()
        for node, record in [*self._hosts.items()]:
            if now - record.heard > SILENT_S:
                self._drop(node, f"not heard of for {now - record.heard:.1f} s")
        if now >= self._next_beat:
            self._next_beat = now + HUB_BEAT_S
            self.publisher.publish(HUB_BEAT, None)
        return 0.1

    def _register(self, new: Registration) -> tuple[str, str]:
        old = self._hosts.get(new.node)
        if old is not None and old.registration.epoch > new.epoch:
            raise BusError(f"host {new.node!r} was started again elsewhere; this older one is not listed")
        for node, record in self._hosts.items():
            taken = {entry.device for entry in record.registration.devices} & {
                entry.device for entry in new.devices
            }
            if node != new.node and taken:
                raise BusError(
                    f"host {new.node!r}: {', '.join(sorted(taken))} already belongs to host {node!r}; see `labctl ls`"
                )
        self._hosts[new.node] = _HostRecord(new, self.clock.now())
        if old is None or old.registration.epoch != new.epoch:
            self._say(new, "up", "")
        return self.addresses.publish, self.addresses.subscribe

    def _beat(self, beat: Beat) -> float:
        """The hub's wall clock; 0 tells the host to register (again)."""
        record = self._hosts.get(beat.node)
        if record is None or record.registration.epoch != beat.epoch:
            return 0.0
        record.heard = self.clock.now()
        record.clock_offset_s = beat.clock_offset_s
        record.states = {state.device: state for state in beat.states}
        return wall_time()

    def _drop(self, node: str, reason: str) -> None:
        self._say(self._hosts.pop(node).registration, "gone", reason)

    def _say(self, host: Registration, state: str, reason: str) -> None:
        devices = [entry.device for entry in host.devices]
        self.publisher.publish(f"host.{host.node}", {"state": state, "reason": reason, "devices": devices})

    def _rows(self, record: _HostRecord) -> list[DeviceRow]:
        host, since_s = record.registration, self.clock.now() - record.heard
        rows: list[DeviceRow] = []
        for entry in host.devices:
            row = DeviceRow(
                entry.device, host.node, entry.driver, entry.address, host.control, host.epoch, entry.required
            )
            state = record.states.get(entry.device)
            if state is not None:
                age_s = state.age_s + since_s if state.age_s >= 0 else -1.0
                row = DeviceRow(
                    entry.device, host.node, entry.driver, entry.address, host.control, host.epoch,
                    entry.required, state.state, state.reason, state.since, age_s, state.latency_s,
                    record.clock_offset_s, state.leased_by,
                )  # fmt: skip
            rows.append(row)
        return rows
