import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.analysis.fringe import Fringe, fit_fringe, summarise_arrivals
from labctl.analysis.value import Estimate
from labctl.errors import LimitError

PHASES = np.linspace(0, 2 * math.pi, 8, endpoint=False)


def scan(
    random: np.random.Generator,
    contrast: float,
    phase: float,
    clicks: int = 500,
    offset: float = 0.0,
    harmonic: int = 1,
    fit_offset: bool = False,
) -> Fringe:
    share = 0.5 + offset + contrast * np.cos(harmonic * PHASES - phase) / 2
    ones = random.binomial(clicks, share)
    return fit_fringe(PHASES, ones, clicks - ones, harmonic=harmonic, fit_offset=fit_offset)


def turn(a: float, b: float) -> float:
    return math.remainder(a - b, 2 * math.pi)


# derandomized: a five-sigma bound must not be searched for chance
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.15, 0.97),
    st.floats(-math.pi, math.pi),
    st.integers(200, 5000),
    st.sampled_from([1, 2, 3]),
    st.floats(-0.9, 0.9),
    st.booleans(),
)
def test_a_simulated_fringe_is_recovered(
    seed: int, contrast: float, phase: float, clicks: int, harmonic: int, lean: float, fit_offset: bool
) -> None:
    offset = lean * (1 - contrast) / 2 if fit_offset else 0.0
    fringe = scan(np.random.default_rng(seed), contrast, phase, clicks, offset, harmonic, fit_offset)
    floor = 3 / clicks  # at a share within 1/clicks of 0 or 1 the errors are not Gaussian
    assert abs(fringe.contrast.value - contrast) < 5 * fringe.contrast.standard_error + floor
    assert abs(turn(fringe.phase.value, phase)) < 5 * fringe.phase.standard_error + floor
    assert abs(fringe.offset.value - offset) < 5 * fringe.offset.standard_error + floor
    assert fringe.degrees_of_freedom == 8 - 2 - fit_offset
    assert 0 <= fringe.contrast.value <= 1


@pytest.mark.parametrize(
    ("contrast", "offset", "fit_offset"), [(0.95, 0.0, False), (0.6, 0.0, False), (0.3, 0.1, True)]
)
def test_errors_are_the_spread_of_repeated_scans(contrast: float, offset: float, fit_offset: bool) -> None:
    random = np.random.default_rng(21)
    fits = [scan(random, contrast, 0.7, 400, offset, fit_offset=fit_offset) for _ in range(300)]
    for name, true in (("contrast", contrast), ("phase", 0.7), *([("offset", offset)] if fit_offset else [])):
        found: list[Estimate] = [getattr(fit, name) for fit in fits]
        values = np.array([item.value for item in found])
        error = float(np.mean([item.standard_error for item in found]))
        assert values.std() == pytest.approx(error, rel=0.12), name
        assert abs(values.mean() - true) < 5 * error / math.sqrt(len(fits)) + 0.05 * error, name
    chi_squared = np.mean([fit.chi_squared for fit in fits])
    assert chi_squared == pytest.approx(fits[0].degrees_of_freedom, rel=0.1)


def test_exact_shares_give_exact_parameters() -> None:
    ones = 1e6 * (1 + 0.986 * np.cos(PHASES - 2.5)) / 2
    fringe = fit_fringe(PHASES, ones, 1e6 - ones)
    assert fringe.contrast.value == pytest.approx(0.986, abs=1e-6)
    assert fringe.phase.value == pytest.approx(2.5, abs=1e-6)
    assert fringe.chi_squared < 1e-3


def test_a_perfect_fringe_stays_physical_with_an_error_above_zero() -> None:
    fringe = fit_fringe([0, math.pi / 2, math.pi, 3 * math.pi / 2], [100, 50, 0, 50], [0, 50, 100, 50])
    assert fringe.contrast.value == pytest.approx(1, abs=1e-6)
    assert 0 < fringe.contrast.standard_error < 0.1
    assert fringe.phase.value == pytest.approx(0, abs=1e-6)


def test_no_fringe_has_no_phase() -> None:
    fringe = fit_fringe(PHASES, [50] * 8, [50] * 8)
    assert fringe.contrast.value < 1e-3
    assert fringe.phase.standard_error > math.pi
    assert fringe.contrast.standard_error == pytest.approx(math.sqrt(2 / 800), rel=0.01)


def test_phase_error_is_the_shot_noise_limit_of_clicks_at_quadrature() -> None:
    """N clicks at quadrature (and the contrast known from elsewhere on the fringe): sigma = 1/(V sqrt N)."""
    contrast, clicks = 0.98, 300
    phases = np.array([math.pi / 2, 3 * math.pi / 2, 0.0, math.pi])
    totals = np.array([clicks / 2, clicks / 2, 1e7, 1e7])
    ones = totals * (1 + contrast * np.cos(phases)) / 2
    fringe = fit_fringe(phases, ones, totals - ones)
    assert fringe.phase.standard_error == pytest.approx(0.059, abs=5e-4)


@pytest.mark.parametrize(
    ("phases", "ones", "twos"),
    [
        ([0.0], [5], [5]),
        ([0.0, math.pi], [5, 1], [1, 5]),  # the same quadrature twice
        ([0.0, 1.0], [5, 0], [5, 0]),  # one setting without a click
        ([0.0, 1.0], [5, -1], [5, 2]),
        ([0.0, 1.0], [5, 1], [5, -1]),
        ([0.0, 1.0, 2.0], [5, 1], [5, 1]),
        ([0.0, math.nan], [5, 1], [5, 1]),
    ],
)
def test_refuses_scans_that_determine_nothing(phases: list[float], ones: list[int], twos: list[int]) -> None:
    with pytest.raises(LimitError):
        fit_fringe(phases, ones, twos)


def test_offset_needs_three_settings() -> None:
    with pytest.raises(LimitError, match="3 parameters"):
        fit_fringe([0.0, 1.0], [5, 6], [5, 6], fit_offset=True)


def test_arrival_times_and_their_spread() -> None:
    random = np.random.default_rng(22)
    edges = np.arange(0, 60_001, 500)
    found = []
    for _ in range(500):
        photons = random.normal(30_000, 5_000, random.poisson(2000))
        noise = random.uniform(0, 60_000, random.poisson(240))
        counts = np.histogram(np.concatenate([photons, noise]), edges)[0]
        measured = Estimate(random.poisson(240 * 9) / 9 / 120, math.sqrt(240 / 9) / 120)
        found.append(summarise_arrivals(edges, counts, measured))
    for name, true in (("clicks", 2000), ("mean", 30_000), ("width", math.hypot(5_000, 500 / math.sqrt(12)))):
        items: list[Estimate] = [getattr(item, name) for item in found]
        values, error = np.array([i.value for i in items]), float(np.mean([i.standard_error for i in items]))
        assert values.std() == pytest.approx(error, rel=0.12), name
        assert abs(values.mean() - true) < 5 * error / math.sqrt(500) + 0.05 * error, name
    assert found[0].mean.unit == "ps"
    assert abs(found[0].peak_ps - 30_000) < 5_000


def test_width_error_without_background() -> None:
    """For a Gaussian the error of the width is width/sqrt(2N)."""
    edges = np.linspace(-6, 6, 2401)
    centres = (edges[1:] + edges[:-1]) / 2
    counts = 5000 * np.exp(-(centres**2) / 2) / math.sqrt(2 * math.pi) * 0.005
    found = summarise_arrivals(edges, counts)
    assert found.width.value == pytest.approx(1, rel=1e-3)
    assert found.width.standard_error == pytest.approx(1 / math.sqrt(2 * 5000), rel=1e-3)
    assert found.mean.standard_error == pytest.approx(1 / math.sqrt(5000), rel=1e-3)


def test_arrival_times_refuse_an_empty_histogram() -> None:
    with pytest.raises(LimitError, match="above the background"):
        summarise_arrivals([0, 1, 2], [0, 0])
    with pytest.raises(LimitError, match="edges"):
        summarise_arrivals([0, 1], [0, 1])
    with pytest.raises(LimitError, match="smaller background"):
        summarise_arrivals([0, 1, 2, 3], [0, 9, 0], Estimate(2.9, 0))
