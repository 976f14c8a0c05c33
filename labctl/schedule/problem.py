"""What is wrong with a schedule, and where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import msgspec

from labctl.units import format_time

Path = tuple[str, ...]
"""Names of the blocks around an item, outermost first; attempt loops and cases of branches count as blocks."""


class Problem(msgspec.Struct, frozen=True):
    """One reason why a schedule cannot run.

    place:    blocks around it, e.g. "link / attempt / cooling"
    time_ps:  from the beginning of the innermost of these blocks; None where that depends on what happens
    line:     the line concerned, "" if none
    what:     what is wrong
    hint:     what to do about it, "" if that is plain
    """

    place: str
    time_ps: int | None
    line: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        """One readable line."""
        at = "" if self.time_ps is None else f" at {format_time(self.time_ps)}"
        on = f", {self.line}" if self.line else ""
        return f"{self.place}{at}{on}: {self.what}{f'; {self.hint}' if self.hint else ''}"


class Problems:
    """Collects problems, each once, in the order they are found."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def add(
        self, path: Path, what: str, hint: str = "", *, line: str = "", time_ps: int | None = None
    ) -> None:
        """Note a problem."""
        self._found[Problem(" / ".join(path), time_ps, line, what, hint)] = None

    def all(self) -> list[Problem]:
        """Every problem noted."""
        return list(self._found)


def inside(path: Path, name: str) -> Path:
    """The path of a block within a block; no name, or the same name again, adds nothing."""
    return path if not name or (path and path[-1] == name) else (*path, name)


def near(word: str, known: Iterable[str]) -> str:
    """A hint with the names closest to a word that is not known, or with all of them if they are few."""
    names = sorted(set(known))
    found = difflib.get_close_matches(word, names, 3, 0.6)
    if found:
        return f"did you mean {' or '.join(found)}?"
    if 0 < len(names) <= 8:
        return f"there is {', '.join(names)}"
    return ""
