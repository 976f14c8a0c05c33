"""What an ID900 does with clicks: record them, gate them, count them, make histograms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulated_hw.world.parts import Tagger

CONTEXT = 4096
"""Tags kept from before, so that a histogram knows the references and gates of the next ones."""
PENDING = 200_000
"""With more tags than this, the histograms are brought up to date without being asked."""

Ps = NDArray[np.int64]


class TagReader:
    """Reads a tagger's memory a piece at a time, through its forgetting of old tags."""

    def __init__(self, tagger: Tagger) -> None:
        self._tagger = tagger
        self._last: tuple[int, int] | None = None
        self._position = 0
        self.take()

    def take(self) -> list[tuple[int, int]]:
        """The tags recorded since the last call: (time_ps, input)."""
        tags = self._tagger.tags
        if not self._position or self._position > len(tags) or tags[self._position - 1] is not self._last:
            self._position = len(tags)  # old ones were forgotten: find the last one seen again
            while self._position and tags[self._position - 1] is not self._last:
                self._position -= 1
        fresh = tags[self._position :]
        self._position = len(tags)
        self._last = tags[-1] if tags else None
        return fresh


@dataclass
class Recorder:
    """The record generator: off, everything is recorded; on, only what falls into the records that were played."""

    enabled: bool = False
    number: int = 1
    """Records to play, 0 for no end."""
    duration_ps: int = 1_000_000_000_000
    begin_ps: int = 0
    end_ps: float = 0
    """End of the last record played; infinite while there is none."""
    counted: int = 0
    """Records of this play that have been reported as finished."""

    def play(self, now_ps: int) -> None:
        """Begin."""
        self.begin_ps = now_ps
        self.end_ps = now_ps + self.number * self.duration_ps if self.number else math.inf
        self.counted = 0

    def stop(self, now_ps: int) -> None:
        """End now."""
        self.end_ps = min(self.end_ps, now_ps)

    def playing(self, now_ps: int) -> bool:
        """Whether a record runs."""
        return self.enabled and self.begin_ps <= now_ps < self.end_ps

    def takes(self, time_ps: int) -> bool:
        """Whether a click at this time is recorded."""
        return not self.enabled or self.begin_ps <= time_ps < self.end_ps

    def finished(self, now_ps: int) -> int:
        """Records that have finished since the last call."""
        if not self.enabled or self.end_ps <= self.begin_ps:
            return 0
        whole = int((min(now_ps, self.end_ps) - self.begin_ps) // self.duration_ps)
        done = whole + (now_ps >= self.end_ps and (self.end_ps - self.begin_ps) % self.duration_ps > 0)
        fresh = done - self.counted
        self.counted = done
        return fresh


@dataclass
class Counter:
    """Clicks of one input: endless, or of the last whole integration time (``cyclic``)."""

    cyclic: bool = True
    integration_s: float = 1.0
    _clicks: int = 0
    """Since the counting began."""
    _now_s: float = 0.0
    _cycle_began: tuple[float, int] = (0.0, 0)
    """Time and clicks at the start of the cycle that runs."""
    _last_cycle: int = 0

    def reset(self, now_s: float) -> None:
        """Begin anew."""
        self._clicks, self._now_s, self._cycle_began, self._last_cycle = 0, now_s, (now_s, 0), 0

    def add(self, clicks: int, now_s: float) -> None:
        """Count up to ``now_s``; at the end of a cycle within, the clicks are spread evenly over the step."""
        step_s = now_s - self._now_s
        ended = math.floor((now_s - self._cycle_began[0]) / self.integration_s + 1e-9) if step_s > 0 else 0
        if ended:
            self._close_cycles(ended, clicks, step_s)
        self._clicks += clicks
        self._now_s = now_s

    def _close_cycles(self, ended: int, clicks: int, step_s: float) -> None:
        began_s, before = self._cycle_began

        def total(time_s: float) -> int:
            share = min(1.0, max(0.0, (time_s - self._now_s) / step_s))
            return math.floor(self._clicks + clicks * share)

        if ended > 1:
            before = total(began_s + (ended - 1) * self.integration_s)
        end_s = began_s + ended * self.integration_s
        self._last_cycle = total(end_s) - before
        self._cycle_began = end_s, total(end_s)

    def due(self, now_s: float) -> bool:
        """Whether a cycle has ended that was not counted yet."""
        return self.cyclic and now_s >= self._cycle_began[0] + self.integration_s

    def value(self) -> int:
        """What the counter shows."""
        return self._last_cycle if self.cyclic else self._clicks


class Events(NamedTuple):
    """Clicks at one place of the signal path: times in order, and which of them are new."""

    time_ps: Ps
    fresh: NDArray[np.bool_]


@dataclass
class Histogram:
    """A start-stop histogram: each stop against the last reference before it."""

    reference: str = "STAR"
    stop: str = "TSCO5"
    bin_width_ps: int = 100
    bins: int = 16384
    data: Ps = field(default_factory=lambda: np.zeros(16384, np.int64))

    def flush(self) -> None:
        """Empty it."""
        self.data = np.zeros(self.bins, np.int64)

    def add(self, references: Ps, stops: Ps) -> None:
        """Sort stops into bins."""
        if not len(references) or not len(stops):
            return
        side = "left" if self.reference == self.stop else "right"
        at = np.searchsorted(references, stops, side) - 1
        since = stops[at >= 0] - references[at[at >= 0]]
        index = since // self.bin_width_ps
        self.data += np.bincount(index[index < self.bins], minlength=self.bins)


@dataclass
class Combiner:
    """A TSCO block: lets its first input through, inside its window only if the window is on and mutes."""

    first: str
    window: bool = False
    mutes: bool = True
    begin: str = "NONE"
    begin_ps: int = 0
    end: str = "NONE"
    end_ps: int = 0

    def passed(self, events: Events, source: Callable[[str], Events]) -> Events:
        """Events that come out: those for which the window was opened later than it was closed."""
        if not self.window or not self.mutes:
            return events
        opened = _latest(source(self.begin).time_ps + self.begin_ps, events.time_ps)
        closed = _latest(source(self.end).time_ps + self.end_ps, events.time_ps)
        inside = opened > closed
        return Events(events.time_ps[inside], events.fresh[inside])


def _latest(edges: Ps, times: Ps) -> Ps:
    """The last edge at or before each time; the lowest number where there was none."""
    lowest = np.iinfo(np.int64).min
    padded = np.concatenate([np.array([lowest], np.int64), edges])
    return padded[np.searchsorted(padded, times, "right") - 1]


class SignalPath:
    """Inputs -> delays -> combiners -> histograms."""

    def __init__(self) -> None:
        self.delays: dict[int, tuple[str, int]] = {n: (f"INPU{(n - 1) % 4 + 1}", 0) for n in range(1, 9)}
        """Source and delay in ps of each delay block."""
        self.combiners = {n: Combiner(f"DELA{(n - 1) % 4 + 1}") for n in range(1, 9)}
        self.histograms = {n: Histogram() for n in range(1, 5)}
        self._tags: list[tuple[int, int]] = []
        self._old = 0
        """How many of them the histograms have seen."""

    def add(self, tags: list[tuple[int, int]]) -> None:
        """Take recorded clicks."""
        self._tags += tags
        if len(self._tags) - self._old > PENDING:
            self.settle()

    def settle(self) -> None:
        """Bring the histograms up to date."""
        if self._old == len(self._tags):
            return
        table = np.array(self._tags, np.int64)
        fresh = np.arange(len(table)) >= self._old
        for histogram in self.histograms.values():
            stops = self._at(histogram.stop, table, fresh)
            histogram.add(self._at(histogram.reference, table, fresh).time_ps, stops.time_ps[stops.fresh])
        self._tags = self._tags[-CONTEXT:]
        self._old = len(self._tags)

    def forget(self) -> None:
        """Begin anew: references from before do not count."""
        self._tags, self._old = [], 0

    def _at(self, name: str, table: Ps, fresh: NDArray[np.bool_], depth: int = 0) -> Events:
        """Events at a place of the path; none where it is not connected or goes in a circle."""
        kind, number = name[:4], int(name[4:] or 0)
        if name == "NONE" or depth > 8:
            return Events(np.zeros(0, np.int64), np.zeros(0, np.bool_))
        if kind in ("STAR", "INPU"):
            mine = table[:, 1] == number
            order = np.argsort(table[mine, 0], kind="stable")
            return Events(table[mine, 0][order], fresh[mine][order])
        if kind == "DELA":
            source, delay_ps = self.delays[number]
            events = self._at(source, table, fresh, depth + 1)
            return Events(events.time_ps + delay_ps, events.fresh)
        combiner = self.combiners[number]
        events = self._at(combiner.first, table, fresh, depth + 1)
        return combiner.passed(events, lambda link: self._at(link, table, fresh, depth + 1))
