from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import DataError, LimitError
from labctl.tags.herald import DeadTime, HeraldSearch, find_heralds
from labctl.tags.stream import Tags
from labctl.units import ns, us

DETECTORS = (4, 2, 9)
WINDOW = 10


def tags_of(pairs):
    pairs = sorted(pairs, key=lambda pair: pair[0])
    return Tags(np.array([t for t, _ in pairs], np.int64), np.array([c for _, c in pairs], np.uint8))


def reference(pairs, gates, window, detectors):
    """The definition, attempt by attempt: pattern and first click of each detector."""
    rows = []
    for start in gates:
        first = [
            min((t - start for t, c in pairs if c == d and start <= t < start + window), default=-1)
            for d in detectors
        ]
        rows.append((sum(1 << k for k, t in enumerate(first) if t >= 0), first))
    return rows


def rows_of(outcomes):
    """Every attempt of several Outcomes in the reference's shape, with numbering checked."""
    rows = []
    for part in outcomes:
        assert part.first_attempt == len(rows)
        clicked = {int(n): k for k, n in enumerate(part.attempt)}
        for number, pattern in enumerate(part.patterns(), start=part.first_attempt):
            k = clicked.get(number)
            first = [-1] * len(DETECTORS) if k is None else part.first_ps[k].tolist()
            assert k is None or part.pattern[k] == pattern
            rows.append((int(pattern), first))
    return rows


@st.composite
def recordings(draw):
    clicks = draw(st.lists(st.tuples(st.integers(0, 300), st.sampled_from((2, 4, 9, 1))), max_size=60))
    gaps = draw(st.lists(st.integers(WINDOW, 40), max_size=20))
    gates = np.cumsum([draw(st.integers(-20, 20)), *gaps])[: len(gaps)].tolist()
    return sorted(clicks, key=lambda click: click[0]), gates


@settings(deadline=None)
@given(recordings(), st.lists(st.integers(0, 60), max_size=10))
def test_outcomes_are_the_definition_whatever_the_blocks(recording, cuts):
    clicks, gates = recording
    tags = tags_of(clicks)
    search = HeraldSearch(DETECTORS, WINDOW)
    edges = [0, *sorted(min(cut, len(tags)) for cut in cuts), len(tags)]
    outcomes, given_gates = [], 0
    for first, last in pairwise(edges):
        block = tags.part(first, last)
        known = sum(g <= block.time_ps[-1] for g in gates) if len(block) else given_gates
        outcomes.append(search.push(block, np.array(gates[given_gates:known], np.int64)))
        given_gates = max(given_gates, known)
    outcomes.append(search.push(Tags.empty(), np.array(gates[given_gates:], np.int64)))
    outcomes.append(search.close())

    expected = reference(clicks, gates, WINDOW, DETECTORS)
    assert rows_of(outcomes) == expected
    assert search.waiting == 0
    counts = np.bincount([pattern for pattern, _ in expected], minlength=8)
    assert search.table.counts.tolist() == counts.tolist()
    assert search.table.attempts == len(gates)
    whole, table = find_heralds(tags, np.array(gates, np.int64), WINDOW, DETECTORS)
    assert rows_of([whole]) == expected
    assert table.counts.tolist() == counts.tolist()
    assert whole.start_ps.tolist() == [gates[k] for k, (pattern, _) in enumerate(expected) if pattern]


def test_the_table_names_every_pattern():
    gates = np.arange(4, dtype=np.int64) * 375 * us
    clicks = [(10 * ns, 1), (375 * us, 2), (2 * 375 * us + 59 * ns, 2), (2 * 375 * us + 60 * ns - 1, 1)]
    outcomes, table = find_heralds(tags_of(clicks), gates, 60 * ns, (1, 2))
    assert table.named() == {"neither": 1, "only d0": 1, "only d1": 1, "both": 1}
    assert outcomes.first_ps.tolist() == [[10 * ns, -1], [-1, 0], [60 * ns - 1, 59 * ns]]
    assert outcomes.attempt.tolist() == [0, 1, 2]


def test_a_click_at_the_end_of_the_window_is_outside():
    _, table = find_heralds(tags_of([(10, 1)]), np.array([0], np.int64), 10, (1,))
    assert table.named() == {"none": 1, "only d0": 0}


def test_eight_detectors_fill_the_bit_mask():
    clicks = [(k, k) for k in range(8)]
    outcomes, table = find_heralds(tags_of(clicks), np.array([0], np.int64), 8, range(8))
    assert outcomes.pattern.tolist() == [255]
    assert table.counts[255] == 1
    assert outcomes.first_ps.tolist() == [list(range(8))]


def test_attempts_are_counted_beyond_14_bits():
    gates = np.arange(70_000, dtype=np.int64) * 100
    outcomes, table = find_heralds(tags_of([(6_999_905, 1)]), gates, 10, (1, 2))
    assert table.attempts == 70_000
    assert outcomes.attempt.tolist() == [69_999]


def test_a_quiet_stream_completes_attempts_by_promise():
    search = HeraldSearch((1, 2), 10)
    gates = np.array([0, 100], np.int64)
    assert search.push(Tags.empty(), gates).attempts == 0
    assert search.push(Tags.empty(), gates[:0], until_ps=9).attempts == 0
    assert search.push(Tags.empty(), gates[:0], until_ps=10).attempts == 1
    assert search.waiting == 1
    with pytest.raises(DataError, match="already complete"):
        search.push(tags_of([(9, 1)]), gates[:0])


def test_a_gate_that_comes_too_late_is_refused():
    search = HeraldSearch((1,), 10)
    search.push(tags_of([(50, 1)]), np.array([0], np.int64))
    with pytest.raises(DataError, match="gate 1 opens at 50 ps"):
        search.push(Tags.empty(), np.array([50], np.int64))


@pytest.mark.parametrize("blocks", [[[0, 20, 29]], [[0, 20], [29]]])
def test_overlapping_gates_are_refused_with_their_number(blocks):
    search = HeraldSearch((1,), 10)
    with pytest.raises(DataError, match="gate 2 opens at 29 ps"):
        for gates in blocks:
            search.push(Tags.empty(), np.array(gates, np.int64))


@pytest.mark.parametrize("detectors", [(), tuple(range(9)), (1, 1)])
def test_impossible_detectors_are_refused(detectors):
    with pytest.raises(LimitError, match="1 to 8"):
        HeraldSearch(detectors, 10)


@pytest.mark.parametrize("window", [0, -1, 1 << 61])
def test_impossible_windows_are_refused(window):
    with pytest.raises(LimitError, match="window"):
        HeraldSearch((1,), window)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-100, 300), st.integers(0, 2)), max_size=60),
    st.integers(0, 60),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_dead_time_is_the_definition_whatever_the_blocks(pairs, dead, cuts):
    pairs = sorted(pairs, key=lambda click: click[0])
    tags = tags_of(pairs)
    last, expected = {}, []
    for t, c in pairs:
        if c not in last or t - last[c] >= dead:
            last[c] = t
            expected.append((t, c))
    edges = [0, *sorted(min(cut, len(tags)) for cut in cuts), len(tags)]
    dead_time = DeadTime(dead)
    kept = [dead_time.push(tags.part(a, b)) for a, b in pairwise(edges)]
    assert [(int(t), int(c)) for k in kept for t, c in zip(k.time_ps, k.channel, strict=True)] == expected


def test_dead_time_refuses_blocks_out_of_order():
    dead_time = DeadTime(10)
    dead_time.push(tags_of([(50, 1)]))
    with pytest.raises(DataError, match="time order"):
        dead_time.push(tags_of([(49, 1)]))
