"""A played segment of the rubidium laboratory, sorted by what its lines mean to the physics."""

from __future__ import annotations

from labctl.errors import ConfigError
from labctl.sim.played import Segment
from simulated_hw.world.segments import DETECTORS, MEMORY, NODES, Reading

BEAMS = (
    "mot_780",
    "cool_780",
    "pump_795",
    "microwave",
    "fort_off",
    "excite_420",
    "transfer_480",
    "blow_780",
)


class RubidiumReadings:
    """Readings of the segments seen last; a segment is recognised by identity."""

    def __init__(self) -> None:
        self._known: dict[int, Reading] = {}

    def of(self, segment: Segment) -> Reading:
        """The reading of a segment; ConfigError names lines this laboratory does not have."""
        known = self._known.get(id(segment))
        if known is None or known.segment is not segment:
            known = read(segment)
            if len(self._known) >= MEMORY:
                self._known.clear()
            self._known[id(segment)] = known
        return known


def read(segment: Segment) -> Reading:
    """Sort a segment's pulses and gates; an attempt is what excites and has gates of the midpoint."""
    reading = Reading(segment, ({}, {}))
    unknown: list[str] = []
    for pulse in segment.pulses:
        node, _, beam = pulse.line.partition(".")
        if node in NODES and beam in BEAMS:
            reading.beams[NODES.index(node)].setdefault(beam, []).append(pulse)
        else:
            unknown.append(pulse.line)
    for gate in segment.gates:
        node, _, kind = gate.line.partition(".")
        if gate.line in DETECTORS:
            reading.midpoint_gates.append((DETECTORS.index(gate.line), gate))
        elif node in NODES and kind == "spcm":
            reading.counter_gates.append((NODES.index(node), gate))
        else:
            unknown.append(gate.line)
    if unknown:
        names = ", ".join(dict.fromkeys(unknown))
        raise ConfigError(
            f"segment {segment.name!r}: the simulated rubidium laboratory has no line {names}; out: NODE.{{{', '.join(BEAMS)}}}, "
            f"in: NODE.spcm, {', '.join(DETECTORS)}, with NODE {' or '.join(NODES)}"
        )
    excites = any("excite_420" in beams for beams in reading.beams)
    reading.attempt = excites and bool(reading.midpoint_gates)
    return reading
