"""What acts on the ions in a segment, in order of time, and the times at which the noise of the field matters."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from labctl.sim.played import PlayedPulse
from simulated_hw.world.field_noise import FieldNoise, Steps
from simulated_hw.world.memory import Train
from simulated_hw.world.segments import Reading

ACTING = ("cool_397", "eit_397", "pump_397", "reset_854", "qubit_729", "excite_854", "raman_393")
"""Beams that do something to an ion by themselves; the repumper only helps."""
RAMAN = "raman_393"
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
        self._known: dict[tuple[int, tuple[int, int]], tuple[Reading, Plan]] = {}
        self._grids: dict[tuple[int, ...], Steps] = {}

    def of(self, reading: Reading, after_ps: tuple[int, int]) -> Plan:
        """The plan of a segment; per node, pulses that start before ``after_ps`` are left out."""
        key = (id(reading), after_ps)
        known = self._known.get(key)
        if known is None or known[0] is not reading:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[key] = (reading, self._plan(reading, after_ps))
        return known[1]

    def _plan(self, reading: Reading, after_ps: tuple[int, int]) -> Plan:
        pulses = [
            (pulse.start_ps, node, beam, pulse)
            for node in (0, 1)
            for beam, played in reading.beams[node].items()
            if beam in ACTING
            for pulse in played
            if pulse.start_ps >= after_ps[node]
        ]
        pulses.sort(key=lambda one: one[:3])
        edges = sorted(
            {start for start, *_ in pulses} | {p.start_ps + p.duration_ps for *_, p in pulses} or {0}
        )
        place = {edge: index for index, edge in enumerate(edges)}
        groups: list[tuple[int, str, list[PlayedPulse]]] = []
        latest: dict[int, tuple[str, list[PlayedPulse]]] = {}
        for _, node, beam, pulse in pulses:
            before = latest.get(node)
            if beam == RAMAN and before is not None and before[0] == RAMAN:
                before[1].append(pulse)
            else:
                latest[node] = (beam, [pulse])
                groups.append((node, *latest[node]))
        return Plan([_act(*group, place) for group in groups], edges[0], self._grid(edges))

    def _grid(self, edges_ps: list[int]) -> Steps:
        after = tuple(edge - edges_ps[0] for edge in edges_ps)
        found = self._grids.get(after)
        if found is None:
            if len(self._grids) >= REMEMBERED:
                self._grids.clear()
            found = self._grids[after] = self._noise.steps(np.array(after) / 1e12)
        return found


def _act(node: int, beam: str, pulses: list[PlayedPulse], place: dict[int, int]) -> Act:
    start, end = pulses[0].start_ps, pulses[-1].start_ps + pulses[-1].duration_ps
    train = _train(pulses, place) if beam == RAMAN else None
    return Act(node, beam, start, end, place[start], place[end], pulses[0], train)


def _train(pulses: list[PlayedPulse], place: dict[int, int]) -> Train:
    begin = np.array([pulse.start_ps for pulse in pulses])
    span = np.array([pulse.duration_ps for pulse in pulses])
    return Train(
        np.array([place[pulse.start_ps] for pulse in pulses], np.int64),
        np.array([place[pulse.start_ps + pulse.duration_ps] for pulse in pulses], np.int64),
        begin / 1e12,
        span / 1e12,
        np.array([pulse.frequency_hz for pulse in pulses]),
        2 * math.pi * np.array([pulse.phase_turns for pulse in pulses]),
        np.array([pulse.amplitude for pulse in pulses]),
    )
