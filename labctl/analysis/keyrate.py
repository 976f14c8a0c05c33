"""Asymptotic rates of a device-independent key from the CHSH value S and the bit error rate (QBER), in bits.

Formulas of plain numbers accept values a little outside their range (statistical fluctuations, finite
differences) and clip them; the functions that take Estimates return the rate with its standard error.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.value import Estimate, propagate
from labctl.errors import LimitError

CLASSICAL_S = 2.0
"""Largest S of a local model."""
TSIRELSON_S = 2 * math.sqrt(2)
"""Largest S of quantum theory."""


class NoisyRate(NamedTuple):
    """The best rate with noisy pre-processing (bits per key round) and the flip probability that gives it."""

    rate: float
    flip_probability: float


def binary_entropy(probability: float) -> float:
    """Entropy of a coin in bits, -x log2 x - (1-x) log2(1-x); clipped to x in [0, 1].

    >>> binary_entropy(0.5), binary_entropy(0.0)
    (1.0, 0.0)
    """
    x = min(max(probability, 0.0), 1.0)
    if x in (0.0, 1.0):
        return 0.0
    return -(x * math.log2(x) + (1 - x) * math.log1p(-x) / math.log(2))


def qber(errors: int, rounds: int) -> Estimate:
    """Quantum bit error rate Q = errors/rounds, standard error sqrt(Q(1-Q)/rounds).

    When no round, or every round, is an error, the standard error is 1/rounds instead of zero.
    """
    if not 0 <= errors <= rounds or rounds == 0:
        raise LimitError(f"{errors} errors in {rounds} key rounds is not an error rate")
    value = errors / rounds
    return Estimate(value, math.sqrt(value * (1 - value) / rounds) or 1 / rounds)


def eavesdropper_information(s: float) -> float:
    """Bound on what an eavesdropper knows of a key bit: chi = h((1 + sqrt((S/2)^2 - 1))/2), in bits.

    1 at S <= 2, 0 at 2 sqrt 2 (Acín et al., PRL 98, 230501 (2007)).
    """
    return _phi(math.sqrt(_excess(s)))


def key_rate(s: float, qber: float) -> float:
    """Plain one-way rate r = 1 - h(Q) - chi(S), bits per key round; negative where no key is possible.

    Acín et al. 2007; Pironio et al., New J. Phys. 11, 045021 (2009). No sifting, no coding inefficiency.
    """
    return 1 - binary_entropy(qber) - eavesdropper_information(s)


def key_rate_estimate(s: Estimate, qber: Estimate) -> Estimate:
    """``key_rate`` with its first-order standard error, S and Q independent."""
    return propagate(key_rate, s, qber, unit="bit")


def noisy_key_rate(s: float, qber: float, flip_probability: float) -> float:
    """Rate when one side flips each key bit with a probability q before error correction.

    r = 1 + phi(sqrt((1-2q)^2 + 4q(1-q)e)) - phi(sqrt e) - h(q + (1-2q)Q), e = S^2/4 - 1, phi(x) = h((1+x)/2)
    (Ho et al., PRL 124, 230502 (2020)); equal to ``key_rate`` at q = 0.
    """
    q, excess = flip_probability, _excess(s)
    spread = math.sqrt((1 - 2 * q) ** 2 + 4 * q * (1 - q) * excess)
    return (
        1
        + _phi(spread)
        - _phi(math.sqrt(excess))
        - binary_entropy(q + (1 - 2 * q) * min(max(qber, 0.0), 1.0))
    )


def best_noisy_key_rate(s: float, qber: float) -> NoisyRate:
    """``noisy_key_rate`` at the flip probability in [0, 1/2] where it is largest.

    Searched on a grid, then refined, because near threshold the rate has a second, flat maximum (zero) at 1/2.
    """
    from labctl.analysis.special import maximise

    def rate(q: float) -> float:
        return noisy_key_rate(s, qber, q)

    grid = [0.5 * (index / 200) ** 2 for index in range(201)]
    best = max(range(len(grid)), key=lambda index: rate(grid[index]))
    refined = maximise(rate, grid[max(best - 1, 0)], grid[min(best + 1, 200)])
    flip = max((refined, grid[best]), key=rate)
    return NoisyRate(rate(flip), flip)


def best_noisy_key_rate_estimate(s: Estimate, qber: Estimate) -> Estimate:
    """``best_noisy_key_rate`` with its first-order standard error, S and Q independent."""
    flip = best_noisy_key_rate(s.value, qber.value).flip_probability

    def rate(s_value: float, qber_value: float) -> float:
        return noisy_key_rate(s_value, qber_value, flip)

    return propagate(rate, s, qber, unit="bit")


def critical_qber() -> float:
    """QBER at which ``key_rate`` vanishes for depolarised pairs, S = 2 sqrt 2 (1 - 2Q): 7.15 %."""
    from labctl.analysis.special import root

    return root(lambda q: key_rate(TSIRELSON_S * (1 - 2 * q), q), 0.01, 0.14)


def conditional_entropy(joint_counts: ArrayLike) -> Estimate:
    """H(A|B) in bits per round from key counts [a, b] of shape (2, 2): the least a perfect code must disclose.

    Plug-in estimate, at most h(QBER); standard error by the delta method,
    n sigma^2 = sum p(a,b) log2(p(a|b))^2 - H^2.
    """
    counts = np.asarray(joint_counts, dtype=np.float64)
    if (
        counts.shape != (2, 2)
        or not (counts >= 0).all()
        or not np.isfinite(counts).all()
        or counts.sum() == 0
    ):
        raise LimitError(
            f"key counts must be four numbers >= 0 of shape (2, 2) [a, b], not all zero; got {counts.tolist()}"
        )
    total = float(counts.sum())
    share = counts / total
    column = np.broadcast_to(share.sum(axis=0), (2, 2))
    seen = share > 0
    surprise = -np.log2(share[seen] / column[seen])
    entropy = float(share[seen] @ surprise)
    variance = max(float(share[seen] @ surprise**2) - entropy**2, 0.0)
    return Estimate(entropy, math.sqrt(variance / total), "bit")


def _excess(s: float) -> float:
    """S^2/4 - 1 with S clipped to the range between local models and quantum theory."""
    return min(max(s, CLASSICAL_S), TSIRELSON_S) ** 2 / 4 - 1


def _phi(x: float) -> float:
    return binary_entropy((1 + x) / 2)
