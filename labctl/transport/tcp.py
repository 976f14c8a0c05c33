"""Instruments on a TCP port: ``tcp://host:port``."""

from __future__ import annotations

import contextlib
import socket

from labctl.errors import NotConnectedError
from labctl.transport.base import Transport
from labctl.transport.waiting import ready


class TcpTransport(Transport):
    """A TCP connection."""

    def __init__(self, address: str, device: str = "", timeout_s: float = 1.0) -> None:
        super().__init__(address, device, timeout_s)
        self._socket: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._socket is not None

    def _open(self) -> None:
        try:
            self._socket = socket.create_connection(
                (self.address.host, self.address.port), timeout=max(self.timeout_s, 0.5)
            )
        except OSError as error:
            raise NotConnectedError(
                f"{self.where}: cannot connect ({error.strerror or error}); check that the instrument is on, its cable, and the address in the lab file"
            ) from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(
            False
        )  # waiting is ours: Python's own timeouts take two more system calls each time

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        try:
            sent = self._sent_now(self._socket, data)
            while sent < len(data):
                if not ready((self._socket.fileno(),), max(self.timeout_s, 0.5), to_write=True):
                    raise self._lost("it takes no more")
                sent += self._sent_now(self._socket, data[sent:])
        except OSError as error:
            raise self._lost(error) from None

    def _receive(self, timeout_s: float) -> bytes:
        if self._socket is None:
            raise NotConnectedError(f"{self.where}: not connected")
        if timeout_s > 0 and not ready((self._socket.fileno(),), timeout_s):
            return b""
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._lost(error) from None
        if not data:
            raise self._lost("closed by the instrument")
        return data

    @staticmethod
    def _sent_now(sock: socket.socket, data: bytes) -> int:
        try:
            return sock.send(data)
        except BlockingIOError:
            return 0

    def interrupt(self) -> None:
        """Shut the connection down: a read in another thread fails at once."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
