import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import DataError, LimitError
from labctl.tags import histogram
from labctl.tags.stream import Tags

click_lists = st.lists(st.tuples(st.integers(-200, 400), st.integers(0, 3)), max_size=80)
channels = st.integers(0, 3)


def tags_of(pairs):
    pairs = sorted(pairs, key=lambda pair: pair[0])
    return Tags(np.array([t for t, _ in pairs], np.int64), np.array([c for _, c in pairs], np.uint8))


def lags(tags, a, b):
    """Every t_b - t_a of two different clicks, by an outer difference."""
    in_a, in_b = np.flatnonzero(tags.channel == a), np.flatnonzero(tags.channel == b)
    different = in_a[:, None] != in_b[None, :]
    return (tags.time_ps[in_b][None, :] - tags.time_ps[in_a][:, None])[different]


@settings(deadline=None)
@given(click_lists, channels, channels, st.integers(0, 100))
def test_coincidences_are_all_close_pairs(pairs, a, b, window):
    tags = tags_of(pairs)
    close = int((np.abs(lags(tags, a, b)) <= window).sum())
    assert histogram.coincidences(tags, a, b, window) == (close // 2 if a == b else close)


@settings(deadline=None)
@given(click_lists, channels, channels, st.integers(1, 9), st.integers(0, 20))
def test_correlation_is_the_histogram_of_all_lags(pairs, a, b, bin_ps, half):
    tags = tags_of(pairs)
    found = histogram.correlate(tags, a, b, bin_ps, half * bin_ps)
    edges = (np.arange(2 * half + 2) - half) * bin_ps - bin_ps // 2
    lag = lags(tags, a, b)
    expected, _ = np.histogram(lag[lag < edges[-1]], edges)
    assert found.counts.tolist() == expected.tolist()
    assert found.lag_ps.tolist() == [k * bin_ps for k in range(-half, half + 1)]


def test_clicks_exactly_one_window_apart_coincide():
    pairs = [(k * 50, k % 2) for k in range(100)]
    assert histogram.coincidences(tags_of(pairs), 0, 1, 50) == 99
    assert histogram.coincidences(tags_of(pairs), 0, 1, 49) == 0


def test_g2_of_independent_clicks_is_one_and_a_dead_time_digs_a_hole():
    rng = np.random.default_rng(5)
    time = np.sort(rng.integers(0, 10**10, 200_000))
    tags = Tags(time, rng.integers(0, 2, time.size).astype(np.uint8))
    g2 = histogram.correlate(tags, 0, 1, 100_000, 2_000_000).g2
    # 100 000 clicks per channel in 10 ms: 1e5 pairs per bin, so 0.3 % noise; five of them
    assert np.abs(g2 - 1).max() < 0.016
    apart = Tags(np.arange(1000, dtype=np.int64) * 1000, np.zeros(1000, np.uint8))
    auto = histogram.correlate(apart, 0, 0, 100, 900)
    assert auto.counts.sum() == 0


def test_g2_allows_for_the_ends_of_the_recording():
    rng = np.random.default_rng(6)
    time = np.sort(rng.integers(0, 10**6, 20_000))
    tags = Tags(time, rng.integers(0, 2, time.size).astype(np.uint8))
    g2 = histogram.correlate(tags, 0, 1, 50_000, 500_000).g2
    assert np.abs(g2 - 1).max() < 0.02  # without the allowance the last bins would be 0.5


def test_g2_of_nothing_is_not_a_number():
    assert np.isnan(histogram.correlate(Tags.empty(), 0, 1, 10, 100).g2).all()


@settings(deadline=None)
@given(click_lists, channels, channels, st.integers(1, 50), st.integers(1, 20))
def test_start_stop_measures_from_the_last_start(pairs, start, stop, bin_ps, bins):
    tags = tags_of(pairs)
    starts, stops = (np.sort(tags.time_ps[tags.channel == c]) for c in (start, stop))
    since = []
    for k, t in enumerate(stops.tolist()):
        earlier = starts[:k] if start == stop else starts[starts <= t]
        since += [t - int(earlier.max())] if earlier.size else []
    near = np.array([dt // bin_ps for dt in since if dt < bin_ps * bins], np.int64)
    expected = np.bincount(near, minlength=bins)
    found = histogram.start_stop(tags, start, stop, bin_ps, bins)
    assert found.counts.tolist() == expected.tolist()
    assert found.edges_ps.tolist() == [k * bin_ps for k in range(bins + 1)]


@settings(deadline=None)
@given(
    click_lists,
    channels,
    st.lists(st.integers(-200, 400), max_size=30),
    st.integers(1, 50),
    st.integers(1, 20),
)
def test_arrival_measures_from_the_last_gate(pairs, channel, gates, bin_ps, bins):
    tags = tags_of(pairs)
    starts = np.sort(np.array(gates, np.int64))
    times = tags.time_ps[tags.channel == channel]
    last = np.searchsorted(starts, times, side="right") - 1
    since = (times - starts[last])[last >= 0] if starts.size else times[:0]
    since = since[since < bin_ps * bins]
    expected = np.bincount(since // bin_ps, minlength=bins)
    assert histogram.arrival(tags, channel, starts, bin_ps, bins).counts.tolist() == expected.tolist()


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_start_at_the_time_of_the_stop_counts_in_either_order(order):
    tags = tags_of([(0, 1), *((5, c) for c in order)])
    assert histogram.start_stop(tags, 1, 2, 1, 10).counts.tolist() == [1] + [0] * 9


def test_every_multiple_of_every_small_bin_is_in_its_own_bin():
    # 49 * (1 / 49) is below 1 in floating point: bins must not depend on it
    for bin_ps in range(1, 200):
        gates = np.zeros(1, np.int64)
        tags = Tags.on_channel(np.arange(100, dtype=np.int64) * bin_ps, 0)
        assert (histogram.arrival(tags, 0, gates, bin_ps, 100).counts == 1).all()


@settings(deadline=None)
@given(st.integers(1, 2**40), st.integers(0, 2**10 - 1), st.integers(-2, 2))
def test_bins_are_exact_at_their_edges(bin_ps, k, offset):
    after = max(0, k * bin_ps + offset)
    tags = tags_of([(0, 1), (after, 2)])
    counts = histogram.start_stop(tags, 1, 2, bin_ps, 1024).counts
    assert np.flatnonzero(counts).tolist() == ([after // bin_ps] if after // bin_ps < 1024 else [])


@pytest.mark.parametrize(("bin_ps", "bins"), [(0, 10), (-1, 10), (10, 0), (1 << 51, 4), (1, 1 << 29)])
def test_impossible_bins_are_refused(bin_ps, bins):
    with pytest.raises(LimitError, match="histogram of"):
        histogram.start_stop(Tags.empty(), 0, 1, bin_ps, bins)


def test_lags_that_are_no_multiple_of_the_bin_are_refused():
    with pytest.raises(LimitError, match="multiple of the bin"):
        histogram.correlate(Tags.empty(), 0, 1, 10, 105)


def test_unsorted_gates_are_refused():
    with pytest.raises(DataError, match="gate starts go backwards at index 1"):
        histogram.arrival(Tags.empty(), 0, np.array([5, 4], np.int64), 1, 1)


def test_a_negative_window_is_refused():
    with pytest.raises(LimitError, match="coincidence window"):
        histogram.coincidences(Tags.empty(), 0, 1, -1)
