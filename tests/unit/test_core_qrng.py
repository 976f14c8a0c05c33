"""Settings from health-tested random blocks: weights, bits used once, blocks that fail."""

import numpy as np
import pytest

from labctl.core.qrng import BLOCK_BITS, DRAW_BITS, LONGEST_RUN, WINDOW, Bits, SettingSource, healthy
from labctl.errors import CoreError


def fair(seed: int = 1):
    rng = np.random.default_rng(seed)
    return lambda count: rng.integers(0, 2, count, np.uint8)


def test_weights_come_out() -> None:
    source = SettingSource(fair())
    draws = np.bincount([source.draw((0.29, 0.29, 0.42)) for _ in range(20_000)], minlength=3) / 20_000
    assert draws == pytest.approx([0.29, 0.29, 0.42], abs=4 * 0.5 / 20_000**0.5)


def test_a_setting_without_weight_is_never_drawn() -> None:
    source = SettingSource(fair(2))
    assert {source.draw((0.0, 1.0, 0.0)) for _ in range(5000)} == {1}


def test_each_bit_is_used_once() -> None:
    asked: list[int] = []
    raw = fair(3)

    def counted(count: int) -> Bits:
        asked.append(count)
        return raw(count)

    source = SettingSource(counted)
    per_block = BLOCK_BITS // DRAW_BITS
    for _ in range(per_block):
        source.draw((1.0, 1.0))
    assert (len(asked), source.block) == (1, 0)
    source.draw((1.0, 1.0))
    assert (len(asked), source.block) == (2, 1)


def test_good_bits_pass_and_bad_ones_do_not() -> None:
    bits = fair(4)(BLOCK_BITS)
    assert healthy(bits)
    stuck = bits.copy()
    stuck[1000 : 1000 + LONGEST_RUN] = 1
    assert not healthy(stuck)
    biased = bits.copy()
    biased[: 10 * WINDOW] |= fair(5)(10 * WINDOW)  # three ones to a zero, in no long runs
    assert not healthy(biased)


def test_a_bad_block_is_thrown_away() -> None:
    good = fair(6)
    blocks = iter([np.zeros(BLOCK_BITS, np.uint8), good(BLOCK_BITS)])
    source = SettingSource(lambda _: next(blocks))
    source.draw((1.0, 1.0))
    assert (source.block, source.failed) == (1, [0])


def test_a_broken_source_stops_the_run() -> None:
    source = SettingSource(lambda count: np.ones(count, np.uint8))
    with pytest.raises(CoreError, match="health tests 8 times"):
        source.draw((1.0, 1.0))
