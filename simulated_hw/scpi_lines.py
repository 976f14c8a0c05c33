"""SCPI grammar for simulated instruments: headers in long and short form, several commands on a line, an error queue."""

from __future__ import annotations

import math
import re
from collections import deque
from typing import ClassVar

from labctl.sim.instrument import LineInstrument, on

MESSAGES = {
    0: "No error",
    -113: "Undefined header",
    -120: "Numeric data error",
    -221: "Settings conflict",
    -222: "Data out of range",
    -224: "Illegal parameter value",
    -350: "Queue overflow",
}
_PIECES = re.compile(r"[\[\]:#*]|[A-Za-z]+|\?")


def header(spelling: str, argument: str = "") -> str:
    """A pattern for a header written as in manuals, in long or short form and any case.

    spelling:  ``[SOURce:]VOLTage[:LEVel]?``; what is in brackets may be left out, ``#`` is a number and becomes a group
    argument:  pattern of what follows after white space
    """
    pattern = "" if spelling.startswith("*") else ":?"
    for piece in _PIECES.findall(spelling):
        match piece:
            case "[":
                pattern += "(?:"
            case "]":
                pattern += ")?"
            case "#":
                pattern += r"(\d{1,3})"
            case ":":
                pattern += ":"
            case "*" | "?":
                pattern += "\\" + piece
            case _:
                pattern += f"(?:{piece.upper()}|{re.sub('[a-z]', '', piece)})"
    return f"(?i:{pattern}" + (rf"\s+{argument})" if argument else ")")


class ScpiLines(LineInstrument):
    """An instrument of SCPI lines. A line is answered as a whole, so nobody else's command comes between its parts."""

    longest_line: ClassVar[int] = 4096
    errors_kept: ClassVar[int] = 20

    def __init__(self) -> None:
        super().__init__()
        self.errors: deque[int] = deque()

    def answer(self, line: str) -> str | None:
        """Replies to all commands of a line, joined with semicolons; None if none replies.

        A command that follows a semicolon without a colon is taken below the node of the one before it.
        """
        replies: list[str] = []
        node = ""
        for part in line.split(";"):
            command = part.strip()
            if not command:
                continue
            if not command.startswith((":", "*")):
                command = node + command
            if not command.startswith("*"):
                name = command.split(maxsplit=1)[0]
                node = name.rpartition(":")[0] + ":" if ":" in name[1:] else ""
            reply = super().answer(command)
            if reply is not None:
                replies.append(reply)
        return ";".join(replies) if replies else None

    def unknown(self, line: str) -> None:
        """An undefined header goes to the error queue, and nothing is answered."""
        self.error(-113)

    def error(self, code: int) -> None:
        """Put an error into the queue; a full one ends with -350."""
        if len(self.errors) >= self.errors_kept:
            self.errors[-1] = -350
        else:
            self.errors.append(code)

    @on(header("*CLS"))
    def clear_status(self) -> None:
        """Empty the error queue."""
        self.errors.clear()

    @on(header("*OPC?"))
    def complete(self) -> str:
        """Commands are done as they come."""
        return "1"

    @on(header("SYSTem:ERRor[:NEXT]?"))
    def next_error(self) -> str:
        """Oldest error of the queue."""
        code = self.errors.popleft() if self.errors else 0
        return f'{code},"{MESSAGES[code]}"'

    def number(self, text: str, low: float, high: float) -> float | None:
        """An argument (or MIN, MAX) within its range, or None with the error queued."""
        value = {"MIN": low, "MAX": high}.get(text.strip()[:3].upper())
        if value is None:
            try:
                value = float(text)
            except ValueError:
                self.error(-120)
                return None
        if not (math.isfinite(value) and low * (1 - 1e-9) <= value <= high * (1 + 1e-9)):
            self.error(-222)
            return None
        return value

    def switch(self, text: str) -> bool | None:
        """ON, OFF, 1 or 0, or None with the error queued."""
        value = {"ON": True, "1": True, "OFF": False, "0": False}.get(text.strip().upper())
        if value is None:
            self.error(-224)
        return value
