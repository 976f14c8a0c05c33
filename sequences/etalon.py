"""Etalon scan: transmission of each arm's filter against the frequency of the reference light."""

from __future__ import annotations

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
from labctl.units import ms, ns, us
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
    cases = {str(k): _tones(hz) for k, hz in enumerate(frequencies)}
    body = Series(
        (
            Draw("point", (1.0,) * points),
            Branch("point", cases),
            *(_probe(node, flight, pulse) for node in NODES),
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


def _tones(frequency_hz: float) -> Item:
    """The frequency of both nodes' reference light."""
    lines = (f"{node}.reference_393" for node in NODES)
    return Series(
        tuple(Tone(line, frequency_hz=frequency_hz, phase_turns=0.0, amplitude=1.0) for line in lines)
    )


def _probe(node: str, flight: int, pulse: int) -> Item:
    """Light of one node and the gates it arrives in; 2 ms, so that the light's duty stays small."""
    gates = Together(tuple(Gate(f"charlie.snspd_{d}", pulse, f"{node}_{d}") for d in (0, 1)))
    light = Pulse(f"{node}.reference_393", pulse)
    return Together((light, Series((Wait(flight), gates)), Wait(2 * ms)), name=f"light_of_{node}")


COLUMNS = {
    "point": Column("1", "number of the light's frequency"),
    "a0": Column("1", "clicks of detector 0 while Alice's light is on"),
    "a1": Column("1", "clicks of detector 1 while Alice's light is on"),
    "b0": Column("1", "clicks of detector 0 while Bob's light is on"),
    "b1": Column("1", "clicks of detector 1 while Bob's light is on"),
}
