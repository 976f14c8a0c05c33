"""The analysis of a phase loop knows no true phase; here it is held against one (PHYSICS.md 5, last table)."""

import math

import numpy as np
import pytest

from labctl.analysis.phase import maximum_likelihood, quadratures, stabilisation, unwrap
from labctl.core.phase_filter import PhaseFilter
from labctl.errors import LimitError

BIASES = (math.pi / 2, 0.0)
CYCLE_S = 400e-6
CLICKS = 26.0
V0 = 0.98


def loop(diffusion: float, cycles: int, seed: int, jitter: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """True phases and clicks of the published loop: 26 clicks per 400 us, quadrature and in-phase halves."""
    rng = np.random.default_rng(seed)
    phases = 1.0 + np.cumsum(rng.normal(0, math.sqrt(diffusion * CYCLE_S), cycles))
    seen = phases + jitter * rng.standard_normal(cycles)
    wave = V0 * np.cos(seen[:, None] + np.array(BIASES))
    return phases, rng.poisson(CLICKS / 4 * np.stack([1 + wave, 1 - wave], axis=-1))


def filtered(counts: np.ndarray, diffusion: float) -> np.ndarray:
    """The filter's estimate after each cycle."""
    tracker = PhaseFilter(V0, diffusion, BIASES)
    found = []
    for k, one in enumerate(counts):
        tracker.follow(np.ascontiguousarray(one[None]), np.array([k * CYCLE_S]))
        found.append(tracker.estimate()[0])
    return np.array(found)


@pytest.mark.parametrize(("diffusion", "bayes"), [(1.0, 0.998), (10.0, 0.993), (50.0, 0.988)])
def test_the_published_loop_on_the_same_clicks(diffusion: float, bayes: float) -> None:
    phases, counts = loop(diffusion, 12_000, 4)
    estimates = (filtered(counts, diffusion), maximum_likelihood(counts, BIASES, V0))
    found = stabilisation(counts, BIASES, CYCLE_S, estimates)
    for said, estimate, theory in zip(found.cosines, estimates, (bayes, 0.969), strict=True):
        true = float(np.cos(estimate - phases)[100:].mean())
        assert true == pytest.approx(theory, abs=0.003)
        assert said.value == pytest.approx(true, abs=3.5 * said.standard_error)
        assert said.standard_error < 0.005
    assert found.contrast.value == pytest.approx(V0, abs=3.5 * found.contrast.standard_error)
    assert found.diffusion.value == pytest.approx(diffusion, abs=3.5 * found.diffusion.standard_error)
    assert found.cosines[0].value > 0.985 > 0.975 > found.cosines[1].value


def test_noise_that_is_new_in_every_cycle_is_contrast() -> None:
    phases, counts = loop(10.0, 20_000, 6, jitter=0.2)
    estimate = filtered(counts, 10.0)
    found = stabilisation(counts, BIASES, CYCLE_S, (estimate,))
    kept = math.exp(-(0.2**2) / 2)
    assert found.contrast.value == pytest.approx(V0 * kept, abs=3.5 * found.contrast.standard_error)
    true = float(np.cos(estimate - phases)[100:].mean())
    assert found.cosines[0].value == pytest.approx(true, abs=3.5 * found.cosines[0].standard_error)


def test_standard_errors_are_those_of_repetition() -> None:
    made = [loop(10.0, 1500, seed) for seed in range(60)]
    found = [
        stabilisation(counts, BIASES, CYCLE_S, (maximum_likelihood(counts, BIASES, V0),))
        for _, counts in made
    ]
    pulls = [(one.contrast.value - V0) / one.contrast.standard_error for one in found]
    assert abs(np.mean(pulls)) < 0.6 and 0.7 < np.std(pulls) < 1.4


def test_maximum_likelihood_finds_the_phase_of_many_clicks() -> None:
    phases = np.linspace(-3, 3, 40)
    wave = V0 * np.cos(phases[:, None] + np.array(BIASES))
    counts = np.round(1e5 * np.stack([1 + wave, 1 - wave], axis=-1))
    errors = np.angle(np.exp(1j * (maximum_likelihood(counts, BIASES, V0) - phases)))
    assert np.abs(errors).max() < 0.01
    assert np.angle(quadratures(counts, BIASES)) == pytest.approx(phases, abs=1e-4)


def test_unwrapping_counts_the_steps_that_leave_the_turn_uncertain() -> None:
    ramp = np.arange(100) * 0.3
    unwrapped, slips = unwrap(np.angle(np.exp(1j * ramp)))
    assert unwrapped - unwrapped[0] == pytest.approx(ramp) and slips == 0
    ramp[50:] += 2.0
    unwrapped, slips = unwrap(np.angle(np.exp(1j * ramp)))
    assert slips == 1 and unwrapped[-1] - unwrapped[0] == pytest.approx(ramp[-1])
    assert unwrap([])[1] == 0


def test_what_cannot_be_said_is_not_said() -> None:
    _, counts = loop(10.0, 40, 1)
    with pytest.raises(LimitError, match="40 cycles"):
        stabilisation(counts, BIASES, CYCLE_S, ())
    with pytest.raises(LimitError, match="no reference clicks"):
        quadratures(np.zeros((10, 2, 2)), BIASES)
    with pytest.raises(LimitError, match="half a turn"):
        quadratures(counts, (0.0, 0.0))
    rng = np.random.default_rng(1)
    lost = np.moveaxis(rng.poisson(6.5, (2, 2, 2000)), 2, 0)
    with pytest.raises(LimitError, match="is the fibre locked"):
        stabilisation(lost, BIASES, CYCLE_S, ())
