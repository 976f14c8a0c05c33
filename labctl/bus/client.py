"""The client: reads, sets and calls devices anywhere in the lab, straight at their hosts."""

from __future__ import annotations

import difflib
import getpass
import os
import socket
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Any

from labctl.bus.channel import Channel
from labctl.bus.wire import MOVED, DeviceRow, Reply, Verb, convert, error_from
from labctl.clock import SystemClock
from labctl.errors import BusError, DeviceError, LeaseError, NoAnswerError, NoHubError, UnknownNameError

ASK_AGAIN_S = 1.0
"""After so long without an answer the hub is asked whether the host still lives, s."""
SAFE_TIMEOUT_S = 20.0
_READS: frozenset[Verb] = frozenset({"get", "describe", "cached", "ping"})


class Client:
    """Talks to the devices of the lab whose hub is at ``hub_address``; any number of threads may use one client.

    timeout_s:  how long to wait for an answer unless a call says otherwise, s
    owner:      who this is, for leases and logs; default user, machine and process
    """

    def __init__(self, hub_address: str, timeout_s: float = 2.0, owner: str | None = None) -> None:
        self.hub_address = hub_address
        self.timeout_s = timeout_s
        self.owner = owner or f"{getpass.getuser()}@{socket.gethostname()} {os.getpid()}"
        self.identity = uuid.uuid4().hex[:16]
        self._clock = SystemClock()
        self._hub = Channel(hub_address)
        self._hub_mutex = threading.Lock()
        self._rows: dict[str, DeviceRow] = {}
        self._idle: dict[str, deque[Channel]] = {}  # address -> channels nobody uses at the moment
        self._all: list[Channel] = []
        self._closed = False

    # what people use

    def get(self, name: str, timeout_s: float | None = None) -> Any:
        """Ask the instrument for a signal, ``get("alice.laser_397.current")``; value in the signal's unit."""
        device, _, signal = name.rpartition(".")
        return self._ask("get", device, signal, (), timeout_s)

    def set(self, name: str, value: Any, timeout_s: float | None = None) -> None:
        """Set a signal, ``set("alice.laser_397.current", 0.12)``; LimitError if it is not allowed."""
        device, _, signal = name.rpartition(".")
        self._ask("set", device, signal, (value,), timeout_s)

    def call(self, name: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        """Run an action of a device or service, ``call("alice.laser_397.relock")``."""
        device, _, action = name.rpartition(".")
        if action == "safe" and not arguments:
            return self.safe([device])
        return self._ask("call", device, action, arguments, timeout_s)

    def describe(self, device: str) -> dict[str, Any]:
        """Signals (unit, limits, ...) and actions of a device or service."""
        return self._ask("describe", device, "", (), None)

    def cached(self, device: str) -> dict[str, Any]:
        """State and last polled values of a device, without asking the instrument."""
        return self._ask("cached", device, "", (), None)

    def ping(self, device: str) -> float:
        """Wall clock of the device's host, s since 1970."""
        return self._ask("ping", device, "", (), None)

    def restore(self, device: str, timeout_s: float | None = None) -> None:
        """Set the state the lab file declares (again); ends "safe"."""
        self._ask("restore", device, "", (), timeout_s)

    def devices(self) -> list[DeviceRow]:
        """Every device with host, driver, state, age, latency, clock offset and lease, from the hub."""
        rows = convert(self._ask_hub("list"), list[DeviceRow])
        self._rows = {**self._rows, **{row.device: row for row in rows}}
        return rows

    def safe(self, devices: Sequence[str] | None = None) -> None:
        """Make ``devices`` (all of them: None) safe now, whoever has leased them; DeviceError lists what failed.

        Goes straight to the hosts' control lanes, all at the same time, also when the hub is down.
        """
        by_control = self._controls(devices)
        failures: dict[str, str] = {}
        asked: list[tuple[str, Channel, int, list[str]]] = []
        for control, names in by_control.items():
            channel = self._channel(control)
            asked.append((control, channel, channel.send("safe", arguments=[names, self.owner]), names))
        deadline = self._clock.now() + SAFE_TIMEOUT_S
        for control, channel, number, names in asked:
            left_s = max(0.1, deadline - self._clock.now())
            reply = channel.receive(number, left_s) if number else None
            self._give_back(channel)
            if reply is None:
                failures.update(dict.fromkeys(names, f"its host at {control} does not answer"))
            elif reply.error is not None:
                failures.update(dict.fromkeys(names, reply.error[1]))
            else:
                failures.update(convert(reply.value, dict[str, str]))
        if failures:
            raise DeviceError(
                "NOT made safe: " + "; ".join(f"{name}: {text}" for name, text in failures.items())
            )

    def lease(self, devices: Sequence[str], ttl_s: float = 3.0, owner: str | None = None) -> Lease:
        """Exclusive control of ``devices`` while the ``with`` block runs; if this process dies they are made safe
        ``ttl_s`` s later.
        """
        return Lease(self, devices, ttl_s, owner or self.owner)

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        for channel in self._all:
            channel.close()
        self._hub.close()

    def __enter__(self) -> Client:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    # the way there

    def row(self, device: str) -> DeviceRow:
        """Where ``device`` is, as far as known (asks the hub the first time); UnknownNameError lists near names."""
        known = self._rows.get(device)
        if known is not None:
            return known
        self.devices()
        known = self._rows.get(device)
        if known is None:
            raise UnknownNameError(_near(device, [*self._rows]))
        return known

    def control(self, address: str, verb: Verb, arguments: Sequence[Any]) -> Any:
        """Ask a host's control lane (leases)."""
        channel = self._channel(address)
        number = channel.send(verb, arguments=arguments, client=self.identity)
        reply = channel.receive(number, self.timeout_s) if number else None
        self._give_back(channel)
        if reply is None:
            raise BusError(f"the host at {address} does not answer; see `labctl ls`")
        if reply.error is not None:
            raise error_from(reply.error)
        return reply.value

    def _ask(
        self, verb: Verb, device: str, name: str, arguments: Sequence[Any], timeout_s: float | None
    ) -> Any:
        row = self._rows.get(device) or self.row(device)
        wait_s = self.timeout_s if timeout_s is None else timeout_s
        for again in (True, False):
            channel = self._channel(row.address)
            number = channel.send(verb, device, name, arguments, self.identity)
            reply = self._await(channel, number, wait_s, row) if number else None
            self._give_back(channel)
            if reply is not None and reply.error is None:
                return reply.value
            if reply is not None and reply.error is not None and reply.error[0] != MOVED:
                raise error_from(reply.error)
            now = self._look_again(row)
            unsure = bool(number) and reply is None and verb not in _READS
            if now is None or now.epoch == row.epoch or unsure or not again:
                raise self._silence(verb, row, now, name, wait_s, bool(number))
            self._forget(row.address)
            row = now
        raise AssertionError("unreachable")

    def _await(self, channel: Channel, number: int, wait_s: float, row: DeviceRow) -> Reply | None:
        reply = channel.receive(number, min(wait_s, ASK_AGAIN_S))
        left_s = wait_s - ASK_AGAIN_S
        deadline = self._clock.now() + left_s if reply is None else 0.0
        while reply is None and left_s > 0 and not self._gone(row):
            reply = channel.receive(number, min(left_s, ASK_AGAIN_S))
            left_s = deadline - self._clock.now()
        return reply

    def _gone(self, row: DeviceRow) -> bool:
        try:
            rows = self.devices()
        except NoHubError:
            return False
        return not any(other.device == row.device and other.epoch == row.epoch for other in rows)

    def _look_again(self, row: DeviceRow) -> DeviceRow | None:
        """What the hub says now: where the device is, None if its host is gone; ``row`` itself if the hub is silent."""
        try:
            return next((other for other in self.devices() if other.device == row.device), None)
        except NoHubError:
            return row

    def _silence(
        self, verb: Verb, row: DeviceRow, now: DeviceRow | None, name: str, wait_s: float, sent: bool
    ) -> BusError | NoAnswerError:
        what = f"{row.device}.{name}" if name else row.device
        host = f"its host {row.node!r} ({row.address})"
        doubt = "" if verb in _READS or not sent else f"; the {verb} may or may not have been carried out"
        if now is None:
            return BusError(
                f"{what}: {host} is gone{doubt}; see `labctl ls`, start the host again if it does not come back by itself"
            )
        if now.epoch != row.epoch:
            return BusError(f"{what}: {host} was restarted during the {verb}{doubt}; try again")
        if sent:
            return NoAnswerError(
                f"{what}: no answer within {wait_s:g} s, {host} is busy with this device or cut off{doubt}; try again or wait longer"
            )
        return BusError(f"{what}: {host} cannot be reached; check that it runs (`labctl ls`) and the network")

    def _controls(self, devices: Sequence[str] | None) -> dict[str, list[str]]:
        if devices is None:
            try:
                rows = self.devices()
            except NoHubError:
                rows = [*self._rows.values()]
                if not rows:
                    raise
            return {row.control: [] for row in rows}
        out: dict[str, list[str]] = {}
        for device in devices:
            out.setdefault(self.row(device).control, []).append(device)
        return out

    def _ask_hub(self, verb: Verb) -> Any:
        with self._hub_mutex:
            if self._closed:
                raise BusError("this client is closed")
            return self._hub.ask(verb, timeout_s=min(self.timeout_s, 2.0))

    def _channel(self, address: str) -> Channel:
        try:
            return self._idle[address].pop()
        except (KeyError, IndexError):
            if self._closed:
                raise BusError("this client is closed") from None
            channel = Channel(address)
            self._all.append(channel)
            return channel

    def _give_back(self, channel: Channel) -> None:
        try:
            self._idle[channel.address].append(channel)
        except KeyError:
            self._idle.setdefault(channel.address, deque()).append(channel)

    def _forget(self, address: str) -> None:
        for channel in self._idle.pop(address, ()):
            self._all.remove(channel)
            channel.close()


class Lease:
    """Exclusive control of devices, renewed in the background; see ``Client.lease``. ``lost`` says why it ended early."""

    def __init__(self, client: Client, devices: Sequence[str], ttl_s: float, owner: str) -> None:
        self.devices = sorted({*devices})
        self.owner = owner
        self.ttl_s = ttl_s
        self.lost = ""
        self._client = client
        self._controls: dict[str, list[str]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="bus-lease", daemon=True)

    def __enter__(self) -> Lease:
        """Take all of them, or none; LeaseError says who has one."""
        for device in self.devices:
            self._controls.setdefault(self._client.row(device).control, []).append(device)
        taken: list[str] = []
        try:
            for control, names in self._controls.items():
                self._client.control(control, "lease", [names, self.owner, self.ttl_s])
                taken.append(control)
        except BusError:
            for control in taken:
                self._client.control(control, "release", [self._controls[control]])
            raise
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Give them back; LeaseError if the lease was lost on the way (and the block did not fail already)."""
        self._ended.set()
        self._thread.join()
        for control, names in self._controls.items():
            try:
                self._client.control(control, "release", [names])
            except BusError as error:
                self.lost = self.lost or str(error)
        if kind is None:
            self.check()

    def check(self) -> None:
        """LeaseError if the devices are no longer held."""
        if self.lost:
            raise LeaseError(self.lost)

    def _renew(self) -> None:
        while not self._ended.wait(self.ttl_s / 3):
            for control, names in self._controls.items():
                try:
                    self._client.control(control, "renew", [names, self.ttl_s])
                except LeaseError as error:
                    self.lost = str(error)
                    return
                except BusError as error:
                    self.lost = f"{error}: the lease of {', '.join(names)} runs out there"
                    return


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 3, 0.5)
    if near:
        return f"no device {name!r}; did you mean {' or '.join(near)}?"
    if not known:
        return f"no device {name!r}: no host has registered with the hub yet; see `labctl ls`"
    return (
        f"no device {name!r}; there are {', '.join(sorted(known)[:12])}{', ...' if len(known) > 12 else ''}"
    )
