"""The storage sequence: its timing, its waiting times, and pairs through core and world that come out as they went in."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest
from world_lab import IDEAL, laboratory

from labctl.analysis.link import TwoComponentDecay
from labctl.analysis.value import Estimate
from labctl.config import load
from labctl.core.program import lower
from labctl.core.sim import SimCore
from labctl.run.figures import figures
from labctl.run.results import results
from labctl.schedule.check import check
from labctl.schedule.items import Schedule, duration
from labctl.units import ms, us
from sequences.decoupling import PHASES, decoupling
from sequences.memory import RAMAN_PI, memory, stored, times, transfer, waits

LINES = load(Path(__file__).parents[2] / "configs" / "ca40_10km.toml").line
EXACT = {
    **IDEAL,
    "memory.scattered_alice": 0.0,
    "memory.scattered_bob": 0.0,
    "preparation.pump_error": 0.0,
}
"""Noise of the field left out, gates without errors: what is left is the herald."""


def run(schedule: Schedule, rounds: int, changes: dict[str, Any] | None = None, seed: int = 1) -> list[Any]:
    lab = laboratory(seed, changes)
    rows: list[Any] = []
    SimCore(lab, lab.lock, lab.rng("core")).run(
        lower(schedule), rounds, lambda r: rows.append((r.number, r.time_ps, r.values))
    )
    return rows


def value(found: list[Any], key: str) -> Estimate:
    return next(one.value for one in found if one.key == key)


@pytest.mark.parametrize(
    "words",
    [{}, {"storage": "next"}, {"retrieve": True}, {"sequence": "none"}, {"spacing": 1 * ms}]
    + [{"sequence": name} for name in PHASES],
)
def test_no_problems_on_the_lab(words: dict[str, Any]) -> None:
    assert [str(one) for one in check(memory(**words), LINES)] == []


@pytest.mark.parametrize(
    "words", [{"memory": True}, {"memory": True, "sequence": "none", "line_trigger": True}]
)
def test_no_problems_of_shots_on_the_memory(words: dict[str, Any]) -> None:
    assert [str(one) for one in check(decoupling(**words), LINES)] == []


@pytest.mark.parametrize("name", PHASES)
def test_storage_is_whole_periods_as_near_to_the_time_as_they_come(name: str) -> None:
    for time in (0, 3 * ms, 47 * ms, 450 * ms):
        item, length = stored(time, name, 500 * us)
        assert duration(item) == length
        period = math.lcm(len(PHASES[name]), 4) * 500 * us
        assert abs(length - time) <= max(period / 2, 1 * us)


def test_the_table_of_waits_is_the_exponential_distribution() -> None:
    """Mean, shares inside and beyond the window, and the mean of a decay over them as in closed form."""
    mean_wait, within = 449 * ms, 450 * ms
    found, weights = waits(mean_wait, within)
    assert sum(weights) == pytest.approx(1)
    assert sum(t * w for t, w in zip(found, weights, strict=True)) == pytest.approx(mean_wait, rel=1e-6)
    inside = sum(w for t, w in zip(found, weights, strict=True) if t <= within)
    assert inside == pytest.approx(1 - math.exp(-within / mean_wait))
    curve = TwoComponentDecay(0.818, 0.550, 0.544, 0.306)
    kept = [stored(t, "kdd", 500 * us)[1] / 1e12 for t in found]
    fidelity = [curve.fidelity(t) for t in kept]
    everything = sum(f * w for f, w in zip(fidelity, weights, strict=True))
    early = sum(f * w for f, w, t in zip(fidelity, weights, kept, strict=True) if t <= 0.45) / inside
    assert everything == pytest.approx(curve.at_next_success(1e12 / mean_wait), abs=2e-3)
    assert early == pytest.approx(curve.at_next_success(1e12 / mean_wait, 0.45), abs=2e-3)


def test_storage_times_as_text() -> None:
    assert times("0, 50ms,0.4s")[0] == (0, 50 * ms, 400 * ms)
    for words in (
        {"storage": "-1ms"},
        {"sequence": "udd"},
        {"alpha": 1.0},
        {"storage": "next", "mean_wait": 0},
    ):
        with pytest.raises(ValueError, match=r"negative|sequence must be|alpha|mean_wait"):
            memory(**words)


def test_transfer_and_back_take_the_same_steps_in_reverse() -> None:
    there, back = transfer(), transfer(back=True)
    assert list(there.items) == list(reversed(back.items))
    assert duration(there) == duration(back) == 2 * RAMAN_PI


@pytest.mark.parametrize("retrieve", [False, True])
def test_a_pair_comes_out_of_the_memory_as_it_went_in(retrieve: bool) -> None:
    """Perfect gates, no noise: <XX> and <YY> of both signs as heralded, <ZZ> = -1 + 2 α, whatever the storage time."""
    schedule = memory("0, 10ms, 200ms", alpha=0.03, retrieve=retrieve)
    rows = run(schedule, 160, EXACT, seed=3)
    found = results(schedule.analysis, rows, schedule.arguments)
    assert value(found, "fidelity").value > 0.8
    for name, sign in (("xx", 1), ("yy", 1), ("zz", -1)):
        assert sign * value(found, name).value > 0.5, name
    assert {row[2]["outcome"] for row in rows} == {"psi_plus", "psi_minus"}


def test_stored_pairs_of_the_shipped_laboratory_lose_their_coherence() -> None:
    schedule = memory("10ms, 300ms, 800ms")
    rows = run(schedule, 300)
    found = results(schedule.analysis, rows, schedule.arguments)
    waited = (
        np.array([row[2]["attempts"] for row in rows]) * 375e-6
    )  # what "next" takes for granted: exponential
    assert kstest(waited, "expon", args=(0, waited.mean())).pvalue > 0.01
    lifetime = value(found, "coherence_time")
    assert abs(lifetime.value - 0.55) < 4 * lifetime.standard_error
    assert lifetime.standard_error < 0.3
    ((caption, drawing),) = figures(schedule.analysis, rows, schedule.arguments)
    assert caption.startswith("Stored pairs") and drawing.startswith("<svg")
    quick = results(schedule.analysis, rows[:40], schedule.arguments)
    assert {one.key for one in quick} >= {"fidelity", "xx", "yy", "zz"}


def test_rounds_inside_the_window_are_worth_more() -> None:
    schedule = memory("next", within=300 * ms)
    found = results(schedule.analysis, run(schedule, 150), schedule.arguments)
    assert value(found, "fidelity_within").value > value(found, "fidelity").value
    assert next(one.label for one in found if one.key == "fidelity_within").endswith("within 300 ms")


def test_shots_on_the_memory_see_its_coherence() -> None:
    schedule = decoupling("kdd", pulses=100, memory=True)
    found = results(schedule.analysis, run(schedule, 240), schedule.arguments)
    for letter in "ab":  # 50 ms of 1.1 s
        assert value(found, f"contrast_{letter}").value > 0.8


def test_a_line_trigger_makes_the_mains_the_same_in_every_shot() -> None:
    """60 Hz of 50 Hz at Alice, 5 ms without pulses: her fringe is washed out to a Bessel function, unless shots are triggered."""
    quiet = {
        f"tones.{node}.{tone}_hz": 0.0 for node in ("alice", "bob") for tone in ("first", "second", "third")
    }
    changes = {**EXACT, **quiet, "tones.alice.first_hz": 60.0}
    contrast: dict[tuple[bool, str], float] = {}
    for triggered in (True, False):
        schedule = decoupling("none", pulses=10, memory=True, line_trigger=triggered)
        found = results(schedule.analysis, run(schedule, 200, changes), schedule.arguments)
        for letter in "ab":
            contrast[triggered, letter] = value(found, f"contrast_{letter}").value
    swing = 60 / 50 * 2 * math.sin(math.pi * 50 * 5e-3)  # rad, of the phase in 5 ms
    expected = np.cos(swing * np.sin(np.arange(1000) * 2 * math.pi / 1000)).mean()
    assert contrast[False, "a"] == pytest.approx(expected, abs=0.25)
    assert min(contrast[True, "a"], contrast[True, "b"], contrast[False, "b"]) > 0.85
