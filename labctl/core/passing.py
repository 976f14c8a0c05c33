"""Clicks of an attempt loop that end nothing: where they leave nothing behind, attempts with them are counted and not played."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from labctl.sim.played import Odds


def split(
    odds: Odds, outcome: Callable[[str], str], again: str
) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """The patterns whose attempts are played one by one, with their chances; and those that pass.

    Patterns that end nothing (outcome ``again``) pass: of two photons mostly one is lost. Their chances are those in an
    attempt that does not end the loop.
    """
    goes_on = {pattern: p for pattern, p in odds.patterns.items() if outcome(pattern) == again}
    ends = {pattern: p for pattern, p in odds.patterns.items() if pattern not in goes_on}
    left = 1 - math.fsum(ends.values())
    if left <= 0:
        return ends, {}
    return ends, {pattern: p / left for pattern, p in goes_on.items()}
