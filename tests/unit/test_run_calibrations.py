"""Calibrations in a run's report: every one has figures and a picture, and a run of a few shots breaks nothing."""

import importlib

import numpy as np
import pytest
from world_lab import laboratory

from labctl.core.program import lower
from labctl.core.sim import SimCore
from labctl.run.calibrations import CALIBRATIONS
from labctl.run.figures import figures
from labctl.run.results import results
from labctl.run.table import Rows
from labctl.schedule.items import Schedule

SHOTS = {
    "rabi": 60,
    "ramsey": 60,
    "drift": 200,
    "lines_729": 60,
    "readout": 30,
    "pumping": 240,
    "excitation": 120,
    "balance": 4,
    "arrival": 30,
    "delay": 12,
    "converter": 5,
    "etalon": 30,
}
"""Shots with which a calibration says something."""


def played(name: str, shots: int) -> tuple[Schedule, Rows]:
    schedule: Schedule = getattr(importlib.import_module(f"sequences.{name}"), name)()
    assert schedule.analysis == name
    world = laboratory(5)
    rows: Rows = []
    SimCore(world, world.lock, np.random.default_rng(5)).run(
        lower(schedule),
        shots,
        lambda record: rows.append((record.number, record.time_ps, dict(record.values))),
    )
    return schedule, rows


@pytest.mark.parametrize("name", SHOTS)
def test_a_calibration_has_figures_and_a_picture_once_it_has_enough_shots(name: str) -> None:
    assert name in CALIBRATIONS
    schedule, rows = played(name, SHOTS[name])
    for few in (1, 2, 4):
        results(name, rows[:few], schedule.arguments)  # nothing, or wide errors: no exception
    found = results(name, rows, schedule.arguments)
    assert found
    keys = [one.key for one in found]
    assert len(set(keys)) == len(keys)
    assert all(one.label for one in found)
    assert all(np.isfinite(one.value.value) for one in found)


@pytest.mark.parametrize("name", ["rabi", "readout", "converter"])
def test_the_picture_shows_points_and_fit(name: str) -> None:
    schedule, rows = played(name, 60)
    ((caption, svg),) = figures(name, rows, schedule.arguments)
    assert caption.endswith(".")
    assert svg.startswith("<svg") and svg.count("<path") > 20
    assert figures(name, rows[:1], schedule.arguments) == []


def test_a_converter_in_the_dark_is_drawn_too() -> None:
    schedule, rows = played("converter", 5)
    dark = [(number, time_ps, dict.fromkeys(values, 0)) for number, time_ps, values in rows]
    found = {one.key: one.value for one in results("converter", dark, schedule.arguments)}
    assert found["efficiency_a"].value == 0.0
    assert found["efficiency_a"].standard_error > 0
    assert len(figures("converter", dark, schedule.arguments)) == 1
