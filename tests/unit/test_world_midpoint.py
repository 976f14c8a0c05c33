import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.analysis.herald import single_photon_herald
from simulated_hw.world.ion import IonPair
from simulated_hw.world.midpoint import Emitter, Window, click, heralded, interfere, probability, responses

share = st.floats(0.01, 0.99)
small = st.floats(1e-6, 0.3)


def ideal(alpha: float, eta: float, phase: float = 0.0) -> Emitter:
    """A node without errors: √(1-α) |D> + √α |S> with a photon."""
    return Emitter(alpha, 1 - alpha, (0.0, 0.0, 0.0, 0.0), eta, phase)


@given(share, share, share, share, small, share, st.sampled_from((1, -1)))
@settings(max_examples=60, deadline=None)
def test_equal_detectors_give_the_closed_form(
    alpha_a: float, alpha_b: float, eta_a: float, eta_b: float, noise: float, overlap: float, sign: int
) -> None:
    known = single_photon_herald(alpha_a, alpha_b, eta_a, eta_b, noise, overlap, 1.0, sign=sign)
    window = Window(noise, (1.0, 1.0), math.sqrt(overlap) + 0j)
    shown = responses(window)
    first, second = (click(shown), shown[2]) if sign > 0 else (shown[2], click(shown))
    a, b = ideal(alpha_a, eta_a), ideal(alpha_b, eta_b)
    weights = interfere(first, second, a, b, overlap)
    assert probability(weights, a, b) == pytest.approx(known.probability, rel=1e-9)
    pair = IonPair()
    pair.set(heralded(weights, a, b, 0.0))
    # the analysis counts dark (D) as 0 and bright (S) as 1: basis SS, SD, DS, DD backwards
    assert pair.qubits()[::-1, ::-1] == pytest.approx(known.density_matrix, abs=1e-9)


def emitters() -> Any:
    def make(parts: list[float], eta: float, phase: float) -> Emitter:
        whole = sum(parts)
        bright, dark, *others = (part / whole for part in parts)
        return Emitter(bright, dark, tuple(others), eta, phase)  # type: ignore[arg-type]

    return st.builds(make, st.lists(st.floats(0.01, 1), min_size=6, max_size=6), share, st.floats(-4, 4))


def windows() -> Any:
    return st.one_of(
        st.none(),
        st.builds(
            lambda noise, a, b, size, turn: Window(
                noise, (a, b), size * complex(math.cos(turn), math.sin(turn))
            ),
            small,
            share,
            share,
            st.floats(0, 1),
            st.floats(-4, 4),
        ),
    )


@given(emitters(), emitters(), windows(), windows(), share, st.floats(-4, 4))
@settings(max_examples=80, deadline=None)
def test_whatever_the_parts_the_patterns_exhaust_what_can_happen(
    a: Emitter, b: Emitter, first: Window | None, second: Window | None, overlap: float, phase: float
) -> None:
    total = 0.0
    for ways in itertools.product(
        zip(range(3), responses(first), strict=True), zip(range(3), responses(second), strict=True)
    ):
        (_, one), (_, two) = ways
        weights = interfere(one, two, a, b, overlap)
        chance = probability(weights, a, b)
        state = heralded(weights, a, b, phase)
        assert state[:4, :4].real.sum() == pytest.approx(chance, abs=1e-12)
        total += chance
    assert total == pytest.approx(1.0)


@given(emitters(), emitters(), small, share, share, st.floats(-4, 4))
@settings(max_examples=60, deadline=None)
def test_a_herald_leaves_a_valid_state(
    a: Emitter, b: Emitter, noise: float, seen: float, overlap: float, phase: float
) -> None:
    shown = responses(Window(noise, (seen, seen), math.sqrt(overlap) + 0j))
    for cause in (0, 1):
        pair = IonPair()
        pair.set(heralded(interfere(shown[cause], shown[2], a, b, overlap), a, b, phase))
        assert np.linalg.eigvalsh(pair.qubits()).min() > -1e-12


def test_the_phase_is_alices_arm_minus_bobs_and_the_detector_is_the_sign() -> None:
    shown = responses(Window(0.0, (1.0, 1.0), 1 + 0j))
    a, b = ideal(0.2, 0.01, 0.5), ideal(0.2, 0.01, 0.2)
    plus = heralded(interfere(click(shown), shown[2], a, b, 1.0), a, b, 1.1)
    minus = heralded(interfere(shown[2], click(shown), a, b, 1.0), a, b, 1.1)
    pairs = []
    for state in (plus, minus):
        pair = IonPair()
        pair.set(state)
        pairs.append(pair.qubits()[1, 2])
    assert np.angle(pairs[0]) == pytest.approx(1.1 + 0.5 - 0.2)
    assert pairs[1] == pytest.approx(-pairs[0])
    assert abs(pairs[0]) == pytest.approx((1 - 0.2) / 2, rel=0.01)


def test_noise_clicks_leave_no_entanglement() -> None:
    _, by_noise, quiet = responses(Window(0.1, (0.6, 0.6), 1 + 0j))
    a, b = ideal(0.2, 0.5), ideal(0.3, 0.4)
    pair = IonPair()
    pair.set(heralded(interfere(by_noise, quiet, a, b, 1.0), a, b, 0.0))
    assert abs(pair.qubits()[1, 2]) < 1e-15


def test_one_detector_alone_heralds_half() -> None:
    shown = responses(Window(0.0, (0.5, 0.5), 1 + 0j))
    a, b = ideal(0.1, 0.05), ideal(0.1, 0.05)
    dead = responses(Window(0.0, (0.0, 0.0), 0j))
    alone = probability(interfere(click(shown), dead[2], a, b, 1.0), a, b)
    both = probability(interfere(click(shown), shown[2], a, b, 1.0), a, b)
    assert alone == pytest.approx(both, rel=0.01)
    assert probability(interfere(dead[2], click(dead), a, b, 1.0), a, b) == 0
