"""Clicks of detectors with dead time and afterpulses, one after the other, as light of given rates makes them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Recovery(NamedTuple):
    """What a click does to the clicks that follow on the same detector.

    dead_ps:       dead time; a photon in it is lost and does not prolong it
    afterpulse:    probability of a click without a photon, ``after_ps`` (mean of an exponential) after the dead time
    """

    dead_ps: float
    afterpulse: float
    after_ps: float


class Train(NamedTuple):
    """Clicks: which start and which slot they belong to, and their time after that start, ps; shape (clicks,) each."""

    start: Ints
    slot: Ints
    time_ps: Ints


def live_rate(rate_hz: float, recovery: Recovery) -> float:
    """Clicks per second of a detector with photons (and noise) at ``rate_hz``: R/(1 + R dead), more with afterpulses.

    From click to click: the dead time, then the photon, or with the probability of an afterpulse whichever comes first.
    """
    dead_s, after_s = recovery.dead_ps * 1e-12, recovery.after_ps * 1e-12
    first_s = recovery.afterpulse * after_s / (1 + rate_hz * after_s)
    return rate_hz / (1 - recovery.afterpulse + rate_hz * (dead_s + first_s))


def draw(
    rng: np.random.Generator,
    means: Floats,
    slots: tuple[Ints, Ints, Ints],
    starts_ps: Ints,
    recovery: Recovery,
    last_ps: Ints,
) -> Train:
    """The clicks of slots in which a detector would click ``means`` times if it had no dead time.

    means:      shape (starts, slots)
    slots:      detector, begin after the start in ps and length in ps of each slot; slots of one detector in order of time
    starts_ps:  rising
    last_ps:    last click of each detector before; brought up to date
    """
    start, slot, time, count = _draw(
        rng, means, *slots, starts_ps, recovery.dead_ps, recovery.afterpulse, recovery.after_ps, last_ps
    )
    return Train(start[:count], slot[:count], time[:count])


@njit(cache=True, nogil=True)
def _draw(
    rng: np.random.Generator,
    means: Floats,
    detector: Ints,
    begin: Ints,
    span: Ints,
    starts: Ints,
    dead: float,
    afterpulse: float,
    after: float,
    last: Ints,
) -> tuple[Ints, Ints, Ints, int]:
    room = int(1.2 * means.sum()) + 64
    in_start, in_slot, at = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    count = 0
    pending = np.full(len(last), np.inf)  # afterpulses to come, ps after the start
    for s in range(len(starts)):
        pending[:] = np.inf
        for k in range(len(begin)):
            d = detector[k]
            end = float(begin[k] + span[k])
            time = max(float(begin[k]), float(last[d] - starts[s]) + dead)
            rate = means[s, k] / span[k]
            while True:
                photon = time + rng.standard_exponential() / rate if rate > 0 else np.inf
                if pending[d] < time:
                    pending[d] = np.inf  # lost in the dead time, or before the slot
                click = min(photon, pending[d])
                if click >= end:
                    break
                if click == pending[d]:
                    pending[d] = np.inf
                time = click + dead
                last[d] = starts[s] + int(click)
                if afterpulse > 0 and rng.random() < afterpulse:
                    pending[d] = time + after * rng.standard_exponential()
                if count == room:
                    room *= 2
                    in_start, in_slot, at = _longer(in_start), _longer(in_slot), _longer(at)
                in_start[count], in_slot[count], at[count] = s, k, int(click)
                count += 1
    return in_start, in_slot, at, count


@njit(cache=True, nogil=True)
def _longer(values: Ints) -> Ints:
    longer = np.empty(2 * len(values), np.int64)
    longer[: len(values)] = values
    return longer


def latch_probability(rate_hz: float, span_s: float, recovery: Recovery, latch: float) -> float:
    """Probability that light at ``rate_hz`` leaves a wire resistive: each photon in a dead time has the chance ``latch``.

    A second photon before the bias has come back is how nanowires latch (Annunziata et al., J. Appl. Phys. 108, 084507).
    """
    share_dead = 1 - 1 / (1 + rate_hz * recovery.dead_ps * 1e-12)
    return -math.expm1(-latch * rate_hz * span_s * share_dead)
