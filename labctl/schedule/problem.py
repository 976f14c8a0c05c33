"""What is wrong with a schedule, and where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from labctl.units import format_time

Path = tuple[str, ...]
"""Names of the blocks around an item, outermost first; attempt loops and cases of branches count as blocks."""


class At(NamedTuple):
    """A time from the beginning of a block, ps; if it depends on what happens, on the shortest course (``exact`` False)."""

    ps: int = 0
    exact: bool = True

    def plus(self, length_ps: int, exact: bool = True) -> At:
        """So much later; ``exact``: whether what passes lasts the same on every course."""
        return At(self.ps + length_ps, self.exact and exact)


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One reason why a schedule cannot run.

    place:     blocks around it, e.g. "link / attempt / cooling"
    time_ps:   from the beginning of the innermost of these blocks; None for what is wrong with the lab file
    line:      the line concerned, "" if none
    what:      what is wrong
    hint:      what to do about it, "" if that is plain
    or_later:  the time depends on what happens, and is that on the shortest course
    """

    place: str
    time_ps: int | None
    line: str
    what: str
    hint: str = ""
    or_later: bool = False

    def __str__(self) -> str:
        """One readable line."""
        later = " or later" if self.or_later else ""
        at = "" if self.time_ps is None else f" at {format_time(self.time_ps)}{later}"
        on = f", {self.line}" if self.line else ""
        return f"{self.place}{at}{on}: {self.what}{f'; {self.hint}' if self.hint else ''}"


class Problems:
    """Collects problems, each once, in the order they are found."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def add(
        self, path: Path, what: str, hint: str = "", *, line: str = "", time_ps: At | int | None = None
    ) -> None:
        """Note a problem; one of a whole block is at its beginning, one of the lab file (``core.artiq``) has no time."""
        if time_ps is None and not path[0].startswith("core."):
            time_ps = 0
        later = isinstance(time_ps, At) and not time_ps.exact
        time = time_ps.ps if isinstance(time_ps, At) else time_ps
        self._found[Problem(" / ".join(path), time, line, what, hint, later)] = None

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
