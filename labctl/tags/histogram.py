"""Histograms of time differences: arrival in a gate, start-stop, coincidences and the cross-correlation g2.

Bins have one width. The counts are exact integers; nothing is binned through floating point.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.errors import DataError, LimitError
from labctl.tags.stream import Tags, Times, check_channel, refuse_backwards

_LONGEST_PS = 1 << 52
_MOST_BINS = 1 << 28


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts in bins of one width; bin k holds ``k * bin_ps <= t < (k + 1) * bin_ps``."""

    bin_ps: int
    counts: Times
    """Shape (bins,)."""

    @property
    def edges_ps(self) -> Times:
        """Bin edges, shape (bins + 1,)."""
        return np.arange(self.counts.size + 1, dtype=np.int64) * self.bin_ps


@dataclass(frozen=True, slots=True, eq=False)
class Correlation:
    """Pairs of clicks by their lag (second channel minus first), and g2, which is 1 for independent light."""

    bin_ps: int
    lag_ps: Times
    """Bin centres, shape (2 n + 1,), 0 in the middle; a bin holds lag - bin/2 <= t < lag + bin/2 (halves rounded down
    for the lower edge of an odd width)."""
    counts: Times
    """Pairs, shape (2 n + 1,)."""
    g2: NDArray[np.float64]
    """Counts over those expected of independent clicks at the same mean rates; nan where nothing is expected."""


def arrival(tags: Tags, channel: int, gates_ps: Times, bin_ps: int, bins: int) -> Histogram:
    """When clicks of ``channel`` came after the last gate start; ``gates_ps`` is sorted int64, shape (gates,)."""
    _check_bins(bin_ps, bins)
    if gates_ps.dtype != np.int64 or gates_ps.ndim != 1:
        raise DataError(
            f"gate starts have type {gates_ps.dtype} and shape {gates_ps.shape}; expected int64, one dimension"
        )
    refuse_backwards(gates_ps, "gate starts")
    from labctl.tags import _loops

    counts = np.zeros(bins, np.int64)
    _loops.arrival(
        tags.time_ps, tags.channel, check_channel(channel), np.ascontiguousarray(gates_ps), bin_ps, counts
    )
    return Histogram(bin_ps, counts)


def start_stop(tags: Tags, start: int, stop: int, bin_ps: int, bins: int) -> Histogram:
    """Time from the last click on ``start`` to each click on ``stop`` (every stop counts, not only the first).

    A start at the very time of a stop counts, with 0 ps. With ``start == stop`` it is the distribution of the time
    between neighbouring clicks.
    """
    _check_bins(bin_ps, bins)
    from labctl.tags import _loops

    counts = np.zeros(bins, np.int64)
    _loops.start_stop(tags.time_ps, tags.channel, check_channel(start), check_channel(stop), bin_ps, counts)
    return Histogram(bin_ps, counts)


def coincidences(tags: Tags, a: int, b: int, window_ps: int) -> int:
    """Pairs of one click on ``a`` and one on ``b`` with ``|t_b - t_a| <= window_ps``; each pair counts once.

    A click with two partners is in two pairs. With ``a == b`` it counts pairs of different clicks of that channel.
    """
    if not 0 <= window_ps <= _LONGEST_PS:
        raise LimitError(f"the coincidence window is {window_ps} ps; expected 0 to {_LONGEST_PS} ps")
    from labctl.tags import _loops

    return int(_loops.coincidences(tags.time_ps, tags.channel, check_channel(a), check_channel(b), window_ps))


def correlate(tags: Tags, a: int, b: int, bin_ps: int, longest_ps: int) -> Correlation:
    """Cross-correlation g2 of channels ``a`` and ``b`` for lags up to ``longest_ps`` (a multiple of ``bin_ps``).

    With ``a == b`` it is the autocorrelation, without each click's pair with itself. g2 is normalised to the rates
    over the duration T of the recording and to the time T - |lag| in which a pair with that lag fits.
    """
    half = longest_ps // bin_ps if bin_ps > 0 else 0
    _check_bins(bin_ps, 2 * half + 1)
    if longest_ps < 0 or half * bin_ps != longest_ps:
        raise LimitError(f"the longest lag is {longest_ps} ps; expected a multiple of the bin, {bin_ps} ps")
    from labctl.tags import _loops

    times_a, times_b = _times(tags, check_channel(a)), _times(tags, check_channel(b))
    counts = np.zeros(2 * half + 1, np.int64)
    _loops.correlate(times_a, times_b, -longest_ps - bin_ps // 2, bin_ps, counts)
    if a == b:
        counts[half] -= times_a.size
    lag = np.arange(-half, half + 1, dtype=np.int64) * bin_ps
    pairs = float(times_a.size) * float(times_b.size - (a == b))
    return Correlation(bin_ps, lag, counts, _normalised(counts, lag, pairs, bin_ps, tags.duration_ps))


def _normalised(
    counts: Times, lag: Times, pairs: float, bin_ps: int, duration_ps: int
) -> NDArray[np.float64]:
    fits = np.maximum(duration_ps - np.abs(lag), 0).astype(np.float64)
    expected = pairs * bin_ps * fits / float(duration_ps) ** 2 if duration_ps else np.zeros(lag.size)
    g2 = np.full(lag.size, np.nan)
    np.divide(counts, expected, out=g2, where=expected > 0)
    return g2


def _times(tags: Tags, channel: int) -> Times:
    from labctl.tags import _loops

    out = np.empty(len(tags), np.int64)
    return out[: int(_loops.pick(tags.time_ps, tags.channel, channel, out))]


def _check_bins(bin_ps: int, bins: int) -> None:
    if bin_ps < 1 or not 1 <= bins <= _MOST_BINS or bin_ps * bins > _LONGEST_PS:
        raise LimitError(
            f"a histogram of {bins} bins of {bin_ps} ps; expected bins of at least 1 ps, 1 to {_MOST_BINS} of them,"
            f" and a span of at most {_LONGEST_PS} ps"
        )
