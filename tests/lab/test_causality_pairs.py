"""Change a cause of the heralded pair itself, and its state changes by the amount theory says.

Exact states of the simulated ions, so they are compared with formulas and not with statistics.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import j0

from labctl.analysis.herald import single_photon_herald
from labctl.clock import VirtualClock
from labctl.config import read_extended
from labctl.core.program import Straight, lower
from labctl.schedule.items import Schedule
from labctl.sim.played import PlayedPulse, Segment
from labctl.units import ns
from sequences.link import attempt
from simulated_hw.world.ion import DS, LEVELS, SD, S
from simulated_hw.world.laboratory import Laboratory

ROOT = Path(__file__).parents[2]
NODES = ("alice", "bob")
SECOND = 10**12
STILL = {
    "run": {"powered": True},
    "atom": {"p32_to_s12": 1.0, "p32_to_d52": 0.0, "p32_to_d32": 0.0},
    "preparation": {"pump_error": 0.0, "eit_quanta": 0.0, "doppler_quanta": 0.0, "heating_per_s": 0.0},
    "qubit": {"pi_infidelity": 0.0, "line_noise_hz": 0.0, "line_drift_hz": 0.0},
    "phase": {
        "spool_drift_k_per_s": 0.0,
        "drift_rad_per_s_100km": 0.0,
        "lock_noise_rad": 0.0,
        "laser_linewidth_hz": 0.0,
        "unseen_rad": 0.0,
    },
    "polarisation": {"drift_rad": 0.0},
    "alice": {"coupling_drift": 0.0},
    "bob": {"coupling_drift": 0.0},
}
"""Ions without errors of preparation, and an optical phase that stands still: what is left is what a test changes."""


def world(name: str, **more: dict[str, Any]) -> Laboratory:
    content = read_extended(ROOT / "configs" / "world" / f"{name}.toml")
    for table, changes in (*STILL.items(), *more.items()):
        place = content
        for key in table.split("__"):
            place = place[key]
        for key, value in changes.items():
            place[key] = [value, place[key][1]]
    for line in ("acoustic_1", "acoustic_2"):
        content["phase"][line]["rad_per_km"] = [0.0, "guessed: still"]
    return Laboratory(content, 5, VirtualClock())


def played(alpha: float, flight: int = 24_483 * ns, echo: int = 0) -> Segment:
    root = lower(Schedule("attempt", attempt(alpha, flight, 60 * ns, 4 * ns, echo))).root
    assert isinstance(root, Straight)
    return root.segment({})


def excited(segment: Segment, node: str, alpha: float) -> Segment:
    """The same with another 854 nm amplitude at one node."""
    amplitude = 2 / math.pi * math.asin(math.sqrt(alpha))
    pulses = tuple(
        dataclasses.replace(one, amplitude=amplitude) if one.line == f"{node}.excite_854" else one
        for one in segment.pulses
    )
    return dataclasses.replace(segment, pulses=pulses)


def chance(lab: Laboratory, segment: Segment) -> float:
    odds = lab.odds(segment, 0).patterns
    return odds["10"] + odds["01"]


@pytest.mark.parametrize("alpha_b", [0.05, 0.025, 0.10, 0.30])
def test_wrong_balance_of_alpha_costs_coherence(alpha_b: float) -> None:
    """Rate and coherence of the pair as in the closed form, with Bob's α too small or too large."""
    alpha = 0.05
    lab = world("ca40_10km")
    segment = excited(played(alpha), "bob", alpha_b)
    outlook = lab.outlook(segment, 0)
    first = outlook.windows[0]
    assert first is not None
    eta = [one.transmission * seen for one, seen in zip(outlook.emitters, first.seen, strict=True)]
    theory = single_photon_herald(alpha, alpha_b, *eta, first.noise, outlook.mode_overlap, 1.0)
    assert chance(lab, segment) == pytest.approx(2 * theory.probability, rel=2e-3)
    whole = sum(outlook.state(way, 0.0) for way in outlook.causes("10"))
    populations = whole[:LEVELS, :LEVELS].real
    coherence = 2 * abs(whole[SD, DS]) / populations.sum()
    assert coherence == pytest.approx(2 * abs(theory.density_matrix[1, 2]), rel=5e-3)
    balanced = single_photon_herald(alpha, alpha, *eta, first.noise, outlook.mode_overlap, 1.0)
    if alpha_b != alpha:
        assert coherence < 2 * abs(balanced.density_matrix[1, 2])


def test_more_excitation_means_more_pairs_with_both_bright() -> None:
    lab = world("ca40_10km")
    shares, rates = [], []
    for alpha in (0.025, 0.05, 0.17):
        segment = played(alpha)
        outlook = lab.outlook(segment, 0)
        state = sum(outlook.state(way, 0.0) for way in outlook.causes("10"))
        shares.append(state[S, S].real / state[:LEVELS, :LEVELS].real.sum())
        rates.append(chance(lab, segment) - chance(lab, played(1e-9)))
    assert shares == pytest.approx([0.025, 0.05, 0.17], rel=0.03)
    assert rates[2] / rates[0] == pytest.approx(0.17 / 0.025, rel=0.01)


@pytest.mark.parametrize("echo", [0, 1, 2])
def test_an_echo_undoes_the_mains_hum_over_101_km(echo: int) -> None:
    """Coherence of pairs made all over a period of the mains: a Bessel function without, nearly all of it with an echo."""
    flight = 247_283 * ns
    lab = world("ca40_101km", tones__alice={"second_hz": 0.0, "third_hz": 0.0}, tones__bob={"second_hz": 0.0, "third_hz": 0.0})  # fmt: skip
    segment = played(0.05, flight, echo)
    end = segment.duration_ps
    late = tuple(PlayedPulse(f"{node}.qubit_729", end, 10_000, 0.0, 0.0, 0.0) for node in NODES)
    segment = dataclasses.replace(segment, pulses=(*segment.pulses, *late), duration_ps=end + 10_000)
    seen = []
    for k in range(48):  # spread evenly over the period of 20 ms, five periods apart
        lab.play_given(segment, "10", k * SECOND // 10 + k * SECOND // 50 // 48)
        qubits = lab.true_qubits()
        seen.append(qubits[1, 2])
    left = abs(np.mean(seen)) / np.mean(np.abs(seen))
    a, b = 370.0 * np.exp(2j * math.pi * 0.1), 280.0 * np.exp(-2j * math.pi * 0.2)
    span_s = (end - 30_002_250) / 1e12
    if echo:
        assert left > 0.99
    else:  # 2π |a - b| times the integral of a cosine over the wait
        swing = 2 * abs(a - b) / 50.0 * math.sin(math.pi * 50.0 * span_s)
        assert left == pytest.approx(abs(j0(swing)), abs=0.01)
        assert left < 0.5
