"""A schedule lowered for the simulated core: straight pieces flattened once, loops and branches kept as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from labctl.errors import CoreError
from labctl.schedule.items import (
    Attempt,
    Branch,
    Draw,
    Feedback,
    HostPoint,
    Item,
    Mark,
    Repeat,
    Report,
    Schedule,
    Series,
    Tone,
    Track,
    Wait,
)
from labctl.schedule.timeline import Timeline, flatten, straight
from labctl.sim.played import OpenGate, PlayedPulse, Segment

ToneState = tuple[float, float, float]
"""Frequency offset in Hz, phase in turns, relative amplitude."""
NOMINAL: ToneState = (0.0, 0.0, 1.0)
UNSET: ToneState = (math.nan, math.nan, math.nan)


@dataclass(eq=False)
class Straight:
    """A straight piece; tones it inherits are filled in when it is played."""

    timeline: Timeline
    inherits: tuple[str, ...]
    """Lines whose tone at the start of the piece is used by one of its pulses."""
    leaves: dict[str, ToneState]
    """Tones at the end of the piece; NaN where inherited."""
    duration_ps: int
    thresholds: dict[str, int]
    _segments: dict[tuple[ToneState, ...], Segment] = field(
        default_factory=dict[tuple[ToneState, ...], Segment]
    )

    def segment(self, tones: Mapping[str, ToneState]) -> Segment:
        """The piece with the tones that hold now."""
        key = tuple(tones.get(line, NOMINAL) for line in self.inherits)
        found = self._segments.get(key)
        if found is None:
            if len(self._segments) > 64:  # tones fed back from a measured phase hardly ever repeat
                self._segments.clear()
            found = self._segments[key] = self._resolve(dict(zip(self.inherits, key, strict=True)))
        return found

    def after(self, tones: dict[str, ToneState]) -> None:
        """Bring ``tones`` to the end of the piece."""
        for line, left in self.leaves.items():
            old = tones.get(line, NOMINAL)
            tones[line] = _filled(left, old)

    def _resolve(self, tones: Mapping[str, ToneState]) -> Segment:
        line = self.timeline
        pulses: list[PlayedPulse] = []
        gates: list[OpenGate] = []
        for i in range(len(line.start_ps)):
            name = line.lines[line.line[i]]
            start, length = int(line.start_ps[i]), int(line.duration_ps[i])
            if line.is_gate[i]:
                gates.append(OpenGate(name, start, length, line.into[line.register[i]]))
            else:
                tone = (float(line.frequency_hz[i]), float(line.phase_turns[i]), float(line.amplitude[i]))
                pulses.append(PlayedPulse(name, start, length, *_filled(tone, tones.get(name, NOMINAL))))
        return Segment(tuple(pulses), tuple(gates), self.duration_ps)


@dataclass(eq=False)
class AttemptLoop:
    """An attempt loop: one straight body, one straight interleaved block (or none) and its phase trackers."""

    item: Attempt
    body: Straight
    between: Straight | None
    every: int
    tracks: tuple[Track, ...]


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


Step = Straight | AttemptLoop | Chain | Loop | Choice | Feedback | Draw | Report | HostPoint | Track


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
        case Feedback() | Draw() | Report() | HostPoint() | Track():
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
    return AttemptLoop(item, _straight(item.body), between, every, tracks)


def _straight(item: Item) -> Straight:
    names = _tone_lines(item)
    timeline, leaves = flatten(item, dict.fromkeys(names, UNSET))
    inherits: dict[str, None] = {}
    for i in range(len(timeline.start_ps)):
        if not timeline.is_gate[i] and (
            math.isnan(timeline.frequency_hz[i])
            or math.isnan(timeline.phase_turns[i])
            or math.isnan(timeline.amplitude[i])
        ):
            inherits[timeline.lines[timeline.line[i]]] = None
    thresholds = dict(timeline.thresholds)
    return Straight(timeline, tuple(inherits), dict(leaves), timeline.total_ps, thresholds)


def _tone_lines(item: Item) -> set[str]:
    """Every line the item pulses or tunes."""
    found: set[str] = set()
    stack: list[Item] = [item]
    while stack:
        part = stack.pop()
        match part:
            case Series():
                stack.extend(part.items)
            case Repeat():
                stack.append(part.body)
            case Tone():
                found.add(part.line)
            case Wait() | Mark():
                pass
            case _:
                line = getattr(part, "line", None)
                if isinstance(line, str):
                    found.add(line)
                stack.extend(getattr(part, "items", ()))
    return found


def _filled(tone: ToneState, old: ToneState) -> ToneState:
    return (
        old[0] if math.isnan(tone[0]) else tone[0],
        old[1] if math.isnan(tone[1]) else tone[1],
        old[2] if math.isnan(tone[2]) else tone[2],
    )
