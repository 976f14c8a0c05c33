"""A TCP server of line protocols: one thread per connection, every connection ended and joined on ``close``."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from labctl.errors import BusError

LONGEST_LINE = 100 * 2**20
"""Bytes; what sipyco's own servers allow."""


class Connection:
    """One client: lines in, lines out."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._file = sock.makefile("rb")
        self._sending = threading.Lock()

    def receive(self) -> str | None:
        """The next line without its end; None once the client has gone, or sends what is no line of text."""
        with suppress(OSError, ValueError, UnicodeDecodeError):
            line = self._file.readline(LONGEST_LINE)
            if line.endswith(b"\n"):
                return line[:-1].decode().removesuffix("\r")
        return None

    def send(self, line: str) -> bool:
        """Whether the line went out; waits for a slow client."""
        with self._sending, suppress(OSError):
            self._socket.sendall(line.encode() + b"\n")
            return True
        return False

    def end(self) -> None:
        """Hang up; ``receive`` returns None then."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free it; after ``receive`` and ``send`` have ended."""
        self._file.close()
        self._socket.close()


class LineServer:
    """Serves connections that begin with ``banner``.

    hosts:   addresses of this machine to listen on
    port:    TCP port; 0 takes a free one, see ``port``
    handle:  called in a thread of its own with each connection, after its banner; returns when it is over
    """

    def __init__(
        self, banner: str, handle: Callable[[Connection], None], hosts: Sequence[str], port: int
    ) -> None:
        self._banner = banner
        self._handle = handle
        self._connections: set[Connection] = set()
        self._threads: list[threading.Thread] = []
        self._mutex = threading.Lock()
        self._ended = threading.Event()
        self._listeners: list[socket.socket] = []
        for host in hosts:
            try:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                listener = socket.create_server((host, port), family=family)
            except (OSError, OverflowError) as error:
                for one in self._listeners:
                    one.close()
                raise BusError(f"cannot listen on {host}:{port} ({error}); take another port") from None
            self._listeners.append(listener)
            port = listener.getsockname()[1]
        self.port = port
        self._accepting = [
            threading.Thread(target=self._accept, args=(one,), name=f"ndsp-{self.port}", daemon=True)
            for one in self._listeners
        ]
        for thread in self._accepting:
            thread.start()

    def close(self) -> None:
        """Hang up on everybody and free the port."""
        self._ended.set()
        for listener in self._listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
        for thread in self._accepting:
            thread.join()
        for listener in self._listeners:
            listener.close()
        with self._mutex:
            connections, threads = [*self._connections], [*self._threads]
        for connection in connections:
            connection.end()
        for thread in threads:
            thread.join()

    def _accept(self, listener: socket.socket) -> None:
        while not self._ended.is_set():
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock)
            thread = threading.Thread(target=self._serve, args=(connection,), name="ndsp-client", daemon=True)
            with self._mutex:
                self._connections.add(connection)
                self._threads = [one for one in self._threads if one.is_alive()]
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            if connection.receive() == self._banner:
                self._handle(connection)
        finally:
            connection.end()
            with self._mutex:
                self._connections.discard(connection)
            connection.close()
