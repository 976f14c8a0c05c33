"""Schedules as value change dumps (IEEE 1364-2005, clause 18) for GTKWave and other viewers: one pass, 1 ps timescale."""

from __future__ import annotations

import re
from collections.abc import Mapping

from labctl.errors import ScheduleError
from labctl.schedule.items import Item, Repeat, Schedule, Series, Together
from labctl.schedule.lines import Line
from labctl.schedule.timeline import Timeline, flatten, one_pass
from labctl.schedule.usage import length_of

FIRST, LAST = 33, 126
"""Printable characters that identify variables."""
BLOCKS = "blocks"
"""Scope of the named blocks."""
MOST_TURNS = 1000
"""Turns of a loop in which blocks are marked; those in longer loops are not."""


def vcd(schedule: Schedule, lines: Mapping[str, Line], choose: Mapping[str, str] | None = None) -> str:
    """One pass of a schedule: attempt loops once, the chosen case of each branch (register -> case; else the first).

    Every line is a wire, 1 while it is on; a tone line also has three reals; every named block is a wire, 1 while it
    lasts. Times are those of the light: no delays. ScheduleError for a case that does not exist.
    """
    body = one_pass(schedule.body, choose)
    timeline, _ = flatten(body)
    if not len(timeline):
        raise ScheduleError(f"schedule {schedule.name} switches no line: there is nothing to show")
    toned = [name for name in timeline.lines if name in lines and lines[name].kind == "tone"]
    names = [*timeline.lines, *(f"{name}.{part}" for name in toned for part in ("hz", "turns", "amplitude"))]
    codes = {name: _code(index) for index, name in enumerate(names)}
    blocks = _blocks(body, 0)
    marks = {name: _code(len(names) + index) for index, name in enumerate(blocks)}
    rows = [
        f"$comment labctl schedule {_word(schedule.name)}, one pass $end",
        "$timescale 1 ps $end",
        *_declarations(timeline, toned, codes),
        *_declared_blocks(marks),
        "$enddefinitions $end",
        "#0",
        "$dumpvars",
        *(f"0{code}" for code in (*(codes[name] for name in timeline.lines), *marks.values())),
        *(
            f"r{1 if name.endswith('.amplitude') else 0} {codes[name]}"
            for name in names[len(timeline.lines) :]
        ),
        "$end",
    ]
    changes = _changes(timeline, set(toned), codes)
    for name, times in blocks.items():
        for time, value in _levels(times):
            changes.setdefault(time, []).append(f"{value}{marks[name]}")
    for time in sorted(changes):
        if time:
            rows.append(f"#{time}")
        rows += changes[time]
    if timeline.total_ps and timeline.total_ps not in changes:
        rows.append(f"#{timeline.total_ps}")
    return "\n".join(rows) + "\n"


def _declarations(timeline: Timeline, toned: list[str], codes: Mapping[str, str]) -> list[str]:
    """One scope per node, with its lines."""
    nodes = dict.fromkeys(name.partition(".")[0] if "." in name else "lines" for name in timeline.lines)
    rows: list[str] = []
    for node in nodes:
        rows.append(f"$scope module {_word(node)} $end")
        for name in timeline.lines:
            if (name.partition(".")[0] if "." in name else "lines") != node:
                continue
            short = _word(name.partition(".")[2] or name)
            rows.append(f"$var wire 1 {codes[name]} {short} $end")
            if name in toned:
                rows += [
                    f"$var real 64 {codes[f'{name}.{part}']} {short}_{part} $end"
                    for part in ("hz", "turns", "amplitude")
                ]
        rows.append("$upscope $end")
    return rows


def _changes(timeline: Timeline, toned: set[str], codes: Mapping[str, str]) -> dict[int, list[str]]:
    """Time -> changes. A line that is turned on again the instant it goes off, or while it is on, stays on."""
    changes: dict[int, list[str]] = {}
    for index, name in enumerate(timeline.lines):
        mine = (timeline.line == index).nonzero()[0]
        end = -1
        for k in mine:
            start, stop = int(timeline.start_ps[k]), int(timeline.start_ps[k] + timeline.duration_ps[k])
            if name in toned:
                tone = (timeline.frequency_hz[k], timeline.phase_turns[k], timeline.amplitude[k])
                for part, value in zip(("hz", "turns", "amplitude"), tone, strict=True):
                    changes.setdefault(start, []).append(f"r{float(value):.16g} {codes[f'{name}.{part}']}")
            if stop == start:
                continue
            if start > end:
                if end >= 0:
                    changes.setdefault(end, []).append(f"0{codes[name]}")
                changes.setdefault(start, []).append(f"1{codes[name]}")
            end = max(end, stop)
        if end >= 0:
            changes.setdefault(end, []).append(f"0{codes[name]}")
    return changes


def _declared_blocks(marks: Mapping[str, str]) -> list[str]:
    """The scope of the blocks."""
    rows = [f"$var wire 1 {code} {_word(name)} $end" for name, code in marks.items()]
    return [f"$scope module {BLOCKS} $end", *rows, "$upscope $end"] if rows else []


def _blocks(item: Item, at: int) -> dict[str, list[tuple[int, int]]]:
    """When each named block of a straight item lasts, ps."""
    found: dict[str, list[tuple[int, int]]] = {}
    match item:
        case Series() | Together():
            length = length_of(item)
            if item.name and length:
                found[item.name] = [(at, at + length)]
            for part in item.items:
                for name, times in _blocks(part, at).items():
                    found.setdefault(name, []).extend(times)
                at += length_of(part) if isinstance(item, Series) else 0
        case Repeat() if item.count <= MOST_TURNS:
            turn = length_of(item.body)
            for name, times in _blocks(item.body, at).items():
                found[name] = [
                    (start + k * turn, end + k * turn) for k in range(item.count) for start, end in times
                ]
        case _:
            pass
    return found


def _levels(times: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Times and values of a wire that is 1 in each of these; those that touch or overlap are one."""
    levels: list[tuple[int, int]] = []
    for start, end in sorted(times):
        if levels and start <= levels[-1][0]:
            end = max(end, levels.pop()[0])
        else:
            levels.append((start, 1))
        levels.append((end, 0))
    return levels


def _code(index: int) -> str:
    """The identifier of the n-th variable: !, ", # ... ~, !!, ..."""
    base = LAST - FIRST + 1
    code = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, base)
        code = chr(FIRST + digit) + code
    return code


def _word(name: str) -> str:
    return re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
