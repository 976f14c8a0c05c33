"""Instruments of a rubidium node and the light they make now, and what that light does to an atom."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from simulated_hw.world.light import (
    BODY_STATE,
    COIL_STATE,
    LASER_STATE,
    RF_STATE,
    SEED_STATE,
    Beam,
    flop,
    lorentzian,
)
from simulated_hw.world.parameters import LaserHead
from simulated_hw.world.parts import HeatedBody, Laser, PowerSensor, RfChannel
from simulated_hw.world.parts_coils import CoilChannel
from simulated_hw.world.parts_pump import SPEED_OF_LIGHT_M_PER_S, PumpSeed
from simulated_hw.world.parts_vacuum import VacuumChamber
from simulated_hw.world.rubidium_parameters import BOLTZMANN_J_PER_K, HBAR_J_S, Parameters

COOL, OPTICAL_PUMP, UP, CONVERTER = range(4)
"""Channels of a node's AOM driver, from 0: 780 nm cooling, 795 nm pumping, 420 nm excitation, converter pump."""
WAVELENGTHS_NM = (780, 795, 420, 1013, 480, 852)
MICROWAVE_HZ = 34.682_611e6
"""The generator's frequency: mixed with a fixed 6.8 GHz it makes the clock line at 6.834 682 611 GHz."""
EXCITATION_WIDTH_HZ = 20e6
"""Beyond this detuning of the two lasers' sum the generalised Rabi formula does the rest; width of the 480 nm line."""


class NodeLight(NamedTuple):
    """What a node's instruments make now; powers relative to the operating point."""

    cool: Beam
    pump: Beam
    up: Beam
    """420 and 1013 nm together: product of the powers, sum of the detunings."""
    transfer: Beam
    trap: float
    microwave: Beam
    converter: Beam
    mot: float
    """How well the gradient of the magneto-optical trap fits, 0 to 1."""


class Bench:
    """The instruments of one node."""

    def __init__(self, node: str, parameters: Parameters, rng: Callable[[str], np.random.Generator]) -> None:
        self.node = node
        self._p = p = parameters
        self.lasers = {
            nm: _laser(getattr(p.lasers, f"laser_{nm}"), rng(f"{node}.laser_{nm}")) for nm in WAVELENGTHS_NM
        }
        self.pump_seed = PumpSeed(
            wavelength_m=p.pump_seed.wavelength_m, highest_power_w=p.pump_seed.highest_power_w
        )
        self.aom = [RfChannel() for _ in range(4)]
        self.microwave = RfChannel(
            frequency_hz=MICROWAVE_HZ, nominal_frequency_hz=MICROWAVE_HZ, bandwidth_hz=math.inf
        )
        self.mot_coil = CoilChannel(tesla_per_a=0.0, inductance_h=1e-3)
        self.field_coil = CoilChannel(tesla_per_a=p.coils.tesla_per_a)
        self.chamber = VacuumChamber(base_pressure_pa=1e-8)
        self.oven = HeatedBody()
        self.etalon = HeatedBody(time_constant_s=8.0)
        if p.run.powered:
            self.power_up()

    def power_up(self) -> None:
        """Bring everything to its operating point: lasers on and locked, temperatures reached."""
        p = self._p
        for laser in self.lasers.values():
            laser.emission = laser.lock_enabled = laser.locked = True
        self.pump_seed.switch_on(p.pump_seed.nominal_power_w)
        for coil, current_a in ((self.mot_coil, p.coils.mot_a), (self.field_coil, p.coils.field_a)):
            coil.set_v, coil.limit_a, coil.on = 2 * current_a * coil.resistance_ohm, current_a, True
            coil.flowing_a = current_a
        for channel in (*self.aom, self.microwave):
            channel.power_dbm = channel.nominal_dbm
            channel.frequency_hz = channel.nominal_frequency_hz
            channel.signal_on = channel.amplifier_on = True
        for body, kelvin in ((self.oven, p.converter.oven_k), (self.etalon, p.filters.etalon_k)):
            body.enabled, body.setpoint_k, body.temperature_k = True, kelvin, kelvin

    def advance(self, now_s: float) -> None:
        """Bring every part up to the world's time."""
        for laser in self.lasers.values():
            laser.advance(now_s)
        for part in (
            self.pump_seed,
            self.mot_coil,
            self.field_coil,
            self.chamber,
            self.oven,
            self.etalon,
        ):
            part.advance(now_s)

    def steady(self) -> bool:
        """Whether its light stays as it is until somebody touches it."""
        return all(laser.steady() for laser in self.lasers.values()) and all(
            part.steady() for part in (self.pump_seed, self.mot_coil, self.field_coil, self.oven, self.etalon)
        )

    def state(self) -> tuple[Any, ...]:
        """All that the light depends on: as long as it is equal nobody touched a part, and none was advanced."""
        return (
            *map(LASER_STATE, self.lasers.values()),
            *map(RF_STATE, self.aom),
            RF_STATE(self.microwave),
            SEED_STATE(self.pump_seed),
            COIL_STATE(self.mot_coil),
            COIL_STATE(self.field_coil),
            BODY_STATE(self.oven),
            BODY_STATE(self.etalon),
        )

    def light(self) -> NodeLight:
        """The light now, from the state of the parts."""
        lasers, coils = self.lasers, self._p.coils
        up, second = self._through(420, UP), lasers[1013]
        off_a = (self.mot_coil.flowing_a - coils.mot_a) / coils.mot_width_a
        return NodeLight(
            self._through(780, COOL),
            self._through(795, OPTICAL_PUMP),
            Beam(up.power * _relative(second), up.detuning_hz + second.detuning_hz()),
            Beam(_relative(lasers[480]), lasers[480].detuning_hz()),
            _relative(lasers[852]),
            self._microwave(),
            self._converter(),
            math.exp(-(off_a**2)),
        )

    def sensors(self, output_w: Callable[[], float]) -> tuple[PowerSensor, PowerSensor]:
        """Power sensors before and behind the converter; ``output_w`` gives the light behind it, W."""
        wavelength = self._p.pump_seed.wavelength_m
        return (
            PowerSensor(self.pump_w, calibrated_wavelength_m=wavelength, longest_m=2.5e-6),
            PowerSensor(output_w, calibrated_wavelength_m=self._p.converter.signal_wavelength_m),
        )

    def pump_w(self) -> float:
        """Pump power on the converter's input, W."""
        return self._converter().power * self._p.converter.pump_power_w

    def _through(self, nm: int, channel: int) -> Beam:
        laser, aom = self.lasers[nm], self.aom[channel]
        return Beam(
            _relative(laser) * aom.relative_power(),
            laser.detuning_hz() + aom.frequency_hz - aom.nominal_frequency_hz,
        )

    def _converter(self) -> Beam:
        seed, aom = self.pump_seed, self.aom[CONVERTER]
        return Beam(
            seed.power_w() / self._p.pump_seed.nominal_power_w * aom.relative_power(),
            seed.frequency_hz()
            - SPEED_OF_LIGHT_M_PER_S / seed.wavelength_m
            + aom.frequency_hz
            - aom.nominal_frequency_hz,
        )

    def _microwave(self) -> Beam:
        """Detuning from the clock line, which the field of the coil shifts."""
        rf, coils = self.microwave, self._p.coils
        shift_hz = (self.field_coil.flowing_a - coils.field_a) * coils.tesla_per_a * coils.line_hz_per_t
        power = 10 ** ((rf.power_dbm - rf.nominal_dbm) / 10) if rf.signal_on else 0.0
        return Beam(power, rf.frequency_hz - rf.nominal_frequency_hz - shift_hz)


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


def fluorescence(light: NodeLight, p: Parameters) -> float:
    """Scattering of the cooling light, relative to the operating point; saturation parameter one there."""
    return _scattering(light.cool.power, p.preparation.detuning_hz + light.cool.detuning_hz, p) / _scattering(
        1.0, p.preparation.detuning_hz, p
    )


def _scattering(power: float, detuning_hz: float, p: Parameters) -> float:
    return power / (1 + power + (2 * detuning_hz / p.preparation.linewidth_hz) ** 2)


def loading_hz(light: NodeLight, p: Parameters) -> float:
    """Rate at which an empty trap catches an atom: needs cooling light, red detuned, the gradient and the trap light."""
    if p.preparation.detuning_hz + light.cool.detuning_hz >= 0 or light.trap < 0.2:
        return 0.0
    return p.trap.loading_hz * min(2.0, fluorescence(light, p)) * light.mot


def cooled_k(light: NodeLight, p: Parameters) -> float:
    """Temperature that the cooling light leaves: in proportion to power over detuning; hot if it does not cool."""
    detuning_hz = p.preparation.detuning_hz + light.cool.detuning_hz
    if detuning_hz >= 0 or light.cool.power < 1e-3:
        return p.trap.hot_k
    return min(p.trap.hot_k, p.trap.cooled_k * light.cool.power * p.preparation.detuning_hz / detuning_hz)


def pump_rate(light: NodeLight, p: Parameters) -> float:
    """Rate of optical pumping, 1/s."""
    return (
        light.pump.power * lorentzian(light.pump.detuning_hz, EXCITATION_WIDTH_HZ) / p.preparation.pump_time_s
    )


def raised(amplitude: float, detuning_hz: float, span_s: float, light: NodeLight, p: Parameters) -> float:
    """Probability that the two-photon pulse brings the atom to the Rydberg state.

    detuning_hz:  of the tone and of the trap's light shift; those of the lasers are added
    """
    rabi = math.pi / p.excitation.up_s * amplitude * math.sqrt(light.up.power)
    return flop(rabi, light.up.detuning_hz + detuning_hz, span_s)


def transferred(amplitude: float, span_s: float, light: NodeLight, p: Parameters) -> float:
    """Probability that the 480 nm pulse brings it on to 5P3/2."""
    rabi = math.pi / p.excitation.transfer_s * amplitude * math.sqrt(light.transfer.power)
    return flop(rabi, light.transfer.detuning_hz, span_s)


def lamb_dicke_squared(light: NodeLight, p: Parameters) -> float:
    """η² of the kick ħ(k_exc - k_em): (Δk)² ħ / (2 m ω), for an excitation as long as the photon's wave vector.

    The three Rydberg beams along the collected photon add up to just its wave vector (their frequencies do).
    """
    angle = p.recoil.misalignment_rad if p.recoil.suppressed else p.recoil.side_rad
    kick = 2 * math.sin(angle / 2) * 2 * math.pi / p.atom.photon_wavelength_m
    return kick**2 * HBAR_J_S / (2 * p.atom.mass_kg * _omega(light, p))


def mean_quanta(temperature_k: float, light: NodeLight, p: Parameters) -> float:
    """Mean phonon number of the atom at a temperature."""
    if temperature_k <= 0:
        return 0.0
    return 1 / math.expm1(HBAR_J_S * _omega(light, p) / (BOLTZMANN_J_PER_K * temperature_k))


def recoil_coherence(temperature_k: float, light: NodeLight, p: Parameters) -> float:
    """What the kick of the bright branch leaves of one node's coherence: exp[-η² (n + 1/2)] (PHYSICS.md 2)."""
    return math.exp(-lamb_dicke_squared(light, p) * (mean_quanta(temperature_k, light, p) + 0.5))


def _omega(light: NodeLight, p: Parameters) -> float:
    return 2 * math.pi * p.trap.frequency_hz * math.sqrt(max(light.trap, 1e-6))
