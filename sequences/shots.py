"""What the shots of the calibrations have in common: prepared ions, a scanned step drawn at random, fluorescence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labctl.schedule.items import (
    Branch,
    Column,
    Draw,
    Gate,
    Item,
    Pulse,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    Wait,
)
from labctl.units import us
from sequences.link import NODES

TO_D52_M52_HZ_PER_T = -27.988e9
"""Shift of the qubit line S1/2 (m = -1/2) to D5/2 (m = -5/2) with the field (PHYSICS.md 1.1)."""
TO_D52_M12_HZ_PER_T = 5.612e9
"""Shift of the line to D5/2 (m = -1/2)."""
FIELD_T = 1.8e-4
"""Quantisation field at which the 729 nm laser is on the qubit line."""


def both(make: Callable[[str], Item]) -> Item:
    """The same on both nodes at once."""
    return Together(tuple(make(node) for node in NODES))


def beams(*names: str, duration: int) -> Item:
    """Beams of both nodes on for ``duration`` ps."""
    return Together(tuple(Pulse(f"{node}.{name}", duration) for node in NODES for name in names))


def prepare(pump: bool = True) -> Item:
    """Reset of D5/2, Doppler and EIT cooling, and optical pumping unless told not to: 315 us, or 295 us."""
    steps = [
        beams("reset_854", "repump_866", duration=25 * us),
        beams("cool_397", "repump_866", duration=150 * us),
        beams("eit_397", "repump_866", duration=120 * us),
    ]
    if pump:
        steps.append(beams("pump_397", "repump_866", duration=20 * us))
    return Series(tuple(steps), name="prepare")


def drive(
    node: str, duration: int, frequency_hz: float = 0.0, phase_turns: float = 0.0, amplitude: float = 1.0
) -> Item:
    """A 729 nm pulse on one ion; nothing for a length of 0."""
    line = f"{node}.qubit_729"
    if duration == 0:
        return Series(())
    tone = Tone(line, frequency_hz=frequency_hz, phase_turns=phase_turns % 1.0, amplitude=amplitude)
    return Series((tone, Pulse(line, duration)))


def padded(item: Item, duration: int) -> Item:
    """An item that takes at least ``duration`` ps."""
    return Together((item, Wait(duration))) if duration else item


def read(readout: int, threshold: int) -> Item:
    """Fluorescence of both ions."""
    return Together(
        (
            *(Pulse(f"{node}.{beam}", readout) for node in NODES for beam in ("cool_397", "repump_866")),
            Gate("alice.pmt", readout, "counts_a", threshold),
            Gate("bob.pmt", readout, "counts_b", threshold),
        ),
        name="readout",
    )


def scan(
    name: str,
    cases: Sequence[Item],
    point: str,
    arguments: Mapping[str, Any],
    *,
    readout: int,
    threshold: int,
    pump: bool = True,
    rest: int = 0,
    weights: tuple[float, ...] | None = None,
) -> Schedule:
    """A schedule of shots that prepare both ions, play one of ``cases`` at random, and read both out.

    The case is drawn anew for each shot, so that a drift does not look like the scanned thing. All cases take equal time.

    name:     of the schedule, and of its analysis
    point:    what the column ``point`` counts
    rest:     time before the next shot, ps
    weights:  how often each case is drawn; without them all alike
    """
    if len(cases) < 2:
        raise ValueError("a scan needs at least 2 points")
    body = Series(
        (
            prepare(pump),
            Draw("point", weights or (1.0,) * len(cases)),
            Branch("point", {str(index): case for index, case in enumerate(cases)}),
            read(readout, threshold),
            Report(RECORD),
            *((Wait(rest),) if rest else ()),
        ),
        name=name,
    )
    return Schedule(
        name,
        body,
        analysis=name,
        arguments={**arguments, "readout": readout, "threshold": threshold},
        columns={"point": Column("1", point), **COLUMNS},
        rounds="shot",
    )


RECORD = {
    "point": "point",
    "counts_a": "counts_a",
    "counts_b": "counts_b",
    "bright_a": "counts_a.bright",
    "bright_b": "counts_b.bright",
}

COLUMNS = {
    "counts_a": Column("1", "fluorescence counts of Alice's ion"),
    "counts_b": Column("1", "fluorescence counts of Bob's ion"),
    "bright_a": Column("1", "1 if Alice's ion was bright (S)"),
    "bright_b": Column("1", "1 if Bob's ion was bright (S)"),
}
