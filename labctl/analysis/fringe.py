"""Contrast and phase of an interference fringe from two-detector counts, and where in time clicks arrive."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.value import Estimate
from labctl.errors import LimitError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Fringe:
    """A fitted fringe, share of clicks on detector 1 = 1/2 + offset + contrast cos(harmonic x - phase)/2.

    ``phase`` in rad, in (-pi, pi]; ``offset`` is 0 ± 0 when it was not fitted; ``chi_squared`` (Pearson) is
    over ``degrees_of_freedom`` settings.
    """

    contrast: Estimate
    phase: Estimate
    offset: Estimate
    chi_squared: float
    degrees_of_freedom: int


def fit_fringe(
    phases_rad: ArrayLike,
    counts_1: ArrayLike,
    counts_2: ArrayLike,
    *,
    harmonic: int = 1,
    fit_offset: bool = False,
) -> Fringe:
    """Binomial maximum-likelihood fit of a fringe to the counts of two detectors at scanned phases.

    All three arrays have one entry per phase setting. Of the n clicks at a setting, k on detector 1 are
    binomial with share (1 + V cos(harmonic x - phase0))/2, plus an offset (unequal detectors) if asked for.
    V is between 0 and 1 and the share between 0 and 1. Standard errors are from the expected (Fisher)
    information at the fit; shares closer to 0 or 1 than n clicks can tell are taken as 1/(n + 2) there.
    Raises LimitError when the phases cannot determine the fringe.
    """
    angles = harmonic * np.asarray(phases_rad, dtype=np.float64)
    ones = np.asarray(counts_1, dtype=np.float64)
    totals = ones + np.asarray(counts_2, dtype=np.float64)
    _check_scan(angles, ones, totals)
    used = totals > 0
    angles, ones, totals = angles[used], ones[used], totals[used]
    count = 3 if fit_offset else 2
    design = _design(angles, fit_offset)
    if angles.size < count or np.linalg.matrix_rank(design, tol=1e-6 * math.sqrt(angles.size)) < count:
        raise LimitError(
            f"{angles.size} phase settings with clicks cannot determine a fringe of {count} parameters; "
            "scan at least 8 phases over a full turn"
        )
    contrast, phase, offset = _maximum_likelihood(angles, ones, totals, design)
    share = 0.5 + offset + contrast * np.cos(angles - phase) / 2
    errors = _standard_errors(angles, totals, contrast, phase, share, fit_offset)
    safe = np.clip(share, 1 / (totals + 2), 1 - 1 / (totals + 2))
    chi_squared = float((((ones - totals * share) ** 2) / (totals * safe * (1 - safe))).sum())
    return Fringe(
        Estimate(contrast, errors[0]),
        Estimate(math.remainder(phase, 2 * math.pi), errors[1], "rad"),
        Estimate(offset, errors[2]),
        chi_squared,
        angles.size - count,
    )


def _check_scan(angles: FloatArray, ones: FloatArray, totals: FloatArray) -> None:
    if angles.ndim != 1 or angles.shape != ones.shape or angles.shape != totals.shape:
        raise LimitError(
            f"phases and counts must be lists of one length, not {angles.shape} and {totals.shape}"
        )
    if not (np.isfinite(angles).all() and np.isfinite(totals).all() and ones.min(initial=0) >= 0):
        raise LimitError("phases and counts must be finite and counts not negative")
    if (totals < ones).any():
        raise LimitError("counts must not be negative")


def _design(angles: FloatArray, fit_offset: bool) -> FloatArray:
    """Derivatives of the share by V cos(phase), V sin(phase) and the offset: one row per setting."""
    columns = [np.cos(angles) / 2, np.sin(angles) / 2]
    return np.stack([*columns, np.ones_like(angles)] if fit_offset else columns, axis=1)


def _maximum_likelihood(
    angles: FloatArray, ones: FloatArray, totals: FloatArray, design: FloatArray
) -> tuple[float, float, float]:
    """Contrast, phase and offset: weighted least squares to start, then the likelihood inside V + 2|offset| <= 1."""
    from labctl.analysis.special import minimise

    fit_offset = design.shape[1] == 3
    weight = np.sqrt(totals)
    start = np.linalg.lstsq(design * weight[:, None], (ones / totals - 0.5) * weight, rcond=None)[0]
    contrast = min(math.hypot(start[0], start[1]), 0.95)
    phase = math.atan2(start[1], start[0])
    skew = min(max(2 * float(start[2]) / (1 - contrast), -0.9), 0.9) if fit_offset else 0.0
    total = float(totals.sum())

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        v, turn, lean = (float(x) for x in parameters)
        wave, slope = np.cos(angles - turn), np.sin(angles - turn)
        share = np.clip(0.5 + lean * (1 - v) / 2 + v * wave / 2, 1e-12, 1 - 1e-12)
        likelihood = ones @ np.log(share) + (totals - ones) @ np.log1p(-share)
        by_share = ones / share - (totals - ones) / (1 - share)
        gradient = np.array(
            [by_share @ (wave - lean) / 2, v * (by_share @ slope) / 2, by_share.sum() * (1 - v) / 2]
        )
        return -float(likelihood) / total, -gradient / total

    lean_limit = 1.0 if fit_offset else 0.0
    v, turn, lean = minimise(
        loss, (max(contrast, 1e-3), phase, skew), ((0.0, 1.0), (None, None), (-lean_limit, lean_limit))
    )
    return float(v), float(turn), float(lean * (1 - v) / 2)


def _standard_errors(
    angles: FloatArray, totals: FloatArray, contrast: float, phase: float, share: FloatArray, fit_offset: bool
) -> tuple[float, float, float]:
    """Standard errors of contrast, phase and offset: inverse Fisher information in Cartesian components.

    The Cartesian components V cos, V sin are well behaved at V = 0, where the phase is undetermined
    (its error is then infinite).
    """
    safe = np.clip(share, 1 / (totals + 2), 1 - 1 / (totals + 2))
    rows = _design(angles - phase, fit_offset)
    covariance = np.linalg.inv((rows * (totals / (safe * (1 - safe)))[:, None]).T @ rows)
    deviations = np.sqrt(np.diag(covariance))
    phase_error = float(deviations[1]) / contrast if contrast > 0 else math.inf
    return float(deviations[0]), phase_error, float(deviations[2]) if fit_offset else 0.0


@dataclass(frozen=True)
class ArrivalTimes:
    """Where the clicks of a histogram lie: background-free number, mean and rms width (both in ps)."""

    clicks: Estimate
    mean: Estimate
    width: Estimate
    peak_ps: float


def summarise_arrivals(
    edges_ps: ArrayLike, counts: ArrayLike, background_per_bin: Estimate | None = None
) -> ArrivalTimes:
    """Number, mean and rms width of the clicks in an arrival-time histogram, background subtracted.

    ``edges_ps`` has one entry more than ``counts``; bins are of equal width. Errors are those of the Poisson
    counts plus that of the background. The width contains the bin width (w^2/12). Raises LimitError when
    nothing is left above the background.
    """
    edges, clicks = np.asarray(edges_ps, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if (
        clicks.ndim != 1
        or clicks.size == 0
        or edges.shape != (clicks.size + 1,)
        or not (np.diff(edges) > 0).all()
    ):
        raise LimitError(
            f"{edges.shape} bin edges do not fit {clicks.shape} counts; edges must rise, one more than counts"
        )
    background = background_per_bin or Estimate(0.0, 0.0)
    centres = (edges[1:] + edges[:-1]) / 2
    signal = clicks - background.value
    total = float(signal.sum())
    if total <= 0:
        raise LimitError("no click above the background: the histogram has no arrival time")
    mean = float(signal @ centres) / total
    distance = centres - mean
    variance = float(signal @ distance**2) / total
    if variance < 0:
        raise LimitError(
            "the background is larger than the clicks away from the peak: give a smaller background"
        )

    def error(influence: FloatArray) -> float:
        return math.hypot(
            math.sqrt(float(clicks @ influence**2)), background.standard_error * float(influence.sum())
        )

    width = math.sqrt(variance)
    width_error = error((distance**2 - variance) / total) / (2 * width) if width > 0 else 0.0
    return ArrivalTimes(
        Estimate(total, error(np.ones_like(clicks))),
        Estimate(mean, error(distance / total), "ps"),
        Estimate(width, width_error, "ps"),
        float(centres[int(np.argmax(clicks))]),
    )
