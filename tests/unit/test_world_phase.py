import math

import numpy as np
import pytest

from simulated_hw.world.phase import KEPT, PhaseWalk, Wander

PS = 1e12


def walk(seed: int, diffusion: float = 15.0, ramp: float = 0.0) -> PhaseWalk:
    return PhaseWalk(np.random.default_rng(seed), diffusion, ramp)


def test_the_variance_grows_with_time_however_it_is_asked() -> None:
    diffusion, n = 15.0, 3000
    ahead = np.empty(n)
    between = np.empty(n)
    jumped = np.empty(n)
    for seed in range(n):
        one = walk(seed, diffusion)
        first = one.at(0)
        last = one.at_many(np.array([10**9, 2 * 10**9, 10 * 10**9], np.int64))[-1]
        ahead[seed] = last - first
        between[seed] = one.at(6 * 10**9) - (one.at(2 * 10**9) + last) / 2  # middle of a bridge over 8 ms
        jumped[seed] = one.at(10**12) - last
    for sample, variance in (
        (ahead, diffusion * 10e-3),
        (between, diffusion * 4e-3 * 4e-3 / 8e-3),
        (jumped, diffusion * (1 - 10e-3)),
    ):
        assert abs(sample.mean()) < 5 * math.sqrt(variance / n)
        assert sample.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / n))


def test_the_same_time_has_the_same_phase() -> None:
    one = walk(4, ramp=3.0)
    times = np.arange(1, 200, dtype=np.int64) * 10**8
    phases = one.at_many(times)
    assert [one.at(int(t)) for t in times] == phases.tolist()
    assert one.at_many(times).tolist() == phases.tolist()


def test_one_pass_and_one_by_one_agree_in_distribution() -> None:
    times = np.array([10**9, 3 * 10**9, 4 * 10**9], np.int64)
    together = np.array([np.diff(walk(s).at_many(times)) for s in range(2000)])
    single = np.array([np.diff([w.at(int(t)) for t in times]) for w in map(walk, range(5000, 7000))])
    assert together.var(axis=0) == pytest.approx(single.var(axis=0), rel=0.2)
    assert together.var(axis=0) == pytest.approx([15 * 2e-3, 15 * 1e-3], rel=0.15)


def test_the_ramp_adds() -> None:
    one = walk(1, diffusion=0.0, ramp=2.0)
    assert one.at(int(0.5 * PS)) - one.at(0) == pytest.approx(1.0)


@pytest.mark.parametrize(("diffusion", "ramp"), [(15.0, 0.0), (0.0, 3.0), (4.0, -2.0), (0.0, 0.0)])
def test_mean_cosine_is_the_mean_over_the_walk(diffusion: float, ramp: float) -> None:
    steps, duration = 400, 10**12
    times = np.linspace(0, duration, steps, dtype=np.int64)
    values = []
    for seed in range(800):
        one = walk(seed, diffusion, ramp)
        one._walk[0] = 0.3
        values.append(np.cos(one.at_many(times) + 0.4).mean())
    known = walk(1, diffusion, ramp)
    known._walk[0] = 0.3
    error = 5 * np.std(values) / math.sqrt(800) + 0.004
    assert known.mean_cosine(0, duration, 0.4) == pytest.approx(np.mean(values), abs=error)


def test_memory_is_bounded() -> None:
    one = walk(2)
    one.at_many(np.arange(20_000, dtype=np.int64) * 10**6)
    assert len(one._times) <= KEPT
    for k in range(2 * KEPT):
        one.at(10**12 + k)
    assert len(one._times) == len(one._walk) <= KEPT


@pytest.mark.parametrize("span", [1e-7, 1e-4, 5e-3, 1.0])
def test_line_noise_integral_has_the_filter_function_variance(span: float) -> None:
    sigma, tc, n = 38.8, 1.34e-3, 6000
    rng = np.random.default_rng(3)
    first = np.array([Wander(rng, sigma, tc).advance(span) for _ in range(n)])
    chi = sigma**2 * tc**2 * 2 * (span / tc - 1 + math.exp(-span / tc))
    if span < 1e-6:
        chi = sigma**2 * span**2
    assert first.var() == pytest.approx(chi, rel=5 * math.sqrt(2 / n))


def test_line_noise_in_two_steps_is_that_in_one() -> None:
    sigma, tc, n = 50.0, 2e-3, 6000
    rng = np.random.default_rng(5)
    two = np.empty(n)
    one = np.empty(n)
    for k in range(n):
        w = Wander(rng, sigma, tc)
        two[k] = w.advance(1e-3) + w.advance(2e-3)
        one[k] = Wander(rng, sigma, tc).advance(3e-3)
    assert two.var() == pytest.approx(one.var(), rel=0.1)


def test_stepping_keeps_the_stationary_spread() -> None:
    rng = np.random.default_rng(6)
    stepped = []
    for _ in range(4000):
        w = Wander(rng, 10.0, 1e-3, start=0.0)
        w.step(5e-2)
        stepped.append(w.x)
    assert np.std(stepped) == pytest.approx(10.0, rel=0.06)


def test_no_noise_is_no_noise() -> None:
    w = Wander(np.random.default_rng(1), 0.0, 1e-3)
    assert w.advance(1.0) == 0.0
    assert w.x == 0.0
