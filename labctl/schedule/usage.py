"""How items use lines, without unrolling loops: what joins at seams, and when a line is on in a straight item."""

from __future__ import annotations

from dataclasses import dataclass, field

from labctl.schedule.items import Gate, Item, Pulse, Repeat, Series, Together, Tone, Wait

MOST_SPANS = 2_000
"""Side by side with other branches, loops of more pulses than this count as on from their second turn to their last."""


@dataclass(slots=True)
class LineUse:
    """How an item uses a line. Times in ps on the item's shortest course, whose length is the item's ``length``.

    first, last:  begin of the first and end of the last pulse, where they are closest to the item's ends
    slack:        how much longer than the shortest is the shortest course without any pulse; None if there is none
    on, edges:    time on and edges in the course with the highest duty, which is ``extra`` longer than the shortest
    """

    first: int
    last: int
    slack: int | None
    on: int
    edges: int
    extra: int = 0


@dataclass(slots=True)
class Use:
    """How an item uses its lines.

    length:   of its shortest course, ps
    exact:    whether every course has that length
    lines:    use by line
    flagged:  lines whose duty or rate was found too high already
    """

    length: int = 0
    exact: bool = True
    lines: dict[str, LineUse] = field(default_factory=dict[str, LineUse])
    flagged: set[str] = field(default_factory=set[str])

    def then(self, other: Use) -> None:
        """Append another item's use to this one."""
        length = self.length + other.length
        for name, use in other.lines.items():
            before = self.lines.get(name)
            if before is None:
                self.lines[name] = LineUse(
                    self.length + use.first,
                    self.length + use.last,
                    use.slack,
                    use.on,
                    use.edges,
                    use.extra,
                )
                continue
            if before.slack is not None:
                before.first = min(before.first, self.length + before.slack + use.first)
            after = other.length - use.last
            if use.slack is not None:
                after = min(after, self.length - before.last + other.length + use.slack)
            before.last = length - after
            before.slack = None if before.slack is None or use.slack is None else before.slack + use.slack
            before.on += use.on
            before.edges += use.edges
            before.extra += use.extra
        self.length = length
        self.exact = self.exact and other.exact
        self.flagged |= other.flagged

    def repeated(self, count: int) -> Use:
        """The use of ``count`` turns of this item."""
        before_last = self.length * (count - 1)
        lines = {
            name: LineUse(
                use.first,
                before_last + use.last,
                None if use.slack is None else use.slack * count,
                use.on * count,
                use.edges * count,
                use.extra * count,
            )
            for name, use in self.lines.items()
        }
        return Use(self.length * count, self.exact, lines, set(self.flagged))


def touched(item: Item) -> tuple[set[str], set[str]]:
    """Lines whose tone a straight item sets, and all lines it sets or switches."""
    tuned: set[str] = set()
    every: set[str] = set()
    stack = [item]
    while stack:
        part = stack.pop()
        match part:
            case Series() | Together():
                stack.extend(part.items)
            case Repeat():
                stack.append(part.body)
            case Tone():
                tuned.add(part.line)
                every.add(part.line)
            case Pulse() | Gate():
                every.add(part.line)
            case _:
                pass
    return tuned, every


def length_of(item: Item) -> int:
    """Length of a straight item, negative durations counted as none."""
    match item:
        case Pulse() | Gate() | Wait():
            return max(0, item.duration)
        case Series():
            return sum(length_of(part) for part in item.items)
        case Together():
            return max((length_of(part) for part in item.items), default=0)
        case Repeat():
            return max(0, item.count) * length_of(item.body)
        case _:
            return 0


def spans(item: Item, at: int, wanted: set[str]) -> list[tuple[str, int, int]]:
    """When the wanted lines are on in a straight item: (line, begin, end); long loops as one span."""
    match item:
        case Pulse() | Gate():
            return [(item.line, at, at + max(0, item.duration))] if item.line in wanted else []
        case Series():
            found: list[tuple[str, int, int]] = []
            for part in item.items:
                found += spans(part, at, wanted)
                at += length_of(part)
            return found
        case Together():
            return [span for part in item.items for span in spans(part, at, wanted)]
        case Repeat():
            return _loop_spans(item, at, wanted)
        case _:
            return []


def _loop_spans(item: Repeat, at: int, wanted: set[str]) -> list[tuple[str, int, int]]:
    turn = spans(item.body, at, wanted) if item.count > 0 else []
    length = length_of(item.body)
    if len(turn) * item.count <= MOST_SPANS:
        return [
            (name, begin + k * length, end + k * length)
            for k in range(item.count)
            for name, begin, end in turn
        ]
    rest = (item.count - 1) * length
    solid: list[tuple[str, int, int]] = []
    for line in sorted({name for name, _, _ in turn}):
        begin = min(start for name, start, _ in turn if name == line)
        end = max(stop for name, _, stop in turn if name == line)
        solid.append((line, begin + length, end + rest))
    return turn + solid
