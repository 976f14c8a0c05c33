"""Simulated instruments reached in the same process, same bytes, no sockets: ``sim://device`` for virtual time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

from labctl.clock import VirtualClock
from labctl.errors import ConfigError, NotConnectedError
from labctl.sim.instrument import Session, SimInstrument
from labctl.sim.server import TICK_S, spoil


class SimConnection:
    """One client's connection to one port of a simulated instrument.

    ``receive`` waits on the virtual clock: it advances the clock, ticking the session, until bytes come or the time is up.
    """

    def __init__(self, instrument: SimInstrument, port: str, clock: VirtualClock) -> None:
        self._clock = clock
        self._faults = instrument.faults
        self._due: deque[tuple[float, bytes]] = deque()
        most = self._faults.active.get("limit", math.inf)
        self.open = "refuse" not in self._faults.active and instrument.in_process_clients < most
        self._instrument = instrument
        self._answering: list[bytes] | None = None
        """What the session says to the request being handled, on a port that answers each with one frame."""
        self._one_frame = instrument.zmq_ports.get(port) == "rep"
        self._framed = port in instrument.zmq_ports
        self._session: Session | None = instrument.session(port, self._sent) if self.open else None
        if self._session is not None:
            instrument.in_process_clients += 1
            self._session.connected()

    def send(self, data: bytes) -> None:
        """Bytes to the instrument."""
        if self._session is None or not self.open:
            raise NotConnectedError("the simulated instrument closed the connection")
        if not self._one_frame:
            if "echo" in self._faults.active and not self._framed:
                self._due.append((self._clock.now(), data))
            self._session.receive(data)
            return
        self._answering = []
        self._session.receive(data)
        reply, self._answering = b"".join(self._answering), None
        self._sent(reply)

    def receive(self, timeout_s: float) -> bytes:
        """The next bytes it sent, or b"" after ``timeout_s`` s of virtual time."""
        return self.receive_frame(timeout_s) or b""

    def receive_frame(self, timeout_s: float) -> bytes | None:
        """What it sent in one go, which on a ZeroMQ port may be empty, or None after ``timeout_s`` s of virtual time."""
        deadline = self._clock.now() + timeout_s
        if self._session is not None:  # the clock may have moved since the last call
            self._session.tick(self._clock.now())
        while True:
            if self._due and self._due[0][0] <= self._clock.now():
                return self._due.popleft()[1]
            if not self.open and not self._due:
                raise NotConnectedError("the simulated instrument closed the connection")
            if self._clock.now() >= deadline:
                return None
            self._clock.advance(min(TICK_S, deadline - self._clock.now()))
            if self._session is not None:
                self._session.tick(self._clock.now())

    def close(self) -> None:
        """Disconnect."""
        if self._session is not None:
            self._session.disconnected()
            self._session = None
            self._instrument.in_process_clients -= 1
        self.open = False

    def _sent(self, data: bytes) -> None:
        if self._answering is not None:
            self._answering.append(data)
            return
        faults = self._faults
        if "silent" in faults.active or faults.take("drop"):
            return
        if faults.take("disconnect"):
            self.open = False
            return
        data = spoil(faults, data)
        when = self._clock.now() + faults.active.get("late", 0.0)
        half = len(data) // 2 if "split" in faults.active and not self._framed else 0
        if half:
            self._due.append((when, data[:half]))
            when += faults.active["split"]
        self._due.append((when, data[half:]))


class Bench:
    """The simulated instruments of a virtual-time lab by device name; ``connection`` is what a ``sim://`` transport uses."""

    def __init__(self, instruments: Mapping[str, SimInstrument], clock: VirtualClock) -> None:
        self.instruments = dict(instruments)
        self.clock = clock

    def connection(self, device: str, port: str = "") -> SimConnection:
        """A new client of one of the device's ports (the first if not named)."""
        instrument = self.instruments.get(device)
        if instrument is None:
            raise ConfigError(
                f"sim://{device}: no simulated instrument of that name; there are {', '.join(sorted(self.instruments))}"
            )
        return SimConnection(instrument, port or instrument.ports[0], self.clock)
