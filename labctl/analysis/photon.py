"""Fits of what single photons and weak light show of their way: wave packet, arrival, and an etalon's line."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.fits import Fit, Parameter, fit_counts
from labctl.errors import LimitError

FloatArray = NDArray[np.float64]


def packet_integral(late_s: ArrayLike, decay_s: float, etalon_fwhm_hz: float) -> FloatArray:
    """Share of a photon's wave packet that has arrived ``late_s`` after its earliest arrival.

    A photon with 1/e decay τ behind a Lorentzian filter of FWHM Δν on resonance has the amplitude
    exp(-t/2τ) - exp(-πΔν t); its square is normalised to one.
    """
    slow, fast = 1 / (2 * decay_s), math.pi * etalon_fwhm_hz
    if abs(fast / slow - 1) < 1e-6:
        fast = slow * (1 + 1e-6)
    t = np.maximum(np.asarray(late_s, np.float64), 0.0)
    parts = ((2 * slow, 1.0), (slow + fast, -2.0), (2 * fast, 1.0))
    whole = sum(sign / rate for rate, sign in parts)
    return sum((sign * -np.expm1(-rate * t) / rate for rate, sign in parts), np.zeros_like(t)) / whole


def fit_arrivals(
    edges_s: ArrayLike, counts: ArrayLike, etalon_fwhm_hz: float, decay_s: float | None = None
) -> Fit:
    """start (s, earliest arrival), photons, noise (clicks per bin) and, unless given, decay (s) of a wave packet.

    edges_s:  of the bins, one more than counts, equally spaced
    """
    edges, seen = np.asarray(edges_s, np.float64), np.asarray(counts, np.float64)
    if edges.shape != (seen.size + 1,):
        raise LimitError(f"{edges.size} bin edges do not fit {seen.size} counts")
    if seen.sum() < 10:
        raise LimitError(f"{int(seen.sum())} clicks do not show a wave packet; take at least 10")
    width = float(edges[1] - edges[0])
    tau = decay_s or 7e-9
    steepest = _steepest(seen, max(1, round(20e-9 / width)))
    near = float(edges[steepest])
    low, high = float(edges[0]), float(edges[-1])

    def model(values: FloatArray) -> FloatArray:
        shape = np.diff(packet_integral(edges - values[0], decay_s or float(values[3]), etalon_fwhm_hz))
        return values[1] * shape + values[2]

    starts = [x for x in (near - 10e-9, near - 5e-9, near, near + 5e-9) if low < x < high] or [near]
    parameters = [
        Parameter("start", starts, low, high, "s"),
        Parameter("photons", 0.9 * float(seen.sum()), 0.0, 2 * float(seen.sum())),
        Parameter("noise", 0.1 * float(seen.mean()), 0.0, float(seen.max()) + 1),
    ]
    if decay_s is None:
        parameters.append(Parameter("decay", tau, tau / 10, tau * 10, "s"))
    return fit_counts(model, seen, parameters)


def _steepest(counts: FloatArray, bins: int) -> int:
    """Where a window of so many bins holds the most clicks."""
    sums = np.convolve(counts, np.ones(bins), "valid") if counts.size >= bins else counts
    return int(np.argmax(sums))


def fit_etalon(frequencies_hz: ArrayLike, clicks: ArrayLike, exposure_s: ArrayLike) -> Fit:
    """centre, fwhm (Hz), peak and floor (clicks per second) of a Lorentzian line seen in counts.

    exposure_s:  how long each frequency was looked at, s
    """
    frequencies, time = np.asarray(frequencies_hz, np.float64), np.asarray(exposure_s, np.float64)
    seen = np.asarray(clicks, np.float64)
    used = time > 0
    if not used.any() or seen.sum() == 0:
        raise LimitError("no click at any frequency: is the light on, and the detectors?")
    rates = np.where(used, seen / np.maximum(time, 1e-300), 0.0)
    span, top = float(np.ptp(frequencies)), float(rates.max())
    fit = fit_counts(
        lambda v: (v[3] + v[2] / (1 + (2 * (frequencies[used] - v[0]) / v[1]) ** 2)) * time[used],
        seen[used],
        [
            Parameter(
                "centre",
                float(frequencies[int(np.argmax(rates))]),
                float(frequencies.min()),
                float(frequencies.max()),
                "Hz",
            ),
            Parameter("fwhm", span / 3, span / 100, 3 * span, "Hz"),
            Parameter("peak", top, 0.0, 10 * top, "1/s"),
            Parameter("floor", top / 100, 0.0, top, "1/s"),
        ],
    )
    return fit
