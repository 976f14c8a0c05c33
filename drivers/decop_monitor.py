"""DeCoP monitoring line: a controller tells of changes of the parameters it was asked to watch (TCP port 1999)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from drivers.decop import Value, check_name, decode, encode
from labctl.errors import BadAnswerError, NoAnswerError, RefusedError
from labctl.transport import Transport

LONGEST = 1 << 20
"""A line longer than this is garbage, bytes."""

_UPDATE = re.compile(r"\((\S+) '([^\s)]+) (.*)\)", re.DOTALL)
_ERROR = re.compile(r"\(error:? *(-?[0-9]+):? \((\S+) '([^\s)]*)\) ?(.*)\)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Update:
    """One line of the monitoring line: a parameter's value at a time, by the instrument's own clock (UTC)."""

    time: datetime
    name: str
    value: Value


def parse_update(line: str) -> Update:
    """One line without its end; RefusedError for an error line, ValueError for anything else."""
    refused = _ERROR.fullmatch(line)
    if refused is not None:
        raise RefusedError(f"{refused[3] or 'monitoring line'}: error {refused[1]}: {refused[4]}")
    match = _UPDATE.fullmatch(line)
    if match is None:
        raise ValueError("not of the form (time 'name value)")
    return Update(datetime.fromisoformat(match[1]), match[2], decode(match[3]))


class Monitor:
    """A client of the monitoring line. ``subscribe`` says what to watch; iterating gives updates as they come.

    A connection that breaks is opened anew, with everything subscribed again, by the next call. One thread uses it;
    ``interrupt`` may come from another.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._requests: dict[str, bytes] = {}
        self._buffer = bytearray()
        transport.after_open = self._resume

    def __enter__(self) -> Self:
        """Open it."""
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def open(self) -> None:
        """Connect; subscribe again to what was subscribed before."""
        self.transport.open()

    def close(self) -> None:
        """Disconnect; the subscriptions are kept for the next ``open``."""
        self.transport.close()
        self._buffer.clear()

    def interrupt(self) -> None:
        """Make a wait in another thread end with NotConnectedError."""
        self.transport.interrupt()

    def subscribe(self, name: str, interval_s: float | None = None, threshold: float | None = None) -> None:
        """Watch a parameter.

        interval_s:  shortest time between two updates, s (whole ms); None for the instrument's own
        threshold:   smallest change worth an update, in the instrument's unit
        """
        words = [f"'{check_name(name)}"]
        if interval_s is not None or threshold is not None:
            words.append(str(max(1, round((0.1 if interval_s is None else interval_s) * 1000))))
        if threshold is not None:
            words.append(encode(float(threshold)))
        self._requests[name] = f"(add {' '.join(words)})\n".encode()
        if self.transport.is_open:
            self.transport.write(self._requests[name])

    def unsubscribe(self, name: str) -> None:
        """Stop watching a parameter; updates already under way may still come."""
        if self._requests.pop(name, None) is not None and self.transport.is_open:
            self.transport.write(f"(remove '{name})\n".encode())

    def next(self, timeout_s: float = math.inf) -> Update:
        """The next update; NoAnswerError if none comes within ``timeout_s`` s, RefusedError for an error line."""
        self.transport.open()
        deadline = self.transport.clock.now() + timeout_s
        while True:
            at = self._buffer.find(b"\n")
            if at >= 0:
                line = bytes(self._buffer[:at]).decode("utf-8", "replace").rstrip("\r")
                del self._buffer[: at + 1]
                return self._parsed(line)
            if len(self._buffer) > LONGEST:
                raise self._bad(self._buffer[:60].decode("utf-8", "replace"), "the line never ends")
            remaining = deadline - self.transport.clock.now()
            if remaining <= 0:
                raise NoAnswerError(
                    f"{self.transport.where}: no update of {', '.join(self._requests) or 'anything (nothing is subscribed)'} within {timeout_s:g} s"
                )
            self._buffer += self.transport.read_available(min(remaining, 1.0))

    def __iter__(self) -> Iterator[Update]:
        """Updates for ever, until the connection breaks."""
        while True:
            yield self.next()

    def _resume(self) -> None:
        self._buffer.clear()
        for request in self._requests.values():
            self.transport.write(request)

    def _parsed(self, line: str) -> Update:
        try:
            return parse_update(line)
        except ValueError as error:
            raise self._bad(line, str(error)) from None
        except RefusedError as error:
            raise RefusedError(f"{self.transport.where}: {error}") from None

    def _bad(self, line: str, why: str) -> BadAnswerError:
        self.transport.close()
        self._buffer.clear()
        return BadAnswerError(f"{self.transport.where}: monitoring line sent {line[:60]!r}: {why}")
