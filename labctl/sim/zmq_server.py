"""Serves the ZeroMQ ports of a simulated instrument: REP for commands, PAIR for streams."""

# pyright: standard
# (pyzmq carries incomplete types)

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zmq

from labctl.clock import Clock, SystemClock
from labctl.errors import ConfigError
from labctl.sim.instrument import Session, SimInstrument
from labctl.sim.server import LOOK_S, TICK_S, spoil

log = logging.getLogger(__name__)
_real = SystemClock()


@dataclass(eq=False)
class _Port:
    """One bound socket. "rep" ports are ROUTER sockets, so that a reply can be lost or come late as on a real network."""

    instrument: SimInstrument
    kind: str
    socket: Any
    session: Session
    sent: list[bytes]
    later: list[tuple[float, int, list[bytes]]] = field(default_factory=list[tuple[float, int, list[bytes]]])


class ZmqServer:
    """One thread that serves ZeroMQ ports; frames reach the same sessions as bytes do elsewhere.

    A "rep" port answers each request with exactly one frame (empty if the session sent nothing). A "pair" port sends
    what the session sends, one frame each, when it sends it.
    """

    def __init__(self, lock: Any | None = None, clock: Clock | None = None) -> None:
        self._lock = lock if lock is not None else threading.RLock()
        self._clock = clock or _real
        self._ports: list[_Port] = []
        self._order = itertools.count()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def serve(self, instrument: SimInstrument, port_name: str, host: str = "127.0.0.1", port: int = 0) -> int:
        """Bind one ZeroMQ port of the instrument; the actual TCP port. Call before ``start``."""
        kind = instrument.zmq_ports[port_name]
        sock: Any = zmq.Context.instance().socket(zmq.ROUTER if kind == "rep" else zmq.PAIR)
        sock.linger = 0
        try:
            sock.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            sock.close()
            raise ConfigError(
                f"simulated {type(instrument).__name__}: cannot listen on {host}:{port} ({error}); "
                "is the same lab already up? see `labctl ls`, `labctl down`"
            ) from None
        sent: list[bytes] = []
        self._ports.append(_Port(instrument, kind, sock, instrument.session(port_name, sent.append), sent))
        number = int(sock.getsockopt(zmq.LAST_ENDPOINT).decode().rpartition(":")[2])
        instrument.listening(port_name, number)
        return number

    def start(self) -> ZmqServer:
        """Begin serving in a thread (none if there is no port: polling nothing would not wait)."""
        if not self._ports:
            return self
        self._thread = threading.Thread(target=self._loop, name="simulated-zmq", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop the thread and close every port."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5)
        for port in self._ports:
            port.socket.close()

    def held(self, instrument: SimInstrument) -> int:
        """How many answers of an instrument are held back by faults, also by those that are off again."""
        return sum(len(port.later) for port in self._ports if port.instrument is instrument)

    def __enter__(self) -> ZmqServer:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.close()

    def _loop(self) -> None:
        poller: Any = zmq.Poller()
        for port in self._ports:
            poller.register(port.socket, zmq.POLLIN)
        ticking = [port for port in self._ports if type(port.session).tick is not Session.tick]
        next_tick = _real.now()
        while not self._stopping.is_set():
            now = _real.now()
            due = min([next_tick, *(port.later[0][0] for port in self._ports if port.later)])
            ready = dict(poller.poll(max(0, math.ceil((due - now) * 1000))))
            for port in self._ports:
                if port.socket in ready:
                    self._request(port)
            now = _real.now()
            if now >= next_tick:
                next_tick = now + (TICK_S if ticking else LOOK_S)
                self._tick(ticking)
            for port in self._ports:
                if port.kind == "pair":
                    self._stream(port)
                while port.later and port.later[0][0] <= now:
                    port.socket.send_multipart(heapq.heappop(port.later)[2])

    def _tick(self, ports: list[_Port]) -> None:
        """Let time pass for the sessions that want to know."""
        now_s = self._clock.now()
        for port in ports:
            self._run(port, lambda port=port: port.session.tick(now_s))

    def _request(self, port: _Port) -> None:
        frames: list[bytes] = port.socket.recv_multipart()
        envelope, body = frames[:-1], frames[-1]
        understood = self._run(port, lambda: port.session.receive(body))
        if port.kind == "pair":
            return
        reply = b"".join(port.sent)
        port.sent.clear()
        faults = port.instrument.faults
        if not understood or "silent" in faults.active or "refuse" in faults.active or faults.take("drop"):
            return
        when = _real.now() + faults.active.get("late", 0.0)
        heapq.heappush(port.later, (when, next(self._order), [*envelope, spoil(faults, reply)]))

    def _run(self, port: _Port, what: Callable[[], None]) -> bool:
        """Let a session do something under the world's lock; whether it did. One that fails does not stop the others."""
        try:
            with self._lock:
                what()
        except Exception:
            log.exception("simulated %s failed", type(port.instrument).__name__)
            return False
        return True

    def _stream(self, port: _Port) -> None:
        """Send what the session has for its client; kept while no client is connected or it is slow."""
        while port.sent and "silent" not in port.instrument.faults.active:
            try:
                port.socket.send(port.sent[0], zmq.NOBLOCK)
            except zmq.Again:
                return
            port.sent.pop(0)
