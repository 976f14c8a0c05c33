"""Two ions as one density matrix: rotations, dephasing, decay, scattering, and projective readout.

Levels of each ion: S and D, the qubit; B, bright but outside the qubit (other Zeeman state of S1/2, or D3/2 while
repumped); X, dark outside the qubit (other Zeeman states of D5/2). Coherence exists only within the qubit.
"""

from __future__ import annotations

import cmath
import math

import numpy as np
from numpy.typing import NDArray

LEVELS = 4
S, D, B, X = range(LEVELS)
BRIGHT = np.array([1.0, 0.0, 1.0, 0.0])
Density = NDArray[np.complex128]
Matrix = NDArray[np.float64]


class IonPair:
    """Joint state ρ of Alice's (0) and Bob's (1) ion, shape (4, 4, 4, 4) [a, b, a', b'], trace one."""

    def __init__(self) -> None:
        self.rho: Density = np.zeros((LEVELS,) * 4, complex)
        for a in (S, B):
            for b in (S, B):
                self.rho[a, b, a, b] = 0.25

    def set(self, rho: Density) -> None:
        """Take over an unnormalised state."""
        self.rho = rho / np.einsum("abab", rho).real

    def rotate(self, ion: int, unitary: Density) -> None:
        """Apply a 2x2 unitary on (S, D) of one ion."""
        full = np.eye(LEVELS, dtype=complex)
        full[:2, :2] = unitary
        big = np.zeros((LEVELS,) * 4, complex)
        levels = np.arange(LEVELS)
        if ion == 0:
            big[:, levels, :, levels] = full
        else:
            big[levels, :, levels, :] = full
        u = big.reshape(16, 16)
        self.rho = (u @ self.rho.reshape(16, 16) @ u.conj().T).reshape((LEVELS,) * 4)

    def mix(self, ion: int, transfer: Matrix, coherence: complex) -> None:
        """Classical transfer between the levels of one ion; its S-D coherence <S|ρ|D> is multiplied by ``coherence``.

        transfer:  [to, from], columns sum to one
        """
        rho = self.rho if ion == 0 else self.rho.transpose(1, 0, 3, 2)
        levels = np.arange(LEVELS)
        diagonal = rho[levels, :, levels, :]
        moved = np.tensordot(transfer, diagonal, axes=(1, 0))
        new = np.zeros_like(rho)
        new[S, :, D, :] = rho[S, :, D, :] * coherence
        new[D, :, S, :] = rho[D, :, S, :] * complex(coherence).conjugate()
        new[levels, :, levels, :] = moved
        self.rho = new if ion == 0 else new.transpose(1, 0, 3, 2)

    def populations(self, ion: int) -> Matrix:
        """Level populations of one ion."""
        return np.einsum("abab->a" if ion == 0 else "abab->b", self.rho).real

    def joint_populations(self) -> Matrix:
        """Populations [a, b], shape (4, 4)."""
        return np.einsum("abab->ab", self.rho).real

    def measure(self, ion: int, rng: np.random.Generator) -> bool:
        """Whether the ion is bright; projects the state."""
        bright = float(self.populations(ion) @ BRIGHT)
        seen = bool(rng.random() < bright)
        keep = BRIGHT if seen else 1 - BRIGHT
        mask = keep[:, None, None, None] if ion == 0 else keep[None, :, None, None]
        mask2 = keep[None, None, :, None] if ion == 0 else keep[None, None, None, :]
        self.set(self.rho * mask * mask2)
        return seen

    # what light and time do
    def idle(self, ion: int, phase_rad: float, decay: float) -> None:
        """Free evolution: D gains exp(-i phase); with probability ``decay`` an ion in D5/2 falls to S1/2."""
        kept = math.sqrt(1 - decay) * cmath.exp(1j * phase_rad)
        self.mix(ion, decay_transfer(decay), kept)

    def depolarise(self, ion: int, share: float) -> None:
        """Replace the qubit by its fully mixed state with probability ``share``."""
        transfer = np.eye(LEVELS)
        transfer[:2, :2] = [[1 - share / 2, share / 2], [share / 2, 1 - share / 2]]
        self.mix(ion, transfer, 1 - share)

    def shelve(self, ion: int, share: float, cycle: float) -> None:
        """397 nm light: a share of the bright population forgets its Zeeman state; without repumper it ends in D3/2.

        cycle:  how well the repumper works, 0 to 1
        """
        transfer = np.eye(LEVELS)
        for level in (S, B):
            transfer[:, level] *= 1 - share
            transfer[S, level] += share * cycle / 2
            transfer[B, level] += share * (1 - cycle / 2)
        self.mix(ion, transfer, 0.0)

    def pump(self, ion: int, share: float, error: float) -> None:
        """Optical pumping: a share of the bright population goes to S, up to ``error`` of it left in B."""
        transfer = np.eye(LEVELS)
        for level in (S, B):
            transfer[:, level] *= 1 - share
            transfer[S, level] += share * (1 - error)
            transfer[B, level] += share * error
        self.mix(ion, transfer, 0.0)

    def reset(self, ion: int, share: float) -> None:
        """854 nm light for long: a share of D5/2 goes to the bright states."""
        transfer = np.eye(LEVELS)
        for level in (D, X):
            transfer[level, level] = 1 - share
            transfer[S, level] = transfer[B, level] = share / 2
        self.mix(ion, transfer, 0.0)

    def excite(self, ion: int, alpha: float, branching: tuple[float, float, float]) -> None:
        """854 nm pulse, photon not looked at: α of D goes to P3/2 and on to S, D3/2 (as B) or D5/2 (as X)."""
        to_s, to_d52, to_d32 = branching
        transfer = np.eye(LEVELS)
        transfer[:, D] = (alpha * to_s, 1 - alpha, alpha * to_d32, alpha * to_d52)
        self.mix(ion, transfer, math.sqrt(1 - alpha))


def decay_transfer(decay: float) -> Matrix:
    """Transfer matrix of spontaneous decay of D5/2: D to S, X to B."""
    transfer = np.eye(LEVELS)
    transfer[D, D] = transfer[X, X] = 1 - decay
    transfer[S, D] = transfer[B, X] = decay
    return transfer


def rotation(
    rabi_rad_per_s: float,
    duration_s: float,
    phase_rad: float,
    detuning_hz: float,
    start_turns: float,
    frequency_hz: float,
) -> Density:
    """Unitary on (S, D), in the frame of the line's nominal frequency, of a square pulse.

    On resonance exp(-iθ/2 (cos φ σx + sin φ σy)) with S the first state and θ = rabi x duration.

    detuning_hz:   atom minus tone
    start_turns:   phase that the tone's offset ``frequency_hz`` has gathered since time 0 at the pulse's start, turns
    """
    offset = 2 * math.pi * detuning_hz
    effective = math.hypot(rabi_rad_per_s, offset)
    half = effective * duration_s / 2
    sine = math.sin(half) / effective if effective else duration_s / 2
    cosine = math.cos(half)
    common = cmath.exp(-1j * offset * duration_s / 2)
    drive = -1j * rabi_rad_per_s * sine
    turned = cmath.exp(1j * phase_rad)
    ss = common * complex(cosine, offset * sine)
    dd = common * complex(cosine, -offset * sine)
    sd = common * drive * turned.conjugate()
    ds = common * drive * turned
    into = cmath.exp(2j * math.pi * start_turns)
    back = cmath.exp(-2j * math.pi * (start_turns + frequency_hz * duration_s))
    return np.array([[ss, sd * into], [ds * back, dd * back * into]])
