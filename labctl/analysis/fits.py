"""Maximum-likelihood fits of a model to counts: binomial shares, or Poisson numbers, with standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.special import least_squares
from labctl.analysis.value import Estimate
from labctl.errors import LimitError

FloatArray = NDArray[np.float64]
Model = Callable[[FloatArray], FloatArray]
"""Parameters, shape (p,), to the expected shares or counts, shape (n,)."""
TINY = 1e-12
TRIED = 3
"""Starts of a fit that are followed: those nearest to the counts."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a fit: its name and unit, where to start (the best of several starts are tried), and its bounds."""

    name: str
    start: float | Sequence[float]
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""


@dataclass(frozen=True)
class Fit:
    """Fitted parameters by name; ``values`` and ``covariance`` in their order.

    chi_squared:  Pearson's, over ``degrees_of_freedom``; of points with an expected count of a few at least it is worth its name
    """

    estimates: dict[str, Estimate]
    values: FloatArray
    covariance: FloatArray
    chi_squared: float
    degrees_of_freedom: int

    def __getitem__(self, name: str) -> Estimate:
        """One parameter."""
        return self.estimates[name]


def fit_shares(model: Model, ones: ArrayLike, trials: ArrayLike, parameters: Sequence[Parameter]) -> Fit:
    """Binomial maximum likelihood: of ``trials`` at each point ``ones`` are ones, with the model's share.

    Points without trials are left out. Standard errors come from the expected (Fisher) information at the fit; where a share is
    closer to 0 or 1 than that number of trials can tell, it counts as 1/(n + 2). LimitError when the points cannot determine
    the parameters.
    """
    seen, whole = np.asarray(ones, np.float64), np.asarray(trials, np.float64)
    used = whole > 0
    seen, whole = seen[used], whole[used]

    def residuals(values: FloatArray) -> FloatArray:
        share = np.clip(model(values)[used], TINY, 1 - TINY)
        away = _distance(seen, whole * share) + _distance(whole - seen, whole * (1 - share))
        return np.sign(seen - whole * share) * np.sqrt(2 * away)

    def variances(values: FloatArray) -> FloatArray:
        share = np.clip(model(values)[used], 1 / (whole + 2), 1 - 1 / (whole + 2))
        return whole * share * (1 - share)

    return _fit(residuals, lambda v: whole * model(v)[used], variances, seen, parameters)


def fit_counts(model: Model, counts: ArrayLike, parameters: Sequence[Parameter]) -> Fit:
    """Poisson maximum likelihood: the model gives the expected count of each point. Errors as for ``fit_shares``."""
    seen = np.asarray(counts, np.float64)

    def residuals(values: FloatArray) -> FloatArray:
        mean = np.maximum(model(values), TINY)
        return np.sign(seen - mean) * np.sqrt(2 * _distance(seen, mean))

    return _fit(residuals, model, lambda v: np.maximum(model(v), 1e-3), seen, parameters)


def _distance(seen: FloatArray, mean: FloatArray) -> FloatArray:
    """n ln(n / m) + m - n, half a Poisson deviance; to full precision also where n is nearly m, as its root needs."""
    some = np.maximum(seen, 1.0)
    u = (mean - seen) / some
    near = np.abs(u) < 1e-3
    series = u * u * (0.5 - u / 3 + u * u / 4)
    away = np.where(near, series, u - np.log1p(np.where(near, 0.0, np.maximum(u, TINY - 1))))
    return np.where(seen > 0, some * away, mean)


def _fit(
    residuals: Callable[[FloatArray], FloatArray],
    means: Model,
    variances: Model,
    seen: FloatArray,
    parameters: Sequence[Parameter],
) -> Fit:
    if seen.size < len(parameters):
        names = ", ".join(parameter.name for parameter in parameters)
        raise LimitError(f"{seen.size} points with counts cannot determine {names}; take more points")
    units = np.array(
        [_size(p) for p in parameters]
    )  # the search ends by the length of its last step: all in one size
    bounds = [(p.low / unit, p.high / unit) for p, unit in zip(parameters, units.tolist(), strict=True)]

    def scaled(values: FloatArray) -> FloatArray:
        return residuals(values * units)

    def cost(values: FloatArray) -> float:
        return float((scaled(values) ** 2).sum())

    likely = sorted((start / units for start in _starts(parameters)), key=cost)[:TRIED]
    found = units * min((least_squares(scaled, start, bounds) for start in likely), key=cost)
    variance = variances(found)
    rows = _jacobian(means, found, parameters) / np.sqrt(variance)[:, None]
    size = np.sqrt((rows**2).sum(axis=0))
    if not (size > 0).all() or np.linalg.matrix_rank(rows / size, tol=1e-7) < len(parameters):
        names = ", ".join(parameter.name for parameter in parameters)
        raise LimitError(f"these counts do not determine {names}; take more shots or a wider scan")
    relative = rows / size
    inverse: FloatArray = np.asarray(np.linalg.inv(relative.T @ relative), np.float64)
    covariance: FloatArray = inverse / np.outer(size, size)
    errors = np.sqrt(np.diag(covariance))
    return Fit(
        {
            p.name: Estimate(float(value), float(error), p.unit)
            for p, value, error in zip(parameters, found, errors, strict=True)
        },
        found,
        covariance,
        float(((seen - means(found)) ** 2 / variance).sum()),
        seen.size - len(parameters),
    )


def _starts(parameters: Sequence[Parameter]) -> list[FloatArray]:
    """Every combination of the parameters' starts."""
    lists = [np.atleast_1d(np.asarray(p.start, np.float64)) for p in parameters]
    grid = np.meshgrid(*lists, indexing="ij")
    return [np.array(row) for row in np.stack([axis.ravel() for axis in grid], axis=1)]


def _jacobian(means: Model, at: FloatArray, parameters: Sequence[Parameter]) -> FloatArray:
    """Derivatives of the means by central differences, shape (n, p); one-sided at a bound."""
    columns: list[FloatArray] = []
    for index, parameter in enumerate(parameters):
        step = 1e-5 * max(abs(at[index]), _size(parameter))
        low, high = at.copy(), at.copy()
        low[index] = max(at[index] - step, parameter.low)
        high[index] = min(at[index] + step, parameter.high)
        columns.append((means(high) - means(low)) / (high[index] - low[index]))
    return np.stack(columns, axis=1)


def _size(parameter: Parameter) -> float:
    """How large a parameter's values are: of its bounds where they are finite, else of its starts."""
    if math.isfinite(parameter.low) and math.isfinite(parameter.high):
        return (parameter.high - parameter.low) / 100
    return max(float(np.abs(np.atleast_1d(parameter.start)).max()), TINY)
