"""Lasers, AOMs and their effect on the ion: one node's bench, and the light it makes now."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from simulated_hw.world.card import Shutter
from simulated_hw.world.parameters import LaserHead, Parameters
from simulated_hw.world.parts import HeatedBody, Laser, PowerSensor, RfChannel
from simulated_hw.world.parts_coils import CoilChannel
from simulated_hw.world.parts_piezo import Piezo
from simulated_hw.world.parts_pump import SPEED_OF_LIGHT_M_PER_S, PumpSeed
from simulated_hw.world.parts_vacuum import VacuumChamber

COOL, QUBIT, REFERENCE, PUMP = range(4)
"""Channels of a node's AOM driver, from 0: 397 nm cooling, 729 nm, 393 nm reference, 527 nm converter pump."""
WAVELENGTHS_NM = (397, 866, 854, 729, 393)
LASER_STATE = attrgetter(
    "emission", "current_a", "piezo_v", "temperature_k", "lock_enabled", "locked", "_drift_hz"
)
RF_STATE = attrgetter("frequency_hz", "power_dbm", "signal_on", "amplifier_on")
BODY_STATE = attrgetter("enabled", "setpoint_k", "temperature_k")
COIL_STATE = attrgetter("set_v", "limit_a", "on", "connected", "flowing_a")
SEED_STATE = attrgetter(
    "emission", "interlock_closed", "power_setpoint_w", "offset_setpoint_m", "_power_w", "offset_m"
)
"""Everything of a part that its light depends on; all of it stays as it is until the part is advanced or touched."""


class Beam(NamedTuple):
    """Light of one colour at the ion or at the converter."""

    power: float
    """Relative to the operating point."""
    detuning_hz: float
    """From its nominal frequency."""


class NodeLight(NamedTuple):
    """What a node's lasers and AOMs make now; the 854 nm laser both resets and excites."""

    cool: Beam
    repump: Beam
    reset: Beam
    qubit: Beam
    reference: Beam
    pump: Beam
    raman: Beam
    field_t: float = 0.0
    """Magnetic field at the ion."""


class Bench:
    """The instruments of one node: lasers, AOM driver, converter oven, etalon, power sensors."""

    def __init__(self, node: str, parameters: Parameters, rng: Callable[[str], np.random.Generator]) -> None:
        self.node = node
        self._p = parameters
        self.lasers = {
            nm: _laser(getattr(parameters.lasers, f"laser_{nm}"), rng(f"{node}.laser_{nm}"))
            for nm in WAVELENGTHS_NM
        }
        seed = parameters.pump_seed
        self.pump_seed = PumpSeed(wavelength_m=seed.wavelength_m, highest_power_w=seed.highest_power_w)
        self.shutter_397 = Shutter()
        self.piezo = Piezo()
        self.aom = [RfChannel() for _ in range(4)]
        self.coil = CoilChannel(tesla_per_a=parameters.field.tesla_per_a)
        self.chamber = VacuumChamber()
        self.oven = HeatedBody()
        self.etalon = HeatedBody(time_constant_s=8.0)
        self._switch_on(
            self.lasers[393]
        )  # shared by the laboratory and always on: no instrument of a node drives it
        if parameters.run.powered:
            self.power_up()

    def power_up(self) -> None:
        """Bring everything to its operating point: lasers on and locked, temperatures reached."""
        for laser in self.lasers.values():
            self._switch_on(laser)
        self.pump_seed.switch_on(self._p.pump_seed.nominal_power_w)
        coil, current_a = self.coil, self._p.field.coil_current_a
        coil.set_v, coil.limit_a, coil.on = 2 * current_a * coil.resistance_ohm, current_a, True
        coil.flowing_a = current_a
        for channel in self.aom:
            channel.power_dbm = channel.nominal_dbm
            channel.frequency_hz = channel.nominal_frequency_hz
            channel.signal_on = channel.amplifier_on = True
        for body, kelvin in ((self.oven, self._p.converter.oven_k), (self.etalon, self._p.filters.etalon_k)):
            body.enabled, body.setpoint_k, body.temperature_k = True, kelvin, kelvin

    @staticmethod
    def _switch_on(laser: Laser) -> None:
        laser.emission = laser.lock_enabled = laser.locked = True

    def advance(self, now_s: float) -> None:
        """Bring every part up to the world's time."""
        for laser in self.lasers.values():
            laser.advance(now_s)
        self.pump_seed.advance(now_s)
        self.coil.advance(now_s)
        self.chamber.advance(now_s)
        self.piezo.advance(now_s)
        self.oven.advance(now_s)
        self.etalon.advance(now_s)

    def steady(self) -> bool:
        """Whether its light stays as it is until somebody touches it."""
        return (
            all(laser.steady() for laser in self.lasers.values())
            and self.pump_seed.steady()
            and self.coil.steady()
            and self.oven.steady()
            and self.etalon.steady()
        )

    def state(self) -> tuple[Any, ...]:
        """All that the light depends on: as long as it is equal nobody touched a part, and none was advanced."""
        return (
            *map(LASER_STATE, self.lasers.values()),
            *map(RF_STATE, self.aom),
            SEED_STATE(self.pump_seed),
            COIL_STATE(self.coil),
            BODY_STATE(self.oven),
            BODY_STATE(self.etalon),
            self.shutter_397.opened,
        )

    def light(self) -> NodeLight:
        """The light now, from the state of the parts."""
        lasers = self.lasers
        cool = self._through(397, COOL)
        return NodeLight(
            cool if self.shutter_397.opened else cool._replace(power=0.0),
            Beam(_relative(lasers[866]), lasers[866].detuning_hz()),
            Beam(_relative(lasers[854]), lasers[854].detuning_hz()),
            self._qubit(),
            self._through(393, REFERENCE),
            self._pump(),
            self._raman(),
            self.coil.field_t(),
        )

    def _through(self, nm: int, channel: int) -> Beam:
        laser, aom = self.lasers[nm], self.aom[channel]
        return Beam(
            _relative(laser) * aom.relative_power(),
            laser.detuning_hz() + aom.frequency_hz - aom.nominal_frequency_hz,
        )

    def _qubit(self) -> Beam:
        """The 729 nm beam; its detuning counts from the line, which the field of the coil shifts."""
        beam, field = self._through(729, QUBIT), self._p.field
        shift_hz = (self.coil.field_t() - field.coil_current_a * field.tesla_per_a) * field.line_hz_per_t
        return beam._replace(detuning_hz=beam.detuning_hz - shift_hz)

    def _raman(self) -> Beam:
        """The bichromatic beam of the memory; its detuning counts from the memory line, which the coil's field shifts."""
        field = self._p.field
        shift_t = self.coil.field_t() - field.coil_current_a * field.tesla_per_a
        return Beam(_relative(self.lasers[393]), -shift_t * self._p.memory.hz_per_t)

    def _pump(self) -> Beam:
        """The doubled seed behind its AOM: the doubler's light moves twice as far as the seed's."""
        seed, aom = self.pump_seed, self.aom[PUMP]
        return Beam(
            seed.power_w() / self._p.pump_seed.nominal_power_w * aom.relative_power(),
            2 * (seed.frequency_hz() - SPEED_OF_LIGHT_M_PER_S / seed.wavelength_m)
            + aom.frequency_hz
            - aom.nominal_frequency_hz,
        )

    def pump_w(self) -> float:
        """527 nm power on the converter's input, W."""
        return self._pump().power * self._p.converter.pump_power_w

    def sensors(self, output_w: Callable[[], float]) -> tuple[PowerSensor, PowerSensor]:
        """Power sensors before and behind the converter; ``output_w`` gives the light behind it, W."""
        return (
            PowerSensor(self.pump_w, calibrated_wavelength_m=527e-9),
            PowerSensor(output_w, calibrated_wavelength_m=1550e-9),
        )


def _laser(head: LaserHead, rng: np.random.Generator) -> Laser:
    return Laser(
        rng,
        wavelength_m=head.wavelength_m,
        power_w=head.power_w,
        nominal_current_a=head.nominal_current_a,
        threshold_current_a=head.threshold_current_a,
        largest_current_a=head.largest_current_a,
        capture_range_hz=head.capture_range_hz,
    )


def _relative(laser: Laser) -> float:
    return laser.power_w() / laser.nominal_power_w


def cycling(light: NodeLight, p: Parameters) -> float:
    """Scattering rate on 397 nm with the 866 nm repumper, relative to the operating point."""
    return scattering(light.cool, p) * repumping(light.repump, p)


def scattering(cool: Beam, p: Parameters) -> float:
    """Two-level scattering rate of the cooling beam, relative to the operating point."""

    def rate(power: float, detuning_hz: float) -> float:
        s = p.preparation.saturation * power
        return s / (1 + s + (2 * detuning_hz / p.atom.p12_linewidth_hz) ** 2)

    nominal = p.preparation.detuning_hz
    return rate(cool.power, nominal + cool.detuning_hz) / rate(1.0, nominal)


def repumping(repump: Beam, p: Parameters) -> float:
    """How much of the cycle the repumper keeps up, relative to the operating point: 0 without it."""
    x = repump.power * lorentzian(repump.detuning_hz, p.preparation.repump_width_hz)
    k = p.preparation.repump_saturation
    return x * (1 + k) / (x + k)


def reset_rate(light: NodeLight, p: Parameters) -> float:
    """Rate at which the 854 nm light empties D5/2, 1/s."""
    beam = light.reset
    return (
        beam.power * lorentzian(beam.detuning_hz, p.preparation.repump_width_hz) / p.preparation.reset_time_s
    )


def pump_rate(light: NodeLight, p: Parameters) -> float:
    """Rate of optical pumping, 1/s."""
    return cycling(light, p) / p.preparation.pump_time_s


def doppler_quanta(light: NodeLight, p: Parameters) -> float | None:
    """Mean phonon number that Doppler cooling leaves; None if the light does not cool."""
    offset = p.preparation.detuning_hz + light.cool.detuning_hz
    if offset >= 0 or cycling(light, p) < 1e-3:
        return None

    def limit(power: float, detuning_hz: float) -> float:
        x = 2 * abs(detuning_hz) / p.atom.p12_linewidth_hz
        return (1 + p.preparation.saturation * power + x * x) / x

    scale = limit(light.cool.power, offset) / limit(1.0, p.preparation.detuning_hz)
    return min(p.preparation.hot_quanta, p.preparation.doppler_quanta * scale)


def eit_quanta(light: NodeLight, p: Parameters) -> float | None:
    """Mean phonon number that EIT cooling leaves; None if the light does not cool so."""
    warm = doppler_quanta(light, p)
    if warm is None:
        return None
    resonance = lorentzian(light.cool.detuning_hz, p.preparation.eit_width_hz)
    return p.preparation.eit_quanta * resonance + warm * (1 - resonance)


def excitation_probability(amplitude: float, duration_s: float, beam: Beam, p: Parameters) -> float:
    """Probability α that the 854 nm pulse brings D5/2 to P3/2: generalised Rabi formula of a square pulse."""
    rabi = math.pi / p.excitation.pulse_s * amplitude * math.sqrt(beam.power)
    return flop(rabi, beam.detuning_hz, duration_s)


def flop(rabi_rad_per_s: float, detuning_hz: float, duration_s: float, contrast: float = 1.0) -> float:
    """Transfer probability of a square pulse; ``contrast`` is that of the flopping (1: no spread of Rabi frequencies)."""
    effective = math.hypot(rabi_rad_per_s, 2 * math.pi * detuning_hz)
    if effective == 0:
        return 0.0
    return (rabi_rad_per_s / effective) ** 2 * (1 - math.cos(effective * duration_s) * contrast) / 2


def lorentzian(detuning_hz: float, fwhm_hz: float) -> float:
    """Lorentzian of unit height."""
    return 1 / (1 + (2 * detuning_hz / fwhm_hz) ** 2)
