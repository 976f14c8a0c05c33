"""Decoupling sequences against the published robustness, filter functions and coherence times (PHYSICS.md 4)."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.analysis.decoupling import (
    decoherence_exponent,
    decoherence_rate_hz,
    filter_function,
    free_decay_exponent,
    ornstein_uhlenbeck_spectrum,
    pair_coherence_time_s,
    pulse_times_s,
    rotation,
    train_fidelity,
)
from labctl.config import load
from labctl.schedule.check import check
from labctl.schedule.timeline import flatten
from labctl.units import us
from sequences.decoupling import KNILL, PHASES, decoupling, train

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("flip", "off", "expected"),
    [
        (0.01, 0.0, {"cp": 0.557, "xy4": 0.994, "xy8": 1.000, "xy16": 1.000, "kdd": 1.000}),
        (0.03, 0.0, {"cp": 0.948, "xy4": 0.625, "xy8": 0.998, "xy16": 1.000, "kdd": 1.000}),
        (0.05, 0.05, {"cp": 0.349, "xy4": 0.545, "xy8": 0.826, "xy16": 0.99986, "kdd": 1.00000}),
    ],
)
def test_robustness_table(flip: float, off: float, expected: dict[str, float]):
    """To the digits of the table."""
    for name, value in expected.items():
        digits = 5e-6 if value in (0.99986, 1.00000) and off else 5e-4
        found = train_fidelity(PHASES[name], 1000, flip_error=flip, off_resonance=off)
        assert found == pytest.approx(value, abs=digits + 1e-9), name


def test_knill_composite_is_a_pi_pulse_times_a_z_rotation():
    played = np.eye(2)
    for phase in KNILL:
        played = rotation(math.pi, math.radians(phase)) @ played
    overlaps = []
    for angle in (math.pi / 3, -math.pi / 3):
        z = np.diag([np.exp(-0.5j * angle), np.exp(0.5j * angle)])
        overlaps.append(abs(np.trace((rotation(math.pi, 0.0) @ z).conj().T @ played)) / 2)
    assert max(overlaps) == pytest.approx(1, abs=1e-9)


def test_exponent_of_the_reference_case():
    """σ = 2π·60 Hz, t_c = 5 ms, τ = 0.5 ms, 100 ms: 0.0592 from the filter integral and in closed form."""
    sigma, t_c, tau, total = 2 * math.pi * 60, 5e-3, 0.5e-3, 0.1
    times = pulse_times_s(tau, 200)
    assert decoherence_exponent(sigma, t_c, times, total) == pytest.approx(0.0592, abs=1e-4)
    assert decoherence_rate_hz(sigma, t_c, tau) * total == pytest.approx(0.0592, abs=1e-4)
    omega = np.concatenate([np.linspace(0.5, 3e4, 60_000), np.geomspace(3e4, 3e6, 60_000)])
    integrand = ornstein_uhlenbeck_spectrum(omega, sigma, t_c) * filter_function(omega, times, total)
    # S and F are even in ω: χ = (1/2π) ∫ over both signs / 2
    assert np.trapezoid(integrand, omega) / (2 * math.pi) == pytest.approx(0.0592, rel=0.01)


@given(st.integers(0, 12), st.floats(1e-4, 1e-2), st.floats(1e-4, 5e-2))
def test_exponent_agrees_with_a_sum_over_all_pairs_of_times(pulses: int, spacing: float, t_c: float):
    sigma = 200.0
    total = max(pulses, 1) * spacing
    times = pulse_times_s(spacing, pulses) if pulses else np.array([])
    steps = 3000
    grid = (np.arange(steps) + 0.5) * total / steps
    sign = (-1.0) ** np.searchsorted(times, grid)
    lag = np.exp(-np.arange(steps) * total / steps / t_c)
    size = 2 * steps
    correlated = np.fft.irfft(np.abs(np.fft.rfft(sign, size)) ** 2, size)[:steps]
    pairs = correlated[0] + 2 * float(correlated[1:] @ lag[1:])
    expected = 0.5 * sigma**2 * pairs * (total / steps) ** 2
    found = decoherence_exponent(sigma, t_c, times, total)
    assert found == pytest.approx(expected, rel=0.02, abs=2e-3 * 0.5 * (sigma * total) ** 2)
    if not pulses:
        assert found == pytest.approx(free_decay_exponent(sigma, t_c, total), rel=1e-9)


@pytest.mark.parametrize(
    ("sigma_hz", "t_c", "expected_ms"),
    [
        (112.5, 11.5e-3, {0.25: 2200, 0.5: 550, 1: 138, 2: 34}),
        (38.8, 1.34e-3, {0.25: 2177, 0.5: 550, 1: 143, 2: 41}),
    ],
)
def test_pair_coherence_times(sigma_hz: float, t_c: float, expected_ms: dict[float, float]):
    for spacing_ms, value in expected_ms.items():
        assert pair_coherence_time_s(2 * math.pi * sigma_hz, t_c, spacing_ms * 1e-3) * 1e3 == pytest.approx(
            value, rel=0.02
        )


@pytest.mark.parametrize("name", PHASES)
def test_train_has_its_pulses_where_theory_puts_them(name: str):
    timeline, _ = flatten(train("q", name, 500 * us, 40))
    centres = timeline.start_ps + timeline.duration_ps // 2
    assert np.array_equal(centres, np.round(pulse_times_s(500e-6, 40) * 1e12).astype(np.int64))
    assert timeline.total_ps == 40 * 500 * us
    period = PHASES[name]
    assert np.allclose(timeline.phase_turns * 360, [period[i % len(period)] % 360 for i in range(40)])


@pytest.mark.parametrize("name", PHASES)
def test_schedules_have_no_problems_on_the_lab(name: str):
    lines = load(ROOT / "configs" / "ca40_10km.toml").line
    assert [str(problem) for problem in check(decoupling(name), lines)] == []


def test_bad_trains_are_refused():
    for words in (("udd", 500 * us, 4), ("xy8", 5 * us, 4), ("xy8", 500 * us, 0)):
        with pytest.raises(ValueError, match=r"sequence must be|spacing|at least one pulse"):
            train("q", *words)
