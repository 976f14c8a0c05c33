"""Buffered waveforms of a simulated card as what the world plays: done when the clock that all of them wait for starts.

What the world answers is known at once and handed out as time passes: clicks between two edges of the strobe are spread
evenly at random between them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labctl.sim.played import OpenGate, PlayedPulse, Segment
from simulated_hw.ni_daqmx_card import Floats, Periodic
from simulated_hw.world.card_wiring import Sequencer

if TYPE_CHECKING:
    from simulated_hw.ni_daqmx_tasks import Task

HIGH_V = 0.5
"""Between the two levels that a digital line is kept as."""


def perform(sequencer: Sequencer, clock: Task) -> None:
    """The world plays what waits for a finite clock; the clicks are the card's ``planned`` edges."""
    card, ticks = clock.card, clock.clock
    rate_hz = clock.channels[0].frequency_hz
    limit = None if clock.timing is None or not clock.timing.finite else clock.timing.samples
    if limit is None or not isinstance(ticks, Periodic):
        return
    waiting = [
        task for task in card.running if task.timing is not None and task.timing.source == clock.exports
    ]
    begin_s = ticks.start_s
    tick_ps = round(1e12 / rate_hz)
    rows = _rows(waiting, limit)
    volts = {sequencer.phases[name]: row for name, row in rows.items() if name in sequencer.phases}
    phases = {line: row / per_turn for (line, per_turn), row in volts.items()}
    pulses = [
        pulse
        for name, row in rows.items()
        if name in sequencer.lines
        for pulse in _pulses(sequencer.lines[name], row, phases.get(sequencer.lines[name]), tick_ps)
    ]
    strobes = {
        terminal: np.flatnonzero(np.diff((rows[name] > HIGH_V).astype(np.int8), prepend=0) == 1)
        for name, terminal in sequencer.jumpers.items()
        if name in rows
    }
    for terminal, edges in strobes.items():
        card.planned[terminal] = begin_s + edges / rate_hz
    gates = _gates(sequencer, card.running, strobes, tick_ps)
    pulses.sort(key=lambda pulse: pulse.start_ps)
    every = tuple(gate for found in gates.values() for gate in found)
    segment = Segment(tuple(pulses), tuple(sorted(every, key=lambda gate: gate.start_ps)), limit * tick_ps)
    counted = sequencer.play(segment, round(begin_s * 1e12))
    for terminal, found in gates.items():
        times = [_spread(gate, counted[gate.into].count, card.rng) for gate in found]
        card.planned[terminal] = begin_s + np.sort(np.concatenate(times)) if times else np.empty(0)


def _rows(tasks: list[Task], samples: int) -> dict[str, Floats]:
    """Samples of every output of the tasks, by its name on the card; a buffer that is too short begins again."""
    rows: dict[str, Floats] = {}
    for task in tasks:
        if task.kind not in ("ao", "do") or task.written is None:
            continue
        names = [name for channel in task.channels for name in channel.physical]
        turns = -(-samples // task.written.shape[1])
        for name, row in zip(names, np.tile(task.written, turns)[:, :samples], strict=True):
            rows[name] = row
    return rows


def _pulses(line: str, row: Floats, phase: Floats | None, tick_ps: int) -> list[PlayedPulse]:
    """The stretches in which a line is high, cut where its phase changes."""
    on = row > HIGH_V
    changed = np.diff(on, prepend=False)
    if phase is not None:
        changed[1:] |= np.diff(phase) != 0
    places = [*np.flatnonzero(changed).tolist(), len(row)]
    return [
        PlayedPulse(
            line,
            begin * tick_ps,
            (end - begin) * tick_ps,
            0.0,
            0.0 if phase is None else float(phase[begin]),
            1.0,
        )
        for begin, end in pairwise(places)
        if on[begin]
    ]


def _gates(
    sequencer: Sequencer, tasks: list[Task], strobes: dict[str, NDArray[np.int64]], tick_ps: int
) -> dict[str, list[OpenGate]]:
    """For each counted terminal a gate between any two strobes that follow each other."""
    found: dict[str, list[OpenGate]] = {}
    for task in tasks:
        terminal = task.channels[0].terminal if task.kind == "ci" else ""
        if task.timing is None or task.timing.source not in strobes or terminal not in sequencer.detectors:
            continue
        edges = strobes[task.timing.source].tolist()
        found[terminal] = [
            OpenGate(
                sequencer.detectors[terminal], begin * tick_ps, (end - begin) * tick_ps, f"{terminal}/{k}"
            )
            for k, (begin, end) in enumerate(pairwise(edges))
        ]
    return found


def _spread(gate: OpenGate, count: int, rng: np.random.Generator) -> Floats:
    """Times of a gate's clicks from the start of the segment, s; none at its very ends, where the counter latches."""
    margin = 1e-3
    return (gate.start_ps + gate.duration_ps * rng.uniform(margin, 1 - margin, count)) / 1e12
