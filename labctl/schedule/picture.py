"""What a drawing of a schedule shows, before it is text or SVG: strips of lanes, loops, cases and notes.

Loops are folded to their first and last turn, branches show each case once, and cases that look alike are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from labctl.errors import ScheduleError
from labctl.schedule.folding import block_names, find_block, fold
from labctl.schedule.items import (
    Attempt,
    Branch,
    Draw,
    Feedback,
    Gate,
    HostPoint,
    Item,
    LineTrigger,
    Mark,
    Pulse,
    Repeat,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    Track,
)
from labctl.schedule.timeline import straight
from labctl.schedule.usage import length_of
from labctl.units import format_quantity, format_time

UNROLLED = 3
"""Loops of so few turns are drawn turn by turn."""


@dataclass(frozen=True)
class Bar:
    """A line that is on from ``start`` to ``end`` ps; folded bars stand for the turns of a loop that are not drawn.

    phase:  that its tone is set to just before, in degrees; "" if it is not
    """

    line: str
    start: int
    end: int
    kind: Literal["pulse", "gate", "folded"]
    label: str = ""
    phase: str = ""

    def shown(self, room: float) -> str:
        """The label, or only the phase or the duration, or nothing: what fits into so many characters."""
        for label in (self.label, self.phase or format_time(self.end - self.start)):
            if len(label) <= room and self.label:
                return label
        return ""


@dataclass(frozen=True)
class Span:
    """A named block, or a loop, from ``start`` to ``end`` ps."""

    start: int
    end: int
    text: str
    loop: bool = False


@dataclass
class Strip:
    """A straight piece: lanes over one time axis from ``begin`` to ``length`` ps."""

    length: int
    bars: list[Bar] = field(default_factory=list[Bar])
    spans: list[Span] = field(default_factory=list[Span])
    marks: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    begin: int = 0

    def times(self) -> list[int]:
        """Every time at which something begins or ends, from 0 to the length."""
        found = {self.begin, self.length}
        for part in (*self.bars, *self.spans):
            found |= {part.start, part.end}
        found |= {at for _, at in self.marks}
        return sorted(found)

    def lines(self, order: Sequence[str]) -> list[str]:
        """Lines in use, in the order given; others after them as they come."""
        used = dict.fromkeys(bar.line for bar in self.bars)
        known = [name for name in order if name in used]
        return known + [name for name in used if name not in known]


@dataclass
class Note:
    """Something that takes no time.

    values:  what differs between cases that look alike otherwise, one for each
    others:  the values in further cases of an outer branch: (case, values)
    """

    text: str
    values: list[str] = field(default_factory=list[str])
    others: list[tuple[str, list[str]]] = field(default_factory=list[tuple[str, list[str]]])

    def __str__(self) -> str:
        """The text with its values."""
        if not self.values:
            return self.text
        words = f"{self.text} {some(list(dict.fromkeys(self.values)))}"
        for case, values in self.others:
            if values != self.values:
                words += f" ({case}: x = {some(list(dict.fromkeys(values)))})"
        return words


@dataclass
class Frame:
    """A loop, a block or a case around other elements."""

    title: str
    kind: Literal["loop", "block", "case"]
    inner: list[Element]


Element = Strip | Note | Frame


@dataclass(frozen=True)
class Zoom:
    """A part of a drawing.

    block:   only the block of this name (the first of several); "" for the whole schedule
    window:  only what is between these times of each straight piece, ps; loops are unrolled there. None: all
    """

    block: str = ""
    window: tuple[int, int] | None = None


WHOLE = Zoom()


def picture(schedule: Schedule, zoom: Zoom = WHOLE) -> list[Element]:
    """The elements of a schedule's drawing, top to bottom; ScheduleError if it has no such block."""
    body = schedule.body
    if zoom.block:
        body = find_block(body, zoom.block)
        if body is None:
            names = dict.fromkeys(block_names(schedule.body))
            raise ScheduleError(
                f"schedule {schedule.name} has no block {zoom.block!r}: there are {', '.join(names)}"
            )
    elif isinstance(body, Series) and body.name == schedule.name:
        body = Series(body.items)  # the title shows the name already
    if zoom.window is None:
        return _elements(fold(body))
    return _clipped(_elements(body, 200), *zoom.window)


def clipped(strip: Strip, begin: int, end: int) -> Strip:
    """The part of a strip between two times."""
    bars = [
        replace(bar, start=max(bar.start, begin), end=min(bar.end, end))
        for bar in strip.bars
        if bar.start < end and bar.end > begin
    ]
    spans = [
        replace(span, start=max(span.start, begin), end=min(span.end, end))
        for span in strip.spans
        if span.start < end and span.end > begin
    ]
    marks = [(name, at) for name, at in strip.marks if begin <= at <= end]
    return Strip(end, bars, spans, marks, begin)


def _clipped(elements: list[Element], begin: int, end: int) -> list[Element]:
    """What lies between two times of each straight piece."""
    found: list[Element] = []
    for element in elements:
        if isinstance(element, Frame):
            inner = _clipped(element.inner, begin, end)
            if inner:
                found.append(Frame(element.title, element.kind, inner))
        elif isinstance(element, Strip) and begin < element.length:
            part = clipped(element, begin, min(end, element.length))
            if part.bars:
                found.append(part)
    return found


def some(words: Sequence[str], most: int = 10) -> str:
    """A list for people; whole numbers in a row as "0 to 8"."""
    if len(words) > 2 and all(word.isdecimal() and len(word) < 10 for word in words):
        first = int(words[0])
        if [int(word) for word in words] == list(range(first, first + len(words))):
            return f"{words[0]} to {words[-1]}"
    return ", ".join(words[:most]) + (f" … {words[-1]}" if len(words) > most else "")


def grouped(number: int) -> str:
    """A whole number with its thousands apart."""
    return f"{number:,}".replace(",", " ")


def _elements(item: Item, unrolled: int = UNROLLED) -> list[Element]:
    """Elements of an item; loops of up to ``unrolled`` turns are drawn turn by turn."""
    if straight(item):
        return _straight((item,), unrolled)
    match item:
        case Series():
            return _series(item, unrolled)
        case Together():
            inner = [element for part in item.items for element in _elements(part, unrolled)]
            return [Frame(item.name or "at once", "block", inner)]
        case Repeat():
            return [_framed(f"{grouped(item.count)} times", "loop", _elements(item.body, unrolled))]
        case Attempt():
            return [_attempt(item, unrolled)]
        case Branch():
            return _cases(item, unrolled)
        case _:
            return [_note(item)]


def _series(item: Series, unrolled: int) -> list[Element]:
    """Straight neighbours share a strip."""
    inner: list[Element] = []
    piece: list[Item] = []
    for part in item.items:
        if straight(part):
            piece.append(part)
            continue
        inner += _straight(piece, unrolled)
        piece.clear()
        inner += _elements(part, unrolled)
    inner += _straight(piece, unrolled)
    if not item.name:
        return inner
    return [Frame(item.name + _kind(item), "block", inner)]


def _kind(item: Series) -> str:
    if item.kind == "anchored":
        return f", anchored to the herald, {format_time(item.reaction)} to react"
    return f", {item.kind}" if item.kind == "free" else ""


def _attempt(item: Attempt, unrolled: int) -> Frame:
    ends: dict[str, list[str]] = {}
    for pattern, outcome in item.outcomes.items():
        ends.setdefault(outcome, []).append(pattern)
    table = "; ".join(f"{some(patterns)} → {outcome}" for outcome, patterns in ends.items())
    inner: list[Element] = []
    if item.every is not None:
        nth = "every attempt" if item.every.attempts == 1 else f"every {item.every.attempts} attempts"
        inner.append(_framed(f"before {nth}", "block", _elements(item.every.body, unrolled)))
    inner += _elements(item.body, unrolled)
    inner.append(Note(f"clicks of {', '.join(item.gates)}: {table}"))
    return Frame(f"attempts until {item.into}, {grouped(item.limit)} at most, then timeout", "loop", inner)


def _framed(title: str, kind: Literal["loop", "block", "case"], inner: list[Element]) -> Frame:
    """A frame; a single block in it shares its title."""
    match inner:
        case [Frame(title=name, kind="block", inner=deeper)]:
            return Frame(f"{title}: {name}", kind, deeper)
        case _:
            return Frame(title, kind, inner)


def _cases(item: Branch, unrolled: int) -> list[Element]:
    """One frame per case; cases that look alike in one."""
    groups: list[tuple[list[str], list[Element]]] = []
    for name, case in item.cases.items():
        drawn = _elements(case, unrolled)
        for names, seen in groups:
            if _alike(seen, drawn):
                names.append(name)
                _join(seen, drawn, name)
                break
        else:
            groups.append(([name], drawn))
    return [
        _framed(f"if {item.on} = {' or '.join(names) if len(names) < 3 else some(names)}", "case", drawn)
        for names, drawn in groups
    ]


def _alike(one: list[Element], other: list[Element]) -> bool:
    if len(one) != len(other):
        return False
    for a, b in zip(one, other, strict=True):
        match a, b:
            case Frame(), Frame():
                same = a.title == b.title and a.kind == b.kind and _alike(a.inner, b.inner)
            case Note(), Note():
                same = a.text == b.text
            case Strip(), Strip():
                same = a == b
            case _:
                same = False
        if not same:
            return False
    return True


def _join(into: list[Element], other: list[Element], case: str, inner: bool = False) -> None:
    """Keep what the notes of another case say differently; ``inner``: within a case of a branch further in."""
    for a, b in zip(into, other, strict=True):
        if isinstance(a, Frame) and isinstance(b, Frame):
            _join(a.inner, b.inner, case, inner or a.kind == "case")
        if isinstance(a, Note) and isinstance(b, Note) and b.values:
            if inner:
                a.others.append((case, b.values))
            else:
                a.values += b.values


def _note(item: Item) -> Note:
    match item:
        case Track():
            slots = ", ".join(f"{one}/{other} at {bias:g} turn" for one, other, bias in item.gates)
            return Note(f"track {item.into} from {slots}")
        case Feedback():
            sign = {1: "", -1: "−"}.get(item.scale, f"{item.scale} × ")
            return Note(
                f"phase of {item.line} = {sign}{item.register} + x turn, x =", [f"{item.offset / 1e6:g}"]
            )
        case Draw():
            total = sum(item.weights) or 1.0
            odds = some([f"{weight / total:.3g}" for weight in item.weights], 9)
            chances = "equal odds" if len(set(item.weights)) == 1 else f"odds {odds}"
            return Note(f"draw {item.into}: 0 to {len(item.weights) - 1} with {chances}")
        case Report():
            return Note(f"record {some(list(item.columns), 20)}")
        case HostPoint():
            return Note(f"wait for the host: {item.name}")
        case LineTrigger():
            return Note(
                f"wait for the next rising edge of {item.line}, {format_time(item.limit)} at most; go on "
                f"{format_time(item.reaction)} after it"
            )
        case _:
            return Note(type(item).__name__)


def _straight(items: Sequence[Item], unrolled: int) -> list[Element]:
    """A strip, or a note if only time passes, or nothing."""
    strip = Strip(sum(length_of(item) for item in items))
    at, tones = 0, dict[str, Tone]()
    for item in items:
        at = _lay(item, at, strip, tones, unrolled)
    strip.spans = list(dict.fromkeys(strip.spans))  # both nodes have a block of the same name
    if strip.bars:
        return [strip]
    return [Note(f"wait {format_time(strip.length)}")] if strip.length else []


def _lay(item: Item, at: int, strip: Strip, tones: dict[str, Tone], unrolled: int) -> int:
    """Put an item onto a strip; where it ends. ``tones`` holds what to write next to a line's next pulse."""
    outer = len(strip.spans)
    match item:
        case Pulse():
            end = at + max(0, item.duration)
            tone = tones.pop(item.line, None)
            label = format_time(item.duration) if tone is None else _toned(format_time(item.duration), tone)
            turned = "" if tone is None or tone.phase_turns is None else f"{tone.phase_turns * 360:.4g}°"
            strip.bars.append(Bar(item.line, at, end, "pulse", label, turned))
        case Gate():
            end = at + max(0, item.duration)
            strip.bars.append(Bar(item.line, at, end, "gate", f"{format_time(item.duration)} {item.into}"))
        case Tone():
            end = at
            tones[item.line] = item
        case Mark():
            end = at
            strip.marks.append((item.name, at))
        case Series():
            end = at
            for part in item.items:
                end = _lay(part, end, strip, tones, unrolled)
        case Together():
            end = max((_lay(part, at, strip, tones, unrolled) for part in item.items), default=at)
        case Repeat():
            end = _loop(item, at, strip, tones, unrolled)
        case _:
            end = at + length_of(item)
    if isinstance(item, (Series, Together)) and item.name:
        strip.spans.insert(outer, Span(at, end, item.name))
    return end


def _loop(item: Repeat, at: int, strip: Strip, tones: dict[str, Tone], unrolled: int) -> int:
    """The first turn, the turns left out, the last turn."""
    turn = length_of(item.body)
    end = at + turn * max(0, item.count)
    if item.count < 1:
        return end
    first = len(strip.bars)
    strip.spans.append(Span(at, end, f"{grouped(item.count)} times", loop=True))
    _lay(item.body, at, strip, tones, unrolled)
    drawn = strip.bars[first:]
    if item.count <= unrolled:
        for k in range(1, item.count):
            strip.bars += [replace(bar, start=bar.start + k * turn, end=bar.end + k * turn) for bar in drawn]
    else:
        for line in dict.fromkeys(bar.line for bar in drawn):
            strip.bars.append(Bar(line, at + turn, end - turn, "folded", f"{grouped(item.count - 2)} more"))
        rest = turn * (item.count - 1)
        strip.bars += [replace(bar, start=bar.start + rest, end=bar.end + rest) for bar in drawn]
    return end


def _toned(length: str, item: Tone) -> str:
    words = [length]
    if item.frequency_hz:
        words.append(format_quantity(item.frequency_hz, "Hz", 4))
    if item.phase_turns:
        words.append(f"φ {item.phase_turns * 360:.4g}°")
    if item.amplitude is not None and item.amplitude != 1.0:
        words.append(f"a {item.amplitude:.3g}")
    return " ".join(words)
