"""The compiled loops over time tags; importing this file loads numba and takes about a second.

Every loop is compiled when this file is imported (from numba's cache after the first time), releases the GIL, and
takes arrays it does not change as read-only, so that memory-mapped and Arrow data need no copy. Only
``labctl.tags`` calls these: sizes and types are checked by the callers.
"""

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

I8s = NDArray[np.int64]
U1s = NDArray[np.uint8]

_I8 = types.int64
_TIMES = types.Array(types.int64, 1, "C", readonly=True)
_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_OUT_I8 = types.Array(types.int64, 1, "C")
_OUT_U1 = types.Array(types.uint8, 1, "C")
_OUT_I8_2D = types.Array(types.int64, 2, "C")

NO_SLOT = 255
"""Entry of the detector table for channels that are not detectors."""

_GAP_CHUNK = 16


@njit(
    _I8(_TIMES, _BYTES, _BYTES, _TIMES, _I8, _I8, _OUT_I8, _OUT_I8, _OUT_I8, _OUT_I8, _OUT_U1, _OUT_I8_2D),
    cache=True,
    nogil=True,
)
def search(
    time: I8s,
    channel: U1s,
    slot: U1s,
    gates: I8s,
    window: int,
    until: int,
    state: I8s,
    opened: I8s,
    counts: I8s,
    attempt: I8s,
    pattern: U1s,
    first: I8s,
) -> int:
    """Sort clicks into gates; returns how many attempts with clicks it wrote.

    ``state`` is [gates closed in this call, pattern of the open gate, gates closed before this call].
    """
    seen = state[1]
    before = state[2]
    n_gates = gates.size
    n_detectors = opened.size
    written = 0
    g = 0
    i = 0
    while g < n_gates:
        start = gates[g]
        end = start + window
        while i < time.size and time[i] < start:
            i += 1
        while i < time.size and time[i] < end:
            s = slot[channel[i]]
            if s != NO_SLOT and not (seen >> s) & 1:
                seen |= 1 << s
                opened[s] = time[i] - start
            i += 1
        if i == time.size and end > until:
            break
        counts[seen] += 1
        if seen:
            attempt[written] = before + g
            pattern[written] = seen
            for d in range(n_detectors):
                first[written, d] = opened[d]
                opened[d] = -1
            written += 1
            seen = 0
        g += 1
    state[0] = g
    state[1] = seen
    return written


@njit(_I8(_TIMES, _BYTES, _I8, _OUT_I8, _OUT_I8, _OUT_U1), cache=True, nogil=True)
def dead_time(time: I8s, channel: U1s, dead: int, free_at: I8s, out_time: I8s, out_channel: U1s) -> int:
    """Keep a click unless its channel is still dead from the last kept one; returns how many are kept."""
    kept = 0
    for i in range(time.size):
        t = time[i]
        c = channel[i]
        out_time[kept] = t
        out_channel[kept] = c
        if t >= free_at[c]:
            free_at[c] = t + dead
            kept += 1
    return kept


@njit(types.void(_TIMES, _BYTES, _TIMES, _BYTES, _OUT_I8, _OUT_U1), cache=True, nogil=True)
def merge_two(
    time_a: I8s, channel_a: U1s, time_b: I8s, channel_b: U1s, out_time: I8s, out_channel: U1s
) -> None:
    """Merge two sorted streams; at equal times ``a`` comes first."""
    i = 0
    j = 0
    for k in range(out_time.size):
        if j == time_b.size or (i < time_a.size and time_a[i] <= time_b[j]):
            out_time[k] = time_a[i]
            out_channel[k] = channel_a[i]
            i += 1
        else:
            out_time[k] = time_b[j]
            out_channel[k] = channel_b[j]
            j += 1


@njit(_I8(_TIMES, _BYTES, types.uint8, _OUT_I8), cache=True, nogil=True)
def pick(time: I8s, channel: U1s, wanted: int, out: I8s) -> int:
    """Copy the times of one channel; returns how many."""
    kept = 0
    for i in range(time.size):
        out[kept] = time[i]
        kept += channel[i] == wanted
    return kept


@njit(_I8(_TIMES, _BYTES, types.uint8, types.uint8, _I8), cache=True, nogil=True)
def coincidences(time: I8s, channel: U1s, a: int, b: int, window: int) -> int:
    """Pairs of one click on ``a`` and one on ``b`` at most ``window`` apart."""
    total = 0
    n = time.size
    i = 0
    while i < n:
        stop = min(i + _GAP_CHUNK, n)
        if i + _GAP_CHUNK < n:
            close = 0
            for k in range(i, i + _GAP_CHUNK):
                close += time[k + 1] - time[k] <= window
            if close == 0:
                i = stop
                continue
        for k in range(i, stop):
            c = channel[k]
            if c != a and c != b:
                continue
            other = b if c == a else a
            j = k + 1
            while j < n and time[j] - time[k] <= window:
                total += channel[j] == other
                j += 1
        i = stop
    return total


@njit(_I8(_I8, _I8, types.float64), cache=True, nogil=True, inline="always")
def _bin(dt: int, width: int, inverse: float) -> int:
    """Exactly ``dt // width`` for 0 <= dt < 2**53, without a division."""
    k = int(dt * inverse)
    if k * width > dt:
        k -= 1
    elif (k + 1) * width <= dt:
        k += 1
    return k


@njit(types.void(_TIMES, _BYTES, types.uint8, types.uint8, _I8, _OUT_I8), cache=True, nogil=True)
def start_stop(time: I8s, channel: U1s, start: int, stop: int, width: int, counts: I8s) -> None:
    """Histogram of the time from the last start to each stop; a start at the time of the stop counts."""
    span = width * counts.size
    inverse = 1.0 / width
    last = np.int64(0)
    started = False
    for i in range(time.size):
        c = channel[i]
        if c == stop and start != stop:
            j = i + 1
            while j < time.size and time[j] == time[i]:
                if channel[j] == start:
                    last = time[i]
                    started = True
                j += 1
        if c == stop and started:
            dt = time[i] - last
            if dt < span:
                counts[_bin(dt, width, inverse)] += 1
        if c == start:
            last = time[i]
            started = True


@njit(types.void(_TIMES, _BYTES, types.uint8, _TIMES, _I8, _OUT_I8), cache=True, nogil=True)
def arrival(time: I8s, channel: U1s, wanted: int, gates: I8s, width: int, counts: I8s) -> None:
    """Histogram of the time from the last gate start to each click of one channel."""
    span = width * counts.size
    inverse = 1.0 / width
    i = 0
    n = time.size
    for g in range(gates.size):
        start = gates[g]
        end = start + span
        if g + 1 < gates.size and gates[g + 1] < end:
            end = gates[g + 1]
        while i < n and time[i] < start:
            i += 1
        while i < n and time[i] < end:
            if channel[i] == wanted:
                counts[_bin(time[i] - start, width, inverse)] += 1
            i += 1


@njit(types.void(_TIMES, _TIMES, _I8, _I8, _OUT_I8), cache=True, nogil=True)
def correlate(a: I8s, b: I8s, lowest: int, width: int, counts: I8s) -> None:
    """Histogram of ``b - a`` over all pairs with ``lowest <= b - a < lowest + width * bins``."""
    span = width * counts.size
    inverse = 1.0 / width
    low = 0
    n = b.size
    for i in range(a.size):
        origin = a[i] + lowest
        while low < n and b[low] < origin:
            low += 1
        j = low
        while j < n and b[j] - origin < span:
            counts[_bin(b[j] - origin, width, inverse)] += 1
            j += 1
