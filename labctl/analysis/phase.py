"""How well an optical phase is known from single clicks: estimators compared on the same clicks, diffusion, slips.

No true phase is needed. With d the difference of the two detectors' clicks in a slot of bias b, z = Σ d exp(-i b) over
the slots of a cycle is N V exp(iφ) on average (N clicks per slot, contrast V), with noise that is independent from cycle
to cycle. So, m cycles of length T apart and for a phase that diffuses with D,

    C(m) = <z[k+m] z[k]*>/N² = V² exp(-D m T/2)      and for any estimate E of cycle k
    G(m) = <z[k+m] exp(-i E[k])>/N = V exp(-D m T/2) <cos(E - φ)>,

and <cos(E - φ)> = V G(m)/C(m) at every m > 0. Phase noise that is new in every cycle counts as contrast, not as error.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.value import Estimate
from labctl.errors import LimitError

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

LAGS = 5
"""Cycles apart up to which clicks are compared."""
BLOCKS = 20
"""Parts left out one by one for the standard errors (jackknife)."""
FEWEST = 50
"""Cycles from which on anything is said."""
GRID = 720
SLIP_RAD = math.pi / 2


@dataclass(frozen=True)
class Stabilisation:
    """What the clicks of a phase loop say: contrast of the reference fringe, diffusion, and <cos error> of each estimator.

    remembered:  for each estimator G(m)/V, m = 1 ... LAGS: mean cosine of the phase m cycles later to the estimate
    """

    contrast: Estimate
    diffusion: Estimate
    cosines: tuple[Estimate, ...]
    remembered: tuple[FloatArray, ...]


def quadratures(counts: ArrayLike, biases_rad: ArrayLike) -> ComplexArray:
    """z of each cycle, divided by the mean clicks of a slot.

    counts:      shape (cycles, slots, 2), clicks
    biases_rad:  shape (slots,), evenly over half a turn (a quarter turn apart for two slots)
    Raises LimitError when the biases do not see both quadratures alike or nothing clicked.
    """
    clicks, biases = np.asarray(counts, np.float64), np.asarray(biases_rad, np.float64)
    if abs(np.exp(-2j * biases).mean()) > 1e-6:
        raise LimitError("the slots' biases must lie evenly over half a turn, such as 0 and a quarter turn")
    mean = clicks.sum() / (clicks.shape[0] * clicks.shape[1]) if clicks.size else 0.0
    if not mean > 0:
        raise LimitError("no reference clicks: the phase is unknown")
    return ((clicks[..., 0] - clicks[..., 1]) * np.exp(-1j * biases)).sum(axis=1) / mean


def maximum_likelihood(counts: ArrayLike, biases_rad: ArrayLike, contrast: float) -> FloatArray:
    """The phase that makes the clicks of each cycle alone most likely, rad, shape (cycles,); to half a degree."""
    clicks, biases = np.asarray(counts, np.float64), np.asarray(biases_rad, np.float64)
    grid: FloatArray = np.arange(GRID, dtype=np.float64) * (2 * math.pi / GRID)
    share = (1 + contrast * np.cos(grid + biases[:, None])) / 2
    safe = np.clip(share, 1e-12, 1 - 1e-12)
    table = np.stack([np.log(safe), np.log1p(-safe)], axis=1).reshape(-1, GRID)
    flat = clicks.reshape(len(clicks), -1)
    best = [
        int(k) for part in np.array_split(flat, max(1, len(flat) // 4096)) for k in (part @ table).argmax(1)
    ]
    return grid[best]


def stabilisation(
    counts: ArrayLike, biases_rad: ArrayLike, cycle_s: float, estimates_rad: tuple[FloatArray, ...]
) -> Stabilisation:
    """Contrast, diffusion and <cos error> of estimators from the clicks of consecutive cycles ``cycle_s`` apart.

    counts:         shape (cycles, slots, 2)
    estimates_rad:  of each estimator the phase after each cycle's clicks, shape (cycles,)
    Raises LimitError for too few cycles, or a phase that moves too fast to be seen from cycle to cycle.
    """
    z = quadratures(counts, biases_rad)
    if len(z) < FEWEST:
        raise LimitError(f"{len(z)} cycles say little about a phase loop; take {FEWEST} or more")
    turned = [np.exp(-1j * np.asarray(estimate)) for estimate in estimates_rad]
    products = [_products(z, z.conj()), *(_products(z, turn) for turn in turned)]
    means = [part.mean(axis=0) for part in products]
    whole = _figures(means, cycle_s)
    edges = np.linspace(0, len(products[0]), BLOCKS + 1).astype(int)
    without = np.array(
        [
            _figures([np.delete(part, np.s_[a:b], axis=0).mean(axis=0) for part in products], cycle_s)
            for a, b in itertools.pairwise(edges)
        ]
    )
    errors = np.sqrt((BLOCKS - 1) * without.var(axis=0)).tolist()
    return Stabilisation(
        Estimate(whole[0], errors[0]),
        Estimate(whole[1], errors[1], "rad²/s"),
        tuple(Estimate(value, error) for value, error in zip(whole[2:], errors[2:], strict=True)),
        tuple(mean / whole[0] for mean in means[1:]),
    )


def unwrap(phases_rad: ArrayLike, slip_rad: float = SLIP_RAD) -> tuple[FloatArray, int]:
    """Phases without jumps of whole turns, rad, and the steps larger than ``slip_rad``, after which the turn is uncertain."""
    phases = np.asarray(phases_rad, np.float64)
    steps = np.remainder(np.diff(phases) + math.pi, 2 * math.pi) - math.pi
    unwrapped = np.concatenate((phases[:1], phases[:1] + np.cumsum(steps)))
    return unwrapped, int((np.abs(steps) > slip_rad).sum())


def _products(later: ComplexArray, now: ComplexArray) -> FloatArray:
    """Re later[k + m] now[k] for m = 1 ... LAGS, shape (cycles - LAGS, LAGS)."""
    count = len(later) - LAGS
    return np.stack([(later[m : m + count] * now[:count]).real for m in range(1, LAGS + 1)], axis=1)


def _figures(means: list[FloatArray], cycle_s: float) -> list[float]:
    """Contrast, diffusion, and <cos error> of each estimator from C(m) and the G(m)."""
    correlation, *others = means
    if not (correlation > 0).all():
        raise LimitError("the phase moves by more than a turn from cycle to cycle: is the fibre locked?")
    lags = np.arange(1, LAGS + 1)
    slope, begin = np.polyfit(lags, np.log(correlation), 1).tolist()
    contrast = math.exp(begin / 2)
    cosines = [contrast * float(other.sum() / correlation.sum()) for other in others]
    return [contrast, -2 * slope / cycle_s, *cosines]
