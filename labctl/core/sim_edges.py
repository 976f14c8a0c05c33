"""The edges of a program for the simulated core, in the shape that all cores share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from labctl.core.edges import Edge, Span, edges_of
from labctl.core.program import AttemptLoop, Chain, Choice, Loop, Program, Step, Straight
from labctl.schedule.items import Feedback
from labctl.schedule.lines import Line
from labctl.schedule.timeline import NOMINAL, ToneState


def edges(
    program: Program,
    lines: Mapping[str, Line],
    choose: Mapping[str, str] | None = None,
    triggers: Iterable[str] = (),
) -> list[Edge]:
    """What the simulated core plays in one pass: attempt loops once, of each branch the chosen case (else the first).

    choose:    register -> case
    triggers:  lines behind which another core has a pulse generator, to be compared with that core

    It plays light and clicks, so there are no delays to remove.
    """
    course = _Course(lines, choose or {})
    course.walk(program.root)
    return edges_of(course.spans, triggers)


class _Course:
    """One way through a program."""

    def __init__(self, lines: Mapping[str, Line], choose: Mapping[str, str]) -> None:
        self._lines = lines
        self._choose = choose
        self._tones: dict[str, ToneState] = {}
        self._now_ps = 0
        self.spans: dict[str, list[Span]] = {}

    def walk(self, step: Step) -> None:
        """Play a step."""
        match step:
            case Straight():
                self._play(step)
            case Chain():
                for part in step.steps:
                    self.walk(part)
            case Loop():
                for _ in range(step.count):
                    self.walk(step.body)
            case Choice():
                self.walk(step.cases[self._choose.get(step.on, next(iter(step.cases)))])
            case AttemptLoop():
                for piece in (step.between, step.body):
                    if piece is not None:
                        self._play(piece)
            case Feedback():
                frequency_hz, _, amplitude = self._tones.get(step.line, NOMINAL)
                self._tones[step.line] = (frequency_hz, math.nan, amplitude)
            case _:
                pass

    def _play(self, piece: Straight) -> None:
        segment, now = piece.segment(self._tones), self._now_ps
        for pulse in segment.pulses:
            tone = (pulse.frequency_hz, pulse.phase_turns, pulse.amplitude)
            begin = now + pulse.start_ps
            toned = self._lines[pulse.line].kind == "tone"
            span = Span(begin, begin + pulse.duration_ps, tone if toned else None)
            self.spans.setdefault(pulse.line, []).append(span)
        for gate in segment.gates:
            begin = now + gate.start_ps
            self.spans.setdefault(gate.line, []).append(Span(begin, begin + gate.duration_ps))
        piece.after(self._tones)
        self._now_ps += segment.duration_ps
