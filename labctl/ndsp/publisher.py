"""Publish a dictionary that changes to ARTIQ programs: sipyco's ``sync_struct`` protocol.

A subscriber gets the whole dictionary, then every change. PYON's version is not negotiated here: a port has one.
Source: ARTIQ.md section 3; m-labs/sipyco, sync_struct.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Any

from labctl.ndsp import pyon
from labctl.ndsp.lines import Connection, LineServer

BANNER = "ARTIQ sync_struct"
WAITING = 10_000
"""Changes that may wait for a slow subscriber; it is hung up on after that, and may come again for the whole."""


class StructPublisher:
    """One published dictionary under the name ``notifier``; all changes go through it.

    version:  of PYON, 1 or 2
    """

    def __init__(
        self, notifier: str, version: int, hosts: Sequence[str] = ("127.0.0.1",), port: int = 0
    ) -> None:
        self._notifier = notifier
        self._version = version
        self._struct: dict[str, Any] = {}
        self._mutex = threading.Lock()
        self._subscribers: dict[Connection, queue.Queue[str | None]] = {}
        self._server = LineServer(BANNER, self._handle, hosts, port)
        self.port = self._server.port

    def set(self, key: str, value: Any) -> None:
        """``struct[key] = value``; nothing is sent if it was that already."""
        with self._mutex:
            if key in self._struct and self._struct[key] == value:
                return
            self._struct[key] = value
            self._tell({"action": "setitem", "path": [], "key": key, "value": value})

    def append(self, key: str, inside: Sequence[int], value: Any) -> None:
        """Append to the list at ``struct[key][inside[0]][inside[1]]...``"""
        with self._mutex:
            target = self._struct[key]
            for index in inside:
                target = target[index]
            target.append(value)
            self._tell({"action": "append", "path": [key, *inside], "x": value})

    def delete(self, key: str) -> None:
        """``del struct[key]``."""
        with self._mutex:
            del self._struct[key]
            self._tell({"action": "delitem", "path": [], "key": key})

    def names(self) -> list[str]:
        """What is published."""
        with self._mutex:
            return [*self._struct]

    def close(self) -> None:
        """Hang up on everybody."""
        with self._mutex:
            for waiting in self._subscribers.values():
                self._end(waiting)
        self._server.close()

    def _tell(self, change: dict[str, Any]) -> None:
        line = pyon.encode(change, self._version) if self._subscribers else ""
        for waiting in self._subscribers.values():
            try:
                waiting.put_nowait(line)
            except queue.Full:
                self._end(waiting)

    @staticmethod
    def _end(waiting: queue.Queue[str | None]) -> None:
        """Make the subscriber's thread end, whatever still waits."""
        while True:
            try:
                waiting.put_nowait(None)
                return
            except queue.Full:
                waiting.get_nowait()

    def _handle(self, connection: Connection) -> None:
        if connection.receive() != self._notifier:
            return
        waiting: queue.Queue[str | None] = queue.Queue(WAITING)
        with self._mutex:
            whole = pyon.encode({"action": "init", "struct": self._struct}, self._version)
            self._subscribers[connection] = waiting
        watching = threading.Thread(
            target=self._watch, args=(connection, waiting), name="ndsp-watch", daemon=True
        )
        watching.start()
        try:
            line: str | None = whole
            while line is not None and connection.send(line):
                line = waiting.get()
        finally:
            with self._mutex:
                del self._subscribers[connection]
            connection.end()
            watching.join()

    def _watch(self, connection: Connection, waiting: queue.Queue[str | None]) -> None:
        """Notice that the subscriber hangs up, though it never says anything."""
        while connection.receive() is not None:
            continue
        self._end(waiting)
