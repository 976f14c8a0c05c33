"""Checks what a schedule asks of its lines: times, overlaps, dead times, duty and light on open detectors.

Loops are not unrolled: of each item it is known when a line is first and last on, and items are joined at their seams.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from labctl.schedule.items import (
    Attempt,
    Branch,
    Feedback,
    Gate,
    HostPoint,
    Item,
    LineTrigger,
    Pulse,
    Repeat,
    Series,
    Together,
    Tone,
    Wait,
)
from labctl.schedule.lines import Line
from labctl.schedule.problem import At, Path, Problems, inside, near
from labctl.schedule.side_by_side import dead_time, side_by_side
from labctl.schedule.usage import LineUse, Use, largest, smallest
from labctl.units import format_time, ms

BUFFERED_PS = 1 * ms
"""A core buffers events: its sustained rate is compared over at least this long."""
MOST_PHASES = 64
"""How many different starts, modulo the grids, are followed after branches of uneven length."""
TOLERANCE = 1 + 1e-12

Phases = frozenset[int]
"""Possible starts of an item, modulo the common multiple of all grids."""


class LineCheck:
    """One walk over a schedule's items, noting what its lines cannot do."""

    def __init__(self, lines: Mapping[str, Line], node_of: Callable[[str], str], problems: Problems) -> None:
        self._lines = lines
        self._node_of = node_of
        self._problems = problems
        self._modulus = math.lcm(*(max(1, line.grid_ps) for line in lines.values()))

    def run(self, item: Item, path: Path) -> None:
        """Check a whole schedule, which begins on every grid."""
        self._visit(item, path, At(), frozenset((0,)))

    def _visit(self, item: Item, path: Path, at: At, phases: Phases) -> tuple[Use, Phases]:
        """Use of an item that begins ``at`` after its innermost block, and the phases at its end."""
        match item:
            case Pulse() | Gate():
                use = self._pulse(item, path, at, phases)
            case Wait():
                use = Use(self._length(item, path, at))
            case Tone() | Feedback():
                self._tone(item, path, at)
                return Use(), phases
            case Series():
                here = inside(path, item.name)
                begin = at if here == path else At()
                use, phases = self._series(item, here, begin, phases)
                self._load(use, here, 1, begin)
                return use, phases
            case Together():
                here = inside(path, item.name)
                use = self._together(item, here, at if here == path else At(), phases)
            case Repeat():
                return self._repeat(item, path, at, phases)
            case Attempt():
                return self._attempt(item, inside(path, "attempt"), phases)
            case LineTrigger():
                self._trigger(item, path, at)
                return Use(max(0, item.reaction), False), frozenset(
                    (0,)
                )  # the core begins anew on every grid
            case HostPoint():
                return Use(0, False), frozenset((0,))
            case Branch():
                return self._branch(item, path, phases)
            case _:
                return Use(), phases
        self._load(use, path, 1, at)
        return use, self._shifted(phases, use.length)

    # single items
    def _length(self, item: Pulse | Gate | Wait, path: Path, at: At) -> int:
        if item.duration < 0:
            line = "" if isinstance(item, Wait) else item.line
            self._problems.add(
                path, f"a duration of {format_time(item.duration)} is negative", line=line, time_ps=at
            )
            return 0
        return item.duration

    def _pulse(self, item: Pulse | Gate, path: Path, at: At, phases: Phases) -> Use:
        length = self._length(item, path, at)
        name = item.line
        line = self._known(name, path, at)
        if line is None:
            return Use(length)
        kind = "gate" if isinstance(item, Gate) else "pulse"

        def problem(what: str, hint: str) -> None:
            self._problems.add(path, what, hint, line=name, time_ps=at)

        if line.direction == "in" and kind == "pulse":
            problem("a pulse on an input", "inputs are opened with Gate")
        if line.direction == "out" and kind == "gate":
            problem("a gate on an output", "outputs are switched with Pulse")
        if item.duration >= 0:
            if length < line.shortest_ps:
                problem(
                    f"a {kind} of {format_time(length)} is too short",
                    f"this line needs at least {format_time(line.shortest_ps)}",
                )
            if 0 < line.longest_ps < length:
                problem(
                    f"a {kind} of {format_time(length)} is too long",
                    f"this line may be on for {format_time(line.longest_ps)} at most",
                )
        self._grid(item, line, kind, phases, problem)
        use = LineUse(frozenset((0,)), frozenset((length,)), frozenset(), length, 2)
        return Use(length, True, {name: use})

    def _grid(
        self,
        item: Pulse | Gate,
        line: Line,
        kind: str,
        phases: Phases,
        problem: Callable[[str, str], None],
    ) -> None:
        grid = max(1, line.grid_ps)
        if item.duration % grid:
            below = item.duration // grid * grid
            problem(
                f"a {kind} of {format_time(item.duration)} is off this line's grid of {format_time(grid)}",
                f"take {format_time(below)} or {format_time(below + grid)}",
            )
        shift = line.delay_ps if line.direction == "in" else -line.delay_ps
        off = {(phase + shift) % grid for phase in phases} - {0}
        if off:
            delay = f" (after its delay of {format_time(line.delay_ps)})" if line.delay_ps else ""
            problem(
                f"the {kind} begins {format_time(min(off))} off this line's grid of {format_time(grid)}{delay}",
                "the delay of the line is off its grid: correct delay_ps in the lab file"
                if line.delay_ps % grid
                else "make the times before it multiples of the grid",
            )

    def _tone(self, item: Tone | Feedback, path: Path, at: At) -> None:
        line = self._known(item.line, path, at)

        def problem(what: str, hint: str) -> None:
            self._problems.add(path, what, hint, line=item.line, time_ps=at)

        if line is not None and line.kind != "tone":
            problem(
                f"{type(item).__name__} on a line of kind {line.kind!r}",
                'only lines of kind "tone" have frequency, phase and amplitude',
            )
        if isinstance(item, Feedback):
            return
        hz = item.frequency_hz
        if line is not None and hz is not None and not line.lowest_hz <= hz <= line.highest_hz:
            problem(
                f"a frequency of {hz:g} Hz is outside this line's band",
                f"it goes from {line.lowest_hz:g} Hz to {line.highest_hz:g} Hz",
            )
        if item.amplitude is not None and not 0 <= item.amplitude <= 1:
            problem(
                f"an amplitude of {item.amplitude:g} is outside 0 to 1",
                "amplitudes are relative to the line's nominal amplitude",
            )
        if item.phase_turns is not None and not math.isfinite(item.phase_turns):
            problem(f"a phase of {item.phase_turns} turns", "give a number")

    def _trigger(self, item: LineTrigger, path: Path, at: At) -> None:
        line = self._known(item.line, path, at)
        if line is not None and (line.direction, line.kind) != ("in", "trigger"):
            inputs = [name for name, one in self._lines.items() if one.kind == "trigger"]
            self._problems.add(
                path,
                f"waits for an edge of a line of direction {line.direction!r} and kind {line.kind!r}",
                f"inputs of kind 'trigger': {', '.join(inputs) or 'none in this lab'}",
                line=item.line,
                time_ps=at,
            )

    def _known(self, name: str, path: Path, at: At) -> Line | None:
        line = self._lines.get(name)
        if line is None:
            node = self._node_of(name)
            nodes = {self._node_of(known) for known in self._lines}
            own = [known for known in self._lines if self._node_of(known) == node]
            hint = near(name, self._lines) or (
                near(name, own) if own else f"nodes with lines: {', '.join(sorted(nodes))}"
            )
            self._problems.add(path, "no such line", hint, line=name, time_ps=at)
        return line

    # compounds
    def _series(self, item: Series, path: Path, at: At, phases: Phases) -> tuple[Use, Phases]:
        total = Use()
        for part in item.items:
            use, phases = self._visit(part, path, at, phases)
            self._seam(total, use, path, at, "")
            total.then(use)
            at = at.plus(use.length, use.exact)
        return total, phases

    def _repeat(self, item: Repeat, path: Path, at: At, phases: Phases) -> tuple[Use, Phases]:
        turn, after = self._visit(item.body, path, at, phases)
        if item.count < 1:
            return Use(), phases
        if item.count > 1:
            again = at.plus(turn.length, turn.exact)
            self._seam(turn, turn, path, again, "from one turn of the loop to the next, ")
            self._period(turn, (turn.length,), path, again)
            after = self._shifted(phases, turn.length * item.count)
        self._load(turn, path, item.count, at)
        return turn.repeated(item.count), after

    def _attempt(self, item: Attempt, path: Path, phases: Phases) -> tuple[Use, Phases]:
        every, spacing = Use(), 1
        if item.every is not None:
            spacing = max(1, item.every.attempts)
            every, phases = self._visit(item.every.body, path, At(), phases)
        at = At(every.length, every.exact)
        body, _ = self._visit(item.body, path, at, phases)
        turn = Use()
        turn.then(every)
        self._seam(turn, body, path, at, "from the interleaved block to the attempt, ")
        turn.then(body)
        after = At(turn.length, turn.exact)
        loops = item.limit > 1
        if loops and (item.every is None or spacing > 1):
            self._seam(body, body, path, after, "from one attempt to the next, ")
        if item.every is not None and item.limit > spacing:
            self._seam(turn, every, path, after, "from an attempt to the interleaved block, ")
        if loops:
            lengths = (every.length, body.length) if item.every is not None else (body.length,)
            self._period(turn, lengths, path, after)
        total = Use(turn.length, False, turn.lines, turn.flagged)
        for name, use in body.lines.items():
            total.lines[name].on += use.on * (spacing - 1)
            total.lines[name].edges += use.edges * (spacing - 1)
        for use in total.lines.values():
            use.on_extra += body.length * (spacing - 1)
            use.edges_extra += body.length * (spacing - 1)
        self._load(total, path, max(1, math.ceil(item.limit / spacing)), At())
        ends = {
            (phase + a * every.length + b * body.length) % self._modulus
            for phase in phases
            for a in ((0, 1) if item.every is not None else (0,))
            for b in (1, 2)
        }
        return total, self._few(ends)

    def _branch(self, item: Branch, path: Path, phases: Phases) -> tuple[Use, Phases]:
        uses: list[Use] = []
        ends: set[int] = set()
        for name, case in item.cases.items():
            use, after = self._visit(case, inside(path, name), At(), phases)
            uses.append(use)
            ends |= after
        if not uses:
            return Use(), phases
        shortest = min(use.length for use in uses)
        exact = all(use.exact and use.length == shortest for use in uses)
        total = Use(shortest, exact, {}, {name for use in uses for name in use.flagged})
        for name in dict.fromkeys(name for use in uses for name in use.lines):
            total.lines[name] = self._either(name, uses, shortest)
        return total, self._few(ends)

    def _either(self, name: str, uses: list[Use], shortest: int) -> LineUse:
        """Use of a line by one of several courses, the shortest of which lasts ``shortest``."""
        line = self._lines[name]
        using = [(use.length - shortest, use.lines[name]) for use in uses if name in use.lines]
        slacks = {use.length - shortest for use in uses if name not in use.lines}
        slacks |= {extra + slack for extra, one in using for slack in one.slacks}
        extra_on, most_on = max(using, key=lambda pair: pair[1].on - line.duty * (pair[0] + pair[1].on_extra))
        per_ps = line.events_per_s / 1e12
        extra_edges, most_edges = max(
            using, key=lambda pair: pair[1].edges - per_ps * (pair[0] + pair[1].edges_extra)
        )
        return LineUse(
            smallest(first for _, one in using for first in one.firsts),
            largest(last - extra for extra, one in using for last in one.lasts),
            smallest(slacks),
            most_on.on,
            most_edges.edges,
            extra_on + most_on.on_extra,
            extra_edges + most_edges.edges_extra,
        )

    def _together(self, item: Together, path: Path, at: At, phases: Phases) -> Use:
        parts = [self._visit(part, path, at, phases)[0] for part in item.items]
        total = Use(max((use.length for use in parts), default=0), all(use.exact for use in parts))
        users: dict[str, list[int]] = {}
        for number, use in enumerate(parts):
            total.flagged |= use.flagged
            for name, line in use.lines.items():
                users.setdefault(name, []).append(number)
                old = total.lines.get(name)
                if old is not None:
                    line = LineUse(
                        smallest((min(old.firsts | line.firsts),)),
                        largest((max(old.lasts | line.lasts),)),
                        frozenset(),
                        old.on + line.on,
                        old.edges + line.edges,
                    )
                total.lines[name] = line
        side_by_side(self._problems, self._lines, item, path, at, users)
        return total

    # rules
    def _seam(self, before: Use, after: Use, path: Path, at: At, where: str) -> None:
        """Dead time where one item follows another; no gap at all means that the line stays on."""
        for name, use in after.lines.items():
            earlier = before.lines.get(name)
            if earlier is None:
                continue
            gaps = {before.length - last + first: first for last in earlier.lasts for first in use.firsts}
            gap = min((gap for gap in gaps if gap > 0), default=0)
            start = at.plus(gaps[gap] if gap else 0)
            dead_time(self._problems, self._lines, name, gap, path, start, where)

    def _period(self, turn: Use, lengths: tuple[int, ...], path: Path, at: At) -> None:
        """Every turn of a loop has to begin on the grids of the lines it uses."""
        for name in turn.lines:
            grid = max(1, self._lines[name].grid_ps)
            for length in lengths:
                if length % grid:
                    self._problems.add(
                        path,
                        f"from the second turn of the loop on off this line's grid of {format_time(grid)}: "
                        f"a turn lasts {format_time(length)}",
                        f"add a wait of {format_time(-length % grid)} to the turn",
                        line=name,
                        time_ps=at,
                    )

    def _load(self, use: Use, path: Path, turns: int, at: At) -> None:
        """Duty and event rate of an item played ``turns`` times in a row."""
        for name, line_use in use.lines.items():
            line = self._lines[name]
            if name in use.flagged or (line.duty >= 1 and line.events_per_s <= 0):
                continue
            over = use.length + line_use.on_extra
            on, edges = line_use.on * turns, line_use.edges * turns
            window = max(over * turns, line.duty_over_ps)
            if line.duty < 1 and on > line.duty * window * TOLERANCE:
                use.flagged.add(name)
                self._problems.add(
                    path,
                    f"on for {format_time(line_use.on)} in {format_time(over)}"
                    f"{' of each turn' if turns > 1 else ''}: a duty of {on / max(1, window):.3g} "
                    f"over {format_time(line.duty_over_ps)} or more",
                    f"this line may have {line.duty:g}: shorten its pulses or wait longer between them",
                    line=name,
                    time_ps=at.plus(min(line_use.firsts, default=0)),
                )
            buffered = max((use.length + line_use.edges_extra) * turns, BUFFERED_PS) / 1e12
            if line.events_per_s > 0 and edges > line.events_per_s * buffered * TOLERANCE:
                use.flagged.add(name)
                self._problems.add(
                    path,
                    f"{edges / buffered:.3g} edges per second, more than the {line.events_per_s:.3g} "
                    "the core sustains on this line",
                    "make the loop slower",
                    line=name,
                    time_ps=at.plus(min(line_use.firsts, default=0)),
                )

    # phases
    def _shifted(self, phases: Phases, length: int) -> Phases:
        return frozenset((phase + length) % self._modulus for phase in phases)

    @staticmethod
    def _few(phases: set[int]) -> Phases:
        return frozenset(sorted(phases)[:MOST_PHASES])
