import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import DataError
from labctl.tags.stream import Tags, merge

clicks = st.lists(st.tuples(st.integers(-(10**6), 10**6), st.integers(0, 255)), max_size=40)


def tags_of(pairs: list[tuple[int, int]]) -> Tags:
    pairs = sorted(pairs, key=lambda pair: pair[0])
    return Tags(np.array([t for t, _ in pairs], np.int64), np.array([c for _, c in pairs], np.uint8))


def pairs_of(tags: Tags) -> list[tuple[int, int]]:
    return list(zip(tags.time_ps.tolist(), tags.channel.tolist(), strict=True))


def test_unsorted_times_are_refused_with_their_position():
    with pytest.raises(DataError, match=r"index 2: 29 ps comes after 30 ps"):
        Tags(np.array([10, 30, 29, 40], np.int64), np.zeros(4, np.uint8))


def test_equal_times_are_in_order():
    assert len(Tags(np.array([5, 5], np.int64), np.array([1, 2], np.uint8))) == 2


@pytest.mark.parametrize(
    ("time", "channel", "says"),
    [
        (np.zeros(3, np.int64), np.zeros(2, np.uint8), "3 times but 2 channels"),
        (np.zeros(3, np.float64), np.zeros(3, np.uint8), "float64"),
        (np.zeros(3, np.int64), np.zeros(3, np.int64), "channel has type int64"),
        (np.zeros((2, 2), np.int64), np.zeros(4, np.uint8), "one dimension"),
    ],
)
def test_wrong_arrays_are_refused(time, channel, says):
    with pytest.raises(DataError, match=says):
        Tags(time, channel)


def test_tags_cannot_be_changed_and_the_callers_array_still_can():
    time = np.array([1, 2], np.int64)
    tags = Tags(time, np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        tags.time_ps[0] = 7
    time[0] = 0
    assert time.flags.writeable


def test_every_second_element_of_an_array_is_taken_as_it_looks():
    time = np.arange(10, dtype=np.int64)[::2]
    assert Tags(time, np.zeros(5, np.uint8)).time_ps.tolist() == [0, 2, 4, 6, 8]


@settings(deadline=None)
@given(clicks, st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_between_is_half_open(pairs, start, stop):
    tags = tags_of(pairs)
    assert pairs_of(tags.between(start, stop)) == [p for p in pairs_of(tags) if start <= p[0] < stop]


@settings(deadline=None)
@given(clicks)
def test_counts_duration_and_selection(pairs):
    tags = tags_of(pairs)
    assert tags.counts().tolist() == [sum(c == k for _, c in pairs) for k in range(256)]
    times = [t for t, _ in pairs]
    assert tags.duration_ps == (max(times) - min(times) if times else 0)
    assert pairs_of(tags.on(3, 7)) == [p for p in pairs_of(tags) if p[1] in (3, 7)]


@settings(deadline=None)
@given(st.lists(clicks, max_size=6))
def test_merge_is_a_stable_sort(streams):
    given_streams = [tags_of(pairs) for pairs in streams]
    everything = [p for tags in given_streams for p in pairs_of(tags)]
    assert pairs_of(merge(given_streams)) == sorted(everything, key=lambda p: p[0])


def test_a_channel_that_does_not_exist_is_refused():
    with pytest.raises(DataError, match="channel 256"):
        Tags.empty().on(256)


def test_importing_the_room_and_reading_files_loads_no_numba():
    code = (
        "import sys, labctl.tags, labctl.tags.files, labctl.tags.herald, labctl.tags.histogram;"
        "sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
