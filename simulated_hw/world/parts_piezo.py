"""A piezo actuator on a high-voltage amplifier: it follows its voltage, and creeps."""

from __future__ import annotations

import math


class Piezo:
    """A stack whose length follows the voltage on it; brought up to date by ``advance(now)``.

    travel_m_per_v:  how far it goes for each volt, m/V
    charging_s:      time constant of amplifier and stack, s
    creep:           part of a move that follows slowly
    creep_s:         how slowly, s
    """

    def __init__(
        self,
        *,
        travel_m_per_v: float = 3e-6 / 150,
        charging_s: float = 0.01,
        creep: float = 0.02,
        creep_s: float = 30.0,
    ) -> None:
        self.travel_m_per_v = travel_m_per_v
        self.charging_s = charging_s
        self.creep = creep
        self.creep_s = creep_s
        self.setpoint_v = 0.0
        """What the controller wants."""
        self.voltage_v = 0.0
        """What is on the stack."""
        self._followed_v = 0.0
        self._now = 0.0

    def advance(self, now_s: float) -> None:
        """Charge and creep up to ``now_s``."""
        step = now_s - self._now
        if step > 0:
            self._now = now_s
            self.voltage_v = self.setpoint_v + (self.voltage_v - self.setpoint_v) * math.exp(
                -step / self.charging_s
            )
            self._followed_v = self.voltage_v + (self._followed_v - self.voltage_v) * math.exp(
                -step / self.creep_s
            )

    def length_m(self) -> float:
        """Extension, m: zero without voltage."""
        return self.travel_m_per_v * ((1 - self.creep) * self.voltage_v + self.creep * self._followed_v)
