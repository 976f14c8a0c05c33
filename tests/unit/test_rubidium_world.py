"""The rubidium laboratory against formulas written out here: rates, state, recoil, loop, loading and loss."""

import math

import numpy as np
import pytest
from rubidium_lab import ALPHA, DARK, IDEAL, STILL, attempt_of, coherence, heralds, laboratory, played, state
from scipy.stats import poisson

from labctl.run.results import results
from labctl.sim.played import OpenGate, PlayedPulse, Segment
from labctl.units import ms, us
from simulated_hw.world.ion import IonPair
from simulated_hw.world.rubidium import RubidiumLaboratory
from simulated_hw.world.rubidium_trap import counted, reaches

HBAR, BOLTZMANN = 1.054571817e-34, 1.380649e-23
MASS, OMEGA = 1.44316e-25, 2 * math.pi * 100e3
TABLE = {
    11: (4.8e-4, 670e-6),
    20: (3.4e-4, 715e-6),
    50: (1.0e-4, 861e-6),
    70: (4.5e-5, 959e-6),
    100: (1.3e-5, 1106e-6),
}
"""PHYSICS.md 2: heralds per attempt and time per attempt against the length in km."""


def cold_quanta(kelvin: float) -> float:
    return 1 / math.expm1(HBAR * OMEGA / (BOLTZMANN * kelvin))


def lamb_dicke_squared(angle_rad: float) -> float:
    kick = 2 * math.sin(angle_rad / 2) * 2 * math.pi / 780.241e-9
    return kick**2 * HBAR / (2 * MASS * OMEGA)


def noise(lab: RubidiumLaboratory) -> float:
    """Noise probability of a detector in the gate."""
    window = lab.outlook(attempt_of(), 0).windows[0]
    assert window is not None
    return window.noise


# rates
@pytest.mark.parametrize("km", TABLE)
def test_heralds_and_time_per_attempt_against_length(km: int) -> None:
    chance, cycle = TABLE[km]
    body = attempt_of(km)
    assert heralds(laboratory(km), body) == pytest.approx(chance, rel=0.07)
    assert body.duration_ps / 1e12 + 3e-3 / 5 == pytest.approx(cycle, rel=0.01)


def test_the_chain_is_collection_conversion_fibre_and_detector() -> None:
    lab = laboratory(changes={"alice.coupling_drift": 0.0, "bob.coupling_drift": 0.0})
    outlook = lab.outlook(attempt_of(), 0)
    through = outlook.packets[0].transmission
    assert 0.60 * 0.831 * through == pytest.approx(0.47, rel=0.005)
    assert outlook.emitters[0].transmission == pytest.approx(
        0.04 * 0.60 * 0.831 * 10 ** (-0.35 * 5.5 / 10) * 1.002, rel=1e-3
    )


def test_ideal_atoms_herald_and_leave_the_state_of_the_closed_form() -> None:
    """PHYSICS.md 3.1, threshold detectors."""
    lab = laboratory(changes=IDEAL)
    body = attempt_of(echoes=0)
    outlook = lab.outlook(body, 0)
    window = outlook.windows[0]
    assert window is not None
    eta = outlook.emitters[0].transmission * window.seen[0]
    a, p, overlap = ALPHA, window.noise, 0.991
    q = 1 - p
    w00 = (1 - a) ** 2 * p * q
    w10 = a * (1 - a) * (eta * q / 2 + (1 - eta) * p * q)
    w11 = a**2 * (eta**2 * q * (1 + overlap) / 4 + eta * (1 - eta) * q + (1 - eta) ** 2 * p * q)
    c = q * a * (1 - a) * eta * math.sqrt(overlap) / 2
    whole = w00 + 2 * w10 + w11
    assert heralds(lab, body) == pytest.approx(2 * whole, rel=2e-3)
    pair = IonPair()
    pair.set(sum(outlook.state(way, 0.0) for way in outlook.causes("10")))
    rho = pair.qubits()
    assert rho.diagonal().real == pytest.approx(np.array([w11, w10, w10, w00]) / whole, abs=2e-5)
    assert rho[1, 2].real == pytest.approx(c / whole, rel=1e-3)
    fidelity = (rho[1, 1] + rho[2, 2]).real / 2 + rho[1, 2].real
    assert fidelity == pytest.approx((w10 + c) / whole, abs=1e-4)


def test_hot_oven_lowers_the_rate_by_the_phase_matching() -> None:
    lab, body = laboratory(), attempt_of()
    before = heralds(lab, body)
    for node in ("alice", "bob"):
        lab.part(f"{node}.oven").setpoint_k += 1.5
        lab.part(f"{node}.oven").temperature_k += 1.5
    lab.outlook(body, 0)
    assert heralds(lab, body) == pytest.approx(before / 2, rel=0.01)  # half of the 3 K width


def test_light_that_is_off_the_rydberg_line_emits_nothing_and_halves_the_rate() -> None:
    lab, body = laboratory(), attempt_of()
    before = heralds(lab, body)
    lab.part("alice.laser_1013").unlock()
    lab.outlook(body, 0)
    assert lab.outlook(body, 0).emitters[0].bright < 0.1 * ALPHA
    assert heralds(lab, body) == pytest.approx(before / 2, rel=0.1)


def test_with_the_trap_on_the_excitation_misses() -> None:
    body = attempt_of()
    pulses = tuple(p for p in body.pulses if not p.line.endswith("fort_off"))
    lit = Segment(pulses, body.gates, body.duration_ps, "lit")
    lab = laboratory()
    rabi, shift = 1 / 60e-9, 20e6
    risen = rabi**2 / (rabi**2 + shift**2) * math.sin(math.pi * math.hypot(rabi, shift) * 30e-9) ** 2
    dark = lab.outlook(body, 0).emitters[0].bright
    assert lab.outlook(lit, 0).emitters[0].bright == pytest.approx(dark * risen, rel=1e-3)


# recoil and temperature
@pytest.mark.parametrize("kelvin", [15e-6, 40e-6])
def test_recoil_takes_coherence_by_the_formula(kelvin: float) -> None:
    """exp[-eta^2 (2 n + 1)] for two equal nodes."""
    kept: dict[bool, float] = {}
    for suppressed in (True, False):
        changes = {"recoil.suppressed": suppressed, "trap.cooled_k": kelvin, "excitation.reexcitation": 0.0}
        kept[suppressed] = laboratory(changes=changes).coherence()
    quanta = cold_quanta(kelvin)
    for suppressed, angle in ((True, 0.1), (False, 1.5708)):
        expected = math.exp(-lamb_dicke_squared(angle) * (2 * quanta + 1))
        assert kept[suppressed] == pytest.approx(expected, rel=1e-6)
    assert kept[True] > 0.99
    assert kept[False] < 0.7


def test_without_suppression_the_heralded_pair_loses_just_that() -> None:
    body = attempt_of()
    still = STILL | DARK | {"qubit.line_noise_hz": 0.0}
    with_it = coherence(state(laboratory(changes=still), body))
    without = coherence(state(laboratory(changes=still | {"recoil.suppressed": False}), body))
    quanta = cold_quanta(15e-6)
    change = (lamb_dicke_squared(1.5708) - lamb_dicke_squared(0.1)) * (2 * quanta + 1)
    assert without / with_it == pytest.approx(math.exp(-change), rel=5e-3)


def test_emitting_twice_costs_coherence() -> None:
    once = laboratory(changes={"excitation.reexcitation": 0.0}).coherence()
    twice = laboratory(changes={"excitation.reexcitation": 0.1}).coherence()
    assert twice / once == pytest.approx(0.9 / 1.1, rel=1e-9)


# phase and memory
@pytest.mark.parametrize("km", [11, 100])
def test_closed_loop_leaves_the_phase_its_bandwidth_allows(km: int) -> None:
    variance = (200 + 20 * km) / (2 * 2 * math.pi * 10e3) + 0.08**2 + 0.12**2
    body = attempt_of(km, echoes=0)
    quiet = DARK | {"qubit.line_noise_hz": 0.0}
    still = coherence(state(laboratory(km, quiet | STILL), body))
    rho = state(laboratory(km, quiet), body, pairs=800)
    spread = math.sqrt(variance**2 / 2 / 800)  # of the mean of cos
    assert coherence(rho) / still == pytest.approx(math.exp(-variance / 2), abs=4 * spread + 1e-3)


def test_with_the_loop_open_no_coherence_is_left() -> None:
    lab = laboratory()
    lab.part("charlie.phase_aom").signal_on = False
    assert abs(state(lab, attempt_of(), pairs=400)[1, 2]) < 4 * 0.5 / math.sqrt(400)


def test_echoes_keep_the_pair_over_100_km() -> None:
    """Free decay of two clock lines: exp(-sigma^2 T^2), but for the noise's finite memory; four echoes keep nearly all."""
    quiet = DARK | STILL | {"qubit.pi_infidelity": 0.0}
    still = coherence(state(laboratory(100, quiet | {"qubit.line_noise_hz": 0.0}), attempt_of(100, echoes=0)))
    free = coherence(state(laboratory(100, quiet), attempt_of(100, echoes=0), pairs=600)) / still
    kept = coherence(state(laboratory(100, quiet), attempt_of(100), pairs=300)) / still
    time, memory = 490.6e-6, 10e-3  # from emission to the end of the attempt
    u = time / memory
    chi = (2 * math.pi * 300 * memory) ** 2 * (u - 1 + math.exp(-u))
    assert free == pytest.approx(math.exp(-2 * chi), abs=0.1)
    assert kept > 0.97


# atoms
@pytest.mark.parametrize(
    ("mean", "threshold"), [(30.6, 200), (430.0, 200), (490.0, 280), (5.0, 1), (200.0, 200)]
)
def test_chance_to_reach_a_threshold(mean: float, threshold: int) -> None:
    assert reaches(mean, threshold) == pytest.approx(poisson.sf(threshold - 1, mean), rel=1e-9, abs=1e-15)


def test_counts_are_on_the_side_that_was_seen() -> None:
    rng = np.random.default_rng(3)
    assert all(counted(100.0, 100, True, rng) >= 100 for _ in range(50))
    assert all(counted(100.0, 100, False, rng) < 100 for _ in range(50))


def poll(nodes: tuple[str, ...] = ("alice", "bob")) -> Segment:
    pulses = tuple(PlayedPulse(f"{node}.mot_780", 0, 20 * ms, 0.0, 0.0, 1.0) for node in nodes)
    gates = tuple(OpenGate(f"{node}.spcm", 0, 20 * ms, node, threshold=280) for node in nodes)
    return Segment(pulses, gates, 20 * ms, "poll")


def empty(changes: dict[str, float] | None = None) -> RubidiumLaboratory:
    lab = laboratory(changes=changes)
    for trap in lab._atoms.trap:  # pyright: ignore[reportPrivateUsage]
        trap.lose()
    return lab


def test_a_poll_finds_an_atom_at_the_loading_rate() -> None:
    caught = -math.expm1(-6.5 * 20e-3)
    odds = empty().odds(poll(), 0).patterns
    assert odds["11"] == pytest.approx(caught**2, rel=1e-3)
    assert odds["10"] == pytest.approx(caught * (1 - caught), rel=1e-3)


def test_no_gradient_no_atom() -> None:
    lab = empty()
    lab.part("alice.mot_coil").on = False
    lab.part("alice.mot_coil").flowing_a = 0.0
    lab.outlook(attempt_of(), 0)
    odds = lab.odds(poll(), 0).patterns
    assert odds["10"] < 0.02 * odds["01"]


def test_what_a_poll_saw_is_in_the_trap_and_counts_above_the_threshold() -> None:
    lab = empty()
    clicks = lab.play_given(poll(), "01", 0)
    assert lab.atoms_present() == (False, True)
    assert clicks["bob"].count >= 280 > clicks["alice"].count


def test_trap_light_off_and_the_atoms_are_gone() -> None:
    lab = laboratory()
    lab.part("bob.laser_852").emission = False
    lab.outlook(attempt_of(), 0)
    lab.skip([(poll(), 1)], 0, 20 * ms)
    assert lab.atoms_present() == (True, False)


def test_a_node_without_its_atom_sends_no_photon() -> None:
    lab, body = laboratory(), attempt_of()
    both = heralds(lab, body)
    lab._atoms.trap[0].lose()  # pyright: ignore[reportPrivateUsage]
    assert heralds(lab, body) == pytest.approx(both / 2, rel=0.02)
    lab.play_given(body, "10", 10**9)
    assert lab._atoms.pair.populations(0)[3] == pytest.approx(1.0)  # pyright: ignore[reportPrivateUsage]


def test_blown_away_atoms_are_those_that_emitted() -> None:
    lab, body = laboratory(changes={"readout.blow_lost": 0.0, "readout.blow_kept": 0.0}), attempt_of()
    blow = Segment(
        tuple(PlayedPulse(f"{node}.blow_780", 0, 150 * us, 0.0, 0.0, 1.0) for node in ("alice", "bob")),
        (),
        150 * us,
        "blow",
    )
    left = 0
    for k in range(300):
        lab.put_atoms()
        lab.play_given(body, "10", (k + 1) * 10**12)
        lab.play(blow, (k + 1) * 10**12 + 10**11)
        a, b = lab.atoms_present()
        left += a != b
    assert left / 300 == pytest.approx(0.97, abs=0.04)


def figures(lab: RubidiumLaboratory, rounds: int) -> dict[str, tuple[float, float]]:
    rows = [(r.number, r.time_ps, dict(r.values)) for r in played(lab, rounds)]
    found = results("heralded_pair", rows, {"measure": "fidelity"})
    return {r.key: (r.value.value, r.value.standard_error) for r in found}


def test_lost_atoms_cost_average_rate_but_hardly_live_rate() -> None:
    stay = figures(laboratory(), 300)
    go = figures(laboratory(changes={"trap.lifetime_s": 2.0}), 300)
    assert stay["live_rate"][0] == pytest.approx(0.718, abs=4 * stay["live_rate"][1])
    # a chunk of 168 ms at an average half lived after a loss at either node still counts as live, at half the rate
    dead = 0.168 / 2 * (1 / 2.0 * 2) / 2
    assert go["live_rate"][0] == pytest.approx(0.718 * (1 - dead), abs=4 * go["live_rate"][1])
    assert go["live_fraction"][0] < stay["live_fraction"][0] - 0.1
    assert go["herald_rate"][0] < stay["herald_rate"][0] - 3 * stay["herald_rate"][1]


def test_the_same_seed_gives_the_same_records() -> None:
    first, second = ([r.values for r in played(laboratory(seed=5), 20)] for _ in range(2))
    assert first == second
    assert first != [r.values for r in played(laboratory(seed=6), 20)]
