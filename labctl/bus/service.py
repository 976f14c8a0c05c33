"""Hosts something other than an instrument (the simulated core, the world's control) on a lane of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from labctl.bus.lane import Lane
from labctl.bus.wire import DeviceEntry, DeviceState, MovedError, Request
from labctl.clock import wall_time
from labctl.errors import UnknownNameError


class Service(Protocol):
    """What a host can serve besides devices. Both methods run in one thread, one call at a time."""

    def call(self, name: str, /, *arguments: Any) -> Any:
        """Run the action ``name``; UnknownNameError if there is none."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """``{"driver": ..., "actions": {name: {"doc": ..., "arguments": ...}}}``."""
        ...


@dataclass(frozen=True)
class HostedService:
    """A service and the name it has in the lab."""

    name: str
    service: Service


class ServiceLane(Lane):
    """The thread of one service."""

    def __init__(self, hosted: HostedService, listen: str) -> None:
        super().__init__(hosted.name, listen)
        self.service = hosted.service
        self._since = wall_time()

    def answer(self, request: Request, sender: bytes) -> Any:
        """Calls, ``describe`` and ``ping``."""
        if request.device != self.name:
            raise MovedError(f"{self.name} is here, not {request.device}")
        if request.verb == "call":
            return self.service.call(request.name, *request.arguments)
        if request.verb == "describe":
            return self.service.describe()
        if request.verb == "ping":
            return wall_time()
        raise UnknownNameError(
            f"{self.name} is a service: it has actions but nothing to {request.verb}; see describe()"
        )

    def entry(self, address: str) -> DeviceEntry:
        """What the hub is told."""
        kind = type(self.service)
        return DeviceEntry(self.name, f"{kind.__module__}:{kind.__name__}", address, False)

    def state(self) -> DeviceState:
        """A service is ready as long as its host lives."""
        return DeviceState(self.name, "ready", "", self._since, 0.0, 0.0, "")
