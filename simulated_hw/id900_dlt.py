"""The DataLinkTarget service of a simulated ID900: text commands, JSON answers, and streams of time tags."""

from __future__ import annotations

import json
import shlex
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from labctl.sim.instrument import Send, Session

CHUNK = 8192
"""Tags in one message at most."""
WAITING = 4096
"""Messages kept for a client that does not read; then the oldest are lost and the status says so."""
FIRST_PORT = 4242
"""Where clients expect the stream of channel 1; the others follow."""


class RefusalError(Exception):
    """A command that cannot be done; the text goes into the answer."""


@dataclass
class Acquisition:
    """A stream of one channel to one port."""

    channel: int
    stream: str
    began_s: float
    last_tag_s: float
    tags: int = 0
    records: int = 0
    lost: int = 0
    waiting: list[bytes] = field(default_factory=list[bytes])

    def status(self, now_s: float) -> dict[str, object]:
        """As the service reports it."""
        errors = [{"description": f"{self.lost} messages lost: nobody reads the stream"}] if self.lost else []
        return {
            "acquisitions_count": self.records,
            "timestamps_count": self.tags,
            "inactivity": round(now_s - self.last_tag_s, 3),
            "errors": errors,
        }


class DataLinkTarget:
    """The service and its streams. ``streams`` are the names of the stream ports, of channels 1, 2, ..."""

    def __init__(self, streams: tuple[str, ...], now: Callable[[], float]) -> None:
        self._now = now
        self._stream_at = {FIRST_PORT + n: name for n, name in enumerate(streams)}
        self._served = False
        self._sessions: dict[str, StreamSession] = {}
        self._acquisitions: dict[str, Acquisition] = {}
        self._began = 0
        self._commands: dict[str, Callable[[dict[str, str]], object]] = {
            "list": lambda _: [*self._acquisitions],
            "status": lambda options: self._find(options)[1].status(self._now()),
            "start-stream": self._start_stream,
            "start-save": self._start_save,
            "stop": self._stop,
        }

    def listening(self, stream: str, number: int) -> None:
        """A stream is served at this TCP port; once one is, only those that are count."""
        if not self._served:
            self._stream_at, self._served = {}, True
        self._stream_at[number] = stream

    def connected(self, session: StreamSession) -> None:
        """A client of a stream has come."""
        self._sessions[session.name] = session
        for acquisition in self._acquisitions.values():
            if acquisition.stream == session.name:
                self._send(acquisition)

    def disconnected(self, session: StreamSession) -> None:
        """A client of a stream has gone."""
        if self._sessions.get(session.name) is session:
            del self._sessions[session.name]

    def wants(self, channel: int) -> bool:
        """Whether somebody acquires this channel."""
        return any(each.channel == channel for each in self._acquisitions.values())

    def add(self, channel: int, times_ps: list[int]) -> None:
        """Tags of a channel whose transfer is on."""
        for acquisition in self._acquisitions.values():
            if acquisition.channel != channel:
                continue
            acquisition.tags += len(times_ps)
            acquisition.last_tag_s = self._now()
            for at in range(0, len(times_ps), CHUNK):
                chunk = times_ps[at : at + CHUNK]
                acquisition.waiting.append(struct.pack(f"<{len(chunk)}Q", *chunk))
            over = len(acquisition.waiting) - WAITING
            if over > 0:
                del acquisition.waiting[:over]
                acquisition.lost += over
            self._send(acquisition)

    def records_finished(self, count: int) -> None:
        """The recorder has finished so many records."""
        for acquisition in self._acquisitions.values():
            acquisition.records += count

    def answer(self, text: str) -> str:
        """The JSON answer to one command."""
        try:
            words = shlex.split(text)
            if not words or words[0] not in self._commands:
                raise RefusalError(f"unknown command {text[:40]!r}; there are {', '.join(self._commands)}")
            return json.dumps(self._commands[words[0]](_options(words[1:])))
        except (RefusalError, ValueError) as error:  # ValueError: quotes that do not close
            return json.dumps({"error": {"description": str(error)}})

    def _send(self, acquisition: Acquisition) -> None:
        session = self._sessions.get(acquisition.stream)
        if session is not None:
            for message in acquisition.waiting:
                session.send(message)
            acquisition.waiting.clear()

    def _find(self, options: dict[str, str]) -> tuple[str, Acquisition]:
        name = _needed(options, "id")
        if name not in self._acquisitions:
            raise RefusalError(f"no acquisition has the id {name!r}")
        return name, self._acquisitions[name]

    def _start_stream(self, options: dict[str, str]) -> object:
        _needed(options, "address")
        channel, port = _number(options, "channel"), _number(options, "stream-port")
        if "with-ref-index" in options:
            raise RefusalError("reference indices are not simulated")
        if not 1 <= channel <= 4:
            raise RefusalError(f"channel {channel} is not one of 1 to 4")
        if port not in self._stream_at:
            served = ", ".join(map(str, sorted(self._stream_at)))
            raise RefusalError(f"cannot stream to port {port}; streams are served at {served or 'no port'}")
        stream = self._stream_at[port]
        if any(each.stream == stream for each in self._acquisitions.values()):
            raise RefusalError(f"port {port} is in use by another acquisition")
        self._began += 1
        name = f"acquisition-{self._began}"
        self._acquisitions[name] = Acquisition(channel, stream, self._now(), self._now())
        return {"id": name}

    def _start_save(self, options: dict[str, str]) -> object:
        raise RefusalError("the simulated service writes no files; use start-stream")

    def _stop(self, options: dict[str, str]) -> object:
        name, acquisition = self._find(options)
        del self._acquisitions[name]
        acquisition.waiting.append(b"")
        self._send(acquisition)
        return {"id": name, "status": acquisition.status(self._now())}


class StreamSession(Session):
    """A client of a stream: only listens."""

    def __init__(self, service: DataLinkTarget, name: str, send: Send, bring_up: Callable[[], None]) -> None:
        super().__init__(send)
        self.name = name
        self._service = service
        self._bring_up = bring_up
        service.connected(self)

    def receive(self, data: bytes) -> None:
        """What a client says here is not heard."""

    def tick(self, now_s: float) -> None:
        """Tags may have come."""
        self._bring_up()

    def disconnected(self) -> None:
        """Tags are kept for the next client."""
        self._service.disconnected(self)


def _options(words: list[str]) -> dict[str, str]:
    """``--name value`` pairs; a name without a value is a switch."""
    options: dict[str, str] = {}
    name = ""
    for text in words:
        if text.startswith("--"):
            name = text[2:]
            options[name] = ""
        elif name and not options[name]:
            options[name] = text
        else:
            raise RefusalError(f"{text!r} belongs to no option")
    return options


def _needed(options: dict[str, str], name: str) -> str:
    if not options.get(name):
        raise RefusalError(f"missing --{name}")
    return options[name]


def _number(options: dict[str, str], name: str) -> int:
    text = _needed(options, name)
    if not text.isdecimal():
        raise RefusalError(f"--{name} {text!r} is no number")
    return int(text)
