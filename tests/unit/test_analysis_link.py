import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.analysis import link
from labctl.analysis.value import Estimate, propagate
from labctl.errors import LimitError

# The reference decay of the stored pair that describes the published USTC points (fitted, physically bounded).
STORED = link.TwoComponentDecay(coherence=0.818, lifetime_s=0.550, zz=0.544, zz_loss_hz=0.306)


def test_herald_rate_and_its_spread() -> None:
    random = np.random.default_rng(11)
    true, live = 2.226, 200.0
    rates = [link.herald_rate(int(n), live) for n in random.poisson(true * live, 2000)]
    assert np.mean([r.value for r in rates]) == pytest.approx(true, rel=0.01)
    assert np.std([r.value for r in rates]) == pytest.approx(
        np.mean([r.standard_error for r in rates]), rel=0.06
    )
    assert rates[0].unit == "Hz"
    assert link.herald_rate(0, 10.0) == Estimate(0.0, 0.1, "Hz")


@pytest.mark.parametrize("count", [8, 100])
def test_rate_from_waits_is_unbiased_with_the_right_spread(count: int) -> None:
    random = np.random.default_rng(12)
    true = 2.226
    rates = [link.herald_rate_from_waits(random.exponential(1 / true, count)) for _ in range(4000)]
    values = np.array([r.value for r in rates])
    assert abs(values.mean() - true) < 5 * values.std() / math.sqrt(values.size)
    # the mean square of the quoted errors is above the variance by its own scatter: (n-1)^2 -> n-1 terms
    mean_square = np.mean([r.standard_error**2 for r in rates])
    assert values.var() == pytest.approx(
        mean_square * (count - 2) / (count - 1), rel=0.3 if count < 20 else 0.08
    )


def test_signal_to_noise_and_its_spread() -> None:
    random = np.random.default_rng(13)
    noise, signal, shorter = 400.0, 900.0, 0.25
    found = [
        link.signal_to_noise(int(s), shorter, int(n), 1.0)
        for s, n in zip(
            random.poisson(signal + noise * shorter, 3000), random.poisson(noise, 3000), strict=True
        )
    ]
    values = np.array([f.value for f in found])
    assert values.mean() == pytest.approx(signal / (noise * shorter), rel=0.01)
    assert values.std() == pytest.approx(np.median([f.standard_error for f in found]), rel=0.06)


def test_link_efficiency_of_the_published_rates() -> None:
    eta = link.link_efficiency(Estimate(2.226, 0.01, "Hz"), Estimate(1.8, 0.1, "Hz"))
    assert eta.compact() == "1.24(7)"
    assert eta.unit == ""


def test_deterministic_delivery_reference_values() -> None:
    assert link.deterministic_threshold() == pytest.approx(0.8260, abs=5e-5)
    assert link.deterministic_threshold(0.80) == pytest.approx(1.58, abs=5e-3)
    assert link.clocked_fidelity_max(1.22, 0.80) == pytest.approx(0.473, abs=5e-4)
    assert link.clocked_fidelity_max(1.22) == pytest.approx(0.554, abs=5e-4)
    assert link.clocked_fidelity_max(1.0) == pytest.approx((1 + 3 / math.e) / 4, abs=1e-12)
    assert link.clocked_fidelity_max(0.0) == 0.25


@settings(deadline=None)
@given(st.floats(0.05, 20.0), st.floats(0.5, 1.0))
def test_clocked_fidelity_is_the_best_over_all_periods(eta: float, fresh: float) -> None:
    rate, decay = eta, 1.0

    def delivered(period: float) -> float:
        if abs(rate - decay) < 1e-9:
            return 0.25 + (fresh - 0.25) * rate * period * math.exp(-rate * period)
        share = rate / (decay - rate) * (math.exp(-rate * period) - math.exp(-decay * period))
        return 0.25 + (fresh - 0.25) * share

    best = link.optimal_clock_period_s(rate, decay)
    assert delivered(best) == pytest.approx(link.clocked_fidelity_max(eta, fresh), abs=1e-6)
    assert delivered(best) >= max(delivered(best * 0.9), delivered(best * 1.1)) - 1e-9


@settings(deadline=None)
@given(st.floats(1e-13, 1e-3), st.sampled_from([-1, 1]))
def test_clocked_fidelity_is_smooth_through_one(distance: float, side: int) -> None:
    exact = (1 + 3 * math.exp(-1) * (1 + side * distance / 2)) / 4  # first-order expansion about eta = 1
    assert link.clocked_fidelity_max(1 + side * distance) == pytest.approx(exact, abs=distance**2 + 1e-12)


def test_stored_pair_exponential_reference_values() -> None:
    assert link.stored_fidelity_exponential(0.80, 2.226, 1.8) == pytest.approx(0.554, abs=1e-3)
    assert link.stored_fidelity_exponential(0.80, 2.226, 1 / 0.550) == pytest.approx(0.553, abs=5e-4)
    threshold = link.stored_fidelity_threshold(0.80)
    assert threshold == pytest.approx(0.833, abs=5e-4)
    assert link.stored_fidelity_exponential(0.80, threshold, 1.0) == pytest.approx(0.5, abs=1e-12)


def test_stored_pair_two_component_reference_values() -> None:
    assert STORED.fidelity(0) == pytest.approx(0.795, abs=1e-9)
    assert STORED.fidelity(0.450) == pytest.approx(0.532, abs=5e-4)
    assert STORED.fidelity(0.547) == pytest.approx(0.496, abs=1e-3)
    assert STORED.at_next_success(2.226, 0.450) == pytest.approx(0.670, abs=5e-4)
    assert STORED.at_next_success(2.226) == pytest.approx(0.578, abs=1e-3)
    published = Estimate(0.554, 0.050)
    assert abs(Estimate(STORED.fidelity(0.450), 0).pull(published)) < 1


@settings(deadline=None)
@given(
    st.floats(0, 1),
    st.floats(0.05, 3),
    st.floats(0, 1),
    st.floats(0.05, 3),
    st.floats(0.2, 5),
    st.floats(0.1, 8),
)
def test_two_component_mean_equals_the_integral(
    coherence: float, lifetime: float, zz: float, loss: float, rate: float, window: float
) -> None:
    decay = link.TwoComponentDecay(coherence, lifetime, zz, loss)
    share = (np.arange(20_000) + 0.5) / 20_000  # waits at equal steps of probability
    waits = -np.log1p(share * math.expm1(-rate * window)) / rate
    mean = float(np.mean([decay.fidelity(t) for t in waits[::10]]))
    assert decay.at_next_success(rate, window) == pytest.approx(mean, abs=2e-3)


def test_two_component_mean_against_simulated_waits() -> None:
    waits = np.random.default_rng(14).exponential(1 / 2.226, 40_000)
    fidelities = np.array([STORED.fidelity(t) for t in waits])
    error = fidelities.std() / math.sqrt(fidelities.size)
    assert abs(STORED.at_next_success(2.226) - fidelities.mean()) < 5 * error
    early = fidelities[waits < 0.45]
    assert abs(STORED.at_next_success(2.226, 0.45) - early.mean()) < 5 * early.std() / math.sqrt(early.size)


def test_errors_go_through_formulas() -> None:
    mean = propagate(
        link.stored_fidelity_exponential, Estimate(0.80, 0.02), Estimate(2.226, 0.02), Estimate(1.8, 0.1)
    )
    share = 2.226 / 4.026
    by_rate, by_decay = 0.55 * 1.8 / 4.026**2 * 0.02, 0.55 * 2.226 / 4.026**2 * 0.1
    assert mean.standard_error == pytest.approx(math.hypot(share * 0.02, by_rate, by_decay), rel=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: link.herald_rate(-1, 1.0),
        lambda: link.herald_rate(1, 0.0),
        lambda: link.herald_rate_from_waits([1.0, 2.0]),
        lambda: link.signal_to_noise(5, 1.0, 0, 1.0),
        lambda: link.signal_to_noise(5, 0.0, 1, 1.0),
        lambda: link.link_efficiency(Estimate(1, 0, "Hz"), Estimate(0, 0, "Hz")),
        lambda: link.deterministic_threshold(0.5),
        lambda: link.stored_fidelity_threshold(0.4),
        lambda: link.optimal_clock_period_s(0.0, 1.0),
        lambda: link.TwoComponentDecay(1.2, 1, 1, 1),
        lambda: STORED.at_next_success(0.0),
    ],
)
def test_refusals(call) -> None:
    with pytest.raises(LimitError):
        call()
