"""The seed laser of a frequency converter's pump: power and wavelength that follow their setpoints."""

from __future__ import annotations

import math

SPEED_OF_LIGHT_M_PER_S = 299_792_458.0


class PumpSeed:
    """A fibre laser with a power loop and thermal tuning; brought up to date by ``advance(now)``.

    wavelength_m:     vacuum wavelength at zero offset, m
    highest_power_w:  most the module can give, W
    tuning_range_m:   largest offset either way, m
    """

    def __init__(
        self,
        *,
        wavelength_m: float = 1054e-9,
        highest_power_w: float = 0.040,
        tuning_range_m: float = 400e-12,
        room_k: float = 294.15,
        power_time_s: float = 0.1,
        tuning_time_s: float = 1.5,
        warming_time_s: float = 60.0,
        warming_k: float = 9.0,
        supply_v: float = 12.0,
        power_noise: float = 5e-4,
    ) -> None:
        self.wavelength_m = wavelength_m
        self.highest_power_w = highest_power_w
        self.tuning_range_m = tuning_range_m
        self.room_k = room_k
        self.power_time_s = power_time_s
        self.tuning_time_s = tuning_time_s
        self.warming_time_s = warming_time_s
        self.warming_k = warming_k
        self.supply_v = supply_v
        self.power_noise = power_noise
        """Relative noise of a power reading."""
        # what an operator sets
        self.emission = False
        self.power_setpoint_w = 0.0
        self.offset_setpoint_m = 0.0
        self.interlock_closed = True
        # what follows
        self.offset_m = 0.0
        self.temperature_k = room_k
        self._power_w = 0.0
        self._now = 0.0

    def advance(self, now_s: float) -> None:
        """Let power, tuning and temperature follow up to ``now_s``."""
        step = now_s - self._now
        if step > 0:
            self._now = now_s
            on = self.emitting()
            self._power_w = _towards(
                self._power_w, self.power_setpoint_w if on else 0.0, step / self.power_time_s
            )
            self.offset_m = _towards(self.offset_m, self.offset_setpoint_m, step / self.tuning_time_s)
            warm_k = self.room_k + (self.warming_k if on else 0.0)
            self.temperature_k = _towards(self.temperature_k, warm_k, step / self.warming_time_s)

    def switch_on(self, power_w: float) -> None:
        """Emission on, warmed up, at this power."""
        self.emission = True
        self.power_setpoint_w = self._power_w = power_w
        self.temperature_k = self.room_k + self.warming_k

    def steady(self) -> bool:
        """Whether power and tuning have come to where they go: to 1e-4 of the power, to 1e-17 m (3 kHz)."""
        aim_w = self.power_setpoint_w if self.emitting() else 0.0
        return (
            abs(self._power_w - aim_w) <= 1e-4 * self.highest_power_w
            and abs(self.offset_m - self.offset_setpoint_m) <= 1e-17
        )

    def emitting(self) -> bool:
        """Whether light may come out."""
        return self.emission and self.interlock_closed

    def power_w(self) -> float:
        """Output power, W; none at once when emission or interlock goes."""
        return self._power_w if self.emitting() else 0.0

    def frequency_hz(self) -> float:
        """Optical frequency, Hz."""
        return SPEED_OF_LIGHT_M_PER_S / (self.wavelength_m + self.offset_m)


def _towards(value: float, target: float, time_constants: float) -> float:
    """Where a first-order lag has come to."""
    return target + (value - target) * math.exp(-time_constants)
