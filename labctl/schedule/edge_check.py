"""Edges of a laid-out timeline, sorted and checked as arrays: a million in a tenth of a second.

`labctl.schedule.check` finds the same without laying loops out; this is for what is laid out already, and the proof of the
other: both find the same on random schedules (tests), and benchmarks/schedule.py compares it with the same in objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from labctl.schedule.lines import Line
from labctl.schedule.problem import Path, Problem, Problems
from labctl.schedule.timeline import BoolArray, IntArray, ShortArray, Timeline
from labctl.units import format_time


@dataclass(frozen=True, eq=False)
class Edges:
    """Every edge of a timeline in order of time; at equal times those off come before those on.

    time_ps:  of the edge, ps
    line:     index into the timeline's lines
    rising:   on (or open) rather than off (or closed)
    """

    time_ps: IntArray
    line: ShortArray
    rising: BoolArray

    def __len__(self) -> int:
        """Number of edges."""
        return len(self.time_ps)


def edges(timeline: Timeline) -> Edges:
    """The edges of a timeline, two for each pulse or gate."""
    count = len(timeline)
    both = np.empty(2 * count, np.int64)
    np.add(timeline.start_ps, timeline.duration_ps, out=both[:count])
    both[count:] = timeline.start_ps
    order = np.argsort(both, kind="stable")  # two runs that are sorted, or nearly: quickly merged
    rising = order >= count
    return Edges(both[order], np.take(timeline.line, order, mode="wrap"), rising)


def check_edges(timeline: Timeline, lines: Mapping[str, Line], path: Path = ("timeline",)) -> list[Problem]:
    """What a timeline asks of its lines that they cannot do: for each rule and line the first case, and how many there are."""
    problems = Problems()
    narrow = timeline.line.astype(np.uint8 if len(timeline.lines) < 256 else np.uint16)
    order = np.argsort(narrow, kind="stable")  # by radix: lines apart, each in order of time
    start, length = timeline.start_ps[order], timeline.duration_ps[order]
    ends = np.cumsum(np.bincount(narrow, minlength=len(timeline.lines))).tolist()
    lanes: dict[str, _Lane] = {}
    for index, name in enumerate(timeline.lines):
        if name not in lines:
            problems.add(path, "no such line", line=name, time_ps=0)
            continue
        own = slice(ends[index - 1] if index else 0, ends[index])
        lanes[name] = _Lane(name, lines[name], start[own], length[own], path, problems)
    for lane in lanes.values():
        lane.check()
    for name, lane in lanes.items():
        for light in lines[name].bright_on:
            if light in lanes:
                lane.exposed(lanes[light])
    return problems.all()


@dataclass(frozen=True, eq=False)
class _Lane:
    """What one line does: starts in order, and durations."""

    name: str
    line: Line
    start: IntArray
    length: IntArray
    path: Path
    problems: Problems

    def check(self) -> None:
        line, grid = self.line, max(1, self.line.grid_ps)
        delay = line.delay_ps if line.direction == "in" else -line.delay_ps
        shortest = int(self.length.min())
        if shortest < line.shortest_ps:
            self._report(self.length < line.shortest_ps, "too short")
        if 0 < line.longest_ps < int(self.length.max()):
            self._report(self.length > line.longest_ps, "too long")
        if grid > 1:
            self._report(_off(self.length, grid), f"a length off its grid of {format_time(grid)}")
            self._report(
                _off(self.start + delay if delay else self.start, grid),
                f"begins off its grid of {format_time(grid)}",
            )
        self._gaps()
        on, total = int(self.length.sum()), int(self.start[-1] + self.length[-1])
        if line.duty < 1 and on > line.duty * max(total, line.duty_over_ps) * (1 + 1e-12):
            self._report(
                np.ones(1, bool),
                f"on for {format_time(on)} in {format_time(total)}: its duty is {line.duty:g}",
            )

    def _gaps(self) -> None:
        """Off times between pulses: none overlap, none shorter than the dead time but those of pulses that touch."""
        stops = self.start + self.length
        if len(stops) > 1 and bool((stops[1:] < stops[:-1]).any()):
            stops = np.maximum.accumulate(stops)
        gaps = self.start[1:] - stops[:-1]
        if not len(gaps):
            return
        if int(gaps.min()) < 0:
            self._report(gaps < 0, "on twice at once", 1)
        if self.line.dead_ps:
            self._report(
                (gaps > 0) & (gaps < self.line.dead_ps),
                f"off for less than its dead time of {format_time(self.line.dead_ps)}",
                1,
            )

    def _report(self, wrong: BoolArray, what: str, shift: int = 0) -> None:
        count = int(np.count_nonzero(wrong))
        if count:
            first = int(self.start[int(np.argmax(wrong)) + shift])
            times = "" if count == 1 else f", {count} times"
            self.problems.add(self.path, f"{what}{times}", line=self.name, time_ps=first)

    def exposed(self, light: _Lane) -> None:
        """Gates during which a light is on: pulses that begin before a gate closes and end after it opens."""
        off = light.start + light.length
        if len(off) > 1 and bool((off[1:] < off[:-1]).any()):
            off = np.maximum.accumulate(off)
        closes = self.start + self.length
        begun = np.searchsorted(light.start, closes, side="left")
        hit = (begun > 0) & (off[np.maximum(begun, 1) - 1] > self.start) & (closes > self.start)
        self._report(hit, f"open while {light.name} is on")


def _off(times: IntArray, grid: int) -> BoolArray:
    """Times that are no multiples; numpy divides by one number much faster than it takes remainders."""
    return times // grid * grid != times
