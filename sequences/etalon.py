"""Etalon scan: transmission of each arm's filter against the frequency of the reference light."""

from __future__ import annotations

from labctl.schedule.items import Branch, Column, Draw, Item, Report, Schedule, Series
from labctl.units import ns, us
from sequences.converter import probe
from sequences.link import NODES


def etalon(
    points: int = 21, span_hz: float = 120e6, flight: int = 24_483 * ns, pulse: int = 60 * us
) -> Schedule:
    """Weak 393 nm reference light of scanned frequency through one arm, then through the other.

    points:   frequencies
    span_hz:  from the first to the last, around the light's nominal frequency
    flight:   time of flight to the midpoint, ps
    pulse:    of the reference light, ps
    """
    if points < 5:
        raise ValueError(f"a line needs at least 5 points, not {points}")
    frequencies = [span_hz * (k / (points - 1) - 0.5) for k in range(points)]
    cases: dict[str, Item] = {
        str(k): Series(tuple(probe(node, hz, flight, pulse) for node in NODES))
        for k, hz in enumerate(frequencies)
    }
    body = Series(
        (
            Draw("point", (1.0,) * points),
            Branch("point", cases),
            Report({"point": "point", "a0": "alice_0", "a1": "alice_1", "b0": "bob_0", "b1": "bob_1"}),
        ),
        name="etalon",
    )
    return Schedule(
        "etalon",
        body,
        analysis="etalon",
        arguments={"points": points, "frequencies_hz": frequencies, "pulse": pulse},
        columns=COLUMNS,
        rounds="shot",
    )


COLUMNS = {
    "point": Column("1", "number of the light's frequency"),
    "a0": Column("1", "clicks of detector 0 while Alice's light is on"),
    "a1": Column("1", "clicks of detector 1 while Alice's light is on"),
    "b0": Column("1", "clicks of detector 0 while Bob's light is on"),
    "b1": Column("1", "clicks of detector 1 while Bob's light is on"),
}
