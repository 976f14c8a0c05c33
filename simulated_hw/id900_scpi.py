"""The command text of an ID900: chains, long and short headers, numbers with units.

``;`` goes on in the same block, ``;:`` begins at the root (DEVICES.md section 3.6). A header node may be given in any
length from its short form up (``COUN``, ``COUNT``, ``COUNTER``), in any case; block 1 may be written without its number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labctl.sim.instrument import Send, Session

UNDEFINED_HEADER = '-113,"Undefined header"'
MISSING_PARAMETER = '-109,"Missing parameter"'
NOT_A_NUMBER = '-120,"Numeric data error"'
OUT_OF_RANGE = '-222,"Data out of range"'
ILLEGAL_VALUE = '-224,"Illegal parameter value"'


class ScpiError(Exception):
    """What a command is answered with when it cannot be done."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a chain, with its full path."""

    path: tuple[str, ...]
    query: bool
    argument: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One header: what a query reads, what a value does, what it does without one. ``number`` is that of the block."""

    pattern: re.Pattern[str]
    read: Callable[[int], str] | None = None
    write: Callable[[int, str], None] | None = None
    act: Callable[[int], None] | None = None


def parse_chain(text: str) -> list[Command]:
    """The commands of one request, in order."""
    commands: list[Command] = []
    block: tuple[str, ...] = ()
    for part in text.split(";"):
        head, _, argument = part.strip().partition(" ")
        if not head:
            continue
        nodes = tuple(head.removeprefix(":").removesuffix("?").upper().split(":"))
        path = nodes if head.startswith((":", "*")) else block + nodes
        if not head.startswith("*"):
            block = path[:-1]
        commands.append(Command(path, head.endswith("?"), argument.strip()))
    return commands


def header(spelling: str) -> re.Pattern[str]:
    """A pattern for a header as in manuals, ``INPUt#:COUNter``: ``#`` is the number of a block."""
    nodes: list[str] = []
    for node in spelling.split(":"):
        name = node.removesuffix("#")
        short = re.sub("[a-z]+$", "", name)
        optional = ""
        for letter in reversed(name[len(short) :].upper()):
            optional = f"(?:{letter}{optional})?"
        nodes.append(short + optional + (r"(\d{0,3})" if node.endswith("#") else "1?"))
    return re.compile(":".join(nodes))


def whole(text: str, low: int, high: int) -> int:
    """A whole number within bounds, also written as 1e12 or 1000.0; ScpiError if not."""
    value = real(text, "", float(low), float(high))
    if value != int(value):
        raise ScpiError(NOT_A_NUMBER)
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else int(value)


def real(text: str, unit: str, low: float, high: float) -> float:
    """A number within bounds, its unit may follow; ScpiError if not."""
    try:
        value = float(re.sub(rf"\s*{unit}$", "", text, flags=re.IGNORECASE) if unit else text)
    except ValueError:
        raise ScpiError(NOT_A_NUMBER) from None
    if not math.isfinite(value) or not low <= value <= high:
        raise ScpiError(OUT_OF_RANGE)
    return value


def switch(text: str) -> str:
    """ON or OFF."""
    word = {"1": "ON", "0": "OFF"}.get(text, text.upper())
    if word not in ("ON", "OFF"):
        raise ScpiError(ILLEGAL_VALUE)
    return word


def word(text: str, *words: str) -> str:
    """One of some words, in any length from the short form up; answered in full capitals of the short form."""
    for each in words:
        if header(each).fullmatch(text.upper()):
            return re.sub("[a-z]+$", "", each)
    raise ScpiError(ILLEGAL_VALUE)


def link(text: str) -> str:
    """Name of a source: NONE, STAR, INPU1 to 4, DELA1 to 8, TSCO1 to 8."""
    name = text.upper()
    match = re.fullmatch(r"(STAR|INPU|DELA|TSCO)[A-Z]*([0-9]*)", name)
    if name == "NONE":
        return name
    if match is None or (match[1] == "STAR") != (match[2] == ""):
        raise ScpiError(ILLEGAL_VALUE)
    if match[2] and not 1 <= int(match[2]) <= (4 if match[1] == "INPU" else 8):
        raise ScpiError(OUT_OF_RANGE)
    return match[1] + match[2]


def attribute(spelling: str, blocks: dict[int, Any], name: str, parse: Callable[[str], object]) -> Entry:
    """A setting that is an attribute of a block."""

    def write(number: int, text: str) -> None:
        setattr(blocks[number], name, parse(text))

    def read(number: int) -> str:
        return str(getattr(blocks[number], name))

    return Entry(header(spelling), read, write)


class Requests(Session):
    """A client whose every message is one request."""

    def __init__(self, send: Send, answer: Callable[[str], str], bring_up: Callable[[], None]) -> None:
        super().__init__(send)
        self._answer = answer
        self._bring_up = bring_up

    def receive(self, data: bytes) -> None:
        """Answer one request."""
        self.send(self._answer(data.decode("latin-1").strip()).encode("latin-1"))

    def tick(self, now_s: float) -> None:
        """Take tags in before the tagger forgets them."""
        self._bring_up()
