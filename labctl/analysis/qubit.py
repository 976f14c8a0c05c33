"""Models of qubit calibrations and their fits: Rabi flopping, a line, Ramsey fringes, pumping, excitation, two Zeeman lines.

Each takes the number of bright ions and of shots at each point of a scan. An ion is bright in S and dark in D.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.fits import Fit, Parameter, fit_shares
from labctl.analysis.value import Estimate, propagate
from labctl.errors import LimitError

FloatArray = NDArray[np.float64]
CONTRAST = Parameter("contrast", 0.95, 0.0, 1.0)


def rabi_share(times_s: ArrayLike, pi_time_s: float, contrast: float, middle: float) -> FloatArray:
    """Bright share after a resonant pulse: middle + contrast cos(π t / t_π) / 2."""
    return middle + contrast / 2 * np.cos(math.pi * np.asarray(times_s, np.float64) / pi_time_s)


def fit_rabi(times_s: ArrayLike, bright: ArrayLike, shots: ArrayLike) -> Fit:
    """pi_time (s), contrast and middle of Rabi flopping; the scan should cover at least one π pulse."""
    times = np.asarray(times_s, np.float64)
    longest = float(times.max())
    guesses = [longest / (0.6 + 0.35 * k) for k in range(12)]
    return fit_shares(
        lambda v: rabi_share(times, v[0], v[1], v[2]),
        bright,
        shots,
        [
            Parameter("pi_time", guesses, longest / 20, 4 * longest, "s"),
            CONTRAST,
            Parameter("middle", 0.5, 0.0, 1.0),
        ],
    )


def flop(rabi_rad_per_s: float, detuning_hz: ArrayLike, duration_s: float) -> FloatArray:
    """Transfer probability of a square pulse: Ω²/W² sin²(W t / 2), W² = Ω² + (2π δ)²."""
    offset = 2 * math.pi * np.asarray(detuning_hz, np.float64)
    effective = np.maximum(np.hypot(rabi_rad_per_s, offset), 1e-300)
    return (rabi_rad_per_s / effective) ** 2 * np.sin(effective * duration_s / 2) ** 2


def fit_line(frequencies_hz: ArrayLike, bright: ArrayLike, shots: ArrayLike, pulse_s: float) -> Fit:
    """centre (Hz), contrast and angle (rad) of a line seen by a square pulse: bright = 1 - contrast x flop."""
    frequencies = np.asarray(frequencies_hz, np.float64)
    low, high = float(frequencies.min()), float(frequencies.max())
    return fit_shares(
        lambda v: 1 - v[1] * flop(v[2] / pulse_s, frequencies - v[0], pulse_s),
        bright,
        shots,
        [
            Parameter("centre", [float(f) for f in frequencies], low, high, "Hz"),
            CONTRAST,
            Parameter("angle", math.pi, math.pi / 2, 1.5 * math.pi, "rad"),
        ],
    )


def field_and_centre(
    first: Estimate, second: Estimate, first_hz_per_t: float, second_hz_per_t: float
) -> tuple[Estimate, Estimate]:
    """Field (T) and unshifted frequency (Hz) from two lines: B = (f1 - f2)/(k1 - k2), f0 = (k1 f2 - k2 f1)/(k1 - k2)."""
    apart = first_hz_per_t - second_hz_per_t
    if apart == 0:
        raise LimitError("two lines with the same shift tell nothing about the field")

    def field(f1: float, f2: float) -> float:
        return (f1 - f2) / apart

    def centre(f1: float, f2: float) -> float:
        return (first_hz_per_t * f2 - second_hz_per_t * f1) / apart

    return propagate(field, first, second, unit="T"), propagate(centre, first, second, unit="Hz")


def ramsey_share(
    waits_s: ArrayLike, turns: ArrayLike, dead_s: float, detuning_hz: float, contrast: float, t2_s: float
) -> FloatArray:
    """Bright share after π/2, wait, π/2 with a phase: (1 - C exp(-(T/T2)²) cos 2π(phase - δ (T + dead))) / 2.

    A pulse of phase φ and angle θ is exp(-iθ/2 (cos φ σx + sin φ σy)) with S first, as the schedules have it.

    dead_s:       what the two pulses add to the waiting time, see ``dead_time_s``
    detuning_hz:  laser minus line
    """
    waits, phases = np.asarray(waits_s, np.float64), np.asarray(turns, np.float64)
    wave = np.cos(2 * math.pi * (phases - detuning_hz * (waits + dead_s)))
    return (1 - contrast * np.exp(-((waits / t2_s) ** 2)) * wave) / 2


def dead_time_s(pi_time_s: float) -> float:
    """Waiting time that two square π/2 pulses are worth: 2 t_π / π, to first order in the detuning."""
    return 2 * pi_time_s / math.pi


def fit_ramsey(
    waits_s: ArrayLike, turns: ArrayLike, bright: ArrayLike, shots: ArrayLike, pi_time_s: float
) -> Fit:
    """detuning (Hz, laser minus line), contrast and t2 (s, 1/e of a Gaussian decay) from fringes at several waiting times."""
    waits = np.asarray(waits_s, np.float64)
    apart = np.diff(np.unique(waits))
    if not apart.size:
        raise LimitError("Ramsey fringes need at least two waiting times")
    longest, range_hz = float(waits.max()), 0.5 / float(apart.min())
    guesses = np.arange(-range_hz, range_hz, 0.25 / longest)
    return fit_shares(
        lambda v: ramsey_share(waits, turns, dead_time_s(pi_time_s), v[0], v[1], v[2]),
        bright,
        shots,
        [
            Parameter("detuning", [float(f) for f in guesses], -range_hz, range_hz, "Hz"),
            CONTRAST,
            Parameter("t2", longest / 2, longest / 50, 100 * longest, "s"),
        ],
    )


def offset_from_quarters(up: int, up_shots: int, down: int, down_shots: int, wait_s: float) -> Estimate:
    """Detuning (Hz, laser minus line) from Ramsey probes at a quarter and three quarters of a turn.

    bright = (1 ∓ C sin 2π δ T) / 2 at a quarter (-) and three quarters (+); C counts as 1, so an offset far from zero is
    underestimated by the missing contrast. LimitError without shots of both.
    """
    if min(up_shots, down_shots) < 1:
        raise LimitError("no shots at one of the two phases")
    p, q = up / up_shots, down / down_shots
    variance = (up + 0.5) * (up_shots - up + 0.5) / (up_shots + 1) ** 2 / up_shots + (down + 0.5) * (
        down_shots - down + 0.5
    ) / (down_shots + 1) ** 2 / down_shots
    sine = max(-1.0, min(1.0, q - p))
    slope = 2 * math.pi * wait_s * max(math.sqrt(1 - sine * sine), 0.1)
    return Estimate(math.asin(sine) / (2 * math.pi * wait_s), math.sqrt(variance) / slope, "Hz")


def fit_pumping(lengths_s: ArrayLike, bright: ArrayLike, shots: ArrayLike) -> Fit:
    """time (s), start and left of what was not pumped: left + (start - left) exp(-t / time)."""
    lengths = np.asarray(lengths_s, np.float64)
    longest = float(lengths.max())
    return fit_shares(
        lambda v: v[2] + (v[1] - v[2]) * np.exp(-lengths / v[0]),
        bright,
        shots,
        [
            Parameter("time", [longest / k for k in (3, 10, 30, 100)], longest / 1e4, longest, "s"),
            Parameter("start", 0.5, 0.0, 1.0),
            Parameter("left", 0.01, 0.0, 1.0),
        ],
    )


def fit_excitation(amplitudes: ArrayLike, bright: ArrayLike, shots: ArrayLike) -> Fit:
    """pi_amplitude, transfer and floor: floor + transfer sin²(π/2 a / a_π), as α = sin²(π/2 a / a_π)."""
    drive = np.asarray(amplitudes, np.float64)
    largest = float(drive.max())
    return fit_shares(
        lambda v: v[2] + v[1] * np.sin(math.pi / 2 * drive / v[0]) ** 2,
        bright,
        shots,
        [
            Parameter(
                "pi_amplitude", [largest * x for x in (0.5, 0.8, 1.0, 1.5, 3.0)], largest / 5, 10 * largest
            ),
            Parameter("transfer", 0.9, 0.0, 1.0),
            Parameter("floor", 0.01, 0.0, 1.0),
        ],
    )
