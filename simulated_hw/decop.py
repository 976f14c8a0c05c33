"""The instrument's side of DeCoP: reads requests, answers from a table of parameters, tells of changes.

Written from DEVICES.md section 3.1 and the vendor's client; independent of the driver's codec, so that a mistake in one is
seen by the other.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from labctl.clock import utc_text
from labctl.sim.instrument import Send, Session

Value = bool | int | float | str | bytes | tuple[Any, ...]

# Status numbers: the DLC pro's own list is not published; these follow the order of the open DeCoF2.
UNKNOWN, PARSE, DENIED, NO_PARAMETER, WRONG_TYPE, BAD_VALUE, NOT_FOUND = -1, -2, -3, -4, -5, -6, -7
ENDS = " \t\r\n()'`,\""
DEEPEST = 30


class DecopError(Exception):
    """An error answer: its number and text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"Error: {self.code} {self.text}"


class Symbol(str):
    """A bare word of a request, quoted or not."""


@dataclass(frozen=True)
class Parameter:
    """One parameter: its kind, how to read it, and how to write it (returns a status; None if read-only).

    level:  the least privileged user level that may write it: 1 service, 2 maintenance, 3 normal
    """

    kind: type[bool | int | float | str | bytes]
    read: Callable[[], Value]
    write: Callable[[Any], int] | None = None
    level: int = 3


@dataclass(frozen=True)
class System:
    """What a controller shows on its command and monitoring lines.

    commands:   give the lines of the answer, the last of which is its status or result
    passwords:  of the user levels that need one
    """

    parameters: Mapping[str, Parameter]
    commands: Mapping[str, Callable[[], list[str]]]
    passwords: Mapping[int, str]
    wall_s: Callable[[], float]
    refresh: Callable[[], None]
    banner: bytes = b"Welcome to DLC pro\r\nDeCoF Command Line\r\n> "


def written(value: Value) -> str:
    """A value as the instrument writes it; reals always carry a point or an exponent."""
    match value:
        case bool():
            return "#t" if value else "#f"
        case int() | float():
            return repr(value)
        case bytes():
            return "&" + base64.b64encode(value).decode("ascii")
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case tuple():
            return "(" + " ".join(written(item) for item in value) + ")"


def parse(line: str) -> Any:
    """A request as nested lists of values and symbols; a quoted or unquoted form is ``[Symbol("'"), form]``."""
    form, at = _form(line, 0, 0)
    if line[at:].strip():
        raise DecopError(PARSE, "syntax error: text after the request")
    return form


def _form(text: str, at: int, depth: int) -> tuple[Any, int]:
    while at < len(text) and text[at].isspace():
        at += 1
    if at >= len(text) or depth > DEEPEST:
        raise DecopError(PARSE, "syntax error: incomplete or too deep")
    character = text[at]
    if character in "'`,":
        inner, at = _form(text, at + 1, depth + 1)
        return [Symbol(character), inner], at
    if character == "(":
        return _list(text, at + 1, depth)
    if character == '"':
        return _text(text, at + 1)
    end = at
    while end < len(text) and text[end] not in ENDS:
        end += 1
    if end == at:
        raise DecopError(PARSE, f"syntax error at {character!r}")
    return _word(text[at:end]), end


def _list(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at < len(text) and text[at] == ")":
            return items, at + 1
        item, at = _form(text, at, depth + 1)
        items.append(item)


def _text(text: str, at: int) -> tuple[str, int]:
    read: list[str] = []
    while at < len(text):
        if text[at] == '"':
            return "".join(read), at + 1
        if text[at] == "\\":
            at += 1
        read.append(text[at : at + 1])
        at += 1
    raise DecopError(PARSE, "syntax error: string without its end")


def _word(word: str) -> Value:
    if word.lower() in ("#t", "#f"):
        return word.lower() == "#t"
    try:
        if word.startswith("&"):
            return base64.b64decode(word[1:], validate=True)
        if word[-1] in "0123456789." and word.lstrip("+-")[:1] in tuple("0123456789."):
            number = float(word) if any(c in word for c in ".eE") else int(word)
            if math.isfinite(number):
                return number
            raise ValueError(word)
    except (ValueError, OverflowError):
        raise DecopError(PARSE, f"syntax error: {word[:40]}") from None
    return Symbol(word)


class Interpreter:
    """Evaluates requests for one connection, which has its own user level."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.level = 3
        self.echo = False
        self._own = {
            "ul": Parameter(int, lambda: self.level, self._set_level),
            "echo": Parameter(bool, lambda: self.echo, self._set_echo),
        }

    def parameter(self, name: str) -> Parameter:
        """The parameter called ``name``, or DecopError."""
        found = self._own.get(name) or self.system.parameters.get(name)
        if found is None:
            raise DecopError(NO_PARAMETER, f"parameter '{name}' not found")
        return found

    def answer(self, line: str) -> str:
        """The answer to one request line, without prompt."""
        try:
            self.system.refresh()
            return "\n".join(self.evaluate(parse(line)))
        except DecopError as error:
            return str(error)

    def evaluate(self, form: Any) -> list[str]:
        """The lines that answer a request."""
        match form:
            case [Symbol("param-ref"), [Symbol("'"), Symbol(name)]]:
                return [written(self.parameter(name).read())]
            case [Symbol("param-gsv"), [Symbol("'"), Symbol(name)]]:
                parameter = self.parameter(name)
                if parameter.write is None:
                    raise DecopError(DENIED, f"parameter '{name}' has no set value")
                return [written(parameter.read())]
            case [Symbol("param-set!"), [Symbol("'"), Symbol(name)], value]:
                return [str(self.write(name, value))]
            case [Symbol("exec"), [Symbol("'"), Symbol(name)], *arguments]:
                return self.execute(name, arguments)
            case [Symbol("change-ul"), *arguments]:
                return self.execute("change-ul", arguments)
            case [Symbol("`"), [*items]]:
                return ["(" + " ".join(self._spliced(item) for item in items) + ")"]
            case [Symbol("+"), *items]:
                return [str(sum(self._status(item) for item in items))]
            case _:
                raise DecopError(PARSE, "not understood")

    def write(self, name: str, value: Any) -> int:
        """Write a parameter; 0, or a negative status."""
        parameter = self.parameter(name)
        if parameter.write is None or self.level > parameter.level:
            return DENIED
        if parameter.kind is float and type(value) is int:
            value = float(value)
        if parameter.kind is bytes and isinstance(value, str):
            try:
                value = base64.b64decode(value, validate=True)
            except ValueError:
                return WRONG_TYPE
        if type(value) is not parameter.kind:
            return WRONG_TYPE
        return parameter.write(value)

    def execute(self, name: str, arguments: list[Any]) -> list[str]:
        """Run a command."""
        if name == "change-ul":
            return [str(self._change_level(arguments))]
        command = self.system.commands.get(name)
        if command is None:
            raise DecopError(UNKNOWN, f"command '{name}' not found")
        if self.level > 3:
            raise DecopError(DENIED, "access denied")
        if arguments:
            raise DecopError(WRONG_TYPE, f"'{name}' takes no arguments")
        return command()

    def _status(self, item: Any) -> int:
        match item:
            case [Symbol("param-set!"), *_]:
                return int(self.evaluate(item)[-1])
            case _:
                raise DecopError(WRONG_TYPE, "not a number")

    def _spliced(self, item: Any) -> str:
        match item:
            case [Symbol(","), form]:
                return self.evaluate(form)[-1]
            case bool() | int() | float() | bytes():
                return written(item)
            case str() if not isinstance(item, Symbol):
                return written(item)
            case _:
                raise DecopError(PARSE, "not understood")

    def _change_level(self, arguments: list[Any]) -> int:
        level, password = [*arguments, ""][:2] if arguments else (None, "")
        if type(level) is not int or not 0 <= level <= 4 or not isinstance(password, str):
            raise DecopError(WRONG_TYPE, "change-ul takes a level from 0 to 4 and a password")
        if level >= 3 or self.system.passwords.get(level) == password:
            self.level = level
        return self.level

    def _set_level(self, level: int) -> int:
        if not 0 <= level <= 4:
            return BAD_VALUE
        return 0 if self._change_level([level]) == level else DENIED

    def _set_echo(self, echo: bool) -> int:
        self.echo = echo
        return 0


class Lines:
    """Cuts bytes into request lines; 0x12 and 0x03 are keys, not text."""

    longest = 65536

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[str]:
        """The complete lines and keys (as one-character lines) in ``data`` and what was left before."""
        found: list[str] = []
        for byte in data:
            if byte in (0x12, 0x03):
                if byte == 0x03:
                    self._buffer.clear()
                found.append(chr(byte))
            elif byte == 0x0A:
                found.append(self._buffer.decode("utf-8", "replace").strip("\r"))
                self._buffer.clear()
            elif len(self._buffer) < self.longest:
                self._buffer.append(byte)
        return found


class CommandSession(Session):
    """One client of the command line."""

    def __init__(self, system: System, send: Send) -> None:
        super().__init__(send)
        self._lines = Lines()
        self._interpreter = Interpreter(system)

    def connected(self) -> None:
        """Greet with the banner, which ends in CRLF and the prompt."""
        self.send(self._interpreter.system.banner)

    def receive(self, data: bytes) -> None:
        """Answer each line; answers end in LF and the prompt."""
        for line in self._lines.feed(data):
            if line == "\x12":
                self._interpreter.echo = False
            elif line in ("\x03", ""):
                self.send(b"\n> ")
            else:
                echo = line + "\n" if self._interpreter.echo else ""
                self.send(f"{echo}{self._interpreter.answer(line)}\n> ".encode())


@dataclass
class _Watch:
    """One subscription: what was last told, and when the next may be."""

    interval_s: float
    threshold: float
    told: Value | None = None
    next_s: float = float("-inf")

    def worth(self, value: Value) -> bool:
        """Whether the change is big enough to tell."""
        if isinstance(value, int | float) and isinstance(self.told, int | float):
            return value != self.told and abs(value - self.told) >= self.threshold
        return value != self.told


class MonitorSession(Session):
    """One client of the monitoring line: ``(add 'name [interval-ms [threshold]])``, ``(remove 'name)``."""

    usual_interval_s = 0.1

    def __init__(self, system: System, send: Send) -> None:
        super().__init__(send)
        self._system = system
        self._lines = Lines()
        self._interpreter = Interpreter(system)
        self._watches: dict[str, _Watch] = {}

    def receive(self, data: bytes) -> None:
        """Take subscriptions; only errors are answered."""
        for line in self._lines.feed(data):
            name = ""
            try:
                form = parse(line) if line.strip("\x12\x03 ") else None
                match form:
                    case None:
                        pass
                    case [Symbol("add"), [Symbol("'"), Symbol(name)], *options]:
                        self._add(name, options)
                    case [Symbol("remove"), [Symbol("'"), Symbol(name)]]:
                        if self._watches.pop(name, None) is None:
                            raise DecopError(NO_PARAMETER, "not subscribed")
                    case [Symbol("change-ul"), *arguments]:
                        self._interpreter.execute("change-ul", arguments)
                    case _:
                        raise DecopError(PARSE, "not understood")
            except DecopError as error:
                self._say(f"(Error: {error.code} ({self._stamp()} '{name}) {error.text})")

    def tick(self, now_s: float) -> None:
        """Tell of what has changed since it was last told."""
        due = [(name, watch) for name, watch in self._watches.items() if now_s >= watch.next_s]
        if due:
            self._system.refresh()
        for name, watch in due:
            value = self._interpreter.parameter(name).read()
            if watch.told is None or watch.worth(value):
                watch.told, watch.next_s = value, now_s + watch.interval_s
                self._say(f"({self._stamp()} '{name} {written(value)})")

    def _add(self, name: str, options: list[Any]) -> None:
        self._interpreter.parameter(name)
        numbers = [option for option in options if type(option) in (int, float) and option >= 0]
        if len(numbers) != len(options) or len(options) > 2:
            raise DecopError(WRONG_TYPE, "expected an interval in ms and a threshold")
        interval_s = numbers[0] / 1000 if numbers else self.usual_interval_s
        self._watches[name] = _Watch(interval_s, numbers[1] if len(numbers) > 1 else 0.0)

    def _stamp(self) -> str:
        return utc_text(self._system.wall_s())

    def _say(self, line: str) -> None:
        self.send(line.encode() + b"\n")
