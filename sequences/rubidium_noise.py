"""Noise of the rubidium link's detectors: both gates open with converters pumped and no light from the atoms."""

from __future__ import annotations

from labctl.schedule.items import Column, Gate, Report, Schedule, Series, Together, Wait
from labctl.units import ms, us


def noise(gate: int = 500 * ms) -> Schedule:
    """One shot: both detectors open for ``gate`` ps."""
    body = Series(
        (
            Together(tuple(Gate(f"charlie.snspd_{d}", gate, f"n{d}") for d in (0, 1))),
            Wait(10 * us),
            Report({"n0": "n0", "n1": "n1"}),
        ),
        name="noise",
    )
    columns = {f"n{d}": Column("1", f"clicks of detector {d}") for d in (0, 1)}
    return Schedule("noise", body, analysis="noise", arguments={"gate": gate}, columns=columns, rounds="shot")
