"""The closed forms against an independent simulation of the optics in Fock space (QuTiP)."""

import math
from functools import cache

import numpy as np
import pytest
import qutip
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.analysis.herald import single_photon_herald, two_photon_herald
from labctl.errors import LimitError

CUT = 3  # photon numbers 0, 1, 2 per mode: the beam splitter can put both photons into one
MODES = 4  # (arm or port, temporal mode): 0 = (A, 1), 1 = (A, 2), 2 = (B, 1), 3 = (B, 2)
PROBABILITY = st.floats(0, 1)


@cache
def photons(*which: str) -> qutip.Qobj:
    """A product over the four modes: 1 identity, a lowering, n number, 0 projector on no photon."""
    table = {
        "1": qutip.qeye(CUT),
        "a": qutip.destroy(CUT),
        "n": qutip.num(CUT),
        "0": qutip.basis(CUT, 0).proj(),
    }
    return qutip.tensor(*[table[name] for name in which])


def mode(name: str, index: int) -> qutip.Qobj:
    return photons(*[name if k == index else "1" for k in range(MODES)])


@cache
def beam_splitter() -> qutip.Qobj:
    """Balanced, the same for both temporal modes: port c = (A + B)/sqrt 2, port d = (B - A)/sqrt 2."""
    generator = sum(
        mode("a", t).dag() * mode("a", 2 + t) - mode("a", t) * mode("a", 2 + t).dag() for t in (0, 1)
    )
    return (math.pi / 4 * generator).expm()


def node(alpha: float, arm: int, overlap: float) -> tuple[qutip.Qobj, qutip.Qobj]:
    """Amplitudes of the dark node, and of the bright node with the operator that makes its photon."""
    create = mode("a", arm).dag()
    if arm == 2:
        create = math.sqrt(overlap) * mode("a", 2).dag() + math.sqrt(1 - overlap) * mode("a", 3).dag()
    return math.sqrt(1 - alpha) * mode("1", 0), math.sqrt(alpha) * create


def fock_state(alpha_a: float, alpha_b: float, overlap: float) -> list[qutip.Qobj]:
    """Photon states that go with node states 00, 01, 10, 11."""
    vacuum = qutip.tensor(*[qutip.basis(CUT, 0)] * MODES)
    a, b = node(alpha_a, 0, overlap), node(alpha_b, 2, overlap)
    return [a[i] * b[j] * vacuum for i in (0, 1) for j in (0, 1)]


def lose(state: qutip.Qobj, index: int, eta: float) -> qutip.Qobj:
    """Loss of a mode with at most one photon: amplitude damping in Kraus form."""
    number = mode("n", index)
    keep = mode("1", index) - (1 - math.sqrt(eta)) * number
    drop = math.sqrt(1 - eta) * mode("a", index)
    return keep * state * keep.dag() + drop * state * drop.dag()


def simulate(
    alpha_a: float,
    alpha_b: float,
    eta_a: float,
    eta_b: float,
    noise: float,
    overlap: float,
    contrast: float,
    sign: int,
    number_resolving: bool,
) -> np.ndarray:
    """Unnormalised state of the nodes heralded by the port that interferes with ``sign``."""
    kets = fock_state(alpha_a, alpha_b, overlap)
    silent = [photons("0", "0", "1", "1"), photons("1", "1", "0", "0")]
    everything = photons("1", "1", "1", "1")
    click = [everything - (1 - noise) * nothing for nothing in silent]
    if number_resolving:
        number = [mode("n", 2 * k) + mode("n", 2 * k + 1) for k in (0, 1)]
        single = [
            number[k] * (2 * everything - number[k]) for k in (0, 1)
        ]  # 1 for one photon; 0 for none or two
        click = [single[k] + noise * silent[k] for k in (0, 1)]
    herald, other = (0, 1) if sign > 0 else (1, 0)
    measured = click[herald] * (1 - noise) * silent[other]
    measured = beam_splitter().dag() * measured * beam_splitter()
    kicks = [
        (1j * turn * (mode("n", 0) + mode("n", 1))).expm()
        for turn in (math.acos(contrast), -math.acos(contrast))
    ]
    measured = (
        sum(kick.dag() * measured * kick for kick in kicks) / 2
    )  # phase of arm A: two values, mean cosine v
    result = np.zeros((4, 4), dtype=complex)
    for i in range(4):
        for j in range(4):
            field = kets[i] * kets[j].dag()
            for index, eta in ((0, eta_a), (1, eta_a), (2, eta_b), (3, eta_b)):
                field = lose(field, index, eta)
            result[i, j] = (measured * field).tr()
    return result


@pytest.mark.parametrize("number_resolving", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "point",
    [
        (0.17, 0.17, 0.0237, 0.0255, 5.8e-7, 0.972, 1.0),
        (0.05, 0.08, 0.3, 0.2, 1e-3, 0.95, 0.986),
        (0.4, 0.6, 0.9, 0.7, 0.05, 0.5, 0.8),
        (0.3, 0.2, 1.0, 1.0, 0.0, 1.0, 1.0),
    ],
)
def test_single_photon_herald_equals_the_simulation(
    point: tuple[float, float, float, float, float, float, float], sign: int, number_resolving: bool
) -> None:
    expected = simulate(*point, sign, number_resolving)
    found = single_photon_herald(*point, sign=sign, number_resolving=number_resolving)
    np.testing.assert_allclose(found.density_matrix * found.probability, expected, rtol=0, atol=1e-9)
    assert found.probability == pytest.approx(np.trace(expected).real, rel=1e-9)


@pytest.mark.parametrize(("alpha", "fidelity"), [(0.025, 0.959), (0.05, 0.939), (0.17, 0.823)])
def test_protocol_fidelity_of_the_ten_kilometre_link(alpha: float, fidelity: float) -> None:
    into_fibre_a, into_fibre_b, link, noise_hz, window_s = 0.026, 0.028, 0.091, 9.6, 60e-9
    found = single_photon_herald(
        alpha, alpha, into_fibre_a * link, into_fibre_b * link, noise_hz * window_s, 0.986**2, 1.0
    )
    rho = found.density_matrix
    assert (rho[1, 1] + rho[2, 2]).real / 2 + rho[1, 2].real == pytest.approx(fidelity, abs=5e-4)


@settings(deadline=None)
@given(
    PROBABILITY,
    PROBABILITY,
    PROBABILITY,
    PROBABILITY,
    st.floats(1e-6, 1),
    PROBABILITY,
    PROBABILITY,
    st.booleans(),
)
def test_every_heralded_state_is_a_state(
    alpha_a: float,
    alpha_b: float,
    eta_a: float,
    eta_b: float,
    noise: float,
    overlap: float,
    contrast: float,
    pnr: bool,
) -> None:
    if noise == 1:
        noise = 0.5
    found = single_photon_herald(
        alpha_a, alpha_b, eta_a, eta_b, noise, overlap, contrast, number_resolving=pnr
    )
    assert 0 < found.probability <= 0.5 + 1e-12  # two detectors, one herald each at most
    assert np.trace(found.density_matrix).real == pytest.approx(1)
    assert np.linalg.eigvalsh(found.density_matrix)[0] > -1e-12


@settings(deadline=None)
@given(st.floats(0.001, 0.5), PROBABILITY, PROBABILITY)
def test_weak_link_limit(alpha: float, overlap: float, contrast: float) -> None:
    eta = 1e-7
    found = single_photon_herald(alpha, alpha, eta, eta, 0.0, overlap, contrast)
    rho = found.density_matrix
    fidelity = (rho[1, 1] + rho[2, 2]).real / 2 + rho[1, 2].real
    assert 2 * found.probability == pytest.approx(2 * alpha * eta, rel=1e-6)
    assert fidelity == pytest.approx((1 - alpha) * (1 + math.sqrt(overlap) * contrast) / 2, abs=1e-6)


def test_balanced_arms_maximise_the_coherence() -> None:
    eta_a, eta_b, alpha_a = 0.02, 0.03, 0.1
    odds = alpha_a * eta_a / (1 - alpha_a) / eta_b
    balanced = odds / (1 + odds)

    def ratio(alpha_b: float) -> float:
        rho = single_photon_herald(alpha_a, alpha_b, eta_a, eta_b, 0.0, 1.0, 1.0).density_matrix
        return rho[1, 2].real / (rho[1, 1] + rho[2, 2]).real

    assert ratio(balanced) > max(ratio(balanced * 0.95), ratio(balanced * 1.05))
    assert ratio(balanced) == pytest.approx(0.5, abs=1e-12)


def test_two_photon_herald() -> None:
    clean = two_photon_herald(0.1, 0.2, 0.0, 0.9)
    assert clean.probability == pytest.approx(0.01)
    assert clean.fidelity == pytest.approx(0.95)
    noisy = two_photon_herald(0.1, 0.2, 1e-3, 0.9)
    false = 2e-3 * (0.1 * 0.8 + 0.2 * 0.9) + 4e-6
    assert noisy.probability == pytest.approx(0.01 + false)
    assert noisy.fidelity == pytest.approx((0.01 * 0.95 + false / 4) / (0.01 + false))
    assert two_photon_herald(0.0, 0.0, 1e-3, 1.0).fidelity == pytest.approx(0.25)


def test_one_photon_is_81_times_faster_than_two_at_ten_kilometres() -> None:
    eta_a, eta_b = 0.026 * 0.091, 0.028 * 0.091
    one = 2 * single_photon_herald(0.05, 0.05, eta_a, eta_b, 0.0, 1.0, 1.0).probability
    assert one / two_photon_herald(eta_a, eta_b, 0.0, 1.0).probability == pytest.approx(81, abs=0.6)


@pytest.mark.parametrize(
    "call",
    [
        lambda: single_photon_herald(1.1, 0, 0, 0, 0, 0, 0),
        lambda: single_photon_herald(0.1, 0.1, 0.1, 0.1, 0, 1, math.nan),
        lambda: single_photon_herald(0.1, 0.1, 0.1, 0.1, 0, 1, 1, sign=0),
        lambda: single_photon_herald(0.1, 0.1, 0.0, 0.0, 0, 1, 1),
        lambda: two_photon_herald(0.0, 0.1, 0.0, 1.0),
    ],
)
def test_refusals(call) -> None:
    with pytest.raises(LimitError):
        call()
