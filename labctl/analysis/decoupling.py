"""What dynamical decoupling does to a qubit: pulse errors, filter functions, and dephasing by Ornstein-Uhlenbeck noise.

Formulas: PHYSICS.md section 4; filter functions after Cywinski et al., PRB 77, 174509 (2008).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labctl.errors import LimitError

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


def rotation(angle_rad: float, phase_rad: float, off_resonance: float = 0.0) -> ComplexArray:
    """Propagator of a pulse of nominal ``angle_rad`` about the axis (cos phase, sin phase, off_resonance), shape (2, 2).

    off_resonance:  detuning over Rabi frequency
    """
    axis = np.array([math.cos(phase_rad), math.sin(phase_rad), off_resonance])
    length = float(np.linalg.norm(axis))
    x, y, z = axis / length
    cosine, sine = math.cos(angle_rad * length / 2), math.sin(angle_rad * length / 2)
    return np.array(
        [[cosine - 1j * z * sine, (-1j * x - y) * sine], [(-1j * x + y) * sine, cosine + 1j * z * sine]]
    )


def train_fidelity(
    phases_deg: Sequence[float],
    pulses: int,
    *,
    flip_error: float = 0.0,
    off_resonance: float = 0.0,
    interval_phase_rad: float = 0.7,
) -> float:
    """State-averaged fidelity of a train of imperfect π pulses with the ideal train: (|Tr U0† U|² + 2)/6.

    phases_deg:          of one period; whole periods are played until there are at least ``pulses``
    flip_error:          relative error of the pulse area
    off_resonance:       detuning over Rabi frequency during a pulse
    interval_phase_rad:  phase the qubit gathers between two pulses
    """
    if pulses < 1 or not phases_deg:
        raise LimitError(
            f"a train needs at least one pulse and one phase, not {pulses} and {list(phases_deg)}"
        )
    half = np.array([[np.exp(-0.25j * interval_phase_rad), 0], [0, np.exp(0.25j * interval_phase_rad)]])
    period = ideal = np.eye(2, dtype=np.complex128)
    for phase in phases_deg:
        turn = math.radians(phase)
        period = half @ rotation(math.pi * (1 + flip_error), turn, off_resonance) @ half @ period
        ideal = rotation(math.pi, turn) @ ideal
    repeats = math.ceil(pulses / len(phases_deg))
    played = np.linalg.matrix_power(period, repeats)
    wanted = np.linalg.matrix_power(ideal, repeats)
    return float((abs(np.trace(wanted.conj().T @ played)) ** 2 + 2) / 6)


def pulse_times_s(spacing_s: float, pulses: int) -> FloatArray:
    """Centres of equally spaced pulses with half an interval at both ends, s, shape (pulses,)."""
    return np.asarray((np.arange(pulses) + 0.5) * spacing_s, np.float64)


def filter_function(omega_rad_per_s: FloatArray, times_s: FloatArray, duration_s: float) -> FloatArray:
    """|∫ y(t) e^{iωt} dt|² in s², where y changes sign at each pulse; same shape as ``omega_rad_per_s`` (none may be 0)."""
    omega = np.asarray(omega_rad_per_s, np.float64)
    edges = np.concatenate(([0.0], times_s, [duration_s]))
    signs = (-1.0) ** np.arange(len(edges) - 1)
    total = np.zeros(omega.shape, np.complex128)
    for sign, begin, end in zip(signs, edges[:-1], edges[1:], strict=True):
        total += sign * (np.exp(1j * omega * end) - np.exp(1j * omega * begin))
    return np.asarray(np.abs(total / (1j * omega)) ** 2, np.float64)


def ornstein_uhlenbeck_spectrum(
    omega_rad_per_s: FloatArray, rms_rad_per_s: float, correlation_s: float
) -> FloatArray:
    """Two-sided spectral density of the frequency noise, (rad/s)²/(rad/s): 2 σ² t_c / (1 + ω² t_c²)."""
    ratio = np.asarray(omega_rad_per_s, np.float64) * correlation_s
    return 2 * rms_rad_per_s**2 * correlation_s / (1 + ratio**2)


def decoherence_exponent(
    rms_rad_per_s: float, correlation_s: float, times_s: FloatArray, duration_s: float
) -> float:
    """χ of the coherence e^-χ under Ornstein-Uhlenbeck noise with sign changes at ``times_s``: exact, ½⟨(∫ y δω dt)²⟩.

    Double integral of the correlation σ² e^{-|t-t'|/t_c} over the pieces between pulses, done in closed form piece by piece.
    """
    edges = np.concatenate(([0.0], times_s, [duration_s])) / correlation_s
    signs = (-1.0) ** np.arange(len(edges) - 1)
    length = np.diff(edges)
    own = 2 * (length - 1 + np.exp(-length))  # both times in the same piece
    shrink = -np.expm1(-length)
    total = float(own.sum())
    carried = 0.0  # Σ over earlier pieces of sign · ∫ e^{-(end - t)} dt, brought to the start of this piece
    for i in range(len(length)):
        total += 2 * float(signs[i]) * carried * float(shrink[i])
        carried = carried * math.exp(-float(length[i])) + float(signs[i]) * float(shrink[i])
    return 0.5 * (rms_rad_per_s * correlation_s) ** 2 * total


def free_decay_exponent(rms_rad_per_s: float, correlation_s: float, duration_s: float) -> float:
    """χ without pulses: σ² t_c² (T/t_c - 1 + e^{-T/t_c})."""
    x = duration_s / correlation_s
    return (rms_rad_per_s * correlation_s) ** 2 * (x - 1 + math.exp(-x))


def decoherence_rate_hz(rms_rad_per_s: float, correlation_s: float, spacing_s: float) -> float:
    """Long-time decay rate of the coherence under equally spaced pulses, 1/s: σ² t_c [1 - (2 t_c/τ) tanh(τ/2t_c)]."""
    x = spacing_s / correlation_s
    return rms_rad_per_s**2 * correlation_s * (1 - 2 / x * math.tanh(x / 2))


def pair_coherence_time_s(rms_rad_per_s: float, correlation_s: float, spacing_s: float) -> float:
    """Coherence time of a pair of ions with independent equal noise, s: 1/(2Γ)."""
    return 1 / (2 * decoherence_rate_hz(rms_rad_per_s, correlation_s, spacing_s))
