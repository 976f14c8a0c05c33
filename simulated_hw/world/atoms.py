"""The two ions through a played segment: light acts, time passes, counters see fluorescence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from labctl.sim.played import Clicks, OpenGate, PlayedPulse
from simulated_hw.world import ion, memory, second_line
from simulated_hw.world import light as optics
from simulated_hw.world.acts import ALWAYS, Act, Plan, Plans
from simulated_hw.world.card import Photomultiplier
from simulated_hw.world.field_noise import FieldNoise
from simulated_hw.world.light import NodeLight
from simulated_hw.world.motion import Motion
from simulated_hw.world.parameters import Parameters
from simulated_hw.world.segments import NODES, Reading

SCATTER_S = 1e-7
"""Time in which nominal cooling light leaves no memory of the Zeeman state."""


class Atoms:
    """The ions of both nodes: joint internal state, motion and line noise.

    pmt:  photomultiplier that looks at Alice's ion all the time
    """

    def __init__(
        self, parameters: Parameters, rng: Callable[[str], np.random.Generator], pmt: Photomultiplier
    ) -> None:
        self._p = parameters
        self._pmt = pmt
        self._rng = rng("atoms")
        self.pair = ion.IonPair()
        self.motion = [Motion(parameters) for _ in NODES]
        self.field = FieldNoise(parameters, rng)
        self._plans = Plans(self.field)
        self._time_ps = [0, 0]
        self._owed = [
            0.0,
            0.0,
        ]  # cycles that each line has gathered since ``_time_ps`` and until ``field.time_ps``
        m, atom = parameters.memory, parameters.atom
        self._memory_ratio = m.hz_per_t / parameters.field.line_hz_per_t
        self._scattering = [
            memory.Scattering(share, m.flip_share, atom.p32_to_d52, atom.p32_to_d32)
            for share in (m.scattered_alice, m.scattered_bob)
        ]
        self._jolts = [0.0, 0.0]
        self._calm_quanta = [0.0, 0.0]
        self._due: tuple[Reading, int] | None = None

    def pass_time(
        self, played: Sequence[tuple[Reading, int]], duration_s: float, lights: tuple[NodeLight, NodeLight]
    ) -> None:
        """Motion over time in which each segment was played so many times without being looked at."""
        for node, motion in enumerate(self.motion):
            motion.warm(duration_s)
            for reading, count in played:
                motion.note(node, reading)
                for beam in ("cool_397", "eit_397"):
                    motion.cool(beam, count * reading.on_s(node, beam), lights[node])
        self.shine(played, lights)

    def shine(self, played: Sequence[tuple[Reading, int]], lights: tuple[NodeLight, NodeLight]) -> None:
        """Light that the photomultiplier sees while each segment is played so many times; not that of readout."""
        if self._pmt.watching:
            for reading, count in played:
                if all(number for number, _ in reading.counter_gates):
                    self._pmt.light(count * self._glow(reading, lights[0]))

    def play_later(self, reading: Reading, start_ps: int) -> None:
        """Play a segment without counter gates, once somebody asks what became of the ions."""
        self._due = (reading, start_ps)

    def herald(
        self, state: ion.State, ready_ps: tuple[int, int], lights: tuple[NodeLight, NodeLight]
    ) -> None:
        """An attempt has prepared the ions anew and left them in ``state`` at ``ready_ps``."""
        self._due = None
        self.pair.set(state)
        first = min(ready_ps)
        self.field.jump(first)
        late = self.field.advance(max(ready_ps))
        for node in (0, 1):
            self.motion[node].quanta = self.motion[node].prepared_quanta(lights[node])
            self._time_ps[node] = ready_ps[node]
            self._owed[node] = late[node] if ready_ps[node] == first else 0.0
            self._jolt(node)

    def emit(self, time_ps: int, change: Callable[[ion.State], ion.State]) -> None:
        """At ``time_ps`` something happens to both ions at once, ``change`` of their joint state (which may be unnormalised)."""
        gap = self.field.advance(time_ps)
        for node in (0, 1):
            self._idle(node, time_ps, self._owed[node] + gap[node])
            self._owed[node] = 0.0
        self.pair.set(change(self.pair.state))

    def evolve(
        self,
        reading: Reading,
        start_ps: int,
        lights: tuple[NodeLight, NodeLight],
        after_ps: tuple[int, int] = (-1, -1),
        until_ps: tuple[int, int] = ALWAYS,
    ) -> dict[str, Clicks]:
        """Play a segment's pulses on the ions from ``start_ps``; counts of its counter gates by register.

        after_ps, until_ps:  per node, pulses that start before or from these times of the segment on are left out
        """
        if self._due is not None:
            due, self._due = self._due, None
            self.evolve(*due, lights)
        dark_hz = self._p.readout.dark_hz
        counts = {
            gate.into: int(self._rng.poisson(dark_hz * gate.duration_ps / 1e12))
            for _, gate in reading.counter_gates
        }
        plan = self._plans.of(reading, after_ps, until_ps)
        if plan.acts:
            self._perform(plan, reading, start_ps, lights, counts)
        for node in (0, 1):
            self.motion[node].note(node, reading)
        return {register: Clicks(count) for register, count in counts.items()}

    def _perform(
        self,
        plan: Plan,
        reading: Reading,
        start_ps: int,
        lights: tuple[NodeLight, NodeLight],
        counts: dict[str, int],
    ) -> None:
        """Everything that acts on the ions in a segment, with the noise of the field sampled where something begins or ends."""
        gap = self.field.advance(start_ps + plan.begin_ps)
        cycles = self.field.over(plan.grid)
        gathered = [-owed - more for owed, more in zip(self._owed, gap, strict=True)]  # where each ion stands
        for act in plan.acts:
            node = act.node
            there = cycles[node]
            self._idle(node, start_ps + act.start_ps, float(there[act.first]) - gathered[node])
            self._act(act, reading, start_ps, lights[node], there, counts)
            gathered[node] = float(there[act.last])
            self._time_ps[node] = start_ps + act.end_ps
        self._owed = [float(there[-1]) - at for there, at in zip(cycles, gathered, strict=True)]

    def _act(
        self,
        act: Act,
        reading: Reading,
        start_ps: int,
        light: NodeLight,
        cycles: memory.Floats,
        counts: dict[str, int],
    ) -> None:
        """One pulse, or one train of Raman pulses, on one ion; ``cycles`` of its line at the plan's grid."""
        p, atom = self._p, self._p.atom
        node, pulse = act.node, act.pulse
        span_s = (act.end_ps - act.start_ps) / 1e12
        if act.train is not None:
            self._store(act, act.train, start_ps, light, cycles)
        elif act.beam == "qubit_729":
            self._rotate(node, pulse, start_ps, light, float(cycles[act.last] - cycles[act.first]))
        elif act.beam == "excite_854":
            tone = light.reset._replace(detuning_hz=light.reset.detuning_hz + pulse.frequency_hz)
            alpha = optics.excitation_probability(pulse.amplitude, span_s, tone, p)
            self._apply(node, ion.excite(alpha, (atom.p32_to_s12, atom.p32_to_d52, atom.p32_to_d32)))
        elif act.beam == "reset_854":
            rate = optics.reset_rate(light, p) * pulse.amplitude**2
            self._apply(node, ion.reset(-math.expm1(-rate * span_s)))
        else:
            self._scatter(node, act.beam, pulse, reading, lit(light, pulse, reading, node), counts)

    def _apply(self, node: int, channel: ion.State) -> None:
        self.pair.apply(node, channel)

    def _rotate(self, node: int, pulse: PlayedPulse, start_ps: int, light: NodeLight, cycles: float) -> None:
        """A 729 nm pulse, while the line gathers ``cycles``."""
        q = self._p.qubit
        span_s = pulse.duration_ps / 1e12
        begin_ps = start_ps + pulse.start_ps
        tone_hz = pulse.frequency_hz + light.qubit.detuning_hz
        rabi = math.pi / q.pi_time_s * pulse.amplitude * math.sqrt(light.qubit.power)
        other = second_line.driven(pulse, rabi * self._rabi_scale(node), cycles, light, self._p)
        if other is not None:
            self._apply(node, other)
            return
        unitary = ion.pulse(
            rabi * self._rabi_scale(node),
            span_s,
            2 * math.pi * pulse.phase_turns,
            cycles / span_s - tone_hz,
            math.fmod(tone_hz * (begin_ps / 1e12), 1.0),
            tone_hz,
        )
        error = min(1.0, 2 * q.pi_infidelity * rabi * span_s / math.pi)
        turned = ion.rotation(unitary, 2 * math.pi * cycles * self._memory_ratio)
        self._apply(node, ion.depolarise(error) @ turned)

    def _store(
        self, act: Act, train: memory.Train, start_ps: int, light: NodeLight, cycles: memory.Floats
    ) -> None:
        """Raman pulses on the memory qubit, one after the other."""
        m, beam = self._p.memory, light.raman
        rabi = math.pi / m.pi_time_s * (1 + m.angle_error) * beam.power
        if beam.detuning_hz:
            train = train._replace(frequency_hz=train.frequency_hz + beam.detuning_hz)
        span_s = (act.end_ps - act.start_ps) / 1e12
        channel = memory.channel(
            train,
            start_ps / 1e12,
            cycles * self._memory_ratio,
            memory.Drive(rabi, m.light_shift_hz),
            self._scattering[act.node],
            2 * math.pi * float(cycles[act.last] - cycles[act.first]),
            -math.expm1(-span_s / self._p.atom.d52_lifetime_s),
        )
        self._apply(act.node, channel)
        self.motion[act.node].warm(span_s)

    def _idle(self, node: int, time_ps: int, cycles: float) -> None:
        """Free evolution of one ion until ``time_ps``, in which its line gathers ``cycles``."""
        span_s = (time_ps - self._time_ps[node]) / 1e12
        if span_s <= 0:
            return
        decay = -math.expm1(-span_s / self._p.atom.d52_lifetime_s)
        turned = 2 * math.pi * math.fmod(cycles, 1.0)
        stored = 2 * math.pi * math.fmod(cycles * self._memory_ratio, 1.0)
        self._apply(node, ion.idle(turned, decay, stored))
        self.motion[node].warm(span_s)
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
        if beam == "pump_397":
            share = -math.expm1(-optics.pump_rate(light, p) * span_s)
            self._apply(node, ion.pump(share, p.preparation.pump_error))
            self._jolt(node)
            return
        gates = [gate for number, gate in reading.counter_gates if number == node and meet(gate, pulse)]
        if gates:
            self._fluoresce(node, pulse, gates, light, counts)
        else:
            self._apply(node, ion.idle(0.0, -math.expm1(-span_s / p.atom.d52_lifetime_s)))
        share = -math.expm1(-optics.scattering(light.cool, p) * span_s / SCATTER_S)
        self._apply(node, ion.shelve(share, min(1.0, optics.repumping(light.repump, p))))
        self.motion[node].cool(beam, span_s, light)

    def _fluoresce(
        self, node: int, pulse: PlayedPulse, gates: list[OpenGate], light: NodeLight, counts: dict[str, int]
    ) -> None:
        """Project the ion and count its light, and stray light, in the gates; a dark ion may decay meanwhile."""
        p = self._p
        bright_from_ps = pulse.start_ps
        if not self.pair.measure(node, self._rng):
            falls_s = float(self._rng.exponential(p.atom.d52_lifetime_s))
            bright_from_ps += round(falls_s * 1e12)
            if bright_from_ps < pulse.start_ps + pulse.duration_ps:
                self._apply(node, ion.idle(0.0, 1.0))
        rate_hz = p.readout.bright_hz * optics.cycling(light, p)
        stray_hz = p.readout.stray_hz * light.cool.power
        for gate in gates:
            end_ps = min(gate.start_ps + gate.duration_ps, pulse.start_ps + pulse.duration_ps)
            lit_ps = end_ps - max(gate.start_ps, pulse.start_ps)
            bright_ps = max(0, end_ps - max(gate.start_ps, bright_from_ps))
            seen = int(self._rng.poisson((rate_hz * bright_ps + stray_hz * lit_ps) / 1e12))
            counts[gate.into] += seen
            if node == 0:
                self._pmt.light(0.0, seen)

    def _glow(self, reading: Reading, light: NodeLight) -> float:
        """Counts to expect of Alice's ion in a segment that does not read it out.

        It is bright while the cooling light is on. Light for pumping and for EIT cooling leaves it dark: stray light only.
        """
        p, photons = self._p, 0.0
        for beam in ("cool_397", "eit_397", "pump_397"):
            for pulse in reading.beams[0].get(beam, ()):
                shone = lit(light, pulse, reading, 0)
                rate_hz = p.readout.stray_hz * shone.cool.power
                if beam == "cool_397":
                    rate_hz += p.readout.bright_hz * optics.cycling(shone, p)
                photons += rate_hz * pulse.duration_ps / 1e12
        return photons

    def _jolt(self, node: int) -> None:
        """Draw how far the Rabi frequency of this shot is off because the ion moves, in units of its spread."""
        self._jolts[node] = float(self._rng.standard_normal())
        self._calm_quanta[node] = self.motion[node].quanta

    def _rabi_scale(self, node: int) -> float:
        """Rabi frequency on 729 nm over that of calibration: spread by the motion, less once the ion has warmed up."""
        motion = self.motion[node]
        warmed = max(0.0, motion.quanta - self._calm_quanta[node])
        lost = self._p.preparation.lamb_dicke**2 * warmed
        return max(0.0, 1 + motion.rabi_spread() * self._jolts[node] - lost)


def meet(gate: OpenGate, pulse: PlayedPulse) -> bool:
    """Whether a gate is open while a pulse is on."""
    return (
        gate.start_ps < pulse.start_ps + pulse.duration_ps
        and gate.start_ps + gate.duration_ps > pulse.start_ps
    )


def lit(light: NodeLight, pulse: PlayedPulse, reading: Reading, node: int) -> NodeLight:
    """The node's light as a 397 nm pulse has it: its tone, and the repumper if it is on for most of the pulse."""
    tone = light.cool._replace(
        power=light.cool.power * pulse.amplitude**2, detuning_hz=light.cool.detuning_hz + pulse.frequency_hz
    )
    covered = reading.overlap_ps(node, "repump_866", pulse.start_ps, pulse.start_ps + pulse.duration_ps)
    if 2 * covered > pulse.duration_ps:
        return light._replace(cool=tone)
    return light._replace(cool=tone, repump=light.repump._replace(power=0.0))
