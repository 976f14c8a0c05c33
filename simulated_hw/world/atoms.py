"""The two ions through a played segment: light acts, time passes, counters see fluorescence."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from labctl.sim.played import Clicks, PlayedPulse
from simulated_hw.world import light as optics
from simulated_hw.world.ion import IonPair, decay_transfer, rotation
from simulated_hw.world.light import NodeLight
from simulated_hw.world.parameters import Parameters
from simulated_hw.world.phase import Wander
from simulated_hw.world.segments import NODES, Reading

SCATTER_S = 1e-7
"""Time in which nominal cooling light leaves no memory of the Zeeman state."""
ACTING = ("cool_397", "eit_397", "pump_397", "reset_854", "qubit_729", "excite_854")
"""Beams that do something to an ion by themselves; the repumper only helps."""


class Atoms:
    """The ions of both nodes: joint internal state, motion, line noise, and what the last preparation lasted."""

    def __init__(self, parameters: Parameters, rng: Callable[[str], np.random.Generator]) -> None:
        p = self._p = parameters
        self.ions = IonPair()
        self._rng = rng("atoms")
        self._time_ps = [0, 0]
        self.quanta = [p.preparation.doppler_quanta] * 2
        self._rabi_scale = [1.0, 1.0]
        self._fast = [
            Wander(rng(f"{n}.line_noise"), p.qubit.line_noise_hz, p.qubit.line_noise_time_s) for n in NODES
        ]
        self._slow = [
            Wander(rng(f"{n}.line_drift"), p.qubit.line_drift_hz, p.qubit.line_drift_time_s, 0.0)
            for n in NODES
        ]
        self.block_s: list[dict[str, float]] = [
            {"reset_854": 25e-6, "cool_397": 150e-6, "eit_397": 120e-6} for _ in NODES
        ]

    def line_offset_hz(self, node: int) -> float:
        """Where the qubit line of a node is now, Hz from nominal."""
        return self._fast[node].x + self._slow[node].x

    # motion
    def prepared_quanta(self, node: int, light: NodeLight) -> float:
        """Mean phonon number after one more preparation block like the last one."""
        block = self.block_s[node]
        return self._cooled(self.quanta[node], light, block["cool_397"], block["eit_397"])

    def _cooled(self, quanta: float, light: NodeLight, doppler_s: float, eit_s: float) -> float:
        p = self._p
        for span_s, target in (
            (doppler_s, optics.doppler_quanta(light, p)),
            (eit_s, optics.eit_quanta(light, p)),
        ):
            if target is not None:
                quanta = target + (quanta - target) * math.exp(-span_s / p.preparation.cool_time_s)
        return quanta

    def pass_time(
        self, reading: Reading, count: int, duration_s: float, light: tuple[NodeLight, NodeLight]
    ) -> None:
        """Motion over time in which a segment was played ``count`` times without being looked at."""
        for node in (0, 1):
            self._note_block(node, reading)
            self.quanta[node] = min(
                self._p.preparation.hot_quanta,
                self.quanta[node] + self._p.preparation.heating_per_s * duration_s,
            )
            self.quanta[node] = self._cooled(
                self.quanta[node],
                light[node],
                count * reading.on_s(node, "cool_397"),
                count * reading.on_s(node, "eit_397"),
            )

    def _note_block(self, node: int, reading: Reading) -> None:
        """Remember how long the beams of a preparation block were on."""
        beams = reading.beams[node]
        if "reset_854" in beams and "cool_397" in beams:
            for beam in self.block_s[node]:
                self.block_s[node][beam] = reading.on_s(node, beam)

    def jolt(self) -> None:
        """Draw how far the Rabi frequencies of this shot are off because the ions move."""
        for node in (0, 1):
            n = self.quanta[node]
            spread = self._p.preparation.lamb_dicke**2 * math.sqrt(n * (n + 1))
            self._rabi_scale[node] = max(0.0, 1 + spread * float(self._rng.standard_normal()))

    # internal state
    def restart(self, node: int, time_ps: int) -> None:
        """The state of an ion is known as of ``time_ps``."""
        span_s = (time_ps - self._time_ps[node]) / 1e12
        self._fast[node].advance(span_s)
        self._slow[node].advance(span_s)
        self._time_ps[node] = time_ps

    def settle(self, node: int, time_ps: int, light: NodeLight) -> None:
        """An attempt has prepared the ion anew: motion as prepared, state known as of ``time_ps``."""
        self.quanta[node] = self.prepared_quanta(node, light)
        self.restart(node, time_ps)

    def evolve(
        self,
        reading: Reading,
        start_ps: int,
        light: tuple[NodeLight, NodeLight],
        after_ps: tuple[int, int] = (-1, -1),
    ) -> dict[str, Clicks]:
        """Play a segment's pulses on the ions from ``start_ps``; counts of its counter gates by register.

        after_ps:  per node, pulses that start before this time of the segment are left out
        """
        counts = self._quiet_counts(reading)
        acts = [
            (pulse.start_ps, node, beam, pulse)
            for node in (0, 1)
            for beam, pulses in reading.beams[node].items()
            if beam in ACTING
            for pulse in pulses
            if pulse.start_ps >= after_ps[node]
        ]
        acts.sort(key=lambda act: act[:3])
        for _, node, beam, pulse in acts:
            self._act(node, beam, pulse, reading, start_ps, light[node], counts)
        for node in (0, 1):
            self._note_block(node, reading)
        return {gate.into: Clicks(counts[gate.into]) for _, gate in reading.counter_gates}

    def _act(
        self,
        node: int,
        beam: str,
        pulse: PlayedPulse,
        reading: Reading,
        start_ps: int,
        light: NodeLight,
        counts: dict[str, int],
    ) -> None:
        p = self._p
        self._idle(node, start_ps + pulse.start_ps)
        span_s = pulse.duration_ps / 1e12
        if beam == "qubit_729":
            self._rotate(node, pulse, start_ps, light)
            return
        if beam == "excite_854":
            tone = light.reset._replace(detuning_hz=light.reset.detuning_hz + pulse.frequency_hz)
            alpha = optics.excitation_probability(pulse.amplitude, span_s, tone, p)
            self.ions.excite(node, alpha, (p.atom.p32_to_s12, p.atom.p32_to_d52, p.atom.p32_to_d32))
        elif beam == "reset_854":
            rate = optics.reset_rate(light, p) * pulse.amplitude**2
            self.ions.reset(node, -math.expm1(-rate * span_s))
        else:
            cool = light.cool
            tone = cool._replace(
                power=cool.power * pulse.amplitude**2, detuning_hz=cool.detuning_hz + pulse.frequency_hz
            )
            covered = reading.overlap_ps(
                node, "repump_866", pulse.start_ps, pulse.start_ps + pulse.duration_ps
            )
            repump = light.repump._replace(power=light.repump.power * (covered > 0.5 * pulse.duration_ps))
            self._scatter(node, beam, pulse, reading, light._replace(cool=tone, repump=repump), counts)
        self.restart(node, start_ps + pulse.start_ps + pulse.duration_ps)

    def _rotate(self, node: int, pulse: PlayedPulse, start_ps: int, light: NodeLight) -> None:
        q = self._p.qubit
        span_s = pulse.duration_ps / 1e12
        begin_ps = start_ps + pulse.start_ps
        tone_hz = pulse.frequency_hz + light.qubit.detuning_hz
        line_hz = (self._fast[node].advance(span_s) + self._slow[node].advance(span_s)) / span_s
        rabi = math.pi / q.pi_time_s * pulse.amplitude * math.sqrt(light.qubit.power)
        self.ions.rotate(
            node,
            rotation(
                rabi * self._rabi_scale[node],
                span_s,
                2 * math.pi * pulse.phase_turns,
                line_hz - tone_hz,
                math.fmod(tone_hz * (begin_ps / 1e12), 1.0),
                tone_hz,
            ),
        )
        self.ions.depolarise(node, min(1.0, 2 * q.pi_infidelity * rabi * span_s / math.pi))
        self._time_ps[node] = begin_ps + pulse.duration_ps

    def _idle(self, node: int, time_ps: int) -> None:
        """Free evolution of one ion until ``time_ps``."""
        span_s = (time_ps - self._time_ps[node]) / 1e12
        if span_s <= 0:
            return
        cycles = self._fast[node].advance(span_s) + self._slow[node].advance(span_s)
        decay = -math.expm1(-span_s / self._p.atom.d52_lifetime_s)
        self.ions.idle(node, 2 * math.pi * math.fmod(cycles, 1.0), decay)
        warmer = self.quanta[node] + self._p.preparation.heating_per_s * span_s
        self.quanta[node] = min(self._p.preparation.hot_quanta, warmer)
        self._time_ps[node] = time_ps

    def _scatter(
        self,
        node: int,
        beam: str,
        pulse: PlayedPulse,
        reading: Reading,
        light: NodeLight,
        counts: dict[str, int],
    ) -> None:
        """397 nm light on one ion: fluorescence if somebody counts, then cooling or pumping."""
        p, span_s = self._p, pulse.duration_ps / 1e12
        rate = optics.cycling(light, p)
        if beam == "pump_397":
            self.ions.pump(node, -math.expm1(-optics.pump_rate(light, p) * span_s), p.preparation.pump_error)
            self.jolt()
            return
        gates = [
            gate
            for number, gate in reading.counter_gates
            if number == node
            and gate.start_ps < pulse.start_ps + pulse.duration_ps
            and gate.start_ps + gate.duration_ps > pulse.start_ps
        ]
        if gates:
            bright_from_ps = self._bright_from(node, pulse)
            for gate in gates:
                end = min(gate.start_ps + gate.duration_ps, pulse.start_ps + pulse.duration_ps)
                lit_s = (end - max(gate.start_ps, pulse.start_ps)) / 1e12
                bright_s = max(0.0, (end - max(gate.start_ps, bright_from_ps)) / 1e12)
                mean = p.readout.bright_hz * rate * bright_s + p.readout.stray_hz * light.cool.power * lit_s
                counts[gate.into] += int(self._rng.poisson(mean))
        share = -math.expm1(-optics.scattering(light.cool, p) * span_s / SCATTER_S)
        cycle = min(1.0, optics.repumping(light.repump, p))
        self.ions.shelve(node, share, cycle)
        if beam == "cool_397":
            self.quanta[node] = self._cooled(self.quanta[node], light, span_s, 0.0)
        else:
            target = optics.eit_quanta(light, p)
            if target is not None:
                left = math.exp(-span_s / p.preparation.cool_time_s)
                self.quanta[node] = target + (self.quanta[node] - target) * left

    def _bright_from(self, node: int, pulse: PlayedPulse) -> int:
        """Project an ion under cooling light; time of the segment from which it fluoresces, ps."""
        if self.ions.measure(node, self._rng):
            return pulse.start_ps
        falls_s = float(self._rng.exponential(self._p.atom.d52_lifetime_s))
        if falls_s < pulse.duration_ps / 1e12:
            self.ions.mix(node, decay_transfer(1.0), 0.0)
        return pulse.start_ps + round(falls_s * 1e12)

    def _quiet_counts(self, reading: Reading) -> dict[str, int]:
        """Counts of the counter gates that come without any light."""
        return {
            gate.into: int(self._rng.poisson(self._p.readout.dark_hz * gate.duration_ps / 1e12))
            for _, gate in reading.counter_gates
        }
