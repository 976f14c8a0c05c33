"""The phase filter against a plain numpy implementation, PHYSICS.md section 5, and what it must do at the edges."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.core.phase_filter import GRID, PhaseFilter
from labctl.core.sim import TRACKED_CYCLES

QUADRATURE = (math.pi / 2, 0.0)
CYCLE_S = 400e-6
CLICKS = 26.0
V0 = 0.98


def plain(contrast, diffusion, biases, counts, times, grid=GRID):
    """The posterior, by summed circular shifts and a product of likelihoods."""
    phi = 2 * np.pi * np.arange(grid) / grid
    step = 2 * np.pi / grid
    shifts = (np.arange(grid)[:, None] - np.arange(grid)) % grid
    posterior = np.ones(grid) / grid
    before = times[0] if len(times) else 0.0
    for seen, now in zip(counts, times, strict=True):
        variance = diffusion * (now - before)
        before = now
        if variance > 0:
            if variance < step**2 / 2:
                kernel = np.zeros(grid)
                kernel[[0, 1, -1]] = 1 - variance / step**2, variance / step**2 / 2, variance / step**2 / 2
            else:
                far = int(2 * math.sqrt(variance)) + 2
                away = phi + np.arange(-far, far + 1)[:, None] * 2 * np.pi
                near = np.abs(away) < 8 * math.sqrt(variance)
                kernel = np.where(near, np.exp(-(away**2) / (2 * variance)), 0.0).sum(0)
                kernel /= kernel.sum()
            posterior = kernel[shifts] @ posterior
        for (n0, n1), bias in zip(seen, biases, strict=True):
            up = (1 + contrast * np.cos(phi + bias)) / 2
            posterior = posterior * up**n0 * (1 - up) ** n1
            posterior /= posterior.sum()
    return posterior


def walk(rng, runs, cycles, diffusion, clicks=CLICKS):
    """Phases at the end of each cycle and the clicks (runs, cycles, 2, 2) that they make, half of them in each slot."""
    steps = rng.normal(0, math.sqrt(diffusion * CYCLE_S), (runs, cycles))
    steps[:, 0] = rng.uniform(-np.pi, np.pi, runs)
    phases = np.cumsum(steps, axis=1)
    cosine = V0 * np.cos(phases[..., None] + np.array(QUADRATURE))
    mean = clicks / 2 * np.stack([(1 + cosine) / 2, (1 - cosine) / 2], axis=-1)
    return phases, rng.poisson(mean)


def tracked(counts, diffusion, cycles=None):
    """Estimates and their uncertainty from the last cycles of each run."""
    counts = counts[:, -cycles:] if cycles else counts
    times = np.arange(counts.shape[1]) * CYCLE_S
    found = []
    for one in counts:
        followed = PhaseFilter(V0, diffusion, QUADRATURE)
        followed.follow(np.ascontiguousarray(one), times)
        found.append(followed.estimate())
    return np.array(found).T


@settings(max_examples=60, deadline=None)
@given(
    diffusion=st.sampled_from([0.0, 0.3, 1.0, 10.0, 50.0, 1e3, 1e4]),
    gaps=st.lists(st.sampled_from([0.0, 1e-6, 375e-6, 4e-4, 0.01, 0.3, 2.0]), min_size=1, max_size=12),
    slots=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_agrees_with_plain_numpy(diffusion, gaps, slots, seed):
    rng = np.random.default_rng(seed)
    times = 3.0 + np.cumsum(gaps)
    biases = tuple(rng.uniform(-np.pi, np.pi, slots))
    counts = rng.poisson(rng.uniform(0, 12), (len(times), slots, 2))
    followed = PhaseFilter(0.95, diffusion, biases)
    half = len(times) // 2  # in two calls, as at two heralds
    followed.follow(counts[:half], times[:half])
    followed.follow(counts[half:], times[half:])
    expected = plain(0.95, diffusion, biases, counts, times)
    assert np.abs(followed.posterior - expected).max() < 1e-9
    mean = np.sum(expected * np.exp(2j * np.pi * np.arange(GRID) / GRID))
    phase, sigma = followed.estimate()
    if abs(mean) > 1e-6:
        assert abs(np.exp(1j * phase) - mean / abs(mean)) < 1e-6
        assert abs(sigma - math.sqrt(max(0.0, -2 * math.log(min(1, abs(mean)))))) < 1e-6


@pytest.mark.parametrize("diffusion", [1.0, 10.0, 50.0])
def test_the_grid_is_fine_enough(diffusion):
    rng = np.random.default_rng(8)
    _, counts = walk(rng, 4, 40, diffusion)
    times = np.arange(40) * CYCLE_S
    fine = 1024
    for one, phase, sigma in zip(counts, *tracked(counts, diffusion), strict=True):
        posterior = plain(V0, diffusion, QUADRATURE, one, times, fine)
        mean = np.sum(posterior * np.exp(2j * np.pi * np.arange(fine) / fine))
        assert abs(np.angle(np.exp(1j * phase) / mean)) < 0.002
        assert abs(sigma - math.sqrt(-2 * math.log(abs(mean)))) < 0.002


@pytest.mark.parametrize(("diffusion", "contrast"), [(1.0, 0.998), (10.0, 0.993), (50.0, 0.988)])
def test_contrast_of_the_published_loop(diffusion, contrast):
    phases, counts = walk(np.random.default_rng(11), 1500, 90, diffusion)
    estimates, sigmas = tracked(counts, diffusion)
    cosines = np.cos(estimates - phases[:, -1])
    assert abs(cosines.mean() - contrast) < 0.004
    said = math.sqrt(np.mean(sigmas**2))
    assert abs(math.sqrt(2 * (1 - cosines.mean())) / said - 1) < 0.1  # it knows how well it knows


@pytest.mark.parametrize("diffusion", [1.0, 10.0, 50.0])
def test_one_slot_alone_gives_less(diffusion):
    phases, counts = walk(np.random.default_rng(12), 3000, 2, diffusion)
    grid = np.linspace(-np.pi, np.pi, 721)
    up = (1 + V0 * np.cos(grid[None, :] + np.array(QUADRATURE)[:, None])) / 2
    last = counts[:, -1]
    score = np.einsum("rs,sg->rg", last[..., 0], np.log(up)) + np.einsum(
        "rs,sg->rg", last[..., 1], np.log(1 - up)
    )
    best = grid[score.argmax(axis=1)]
    assert abs(np.cos(best - phases[:, -1]).mean() - 0.969) < 0.004


@pytest.mark.parametrize("diffusion", [1.0, 15.0, 50.0])
def test_the_cycles_played_before_a_herald_are_enough(diffusion):
    phases, counts = walk(np.random.default_rng(13), 200, 400, diffusion)
    few, few_sigma = tracked(counts, diffusion, TRACKED_CYCLES)
    many, many_sigma = tracked(counts, diffusion)
    apart = np.angle(np.exp(1j * (few - many)))
    assert apart.std() < 0.1 * many_sigma.mean()
    assert abs(few_sigma.mean() / many_sigma.mean() - 1) < 0.02
    errors = [np.angle(np.exp(1j * (one - phases[:, -1]))).std() for one in (few, many)]
    assert abs(errors[0] / errors[1] - 1) < 0.02
    two, _ = tracked(counts, diffusion, 2)  # and the comparison sees it when they are not
    assert np.angle(np.exp(1j * (two - many))).std() > 0.3 * many_sigma.mean()


def test_without_clicks_nothing_is_known():
    followed = PhaseFilter(V0, 10.0, QUADRATURE)
    assert followed.estimate()[1] > 5
    followed.follow(np.zeros((5, 2, 2), np.int64), np.arange(5) * CYCLE_S)
    assert np.abs(followed.posterior - 1 / GRID).max() < 1e-15
    followed.follow(np.zeros((0, 2, 2), np.int64), np.zeros(0))
    assert followed.estimate()[1] > 5


def test_a_long_gap_forgets_and_a_short_one_spreads_by_the_diffusion():
    rng = np.random.default_rng(5)
    _, counts = walk(rng, 1, 64, 10.0)
    nothing = np.zeros((1, 2, 2), np.int64)
    for gap, expected in ((0.01, 0.1), (0.03, 0.3), (30.0, None)):
        followed = PhaseFilter(V0, 10.0, QUADRATURE)
        times = np.arange(64) * CYCLE_S
        followed.follow(counts[0], times)
        phase, sigma = followed.estimate()
        followed.follow(nothing, times[-1:] + gap)
        later, wider = followed.estimate()
        if expected is None:
            assert np.abs(followed.posterior - 1 / GRID).max() < 1e-12
        else:
            assert abs(wider**2 - sigma**2 - expected) < 0.002 and abs(later - phase) < 0.002


@pytest.mark.parametrize("diffusion", [0.2, 1.0, 5.0, 15.0])
def test_many_small_steps_spread_as_one_large_step(diffusion):
    followed = PhaseFilter(V0, diffusion, QUADRATURE)
    followed.posterior[:] = 0
    followed.posterior[40] = 1
    followed.follow(np.zeros((251, 2, 2), np.int64), np.arange(251) * CYCLE_S)
    assert abs(followed.estimate()[1] ** 2 - diffusion * 0.1) < 0.01 * diffusion * 0.1 + 1e-6


@pytest.mark.parametrize("phase", [-math.pi, -3.1, 0.0, 1e-3, 3.1, math.pi])
def test_phases_wrap_around(phase):
    rng = np.random.default_rng(3)
    cosine = V0 * np.cos(phase + np.array(QUADRATURE))
    counts = rng.poisson(500 * np.stack([(1 + cosine) / 2, (1 - cosine) / 2], axis=-1), (64, 2, 2))
    followed = PhaseFilter(V0, 0.1, QUADRATURE)
    followed.follow(counts, np.arange(64) * CYCLE_S)
    estimate, sigma = followed.estimate()
    assert -math.pi < estimate <= math.pi
    assert abs(np.angle(np.exp(1j * (estimate - phase)))) < 4 * sigma + 0.003
