"""One laser head of a simulated DLC pro: what its drivers, scan and lock do to a laser of the world."""

from __future__ import annotations

import math

import numpy as np

from labctl.units import ZERO_CELSIUS_K
from simulated_hw.decop import BAD_VALUE, NOT_FOUND, DecopError
from simulated_hw.world.parts import Laser

IDLE, SCANNING, LOCKING, LOCKED, HOLD, RELOCKING = 0, 1, 4, 5, 6, 9
STATE_TEXTS = {
    IDLE: "Idle",
    SCANNING: "Scanning",
    LOCKING: "Locking",
    LOCKED: "Locked",
    HOLD: "Hold",
    RELOCKING: "Relocking",
}
PIEZO_OUTPUT = 50
"""Number of the piezo in ``scan:output-channel``."""


class Head:
    """One laser head: what its drivers and its lock do to the laser of the world."""

    def __init__(self, laser: Laser, index: int, rng: np.random.Generator | None) -> None:
        self.laser = laser
        self.index = index
        self._rng = rng
        self.enabled = True
        self.driver_on = laser.emission
        self.largest_ma = laser.largest_current_a * 1e3
        self.piezo_low_v, self.piezo_high_v = -1.0, 140.0
        self.temperature_set_k = laser.temperature_k
        self.temperature_time_constant_s = 5.0
        self.feedforward = True
        self.feedforward_ma_per_v = 0.0
        self.scanning = False
        self.scan_hz, self.scan_v, self.scan_output = 10.0, 10.0, PIEZO_OUTPUT
        self.hold = False
        self._centre_v = laser.piezo_v
        self._was_locked = False
        self._now = 0.0

    def advance(self, now_s: float, allowed: bool) -> None:
        """Bring the laser up to ``now_s``; ``allowed`` is what interlock, key and button say."""
        laser = self.laser
        step = max(0.0, now_s - self._now)
        self._now = now_s
        away_k = laser.temperature_k - self.temperature_set_k
        laser.temperature_k = self.temperature_set_k + away_k * math.exp(
            -step / self.temperature_time_constant_s
        )
        laser.emission = allowed and self.enabled and self.driver_on
        if self.scanning and self.scan_output == PIEZO_OUTPUT and not laser.lock_enabled:
            turn = (now_s * self.scan_hz) % 1.0
            laser.piezo_v = self._within(self._centre_v + self.scan_v * (2 * abs(turn - 0.5) - 0.5))
        laser.advance(now_s)
        self._was_locked = laser.locked or (self._was_locked and laser.lock_enabled)

    def lock_state(self) -> int:
        """Number of the lock's state."""
        laser = self.laser
        if laser.locked:
            return HOLD if self.hold else LOCKED
        if laser.lock_enabled and laser.emission:
            return RELOCKING if self._was_locked else LOCKING
        return SCANNING if self.scanning else IDLE

    def set_lock(self, enabled: bool) -> int:
        """Engage or release the lock."""
        self.laser.lock_enabled = enabled
        self.laser.advance(self._now)
        self._was_locked = self._was_locked and enabled
        return 0

    def close_lock(self) -> list[str]:
        """The command lock:close: needs light to find its lock point."""
        if not self.laser.emission:
            raise DecopError(NOT_FOUND, "lockpoint not found")
        self.set_lock(True)
        return ["()"]

    def open_lock(self) -> list[str]:
        """The command lock:open."""
        self.set_lock(False)
        return ["()"]

    def set_current(self, current_ma: float) -> int:
        """Laser current; refused outside zero to the clip."""
        if not 0 <= current_ma <= self.largest_ma:
            return BAD_VALUE
        self.laser.current_a = current_ma * 1e-3
        return 0

    def current_act_ma(self) -> float:
        """Measured current: zero while the driver is off."""
        return self.laser.current_a * 1e3 + self._noise(0.01) if self.laser.emission else 0.0

    def piezo_set_v(self) -> float:
        """Piezo setpoint: the centre while scanning."""
        return self._centre_v if self.scanning else self.laser.piezo_v

    def set_piezo(self, voltage_v: float) -> int:
        """Piezo setpoint; feedforward takes the current along."""
        if not self.piezo_low_v <= voltage_v <= self.piezo_high_v:
            return BAD_VALUE
        if self.feedforward:
            change_ma = self.feedforward_ma_per_v * (voltage_v - self.piezo_set_v())
            current_ma = min(max(self.laser.current_a * 1e3 + change_ma, 0.0), self.largest_ma)
            self.laser.current_a = current_ma * 1e-3
        self._centre_v = self.laser.piezo_v = voltage_v
        return 0

    def piezo_act_v(self) -> float:
        """Measured piezo voltage: while locked, the servo holds the drift back with it."""
        voltage_v = self.laser.piezo_v
        if self.laser.locked:
            voltage_v -= self.laser.free_running_offset_hz() / self.laser.piezo_tuning_hz_per_v
        return self._within(voltage_v) + self._noise(0.002)

    def temperature_act_c(self) -> float:
        """Measured temperature, degC."""
        return self.laser.temperature_k - ZERO_CELSIUS_K + self._noise(2e-4)

    def set_scan(self, on: bool) -> int:
        """Start or stop the scan; a stopped scan leaves the piezo at its centre."""
        if on and not self.scanning:
            self._centre_v = self.laser.piezo_v
        elif self.scanning and not on:
            self.laser.piezo_v = self._centre_v
        self.scanning = on
        return 0

    def set_scan_ends(self, low_v: float, high_v: float) -> int:
        """Scan between two voltages."""
        if low_v > high_v or self.set_piezo((low_v + high_v) / 2) != 0:
            return BAD_VALUE
        self.scan_v = high_v - low_v
        return 0

    def _within(self, voltage_v: float) -> float:
        return min(max(voltage_v, self.piezo_low_v), self.piezo_high_v)

    def _noise(self, deviation: float) -> float:
        return 0.0 if self._rng is None else self._rng.normal(0.0, deviation)
