"""Detectors with dead time and afterpulses against the formulas of renewal processes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world_lab import CYCLE, cooling, laboratory, pulse, segment

from simulated_hw.world.click_train import Recovery, draw, latch_probability, live_rate

SLOT_PS = 10**9
NEVER = -(10**15)


def clicks(
    rate_hz: float, recovery: Recovery, plays: int = 400, slots: int = 2, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Times of all clicks of one detector in contiguous slots of 1 ms, ps, and the clicks of each play."""
    rng = np.random.default_rng(seed)
    starts = np.arange(plays, dtype=np.int64) * (slots + 1) * SLOT_PS
    layout = (
        np.zeros(slots, np.int64),
        np.arange(slots, dtype=np.int64) * SLOT_PS,
        np.full(slots, SLOT_PS, np.int64),
    )
    means = np.full((plays, slots), rate_hz * SLOT_PS * 1e-12)
    train = draw(rng, means, layout, starts, recovery, np.array([NEVER], np.int64))
    assert (train.time_ps >= train.slot * SLOT_PS).all() and (
        train.time_ps < (train.slot + 1) * SLOT_PS
    ).all()
    return starts[train.start] + train.time_ps, np.bincount(train.start, minlength=plays)


@pytest.mark.parametrize("rate", [1e4, 5e5, 2e7])
def test_dead_time_saturates_the_rate_and_squeezes_the_counts(rate: float) -> None:
    """R/(1 + R dead); variance over mean 1/(1 + R dead)^2, both of the non-paralysable counter (Müller 1973)."""
    plays = 400 if rate < 1e7 else 40
    times, counts = clicks(rate, Recovery(50e3, 0.0, 1.0), plays)
    lost = 1 + rate * 50e-9
    expected = rate / lost * 2e-3
    assert np.diff(times).min() >= 50_000
    assert counts.mean() == pytest.approx(expected, abs=5 * math.sqrt(expected / plays) + 1)
    assert counts.var() / counts.mean() == pytest.approx(1 / lost**2, rel=5 * math.sqrt(2 / plays))


def test_without_dead_time_the_clicks_are_poissonian() -> None:
    times, counts = clicks(2e5, Recovery(0.0, 0.0, 1.0), 1000)
    assert counts.mean() == pytest.approx(400, abs=5 * math.sqrt(400 / 1000))
    assert counts.var() == pytest.approx(400, rel=5 * math.sqrt(2 / 1000))
    inside = (times % SLOT_PS) / SLOT_PS
    assert inside.mean() == pytest.approx(0.5, abs=5 / math.sqrt(12 * len(inside)))


def test_afterpulses_stand_in_the_tag_differences() -> None:
    """Differences between successive tags: an exponential of the light, and the afterpulses after the dead time on top."""
    rate, chance, dead, after = 2e5, 0.05, 50e3, 100e3
    times, counts = clicks(rate, Recovery(dead, chance, after), 600)
    gaps = np.diff(times)
    gaps = gaps[gaps < SLOT_PS // 2] - dead
    assert gaps.min() >= -1
    for span in (after, 5 * after):
        found = float(np.mean(gaps < span))
        follows = chance * -math.expm1(-span / after)
        assert found == pytest.approx(
            1 - (1 - follows) * math.exp(-rate * span * 1e-12), abs=5 * math.sqrt(found / len(gaps))
        )
    assert counts.sum() / (600 * 2e-3) == pytest.approx(
        live_rate(rate, Recovery(dead, chance, after)), rel=0.01
    )


def test_no_light_no_clicks_and_the_dead_time_reaches_into_the_next_slot() -> None:
    assert len(clicks(0.0, Recovery(50e3, 0.5, 1e3))[0]) == 0
    blind = Recovery(0.6 * SLOT_PS, 0.0, 1.0)
    times, counts = clicks(1e7, blind, 50, slots=3)
    assert set(counts.tolist()) == {5}  # 3 ms of light, a click every 0.6 ms from the first
    assert np.diff(times).min() >= 0.6 * SLOT_PS


def test_two_detectors_do_not_blind_each_other() -> None:
    rng = np.random.default_rng(2)
    layout = (
        np.array([0, 1], np.int64),
        np.zeros(2, np.int64),
        np.full(2, SLOT_PS, np.int64),
    )
    train = draw(
        rng,
        np.full((200, 2), 1000.0),
        layout,
        np.arange(200, dtype=np.int64) * SLOT_PS,
        Recovery(50e3, 0.0, 1.0),
        np.full(2, NEVER, np.int64),
    )
    for detector in (0, 1):
        assert np.mean(train.slot == detector) == pytest.approx(0.5, abs=0.01)
    assert len(train.time_ps) / 200 == pytest.approx(2 * 1000 / 1.05, rel=0.01)


@given(st.floats(1, 1e8), st.floats(0, 1e6), st.floats(0, 0.3), st.floats(1, 1e6))
@settings(max_examples=60, deadline=None)
def test_afterpulses_add_and_dead_time_takes_away(
    rate: float, dead: float, chance: float, after: float
) -> None:
    without = live_rate(rate, Recovery(dead, 0.0, after))
    assert without == pytest.approx(rate / (1 + rate * dead * 1e-12))
    assert without <= live_rate(rate, Recovery(dead, chance, after)) * (1 + 1e-12)


def test_bright_light_latches_and_reference_light_does_not() -> None:
    recovery = Recovery(50e3, 0.0, 1.0)
    assert latch_probability(1e11, 1e-3, recovery, 1e-6) > 0.99
    months = 386.1 * 3600 * 0.065
    assert latch_probability(5e5, months, recovery, 1e-11) == pytest.approx(
        1e-11 * months * 5e5 * 0.0244, rel=0.01
    )


def test_the_reference_slot_of_the_laboratory_has_the_dead_time() -> None:
    """Half a megahertz at each detector on average over the phases: 2.4 % fewer clicks, and tags 50 ns apart or more."""
    live = laboratory(changes={"detectors.dead_s": 50e-9, "detectors.afterpulse": 0.0})
    ideal = laboratory(changes={"detectors.dead_s": 0.0, "detectors.afterpulse": 0.0})
    totals = []
    for lab in (live, ideal):
        starts = [k * CYCLE for k in range(20_000)]
        totals.append(sum(sum(counts) for counts in lab.play_many(cooling(), starts).values()))
    share = totals[0] / totals[1]
    # <R^2>/<R> of a fringe that takes all phases is 1.5 times its mean rate
    assert share == pytest.approx(1 - 1.5 * 0.5e6 * 50e-9, abs=0.012)
    tags = np.array(live.part("charlie.tagger").tags)
    for detector in (0, 1):
        times = tags[tags[:, 1] == detector, 0]
        assert np.diff(times).min() >= 50_000


def test_alignment_light_latches_the_wires_and_bias_off_frees_them() -> None:
    lab = laboratory()
    wires = lab.part("charlie.snspd")
    before = [d.efficiency for d in lab._look(0.0).detectors]
    lab.play(segment([pulse("alice.align_1550", 0, 10**9)], [], 10**9, "align"), 0)
    assert [wire.latched for wire in wires] == [True, True]
    assert [d.efficiency for d in lab._look(1.0).detectors] == [0.0, 0.0]
    for wire in wires:
        wire.latched = False
    assert [d.efficiency for d in lab._look(2.0).detectors] == before
    lab.play_many(cooling(), [3 * 10**12 + k * CYCLE for k in range(1000)])
    assert [wire.latched for wire in wires] == [False, False]
