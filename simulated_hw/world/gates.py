"""The midpoint's detectors in gates without signal photons: reference fringes and noise, drawn, counted and tagged."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from labctl.sim.played import Clicks
from simulated_hw.world import photon
from simulated_hw.world.attempt import ArmState, Detector
from simulated_hw.world.counters import ClickCounters
from simulated_hw.world.parameters import Filters, Parameters
from simulated_hw.world.parts import Tagger
from simulated_hw.world.phase import PhaseWalk, blur
from simulated_hw.world.reference import ArmLight, Fringe, Plan, fringe, plan
from simulated_hw.world.segments import MEMORY, Reading


class MidpointGates:
    """Draws the clicks of gates that are not a heralded attempt's."""

    def __init__(
        self,
        parameters: Parameters,
        rng: np.random.Generator,
        phase: PhaseWalk,
        counters: ClickCounters,
        tagger: Tagger,
    ) -> None:
        p = self._p = parameters
        self._rng = rng
        self._phase = phase
        self._counters = counters
        self._tagger = tagger
        self._flights = (photon.flight_ps(p.alice, p), photon.flight_ps(p.bob, p))
        self._plans: dict[int, tuple[Reading, Plan]] = {}

    def counts(
        self,
        reading: Reading,
        starts_ps: NDArray[np.int64],
        arms: tuple[ArmState, ArmState],
        detectors: tuple[Detector, Detector],
    ) -> NDArray[np.int64]:
        """Clicks of each gate at each start, shape (starts, gates)."""
        found = self._plan(reading)
        drawn = self._draw(found, self._fringe(found, arms, detectors), starts_ps)
        self._tag(found, drawn, starts_ps)
        counts = np.zeros((len(starts_ps), len(reading.midpoint_gates)), np.int64)
        for column, gate in enumerate(found.gate.tolist()):
            counts[:, gate] += drawn[:, column]
        return counts

    def clicks(
        self,
        reading: Reading,
        start_ps: int,
        arms: tuple[ArmState, ArmState],
        detectors: tuple[Detector, Detector],
    ) -> dict[str, Clicks]:
        """Clicks of each gate of one play by register, with the time of the first."""
        found = self._plan(reading)
        starts = np.array([start_ps], np.int64)
        drawn = self._draw(found, self._fringe(found, arms, detectors), starts)
        slot, times = self._tag(found, drawn, starts)
        gate_of = found.gate[slot]
        seen: dict[str, Clicks] = {}
        for index, (_, gate) in enumerate(reading.midpoint_gates):
            inside = times[gate_of == index]
            first = int(inside.min()) - gate.start_ps if len(inside) else -1
            seen[gate.into] = Clicks(len(inside), first)
        return seen

    def pass_time(
        self,
        reading: Reading,
        count: int,
        start_ps: int,
        duration_ps: int,
        arms: tuple[ArmState, ArmState],
        detectors: tuple[Detector, Detector],
    ) -> None:
        """Count the clicks of a segment played ``count`` times over a stretch of time, without looking at each play."""
        found = self._plan(reading)
        pattern = self._fringe(found, arms, detectors)
        for place, channel in enumerate(found.detector.tolist()):
            cosine = self._phase.mean_cosine(start_ps, duration_ps, float(pattern.bias[place]))
            mean = max(0.0, float(pattern.steady[place] + pattern.swing[place] * cosine))
            self._counters.add(channel, int(self._rng.poisson(mean * count)))

    def _plan(self, reading: Reading) -> Plan:
        known = self._plans.get(id(reading))
        if known is None or known[0] is not reading:
            if len(self._plans) >= MEMORY:
                self._plans.clear()
            known = self._plans[id(reading)] = (reading, plan(reading, self._flights))
        return known[1]

    def _fringe(
        self, found: Plan, arms: tuple[ArmState, ArmState], detectors: tuple[Detector, Detector]
    ) -> Fringe:
        p = self._p
        light: list[ArmLight] = []
        for node, arm in zip((p.alice, p.bob), arms, strict=True):
            offset_hz = photon.etalon_offset_hz(arm.etalon_k, arm.light.pump.detuning_hz, p.filters)
            offset_hz -= arm.light.reference.detuning_hz
            rate_hz = (
                node.reference_photons_hz
                * arm.light.reference.power
                * photon.converter_efficiency(arm.pump_w, arm.oven_k, p)
                * p.filters.other_transmission
                * photon.fibre_transmission(node, p)
                * arm.polariser
            )
            beat_hz = arm.light.reference.detuning_hz - arm.light.pump.detuning_hz
            light.append(ArmLight(rate_hz, functools.partial(_passes, offset_hz, p.filters), beat_hz))
        first, second = detectors
        return fringe(
            found.slots,
            (light[0], light[1]),
            (first.efficiency, second.efficiency),
            (first.noise_hz, second.noise_hz),
            p.midpoint.reference_overlap,
            functools.partial(blur, self._phase.regime),
        )

    def _draw(self, found: Plan, pattern: Fringe, starts_ps: NDArray[np.int64]) -> NDArray[np.int64]:
        """Clicks of each slot at each start, shape (starts, slots)."""
        times = starts_ps[:, None] + found.middles_ps
        phases = self._phase.at_many(times.ravel()).reshape(times.shape)
        return self._rng.poisson(pattern.means(phases[:, found.place]))

    def _tag(
        self, found: Plan, drawn: NDArray[np.int64], starts_ps: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count and tag the drawn clicks; (slot, time after the segment's start) of each."""
        flat = drawn.ravel()
        which = np.repeat(np.arange(flat.size), flat)
        start, slot = np.divmod(which, len(found.slots))
        times = found.start_ps[slot] + (self._rng.random(which.size) * found.span_ps[slot]).astype(np.int64)
        channel = found.detector[slot]
        self._tagger.record_many(starts_ps[start] + times, channel)
        for number in (0, 1):
            self._counters.add(number, int(np.count_nonzero(channel == number)))
        return slot, times


def _passes(etalon_offset_hz: float, filters: Filters, tone_hz: float) -> complex:
    """Amplitude of light with a tone offset behind an etalon, relative to its peak."""
    return photon.monochromatic(etalon_offset_hz - tone_hz, filters)
