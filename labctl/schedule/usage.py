"""How items use lines, without unrolling loops: what joins at seams, and when a line is on in a straight item."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from labctl.schedule.items import (
    Attempt,
    Branch,
    Gate,
    HostPoint,
    Item,
    LineTrigger,
    Pulse,
    Repeat,
    Series,
    Together,
    Tone,
    Wait,
)
from labctl.schedule.problem import At

MOST_SPANS = 2_000
"""Side by side with other branches, loops of more pulses than this count as on from their second turn to their last."""


MOST_COURSES = 16
"""How many different first and last pulses of a line are followed through branches."""


@dataclass(slots=True)
class LineUse:
    """How an item uses a line. Times in ps on the item's shortest course, whose length is the item's ``length``.

    firsts, lasts:    possible begins of the first and ends of the last pulse
    slacks:           how much longer than the shortest the courses without any pulse are; empty if there are none
    on, on_extra:     time on in the course with the highest duty, which is so much longer than the shortest
    edges, edges_extra:  edges in the course with the highest rate, which is so much longer than the shortest
    """

    firsts: frozenset[int]
    lasts: frozenset[int]
    slacks: frozenset[int]
    on: int
    edges: int
    on_extra: int = 0
    edges_extra: int = 0


@dataclass(slots=True)
class Use:
    """How an item uses its lines.

    length:   of its shortest course, ps
    exact:    whether every course has that length
    lines:    use by line
    flagged:  lines whose duty or rate was found too high already
    """

    length: int = 0
    exact: bool = True
    lines: dict[str, LineUse] = field(default_factory=dict[str, LineUse])
    flagged: set[str] = field(default_factory=set[str])

    def then(self, other: Use) -> None:
        """Append another item's use to this one."""
        begin = self.length
        self.length += other.length
        for name, use in other.lines.items():
            firsts = {begin + first for first in use.firsts}
            lasts = {begin + last for last in use.lasts}
            old = self.lines.get(name)
            if old is None:
                self.lines[name] = replace(use, firsts=frozenset(firsts), lasts=frozenset(lasts))
                continue
            firsts = old.firsts | {first + slack for first in firsts for slack in old.slacks}
            lasts |= {last - slack for last in old.lasts for slack in use.slacks}
            slacks = {one + two for one in old.slacks for two in use.slacks}
            self.lines[name] = LineUse(
                smallest(firsts),
                largest(lasts),
                smallest(slacks),
                old.on + use.on,
                old.edges + use.edges,
                old.on_extra + use.on_extra,
                old.edges_extra + use.edges_extra,
            )
        self.exact = self.exact and other.exact
        self.flagged |= other.flagged

    def repeated(self, count: int) -> Use:
        """The use of ``count`` turns of this item, at least one."""
        rest = self.length * (count - 1)
        lines: dict[str, LineUse] = {}
        for name, use in self.lines.items():
            firsts, lasts = set(use.firsts), {rest + last for last in use.lasts}
            if count > 1:
                firsts |= {self.length + slack + first for first in use.firsts for slack in use.slacks}
                lasts |= {rest - self.length - slack + last for last in use.lasts for slack in use.slacks}
            lines[name] = LineUse(
                smallest(firsts),
                largest(lasts),
                frozenset(slack * count for slack in use.slacks),
                use.on * count,
                use.edges * count,
                use.on_extra * count,
                use.edges_extra * count,
            )
        return Use(self.length * count, self.exact, lines, set(self.flagged))


def smallest(times: Iterable[int]) -> frozenset[int]:
    """The smallest few of some times."""
    return frozenset(sorted(set(times))[:MOST_COURSES])


def largest(times: Iterable[int]) -> frozenset[int]:
    """The largest few of some times."""
    return frozenset(sorted(set(times))[-MOST_COURSES:])


def touched(item: Item) -> tuple[set[str], set[str]]:
    """Lines whose tone a straight item sets, and all lines it sets or switches."""
    tuned: set[str] = set()
    every: set[str] = set()
    stack = [item]
    while stack:
        part = stack.pop()
        match part:
            case Series() | Together():
                stack.extend(part.items)
            case Repeat():
                stack.append(part.body)
            case Tone():
                tuned.add(part.line)
                every.add(part.line)
            case Pulse() | Gate():
                every.add(part.line)
            case _:
                pass
    return tuned, every


def length_of(item: Item) -> int:
    """Length of a straight item, negative durations counted as none."""
    match item:
        case Pulse() | Gate() | Wait():
            return max(0, item.duration)
        case Series():
            return sum(length_of(part) for part in item.items)
        case Together():
            return max((length_of(part) for part in item.items), default=0)
        case Repeat():
            return max(0, item.count) * length_of(item.body)
        case _:
            return 0


def course(item: Item) -> At:
    """Length of the shortest course of an item, and whether every course is that long; negative durations count as none."""
    match item:
        case Series():
            total = At()
            for part in item.items:
                total = total.plus(*course(part))
            return total
        case Together():
            parts = [course(part) for part in item.items]
            return At(max((part.ps for part in parts), default=0), all(part.exact for part in parts))
        case Repeat():
            turn = course(item.body)
            return At(max(0, item.count) * turn.ps, turn.exact)
        case Branch():
            parts = [course(case) for case in item.cases.values()]
            least = min((part.ps for part in parts), default=0)
            return At(least, all(part == At(least) for part in parts))
        case Attempt():
            before = At() if item.every is None else course(item.every.body)
            return At(before.ps + course(item.body).ps, False)
        case LineTrigger():
            return At(max(0, item.reaction), False)
        case HostPoint():
            return At(0, False)
        case _:
            return At(length_of(item))


def spans(item: Item, at: int, wanted: set[str]) -> list[tuple[str, int, int]]:
    """When the wanted lines are on in a straight item: (line, begin, end); long loops as one span."""
    match item:
        case Pulse() | Gate():
            return [(item.line, at, at + max(0, item.duration))] if item.line in wanted else []
        case Series():
            found: list[tuple[str, int, int]] = []
            for part in item.items:
                found += spans(part, at, wanted)
                at += length_of(part)
            return found
        case Together():
            return [span for part in item.items for span in spans(part, at, wanted)]
        case Repeat():
            return _loop_spans(item, at, wanted)
        case _:
            return []


def _loop_spans(item: Repeat, at: int, wanted: set[str]) -> list[tuple[str, int, int]]:
    turn = spans(item.body, at, wanted) if item.count > 0 else []
    length = length_of(item.body)
    if len(turn) * item.count <= MOST_SPANS:
        return [
            (name, begin + k * length, end + k * length)
            for k in range(item.count)
            for name, begin, end in turn
        ]
    rest = (item.count - 1) * length
    solid: list[tuple[str, int, int]] = []
    for line in sorted({name for name, _, _ in turn}):
        begin = min(start for name, start, _ in turn if name == line)
        end = max(stop for name, _, stop in turn if name == line)
        solid.append((line, begin + length, end + rest))
    return turn + solid
