"""The rubidium lab in virtual time: instruments over their drivers, loading, heralds, journal, figures."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from labctl.config import load
from labctl.core.program import Straight, lower
from labctl.core.sim import Control, Progress, SimCore
from labctl.lab import schedule
from labctl.run.runner import Outcome
from labctl.schedule.items import Schedule
from labctl.units import ns, us
from labctl.up.acquire import VirtualLab
from sequences.rubidium_link import attempt, flight_of
from simulated_hw.world.rubidium import RubidiumLaboratory

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualLab]:
    config = load(ROOT / "configs/rb_11km.toml")
    with VirtualLab(config, ROOT, 3, tmp_path_factory.mktemp("runs")) as made:
        yield made


def run(lab: VirtualLab, rounds: int, **settings: str) -> Outcome:
    return lab.run(schedule(lab.config, ROOT, "rubidium_link", settings), rounds)


def within(outcome: Outcome, key: str, expected: float, slack: float = 0.0) -> bool:
    value = outcome.value(key)
    return abs(value.value - expected) <= 4 * value.standard_error + slack


def test_rates_and_fidelity(lab: VirtualLab) -> None:
    outcome = run(lab, 250)
    assert outcome.complete
    assert within(outcome, "herald_probability", 4.8e-4)
    assert within(outcome, "live_rate", 0.72)
    assert within(outcome, "herald_rate", 0.534)
    assert within(outcome, "live_fraction", 0.74, 0.02)
    assert within(outcome, "fidelity", 0.947)
    assert (outcome.folder / "report.html").exists()


def test_bell_test_with_settings_from_the_random_source(lab: VirtualLab) -> None:
    outcome = run(lab, 250, measure="bell")
    assert within(outcome, "chsh_s", 2.612)
    assert within(outcome, "qber", 0.033)


def test_half_the_converter_pump_costs_light_as_its_curve_says(lab: VirtualLab) -> None:
    flight = flight_of(11)
    step = lower(Schedule("one", attempt(0.025, flight, 120 * ns, 4 * ns, 12 * us, 2))).root
    assert isinstance(step, Straight)
    body = step.segment({})

    def clicks() -> float:
        lab.clock.advance(5.0)
        cast("RubidiumLaboratory", lab.world).put_atoms()
        return lab.world.odds(body, lab.world.now_ps()).patterns["10"]

    before = clicks()
    for node in ("alice", "bob"):
        lab.devices[f"{node}.pump"].signal("power_setpoint").set(0.010)
    after = clicks()
    for node in ("alice", "bob"):
        lab.devices[f"{node}.pump"].signal("power_setpoint").set(0.020)
    expected = math.sin(math.pi / 2 * math.sqrt(0.5)) ** 2
    assert after / before == pytest.approx(expected, rel=0.01)
    assert clicks() == pytest.approx(before, rel=0.01)


def test_no_cooling_light_no_atoms_no_pairs(lab: VirtualLab) -> None:
    aom = lab.devices["alice.aom"]
    aom.signal("output_1").set(False)
    lab.clock.advance(2.0)
    body = schedule(lab.config, ROOT, "rubidium_link", {})
    try:
        control = Control()
        core = SimCore(lab.world, lab.world.lock, lab.world.rng("no atoms"))

        def enough(now: Progress) -> None:
            if now.time_ps > 60 * 10**12:
                control.stop()

        end = core.run(lower(body), 1000, lambda _: None, control, enough)
    finally:
        aom.signal("output_1").set(True)
        lab.clock.advance(2.0)
    assert end.rounds < 15  # about 30 with both atoms; Bob's photons and noise still herald
