"""Setting bits from blocks of a random source that pass their health tests first; each bit is used once (PHYSICS.md 8.1)."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from labctl.errors import CoreError

Bits = NDArray[np.uint8]

BLOCK_BITS = 1 << 16
DRAW_BITS = 16
"""Bits of one draw: weights are kept to 2**-16."""
LONGEST_RUN = 41
"""Repetition count test (NIST SP 800-90B, 4.4.1): cutoff 1 + 40 / H for a false alarm of 2**-40 at H = 1 bit."""
WINDOW = 1024
"""Adaptive proportion test (NIST SP 800-90B, 4.4.2) on windows of this many bits."""
MOST_SAME = 624
"""Its cutoff at H = 1 bit: P(Binomial(1023, 1/2) >= 623) = 2e-12."""
MOST_BAD = 8
"""Blocks in a row that may fail before the source counts as broken."""


class SettingSource:
    """Draws settings from blocks of raw bits.

    raw:  gives so many bits of the source, an array of 0 and 1
    """

    def __init__(self, raw: Callable[[int], Bits]) -> None:
        self._raw = raw
        self.block = -1
        """Number of the block in use; blocks that failed have numbers, too."""
        self.failed: list[int] = []
        """Blocks that were thrown away."""
        self._words: list[int] = []
        self._bounds: dict[tuple[float, ...], list[int]] = {}

    def draw(self, weights: Sequence[float]) -> int:
        """0 .. len(weights) - 1 with these weights; CoreError if the source is broken."""
        key = tuple(weights)
        bounds = self._bounds.get(key)
        if bounds is None:
            whole = math.fsum(key)
            sums = np.cumsum(key) / whole
            bounds = self._bounds[key] = [round(float(one) * 2**DRAW_BITS) for one in sums[:-1]]
        if not self._words:
            self._refill()
        return bisect.bisect_right(bounds, self._words.pop())

    def _refill(self) -> None:
        for _ in range(MOST_BAD):
            self.block += 1
            bits = self._raw(BLOCK_BITS)
            if healthy(bits):
                words = np.packbits(bits.reshape(-1, DRAW_BITS), axis=1).view(">u2")
                self._words = words.ravel().tolist()
                return
            self.failed.append(self.block)
        raise CoreError(
            f"the random source of the settings failed its health tests {MOST_BAD} times in a row "
            f"(blocks {self.failed[-MOST_BAD]} to {self.failed[-1]}): check its bias and its light before data are taken"
        )


def healthy(bits: Bits) -> bool:
    """Whether a block of bits passes the repetition count and the adaptive proportion test."""
    changes = np.flatnonzero(np.diff(bits))
    edges = np.concatenate(([-1], changes, [len(bits) - 1]))
    if int(np.diff(edges).max()) >= LONGEST_RUN:
        return False
    windows = bits[: len(bits) // WINDOW * WINDOW].reshape(-1, WINDOW)
    same = (windows == windows[:, :1]).sum(axis=1)
    return int(same.max(initial=0)) < MOST_SAME
