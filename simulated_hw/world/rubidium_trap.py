"""One atom in its dipole trap: caught from the cloud, cooled, warmed, counted, and lost."""

from __future__ import annotations

import functools
import math

import numpy as np

from simulated_hw.world.rubidium_parameters import Parameters

DARK_TRAP = 0.2
"""Trap light, relative to nominal, below which no atom stays."""
DRAWS = 1000
"""Counts drawn for one that has to be on the right side of a threshold."""


class TrappedAtom:
    """Whether a node has its atom, how warm it is, and how long it will stay."""

    def __init__(self, parameters: Parameters, rng: np.random.Generator) -> None:
        self._p = parameters
        self._rng = rng
        self.present = False
        self.temperature_k = parameters.trap.hot_k
        self._stays = 0.0
        """What is left of its life, in mean lives."""

    def catch(self) -> None:
        """An atom comes in."""
        self.present = True
        self.temperature_k = self._p.trap.hot_k
        self._stays = float(self._rng.exponential())

    def lose(self) -> None:
        """It is gone."""
        self.present = False

    def pass_time(self, span_s: float, attempts: int, risk: float, trap: float) -> None:
        """Time passes with so many attempts, each of which throws it out with probability ``risk``."""
        if not self.present:
            return
        self._stays -= span_s / self._p.trap.lifetime_s + attempts * risk
        if self._stays <= 0 or trap < DARK_TRAP:
            self.lose()
        elif attempts:
            self.temperature_k = min(
                self._p.trap.hot_k, self.temperature_k + self._p.trap.heating_k_per_s * span_s
            )

    def cool(self, span_s: float, target_k: float) -> None:
        """Cooling light is on."""
        rest = math.exp(-span_s / self._p.trap.cool_time_s)
        self.temperature_k = target_k + (self.temperature_k - target_k) * rest

    def stays_s(self, risk_per_s: float) -> float:
        """When it will be lost if attempts go on with this risk, s from now; never without an atom."""
        return self._stays / (1 / self._p.trap.lifetime_s + risk_per_s) if self.present else math.inf


@functools.lru_cache(maxsize=1024)
def reaches(mean: float, threshold: int) -> float:
    """Probability that a Poisson count of this mean comes to ``threshold`` at least."""
    if threshold <= 0:
        return 1.0
    if mean <= 0:
        return 0.0
    upwards = threshold > mean
    count = threshold if upwards else threshold - 1
    term = math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))
    total = 0.0
    while count >= 0 and term > 1e-18 * (total + 1e-300):
        total += term
        count += 1 if upwards else -1
        term *= mean / count if upwards else (count + 1) / mean
    return total if upwards else 1 - min(1.0, total)


def counted(mean: float, threshold: int, reached: bool, rng: np.random.Generator) -> int:
    """A Poisson count, given on which side of the threshold it is."""
    for _ in range(DRAWS):
        count = int(rng.poisson(mean))
        if (count >= threshold) == reached:
            return count
    return threshold if reached else threshold - 1
