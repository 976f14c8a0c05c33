"""What a memory does to a stored Bell pair: correlators against storage time, how they decay, and what the pair is worth.

A product is +1 if both ions gave the same answer and -1 if not; a fresh |ψ+> has <XX> = <YY> = 1 and <ZZ> = -1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.bell import bell_fidelity_from_correlators, correlator
from labctl.analysis.link import TwoComponentDecay
from labctl.analysis.value import Estimate, propagate
from labctl.errors import LimitError

FloatArray = NDArray[np.float64]
BASES = ("xx", "yy", "zz")
"""Settings by the number that stands in the records."""


@dataclass(frozen=True)
class StoredPair:
    """Correlators of pairs stored for ``time_s``, each from ``rounds`` of its setting (order xx, yy, zz)."""

    time_s: float
    xx: Estimate
    yy: Estimate
    zz: Estimate
    rounds: tuple[int, int, int]

    @property
    def fidelity(self) -> Estimate:
        """Fidelity with |ψ+>: (1 + <XX> + <YY> - <ZZ>)/4."""
        return bell_fidelity_from_correlators(self.xx, self.yy, self.zz, "psi+")


def stored_pair(time_s: ArrayLike, bases: ArrayLike, products: ArrayLike) -> StoredPair:
    """All these rounds together, each setting on its own; the time is their mean.

    All of shape (rounds,): storage time in s, setting 0 to 2 as in ``BASES``, product ±1. LimitError if a setting has no round.
    """
    times = np.asarray(time_s, np.float64)
    setting, product = np.asarray(bases, np.int64), np.asarray(products, np.int64)
    found: list[Estimate] = []
    counts: list[int] = []
    for number in range(len(BASES)):
        chosen = product[setting == number]
        found.append(correlator(int((chosen > 0).sum()), int((chosen < 0).sum())))
        counts.append(len(chosen))
    xx, yy, zz = found
    return StoredPair(float(times.mean()), xx, yy, zz, (counts[0], counts[1], counts[2]))


def by_time(time_s: ArrayLike, bases: ArrayLike, products: ArrayLike) -> list[StoredPair]:
    """The rounds of each storage time, shortest first; times at which a setting has no round are left out."""
    times = np.asarray(time_s, np.float64)
    setting, product = np.asarray(bases, np.int64), np.asarray(products, np.int64)
    pairs: list[StoredPair] = []
    for time in np.unique(times):
        here = times == time
        if len(np.unique(setting[here])) == len(BASES):
            pairs.append(stored_pair(times[here], setting[here], product[here]))
    return pairs


@dataclass(frozen=True)
class Decay:
    """Fitted decay: <XX> and <YY> = ``coherence`` exp(-t/``lifetime``), -<ZZ> = ``zz`` - ``zz_loss`` t.

    ``chi_squared`` of both fits together, over ``degrees_of_freedom``.
    """

    coherence: Estimate
    lifetime: Estimate
    zz: Estimate
    zz_loss: Estimate
    chi_squared: float
    degrees_of_freedom: int

    @property
    def rate(self) -> Estimate:
        """Decoherence rate in Hz: one over the lifetime."""
        rate = 1 / self.lifetime.value
        return Estimate(rate, rate**2 * self.lifetime.standard_error, "Hz")

    def fidelity(self, time_s: float) -> Estimate:
        """Fidelity after a storage time, from the fit (its parameters taken as independent)."""

        def value(coherence: float, lifetime: float, zz: float, loss: float) -> float:
            return (1 + 2 * coherence * math.exp(-time_s / lifetime) + max(0.0, zz - loss * time_s)) / 4

        return propagate(value, self.coherence, self.lifetime, self.zz, self.zz_loss)

    def time_above_half(self) -> Estimate:
        """Storage time up to which the fidelity is above 1/2, s; LimitError if the fit is no decay."""
        self.model()

        def time(coherence: float, lifetime: float, zz: float, loss: float) -> float:
            kept = TwoComponentDecay(min(coherence, 1.0), lifetime, min(max(zz, 0.0), 1.0), max(loss, 1e-9))
            return half_fidelity_time_s(kept)

        return propagate(time, self.coherence, self.lifetime, self.zz, self.zz_loss, unit="s")

    def model(self) -> TwoComponentDecay:
        """The fitted curve, for means over waiting times; LimitError if it is not a decay."""
        return TwoComponentDecay(
            min(self.coherence.value, 1.0), self.lifetime.value, min(self.zz.value, 1.0), self.zz_loss.value
        )


def fit_decay(pairs: Sequence[StoredPair]) -> Decay:
    """Exponential fit of <XX> and <YY> together and linear fit of <ZZ>, weighted by the binomial errors of the fit itself.

    <ZZ> is fitted where the line is above zero only: populations that have become random stay so. LimitError with fewer
    than three storage times, or if the coherence does not decay within what was measured.
    """
    if len(pairs) < 3:
        raise LimitError(f"a decay needs at least three storage times, not {len(pairs)}")
    times = np.array([pair.time_s for pair in pairs])
    twice = np.concatenate([times, times])
    coherence = np.array([pair.xx.value for pair in pairs] + [pair.yy.value for pair in pairs])
    counts = np.array([pair.rounds[0] for pair in pairs] + [pair.rounds[1] for pair in pairs])
    (start, rate), start_rate_error, chi_exp = _exponential(twice, coherence, counts)
    if not rate > 0:
        raise LimitError("the coherence does not decay within the storage times measured: store for longer")
    lifetime = Estimate(1 / rate, start_rate_error[1] / rate**2, "s")
    zz = np.array([-pair.zz.value for pair in pairs])
    line, line_errors, chi_line, used = _line(times, zz, np.array([pair.rounds[2] for pair in pairs]))
    return Decay(
        Estimate(start, start_rate_error[0]),
        lifetime,
        Estimate(line[0], line_errors[0]),
        Estimate(-line[1], line_errors[1], "Hz"),
        chi_exp + chi_line,
        len(twice) - 2 + used - 2,
    )


def _exponential(
    times: FloatArray, values: FloatArray, counts: FloatArray
) -> tuple[tuple[float, float], tuple[float, float], float]:
    """Height and rate of C exp(-g t), their standard errors, and χ²: Gauss-Newton on binomial weights."""
    seen = values > 0.05
    if seen.sum() < 2 or np.ptp(times[seen]) == 0:
        raise LimitError("too little coherence at too few storage times for a decay")
    slope, offset = np.polyfit(times[seen], np.log(values[seen]), 1, w=values[seen] * np.sqrt(counts[seen]))
    height, rate = math.exp(offset), -float(slope)
    covariance = np.eye(2)
    for _ in range(50):
        model = height * np.exp(-rate * times)
        weight = counts / np.maximum(1 - np.minimum(model**2, 1), 1 / (counts + 2))
        rows = np.stack([model / height, -times * model], axis=1)
        covariance = np.linalg.inv((rows * weight[:, None]).T @ rows)
        step = covariance @ (rows.T @ (weight * (values - model)))
        height, rate = height + float(step[0]), rate + float(step[1])
        if not (height > 0 and math.isfinite(rate)):
            raise LimitError("the coherence measured does not follow a decay: more rounds are needed")
        if abs(step[0]) < 1e-10 and abs(step[1]) < 1e-9 * max(abs(rate), 1e-6):
            break
    model = height * np.exp(-rate * times)
    weight = counts / np.maximum(1 - np.minimum(model**2, 1), 1 / (counts + 2))
    errors = np.sqrt(np.diag(covariance))
    return (
        (height, rate),
        (float(errors[0]), float(errors[1])),
        float((weight * (values - model) ** 2).sum()),
    )


def _line(
    times: FloatArray, values: FloatArray, counts: FloatArray
) -> tuple[tuple[float, float], tuple[float, float], float, int]:
    """Offset and slope, their standard errors, χ² and how many points were used: those where the line is above zero."""
    used = np.ones(len(times), bool)
    offset = slope = chi = 0.0
    errors = np.full(2, math.inf)
    for _ in range(len(times)):
        if used.sum() < 2:
            raise LimitError("<ZZ> is gone at all but one storage time: store for less")
        model = offset + slope * times[used]
        weight = counts[used] / np.maximum(1 - np.minimum(model**2, 1), 1 / (counts[used] + 2))
        rows = np.stack([np.ones(int(used.sum())), times[used]], axis=1)
        covariance = np.linalg.inv((rows * weight[:, None]).T @ rows)
        offset, slope = (float(x) for x in covariance @ (rows.T @ (weight * values[used])))
        errors = np.sqrt(np.diag(covariance))
        chi = float((weight * (values[used] - offset - slope * times[used]) ** 2).sum())
        above = offset + slope * times > 0
        if (above == used).all() and abs(float(np.max(np.abs(model - offset - slope * times[used])))) < 1e-9:
            break
        used = above
    return (offset, slope), (float(errors[0]), float(errors[1])), chi, int(used.sum())


def half_fidelity_time_s(decay: TwoComponentDecay) -> float:
    """Storage time after which the fidelity is 1/2, s; 0 if it never is above."""
    from labctl.analysis.special import root

    if decay.fidelity(0.0) <= 0.5:
        return 0.0
    end = 10 * max(decay.lifetime_s, decay.zz / decay.zz_loss_hz)
    return root(lambda t: decay.fidelity(t) - 0.5, 0.0, end)
