"""Pulses on the memory qubit, the Zeeman pair S and M of S1/2: a whole train of them as one channel of one ion.

Between pulses the pair gathers the phase that the noise gave it; each pulse is a unitary with the detuning of its moment, and
may scatter a photon. A scattered photon leaves the ion in P3/2's metastable neighbours D5/2 or D3/2, or flips the pair,
or does nothing to it (elastic, off both states alike); it always tells the pair from an ion in D5/2.
"""

from __future__ import annotations

import cmath
import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulated_hw.world.ion import DM, DS, ELEMENTS, MD, MS, SD, SM, B, D, M, S, State, X

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_TO_PAULI = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1j, -1j], [1, -1, 0, 0]])
"""(1, X, Y, Z) of the pair from its elements (S, M, SM, MS)."""
_FROM_PAULI = np.linalg.inv(_TO_PAULI)
_PAIR = np.ix_((S, M, SM, MS), (S, M, SM, MS))
_WITH_D = np.ix_((SD, MD), (SD, MD))
_D_WITH = np.ix_((DS, DM), (DS, DM))


class Drive(NamedTuple):
    """Raman light on one ion now.

    rabi_rad_per_s:  Rabi frequency at amplitude 1
    detuning_hz:     memory line minus tone while the light is on, beside noise and the tone's own offset
    """

    rabi_rad_per_s: float
    detuning_hz: float


class Scattering(NamedTuple):
    """What spontaneous emission does in one π pulse.

    share:    probability of a scattered photon
    flip:     share of these that flips the pair
    to_d52, to_d32:  shares that end in D5/2 and in D3/2
    """

    share: float
    flip: float
    to_d52: float
    to_d32: float


class Train(NamedTuple):
    """Raman pulses on one ion, one after the other; ``first`` and ``last`` are places of begin and end on a grid of times.

    begin_s, span_s:  of each pulse, s from the start of the segment
    frequency_hz, phase_rad, amplitude:  of its tone
    """

    first: Indices
    last: Indices
    begin_s: Floats
    span_s: Floats
    frequency_hz: Floats
    phase_rad: Floats
    amplitude: Floats


def channel(
    train: Train,
    start_s: float,
    cycles: Floats,
    drive: Drive,
    scattering: Scattering,
    line_phase_rad: float,
    decay: float,
) -> State:
    """Channel of a train, from the begin of its first pulse to the end of its last, on one ion.

    start_s:         laboratory time of the segment's start, s (phases of detuned tones count from time 0)
    cycles:          of the memory line at the places of the grid
    line_phase_rad:  that D5/2 gathers meanwhile
    decay:           probability that D5/2 decays meanwhile
    """
    unitary = np.empty((2, 2), np.complex128)
    bloch = np.empty((3, 3))
    left = _play(
        *train,
        start_s,
        cycles,
        drive.rabi_rad_per_s,
        drive.detuning_hz,
        scattering.share,
        scattering.flip,
        scattering.to_d52 + scattering.to_d32,
        unitary,
        bloch,
    )
    kept, untold = left
    whole = np.zeros((ELEMENTS, ELEMENTS), complex)
    pauli = np.zeros((4, 4))
    pauli[0, 0], pauli[1:, 1:] = kept, bloch
    whole[_PAIR] = _FROM_PAULI @ pauli @ _TO_PAULI
    leaks = scattering.to_d52 + scattering.to_d32
    lost52 = (1 - kept) * (scattering.to_d52 / leaks if leaks else 0.0)
    whole[X, [S, M]] = lost52 * (1 - decay / 2)
    whole[B, [S, M]] = 1 - kept - lost52 * (1 - decay / 2)
    whole[D, D] = whole[X, X] = 1 - decay
    whole[B, B], whole[B, X] = 1, decay
    whole[S, D] = whole[M, D] = decay / 2
    turned = unitary * (untold * math.sqrt(1 - decay) * cmath.exp(1j * line_phase_rad))
    whole[_WITH_D] = turned
    whole[_D_WITH] = turned.conj()
    return whole


@njit(cache=True, nogil=True)
def _play(
    first: Indices,
    last: Indices,
    begin_s: Floats,
    span_s: Floats,
    frequency_hz: Floats,
    phase_rad: Floats,
    amplitude: Floats,
    start_s: float,
    cycles: Floats,
    rabi_nominal: float,
    detuning_hz: float,
    share: float,
    flip: float,
    leak: float,
    unitary: State,
    bloch: Floats,
) -> tuple[float, float]:
    """Unitary and Bloch matrix of a train; what is left of the population, and of the coherence with D5/2."""
    two_pi = 2 * math.pi
    u00, u01, u10, u11 = 1 + 0j, 0j, 0j, 1 + 0j
    r = np.eye(3)
    kept = untold = 1.0
    before = first[0]
    for i in range(len(first)):
        turn = -two_pi * (cycles[first[i]] - cycles[before])  # M gains exp(i turn) between pulses
        if turn != 0.0:
            c, s = math.cos(turn), math.sin(turn)
            u10, u11 = u10 * complex(c, s), u11 * complex(c, s)
            for k in range(3):
                x, y = r[0, k], r[1, k]
                r[0, k], r[1, k] = c * x - s * y, s * x + c * y
        span = span_s[i]
        offset = two_pi * ((cycles[last[i]] - cycles[first[i]]) / span + detuning_hz - frequency_hz[i])
        rabi = rabi_nominal * amplitude[i]
        effective = math.sqrt(rabi * rabi + offset * offset)
        if effective > 0:
            half = effective * span / 2
            sine, cosine = math.sin(half) / effective, math.cos(half)
        else:
            sine, cosine = span / 2, 1.0
        angle = -offset * span / 2
        common = complex(math.cos(angle), math.sin(angle))
        drive = complex(0.0, -rabi * sine) * common
        ahead = phase_rad[i] - two_pi * ((frequency_hz[i] * (start_s + begin_s[i])) % 1.0)
        turned = complex(math.cos(ahead), math.sin(ahead))
        detune = -two_pi * frequency_hz[i] * span
        back = complex(math.cos(detune), math.sin(detune))
        p00 = common * complex(cosine, offset * sine)
        p11 = common * complex(cosine, -offset * sine) * back
        p01 = drive * turned.conjugate()
        p10 = drive * turned * back
        u00, u01, u10, u11 = (
            p00 * u00 + p01 * u10,
            p00 * u01 + p01 * u11,
            p10 * u00 + p11 * u10,
            p10 * u01 + p11 * u11,
        )
        m00, m11, m01 = p00 * p11.conjugate(), p01 * p10.conjugate(), p00 * p01.conjugate()
        # S and M are up and down: rho_SM = (x - i y) / 2
        xx, xy = (m00 + m11).real, (m00 - m11).imag
        yx, yy = -(m00 + m11).imag, (m00 - m11).real
        up = p00 * p10.conjugate()
        xz, yz = 2 * up.real, -2 * up.imag
        zx, zy = 2 * m01.real, 2 * m01.imag
        zz = abs(p00) ** 2 - abs(p01) ** 2
        event = -math.expm1(-share * abs(rabi) * span / math.pi)
        gone = event * leak
        flat, tall = 1 - gone - event * flip, 1 - gone - 2 * event * flip
        for k in range(3):
            x, y, z = r[0, k], r[1, k], r[2, k]
            r[0, k] = flat * (xx * x + xy * y + xz * z)
            r[1, k] = flat * (yx * x + yy * y + yz * z)
            r[2, k] = tall * (zx * x + zy * y + zz * z)
        kept *= 1 - gone
        untold *= math.sqrt(max(0.0, 1 - event))
        before = last[i]
    unitary[0, 0], unitary[0, 1], unitary[1, 0], unitary[1, 1] = u00, u01, u10, u11
    bloch[:] = r
    return kept, untold
