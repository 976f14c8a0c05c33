"""A lane: one thread behind one ROUTER socket, which answers requests in that thread and does its own work between them."""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from typing import Any

from labctl.bus.sockets import Again, Socket, has_message, receive, receive_within, router, send
from labctl.bus.wire import WIRE_VERSION, Codec, Reply, Request, error_pair
from labctl.clock import Clock, SystemClock
from labctl.errors import LabError, WireError

LATER = object()
"""Returned by ``answer`` when the reply follows through ``reply``."""

LONGEST_WAIT_S = 0.2
"""How long a lane sleeps at most before it looks whether it has to stop, s."""
_LONGEST_MS = int(LONGEST_WAIT_S * 1000)


class Lane(ABC):
    """Serves requests on ``listen`` from ``start`` to ``close``; a request of any content leaves it alive.

    clock:  what "due" is counted on (default: the machine's); waiting for requests is in real time always
    """

    def __init__(self, name: str, listen: str, clock: Clock | None = None) -> None:
        self.name = name
        self.clock = clock or SystemClock()
        self._codec = Codec()
        self._socket: Socket
        self._socket, self.address = router(listen)
        self._stopping = False
        self._waiting_ms = -1
        self._thread = threading.Thread(target=self._run, name=f"bus-{name}", daemon=True)

    @abstractmethod
    def answer(self, request: Request, sender: bytes) -> Any:
        """The value asked for; a LabError travels to the client; LATER if ``reply`` follows."""

    def work(self) -> float:
        """Do what is due, between requests; how long until more is due, s."""
        return LONGEST_WAIT_S

    def finish(self) -> None:  # noqa: B027  (not every lane has something to let go of)
        """Let go of everything; runs last, in the lane's thread."""

    def start(self) -> None:
        """Begin serving."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end (``close`` waits for it)."""
        self._stopping = True

    def close(self, timeout_s: float = 10.0) -> bool:
        """End the thread and free the port; False if the thread is stuck in an instrument."""
        self._stopping = True
        if self._thread.ident is None:
            self._socket.close()
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def reply(self, sender: bytes, number: int, value: Any, error: BaseException | None = None) -> None:
        """Answer request ``number`` of ``sender``; only from the lane's thread."""
        pair = None if error is None else error_pair(error)
        try:
            frames = self._codec.encode(Reply(WIRE_VERSION, number, value, pair))
        except WireError as unfit:
            frames = self._codec.encode(Reply(WIRE_VERSION, number, None, error_pair(unfit)))
        send(self._socket, [sender, *frames])

    def _run(self) -> None:
        try:
            while not self._stopping:
                wait_s = self._work()
                if wait_s > 0:
                    self._wait_at_most(wait_s)
                elif not self.called():
                    continue
                try:
                    frames = receive(self._socket)
                except Again:
                    continue
                self._serve(frames)
        finally:
            self.finish()
            self._socket.close()

    def called(self) -> bool:
        """Whether a request waits; only from the lane's thread."""
        return has_message(self._socket)

    def _work(self) -> float:
        try:
            return self.work()
        except Exception:  # noqa: BLE001  (shown like any thread's error, but the lane goes on: it may be the way to safe())
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), self._thread)))
            return LONGEST_WAIT_S

    def _wait_at_most(self, seconds: float) -> None:
        milliseconds = int(seconds * 1000) + 1 if seconds < LONGEST_WAIT_S else _LONGEST_MS
        if milliseconds != self._waiting_ms:
            self._waiting_ms = milliseconds
            receive_within(self._socket, milliseconds)

    def _serve(self, frames: list[Any]) -> None:
        sender = frames.pop(0)
        number = 0
        try:
            request = self._codec.decode(Request, frames or [b""])
            number = request.number
            value = self.answer(request, sender)
        except LabError as error:
            self.reply(sender, number, None, error)
        except Exception as error:  # noqa: BLE001  (a mistake in a driver must not silence its device)
            self.reply(sender, number, None, LabError(f"{self.name}: {type(error).__name__}: {error}"))
        else:
            if value is not LATER:
                self.reply(sender, number, value)
