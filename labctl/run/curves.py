"""What a calibration shows: its figures, and the points and fitted curves of its picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.run.table import Result, Table

FloatArray = NDArray[np.floating[Any]]
NODES = (("a", "Alice"), ("b", "Bob"))
"""Suffix of a node's columns and figures, and its name."""


@dataclass(frozen=True)
class Curve:
    """Points with standard errors and the model that was fitted to them (``fine``: x and y of its line; empty for none)."""

    label: str
    x: FloatArray
    y: FloatArray
    error: FloatArray
    fine: tuple[FloatArray, FloatArray]


@dataclass(frozen=True)
class Panel:
    """One panel of a picture; ``marks`` are x values worth a vertical line, with what they are."""

    x_label: str
    y_label: str
    curves: list[Curve]
    marks: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    logarithmic: bool = False


@dataclass(frozen=True)
class Calibration:
    """The figures of a calibration run, and its picture."""

    results: list[Result]
    caption: str
    panels: list[Panel]


Calibrate = Callable[[Table, Mapping[str, Any]], Calibration]


def shares(table: Table, letter: str, points: int) -> tuple[FloatArray, FloatArray]:
    """Bright ions and shots of one node at each point of a scan, shape (points,)."""
    point = table.column("point").astype(int)
    bright = table.column(f"bright_{letter}").astype(float)
    return (
        np.bincount(point, bright, points).astype(np.float64),
        np.bincount(point, minlength=points).astype(np.float64),
    )


def share_curve(
    label: str, x: FloatArray, ones: FloatArray, trials: FloatArray, fine: tuple[FloatArray, FloatArray]
) -> Curve:
    """Shares with binomial standard errors; points without trials are left out."""
    used = trials > 0
    seen, whole = ones[used], trials[used]
    error = np.sqrt((seen + 0.5) * (whole - seen + 0.5) / (whole + 1)) / whole
    return Curve(label, x[used], seen / whole, error, fine)


def count_curve(
    label: str,
    x: FloatArray,
    counts: FloatArray,
    scale: FloatArray | float,
    fine: tuple[FloatArray, FloatArray],
) -> Curve:
    """Counts with Poisson standard errors, both times ``scale``."""
    return Curve(label, x, counts * scale, np.sqrt(np.maximum(counts, 1.0)) * scale, fine)


def finely(x: FloatArray, model: Callable[[FloatArray], FloatArray]) -> tuple[FloatArray, FloatArray]:
    """A model's line over the range of x."""
    fine = np.linspace(float(x.min()), float(x.max()), 300)
    return fine, model(fine)
