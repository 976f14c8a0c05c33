"""The physical things that simulated instruments drive: laser heads, heated bodies, RF channels, detectors, power sensors.

A part knows its own physics and nothing of protocols; a simulated instrument knows a protocol and holds parts. Times
are the world's clock in seconds; a part is brought up to date by ``advance(now)``, which every reader calls.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class Laser:
    """A diode laser head: current, piezo and temperature tune it; a lock holds it on its reference line.

    frequency offset = current, piezo and temperature tuning from the nominal point + slow drift (random walk that a
    free-running laser does); while locked only the lock's residual is left.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        wavelength_m: float,
        power_w: float,
        nominal_current_a: float,
        threshold_current_a: float,
        largest_current_a: float,
        nominal_piezo_v: float = 70.0,
        nominal_temperature_k: float = 294.15,
        current_tuning_hz_per_a: float = 2e12,
        piezo_tuning_hz_per_v: float = 3e8,
        temperature_tuning_hz_per_k: float = -25e9,
        drift_hz_per_sqrt_s: float = 2e5,
        locked_linewidth_hz: float = 1e3,
        capture_range_hz: float = 500e6,
        lock_time_s: float = 0.8,
    ) -> None:
        self._rng = rng
        self.wavelength_m = wavelength_m
        self.nominal_power_w = power_w
        self.nominal_current_a = nominal_current_a
        self.threshold_current_a = threshold_current_a
        self.largest_current_a = largest_current_a
        self.nominal_piezo_v = nominal_piezo_v
        self.nominal_temperature_k = nominal_temperature_k
        self.current_tuning_hz_per_a = current_tuning_hz_per_a
        self.piezo_tuning_hz_per_v = piezo_tuning_hz_per_v
        self.temperature_tuning_hz_per_k = temperature_tuning_hz_per_k
        self.drift_hz_per_sqrt_s = drift_hz_per_sqrt_s
        self.locked_linewidth_hz = locked_linewidth_hz
        self.capture_range_hz = capture_range_hz
        self.lock_time_s = lock_time_s
        # what an operator sets
        self.emission = False
        self.current_a = nominal_current_a
        self.piezo_v = nominal_piezo_v
        self.temperature_k = nominal_temperature_k
        self.lock_enabled = False
        # what happens
        self.locked = False
        self._drift_hz = 0.0
        self._now = 0.0
        self._locking_since: float | None = None

    def advance(self, now_s: float) -> None:
        """Drift and lock up to ``now_s``."""
        step = now_s - self._now
        if step > 0:
            self._drift_hz += self._rng.normal() * self.drift_hz_per_sqrt_s * math.sqrt(step)
            self._now = now_s
        lasing = self.emission and self.current_a > self.threshold_current_a
        if not (self.lock_enabled and lasing):
            self.locked, self._locking_since = False, None
        elif not self.locked:
            if self._locking_since is None:
                self._locking_since = now_s
            elif now_s - self._locking_since >= self.lock_time_s:
                self.locked = abs(self.free_running_offset_hz()) <= self.capture_range_hz
                self._locking_since = None if self.locked else now_s

    def unlock(self) -> None:
        """Lose the lock, as when somebody drops a spanner: the laser jumps and the servo is off until engaged again."""
        self.locked, self.lock_enabled, self._locking_since = False, False, None
        self._drift_hz += self._rng.choice((-1.0, 1.0)) * 150e6

    def mode_hop(self, hop_hz: float = 3e9) -> None:
        """Jump to another mode of the cavity: the lock stays engaged, but its line is out of reach until tuned back."""
        self.locked, self._locking_since = False, None
        self._drift_hz += self._rng.choice((-1.0, 1.0)) * hop_hz

    def free_running_offset_hz(self) -> float:
        """Where the laser would be without its lock, Hz from its line."""
        return (
            (self.current_a - self.nominal_current_a) * self.current_tuning_hz_per_a
            + (self.piezo_v - self.nominal_piezo_v) * self.piezo_tuning_hz_per_v
            + (self.temperature_k - self.nominal_temperature_k) * self.temperature_tuning_hz_per_k
            + self._drift_hz
        )

    def detuning_hz(self) -> float:
        """Distance from the line it serves, Hz: zero while locked, within the linewidth."""
        return 0.0 if self.locked else self.free_running_offset_hz()

    def steady(self) -> bool:
        """Whether it stays as it is until somebody touches it: locked, or dark."""
        return self.locked or not self.emission or self.current_a <= self.threshold_current_a

    def power_w(self) -> float:
        """Optical power: zero below threshold, then linear in the current, nominal at the nominal current."""
        if not self.emission:
            return 0.0
        above = (self.current_a - self.threshold_current_a) / (
            self.nominal_current_a - self.threshold_current_a
        )
        return self.nominal_power_w * max(0.0, above)


class HeatedBody:
    """A temperature-controlled body (PPLN oven, etalon): follows its controller with one time constant.

    A controller that is off lets it go to the room's temperature.
    """

    def __init__(
        self,
        *,
        room_k: float = 294.15,
        time_constant_s: float = 6.0,
        lowest_k: float = 283.15,
        highest_k: float = 473.15,
        noise_k: float = 5e-4,
    ) -> None:
        self.room_k = room_k
        self.time_constant_s = time_constant_s
        self.lowest_k = lowest_k
        self.highest_k = highest_k
        self.noise_k = noise_k
        self.enabled = False
        self.setpoint_k = room_k
        self.temperature_k = room_k
        self._now = 0.0

    def advance(self, now_s: float) -> None:
        """Relax towards the setpoint (or the room)."""
        step = now_s - self._now
        if step > 0:
            target = self.setpoint_k if self.enabled else self.room_k
            self.temperature_k = target + (self.temperature_k - target) * math.exp(
                -step / self.time_constant_s
            )
            self._now = now_s

    def steady(self) -> bool:
        """Whether it has come to where it goes, within its noise."""
        return abs(self.temperature_k - (self.setpoint_k if self.enabled else self.room_k)) < self.noise_k

    def drive_a(self) -> float:
        """Current of the controller, A: proportional to the distance from the room plus what moves it."""
        return (
            (0.02 * (self.temperature_k - self.room_k) + 0.1 * (self.setpoint_k - self.temperature_k))
            if self.enabled
            else 0.0
        )


@dataclass
class RfChannel:
    """One RF output that drives an AOM. ``nominal_dbm`` is the power of full diffraction."""

    frequency_hz: float = 80e6
    power_dbm: float = -50.0
    phase_turns: float = 0.0
    signal_on: bool = False
    amplifier_on: bool = False
    nominal_frequency_hz: float = 80e6
    nominal_dbm: float = 30.0
    bandwidth_hz: float = 20e6
    limit_dbm: float = 34.0

    def relative_power(self) -> float:
        """Diffracted power relative to the nominal point, 0 to 1: sin² of the acoustic amplitude times the AOM's band."""
        if not (self.signal_on and self.amplifier_on):
            return 0.0
        return _diffracted(
            self.power_dbm - self.nominal_dbm,
            (self.frequency_hz - self.nominal_frequency_hz) / self.bandwidth_hz,
        )


@functools.lru_cache(maxsize=256)
def _diffracted(level_db: float, detuning: float) -> float:
    """Diffracted power for an RF power relative to full diffraction and a frequency in bandwidths from the centre."""
    amplitude = 10 ** (level_db / 20)
    band = math.exp(-4 * math.log(2) * detuning**2)
    return math.sin(math.pi / 2 * min(amplitude, 2.0)) ** 2 * band


@dataclass
class PowerSensor:
    """A photodiode power sensor somewhere in the light path."""

    incident_w: Callable[[], float]
    """Asks the world for the light on it now."""
    calibrated_wavelength_m: float = 1550e-9
    shortest_m: float = 400e-9
    longest_m: float = 1700e-9
    noise_w: float = 5e-11


@dataclass
class Nanowire:
    """One superconducting nanowire detector channel: bias, comparator level, and its counts."""

    bias_a: float = 0.0
    trigger_v: float = 0.0
    enabled: bool = False
    nominal_bias_a: float = 20e-6
    critical_bias_a: float = 25e-6
    nominal_trigger_v: float = 0.1
    peak_efficiency: float = 0.85
    dark_rate_hz: float = 1.0
    latched: bool = False

    def efficiency(self) -> float:
        """Detection efficiency at this bias: a saturating plateau below the critical current, none above it or when off."""
        if (
            not self.enabled
            or self.latched
            or not 0 < self.bias_a < self.critical_bias_a
            or not 0 < self.trigger_v < 3 * self.nominal_trigger_v
        ):
            return 0.0
        return (
            self.peak_efficiency
            / (1 + math.exp(-(self.bias_a / self.nominal_bias_a - 0.8) / 0.02))
            / (1 / (1 + math.exp(-0.2 / 0.02)))
        )

    def dark_hz(self) -> float:
        """Dark counts per second: exponential in the bias, nominal at the nominal bias."""
        if not self.enabled or self.latched or self.bias_a <= 0:
            return 0.0
        return self.dark_rate_hz * math.exp((self.bias_a / self.nominal_bias_a - 1) / 0.05)


class Tagger:
    """The time tagger's view of the detectors: counts per input since the start, and the tags kept around events.

    ``counts()`` gives, for each input, all clicks since the world began; ``tags`` are (time_ps, input) of the clicks the
    core recorded, oldest first, bounded.
    """

    def __init__(self, inputs: int, counts: Callable[[], list[int]], most_tags: int = 60_000) -> None:
        self.inputs = inputs
        self.counts = counts
        self.most_tags = most_tags
        self._tags: list[tuple[int, int]] = []
        self._fresh: deque[tuple[NDArray[np.int64], NDArray[np.int64]]] = deque()
        self._fresh_tags = 0

    @property
    def tags(self) -> list[tuple[int, int]]:
        """All tags kept, oldest first."""
        if self._fresh:
            times = np.concatenate([chunk[0] for chunk in self._fresh])
            channels = np.concatenate([chunk[1] for chunk in self._fresh])
            order = np.argsort(times, kind="stable")
            self._tags.extend(zip(times[order].tolist(), channels[order].tolist(), strict=True))
            self._fresh.clear()
            self._fresh_tags = 0
            if len(self._tags) > self.most_tags:
                del self._tags[: len(self._tags) - self.most_tags // 2]
        return self._tags

    def between(self, since_ps: int, until_ps: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Times and channels of the tags kept in a stretch of time, in order of time."""
        times: list[NDArray[np.int64]] = []
        channels: list[NDArray[np.int64]] = []
        for chunk, channel in reversed(self._fresh):  # chunks follow one another; within one any order goes
            inside = (chunk >= since_ps) & (chunk < until_ps)
            times.append(chunk[inside])
            channels.append(channel[inside])
            if len(chunk) and chunk.max() < since_ps:
                break
        else:
            older = list(itertools.takewhile(lambda tag: tag[0] >= since_ps, reversed(self._tags)))
            times.append(np.array([time for time, _ in older], np.int64))
            channels.append(np.array([channel for _, channel in older], np.int64))
        found, where = np.concatenate(times), np.concatenate(channels)
        order = np.argsort(found, kind="stable")
        order = order[found[order] < until_ps]
        return found[order], where[order]

    def record(self, time_ps: int, channel: int) -> None:
        """Keep one tag; the oldest go when the memory is full."""
        self.record_many(np.array([time_ps], np.int64), np.array([channel], np.int64))

    def record_many(self, times_ps: NDArray[np.int64], channels: NDArray[np.int64]) -> None:
        """Keep many tags at once, in any order of time within what has not been read yet."""
        self._fresh.append((times_ps, channels))
        self._fresh_tags += len(times_ps)
        if self._fresh_tags > self.most_tags:  # nobody reads: forget without sorting
            self._tags.clear()
            while self._fresh_tags > self.most_tags // 2 and len(self._fresh) > 1:
                self._fresh_tags -= len(self._fresh.popleft()[0])
