"""Processes that wander: the optical phase between the arms, and slow or fast noise of a line or a coupling."""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from simulated_hw.world.parameters import Qubit

PS_PER_S = 1e12
SLOW_STEP_PS = 10_000_000_000
"""The slow drift of a line is followed in steps of 10 ms at least."""
KEPT = 4096
"""Points of the walk kept for questions about the past."""


class PhaseWalk:
    """φ(t) of the interferometer, rad: a random walk of variance D t on a constant ramp, sampled where it is asked.

    Questions may come in any order of time: between known points the walk is a Brownian bridge.
    """

    def __init__(self, rng: np.random.Generator, diffusion_rad2_per_s: float, ramp_rad_per_s: float) -> None:
        self._rng = rng
        self._diffusion = diffusion_rad2_per_s / PS_PER_S
        self._ramp = ramp_rad_per_s / PS_PER_S
        self._times: list[int] = [0]
        self._walk: list[float] = [float(rng.uniform(0, 2 * math.pi))]

    def at(self, time_ps: int) -> float:
        """Phase at ``time_ps``, rad."""
        times, walk = self._times, self._walk
        place = bisect_left(times, time_ps)
        if place < len(times) and times[place] == time_ps:
            return walk[place] + self._ramp * time_ps
        if place == len(times) or place == 0:
            near = place - 1 if place else 0
            value = walk[near] + self._step(abs(time_ps - times[near]))
        else:
            before, after = time_ps - times[place - 1], times[place] - time_ps
            share = before / (before + after)
            mean = walk[place - 1] + share * (walk[place] - walk[place - 1])
            value = mean + self._step(before * after / (before + after))
        times.insert(place, time_ps)
        walk.insert(place, value)
        self._forget()
        return value + self._ramp * time_ps

    def at_many(self, times_ps: NDArray[np.int64]) -> NDArray[np.float64]:
        """Phases at rising times, rad; one pass when they all lie ahead of what is known."""
        if len(times_ps) == 0:
            return np.zeros(0)
        if times_ps[0] < self._times[-1]:
            return np.array([self.at(int(t)) for t in times_ps])
        steps = np.diff(times_ps, prepend=self._times[-1])
        noise = self._rng.standard_normal(len(times_ps)) * np.sqrt(self._diffusion * steps)
        walk = self._walk[-1] + np.cumsum(noise)
        fresh = int(steps[0] == 0)
        self._times.extend(times_ps[fresh:].tolist())
        self._walk.extend(walk[fresh:].tolist())
        self._forget()
        return walk + self._ramp * times_ps

    def mean_cosine(self, start_ps: int, duration_ps: int, bias_rad: float) -> float:
        """Expected mean of cos(φ + bias) over a stretch of time from ``start_ps`` on, given φ at its start."""
        exponent = complex(-self._diffusion / 2 * duration_ps, self._ramp * duration_ps)
        mean = 1.0 if abs(exponent) < 1e-9 else (np.exp(exponent) - 1) / exponent
        return float((np.exp(1j * (self.at(start_ps) + bias_rad)) * mean).real)

    def _step(self, span_ps: float) -> float:
        return float(self._rng.standard_normal()) * math.sqrt(self._diffusion * span_ps)

    def _forget(self) -> None:
        if len(self._times) > KEPT:
            del self._times[: -KEPT // 2], self._walk[: -KEPT // 2]


class LineNoise:
    """Frequency of a node's qubit line: fast Ornstein-Uhlenbeck noise on a slow drift."""

    def __init__(self, rng: np.random.Generator, qubit: Qubit) -> None:
        self._fast = Wander(rng, qubit.line_noise_hz, qubit.line_noise_time_s)
        self._slow = Wander(rng, qubit.line_drift_hz, qubit.line_drift_time_s, 0.0)
        self._time_ps = self._slow_ps = 0

    def offset_hz(self) -> float:
        """Offset from nominal when it was last asked for, Hz."""
        return self._fast.x + self._slow.x

    def cycles(self, start_ps: int, span_ps: int) -> float:
        """∫ offset dt over a stretch of time, in cycles; stretches come in order of time."""
        if start_ps - self._slow_ps > SLOW_STEP_PS:
            self._slow.step((start_ps - self._slow_ps) / PS_PER_S)
            self._slow_ps = start_ps
        if start_ps > self._time_ps:
            self._fast.step((start_ps - self._time_ps) / PS_PER_S)
        self._time_ps = start_ps + span_ps
        span_s = span_ps / PS_PER_S
        return self._fast.advance(span_s) + self._slow.x * span_s


class Wander:
    """Ornstein-Uhlenbeck noise x(t) with rms ``sigma`` and correlation time ``time_s``, and its integral."""

    def __init__(
        self, rng: np.random.Generator, sigma: float, time_s: float, start: float | None = None
    ) -> None:
        self._rng = rng
        self.sigma = sigma
        self.time_s = time_s
        self.x = float(rng.standard_normal()) * sigma if start is None else start

    def step(self, span_s: float) -> None:
        """Go on by ``span_s``."""
        u = span_s / self.time_s
        spread = self.sigma * math.sqrt(-math.expm1(-2 * u))
        self.x = self.x * math.exp(-u) + spread * float(self._rng.standard_normal())

    def advance(self, span_s: float) -> float:
        """Go on by ``span_s`` and return ∫ x dt over it; exact for any span."""
        if span_s <= 0:
            return 0.0
        first, second = self._rng.standard_normal(2).tolist()
        u = span_s / self.time_s
        left = math.exp(-u)
        lost = -math.expm1(-u)
        scale = self.sigma * self.time_s
        spread_x = self.sigma * math.sqrt(-math.expm1(-2 * u))
        variance = scale**2 * (2 * u**3 / 3 * (1 - 0.75 * u) if u < 1e-3 else 2 * u - 3 + 4 * left - left**2)
        shared = self.sigma * scale * lost**2
        integral = scale * lost * (self.x / self.sigma) if self.sigma > 0 else 0.0
        if spread_x > 0:
            along = shared / spread_x
            integral += along * first + math.sqrt(max(0.0, variance - along**2)) * second
        self.x = left * self.x + spread_x * first
        return integral
