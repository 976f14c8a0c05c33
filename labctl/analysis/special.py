# pyright: standard
# (scipy has no type information; every use of it in the analysis goes through these typed functions.)
"""The few scipy routines the analysis needs, typed and imported only when called."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def binomial_tail(at_least: int, trials: int, probability: float) -> float:
    """P(K >= at_least) for K ~ Binomial(trials, probability), exact also far out in the tail."""
    from scipy.special import bdtrc

    return 1.0 if at_least <= 0 else float(bdtrc(at_least - 1, trials, probability))


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Argument between low and high where the function changes sign (Brent's method, to 1e-12)."""
    from scipy.optimize import brentq

    found: Any = brentq(function, low, high, xtol=1e-12)
    return float(found)


def maximise(function: Callable[[float], float], low: float, high: float) -> float:
    """Argument in [low, high] of the largest value of a function with one maximum there."""
    from scipy.optimize import minimize_scalar

    result: Any = minimize_scalar(
        lambda x: -function(x), bounds=(low, high), method="bounded", options={"xatol": 1e-10}
    )
    return float(result.x)


def minimise(
    function: Callable[[FloatArray], tuple[float, FloatArray]],
    start: Sequence[float] | FloatArray,
    bounds: Sequence[tuple[float | None, float | None]] | None = None,
) -> FloatArray:
    """Parameters of the smallest value inside bounds; the function returns its value and its gradient (L-BFGS-B)."""
    from scipy.optimize import minimize

    result: Any = minimize(
        function,
        np.asarray(start, dtype=np.float64),
        jac=True,
        bounds=bounds,
        method="L-BFGS-B",
        options={"ftol": 0.0, "gtol": 1e-10, "maxcor": 20, "maxiter": 2000},
    )
    return np.asarray(result.x, dtype=np.float64)


def least_squares(
    residuals: Callable[[FloatArray], FloatArray],
    start: Sequence[float] | FloatArray,
    bounds: Sequence[tuple[float, float]],
) -> FloatArray:
    """Parameters inside bounds with the smallest sum of squared residuals (trust region, each parameter on its own scale)."""
    from scipy.optimize import least_squares as solve

    low, high = (np.array(side, dtype=np.float64) for side in zip(*bounds, strict=True))
    result: Any = solve(
        residuals, np.clip(np.asarray(start, np.float64), low, high), bounds=(low, high), x_scale="jac"
    )
    return np.asarray(result.x, dtype=np.float64)
