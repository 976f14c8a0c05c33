"""One attempt from its pulses and the instruments' state: emitters, windows, odds, and what a click pattern leaves."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labctl.errors import ConfigError
from labctl.sim.played import OpenGate, PlayedPulse
from simulated_hw.world import photon
from simulated_hw.world.ion import State
from simulated_hw.world.light import NodeLight, excitation_probability, flop, pump_rate, reset_rate
from simulated_hw.world.midpoint import (
    Emitter,
    Interference,
    Response,
    Window,
    click,
    heralded,
    interfere,
    probability,
    responses,
)
from simulated_hw.world.parameters import Node, Parameters
from simulated_hw.world.segments import Reading

TIME_STEPS = 512
"""Points of the arrival-time table of a window, at least."""
REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class ArmState:
    """What of one node decides the fate of its photon now."""

    light: NodeLight
    oven_k: float
    etalon_k: float
    pump_w: float
    coupling: float
    """Collection and fibre coupling of a 393 nm photon."""
    polariser: float
    """Share of the light that passes the polariser at the midpoint."""
    quanta: float
    """Mean phonon number at the attempt."""
    reset_s: float
    """Length of the 854 nm reset between attempts."""


class Detector(NamedTuple):
    """One detector now: efficiency from the beam splitter on, and clicks without signal light per second."""

    efficiency: float
    noise_hz: float


class Tables(NamedTuple):
    """Overlaps of the two packets in one gate: shares of each photon seen, normalised overlap."""

    shares: tuple[float, float]
    overlap: complex


@dataclass(frozen=True, slots=True)
class Outlook:
    """Everything about one attempt, given the state of the laboratory."""

    emitters: tuple[Emitter, Emitter]
    windows: tuple[Window | None, Window | None]
    gates: tuple[tuple[int, OpenGate], ...]
    packets: tuple[photon.Packet, photon.Packet]
    arrivals_ps: tuple[int, int]
    mode_overlap: float
    shown: tuple[tuple[Response, Response, Response], tuple[Response, Response, Response]]
    """Of each detector: click by a photon (0), click by noise (1), no click or no gate (2)."""

    def weights(self, way: tuple[int, int]) -> Interference:
        """Weight of what the detectors did, by cause."""
        first, second = self.shown
        return interfere(first[way[0]], second[way[1]], *self.emitters, self.mode_overlap)

    def causes(self, pattern: str) -> list[tuple[int, int]]:
        """The ways in which a pattern can come about, by detector."""
        clicked = {detector: digit == "1" for (detector, _), digit in zip(self.gates, pattern, strict=True)}
        first, second = ((0, 1) if clicked.get(detector, False) else (2,) for detector in (0, 1))
        return list(itertools.product(first, second))

    def probability(self, pattern: str) -> float:
        """Probability of a click pattern, one digit per gate."""
        seen = [shown[2] for shown in self.shown]
        for (detector, _), digit in zip(self.gates, pattern, strict=True):
            if digit == "1":
                seen[detector] = click(self.shown[detector])
        return probability(interfere(seen[0], seen[1], *self.emitters, self.mode_overlap), *self.emitters)

    def odds(self) -> dict[str, float]:
        """Probability of each pattern with a click."""
        return {pattern: self.probability(pattern) for pattern in self.patterns()}

    def way_probability(self, way: tuple[int, int]) -> float:
        """Probability of what the detectors did, cause by cause."""
        return probability(self.weights(way), *self.emitters)

    def patterns(self) -> list[str]:
        """All patterns with a click, most clicks last."""
        every = ("".join(digits) for digits in itertools.product("01", repeat=len(self.gates)))
        return sorted((pattern for pattern in every if "1" in pattern), key=lambda p: (p.count("1"), p[::-1]))

    def state(self, way: tuple[int, int], phase_rad: float) -> State:
        """Unnormalised joint state of the ions, given what the detectors did."""
        return heralded(self.weights(way), *self.emitters, phase_rad)

    def click_time_ps(self, detector: int, cause: int, jitter_s: float, rng: np.random.Generator) -> int:
        """Time of a click after its gate opened: from the wave packets, or uniform for noise."""
        gate = next(gate for number, gate in self.gates if number == detector)
        if cause == 1:
            return int(rng.random() * gate.duration_ps)
        window = self.windows[detector]
        assert window is not None
        likely = [
            e.bright * e.transmission * seen for e, seen in zip(self.emitters, window.seen, strict=True)
        ]
        node = int(rng.random() * sum(likely) >= likely[0])
        opens_ps = gate.start_ps - self.arrivals_ps[node]
        times, cumulative = _arrivals(self.packets[node], opens_ps, gate.duration_ps)
        time = float(np.interp(rng.random() * float(cumulative[-1]), cumulative, times))
        time += float(rng.standard_normal()) * jitter_s * 1e12
        return int(min(max(time, 0.0), gate.duration_ps - 1))


@functools.lru_cache(maxsize=32)
def _arrivals(
    packet: photon.Packet, opens_ps: int, duration_ps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times after a gate opens, ps, and how much of a photon has come by then, relative.

    opens_ps:  when the gate opens after the photon's earliest arrival
    """
    times = np.linspace(0.0, duration_ps, max(TIME_STEPS, min(duration_ps // 500, 1 << 14)))
    density = packet.intensity((opens_ps + times) / 1e12)
    return times, np.concatenate(([0.0], np.cumsum(density[1:] + density[:-1])))


class MidpointModel:
    """From two photons on their way to an outlook; remembers the overlaps of wave packets while the filters stand still.

    photon_overlap:  squared overlap of the two photons at equal spectra
    """

    def __init__(self, photon_overlap: float) -> None:
        self._overlap = math.sqrt(photon_overlap)
        self._overlaps: dict[tuple[float | int, ...], Tables] = {}

    def outlook(
        self,
        reading: Reading,
        emitters: tuple[Emitter, Emitter],
        packets: tuple[photon.Packet, photon.Packet],
        arrivals: tuple[int, int],
        detectors: tuple[Detector, Detector],
    ) -> Outlook:
        """What the detectors' gates see of the emitters' photons, which arrive at ``arrivals`` (ps) as ``packets``."""
        gates = tuple(reading.midpoint_gates)
        if len({detector for detector, _ in gates}) != len(gates) or reading.counter_gates:
            raise ConfigError(
                f"segment {reading.segment.name!r}: an attempt has at most one gate per detector of the midpoint and "
                f"no other; it has {', '.join(gate.line for gate in reading.segment.gates)}"
            )
        windows: list[Window | None] = [None, None]
        overlaps: list[complex] = []
        for number, gate in gates:
            table = self._table(gate, packets, arrivals)
            overlap = table.overlap * self._overlap
            overlaps.append(overlap)
            eta = detectors[number].efficiency
            windows[number] = Window(
                -math.expm1(-detectors[number].noise_hz * gate.duration_ps / 1e12),
                (eta * table.shares[0], eta * table.shares[1]),
                overlap,
            )
        mean = sum(abs(overlap) ** 2 for overlap in overlaps) / len(overlaps)
        return Outlook(
            emitters,
            (windows[0], windows[1]),
            gates,
            packets,
            arrivals,
            mean,
            (responses(windows[0]), responses(windows[1])),
        )

    def _table(
        self, gate: OpenGate, packets: tuple[photon.Packet, photon.Packet], arrivals: tuple[int, int]
    ) -> Tables:
        """Shares and overlap of the packets in a gate, remembered."""
        a, b = packets
        begin = gate.start_ps - min(arrivals)
        late = (arrivals[0] - min(arrivals), arrivals[1] - min(arrivals))
        key = (begin, gate.duration_ps, *late, a.l0.imag, a.l1.imag, b.l0.imag, b.l1.imag)
        known = self._overlaps.get(key)
        if known is None:
            start, end = begin / 1e12, (begin + gate.duration_ps) / 1e12
            la, lb = late[0] / 1e12, late[1] / 1e12
            share_a = a.overlap(a, start, end, la, la).real
            share_b = b.overlap(b, start, end, lb, lb).real
            common = a.overlap(b, start, end, la, lb)
            known = Tables(
                (share_a, share_b),
                common / math.sqrt(share_a * share_b) if share_a > 0 and share_b > 0 else 0j,
            )
            if len(self._overlaps) >= REMEMBERED:
                self._overlaps.clear()
            self._overlaps[key] = known
        return known


class AttemptModel:
    """Makes outlooks of attempts with calcium ions."""

    def __init__(self, parameters: Parameters) -> None:
        self._p = parameters
        self._nodes: tuple[Node, Node] = (parameters.alice, parameters.bob)
        other = parameters.filters.other_transmission
        self._passive = [other * photon.fibre_transmission(node, parameters) for node in self._nodes]
        self._midpoint = MidpointModel(parameters.midpoint.photon_overlap)
        self._prepared: dict[tuple[int, int, NodeLight, float, float], tuple[Reading, Emitter]] = {}

    def outlook(
        self, reading: Reading, arms: tuple[ArmState, ArmState], detectors: tuple[Detector, Detector]
    ) -> Outlook:
        """One attempt that plays ``reading`` with the instruments as they are."""
        emitters = (self.emitter(0, reading, arms[0]), self.emitter(1, reading, arms[1]))
        return self.seen(reading, emitters, arms, 0, detectors)

    def seen(
        self,
        reading: Reading,
        emitters: tuple[Emitter, Emitter],
        arms: tuple[ArmState, ArmState],
        number: int,
        detectors: tuple[Detector, Detector],
    ) -> Outlook:
        """What the gates see of the photons of the 854 nm pulse ``number`` (from 0) of each node."""
        return self._midpoint.outlook(reading, emitters, *self._packets(reading, arms, number), detectors)

    def emitter(self, node: int, reading: Reading, arm: ArmState) -> Emitter:
        """One node after its 854 nm pulse; remembered while its light and motion stay the same."""
        key = (id(reading), node, arm.light, arm.quanta, arm.reset_s)
        known = self._prepared.get(key)
        if known is None or known[0] is not reading:
            if len(self._prepared) >= REMEMBERED:
                self._prepared.clear()
            known = self._prepared[key] = (reading, self._prepare(node, reading, arm))
        return known[1]._replace(transmission=self.transmission(node, arm))

    def _prepare(self, node: int, reading: Reading, arm: ArmState) -> Emitter:
        """Preparation, 729 nm pulse, excitation, branching; without the photon's way."""
        p, light = self._p, arm.light
        beams = reading.beams[node]
        pulse = _first(beams.get("excite_854"))
        alpha = 0.0
        if pulse is not None:
            alpha = excitation_probability(
                pulse.amplitude,
                pulse.duration_ps / 1e12,
                light.reset._replace(detuning_hz=light.reset.detuning_hz + pulse.frequency_hz),
                p,
            )
        flip = self._flip(node, reading, arm, pulse)
        stuck = math.exp(-reset_rate(light, p) * arm.reset_s) * (1 - alpha) * flip
        stuck /= 1 + stuck
        pumped = -math.expm1(
            -pump_rate(light, p) * reading.on_s(node, "pump_397") * self._repumped(node, reading)
        )
        in_s = (1 - stuck) * ((1 - pumped) / 2 + pumped * (1 - p.preparation.pump_error))
        ready = in_s * flip + stuck * (1 - flip)
        to_photon = ready * alpha
        return Emitter(
            to_photon * p.atom.p32_to_s12,
            ready * (1 - alpha),
            (
                in_s * (1 - flip) + stuck * flip,
                0.0,
                1 - stuck - in_s + to_photon * (1 - p.atom.p32_to_s12 - p.atom.p32_to_d52),
                to_photon * p.atom.p32_to_d52,
            ),
            0.0,
            0.0 if pulse is None else 2 * math.pi * pulse.phase_turns,
        )

    def transmission(self, node: int, arm: ArmState) -> float:
        """From emission on S1/2 to the beam splitter, without the etalon."""
        converted = photon.converter_efficiency(arm.pump_w, arm.oven_k, self._p)
        return arm.coupling * arm.polariser * converted * self._passive[node]

    def _repumped(self, node: int, reading: Reading) -> float:
        """Share of the optical pumping during which the repumper is on."""
        pulses = reading.beams[node].get("pump_397", ())
        whole = sum(pulse.duration_ps for pulse in pulses)
        covered = sum(
            reading.overlap_ps(node, "repump_866", x.start_ps, x.start_ps + x.duration_ps) for x in pulses
        )
        return covered / whole if whole else 0.0

    def _flip(self, node: int, reading: Reading, arm: ArmState, until: PlayedPulse | None) -> float:
        """Probability that the 729 nm pulses before the excitation bring S to D."""
        flipped = 0.0
        for pulse in reading.beams[node].get("qubit_729", ()):
            if until is not None and pulse.start_ps >= until.start_ps:
                break
            one = self.flipped(pulse, arm)
            flipped = flipped * (1 - one) + (1 - flipped) * one
        return flipped

    def flipped(self, pulse: PlayedPulse, arm: ArmState) -> float:
        """Probability that one 729 nm pulse moves S to D, or D to S."""
        q, beam = self._p.qubit, arm.light.qubit
        spread = self._p.preparation.lamb_dicke**2 * math.sqrt(arm.quanta * (arm.quanta + 1))
        rabi = math.pi / q.pi_time_s * pulse.amplitude * math.sqrt(beam.power)
        span = pulse.duration_ps / 1e12
        contrast = math.exp(-((rabi * span * spread) ** 2) / 2)
        one = flop(rabi, pulse.frequency_hz + beam.detuning_hz, span, contrast)
        error = min(1.0, 2 * q.pi_infidelity * rabi * span / math.pi)
        return one * (1 - error) + error / 2

    def _packets(
        self, reading: Reading, arms: tuple[ArmState, ArmState], number: int
    ) -> tuple[tuple[photon.Packet, photon.Packet], tuple[int, int]]:
        made: list[photon.Packet] = []
        arrivals: list[int] = []
        for node, arm in enumerate(arms):
            pulses = reading.beams[node].get("excite_854", [])
            pulse = pulses[number] if number < len(pulses) else None
            begin = 0 if pulse is None else pulse.start_ps + pulse.duration_ps // 2
            arrivals.append(begin + photon.flight_ps(self._nodes[node], self._p))
            shift = -arm.light.pump.detuning_hz
            made.append(
                photon.packet(photon.etalon_offset_hz(arm.etalon_k, -shift, self._p.filters), shift, self._p)
            )
        return (made[0], made[1]), (arrivals[0], arrivals[1])


def reference_amplitude(arm: ArmState, p: Parameters) -> complex:
    """Amplitude transmission of the etalon for the reference light, relative to its peak."""
    offset = photon.etalon_offset_hz(arm.etalon_k, arm.light.pump.detuning_hz, p.filters)
    return photon.monochromatic(offset - arm.light.reference.detuning_hz, p.filters)


def _first(pulses: list[PlayedPulse] | None) -> PlayedPulse | None:
    return pulses[0] if pulses else None
