"""Processes that wander: the optical phase between the arms, and slow or fast noise of a line or a coupling."""

from __future__ import annotations

import cmath
import functools
import math
from bisect import bisect_left, bisect_right
from collections import deque
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

PS_PER_S = 1e12
SLOW_STEP_PS = 10_000_000_000
"""The slow drift of a line is followed in steps of 10 ms at least."""
KEPT = 4096
"""Points of the walk kept for questions about the past."""
Floats = NDArray[np.float64]
Times = NDArray[np.int64]


class Swing(NamedTuple):
    """A sinusoid in the phase: amplitude sin(2π frequency t + start)."""

    frequency_hz: float
    amplitude_rad: float
    start_rad: float


class Regime(NamedTuple):
    """How a phase moves while nobody touches anything.

    phase = ramp t + random walk (variance diffusion t) + jitter (Ornstein-Uhlenbeck, rms and correlation time) + sinusoids
    """

    diffusion_rad2_per_s: float
    ramp_rad_per_s: float = 0.0
    jitter_rad: float = 0.0
    jitter_time_s: float = 1e-5
    swings: tuple[Swing, ...] = ()

    def swung(self, time_ps: int) -> float:
        """The part that is no noise, ramp and sinusoids, rad."""
        time_s = time_ps / PS_PER_S
        return self.ramp_rad_per_s * time_s + sum(
            s.amplitude_rad * math.sin(2 * math.pi * (s.frequency_hz * time_s % 1.0) + s.start_rad)
            for s in self.swings
        )


@functools.lru_cache(maxsize=256)
def blur(regime: Regime, span_s: float) -> float:
    """Contrast that the walk leaves of a fringe over a slot of this length, relative to its middle.

    The jitter at the middle stands for that of the whole slot: the mean contrast is the same.
    """
    lost = regime.diffusion_rad2_per_s * span_s / 4
    return 1.0 if lost < 1e-12 else -math.expm1(-lost) / lost


@functools.lru_cache(maxsize=16)
def _fast_contrast(regime: Regime) -> float:
    """Contrast that a long time keeps of the jitter, exp(-rms²/2), and of the sinusoids, Bessel functions J0."""
    turn = np.sin((np.arange(256) + 0.5) / 256 * 2 * math.pi)
    swings = math.prod(float(np.mean(np.cos(s.amplitude_rad * turn))) for s in regime.swings)
    return swings * math.exp(-(regime.jitter_rad**2) / 2)


class PhaseWalk:
    """φ(t) of the interferometer, rad, sampled exactly where it is asked, however far apart.

    Questions may come in any order of time: between known points the walk is a Brownian bridge and the jitter an
    Ornstein-Uhlenbeck bridge. When the regime changes (a lock lost or found) the phase goes on from where it was.
    """

    def __init__(self, rng: np.random.Generator, regime: Regime) -> None:
        self._rng = rng
        self._regimes: list[tuple[int, Regime]] = [(0, regime)]
        self._times: list[int] = []
        self._walk: list[float] = []
        self._jitter: list[float] = []
        self._fresh: deque[tuple[Times | list[int], Floats | list[float], Floats | list[float]]] = deque()
        """Points later than those of the lists, in order: they go there when somebody asks about the past."""
        self._fresh_points = 0
        self._last = 0, float(rng.uniform(0, 2 * math.pi)), float(rng.standard_normal()) * regime.jitter_rad
        self._append([self._last[0]], [self._last[1]], [self._last[2]])

    @property
    def regime(self) -> Regime:
        """How the phase moves now."""
        return self._regimes[-1][1]

    def change(self, regime: Regime, time_ps: int) -> None:
        """From ``time_ps`` on (but not before what was asked already) the phase moves otherwise."""
        time_ps = max(time_ps, self._last[0])
        reached = self.at(time_ps)
        self._regimes.append((time_ps + 1, regime))
        self._last = time_ps + 1, reached - regime.swung(time_ps + 1), 0.0
        self._append([self._last[0]], [self._last[1]], [self._last[2]])

    def at(self, time_ps: int) -> float:
        """Phase at ``time_ps``, rad."""
        known_ps, walk, jitter = self._last
        regime = self._regime_at(time_ps)
        if time_ps > known_ps:
            walk, jitter = self._beyond(time_ps - known_ps, walk, jitter, regime)
            self._last = time_ps, walk, jitter
            self._append([time_ps], [walk], [jitter])
        elif time_ps < known_ps:
            walk, jitter = self._before(time_ps, regime)
        return walk + jitter + regime.swung(time_ps)

    def at_many(self, times_ps: Times) -> Floats:
        """Phases at rising times, rad; one pass when they all lie ahead of what is known."""
        if len(times_ps) == 0:
            return np.zeros(0)
        if times_ps[0] < self._last[0]:
            return np.array([self.at(int(t)) for t in times_ps])
        regime = self.regime
        fresh = int(times_ps[0] == self._last[0])
        normals = self._rng.standard_normal((2, len(times_ps)))
        walk, jitter, phases = _ahead(
            times_ps,
            normals,
            *self._last,
            regime.diffusion_rad2_per_s,
            regime.ramp_rad_per_s,
            regime.jitter_rad,
            regime.jitter_time_s,
            _table(regime.swings),
        )
        self._last = int(times_ps[-1]), float(walk[-1]), float(jitter[-1])
        self._append(times_ps[fresh:], walk[fresh:], jitter[fresh:])
        return phases

    def mean_cosine(self, start_ps: int, duration_ps: int, bias_rad: Floats) -> Floats:
        """Expected mean of cos(φ + bias) over a stretch of time from ``start_ps`` on, given the slow part of φ at its start.

        As many as there are biases.

        The stretch is long for jitter and sinusoids.
        """
        regime = self.regime
        phase = self.at(start_ps)
        if start_ps == self._last[0]:
            jitter = self._last[2]
        else:
            jitter = self._jitter[bisect_left(self._times, start_ps)]
        start_s, duration_s = start_ps / PS_PER_S, duration_ps / PS_PER_S
        slow = phase - jitter - regime.swung(start_ps) + regime.ramp_rad_per_s * start_s
        exponent = complex(-regime.diffusion_rad2_per_s / 2 * duration_s, regime.ramp_rad_per_s * duration_s)
        mean = 1.0 if abs(exponent) < 1e-9 else (cmath.exp(exponent) - 1) / exponent
        phasor = cmath.rect(_fast_contrast(regime), slow) * mean
        return phasor.real * np.cos(bias_rad) - phasor.imag * np.sin(bias_rad)

    def _regime_at(self, time_ps: int) -> Regime:
        if time_ps >= self._regimes[-1][0]:
            return self._regimes[-1][1]
        return self._regimes[max(0, bisect_right(self._regimes, time_ps, key=lambda r: r[0]) - 1)][1]

    def _append(
        self, times: Times | list[int], walk: Floats | list[float], jitter: Floats | list[float]
    ) -> None:
        """Later points; the oldest are forgotten."""
        self._fresh.append((times, walk, jitter))
        self._fresh_points += len(times)
        while self._fresh_points - len(self._fresh[0][0]) > KEPT // 2:
            self._times, self._walk, self._jitter = [], [], []
            self._fresh_points -= len(self._fresh.popleft()[0])
        while len(self._regimes) > 1 and self._regimes[1][0] <= int(self._fresh[0][0][0]) and not self._times:
            del self._regimes[0]

    def _before(self, time_ps: int, regime: Regime) -> tuple[float, float]:
        """Walk and jitter at a time before the last known one."""
        for points, place in ((self._times, 0), (self._walk, 1), (self._jitter, 2)):
            for chunk in self._fresh:
                points.extend(np.asarray(chunk[place]).tolist())  # type: ignore[arg-type]
        self._fresh.clear()
        self._fresh_points = 0
        place = bisect_left(self._times, time_ps)
        if self._times[place] == time_ps:
            return self._walk[place], self._jitter[place]
        if place == 0:
            span_ps = self._times[0] - time_ps
            walk, jitter = self._beyond(span_ps, self._walk[0], self._jitter[0], regime)
        else:
            walk, jitter = self._between(place, time_ps, regime)
        self._times.insert(place, time_ps)
        self._walk.insert(place, walk)
        self._jitter.insert(place, jitter)
        if len(self._times) > KEPT:
            for points in (self._times, self._walk, self._jitter):
                del points[: -KEPT // 2]
        return walk, jitter

    def _beyond(self, span_ps: int, walk: float, jitter: float, regime: Regime) -> tuple[float, float]:
        """Walk and jitter so far away from a point at the end of what is known."""
        span_s = span_ps / PS_PER_S
        first, second = self._rng.standard_normal(2).tolist()
        left = math.exp(-span_s / regime.jitter_time_s)
        return (
            walk + first * math.sqrt(regime.diffusion_rad2_per_s * span_s),
            jitter * left + second * regime.jitter_rad * math.sqrt(1 - left**2),
        )

    def _between(self, place: int, time_ps: int, regime: Regime) -> tuple[float, float]:
        """Walk and jitter between two known points: Brownian bridge and Ornstein-Uhlenbeck bridge."""
        before = (time_ps - self._times[place - 1]) / PS_PER_S
        after = (self._times[place] - time_ps) / PS_PER_S
        first, second = self._rng.standard_normal(2).tolist()
        share = before / (before + after)
        walk = self._walk[place - 1] + share * (self._walk[place] - self._walk[place - 1])
        walk += first * math.sqrt(regime.diffusion_rad2_per_s * before * (1 - share))
        a, b = before / regime.jitter_time_s, after / regime.jitter_time_s
        lost_a, lost_b, lost = -math.expm1(-2 * a), -math.expm1(-2 * b), -math.expm1(-2 * (a + b))
        mean = self._jitter[place - 1] * math.exp(-a) * lost_b + self._jitter[place] * math.exp(-b) * lost_a
        return walk, mean / lost + second * regime.jitter_rad * math.sqrt(lost_a * lost_b / lost)


@functools.lru_cache(maxsize=16)
def _table(swings: tuple[Swing, ...]) -> Floats:
    return np.array(swings, np.float64).reshape(len(swings), 3)


@njit(cache=True, nogil=True)
def _ahead(
    times_ps: Times,
    normals: Floats,
    known_ps: int,
    walk: float,
    jitter: float,
    diffusion: float,
    ramp: float,
    sigma: float,
    jitter_time_s: float,
    swings: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Walk, jitter and phase at rising times from the last known point on."""
    count = len(times_ps)
    walks, jitters, phases = np.empty(count), np.empty(count), np.empty(count)
    for k in range(count):
        span_s = (times_ps[k] - known_ps) * 1e-12
        known_ps = times_ps[k]
        if span_s > 0:
            walk += normals[0, k] * math.sqrt(diffusion * span_s)
            left = math.exp(-span_s / jitter_time_s)
            jitter = jitter * left + normals[1, k] * sigma * math.sqrt(1 - left * left)
        walks[k], jitters[k] = walk, jitter
        time_s = times_ps[k] / PS_PER_S
        phase = walk + jitter + ramp * time_s
        for i in range(len(swings)):
            phase += swings[i, 1] * math.sin(2 * math.pi * ((swings[i, 0] * time_s) % 1.0) + swings[i, 2])
        phases[k] = phase
    return walks, jitters, phases


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
