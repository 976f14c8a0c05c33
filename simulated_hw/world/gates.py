"""The midpoint's detectors in gates without signal photons: reference fringes and noise, drawn, counted and tagged."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labctl.sim.played import Clicks
from simulated_hw.world import photon
from simulated_hw.world.attempt import ArmState, Detector
from simulated_hw.world.click_train import Recovery, Train, draw, latch_probability, live_rate
from simulated_hw.world.counters import ClickCounters
from simulated_hw.world.parameters import Filters, Parameters
from simulated_hw.world.parts import Nanowire, Tagger
from simulated_hw.world.phase import PhaseWalk, Regime, blur
from simulated_hw.world.reference import ArmLight, Fringe, Plan, fringe, plan
from simulated_hw.world.segments import MEMORY, Reading

PLANCK_LIGHT_J_M = 1.986445857e-25
"""Planck's constant times the speed of light, J m."""


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
        self._seen: (
            tuple[Plan, tuple[ArmState, ArmState], tuple[Detector, Detector], Regime, Fringe] | None
        ) = None
        d = p.detectors
        self._recovery = Recovery(d.dead_s * 1e12, d.afterpulse, d.afterpulse_time_s * 1e12)
        self._last_ps = np.full(2, -(10**15), np.int64)

    def counts(
        self,
        reading: Reading,
        starts_ps: NDArray[np.int64],
        arms: tuple[ArmState, ArmState],
        detectors: tuple[Detector, Detector],
    ) -> NDArray[np.int64]:
        """Clicks of each gate at each start, shape (starts, gates)."""
        found = self._plan(reading)
        train = self._draw(found, self._fringe(found, arms, detectors), starts_ps)
        counts = np.zeros((len(starts_ps), len(reading.midpoint_gates)), np.int64)
        np.add.at(counts, (train.start, found.gate[train.slot]), 1)
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
        train = self._draw(found, self._fringe(found, arms, detectors), starts)
        gate_of = found.gate[train.slot]
        seen: dict[str, Clicks] = {}
        for index, (_, gate) in enumerate(reading.midpoint_gates):
            inside = train.time_ps[gate_of == index]
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
        cosines = self._phase.mean_cosine(start_ps, duration_ps, pattern.bias)
        means = np.maximum(pattern.steady + pattern.swing * cosines, 0.0).tolist()
        clicks = [0.0, 0.0]
        for channel, mean, span_ps in zip(
            found.detector.tolist(), means, found.span_ps.tolist(), strict=True
        ):
            span_s = span_ps / 1e12
            clicks[channel] += live_rate(mean / span_s, self._recovery) * span_s * count
        for channel, expected in enumerate(clicks):
            self._counters.add(channel, int(self._rng.poisson(expected)))

    def dazzle(
        self,
        reading: Reading,
        arms: tuple[ArmState, ArmState],
        detectors: tuple[Detector, Detector],
        wires: Sequence[Nanowire],
    ) -> None:
        """Alignment light of a node shines on both wires, whatever is gated: they count, and latch."""
        p = self._p
        photons_hz = p.alignment.bright_w * p.converter.signal_wavelength_m / PLANCK_LIGHT_J_M
        for index, (node, arm) in enumerate(zip((p.alice, p.bob), arms, strict=True)):
            span_s = reading.on_s(index, "align_1550")
            arriving_hz = photons_hz * photon.fibre_transmission(node, p) * arm.polariser / 2
            for number, (wire, detector) in enumerate(zip(wires, detectors, strict=True)):
                rate_hz = arriving_hz * detector.efficiency
                if wire.latched or span_s == 0:
                    continue
                self._counters.add(
                    number, int(self._rng.poisson(live_rate(rate_hz, self._recovery) * span_s))
                )
                chance = latch_probability(rate_hz, span_s, self._recovery, p.detectors.latch)
                wire.latched = self._rng.random() < chance

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
        known = self._seen
        if (
            known is not None
            and known[0] is found
            and known[1] is arms
            and known[2] is detectors
            and known[3] is self._phase.regime
        ):
            return known[4]
        pattern = self._fringe_now(found, arms, detectors)
        self._seen = (found, arms, detectors, self._phase.regime, pattern)
        return pattern

    def _fringe_now(
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

    def _draw(self, found: Plan, pattern: Fringe, starts_ps: NDArray[np.int64]) -> Train:
        """The clicks at each start, counted and tagged."""
        times = starts_ps[:, None] + found.middles_ps
        phases = self._phase.at_many(times.ravel()).reshape(times.shape)
        slots = found.detector, found.start_ps, found.span_ps
        means = pattern.means(phases[:, found.place])
        train = draw(self._rng, means, slots, starts_ps, self._recovery, self._last_ps)
        channel = found.detector[train.slot]
        self._tagger.record_many(starts_ps[train.start] + train.time_ps, channel)
        for number in (0, 1):
            self._counters.add(number, int(np.count_nonzero(channel == number)))
        return train


def _passes(etalon_offset_hz: float, filters: Filters, tone_hz: float) -> complex:
    """Amplitude of light with a tone offset behind an etalon, relative to its peak."""
    return photon.monochromatic(etalon_offset_hz - tone_hz, filters)
