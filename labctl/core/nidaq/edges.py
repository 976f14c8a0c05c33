"""The edges of a buffer for an NI card, in the shape that all cores share: read off its samples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from labctl.core.edges import Edge, Span, edges_of
from labctl.core.nidaq.binding import Bound
from labctl.core.nidaq.buffer import Buffer
from labctl.schedule.timeline import ToneState


def edges(buffer: Buffer, bound: Mapping[str, Bound]) -> list[Edge]:
    """What the card does in one buffer."""
    spans: dict[str, list[Span]] = {}
    for line, row in zip(buffer.lines, buffer.levels, strict=True):
        changes = np.flatnonzero(np.diff(row.astype(np.int8), prepend=0, append=0)).tolist()
        delay = bound[line].limits.delay_ps
        spans[line] = [
            Span(_time(buffer, begin) + delay, _time(buffer, end) + delay, _tone(buffer, bound[line], begin))
            for begin, end in zip(changes[::2], changes[1::2], strict=True)
        ]
    for window in buffer.windows:
        delay = bound[window.line].limits.delay_ps
        opens, closes = (_time(buffer, buffer.strobes[k]) - delay for k in (window.opens, window.closes))
        spans.setdefault(window.line, []).append(Span(opens, closes))
    return edges_of(spans, [name for name, one in bound.items() if one.table.generator_ps])


def _time(buffer: Buffer, tick: int) -> int:
    return (tick - buffer.lead) * buffer.tick_ps


def _tone(buffer: Buffer, bound: Bound, tick: int) -> ToneState | None:
    if bound.limits.kind != "tone":
        return None
    table = bound.table
    turns = _volts(buffer, table.phase, tick) / table.volts_per_turn if table.phase else 0.0
    amplitude = _volts(buffer, table.amplitude, tick) / table.volts if table.amplitude else 1.0
    return (0.0, turns, amplitude)


def _volts(buffer: Buffer, output: str, tick: int) -> float:
    return float(buffer.volts[buffer.outputs.index(output), tick])
