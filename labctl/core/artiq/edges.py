"""The edges of a plan for ARTIQ, in the shape that all cores share."""

from __future__ import annotations

import math
from collections.abc import Mapping

from labctl.core.artiq.binding import FULL_AMPLITUDE, Bound, Dds
from labctl.core.artiq.course import Choices, events
from labctl.core.artiq.plan import Plan
from labctl.core.edges import Edge, Span, edges_of
from labctl.schedule.timeline import ToneState

Words = tuple[int | str, ...]


def edges(plan: Plan, bound: Mapping[str, Bound], choices: Choices) -> list[Edge]:
    """What the core does in a round with these outcomes: ``{"herald": ("psi_plus", 1), "setting": 3}``.

    Rounds with host points or line triggers have several time axes: only the first of them is given.
    """
    spans: dict[str, list[Span]] = {}
    on: dict[str, tuple[int, ToneState | None]] = {}
    words: dict[str, Words] = {
        name: channel.initial for name, channel in plan.channels.items() if channel.initial is not None
    }
    played = [one for one in events(plan, choices) if one.segment == 0]
    for one in sorted(played, key=lambda each: each.time_mu + each.event.update_after_mu):
        line, action = one.event.line, one.event.action
        channel = plan.channels[line]
        shift = channel.delay_ps if channel.kind != "input" else -channel.delay_ps
        time_ps = one.time_mu * plan.ref_period_ps + shift
        if action == "set":
            words[line] = one.event.words
        elif action in ("on", "open", "count"):
            on.setdefault(line, (time_ps, _tone(bound[line].dds, words.get(line))))
        elif action in ("off", "close", "latch"):
            begin, tone = on.pop(line)
            spans.setdefault(line, []).append(Span(begin, time_ps, tone))
    triggers = [name for name, channel in plan.channels.items() if channel.trigger_mu]
    return edges_of(spans, triggers)


def _tone(dds: Dds | None, words: Words | None) -> ToneState | None:
    """The tone of tuning words; a phase that a variable holds is not known before the round is played."""
    if dds is None or words is None:
        return None
    frequency, phase, amplitude = words
    bits = 32 if dds.is_ad9910 else 48
    return (
        int(frequency) * dds.sysclk_hz / 2**bits - dds.frequency_hz,
        math.nan if isinstance(phase, str) else phase / dds.turn,
        int(amplitude) / FULL_AMPLITUDE / dds.amplitude if dds.is_ad9910 else 1.0,
    )
