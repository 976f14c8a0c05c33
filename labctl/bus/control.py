"""A host's control lane: leases and safe(), which no slow query of an instrument can hold up.

safe() runs in the device's own thread if that is free; if it is busy, a second driver instance on a connection of its own
does it at once; if the instrument allows no second connection, the query under way is interrupted. In every case the
device's own thread runs safe() (again) before it answers anything else, so a request that was halfway cannot undo it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from labctl.bus.lane import LATER, LONGEST_WAIT_S, Lane
from labctl.bus.leases import Leases
from labctl.bus.owner import DeviceLane, SafeOrder
from labctl.bus.polling import Publish
from labctl.bus.wire import Request, convert
from labctl.clock import SystemClock, wall_time
from labctl.errors import DeviceError, LabError, UnknownNameError, WireError

FREE_S = 0.3
"""A device whose own thread does not begin within this time is busy, s (an idle one looks every LONGEST_WAIT_S)."""
OWN_S = 3.0
"""How long the device's own thread may take for safe() before a second connection is tried, s."""
LAST_S = 10.0
_SECOND = ("tcp", "visa", "zmq", "sim")
"""Transports that can have a second connection; a serial port would mix up the bytes of two."""

_clock = SystemClock()


class ControlLane(Lane):
    """Leases and safe() for the devices of one host."""

    def __init__(
        self, node: str, listen: str, lanes: Mapping[str, DeviceLane], leases: Leases, publish: Publish
    ) -> None:
        super().__init__(f"{node} control", listen)
        self._lanes = lanes
        self._leases = leases
        self._publish = publish
        self._orders: list[
            tuple[bytes, int, SafeOrders]
        ] = []  # sender (b"" for none), request number, orders

    def answer(self, request: Request, sender: bytes) -> Any:
        """``lease`` (devices, owner, ttl_s), ``renew`` (devices, ttl_s), ``release`` (devices), ``safe`` (devices, by whom)."""
        verb, client = request.verb, request.client
        if verb == "lease":
            names, owner, ttl_s = convert(request.arguments, tuple[list[str], str, float])
            self._know(names)
            self._leases.take(names, client, owner, ttl_s)
            self._say(names, "taken", owner)
        elif verb == "renew":
            names, ttl_s = convert(request.arguments, tuple[list[str], float])
            self._leases.renew(names, client, ttl_s)
        elif verb == "release":
            (names,) = convert(request.arguments, tuple[list[str]])
            owners = {name: self._leases.holder(name) for name in names}
            for name in self._leases.release(names, client):
                self._say([name], "released", owners[name])
        elif verb == "safe":
            names, by = convert(request.arguments, tuple[list[str], str])
            self._know(names)
            self._orders.append((sender, request.number, self.make_safe(names, f"made safe by {by}")))
            return LATER
        elif verb == "ping":
            return wall_time()
        else:
            raise WireError(f"{self.name}: a control lane does not understand {verb!r}")
        return None

    def make_safe(self, names: Sequence[str], reason: str) -> SafeOrders:
        """Begin to make devices safe, all at the same time."""
        return SafeOrders([self._lanes[name] for name in names or self._lanes], reason)

    def work(self) -> float:
        """Answer finished orders, and make safe what a lease ran out on."""
        for entry in [*self._orders]:
            sender, number, orders = entry
            if not orders.unfinished():
                self._orders.remove(entry)
                if sender:
                    self.reply(sender, number, orders.failures)
        expired = self._leases.expired()
        if expired:
            for name, owner in expired.items():
                self._say([name], "expired", owner)
                orders = self.make_safe([name], f"made safe: the lease of {owner!r} ran out")
                self._orders.append((b"", 0, orders))
        return 0.02 if self._orders else LONGEST_WAIT_S

    def _know(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._lanes:
                raise UnknownNameError(f"{name!r} is not a device of {self.name.removesuffix(' control')}")

    def _say(self, names: Sequence[str], what: str, owner: str) -> None:
        for name in names:
            self._publish(f"lease.{name}", {"lease": what, "owner": owner})


class SafeOrders:
    """safe() of several devices at once, one thread each; ``failures`` maps device to error text."""

    def __init__(self, lanes: Sequence[DeviceLane], reason: str) -> None:
        self.failures: dict[str, str] = {}
        self._threads = {
            lane.name: threading.Thread(
                target=self._one, args=(lane, reason), name=f"safe-{lane.name}", daemon=True
            )
            for lane in lanes
        }
        for thread in self._threads.values():
            thread.start()

    def unfinished(self, timeout_s: float = 0.0) -> list[str]:
        """Devices that are not done, after waiting up to ``timeout_s`` s for them."""
        deadline = _clock.now() + timeout_s
        for thread in self._threads.values():
            thread.join(max(0.0, deadline - _clock.now()))
        return [name for name, thread in self._threads.items() if thread.is_alive()]

    def _one(self, lane: DeviceLane, reason: str) -> None:
        order = lane.order_safe(reason)
        error = _make_safe(lane, order)
        if error is None:
            lane.set_state("safe", order.reason)
        else:
            self.failures[lane.name] = str(error)


def _make_safe(lane: DeviceLane, order: SafeOrder) -> BaseException | None:
    if order.begun.wait(FREE_S) and order.done.wait(OWN_S):
        return order.error
    refused = _through_second_connection(lane)
    if refused is None:
        return None
    lane.interrupt()
    if order.done.wait(LAST_S):
        return order.error
    return DeviceError(
        f"{lane.name}: could not be made safe: its thread is stuck in a query and a second connection failed ({refused}); switch it off by hand"
    )


def _through_second_connection(lane: DeviceLane) -> BaseException | None:
    """safe() on a connection of its own; why not, if it cannot be had."""
    try:
        second = lane.hosted.make()
        transport: Any = second.transport
        if transport is not None and transport.address.scheme not in _SECOND:
            return DeviceError(f"a {transport.address.scheme} port has one user")
        try:
            second.open()
            second.safe()
        finally:
            with contextlib.suppress(LabError, OSError):
                second.close()
    except Exception as error:  # noqa: BLE001  (the device's own connection is tried next, with the reason kept)
        return error
    return None
