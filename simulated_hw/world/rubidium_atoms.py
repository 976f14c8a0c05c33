"""The two rubidium atoms through a played segment: microwaves turn them, light pumps, cools, blows away and shows them.

Levels, in the words of ion.IonPair: D is the clock state of F = 1 in which an atom is prepared, S that of F = 2 which
emits; B stands for the other states of F = 2 and X for those of F = 1. The blow-away light removes S and B.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from labctl.sim.played import Clicks, OpenGate, PlayedPulse
from simulated_hw.world import ion
from simulated_hw.world.phase import Wander
from simulated_hw.world.rubidium_parameters import Parameters, Qubit
from simulated_hw.world.rubidium_scene import NodeNow
from simulated_hw.world.rubidium_trap import TrappedAtom, counted, reaches
from simulated_hw.world.segments import MEMORY, NODES, Reading

ACTING = ("microwave", "pump_795", "blow_780", "cool_780", "mot_780", "excite_420")
PS_PER_S = 1e12
Nodes = tuple[NodeNow, NodeNow]
Act = tuple[int, int, str, PlayedPulse]
"""Start, ps; node, beam and pulse."""


class ClockLine:
    """Frequency of a node's clock line: Ornstein-Uhlenbeck noise."""

    def __init__(self, rng: np.random.Generator, qubit: Qubit) -> None:
        self._noise = Wander(rng, qubit.line_noise_hz, qubit.line_noise_time_s)
        self._time_ps = 0

    def cycles(self, start_ps: int, span_ps: int) -> float:
        """∫ offset dt over a stretch of time, in cycles; stretches come in order of time."""
        if start_ps > self._time_ps:
            self._noise.step((start_ps - self._time_ps) / PS_PER_S)
        self._time_ps = start_ps + span_ps
        return self._noise.advance(span_ps / PS_PER_S)


class RubidiumAtoms:
    """The atoms of both nodes: in their traps or not, and their joint internal state."""

    def __init__(self, parameters: Parameters, rng: Callable[[str], np.random.Generator]) -> None:
        self._p = parameters
        self._rng = rng("atoms")
        self.pair = ion.IonPair()
        self.trap = [TrappedAtom(parameters, rng(f"{name}.trap")) for name in NODES]
        self._line = [ClockLine(rng(f"{name}.line"), parameters.qubit) for name in NODES]
        self._time_ps = [0, 0]
        self._acts: dict[int, tuple[Reading, list[Act]]] = {}

    @property
    def present(self) -> tuple[bool, bool]:
        """Which nodes have their atom."""
        return self.trap[0].present, self.trap[1].present

    def pass_time(self, span_s: float, attempts: int, risks: tuple[float, float], nodes: Nodes) -> None:
        """Time in which nobody looked, with so many attempts of these risks."""
        for trap, risk, now in zip(self.trap, risks, nodes, strict=True):
            trap.pass_time(span_s, attempts, risk, now.light.trap)

    def herald(self, state: ion.State, ready_ps: tuple[int, int]) -> None:
        """An attempt has prepared the atoms anew and left them in ``state`` at ``ready_ps``."""
        self.pair.set(state)
        self._time_ps[:] = ready_ps

    def evolve(
        self, reading: Reading, start_ps: int, nodes: Nodes, after_ps: tuple[int, int] = (-1, -1)
    ) -> dict[str, Clicks]:
        """Play a segment's pulses from ``start_ps``; counts of its counter gates by register.

        after_ps:  per node, pulses that start before this time of the segment are left out
        """
        dark_hz = self._p.readout.dark_hz
        means = {gate.into: dark_hz * gate.duration_ps / PS_PER_S for _, gate in reading.counter_gates}
        for begin_ps, node, beam, pulse in self._sorted(reading):
            if begin_ps >= after_ps[node]:
                self._act(node, beam, pulse, reading, start_ps, nodes[node], means)
        return {register: Clicks(int(self._rng.poisson(mean))) for register, mean in means.items()}

    def _sorted(self, reading: Reading) -> list[Act]:
        """What acts on the atoms, in order of time; remembered."""
        known = self._acts.get(id(reading))
        if known is None or known[0] is not reading:
            if len(self._acts) >= MEMORY:
                self._acts.clear()
            acts = [
                (pulse.start_ps, node, beam, pulse)
                for node in (0, 1)
                for beam, pulses in reading.beams[node].items()
                if beam in ACTING
                for pulse in pulses
            ]
            acts.sort(key=lambda act: act[:3])
            known = self._acts[id(reading)] = (reading, acts)
        return known[1]

    def _act(
        self,
        node: int,
        beam: str,
        pulse: PlayedPulse,
        reading: Reading,
        start_ps: int,
        now: NodeNow,
        means: dict[str, float],
    ) -> None:
        trap, span_s = self.trap[node], pulse.duration_ps / PS_PER_S
        if beam in ("cool_780", "mot_780"):
            gates = [gate for number, gate in reading.counter_gates if number == node]
            caught = -math.expm1(-now.loading_hz * span_s) if beam == "mot_780" else 0.0
            if not trap.present and self._rng.random() < caught:
                trap.catch()
            for gate in gates:
                means[gate.into] += now.counts_hz(beam, trap.present) * _shared_s(gate, pulse)
            trap.cool(span_s, now.cooled_k)
        elif not trap.present:
            return
        elif beam == "microwave":
            self._idle(node, start_ps + pulse.start_ps)
            self._rotate(node, pulse, start_ps, now)
            self._time_ps[node] = start_ps + pulse.start_ps + pulse.duration_ps
        elif beam == "pump_795":
            share = -math.expm1(-now.pump_rate * span_s)
            self.pair.apply(node, pump(share, self._p.preparation.pump_error))
            self._time_ps[node] = start_ps + pulse.start_ps + pulse.duration_ps
        elif beam == "blow_780":
            self._blow(node, span_s, now)
        else:  # an excitation that nobody watches: the bright state's coherence is gone
            self.pair.apply(node, scatter())

    def _blow(self, node: int, span_s: float, now: NodeNow) -> None:
        """Project the atom; blow it away if it is in F = 2."""
        r = self._p.readout
        if self.pair.measure(node, self._rng):
            gone = (1 - r.blow_kept) * -math.expm1(-span_s * now.fluorescence / r.blow_time_s)
        else:
            gone = 1 - (1 - r.blow_lost) ** (span_s * now.fluorescence / r.blow_s)
        if self._rng.random() < gone:
            self.trap[node].lose()

    def _rotate(self, node: int, pulse: PlayedPulse, start_ps: int, now: NodeNow) -> None:
        q, microwave = self._p.qubit, now.light.microwave
        span_s = pulse.duration_ps / PS_PER_S
        begin_ps = start_ps + pulse.start_ps
        tone_hz = pulse.frequency_hz + microwave.detuning_hz
        line_hz = self._line[node].cycles(begin_ps, pulse.duration_ps) / span_s
        rabi = math.pi / q.pi_time_s * pulse.amplitude * math.sqrt(microwave.power)
        unitary = ion.pulse(
            rabi,
            span_s,
            2 * math.pi * pulse.phase_turns,
            line_hz - tone_hz,
            math.fmod(tone_hz * (begin_ps / PS_PER_S), 1.0),
            tone_hz,
        )
        error = min(1.0, 2 * q.pi_infidelity * rabi * span_s / math.pi)
        self.pair.apply(node, ion.depolarise(error) @ ion.rotation(unitary))

    def _idle(self, node: int, time_ps: int) -> None:
        """Free evolution of one atom until ``time_ps``."""
        span_ps = time_ps - self._time_ps[node]
        if span_ps > 0:
            cycles = self._line[node].cycles(self._time_ps[node], span_ps)
            self.pair.apply(node, ion.idle(2 * math.pi * math.fmod(cycles, 1.0), 0.0))
            self._time_ps[node] = time_ps

    # polls for an atom
    def poll_chances(self, reading: Reading, nodes: Nodes) -> list[tuple[float, float]]:
        """For each counter gate: chances that it reaches its threshold, and that it does so with an atom just caught."""
        return [
            self._poll(number, gate, reading, nodes[number])[1:] for number, gate in reading.counter_gates
        ]

    def poll_given(self, reading: Reading, pattern: str, nodes: Nodes) -> dict[str, Clicks]:
        """Counts of a poll whose gates did or did not reach their thresholds; who was caught is there now."""
        clicks: dict[str, Clicks] = {}
        for (node, gate), digit in zip(reading.counter_gates, pattern, strict=True):
            means, chance, fresh = self._poll(node, gate, reading, nodes[node])
            if digit == "1" and not self.trap[node].present and self._rng.random() * chance < fresh:
                self.trap[node].catch()
            mean = means[int(self.trap[node].present)]
            clicks[gate.into] = Clicks(counted(mean, gate.threshold, digit == "1", self._rng))
        return clicks

    def _poll(
        self, node: int, gate: OpenGate, reading: Reading, now: NodeNow
    ) -> tuple[tuple[float, float], float, float]:
        """Mean counts without and with an atom; chance to reach the threshold; part of it with an atom just caught.

        An atom caught within the poll is taken to be there from its start.
        """
        without = with_atom = self._p.readout.dark_hz * gate.duration_ps / PS_PER_S
        caught = 0.0
        for beam in ("mot_780", "cool_780"):
            for pulse in reading.beams[node].get(beam, ()):
                shared_s = _shared_s(gate, pulse)
                without += now.counts_hz(beam, False) * shared_s
                with_atom += now.counts_hz(beam, True) * shared_s
                if beam == "mot_780":
                    caught = -math.expm1(-now.loading_hz * pulse.duration_ps / PS_PER_S)
        seen = reaches(with_atom, gate.threshold)
        if self.trap[node].present:
            return (without, with_atom), seen, 0.0
        fresh = caught * seen
        return (without, with_atom), fresh + (1 - caught) * reaches(without, gate.threshold), fresh


def pump(share: float, error: float) -> ion.State:
    """Optical pumping: a share of everything goes to D, but for ``error`` of it, half each to the other states."""
    channel = np.zeros((ion.ELEMENTS, ion.ELEMENTS), complex)
    for level in (ion.S, ion.D, ion.B, ion.X):
        channel[level, level] += 1 - share
        channel[ion.D, level] += share * (1 - error)
        channel[ion.B, level] += share * error / 2
        channel[ion.X, level] += share * error / 2
    return channel


def scatter() -> ion.State:
    """Light on the bright state: its coherence is gone."""
    channel = np.eye(ion.ELEMENTS, dtype=complex)
    channel[ion.SD, ion.SD] = channel[ion.DS, ion.DS] = 0
    return channel


def _shared_s(gate: OpenGate, pulse: PlayedPulse) -> float:
    """How long a gate is open while a pulse is on."""
    end = min(gate.start_ps + gate.duration_ps, pulse.start_ps + pulse.duration_ps)
    return max(0, end - max(gate.start_ps, pulse.start_ps)) / PS_PER_S
