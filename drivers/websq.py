"""WebSQ, the wire of Single Quantum detectors: a control line of JSON objects and a line of counts as CSV.

Source: DEVICES.md section 3.6. Requests are JSON objects one after the other; replies and broadcasts are JSON objects
``{"label": L, "value": V}`` with a byte 0x17 (ETB) between them, sometimes with nothing between them.
"""

from __future__ import annotations

import json
import math
from collections import deque
from typing import Any, cast

from labctl.errors import BadAnswerError, NoAnswerError, RefusedError
from labctl.transport import Transport

ETB = 0x17
LONGEST = 1 << 20
"""A message longer than this is garbage, bytes."""
DEEPEST = 32
"""An object nested deeper than this is garbage."""
QUIET_S = 0.2
"""The first burst of labels has ended when nothing has come for this long, s."""


class JsonCutter:
    """Cuts a byte stream into JSON objects: with ETB, white space or nothing between them, in pieces of any size.

    What is neither is kept in ``garbage`` (its first bytes); the cut goes on at the next ETB or ``{``.
    """

    def __init__(self) -> None:
        self.garbage = bytearray()
        self._object = bytearray()
        self._depth = 0
        self._in_text = False
        self._escaped = False

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The objects that end in ``data``."""
        found: list[dict[str, Any]] = []
        for byte in data:
            if byte == ETB or len(self._object) > LONGEST or self._depth > DEEPEST:
                self._discard()
            elif not self._depth:
                self._outside(byte)
            elif self._inside(byte):
                self._finish(found)
        return found

    def _outside(self, byte: int) -> None:
        if byte == ord("{"):
            self._object.append(byte)
            self._depth = 1
        elif byte not in b" \t\r\n":
            self._note(bytes([byte]))

    def _inside(self, byte: int) -> bool:
        """Take one byte of an object; whether it is the last."""
        self._object.append(byte)
        if self._escaped:
            self._escaped = False
        elif self._in_text:
            self._escaped = byte == ord("\\")
            self._in_text = byte != ord('"')
        elif byte == ord('"'):
            self._in_text = True
        elif byte in b"{[":
            self._depth += 1
        elif byte in b"}]":
            self._depth -= 1
        return self._depth == 0

    def _finish(self, found: list[dict[str, Any]]) -> None:
        try:
            found.append(json.loads(self._object))
            self._object.clear()
        except ValueError:
            self._discard()

    def _discard(self) -> None:
        """What was begun is no object."""
        self._note(self._object)
        self._object.clear()
        self._depth, self._in_text, self._escaped = 0, False, False

    def _note(self, data: bytes | bytearray) -> None:
        self.garbage += data[: max(0, 80 - len(self.garbage))]


class ControlLine:
    """A client of the control line: the value of every label, and commands.

    ``labels`` has the values seen last on this connection, also those that were broadcast; ``errors`` the texts of
    error messages that came while nothing was asked.
    """

    def __init__(self, transport: Transport, timeout_s: float) -> None:
        self.transport = transport
        self.timeout_s = timeout_s
        self.labels: dict[str, Any] = {}
        self.bounds: dict[str, Any] = {}
        self.errors: deque[str] = deque(maxlen=10)
        self._commanded = False
        self._known: set[str] = set()
        self._cutter = JsonCutter()
        transport.after_open = self._begin

    def listen(self, wait_s: float = 0.0) -> None:
        """Take in what came unasked, waiting up to ``wait_s`` s; RefusedError if an error answers a command not yet ``done``."""
        if self._commanded:
            self._asked(wait_s)
        elif self.transport.is_open:
            self.errors.extend(
                f"{label}: {value}" for label, _, value in self._received(wait_s) if "Error" in label
            )

    def all_labels(self) -> dict[str, Any]:
        """Ask for every label; returns the values. RefusedError if an error message comes instead.

        A burst has no end mark: it has ended when every label known from the first one has come again.
        """
        self.listen()
        self._send({"request": "labelProps", "value": "None"})
        first = not self._known
        missing = set(self._known)
        deadline = self.transport.clock.now() + self.timeout_s
        while missing or first:
            remaining = deadline - self.transport.clock.now()
            came = self._asked(min(remaining, QUIET_S) if first else remaining) if remaining > 0 else []
            for label, in_burst, _ in came:
                if in_burst:
                    self._known.add(label)
                    missing.discard(label)
            if first and not came and "NumberOfDetectors" in self._known:
                break
            if not came and self.transport.clock.now() >= deadline:
                self._known.clear()
                self.transport.mark_stale()
                raise NoAnswerError(
                    f"{self.transport.where}: no answer to labelProps within {self.timeout_s:g} s"
                    f" ({', '.join(sorted(missing)) or 'NumberOfDetectors'} did not come); check that the instrument is on"
                )
        return self.labels

    def ask(self, label: str) -> Any:
        """Ask for one label; NoAnswerError if it does not come."""
        self.listen()
        self._send({"request": label})
        deadline = self.transport.clock.now() + self.timeout_s
        while (remaining := deadline - self.transport.clock.now()) > 0:
            for name, in_burst, value in self._asked(remaining):
                if name == label and not in_burst:
                    return value
        self.transport.mark_stale()
        raise NoAnswerError(
            f"{self.transport.where}: no answer to the request for {label} within {self.timeout_s:g} s; check that the instrument is on"
        )

    def command(self, name: str, value: object, label: str = "") -> None:
        """Send a command; what it did shows in the labels. Until ``done`` is called, error messages are answers to it."""
        self.listen()
        self._commanded = True
        self._send({"command": name, **({"label": label} if label else {}), "value": value})

    def done(self) -> None:
        """The last command has had its effect, or has been given up."""
        self._commanded = False

    def _begin(self) -> None:
        self._cutter = JsonCutter()
        self.labels = {}

    def _send(self, message: dict[str, object]) -> None:
        self.transport.write(json.dumps(message).encode())

    def _asked(self, wait_s: float) -> list[tuple[str, bool, Any]]:
        """What came while a question is open; an error message is the answer to it."""
        came = self._received(wait_s)
        for label, _, value in came:
            if "Error" in label:
                self.transport.mark_stale()
                raise RefusedError(f"{self.transport.where}: refused: {label}: {value}")
        return came

    def _received(self, wait_s: float) -> list[tuple[str, bool, Any]]:
        """Messages as (label, whether with unit and bounds, value); BadAnswerError for what is none."""
        found: list[tuple[str, bool, Any]] = []
        for message in self._cutter.feed(self.transport.read_available(wait_s)):
            label, value = message.get("label"), message.get("value")
            if not isinstance(label, str):
                self._cutter.garbage += json.dumps(message).encode()[:80]
                continue
            in_burst = isinstance(value, dict)
            if in_burst:
                properties = cast("dict[str, Any]", value)
                self.bounds[label] = properties.get("bounds")
                value = properties.get("value")
            self.labels[label] = value
            found.append((label, in_burst, value))
        if self._cutter.garbage:
            self.transport.mark_stale()
            text = bytes(self._cutter.garbage)
            self._cutter = JsonCutter()
            raise BadAnswerError(
                f"{self.transport.where}: sent {text!r}, expected JSON objects with a label; is it the control port (12000)?"
            )
        return found


class CountsLine:
    """A client of the counts line: one line ``unix_time,c1,c2,...`` at the end of every measurement period."""

    def __init__(self, transport: Transport, detectors: int, timeout_s: float) -> None:
        self.transport = transport
        self.detectors = detectors
        self.timeout_s = timeout_s
        self._buffer = bytearray()
        self._asked_s = -math.inf
        transport.after_open = self._buffer.clear

    def next(self, wait_s: float) -> list[list[int]]:
        """Counts of the lines that have come since the last call, at least one: waits up to ``wait_s`` s for it."""
        self.transport.open()
        deadline = self.transport.clock.now() + wait_s
        self._drain()
        while b"\n" not in self._buffer:
            remaining = deadline - self.transport.clock.now()
            if remaining <= 0:
                raise NoAnswerError(
                    f"{self.transport.where}: no counts within {wait_s:g} s; check the counts port in the lab file"
                )
            self._take(self.transport.read_available(remaining))
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer[:] = rest
        return [self._parsed(line) for line in lines]

    def skip_past(self) -> None:
        """Forget the lines that have come."""
        self.transport.open()
        self._drain()
        del self._buffer[: self._buffer.rfind(b"\n") + 1]

    def close(self) -> None:
        """Disconnect."""
        self.transport.close()
        self._buffer.clear()

    def _drain(self) -> None:
        """Take in all that is there. A connection nobody read for long may hold old lines: a fresh one has none."""
        now = self.transport.clock.now()
        if now - self._asked_s > 30.0 and self._asked_s > -math.inf:
            self.transport.reset()
        self._asked_s = now
        while data := self.transport.read_available(0.0):
            self._take(data)

    def _take(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) - self._buffer.rfind(b"\n") > 65536:
            raise self._bad(bytes(self._buffer[-60:]), "a line never ends")

    def _parsed(self, line: bytes) -> list[int]:
        try:
            return parse_counts(line, self.detectors)[1]
        except ValueError as error:
            raise self._bad(line, str(error)) from None

    def _bad(self, line: bytes, why: str) -> BadAnswerError:
        self.close()
        return BadAnswerError(f"{self.transport.where}: counts port sent {line[:60]!r}: {why}")


def parse_counts(line: bytes, detectors: int) -> tuple[float, list[int]]:
    """Unix time in s and counts per detector of one line; ValueError says what is wrong with it."""
    fields = [float(field) for field in line.split(b",")]
    if len(fields) != 1 + detectors:
        raise ValueError(f"{len(fields) - 1} detectors, expected {detectors}")
    if not all(math.isfinite(field) and field >= 0 for field in fields):
        raise ValueError("negative or infinite")
    if not all(field == int(field) for field in fields[1:]):
        raise ValueError("counts are not whole numbers")
    return fields[0], [int(field) for field in fields[1:]]
