"""A played segment, sorted by what its lines mean to the physics."""

from __future__ import annotations

from dataclasses import dataclass, field

from labctl.errors import ConfigError
from labctl.sim.played import OpenGate, PlayedPulse, Segment

NODES = ("alice", "bob")
BEAMS = (
    "cool_397",
    "repump_866",
    "reset_854",
    "eit_397",
    "pump_397",
    "qubit_729",
    "excite_854",
    "reference_393",
    "raman_393",
    "align_1550",
)
DETECTORS = ("charlie.snspd_0", "charlie.snspd_1")
LOCK = "charlie.wdm_lock"
"""A clock that runs while the fibre lock says that it holds."""
MEMORY = 256
"""Segments whose reading is kept."""


@dataclass(slots=True)
class Reading:
    """Pulses by node and beam, gates by kind.

    attempt:  whether it has an 854 nm excitation and detector gates: a heralded attempt
    """

    segment: Segment
    beams: tuple[dict[str, list[PlayedPulse]], dict[str, list[PlayedPulse]]]
    midpoint_gates: list[tuple[int, OpenGate]] = field(default_factory=list[tuple[int, OpenGate]])
    counter_gates: list[tuple[int, OpenGate]] = field(default_factory=list[tuple[int, OpenGate]])
    lock_gates: list[OpenGate] = field(default_factory=list[OpenGate])
    attempt: bool = False
    _on: dict[tuple[int, str], float] = field(default_factory=dict[tuple[int, str], float])

    def overlap_ps(self, node: int, beam: str, start_ps: int, end_ps: int) -> int:
        """How long a beam of a node is on between two times of the segment."""
        return sum(
            max(0, min(end_ps, pulse.start_ps + pulse.duration_ps) - max(start_ps, pulse.start_ps))
            for pulse in self.beams[node].get(beam, ())
        )

    def on_s(self, node: int, beam: str) -> float:
        """How long a beam of a node is on in all, s."""
        known = self._on.get((node, beam))
        if known is None:
            known = sum(pulse.duration_ps for pulse in self.beams[node].get(beam, ())) / 1e12
            self._on[node, beam] = known
        return known


@dataclass(frozen=True, slots=True)
class Wiring:
    """Lines of a laboratory: beams of each node, the beam that excites, the counter of each node, the fibre lock's monitor."""

    laboratory: str
    beams: tuple[str, ...]
    excites: str
    counter: str
    lock: str = ""


CALCIUM = Wiring("simulated laboratory", BEAMS, "excite_854", "pmt", LOCK)


class Readings:
    """Readings of the segments seen last; a segment is recognised by identity."""

    def __init__(self, wiring: Wiring = CALCIUM) -> None:
        self._wiring = wiring
        self._known: dict[int, Reading] = {}

    def of(self, segment: Segment) -> Reading:
        """The reading of a segment; ConfigError names lines this laboratory does not have."""
        known = self._known.get(id(segment))
        if known is None or known.segment is not segment:
            known = read(segment, self._wiring)
            if len(self._known) >= MEMORY:
                self._known.clear()
            self._known[id(segment)] = known
        return known


def read(segment: Segment, wiring: Wiring = CALCIUM) -> Reading:
    """Sort a segment's pulses and gates; an attempt is what excites and has gates of the midpoint."""
    reading = Reading(segment, ({}, {}))
    unknown: list[str] = []
    for pulse in segment.pulses:
        node, _, beam = pulse.line.partition(".")
        if node in NODES and beam in wiring.beams:
            reading.beams[NODES.index(node)].setdefault(beam, []).append(pulse)
        else:
            unknown.append(pulse.line)
    for gate in segment.gates:
        node, _, kind = gate.line.partition(".")
        if gate.line in DETECTORS:
            reading.midpoint_gates.append((DETECTORS.index(gate.line), gate))
        elif gate.line == wiring.lock:
            reading.lock_gates.append(gate)
        elif node in NODES and kind == wiring.counter:
            reading.counter_gates.append((NODES.index(node), gate))
        else:
            unknown.append(gate.line)
    if unknown:
        names = ", ".join(dict.fromkeys(unknown))
        raise ConfigError(
            f"segment {segment.name!r}: the {wiring.laboratory} has no line {names}; out: NODE.{{{', '.join(wiring.beams)}}}, "
            f"in: NODE.{wiring.counter}, {', '.join(filter(None, (*DETECTORS, wiring.lock)))}, with NODE {' or '.join(NODES)}"
        )
    excited = any(wiring.excites in beams for beams in reading.beams)
    reading.attempt = excited and bool(reading.midpoint_gates)
    return reading
