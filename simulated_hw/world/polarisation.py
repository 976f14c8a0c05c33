"""Polarisation of one arm's light at the midpoint: fibre, paddle controller and the polariser behind it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from simulated_hw.world.parameters import Polarisation
from simulated_hw.world.parts_polarisation import PolarisationPaddles
from simulated_hw.world.phase import Wander


class Polariser:
    """The fibre turns the polarisation; the paddles, at the angles found when they were aligned, turn it back.

    The fibre's turn is the inverse of what the paddles did at those angles, times a slow drift.
    """

    def __init__(
        self, values: Polarisation, rng: np.random.Generator, wavelength_m: float, aligned: bool
    ) -> None:
        self.paddles = PolarisationPaddles()
        self._wavelength_m = wavelength_m
        self._drift = Wander(rng, values.drift_rad, values.drift_time_s, 0.0)
        self._aligned_rad = [values.paddle_1_rad, values.paddle_2_rad, values.paddle_3_rad]
        reference = PolarisationPaddles()
        reference.angles_rad = [*self._aligned_rad]
        self._fibre: NDArray[np.complex128] = reference.jones(wavelength_m).conj().T
        self._seen: tuple[float, ...] = ()
        self._along = self._across = 0j
        if aligned:
            self.align()

    def align(self) -> None:
        """Put the paddles where they were aligned."""
        self.paddles.angles_rad = [*self._aligned_rad]
        self.paddles.targets_rad = [*self._aligned_rad]

    def advance(self, now_s: float, step_s: float) -> None:
        """Turn the paddles and let the fibre drift up to ``now_s``."""
        self.paddles.advance(now_s)
        self._drift.step(step_s)

    def steady(self) -> bool:
        """Whether the paddles stand still."""
        return self.paddles.targets_rad == self.paddles.angles_rad

    def state(self) -> tuple[float, ...]:
        """Where the paddles are and where they are going."""
        return (*self.paddles.angles_rad, *self.paddles.targets_rad)

    def share(self) -> float:
        """Share of the light that passes the polariser."""
        key = tuple(self.paddles.angles_rad)
        if key != self._seen:
            self._seen = key
            self._along, self._across = self._through_polariser()
        turn = self._drift.x
        return abs(math.cos(turn) * self._along + math.sin(turn) * self._across) ** 2

    def _through_polariser(self) -> tuple[complex, complex]:
        """Amplitude behind the polariser: of the fibre's light as it was, and turned by a quarter turn."""
        passed = self.paddles.jones(self._wavelength_m)[0]
        came = self._fibre[:, 0]
        return complex(passed @ came), complex(passed[1] * came[0] - passed[0] * came[1])
