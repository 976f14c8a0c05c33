"""Bell tests and Bell-state fidelities from counts: correlators, CHSH S, wins, p-value, parity.

Counts of a Bell test are integer arrays ``counts[a, b, x, y]`` of shape (2, 2, 2, 2): settings a, b are 0 or 1
and the outcome index is 0 for +1 and 1 for -1.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.fringe import Fringe, fit_fringe
from labctl.analysis.value import Estimate
from labctl.errors import LimitError

IntArray = NDArray[np.int64]
BellState = Literal["phi+", "phi-", "psi+", "psi-"]

_CORRELATOR_SIGNS: dict[BellState, tuple[int, int, int]] = {
    "phi+": (1, -1, 1),
    "phi-": (-1, 1, 1),
    "psi+": (1, 1, -1),
    "psi-": (-1, -1, -1),
}


@dataclass(frozen=True)
class Chsh:
    """A CHSH test: S, the four correlators and their trials as [a][b], and how often the game was won.

    ``win_probability`` is 1/2 + S/8, that of a player with uniform settings; ``wins`` counts the won trials.
    """

    s: Estimate
    correlators: tuple[tuple[Estimate, Estimate], tuple[Estimate, Estimate]]
    trials: tuple[tuple[int, int], tuple[int, int]]
    wins: int
    total_trials: int
    win_probability: Estimate


def count_trials(
    settings_a: ArrayLike, settings_b: ArrayLike, outcomes_a: ArrayLike, outcomes_b: ArrayLike
) -> IntArray:
    """Counts (2, 2, 2, 2) from one entry per trial: settings 0 or 1, outcomes +1 or -1."""
    columns = [np.asarray(column) for column in (settings_a, settings_b, outcomes_a, outcomes_b)]
    if any(column.ndim != 1 or column.shape != columns[0].shape for column in columns):
        raise LimitError(
            f"the four columns must be lists of one length, not {[column.shape for column in columns]}"
        )
    for name, column, allowed in zip(
        ("setting a", "setting b", "outcome a", "outcome b"),
        columns,
        ((0, 1), (0, 1), (1, -1), (1, -1)),
        strict=True,
    ):
        wrong = np.flatnonzero(~np.isin(column, allowed))
        if wrong.size:
            raise LimitError(
                f"{name} of trial {wrong[0]} is {column[wrong[0]]}; it must be {allowed[0]} or {allowed[1]}"
            )
    a, b = columns[0].astype(np.int64), columns[1].astype(np.int64)
    x, y = (columns[2] < 0).astype(np.int64), (columns[3] < 0).astype(np.int64)
    flat = np.bincount(((a * 2 + b) * 2 + x) * 2 + y, minlength=16)
    return flat.reshape(2, 2, 2, 2).astype(np.int64)


def same_and_different(counts: ArrayLike) -> IntArray:
    """Counts as [a, b, (same, different)], shape (2, 2, 2), from that shape or from (2, 2, 2, 2)."""
    table = np.asarray(counts)
    if table.shape == (2, 2, 2, 2):
        table = np.stack([table[..., 0, 0] + table[..., 1, 1], table[..., 0, 1] + table[..., 1, 0]], axis=-1)
    if table.shape != (2, 2, 2) or (table < 0).any() or not np.array_equal(table, np.round(table)):
        raise LimitError(
            "Bell counts must be whole numbers >= 0 of shape (2, 2, 2, 2) [a, b, x, y] or (2, 2, 2) "
            f"[a, b, same/different]; got shape {table.shape}"
        )
    return table.astype(np.int64)


def correlator(same: int, different: int) -> Estimate:
    """E = (same - different)/n with standard error sqrt((1 - E^2)/n)."""
    total = same + different
    if min(same, different) < 0 or total == 0:
        raise LimitError(
            f"a correlator needs trials: {same} with same and {different} with different outcomes"
        )
    value = (same - different) / total
    return Estimate(value, math.sqrt((1 - value**2) / total))


def chsh(counts: ArrayLike, minus: tuple[int, int] = (1, 1)) -> Chsh:
    """CHSH test from counts of either shape that ``same_and_different`` takes.

    S is the sum of the four correlators, the one at setting ``minus`` = (a, b) with a minus sign;
    sigma_S^2 = sum (1 - E^2)/n (Clauser et al., PRL 23, 880 (1969)). A trial is won when the outcomes are the
    same, at ``minus`` when they differ. For a state with the opposite sign flip all outcomes of one side.
    Raises LimitError when one of the four settings has no trial.
    """
    table = same_and_different(counts)
    if minus not in ((0, 0), (0, 1), (1, 0), (1, 1)):
        raise LimitError(f"the setting with the minus sign is a pair of 0 or 1, not {minus}")
    empty = [(a, b) for a in (0, 1) for b in (0, 1) if not table[a, b].sum()]
    if empty:
        raise LimitError(
            f"no trial with settings (a, b) = {empty}: S needs all four; take data until each has some"
        )
    rows = [[correlator(int(table[a, b, 0]), int(table[a, b, 1])) for b in (0, 1)] for a in (0, 1)]
    trials = table.sum(axis=-1)
    signs = np.ones((2, 2))
    signs[minus] = -1
    s = sum(float(signs[a, b]) * rows[a][b].value for a in (0, 1) for b in (0, 1))
    error = math.hypot(*(item.standard_error for row in rows for item in row))
    return Chsh(
        Estimate(s, error),
        ((rows[0][0], rows[0][1]), (rows[1][0], rows[1][1])),
        ((int(trials[0, 0]), int(trials[0, 1])), (int(trials[1, 0]), int(trials[1, 1]))),
        int(np.where(signs > 0, table[..., 0], table[..., 1]).sum()),
        int(trials.sum()),
        Estimate(0.5 + s / 8, error / 8),
    )


def memoryful_p_value(wins: int, trials: int, predictability: float = 0.0) -> float:
    """Probability that a local model, with any memory of past trials, wins at least this often.

    P(K >= wins) for K ~ Binomial(trials, 3/4 + 3(t + t^2)), t the excess predictability of a setting
    (Hensen et al., Nature 526, 682 (2015); Elkouss and Wehner, npj Quantum Inf. 2, 16026).
    """
    from labctl.analysis.special import binomial_tail

    if not 0 <= wins <= trials:
        raise LimitError(f"{wins} wins in {trials} trials is not possible")
    win_probability = 0.75 + 3 * (predictability + predictability**2)
    if not (predictability >= 0 and win_probability <= 1):
        raise LimitError(
            f"predictability {predictability!r} must be >= 0 and leave the game losable (below about 0.077)"
        )
    return binomial_tail(wins, trials, win_probability)


def population(chosen: int, total: int) -> Estimate:
    """Share of shots in the chosen two-qubit states, e.g. 01 and 10; binomial standard error."""
    if not 0 <= chosen <= total or total == 0:
        raise LimitError(f"{chosen} of {total} shots is not a population")
    value = chosen / total
    return Estimate(value, math.sqrt(value * (1 - value) / total))


def bell_fidelity_from_parity(populations: Estimate, parity_contrast: Estimate) -> Estimate:
    """Bell-state fidelity (P + C)/2: summed populations of its two basis states and its parity contrast.

    For psi± the populations are P01 + P10, for phi± P00 + P11 (Sackett et al., Nature 404, 256 (2000)).
    """
    error = math.hypot(populations.standard_error, parity_contrast.standard_error) / 2
    return Estimate((populations.value + parity_contrast.value) / 2, error)


def bell_fidelity_from_correlators(xx: Estimate, yy: Estimate, zz: Estimate, state: BellState) -> Estimate:
    """Bell-state fidelity (1 ± <XX> ± <YY> ± <ZZ>)/4 with the signs of the named state."""
    if state not in _CORRELATOR_SIGNS:
        raise LimitError(f"{state!r} is not a Bell state; it is one of {', '.join(_CORRELATOR_SIGNS)}")
    terms = zip(_CORRELATOR_SIGNS[state], (xx, yy, zz), strict=True)
    value = (1 + sum(sign * item.value for sign, item in terms)) / 4
    return Estimate(value, math.hypot(xx.standard_error, yy.standard_error, zz.standard_error) / 4)


def fit_parity_fringe(
    phases_rad: ArrayLike, even: ArrayLike, odd: ArrayLike, *, harmonic: int = 1, fit_offset: bool = False
) -> Fringe:
    """Parity fringe from the shots with even (00, 11) and odd parity at scanned analysis phases.

    Parity = contrast cos(harmonic x - phase): harmonic 1 when one node's analysis phase is scanned,
    2 when both are scanned together on phi±.
    """
    return fit_fringe(phases_rad, even, odd, harmonic=harmonic, fit_offset=fit_offset)
