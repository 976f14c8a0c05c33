"""Magnetic noise at the two ions: Ornstein-Uhlenbeck noise of each node and of both, slow drift, tones of the mains.

Everything is counted in Hz of the 729 nm line; another transition sees the same field times the ratio of sensitivities.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulated_hw.world.mains import Mains
from simulated_hw.world.parameters import LineTones, Parameters
from simulated_hw.world.phase import Wander

Floats = NDArray[np.float64]

PS_PER_S = 1e12
SLOW_STEP_PS = 10_000_000_000
"""The slow drift is followed in steps of 10 ms at least."""
HARMONICS = 3


class Steps(NamedTuple):
    """A grid of times, and what its intervals do to Ornstein-Uhlenbeck noise of unit rms.

    edges_s:  times, s, shape (n + 1,)
    keep:     share of x that is left after each interval, shape (n,)
    spread:   rms of what comes to x
    carry_s:  part of the integral of x that x at the start decides, per unit of x
    along_s, rest_s:  rms of the integral that goes with what comes to x, and of what does not
    """

    edges_s: Floats
    keep: Floats
    spread: Floats
    carry_s: Floats
    along_s: Floats
    rest_s: Floats


def steps(edges_s: Floats, time_s: float) -> Steps:
    """The exact propagation of x and of its integral over each interval between ``edges_s``, correlation ``time_s``."""
    u = np.diff(edges_s) / time_s
    keep, lost = np.exp(-u), -np.expm1(-u)
    spread = np.sqrt(-np.expm1(-2 * u))
    small = u < 1e-3
    variance = np.where(small, 2 * u**3 / 3 * (1 - 0.75 * u), 2 * u - 3 + 4 * keep - keep**2)
    along = np.divide(lost**2, spread, out=np.zeros_like(u), where=spread > 0)
    rest = np.sqrt(np.maximum(0.0, variance - along**2))
    return Steps(edges_s, keep, spread, lost * time_s, along * time_s, rest * time_s)


class FieldNoise:
    """Phase that the 729 nm line of each node gathers, in cycles; asked in order of time.

    rng:  stream of random numbers by name
    """

    def __init__(self, parameters: Parameters, rng: Callable[[str], np.random.Generator]) -> None:
        q, m = parameters.qubit, parameters.memory
        own, both = math.sqrt(1 - m.common_noise), math.sqrt(m.common_noise)
        self._time_s = q.line_noise_time_s
        self._normal = rng("field")
        self._fast = [
            Wander(rng(f"{name}.line"), share * q.line_noise_hz, q.line_noise_time_s)
            for name, share in (("alice", own), ("bob", own), ("field", both))
        ]
        self._slow = [
            Wander(rng(f"{name}.drift"), q.line_drift_hz, q.line_drift_time_s, 0.0)
            for name in ("alice", "bob")
        ]
        mains, tones = parameters.mains, parameters.tones
        self._mains = None if mains is None else Mains(mains.frequency_hz, mains.start_turns)
        nominal_hz = 50.0 if mains is None else mains.frequency_hz
        self._tones = np.stack([_quadratures(one, nominal_hz) for one in (tones.alice, tones.bob)])
        self._quadratures: list[list[list[float]]] = self._tones.tolist()
        self._humming = mains is not None and bool(self._tones.any())
        self.time_ps = 0
        self._slow_ps = 0

    def steps(self, edges_s: Floats) -> Steps:
        """A grid of times that ``over`` can be asked for again and again."""
        return steps(edges_s, self._time_s)

    def jump(self, time_ps: int) -> None:
        """Go on to a time; what the lines did until then does not matter."""
        span_s = (time_ps - self.time_ps) / PS_PER_S
        if span_s > 0:
            for wander in self._fast:
                if wander.sigma > 0:
                    wander.step(span_s)
            self.time_ps = time_ps
        self._drift(time_ps)

    def advance(self, time_ps: int) -> tuple[float, float]:
        """Go on to a time; cycles of each node's line until then."""
        begin_s, span_s = self.time_ps / PS_PER_S, (time_ps - self.time_ps) / PS_PER_S
        if span_s <= 0:
            return 0.0, 0.0
        self._drift(self.time_ps)
        alice, bob, both = (wander.advance(span_s) if wander.sigma > 0 else 0.0 for wander in self._fast)
        alice += both + self._slow[0].x * span_s
        bob += both + self._slow[1].x * span_s
        if self._mains is not None and self._humming:
            swing = [self._swing(begin_s + late_s) for late_s in (0.0, span_s)]
            alice += swing[1][0] - swing[0][0]
            bob += swing[1][1] - swing[0][1]
        self.time_ps = time_ps
        return alice, bob

    def _swing(self, time_s: float) -> tuple[float, float]:
        """Integral of the mains tones of both nodes up to a time, cycles, but for a constant."""
        assert self._mains is not None
        theta = 2 * math.pi * self._mains.phase_turns(time_s)
        sums = [0.0, 0.0]
        for node, tones in enumerate(self._quadratures):
            for k, (sine, cosine) in enumerate(tones, 1):
                sums[node] += sine * math.sin(k * theta) + cosine * math.cos(k * theta)
        return sums[0], sums[1]

    def over(self, grid: Steps) -> Floats:
        """Go on from now over a grid that begins now; cycles of each node's line since then at its edges, shape (2, n + 1)."""
        begin_ps = self.time_ps
        self._drift(begin_ps)
        count = len(grid.keep)
        state = np.array([wander.x for wander in self._fast])
        rms = np.array([wander.sigma for wander in self._fast])
        active = np.flatnonzero(rms > 0)
        normals = self._normal.standard_normal((len(active), count, 2))
        slow = np.array([wander.x for wander in self._slow])
        theta = 0.0
        if self._mains is not None and self._humming:
            theta = 2 * math.pi * self._mains.phase_turns(begin_ps / PS_PER_S)
        rate = 2 * math.pi * self._mains.frequency_hz if self._mains is not None else 0.0
        cycles = _gather(*grid, active, normals, rms, state, slow, theta, rate, self._tones, self._humming)
        for wander, x in zip(self._fast, state.tolist(), strict=True):
            wander.x = x
        self.time_ps = begin_ps + round((grid.edges_s[-1] - grid.edges_s[0]) * PS_PER_S)
        return cycles

    def _drift(self, time_ps: int) -> None:
        if time_ps - self._slow_ps > SLOW_STEP_PS:
            for wander in self._slow:
                wander.step((time_ps - self._slow_ps) / PS_PER_S)
            self._slow_ps = time_ps


def _quadratures(tones: LineTones, frequency_hz: float) -> Floats:
    """Cycles per unit of sin(kθ) and of cos(kθ) that the integral of each harmonic's tone swings by, shape (3, 2)."""
    amplitudes = (tones.first_hz, tones.second_hz, tones.third_hz)
    phases = (tones.first_turns, tones.second_turns, tones.third_turns)
    swing = np.array(amplitudes) / (2 * np.pi * frequency_hz * np.arange(1, HARMONICS + 1))
    angle = 2 * np.pi * np.array(phases)
    return np.stack([swing * np.cos(angle), swing * np.sin(angle)], axis=1)


@njit(cache=True, nogil=True)
def _gather(
    edges: Floats,
    keep: Floats,
    spread: Floats,
    carry: Floats,
    along: Floats,
    rest: Floats,
    active: NDArray[np.int64],
    normals: Floats,
    rms: Floats,
    state: Floats,
    slow: Floats,
    theta: float,
    rate: float,
    tones: Floats,
    humming: bool,
) -> Floats:
    """Cumulative cycles of both nodes at the edges; ``state`` is brought to the last one."""
    count = len(keep)
    cycles = np.zeros((2, count + 1))
    for place in range(len(active)):
        which = active[place]
        sigma = rms[which]
        x = state[which] / sigma
        total = 0.0
        for i in range(count):
            first, second = normals[place, i, 0], normals[place, i, 1]
            total += sigma * (carry[i] * x + along[i] * first + rest[i] * second)
            x = keep[i] * x + spread[i] * first
            if which != 1:
                cycles[0, i + 1] += total
            if which != 0:
                cycles[1, i + 1] += total
        state[which] = x * sigma
    start = edges[0]
    for i in range(count):
        elapsed = edges[i + 1] - start
        cycles[0, i + 1] += slow[0] * elapsed
        cycles[1, i + 1] += slow[1] * elapsed
    if humming:
        base0 = base1 = 0.0
        for i in range(count + 1):
            angle = theta + rate * (edges[i] - start)
            s1, c1 = math.sin(angle), math.cos(angle)
            s2, c2 = 2 * s1 * c1, 1 - 2 * s1 * s1
            s3, c3 = s2 * c1 + c2 * s1, c2 * c1 - s2 * s1
            a = tones[0, 0, 0] * s1 + tones[0, 0, 1] * c1 + tones[0, 1, 0] * s2 + tones[0, 1, 1] * c2
            a += tones[0, 2, 0] * s3 + tones[0, 2, 1] * c3
            b = tones[1, 0, 0] * s1 + tones[1, 0, 1] * c1 + tones[1, 1, 0] * s2 + tones[1, 1, 1] * c2
            b += tones[1, 2, 0] * s3 + tones[1, 2, 1] * c3
            if i == 0:
                base0, base1 = a, b
            cycles[0, i] += a - base0
            cycles[1, i] += b - base1
    return cycles
