"""What keeps a schedule from being played by an NI card: it plays what was written before it started, and cannot react.

Between two host points a schedule is one buffer. Settings are drawn by the host before the buffer is made; what is measured
is known after it. So nothing inside may depend on what is measured inside: that takes a host point, which is milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from labctl.config import NidaqConfig
from labctl.core.nidaq.binding import Bound, bind, table_of
from labctl.core.nidaq.buffer import Buffer, lower
from labctl.core.program import lower as program_of
from labctl.errors import CoreError, ScheduleError
from labctl.schedule.check import check as check_schedule
from labctl.schedule.items import (
    Attempt,
    Branch,
    Draw,
    Feedback,
    Gate,
    HostPoint,
    Item,
    LineTrigger,
    Pulse,
    Repeat,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    Track,
)
from labctl.schedule.lines import Line
from labctl.schedule.problem import Path, Problem, Problems, inside
from labctl.schedule.timeline import one_pass
from labctl.schedule.usage import length_of

HOST_POINT = "put a HostPoint before it: there the host reads the counters, and goes on in milliseconds"
OTHER_CORE = "play it on the ARTIQ core or on the simulated one"


def check(schedule: Schedule, lines: Mapping[str, Line], config: NidaqConfig) -> list[Problem]:
    """Everything that keeps a schedule from being played on this card; those of `check` included."""
    problems = Problems()
    found = check_schedule(schedule, lines)
    if found:
        return found
    bound = bind(config, lines, used(schedule.body), problems)
    _Rules(bound, problems).walk(schedule.body, (schedule.name or "schedule",), 0, set())
    found = [*problems.all(), *check_schedule(schedule, on_clock(lines, config))]
    if not found:
        for piece in stretches(schedule.body):
            try:
                first_pass(Schedule(schedule.name, piece), bound, config)
            except (ScheduleError, CoreError) as error:
                found.append(Problem(schedule.name or "schedule", 0, "", str(error)))
    return found


def on_clock(lines: Mapping[str, Line], config: NidaqConfig) -> dict[str, Line]:
    """The lines as the card's sample clock lets them be: its period is their grid. Generators keep theirs."""
    table = table_of(config)
    found = dict(lines)
    for name, line in lines.items():
        if name in table and not table[name].generator_ps:
            tick = config.tick_ps
            found[name] = msgspec.structs.replace(line, grid_ps=tick, shortest_ps=max(line.shortest_ps, tick))
    return found


def used(item: Item) -> list[str]:
    """The lines of an item, in the order they come."""
    match item:
        case Series() | Together():
            found = [name for part in item.items for name in used(part)]
        case Repeat():
            found = used(item.body)
        case Attempt():
            found = (used(item.every.body) if item.every else []) + used(item.body)
        case Branch():
            found = [name for case in item.cases.values() for name in used(case)]
        case Pulse() | Gate() | Tone() | Feedback():
            found = [item.line]
        case _:
            found = []
    return list(dict.fromkeys(found))


def stretches(item: Item) -> list[Item]:
    """What is played between two host points on the way through the first cases; of loops with host points one turn."""
    found: list[list[Item]] = [[]]

    def walk(part: Item) -> None:
        match part:
            case Series():
                for one in part.items:
                    walk(one)
            case HostPoint():
                found.append([])
            case Repeat() if _halts(part):
                walk(part.body)
            case Branch() if _halts(part):
                walk(next(iter(part.cases.values())))
            case _:
                found[-1].append(part)

    walk(item)
    return [Series(tuple(items)) for items in found]


def _halts(item: Item) -> bool:
    match item:
        case HostPoint():
            return True
        case Series():
            return any(_halts(part) for part in item.items)
        case Repeat():
            return _halts(item.body)
        case Branch():
            return any(_halts(case) for case in item.cases.values())
        case _:
            return False


def first_pass(
    schedule: Schedule,
    bound: Mapping[str, Bound],
    config: NidaqConfig,
    choose: Mapping[str, str] | None = None,
) -> Buffer:
    """One pass as one buffer: attempt loops once, the chosen case of each branch (else the first).

    For looking at and comparing; a run makes its buffers as it goes.
    """
    root = program_of(Schedule(schedule.name, Series((one_pass(schedule.body, choose),)))).root
    segment = root.segment({})  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]  (one pass is straight)
    return lower(segment.pulses, segment.gates, segment.duration_ps, bound, config)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


class _Rules:
    """One walk over a schedule that `check` has passed."""

    def __init__(self, bound: Mapping[str, Bound], problems: Problems) -> None:
        self._bound = bound
        self._problems = problems

    def walk(self, item: Item, path: Path, at: int, measured: set[str]) -> int:
        """Check an item that begins ``at`` ps after its innermost block; its shortest length.

        measured:  registers that are measured in the buffer so far; brought to the item's end
        """
        match item:
            case Series() | Together():
                return self._group(item, path, at, measured)
            case Repeat():
                length = self.walk(item.body, path, at, measured)
                self.walk(item.body, path, at + length, measured)  # what the first turn measured
                return length * item.count
            case Branch():
                self._reads(item.on, f"a branch on {item.on!r}", path, at, measured)
                ends = [set(measured) for _ in item.cases]
                lengths = [
                    self.walk(case, inside(path, name), 0, end)
                    for (name, case), end in zip(item.cases.items(), ends, strict=True)
                ]
                measured |= set[str]().union(*ends)
                return min(lengths, default=0)
            case Attempt():
                self._refuse(
                    inside(path, "attempt"),
                    "attempts until a herald: the card plays what was written before it started and cannot react to a click",
                    OTHER_CORE,
                    0,
                )
                return 0
            case Gate():
                measured |= {item.into, f"{item.into}.first_ps", f"{item.into}.bright"}
                return item.duration
            case HostPoint():
                measured.clear()
                return 0
            case _:
                self._single(item, path, at, measured)
                return length_of(item)

    def _group(self, item: Series | Together, path: Path, at: int, measured: set[str]) -> int:
        here = inside(path, item.name)
        at = at if here == path else 0
        length = 0
        for part in item.items:
            one = self.walk(part, here, at + (length if isinstance(item, Series) else 0), measured)
            length = length + one if isinstance(item, Series) else max(length, one)
        return length

    def _single(self, item: Item, path: Path, at: int, measured: set[str]) -> None:
        match item:
            case Tone():
                self._tone(item, path, at)
            case Feedback():
                self._reads(
                    item.register,
                    f"the phase of {item.line} fed back from {item.register!r}",
                    path,
                    at,
                    measured,
                )
                self._phase(item.line, path, at)
            case Track():
                registers = {register for one, other, _ in item.gates for register in (one, other)}
                made = {item.into, *(f"{item.into}.{name}" for name in ("sigma_rad", "clicks", "valid"))}
                if registers & measured:
                    measured |= made
                else:
                    measured -= made
            case Draw():
                measured.discard(item.into)
            case Report():
                for column, register in item.columns.items():
                    if register.endswith(".first_ps"):
                        self._refuse(
                            path,
                            f"column {column!r}: the card counts clicks, it does not time them",
                            OTHER_CORE,
                            at,
                        )
            case LineTrigger():
                self._refuse(
                    path,
                    "waits for an edge: this core starts its buffers by itself",
                    OTHER_CORE,
                    at,
                    item.line,
                )
            case _:
                pass

    def _reads(self, register: str, what: str, path: Path, at: int, measured: set[str]) -> None:
        if register in measured:
            self._refuse(path, f"{what}, which is measured in the same buffer", HOST_POINT, at)

    def _tone(self, item: Tone, path: Path, at: int) -> None:
        bound = self._bound.get(item.line)
        if bound is None:
            return
        if item.frequency_hz:
            self._refuse(
                path,
                f"a frequency of {item.frequency_hz:g} Hz from nominal: the card sets levels and voltages, no frequencies",
                "keep the generator at its frequency, or " + OTHER_CORE,
                at,
                item.line,
            )
        if item.phase_turns:
            self._phase(item.line, path, at)
        if item.amplitude not in (None, 1.0) and not bound.table.amplitude:
            self._refuse(
                path,
                f"an amplitude of {item.amplitude:g}, but no analogue output sets the line's amplitude",
                'give it one in the lab file: amplitude = "ao0"',
                at,
                item.line,
            )

    def _phase(self, line: str, path: Path, at: int) -> None:
        bound = self._bound.get(line)
        if bound is not None and not bound.table.phase:
            self._refuse(
                path,
                "its phase is set, but no analogue output sets the line's phase",
                'give it one in the lab file: phase = "ao0"',
                at,
                line,
            )

    def _refuse(self, path: Path, what: str, hint: str, at: int, line: str = "") -> None:
        self._problems.add(path, what, hint, line=line, time_ps=at)
