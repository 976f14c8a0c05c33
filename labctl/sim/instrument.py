"""What a simulated instrument is: shared state, and a session for each connection that speaks its grammar.

Nothing here opens a socket: a server (:mod:`labctl.sim.server`, :mod:`labctl.sim.zmq_server`) or the in-process bench
(:mod:`labctl.sim.inprocess`) moves the bytes, so the same instrument is reached over TCP, a pseudo-terminal or directly.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from labctl.sim.faults import Faults

Send = Callable[[bytes], None]
MOST_RECENT = 1000
"""Different lines an instrument of text lines remembers."""
F = TypeVar("F", bound=Callable[..., Any])


class Session(ABC):
    """One client's connection to a simulated instrument. Called by one thread at a time, under the world's lock."""

    def __init__(self, send: Send) -> None:
        self.send = send
        """Sends bytes to this client; may be called at any time from the session's own methods."""

    def connected(self) -> None:  # noqa: B027  (most instruments say nothing)
        """The client has just connected: send a banner, if the instrument has one."""

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """Bytes from the client, in pieces of any size."""

    def tick(self, now_s: float) -> None:  # noqa: B027  (most instruments never speak unasked)
        """Called often (every few ms) with the world's time, for messages sent unasked."""

    def disconnected(self) -> None:  # noqa: B027
        """The client has gone."""


class SimInstrument(ABC):
    """One simulated instrument, shared by all its sessions."""

    ports: ClassVar[tuple[str, ...]] = ("main",)
    """Names of its ports in the order of the address: the first is the address's own, the others are options of it
    (``tcp://host:1998?monitor=1999`` for ``("command", "monitor")``)."""
    zmq_ports: ClassVar[dict[str, str]] = {}
    """Ports served over ZeroMQ: name -> socket kind, "rep" or "pair"."""

    def __init__(self) -> None:
        own = isinstance(self, OwnServer)
        over_zmq = self.zmq_ports.get(self.ports[0]) == "rep"
        self.faults = Faults(wire="nidaqmx" if own else "zmq" if over_zmq else "")
        self.in_process_clients = 0
        """How many are connected in this process (``sim://``)."""

    def listening(self, port: str, number: int) -> None:  # noqa: B027  (most instruments need not know)
        """The ZeroMQ port called ``port`` is served at TCP port ``number``."""

    @abstractmethod
    def session(self, port: str, send: Send) -> Session:
        """A new client on ``port``."""

    def own_faults(self) -> dict[str, Callable[[], None]]:
        """Faults of the instrument itself by name (``unlock``, ``mode_hop``), beside those of its wire."""
        return {}


@runtime_checkable
class OwnServer(Protocol):
    """A simulated instrument that brings a server of its own, for ``nidaqmx`` addresses."""

    served_as: str
    """What follows ``host:port/`` in its address."""

    def listen(self, lock: Any, host: str, port: int, sleep: Callable[[float], None] | None = None) -> int:
        """Serve at a TCP port (0: a free one) and return it; ``sleep`` is that of a virtual clock."""
        ...

    def close(self) -> None:
        """Stop serving."""
        ...


def on(pattern: str) -> Callable[[F], F]:
    """Answer lines that match ``pattern`` (whole line) with this method; groups become its arguments, None is no reply."""

    def mark(method: F) -> F:
        method.__sim_pattern__ = re.compile(pattern)  # type: ignore[attr-defined]
        return method

    return mark


class LineInstrument(SimInstrument):
    """An instrument of text lines: methods marked ``@on(pattern)`` are its command list.

    A method returns the reply without its line end, or None for no reply. The state belongs to the instrument, so all
    clients share it.
    """

    request_end: ClassVar[bytes] = b"\n"
    reply_end: ClassVar[bytes] = b"\n"
    longest_line: ClassVar[int] = 65536
    """Longer lines are thrown away as garbage, as an instrument's buffer would."""
    _patterns: ClassVar[tuple[tuple[re.Pattern[str], str], ...]] = ()
    _recent: ClassVar[dict[str, tuple[str, tuple[Any, ...]]]] = {}
    """Lines that came lately: the method that answers, and its arguments."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Collect the ``@on`` methods of the class and its bases."""
        super().__init_subclass__(**kwargs)
        found: dict[str, re.Pattern[str]] = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                pattern = getattr(value, "__sim_pattern__", None)
                if pattern is not None:
                    found[name] = pattern
        cls._patterns = tuple((pattern, name) for name, pattern in found.items())
        cls._recent = {}

    def answer(self, line: str) -> str | None:
        """The reply to one line."""
        method, arguments = self._recent.get(line) or self._match(line)
        return getattr(self, method)(*arguments)

    def _match(self, line: str) -> tuple[str, tuple[Any, ...]]:
        """The method that answers a line, and its arguments."""
        for pattern, name in self._patterns:
            match = pattern.fullmatch(line)
            if match is not None:
                if len(self._recent) >= MOST_RECENT:
                    self._recent.clear()
                self._recent[line] = name, match.groups()
                return self._recent[line]
        return "unknown", (line,)

    @abstractmethod
    def unknown(self, line: str) -> str | None:
        """The reply to a line nobody understands."""

    def session(self, port: str, send: Send) -> Session:
        """A line session."""
        return LineSession(self, send)


class LineSession(Session):
    """Cuts the byte stream into lines and sends back the instrument's answers."""

    def __init__(self, instrument: LineInstrument, send: Send) -> None:
        super().__init__(send)
        self.instrument = instrument
        self._buffer = bytearray()

    def receive(self, data: bytes) -> None:
        """Answer every complete line; keep half a line for later."""
        self._buffer += data
        end = self.instrument.request_end
        while (at := self._buffer.find(end)) >= 0:
            line = bytes(self._buffer[:at]).decode("latin-1")
            del self._buffer[: at + len(end)]
            reply = self.instrument.answer(line.strip("\r\n"))
            if reply is not None:
                self.send(reply.encode("latin-1") + self.instrument.reply_end)
        if len(self._buffer) > self.instrument.longest_line:
            self._buffer.clear()
