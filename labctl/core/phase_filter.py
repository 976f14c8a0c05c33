"""Follow an optical phase from single clicks: a recursive Bayes filter on a grid (PHYSICS.md 5, arXiv 2604.21388).

Between slots the posterior is spread by a Gaussian of variance D·t; a slot with n0 and n1 clicks at the two detectors
and bias b multiplies it by ((1 + V cos(φ + b))/2)^n0 · ((1 - V cos(φ + b))/2)^n1.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.schedule.items import Valid

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

GRID = 128
CIRCLE = np.exp(2j * np.pi * np.arange(GRID) / GRID)
KEPT = 15 / 16
"""Share of a cycle's clicks that still counts one cycle later, for the agreement."""
FORGOTTEN_RAD2 = 60.0
"""Spread after which nothing is left of what was known, to the last digit: exp(-60 / 2) = 1e-13."""

NOTHING = 300.0
TINY = 1e-150
"""Likelihoods exp(-300) of the highest and posteriors of 1e-150 are nought: numbers near the smallest a computer has are slow."""


class PhaseFilter:
    """The posterior of one phase, from uniform.

    contrast:   of the reference fringe, 0 to 1 (exclusive)
    diffusion_rad2_per_s:  variance the phase gains per second
    biases_rad: phase bias of each slot of a cycle, rad
    """

    def __init__(self, contrast: float, diffusion_rad2_per_s: float, biases_rad: tuple[float, ...]) -> None:
        self.diffusion_rad2_per_s = diffusion_rad2_per_s
        self.posterior: Floats = np.full(GRID, 1.0 / GRID)
        grid = np.arange(GRID) * (2 * math.pi / GRID)
        fringe = contrast * np.cos(grid[None, :] + np.asarray(biases_rad)[:, None])
        self._log_0: Floats = np.log((1 + fringe) / 2)
        self._log_1: Floats = np.log((1 - fringe) / 2)
        self._updated_s: float | None = None
        self._estimate: tuple[float, float] | None = None
        self._contrast = contrast
        self._biases: Floats = np.asarray(biases_rad, np.float64)
        self._recent: Floats = np.zeros((len(biases_rad), 2))

    def follow(self, counts: Counts, times_s: Floats) -> None:
        """Take in cycles: ``counts`` of shape (cycles, slots, 2), clicks; ``times_s`` of shape (cycles,), end of each cycle, s."""
        if len(times_s) == 0:
            return
        self._estimate = None
        previous = times_s[0] if self._updated_s is None else self._updated_s
        gaps = np.diff(np.concatenate(([previous], times_s)))
        _follow(
            self.posterior,
            self._log_0,
            self._log_1,
            counts,
            np.maximum(gaps, 0.0) * self.diffusion_rad2_per_s,
        )
        self._updated_s = float(times_s[-1])
        weights = KEPT ** np.arange(len(times_s) - 1, -1, -1)
        self._recent = self._recent * KEPT ** len(times_s) + (
            weights @ counts.reshape(len(counts), -1)
        ).reshape(-1, 2)

    def estimate(self) -> tuple[float, float]:
        """Circular mean, rad in (-π, π], and circular standard deviation, rad (large when nothing is known)."""
        if self._estimate is None:
            mean = complex(self.posterior @ CIRCLE)
            length = min(max(abs(mean), 1e-12), 1.0)
            self._estimate = math.atan2(mean.imag, mean.real), math.sqrt(max(0.0, -2 * math.log(length)))
        return self._estimate

    def agreement(self) -> float:
        """How well the clicks of the last cycles (16 or so, fading) fit the estimate: 1 at the assumed contrast, 0 without a fringe.

        Difference of the detectors along the expected fringe, over what it would be; 0 without clicks.
        """
        wave = np.cos(self.estimate()[0] + self._biases)
        expected = self._contrast * float(self._recent.sum(axis=1) @ wave**2)
        return float((self._recent[:, 0] - self._recent[:, 1]) @ wave) / expected if expected > 0 else 0.0

    def valid(self, rule: Valid, clicks: int, lock_counts: int) -> bool:
        """Whether the estimate may be used by a schedule's rule.

        clicks:       of the last cycle
        lock_counts:  of the lock's monitor, if the rule names one
        """
        return (
            self.estimate()[1] <= rule.sigma_rad
            and rule.clicks[0] <= clicks <= rule.clicks[1]
            and (not rule.lock or lock_counts >= rule.lock_counts)
            and self.agreement() >= rule.agreement
        )


@njit(cache=True, nogil=True)
def _kernel(kernel: Floats, variance: float) -> int:
    """Fill ``kernel``, shape (size,), with a Gaussian on the circle, from its middle to either side; how many steps it reaches.

    Below half a grid step squared, where a sampled Gaussian would spread too little, three points do it exactly.
    """
    size = kernel.shape[0]
    step = 2 * math.pi / size
    kernel[:] = 0.0
    if variance < 0.5 * step * step:
        share = 0.5 * variance / (step * step)
        kernel[0], kernel[1], kernel[size - 1] = 1 - 2 * share, share, share
        return 1
    widest = 8.0 * math.sqrt(variance)
    turns = int(widest / (2 * math.pi) + 0.5)
    for k in range(-size // 2, size // 2):
        for turn in range(-turns, turns + 1):
            away = k * step + turn * 2 * math.pi
            if abs(away) < widest:
                kernel[k] += math.exp(-0.5 * away * away / variance)
    kernel /= kernel.sum()
    return min(size // 2, int(widest / step) + 1)


@njit(cache=True, nogil=True)
def _diffuse(posterior: Floats, around: Floats, kernel: Floats, reach: int) -> None:
    """Spread ``posterior`` on the circle by a kernel; ``around``, shape (2 size,), is room to work in."""
    size = posterior.shape[0]
    half = size // 2
    around[:half] = posterior[size - half :]
    around[half : half + size] = posterior
    around[half + size :] = posterior[: size - half]
    for i in range(size):
        posterior[i] = kernel[0] * around[half + i]
    for k in range(1, reach + 1):
        right, left = kernel[k], kernel[size - k]
        if k == half:
            right = 0.0  # the point opposite is one point
        before, behind = around[half - k :], around[half + k :]
        for i in range(size):
            posterior[i] += right * before[i] + left * behind[i]


@njit(cache=True, nogil=True)
def _follow(posterior: Floats, log_0: Floats, log_1: Floats, counts: Counts, variances: Floats) -> None:
    """Predict and update ``posterior`` in place for each cycle."""
    size = posterior.shape[0]
    slots = counts.shape[1]
    around, kernel, value = np.empty(2 * size), np.empty(size), np.empty(size)
    known, reach = -1.0, 0
    for cycle in range(counts.shape[0]):
        variance = variances[cycle]
        if variance > FORGOTTEN_RAD2:
            posterior[:] = 1.0 / size
        elif variance > 0.0:
            if abs(variance - known) > 1e-6 * known:  # cycles are as long as each other but for rounding
                known, reach = variance, _kernel(kernel, variance)
            _diffuse(posterior, around, kernel, reach)
        value[:] = 0.0
        for slot in range(slots):
            n0, n1 = float(counts[cycle, slot, 0]), float(counts[cycle, slot, 1])
            for i in range(size):
                value[i] += n0 * log_0[slot, i] + n1 * log_1[slot, i]
        highest = value.max()
        total = 0.0
        for i in range(size):
            below = value[i] - highest
            around[i] = posterior[i] * math.exp(below) if below > -NOTHING else 0.0
            if around[i] < TINY:
                around[i] = 0.0
            total += around[i]
        if total < math.sqrt(
            TINY
        ):  # the clicks contradict what was known: digits are left in the logarithm only
            for i in range(size):
                value[i] += math.log(posterior[i] + 1e-300)
            highest = value.max()
            total = 0.0
            for i in range(size):
                around[i] = math.exp(value[i] - highest)
                total += around[i]
        for i in range(size):
            posterior[i] = around[i] / total
