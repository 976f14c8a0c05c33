"""Figures that follow from others, by name, with their errors: what a row of a plan may ask for."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from labctl.analysis import keyrate, ledger, link
from labctl.analysis.value import Estimate, propagate

Formula = Callable[..., Estimate]
SECONDS_PER_HOUR = 3600.0


def _ratio(a: Estimate, b: Estimate) -> Estimate:
    """a / b; a pure number if both have one unit."""
    unit = "" if a.unit == b.unit or not b.unit else f"{a.unit}/{b.unit}"

    def quotient(x: float, y: float) -> float:
        return x / y

    return propagate(quotient, a, b, unit=unit)


def _difference(a: Estimate, b: Estimate) -> Estimate:
    return Estimate(a.value - b.value, math.hypot(a.standard_error, b.standard_error), a.unit)


def _mean(*values: Estimate) -> Estimate:
    """Plain mean of independent figures of one unit."""
    error = math.hypot(*(one.standard_error for one in values)) / len(values)
    return Estimate(sum(one.value for one in values) / len(values), error, values[0].unit)


def _hours(rounds: Estimate, rate: Estimate) -> Estimate:
    """Hours in which so many rounds come at a rate in Hz."""

    def time(n: float, r: float) -> float:
        return n / r / SECONDS_PER_HOUR

    return propagate(time, rounds, rate, unit="h")


def _over_two_photon(alpha: Estimate, herald_probability: Estimate) -> Estimate:
    """How much more often one photon heralds than two would on the same link: P / (eta²/2) = 8 alpha²/P, equal arms.

    P = 2 alpha eta is the heralds per attempt with single photons (PHYSICS.md 3.1 and 3.2).
    """

    def ratio(excited: float, heralds: float) -> float:
        return 8 * excited**2 / heralds

    return propagate(ratio, alpha, herald_probability)


def _numbers(formula: Callable[..., float], unit: str, *operands: Estimate) -> Estimate:
    return propagate(formula, *operands, unit=unit)


FORMULAS: dict[str, Formula] = {
    "ratio": _ratio,
    "difference": _difference,
    "mean": _mean,
    "hours": _hours,
    "over_two_photon": _over_two_photon,
    "link_efficiency": link.link_efficiency,
    "clocked_fidelity": partial(_numbers, link.clocked_fidelity_max, ""),
    "deterministic_threshold": partial(_numbers, link.deterministic_threshold, ""),
    "stored_fidelity_exponential": partial(_numbers, link.stored_fidelity_exponential, ""),
    "key_rate": partial(_numbers, keyrate.key_rate, "bit"),
    "key_left": partial(_numbers, ledger.left, "bit"),
}
"""Name -> function of Estimates."""
