"""What a line of a real-time core can do: its limits, as data."""

from __future__ import annotations

from typing import Literal

import msgspec


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One output or input of a real-time core.

    direction:         "out" (a pulse turns it on) or "in" (a gate opens it)
    kind:              "switch", "tone" (a DDS behind a switch: takes Tone), "detector", or "trigger" (an input whose
                       edges a LineTrigger waits for, e.g. of the mains)
    grid_ps:           times must be multiples of this
    shortest_ps:       shortest pulse or gate
    dead_ps:           shortest time off between two pulses; pulses that touch keep the line on and are fine
    duty:              largest share of time on, 0 to 1: of each block and loop, averaged over its length or over
                       ``duty_over_ps``, whichever is longer
    delay_ps:          from the core's edge to the light (outputs: edges leave the core that much earlier) or from the
                       click to the core (inputs: gates open that much later); applied when lowering
    longest_ps:        longest pulse, 0 for no limit
    lowest_hz, highest_hz:  the band of a tone line's frequency offset, Hz
    bright_on:         for detectors: lines whose light harms it; they must be off while its gate is open
    photon_ps:         for lines whose pulse makes a photon: detector line -> ps from the beginning of the pulse until the photon
                       arrives there; in an attempt, its gate must be open then
    spoiled_by:        lines whose light destroys what such a pulse prepared: off from the pulse until the gate closes
    events_per_s:      most edges per second the core sustains on this line, 0 for no limit
    device:            the device whose output it switches ("" if none), for interlocks and drawing
    """

    direction: Literal["out", "in"] = "out"
    kind: Literal["switch", "tone", "detector", "trigger"] = "switch"
    grid_ps: int = 1
    shortest_ps: int = 1
    dead_ps: int = 0
    duty: float = 1.0
    duty_over_ps: int = 1_000_000_000_000
    delay_ps: int = 0
    longest_ps: int = 0
    lowest_hz: float = -1e9
    highest_hz: float = 1e9
    bright_on: tuple[str, ...] = ()
    photon_ps: dict[str, int] = {}
    spoiled_by: tuple[str, ...] = ()
    events_per_s: float = 0.0
    device: str = ""
