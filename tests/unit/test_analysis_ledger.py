"""The ledger of a sifted key: counts by hand, and the raw key that the calcium experiment published."""

from pathlib import Path

import numpy as np
import pytest

from labctl.analysis.ledger import bits_of, ledger, left
from labctl.errors import LimitError

KEY = Path(__file__).parents[2] / "../shared/data/ca40_10km_sifted_key"


def test_counts_of_a_small_key() -> None:
    alice, bob = bits_of(b"\xf0\x0f\xaa\x55"), bits_of(b"\xf0\x0f\xaa\x57")
    found = ledger(alice, bob, 100, 8)
    assert (found.bits, found.errors, found.joint) == (32, 1, (15, 1, 0, 16))
    assert found.error_rate.value == pytest.approx(1 / 32)
    assert found.share.value == pytest.approx(0.32)
    assert found.efficiency.value == pytest.approx(8 / (32 * 0.2006217), rel=1e-5)


def test_errors_that_come_in_bunches_are_seen() -> None:
    rng = np.random.default_rng(3)
    alice = rng.integers(0, 2, 40_000).astype(np.uint8)
    even = (rng.random(40_000) < 0.04).astype(np.uint8)
    bunched = (rng.random(40_000) < np.linspace(0.0, 0.08, 40_000)).astype(np.uint8)
    assert ledger(alice, alice ^ even, 10**5, 1).spread.value < 2.3  # 4 sigma
    assert ledger(alice, alice ^ bunched, 10**5, 1).spread.value > 5


def test_keys_that_do_not_fit_are_refused() -> None:
    one = np.zeros(8, np.uint8)
    with pytest.raises(LimitError, match="8 and 7 bits"):
        ledger(one, one[:7], 100, 1)
    with pytest.raises(LimitError, match="without errors"):
        ledger(one, one, 100, 1)


@pytest.mark.skipif(not KEY.exists(), reason="../shared/data/ca40_10km_sifted_key is not there")
def test_the_published_raw_key() -> None:
    """105 976 bits, 3 813 errors, joint counts, f = 1.127 and 31 544 bits left (PHYSICS.md 1.4 and 8.8)."""
    alice, bob = (bits_of((KEY / f"{name}_key.bin").read_bytes()) for name in ("alice", "bob"))
    found = ledger(alice, bob, 405_145, 26_706)
    assert (found.bits, found.errors) == (105_976, 3813)
    assert found.joint == (49_679, 1274, 2539, 52_484)
    assert found.error_rate.value == pytest.approx(0.035980, abs=5e-7)
    assert found.efficiency.value == pytest.approx(1.127, abs=5e-4)
    assert abs(found.spread.value - 1) < 4 * found.spread.standard_error
    assert left(found.bits, 2.5758, 26_706) == pytest.approx(31_544, abs=5)
