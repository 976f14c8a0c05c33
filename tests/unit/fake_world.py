"""A world without physics: fixed or changing odds, every call written down, a clock that stands still until waited on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from labctl.core.program import lower
from labctl.core.sim import Control, Progress, SimCore
from labctl.schedule.items import Schedule
from labctl.sim.played import Clicks, Odds, Record, Segment

FOREVER = 2**60
MAINS_PS = 20_000_000_000


@dataclass(frozen=True)
class Call:
    """One call of the core: kind, laboratory time, segments with how often they were played, and more."""

    kind: str
    time_ps: int
    played: tuple[tuple[Segment, int], ...] = ()
    starts_ps: tuple[int, ...] = ()
    duration_ps: int = 0
    pattern: str = ""


@dataclass
class FakeWorld:
    """Satisfies labctl.sim.played.World.

    table:   laboratory time -> odds from then on; the last entry holds for ever
    clicks:  what a gate counts in ``play`` and ``play_many``, by register and time of the segment's start
    wait:    called in every ``wait_until_ps``, for what happens meanwhile
    """

    table: list[tuple[int, Mapping[str, float]]]
    clicks: Callable[[str, int], int] = lambda register, start: 0
    wait: Callable[[int], None] = lambda time_ps: None
    calls: list[Call] = field(default_factory=list)
    seen: list[tuple[Segment, dict[str, int]]] = field(default_factory=list)
    now: int = 0

    def now_ps(self) -> int:
        return self.now

    def wait_until_ps(self, time_ps: int) -> None:
        self.now = max(self.now, time_ps)
        self.wait(time_ps)

    def next_edge_ps(self, line: str, after_ps: int) -> int | None:
        return (after_ps // MAINS_PS + 1) * MAINS_PS if line.endswith("mains") else None

    def odds_at(self, time_ps: int) -> Odds:
        until = FOREVER
        for begins, patterns in reversed(self.table):
            if begins <= time_ps:
                return Odds(patterns, until)
            until = begins
        raise AssertionError(f"no odds at {time_ps}")

    def odds(self, body: Segment, start_ps: int) -> Odds:
        self.calls.append(Call("odds", start_ps))
        return self.odds_at(start_ps)

    def play(self, segment: Segment, start_ps: int) -> dict[str, Clicks]:
        self.calls.append(Call("play", start_ps, ((segment, 1),), duration_ps=segment.duration_ps))
        return {gate.into: Clicks(self.clicks(gate.into, start_ps), 3) for gate in segment.gates}

    def play_many(self, segment: Segment, starts_ps: Sequence[int]) -> dict[str, list[int]]:
        played = ((segment, len(starts_ps)),)
        self.calls.append(Call("play_many", starts_ps[0], played, tuple(starts_ps)))
        return {gate.into: [self.clicks(gate.into, start) for start in starts_ps] for gate in segment.gates}

    def play_given(self, body: Segment, pattern: str, start_ps: int) -> dict[str, Clicks]:
        self.calls.append(
            Call("play_given", start_ps, ((body, 1),), duration_ps=body.duration_ps, pattern=pattern)
        )
        return {
            gate.into: Clicks(1, 7) if digit == "1" else Clicks(0)
            for gate, digit in zip(body.gates, pattern, strict=True)
        }

    def skip(self, segments: Sequence[tuple[Segment, int]], start_ps: int, duration_ps: int) -> None:
        self.calls.append(Call("skip", start_ps, tuple(segments), duration_ps=duration_ps))

    def clicked(self, body: Segment, patterns: Mapping[str, int]) -> None:
        self.seen.append((body, dict(patterns)))

    def of(self, *kinds: str) -> list[Call]:
        """The calls of these kinds, in order."""
        return [call for call in self.calls if call.kind in kinds]

    def accounted_ps(self) -> int:
        """Laboratory time of everything played or skipped."""
        return sum(count * one.duration_ps for call in self.calls for one, count in call.played)


def play(
    world: FakeWorld,
    schedule: Schedule,
    rounds: int = 1,
    seed: int = 1,
    control: Control | None = None,
    first_record: int = 0,
) -> tuple[list[Record], Progress]:
    """What the core makes of a schedule in this world."""
    records: list[Record] = []
    core = SimCore(world, threading.Lock(), np.random.default_rng(seed))
    end = core.run(lower(schedule), rounds, records.append, control, None, first_record)
    return records, end
