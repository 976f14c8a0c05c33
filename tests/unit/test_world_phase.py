import math

import numpy as np
import pytest

from simulated_hw.world.phase import KEPT, PhaseWalk, Regime, Swing, Wander, blur

PS = 1e12


def walk(seed: int, diffusion: float = 15.0, ramp: float = 0.0) -> PhaseWalk:
    return PhaseWalk(np.random.default_rng(seed), Regime(diffusion, ramp))


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
        one._last = 0, 0.3, 0.0
        values.append(np.cos(one.at_many(times) + 0.4).mean())
    known = walk(1, diffusion, ramp)
    known._last = 0, 0.3, 0.0
    error = 5 * np.std(values) / math.sqrt(800) + 0.004
    assert known.mean_cosine(0, duration, 0.4) == pytest.approx(np.mean(values), abs=error)


def test_jitter_is_stationary_and_forgets_ahead_beyond_and_between() -> None:
    sigma, tau, n = 0.3, 16e-6, 4000
    regime = Regime(0.0, 0.0, sigma, tau)
    around = np.empty((n, 4))
    for seed in range(n):
        one = PhaseWalk(np.random.default_rng(seed), regime)
        base = one._last[1]
        many = one.at_many(np.array([10**9, 10**9 + 16 * 10**6], np.int64))
        middle = one.at(10**9 + 8 * 10**6)
        later = one.at(2 * 10**9)
        around[seed] = np.array([many[0], middle, many[1], later]) - base
    expected = sigma**2 * np.exp(-np.abs(np.subtract.outer(*[np.array([0, 0.5, 1, 62.5])] * 2)))
    assert np.cov(around.T) == pytest.approx(expected, abs=5 * math.sqrt(2 / n) * sigma**2)


SWINGS = (Swing(85.0, 0.4, 0.3), Swing(600.0, 0.1, -1.0))


def test_sinusoids_are_where_they_are_however_far_away_one_asks() -> None:
    one = PhaseWalk(np.random.default_rng(3), Regime(0.0, 0.0, swings=SWINGS))
    start = one._last[1]
    times = np.array([1, 10**9, 386 * 3600 * 10**12 + 123_456_789], np.int64)
    for found, time in zip(one.at_many(times).tolist(), times.tolist(), strict=True):
        exact = sum(
            s.amplitude_rad
            * math.sin(2 * math.pi * float(int(s.frequency_hz) * time % 10**12) / 1e12 + s.start_rad)
            for s in SWINGS
        )
        assert found - start == pytest.approx(exact, abs=1e-4)
        assert one.at(time) == pytest.approx(found, abs=1e-9)


def test_a_long_mean_has_the_bessel_functions_of_the_sinusoids_and_the_spread_of_the_jitter() -> None:
    one = PhaseWalk(np.random.default_rng(4), Regime(0.0, 0.0, 0.2, 16e-6, SWINGS))
    one._last = 0, 0.7, 0.0
    times = np.linspace(0, 10**12, 200_000, dtype=np.int64)
    mean = float(np.cos(one.at_many(times) + 0.4).mean())
    fresh = PhaseWalk(np.random.default_rng(4), Regime(0.0, 0.0, 0.2, 16e-6, SWINGS))
    fresh._last = 0, 0.7, 0.0
    assert fresh.mean_cosine(0, 10**12, 0.4) == pytest.approx(mean, abs=2e-3)
    assert mean == pytest.approx(
        math.cos(1.1) * 0.9604 * 0.9975 * math.exp(-0.02), abs=2e-3
    )  # J0(0.4) J0(0.1)


def test_blur_is_the_mean_of_the_fringe_over_its_slot() -> None:
    regime = Regime(20_000.0)
    means = []
    for seed in range(3000):
        one = PhaseWalk(np.random.default_rng(seed), regime)
        phases = one.at_many(np.arange(1, 22, dtype=np.int64) * 10**6)  # 21 us
        means.append(np.cos(phases - phases[10]).mean())
    assert blur(regime, 21e-6) == pytest.approx(np.mean(means), abs=4e-3)
    assert blur(Regime(0.0), 1.0) == 1.0


def test_when_the_regime_changes_the_phase_goes_on_and_the_past_stays() -> None:
    still, wild = Regime(0.0, 0.01, 0.05, 16e-6), Regime(600.0, 7.5, swings=SWINGS)
    jumps, spreads = [], []
    for seed in range(1500):
        one = PhaseWalk(np.random.default_rng(seed), still)
        past = one.at_many(np.array([10**9, 2 * 10**9], np.int64)).tolist()
        one.change(wild, 5 * 10**9)
        before, after = one.at(5 * 10**9), one.at(5 * 10**9 + 2)
        later = one.at(6 * 10**9)
        assert [one.at(10**9), one.at(2 * 10**9)] == past
        jumps.append(abs(after - before))
        swung = wild.swung(6 * 10**9) - wild.swung(5 * 10**9)
        spreads.append(later - before - swung)
        one.change(still, 7 * 10**9)
        assert abs(one.at(8 * 10**9) - one.at(7 * 10**9)) < 0.4  # 5 sigma of the jitter, hardly any walk
        assert one.regime is still
    assert max(jumps) < 1e-3
    assert np.var(spreads) == pytest.approx(0.6, rel=5 * math.sqrt(2 / 1500))


def kept(one: PhaseWalk) -> int:
    assert len(one._times) == len(one._walk) == len(one._jitter)
    assert one._fresh_points == sum(len(chunk[0]) for chunk in one._fresh)
    return len(one._times) + one._fresh_points


def test_memory_is_bounded() -> None:
    one = walk(2)
    for k in range(20):
        one.at_many(np.arange(1000 * k, 1000 * (k + 1), dtype=np.int64) * 10**6)
        assert kept(one) <= 2 * KEPT
    for k in range(2 * KEPT):
        one.at(10**12 + 2 * k)
    assert KEPT // 4 < kept(one) <= 2 * KEPT
    for k in range(2 * KEPT):
        one.at(10**12 + 4 * KEPT - 2 * k - 1)
    assert kept(one) <= 2 * KEPT


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
