"""What makes the phase between the arms move: spools, their vibrations, lasers; and what the fibre lock leaves of it.

Simulation model of PHYSICS 5. The fast lock compares light of another wavelength that runs through the same fibres with
its set point and turns the phase of one arm (an AOM: a phase, not a delay), so that it leaves

* of each vibration at f the error of a first-order loop, jf/(jf + bandwidth);
* of the fibre's random walk a jitter of variance D/(2 · 2π bandwidth), and the noise of its own detector;
* of what it takes away, the share 1 - λ_lock/λ_signal, because the two colours see different phases in the same fibre;
* all of what is not in its path: the lasers.
"""

from __future__ import annotations

import cmath
import math

import numpy as np

from simulated_hw.world.parameters import AcousticLine, Node, Phase
from simulated_hw.world.parts_lock import FibreLock
from simulated_hw.world.phase import PS_PER_S, PhaseWalk, Regime, Swing, Wander

SPOOLED_M = 1e5
"""Length for which the drift rate of spooled fibre is given."""


LOCK_CLOCK_HZ = 1e6
"""Of the clock that runs while the lock holds."""


class ArmPhase:
    """The phase of Alice's arm minus Bob's: as reference light has it (``walk``), and as photons have it.

    rng, unseen_rng:  of the walk, and of what the reference light does not see
    """

    def __init__(
        self,
        values: Phase,
        nodes: tuple[Node, Node],
        signal_wavelength_m: float,
        rng: np.random.Generator,
        unseen_rng: np.random.Generator,
    ) -> None:
        self.lock = FibreLock()
        self._regimes = {
            locked: regime(values, nodes, signal_wavelength_m, locked) for locked in (False, True)
        }
        self._locked = self.lock.locked
        self.walk = PhaseWalk(rng, self._regimes[self._locked])
        self._unseen = Wander(unseen_rng, values.unseen_rad, values.unseen_time_s)
        self._unseen_s = 0.0

    def advance(self, time_s: float) -> None:
        """Notice from a laboratory time on whether the fibre is locked."""
        self.lock.advance(time_s)
        if self.lock.locked != self._locked:
            self._locked = self.lock.locked
            self.walk.change(self._regimes[self._locked], round(time_s * PS_PER_S))

    def lock_clicks(self, gate_ps: int) -> int:
        """Counts of the lock's monitor in a gate: a clock of 1 MHz behind the lock detector, so microseconds locked."""
        return round(gate_ps / PS_PER_S * LOCK_CLOCK_HZ) if self._locked else 0

    def photon(self, time_ps: int) -> float:
        """Phase of Alice's photon minus Bob's at the midpoint: what the reference sees, and what it does not, rad."""
        elapsed = time_ps / PS_PER_S - self._unseen_s
        if elapsed > 0:
            self._unseen.step(elapsed)
            self._unseen_s += elapsed
        return self.walk.at(time_ps) + self._unseen.x


def leak(values: Phase, signal_wavelength_m: float) -> float:
    """Share of the fibre's phase that a lock at its wavelength leaves at the signal's: 1 - λ_lock/λ_signal."""
    return 1 - values.lock_wavelength_m / signal_wavelength_m


def raw_diffusion_rad2_per_s(values: Phase, length_m: float) -> float:
    """Random walk of the phase of so much spooled fibre: (drift rate)² times how long it keeps its sign (PHYSICS 5).

    The drift rate grows as the root of the length: 2.4 rad/ms at 100 km, 6.0 rad/ms at 550 km (Lucamarini 2018).
    """
    return values.drift_rad_per_s_100km**2 * length_m / SPOOLED_M * values.drift_time_s


def laser_diffusion_rad2_per_s(values: Phase) -> float:
    """White frequency noise of full width Δν spreads a phase by 2π Δν t."""
    return 2 * math.pi * values.laser_linewidth_hz


def regime(values: Phase, nodes: tuple[Node, Node], signal_wavelength_m: float, locked: bool) -> Regime:
    """How the phase between the arms moves with the fibre lock on or off."""
    length_m = sum(node.arm_length_m for node in nodes)
    ramp = values.thermal_rad_per_k_m * length_m * values.spool_drift_k_per_s
    raw, lasers = raw_diffusion_rad2_per_s(values, length_m), laser_diffusion_rad2_per_s(values)
    acoustic = (values.acoustic_1, values.acoustic_2)
    if not locked:
        return Regime(raw + lasers, ramp, swings=tuple(_swing(line, length_m, 1.0) for line in acoustic))
    left = leak(values, signal_wavelength_m)
    bandwidth = 2 * math.pi * values.lock_bandwidth_hz
    return Regime(
        raw * left**2 + lasers,
        ramp * left,
        math.sqrt(raw / (2 * bandwidth) + values.lock_noise_rad**2),
        1 / bandwidth,
        tuple(_swing(line, length_m, _left(line, values, left)) for line in acoustic),
    )


def _left(line: AcousticLine, values: Phase, leaked: float) -> complex:
    error = 1j * line.frequency_hz / (1j * line.frequency_hz + values.lock_bandwidth_hz)
    return error + leaked * (1 - error)


def _swing(line: AcousticLine, length_m: float, share: complex) -> Swing:
    amplitude = line.rad_per_km * length_m / 1e3 * abs(share)
    return Swing(line.frequency_hz, amplitude, cmath.phase(share))
