"""How fast a reproduction was and how much memory it took, run by run: what a machine does, so apart from its results."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

SECONDS_PER_HOUR = 3600.0
MIB = 2**20


class Cost(msgspec.Struct, frozen=True):
    """What one block took: wall clock at its beginning and end (s since 1970), CPU time, largest memory of its process so far."""

    began_s: float = 0.0
    ended_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0


class Pace(msgspec.Struct, frozen=True):
    """A run's blocks together.

    laboratory_s:  time that passed in the laboratory
    wall_s:        from the beginning of the first block to the end of the last, without pauses in which none was taken
    peak_bytes:    of the processes that took the first, the middle and the last block
    """

    key: str
    rounds: int
    laboratory_s: float
    wall_s: float
    cpu_s: float
    peak_bytes: tuple[int, int, int]

    def text(self) -> str:
        """One line for people."""
        first, middle, last = (round(size / MIB) for size in self.peak_bytes)
        return (
            f"{self.key}: {self.rounds} rounds, {self.laboratory_s / SECONDS_PER_HOUR:.1f} h of laboratory time in {self.wall_s:.0f} s"
            f" ({self.laboratory_s / self.wall_s:.0f} times real time), {self.cpu_s:.0f} s of CPU,"
            f" {self.rounds / self.cpu_s:.0f} rounds per CPU second, memory {first}, {middle}, {last} MiB"
        )


def used() -> tuple[float, int]:
    """CPU time of this process so far, s, and its largest memory so far, bytes."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit


def pace(key: str, rounds: int, laboratory_s: float, costs: Sequence[Cost]) -> Pace | None:
    """Of a run's blocks in the order of their numbers; None if one does not say what it took."""
    if not costs or any(cost.ended_s <= cost.began_s or cost.cpu_s <= 0 for cost in costs):
        return None
    covered = reached = 0.0
    for cost in sorted(costs, key=lambda cost: cost.began_s):
        covered += max(0.0, cost.ended_s - max(reached, cost.began_s))
        reached = max(reached, cost.ended_s)
    peaks = [cost.peak_bytes for cost in sorted(costs, key=lambda cost: cost.ended_s)]
    return Pace(
        key,
        rounds,
        laboratory_s,
        covered,
        sum(cost.cpu_s for cost in costs),
        (peaks[0], peaks[len(peaks) // 2], peaks[-1]),
    )


def plain(found: Sequence[Pace]) -> list[dict[str, Any]]:
    """For a JSON file."""
    return [msgspec.to_builtins(one) for one in found]
