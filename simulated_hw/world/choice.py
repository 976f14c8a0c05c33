"""Draw one of several things with given weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def choose(random: np.random.Generator, choices: Sequence[T], weights: Sequence[float]) -> T:
    """One of the choices, in proportion to its weight; the last one takes what rounding leaves."""
    pick = random.random() * math.fsum(weights)
    for choice, weight in zip(choices, weights, strict=True):
        pick -= weight
        if pick < 0:
            return choice
    return choices[-1]
