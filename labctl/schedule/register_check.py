"""Checks the registers of a schedule: written before they are read, once per piece, and every branch total."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from labctl.schedule.items import (
    Attempt,
    Branch,
    Draw,
    Feedback,
    Gate,
    Item,
    Repeat,
    Report,
    Series,
    Together,
    Track,
)
from labctl.schedule.problem import At, Path, Problems, inside, near
from labctl.schedule.timeline import straight
from labctl.schedule.usage import course, length_of

TIMEOUT = "timeout"
BEGIN = At()


@dataclass
class _Known:
    """What is known of the registers at one point of a schedule.

    written:      registers that have been written on every way to this point
    values:       register -> all values it can have, for registers that have few
    heralded:     outcome register -> registers that are written unless it says "timeout"
    drawn, old:   registers that hold a drawn setting; those of them that an attempt loop has ended since
    """

    written: set[str] = field(default_factory=set[str])
    values: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    heralded: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    drawn: set[str] = field(default_factory=set[str])
    old: set[str] = field(default_factory=set[str])

    def copy(self) -> _Known:
        """A copy to go into a case of a branch with."""
        return _Known(
            set(self.written), dict(self.values), dict(self.heralded), set(self.drawn), set(self.old)
        )

    def write(self, register: str, values: frozenset[str] | None = None) -> None:
        """Note that a register now has one of these values, or any."""
        self.written.add(register)
        if values is None:
            self.values.pop(register, None)
        else:
            self.values[register] = values


class RegisterCheck:
    """One walk over a schedule's items in the order they are played."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._at = BEGIN
        self._gated: set[str] = set()

    def run(self, item: Item, path: Path) -> None:
        """Check a whole schedule, which begins with no registers."""
        known = _Known()
        for into in _loops(item):  # totals of the run are there before the first loop: 0
            known.write(f"{into}.total")
            known.write(f"{into}.total_ps")
        self._gated = {gate.into for gate in all_gates(item)}
        self._visit(item, path, known, BEGIN)

    def _visit(self, item: Item, path: Path, known: _Known, at: At) -> None:
        """Check an item that begins ``at`` after its innermost block."""
        self._at = at
        if straight(item):
            self._straight((item,), path, known, at)
            return
        match item:
            case Series():
                here = inside(path, item.name)
                self._series(item, here, known, at if here == path else BEGIN)
            case Together():
                here = inside(path, item.name)
                for part in item.items:
                    self._visit(part, here, known, at if here == path else BEGIN)
            case Repeat():
                self._visit(item.body, path, known, at)
            case Attempt():
                self._attempt(item, inside(path, "attempt"), known)
            case Branch():
                self._branch(item, path, known)
            case Track():
                for register in _slots(item):
                    self._read(register, "the tracker", path, known)
                _tracked(item, known)
            case Draw():
                if not item.into:
                    self._add(path, "a Draw without a register", 'name one: into="..."')
                known.write(item.into, frozenset(str(k) for k in range(len(item.weights))))
                known.drawn.add(item.into)
                known.old.discard(item.into)
                if item.source == "qrng":
                    known.write(f"{item.into}.block")
            case Feedback():
                self._feedback(item, path, known)
            case Report():
                for column, register in item.columns.items():
                    self._read(register, f"column {column!r} of the record", path, known)
            case _:
                pass

    def _add(self, path: Path, what: str, hint: str = "", line: str = "") -> None:
        self._problems.add(path, what, hint, line=line, time_ps=self._at)

    def _series(self, item: Series, path: Path, known: _Known, at: At) -> None:
        """Straight neighbours are played as one piece."""
        piece: list[Item] = []
        begin = at
        for part in item.items:
            if straight(part):
                piece.append(part)
            else:
                self._straight(tuple(piece), path, known, begin)
                piece.clear()
                self._visit(part, path, known, at)
            at = at.plus(*course(part))
            begin = begin if piece else at
        self._straight(tuple(piece), path, known, begin)

    def _straight(self, items: tuple[Item, ...], path: Path, known: _Known, at: At) -> None:
        seen: set[str] = set()
        for gate, count, place, begin in _gates(Series(items), path, at):
            self._at = begin
            if gate.into and (gate.into in seen or count > 1):
                self._add(
                    place,
                    f"register {gate.into!r} is written again before anything has read it",
                    "give each gate of a piece its own register; in a loop, read it before the next turn",
                    line=gate.line,
                )
            seen.add(gate.into)
            for register in _written_by(gate):
                known.write(register, frozenset(("0", "1")) if register.endswith(".bright") else None)

    def _attempt(self, item: Attempt, path: Path, known: _Known) -> None:
        if item.every is not None:
            self._interleaved(item.every.body, path, known)
        inner = _Known()
        before = BEGIN if item.every is None else BEGIN.plus(*course(item.every.body))
        self._visit(item.body, path, inner, before)
        self._at = BEGIN
        for register in item.gates:
            if register not in {gate.into for gate, _, _, _ in _gates(item.body, path)}:
                self._add(
                    path,
                    f"register {register!r} decides the attempt, but no gate of its body writes it",
                    near(register, inner.written),
                )
        if len(set(item.gates)) < len(item.gates):
            self._add(path, "a register decides the attempt twice", "name each gate once")
        outcomes = frozenset(name for name in item.outcomes.values() if name != "again")
        known.write(item.into, outcomes | {TIMEOUT})
        known.write(f"{item.into}.attempts")
        known.written -= inner.written
        known.heralded[item.into] = inner.written
        known.values.update(inner.values)
        known.old |= known.drawn

    def _interleaved(self, body: Item, path: Path, known: _Known) -> None:
        """A block interleaved into an attempt loop: its trackers see its own gates, and only counts are kept."""
        parts = body.items if isinstance(body, Series) else (body,)
        path = inside(path, body.name) if isinstance(body, Series) else path
        inner = _Known()
        self._straight(tuple(part for part in parts if straight(part)), path, inner, BEGIN)
        self._at = BEGIN.plus(*course(body))
        counts = {gate.into for part in parts for gate, _, _, _ in _gates(part, path)}
        for part in parts:
            if isinstance(part, Track):
                for register in _slots(part):
                    if register not in counts:
                        self._add(
                            path,
                            f"the tracker of {part.into!r} reads register {register!r}, "
                            "which no gate of the interleaved block writes",
                            near(register, counts),
                        )
                _tracked(part, known)
        for register in counts:
            known.write(register)

    def _branch(self, item: Branch, path: Path, known: _Known) -> None:
        self._read(item.on, "the branch", path, known)
        self._new(item.on, "the branch", path, known)
        if item.on in known.written:
            self._total(item, path, known.values.get(item.on))
        ends: list[_Known] = []
        for name, case in item.cases.items():
            inner = known.copy()
            if name != TIMEOUT:
                inner.written |= known.heralded.get(item.on, set())
            self._visit(case, inside(path, name), inner, BEGIN)
            ends.append(inner)
        if ends:
            known.written |= set[str].intersection(*(end.written for end in ends))
            for end in ends:
                for register, values in end.values.items():
                    known.values[register] = values | known.values.get(register, frozenset())
                for register, names in end.heralded.items():
                    known.heralded.setdefault(register, names)
                known.drawn |= end.drawn
            known.old = set[str].union(*(end.old for end in ends))

    def _total(self, item: Branch, path: Path, values: frozenset[str] | None) -> None:
        if values is None:
            self._add(
                path,
                f"a branch on {item.on!r}, which can have any value",
                'branch on an outcome, on a drawn setting, or on the ".bright" register of a gate with a threshold',
            )
            return
        missing = sorted(values - set(item.cases), key=_numbers_first)
        if missing:
            self._add(
                path,
                f"the branch on {item.on!r} has no case for {', '.join(missing)}",
                "every value needs a case; a Wait will do",
            )
        for name in item.cases:
            if name not in values:
                self._add(
                    path,
                    f"the branch on {item.on!r} has a case {name!r} that never comes",
                    near(name, values),
                )

    def _feedback(self, item: Feedback, path: Path, known: _Known) -> None:
        self._read(item.register, "the feedback", path, known, item.line)
        self._new(item.register, "the feedback", path, known, item.line)
        values = known.values.get(item.register, frozenset())
        if item.register.endswith(".sigma_rad") or any(not value.isdigit() for value in values):
            self._add(
                path,
                f"the phase is fed back from {item.register!r}, which is not an integer",
                "feed back from a tracked phase, a count or a drawn setting",
                line=item.line,
            )

    def _new(self, register: str, reader: str, path: Path, known: _Known, line: str = "") -> None:
        """What is done after a herald must not have been settled before it."""
        if register in known.old:
            self._add(
                path,
                f"a setting is drawn before the herald: {reader} uses {register!r} after it",
                "draw it after the attempt loop: settings must not exist while the pair is being made",
                line=line,
            )

    def _read(self, register: str, reader: str, path: Path, known: _Known, line: str = "") -> None:
        if register in known.written:
            return
        for outcome, registers in known.heralded.items():
            if register in registers:
                self._add(
                    path,
                    f"{reader} reads register {register!r}, which is not written after a timeout",
                    f"read it in a case of a branch on {outcome!r}",
                    line=line,
                )
                return
        gate = register.removesuffix(".bright").removesuffix(".first_ps")
        when = "before its gate closes" if gate in self._gated else "before it is written"
        self._add(
            path,
            f"{reader} reads register {register!r} {when}",
            near(register, known.written.union(*known.heralded.values())),
            line=line,
        )


def _loops(item: Item) -> Iterator[str]:
    """Registers of all attempt loops of an item."""
    match item:
        case Series() | Together():
            for part in item.items:
                yield from _loops(part)
        case Branch():
            for case in item.cases.values():
                yield from _loops(case)
        case Repeat():
            yield from _loops(item.body)
        case Attempt():
            yield item.into
        case _:
            pass


def all_gates(item: Item) -> Iterator[Gate]:
    """Every gate of a schedule, once."""
    match item:
        case Gate():
            yield item
        case Series() | Together():
            for part in item.items:
                yield from all_gates(part)
        case Repeat():
            yield from all_gates(item.body)
        case Attempt():
            yield from all_gates(item.body)
            if item.every is not None:
                yield from all_gates(item.every.body)
        case Branch():
            for case in item.cases.values():
                yield from all_gates(case)
        case _:
            pass


def _gates(item: Item, path: Path, at: At = BEGIN, turns: int = 1) -> Iterator[tuple[Gate, int, Path, At]]:
    """Gates of a straight item, how often each is opened, in which block, and when in it."""
    match item:
        case Gate():
            yield item, turns, path, at
        case Series() | Together():
            here = inside(path, item.name)
            begin = at if here == path else BEGIN
            for part in item.items:
                yield from _gates(part, here, begin, turns)
                begin = begin.plus(length_of(part)) if isinstance(item, Series) else begin
        case Repeat():
            yield from _gates(item.body, path, at, turns * max(0, item.count))
        case _:
            pass


def _written_by(gate: Gate) -> tuple[str, ...]:
    bright = (f"{gate.into}.bright",) if gate.threshold is not None else ()
    return (gate.into, f"{gate.into}.first_ps", *bright)


def _slots(track: Track) -> list[str]:
    lock = [track.valid.lock] if track.valid is not None and track.valid.lock else []
    return [register for one, other, _ in track.gates for register in (one, other)] + lock


def _tracked(track: Track, known: _Known) -> None:
    for register in (track.into, f"{track.into}.sigma_rad", f"{track.into}.clicks"):
        known.write(register)
    if track.valid is not None:
        known.write(f"{track.into}.valid", frozenset(("0", "1")))


def _numbers_first(value: str) -> tuple[int, int, str]:
    return (0, len(value), value) if value.isdecimal() else (1, 0, value)
