"""An attempt played given its click pattern: what caused the clicks, when they came, and what becomes of the ions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from labctl.errors import ConfigError
from labctl.sim.played import Clicks, PlayedPulse
from simulated_hw.world.atoms import Atoms
from simulated_hw.world.attempt import Outlook
from simulated_hw.world.choice import choose
from simulated_hw.world.counters import ClickCounters
from simulated_hw.world.fibre_phase import ArmPhase
from simulated_hw.world.light import NodeLight
from simulated_hw.world.parts import Tagger
from simulated_hw.world.segments import Reading
from simulated_hw.world.two_rounds import TwoRounds

MARKER = 2
"""Input of the time tagger that has the start marker."""
ChoiceT = TypeVar("ChoiceT")


class AttemptPlay:
    """Draws clicks, counts and tags them, and hands the ions their state.

    rng:       of clicks
    jitter_s:  of the detectors
    """

    def __init__(
        self,
        rng: np.random.Generator,
        jitter_s: float,
        phase: ArmPhase,
        atoms: Atoms,
        counters: ClickCounters,
        tagger: Tagger,
    ) -> None:
        self._rng = rng
        self._jitter_s = jitter_s
        self._phase = phase
        self._atoms = atoms
        self._counters = counters
        self._tagger = tagger

    def given(
        self,
        reading: Reading,
        outlook: Outlook | TwoRounds,
        pattern: str,
        start_ps: int,
        lights: tuple[NodeLight, NodeLight],
    ) -> dict[str, Clicks]:
        """Clicks by register; the ions are left in the state that follows."""
        clicks: dict[str, Clicks] = {}
        if isinstance(outlook, TwoRounds):
            self._two_rounds(reading, outlook, pattern, start_ps, lights, clicks)
        else:
            self._one_round(reading, outlook, pattern, start_ps, lights, clicks)
        self._atoms.shine([(reading, 1)], lights)
        return clicks

    def _one_round(
        self,
        reading: Reading,
        outlook: Outlook,
        pattern: str,
        start_ps: int,
        lights: tuple[NodeLight, NodeLight],
        clicks: dict[str, Clicks],
    ) -> None:
        way = self._cause(reading, pattern, outlook.causes(pattern), outlook.way_probability)
        seen_ps = self._see(outlook, pattern, way, start_ps, clicks)
        self._mark(reading, start_ps)
        ready = [
            pulses[0].start_ps + pulses[0].duration_ps if pulses else 0 for pulses in _excitations(reading)
        ]
        self._atoms.herald(
            outlook.state(way, self._phase.photon(start_ps + seen_ps)),
            (start_ps + ready[0], start_ps + ready[1]),
            lights,
        )
        self._atoms.evolve(reading, start_ps, lights, (ready[0], ready[1]))

    def _two_rounds(
        self,
        reading: Reading,
        outlook: TwoRounds,
        pattern: str,
        start_ps: int,
        lights: tuple[NodeLight, NodeLight],
        clicks: dict[str, Clicks],
    ) -> None:
        """What the first click leaves, pulses and noise until the second excitation, and what its click leaves of that."""
        ways = self._cause(reading, pattern, outlook.causes(pattern), outlook.way_probability)
        phases: list[float] = []
        for one, places, way in zip(outlook.rounds, outlook.places, ways, strict=True):
            seen_ps = self._see(one, "".join(pattern[place] for place in places), way, start_ps, clicks)
            phases.append(self._phase.photon(start_ps + seen_ps))
        self._mark(reading, start_ps)
        (first_a, first_b), ((begin_a, end_a), (begin_b, end_b)) = outlook.pulses_ps
        ready = first_a[1], first_b[1]
        self._atoms.herald(
            outlook.after_first(ways, phases[0]), (start_ps + ready[0], start_ps + ready[1]), lights
        )
        self._atoms.evolve(reading, start_ps, lights, ready, (begin_a, begin_b))
        self._atoms.emit(
            start_ps + max(begin_a, begin_b), lambda state: outlook.after_second(state, ways, phases[1])
        )
        self._atoms.evolve(reading, start_ps, lights, (end_a, end_b))

    def _cause(
        self,
        reading: Reading,
        pattern: str,
        ways: Sequence[ChoiceT],
        chance_of: Callable[[ChoiceT], float],
    ) -> ChoiceT:
        """One of the ways in which a pattern can come about."""
        if len(ways) == 1:
            return ways[0]
        chances = [chance_of(way) for way in ways]
        if not math.fsum(chances) > 0:
            raise ConfigError(f"segment {reading.segment.name!r}: pattern {pattern!r} cannot happen now")
        return choose(self._rng, ways, chances)

    def _see(
        self, outlook: Outlook, pattern: str, way: tuple[int, int], start_ps: int, clicks: dict[str, Clicks]
    ) -> int:
        """Clicks of the gates of one excitation, counted and tagged; when the photon was seen, ps after the attempt's start."""
        seen_ps = [gate.start_ps + gate.duration_ps for _, gate in outlook.gates]
        for (detector, gate), digit in zip(outlook.gates, pattern, strict=True):
            clicks[gate.into] = Clicks(0)
            if digit == "1":
                time = outlook.click_time_ps(detector, way[detector], self._jitter_s, self._rng)
                clicks[gate.into] = Clicks(1, time)
                seen_ps.insert(0, gate.start_ps + time)
                self._counters.add(detector, 1)
                self._tagger.record(start_ps + gate.start_ps + time, detector)
        return seen_ps[0]

    def _mark(self, reading: Reading, start_ps: int) -> None:
        """Start marker on the tagger: the first 854 nm pulse of the attempt."""
        self._counters.add(MARKER, 1)
        self._tagger.record(start_ps + marked_ps(reading), MARKER)


def marked_ps(reading: Reading) -> int:
    """When an attempt is marked, ps after its start."""
    return min(pulses[0].start_ps for pulses in _excitations(reading) if pulses)


def _excitations(reading: Reading) -> list[list[PlayedPulse]]:
    return [beams.get("excite_854", []) for beams in reading.beams]
