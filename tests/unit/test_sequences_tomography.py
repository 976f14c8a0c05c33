"""Tomography of heralded pairs on the simulated laboratory gives back the state that the herald leaves."""

import numpy as np
import pytest
from numpy.typing import NDArray
from world_lab import IDEAL, attempt, laboratory

from labctl.analysis.tomography import bell_state, fidelity, maximum_likelihood, state_fidelity
from labctl.core.program import lower
from labctl.core.sim import SimCore
from labctl.run.results import results
from labctl.sim.played import Record
from sequences.link import link
from simulated_hw.world.ion import IonPair
from simulated_hw.world.laboratory import Laboratory

ALPHA = 0.1
ROUNDS = 1200
TARGET = bell_state("psi+")


def left_by_the_herald(world: Laboratory, phase_sigma_rad: float) -> NDArray[np.complex128]:
    """State of both ions after a click of detector 0 at phase zero, with what the tracker does not know of the phase."""
    outlook = world.outlook(attempt(ALPHA), world.now_ps())
    pair = IonPair()
    pair.set(np.sum([outlook.state(way, 0.0) for way in outlook.causes("10")], axis=0))
    state = pair.qubits()
    state[1, 2] *= np.exp(-(phase_sigma_rad**2) / 2)
    state[2, 1] *= np.exp(-(phase_sigma_rad**2) / 2)
    return state


def counted(records: list[Record]) -> NDArray[np.float64]:
    """Outcomes by basis of Alice, basis of Bob, Alice's and Bob's result; bright (S) is the first."""
    table = np.zeros((3, 3, 2, 2))
    for record in records:
        values = record.values
        a, b = divmod(int(values["setting"]), 3)
        table[a, b, 1 - int(values["bright_a"]), 1 - int(values["bright_b"])] += 1
    return table


@pytest.fixture(scope="module")
def taken() -> tuple[Laboratory, list[Record]]:
    world = laboratory(3, IDEAL)
    found: list[Record] = []
    schedule = link(measure="tomography", alpha=ALPHA)
    SimCore(world, world.lock, np.random.default_rng(3)).run(lower(schedule), ROUNDS, found.append)
    return world, found


def test_the_heralded_state_comes_back(taken: tuple[Laboratory, list[Record]]) -> None:
    world, records = taken
    sigma = float(np.sqrt(np.mean([float(r.values["phase_sigma_rad"]) ** 2 for r in records])))
    expected = left_by_the_herald(world, sigma)
    best = state_fidelity(expected, TARGET)
    assert 0.8 < best < 1 - ALPHA / 2
    table = counted(records)
    found = fidelity(table, TARGET, np.random.default_rng(1), method="inversion")
    assert found.standard_error < 0.025
    assert abs(found.value - best) < 3.5 * found.standard_error
    state = maximum_likelihood(table).state
    apart = np.abs(np.linalg.eigvalsh(state - expected)).sum() / 2
    assert apart < 0.12, f"trace distance {apart:.3f}"
    assert state[0, 0].real == pytest.approx(expected[0, 0].real, abs=0.04)  # both emitted: the price of α
    assert state[3, 3].real == pytest.approx(expected[3, 3].real, abs=0.04)


def test_both_heralds_come_back_as_the_same_state(taken: tuple[Laboratory, list[Record]]) -> None:
    """The detector that clicked is the sign of the pair; it is fed forward, so both halves of the rounds agree."""
    _, records = taken
    for outcome in ("psi_plus", "psi_minus"):
        half = [record for record in records if record.values["outcome"] == outcome]
        assert len(half) > ROUNDS / 3
        assert fidelity(counted(half), TARGET, np.random.default_rng(1), method="inversion").value > 0.75


def test_the_report_agrees_with_the_reconstruction(taken: tuple[Laboratory, list[Record]]) -> None:
    _, records = taken
    rows = [(record.number, record.time_ps, dict(record.values)) for record in records]
    shown = {one.key: one.value for one in results("heralded_pair", rows, {"measure": "tomography"})}
    found = fidelity(counted(records), TARGET, np.random.default_rng(1), method="inversion")
    assert shown["fidelity"].value == pytest.approx(found.value, abs=0.06)
    assert shown["zz"].value < -0.7 and shown["xx"].value > 0.6 and shown["yy"].value > 0.6
