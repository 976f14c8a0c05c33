import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from simulated_hw.world import ion
from simulated_hw.world.ion import DS, ELEMENTS, LEVELS, SD, B, D, IonPair, M, S, X

Complex = NDArray[np.complex128]
share = st.floats(0, 1)
angle = st.floats(-7, 7)
ELEMENT = [*((k, k) for k in range(LEVELS)), (S, D), (D, S), (S, M), (M, S), (D, M), (M, D)]
WHOLE = LEVELS**2


def full(state: Complex) -> Complex:
    """The 25 x 25 density matrix of an 11 x 11 table."""
    rho = np.zeros((LEVELS,) * 4, complex)
    for i, (a, a2) in enumerate(ELEMENT):
        for j, (b, b2) in enumerate(ELEMENT):
            rho[a, b, a2, b2] = state[i, j]
    return rho.reshape(WHOLE, WHOLE)


def some_state(seed: int) -> Complex:
    """A random valid joint state: products of random qubit and leakage states, mixed."""
    rng = np.random.default_rng(seed)
    state = np.zeros((ELEMENTS, ELEMENTS), complex)
    for _ in range(3):
        vectors = []
        for _ in (0, 1):
            q = rng.normal(size=3) + 1j * rng.normal(size=3)  # of S, D, M
            inside = {S: q[0], D: q[1], M: q[2]}
            vector = np.zeros(ELEMENTS, complex)
            vector[[B, X]] = rng.random(2)
            for place, (row, column) in enumerate(ELEMENT):
                if row in inside and column in inside:
                    vector[place] = inside[row] * inside[column].conj()
            vectors.append(vector)
        state += np.outer(*vectors)
    bell = np.zeros((ELEMENTS, ELEMENTS), complex)
    bell[S, D] = bell[D, S] = 0.5
    bell[SD, DS], bell[DS, SD] = 0.5 * np.exp(0.7j), 0.5 * np.exp(-0.7j)
    state = state / state[:LEVELS, :LEVELS].sum() + bell
    return state / state[:LEVELS, :LEVELS].sum()


def kraus(*operators: Complex) -> list[Complex]:
    return list(operators)


def on(a: int, b: int, factor: float) -> Complex:
    m = np.zeros((LEVELS, LEVELS), complex)
    m[a, b] = factor
    return m


def acts_as(channel: Complex, operators: list[Complex], seed: int) -> None:
    """The channel does to both ions what the Kraus operators do to the full density matrix."""
    assert sum(k.conj().T @ k for k in operators) == pytest.approx(np.eye(LEVELS), abs=1e-12)
    for node in (0, 1):
        pair = IonPair()
        pair.set(some_state(seed))
        rho = full(pair.state)
        pair.apply(node, channel)
        expected = np.zeros((WHOLE, WHOLE), complex)
        for k in operators:
            big = np.kron(k, np.eye(LEVELS)) if node == 0 else np.kron(np.eye(LEVELS), k)
            expected += big @ rho @ big.conj().T
        assert full(pair.state) == pytest.approx(expected, abs=1e-12)


@given(angle, angle, angle, st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_rotation_is_the_unitary(theta: float, phase: float, detuning: float, seed: int) -> None:
    u = ion.pulse(theta, 1.0, phase, detuning / 10, 0.3, 0.2)
    assert u @ u.conj().T == pytest.approx(np.eye(2), abs=1e-12)
    big = np.eye(LEVELS, dtype=complex)
    big[:2, :2] = u
    big[M, M] = np.exp(-0.4j)
    acts_as(ion.rotation(u, 0.4), kraus(big), seed)


@given(angle, share, st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_idle_is_phase_and_decay(phase: float, decay: float, seed: int) -> None:
    stay = np.diag(
        [1, math.sqrt(1 - decay) * np.exp(-1j * phase), 1, math.sqrt(1 - decay), np.exp(0.3j * phase)]
    )
    root = math.sqrt(decay)
    # between qubit and leakage there is no coherence, so one operator per level of leakage is as good as one for both
    keep_s = np.diag([1.0, 1, 0, 0, 1]) @ stay
    keep_b, keep_x = np.diag([0, 0, 1.0, 0, 0]) @ stay, np.diag([0, 0, 0, 1.0, 0]) @ stay
    operators = kraus(keep_s, keep_b, keep_x, on(S, D, root), on(B, X, root))
    acts_as(ion.idle(phase, decay, -0.3 * phase), operators, seed)


@given(share, st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_depolarising(p: float, seed: int) -> None:
    pauli = [np.eye(2), np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])]
    weights = [1 - 3 * p / 4, p / 4, p / 4, p / 4]
    operators = []
    for weight, matrix in zip(weights, pauli, strict=True):
        k = np.zeros((LEVELS, LEVELS), complex)
        k[:2, :2] = math.sqrt(weight) * matrix
        k[M, M] = float(matrix is pauli[0])  # M is untouched if nothing happens to the qubit
        operators.append(k)
    acts_as(ion.depolarise(p), [*operators, on(B, B, 1), on(X, X, 1)], seed)


@given(share, share, st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_light_that_moves_populations(p: float, q: float, seed: int) -> None:
    stay = [on(level, level, 1.0) for level in range(LEVELS)]

    def moved(levels: tuple[int, ...], shares: tuple[float, float]) -> list[Complex]:
        kept = [on(k, k, math.sqrt(1 - p)) if k in levels else stay[k] for k in range(LEVELS)]
        return kept + [
            on(to, k, math.sqrt(p * s)) for k in levels for to, s in ((S, shares[0]), (B, shares[1]))
        ]

    acts_as(ion.pump(p, q), moved((S, B, M), (1 - q, q)), seed)
    acts_as(ion.shelve(p, q), moved((S, B, M), (q / 2, 1 - q / 2)), seed)
    dark = [k for k in moved((D, X), (0.5, 0.5)) if k[S, S] == 0 and k[M, M] == 0]
    acts_as(ion.reset(p), [*dark, stay[S] + stay[M]], seed)  # the memory qubit does not see 854 nm light


@given(share, st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_excitation_without_looking_at_the_photon(alpha: float, seed: int) -> None:
    to_s, to_d52, to_d32 = 0.9, 0.07, 0.03
    keep = np.diag([1, math.sqrt(1 - alpha), 0, 0, 1])
    operators = [keep, on(B, B, 1), on(X, X, 1)]
    operators += [on(to, D, math.sqrt(alpha * b)) for to, b in ((S, to_s), (X, to_d52), (B, to_d32))]
    acts_as(ion.excite(alpha, (to_s, to_d52, to_d32)), operators, seed)


def test_on_resonance_the_pulse_is_the_textbook_rotation() -> None:
    theta, phi = 1.1, 0.6
    sigma = math.cos(phi) * np.array([[0, 1], [1, 0]]) + math.sin(phi) * np.array([[0, -1j], [1j, 0]])
    expected = math.cos(theta / 2) * np.eye(2) - 1j * math.sin(theta / 2) * sigma
    assert ion.pulse(theta / 1e-5, 1e-5, phi, 0.0, 0.0, 0.0) == pytest.approx(expected)


@given(st.floats(-1e5, 1e5), st.floats(0, 1e-4))
@settings(max_examples=50, deadline=None)
def test_transfer_is_the_generalised_rabi_formula(detuning: float, span: float) -> None:
    rabi = math.pi / 10e-6
    u = ion.pulse(rabi, span, 0.4, detuning, 0.0, 0.0)
    effective = math.hypot(rabi, 2 * math.pi * detuning)
    assert abs(u[1, 0]) ** 2 == pytest.approx(
        (rabi / effective * math.sin(effective * span / 2)) ** 2, abs=1e-9
    )


def test_a_detuned_tone_is_resonant_with_an_atom_that_moved_with_it_and_keeps_its_phase() -> None:
    """Ramsey with a tone 1 kHz off on an atom 1 kHz off: no fringe, whatever the wait; frame turns cancel."""
    shift, rabi, span = 1e3, math.pi / 2 / 5e-6, 5e-6
    for wait in (0.0, 123e-6, 777e-6):
        state = np.array([1, 0], complex)
        state = ion.pulse(rabi, span, 0.0, 0.0, 0.0, shift) @ state
        state = np.array([1, np.exp(-2j * math.pi * shift * wait)]) * state
        state = ion.pulse(rabi, span, 0.0, 0.0, (shift * (span + wait)) % 1, shift) @ state
        assert abs(state[1]) ** 2 == pytest.approx(1.0)


def test_reading_one_ion_of_a_bell_pair_decides_the_other() -> None:
    rng = np.random.default_rng(1)
    seen = []
    for _ in range(400):
        pair = IonPair()
        bell = np.zeros((ELEMENTS, ELEMENTS), complex)
        bell[S, D] = bell[D, S] = bell[SD, DS] = bell[DS, SD] = 0.5
        pair.set(bell)
        first = pair.measure(0, rng)
        seen.append(first)
        assert pair.measure(1, rng) is not first
        assert pair.joint_populations().sum() == pytest.approx(1)
    assert 140 < sum(seen) < 260


def test_the_qubits_matrix_is_the_block_of_the_whole() -> None:
    pair = IonPair()
    pair.set(some_state(5))
    whole = full(pair.state).reshape((LEVELS,) * 4)
    assert pair.qubits() == pytest.approx(whole[:2, :2, :2, :2].reshape(4, 4))
    stored = np.ix_((M, S), (M, S), (M, S), (M, S))
    assert pair.memories() == pytest.approx(whole[stored].reshape(4, 4))
    assert np.linalg.eigvalsh(full(pair.state)).min() > -1e-12
