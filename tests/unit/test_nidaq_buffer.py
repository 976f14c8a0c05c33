"""Buffers for an NI card: samples that are what the schedule says, whatever the delays, and gates as differences of counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from labctl.config import NidaqConfig, NidaqLine
from labctl.core import sim_edges
from labctl.core.edges import differences
from labctl.core.nidaq import edges, rules
from labctl.core.nidaq.binding import bind
from labctl.core.nidaq.buffer import Buffer, lower
from labctl.core.program import lower as lower_sim
from labctl.errors import ScheduleError
from labctl.schedule.items import Gate, Item, Pulse, Repeat, Schedule, Series, Together, Tone, Wait
from labctl.schedule.lines import Line
from labctl.schedule.problem import Problems
from labctl.sim.played import OpenGate
from labctl.units import us

CARD = NidaqConfig(
    line={
        "a": {
            "x": "port0/line0",
            "y": "port0/line1",
            "t": NidaqLine("port0/line2", phase="ao0", amplitude="ao1"),
            "p": NidaqLine("PFI0", counter="ctr0"),
        }
    }
)


def lines(delays: tuple[int, int, int, int]) -> dict[str, Line]:
    kinds = (("x", Line()), ("y", Line()), ("t", Line(kind="tone")), ("p", Line("in", "detector")))
    return {
        f"a.{name}": Line(one.direction, one.kind, us, delay_ps=delay * us)
        for (name, one), delay in zip(kinds, delays, strict=True)
    }


steps = st.integers(1, 30).map(lambda k: k * us)
leaves: st.SearchStrategy[Item] = st.one_of(
    st.builds(Pulse, st.sampled_from(("a.x", "a.y", "a.t")), steps),
    st.builds(Wait, steps),
    st.builds(Tone, st.just("a.t"), st.none(), st.floats(0, 0.99), st.floats(0.1, 1.0)),
    st.builds(
        Series,
        st.tuples(
            st.builds(Wait, steps),
            st.builds(Gate, st.just("a.p"), steps, st.just("n")),
            st.builds(Wait, steps),
        ),
    ),
)
items = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Series, st.lists(inner, max_size=4).map(tuple)),
        st.builds(Together, st.lists(inner, max_size=2).map(tuple)),
        st.builds(Repeat, st.integers(1, 3), inner),
    ),
    max_leaves=12,
)
delays = st.tuples(*(st.integers(-5, 5) for _ in range(4)))


@given(items, delays)
def test_the_samples_have_the_edges_of_the_schedule(item: Item, shifted: tuple[int, int, int, int]) -> None:
    own, schedule = lines(shifted), Schedule("s", Series((item,)))
    problems = Problems()
    bound = bind(CARD, own, rules.used(item), problems)
    assert problems.all() == []
    try:
        buffer = rules.first_pass(schedule, bound, CARD)
    except ScheduleError as error:
        assume("strobe" not in str(error))
        raise
    assert not buffer.levels[:, -1].any()  # everything is low in the end
    found = edges.edges(buffer, bound)
    assert differences(sim_edges.edges(lower_sim(schedule), own), found) == []


def counting(rates: np.ndarray, buffer: Buffer) -> dict[str, np.ndarray]:
    """What a counter latches that sees so many clicks in each tick."""
    total = np.concatenate(([0], np.cumsum(rates)))
    return {"a.p": total[list(buffer.strobes)]}


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(2, 20)), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_a_gates_clicks_are_those_between_its_latches(spans: list[tuple[int, int]], seed: int) -> None:
    gates = [
        OpenGate("a.p", 4 * begin * us, 2 * length * us, f"n{k}") for k, (begin, length) in enumerate(spans)
    ]
    bound = bind(CARD, lines((0, 0, 0, 0)), ["a.p"], Problems())
    buffer = lower([], gates, 0, bound, CARD)
    rates = np.random.default_rng(seed).integers(0, 9, buffer.samples)
    wanted = [int(rates[g.start_ps // us : (g.start_ps + g.duration_ps) // us].sum()) for g in gates]
    assert buffer.counts(counting(rates, buffer)) == wanted
    assert buffer.strobe().sum() == len(buffer.strobes) and min(np.diff(buffer.strobes), default=2) >= 2


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (Pulse("a.x", us + 1), "a.x is turned off 1 ps off the card's sample clock of 1 us"),
        (
            Series((Gate("a.p", 3 * us, "n"), Wait(us), Gate("a.p", 3 * us, "m"))),
            "the strobe that latches the counters needs 2 us",
        ),
        (Pulse("a.x", 30 * 10**12), "a buffer of 30000001 samples of 1 us; 20000000 at most"),
    ],
)
def test_what_no_buffer_holds(item: Item, words: str) -> None:
    bound = bind(CARD, lines((0, 0, 0, 0)), rules.used(item), Problems())
    with pytest.raises(ScheduleError, match=words):
        rules.first_pass(Schedule("s", item), bound, CARD)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"x": "port1/line0"}, "'port1/line0' is no buffered output"),
        ({"x": NidaqLine("port0/line0", phase="dac0")}, "'dac0' is no analogue output"),
        ({"x": NidaqLine("port0/line0", amplitude="ao0", volts=12.0)}, "12 V: the card's outputs go to 10 V"),
        ({"x": NidaqLine("port0/line0", trigger_ps=us)}, "trigger_ps and generator_ps go together"),
        ({"x": "port0/line31"}, "port0/line31 is used for the strobe too"),
        ({"x": "port0/line0", "p": "PFI0"}, "an input line needs a counter of its own"),
        ({"p": NidaqLine("PFI0", counter="ctr3")}, "ctr3 is used for the sample clock too"),
        ({"q": "port0/line0"}, "a terminal for a line that this lab has not"),
    ],
)
def test_mappings_that_are_wrong(table: dict[str, str | NidaqLine], words: str) -> None:
    problems = Problems()
    wanted = [f"a.{name}" for name in table if name != "q"]
    bind(NidaqConfig(line={"a": table}), lines((0, 0, 0, 0)), wanted, problems)
    assert any(words in str(problem) for problem in problems.all()), problems.all()
    fast = Problems()
    bind(NidaqConfig(tick_ps=1000), {}, [], fast)
    assert "the card's shortest is 100 ns" in str(fast.all()[0])
