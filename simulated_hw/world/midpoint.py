"""Interference of two arms at the midpoint: odds of the click patterns and the state of the ions that each one leaves.

Single-photon interference with threshold detectors (PHYSICS 3.1; Cabrillo et al., PRA 59, 1025 (1999)), extended to
unequal arms, unequal detectors and windows, noise, distinguishable photons and preparation errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simulated_hw.world.ion import DS, ELEMENTS, LEVELS, SD, D, S, State


class Emitter(NamedTuple):
    """One node just after its 854 nm pulse: probabilities that sum to one with ``bright``.

    bright:  in S with a photon emitted (coherent with ``dark``)
    dark:    in D, not excited
    others:  (S, D, B, X) without a photon, incoherent: failed pulses, other Zeeman states, decay back to D5/2
    transmission:  photon into its fibre -> beam splitter, without the etalon's share in the windows
    phase_rad: of the 854 nm pulse
    """

    bright: float
    dark: float
    others: tuple[float, float, float, float]
    transmission: float
    phase_rad: float = 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """One detector during its gate.

    noise:    probability of at least one noise click
    seen:     probability that a photon at this output makes a click, for Alice's and Bob's photon
    overlap:  normalised overlap of the two photons as this detector sees them, <B|A>
    """

    noise: float
    seen: tuple[float, float]
    overlap: complex


class Response(NamedTuple):
    """Probability of what a detector shows, for the photons at its input: none, A, B, both; and the A-B interference."""

    none: float
    a: float
    b: float
    both: float
    cross: complex


def responses(window: Window | None) -> tuple[Response, Response, Response]:
    """A detector's (click by a photon, click by noise alone, no click); without a gate it never clicks."""
    if window is None:
        nothing = Response(0.0, 0.0, 0.0, 0.0, 0j)
        return nothing, nothing, Response(1.0, 1.0, 1.0, 1.0, 1 + 0j)
    a, b = window.seen
    p = window.noise
    lost = (1 - a) * (1 - b)
    found = Response(0.0, a, b, 1 - lost, math.sqrt(a * b) * window.overlap)
    missed = Response(1.0, 1 - a, 1 - b, lost, math.sqrt(lost) * window.overlap)
    return found, _times(missed, p), _times(missed, 1 - p)


def click(window_responses: tuple[Response, Response, Response]) -> Response:
    """A click, whatever caused it."""
    found, missed, _ = window_responses
    return Response(
        found.none + missed.none,
        found.a + missed.a,
        found.b + missed.b,
        found.both + missed.both,
        found.cross + missed.cross,
    )


def _times(response: Response, factor: float) -> Response:
    none, a, b, both, cross = response
    return Response(none * factor, a * factor, b * factor, both * factor, cross * factor)


class Interference(NamedTuple):
    """What a pattern (or one cause of it) weighs, by the photons that left the nodes: none, A, B, both; and coherence."""

    none: float
    a: float
    b: float
    both: float
    cross: complex


def interfere(first: Response, second: Response, a: Emitter, b: Emitter, mode_overlap: float) -> Interference:
    """Both detectors behind a balanced beam splitter; output 0 is φ = 0 for the sum of the arms.

    mode_overlap:  squared overlap of the photons (two-photon visibility)
    """
    ta, tb = a.transmission, b.transmission
    none = first.none * second.none
    only_a = (first.a * second.none + first.none * second.a) / 2
    only_b = (first.b * second.none + first.none * second.b) / 2
    pair = (1 + mode_overlap) / 4 * (first.both * second.none + first.none * second.both) + (
        1 - mode_overlap
    ) / 4 * (first.a * second.b + first.b * second.a)
    cross = math.sqrt(ta * tb) / 2 * (first.cross * second.none - first.none * second.cross)
    return Interference(
        none,
        ta * only_a + (1 - ta) * none,
        tb * only_b + (1 - tb) * none,
        ta * tb * pair + ta * (1 - tb) * only_a + (1 - ta) * tb * only_b + (1 - ta) * (1 - tb) * none,
        cross,
    )


def probability(weights: Interference, a: Emitter, b: Emitter) -> float:
    """Probability per attempt of what ``weights`` stands for."""
    return (
        a.bright * b.bright * weights.both
        + a.bright * (1 - b.bright) * weights.a
        + (1 - a.bright) * b.bright * weights.b
        + (1 - a.bright) * (1 - b.bright) * weights.none
    )


def heralded(weights: Interference, a: Emitter, b: Emitter, phase_rad: float) -> State:
    """Unnormalised joint state of the ions, see ion.IonPair.

    phase_rad:  optical phase of Alice's arm minus Bob's at the click
    """
    quiet_a, quiet_b = np.zeros(LEVELS), np.zeros(LEVELS)
    quiet_a[: len(a.others)], quiet_b[: len(b.others)] = a.others, b.others
    quiet_a[D] += a.dark
    quiet_b[D] += b.dark
    state = np.zeros((ELEMENTS, ELEMENTS), complex)
    state[:LEVELS, :LEVELS] = np.outer(quiet_a, quiet_b) * weights.none
    state[S, :LEVELS] += a.bright * weights.a * quiet_b
    state[:LEVELS, S] += b.bright * weights.b * quiet_a
    state[S, S] += a.bright * b.bright * weights.both
    phase = phase_rad + a.phase_rad - b.phase_rad
    amplitude = math.sqrt(a.bright * a.dark * b.bright * b.dark)
    coherence = amplitude * weights.cross * complex(math.cos(phase), math.sin(phase))
    state[SD, DS] = coherence
    state[DS, SD] = coherence.conjugate()
    return state
