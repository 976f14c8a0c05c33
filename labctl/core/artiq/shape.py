"""The shape of a schedule as ARTIQ plays it: straight pieces joined as far as possible, with their places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from labctl.core.program import UNSET
from labctl.schedule.items import (
    Attempt,
    Branch,
    Draw,
    Feedback,
    Gate,
    HostPoint,
    Item,
    LineTrigger,
    Pulse,
    Repeat,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    Track,
)
from labctl.schedule.problem import Path, Problems, inside
from labctl.schedule.timeline import Timeline, ToneState, flatten, straight
from labctl.schedule.usage import length_of


@dataclass(eq=False)
class Piece:
    """A straight piece: its timeline with inherited tones as NaN, and the tones it leaves."""

    path: Path
    timeline: Timeline
    leaves: dict[str, ToneState]
    free: bool = False
    places: dict[tuple[str, int], tuple[Path, int]] = field(
        default_factory=dict[tuple[str, int], tuple[Path, int]]
    )
    """(line, start in ps) of a pulse or gate -> its innermost block and when that begins; of loops, the first turn."""

    def place(self, line: str, start_ps: int) -> tuple[Path, int]:
        """Innermost block of a pulse or gate, and when it begins, ps."""
        return self.places.get((line, start_ps), (self.path, 0))

    def begins_with(self) -> set[str]:
        """Lines that are on at its very beginning."""
        line = self.timeline
        first = (line.start_ps == 0) & ~line.is_gate & (line.duration_ps > 0)
        return {line.lines[int(index)] for index in line.line[first]}


@dataclass(eq=False)
class Tries:
    """An attempt loop."""

    path: Path
    item: Attempt
    between: Piece | None
    tracks: tuple[Track, ...]
    body: Piece


@dataclass(eq=False)
class Row:
    """Shapes one after the other."""

    parts: tuple[Shape, ...]


@dataclass(eq=False)
class Loop:
    """A shape repeated."""

    path: Path
    count: int
    body: Shape


@dataclass(eq=False)
class Choice:
    """A shape by the value of a register."""

    path: Path
    on: str
    cases: dict[str, Shape]


@dataclass(eq=False)
class Act:
    """Something without edges of its own."""

    path: Path
    item: Feedback | Draw | Report | HostPoint | LineTrigger | Track


Shape = Piece | Tries | Row | Loop | Choice | Act


def shape(schedule: Schedule, problems: Problems) -> Shape:
    """The shape of a checked schedule."""
    path = (schedule.name or "schedule",)
    if schedule.rounds == "record":
        problems.add(
            path,
            "a schedule whose passes may end without a record",
            "the ARTIQ core counts passes, not records: this schedule runs on the simulated core only",
        )
    return _shape(schedule.body, path, problems)


def _shape(item: Item, path: Path, problems: Problems) -> Shape:
    if straight(item):
        name = item.name if isinstance(item, (Series, Together)) else ""
        return _piece((item,), inside(path, name), isinstance(item, Series) and item.kind == "free")
    match item:
        case Series():
            return _row(item, inside(path, item.name), problems)
        case Repeat():
            return Loop(path, item.count, _shape(item.body, path, problems))
        case Branch():
            cases = {name: _shape(case, inside(path, name), problems) for name, case in item.cases.items()}
            return Choice(path, item.on, cases)
        case Attempt():
            tries = _tries(item, inside(path, "attempt"))
            for register in set(item.gates) & set(tries.body.timeline.thresholds):
                problems.add(
                    tries.path,
                    f"the attempt is decided by whether {register!r} reaches a threshold",
                    "the ARTIQ core decides by single clicks: leave the gate's threshold out",
                )
            return tries
        case Report():
            for register in item.columns.values():
                if register.endswith((".total", ".total_ps")):
                    problems.add(
                        path,
                        f"the record wants {register!r}, which the ARTIQ core does not keep",
                        "report the loop's .attempts instead",
                    )
            return Act(path, item)
        case Feedback() | Draw() | HostPoint() | LineTrigger() | Track():
            return Act(path, item)
        case _:
            problems.add(
                path,
                f"the ARTIQ core cannot play a {type(item).__name__} that contains loops, branches or registers",
                "put those into a Series",
            )
            return Row(())


def _row(series: Series, path: Path, problems: Problems) -> Row:
    """A series with as many neighbours as possible joined into straight pieces; free blocks stay on their own."""
    parts: list[Shape] = []
    run: list[Item] = []

    def close() -> None:
        if run:
            only = run[0]
            name = only.name if len(run) == 1 and isinstance(only, (Series, Together)) else ""
            parts.append(_piece(tuple(run), inside(path, name), False))
            run.clear()

    for part in series.items:
        if straight(part) and not (isinstance(part, Series) and part.kind == "free"):
            run.append(part)
        else:
            close()
            parts.append(_shape(part, path, problems))
    close()
    if series.kind == "free":
        first = next((part for part in parts if isinstance(part, Piece)), None)
        if first is not None and first is parts[0]:
            first.free = True
    return Row(tuple(parts))


def _tries(item: Attempt, path: Path) -> Tries:
    between: Piece | None = None
    tracks: tuple[Track, ...] = ()
    if item.every is not None:
        block = item.every.body
        parts = block.items if isinstance(block, Series) else (block,)
        tracks = tuple(part for part in parts if isinstance(part, Track))
        rest = tuple(part for part in parts if not isinstance(part, Track))
        name = block.name if isinstance(block, (Series, Together)) else ""
        free = isinstance(block, Series) and block.kind == "free"
        between = _piece(rest, inside(path, name or "between"), free)
    body = item.body
    name = body.name if isinstance(body, (Series, Together)) else ""
    return Tries(path, item, between, tracks, _piece((body,), inside(path, name), False))


def _piece(items: tuple[Item, ...], path: Path, free: bool) -> Piece:
    item = Series(items)
    timeline, leaves = flatten(item, dict.fromkeys(_lines(item), UNSET))
    piece = Piece(path, timeline, leaves, free)
    at = 0
    for one in items:
        at = _places(one, path, 0, at, piece.places)
    return piece


def _places(
    item: Item, path: Path, begin: int, at: int, found: dict[tuple[str, int], tuple[Path, int]]
) -> int:
    """Note the innermost block of each pulse and gate of a straight item that begins at ``at``; its end."""
    match item:
        case Pulse() | Gate():
            found.setdefault((item.line, at), (path, begin))
        case Series() | Together():
            here = inside(path, item.name)
            first = begin if here == path else at
            end = at
            for part in item.items:
                end = max(end, _places(part, here, first, at, found))
                at = end if isinstance(item, Series) else at
            return end
        case Repeat():
            _places(item.body, path, begin, at, found)
        case _:
            pass
    return at + length_of(item)


def _lines(item: Item) -> set[str]:
    match item:
        case Series() | Together():
            return set[str]().union(*(_lines(part) for part in item.items))
        case Repeat():
            return _lines(item.body)
        case Pulse() | Gate() | Tone():
            return {item.line}
        case _:
            return set()


def pieces(part: Shape) -> Iterator[Piece]:
    """Every piece, in the order of the schedule."""
    match part:
        case Piece():
            yield part
        case Tries():
            yield from (part.body,) if part.between is None else (part.between, part.body)
        case Row():
            for one in part.parts:
                yield from pieces(one)
        case Loop():
            yield from pieces(part.body)
        case Choice():
            for case in part.cases.values():
                yield from pieces(case)
        case Act():
            pass


def acts(part: Shape) -> Iterator[Act]:
    """Everything without edges of its own, in the order of the schedule."""
    match part:
        case Act():
            yield part
        case Row():
            for one in part.parts:
                yield from acts(one)
        case Loop():
            yield from acts(part.body)
        case Choice():
            for case in part.cases.values():
                yield from acts(case)
        case _:
            pass


def begins_with(part: Shape, then: set[str]) -> set[str]:
    """Lines that are on at the beginning of a shape whatever happens; ``then`` for what follows it."""
    match part:
        case Piece():
            if part.timeline.total_ps == 0 and not len(part.timeline):
                return then
            return part.begins_with()
        case Tries():
            return (part.between or part.body).begins_with()
        case Row():
            for one in reversed(part.parts):
                then = begins_with(one, then)
            return then
        case Loop():
            return begins_with(part.body, then)
        case Choice():
            found = [begins_with(case, then) for case in part.cases.values()]
            return set[str].intersection(*found) if found else then
        case Act():
            return set() if isinstance(part.item, (HostPoint, LineTrigger)) else then
