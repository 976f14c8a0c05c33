"""An attempt with two excitations and two time bins, a photon of each ion in one of them: two-photon heralding.

Barrett and Kok, PRA 71, 060310 (2005), as a ⁴⁰Ca⁺ ion with one excited level can do it. The first 854 nm pulse takes half of
D5/2 to P3/2: (|D> + |S, early>)/√2. A Raman π pulse hides S in the other Zeeman state M of S1/2, and the second 854 nm
pulse takes all of what is still in D5/2: (|S, late> + |M, early>)/√2. One click in each bin at the midpoint leaves
(|M S> ± exp(i(φ_early - φ_late)) |S M>)/√2: of the optical phase only what it moved between the two bins.

The two bins are separate modes, so each is an interference of its own (midpoint.interfere): the first leaves a state as a
single-photon herald does, light and noise act on it as on any other, and the second maps it once more. Nothing is
assumed of the state in between: failed pulses, ions that emit twice or never, noise clicks all find their weight.
"""

from __future__ import annotations

import cmath
import functools
import itertools
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from labctl.errors import ConfigError
from labctl.sim.played import OpenGate, PlayedPulse
from simulated_hw.world import photon
from simulated_hw.world.attempt import ArmState, AttemptModel, Detector, Outlook
from simulated_hw.world.ion import DM, DS, ELEMENTS, LEVELS, MD, MS, SD, SM, B, D, M, S, State, X
from simulated_hw.world.light import excitation_probability, flop
from simulated_hw.world.midpoint import (
    Emitter,
    Interference,
    Response,
    Window,
    click,
    heralded,
    interfere,
    responses,
)
from simulated_hw.world.parameters import Parameters
from simulated_hw.world.segments import Reading

RETURNS = 2 / 3
"""Of decays from P3/2 (m = -3/2) to D5/2, those to m = -5/2, which the next 854 nm pulse excites again: squared
Clebsch-Gordan coefficients 10/15, 4/15, 1/15."""
Way = tuple[int, int]
"""What detectors 0 and 1 did in one bin: click by a photon (0), click by noise (1), no click or no gate (2)."""
Ways = tuple[Way, Way]


class Emission(NamedTuple):
    """One ion's second 854 nm pulse as maps of its elements, [to, from]: by the photons in ket and bra."""

    none: State
    one: State
    ket: State
    bra: State


@functools.lru_cache(maxsize=64)
def emission(alpha: float, branching: tuple[float, float, float], phase_rad: float) -> Emission:
    """D goes to P3/2 with probability ``alpha`` and on to S (with a photon), D5/2 or D3/2; S and M do not see the pulse."""
    to_s, to_d52, to_d32 = branching
    left = math.sqrt(1 - alpha)
    emitted = math.sqrt(alpha * to_s) * cmath.exp(1j * phase_rad)
    none = np.eye(ELEMENTS, dtype=complex)
    none[D, D] = 1 - alpha + alpha * to_d52 * RETURNS
    none[X, D], none[B, D] = alpha * to_d52 * (1 - RETURNS), alpha * to_d32
    for element in (SD, DS, DM, MD):
        none[element, element] = left
    one, ket, bra = (np.zeros((ELEMENTS, ELEMENTS), complex) for _ in range(3))
    one[S, D] = alpha * to_s
    ket[S, DS], ket[SD, D], ket[SM, DM] = emitted, emitted * left, emitted
    bra[S, SD], bra[DS, D], bra[MS, MD] = emitted.conjugate(), emitted.conjugate() * left, emitted.conjugate()
    return Emission(none, one, ket, bra)


def emitted(state: State, a: Emission, b: Emission, weights: Interference, phase_rad: float) -> State:
    """The joint state after both pulses, given what the detectors did (``weights``); unnormalised.

    phase_rad:  optical phase of Alice's arm minus Bob's
    """
    crossed = weights.cross * cmath.exp(1j * phase_rad)
    return (
        weights.none * (a.none @ state @ b.none.T)
        + weights.a * (a.one @ state @ b.none.T)
        + weights.b * (a.none @ state @ b.one.T)
        + weights.both * (a.one @ state @ b.one.T)
        + crossed * (a.ket @ state @ b.bra.T)
        + crossed.conjugate() * (a.bra @ state @ b.ket.T)
    )


@dataclass(frozen=True, slots=True)
class TwoRounds:
    """Everything about one attempt of two rounds, given the state of the laboratory.

    rounds:      windows, gates and packets of each
    gates:       of both, as the attempt has them
    places:      of each round's gates among them
    once_more:   second-round responses of each detector after it clicked in the first: with afterpulses
    again:       of each node, the probability to emit in the second round after none and after one in the first
    emissions:   of each node, the second pulse
    pulses_ps:   of each round and node, begin and end of the 854 nm pulse
    """

    rounds: tuple[Outlook, Outlook]
    gates: tuple[tuple[int, OpenGate], ...]
    places: tuple[tuple[int, ...], tuple[int, ...]]
    once_more: tuple[tuple[Response, Response, Response], tuple[Response, Response, Response]]
    again: tuple[tuple[float, float], tuple[float, float]]
    emissions: tuple[Emission, Emission]
    pulses_ps: tuple[tuple[tuple[int, int], tuple[int, int]], tuple[tuple[int, int], tuple[int, int]]]

    def odds(self) -> dict[str, float]:
        """Probability of each click pattern, one digit per gate, averaged over optical phases; but for that without clicks."""
        early = [(digits, self._weighed(0, digits, (False, False))) for digits in self._all_digits(0)]
        late = {
            clicked: [(digits, self._weighed(1, digits, clicked)) for digits in self._all_digits(1)]
            for clicked in ((False, False), (False, True), (True, False), (True, True))
        }
        found: dict[str, float] = {}
        for digits, first in early:
            for more, second in late[self._clicked(0, digits)]:
                pattern = ["0"] * len(self.gates)
                for places, shown in zip(self.places, (digits, more), strict=True):
                    for place, digit in zip(places, shown, strict=True):
                        pattern[place] = digit
                found["".join(pattern)] = self._chance(first, second)
        del found["0" * len(self.gates)]
        return found

    def probability(self, pattern: str) -> float:
        """Probability of one of these patterns."""
        return self.odds()[pattern]

    def way_probability(self, ways: Ways) -> float:
        """Probability of what the detectors did, cause by cause."""
        return self._chance(self.weights(0, ways), self.weights(1, ways))

    def causes(self, pattern: str) -> list[Ways]:
        """The ways in which a pattern can come about."""
        first, second = (
            outlook.causes(self._digits(number, pattern)) for number, outlook in enumerate(self.rounds)
        )
        return list(itertools.product(first, second))

    def weights(self, number: int, ways: Ways) -> Interference:
        """Weight of what the detectors did in one round."""
        clicked = (ways[0][0] < 2, ways[0][1] < 2) if number else (False, False)
        one, two = (self._shown(number, detector, clicked)[ways[number][detector]] for detector in (0, 1))
        return self._weights(one, two)

    def after_first(self, ways: Ways, phase_rad: float) -> State:
        """Unnormalised joint state of the ions after the first pulse, given what the detectors saw of it."""
        return heralded(self.weights(0, ways), *self.rounds[0].emitters, phase_rad)

    def after_second(self, state: State, ways: Ways, phase_rad: float) -> State:
        """Unnormalised joint state after the second pulse, of the one before it."""
        return emitted(state, *self.emissions, self.weights(1, ways), phase_rad)

    def _all_digits(self, number: int) -> list[str]:
        return ["".join(digits) for digits in itertools.product("01", repeat=len(self.rounds[number].gates))]

    def _weighed(self, number: int, digits: str, clicked: tuple[bool, bool]) -> Interference:
        """Weight of the clicks of one round, whatever caused them, after those of the round before."""
        shown = [self._shown(number, detector, clicked) for detector in (0, 1)]
        seen = [one[2] for one in shown]
        for (detector, _), digit in zip(self.rounds[number].gates, digits, strict=True):
            if digit == "1":
                seen[detector] = click(shown[detector])
        return self._weights(*seen)

    def _digits(self, number: int, pattern: str) -> str:
        return "".join(pattern[place] for place in self.places[number])

    def _clicked(self, number: int, digits: str) -> tuple[bool, bool]:
        seen = {
            detector
            for (detector, _), digit in zip(self.rounds[number].gates, digits, strict=True)
            if digit == "1"
        }
        return 0 in seen, 1 in seen

    def _shown(
        self, number: int, detector: int, clicked: tuple[bool, bool]
    ) -> tuple[Response, Response, Response]:
        return (
            self.once_more[detector] if number and clicked[detector] else self.rounds[number].shown[detector]
        )

    def _weights(self, first: Response, second: Response) -> Interference:
        return interfere(first, second, *self.rounds[0].emitters, self.rounds[0].mode_overlap)

    def _chance(self, first: Interference, second: Interference) -> float:
        """Σ over who emitted in the first round: its weight, times that of the second round for the ions this leaves."""
        a, b = self.rounds[0].emitters
        found = 0.0
        for emits_a, share_a in enumerate((1 - a.bright, a.bright)):
            for emits_b, share_b in enumerate((1 - b.bright, b.bright)):
                weight = (first.none, first.b, first.a, first.both)[2 * emits_a + emits_b]
                u, v = self.again[0][emits_a], self.again[1][emits_b]
                found += (
                    share_a
                    * share_b
                    * weight
                    * (
                        u * v * second.both
                        + u * (1 - v) * second.a
                        + (1 - u) * v * second.b
                        + (1 - u) * (1 - v) * second.none
                    )
                )
        return found


class TwoRoundModel:
    """Makes outlooks of attempts with two excitations; what a single one has comes from ``model``."""

    def __init__(self, parameters: Parameters, model: AttemptModel) -> None:
        self._p = parameters
        self._model = model
        self._flights = tuple(
            photon.flight_ps(node, parameters) for node in (parameters.alice, parameters.bob)
        )
        self._split: tuple[Reading, tuple[Reading, Reading]] | None = None

    def outlook(
        self, reading: Reading, arms: tuple[ArmState, ArmState], detectors: tuple[Detector, Detector]
    ) -> TwoRounds:
        """One attempt that plays ``reading`` with the instruments as they are."""
        pulses = excitations(reading)
        readings = self._readings(reading, pulses)
        p, atom = self._p, self._p.atom
        emitters: list[Emitter] = []
        again: list[tuple[float, float]] = []
        emissions: list[Emission] = []
        for node, arm in enumerate(arms):
            emitter = returning(self._model.emitter(node, reading, arm))
            first, second = pulses[node]
            tone = arm.light.reset._replace(detuning_hz=arm.light.reset.detuning_hz + second.frequency_hz)
            alpha = excitation_probability(second.amplitude, second.duration_ps / 1e12, tone, p)
            branching = (atom.p32_to_s12, atom.p32_to_d52, atom.p32_to_d32)
            begin, end = first.start_ps + first.duration_ps, second.start_ps
            stays = self._in_d(node, reading, arm, begin, end)
            there = emitter.dark * stays[D]  # at the second pulse, without a photon before
            there += math.fsum(one * stay for one, stay in zip(emitter.others, stays, strict=False))
            excited, quiet = alpha * atom.p32_to_s12, 1 - emitter.bright
            again.append((there / quiet * excited if quiet > 0 else 0.0, stays[S] * excited))
            emitters.append(emitter)
            emissions.append(emission(alpha, branching, 2 * math.pi * second.phase_turns))
        rounds = [
            self._model.seen(one, (emitters[0], emitters[1]), arms, number, detectors)
            for number, one in enumerate(readings)
        ]
        rounds[1] = replace(rounds[1], emitters=_late(emitters, again))
        gates = tuple(reading.midpoint_gates)
        places = tuple(tuple(gates.index(gate) for gate in one.gates) for one in rounds)
        return TwoRounds(
            (rounds[0], rounds[1]),
            gates,
            (places[0], places[1]),
            (self._once_more(rounds, 0), self._once_more(rounds, 1)),
            (again[0], again[1]),
            (emissions[0], emissions[1]),
            (_spans(pulses, 0), _spans(pulses, 1)),
        )

    def _readings(
        self, reading: Reading, pulses: tuple[list[PlayedPulse], list[PlayedPulse]]
    ) -> tuple[Reading, Reading]:
        """The gates of each round: a gate that is open when the photons of the second pulse arrive, or later, is of the second."""
        if self._split is None or self._split[0] is not reading:
            arrives = min(own[1].start_ps + flight for own, flight in zip(pulses, self._flights, strict=True))
            late = [gate.start_ps + gate.duration_ps > arrives for _, gate in reading.midpoint_gates]
            first, second = (
                [gate for gate, after in zip(reading.midpoint_gates, late, strict=True) if after == wanted]
                for wanted in (False, True)
            )
            self._refuse(reading, first, second)
            self._split = (
                reading,
                (replace(reading, midpoint_gates=first), replace(reading, midpoint_gates=second)),
            )
        return self._split[1]

    def _refuse(
        self, reading: Reading, first: list[tuple[int, OpenGate]], second: list[tuple[int, OpenGate]]
    ) -> None:
        name = reading.segment.name
        if not first or not second:
            raise ConfigError(
                f"segment {name!r}: two 854 nm pulses need a detector gate for the photons of each; there are "
                f"{len(first)} for the first and {len(second)} for the second"
            )
        dead_ps = self._p.detectors.dead_s * 1e12
        for detector, late in second:
            for other, early in first:
                if detector == other and late.start_ps - early.start_ps - early.duration_ps < dead_ps:
                    raise ConfigError(
                        f"segment {name!r}: the gates of detector {detector} are closer than its dead time of "
                        f"{dead_ps / 1e3:g} ns; put more time between the 854 nm pulses"
                    )

    def _once_more(self, rounds: list[Outlook], detector: int) -> tuple[Response, Response, Response]:
        """Second-round responses of a detector that clicked in the first: the chance of an afterpulse is noise."""
        early, late = ([gate for number, gate in one.gates if number == detector] for one in rounds)
        window = rounds[1].windows[detector]
        if window is None or not early:
            return responses(window)
        d = self._p.detectors
        (first,), (second,) = early, late
        wait_s = (second.start_ps - first.start_ps - first.duration_ps / 2) / 1e12
        share = math.exp(-wait_s / d.afterpulse_time_s)
        share *= -math.expm1(-second.duration_ps / 1e12 / d.afterpulse_time_s)
        quiet = (1 - window.noise) * (1 - d.afterpulse * share)
        return responses(Window(1 - quiet, window.seen, window.overlap))

    def _in_d(self, node: int, reading: Reading, arm: ArmState, begin_ps: int, end_ps: int) -> list[float]:
        """Probability to be in D5/2 (m = -5/2) at ``end_ps``, for each level at ``begin_ps``: pulses in between, decay."""
        m, light = self._p.memory, arm.light
        acts = [
            (pulse, other)
            for beam, other in (("qubit_729", D), ("raman_393", M))
            for pulse in reading.beams[node].get(beam, ())
            if begin_ps <= pulse.start_ps < end_ps
        ]
        chance = [0.0] * LEVELS
        chance[D] = math.exp(-(end_ps - begin_ps) / 1e12 / self._p.atom.d52_lifetime_s)
        for pulse, other in sorted(acts, key=lambda act: -act[0].start_ps):
            if other == D:
                share = self._model.flipped(pulse, arm)
            else:
                rabi = math.pi / m.pi_time_s * (1 + m.angle_error) * light.raman.power * pulse.amplitude
                offset_hz = m.light_shift_hz - pulse.frequency_hz - light.raman.detuning_hz
                share = flop(rabi, offset_hz, pulse.duration_ps / 1e12)
            stays, moves = chance[S], chance[other]
            chance[S] = (1 - share) * stays + share * moves
            chance[other] = share * stays + (1 - share) * moves
        return chance


def twice(reading: Reading) -> bool:
    """Whether an attempt has more than one 854 nm pulse on an ion."""
    return any(len(beams.get("excite_854", ())) > 1 for beams in reading.beams)


def excitations(reading: Reading) -> tuple[list[PlayedPulse], list[PlayedPulse]]:
    """The two 854 nm pulses of each node; ConfigError if a node has another number of them."""
    a, b = (beams.get("excite_854", []) for beams in reading.beams)
    if len(a) != 2 or len(b) != 2:
        raise ConfigError(
            f"segment {reading.segment.name!r}: an attempt has one 854 nm pulse per node or two on both; it has "
            f"{len(a)} on Alice's and {len(b)} on Bob's ion"
        )
    return a, b


def returning(emitter: Emitter) -> Emitter:
    """The same with what P3/2 gave back to the level that is excited put there, not into the other states of D5/2."""
    s, d, b, x = emitter.others
    return emitter._replace(others=(s, d + RETURNS * x, b, (1 - RETURNS) * x))


def _late(emitters: list[Emitter], again: list[tuple[float, float]]) -> tuple[Emitter, Emitter]:
    """How often each node emits in the second round, for the times of its clicks."""
    a, b = (
        Emitter(
            emits := (1 - e.bright) * none + e.bright * one, 1 - emits, (0.0, 0.0, 0.0, 0.0), e.transmission
        )
        for e, (none, one) in zip(emitters, again, strict=True)
    )
    return a, b


def _spans(
    pulses: tuple[list[PlayedPulse], list[PlayedPulse]], number: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    a, b = ((own[number].start_ps, own[number].start_ps + own[number].duration_ps) for own in pulses)
    return a, b
