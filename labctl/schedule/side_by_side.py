"""Checks of what happens at the same time: the branches of a Together must not fight over a line or blind a detector."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.schedule.items import Together
from labctl.schedule.lines import Line
from labctl.schedule.problem import At, Path, Problems
from labctl.schedule.timeline import straight
from labctl.schedule.usage import spans, touched
from labctl.units import format_time

OnTimes = list[tuple[int, int, int]]
"""Begin, end and number of the branch, sorted."""


def side_by_side(
    problems: Problems,
    lines: Mapping[str, Line],
    item: Together,
    path: Path,
    at: At,
    users: Mapping[str, list[int]],
) -> None:
    """Overlaps, dead times, exposures and tones between the branches of a Together.

    at:     its beginning after its innermost block
    users:  line -> numbers of the branches that use it
    """
    _tones(problems, item, path, at)
    shared = {name for name, numbers in users.items() if len(numbers) > 1}
    harmed = {name: [light for light in lines[name].bright_on if light in users] for name in users}
    wanted = shared | {name for name, lights in harmed.items() if lights}
    wanted |= {light for lights in harmed.values() for light in lights}
    if not wanted:
        return
    times: dict[str, OnTimes] = {name: [] for name in wanted}
    for number, part in enumerate(item.items):
        if straight(part):
            for name, start, end in spans(part, 0, wanted):
                times[name].append((start, end, number))
    for found in times.values():
        found.sort()
    for name in sorted(shared):
        _overlaps(problems, lines, name, times[name], path, at)
    for name, lights in sorted(harmed.items()):
        for light in lights:
            _exposure(problems, name, light, times[name], times[light], path, at)


def dead_time(
    problems: Problems,
    lines: Mapping[str, Line],
    name: str,
    gap: int,
    path: Path,
    at: At,
    where: str,
) -> None:
    """A line that was off for ``gap`` ps; no gap at all means that it stayed on."""
    dead = lines[name].dead_ps
    if 0 < gap < dead:
        problems.add(
            path,
            f"{where}off for only {format_time(gap)}, less than its dead time of {format_time(dead)}",
            f"leave it off for {format_time(dead)} or let the pulses touch",
            line=name,
            time_ps=at,
        )


def _overlaps(
    problems: Problems, lines: Mapping[str, Line], name: str, times: OnTimes, path: Path, at: At
) -> None:
    end, owner = None, -1
    for start, stop, number in times:
        if end is not None and number != owner:
            when = at.plus(start)
            if start < end:
                problems.add(
                    path,
                    f"on twice at once: a branch of this Together turns it on {format_time(end - start)} "
                    "before another has turned it off",
                    "put the two pulses one after the other, or into one branch",
                    line=name,
                    time_ps=when,
                )
            else:
                dead_time(problems, lines, name, start - end, path, when, "between two branches, ")
        if end is None or stop >= end:
            end, owner = stop, number


def _exposure(
    problems: Problems,
    detector: str,
    light: str,
    gates: OnTimes,
    pulses: OnTimes,
    path: Path,
    at: At,
) -> None:
    """The first time that a detector is open while the light is on; the rest would say the same."""
    for start, stop, _ in gates:
        for on, off, _ in pulses:
            both = min(stop, off) - max(start, on)
            if both > 0:
                problems.add(
                    path,
                    f"open for {format_time(both)} while {light} is on, whose light harms it",
                    f"turn {light} off before the gate opens",
                    line=detector,
                    time_ps=at.plus(max(start, on)),
                )
                return


def _tones(problems: Problems, item: Together, path: Path, at: At) -> None:
    """A line whose tone one branch sets belongs to that branch alone."""
    sets = [touched(part) for part in item.items]
    users: dict[str, int] = {}
    for _, every in sets:
        for name in every:
            users[name] = users.get(name, 0) + 1
    for tuned, _ in sets:
        for name in sorted(tuned):
            if users[name] > 1:
                problems.add(
                    path,
                    "one branch of this Together sets its tone while another uses it",
                    "set the tone before the Together, or use the line in one branch only",
                    line=name,
                    time_ps=at,
                )
