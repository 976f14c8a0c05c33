"""Timelines: a straight piece of schedule as arrays of pulses and gates in time order, every tone resolved.

A piece is straight when nothing in it depends on what happens: no attempts, branches or registers. Loops are laid out
with array operations, never pulse by pulse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from labctl.errors import ScheduleError
from labctl.schedule.items import (
    Attempt,
    Branch,
    Gate,
    Item,
    Mark,
    Pulse,
    Repeat,
    Schedule,
    Series,
    Together,
    Tone,
    Wait,
)
from labctl.schedule.lines import Line
from labctl.units import format_time

IntArray = NDArray[np.int64]
ShortArray = NDArray[np.int32]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

ToneState = tuple[float, float, float]
"""Frequency offset in Hz, phase in turns, relative amplitude."""
NOMINAL: ToneState = (0.0, 0.0, 1.0)
"""The tone of a line that was never told otherwise."""
LONGEST_PS = 2**62
"""Longest piece that int64 picoseconds hold with room to spare: 53 days."""
MOST_ENTRIES = 50_000_000
"""Most pulses and gates in one straight piece (2.5 GB of arrays); a longer loop belongs into a loop of the core."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """Pulses and gates of a straight piece, sorted by start; equal starts keep the order they are written in.

    lines:         names that ``line`` counts in
    start_ps, duration_ps:  from the start of the piece, ps
    line:          index into ``lines``
    is_gate:       gate (True) or pulse
    frequency_hz, phase_turns, amplitude:  tone of each pulse at its start; NaN where inherited from a NaN, 0 for gates
    into:          names that ``register`` counts in
    register:      index into ``into``; -1 for pulses
    thresholds:    register -> counts from which it is bright
    marks:         named instants (name, ps), of the first turn of each loop
    total_ps:      length of the piece
    """

    lines: tuple[str, ...]
    start_ps: IntArray
    duration_ps: IntArray
    line: ShortArray
    is_gate: BoolArray
    frequency_hz: FloatArray
    phase_turns: FloatArray
    amplitude: FloatArray
    into: tuple[str, ...]
    register: ShortArray
    thresholds: dict[str, int]
    marks: tuple[tuple[str, int], ...]
    total_ps: int

    def __len__(self) -> int:
        """Number of pulses and gates."""
        return len(self.start_ps)


def straight(item: Item) -> bool:
    """Whether nothing in the item depends on what happens: no attempts, branches or registers read."""
    match item:
        case Pulse() | Tone() | Wait() | Gate() | Mark():
            return True
        case Series() | Together():
            return all(straight(part) for part in item.items)
        case Repeat():
            return straight(item.body)
        case _:
            return False


def flatten(
    item: Item, tones: Mapping[str, ToneState] | None = None
) -> tuple[Timeline, dict[str, ToneState]]:
    """The timeline of a straight item, and the tones at its end.

    tones:  tone of each line at the start; lines not in it are nominal. NaN stands for "not known yet" and is handed on

    The branches of a Together each begin with the tones at its start; afterwards the tones are as if its branches had
    been written one after the other. ScheduleError if the item is not straight, has a negative time or is too large.
    """
    names = _Names({}, {}, {})
    layout = _Layout(names, dict(tones or {}))
    layout.add(item)
    start, duration, line, register, frequency, phase, amplitude = layout.columns()
    timeline = Timeline(
        lines=tuple(names.lines),
        start_ps=start,
        duration_ps=duration,
        line=line,
        is_gate=register >= 0,
        frequency_hz=frequency,
        phase_turns=phase,
        amplitude=amplitude,
        into=tuple(names.into),
        register=register,
        thresholds=names.thresholds,
        marks=tuple(layout.marks),
        total_ps=layout.now,
    )
    return timeline, layout.tones


def one_pass(item: Item, choose: Mapping[str, str] | None = None) -> Item:
    """The item as a straight one: each attempt loop once (its interleaved block first), one case of each branch.

    choose:  register -> the case taken where a branch reads it; without it, the first case

    What takes no time (feedback, draws, tracking, reports, host points) is left out, and so are line triggers.
    """
    choose = choose or {}
    match item:
        case Series():
            return Series(tuple(one_pass(part, choose) for part in item.items), item.name)
        case Together():
            return Together(tuple(one_pass(part, choose) for part in item.items), item.name)
        case Repeat():
            return Repeat(item.count, one_pass(item.body, choose))
        case Attempt():
            before = () if item.every is None else (one_pass(item.every.body, choose),)
            return Series((*before, one_pass(item.body, choose)))
        case Branch():
            wanted = choose.get(item.on, next(iter(item.cases), ""))
            if wanted not in item.cases:
                raise ScheduleError(f"branch on {item.on!r} has no case {wanted!r}: {', '.join(item.cases)}")
            return one_pass(item.cases[wanted], choose)
        case Pulse() | Tone() | Wait() | Gate() | Mark():
            return item
        case _:
            return Series(())


def edges(schedule: Schedule, lines: Mapping[str, Line], choose: Mapping[str, str] | None = None) -> Timeline:
    """One pass of a schedule on the core's own clock: each line's delay is taken off (outputs) or added (inputs).

    choose:  as for :func:`one_pass`

    A pulse whose light is due at t leaves the core ``delay_ps`` earlier, so times may be negative: a core begins that
    much later. ScheduleError for a line that is not in ``lines``.
    """
    light, _ = flatten(one_pass(schedule.body, choose))
    unknown = [name for name in light.lines if name not in lines]
    if unknown:
        raise ScheduleError(f"schedule {schedule.name}: no such line: {', '.join(unknown)}")
    shift = np.array(
        [lines[name].delay_ps * (1 if lines[name].direction == "in" else -1) for name in light.lines],
        np.int64,
    )
    start = light.start_ps + shift[light.line] if len(light) else light.start_ps
    order = np.argsort(start, kind="stable")
    return Timeline(
        lines=light.lines,
        start_ps=start[order],
        duration_ps=light.duration_ps[order],
        line=light.line[order],
        is_gate=light.is_gate[order],
        frequency_hz=light.frequency_hz[order],
        phase_turns=light.phase_turns[order],
        amplitude=light.amplitude[order],
        into=light.into,
        register=light.register[order],
        thresholds=light.thresholds,
        marks=light.marks,
        total_ps=light.total_ps,
    )


_Columns = tuple[IntArray, IntArray, ShortArray, ShortArray, FloatArray, FloatArray, FloatArray]


_Change = tuple[float | None, float | None, float | None]
"""New frequency, phase and amplitude; None keeps what was."""
T = TypeVar("T", float, float | None)


@dataclass
class _Names:
    """Indices of lines and registers, shared by all parts of one timeline."""

    lines: dict[str, int]
    into: dict[str, int]
    thresholds: dict[str, int]


class _Layout:
    """Lays items out one after the other; single pulses go into lists, loops come in as arrays."""

    def __init__(self, names: _Names, tones: dict[str, ToneState]) -> None:
        self.tones: dict[str, ToneState] = tones
        self.now: int = 0
        self.marks: list[tuple[str, int]] = []
        self._names = names
        self._rows: list[tuple[int, int, int, int, float, float, float]] = []
        self._chunks: list[_Columns] = []
        self._changes: dict[str, _Change] = {}

    def add(self, item: Item) -> None:
        """Append an item at ``now``."""
        match item:
            case Pulse():
                line = self._names.lines.setdefault(item.line, len(self._names.lines))
                tone = self.tones.get(item.line, NOMINAL)
                self._rows.append((self.now, item.duration, line, -1, *tone))
                self._pass(item.duration)
            case Gate():
                line = self._names.lines.setdefault(item.line, len(self._names.lines))
                register = self._names.into.setdefault(item.into, len(self._names.into))
                if item.threshold is not None:
                    self._names.thresholds[item.into] = item.threshold
                self._rows.append((self.now, item.duration, line, register, 0.0, 0.0, 0.0))
                self._pass(item.duration)
            case Wait():
                self._pass(item.duration)
            case Tone():
                self._tune({item.line: (item.frequency_hz, item.phase_turns, item.amplitude)})
            case Mark():
                self.marks.append((item.name, self.now))
            case Series():
                for part in item.items:
                    self.add(part)
            case Together():
                self._together(item)
            case Repeat():
                self._repeat(item)
            case _:
                raise ScheduleError(
                    f"{type(item).__name__} depends on what happens: it has no timeline before it is played"
                )

    def columns(self) -> _Columns:
        """Everything so far as arrays: start, duration, line, register, frequency, phase, amplitude."""
        self._close_rows()
        chunks = self._chunks
        if len(chunks) > 1:
            columns = tuple(np.concatenate(parts) for parts in zip(*chunks, strict=True))
        else:
            columns = chunks[0] if chunks else _columns([])
        start = columns[0]
        if len(start) > 1 and bool((start[1:] < start[:-1]).any()):
            order = np.argsort(start, kind="stable")
            columns = tuple(column[order] for column in columns)
        return columns  # pyright: ignore[reportReturnType]  (tuples from generators have lost their lengths)

    def _pass(self, duration_ps: int) -> None:
        if duration_ps < 0:
            raise ScheduleError(f"a duration of {format_time(duration_ps)}: durations cannot be negative")
        self.now += duration_ps
        if self.now > LONGEST_PS:
            raise ScheduleError(
                f"a piece of {self.now / 1e12:.3g} s: longer than the {LONGEST_PS / 1e12:.3g} s that a timeline can hold"
            )

    def _close_rows(self) -> None:
        if self._rows:
            self._chunks.append(_columns(self._rows))
            self._rows.clear()

    def _together(self, item: Together) -> None:
        """Each branch from the same time and the same tones."""
        begin, end, before = self.now, self.now, self.tones
        earlier, branches = self._changes, list[dict[str, _Change]]()
        for part in item.items:
            self.now, self.tones, self._changes = begin, dict(before), {}
            self.add(part)
            end = max(end, self.now)
            branches.append(self._changes)
        self.now, self.tones, self._changes = end, before, earlier
        for changes in branches:
            self._tune(changes)

    def _tune(self, changes: Mapping[str, _Change]) -> None:
        """Change tones; None keeps what was."""
        for line, change in changes.items():
            self.tones[line] = _over(self.tones.get(line, NOMINAL), change)
            self._changes[line] = _over(self._changes.get(line, (None, None, None)), change)

    def _repeat(self, item: Repeat) -> None:
        """The first turn with the tones as they are; from the second on every turn begins with the same tones."""
        if item.count < 0:
            raise ScheduleError(f"a loop of {item.count} turns: a loop needs at least one")
        if item.count == 0:
            return
        first = then = self._turn(item.body, self.tones)
        same = first.tones == self.tones
        if item.count > 1 and not same:
            then = self._turn(item.body, first.tones)
        self._close_rows()
        begin, turn = self.now, first.now
        self._pass(turn * item.count)
        self.marks.extend((name, begin + at) for name, at in first.marks)
        leading = 0 if same else 1
        if leading:
            self._chunks.append(_tiled(first.columns(), begin, turn, 1))
        if item.count > leading:
            self._chunks.append(_tiled(then.columns(), begin + leading * turn, turn, item.count - leading))
        self._tune(first._changes)

    def _turn(self, body: Item, tones: dict[str, ToneState]) -> _Layout:
        layout = _Layout(self._names, dict(tones))
        layout.add(body)
        return layout


def _columns(rows: list[tuple[int, int, int, int, float, float, float]]) -> _Columns:
    start, duration, line, register, frequency, phase, amplitude = (
        zip(*rows, strict=True) if rows else ((),) * 7
    )
    return (
        np.array(start, np.int64),
        np.array(duration, np.int64),
        np.array(line, np.int32),
        np.array(register, np.int32),
        np.array(frequency, np.float64),
        np.array(phase, np.float64),
        np.array(amplitude, np.float64),
    )


def _tiled(columns: _Columns, begin_ps: int, turn_ps: int, count: int) -> _Columns:
    """The columns of one turn, repeated. A turn is sorted and no start lies past its end, so the result is sorted."""
    start = columns[0]
    if len(start) * count > MOST_ENTRIES:
        raise ScheduleError(
            f"a straight loop of {count} turns with {len(start)} pulses and gates each: more than "
            f"{MOST_ENTRIES} entries; put a Report or a Track into its body so that the core keeps it as a loop"
        )
    begins = np.arange(count, dtype=np.int64) * turn_ps + begin_ps
    starts = (begins[:, None] + start[None, :]).reshape(-1)
    rest = tuple(_tile(column, count) for column in columns[1:])
    return (starts, *rest)  # pyright: ignore[reportReturnType]  (as above)


def _tile(column: NDArray[np.generic], count: int) -> NDArray[np.generic]:
    tiled = np.empty((count, len(column)), column.dtype)
    tiled[:] = column
    return tiled.reshape(-1)


def _over(tone: tuple[T, T, T], change: _Change) -> tuple[T | float, T | float, T | float]:
    """A tone with a change applied."""
    return (
        tone[0] if change[0] is None else change[0],
        tone[1] if change[1] is None else change[1],
        tone[2] if change[2] is None else change[2],
    )
