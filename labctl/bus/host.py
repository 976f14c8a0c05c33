"""A host: the process part that owns devices, each in a thread of its own, and keeps the hub informed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from labctl.bus.channel import Channel
from labctl.bus.control import ControlLane
from labctl.bus.events import Publisher
from labctl.bus.lane import Lane
from labctl.bus.leases import Leases
from labctl.bus.owner import DeviceLane, HostedDevice
from labctl.bus.service import HostedService, ServiceLane
from labctl.bus.wire import Beat, Registration, convert
from labctl.clock import Clock, SystemClock, wall_time
from labctl.errors import BusError, ConfigError, NoHubError

BEAT_S = 0.5
"""How often a host tells the hub that it lives, s; a change of a device's state is told at once."""


class Host:
    """Serves ``devices`` and ``services`` of ``node`` and announces them to the hub.

    listen:     interface of the request ports ("0.0.0.0" for all); each device has a port of its own
    advertise:  host name or address under which clients reach this machine, if that is not ``listen``
    safe_marks: folder that remembers which devices were made safe, so that they stay so if this host dies and is started
                again, until ``restore``; None: a host that is started sets the declared state
    clock:      what polling and trying again are counted on (default: the machine's)
    """

    def __init__(
        self,
        node: str,
        devices: Sequence[HostedDevice],
        hub_address: str,
        *,
        services: Sequence[HostedService] = (),
        listen: str = "127.0.0.1",
        advertise: str = "",
        safe_marks: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        names = [hosted.name for hosted in (*devices, *services)]
        if len(names) != len({*names}):
            raise ConfigError(f"host {node!r}: a device name occurs twice in {', '.join(sorted(names))}")
        if listen in ("0.0.0.0", "*") and not advertise:
            raise ConfigError(f"host {node!r}: listening on all interfaces needs a name to advertise")
        self.node = node
        self.epoch = int(wall_time() * 1e6)
        self.problem = ""
        """Why the hub does not list this host ("" if it does)."""
        self._clock = SystemClock()
        self._hub_address = hub_address
        self._advertise = advertise
        self._publisher = Publisher(f"{node}/{self.epoch}", kept=("device.",))
        self._leases = Leases(self._clock)
        self._lanes: dict[str, DeviceLane] = {}
        self._services: list[ServiceLane] = []
        self._stopping = threading.Event()
        self._registered = threading.Event()
        self._beat_due = threading.Event()
        self._clock_offset_s = 0.0
        any_port = f"tcp://{listen}:0"
        publish = self._publish
        try:
            self._control = ControlLane(node, any_port, self._lanes, self._leases, publish)
            for hosted in devices:
                self._lanes[hosted.name] = DeviceLane(
                    hosted, any_port, self._leases, publish, safe_marks, clock
                )
            for service in services:
                self._services.append(ServiceLane(service, any_port))
        except BaseException:
            self._close_sockets()
            raise
        self._thread = threading.Thread(target=self._report, name=f"bus-{node}-beat", daemon=True)

    def start(self) -> Host:
        """Begin to connect the devices and to serve them, whether the hub is there yet or not."""
        for lane in (*self._lanes.values(), *self._services, self._control):
            lane.start()
        self._thread.start()
        return self

    def wait_registered(self, timeout_s: float = 5.0) -> None:
        """Return when the hub lists this host; BusError says why it does not."""
        if not self._registered.wait(timeout_s):
            raise BusError(self.problem or f"host {self.node!r}: the hub at {self._hub_address} is silent")

    def run_forever(self, stop: threading.Event, safe: bool = False) -> None:
        """Serve until ``stop`` is set; then ``close(safe)``."""
        self.start()
        try:
            stop.wait()
        finally:
            self.close(safe)

    def close(self, safe: bool = False) -> dict[str, str]:
        """Stop serving, first making every device safe if asked; maps what went wrong: device to text."""
        failures: dict[str, str] = {}
        if safe and self._lanes and self._thread.ident is not None:
            orders = self._control.make_safe([], f"made safe: host {self.node!r} was closed")
            late = orders.unfinished(15.0)
            failures = {**orders.failures, **dict.fromkeys(late, "safe() did not end in time; switch it off")}
        self._stopping.set()
        self._beat_due.set()
        if self._thread.ident is not None:
            self._thread.join(10)
        failures.update(self._close_sockets())
        return failures

    def __enter__(self) -> Host:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Close it, leaving the instruments as they are."""
        self.close()

    def _close_sockets(self) -> dict[str, str]:
        lanes: list[Lane] = [*self._lanes.values(), *self._services]
        if hasattr(self, "_control"):
            lanes.append(self._control)
        for lane in lanes:
            lane.stop()
        stuck: dict[str, str] = {}
        for lane in lanes:
            if not lane.close(2.0):
                if isinstance(lane, DeviceLane):
                    lane.interrupt()
                if not lane.close(8.0):
                    stuck[lane.name] = "its thread is stuck in a query and was left behind"
        self._publisher.close()
        return stuck

    def _publish(self, topic: str, payload: Any) -> None:
        self._publisher.publish(topic, payload)
        if topic.startswith("device."):
            self._beat_due.set()

    # the hub, in a thread of its own

    def _report(self) -> None:
        channel = Channel(self._hub_address, connect_s=0.5)
        try:
            known = False
            while not self._stopping.is_set():
                try:
                    known = self._beat(channel) if known else self._register(channel)
                    self.problem = ""
                except NoHubError as error:
                    known, self.problem = False, str(error)
                except BusError as error:
                    known, self.problem = False, str(error)
                if known:
                    self._registered.set()
                    self._publisher.tell_newcomers()
                    self._beat_due.wait(BEAT_S)
                    self._beat_due.clear()  # before the states are gathered, so that no change is missed
                else:
                    self._registered.clear()
                    self._stopping.wait(0.1)
            if known:
                with contextlib.suppress(BusError):  # a hub that is down learns it by silence
                    channel.ask("leave", [self.node, self.epoch], timeout_s=0.5)
        finally:
            channel.close()

    def _register(self, channel: Channel) -> bool:
        lanes = (*self._lanes.values(), *self._services)
        entries = [lane.entry(self._reachable(lane.address)) for lane in lanes]
        new = Registration(self.node, self.epoch, self._reachable(self._control.address), entries)
        addresses = channel.ask("register", [new], timeout_s=1.0)
        self._publisher.connect(convert(addresses, tuple[str, str])[0])
        return self._beat(channel)

    def _beat(self, channel: Channel) -> bool:
        states = [lane.state() for lane in (*self._lanes.values(), *self._services)]
        before = wall_time()
        beat = Beat(self.node, self.epoch, self._clock_offset_s, states)
        hub_time = convert(channel.ask("beat", [beat], timeout_s=1.0), float)
        if hub_time == 0.0:
            return False
        self._clock_offset_s = (before + wall_time()) / 2 - hub_time
        return True

    def _reachable(self, address: str) -> str:
        return f"tcp://{self._advertise}:{urlsplit(address).port}" if self._advertise else address
