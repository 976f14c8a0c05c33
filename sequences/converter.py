"""Photon converters: efficiency of each arm from converter input to click, and clicks with no light."""

from __future__ import annotations

from labctl.schedule.items import Column, Gate, Item, Pulse, Report, Schedule, Series, Together, Tone, Wait
from labctl.units import ms, ns, us
from sequences.link import NODES


def converter(
    flight: int = 24_483 * ns,
    pulse: int = 60 * us,
    dark: int = 10 * ms,
    input_photons_hz: float = 3.58e6,
    frequency_hz: float = 0.0,
    dead_s: float = 50e-9,
) -> Schedule:
    """Weak 393 nm reference light through one arm, then through the other, then through none.

    flight:            time of flight to the midpoint, ps
    pulse:             of the reference light, ps
    dark:              length of the gate with no light, ps
    input_photons_hz:  reference photons per second at each converter's input, from its power meter
    frequency_hz:      offset of the light, Hz
    dead_s:            dead time of the detectors, s, which the efficiency is corrected for
    """
    body = Series(
        (
            *(probe(node, frequency_hz, flight, pulse) for node in NODES),
            Together(tuple(Gate(f"charlie.snspd_{d}", dark, f"dark_{d}") for d in (0, 1)), name="dark"),
            Report(RECORD),
        ),
        name="converter",
    )
    return Schedule(
        "converter",
        body,
        analysis="converter",
        arguments={"pulse": pulse, "dark": dark, "input_photons_hz": input_photons_hz, "dead_s": dead_s},
        columns=COLUMNS,
        rounds="shot",
    )


def probe(node: str, frequency_hz: float, flight: int, pulse: int) -> Item:
    """Light of one node and the gates it arrives in; 2 ms, so that the light's duty stays small."""
    line = f"{node}.reference_393"
    light = Series(
        (Tone(line, frequency_hz=frequency_hz, phase_turns=0.0, amplitude=1.0), Pulse(line, pulse))
    )
    gates = Series(
        (
            Wait(flight),
            Together(tuple(Gate(f"charlie.snspd_{d}", pulse, f"{node}_{d}") for d in (0, 1))),
        )
    )
    return Together((light, gates, Wait(2 * ms)), name=f"light_of_{node}")


RECORD = {
    "a0": "alice_0",
    "a1": "alice_1",
    "b0": "bob_0",
    "b1": "bob_1",
    "n0": "dark_0",
    "n1": "dark_1",
}

COLUMNS = {
    "a0": Column("1", "clicks of detector 0 while Alice's light is on"),
    "a1": Column("1", "clicks of detector 1 while Alice's light is on"),
    "b0": Column("1", "clicks of detector 0 while Bob's light is on"),
    "b1": Column("1", "clicks of detector 1 while Bob's light is on"),
    "n0": Column("1", "clicks of detector 0 with no light"),
    "n1": Column("1", "clicks of detector 1 with no light"),
}
