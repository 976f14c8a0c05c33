import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.analysis import bell
from labctl.analysis.value import Estimate
from labctl.errors import LimitError

VECTOR = [[[33020, 6980], [32890, 7110]], [[32790, 7210], [7150, 32850]]]
COUNTS = st.lists(st.integers(1, 1000), min_size=16, max_size=16).map(
    lambda x: np.array(x).reshape(2, 2, 2, 2)
)
SETTING = st.tuples(st.integers(0, 1), st.integers(0, 1))


def test_reference_vector() -> None:
    result = bell.chsh(VECTOR)
    assert result.s.value == pytest.approx(2.577500, abs=1e-12)
    assert result.s.standard_error == pytest.approx(0.007647, abs=5e-7)
    assert result.win_probability.value == pytest.approx(0.8221875, abs=1e-12)
    assert result.total_trials == 160_000
    assert result.wins == 33020 + 32890 + 32790 + 32850
    assert result.wins / result.total_trials == pytest.approx(result.win_probability.value)  # equal settings
    assert result.correlators[1][1].value == pytest.approx(-0.6425)
    assert result.trials == ((40_000, 40_000), (40_000, 40_000))


def test_quoted_errors_of_the_published_runs() -> None:
    """1730 equal rounds give sigma_S = 0.075 at S = 2.504; 269 000 give 0.0059 at 2.5758."""
    for s, rounds, error in ((2.504, 1730, 0.075), (2.5758, 269_000, 0.0059)):
        each = rounds / 4
        same = round(each * (1 + s / 4) / 2)
        different = round(each) - same
        result = bell.chsh([[[same, different]] * 2, [[same, different], [different, same]]])
        assert result.s.standard_error == pytest.approx(error, rel=0.01)


def test_s_errors_are_the_spread_of_repeated_tests() -> None:
    random = np.random.default_rng(31)
    correlations = np.array([[0.7, 0.6], [0.5, -0.65]])
    same = random.binomial(100, (1 + correlations) / 2, size=(3000, 2, 2))
    results = [bell.chsh(np.stack([k, 100 - k], axis=-1)) for k in same]
    values = np.array([r.s.value for r in results])
    assert values.mean() == pytest.approx(2.45, abs=5 * values.std() / math.sqrt(3000))
    assert values.std() == pytest.approx(np.mean([r.s.standard_error for r in results]), rel=0.05)


@settings(deadline=None)
@given(COUNTS, SETTING)
def test_trial_lists_and_count_tables_agree(counts: np.ndarray, minus: tuple[int, int]) -> None:
    index = np.repeat(np.arange(16), counts.reshape(16) % 7)
    a, b, x, y = np.unravel_index(index, (2, 2, 2, 2))
    trials = bell.count_trials(a, b, 1 - 2 * x, 1 - 2 * y)
    np.testing.assert_array_equal(trials, counts % 7)
    assert bell.chsh(counts, minus) == bell.chsh(bell.same_and_different(counts), minus)


@settings(deadline=None)
@given(COUNTS, SETTING)
def test_wins_and_s_tell_the_same_story(counts: np.ndarray, minus: tuple[int, int]) -> None:
    result = bell.chsh(counts, minus)
    table = bell.same_and_different(counts)
    shares = [table[a, b, 1 if (a, b) == minus else 0] / table[a, b].sum() for a in (0, 1) for b in (0, 1)]
    assert result.win_probability.value == pytest.approx(np.mean(shares))
    assert -4 <= result.s.value <= 4
    flipped = bell.chsh(counts[:, :, :, ::-1], minus)
    assert flipped.s.value == pytest.approx(-result.s.value)
    assert flipped.wins == result.total_trials - result.wins


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 60), st.floats(0, 0.05))
def test_p_value_is_the_binomial_sum(wins: int, trials: int, excess: float) -> None:
    wins = min(wins, trials)
    p = 0.75 + 3 * (excess + excess**2)
    exact = math.fsum(math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(wins, trials + 1))
    assert bell.memoryful_p_value(wins, trials, excess) == pytest.approx(exact, rel=1e-9)


def test_p_value_of_delft_and_far_out() -> None:
    assert bell.memoryful_p_value(196, 245, 1.08e-5) == pytest.approx(0.0392, abs=5e-5)
    assert bell.memoryful_p_value(0, 10) == 1
    assert bell.memoryful_p_value(10, 10) == pytest.approx(0.75**10)
    tail = Fraction(sum(math.comb(2000, k) * 3**k for k in range(1900, 2001)), 4**2000)
    assert bell.memoryful_p_value(1900, 2000) == pytest.approx(float(tail), rel=1e-9, abs=0)


def test_fidelities() -> None:
    population = bell.population(960, 1000)
    assert population.standard_error == pytest.approx(math.sqrt(0.96 * 0.04 / 1000))
    found = bell.bell_fidelity_from_parity(population, Estimate(0.88, 0.02))
    assert found.value == pytest.approx(0.92)
    assert found.standard_error == pytest.approx(math.hypot(population.standard_error, 0.02) / 2)
    one = Estimate(0.9, 0.03)
    minus = Estimate(-0.9, 0.04)
    for state, (xx, yy, zz) in {
        "psi+": (one, one, minus),
        "psi-": (minus, minus, minus),
        "phi+": (one, minus, one),
        "phi-": (minus, one, one),
    }.items():
        fidelity = bell.bell_fidelity_from_correlators(xx, yy, zz, state)  # type: ignore[arg-type]
        assert fidelity.value == pytest.approx((1 + 2.7) / 4)
        assert fidelity.standard_error == pytest.approx(
            math.sqrt(xx.standard_error**2 + yy.standard_error**2 + zz.standard_error**2) / 4
        )


def test_fidelity_from_the_correlation_tensor_and_s() -> None:
    """diag(c, c, -z): F = (1 + 2c + z)/4 and S_max = 2 sqrt(c^2 + z^2) with ideal settings."""
    c, z = 0.88, 0.93
    tensor = np.diag([c, c, -z])
    tilt = math.atan2(c, z)
    settings_a = [np.array([0, 0, 1]), np.array([1, 0, 0])]
    settings_b = [
        np.array([math.sin(tilt), 0, -math.cos(tilt)]),
        np.array([-math.sin(tilt), 0, -math.cos(tilt)]),
    ]
    share = np.array([[(1 + a @ tensor @ b) / 2 for b in settings_b] for a in settings_a])
    same = np.round(share * 10**8).astype(int)
    assert bell.chsh(np.stack([same, 10**8 - same], axis=-1)).s.value == pytest.approx(
        2 * math.hypot(c, z), abs=1e-7
    )
    exact = [Estimate(v, 0) for v in (c, c, -z)]
    assert bell.bell_fidelity_from_correlators(*exact, "psi+").value == pytest.approx((1 + 2 * c + z) / 4)


def test_parity_fringe() -> None:
    random = np.random.default_rng(32)
    phases = np.linspace(0, math.pi, 12, endpoint=False)
    even = random.binomial(300, (1 + 0.87 * np.cos(2 * phases - 0.4)) / 2)
    fringe = bell.fit_parity_fringe(phases, even, 300 - even, harmonic=2)
    assert abs(fringe.contrast.pull(Estimate(0.87, 0))) < 4
    assert abs(fringe.phase.pull(Estimate(0.4, 0, "rad"))) < 4


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: bell.chsh(np.zeros((2, 2, 2), int)), "no trial"),
        (lambda: bell.chsh(np.ones((2, 2))), "shape"),
        (lambda: bell.chsh(np.full((2, 2, 2), 0.5)), "whole numbers"),
        (lambda: bell.chsh(VECTOR, (2, 0)), "pair of 0 or 1"),
        (lambda: bell.count_trials([0], [0], [0], [1]), "outcome a of trial 0 is 0"),
        (lambda: bell.count_trials([0, 2], [0, 0], [1, 1], [1, 1]), "setting a of trial 1 is 2"),
        (lambda: bell.count_trials([0, 1], [0], [1], [1]), "one length"),
        (lambda: bell.memoryful_p_value(5, 4), "not possible"),
        (lambda: bell.memoryful_p_value(4, 5, 0.1), "predictability"),
        (lambda: bell.memoryful_p_value(4, 5, math.nan), "predictability"),
        (lambda: bell.correlator(0, 0), "needs trials"),
        (lambda: bell.population(3, 2), "not a population"),
        (lambda: bell.bell_fidelity_from_correlators(*[Estimate(0, 0)] * 3, "ghz"), "Bell state"),
    ],
)
def test_refusals(call, text: str) -> None:
    with pytest.raises(LimitError, match=text):
        call()
