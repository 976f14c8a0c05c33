"""DeCoP, the text protocol of Toptica controllers: its values, and questions and answers on the command line.

Grammar as read by the vendor's toptica-lasersdk 3.3 (DEVICES.md section 3.1): ``#t #f``, integers, reals, ``"text"``,
``&base64`` and ``(a b c)``. A request is one line ending in LF; an answer ends in LF and the prompt ``"> "``.
"""

from __future__ import annotations

import base64
import logging
import math
import re
from collections.abc import Sequence
from typing import TypeVar, cast

from drivers.ahead import Ahead
from labctl.errors import BadAnswerError, LimitError, RefusedError
from labctl.transport import Transport

log = logging.getLogger(__name__)

Value = bool | int | float | str | bytes | tuple["Value", ...]
V = TypeVar("V", float, int, bool, str)

PROMPT = b"\n> "
MOST_AT_ONCE = 12
"""Parameters asked in one line; the longest line the controller takes is not documented."""
DEEPEST = 20
"""Tuples nested deeper than this are garbage."""
STATUS = {
    1: "unknown name",
    2: "not understood",
    3: "access denied at this user level",
    4: "no such parameter",
    5: "wrong type",
    6: "value not allowed",
}
"""Meaning of negative status numbers as the open DeCoF2 lists them; the DLC pro's own list is not published."""

_NAME = re.compile(r"[A-Za-z0-9_:-]+")
_SPACE = re.compile(r"[ \t\r\n\v\f]*")
_ATOM = re.compile(r'[^ \t\r\n\v\f()"]+')
_INTEGER = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)


def encode(value: Value) -> str:
    """A value as DeCoP text; LimitError for what cannot be sent on one line (line breaks, NaN, infinity)."""
    if isinstance(value, bool):
        return "#t" if value else "#f"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise LimitError(f"{value} cannot be sent: it is not a finite number")
        return repr(value)
    if isinstance(value, bytes):
        return "&" + base64.b64encode(value).decode("ascii")
    if isinstance(value, str):
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            raise LimitError(f"text {value!r} cannot be sent: it has a control character")
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "(" + " ".join(encode(item) for item in value) + ")"


def decode(text: str) -> Value:
    """The value that DeCoP ``text`` stands for; ValueError says what is wrong with it."""
    value, at = _decode(text, _skip(text, 0), 0)
    if _skip(text, at) != len(text):
        raise ValueError(f"more text after the value: {text[at : at + 40]!r}")
    return value


def _decode(text: str, at: int, depth: int) -> tuple[Value, int]:
    """The value that begins at ``at``, and where it ends."""
    if text.startswith("'(", at):  # a quoted list
        at += 1
    if text.startswith("(", at):
        return _decode_tuple(text, at, depth)
    if text.startswith('"', at):
        match = _TEXT.match(text, at)
        if match is None:
            raise ValueError("text without its closing quote")
        return re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL), match.end()
    match = _ATOM.match(text, at)
    if match is None:
        raise ValueError("a value is missing")
    return _atom(match[0]), match.end()


def _decode_tuple(text: str, at: int, depth: int) -> tuple[Value, int]:
    if depth >= DEEPEST:
        raise ValueError(f"tuples nested more than {DEEPEST} deep")
    items: list[Value] = []
    at = _skip(text, at + 1)
    while not text.startswith(")", at):
        if at >= len(text):
            raise ValueError("tuple without its closing bracket")
        item, at = _decode(text, at, depth + 1)
        items.append(item)
        at = _skip(text, at)
    return tuple(items), at + 1


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _atom(word: str) -> Value:
    if word in ("#t", "#T", "#f", "#F"):
        return word in ("#t", "#T")
    if _INTEGER.fullmatch(word):
        return int(word)
    if _REAL.fullmatch(word):
        return float(word)
    if word.startswith("&"):
        return base64.b64decode(word[1:], validate=True)
    finite = _NOT_FINITE.get(word.lower().removeprefix("+").removesuffix(".0"))
    if finite is None:
        raise ValueError(f"{word[:40]!r} is not a value")
    return finite


def check_name(name: str) -> str:
    """``name`` if it can be a parameter's name (``laser1:dl:cc:current-set``), else LimitError."""
    if not _NAME.fullmatch(name):
        raise LimitError(f"{name!r} is not a parameter name such as laser1:dl:cc:current-set")
    return name


class CommandLine:
    """Questions and answers on a DeCoP command line; one question at a time.

    transport:  TCP port 1998, or a serial or USB port (``serial:///dev/ttyUSB0?baudrate=115200``)
    timeout_s:  how long to wait for an answer, s

    Errors: RefusedError when the instrument says no, BadAnswerError for an answer outside the grammar, NoAnswerError
    and NotConnectedError from the transport. After a bad or missing answer the connection is opened anew.
    """

    def __init__(self, transport: Transport, timeout_s: float) -> None:
        self.transport = transport
        self.timeout_s = timeout_s
        transport.after_open = self._greet
        self.ahead = Ahead[Value](self._several, MOST_AT_ONCE)
        """What a round of readings asks together."""

    def get(self, name: str, kind: type[V]) -> V:
        """The value of one parameter, of the kind expected (a real may come as an integer)."""
        return self._typed(name, self.get_any(name), kind)

    def get_any(self, name: str) -> Value:
        """The value of one parameter, whatever its type."""
        value = self.ahead.find(name)
        return self._decoded(f"(param-ref '{check_name(name)})") if value is None else value

    def get_many(self, *wanted: tuple[str, type[float] | type[int] | type[bool] | type[str]]) -> list[Value]:
        """Several parameters, as (name, kind), in one round trip."""
        found = [self.ahead.find(name) for name, _ in wanted]
        answer = self._several([name for name, _ in wanted]) if None in found else cast("list[Value]", found)
        return [
            self._typed(name, value, cast("type[float]", kind))
            for (name, kind), value in zip(wanted, answer, strict=True)
        ]

    def _several(self, names: list[str]) -> Sequence[Value]:
        """The values of several parameters in one round trip."""
        request = "`(" + "".join(f",(param-ref '{check_name(name)})" for name in names) + ")"
        answer = self._decoded(request)
        if not isinstance(answer, tuple) or len(answer) != len(names):
            raise self._bad(request, str(answer), f"{len(names)} values in brackets")
        return answer

    def set(self, name: str, value: Value) -> None:
        """Write one parameter; RefusedError with the meaning of the status if the instrument says no."""
        request = f"(param-set! '{check_name(name)} {encode(value)})"
        last = self._ask(request)[-1]
        if not _INTEGER.fullmatch(last):
            raise self._bad(request, last, "a status number")
        status = int(last)
        if status < 0:
            meaning = STATUS.get(-status, "a reason only the manual knows")
            raise RefusedError(
                f"{self.transport.where}: refused to set {name} to {encode(value)}: status {status} ({meaning}); check limits, user level and the front panel"
            )
        if status > 0:
            log.warning("%s: %s set to %s with warning %d", self.transport.where, name, encode(value), status)

    def execute(self, name: str, *arguments: Value) -> list[str]:
        """Run a command; the lines it answers, of which the last is its status or result."""
        words = " ".join(["'" + check_name(name), *(encode(argument) for argument in arguments)])
        return self._ask(f"(exec {words})")

    def _greet(self) -> None:
        """After each connection: read the banner; a serial line has none and is brought to its prompt instead."""
        if self.transport.address.scheme == "serial":
            # echo off, cancel what was typed: a prompt comes, and before it perhaps a late answer or a banner
            self.transport.write(b"\x12\x03")
            self.transport.read_until(PROMPT, self.timeout_s)
            while self.transport.read_available(0.3):
                pass
            return
        banner = self.transport.read_until(PROMPT, self.timeout_s)
        if b"DeCo" not in banner:
            raise BadAnswerError(
                f"{self.transport.where}: greeted with {banner[-60:]!r}, expected 'DeCoF Command Line'; is this the command port (1998) of a Toptica controller?"
            )

    def _ask(self, request: str) -> list[str]:
        """The lines of the answer, without the prompt; RefusedError if it is an error."""
        if self.transport.unread:  # an answer too many: start afresh
            self.transport.mark_stale()
        self.transport.write(request.encode() + b"\n")
        answer = self.transport.read_until(PROMPT, self.timeout_s).decode("utf-8", "replace")
        lines = [line.rstrip("\r") for line in answer.split("\n")]
        if lines[0] == request and len(lines) > 1:  # echo is on
            del lines[0]
        for line in (lines[0], lines[-1]):
            if line.lower().startswith("error"):
                raise RefusedError(f"{self.transport.where}: {request} was refused: {line}")
        return lines

    def _decoded(self, request: str) -> Value:
        text = "\n".join(self._ask(request))
        try:
            return decode(text)
        except ValueError as error:
            raise self._bad(request, text, f"a DeCoP value ({error})") from None

    def _typed(self, name: str, value: Value, kind: type[V]) -> V:
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            if math.isfinite(value):
                return cast(V, float(value))
        elif type(value) is kind:
            return cast(V, value)
        raise self._bad(name, str(value), f"a {kind.__name__}")

    def _bad(self, request: str, answer: str, expected: str) -> BadAnswerError:
        """The error for an answer outside the protocol, with the connection marked for a fresh start."""
        self.transport.mark_stale()
        return BadAnswerError(
            f"{self.transport.where}: {request[:80]} was answered with {answer[:60]!r}, expected {expected}"
        )
