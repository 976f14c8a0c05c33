"""A vacuum chamber with its ion pump, which simulated pump controllers switch and read."""

from __future__ import annotations

import math


class VacuumChamber:
    """Gas comes off the walls at a constant rate and the pump takes it away: V dp/dt = Q - S p.

    With the pump on, the pressure goes to ``base_pressure_pa`` + ``leak_pa_per_s`` * ``time_constant_s`` with
    ``time_constant_s`` = V / S; with the pump off it rises by Q / V = base pressure / time constant each second, plus the leak.

    base_pressure_pa:     where it ends with the pump on and no leak, Pa
    time_constant_s:      volume over pumping speed (with what sticks to the walls), s
    sensitivity_a_per_pa: current of the pump at full voltage, A per Pa
    """

    def __init__(
        self,
        *,
        base_pressure_pa: float = 3e-9,
        time_constant_s: float = 20.0,
        pressure_pa: float | None = None,
        pumping: bool = True,
        sensitivity_a_per_pa: float = 0.1,
        air_pa: float = 101325.0,
    ) -> None:
        self.base_pressure_pa = base_pressure_pa
        self.time_constant_s = time_constant_s
        self.pressure_pa = base_pressure_pa if pressure_pa is None else pressure_pa
        self.sensitivity_a_per_pa = sensitivity_a_per_pa
        self.air_pa = air_pa
        # what an operator sets, and what happens to it
        self.pumping = pumping
        self.leak_pa_per_s = 0.0
        self._now = 0.0

    def advance(self, now_s: float) -> None:
        """Pump down, or fill, up to ``now_s``."""
        step = now_s - self._now
        if step <= 0:
            return
        self._now = now_s
        rise_pa_per_s = self.base_pressure_pa / self.time_constant_s + self.leak_pa_per_s
        if self.pumping:
            end_pa = rise_pa_per_s * self.time_constant_s
            self.pressure_pa = end_pa + (self.pressure_pa - end_pa) * math.exp(-step / self.time_constant_s)
        else:
            self.pressure_pa += rise_pa_per_s * step
        self.pressure_pa = min(self.pressure_pa, self.air_pa)

    def pump_current_a(self) -> float:
        """Ion current of the pump at full voltage, A; none while it is off."""
        return self.pressure_pa * self.sensitivity_a_per_pa if self.pumping else 0.0
