"""What every transport is: a byte stream to one instrument, with deadlines, buffering and a memory for late replies.

After a missing or broken answer a connection is dropped and opened anew before the next request, so a late reply is
never taken for the answer to another question.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from labctl.clock import Clock, SystemClock
from labctl.errors import ConfigError, NoAnswerError, NotConnectedError
from labctl.transport.address import Address, parse_address

_SYSTEM = SystemClock()


class Transport(ABC):
    """A byte stream to one instrument. One thread uses it at a time; ``interrupt`` may come from any thread."""

    def __init__(self, address: str, device: str = "", timeout_s: float = 1.0) -> None:
        self.address = parse_address(address)
        self.device = device
        """Name of the device, for messages."""
        self.timeout_s = timeout_s
        self._buffer = bytearray()
        self._stale = False
        self._sent = b""
        self.after_open: Callable[[], None] | None = None
        """Called after each fresh connection, also those that ``write`` opens by itself: read a banner, log in, subscribe."""

    # what a kind of transport provides
    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _send(self, data: bytes) -> None: ...

    @abstractmethod
    def _receive(self, timeout_s: float) -> bytes:
        """Some bytes, or b"" when none came within ``timeout_s``; raises NotConnectedError when the other end has gone."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether there is a connection."""

    @property
    def clock(self) -> Clock:
        """The clock that timeouts are counted on."""
        return _SYSTEM

    def interrupt(self) -> None:  # noqa: B027  (only some transports can)
        """Make a read in progress in another thread fail at once, where the transport can."""

    def sibling(self, address: str) -> Transport:
        """An unopened transport of the same lab to a further port of the same instrument."""
        return type(self)(address, self.device, self.timeout_s)

    def port_address(self, name: str, **options: str) -> str:
        """Address for ``sibling`` of the same instrument's port called ``name``: an option of this address, with ``options``.

        ``tcp://host:12000?counts=12345`` gives ``tcp://host:12345``; ``sim://device`` gives ``sim://device?port=counts``.
        """
        own = self.address
        if own.scheme == "sim":
            return str(Address("sim", own.target, {"port": name, **options}))
        if own.scheme not in ("tcp", "zmq"):
            raise ConfigError(
                f"{self.where}: has one port only; its {name!r} port needs a tcp:// or zmq:// address"
            )
        return str(Address(own.scheme, f"{own.target.rpartition(':')[0]}:{own.option_port(name)}", options))

    # what drivers use
    @property
    def where(self) -> str:
        """``device at address``, for messages."""
        return f"{self.device or 'instrument'} at {self.address}"

    def open(self) -> None:
        """Connect; NotConnectedError names device, address and what to check."""
        if not self.is_open:
            self._buffer.clear()
            self._open()
            self._stale = False
            self._sent = b""
            if self.after_open is not None:
                try:
                    self.after_open()
                except BaseException:
                    self.close()
                    raise

    def close(self) -> None:
        """Disconnect; harmless when not connected."""
        self._buffer.clear()
        self._close()

    def reset(self) -> None:
        """Forget everything unread by opening a fresh connection."""
        self.close()
        self.open()

    @property
    def unread(self) -> int:
        """How many bytes have come that nobody has read; before a question, any are out of step with it."""
        return len(self._buffer)

    def mark_stale(self) -> None:
        """Say that what is still to come belongs to an old question: the next write opens a fresh connection."""
        self._stale = True

    def write(self, data: bytes) -> None:
        """Send ``data``."""
        if self._stale or not self.is_open:
            self.reset()
        self._sent = data
        self._send(data)

    def read_until(self, end: bytes, timeout_s: float | None = None) -> bytes:
        """The bytes before the next ``end`` (which is consumed); NoAnswerError after ``timeout_s`` seconds."""
        deadline = self.clock.now() + (self.timeout_s if timeout_s is None else timeout_s)
        searched = 0
        while True:
            at = self._buffer.find(end, searched)
            if at >= 0:
                answer = bytes(self._buffer[:at])
                del self._buffer[: at + len(end)]
                return answer
            searched = max(0, len(self._buffer) - len(end) + 1)
            self._fill(deadline, f"an answer ending in {end!r}")

    def read_exactly(self, count: int, timeout_s: float | None = None) -> bytes:
        """Exactly ``count`` bytes; NoAnswerError after ``timeout_s`` seconds."""
        deadline = self.clock.now() + (self.timeout_s if timeout_s is None else timeout_s)
        while len(self._buffer) < count:
            self._fill(deadline, f"{count} bytes")
        answer = bytes(self._buffer[:count])
        del self._buffer[:count]
        return answer

    def read_available(self, timeout_s: float = 0.0) -> bytes:
        """Whatever has come, waiting up to ``timeout_s`` s for the first byte; b"" if nothing."""
        if not self._buffer:
            self._buffer += self._receive(timeout_s)
        answer = bytes(self._buffer)
        self._buffer.clear()
        return answer

    def read_frame(self, timeout_s: float | None = None) -> bytes:
        """The next message of a transport that keeps message borders (zmq://); NoAnswerError after ``timeout_s`` seconds."""
        raise NotConnectedError(
            f"{self.where}: this transport is a byte stream without frames; use a zmq:// address"
        )

    def _fill(self, deadline: float, expected: str) -> None:
        remaining = deadline - self.clock.now()
        got = self._receive(remaining) if remaining > 0 else b""
        if not got and self.clock.now() >= deadline:
            self._stale = True
            came = f"only {bytes(self._buffer[-60:])!r} came" if self._buffer else "nothing came"
            raise NoAnswerError(
                f"{self.where}: no answer {f'to {self._sent[:80]!r}' if self._sent else 'after connecting'}: expected {expected}, {came}; check that the instrument is on and idle"
            )
        self._buffer += got

    def _no_frame(self, wait_s: float) -> NoAnswerError:
        """The error for a message that did not come; what comes later belongs to an old question."""
        self._stale = True
        asked = f"no answer to {self._sent[:80]!r}" if self._sent else "nothing came"
        return NoAnswerError(f"{self.where}: {asked} within {wait_s:g} s; check that the instrument is on")

    def _lost(self, error: BaseException | str) -> NotConnectedError:
        """The error for a connection that broke, with the connection closed."""
        self._close()
        return NotConnectedError(
            f"{self.where}: connection lost ({error}); check power and cable, it is retried by itself"
        )
