"""Two-qubit state tomography from counts in the nine pairs of Pauli bases.

Counts are arrays ``counts[i, j, x, y]`` of shape (3, 3, 2, 2): bases i of A and j of B are 0, 1, 2 for X, Y, Z,
outcome index 0 is eigenvalue +1 and 1 is -1. States are 4x4 complex in the basis 00, 01, 10, 11 (Z|0> = +|0>).
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.bell import BellState
from labctl.analysis.value import Estimate
from labctl.errors import LimitError

ComplexArray = NDArray[np.complex128]
FloatArray = NDArray[np.float64]
Method = Literal["likelihood", "inversion"]

_PAULIS: ComplexArray = np.array(
    [[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]], dtype=np.complex128
)
_SINGLE: ComplexArray = np.stack([(np.eye(2) + _PAULIS) / 2, (np.eye(2) - _PAULIS) / 2], axis=1)
_PROJECTORS: ComplexArray = np.einsum("ixab,jycd->ijxyacbd", _SINGLE, _SINGLE).reshape(36, 16)
_OUTCOMES = np.array([1.0, -1.0])
_POLISHING_STEPS = 50


class Reconstruction(NamedTuple):
    """A maximum-likelihood state, its log-likelihood, and how far below the maximum that can be at most."""

    state: ComplexArray
    log_likelihood: float
    gap: float


def bell_state(name: BellState, phase_rad: float = 0.0) -> ComplexArray:
    """State vector: psi± = (|01> ± e^(i phase)|10>)/sqrt 2, phi± = (|00> ± e^(i phase)|11>)/sqrt 2."""
    first, second = {"phi": (0, 3), "psi": (1, 2)}[name[:3]]
    vector = np.zeros(4, dtype=np.complex128)
    vector[first] = math.sqrt(0.5)
    vector[second] = (1 if name[3] == "+" else -1) * math.sqrt(0.5) * np.exp(1j * phase_rad)
    return vector


def state_fidelity(state: ComplexArray, target: ComplexArray) -> float:
    """Fidelity <target|state|target> of a 4x4 density matrix with a pure state vector."""
    return float(np.real(target.conj() @ state @ target))


def linear_inversion(counts: ArrayLike) -> ComplexArray:
    """State with exactly the measured Pauli means; trace one, Hermitian, but eigenvalues may be negative.

    The mean of a one-qubit Pauli is averaged over the three partner bases, weighted by their shots.
    """
    table = _checked(counts)
    shots = table.sum(axis=(2, 3))
    joint = np.einsum("ijxy,x,y->ij", table, _OUTCOMES, _OUTCOMES) / shots
    mean_a = np.einsum("ijxy,x->i", table, _OUTCOMES) / shots.sum(axis=1)
    mean_b = np.einsum("ijxy,y->j", table, _OUTCOMES) / shots.sum(axis=0)
    one = np.eye(2)
    state: ComplexArray = np.asarray(
        np.eye(4)
        + np.kron(np.einsum("i,iab->ab", mean_a, _PAULIS), one)
        + np.kron(one, np.einsum("j,jcd->cd", mean_b, _PAULIS))
        + np.einsum("ij,iab,jcd->acbd", joint, _PAULIS, _PAULIS).reshape(4, 4),
        dtype=np.complex128,
    )
    return state / 4


def nearest_state(matrix: ComplexArray) -> ComplexArray:
    """The density matrix nearest to a Hermitian matrix of trace one (Smolin, Gambetta, Smith, PRL 108, 070502)."""
    values, vectors = np.linalg.eigh(matrix)
    descending = values[::-1]
    shift = (np.cumsum(descending) - 1) / np.arange(1, values.size + 1)
    kept = int(np.flatnonzero(descending > shift)[-1])
    clipped = np.clip(values - shift[kept], 0, None)
    return (vectors * clipped) @ vectors.conj().T


def maximum_likelihood(counts: ArrayLike) -> Reconstruction:
    """Most likely physical state: the density matrix A A^dagger that maximises the multinomial likelihood.

    Starts from the projected linear inversion and follows the gradient 2(A - R A), R = sum (f/p) P, with
    L-BFGS; the trace needs no constraint. At the maximum R rho = rho (Hradil, PRA 55, R1561 (1997)); steps
    rho -> R rho R take out the last rounding. Because the log-likelihood of N shots is concave it lies at most
    N(largest eigenvalue of R - 1) below its maximum, which is the ``gap`` returned; above 1/2 nat (one
    standard deviation) LimitError is raised.
    """
    from labctl.analysis.special import minimise

    shots = _checked(counts).reshape(36)
    total, seen = float(shots.sum()), shots > 0
    share, projectors = shots[seen] / total, _PROJECTORS[seen]

    def gradient_operator(state: ComplexArray) -> tuple[float, ComplexArray]:
        chance = np.maximum((projectors.conj() @ state.reshape(16)).real, 1e-300)
        return float(share @ np.log(chance)), ((share / chance) @ projectors).reshape(4, 4)

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        factor = parameters.view(np.complex128).reshape(4, 4)
        likelihood, operator = gradient_operator(factor @ factor.conj().T)
        slope = 2 * (factor - operator @ factor)
        return float(parameters @ parameters) - likelihood, slope.reshape(16).view(np.float64)

    start = np.linalg.cholesky(0.99 * nearest_state(linear_inversion(counts)) + 0.01 * np.eye(4) / 4)
    best = minimise(loss, start.reshape(16).view(np.float64)).view(np.complex128).reshape(4, 4)
    state, gap = _normalised(best @ best.conj().T), math.inf
    for _ in range(_POLISHING_STEPS):
        _, operator = gradient_operator(state)
        gap = max(total * (float(np.linalg.eigvalsh(operator)[-1]) - 1), 0.0)
        if gap < 1e-3:
            break
        state = _normalised(operator @ state @ operator)
    if gap > 0.5:
        raise LimitError(
            f"the likelihood search stopped up to {gap:.3g} nats below the maximum; check the counts"
        )
    return Reconstruction(state, total * gradient_operator(state)[0], gap)


def _normalised(matrix: ComplexArray) -> ComplexArray:
    """The Hermitian part, scaled to trace one."""
    return (matrix + matrix.conj().T) / (2 * np.trace(matrix).real)


def fidelity(
    counts: ArrayLike,
    target: ComplexArray,
    random: np.random.Generator,
    *,
    method: Method = "likelihood",
    resamples: int = 100,
) -> Estimate:
    """Fidelity of the reconstructed state with a pure target; standard error by bootstrap.

    Each resample draws every basis pair anew from its measured shares. Maximum likelihood is biased a little
    low near pure states; linear inversion is not, but its state may be unphysical.
    """
    table = _checked(counts)
    if resamples < 2:
        raise LimitError(f"a bootstrap needs at least 2 resamples, not {resamples}")
    shots = table.sum(axis=(2, 3)).astype(np.int64)
    shares = (table / shots[:, :, None, None]).reshape(3, 3, 4)

    def value(sample: FloatArray) -> float:
        state = maximum_likelihood(sample).state if method == "likelihood" else linear_inversion(sample)
        return state_fidelity(state, target)

    drawn = random.multinomial(shots, shares, size=(resamples, 3, 3)).reshape(resamples, 3, 3, 2, 2)
    spread = np.std([value(sample.astype(np.float64)) for sample in drawn], ddof=1)
    return Estimate(value(table), float(spread))


def _checked(counts: ArrayLike) -> FloatArray:
    table = np.asarray(counts, dtype=np.float64)
    if table.shape != (3, 3, 2, 2) or not np.isfinite(table).all() or (table < 0).any():
        raise LimitError(
            f"tomography counts must be numbers >= 0 of shape (3, 3, 2, 2), not shape {table.shape}"
        )
    empty = np.argwhere(table.sum(axis=(2, 3)) == 0)
    if empty.size:
        names = ", ".join("XYZ"[i] + "XYZ"[j] for i, j in empty)
        raise LimitError(f"no shot in basis {names}: two-qubit tomography needs all nine")
    return table
