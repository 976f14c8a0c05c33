"""The ledger of a sifted key: bits, errors, what error correction disclosed, and what is left without finite-size terms."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.keyrate import binary_entropy, eavesdropper_information, qber
from labctl.analysis.value import Estimate
from labctl.errors import LimitError

BLOCKS = 20
"""Equal stretches over which the errors are compared with a constant rate."""


class Ledger(NamedTuple):
    """What two sifted keys say.

    joint:       how often (Alice's bit, Bob's bit) were (0, 0), (0, 1), (1, 0), (1, 1)
    share:       sifted bits over all rounds
    efficiency:  disclosed bits over what Shannon asks for at this error rate, disclosed / (n h(Q))
    spread:      chi² per degree of freedom of the errors in ``BLOCKS`` stretches: 1 for a rate that does not change
    """

    bits: int
    errors: int
    joint: tuple[int, int, int, int]
    error_rate: Estimate
    share: Estimate
    efficiency: Estimate
    spread: Estimate


def bits_of(packed: bytes) -> NDArray[np.uint8]:
    """Bits of a key file, most significant first, shape (8 bytes,)."""
    return np.unpackbits(np.frombuffer(packed, np.uint8))


def ledger(alice: NDArray[np.uint8], bob: NDArray[np.uint8], rounds: int, disclosed: int) -> Ledger:
    """Compare two sifted keys of shape (n,).

    rounds:     of the whole run, sifted or not
    disclosed:  bits that error correction told, with its checks and flags

    Raises LimitError for keys of different or no length, or without errors.
    """
    count = len(alice)
    if len(bob) != count or not 0 < count <= rounds:
        raise LimitError(f"keys of {count} and {len(bob)} bits out of {rounds} rounds do not fit together")
    wrong = alice != bob
    errors = int(wrong.sum())
    joint = np.bincount(2 * alice.astype(np.int64) + bob, minlength=4).tolist()
    rate = qber(errors, count)
    share = count / rounds
    shannon = count * binary_entropy(rate.value)
    if not shannon > 0:
        raise LimitError("a key without errors, or with nothing else, has no efficiency of error correction")
    slope = math.log2((1 - rate.value) / rate.value) / binary_entropy(rate.value)
    efficiency = disclosed / shannon
    return Ledger(
        count,
        errors,
        (joint[0], joint[1], joint[2], joint[3]),
        rate,
        Estimate(share, math.sqrt(share * (1 - share) / rounds)),
        Estimate(efficiency, efficiency * slope * rate.standard_error),
        _spread(wrong),
    )


def left(bits: float, s: float, disclosed: float) -> float:
    """Bits of a key of any length that are secret as the length goes to infinity: n (1 - chi(S)) - disclosed."""
    return bits * (1 - eavesdropper_information(s)) - disclosed


def _spread(wrong: NDArray[np.bool_]) -> Estimate:
    parts = np.array_split(wrong, min(BLOCKS, len(wrong)))
    seen, sizes = np.array([part.sum() for part in parts]), np.array([len(part) for part in parts])
    rate = wrong.mean()
    freedom = max(1, len(parts) - 1)
    chi_squared = float(((seen - sizes * rate) ** 2 / (sizes * rate * (1 - rate))).sum())
    return Estimate(chi_squared / freedom, math.sqrt(2 / freedom))
