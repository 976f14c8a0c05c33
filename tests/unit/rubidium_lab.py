"""The shipped rubidium laboratory with values changed, its attempts, and pairs made on it."""

import copy
from pathlib import Path
from typing import Any

import numpy as np

from labctl.clock import VirtualClock
from labctl.config import read_extended
from labctl.core.program import Straight, lower
from labctl.core.sim import SimCore
from labctl.schedule.items import Item, Schedule
from labctl.sim.played import PlayedPulse, Record, Segment
from labctl.units import ns, us
from sequences.rubidium_link import NODES, attempt, default_echoes, flight_of, rubidium_link
from simulated_hw.world.rubidium import RubidiumLaboratory

ROOT = Path(__file__).parents[2]
ALPHA = 0.025
STILL = {
    "phase.unseen_rad": 0.0,
    "phase.loop_noise_rad": 0.0,
    "phase.diffusion_rad2_per_s": 0.0,
    "phase.fibre_rad2_per_s_km": 0.0,
}
"""Changes that leave no phase noise."""
DARK = {"detectors.dark_hz": 0.0, "converter.noise_hz_per_nm": 0.0}
"""Changes that leave no clicks without a photon."""
IDEAL = STILL | {
    "preparation.pump_error": 0.0,
    "excitation.to_qubit": 1.0,
    "excitation.reexcitation": 0.0,
    "recoil.misalignment_rad": 0.0,
    "qubit.pi_infidelity": 0.0,
    "qubit.line_noise_hz": 0.0,
    "alice.coupling_drift": 0.0,
    "bob.coupling_drift": 0.0,
}
"""Changes that leave ideal atoms and a still phase."""


def laboratory(km: int = 11, changes: dict[str, Any] | None = None, seed: int = 1) -> RubidiumLaboratory:
    """At its operating point, with both atoms in their traps."""
    content = copy.deepcopy(read_extended(ROOT / f"configs/world/rb_{km}km.toml"))
    for name, value in ({"run.powered": True} | (changes or {})).items():
        *tables, key = name.split(".")
        place = content
        for table in tables:
            place = place[table]
        place[key][0] = value
    lab = RubidiumLaboratory(content, seed, VirtualClock())
    lab.put_atoms()
    return lab


def segment_of(item: Item) -> Segment:
    """A straight item as a core plays it."""
    step = lower(Schedule("one", item)).root
    assert isinstance(step, Straight)
    return step.segment({})


def attempt_of(km: float = 11, alpha: float = ALPHA, echoes: int | None = None) -> Segment:
    """The attempt of ``rubidium_link`` at this length."""
    flight = flight_of(km)
    count = default_echoes(flight) if echoes is None else echoes
    return segment_of(attempt(alpha, flight, 120 * ns, 4 * ns, 12 * us, count))


def heralds(lab: RubidiumLaboratory, body: Segment) -> float:
    """Probability that an attempt ends with one click."""
    odds = lab.odds(body, lab.now_ps()).patterns
    return odds["10"] + odds["01"]


def state(lab: RubidiumLaboratory, body: Segment, pairs: int = 1) -> np.ndarray:
    """Mean density matrix of heralded pairs of detector 0, shape (4, 4), basis SS, SD, DS, DD."""
    total = np.zeros((4, 4), complex)
    settle = Segment(
        tuple(PlayedPulse(f"{n}.microwave", 0, 20 * ns, 0.0, 0.0, 0.0) for n in NODES), (), 20 * ns
    )
    for k in range(pairs):
        lab.put_atoms()
        lab.play_given(body, "10", (k + 1) * 10**12)
        lab.play(settle, (k + 1) * 10**12 + body.duration_ps)  # free evolution to the end of the attempt
        total += lab.true_qubits()
    return total / pairs


def coherence(rho: np.ndarray) -> float:
    """Real part of 2 <SD|rho|DS>."""
    return 2 * float(rho[1, 2].real)


def played(lab: RubidiumLaboratory, rounds: int, **arguments: Any) -> list[Record]:
    """Records of ``rubidium_link`` on the simulated core."""
    found: list[Record] = []
    core = SimCore(lab, lab.lock, np.random.default_rng(2))
    core.run(lower(rubidium_link(**arguments)), rounds, found.append)
    return found
