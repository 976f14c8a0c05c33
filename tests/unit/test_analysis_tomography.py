import math

import numpy as np
import pytest
import qutip
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.analysis import tomography
from labctl.analysis.bell import bell_fidelity_from_correlators, correlator
from labctl.errors import LimitError

BASES = (qutip.sigmax(), qutip.sigmay(), qutip.sigmaz())


def shares(state: np.ndarray) -> np.ndarray:
    """Outcome probabilities [i, j, x, y] from QuTiP's own Pauli operators."""
    rho = qutip.Qobj(state, dims=[[2, 2], [2, 2]])
    half = [[(qutip.qeye(2) + sign * pauli) / 2 for sign in (1, -1)] for pauli in BASES]
    return np.array(
        [
            [[[qutip.expect(qutip.tensor(p, r), rho) for r in half[j]] for p in half[i]] for j in range(3)]
            for i in range(3)
        ]
    ).clip(0)


def werner(name: str, fidelity: float, phase: float = 0.0) -> np.ndarray:
    target = tomography.bell_state(name, phase)  # type: ignore[arg-type]
    weight = (4 * fidelity - 1) / 3
    return weight * np.outer(target, target.conj()) + (1 - weight) * np.eye(4) / 4


def draw(random: np.random.Generator, state: np.ndarray, shots: int) -> np.ndarray:
    p = shares(state).reshape(3, 3, 4)
    return random.multinomial(shots, p / p.sum(-1, keepdims=True)).reshape(3, 3, 2, 2)


def random_state(seed: int, rank: int) -> np.ndarray:
    return qutip.rand_dm(4, rank=rank, seed=seed).full()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_exact_shares_give_the_state_back(seed: int, rank: int) -> None:
    state = random_state(seed, rank)
    np.testing.assert_allclose(tomography.linear_inversion(1e4 * shares(state)), state, atol=1e-12)
    likely = tomography.maximum_likelihood(1e4 * shares(state))
    np.testing.assert_allclose(likely.state, state, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(5, 300))
def test_likelihood_state_is_physical_and_the_likeliest(seed: int, rank: int, shots: int) -> None:
    random = np.random.default_rng(seed)
    counts = draw(random, random_state(seed, rank), shots)
    found = tomography.maximum_likelihood(counts)
    assert np.linalg.eigvalsh(found.state)[0] > -1e-12
    assert np.trace(found.state).real == pytest.approx(1)
    assert found.gap < 1e-2

    def log_likelihood(state: np.ndarray) -> float:
        return float((counts * np.log(shares(state) + 1e-300)).sum())

    assert log_likelihood(found.state) == pytest.approx(found.log_likelihood, abs=1e-6)
    rivals = [
        random_state(seed, rank),
        tomography.nearest_state(tomography.linear_inversion(counts)),
        *(0.98 * found.state + 0.02 * random_state(seed + k, 1) for k in range(1, 6)),
    ]
    assert max(log_likelihood(rival) for rival in rivals) <= found.log_likelihood + found.gap + 1e-9


def test_likelihood_inside_the_physical_states_is_the_inversion() -> None:
    """With equal shots and a state well inside, both agree to statistical accuracy."""
    counts = draw(np.random.default_rng(51), werner("psi+", 0.6), 2000)
    likely = tomography.maximum_likelihood(counts).state
    np.testing.assert_allclose(likely, tomography.linear_inversion(counts), atol=0.03)


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4))
def test_nearest_state_of_a_diagonal(values: list[float]) -> None:
    diagonal = np.array(values) - (sum(values) - 1) / 4
    found = np.real(np.diag(tomography.nearest_state(np.diag(diagonal).astype(complex))))
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    # Euclidean projection on the simplex: no vertex lies on the far side of the tangent plane
    assert ((diagonal - found) @ (np.eye(4) - found).T).max() < 1e-9


def test_bell_states_have_their_correlators() -> None:
    for name in ("phi+", "phi-", "psi+", "psi-"):
        state = werner(name, 1.0)
        table = np.round(1e6 * shares(state)).astype(int)
        xx, yy, zz = (
            correlator(int(table[k, k, 0, 0] + table[k, k, 1, 1]), int(table[k, k, 0, 1] + table[k, k, 1, 0]))
            for k in range(3)
        )
        assert bell_fidelity_from_correlators(xx, yy, zz, name).value == pytest.approx(1)  # type: ignore[arg-type]
    turned = tomography.bell_state("psi+", 1.2)
    overlap = tomography.state_fidelity(werner("psi+", 1.0), turned)
    assert overlap == pytest.approx(math.cos(0.6) ** 2)


@pytest.mark.parametrize(("method", "tolerance"), [("inversion", 0.2), ("likelihood", 0.25)])
def test_bootstrap_error_is_the_spread_of_repeated_tomographies(
    method: tomography.Method, tolerance: float
) -> None:
    random = np.random.default_rng(52)
    target = tomography.bell_state("psi-", 0.4)
    state = werner("psi-", 0.85, 0.4)
    found = [
        tomography.fidelity(draw(random, state, 150), target, random, method=method, resamples=20)
        for _ in range(60)
    ]
    values = np.array([f.value for f in found])
    error = math.sqrt(np.mean([f.standard_error**2 for f in found]))
    assert values.std(ddof=1) == pytest.approx(error, rel=tolerance)
    assert abs(values.mean() - 0.85) < 5 * error / math.sqrt(60) + (0.01 if method == "likelihood" else 0)


def test_unequal_shots_are_weighted() -> None:
    random = np.random.default_rng(53)
    state = werner("phi+", 0.9)
    counts = draw(random, state, 400)
    counts[0] = draw(random, state, 4000)[0]
    found = tomography.fidelity(counts, tomography.bell_state("phi+"), random, resamples=30)
    assert abs(found.value - 0.9) < 5 * found.standard_error


def test_same_seed_same_answer() -> None:
    counts = draw(np.random.default_rng(54), werner("psi+", 0.9), 100)
    target = tomography.bell_state("psi+")
    first, second = (
        tomography.fidelity(counts, target, np.random.default_rng(5), resamples=5) for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (np.ones((2, 2, 2, 2)), "shape"),
        (-np.ones((3, 3, 2, 2)), ">= 0"),
        (np.full((3, 3, 2, 2), np.nan), "numbers"),
        (np.eye(3)[:, :, None, None] * np.ones((2, 2)), "XY, XZ, YX"),
    ],
)
def test_refusals(counts: np.ndarray, text: str) -> None:
    with pytest.raises(LimitError, match=text):
        tomography.linear_inversion(counts)


def test_one_resample_has_no_spread() -> None:
    with pytest.raises(LimitError, match="resamples"):
        tomography.fidelity(
            np.ones((3, 3, 2, 2)), tomography.bell_state("psi+"), np.random.default_rng(1), resamples=1
        )


def test_a_million_shots_per_basis_still_converge() -> None:
    counts = draw(np.random.default_rng(55), werner("psi+", 0.95), 10**6)
    found = tomography.maximum_likelihood(counts)
    assert found.gap < 0.1
    assert tomography.state_fidelity(found.state, tomography.bell_state("psi+")) == pytest.approx(
        0.95, abs=2e-3
    )
