"""A piece of schedule as an NI card plays it: samples of digital lines and voltages on one clock, and when counters latch.

Whenever a gate opens or closes the strobe line goes up for one tick, and every counter latches its count; the clicks of a
gate are the difference of two latched counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from labctl.config import NidaqConfig
from labctl.core.nidaq.binding import X_SERIES, Bound
from labctl.errors import ScheduleError
from labctl.sim.played import OpenGate, PlayedPulse
from labctl.units import format_time

Levels = NDArray[np.bool_]
Volts = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """A gate of the buffer: between which latchings it is open. ``number``: of the gate, in the order they were given."""

    number: int
    line: str
    opens: int
    closes: int


@dataclass(frozen=True, eq=False)
class Buffer:
    """What is written to the card before it starts.

    lead:      ticks before time 0 of the piece, for lines whose delay makes their edges come first
    levels:    one row for each of ``lines``; the last sample is low
    volts:     one row for each of ``outputs``, V
    strobes:   ticks at which the counters latch
    clicked:   inputs that are counted
    """

    tick_ps: int
    lead: int
    lines: tuple[str, ...]
    levels: Levels
    outputs: tuple[str, ...]
    volts: Volts
    strobes: tuple[int, ...]
    windows: tuple[Window, ...]
    clicked: tuple[str, ...]

    @property
    def samples(self) -> int:
        """Ticks of the sample clock."""
        return self.levels.shape[1]

    @property
    def duration_s(self) -> float:
        """How long it plays, s."""
        return self.samples * self.tick_ps / 1e12

    def strobe(self) -> Levels:
        """Samples of the strobe line."""
        found = np.zeros(self.samples, np.bool_)
        found[list(self.strobes)] = True
        return found

    def counts(self, latched: Mapping[str, Counts]) -> list[int]:
        """Clicks of each gate from what the counters latched: line -> counts, one for each strobe."""
        return [int(latched[one.line][one.closes] - latched[one.line][one.opens]) for one in self.windows]


def lower(
    pulses: Sequence[PlayedPulse],
    gates: Sequence[OpenGate],
    total_ps: int,
    bound: Mapping[str, Bound],
    config: NidaqConfig,
) -> Buffer:
    """The buffer of pulses and gates, times from the start of a piece that lasts ``total_ps``.

    ScheduleError for what is off the clock, for gates too close to each other and for a piece that is too long.
    """
    tick = config.tick_ps
    spans = [(one, *_span(bound[one.line], one.start_ps, one.duration_ps, tick)) for one in pulses]
    opened = [(one, *_window(bound[one.line], one, tick)) for one in gates]
    times = [begin for _, begin, _ in spans] + [begin for _, begin, _ in opened]
    lead = -min([0, *times])
    ends = [end for _, _, end in spans] + [end + 1 for _, _, end in opened]
    samples = max([2, -(-total_ps // tick) + 1, *(end + 1 for end in ends)]) + lead
    if samples > X_SERIES.most_samples:
        raise ScheduleError(
            f"a buffer of {samples} samples of {format_time(tick)}; {X_SERIES.most_samples} at most: "
            "put a HostPoint into the piece, or make tick_ps longer"
        )
    lines = tuple(dict.fromkeys(one.line for one in pulses))
    levels = np.zeros((len(lines), samples), np.bool_)
    for one, begin, end in spans:
        levels[lines.index(one.line), begin + lead : end + lead] = True
    strobes, windows = _latches(opened, lead, tick)
    outputs, volts = _volts(spans, bound, samples, lead)
    return Buffer(
        tick,
        lead,
        lines,
        levels,
        outputs,
        volts,
        strobes,
        windows,
        tuple(dict.fromkeys(one.line for one in gates)),
    )


def _ticks(line: str, time_ps: int, tick_ps: int, what: str) -> int:
    ticks, rest = divmod(time_ps, tick_ps)
    if rest:
        raise ScheduleError(
            f"{line} {what} {format_time(rest)} off the card's sample clock of {format_time(tick_ps)}; "
            "change the time, or tick_ps in [core.nidaq]"
        )
    return ticks


def _span(bound: Bound, start_ps: int, duration_ps: int, tick: int) -> tuple[int, int]:
    begin = _ticks(bound.line, start_ps - bound.limits.delay_ps, tick, "is turned on")
    table = bound.table
    if table.generator_ps:
        if duration_ps != table.generator_ps:
            raise ScheduleError(
                f"{bound.line}: a pulse of {format_time(duration_ps)}, but the generator behind {table.terminal} "
                f"makes {format_time(table.generator_ps)}; set the generator and generator_ps in [core.nidaq.line]"
            )
        return begin, begin + _ticks(bound.line, table.trigger_ps, tick, "has a trigger")
    return begin, begin + _ticks(bound.line, duration_ps, tick, "is turned off")


def _window(bound: Bound, gate: OpenGate, tick: int) -> tuple[int, int]:
    begin = _ticks(bound.line, gate.start_ps + bound.limits.delay_ps, tick, "is opened")
    return begin, begin + _ticks(bound.line, gate.duration_ps, tick, "is closed")


def _latches(
    opened: Sequence[tuple[OpenGate, int, int]], lead: int, tick_ps: int
) -> tuple[tuple[int, ...], tuple[Window, ...]]:
    times = sorted({time + lead for _, begin, end in opened for time in (begin, end)})
    for one, other in pairwise(times):
        if other - one < 2:
            near = next(gate for gate, begin, end in opened if other - lead in (begin, end))
            raise ScheduleError(
                f"{near.line}: gates that open or close {format_time((other - one) * tick_ps)} from each other; the "
                f"strobe that latches the counters needs {format_time(2 * tick_ps)}"
            )
    place = {time: index for index, time in enumerate(times)}
    windows = tuple(
        Window(number, gate.line, place[begin + lead], place[end + lead])
        for number, (gate, begin, end) in enumerate(opened)
    )
    return tuple(times), windows


def _volts(
    spans: Sequence[tuple[PlayedPulse, int, int]], bound: Mapping[str, Bound], samples: int, lead: int
) -> tuple[tuple[str, ...], Volts]:
    """Each voltage is set as soon as the pulse before has ended, and held."""
    rows: dict[str, Volts] = {}
    for line in dict.fromkeys(one.line for one, _, _ in spans):
        table = bound[line].table
        own = sorted((span for span in spans if span[0].line == line), key=_begin)
        phases = [one.phase_turns % 1.0 * table.volts_per_turn for one, _, _ in own]
        amplitudes = [one.amplitude * table.volts for one, _, _ in own]
        for output, values in ((table.phase, phases), (table.amplitude, amplitudes)):
            if not output:
                continue
            row = rows.setdefault(output, np.zeros(samples))
            since = 0
            for (_, _, end), value in zip(own, values, strict=True):
                row[since:] = value
                since = end + lead
    found = np.stack(list(rows.values())) if rows else np.zeros((0, samples))
    return tuple(rows), found


def _begin(span: tuple[PlayedPulse, int, int]) -> int:
    return span[1]
