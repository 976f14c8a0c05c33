"""Fits and models of the calibrations: honest errors, published thresholds, known limits."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.analysis import qubit
from labctl.analysis.drift import fit_drift
from labctl.analysis.fits import Parameter, fit_counts, fit_shares
from labctl.analysis.photon import fit_arrivals, fit_etalon, packet_integral
from labctl.analysis.readout import (
    best_threshold,
    dark_distribution,
    fit_histograms,
    poisson,
    threshold_errors,
)
from labctl.analysis.value import Estimate
from labctl.errors import LimitError


def rms(pulls: list[float]) -> float:
    return math.sqrt(sum(pull * pull for pull in pulls) / len(pulls))


def pull(found: Estimate, true: float) -> float:
    return (found.value - true) / found.standard_error


def test_errors_of_a_rabi_fit_are_what_repeated_fits_scatter_by() -> None:
    """π times of 10 us in seconds and shares of order one in one fit: no parameter is too small to be searched."""
    rng = np.random.default_rng(1)
    times = np.linspace(0, 25e-6, 14)
    shots = np.full(14, 60)
    pulls: list[float] = []
    reduced: list[float] = []
    for _ in range(40):
        bright = rng.binomial(shots, qubit.rabi_share(times, 1.01e-5, 0.9, 0.5))
        fit = qubit.fit_rabi(times, bright, shots)
        pulls.append(pull(fit["pi_time"], 1.01e-5))
        reduced.append(fit.chi_squared / fit.degrees_of_freedom)
    assert 0.75 < rms(pulls) < 1.25
    assert abs(sum(pulls)) / math.sqrt(len(pulls)) < 3
    assert np.mean(reduced) == pytest.approx(1.0, abs=4 * math.sqrt(2 / 11 / 40))


def test_errors_of_a_wave_packet_fit_are_what_repeated_fits_scatter_by() -> None:
    rng = np.random.default_rng(2)
    edges = np.linspace(0, 160e-9, 161)
    fine = np.linspace(0, 200e-9, 5001)
    grown = packet_integral(fine, 7.45e-9, 40e6)
    starts: list[float] = []
    decays: list[float] = []
    for _ in range(24):
        late = np.interp(rng.random(1500), grown, fine) + 21.7e-9
        counts = np.histogram(late, edges)[0] + rng.poisson(0.2, 160)
        fit = fit_arrivals(edges, counts, 40e6)
        starts.append(pull(fit["start"], 21.7e-9))
        decays.append(pull(fit["decay"], 7.45e-9))
    assert 0.65 < rms(starts) < 1.4
    assert 0.65 < rms(decays) < 1.4


def test_a_wave_packet_comes_whole_and_starts_slowly() -> None:
    late = np.array([-1e-9, 0.0, 1e-9, 1e-6])
    before, begin, early, whole = packet_integral(late, 7.45e-9, 40e6)
    assert before == begin == 0.0
    assert 0 < early < 1e-2
    assert whole == pytest.approx(1.0)
    same = 1 / (2 * math.pi * 40e6)  # the decay that matches the filter: t² exp(-2t)
    assert packet_integral([same * 2], same, 40e6)[0] == pytest.approx(0.3233, abs=1e-3)


@pytest.mark.parametrize(
    ("window_s", "bright", "dark", "counts", "error"),
    [(0.5e-3, 20.0, 0.3, 5, 1.8e-4), (1e-3, 30.0, 0.5, 11, 2.9e-4)],
)
def test_the_best_thresholds_of_the_experiment(
    window_s: float, bright: float, dark: float, counts: int, error: float
) -> None:
    """PHYSICS.md 1.5, with the decay of D5/2 within the window."""
    best = best_threshold(bright, dark, window_s)
    assert best.counts == counts
    assert best.error == pytest.approx(error, abs=0.05e-4)


def test_a_long_window_has_a_better_threshold_than_24() -> None:
    """60 and 1.0 counts in 2 ms: 24 has the error of 5.2e-4 that PHYSICS.md 1.5 gives; 33 is better."""
    assert threshold_errors(60.0, 1.0, 2e-3, 24).error == pytest.approx(5.2e-4, abs=0.05e-4)
    best = best_threshold(60.0, 1.0, 2e-3)
    assert best.counts == 33
    assert best.error == pytest.approx(4.2e-4, abs=0.05e-4)


def test_dark_counts_are_a_distribution_and_without_decay_a_poisson_one() -> None:
    counts = np.arange(80)
    assert dark_distribution(20.0, 0.3, 0.5e-3, counts).sum() == pytest.approx(1.0)
    assert dark_distribution(20.0, 0.3, 0.5e-3, counts, math.inf) == pytest.approx(poisson(0.3, counts))
    rng = np.random.default_rng(3)
    window, lifetime = 0.4, 1.0  # a decay that happens often, against drawing it
    falls = rng.exponential(lifetime, 200_000)
    lit = np.clip(1 - falls / window, 0, 1)
    drawn = rng.poisson(0.3 + 19.7 * lit)
    found = np.bincount(drawn, minlength=80)[:80] / drawn.size
    assert dark_distribution(20.0, 0.3, window, counts, lifetime) == pytest.approx(found, abs=3e-3)


def test_histograms_give_back_their_means() -> None:
    rng = np.random.default_rng(4)
    bright = np.bincount(rng.poisson(12.0, 600), minlength=60).astype(float)
    failed = rng.random(600) < 0.05
    dark = np.bincount(np.where(failed, rng.poisson(12.0, 600), rng.poisson(0.4, 600)), minlength=60).astype(
        float
    )
    fit = fit_histograms(bright, dark, 0.5e-3)
    assert abs(pull(fit["bright_mean"], 12.0)) < 3.5
    assert abs(pull(fit["dark_mean"], 0.4)) < 3.5
    assert abs(pull(fit["left_bright"], 0.05)) < 3.5
    with pytest.raises(LimitError, match="shots of bright and of dark"):
        fit_histograms(bright, np.zeros(60), 0.5e-3)


@given(
    first_t=st.floats(-1e-3, 1e-3),
    centre=st.floats(-1e7, 1e7),
    slope=st.sampled_from([(-27.988e9, 5.612e9), (-27.988e9, 27.988e9), (5.612e9, 22.412e9)]),
)
def test_two_lines_give_back_field_and_centre(
    first_t: float, centre: float, slope: tuple[float, float]
) -> None:
    k1, k2 = slope
    lines = [Estimate(centre + k * first_t, 10.0, "Hz") for k in slope]
    field, found = qubit.field_and_centre(lines[0], lines[1], k1, k2)
    assert field.value == pytest.approx(first_t, abs=1e-15)
    assert found.value == pytest.approx(centre, abs=1e-3)
    assert field.standard_error == pytest.approx(10 * math.sqrt(2) / abs(k1 - k2))
    assert (field.unit, found.unit) == ("T", "Hz")


def test_a_line_is_found_at_the_edge_of_the_scan_too() -> None:
    frequencies = np.linspace(-3e3, 3e3, 15)
    shots = np.full(15, 400)
    for centre in (-2.6e3, 0.0, 2.1e3):
        share = 1 - 0.95 * qubit.flop(math.pi / 5e-4, frequencies - centre, 5e-4)
        fit = qubit.fit_line(frequencies, np.round(shots * share), shots, 5e-4)
        assert fit["centre"].value == pytest.approx(centre, abs=5.0)


@settings(max_examples=20, deadline=None)
@given(detuning=st.floats(-200.0, 200.0))
def test_ramsey_finds_any_detuning_within_its_range(detuning: float) -> None:
    waits = np.repeat(np.arange(6) * 2e-3, 4)
    turns = np.tile(np.arange(4) / 4, 6)
    shots = np.full(24, 500)
    share = qubit.ramsey_share(waits, turns, qubit.dead_time_s(1e-5), detuning, 0.95, 9e-3)
    fit = qubit.fit_ramsey(waits, turns, np.round(shots * share), shots, 1e-5)
    assert fit["detuning"].value == pytest.approx(detuning, abs=1.0)
    assert fit["t2"].value == pytest.approx(9e-3, rel=0.05)


def test_drift_model_feeds_forward_and_knows_what_surprises_it() -> None:
    times = np.arange(12) * 300.0
    values = [Estimate(5 + 0.02 * t - 4e-6 * t**2, 2.0, "Hz") for t in times.tolist()]
    model = fit_drift(times, values)
    later = 12 * 300.0
    assert model.at(later).value == pytest.approx(5 + 0.02 * later - 4e-6 * later**2)
    assert model.rate(later).value == pytest.approx(0.02 - 8e-6 * later)
    assert model.chi_squared == pytest.approx(0.0, abs=1e-9)
    assert 1.5 < model.at(later).standard_error < 5  # further out than any point
    there = model.at(later).value
    assert not model.surprised_by(later, Estimate(there + 5, 2.0, "Hz"))
    assert model.surprised_by(later, Estimate(there + 30, 2.0, "Hz"))
    with pytest.raises(LimitError, match="more than 5 measurements, not 5"):
        fit_drift(times[:5], values[:5])
    with pytest.raises(LimitError, match="standard error"):
        fit_drift(times, [Estimate(0.0, 0.0, "Hz")] * 12)


def test_what_counts_do_not_determine_is_refused_not_invented() -> None:
    times = np.linspace(0, 1e-5, 6)
    with pytest.raises(LimitError, match="2 points with counts cannot determine pi_time, contrast, middle"):
        qubit.fit_rabi(times, [5, 5, 0, 0, 0, 0], [10, 10, 0, 0, 0, 0])
    with pytest.raises(LimitError, match="at least two waiting times"):
        qubit.fit_ramsey([1e-3] * 4, [0, 0.25, 0.5, 0.75], [5] * 4, [10] * 4, 1e-5)
    with pytest.raises(LimitError, match="do not show a wave packet"):
        fit_arrivals(np.linspace(0, 1e-7, 11), np.zeros(10), 40e6)
    with pytest.raises(LimitError, match="no click at any frequency"):
        fit_etalon(np.linspace(-1, 1, 5), np.zeros(5), np.ones(5))
    flat = [Parameter("a", 1.0, 0.0, 10.0), Parameter("b", 1.0, 0.0, 10.0)]
    with pytest.raises(LimitError, match="do not determine a, b"):
        fit_counts(lambda v: np.full(8, v[0] + v[1]), np.full(8, 3.0), flat)


def test_an_etalon_seen_unevenly_long_is_still_itself() -> None:
    frequencies = np.linspace(-60e6, 60e6, 21)
    exposure = np.where(np.arange(21) % 3 == 0, 0.0, 1e-3 * (1 + np.arange(21) % 2))
    rate = 20.0 + 5e5 / (1 + (2 * (frequencies - 7e6) / 40e6) ** 2)
    fit = fit_etalon(frequencies, np.round(rate * exposure), exposure)
    assert fit["centre"].value == pytest.approx(7e6, abs=3e5)
    assert fit["fwhm"].value == pytest.approx(40e6, rel=0.03)


def test_a_share_at_the_edge_has_an_error_worth_its_shots() -> None:
    """All of 20 ions bright: not exactly one."""
    fit = fit_shares(lambda v: np.full(1, v[0]), [20], [20], [Parameter("share", 0.5, 0.0, 1.0)])
    assert fit["share"].value > 0.99
    assert 0.01 < fit["share"].standard_error < 0.1
