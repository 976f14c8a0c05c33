"""Noise of the link: clicks of both detectors with nothing sent, so dark counts and light of the photon converters.

One shot: the ions are cooled, then everything is dark while both detectors are open.
"""

from __future__ import annotations

from labctl.schedule.items import Column, Gate, Pulse, Report, Schedule, Series, Together, Wait
from labctl.units import s, us
from sequences.link import NODES


def noise(gate: int = 1 * s, cool: int = 150 * us, dark: int = 100 * us) -> Schedule:
    """One gate in the dark.

    gate:  how long both detectors are open, ps
    cool:  Doppler cooling before it, ps
    dark:  from the end of cooling to the opening of the gate, ps: longer than the light's flight to the midpoint
    """
    body = Series(
        (
            Together(
                tuple(Pulse(f"{node}.{beam}", cool) for node in NODES for beam in ("cool_397", "repump_866")),
                name="cooling",
            ),
            Wait(dark),
            Together(tuple(Gate(f"charlie.snspd_{d}", gate, f"dark_{d}") for d in (0, 1)), name="dark"),
            Report({"n0": "dark_0", "n1": "dark_1"}),
        ),
        name="noise",
    )
    return Schedule(
        "noise",
        body,
        analysis="noise",
        arguments={"gate": gate, "cool": cool, "dark": dark},
        columns={
            "n0": Column("1", "clicks of detector 0 in the gate"),
            "n1": Column("1", "clicks of detector 1 in the gate"),
        },
        rounds="shot",
    )
