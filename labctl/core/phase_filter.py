"""Follow an optical phase from single clicks: a recursive Bayes filter on a grid (PHYSICS.md 5, arXiv 2604.21388).

Between slots the posterior is spread by a Gaussian of variance D·t; a slot with n0 and n1 clicks at the two detectors
and bias b multiplies it by ((1 + V cos(φ + b))/2)^n0 · ((1 - V cos(φ + b))/2)^n1.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

GRID = 128
FORGOTTEN_RAD2 = 60.0
"""Spread after which nothing is left of what was known, to the last digit: exp(-60 / 2) = 1e-13."""


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

    def follow(self, counts: Counts, times_s: Floats) -> None:
        """Take in cycles: ``counts`` of shape (cycles, slots, 2), clicks; ``times_s`` of shape (cycles,), end of each cycle, s."""
        if len(times_s) == 0:
            return
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

    def estimate(self) -> tuple[float, float]:
        """Circular mean, rad in (-π, π], and circular standard deviation, rad (large when nothing is known)."""
        grid = np.arange(GRID) * (2 * math.pi / GRID)
        mean = complex(np.sum(self.posterior * np.exp(1j * grid)))
        length = min(max(abs(mean), 1e-12), 1.0)
        return math.atan2(mean.imag, mean.real), math.sqrt(max(0.0, -2 * math.log(length)))


@njit(cache=True, nogil=True)
def _diffuse(posterior: Floats, spread: Floats, variance: float) -> None:
    """Spread ``posterior`` on the circle by a Gaussian of this variance; ``spread`` is room to work in.

    Below half a grid step squared, where a sampled Gaussian would spread too little, three points do it exactly.
    """
    size = posterior.shape[0]
    step = 2 * math.pi / size
    if variance <= 0.0:
        return
    if variance > FORGOTTEN_RAD2:
        posterior[:] = 1.0 / size
        return
    kernel = np.zeros(size)
    if variance < 0.5 * step * step:
        share = 0.5 * variance / (step * step)
        kernel[0], kernel[1], kernel[size - 1] = 1 - 2 * share, share, share
    else:
        widest = 8.0 * math.sqrt(variance)
        turns = int(widest / (2 * math.pi) + 0.5)
        for k in range(-size // 2, size // 2):
            for turn in range(-turns, turns + 1):
                away = k * step + turn * 2 * math.pi
                if abs(away) < widest:
                    kernel[k] += math.exp(-0.5 * away * away / variance)
        kernel /= kernel.sum()
    spread[:] = 0.0
    for k in range(size):
        if kernel[k] > 0.0:
            for i in range(k):
                spread[i] += kernel[k] * posterior[i - k + size]
            for i in range(k, size):
                spread[i] += kernel[k] * posterior[i - k]
    posterior[:] = spread


@njit(cache=True, nogil=True)
def _follow(posterior: Floats, log_0: Floats, log_1: Floats, counts: Counts, variances: Floats) -> None:
    """Predict and update ``posterior`` in place for each cycle."""
    size = posterior.shape[0]
    spread = np.empty(size)
    for cycle in range(counts.shape[0]):
        _diffuse(posterior, spread, variances[cycle])
        highest = -1e300
        for i in range(size):
            value = math.log(posterior[i] + 1e-300)
            for slot in range(counts.shape[1]):
                value += counts[cycle, slot, 0] * log_0[slot, i] + counts[cycle, slot, 1] * log_1[slot, i]
            spread[i] = value
            highest = max(highest, value)
        total = 0.0
        for i in range(size):
            posterior[i] = math.exp(spread[i] - highest)
            total += posterior[i]
        for i in range(size):
            posterior[i] /= total
