"""The photon's way from the ion to the midpoint: collection, converter, filters, fibre, and its wave packet."""

from __future__ import annotations

import cmath
import functools
import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from simulated_hw.world.parameters import Converter, Fibre, Filters

SPEED_OF_LIGHT = 299_792_458.0


class Emission(Protocol):
    """The atom that emits the photon."""

    @property
    def photon_decay_s(self) -> float:
        """1/e decay of its wave packet, s."""
        ...


class Arm(Protocol):
    """What of a node counts for its photon's way."""

    @property
    def arm_length_m(self) -> float:
        """Fibre between node and midpoint, m."""
        ...


class Optics(Protocol):
    """The component values on the photon's way, of any laboratory."""

    @property
    def atom(self) -> Emission:
        """What emits."""
        ...

    @property
    def converter(self) -> Converter:
        """What converts."""
        ...

    @property
    def filters(self) -> Filters:
        """What filters."""
        ...

    @property
    def fibre(self) -> Fibre:
        """What carries."""
        ...


def converter_efficiency(pump_w: float, oven_k: float, p: Optics) -> float:
    """Converter input to output: sin² of the pump amplitude times sinc² of the phase mismatch."""
    c = p.converter
    depth = math.sin(math.pi / 2 * math.sqrt(max(0.0, pump_w) / c.best_pump_power_w)) ** 2
    return c.peak_efficiency * depth * phase_matching(oven_k - c.oven_k, c.acceptance_k)


def phase_matching(offset_k: float, acceptance_k: float) -> float:
    """sinc² of the mismatch, with FWHM ``acceptance_k``."""
    x = 2 * 1.391557378 * offset_k / acceptance_k
    return 1.0 if abs(x) < 1e-9 else (math.sin(x) / x) ** 2


def noise_hz(pump_w: float, p: Optics) -> float:
    """Noise photons per second behind the filters of one arm: spectral density times noise-equivalent bandwidth.

    The etalon's neighbouring orders pass as far as the grating lets them.
    """
    f, c = p.filters, p.converter
    orders = 1 + 2 * math.exp(-4 * math.log(2) * (f.etalon_spacing_hz / f.grating_fwhm_hz) ** 2)
    bandwidth_hz = math.pi / 2 * f.etalon_fwhm_hz * orders
    bandwidth_nm = c.signal_wavelength_m**2 * bandwidth_hz / SPEED_OF_LIGHT * 1e9
    return c.noise_hz_per_nm * pump_w / c.pump_power_w * bandwidth_nm * f.other_transmission


def etalon_offset_hz(etalon_k: float, pump_detuning_hz: float, f: Filters) -> float:
    """Etalon's centre minus the converted photon's frequency; the photon moves against the pump."""
    return (etalon_k - f.etalon_k) * f.etalon_hz_per_k + pump_detuning_hz


def fibre_transmission(node: Arm, p: Optics) -> float:
    """Power transmission of one arm's fibre."""
    return 10 ** (-p.fibre.loss_db_per_km * node.arm_length_m / 1e4)


def flight_ps(node: Arm, p: Optics) -> int:
    """Time of flight from node to midpoint, ps."""
    return round(node.arm_length_m * p.fibre.index / SPEED_OF_LIGHT * 1e12)


def monochromatic(offset_hz: float, f: Filters) -> complex:
    """Amplitude transmission of the etalon for light of one frequency, relative to its peak."""
    return 1 / complex(1, 2 * offset_hz / f.etalon_fwhm_hz)


class Packet(NamedTuple):
    """Wave packet behind the etalon: f(t) = scale (exp(-l0 t) - exp(-l1 t)), t from the photon's earliest arrival."""

    l0: complex
    l1: complex
    scale: complex
    transmission: float
    """Share of the photon that passes the etalon: ∫ |f|² dt."""

    def overlap(
        self, other: Packet, start_s: float, end_s: float, late_s: float, other_late_s: float
    ) -> complex:
        """∫ f other* dt from ``start_s`` to ``end_s``, with each packet late by so much."""
        start = max(start_s, late_s, other_late_s)
        if end_s <= start:
            return 0j
        total = 0j
        for rate, sign in ((self.l0, 1), (self.l1, -1)):
            head = cmath.exp(-rate * (start - late_s)) * sign
            for second, other_sign in ((other.l0, 1), (other.l1, -1)):
                tail = cmath.exp(-second * (start - other_late_s)).conjugate() * other_sign
                decay = rate + second.conjugate()
                total += head * tail * (1 - cmath.exp(-decay * (end_s - start))) / decay
        return total * self.scale * other.scale.conjugate()

    def inside(self, start_s: float, end_s: float) -> float:
        """Share of the emitted photon that passes the etalon and arrives from ``start_s`` to ``end_s``."""
        return self.overlap(self, start_s, end_s, 0.0, 0.0).real

    def intensity(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """|f(t)|², 1/s; zero before the photon."""
        late = np.maximum(times_s, 0.0)
        return np.abs(self.scale * (np.exp(-self.l0 * late) - np.exp(-self.l1 * late))) ** 2 * (times_s >= 0)


def packet(offset_hz: float, shift_hz: float, p: Optics) -> Packet:
    """Wave packet of a photon with 1/e decay ``photon_decay_s`` behind an etalon ``offset_hz`` away.

    shift_hz:  frequency of the photon relative to its nominal one, Hz
    """
    return _packet(offset_hz, shift_hz, p.atom.photon_decay_s, p.filters.etalon_fwhm_hz)


@functools.lru_cache(maxsize=64)
def _packet(offset_hz: float, shift_hz: float, decay_s: float, fwhm_hz: float) -> Packet:
    emission = 1 / decay_s
    cavity = 2 * math.pi * fwhm_hz
    turn = 2j * math.pi * shift_hz
    l0 = emission / 2 + turn
    l1 = cavity / 2 + 2j * math.pi * offset_hz + turn
    if abs(l1 - l0) < 1e-6 * emission:
        l1 += 1e-6 * emission
    scale = math.sqrt(emission) * (cavity / 2) / (l1 - l0)
    whole = Packet(l0, l1, scale, 1.0)
    return whole._replace(transmission=whole.inside(0.0, 1e-3))
