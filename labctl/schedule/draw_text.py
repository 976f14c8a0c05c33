"""Schedules as text: lanes of blocks over slots of equal width, one slot between any two edges."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from labctl.schedule.items import Schedule
from labctl.schedule.lines import Line
from labctl.schedule.picture import WHOLE, Element, Frame, Note, Strip, Zoom, picture
from labctl.units import format_time

FILL = {"pulse": "█", "gate": "▒", "folded": "░"}
RULE = {"loop": "┃", "block": "│", "case": "╎"}
NARROWEST, WIDEST = 5, 14
"""Characters of a slot."""


def text(schedule: Schedule, lines: Mapping[str, Line], width: int = 100, zoom: Zoom = WHOLE) -> str:
    """The schedule, or what is zoomed into, as text of at most ``width`` columns where its names allow.

    Times are from the start of each piece.
    """
    elements = picture(schedule, zoom)
    names = max((len(name) for strip in _strips(elements) for name in strip.lines(())), default=0)
    rows = [f"schedule {schedule.name}"]
    rows += _rows(elements, list(lines), names, width)
    rows.append("█ pulse  ▒ gate  ░ turns of a loop left out; slots are not to scale")
    return "\n".join(row.rstrip() for row in rows) + "\n"


def _strips(elements: Sequence[Element]) -> list[Strip]:
    found: list[Strip] = []
    for element in elements:
        if isinstance(element, Frame):
            found += _strips(element.inner)
        elif isinstance(element, Strip):
            found.append(element)
    return found


def _rows(elements: Sequence[Element], order: Sequence[str], names: int, width: int) -> list[str]:
    rows: list[str] = []
    for element in elements:
        match element:
            case Note():
                rows += textwrap.wrap(f"· {element}", max(20, width), subsequent_indent="  ")
            case Frame():
                rows.append(f"{'↻ ' if element.kind == 'loop' else ''}{element.title}")
                rule = RULE[element.kind]
                rows += [f"{rule} {row}" for row in _rows(element.inner, order, names, width - 2)]
            case Strip():
                rows += _strip(element, order, names, width)
    return rows


def _strip(strip: Strip, order: Sequence[str], names: int, width: int) -> list[str]:
    """As many slots side by side as fit, the rest below."""
    times = strip.times()
    room = max(NARROWEST, width - names - 1)
    fit = max(1, room // NARROWEST)
    rows: list[str] = []
    for first in range(0, len(times) - 1, fit):
        part = times[first : first + fit + 1]
        slot = max(NARROWEST, min(WIDEST, room // (len(part) - 1)))
        place = {time: slot * k for k, time in enumerate(part)}
        end = slot * (len(part) - 1)
        rows += [f"{'':{names}} {row}" for row in _spans(strip, place, end)]
        for name in strip.lines(order):
            rows.append(f"{name:>{names}} {_lane(strip, name, place, end)}")
        rows += [f"{'':{names}} {row}" for row in _labels([(place[t], _label(t)) for t in part])]
    return rows


def _label(time: int) -> str:
    return "╵" + (format_time(time) if time else "0")


def _lane(strip: Strip, name: str, place: Mapping[int, int], end: int) -> str:
    cells = ["╌"] * end
    for bar in strip.bars:
        if bar.line != name:
            continue
        found = _columns(bar.start, bar.end, place, end)
        if found is None:
            continue
        left, right = found
        drawn = FILL[bar.kind] * (right - left)
        label = bar.shown(len(drawn) - 3)
        tight = bar.shown(len(drawn) - 1)
        if label:
            drawn = f" {label} ".center(len(drawn), FILL[bar.kind])
        elif tight:
            drawn = tight.rjust(len(drawn), FILL[bar.kind])
        cells[left:right] = ["▐" if bar.kind == "pulse" else drawn[0], *drawn[1:]]
    return "".join(cells)


def _columns(start: int, stop: int, place: Mapping[int, int], end: int) -> tuple[int, int] | None:
    """Columns of a stretch of time in this part of a strip, None if it is not in it."""
    earliest, latest = min(place), max(place)
    if start >= latest or stop < earliest or (stop == earliest and start < stop):
        return None
    left = place.get(start, 0)
    return left, max(left + 1, place.get(stop, end))


def _spans(strip: Strip, place: Mapping[int, int], end: int) -> list[str]:
    """Names of blocks, loops and instants, in as few rows as hold them."""
    wanted: list[tuple[int, str]] = []
    for span in sorted(strip.spans, key=lambda span: (span.start, -span.end)):
        found = _columns(span.start, span.end, place, end)
        if found is not None:
            left, right = found
            name = f"{'↻' if span.loop else '├'} {span.text} "
            wanted.append((left, name.ljust(max(0, right - left - 1), "─") + "┤"))
    wanted += [(place[at], f"▾{name}") for name, at in strip.marks if at in place and place[at] < end]
    wanted += [(end - len(name) - 1, f"{name}▾") for name, at in strip.marks if place.get(at) == end]
    return _labels(wanted)


def _labels(labels: Sequence[tuple[int, str]]) -> list[str]:
    """Labels that begin in given columns, each in the first row with room for it."""
    rows: list[str] = []
    for column, label in labels:
        column = max(0, column)
        for k, row in enumerate(rows):
            if len(row) < column or not row:
                rows[k] = row.ljust(column) + label
                break
        else:
            rows.append(" " * column + label)
    return rows
