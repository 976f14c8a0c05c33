import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.analysis import keyrate
from labctl.analysis.value import Estimate
from labctl.errors import LimitError

KEY_COUNTS = [[49_679, 1_274], [2_539, 52_484]]  # the published Ca key pair, [a, b]
S = st.floats(2.0, keyrate.TSIRELSON_S)
Q = st.floats(0.0, 0.5)


@pytest.mark.parametrize(
    ("s", "qber", "plain", "noisy"),
    [
        (2.5758, 0.0360, 0.3260, 0.3262),
        (2.504, 0.069, 0.0989, 0.1084),
        (2.578, 0.078, 0.157, 0.161),
        (2.612, 0.03, 0.403, None),
    ],
)
def test_rates_of_the_published_runs(s: float, qber: float, plain: float, noisy: float | None) -> None:
    digits = 5e-5 if plain in (0.3260, 0.0989) else 5e-4
    assert keyrate.key_rate(s, qber) == pytest.approx(plain, abs=digits)
    if noisy is not None:
        assert keyrate.best_noisy_key_rate(s, qber).rate == pytest.approx(noisy, abs=digits)


def test_best_flip_probability_and_critical_qber() -> None:
    assert keyrate.best_noisy_key_rate(2.504, 0.069).flip_probability == pytest.approx(0.018, abs=5e-4)
    assert keyrate.critical_qber() == pytest.approx(0.0715, abs=5e-5)
    beyond = keyrate.TSIRELSON_S * (1 - 2 * 0.0780)
    assert keyrate.key_rate(beyond, 0.0780) < 0 < keyrate.best_noisy_key_rate(beyond, 0.0780).rate


@settings(deadline=None)
@given(st.floats(-0.2, 1.2))
def test_binary_entropy_bounds(x: float) -> None:
    h = keyrate.binary_entropy(x)
    assert 0 <= h <= 1
    inside = min(max(x, 0.0), 1.0)
    assert h >= 4 * inside * (1 - inside) - 1e-12  # a known lower bound
    assert h <= 2 * math.sqrt(inside * (1 - inside)) + 1e-12  # and an upper one
    assert h == pytest.approx(keyrate.binary_entropy(1 - x), abs=1e-9)


@settings(deadline=None)
@given(S, S, Q, Q)
def test_rates_grow_with_s_and_shrink_with_errors(s: float, s2: float, q: float, q2: float) -> None:
    assert keyrate.key_rate(max(s, s2), min(q, q2)) >= keyrate.key_rate(min(s, s2), max(q, q2)) - 1e-12
    assert keyrate.key_rate(s, q) <= 1


@settings(deadline=None)
@given(S, Q)
def test_noise_is_only_added_when_it_helps(s: float, q: float) -> None:
    assert keyrate.noisy_key_rate(s, q, 0.0) == pytest.approx(keyrate.key_rate(s, q), abs=1e-12)
    best = keyrate.best_noisy_key_rate(s, q)
    assert best.rate >= max(keyrate.key_rate(s, q), 0.0) - 1e-9
    assert best.rate >= max(keyrate.noisy_key_rate(s, q, k / 40) for k in range(21)) - 1e-6


def test_limits() -> None:
    assert keyrate.eavesdropper_information(2.0) == keyrate.eavesdropper_information(1.5) == 1
    assert keyrate.eavesdropper_information(keyrate.TSIRELSON_S) == pytest.approx(0, abs=1e-12)
    assert keyrate.key_rate(3.0, 0.0) == pytest.approx(1)


def test_qber_of_the_published_key() -> None:
    found = keyrate.qber(3_813, 105_976)
    assert found.value == pytest.approx(0.035980, abs=5e-7)
    assert found.compact() == "0.0360(6)"
    assert keyrate.qber(round(0.069 * 531), 531).standard_error == pytest.approx(0.011, abs=2e-4)
    assert keyrate.qber(0, 100) == Estimate(0.0, 0.01)


def test_conditional_entropy_of_the_published_key() -> None:
    found = keyrate.conditional_entropy(KEY_COUNTS)
    assert found.value == pytest.approx(0.22026, abs=5e-6)
    assert found.value < keyrate.binary_entropy(3_813 / 105_976) == pytest.approx(0.22355, abs=5e-6)


@settings(deadline=None)
@given(st.lists(st.integers(0, 500), min_size=4, max_size=4).filter(any))
def test_conditional_entropy_bounds(cells: list[int]) -> None:
    counts = np.array(cells).reshape(2, 2)
    h = keyrate.conditional_entropy(counts)
    total = counts.sum()
    assert -1e-12 <= h.value <= keyrate.binary_entropy(float(counts[0].sum() / total)) + 1e-12
    assert h.value <= keyrate.binary_entropy(float((counts[0, 1] + counts[1, 0]) / total)) + 1e-12


def test_conditional_entropy_error_is_its_spread() -> None:
    random = np.random.default_rng(41)
    share = np.array([0.46, 0.02, 0.05, 0.47])
    found = [keyrate.conditional_entropy(c.reshape(2, 2)) for c in random.multinomial(3000, share, 2000)]
    spread = np.std([f.value for f in found])
    assert spread == pytest.approx(np.mean([f.standard_error for f in found]), rel=0.06)


@pytest.mark.parametrize("noisy", [False, True])
def test_rate_error_is_its_spread(noisy: bool) -> None:
    random = np.random.default_rng(42)
    s, q = Estimate(2.5758, 0.0059), Estimate(0.0360, 0.0006)
    rate = keyrate.best_noisy_key_rate_estimate if noisy else keyrate.key_rate_estimate
    plain = (lambda a, b: keyrate.best_noisy_key_rate(a, b).rate) if noisy else keyrate.key_rate
    drawn = [
        plain(random.normal(s.value, s.standard_error), random.normal(q.value, q.standard_error))
        for _ in range(200 if noisy else 4000)
    ]
    assert rate(s, q).standard_error == pytest.approx(np.std(drawn), rel=0.2 if noisy else 0.04)
    assert rate(s, q).unit == "bit"


def test_rate_error_has_the_analytic_slopes() -> None:
    by_q = keyrate.key_rate_estimate(Estimate(2.504, 0.0), Estimate(0.069, 0.001)).standard_error / 0.001
    assert by_q == pytest.approx(3.75, abs=0.01)
    x = math.sqrt(2.504**2 / 4 - 1)
    slope = 0.5 * math.log2((1 + x) / (1 - x)) * 2.504 / (4 * x)
    by_s = keyrate.key_rate_estimate(Estimate(2.504, 0.001), Estimate(0.069, 0.0)).standard_error / 0.001
    assert by_s == pytest.approx(slope, rel=1e-5)


def test_published_rate_is_within_its_error() -> None:
    rate = keyrate.key_rate_estimate(Estimate(2.5758, 0.0059), Estimate(0.0360, 0.0006))
    assert abs(rate.pull(Estimate(0.325, 0.0, "bit"))) < 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: keyrate.qber(5, 4),
        lambda: keyrate.qber(0, 0),
        lambda: keyrate.conditional_entropy([[0, 0], [0, 0]]),
        lambda: keyrate.conditional_entropy([[1, -1], [0, 0]]),
        lambda: keyrate.conditional_entropy([1, 2, 3, 4]),
    ],
)
def test_refusals(call) -> None:
    with pytest.raises(LimitError):
        call()
