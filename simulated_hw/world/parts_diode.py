"""A bare laser diode on a mount: what its current, its temperature and its monitor photodiode have to do with each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

LIGHT_M_S = 299792458.0
REFERENCE_K = 298.15


@dataclass
class LaserDiode:
    """A laser diode with a monitor photodiode, and the interlock of its driver.

    current_a, on:       what the driver sends through it; no current flows while ``on`` is false
    temperature_k:       of its mount; whoever controls the temperature writes it here
    interlock_closed:    the driver's safety loop
    connected:           false when its cable has come off
    """

    wavelength_m: float = 852.347e-9
    threshold_a: float = 0.030
    slope_w_a: float = 0.8
    threshold_rise_k: float = 60.0
    """The threshold grows by e in this many kelvin."""
    forward_v: float = 1.5
    series_ohm: float = 3.0
    monitor_a_w: float = 0.02
    current_tuning_hz_a: float = -1.0e12
    temperature_tuning_hz_k: float = -25e9
    nominal_a: float = 0.080
    current_a: float = 0.0
    on: bool = False
    temperature_k: float = REFERENCE_K
    interlock_closed: bool = True
    connected: bool = True

    def flowing_a(self) -> float:
        """Current through the diode, A."""
        return self.current_a if self.on and self.connected else 0.0

    def voltage_v(self) -> float:
        """Voltage across the driver's terminals, V; an open circuit drives it to the driver's end, taken as 12 V."""
        if self.on and not self.connected:
            return 12.0
        current_a = self.flowing_a()
        return self.forward_v + self.series_ohm * current_a if current_a > 0 else 0.0

    def threshold_now_a(self) -> float:
        """Threshold at this temperature, A."""
        return self.threshold_a * math.exp((self.temperature_k - REFERENCE_K) / self.threshold_rise_k)

    def power_w(self) -> float:
        """Light out, W: nothing below threshold, then linear."""
        return self.slope_w_a * max(0.0, self.flowing_a() - self.threshold_now_a())

    def monitor_a(self) -> float:
        """Photodiode current, A."""
        return self.monitor_a_w * self.power_w()

    def current_for_monitor_a(self, monitor_a: float) -> float:
        """Diode current at which the photodiode gives ``monitor_a``, A."""
        return self.threshold_now_a() + monitor_a / (self.monitor_a_w * self.slope_w_a)

    def frequency_hz(self) -> float | None:
        """Optical frequency, Hz; None while it gives no light. Its nominal wavelength is at 80 mA and 25 degC."""
        if self.power_w() <= 0:
            return None
        return (
            LIGHT_M_S / self.wavelength_m
            + (self.flowing_a() - self.nominal_a) * self.current_tuning_hz_a
            + (self.temperature_k - REFERENCE_K) * self.temperature_tuning_hz_k
        )
