"""The mains: one sine for the whole laboratory, and the comparators that show its zero crossings to the core."""

from __future__ import annotations

import math
from dataclasses import dataclass

LINES = ("alice.mains", "bob.mains")
"""Trigger inputs that are high while the mains voltage is positive."""


@dataclass(frozen=True)
class Mains:
    """Voltage ~ sin(2 pi (frequency_hz t + start_turns)), t in seconds since the world began."""

    frequency_hz: float
    start_turns: float

    def phase_turns(self, time_s: float) -> float:
        """Phase at a laboratory time, turns since the zero crossing from below before it: 0 to 1."""
        return (self.frequency_hz * time_s + self.start_turns) % 1.0

    def next_edge_ps(self, after_ps: int) -> int:
        """The next zero crossing from below, later than a laboratory time."""
        turn = math.floor(self.frequency_hz * after_ps / 1e12 + self.start_turns)
        while (edge := self._crossing_ps(turn)) <= after_ps:
            turn += 1
        return edge

    def _crossing_ps(self, turn: int) -> int:
        return round((turn - self.start_turns) / self.frequency_hz * 1e12)
