"""Two ions as one quantum state: rotations, dephasing, decay, scattering, and projective readout.

Levels of each ion: S (S1/2, m = -1/2) and D (D5/2), the optical qubit; M, the other Zeeman state of S1/2, with S the
memory qubit; B, bright but outside (D3/2 while repumped, S1/2 that nobody prepared); X, dark outside (other Zeeman
states of D5/2). Coherence exists only among S, D and M, so the density matrix of one ion has eleven elements that can
differ from zero, and the joint state is their 11 x 11 product table: state[i, j] multiplies E_i of Alice's ion and E_j
of Bob's, E = |S><S|, |D><D|, |B><B|, |X><X|, |M><M|, |S><D|, |D><S|, |S><M|, |M><S|, |D><M|, |M><D|. Whatever happens
to one ion is an 11 x 11 matrix on one side of the table.
"""

from __future__ import annotations

import cmath
import math

import numpy as np
from numpy.typing import NDArray

ELEMENTS = 11
S, D, B, X, M, SD, DS, SM, MS, DM, MD = range(ELEMENTS)
LEVELS = 5
BRIGHT, DARK = (S, B, M), (D, X)
COHERENT = (S, D, M)
State = NDArray[np.complex128]

_TABLE = ((S, SD, SM), (DS, D, DM), (MS, MD, M))
"""Element |row><column| of the three coherent levels."""
_WHERE = np.array(_TABLE).ravel()
_ROW, _COLUMN = (index.ravel() for index in np.indices((3, 3)))
_INTO = np.ix_(_WHERE, _WHERE)
_ROWS, _COLUMNS = np.ix_(_ROW, _ROW), np.ix_(_COLUMN, _COLUMN)


class IonPair:
    """Joint state of Alice's (0) and Bob's (1) ion, shape (11, 11), trace one."""

    def __init__(self) -> None:
        self.state: State = np.zeros((ELEMENTS, ELEMENTS), complex)
        self.state[np.ix_((S, B), (S, B))] = 0.25

    def set(self, state: State) -> None:
        """Take over an unnormalised state."""
        self.state = state / state[:LEVELS, :LEVELS].real.sum()

    def apply(self, ion: int, channel: State) -> None:
        """Apply a channel, [to, from], to one ion."""
        self.state = channel @ self.state if ion == 0 else self.state @ channel.T

    def populations(self, ion: int) -> NDArray[np.float64]:
        """Populations of S, D, B, X, M of one ion."""
        return self.joint_populations().sum(axis=1 - ion)

    def joint_populations(self) -> NDArray[np.float64]:
        """Populations [a, b], shape (5, 5)."""
        return self.state[:LEVELS, :LEVELS].real

    def qubits(self) -> NDArray[np.complex128]:
        """Density matrix of the two qubits, shape (4, 4), basis SS, SD, DS, DD; its trace is less than one by the leakage."""
        return self._block(((S, SD), (DS, D)))

    def memories(self) -> NDArray[np.complex128]:
        """Density matrix of the two memory qubits, shape (4, 4), basis MM, MS, SM, SS; M stores what was S, S what was D."""
        return self._block(((M, MS), (SM, S)))

    def _block(self, elements: tuple[tuple[int, int], tuple[int, int]]) -> NDArray[np.complex128]:
        element = np.array(elements)
        table = self.state[element[:, :, None, None], element[None, None]]
        return table.transpose(0, 2, 1, 3).reshape(4, 4)

    def measure(self, ion: int, rng: np.random.Generator) -> bool:
        """Whether the ion is bright; projects the state."""
        there = self.populations(ion)
        seen = bool(rng.random() < there[S] + there[B] + there[M])
        keep = np.zeros(ELEMENTS)
        keep[list(BRIGHT if seen else DARK)] = 1
        self.set(self.state * (keep[:, None] if ion == 0 else keep))
        return seen


def rotation(unitary: NDArray[np.complex128], memory_phase_rad: float = 0.0) -> State:
    """Channel of a 2 x 2 unitary on (S, D), while M gains exp(-i memory_phase)."""
    whole = np.zeros((3, 3), complex)
    whole[:2, :2] = unitary
    whole[2, 2] = cmath.exp(-1j * memory_phase_rad)
    channel = np.zeros((ELEMENTS, ELEMENTS), complex)
    channel[B, B] = channel[X, X] = 1
    channel[_INTO] = whole[_ROWS] * whole.conj()[_COLUMNS]
    return channel


def pulse(
    rabi_rad_per_s: float,
    duration_s: float,
    phase_rad: float,
    detuning_hz: float,
    start_turns: float,
    frequency_hz: float,
) -> NDArray[np.complex128]:
    """Unitary on (S, D), or (S, M), in the frame of the line's nominal frequency, of a square pulse.

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
    drive = -1j * rabi_rad_per_s * sine * common
    turned = cmath.exp(1j * phase_rad)
    ss = common * complex(cosine, offset * sine)
    dd = common * complex(cosine, -offset * sine)
    sd = drive * turned.conjugate()
    ds = drive * turned
    into = cmath.exp(2j * math.pi * start_turns)
    back = cmath.exp(-2j * math.pi * (start_turns + frequency_hz * duration_s))
    return np.array([[ss, sd * into], [ds * back, dd * back * into]])


def idle(phase_rad: float, decay: float, memory_phase_rad: float = 0.0) -> State:
    """Free evolution: D gains exp(-i phase), M exp(-i memory_phase); with probability ``decay`` D5/2 falls to S1/2."""
    channel = np.zeros((ELEMENTS, ELEMENTS), complex)
    channel[S, S] = channel[B, B] = channel[M, M] = 1
    channel[D, D] = channel[X, X] = 1 - decay
    channel[S, D] = channel[B, X] = decay
    turned = math.sqrt(1 - decay) * cmath.exp(1j * phase_rad)
    stored = cmath.exp(1j * memory_phase_rad)
    channel[SD, SD], channel[DS, DS] = turned, turned.conjugate()
    channel[SM, SM], channel[MS, MS] = stored, stored.conjugate()
    channel[MD, MD] = turned * stored.conjugate()
    channel[DM, DM] = turned.conjugate() * stored
    return channel


def depolarise(share: float) -> State:
    """The optical qubit is replaced by its fully mixed state with probability ``share``; M is only told from it."""
    channel = np.eye(ELEMENTS, dtype=complex)
    channel[S, S] = channel[D, D] = 1 - share / 2
    channel[S, D] = channel[D, S] = share / 2
    channel[SD, SD] = channel[DS, DS] = 1 - share
    for element in (SM, MS, DM, MD):
        channel[element, element] = math.sqrt(max(0.0, 1 - 3 * share / 4))
    return channel


def shelve(share: float, cycle: float) -> State:
    """397 nm light: a share of the bright population forgets its Zeeman state; without repumper it ends in D3/2.

    cycle:  how well the repumper works, 0 to 1
    """
    return _spread(BRIGHT, share, (cycle / 2, 1 - cycle / 2))


def pump(share: float, error: float) -> State:
    """Optical pumping: a share of the bright population goes to S, up to ``error`` of it that ends in B."""
    return _spread(BRIGHT, share, (1 - error, error))


def reset(share: float) -> State:
    """854 nm light for long: a share of D5/2 goes to the bright states; a memory qubit does not see it."""
    channel = _spread(DARK, share, (0.5, 0.5))
    channel[SM, SM] = channel[MS, MS] = 1
    return channel


def _spread(levels: tuple[int, ...], share: float, shares: tuple[float, float]) -> State:
    """A share of the population of ``levels`` is spread over S and B; no coherence is left."""
    channel = np.zeros((ELEMENTS, ELEMENTS), complex)
    for level in range(LEVELS):
        channel[level, level] = 1
    for level in levels:
        channel[level, level] = 1 - share
        channel[S, level] += share * shares[0]
        channel[B, level] += share * shares[1]
    return channel


def excite(alpha: float, branching: tuple[float, float, float]) -> State:
    """854 nm pulse, photon not looked at: α of D goes to P3/2 and on to S, D5/2 (as X) or D3/2 (as B)."""
    to_s, to_d52, to_d32 = branching
    channel = np.eye(ELEMENTS, dtype=complex)
    channel[:LEVELS, D] = (alpha * to_s, 1 - alpha, alpha * to_d32, alpha * to_d52, 0)
    for element in (SD, DS, DM, MD):
        channel[element, element] = math.sqrt(1 - alpha)
    return channel
