"""A schedule lowered for the simulated core: straight pieces flattened once, loops and branches kept as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from labctl.errors import CoreError
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
from labctl.schedule.timeline import NOMINAL, Timeline, ToneState, flatten, straight
from labctl.sim.played import OpenGate, PlayedPulse, Segment

UNSET: ToneState = (math.nan, math.nan, math.nan)
"""Whatever it was before."""


@dataclass(eq=False)
class Straight:
    """A straight piece; tones it inherits are filled in when it is played."""

    timeline: Timeline
    inherits: tuple[tuple[str, int], ...]
    """(line, part of its tone: 0 frequency, 1 phase, 2 amplitude) that a pulse takes from before the piece."""
    leaves: dict[str, ToneState]
    """Tones at the end of the piece; NaN where inherited."""
    inherits_from: tuple[str, ...] = ()
    """The lines of ``inherits``."""
    _segments: dict[tuple[ToneState, ...], Segment] = field(
        default_factory=dict[tuple[ToneState, ...], Segment]
    )

    def __post_init__(self) -> None:
        self.inherits_from = tuple(dict.fromkeys(line for line, _ in self.inherits))
        self._wholly = {line: left for line, left in self.leaves.items() if not any(map(math.isnan, left))}
        self._partly = {line: left for line, left in self.leaves.items() if line not in self._wholly}

    @property
    def duration_ps(self) -> int:
        """Length of the piece, ps."""
        return self.timeline.total_ps

    @property
    def thresholds(self) -> dict[str, int]:
        """Register -> counts from which it is bright."""
        return self.timeline.thresholds

    @property
    def gates(self) -> tuple[str, ...]:
        """Registers of its gates, in order of time."""
        line = self.timeline
        return tuple(line.into[int(i)] for i in line.register[line.is_gate])

    def segment(self, tones: Mapping[str, ToneState]) -> Segment:
        """The piece with the tones that hold now."""
        key = tuple([tones.get(line, NOMINAL) for line in self.inherits_from])
        found = self._segments.get(key)
        if found is None:
            if len(self._segments) > 64:  # tones fed back from a measured phase hardly ever repeat
                self._segments.clear()
            found = self._segments[key] = self._resolve(tones)
        return found

    def inherited(self, tones: Mapping[str, ToneState]) -> tuple[float, ...]:
        """The values of what it inherits."""
        return tuple(tones.get(line, NOMINAL)[part] for line, part in self.inherits)

    def after(self, tones: dict[str, ToneState]) -> None:
        """Bring ``tones`` to the end of the piece."""
        for line, left in self._partly.items():
            tones[line] = _filled(left, tones.get(line, NOMINAL))
        tones.update(self._wholly)

    def _resolve(self, tones: Mapping[str, ToneState]) -> Segment:
        line = self.timeline
        pulses: list[PlayedPulse] = []
        gates: list[OpenGate] = []
        for i in range(len(line.start_ps)):
            name = line.lines[int(line.line[i])]
            start, length = int(line.start_ps[i]), int(line.duration_ps[i])
            if line.is_gate[i]:
                into = line.into[int(line.register[i])]
                gates.append(OpenGate(name, start, length, into, threshold=line.thresholds.get(into, 1)))
            else:
                tone = (float(line.frequency_hz[i]), float(line.phase_turns[i]), float(line.amplitude[i]))
                pulses.append(PlayedPulse(name, start, length, *_filled(tone, tones.get(name, NOMINAL))))
        return Segment(tuple(pulses), tuple(gates), line.total_ps)


@dataclass(eq=False)
class AttemptLoop:
    """An attempt loop: one straight body, and a straight block (or none) with its phase trackers before every ``every``-th attempt."""

    item: Attempt
    body: Straight
    between: Straight | None
    every: int
    tracks: tuple[Track, ...]
    deciding: tuple[int, ...]
    """Places, among the body's gates in order of time, of the gates that decide."""
    _known: tuple[tuple[float, ...], tuple[Segment | None, Segment]] | None = None
    """What it inherits from before the loop, and its segments with that."""

    def __post_init__(self) -> None:
        given = dict.fromkeys(self.body.inherits)
        if self.between is not None:
            left = self.between.leaves
            given = {
                (line, part): None for line, part in given if math.isnan(left.get(line, UNSET)[part])
            } | dict.fromkeys(self.between.inherits)
        self._given = tuple(given)

    def outcome(self, pattern: str) -> str:
        """What a click pattern of all gates of the body means."""
        return self.item.outcomes["".join(pattern[place] for place in self.deciding)]

    def segments(self, tones: dict[str, ToneState]) -> tuple[Segment | None, Segment]:
        """Block and attempt as they are played every time; ``tones`` is brought to the end of an attempt.

        CoreError if a tone would not be the same the first time as later: a loop is not unrolled.
        """
        given = tuple([tones.get(line, NOMINAL)[part] for line, part in self._given])
        if self._known is None or self._known[0] != given:
            self._known = given, self._segments(dict(tones))
        if self.between is not None:
            self.between.after(tones)
        self.body.after(tones)
        return self._known[1]

    def _segments(self, tones: dict[str, ToneState]) -> tuple[Segment | None, Segment]:
        first = dict(tones)
        if self.between is not None:
            self.between.after(tones)
        attempt = dict(tones)
        self.body.after(tones)
        later = dict(tones)
        same = self.every == 1 or self.body.inherited(later) == self.body.inherited(attempt)
        if self.between is not None:
            same = same and self.between.inherited(later) == self.between.inherited(first)
            self.between.after(later)
        if not same or self.body.inherited(later) != self.body.inherited(attempt):
            inherited = {line for piece in (self.between, self.body) if piece for line, _ in piece.inherits}
            raise CoreError(
                f"attempt loop {self.item.into!r}: the first attempt would have other tones than those after it; "
                f"set them inside the attempt, before the pulse that uses them (one of {', '.join(sorted(inherited))})"
            )
        return None if self.between is None else self.between.segment(first), self.body.segment(attempt)


@dataclass(eq=False)
class Chain:
    """Steps one after the other."""

    steps: tuple[Step, ...]


@dataclass(eq=False)
class Loop:
    """Steps repeated."""

    count: int
    body: Step


@dataclass(eq=False)
class Choice:
    """One case by the value of a register."""

    on: str
    cases: dict[str, Step]


Step = (
    Straight
    | AttemptLoop
    | Chain
    | Loop
    | Choice
    | Feedback
    | Draw
    | Report
    | HostPoint
    | LineTrigger
    | Track
)


@dataclass(eq=False)
class Program:
    """What the simulated core plays."""

    schedule: Schedule
    root: Step


def lower(schedule: Schedule) -> Program:
    """Lower a checked schedule; CoreError for a shape this core cannot play."""
    return Program(schedule, _step(schedule.body))


def _step(item: Item) -> Step:
    if straight(item):
        return _straight(item)
    match item:
        case Series():
            return _chain(item)
        case Repeat():
            return Loop(item.count, _step(item.body))
        case Branch():
            return Choice(item.on, {name: _step(case) for name, case in item.cases.items()})
        case Attempt():
            return _attempt(item)
        case Feedback() | Draw() | Report() | HostPoint() | LineTrigger() | Track():
            return item
        case _:
            raise CoreError(
                f"the simulated core cannot play a {type(item).__name__} that contains loops, branches or registers; "
                "put those into a Series"
            )


def _chain(series: Series) -> Step:
    """A series with as many neighbours as possible joined into straight pieces."""
    steps: list[Step] = []
    run: list[Item] = []

    def close() -> None:
        if run:
            steps.append(_straight(Series(tuple(run))))
            run.clear()

    for part in series.items:
        if straight(part):
            run.append(part)
        else:
            close()
            steps.append(_step(part))
    close()
    return Chain(tuple(steps))


def _attempt(item: Attempt) -> AttemptLoop:
    if not straight(item.body):
        raise CoreError(
            "the body of an attempt loop must be straight: no loops, branches or registers inside an attempt"
        )
    between: Straight | None = None
    tracks: tuple[Track, ...] = ()
    every = 1
    if item.every is not None:
        every = item.every.attempts
        parts = item.every.body.items if isinstance(item.every.body, Series) else (item.every.body,)
        tracks = tuple(part for part in parts if isinstance(part, Track))
        rest = tuple(part for part in parts if not isinstance(part, Track))
        if not all(straight(part) for part in rest):
            raise CoreError(
                "a block interleaved into an attempt loop must be straight, apart from Track items"
            )
        between = _straight(Series(rest))
    body = _straight(item.body)
    missing = [register for register in item.gates if register not in body.gates]
    if missing:
        raise CoreError(f"attempt loop {item.into!r}: no gate of its body counts into {', '.join(missing)}")
    deciding = tuple(body.gates.index(register) for register in item.gates)
    return AttemptLoop(item, body, between, every, tracks, deciding)


def _straight(item: Item) -> Straight:
    names = _tone_lines(item)
    timeline, leaves = flatten(item, dict.fromkeys(names, UNSET))
    tones = np.stack([timeline.frequency_hz, timeline.phase_turns, timeline.amplitude], axis=1)
    pulse, part = np.nonzero(np.isnan(tones) & ~timeline.is_gate[:, None])
    inherits = {
        (timeline.lines[int(line)], int(which)): None
        for line, which in zip(timeline.line[pulse], part, strict=True)
    }
    return Straight(timeline, tuple(inherits), leaves)


def _tone_lines(item: Item) -> set[str]:
    """Every line the item pulses or tunes."""
    match item:
        case Series() | Together():
            return set[str]().union(*(_tone_lines(part) for part in item.items))
        case Repeat():
            return _tone_lines(item.body)
        case Pulse() | Gate() | Tone():
            return {item.line}
        case _:
            return set()


def _filled(tone: ToneState, old: ToneState) -> ToneState:
    """The tone with what is NaN, and so unequal to itself, as it was before."""
    frequency_hz, phase_turns, amplitude = tone
    return (
        frequency_hz if frequency_hz == frequency_hz else old[0],
        phase_turns if phase_turns == phase_turns else old[1],
        amplitude if amplitude == amplitude else old[2],
    )
