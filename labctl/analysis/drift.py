"""Drift model of a line: a parabola through its last measurements, which says where it will be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.value import Estimate
from labctl.errors import LimitError

FloatArray = NDArray[np.float64]
OUTLIER = 3.0
"""Standard deviations from the model at which a measurement asks for a wider scan (PHYSICS.md 8.4)."""


@dataclass(frozen=True)
class DriftModel:
    """value(t) = sum of coefficients[k] (t - origin_s)^k, with the coefficients' covariance."""

    origin_s: float
    coefficients: FloatArray
    covariance: FloatArray
    unit: str
    chi_squared: float
    degrees_of_freedom: int

    def at(self, time_s: float) -> Estimate:
        """Where the line is at a time, for feeding forward."""
        powers = (time_s - self.origin_s) ** np.arange(len(self.coefficients))
        variance = float(powers @ self.covariance @ powers)
        return Estimate(float(powers @ self.coefficients), math.sqrt(variance), self.unit)

    def rate(self, time_s: float) -> Estimate:
        """How fast it moves at a time, per second."""
        order = np.arange(1, len(self.coefficients))
        slope = np.concatenate(([0.0], order * (time_s - self.origin_s) ** (order - 1)))
        variance = float(slope @ self.covariance @ slope)
        return Estimate(float(slope @ self.coefficients), math.sqrt(variance), f"{self.unit}/s")

    def surprised_by(self, time_s: float, measured: Estimate) -> bool:
        """Whether a new measurement lies more than 3 standard deviations away: scan wider before it is believed."""
        return abs(measured.pull(self.at(time_s))) > OUTLIER


def fit_drift(times_s: ArrayLike, values: Sequence[Estimate], degree: int = 2) -> DriftModel:
    """Weighted least squares through the measurements. LimitError unless there are more than 5, at as many times (PHYSICS.md 8.4)."""
    times = np.asarray(times_s, np.float64)
    if times.shape != (len(values),):
        raise LimitError(f"{times.size} times do not fit {len(values)} values")
    if len(values) <= 5 or len(np.unique(times)) <= degree:
        raise LimitError(f"a drift model needs more than 5 measurements, not {len(values)}")
    errors = np.array([value.standard_error for value in values])
    if not (np.isfinite(errors).all() and (errors > 0).all()):
        raise LimitError(
            "a drift model needs measurements with a standard error that is neither zero nor infinite"
        )
    origin = float(times.mean())
    span = max(float(np.ptp(times)), 1e-300)
    scale = span ** np.arange(degree + 1)
    design = ((times - origin) / span)[:, None] ** np.arange(degree + 1) / errors[:, None]
    measured = np.array([value.value for value in values]) / errors
    covariance = np.asarray(np.linalg.inv(design.T @ design), np.float64)
    found = covariance @ design.T @ measured
    residuals = measured - design @ found
    return DriftModel(
        origin,
        found / scale,
        np.asarray(covariance / np.outer(scale, scale), np.float64),
        values[0].unit,
        float(residuals @ residuals),
        len(values) - degree - 1,
    )
