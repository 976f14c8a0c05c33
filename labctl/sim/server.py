"""Serves simulated instruments on TCP ports and pseudo-terminals: one thread, every client, wire faults included."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import math
import os
import selectors
import socket
import threading
import tty
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.clock import Clock, SystemClock
from labctl.errors import ConfigError
from labctl.sim.faults import ENDS, UNASKED, Faults
from labctl.sim.instrument import Session, SimInstrument

log = logging.getLogger(__name__)
TICK_S = 0.01
LOOK_S = 0.05
"""How often a server of which no session wants to be called looks whether ``refuse`` was switched on, s."""
_real = SystemClock()


@dataclass(eq=False)
class _Client:
    """One connection: a TCP socket or the master side of a pseudo-terminal."""

    file: Any
    read: Callable[[], bytes]
    write: Callable[[bytes], int]
    instrument: SimInstrument
    port_name: str
    session: Session | None = None
    out: bytearray = field(default_factory=bytearray)
    pty: bool = False
    waiting: bool = False
    """Whether there is more to send than it has room for."""
    ticks: bool = False
    """Whether its session wants to be called as time passes."""
    answering: bool = False
    """While its session runs: what it sends goes out in one piece afterwards."""
    held_until: float = 0.0
    """When its last byte goes out, s."""
    pending: int = 0
    """Pieces still held back."""


class SimServer:
    """Serves any number of simulated instruments from one thread.

    lock:   held while a session runs; the world's lock, so instruments and core see one state
    clock:  the world's clock, given to ``Session.tick``
    """

    def __init__(self, lock: Any | None = None, clock: Clock | None = None) -> None:
        self._lock = lock if lock is not None else threading.RLock()
        self._clock = clock or _real
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._selector.register(self._wake_in, selectors.EVENT_READ, None)
        self._listeners: list[socket.socket] = []
        self._clients: list[_Client] = []
        self._slaves: list[int] = []
        self._links: list[str] = []
        self._later: list[tuple[float, int, _Client, bytes]] = []
        self._order = itertools.count()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def serve_tcp(
        self, instrument: SimInstrument, port_name: str = "", host: str = "127.0.0.1", port: int = 0
    ) -> int:
        """Listen for clients of one of the instrument's ports; the actual TCP port. Call before ``start``."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            listener.close()
            raise ConfigError(
                f"simulated {type(instrument).__name__}: cannot listen on {host}:{port} ({error.strerror}); is the same lab already up? see `labctl ls`, `labctl down`"
            ) from None
        listener.listen(16)
        listener.setblocking(False)
        self._listeners.append(listener)
        name = port_name or instrument.ports[0]
        self._selector.register(
            listener, selectors.EVENT_READ, lambda: self._accept(listener, instrument, name)
        )
        return listener.getsockname()[1]

    def serve_pty(self, instrument: SimInstrument, port_name: str = "", link: str = "") -> str:
        """Serve one of the instrument's ports on a pseudo-terminal; the path to open. Call before ``start``.

        link:  a symbolic link to make, for a stable name
        """
        master, slave = os.openpty()
        tty.setraw(master)
        tty.setraw(slave)
        os.set_blocking(master, False)
        path = os.ttyname(slave)
        self._slaves.append(slave)  # kept open: the master never sees EIO when a client leaves

        client = _Client(
            master,
            lambda: os.read(master, 65536),
            lambda data: os.write(master, data),
            instrument,
            port_name or instrument.ports[0],
            pty=True,
        )
        self._begin(client)
        if link:
            with contextlib.suppress(FileNotFoundError):
                Path(link).unlink()
            Path(link).symlink_to(path)
            self._links.append(link)
        return link or path

    def start(self) -> SimServer:
        """Begin serving in a thread."""
        self._thread = threading.Thread(target=self._loop, name="simulated-instruments", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop the thread and close every port."""
        self._stopping.set()
        self._wake()
        if self._thread is not None:
            self._thread.join(5)
        for client in list(self._clients):
            self._drop(client)
        for listener in self._listeners:
            listener.close()
        for slave in self._slaves:
            os.close(slave)
        for link in self._links:
            with contextlib.suppress(FileNotFoundError):
                Path(link).unlink()
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()

    def held(self, instrument: SimInstrument) -> int:
        """How many pieces of answers of an instrument are held back by faults, also by those that are off again."""
        return sum(client.pending for client in [*self._clients] if client.instrument is instrument)

    def __enter__(self) -> SimServer:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_out.send(b"x")

    def _loop(self) -> None:
        next_tick = _real.now()
        while not self._stopping.is_set():
            due = self._later[0][0] if self._later else float("inf")
            ready = self._selector.select(max(0.0, min(next_tick, due) - _real.now()))
            for key, mask in ready:
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        self._wake_in.recv(4096)
                elif isinstance(key.data, _Client):
                    self._serve(key.data, mask)
                else:
                    key.data()
                    next_tick = min(next_tick, _real.now() + TICK_S)  # a new client may want it
            now = _real.now()
            while self._later and self._later[0][0] <= now:
                _, _, client, data = heapq.heappop(self._later)
                client.pending -= 1
                if client in self._clients:
                    self._queue(client, data)
            if now >= next_tick:
                next_tick = now + (TICK_S if self._tick() else LOOK_S)

    def _tick(self) -> bool:
        """Let time pass for the sessions that want to know; whether there are any."""
        world_now = self._clock.now()
        ticking = False
        for client in [*self._clients]:
            if "refuse" in client.instrument.faults.active and not client.pty:
                self._drop(client)
            elif client.ticks and client in self._clients:
                ticking = True
                self._run(client, lambda session: session.tick(world_now))
        return ticking

    def _accept(self, listener: socket.socket, instrument: SimInstrument, port_name: str) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        others = sum(1 for client in self._clients if client.instrument is instrument)
        if "refuse" in instrument.faults.active or others >= instrument.faults.active.get("limit", math.inf):
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._begin(
            _Client(connection, lambda: connection.recv(65536), connection.send, instrument, port_name)
        )

    def _begin(self, client: _Client) -> None:
        self._clients.append(client)
        self._selector.register(client.file, selectors.EVENT_READ, client)
        self._new_session(client)
        self._run(client, lambda session: session.connected())

    def _new_session(self, client: _Client) -> None:
        client.session = client.instrument.session(client.port_name, lambda data: self._reply(client, data))
        client.ticks = type(client.session).tick is not Session.tick

    def _run(self, client: _Client, what: Callable[[Session], None]) -> None:
        """Let a session do something under the world's lock; one that fails is ended, the others go on."""
        assert client.session is not None
        client.answering = True
        try:
            with self._lock:
                what(client.session)
        except Exception:
            log.exception("simulated %s failed", type(client.instrument).__name__)
            if client.pty:  # the port stays, as when an instrument starts anew
                self._new_session(client)
            else:
                self._drop(client)
        client.answering = False
        if client.out and client in self._clients:
            self._flush(client)

    def _serve(self, client: _Client, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush(client)
        if not mask & selectors.EVENT_READ or client not in self._clients:
            return
        try:
            data = client.read()
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            if not client.pty:
                self._drop(client)
            return
        if "echo" in client.instrument.faults.active:
            self._deliver(max(_real.now(), client.held_until), client, data)
        self._run(client, lambda session: session.receive(data))

    def _reply(self, client: _Client, data: bytes) -> None:
        """Send, through whatever faults are on; not to a client that has gone (its file number may be somebody else's)."""
        if client not in self._clients:
            return
        faults: Faults = client.instrument.faults
        if faults.active:
            if "silent" in faults.active or faults.take("drop"):
                return
            if faults.take("disconnect"):
                if not client.pty:  # a serial line that is plugged in again has only lost the reply
                    self._drop(client)
                return
            data = spoil(faults, data)
        late_s, split_s = faults.active.get("late", 0.0), faults.active.get("split", 0.0)
        when = max(_real.now() + late_s, client.held_until)
        half = len(data) // 2 if "split" in faults.active else 0
        if half:
            self._deliver(when, client, data[:half])
            when += split_s
        self._deliver(when, client, data[half:])
        client.held_until = when

    def _deliver(self, when: float, client: _Client, data: bytes) -> None:
        """Send at a time; bytes of one client never overtake each other, as on any wire."""
        if when > _real.now() or client.pending:
            client.pending += 1
            self._at(when, client, data)
        else:
            self._queue(client, data)

    def _at(self, when: float, client: _Client, data: bytes) -> None:
        heapq.heappush(self._later, (when, next(self._order), client, data))
        self._wake()

    def _queue(self, client: _Client, data: bytes) -> None:
        client.out += data
        if not client.answering:
            self._flush(client)

    def _flush(self, client: _Client) -> None:
        try:
            with contextlib.suppress(BlockingIOError):  # the selector calls again when there is room
                while client.out:
                    sent = client.write(bytes(client.out[:65536]))
                    del client.out[:sent]
        except OSError:
            self._drop(client)
            return
        if bool(client.out) != client.waiting and client in self._clients:
            client.waiting = bool(client.out)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.waiting else 0)
            self._selector.modify(client.file, events, client)

    def _drop(self, client: _Client) -> None:
        if client not in self._clients:
            return
        self._clients.remove(client)
        self._selector.unregister(client.file)
        if client.session is not None:
            with self._lock:
                client.session.disconnected()
        if client.pty:
            os.close(client.file)
        else:
            client.file.close()


def spoil(faults: Faults, data: bytes) -> bytes:
    """The reply as the faults leave it that change its bytes."""
    if "glue" in faults.active:
        data = data.rstrip(ENDS)
    if "garbage" in faults.active:
        data = bytes((b * 7 + 13) % 256 for b in data) + b"\r\n"
    elif "garble" in faults.active:
        data = bytes(b ^ 0x15 if i % 3 == 1 and b not in (10, 13) else b for i, b in enumerate(data))
    return UNASKED + data if "unasked" in faults.active else data
