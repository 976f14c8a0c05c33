"""The emitted experiment has the edge list of the schedule itself, the delays of the lines removed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from artiq_parts import CONFIG, KASLI, LAB, LINES
from hypothesis import given, settings
from hypothesis import strategies as st
from test_artiq_play import schedule, xy8

from labctl.config import ArtiqConfig
from labctl.core.artiq.compile import compile_schedule
from labctl.core.artiq.course import Choice
from labctl.core.artiq.sidecar import expected
from labctl.errors import ScheduleError
from labctl.schedule.items import Gate, Item, Pulse, Repeat, Schedule, Series, Together, Wait
from labctl.schedule.lines import Line
from labctl.schedule.timeline import edges
from labctl.units import ns, us
from sequences.fringe import fringe
from sequences.link import link

Edges = dict[str, list[tuple[int, int]]]
"""Line -> (begin, end) in ps of each time it is on or open; touching ones joined; of triggers only the begin counts."""


def joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif end > begin:
            found.append((begin, end))
    return found


def of_schedule(
    made: Schedule, lines: Mapping[str, Line], choose: Mapping[str, str], triggers: set[str]
) -> Edges:
    timeline = edges(made, lines, choose)
    found: Edges = {}
    for i in range(len(timeline)):
        name = timeline.lines[int(timeline.line[i])]
        begin, length = int(timeline.start_ps[i]), int(timeline.duration_ps[i])
        found.setdefault(name, []).append((begin, begin + (1 if name in triggers else length)))
    return {name: joined(spans) for name, spans in found.items()}


def of_sidecar(data: bytes, choices: Mapping[str, Choice], triggers: set[str]) -> Edges:
    found: Edges = {}
    on: dict[str, int] = {}
    for one in sorted(expected(data, choices), key=lambda one: one.time_mu):
        line, time, action = one.event.line, one.time_mu * 1000, one.event.action
        if action in ("on", "open", "count"):
            on.setdefault(line, time)  # what is on already stays on
        elif action in ("off", "close", "latch"):
            begin = on.pop(line)
            found.setdefault(line, []).append((begin, begin + 1 if line in triggers else time))
    assert not on
    return {name: joined(spans) for name, spans in found.items()}


def compare(
    made: Schedule,
    lines: Mapping[str, Line],
    config: ArtiqConfig,
    choose: Mapping[str, str],
    choices: Mapping[str, Choice],
) -> None:
    emitted = compile_schedule(made, lines, config, KASLI)
    triggers = {name for name, channel in emitted.plan.channels.items() if channel.trigger_mu}
    assert of_sidecar(emitted.sidecar, choices, triggers) == of_schedule(made, lines, choose, triggers)


DELAYED = {
    name: Line(**{f: getattr(line, f) for f in line.__struct_fields__} | {"delay_ps": delay * ns})
    for delay, (name, line) in enumerate(LAB.line.items(), 100)
}


@pytest.mark.parametrize("lines", [LAB.line, DELAYED], ids=["no delays", "delays"])
@pytest.mark.parametrize("outcome", ["psi_plus", "psi_minus", "timeout"])
def test_link(lines: Mapping[str, Line], outcome: str) -> None:
    for setting in range(9):
        compare(
            link(limit=1),
            lines,
            LAB.core.artiq,
            {"herald": outcome, "setting": str(setting)},
            {"herald": (outcome, 1), "setting": setting},
        )


@pytest.mark.parametrize("measure", ["tomography", "bell"])
def test_other_measurements(measure: str) -> None:
    names = {"tomography": ("setting",), "bell": ("setting_a", "setting_b")}[measure]
    for value in (0, 1):
        compare(
            link(measure=measure),
            LAB.line,
            LAB.core.artiq,
            {"herald": "psi_minus", **dict.fromkeys(names, str(value))},
            {"herald": ("psi_minus", 1), **dict.fromkeys(names, value)},
        )


def test_fringe_and_xy8() -> None:
    compare(fringe(points=2), LAB.line, LAB.core.artiq, {"point": "1"}, {"point": 1})
    compare(xy8(), LINES, CONFIG, {}, {})


durations = st.integers(9, 400).map(lambda k: k * ns)
leaves = st.one_of(
    st.builds(Pulse, st.sampled_from(("n.out0", "n.out1", "n.late")), durations),
    st.builds(Wait, st.integers(0, 2000).map(lambda k: k * ns)),
)
items: st.SearchStrategy[Item] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Series, st.lists(inner, max_size=5).map(tuple)),
        st.builds(Together, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Repeat, st.integers(1, 4), inner),
    ),
    max_leaves=20,
)


@settings(max_examples=150)
@given(items)
def test_any_straight_schedule_that_can_be_compiled(item: Item) -> None:
    made = schedule(item, Wait(20 * us), Gate("n.slow", 3 * us, "n"))
    try:
        emitted = compile_schedule(made, LINES, CONFIG, KASLI)
    except ScheduleError as error:
        assert error.problems
        return
    assert of_sidecar(emitted.sidecar, {}, set()) == of_schedule(made, LINES, {}, set())
