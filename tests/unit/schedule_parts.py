"""Lines and random schedule items for the tests of schedules."""

from hypothesis import strategies as st

from labctl.schedule.items import (
    Attempt,
    Branch,
    Column,
    Draw,
    Every,
    Feedback,
    Gate,
    HostPoint,
    Item,
    LineTrigger,
    Mark,
    Pulse,
    Repeat,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    Track,
    Wait,
)
from labctl.schedule.lines import Line
from labctl.units import MHz, ns, us

LINES = {
    "alice.cool": Line(grid_ps=ns, shortest_ps=20 * ns, dead_ps=10 * ns),
    "alice.repump": Line(grid_ps=ns, shortest_ps=20 * ns, dead_ps=10 * ns, longest_ps=500 * us),
    "alice.qubit": Line(
        kind="tone", grid_ps=ns, shortest_ps=20 * ns, lowest_hz=-10 * MHz, highest_hz=10 * MHz
    ),
    "alice.fast": Line(kind="tone", grid_ps=250, shortest_ps=ns, dead_ps=1 * us, delay_ps=750),
    "alice.late": Line(grid_ps=ns, delay_ps=500),
    "alice.reference": Line(kind="tone", grid_ps=ns, duty=0.1, duty_over_ps=1_000 * us),
    "alice.align": Line(grid_ps=ns),
    "alice.slow": Line(grid_ps=ns, events_per_s=1e5),
    "alice.pmt": Line("in", "detector", grid_ps=ns, shortest_ps=1 * us),
    "charlie.snspd_0": Line("in", "detector", grid_ps=ns, shortest_ps=10 * ns, bright_on=("alice.align",)),
    "charlie.snspd_1": Line("in", "detector", grid_ps=ns, shortest_ps=10 * ns, bright_on=("alice.align",)),
}

OUTPUTS = ("alice.cool", "alice.qubit", "alice.fast", "alice.reference")
INPUTS = ("alice.pmt", "charlie.snspd_0")

durations = st.integers(0, 50).map(lambda k: k * ns)
tones = st.builds(
    Tone,
    st.sampled_from(OUTPUTS),
    st.none() | st.floats(-1e6, 1e6),
    st.none() | st.floats(-2, 2),
    st.none() | st.floats(0, 1),
)
leaves = st.one_of(
    st.builds(Pulse, st.sampled_from(OUTPUTS), durations),
    st.builds(Wait, durations),
    st.builds(
        Gate,
        st.sampled_from(INPUTS),
        durations,
        st.sampled_from(("n0", "n1", "n2")),
        st.none() | st.integers(1, 5),
    ),
    st.builds(Mark, st.sampled_from(("here", "there"))),
    tones,
)


def _groups(inner: st.SearchStrategy[Item], fewest: int = 0) -> st.SearchStrategy[Item]:
    items = st.lists(inner, max_size=4).map(tuple)
    return st.one_of(
        st.builds(Series, items),
        st.builds(Together, items),
        st.builds(Repeat, st.integers(fewest, 4), inner),
    )


straight_items: st.SearchStrategy[Item] = st.recursive(leaves, _groups, max_leaves=15)
"""Items that can be flattened."""
pulse_items: st.SearchStrategy[Item] = st.recursive(
    st.one_of(
        st.builds(Pulse, st.sampled_from(OUTPUTS), st.integers(1, 50).map(lambda k: k * ns)),
        st.builds(Wait, durations),
    ),
    lambda inner: _groups(inner, 1),
    max_leaves=15,
)
"""Pulses that last some time and waits, in loops that are played."""

_names = st.sampled_from(
    (*LINES, "bob.none", "", "n0", "n1", "n0.bright", "herald", "timeout", "0", "1", "again", "phase", "²")
)


def _any_leaf(integers: st.SearchStrategy[int], floats: st.SearchStrategy[float]) -> st.SearchStrategy[Item]:
    slots = st.lists(st.tuples(_names, _names, floats), max_size=2).map(tuple)
    return st.one_of(
        st.builds(Pulse, _names, integers),
        st.builds(Tone, _names, st.none() | floats, st.none() | floats, st.none() | floats),
        st.builds(Wait, integers),
        st.builds(Gate, _names, integers, _names, st.none() | integers),
        st.builds(Mark, _names),
        st.builds(Track, slots, _names, floats, floats),
        st.builds(Feedback, _names, _names, integers, integers),
        st.builds(Draw, _names, st.lists(floats, max_size=3).map(tuple)),
        st.builds(Report, st.dictionaries(_names, _names, max_size=3)),
        st.builds(HostPoint, _names),
        st.builds(LineTrigger, _names, integers, integers),
    )


def _any_group(inner: st.SearchStrategy[Item], integers: st.SearchStrategy[int]) -> st.SearchStrategy[Item]:
    items = st.lists(inner, max_size=4).map(tuple)
    patterns = st.sampled_from(("0", "1", "00", "01", "10", "11", "x"))
    return st.one_of(
        st.builds(Series, items, _names, st.sampled_from(("rigid", "anchored", "free")), integers),
        st.builds(Together, items, _names),
        st.builds(Repeat, integers, inner),
        st.builds(
            Attempt,
            inner,
            st.lists(_names, max_size=3).map(tuple),
            st.dictionaries(patterns, _names),
            integers,
            st.none() | st.builds(Every, integers, inner),
            _names,
        ),
        st.builds(Branch, _names, st.dictionaries(_names, inner, max_size=3)),
    )


def schedules(
    integers: st.SearchStrategy[int], floats: st.SearchStrategy[float]
) -> st.SearchStrategy[Schedule]:
    """Schedules of the right types with numbers from these."""
    items = st.recursive(
        _any_leaf(integers, floats), lambda inner: _any_group(inner, integers), max_leaves=15
    )
    return st.builds(
        Schedule,
        _names,
        items,
        _names,
        st.dictionaries(_names, integers | _names),
        st.dictionaries(_names, st.builds(Column, _names, _names)),
        st.sampled_from(("round", "shot")),
    )


any_schedules = schedules(
    st.one_of(
        st.integers(-3, 3),
        st.integers(-(10**6), 10**9),
        st.integers(),
        st.sampled_from((10**200, -(10**200), 2**62, 2**63)),
    ),
    st.floats(),
)
"""Anything that has the right types, sensible or not."""
storable_schedules = schedules(
    st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)
)
"""Schedules whose numbers JSON has words for."""
