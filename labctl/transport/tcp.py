"""Instruments on a TCP port: ``tcp://host:port``."""

from __future__ import annotations

import contextlib
import socket

from labctl.errors import NotConnectedError
from labctl.transport.base import Transport


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

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        self._socket.settimeout(max(self.timeout_s, 0.5))
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._lost(error) from None

    def _receive(self, timeout_s: float) -> bytes:
        if self._socket is None:
            raise NotConnectedError(f"{self.where}: not connected")
        self._socket.settimeout(max(timeout_s, 0.0))  # 0: what is there; any other time is at least 1 ms
        try:
            data = self._socket.recv(65536)
        except (TimeoutError, BlockingIOError):
            return b""
        except OSError as error:
            raise self._lost(error) from None
        if not data:
            raise self._lost("closed by the instrument")
        return data

    def interrupt(self) -> None:
        """Shut the connection down: a read in another thread fails at once."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
