"""When a tracked phase may be used: lock, posterior and clicks, decided by the core and reported with the phase."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from artiq_parts import LINES, compiled, play
from world_lab import laboratory

from labctl.analysis.phase import LAGS
from labctl.config import load
from labctl.core.phase_filter import PhaseFilter
from labctl.core.program import lower
from labctl.core.sim import SimCore
from labctl.run.results import results
from labctl.run.table import Table
from labctl.schedule.check import check
from labctl.schedule.items import (
    Attempt,
    Branch,
    Every,
    Gate,
    Item,
    Repeat,
    Report,
    Schedule,
    Series,
    Together,
    Track,
    Valid,
    Wait,
)
from labctl.schedule.timeline import flatten
from labctl.sim.played import Record
from labctl.units import us
from sequences.link import attempt
from sequences.phase_stabilisation import (
    LOCK,
    lock_gate,
    phase_stabilisation,
    reference_gates,
    reference_light,
    tracker,
)
from simulated_hw.world.laboratory import Laboratory

LAB = load(Path(__file__).parents[2] / "configs" / "ca40_10km.toml")
SECOND = 10**12


def taken(world: Laboratory, shots: int, **arguments: Any) -> list[Record]:
    found: list[Record] = []
    SimCore(world, world.lock, world.rng("core")).run(
        lower(phase_stabilisation(**arguments)), shots, found.append
    )
    return found


def valid(records: list[Record]) -> float:
    return float(np.mean([int(record.values["phase_valid"]) for record in records]))


def test_the_loop_is_valid_until_a_cause_takes_it_away() -> None:
    world = laboratory(3)
    first = taken(world, 300)
    assert valid(first[20:]) > 0.98
    assert all(int(r.values["lock_counts"]) == 26 for r in first)
    world.part("charlie.wdm").unlock()
    unlocked = taken(world, 100)
    assert all(int(r.values["lock_counts"]) == 0 for r in unlocked[1:]) and valid(unlocked[1:]) == 0
    world.part("charlie.wdm").enabled = False
    taken(world, 10)
    world.part("charlie.wdm").enabled = True
    taken(world, 1500)
    assert valid(taken(world, 200)) > 0.95
    for node in ("alice", "bob"):
        world.part(f"{node}.aom")[2].signal_on = False
    dark = taken(world, 150)
    assert all(float(r.values["phase_sigma_rad"]) > 0.25 for r in dark[50:]) and valid(dark[1:]) == 0


def test_the_best_of_a_loop_comes_out_of_a_run() -> None:
    """1 MHz x 6.5 %: contrast 0.985 or more with the filter, 0.969 for each slot alone, from the same clicks."""
    schedule = phase_stabilisation()
    records = taken(laboratory(5), 6000)
    table = Table([(r.number, r.time_ps, dict(r.values)) for r in records])
    found = {one.key: one.value for one in results("phase_stabilisation", table, schedule.arguments)}
    assert found["reference_clicks"].value == pytest.approx(25, abs=1)
    bayes, alone = found["cos_bayes"], found["cos_slot"]
    assert bayes.standard_error < 0.002
    assert bayes.value > 0.985 and bayes.value - 0.985 > 2 * bayes.standard_error
    assert alone.value == pytest.approx(0.969, abs=3 * alone.standard_error + 0.002)
    expected = 2 * math.pi * 2.0  # two hertz of linewidth
    assert found["diffusion"].value == pytest.approx(expected, abs=4 * found["diffusion"].standard_error)
    assert found["slips"].value == 0 and found["valid_share"].value > 0.98
    assert LAGS > 1


def test_a_slot_shows_both_quadratures_at_both_detectors_with_the_flight_between() -> None:
    flight = 24_483_000
    slot = Together(
        (
            *(Series(reference_light(node, 13 * us)) for node in ("alice", "bob")),
            Series((Wait(flight), *reference_gates(13 * us))),
        )
    )
    timeline, _ = flatten(slot)
    spans = {
        name: [
            (int(timeline.start_ps[k]), float(timeline.phase_turns[k]))
            for k in range(len(timeline))
            if timeline.lines[timeline.line[k]] == name
        ]
        for name in timeline.lines
    }
    assert spans["alice.reference_393"] == [(0, 0.25), (13 * us, 0.0)]
    assert spans["bob.reference_393"] == [(0, 0.0), (13 * us, 0.0)]
    for detector in (0, 1):
        starts = [start for start, _ in spans[f"charlie.snspd_{detector}"]]
        assert starts == [flight, flight + 13 * us]


@pytest.mark.parametrize("monitor", [LOCK, ""])
def test_the_sequence_passes_the_checks_of_its_lab(monitor: str) -> None:
    assert check(phase_stabilisation(lock_monitor=monitor), LAB.line) == []


def test_a_cycle_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 50483000 ps"):
        phase_stabilisation(cycle=50 * us)


def block(rule: Valid, gate: bool = True) -> Series:
    slots = [
        Together((Gate("n.in0", 20 * us, f"{half}0"), Gate("n.in1", 20 * us, f"{half}1"))) for half in "qi"
    ]
    lock = (Gate("n.slow", 20 * us, "wdm"),) if gate else ()
    seen = Together((Series(tuple(slots)), *lock))
    track = Track((("q0", "q1", 0.25), ("i0", "i1", 0.0)), "phase", 0.99, 15.0, rule)
    return Series((seen, Wait(335 * us), track))


def test_the_flag_is_a_register_like_any_other() -> None:
    good = Valid((5, 50), lock="wdm")
    cases: dict[str, Item] = {"0": Wait(1 * us), "1": Wait(1 * us)}
    assert problems(Series((block(good), Branch("phase.valid", cases)))) == []
    assert "wdm" in problems(block(good, gate=False))[0]
    assert "never valid" in problems(block(Valid((50, 5))))[0]
    assert "other.valid" in problems(Series((block(good), Report({"flag": "other.valid"}))))[0]
    assert problems(Series((block(good), Branch("phase.valid", {"1": Wait(1 * us)}))))


def problems(item: Any) -> list[str]:
    return [str(one) for one in check(Schedule("one", item), LINES)]


@pytest.mark.parametrize(
    ("clicks", "lock", "expected"),
    [((9, 1), 20, 1), ((9, 1), 3, 0), ((60, 1), 20, 0), ((2, 0), 20, 0), ((9, 7), 20, 0)],
)
def test_the_artiq_core_decides_alike(clicks: tuple[int, int], lock: int, expected: int) -> None:
    """Good; lock lost; too bright; too dark; hardly a fringe."""
    rule = Valid((5, 50), 0.5, lock="wdm", lock_counts=18)
    cycles = 12
    turn = block(rule)
    report = Report({"valid": "phase.valid", "sigma": "phase.sigma_rad"})
    made = compiled(Schedule("track", Series((Repeat(cycles, turn), report))))
    counts = {"ttl0": clicks[0], "ttl1": clicks[1], "ttl2": lock}

    def seen(device: str, opened: int, closed: int) -> list[int]:
        return [opened + 10 * k for k in range(counts[device.removesuffix("_counter")])]

    got = play(made.source, clicks=seen).datasets
    assert got["track.valid"] == [expected]


def test_in_an_attempt_loop_the_flag_is_that_of_the_last_slot() -> None:
    flight = 24_483_000
    cooling = Series(
        (
            Together(
                (
                    *(Series(reference_light(node, 12 * us)) for node in ("alice", "bob")),
                    Series((Wait(flight), *reference_gates(12 * us))),
                    *lock_gate(LOCK, 24 * us),
                )
            ),
            tracker(0.99, 15.0, 24, LOCK, 24 * us),
        ),
        name="reference",
    )
    loop = Attempt(
        attempt(0.3, flight, 60_000, 4_000),
        ("click_0", "click_1"),
        {"00": "again", "10": "plus", "01": "minus", "11": "again"},
        10**6,
        Every(1, cooling),
    )
    program = lower(Schedule("link", Series((loop, Report({"valid": "phase.valid", "wdm": "wdm"})))))
    world = laboratory(2, {"alice.fibre_coupling": 1.0, "bob.fibre_coupling": 1.0})
    found: list[Record] = []
    SimCore(world, world.lock, world.rng("core")).run(program, 40, found.append)
    assert np.mean([int(r.values["valid"]) for r in found]) > 0.9
    assert {r.values["wdm"] for r in found} == {24}
    world.part("charlie.wdm").unlock()
    found.clear()
    SimCore(world, world.lock, world.rng("core")).run(program, 10, found.append)
    assert [int(r.values["valid"]) for r in found[1:]] == [0] * 9


def test_the_filter_knows_when_there_is_no_fringe() -> None:
    """Agreement is 1 within its shot noise on a good fringe, 0 on light without one, and less on a phase that runs away."""
    rng = np.random.default_rng(3)
    biases = np.array([math.pi / 2, 0.0])

    def agreement(contrast: float, diffusion: float, seeds: int = 60) -> np.ndarray:
        found = []
        for _ in range(seeds):
            phases = np.cumsum(rng.normal(0, math.sqrt(diffusion * 375e-6), 80))
            wave = contrast * np.cos(phases[:, None] + biases)
            counts = rng.poisson(6.0 * np.stack([1 + wave, 1 - wave], axis=-1))
            one = PhaseFilter(0.99, 15.0, (math.pi / 2, 0.0))
            one.follow(counts, np.arange(80) * 375e-6)
            found.append(one.agreement())
        return np.array(found)

    good, none, lost = agreement(0.98, 12.6), agreement(0.0, 12.6), agreement(0.98, 588.0)
    assert good.mean() == pytest.approx(0.98 * math.exp(-12.6 * 15 * 375e-6 / 2), abs=0.03)
    assert good.std() == pytest.approx(1 / math.sqrt(12 * 31), rel=0.5) and good.min() > 0.75
    assert abs(none).max() < 0.5
    assert np.mean(lost < 0.6) > 0.4 and lost.mean() < 0.7
    assert PhaseFilter(0.99, 15.0, (math.pi / 2, 0.0)).agreement() == 0


def test_one_arm_dark_is_light_without_a_fringe_and_void() -> None:
    world = laboratory(3)
    taken(world, 50)
    world.part("alice.aom")[2].signal_on = False
    dark = taken(world, 300, nominal_clicks=12)[60:]
    assert np.mean([12 // 2 <= int(r.values["reference_clicks"]) <= 24 for r in dark]) > 0.95
    assert valid(dark) < 0.01


def test_without_the_monitor_of_its_lock_a_phase_that_slips_is_void_too() -> None:
    world = laboratory(3)
    assert valid(taken(world, 150, lock_monitor="")[20:]) > 0.98
    world.part("charlie.wdm").unlock()
    assert valid(taken(world, 400, lock_monitor="")[40:]) < 0.3
