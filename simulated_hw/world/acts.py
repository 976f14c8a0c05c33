"""What acts on the ions in a segment, in order of time, and the times at which the noise of the field matters."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from labctl.sim.played import PlayedPulse
from simulated_hw.world.field_noise import FieldNoise, Steps
from simulated_hw.world.memory import Indices, Train
from simulated_hw.world.segments import NODES, Reading

ACTING = ("cool_397", "eit_397", "pump_397", "reset_854", "qubit_729", "excite_854", "raman_393")
"""Beams that do something to an ion by themselves; the repumper only helps."""
RAMAN = "raman_393"
ALWAYS = (2**62, 2**62)
"""Later than any pulse, for both nodes."""
REMEMBERED = 256
"""Plans and grids kept."""


class Act(NamedTuple):
    """One pulse on one ion, or a train of Raman pulses with nothing in between.

    start_ps, end_ps:  from the start of the segment
    first, last:       their places on the plan's grid
    """

    node: int
    beam: str
    start_ps: int
    end_ps: int
    first: int
    last: int
    pulse: PlayedPulse
    train: Train | None


class Plan(NamedTuple):
    """Acts in order of time, and the grid of all times at which one of them begins or ends, from ``begin_ps``."""

    acts: list[Act]
    begin_ps: int
    grid: Steps


class Plans:
    """Plans of the segments seen last."""

    def __init__(self, noise: FieldNoise) -> None:
        self._noise = noise
        self._known: dict[tuple[int, tuple[int, int], tuple[int, int]], tuple[Reading, Plan]] = {}
        self._grids: dict[tuple[int, ...], Steps] = {}

    def of(self, reading: Reading, after_ps: tuple[int, int], until_ps: tuple[int, int] = ALWAYS) -> Plan:
        """The plan of a segment; per node, pulses that start before ``after_ps`` or from ``until_ps`` on are left out."""
        key = (id(reading), after_ps, until_ps)
        known = self._known.get(key)
        if known is None or known[0] is not reading:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[key] = (reading, self._plan(reading, after_ps, until_ps))
        return known[1]

    def _plan(self, reading: Reading, after_ps: tuple[int, int], until_ps: tuple[int, int]) -> Plan:
        pulses = [
            pulse
            for node in (0, 1)
            for beam, played in reading.beams[node].items()
            if beam in ACTING
            for pulse in played
            if after_ps[node] <= pulse.start_ps < until_ps[node]
        ]
        keys = sorted((pulse.start_ps, pulse.line, index) for index, pulse in enumerate(pulses))
        starts = np.array([start for start, _, _ in keys], np.int64)
        pulses = [pulses[index] for _, _, index in keys]
        ends = starts + np.array([pulse.duration_ps for pulse in pulses], np.int64)
        edges = np.unique(np.concatenate([starts, ends])) if pulses else np.zeros(1, np.int64)
        first, last = np.searchsorted(edges, starts), np.searchsorted(edges, ends)
        groups: list[tuple[int, str, list[int]]] = []
        latest: dict[str, tuple[str, list[int]]] = {}
        for place, pulse in enumerate(pulses):
            name, _, beam = pulse.line.partition(".")
            before = latest.get(name)
            if beam == RAMAN and before is not None and before[0] == RAMAN:
                before[1].append(place)
            else:
                latest[name] = (beam, [place])
                groups.append((NODES.index(name), *latest[name]))
        acts = [
            Act(
                node,
                beam,
                int(starts[group[0]]),
                int(ends[group[-1]]),
                int(first[group[0]]),
                int(last[group[-1]]),
                pulses[group[0]],
                _train([pulses[place] for place in group], first[group], last[group])
                if beam == RAMAN
                else None,
            )
            for node, beam, group in groups
        ]
        return Plan(acts, int(edges[0]), self._grid(tuple((edges - edges[0]).tolist())))

    def _grid(self, after_ps: tuple[int, ...]) -> Steps:
        found = self._grids.get(after_ps)
        if found is None:
            if len(self._grids) >= REMEMBERED:
                self._grids.clear()
            found = self._grids[after_ps] = self._noise.steps(np.array(after_ps) / 1e12)
        return found


def _train(pulses: list[PlayedPulse], first: Indices, last: Indices) -> Train:
    numbers = np.array(
        [
            (pulse.start_ps, pulse.duration_ps, pulse.frequency_hz, pulse.phase_turns, pulse.amplitude)
            for pulse in pulses
        ]
    )
    start, duration, frequency, phase, amplitude = np.ascontiguousarray(numbers.T)
    return Train(first, last, start / 1e12, duration / 1e12, frequency, 2 * math.pi * phase, amplitude)
