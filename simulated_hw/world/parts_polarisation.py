"""A three-paddle fibre polarisation controller: paddles that turn, and what they do to the light's polarisation."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SILICA_PHOTOELASTIC = 0.133
"""Strain-optic constant of the bend birefringence of silica fibre (Lefevre 1980)."""


class PolarisationPaddles:
    """Three paddles in a row, each a coil of fibre that acts as a rotated retarder.

    loops:          turns of fibre on each paddle
    loop_m:         diameter of the loops, m
    cladding_m:     diameter of the fibre's cladding, m
    travel_rad:     largest angle of a paddle, from 0
    fastest_rad_per_s:  speed at 100 %
    """

    def __init__(
        self,
        *,
        loops: tuple[int, int, int] = (1, 2, 1),
        loop_m: float = 18e-3,
        cladding_m: float = 125e-6,
        travel_rad: float = math.radians(170),
        fastest_rad_per_s: float = math.radians(400),
    ) -> None:
        self.loops = loops
        self.loop_m = loop_m
        self.cladding_m = cladding_m
        self.travel_rad = travel_rad
        self.fastest_rad_per_s = fastest_rad_per_s
        self.speed_rad_per_s = fastest_rad_per_s / 2
        self.angles_rad = [0.0, 0.0, 0.0]
        """Where the paddles are."""
        self.targets_rad = [0.0, 0.0, 0.0]
        """Where they are going."""
        self._now = 0.0

    def advance(self, now_s: float) -> None:
        """Turn towards the targets at constant speed."""
        step = now_s - self._now
        if step > 0:
            self._now = now_s
            furthest = step * self.speed_rad_per_s
            for n, target in enumerate(self.targets_rad):
                left = target - self.angles_rad[n]
                self.angles_rad[n] = (
                    target if abs(left) <= furthest else self.angles_rad[n] + math.copysign(furthest, left)
                )

    def turn_to(self, paddle: int, angle_rad: float) -> None:
        """Begin to turn one paddle (0 to 2), as far as its travel goes."""
        self.targets_rad[paddle] = max(0.0, min(self.travel_rad, angle_rad))

    def stop(self, paddle: int) -> None:
        """Stay where it is."""
        self.targets_rad[paddle] = self.angles_rad[paddle]

    def moving(self, paddle: int) -> bool:
        """Whether it still turns."""
        return self.targets_rad[paddle] != self.angles_rad[paddle]

    def retardance_rad(self, paddle: int, wavelength_m: float) -> float:
        """Bend birefringence of a paddle's coil: 2 pi^2 a N d^2 / (lambda D)."""
        return (2 * math.pi**2 * SILICA_PHOTOELASTIC * self.loops[paddle] * self.cladding_m**2) / (
            wavelength_m * self.loop_m
        )

    def jones(self, wavelength_m: float) -> NDArray[np.complex128]:
        """What light goes through, first paddle first: a unitary Jones matrix, shape (2, 2)."""
        result = np.eye(2, dtype=np.complex128)
        for n, angle in enumerate(self.angles_rad):
            half = self.retardance_rad(n, wavelength_m) / 2
            along, across = math.cos(2 * angle), math.sin(2 * angle)
            retarder = np.array(
                [
                    [math.cos(half) + 1j * math.sin(half) * along, 1j * math.sin(half) * across],
                    [1j * math.sin(half) * across, math.cos(half) - 1j * math.sin(half) * along],
                ]
            )
            result = retarder @ result
        return result
