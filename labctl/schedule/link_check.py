"""Checks that a schedule keeps to nodes that links join: nothing else can run in step with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from labctl.schedule.items import (
    Attempt,
    Branch,
    Feedback,
    Gate,
    Item,
    LineTrigger,
    Pulse,
    Repeat,
    Series,
    Together,
    Tone,
)
from labctl.schedule.problem import At, Path, Problems, inside
from labctl.schedule.usage import course


class LinkCheck:
    """One walk over a schedule's items; the first line says which nodes the others may belong to."""

    def __init__(
        self, links: Iterable[tuple[str, str]], node_of: Callable[[str], str], problems: Problems
    ) -> None:
        self._links = [frozenset(pair) for pair in links]
        self._node_of = node_of
        self._problems = problems
        self._home = ""
        self._joined: set[str] = set()
        self._told: set[str] = set()

    def run(self, item: Item, path: Path, at: At | None = None) -> None:
        """Check an item that begins ``at`` after its innermost block."""
        at = at or At()
        if not self._links:
            return
        match item:
            case Series() | Together():
                here = inside(path, item.name)
                begin = at if here == path else At()
                for part in item.items:
                    self.run(part, here, begin)
                    begin = begin.plus(*course(part)) if isinstance(item, Series) else begin
            case Repeat():
                self.run(item.body, path, at)
            case Attempt():
                path = inside(path, "attempt")
                before = At() if item.every is None else course(item.every.body)
                if item.every is not None:
                    self.run(item.every.body, path)
                self.run(item.body, path, before)
            case Branch():
                for name, case in item.cases.items():
                    self.run(case, inside(path, name))
            case Pulse() | Gate() | Tone() | Feedback() | LineTrigger():
                self._line(item.line, path, at)
            case _:
                pass

    def _line(self, line: str, path: Path, at: At) -> None:
        node = self._node_of(line)
        if not self._home:
            self._home = node
            self._joined = self._reached(node)
        if node in self._joined or node in self._told:
            return
        self._told.add(node)
        self._problems.add(
            path,
            f"a line of {node}, which no link joins to {self._home}",
            f"use lines of {', '.join(sorted(self._joined))}; or write the link into the lab file: links = [..., "
            f"[{self._home!r}, {node!r}]]",
            line=line,
            time_ps=at,
        )

    def _reached(self, node: str) -> set[str]:
        found, more = {node}, [node]
        while more:
            here = more.pop()
            for pair in self._links:
                if here in pair:
                    more += [other for other in pair if other not in found]
                    found |= pair
        return found
