"""Simulated instruments of the same process, in virtual time: ``sim://device``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from labctl.clock import Clock
from labctl.errors import NotConnectedError
from labctl.transport.address import Address
from labctl.transport.base import Transport


class SimConnection(Protocol):
    """A connection to a simulated instrument in the same process (see labctl.sim.inprocess)."""

    open: bool

    def send(self, data: bytes) -> None:
        """Bytes to the instrument."""
        ...

    def receive(self, timeout_s: float) -> bytes:
        """The next bytes, or b"" after ``timeout_s`` s."""
        ...

    def receive_frame(self, timeout_s: float) -> bytes | None:
        """The next message, which may be empty, or None after ``timeout_s`` s."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


class SimTransport(Transport):
    """Reaches a simulated instrument in the same process: ``sim://device`` or ``sim://device?port=monitor``.

    dial:   opens a connection to the port named in the address
    clock:  the virtual clock that timeouts are counted on
    """

    def __init__(
        self,
        address: str,
        device: str,
        timeout_s: float,
        dial: Callable[[Address], SimConnection],
        clock: Clock,
    ) -> None:
        super().__init__(address, device, timeout_s)
        self._dial = dial
        self._clock = clock
        self._connection: SimConnection | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    @property
    def clock(self) -> Clock:
        """The simulated lab's clock."""
        return self._clock

    def _open(self) -> None:
        self._connection = self._dial(self.address)
        if not self._connection.open:
            self._connection = None
            raise NotConnectedError(
                f"{self.where}: the simulated instrument refuses connections; clear its faults"
            )

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(self, data: bytes) -> None:
        assert self._connection is not None
        try:
            self._connection.send(data)
        except NotConnectedError as error:
            raise self._lost(error) from None

    def _receive(self, timeout_s: float) -> bytes:
        if self._connection is None:
            raise NotConnectedError(f"{self.where}: not connected")
        try:
            return self._connection.receive(timeout_s)
        except NotConnectedError as error:
            raise self._lost(error) from None

    def read_frame(self, timeout_s: float | None = None) -> bytes:
        """What the session sent in one go, also if that is nothing."""
        if self._connection is None:
            raise NotConnectedError(f"{self.where}: not connected")
        wait_s = self.timeout_s if timeout_s is None else timeout_s
        try:
            frame = self._connection.receive_frame(wait_s)
        except NotConnectedError as error:
            raise self._lost(error) from None
        if frame is None:
            raise self._no_frame(wait_s)
        return frame

    def sibling(self, address: str) -> SimTransport:
        """A further connection in the same simulated lab."""
        return SimTransport(address, self.device, self.timeout_s, self._dial, self._clock)
