"""A transport that writes down what a driver does with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from labctl.clock import Clock
from labctl.errors import NoAnswerError
from labctl.transport import NidaqmxTransport, Transport


@dataclass
class Wire:
    """What went over the wire: every piece sent, and how often a connection was opened."""

    sent: list[bytes] = field(default_factory=list[bytes])
    opened: int = 0

    def sent_by(self, act: Callable[[], object]) -> list[bytes]:
        """The pieces sent while ``act`` ran, also if it raised."""
        before = len(self.sent)
        try:
            act()
        finally:
            new = self.sent[before:]
        return new


def recorded(transport: Transport, wire: Wire) -> Transport:
    """The transport, and what goes through it written to ``wire``: bytes, or names of calls to an NI card."""
    if not isinstance(transport, NidaqmxTransport):
        return RecordingTransport(transport, wire)

    def opened() -> None:
        wire.opened += 1

    transport.after_open = opened
    transport.on_call = lambda name: wire.sent.append(name.encode())
    return transport


class RecordingTransport(Transport):
    """Hands everything on to another transport."""

    def __init__(self, inner: Transport, wire: Wire) -> None:
        super().__init__(str(inner.address), inner.device, inner.timeout_s)
        self._inner = inner
        self._wire = wire

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._inner.is_open

    @property
    def clock(self) -> Clock:
        """The clock of the transport behind."""
        return self._inner.clock

    def interrupt(self) -> None:
        """Make a read in another thread fail."""
        self._inner.interrupt()

    def sibling(self, address: str) -> Transport:
        """A further connection, recorded too."""
        return RecordingTransport(self._inner.sibling(address), self._wire)

    def read_frame(self, timeout_s: float | None = None) -> bytes:
        """The next message of a transport that keeps message borders."""
        try:
            return self._inner.read_frame(timeout_s)
        except NoAnswerError:
            self.mark_stale()
            raise

    def _open(self) -> None:
        self._wire.opened += 1
        self._inner.open()

    def _close(self) -> None:
        self._inner.close()

    def _send(self, data: bytes) -> None:
        self._wire.sent.append(data)
        self._inner.write(data)

    def _receive(self, timeout_s: float) -> bytes:
        return self._inner.read_available(timeout_s)
