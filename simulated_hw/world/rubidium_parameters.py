"""Component values of the simulated rubidium laboratory: typed, each with its unit and source, read from TOML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulated_hw.world.parameters import (
    Converter,
    Fibre,
    Filters,
    LaserHead,
    Polarisation,
    PumpLaser,
    Run,
    Source,
    number,
    parse_as,
)

HBAR_J_S = 1.054571817e-34
BOLTZMANN_J_PER_K = 1.380649e-23


@dataclass(frozen=True, slots=True, kw_only=True)
class Atom:
    """⁸⁷Rb and its 780 nm photon."""

    mass_kg: float = number("kg", 1e-27)
    photon_wavelength_m: float = number("m", 1e-7, 1e-5)
    photon_decay_s: float = number("s", 1e-12)
    """1/e decay of the 780 nm wave packet: lifetime of 5P3/2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What differs between Alice and Bob."""

    collection: float = number("1", 0, 1)
    """From an emitted photon to one in the converter's input fibre."""
    coupling_drift: float = number("1", 0, 1)
    """rms relative drift of the fibre coupling."""
    coupling_drift_time_s: float = number("s", 1e-3)
    arm_length_m: float = number("m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasers:
    """The lasers of one node; the repumper is a sideband of the 780 nm light."""

    laser_780: LaserHead
    laser_795: LaserHead
    laser_420: LaserHead
    laser_1013: LaserHead
    laser_480: LaserHead
    laser_852: LaserHead


@dataclass(frozen=True, slots=True, kw_only=True)
class Coils:
    """Two channels of a node's coil supply: gradient of the magneto-optical trap, quantisation field."""

    mot_a: float = number("A", 0, 10)
    mot_width_a: float = number("A", 1e-3, 10)
    """The loading rate falls as a Gaussian with this half width at 1/e."""
    field_a: float = number("A", 0, 10)
    tesla_per_a: float = number("T/A")
    line_hz_per_t: float = number("Hz/T", -1e12, 1e12)
    """Shift of the clock line with the field, at this field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """The dipole trap of one atom."""

    frequency_hz: float = number("Hz", 1.0)
    """Oscillation frequency of the atom along the recoil, at nominal light."""
    shift_hz: float = number("Hz", -1e9, 1e9)
    """Light shift of the excitation line while the trap light is on."""
    lifetime_s: float = number("s", 1e-3)
    """Mean life of a trapped atom."""
    loss_per_attempt: float = number("1", 0, 1)
    """Probability that an attempt throws the atom out (trap light off, Rydberg state)."""
    loading_hz: float = number("Hz")
    """Rate at which an empty trap catches an atom from the magneto-optical trap at its operating point."""
    cooled_k: float = number("K")
    """Temperature after polarisation-gradient cooling."""
    hot_k: float = number("K")
    """Temperature of an atom just caught, or without cooling light."""
    cool_time_s: float = number("s", 1e-9)
    heating_k_per_s: float = number("K/s")
    """While attempts go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """Laser cooling and optical pumping."""

    detuning_hz: float = number("Hz", -1e9, 0)
    """Nominal detuning of the 780 nm light from the cycling line."""
    linewidth_hz: float = number("Hz", 1.0)
    pump_time_s: float = number("s", 1e-12)
    """Time constant of optical pumping into the clock state, chopping included."""
    pump_error: float = number("1", 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Qubit:
    """The clock states F = 1 and F = 2, m = 0, driven by microwaves."""

    pi_time_s: float = number("s", 1e-9)
    pi_infidelity: float = number("1", 0, 0.5)
    """Of a π pulse at nominal settings (depolarising), in proportion for other angles."""
    line_noise_hz: float = number("Hz")
    """rms of the fast noise of the line (trap light, field), independent at the nodes."""
    line_noise_time_s: float = number("s", 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Excitation:
    """Rydberg-based emission: 420 and 1013 nm up to a Rydberg state, 480 nm down to 5P3/2, which emits at 780 nm."""

    up_s: float = number("s", 1e-12)
    """Length at which amplitude 1 and nominal power make a π pulse of the two-photon line."""
    transfer_s: float = number("s", 1e-12)
    """The same of the 480 nm pulse."""
    reexcitation: float = number("1", 0, 1)
    """Probability that the atom emits twice."""
    to_qubit: float = number("1", 0, 1)
    """Branching of the emission back into the qubit's F = 2 state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recoil:
    """Direction of the excitation against that of the collected photon."""

    suppressed: bool = number("")
    """True: wave vectors of the three Rydberg beams add up to that of the photon; False: excitation from the side."""
    misalignment_rad: float = number("rad", 0, math.pi)
    """Angle left between the sum of the wave vectors and the collected photon, when suppressed."""
    side_rad: float = number("rad", 0, math.pi)
    """Angle between excitation and collected photon otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readout:
    """Fluorescence at 780 nm after a pulse that blows atoms in F = 2 away."""

    bright_hz: float = number("Hz")
    """Counts per second of a trapped atom."""
    stray_hz: float = number("Hz")
    """Background of the cooling light."""
    cloud_hz: float = number("Hz")
    """Background while the magneto-optical trap is on, beyond that."""
    dark_hz: float = number("Hz")
    blow_time_s: float = number("s", 1e-12)
    """Time constant with which atoms in F = 2 leave."""
    blow_lost: float = number("1", 0, 1)
    """Share of atoms in F = 1 that the nominal pulse removes."""
    blow_kept: float = number("1", 0, 1)
    """Share of atoms in F = 2 that it never removes: they fell to F = 1 first."""
    blow_s: float = number("s", 1e-9)
    """Length of the nominal pulse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Midpoint:
    """Interferometer at Charlie."""

    transmission: float = number("1", 0, 1)
    photon_overlap: float = number("1", 0, 1)
    """Squared overlap of the two photons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detectors:
    """Superconducting nanowires."""

    efficiency: float = number("1", 0, 1)
    dark_hz: float = number("Hz")
    jitter_s: float = number("s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Optical phase between the arms, and the loop that feeds it back all the time."""

    diffusion_rad2_per_s: float = number("rad²/s")
    """Of the free phase: lasers and paths outside the fibre."""
    fibre_rad2_per_s_km: float = number("rad²/(s km)")
    """Of each kilometre of fibre, in its temperature-controlled box."""
    loop_hz: float = number("Hz", 1.0)
    """Bandwidth of the loop at the nominal power of its actuator."""
    loop_noise_rad: float = number("rad")
    """rms noise of the phase detector within the bandwidth."""
    unseen_rad: float = number("rad")
    """rms of the phase between reference light and photons, which the loop does not see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """780 nm light on the converter's input in alignment mode."""

    power_w: float = number("W")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """All component values of a laboratory of two rubidium nodes and a midpoint."""

    atom: Atom
    alice: Node
    bob: Node
    lasers: Lasers
    pump_seed: PumpLaser
    coils: Coils
    trap: Trap
    preparation: Preparation
    qubit: Qubit
    excitation: Excitation
    recoil: Recoil
    readout: Readout
    converter: Converter
    filters: Filters
    fibre: Fibre
    midpoint: Midpoint
    polarisation: Polarisation
    detectors: Detectors
    phase: Phase
    alignment: Alignment
    run: Run


def parse(content: Mapping[str, Any]) -> tuple[Parameters, tuple[Source, ...]]:
    """Component values from parsed TOML; ConfigError names table and key."""
    return parse_as(Parameters, content)
