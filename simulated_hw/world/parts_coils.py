"""Coils that make the magnetic field, each on its own channel of a current supply."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class CoilChannel:
    """One channel of a supply with the coil it feeds.

    set_v, limit_a, on:  what the supply's front panel says: voltage, current limit, output
    tesla_per_a:         field at the atom per ampere, along the coil's axis
    """

    resistance_ohm: float = 2.0
    inductance_h: float = 2e-3
    tesla_per_a: float = 1.2e-4
    largest_w: float = 160.0
    """More than this the channel does not give, whatever is set."""
    set_v: float = 0.0
    limit_a: float = 0.1
    on: bool = False
    connected: bool = True
    flowing_a: float = 0.0
    _now: float = 0.0

    def advance(self, now_s: float) -> None:
        """Let the current come to its end value with the coil's L/R."""
        step = now_s - self._now
        if step > 0:
            self._now = now_s
            end_a = self.end_a()
            rest = math.exp(-step * self.resistance_ohm / self.inductance_h)
            self.flowing_a = end_a + (self.flowing_a - end_a) * rest
        if not self.connected:
            self.flowing_a = 0.0

    def steady(self) -> bool:
        """Whether the current has come to its end value, to 10 nA (3 Hz of a qubit line)."""
        return abs(self.flowing_a - self.end_a()) < 1e-8

    def end_a(self) -> float:
        """The current it settles at, A: voltage through the resistance, up to the limits of current and power."""
        if not (self.on and self.connected):
            return 0.0
        return min(
            self.set_v / self.resistance_ohm, self.limit_a, math.sqrt(self.largest_w / self.resistance_ohm)
        )

    def voltage_v(self) -> float:
        """Voltage at the terminals once settled, V."""
        if self.on and not self.connected:
            return self.set_v
        return self.end_a() * self.resistance_ohm

    def field_t(self) -> float:
        """Field at the atom, T."""
        return self.tesla_per_a * self.flowing_a
