"""Passes without a record, totals of attempt loops, thresholds that decide, settings from the random source."""

import numpy as np
import pytest
from artiq_parts import CONFIG, KASLI
from artiq_parts import LINES as ARTIQ_LINES
from fake_world import FOREVER, FakeWorld

from labctl.core.artiq.compile import problems
from labctl.core.program import lower
from labctl.core.sim import SimCore
from labctl.run.results import results
from labctl.schedule.check import check
from labctl.schedule.items import Attempt, Branch, Draw, Gate, Report, Schedule, Series, Wait
from labctl.schedule.lines import Line
from labctl.sim.played import Record
from labctl.units import ms, us

LINES = {"charlie.snspd_0": Line(direction="in", kind="detector", grid_ps=1000, shortest_ps=1000)}
REPORT = Report({"attempts": "herald.total", "live_ps": "herald.total_ps", "tries": "herald.attempts"})


def searching(limit: int, threshold: int | None = None) -> Schedule:
    loop = Attempt(
        Gate("charlie.snspd_0", 10 * us, "click", threshold), ("click",), {"0": "again", "1": "seen"}, limit
    )
    cases = {"seen": REPORT, "timeout": Wait(1 * us)}
    return Schedule("search", Series((Wait(5 * us), loop, Branch("herald", cases))), rounds="record")


def records(schedule: Schedule, chance: float, rounds: int) -> list[Record]:
    world = FakeWorld([(0, {"1": chance})])
    found: list[Record] = []
    SimCore(world, _Free(), np.random.default_rng(1)).run(lower(schedule), rounds, found.append)
    return found


class _Free:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def test_records_are_counted_and_totals_run_through_passes_without_one() -> None:
    found = records(searching(limit=10), 0.02, 40)
    assert len(found) == 40
    last = found[-1].values
    assert int(last["attempts"]) > 40 * 10  # most passes ended without a record
    assert last["live_ps"] == int(last["attempts"]) * 10 * us
    totals = [int(r.values["attempts"]) for r in found]
    assert totals == sorted(totals)
    assert all(1 <= int(r.values["tries"]) <= 10 for r in found)
    passes = -(-int(last["attempts"]) // 10)
    assert found[-1].time_ps >= int(last["live_ps"]) + passes * 5 * us


def test_the_checker_knows_totals_before_the_first_loop_and_blocks_of_random_bits() -> None:
    assert check(searching(10), LINES) == []
    early = Schedule("early", Series((Report({"t": "herald.total_ps"}), searching(10).body)))
    assert check(early, LINES) == []
    drawn = Schedule("drawn", Series((Draw("x", (1.0, 1.0), "qrng"), Report({"b": "x.block"}), Wait(1 * ms))))
    assert check(drawn, LINES) == []
    plain = Schedule("plain", Series((Draw("x", (1.0, 1.0)), Report({"b": "x.block"}), Wait(1 * ms))))
    assert [problem for problem in check(plain, LINES) if "x.block" in str(problem)]


def test_a_threshold_that_decides_reaches_the_world() -> None:
    segments = lower(searching(10, threshold=280)).root.steps[1].segments({})  # type: ignore[union-attr]
    assert [gate.threshold for gate in segments[1].gates] == [280]


def test_live_rate_and_fraction_over_merged_runs() -> None:
    def row(number: int, time_s: float, live_s: float, attempts: int) -> tuple[int, int, dict[str, int]]:
        values = {
            "attempts": 1,
            "attempts_total": attempts,
            "live_ps": round(live_s * 1e12),
            "loading_ps": round(live_s * 1e11),
            "bright_a": 0,
            "bright_b": 1,
        }
        return number, round(time_s * 1e12), values

    first = [row(k, 2.0 * (k + 1), 1.5 * (k + 1), 100 * (k + 1)) for k in range(50)]
    second = [row(50 + k, 100 + 2.0 * (k + 1), 1.5 * (k + 1), 100 * (k + 1)) for k in range(50)]
    found = {r.key: r.value for r in results("heralded_pair", first + second, {})}
    assert found["live_fraction"].value == pytest.approx(0.75)
    assert found["live_rate"].value == pytest.approx(100 / 150)
    assert found["herald_rate"].value == pytest.approx(0.5)
    assert found["herald_probability"].value == pytest.approx(100 / 10_000)
    assert found["loading_share"].value == pytest.approx(0.075)
    assert "valid_share" not in found


def test_odds_for_ever_do_not_end_a_search_that_cannot_succeed() -> None:
    world = FakeWorld([(0, {"1": 0.0})])
    schedule = Schedule("search", searching(10).body)  # passes count: it ends
    SimCore(world, _Free(), np.random.default_rng(1)).run(lower(schedule), 3, lambda _: None)
    assert world.now < FOREVER


def test_what_only_the_simulated_core_has_is_refused_by_the_artiq_core() -> None:
    loop = Attempt(Gate("n.in0", 1 * us, "c", 5), ("c",), {"0": "again", "1": "yes"}, 10)
    report = Report({"t": "herald.total_ps"})
    body = Series((loop, Branch("herald", {"yes": Series((report, Wait(1 * us))), "timeout": Wait(1 * us)})))
    said = "\n".join(
        str(one) for one in problems(Schedule("test", body, rounds="record"), ARTIQ_LINES, CONFIG, KASLI)
    )
    for words in ("without a record", "'c' reaches a threshold", "'herald.total_ps'"):
        assert words in said
