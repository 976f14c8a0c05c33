"""Edges as arrays: sorted, complete, and checked to the same result as without laying loops out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_parts import LINES, durations, straight_items

from labctl.schedule.check import check
from labctl.schedule.edge_check import check_edges, edges
from labctl.schedule.items import Gate, Item, Pulse, Repeat, Schedule, Series, Together, Wait
from labctl.schedule.timeline import flatten
from labctl.units import ms, ns, us


@given(straight_items)
def test_edges_are_every_begin_and_end_in_order(item: Item) -> None:
    timeline, _ = flatten(item)
    found = edges(timeline)
    wanted = sorted(
        [(int(start), 1) for start in timeline.start_ps]
        + [
            (int(start + length), 0)
            for start, length in zip(timeline.start_ps, timeline.duration_ps, strict=True)
        ]
    )
    got = list(zip(found.time_ps.tolist(), found.rising.astype(int).tolist(), strict=True))
    assert got == wanted
    assert len(found) == 2 * len(timeline)
    names = sorted(timeline.lines[int(k)] for k in found.line)
    assert names == sorted(2 * [timeline.lines[int(k)] for k in timeline.line])


RULES = {
    "on twice at once": "on twice at once",
    "too short": "is too short",
    "open while": "while alice.align is on",
}
pulses = st.one_of(
    st.builds(Pulse, st.sampled_from(("alice.cool", "alice.align")), durations.filter(bool)),
    st.builds(Wait, durations),
    st.builds(Gate, st.just("charlie.snspd_0"), durations.filter(bool), st.just("n")),
)
items: st.SearchStrategy[Item] = st.recursive(
    pulses,
    lambda inner: st.one_of(
        st.builds(Series, st.lists(inner, max_size=4).map(tuple)),
        st.builds(Together, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Repeat, st.integers(1, 4), inner),
    ),
    max_leaves=15,
)


@settings(max_examples=200)
@given(items)
def test_both_checks_find_the_same(item: Item) -> None:
    timeline, _ = flatten(item)
    laid_out = check_edges(timeline, LINES) if len(timeline) else []
    folded = check(Schedule("x", item), LINES)
    for mine, other in RULES.items():
        by_edges = {problem.line for problem in laid_out if mine in problem.what}
        assert by_edges == {problem.line for problem in folded if other in problem.what}, mine


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (Pulse("alice.coo", us), "timeline at 0 ps, alice.coo: no such line"),
        (
            Repeat(3, Series((Wait(us), Pulse("alice.cool", 5 * ns)))),
            "at 1 us, alice.cool: too short, 3 times",
        ),
        (Pulse("alice.repump", 1 * ms), "alice.repump: too long"),
        (Series((Wait(500), Pulse("alice.cool", us))), "at 500 ps, alice.cool: begins off its grid of 1 ns"),
        (Pulse("alice.cool", 20_500), "a length off its grid of 1 ns"),
        (
            Repeat(5, Series((Pulse("alice.cool", us), Wait(4 * ns)))),
            "at 1.004 us, alice.cool: off for less than its dead",
        ),
        (Pulse("alice.reference", 200 * us), "on for 200 us in 200 us: its duty is 0.1"),
    ],
)
def test_each_rule(item: Item, words: str) -> None:
    timeline, _ = flatten(item)
    assert any(words in str(problem) for problem in check_edges(timeline, LINES))
