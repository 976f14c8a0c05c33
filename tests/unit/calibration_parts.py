"""Calibrations played on the simulated laboratory, and the figures that come out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from world_lab import laboratory

from labctl.analysis.value import Estimate
from labctl.core.program import lower
from labctl.core.sim import SimCore
from labctl.run.calibrations import CALIBRATIONS
from labctl.run.table import Rows, Table
from labctl.schedule.items import Schedule
from labctl.sim.played import Record
from simulated_hw.world.laboratory import Laboratory

QUIET = {
    "qubit.line_noise_hz": 0.0,
    "qubit.line_drift_hz": 0.0,
    **{f"tones.{node}.{tone}_hz": 0.0 for node in ("alice", "bob") for tone in ("first", "second", "third")},
    "alice.coupling_drift": 0.0,
    "bob.coupling_drift": 0.0,
}
"""A laboratory in which nothing wanders."""


@dataclass
class Taken:
    """A calibration run: its world as it was left, its records and its figures."""

    world: Laboratory
    schedule: Schedule
    rows: Rows
    values: dict[str, Estimate]

    def __getitem__(self, key: str) -> Estimate:
        return self.values[key]


def take(
    schedule: Schedule,
    shots: int,
    seed: int = 1,
    changes: dict[str, Any] | None = None,
    disturb: Callable[[Laboratory], None] | None = None,
    meanwhile: Callable[[Laboratory, float], None] | None = None,
) -> Taken:
    """Play a calibration on a simulated laboratory at its operating point, and analyse it.

    changes:    component values that differ from the shipped ones
    disturb:    what happens to the instruments before
    meanwhile:  what happens to them after each record, whose time in s it is told
    """
    world = laboratory(seed, changes)
    if disturb is not None:
        disturb(world)
    found: list[Record] = []

    def emit(record: Record) -> None:
        found.append(record)
        if meanwhile is not None:
            meanwhile(world, record.time_ps / 1e12)

    SimCore(world, world.lock, np.random.default_rng(seed)).run(lower(schedule), shots, emit)
    rows: Rows = [(record.number, record.time_ps, dict(record.values)) for record in found]
    made = CALIBRATIONS[schedule.analysis](Table(rows), schedule.arguments)
    assert made.panels and made.caption
    return Taken(world, schedule, rows, {result.key: result.value for result in made.results})


def agrees(found: Estimate, expected: float, sigmas: float = 3.5, within: float = math.inf) -> bool:
    """Whether an estimate is as close to what it should be as its error says, and its error is worth something."""
    assert found.standard_error <= within, f"{found} is too uncertain to say anything"
    return abs(found.value - expected) <= sigmas * found.standard_error
