"""Reference light at the midpoint: expected clicks of the detectors' gates, for one slot or for many at once."""

from __future__ import annotations

import cmath
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labctl.sim.played import PlayedPulse
from simulated_hw.world.segments import Reading


class Slot(NamedTuple):
    """A stretch of one gate with constant light; times count from the segment's start."""

    gate: int
    detector: int
    start_ps: int
    duration_ps: int
    amplitudes: tuple[float, float]
    turns: float
    """Alice's phase minus Bob's."""
    offsets_hz: tuple[float, float]
    """Of Alice's and Bob's tone."""


OFF = PlayedPulse("", 0, 0, 0.0, 0.0, 0.0)
"""No light."""


class ArmLight(NamedTuple):
    """Reference light of one arm at the beam splitter at amplitude 1.

    rate_hz:  without the etalon
    etalon:   its amplitude transmission for light of a tone offset, Hz
    """

    rate_hz: float
    etalon: Callable[[float], complex]
    detuning_hz: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The slots of a segment, cut where the light that arrives in its gates changes.

    gate, detector, start_ps, span_ps:  of each slot, arrays of shape (slots,)
    middles_ps, place:  distinct middles, and which of them each slot has
    """

    slots: tuple[Slot, ...]
    gate: NDArray[np.int64]
    detector: NDArray[np.int64]
    start_ps: NDArray[np.int64]
    span_ps: NDArray[np.int64]
    middles_ps: NDArray[np.int64]
    place: NDArray[np.int64]


class Fringe(NamedTuple):
    """Expected clicks of each slot per play: steady + swing cos(φ + bias); arrays of shape (slots,)."""

    steady: NDArray[np.float64]
    swing: NDArray[np.float64]
    bias: NDArray[np.float64]

    def means(self, phases: NDArray[np.float64]) -> NDArray[np.float64]:
        """Expected clicks at phases of shape (..., slots)."""
        return np.maximum(self.steady + self.swing * np.cos(phases + self.bias), 0.0)


def plan(reading: Reading, flights_ps: tuple[int, int]) -> Plan:
    """Cut the detectors' gates of a segment; light arrives a time of flight after its pulse."""
    found = _slots(reading, flights_ps)
    starts = np.array([slot.start_ps for slot in found], np.int64)
    spans = np.array([slot.duration_ps for slot in found], np.int64)
    middles, place = np.unique(starts + spans // 2, return_inverse=True)
    return Plan(
        tuple(found),
        np.array([slot.gate for slot in found], np.int64),
        np.array([slot.detector for slot in found], np.int64),
        starts,
        spans,
        middles,
        place.astype(np.int64),
    )


def _slots(reading: Reading, flights_ps: tuple[int, int]) -> list[Slot]:
    light = [
        [_late(pulse, flights_ps[node]) for pulse in reading.beams[node].get("reference_393", ())]
        for node in (0, 1)
    ]
    edges = {edge for pulses in light for pulse in pulses for edge in pulse[:2]}
    found: list[Slot] = []
    for index, (detector, gate) in enumerate(reading.midpoint_gates):
        end = gate.start_ps + gate.duration_ps
        cuts = sorted({gate.start_ps, end, *(edge for edge in edges if gate.start_ps < edge < end)})
        for start, stop in itertools.pairwise(cuts):
            a, b = (next((p[2] for p in pulses if p[0] <= start and p[1] >= stop), OFF) for pulses in light)
            found.append(
                Slot(
                    index,
                    detector,
                    start,
                    stop - start,
                    (a.amplitude, b.amplitude),
                    a.phase_turns - b.phase_turns,
                    (a.frequency_hz, b.frequency_hz),
                )
            )
    return found


def _late(pulse: PlayedPulse, flight_ps: int) -> tuple[int, int, PlayedPulse]:
    start = pulse.start_ps + flight_ps
    return start, start + pulse.duration_ps, pulse


def fringe(
    parts: tuple[Slot, ...],
    arms: tuple[ArmLight, ArmLight],
    efficiencies: tuple[float, float],
    background_hz: tuple[float, float],
    overlap: float,
    blur: Callable[[float], float] = lambda span_s: 1.0,
) -> Fringe:
    """What the slots are expected to see: two arms on a balanced beam splitter, detector 0 bright at φ = 0.

    arms:        light of Alice's and Bob's arm at the beam splitter
    efficiencies, background_hz:  of the two detectors
    overlap:     contrast of the fringe at equal intensities
    blur:        of it, what the walk of the phase leaves over a slot of so many seconds
    """
    steady: list[float] = []
    swing: list[float] = []
    bias: list[float] = []
    for part in parts:
        passed = [arm.etalon(hz) for arm, hz in zip(arms, part.offsets_hz, strict=True)]
        a = arms[0].rate_hz * abs(passed[0] * part.amplitudes[0]) ** 2
        b = arms[1].rate_hz * abs(passed[1] * part.amplitudes[1]) ** 2
        span_s = part.duration_ps / 1e12
        seen = efficiencies[part.detector] * span_s
        beat = part.offsets_hz[0] - part.offsets_hz[1] + arms[0].detuning_hz - arms[1].detuning_hz
        half = math.pi * beat * span_s
        wash = math.sin(half) / half if half else 1.0
        steady.append((a + b) / 2 * seen + background_hz[part.detector] * span_s)
        swing.append((1 - 2 * part.detector) * math.sqrt(a * b) * seen * overlap * wash * blur(span_s))
        middle_s = (part.start_ps + part.duration_ps / 2) / 1e12
        turns = part.turns + math.fmod(beat * middle_s, 1.0)
        bias.append(2 * math.pi * turns + cmath.phase(passed[0]) - cmath.phase(passed[1]))
    return Fringe(np.array(steady), np.array(swing), np.array(bias))
