"""Fluorescence histograms of a bright and a dark ion, and the threshold with the smallest error (PHYSICS.md 1.5)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.fits import Fit, Parameter, fit_counts
from labctl.errors import LimitError

FloatArray = NDArray[np.float64]
D52_LIFETIME_S = 1.1649
"""Lifetime of D5/2 of ⁴⁰Ca⁺ (PHYSICS.md 1.1): a dark ion becomes bright."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)


class Threshold(NamedTuple):
    """Counts from which an ion is called bright, and how often that is wrong.

    missed:   a bright ion is called dark
    invented: a dark ion is called bright
    """

    counts: int
    missed: float
    invented: float

    @property
    def error(self) -> float:
        """Mean of both errors."""
        return (self.missed + self.invented) / 2


def poisson(mean: float, counts: ArrayLike) -> FloatArray:
    """Poisson distribution of counts."""
    n = np.asarray(counts, np.float64)
    factorial = np.array([math.lgamma(x + 1) for x in n.ravel().tolist()]).reshape(n.shape)
    return np.exp(n * math.log(max(mean, 1e-300)) - mean - factorial)


def dark_distribution(
    bright_mean: float,
    dark_mean: float,
    window_s: float,
    counts: ArrayLike,
    lifetime_s: float = D52_LIFETIME_S,
) -> FloatArray:
    """Distribution of the counts of an ion that is dark when the window opens and may decay to bright within it.

    P(n) = e^-w Poisson(n; d) + ∫₀^w e^-u Poisson(n; d + (b - d)(1 - u/w)) du with w = window / lifetime.
    """
    share = window_s / lifetime_s
    found = math.exp(-share) * poisson(dark_mean, counts)
    for node, weight in zip(_NODES.tolist(), _WEIGHTS.tolist(), strict=True):
        late = (node + 1) / 2
        mean = dark_mean + (bright_mean - dark_mean) * (1 - late)
        found = found + weight / 2 * share * math.exp(-share * late) * poisson(mean, counts)
    return found


def threshold_errors(
    bright_mean: float, dark_mean: float, window_s: float, counts: int, lifetime_s: float = D52_LIFETIME_S
) -> Threshold:
    """How often a threshold is wrong; means are counts per window."""
    below = np.arange(counts)
    missed = float(poisson(bright_mean, below).sum())
    invented = 1 - float(dark_distribution(bright_mean, dark_mean, window_s, below, lifetime_s).sum())
    return Threshold(counts, missed, max(invented, 0.0))


def best_threshold(
    bright_mean: float, dark_mean: float, window_s: float, lifetime_s: float = D52_LIFETIME_S
) -> Threshold:
    """The threshold with the smallest mean error."""
    if not bright_mean > dark_mean:
        raise LimitError(
            f"bright ions ({bright_mean:g} counts) must be brighter than dark ones ({dark_mean:g})"
        )
    highest = max(2, math.ceil(bright_mean) + 1)
    every = [threshold_errors(bright_mean, dark_mean, window_s, n, lifetime_s) for n in range(1, highest)]
    return min(every, key=lambda one: one.error)


def fit_histograms(
    bright: ArrayLike, dark: ArrayLike, window_s: float, lifetime_s: float = D52_LIFETIME_S
) -> Fit:
    """bright_mean, dark_mean (counts per window) and left_bright from histograms of ions prepared bright and dark.

    bright, dark:  shots with 0, 1, 2, ... counts; ``left_bright`` is the share of the dark ones whose preparation failed
    """
    first, second = np.asarray(bright, np.float64), np.asarray(dark, np.float64)
    if first.ndim != 1 or first.shape != second.shape or not (first.sum() > 0 and second.sum() > 0):
        raise LimitError("readout needs shots of bright and of dark ions, with histograms of one length")
    counts = np.arange(first.size)
    start = max(float(first @ counts / first.sum()), 0.1)

    def model(values: FloatArray) -> FloatArray:
        b, d, left = (float(x) for x in values)
        lit = poisson(b, counts)
        unlit = dark_distribution(b, d, window_s, counts, lifetime_s)
        return np.concatenate((first.sum() * lit, second.sum() * (left * lit + (1 - left) * unlit)))

    return fit_counts(
        model,
        np.concatenate((first, second)),
        [
            Parameter("bright_mean", start, start / 5, start * 5),
            Parameter("dark_mean", start / 50, 0.0, start),
            Parameter("left_bright", 0.01, 0.0, 1.0),
        ],
    )
