"""What the process of the simulated lab serves over the bus: the core, and control of the world (faults, clock)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from labctl.bus.stream import StreamSource
from labctl.clock import Clock, SystemClock
from labctl.core.session import CoreSession, FinishedMessage, encode
from labctl.errors import BusError, CoreError, UnknownNameError
from labctl.schedule.items import from_json
from labctl.sim.faults import KINDS
from labctl.sim.instrument import SimInstrument
from labctl.up.world import Laboratory

SILENT_S = 5.0
"""A run that has not been heard of for so long is dead: the core stops, s."""


class CoreService:
    """The simulated core over the bus: actions start, keep, pause, resume, stop, status; records go out on a stream."""

    def __init__(self, session: CoreSession) -> None:
        self._session = session
        self._clock = SystemClock()
        self._owner = ""
        self._heard = 0.0
        self._source: StreamSource | None = None
        self._pump: threading.Thread | None = None
        self._closing = threading.Event()
        self._actions: dict[str, Callable[..., Any]] = {
            "start": self.start,
            "keep": self.keep,
            "pause": self._session.pause,
            "resume": self._session.resume,
            "stop": self._session.stop,
            "status": self.status,
        }

    def call(self, name: str, /, *arguments: Any) -> Any:
        """Run an action."""
        action = self._actions.get(name)
        if action is None:
            raise UnknownNameError(f"core has no action {name!r}; it has {', '.join(self._actions)}")
        return action(*arguments)

    def describe(self) -> Mapping[str, Any]:
        """The actions."""
        return {
            "driver": "labctl.core.sim:SimCore",
            "signals": {},
            "actions": {
                name: {"doc": (method.__doc__ or "").strip(), "arguments": ""}
                for name, method in self._actions.items()
            },
        }

    def start(self, schedule: str, rounds: int, first_record: int, owner: str) -> str:
        """Begin to play a schedule (JSON); the address of the stream of its records. ``keep`` must be called every few seconds."""
        if self._pump is not None:
            self._pump.join(1.0)  # the last run may have ended this moment
        if self._pump is not None and self._pump.is_alive():
            raise CoreError(
                f"the core is playing a run of {self._owner}; wait for it, or stop it with `labctl call core.stop`"
            )
        if self._source is not None:
            self._source.close()
        self._owner, self._heard = owner, self._clock.now()
        self._session.start(from_json(schedule.encode()), rounds, first_record)
        source = self._source = StreamSource()
        self._pump = threading.Thread(target=self._forward, args=(source,), name="core-stream", daemon=True)
        self._pump.start()
        return source.address

    def keep(self) -> None:
        """Say that the run is alive."""
        self._heard = self._clock.now()

    def status(self) -> dict[str, Any]:
        """Whether it plays, and for whom."""
        playing = self._pump is not None and self._pump.is_alive()
        return {"playing": playing, "owner": self._owner if playing else ""}

    def close(self) -> None:
        """Stop playing."""
        self._closing.set()
        self._session.abandon()
        if self._pump is not None:
            self._pump.join(5)
        if self._source is not None:
            self._source.close()

    def _forward(self, source: StreamSource) -> None:
        """Messages from the core to the stream, until the last or until the run has died."""
        try:
            while not self._closing.is_set():
                if self._clock.now() - self._heard > SILENT_S:
                    break
                message = self._session.next_message(0.2)
                if message is None:
                    continue
                self._send(source, encode(message))
                if isinstance(message, FinishedMessage):
                    source.finish(timeout_s=SILENT_S)
                    return
        except BusError:  # the reader has gone: nobody is left to tell
            self._session.abandon()
            return
        self._session.abandon()

    def _send(self, source: StreamSource, data: bytes) -> None:
        """Into the stream; waits for a slow reader as long as it is alive."""
        while True:
            try:
                source.send(data, timeout_s=1.0)
                return
            except BusError:
                if self._closing.is_set() or self._clock.now() - self._heard > SILENT_S:
                    raise


class WorldControl:
    """Control of the simulated world over the bus: faults on the wire and in the instruments, its clock and its causes."""

    def __init__(self, world: Laboratory, instruments: Mapping[str, SimInstrument], clock: Clock) -> None:
        self._world = world
        self._instruments = instruments
        self._clock = clock

    def call(self, name: str, /, *arguments: Any) -> Any:
        """Run an action: fault(device, kind, amount), clear(device), faults(), now(), sources()."""
        match name, arguments:
            case "fault", (str(device), str(kind), *rest):
                return self._fault(device, kind, float(rest[0]) if rest else 1.0)
            case "clear", (str(device),):
                return self._instrument(device).faults.clear()
            case "clear", (str(device), str(kind)):
                return self._instrument(device).faults.clear(kind)
            case "faults", ():
                return {
                    device: dict(one.faults.active)
                    for device, one in self._instruments.items()
                    if one.faults.active
                }
            case "now", ():
                return self._clock.now()
            case "sources", ():
                return [list(row) for row in self._world.sources()]
            case _:
                raise UnknownNameError(
                    f"world has no action {name}{arguments!r}; it has fault(device, kind, amount), clear(device), faults(), now(), sources()"
                )

    def describe(self) -> Mapping[str, Any]:
        """The actions."""
        kinds = "; ".join(f"{kind}: {what}" for kind, what in KINDS.items())
        return {
            "driver": "labctl.up.services:WorldControl",
            "signals": {},
            "actions": {
                "fault": {
                    "doc": f"switch a fault on ({kinds}; or one of the instrument's own, such as unlock)",
                    "arguments": "(device, kind, amount=1)",
                },
                "clear": {
                    "doc": "clear the wire faults of a device, or one of them",
                    "arguments": "(device, kind=all)",
                },
                "faults": {"doc": "faults that are on", "arguments": "()"},
                "now": {"doc": "laboratory time, s", "arguments": "()"},
                "sources": {"doc": "component values and their sources", "arguments": "()"},
            },
        }

    def _instrument(self, device: str) -> SimInstrument:
        found = self._instruments.get(device)
        if found is None:
            raise UnknownNameError(
                f"no simulated instrument {device!r}; there are {', '.join(self._instruments)}"
            )
        return found

    def _fault(self, device: str, kind: str, amount: float) -> None:
        instrument = self._instrument(device)
        if kind in KINDS:
            instrument.faults.switch(kind, amount)
            return
        own = instrument.own_faults()
        if kind not in own:
            raise UnknownNameError(f"{device} has no fault {kind!r}; it has {', '.join([*KINDS, *own])}")
        with self._world.lock:
            own[kind]()
