"""Attempt loops in which most clicks end nothing: they are not played one by one, but counted."""

import dataclasses

import numpy as np
import pytest
from fake_world import FakeWorld, play

from labctl.run.figures import figures
from labctl.run.results import results
from labctl.schedule.items import Attempt, Gate, Report, Schedule, Series, Together, Wait
from labctl.sim.played import Odds
from labctl.units import ns, us
from sequences.two_photon import GATES, outcomes, two_photon

OUTCOMES = outcomes()


def schedule(limit: int = 10**9) -> Schedule:
    body = Series(
        (
            Together(tuple(Gate(f"charlie.snspd_{d}", 60 * ns, GATES[d]) for d in (0, 1))),
            Wait(11 * us),
            Together(tuple(Gate(f"charlie.snspd_{d}", 60 * ns, GATES[2 + d]) for d in (0, 1))),
        )
    )
    loop = Attempt(body, GATES, OUTCOMES, limit)
    return Schedule("two", Series((loop, Report({"outcome": "herald", "attempts": "herald.attempts"}))))


class Forgetful(FakeWorld):
    """Attempts that end nothing leave nothing behind."""

    def odds_at(self, time_ps: int) -> Odds:
        return dataclasses.replace(super().odds_at(time_ps), passing=True)


def test_clicks_that_end_nothing_are_counted_in_their_proportion() -> None:
    """Geometric wait for a herald; of all other attempts each pattern has its share."""
    odds = {"1000": 0.04, "0001": 0.06, "0011": 0.001, "1010": 4e-4, "0110": 1e-4}
    world = Forgetful([(0, odds)])
    records, end = play(world, schedule(), rounds=400)
    assert {call.pattern for call in world.of("play_given")} <= {"1010", "0110"}
    attempts = sum(int(one.values["attempts"]) for one in records)
    assert end.attempts == attempts
    assert attempts / 400 == pytest.approx(1 / 5e-4, rel=0.2)
    seen = {pattern: sum(counts[pattern] for _, counts in world.seen) for pattern in ("1000", "0001", "0011")}
    for pattern, count in seen.items():
        expected = odds[pattern] * attempts
        assert count == pytest.approx(expected, abs=5 * expected**0.5)
    plus = sum(one.values["outcome"] == "psi_plus" for one in records)
    assert plus == pytest.approx(320, abs=5 * 8)


def test_attempts_that_leave_something_behind_are_played() -> None:
    """As a look for atoms that finds one of them, or the link's clicks of both detectors."""
    world = FakeWorld([(0, {"1000": 1e-2, "1010": 1e-3})])
    play(world, schedule(), rounds=50)
    assert {call.pattern for call in world.of("play_given")} == {"1000", "1010"}
    assert not world.seen


def test_if_every_attempt_ends_the_loop_none_passes() -> None:
    world = Forgetful([(0, {"1010": 0.6, "0110": 0.4})])
    records, end = play(world, schedule(), rounds=20)
    assert end.attempts == len(records) == 20
    assert not world.seen


def test_if_none_can_end_it_all_are_counted_until_the_limit() -> None:
    world = Forgetful([(0, {"1000": 0.25})])
    records, end = play(world, schedule(limit=4000))
    assert (records[0].values["outcome"], end.attempts) == ("timeout", 4000)
    assert sum(counts["1000"] for _, counts in world.seen) == pytest.approx(1000, abs=150)
    assert not world.of("play_given")


def test_the_outcome_table_is_total_and_balanced() -> None:
    assert len(OUTCOMES) == 16
    assert sorted(p for p, o in OUTCOMES.items() if o == "psi_plus") == ["0101", "1010"]
    assert sorted(p for p, o in OUTCOMES.items() if o == "psi_minus") == ["0110", "1001"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"alpha": 1.0}, "alpha must be between 0 and 1"),
        ({"separation": 10 * us}, "separation must be whole nanoseconds, at least 10400000 ps"),
        ({"separation": 11 * us + 1}, "separation must be whole nanoseconds"),
        ({"measure": "fun"}, "measure must be"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        two_photon(**arguments)  # type: ignore[arg-type]


def test_a_pair_without_a_tracked_phase_has_its_figures() -> None:
    """No round is void: nobody has to know a phase."""
    rng = np.random.default_rng(1)
    rows = []
    for n in range(900):
        setting = n % 9
        even = setting > 0 and rng.random() < (1 + np.cos((setting - 1) * np.pi / 4)) / 2
        clicks = {
            name: 9000 if place % 2 == n % 2 else -1 for place, name in enumerate(map("{}_ps".format, GATES))
        }
        values = {"attempts": 1000, "setting": setting, "bright_a": 1, "bright_b": int(even), **clicks}
        rows.append((n, (n + 1) * 10**12, values))
    found = {one.key: one.value.value for one in results("heralded_pair", rows, {"measure": "fidelity"})}
    assert found["populations"] == 1.0
    assert found["fidelity"] == pytest.approx(1, abs=0.03)
    assert found["herald_probability"] == pytest.approx(1e-3)
    drawn = figures("heralded_pair", rows, {"measure": "fidelity"})
    assert [caption.partition(":")[0] for caption, _ in drawn] == [
        "Rate", "Heralded pairs", "Arrival of the heralding photons."
    ]  # fmt: skip
    assert "late, detector 1: 450" in drawn[-1][1]
    assert not [key for key in found if key.startswith("void") or key.startswith("phase_sigma")]
