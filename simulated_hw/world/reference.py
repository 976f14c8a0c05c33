"""Reference light at the midpoint: expected clicks of the detectors' gates, for one slot or for many at once."""

from __future__ import annotations

import itertools
import math
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
    beat_hz: float
    """Alice's tone offset minus Bob's."""


class ArmLight(NamedTuple):
    """Reference light of one arm at the beam splitter at amplitude 1."""

    rate_hz: float
    phase_rad: float
    """Phase that the arm's filters add."""
    detuning_hz: float


class Fringe(NamedTuple):
    """Clicks of each slot: background + steady + swing cos(φ + bias), expected per play; arrays of shape (slots,)."""

    steady: NDArray[np.float64]
    swing: NDArray[np.float64]
    bias: NDArray[np.float64]

    def means(self, phases: NDArray[np.float64]) -> NDArray[np.float64]:
        """Expected clicks at phases of shape (..., slots)."""
        return np.maximum(self.steady + self.swing * np.cos(phases + self.bias), 0.0)


def slots(reading: Reading, flights_ps: tuple[int, int]) -> list[Slot]:
    """Cut the detectors' gates where the light that arrives in them changes."""
    light = [
        [_late(pulse, flights_ps[node]) for pulse in reading.beams[node].get("reference_393", ())]
        for node in (0, 1)
    ]
    edges = {edge for pulses in light for pulse in pulses for edge in (pulse[0], pulse[1])}
    found: list[Slot] = []
    for index, (detector, gate) in enumerate(reading.midpoint_gates):
        end = gate.start_ps + gate.duration_ps
        cuts = sorted({gate.start_ps, end, *(edge for edge in edges if gate.start_ps < edge < end)})
        for start, stop in itertools.pairwise(cuts):
            on = [next((p[2] for p in pulses if p[0] <= start and p[1] >= stop), None) for pulses in light]
            a, b = on
            found.append(
                Slot(
                    index,
                    detector,
                    start,
                    stop - start,
                    (0.0 if a is None else a.amplitude, 0.0 if b is None else b.amplitude),
                    (0.0 if a is None else a.phase_turns) - (0.0 if b is None else b.phase_turns),
                    (0.0 if a is None else a.frequency_hz) - (0.0 if b is None else b.frequency_hz),
                )
            )
    return found


def _late(pulse: PlayedPulse, flight_ps: int) -> tuple[int, int, PlayedPulse]:
    start = pulse.start_ps + flight_ps
    return start, start + pulse.duration_ps, pulse


def fringe(
    parts: list[Slot],
    arms: tuple[ArmLight, ArmLight],
    efficiencies: tuple[float, float],
    background_hz: tuple[float, float],
    overlap: float,
) -> Fringe:
    """What the slots are expected to see: two arms on a balanced beam splitter, detector 0 bright at φ = 0.

    arms:        light of Alice's and Bob's arm at the beam splitter
    efficiencies, background_hz:  of the two detectors
    overlap:     contrast of the fringe at equal intensities
    """
    steady: list[float] = []
    swing: list[float] = []
    bias: list[float] = []
    for part in parts:
        a = arms[0].rate_hz * part.amplitudes[0] ** 2
        b = arms[1].rate_hz * part.amplitudes[1] ** 2
        span_s = part.duration_ps / 1e12
        seen = efficiencies[part.detector] * span_s
        beat = part.beat_hz + arms[0].detuning_hz - arms[1].detuning_hz
        wash = float(np.sinc(beat * span_s))
        steady.append((a + b) / 2 * seen + background_hz[part.detector] * span_s)
        swing.append((1 - 2 * part.detector) * math.sqrt(a * b) * seen * overlap * wash)
        middle_s = (part.start_ps + part.duration_ps / 2) / 1e12
        turns = part.turns + math.fmod(beat * middle_s, 1.0)
        bias.append(2 * math.pi * turns + arms[0].phase_rad - arms[1].phase_rad)
    return Fringe(np.array(steady), np.array(swing), np.array(bias))
