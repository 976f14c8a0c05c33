"""Edges in one shape for every core: which line goes on or off when, with which tone, the delays of the lines removed.

``labctl.core.sim_edges.edges``, ``labctl.core.artiq.edges.edges`` and ``labctl.core.nidaq.edges.edges`` each say what their
core would do in one course of a schedule; the same schedule has the same edges on all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from labctl.schedule.timeline import ToneState

HZ, TURNS, AMPLITUDE = 1.0, 1e-4, 1e-3
"""How far tones may be apart and still be the same: tuning words and voltages have steps (AD9910: 0.23 Hz, 1.5e-5 turn)."""


class Edge(NamedTuple):
    """A line goes on (or opens) or off (or closes).

    time_ps:  of the light or of the click, from the beginning of the course
    tone:     of a tone line going on: frequency offset in Hz, phase in turns (0 to 1), relative amplitude. None for other
              lines, for those behind a pulse generator, and where the phase is only known when it is played
    """

    time_ps: int
    line: str
    rising: bool
    tone: ToneState | None = None


class Span(NamedTuple):
    """A line on from ``begin_ps`` to ``end_ps``."""

    begin_ps: int
    end_ps: int
    tone: ToneState | None = None


def edges_of(spans: Mapping[str, Iterable[Span]], triggers: Iterable[str] = ()) -> list[Edge]:
    """Edges of what each line does, in order of time; what touches is joined and keeps the tone it began with.

    triggers:  lines that only start a pulse generator: their pulses end when the generator's do, so only begins count
    """
    found: list[Edge] = []
    for line, each in spans.items():
        for begin, end, tone in _joined(each):
            if line in triggers:
                found.append(Edge(begin, line, True))
                continue
            found += [Edge(begin, line, True, _known(tone)), Edge(end, line, False)]
    return sorted(found, key=lambda edge: (edge.time_ps, edge.line, edge.rising))


def differences(one: Iterable[Edge], other: Iterable[Edge]) -> list[str]:
    """What two cores would do differently, in words; tones are compared where both are known."""
    first = {(edge.time_ps, edge.line, edge.rising): edge.tone for edge in one}
    second = {(edge.time_ps, edge.line, edge.rising): edge.tone for edge in other}
    found = [f"only in the first: {_words(key)}" for key in sorted(first.keys() - second.keys())]
    found += [f"only in the second: {_words(key)}" for key in sorted(second.keys() - first.keys())]
    for key in sorted(first.keys() & second.keys()):
        a, b = first[key], second[key]
        if a is not None and b is not None and not _same(a, b):
            found.append(f"{_words(key)}: tone {a} and {b}")
    return found


def _words(key: tuple[int, str, bool]) -> str:
    return f"{key[1]} {'on' if key[2] else 'off'} at {key[0]} ps"


def _same(a: ToneState, b: ToneState) -> bool:
    turns = (a[1] - b[1] + 0.5) % 1.0 - 0.5
    return abs(a[0] - b[0]) <= HZ and abs(turns) <= TURNS and abs(a[2] - b[2]) <= AMPLITUDE


def _known(tone: ToneState | None) -> ToneState | None:
    if tone is None or any(math.isnan(part) for part in tone):
        return None
    return (tone[0], tone[1] % 1.0, tone[2])


def _joined(spans: Iterable[Span]) -> list[Span]:
    found: list[Span] = []
    for span in sorted(spans, key=lambda one: one[:2]):
        if span.end_ps <= span.begin_ps:
            continue
        if found and span.begin_ps <= found[-1].end_ps:
            last = found[-1]
            found[-1] = Span(last.begin_ps, max(last.end_ps, span.end_ps), last.tone)
        else:
            found.append(span)
    return found
