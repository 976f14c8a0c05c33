"""One attempt of the rubidium laboratory from its pulses and the instruments' state: Rydberg-based emission at both nodes."""

from __future__ import annotations

import math
from typing import NamedTuple

from labctl.sim.played import PlayedPulse
from simulated_hw.world import photon
from simulated_hw.world import rubidium_light as optics
from simulated_hw.world.attempt import MidpointModel, Outlook
from simulated_hw.world.light import flop
from simulated_hw.world.midpoint import Emitter
from simulated_hw.world.rubidium_parameters import Parameters
from simulated_hw.world.rubidium_scene import NodeNow, Scene
from simulated_hw.world.segments import Reading

NOBODY = Emitter(0.0, 0.0, (0.0, 0.0, 0.0, 1.0), 0.0)
"""A node without an atom."""


class Prospect(NamedTuple):
    """An attempt that may come: its outlook, and what it does to the atoms."""

    outlook: Outlook
    risks: tuple[float, float]
    """Probability that it throws an atom out."""
    ready_ps: tuple[int, int]
    """When the photon has left, from the attempt's start."""


class RubidiumAttempts:
    """Makes prospects; the caller remembers them while nothing changes."""

    def __init__(self, parameters: Parameters) -> None:
        self._p = parameters
        self._midpoint = MidpointModel(parameters.midpoint.photon_overlap)
        self._flights = tuple(photon.flight_ps(arm, parameters) for arm in (parameters.alice, parameters.bob))

    def prospect(self, reading: Reading, scene: Scene, present: tuple[bool, bool]) -> Prospect:
        """One attempt that plays ``reading`` with the instruments and atoms as they are."""
        emitters: list[Emitter] = []
        risks: list[float] = []
        ready: list[int] = []
        for node, (now, there) in enumerate(zip(scene.nodes, present, strict=True)):
            emitter, risk = self.emitter(node, reading, now) if there else (NOBODY, 0.0)
            emitters.append(emitter)
            risks.append(risk)
            last = _last(reading, node)
            ready.append(last.start_ps + last.duration_ps if last else 0)
        first, second = scene.nodes
        outlook = self._midpoint.outlook(
            reading,
            (emitters[0], emitters[1]),
            (first.packet, second.packet),
            (ready[0] + self._flights[0], ready[1] + self._flights[1]),
            scene.detectors,
        )
        return Prospect(outlook, (risks[0], risks[1]), (ready[0], ready[1]))

    def emitter(self, node: int, reading: Reading, now: NodeNow) -> tuple[Emitter, float]:
        """One node after its pulses, and the probability that its atom is lost.

        Reset by optical pumping, a short microwave pulse that puts α into the bright state, two-photon pulse to the
        Rydberg state, transfer to 5P3/2, emission. What does not come down from the Rydberg state is lost.
        """
        p, e, beams = self._p, self._p.excitation, reading.beams[node]
        up, down = _only(beams.get("excite_420")), _only(beams.get("transfer_480"))
        unpumped = math.exp(-now.pump_rate * reading.on_s(node, "pump_795"))
        alpha, turns = self._turned(beams.get("microwave", []), up, now)
        risen = come = 0.0
        if up is not None:
            shift_hz = 0.0 if _covered(up, beams.get("fort_off", [])) else p.trap.shift_hz * now.light.trap
            risen = optics.raised(
                up.amplitude, up.frequency_hz + shift_hz, up.duration_ps / 1e12, now.light, p
            )
            turns += up.phase_turns
        if down is not None:
            come = optics.transferred(down.amplitude, down.duration_ps / 1e12, now.light, p)
        emitting = alpha * risen * come
        left = unpumped * alpha / (1 - unpumped * (1 - 2 * alpha)) if unpumped < 1 else 0.5
        ready = (1 - left) * (1 - p.preparation.pump_error)
        stray = (1 - left) * p.preparation.pump_error / 2
        stuck = ready * alpha * (1 - risen)
        lost = (ready * alpha + left * (1 - alpha)) * risen * (1 - come)
        bright = ready * emitting * e.to_qubit
        others = (
            stuck + left * (1 - alpha) * (1 - risen * (1 - come)),
            left * alpha,
            ready * emitting * (1 - e.to_qubit) + stray,
            stray + lost,
        )
        transmission = now.transmission * (1 + e.reexcitation)
        return Emitter(bright, ready * (1 - alpha), others, transmission, 2 * math.pi * turns), (
            p.trap.loss_per_attempt + lost
        )

    def coherence(self, temperatures_k: tuple[float, float], scene: Scene) -> float:
        """What recoil and second photons leave of the pair's coherence (PHYSICS.md 2)."""
        kept = 1.0
        for temperature_k, now in zip(temperatures_k, scene.nodes, strict=True):
            kept *= optics.recoil_coherence(temperature_k, now.light, self._p)
            once = 1 - self._p.excitation.reexcitation
            kept *= math.sqrt(once / (1 + self._p.excitation.reexcitation))
        return kept

    def _turned(
        self, pulses: list[PlayedPulse], until: PlayedPulse | None, now: NodeNow
    ) -> tuple[float, float]:
        """Population α that the microwave pulses before the excitation put into the bright state, and their phase."""
        microwave, q = now.light.microwave, self._p.qubit
        alpha = turns = 0.0
        for pulse in pulses:
            if until is not None and pulse.start_ps >= until.start_ps:
                break
            rabi = math.pi / q.pi_time_s * pulse.amplitude * math.sqrt(microwave.power)
            span_s = pulse.duration_ps / 1e12
            one = flop(rabi, pulse.frequency_hz + microwave.detuning_hz, span_s)
            alpha = alpha * (1 - one) + (1 - alpha) * one
            turns -= pulse.phase_turns
        return alpha, turns


def _only(pulses: list[PlayedPulse] | None) -> PlayedPulse | None:
    return pulses[0] if pulses else None


def _last(reading: Reading, node: int) -> PlayedPulse | None:
    beams = reading.beams[node]
    return _only(beams.get("transfer_480")) or _only(beams.get("excite_420"))


def _covered(pulse: PlayedPulse, by: list[PlayedPulse]) -> bool:
    return any(
        one.start_ps <= pulse.start_ps
        and one.start_ps + one.duration_ps >= pulse.start_ps + pulse.duration_ps
        for one in by
    )
