"""Schedules as SVG timing diagrams: a slot between any two edges, wider for longer times, every edge labelled."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from html import escape

from labctl.schedule.items import Schedule
from labctl.schedule.lines import Line
from labctl.schedule.picture import WHOLE, Bar, Element, Frame, Note, Strip, Zoom, clipped, picture
from labctl.units import format_time

MARGIN = 16
NARROWEST, WIDEST = 720, 1500
"""Width of the time axes, px; a strip that needs more goes on below."""
MANY = 24
"""With more slots than this, bars that need not be wider than their phase are not."""
LANE, BAR, ROW, INDENT = 24, 17, 17, 14
CHARACTER = 5.9
"""Mean width of a character, px."""
CROWDED = 90
"""With more slots than this they are narrow, and labels that do not fit are left out."""
COLOURS = {"switch": "#33608c", "tone": "#8a3f78", "detector": "#2b7a4b", "trigger": "#2b7a4b"}
FRAMES = {"loop": "#c8641b", "block": "#9a9a9a", "case": "#8a3f78"}


def svg(schedule: Schedule, lines: Mapping[str, Line], zoom: Zoom = WHOLE) -> str:
    """The schedule, or what is zoomed into, as an SVG image.

    Each straight piece has its own time axis, not to scale: equal edges stand on one vertical, labelled with their time
    from the beginning of the piece. Loops are folded, cases of branches are drawn one below the other.
    """
    elements = _wrapped(picture(schedule, zoom))
    width = max([NARROWEST, *(math.ceil(sum(_slots(strip))) for strip in _strips(elements))])
    page = _Page(lines, _left(elements, 0), width)
    page.text(MARGIN, f"Schedule {schedule.name}", size=15, bold=True)
    page.y += 6
    page.elements(elements, 0)
    page.text(
        MARGIN,
        "Times from the beginning of each piece, not to scale; a line's delay is not shown.",
        colour="#777",
        size=10,
    )
    return page.image()


def _wrapped(elements: Sequence[Element]) -> list[Element]:
    """Strips that are too wide cut into several, one below the other."""
    found: list[Element] = []
    for element in elements:
        if isinstance(element, Frame):
            found.append(Frame(element.title, element.kind, _wrapped(element.inner)))
        elif isinstance(element, Strip):
            found += _cut(element)
        else:
            found.append(element)
    return found


def _cut(strip: Strip) -> list[Strip]:
    times, widths = strip.times(), _slots(strip)
    if sum(widths) <= WIDEST:
        return [strip]
    parts: list[Strip] = []
    begin = before = times[0]
    width = 0.0
    for time, slot in zip(times[1:], widths, strict=True):
        if width and width + slot > WIDEST:
            parts.append(clipped(strip, begin, before))
            begin, width = before, 0.0
        width, before = width + slot, time
    return [*parts, clipped(strip, begin, times[-1])]


def _strips(elements: Sequence[Element]) -> list[Strip]:
    found: list[Strip] = []
    for element in elements:
        if isinstance(element, Frame):
            found += _strips(element.inner)
        elif isinstance(element, Strip):
            found.append(element)
    return found


def _slots(strip: Strip) -> list[float]:
    """Width of each slot between two neighbouring times, px: by the logarithm, and wide enough for the labels."""
    times = strip.times()
    crowded = len(times) > CROWDED
    widths = [
        (4 if crowded else 24) + (2 if crowded else 9) * math.log10(max(stop - start, 1))
        for start, stop in itertools.pairwise(times)
    ]
    if crowded:
        return [width / 2 for width in widths]
    place = {time: index for index, time in enumerate(times)}
    for bar in sorted(strip.bars, key=lambda bar: place[bar.end] - place[bar.start]):
        first, last = place[bar.start], place[bar.end]
        label = (bar.phase or bar.label) if len(times) > MANY else bar.label
        missing = _text_width(label) + 8 - sum(widths[first:last])
        for slot in range(first, last):
            widths[slot] += max(0.0, missing) / (last - first)
    return widths


def _text_width(text: str, size: float = 11) -> float:
    return len(text) * CHARACTER * size / 11


def _left(elements: Sequence[Element], depth: int) -> float:
    """Where the time axes begin: right of the widest name in the deepest frame."""
    widest = 100.0
    for element in elements:
        if isinstance(element, Frame):
            widest = max(widest, _left(element.inner, depth + 1))
        elif isinstance(element, Strip):
            names = max((_text_width(name) for name in element.lines(())), default=0.0)
            widest = max(widest, MARGIN + INDENT * depth + names + 16)
    return widest


class _Page:
    """Writes elements from top to bottom."""

    def __init__(self, lines: Mapping[str, Line], left: float, width: int) -> None:
        self.y = MARGIN + 6.0
        self._left = left
        self._lines = lines
        self._width = width
        self._parts: list[str] = []

    def image(self) -> str:
        """The finished image."""
        width, height = math.ceil(self._left) + self._width + 2 * MARGIN, math.ceil(self.y + MARGIN)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif">\n'
            f'<rect width="{width}" height="{height}" fill="white"/>\n'
            + "\n".join(self._parts)
            + "\n</svg>\n"
        )

    def text(
        self, x: float, text: str, *, size: float = 11, bold: bool = False, colour: str = "#222"
    ) -> None:
        """One line of text at the left."""
        weight = ' font-weight="bold"' if bold else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{self.y + size - 2:.1f}" font-size="{size}" fill="{colour}"{weight}>{escape(text)}</text>'
        )
        self.y += size + 6

    def elements(self, elements: Sequence[Element], depth: int) -> None:
        """Elements inside ``depth`` frames."""
        x = MARGIN + INDENT * depth
        for element in elements:
            match element:
                case Note():
                    room = (self._left + self._width - x) / CHARACTER
                    for row in textwrap.wrap(f"▸ {element}", int(room), subsequent_indent="\u2003"):
                        self.text(x, row, colour="#444")
                case Frame():
                    self._frame(element, depth)
                case Strip():
                    self._strip(element)
            self.y += 4

    def _frame(self, frame: Frame, depth: int) -> None:
        x, top, colour = MARGIN + INDENT * depth, self.y, FRAMES[frame.kind]
        self.text(x + 10, frame.title, bold=True, colour="#333" if frame.kind == "block" else colour, size=12)
        self.elements(frame.inner, depth + 1)
        bottom = self.y - 4
        self._parts.append(
            f'<path d="M {x + 7} {top + 1:.1f} H {x + 2} V {bottom:.1f} H {x + 7}" fill="none" '
            f'stroke="{colour}" stroke-width="{2.4 if frame.kind == "loop" else 1.2}"/>'
        )
        self.y += 4

    def _strip(self, strip: Strip) -> None:
        times, widths = strip.times(), _slots(strip)
        stretch = self._width / sum(widths) if widths else 1.0
        place, x = {times[0]: self._left}, self._left
        for time, width in zip(times[1:], widths, strict=True):
            x += width * stretch
            place[time] = x
        self._spans(strip, place)
        names = strip.lines(list(self._lines))
        top, bottom = self.y, self.y + LANE * len(names)
        for name in names:
            self._lane(name, [bar for bar in strip.bars if bar.line == name], place)
        self._axis(times, place, top, bottom)

    def _spans(self, strip: Strip, place: Mapping[int, float]) -> None:
        """Names of blocks, loops and instants, in as few rows as hold them."""
        wanted = [(place[span.start], place[span.end], span.text, span.loop) for span in strip.spans]
        marks = [(place[at], place[at], name, False) for name, at in strip.marks]
        rows: list[float] = []
        wanted.sort(key=lambda one: (one[0], -one[1]))
        for left, right, text, loop in [*wanted, *sorted(marks)]:
            instant = left == right
            begin = min(left, self._left + self._width - _text_width(text, 10) - 8)
            reach = max(right, begin + _text_width(text, 10) + 8)
            row = next((k for k, end in enumerate(rows) if end <= begin + 0.5), len(rows))
            rows[row : row + 1] = [reach]
            y = self.y + row * ROW
            colour = FRAMES["loop"] if loop else "#777"
            if instant:
                self._parts.append(
                    f'<path d="M {left - 3.5:.1f} {y + 4:.1f} h 7 l -3.5 7 z" fill="#b03030"/>'
                    f'<text x="{begin + 6:.1f}" y="{y + 11:.1f}" font-size="10" fill="#b03030">{escape(text)}</text>'
                )
                continue
            self._parts.append(
                f'<path d="M {left + 1:.1f} {y + 16:.1f} v -3 H {right - 1:.1f} v 3" fill="none" stroke="{colour}" '
                f'stroke-width="{1.8 if loop else 1}"/>'
                f'<text x="{begin + 4:.1f}" y="{y + 10:.1f}" font-size="10" fill="{colour}">{escape(text)}</text>'
            )
        self.y += ROW * len(rows) + 4

    def _lane(self, name: str, bars: Sequence[Bar], place: Mapping[int, float]) -> None:
        line = self._lines.get(name)
        middle = self.y + LANE / 2
        colour = COLOURS["switch" if line is None else line.kind]
        self._parts.append(
            f'<text x="{self._left - 8}" y="{middle + 4:.1f}" font-size="11" text-anchor="end" fill="#222">{escape(name)}</text>'
            f'<path d="M {self._left} {middle + BAR / 2:.1f} H {self._left + self._width}" stroke="#ccc"/>'
        )
        for bar in bars:
            left, width = place[bar.start], place[bar.end] - place[bar.start]
            look = {
                "pulse": f'fill="{colour}"',
                "gate": f'fill="white" stroke="{colour}" stroke-width="1.6"',
                "folded": f'fill="none" stroke="{colour}" stroke-dasharray="3 3"',
            }[bar.kind]
            ink = "white" if bar.kind == "pulse" else colour
            title = f"{name}: {bar.label}, {format_time(bar.start)} to {format_time(bar.end)}"
            self._parts.append(
                f'<rect x="{left + 0.5:.1f}" y="{middle - BAR / 2:.1f}" width="{max(1.0, width - 1):.1f}" height="{BAR}" '
                f"{look}><title>{escape(title)}</title></rect>"
            )
            label = bar.shown(width / CHARACTER)
            if label:
                self._parts.append(
                    f'<text x="{left + width / 2:.1f}" y="{middle + 4:.1f}" font-size="11" text-anchor="middle" '
                    f'fill="{ink}">{escape(label)}</text>'
                )
        self.y += LANE

    def _axis(self, times: Sequence[int], place: Mapping[int, float], top: float, bottom: float) -> None:
        """A faint vertical at each edge and its time below, aslant."""
        grid = "".join(f"M {place[time]:.1f} {top:.1f} V {bottom + 3:.1f} " for time in times)
        self._parts.append(f'<path d="{grid}" stroke="#000" stroke-opacity="0.13" fill="none"/>')
        last, longest = -math.inf, 0.0
        for time in times:
            x = place[time]
            if x - last < 12:
                continue
            last = x
            label = format_time(time) if time else "0"
            longest = max(longest, _text_width(label, 10))
            self._parts.append(
                f'<text transform="translate({x + 3:.1f} {bottom + 12:.1f}) rotate(-38)" font-size="10" '
                f'text-anchor="end" fill="#444">{label}</text>'
            )
        self.y = bottom + 14 + longest * math.sin(math.radians(38))
