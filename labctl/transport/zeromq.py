"""Instruments that speak ZeroMQ: ``zmq://host:port``."""

from __future__ import annotations

from typing import Any, cast

from labctl.errors import NotConnectedError
from labctl.transport.base import Transport


class ZmqTransport(Transport):
    """A ZeroMQ REQ socket: one request, one reply, each one frame (``zmq://host:port``; ``?socket=pair`` for a stream)."""

    def __init__(self, address: str, device: str = "", timeout_s: float = 1.0) -> None:
        super().__init__(address, device, timeout_s)
        self._socket: Any = None

    @property
    def is_open(self) -> bool:
        """Whether the socket is open (ZeroMQ connects in the background: this says nothing about the other end)."""
        return self._socket is not None

    def _open(self) -> None:
        import zmq

        kind = zmq.PAIR if self.address.options.get("socket") == "pair" else zmq.REQ
        self._socket = cast(Any, zmq.Context.instance()).socket(kind)
        self._socket.linger = 0
        if kind == zmq.REQ:
            self._socket.setsockopt(zmq.REQ_RELAXED, 1)
            self._socket.setsockopt(zmq.REQ_CORRELATE, 1)
        self._socket.connect(f"tcp://{self.address.target}")

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, data: bytes) -> None:
        self._socket.send(data)

    def _receive(self, timeout_s: float) -> bytes:
        raise NotConnectedError(f"{self.where}: a ZeroMQ instrument is read a frame at a time")

    def read_frame(self, timeout_s: float | None = None) -> bytes:
        """The next frame; NoAnswerError after ``timeout_s`` seconds."""
        if self._socket is None:
            raise NotConnectedError(f"{self.where}: not connected")
        wait_s = self.timeout_s if timeout_s is None else timeout_s
        if not self._socket.poll(int(wait_s * 1000)):
            raise self._no_frame(wait_s)
        return b"".join(self._socket.recv_multipart())
