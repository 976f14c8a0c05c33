"""The optical phase between the arms under continuous feedback: an FPGA acts on the phase of an AOM in one arm."""

from __future__ import annotations

import math

import numpy as np

from simulated_hw.world.parts import RfChannel
from simulated_hw.world.rubidium_parameters import Parameters

LOST_RAD2 = 12.0
"""Variance from which the phase can be anything: exp(-6) of contrast is left."""


class PhaseServo:
    """An integrator of bandwidth f on a phase that diffuses with D: the residual is Ornstein-Uhlenbeck noise of variance

        D / (2 · 2π f) + noise of its detector² + phase that it does not see²

    and correlation time 1/(2π f), far shorter than the time between heralds: each herald has its own. The loop's gain,
    and with it f, goes with the light that its actuator diffracts.
    """

    def __init__(self, parameters: Parameters, rng: np.random.Generator) -> None:
        self._p = parameters.phase
        self._rng = rng
        self.actuator = RfChannel()
        self.diffusion_rad2_per_s = (
            parameters.phase.diffusion_rad2_per_s
            + parameters.phase.fibre_rad2_per_s_km
            * (parameters.alice.arm_length_m + parameters.bob.arm_length_m)
            / 1000
        )
        if parameters.run.powered:
            self.power_up()

    def power_up(self) -> None:
        """Close the loop."""
        self.actuator.power_dbm = self.actuator.nominal_dbm
        self.actuator.frequency_hz = self.actuator.nominal_frequency_hz
        self.actuator.signal_on = self.actuator.amplifier_on = True

    def variance_rad2(self) -> float:
        """Of the phase of a photon at the midpoint; infinite with the loop open."""
        bandwidth = 2 * math.pi * self._p.loop_hz * self.actuator.relative_power()
        if bandwidth <= 0:
            return math.inf
        return self.diffusion_rad2_per_s / (2 * bandwidth) + self._p.loop_noise_rad**2 + self._p.unseen_rad**2

    def phase_rad(self) -> float:
        """Phase of Alice's photon minus Bob's at a herald."""
        variance = self.variance_rad2()
        if variance > LOST_RAD2:
            return float(self._rng.uniform(0.0, 2 * math.pi))
        return float(self._rng.standard_normal()) * math.sqrt(variance)
