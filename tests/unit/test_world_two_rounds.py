"""Two excitations and two clicks: against a small Fock-space calculation, closed forms, and interventions on phase and light."""

import dataclasses
import functools
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from world_lab import FLIGHT, IDEAL, STILL, laboratory

from labctl.analysis.herald import two_photon_herald
from labctl.clock import VirtualClock
from labctl.config import load, read_extended
from labctl.core.program import Straight, lower
from labctl.errors import ConfigError
from labctl.schedule.check import check
from labctl.schedule.items import Item, Schedule
from labctl.sim.played import Segment
from labctl.units import ns, us
from sequences import link, two_photon
from sequences.memory import transfer
from simulated_hw.world.ion import ELEMENTS, LEVELS, IonPair, rotation
from simulated_hw.world.laboratory import Laboratory
from simulated_hw.world.midpoint import Emitter, Window, click, heralded, interfere, responses
from simulated_hw.world.two_rounds import TwoRounds, Ways, emission, emitted

Array = NDArray[Any]
ROOT = Path(__file__).parents[2]
EXACT: dict[str, Any] = IDEAL | STILL | {
    "memory.angle_error": 0.0,
    "memory.light_shift_hz": 0.0,
    "memory.scattered_alice": 0.0,
    "memory.scattered_bob": 0.0,
    "polarisation.drift_rad": 0.0,
    **{f"tones.{n}.{k}_hz": 0.0 for n in ("alice", "bob") for k in ("first", "second", "third")},
}  # fmt: skip
"""Ions and pulses without errors, and a phase that stands still."""
SECOND = 10**12
share = st.floats(0.05, 0.95)


# a small calculation of its own: two ions of three levels, a photon or none in each of four modes
def node(alpha: float, second: float, eta: float, phase: float) -> Array:
    """State [level S D M, early photon, late photon, lost early, lost late] of a node after both pulses and its fibre."""
    psi = np.zeros((3, 2, 2, 2, 2), complex)
    here, lost = math.sqrt(eta), math.sqrt(1 - eta)
    early = math.sqrt(alpha) * np.exp(1j * phase)
    psi[2, 1, 0, 0, 0], psi[2, 0, 0, 1, 0] = early * here, early * lost
    late = math.sqrt((1 - alpha) * second)
    psi[0, 0, 1, 0, 0], psi[0, 0, 0, 0, 1] = late * here, late * lost
    psi[1, 0, 0, 0, 0] = math.sqrt((1 - alpha) * (1 - second))
    return psi


def seen(eta: float, noise: float, clicks: tuple[int, int]) -> Array:
    """Operator [a' b', a b] of what two detectors show, for a photon or none at each input of the beam splitter."""
    out = np.zeros((3, 3, 2, 2))
    out[0, 0, 0, 0] = 1
    out[1, 0, 1, 0] = out[0, 1, 1, 0] = out[1, 0, 0, 1] = math.sqrt(0.5)
    out[0, 1, 0, 1] = -math.sqrt(0.5)
    out[2, 0, 1, 1], out[0, 2, 1, 1] = math.sqrt(0.5), -math.sqrt(0.5)  # two photons leave together
    quiet = (1 - noise) * (1 - eta) ** np.arange(3)
    first, second = (1 - quiet if one else quiet for one in clicks)
    return np.einsum("xycd,x,y,xyab->cdab", out, first, second, out)


def reference(a: Array, b: Array, early: Array, late: Array) -> Array:
    """Density matrix of the levels [i j, k l], unnormalised."""
    half = np.einsum("ceaf,icdmn,jekop->iadmnjfkop", early, a, b)
    whole = np.einsum("dkbl,iadmnjfkop->iabmnjflop", late, half)
    return np.einsum(
        "iabmnjflop,rabmnsflop->ijrs", whole, np.conj(np.einsum("iabmn,jflop->iabmnjflop", a, b))
    )


@given(share, share, share, share, share, share, st.floats(0.001, 0.2), st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=15)
def test_state_and_chance_are_those_of_a_fock_space_calculation(
    alpha_a: float,
    alpha_b: float,
    second: float,
    t_a: float,
    t_b: float,
    eta: float,
    noise: float,
    phase: float,
    later: float,
) -> None:
    """All sixteen patterns, with large efficiencies and noise, whatever the pulses."""
    a = Emitter(alpha_a, 1 - alpha_a, (0, 0, 0, 0), t_a)
    b = Emitter(alpha_b, 1 - alpha_b, (0, 0, 0, 0), t_b)
    shown = responses(Window(noise, (eta, eta), 1 + 0j))
    again = emission(second, (1.0, 0.0, 0.0), 0.0)
    flip = swap()
    total = 0.0
    for clicks in itertools.product((0, 1), repeat=4):
        weights = [
            interfere(*(click(shown) if one else shown[2] for one in pair), a, b, 1.0)
            for pair in (clicks[:2], clicks[2:])
        ]
        state = flip @ heralded(weights[0], a, b, phase) @ flip.T
        state = emitted(state, again, again, weights[1], later)
        expected = reference(
            node(alpha_a, second, t_a, phase - later),
            node(alpha_b, second, t_b, 0.0),
            seen(eta, noise, clicks[:2]),
            seen(eta, noise, clicks[2:]),
        )
        chance = np.einsum("ijij", expected).real
        assert state[:LEVELS, :LEVELS].real.sum() == pytest.approx(chance, abs=1e-12)
        pair = IonPair()
        pair.state = state
        mine = pair.memories().reshape(2, 2, 2, 2)[::-1, ::-1, ::-1, ::-1]  # basis SS, SM, MS, MM
        theirs = expected[np.ix_(*((0, 2),) * 4)]
        assert mine == pytest.approx(theirs, abs=1e-12)
        total += chance
    assert total == pytest.approx(1)


def swap() -> Array:
    """Channel of a perfect Raman π pulse: S and M change places (and signs nobody can see)."""
    unitary = np.array([[0, 1], [1, 0]], complex)
    turned = rotation(unitary)  # of S and D; S and M by the same table, relabelled
    labels = np.arange(ELEMENTS)
    order = labels.copy()
    order[[1, 4, 5, 6, 7, 8, 9, 10]] = [4, 1, 7, 8, 5, 6, 10, 9]
    return turned[np.ix_(order, order)]


@given(share, st.tuples(share, share, share), st.floats(-3, 3))
@settings(max_examples=20)
def test_an_excitation_loses_nobody(alpha: float, shares: tuple[float, float, float], phase: float) -> None:
    branching = tuple(one / sum(shares) for one in shares)
    maps = emission(alpha, (branching[0], branching[1], branching[2]), phase)
    assert (maps.none + maps.one)[:LEVELS, :LEVELS].sum(axis=0) == pytest.approx(np.ones(LEVELS))


# the whole laboratory
def played(item: Item) -> Segment:
    root = lower(Schedule("piece", item)).root
    assert isinstance(root, Straight)
    return root.segment({})


@functools.cache
def attempt(alpha: float = 0.5, separation: int = 11 * us) -> Segment:
    return played(two_photon.attempt(alpha, FLIGHT, separation, 60 * ns, 4 * ns))


BACK = played(transfer(back=True))
HERALDS = tuple(pattern for pattern, outcome in two_photon.outcomes().items() if outcome != "again")


def chance(lab: Laboratory, body: Segment, time_ps: int = SECOND) -> float:
    odds = lab.odds(body, time_ps).patterns
    return math.fsum(odds[pattern] for pattern in HERALDS)


def pair(lab: Laboratory, body: Segment, pattern: str, time_ps: int = SECOND) -> Array:
    """The two qubits after a herald and the way back to S1/2 and D5/2, shape (4, 4)."""
    lab.play_given(body, pattern, time_ps)
    lab.play(BACK, time_ps + body.duration_ps)
    return lab.true_qubits()


def coherence(state: Array) -> complex:
    """Twice <SD|ρ|DS>: contrast and phase of the pair."""
    return complex(2 * state[1, 2])


@pytest.mark.parametrize(("pattern", "sign"), [("1010", 1), ("0101", 1), ("1001", -1), ("0110", -1)])
def test_the_same_detector_twice_is_plus_and_both_are_minus(pattern: str, sign: int) -> None:
    lab = laboratory(1, EXACT | {"midpoint.photon_overlap": 1.0})
    state = pair(lab, attempt(), pattern)
    assert np.diag(state).real == pytest.approx([0, 0.5, 0.5, 0], abs=1e-5)
    assert coherence(state) == pytest.approx(sign, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.8])
def test_rate_and_fidelity_are_the_closed_forms(alpha: float) -> None:
    """2 α (1-α) η_A η_B heralds per attempt, α = 1/2 best; the fidelity (1 + M)/2 does not depend on α, nor on efficiency."""
    lab = laboratory(1, EXACT)
    body = attempt(alpha)
    outlook = lab.two_rounds(body, SECOND)
    window = outlook.rounds[0].windows[0]
    assert window is not None
    eta = [e.transmission * one for e, one in zip(outlook.rounds[0].emitters, window.seen, strict=True)]
    theory = two_photon_herald(*eta, window.noise, outlook.rounds[0].mode_overlap)
    full = two_photon_herald(*eta, 0.0, 1.0).probability
    assert chance(lab, body) == pytest.approx(4 * alpha * (1 - alpha) * full, rel=0.05)  # and noise
    if alpha == 0.5:
        assert chance(lab, body) == pytest.approx(theory.probability, rel=1e-3)
    [ways] = [way for way in outlook.causes("1010") if way == ((0, 2), (0, 2))]  # no noise
    assert fidelity_of(outlook, [ways]) == pytest.approx((1 + 0.96) / 2, abs=1e-3)


def test_noise_makes_false_heralds_as_often_as_theory_says() -> None:
    lab = laboratory(1, EXACT | {"detectors.dark_hz": 5000.0, "detectors.afterpulse": 0.0})
    outlook = lab.two_rounds(attempt(), SECOND)
    window = outlook.rounds[0].windows[0]
    assert window is not None and window.noise > 2e-4
    eta = [e.transmission * one for e, one in zip(outlook.rounds[0].emitters, window.seen, strict=True)]
    theory = two_photon_herald(*eta, window.noise, outlook.rounds[0].mode_overlap)
    assert chance(lab, attempt()) == pytest.approx(theory.probability, rel=0.01)
    true = two_photon_herald(*eta, 0.0, 1.0).probability
    assert theory.probability > 1.3 * true
    assert fidelity_of(outlook, outlook.causes("1010")) == pytest.approx(theory.fidelity, abs=1e-3)


def fidelity_of(outlook: TwoRounds, causes: list[Ways]) -> float:
    """Of the pair that one of these causes leaves, with a perfect Raman pulse in between."""
    flip, whole = swap(), np.zeros((ELEMENTS, ELEMENTS), complex)
    for ways in causes:
        first = flip @ outlook.after_first(ways, 0.0) @ flip.T
        whole += outlook.after_second(first, ways, 0.0)
    pair = IonPair()
    pair.set(whole)
    found = pair.memories()
    return float((found[1, 1] + found[2, 2]).real / 2 + found[1, 2].real)


def test_half_the_light_is_a_quarter_of_the_rate_at_the_same_fidelity() -> None:
    """One photon loses half."""
    single = played(link.attempt(0.05, FLIGHT, 60 * ns, 4 * ns))
    found = []
    for efficiency in (0.85, 0.425):
        lab = laboratory(
            1, EXACT | {"detectors.efficiency": efficiency, "detectors.dark_hz": 0.0, "converter.noise_hz_per_nm": 0.0}
        )  # fmt: skip
        odds = lab.odds(single, SECOND).patterns
        one = odds["10"] + odds["01"]
        found.append((chance(lab, attempt()), one, abs(coherence(pair(lab, attempt(), "1010")))))
    (full, one_full, first), (half, one_half, second) = found
    assert half / full == pytest.approx(0.25, rel=1e-6)
    assert one_half / one_full == pytest.approx(0.5, rel=1e-3)
    assert second == pytest.approx(first, abs=1e-4)


@pytest.mark.parametrize("separation", [11 * us, 400 * us])
def test_the_phase_matters_only_as_far_as_it_moves_between_the_two_photons(separation: int) -> None:
    """Fibres without their lock: of one photon's phase nothing is left, two photons lose exp(-D t / 2)."""
    quiet = {name: value for name, value in EXACT.items() if name != "phase.drift_rad_per_s_100km"}
    lab = laboratory(3, quiet | {"phase.drift_rad_per_s_100km": 6000.0})
    lab.part("charlie.wdm").enabled = False
    diffusion = 6000.0**2 * 0.1 * 1e-3  # of 10 km, keeping its sign for 1 ms
    body, single = attempt(0.5, separation), played(link.attempt(0.05, FLIGHT, 60 * ns, 4 * ns))
    two, one = [], []
    for n in range(1, 151):
        two.append(coherence(pair(lab, body, "1010", n * SECOND)))
        lab.play_given(single, "10", n * SECOND + SECOND // 2)
        one.append(coherence(lab.true_qubits()))
    assert abs(np.mean(one)) < 0.2
    assert np.mean(two).real == pytest.approx(0.96 * math.exp(-diffusion * separation / 2e12), abs=0.08)


@pytest.mark.parametrize(("echo", "kept"), [(0, 0.7), (1, 0.93)])
def test_an_echo_keeps_the_pair_while_light_travels_101_km(echo: int, kept: float) -> None:
    """The mains' hum of the long lab, over a period of it."""
    config = load(ROOT / "configs/ca40_101km.toml")
    assert check(two_photon.long_two_photon(echo=echo), config.line) == []
    content = read_extended(ROOT / "configs/world/ca40_101km.toml")
    content["run"]["powered"][0] = True
    lab = Laboratory(content, 1, VirtualClock())
    body = played(two_photon.attempt(0.5, 247_283 * ns, 11 * us, 60 * ns, 4 * ns, echo))
    found = [coherence(pair(lab, body, "1010", SECOND + n * SECOND // 1000)) for n in range(0, 20, 2)]
    mean = abs(np.mean(found)) / 0.96
    assert mean > kept if echo else mean < kept


def test_a_laser_off_resonance_takes_photons_of_both_rounds() -> None:
    """854 nm light that reaches only part of P3/2 leaves ions that never emit, and fewer heralds, not worse ones."""
    lab = laboratory(1, EXACT)
    body = attempt()
    weaker = tuple(
        dataclasses.replace(one, amplitude=0.5) if one.amplitude == 1 and "854" in one.line else one
        for one in body.pulses
    )
    weak = dataclasses.replace(body, pulses=weaker)
    assert chance(lab, weak) / chance(lab, body) == pytest.approx(0.5, rel=0.02)
    assert abs(coherence(pair(lab, weak, "1010"))) > 0.9


def test_an_ion_that_emitted_and_is_not_hidden_does_not_emit_again() -> None:
    """Without the Raman pulse both photons would leave S: no pair, and the click pattern does not tell."""
    lab = laboratory(1, EXACT)
    body = attempt()
    bare = dataclasses.replace(body, pulses=tuple(one for one in body.pulses if "raman" not in one.line))
    assert chance(lab, bare) == pytest.approx(chance(lab, body), rel=0.01)
    lab.play_given(bare, "1010", SECOND)
    assert lab.true_qubits()[0, 0].real == pytest.approx(1, abs=1e-3)


def test_a_decay_back_to_the_excited_level_makes_late_photons() -> None:
    """P3/2 gives 5.9 % back to D5/2, two thirds of it where the second pulse finds it."""
    branching = {"atom.p32_to_s12": 0.9347, "atom.p32_to_d52": 0.0587, "atom.p32_to_d32": 0.0066}
    odds = laboratory(1, EXACT | branching).odds(attempt(), SECOND).patterns
    clean = laboratory(1, EXACT).odds(attempt(), SECOND).patterns
    early, late = odds["1000"] / clean["1000"], odds["0010"] / clean["0010"]
    assert early == pytest.approx(0.9347, rel=2e-3)
    assert late == pytest.approx(0.9347 * (1 + 0.0587 * 2 / 3), rel=2e-3)


def test_afterpulses_of_the_first_click_are_noise_of_the_second() -> None:
    close = attempt(0.5, 10_400 * ns)
    many, none = (laboratory(1, EXACT | {"detectors.afterpulse": share}) for share in (0.5, 0.0))
    assert chance(many, close) == pytest.approx(chance(none, close), rel=1e-6)  # gone within 10 us
    slow = {"detectors.afterpulse": 0.2, "detectors.afterpulse_time_s": 20e-6}
    ringing, quiet = (laboratory(1, EXACT | more).odds(close, SECOND).patterns for more in (slow, {}))
    assert ringing["1010"] > 1.1 * quiet["1010"]  # the same detector once more
    assert ringing["1001"] < 1.001 * quiet["1001"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda body: [g for g in body.gates if "late" not in g.into], "gate for the photons of each"),
        (
            lambda body: [
                dataclasses.replace(g, start_ps=g.start_ps - 10_930 * ns) if "late" in g.into else g
                for g in body.gates
            ],
            "gate for the photons of each",
        ),
        (
            lambda body: [
                dataclasses.replace(g, duration_ps=10_960 * ns) if "early" in g.into else g
                for g in body.gates
            ],
            "closer than its dead time",
        ),
    ],
)
def test_gates_that_cannot_tell_the_rounds_apart_are_refused(change: Any, text: str) -> None:
    body = dataclasses.replace(attempt(), gates=tuple(change(attempt())))
    with pytest.raises(ConfigError, match=text):
        laboratory(1, EXACT).odds(body, SECOND)


def test_three_pulses_on_an_ion_are_refused() -> None:
    body = attempt()
    first = next(one for one in body.pulses if one.line == "alice.excite_854")
    more = dataclasses.replace(body, pulses=(*body.pulses, dataclasses.replace(first, start_ps=60 * us)))
    with pytest.raises(ConfigError, match="3 on Alice's and 2 on Bob's ion"):
        laboratory(1, EXACT).odds(more, SECOND)


def test_a_single_click_of_two_leaves_nothing_behind() -> None:
    """So the core need not play it; what the link calls again is played as ever."""
    lab = laboratory()
    assert lab.odds(attempt(), SECOND).passing
    assert not lab.odds(played(link.attempt(0.05, FLIGHT, 60 * ns, 4 * ns)), SECOND).passing


def test_what_passed_is_counted() -> None:
    lab = laboratory()
    before = lab.part("charlie.tagger").counts()
    lab.clicked(attempt(), {"1000": 1000, "0110": 500, "1111": 10})
    after = lab.part("charlie.tagger").counts()
    assert [y - x for x, y in zip(before, after, strict=True)][:2] == [1520, 520]
