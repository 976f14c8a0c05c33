"""Runners over a core without physics, for tests of what surrounds the data."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fake_world import FakeWorld

from labctl.core.session import CoreSession
from labctl.core.sim import SimCore
from labctl.run.runner import Runner
from labctl.schedule.items import Column, Gate, Report, Schedule, Series, Together
from labctl.units import ms, us

SHOT = Schedule(
    "shot",
    Series(
        (
            Together((Gate("snspd_0", 1 * ms, "n0"), Gate("snspd_1", 1 * ms, "n1"))),
            Report({"n0": "n0", "n1": "n1"}),
            Gate("snspd_0", 10 * us, "rest"),
        )
    ),
    analysis="noise",
    arguments={"gate": 1 * ms},
    columns={"n0": Column("1", "clicks of detector 0"), "n1": Column("1", "clicks of detector 1")},
    rounds="shot",
)
"""Counts for 1 ms, then something else for 10 us."""


def fast_core(
    seed: int = 1, capacity: int = 1000, clicks: Callable[[str, int], int] | None = None
) -> CoreSession:
    """A core whose counts tell the time."""
    world = FakeWorld([(0, {})], clicks=clicks or (lambda register, start: start // ms % 1000))
    return CoreSession(SimCore(world, threading.Lock(), np.random.default_rng(seed)), capacity)


def runner(runs: Path, core: Any = None, **more: Any) -> Runner:
    """A runner into ``runs``; this repository is the lab folder."""
    return Runner(core or fast_core(), runs, Path(__file__).parents[2], {"name": "test"}, **more)
