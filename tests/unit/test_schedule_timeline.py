"""Timelines of straight items, against a plain reference that lays them out one pulse at a time."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule_parts import LINES, OUTPUTS, straight_items

from labctl.errors import ScheduleError
from labctl.schedule.items import (
    Attempt,
    Branch,
    Draw,
    Every,
    Feedback,
    Gate,
    Item,
    Mark,
    Pulse,
    Repeat,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    Wait,
    duration,
)
from labctl.schedule.timeline import (
    LONGEST_PS,
    NOMINAL,
    Timeline,
    ToneState,
    edges,
    flatten,
    one_pass,
    straight,
)
from labctl.units import ns, us

Row = tuple[int, int, str, str, ToneState]


def rows(timeline: Timeline) -> list[Row]:
    return [
        (
            int(timeline.start_ps[i]),
            int(timeline.duration_ps[i]),
            timeline.lines[timeline.line[i]],
            timeline.into[timeline.register[i]] if timeline.is_gate[i] else "",
            (
                float(timeline.frequency_hz[i]),
                float(timeline.phase_turns[i]),
                float(timeline.amplitude[i]),
            ),
        )
        for i in range(len(timeline))
    ]


def laid_out(item: Item, tones: dict[str, ToneState], at: int = 0) -> tuple[list[Row], int]:
    """The plain reference: rows in the order written, and the end."""
    match item:
        case Pulse():
            return [(at, item.duration, item.line, "", tones.get(item.line, NOMINAL))], at + item.duration
        case Gate():
            return [(at, item.duration, item.line, item.into, (0.0, 0.0, 0.0))], at + item.duration
        case Wait():
            return [], at + item.duration
        case Tone():
            old = tones.get(item.line, NOMINAL)
            new = (item.frequency_hz, item.phase_turns, item.amplitude)
            tones[item.line] = tuple(o if n is None else n for o, n in zip(old, new, strict=True))  # type: ignore[assignment]
            return [], at
        case Series() | Repeat():
            parts = item.items if isinstance(item, Series) else (item.body,) * item.count
            found: list[Row] = []
            for part in parts:
                more, at = laid_out(part, tones, at)
                found += more
            return found, at
        case Together():
            before, found, end = dict(tones), [], at
            for part in item.items:
                more, stop = laid_out(part, dict(before), at)
                laid_out(part, tones)
                found, end = found + more, max(end, stop)
            return sorted(found, key=lambda row: row[0]), end
        case _:
            return [], at


@given(straight_items)
def test_flatten_is_what_laying_out_pulse_by_pulse_gives(item: Item) -> None:
    timeline, left = flatten(item)
    tones: dict[str, ToneState] = {}
    expected, end = laid_out(item, tones)
    assert rows(timeline) == sorted(expected, key=lambda row: row[0])
    assert timeline.total_ps == end == duration(item)
    assert left == tones


@given(straight_items)
def test_timelines_are_sorted_and_within_their_length(item: Item) -> None:
    timeline, _ = flatten(item)
    assert (np.diff(timeline.start_ps) >= 0).all()
    assert (timeline.start_ps + timeline.duration_ps <= timeline.total_ps).all()
    assert (timeline.is_gate == (timeline.register >= 0)).all()
    assert timeline.start_ps.dtype == timeline.duration_ps.dtype == np.int64
    assert timeline.line.dtype == timeline.register.dtype == np.int32


@given(straight_items, st.integers(0, 6))
def test_a_loop_is_its_body_written_out(body: Item, count: int) -> None:
    loop, tones = flatten(Repeat(count, body))
    series, same_tones = flatten(Series((body,) * count))
    assert rows(loop) == rows(series)
    assert loop.total_ps == series.total_ps
    assert tones == same_tones


@given(straight_items, straight_items)
def test_tones_at_the_end_are_the_tones_at_the_beginning_of_what_follows(first: Item, second: Item) -> None:
    whole, end = flatten(Series((first, second)))
    before, tones = flatten(first)
    after, tones = flatten(second, tones)
    shifted = [(start + before.total_ps, *rest) for start, *rest in rows(after)]
    assert rows(whole) == sorted([*rows(before), *shifted], key=lambda row: row[0])  # type: ignore[list-item]
    assert end == tones


@given(straight_items)
def test_unknown_tones_can_be_filled_in_afterwards(item: Item) -> None:
    """A core flattens once with NaN for tones it does not know yet, and fills them in when it plays."""
    unknown = dict.fromkeys(OUTPUTS, (math.nan, math.nan, math.nan))
    known = {line: (1.0 + k, 0.125 * k, 0.5) for k, line in enumerate(OUTPUTS)}
    late, _ = flatten(item, unknown)
    early, _ = flatten(item, known)

    def filled(row: Row) -> Row:
        old = known.get(row[2], NOMINAL)
        tone = tuple(o if math.isnan(t) else t for t, o in zip(row[4], old, strict=True))
        return (*row[:4], tone)  # type: ignore[return-value]

    assert [filled(row) for row in rows(late)] == rows(early)


def test_tones_change_from_the_second_turn_on() -> None:
    body = Series((Pulse("alice.qubit", 10), Tone("alice.qubit", phase_turns=0.25), Pulse("alice.qubit", 10)))
    timeline, left = flatten(Repeat(3, body))
    assert list(timeline.phase_turns) == [0.0, 0.25, 0.25, 0.25, 0.25, 0.25]
    assert left == {"alice.qubit": (0.0, 0.25, 1.0)}


def test_marks_and_thresholds() -> None:
    item = Series(
        (Wait(5), Repeat(3, Series((Mark("turn"), Wait(10)))), Gate("alice.pmt", 7, "n", 4), Mark("end"))
    )
    timeline, _ = flatten(item)
    assert timeline.marks == (("turn", 5), ("end", 42))
    assert timeline.thresholds == {"n": 4}
    assert timeline.into == ("n",)


def test_a_million_pulses_are_laid_out_as_arrays() -> None:
    body = Together((Pulse("alice.cool", 400), Series((Wait(500), Pulse("alice.qubit", 300), Wait(200)))))
    timeline, _ = flatten(Repeat(500_000, body))
    assert len(timeline) == 1_000_000
    assert timeline.total_ps == 500_000_000
    assert timeline.start_ps[-1] == 499_999_500
    assert (np.diff(timeline.start_ps) == 500).all()


def test_straight() -> None:
    assert straight(Series((Pulse("a", 1), Together((Wait(1), Mark("m"))), Repeat(2, Gate("b", 1, "n")))))
    for item in (
        Report({}),
        Draw("s", (1.0,)),
        Feedback("r", "a"),
        Branch("r", {}),
        Attempt(Wait(1), (), {}, 1),
    ):
        assert not straight(item)
        assert not straight(Series((Wait(1), Repeat(2, Together((item,))))))


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (Pulse("a", -1), "negative"),
        (Repeat(-1, Wait(1)), "a loop of -1 turns"),
        (Repeat(2, Wait(LONGEST_PS)), "longer than"),
        (Repeat(10**9, Pulse("a", 1)), "more than 50000000 entries"),
        (Series((Wait(1), Report({}))), "Report depends on what happens"),
    ],
)
def test_flatten_refuses(item: Item, text: str) -> None:
    with pytest.raises(ScheduleError, match=text):
        flatten(item)


def attempts() -> Item:
    loop = Attempt(
        Series((Pulse("alice.fast", 2_250), Gate("charlie.snspd_0", 50 * ns, "n0"))),
        ("n0",),
        {"0": "again", "1": "click"},
        1000,
        Every(10, Pulse("alice.cool", 100 * ns)),
    )
    cases: dict[str, Item] = {"click": Pulse("alice.qubit", 30 * ns), "timeout": Wait(5 * ns)}
    return Series((loop, Branch("herald", cases), Draw("setting", (1.0,)), Report({"n": "n0"})))


def test_one_pass_plays_each_loop_once_and_the_chosen_case() -> None:
    timeline, _ = flatten(one_pass(attempts()))
    assert [timeline.lines[i] for i in timeline.line] == [
        "alice.cool",
        "alice.fast",
        "charlie.snspd_0",
        "alice.qubit",
    ]
    assert flatten(one_pass(attempts(), {"herald": "timeout"}))[0].total_ps == 157_250
    with pytest.raises(ScheduleError, match="no case 'psi'"):
        one_pass(attempts(), {"herald": "psi"})


def test_edges_leave_the_core_early_by_the_delay_of_the_line() -> None:
    both = Together(
        (Pulse("alice.late", 5 * us), Pulse("alice.cool", 5 * us), Gate("alice.pmt", 5 * us, "n"))
    )
    lines = dict(LINES)
    lines["alice.pmt"] = type(LINES["alice.pmt"])("in", "detector", delay_ps=300)
    found = edges(Schedule("s", both), lines)
    assert [(found.lines[i], int(t)) for i, t in zip(found.line, found.start_ps, strict=True)] == [
        ("alice.late", -500),
        ("alice.cool", 0),
        ("alice.pmt", 300),
    ]
    with pytest.raises(ScheduleError, match=r"no such line: bob\.cool"):
        edges(Schedule("s", Pulse("bob.cool", 1)), lines)


@given(straight_items)
def test_edges_are_the_timeline_moved_line_by_line(item: Item) -> None:
    light, _ = flatten(item)
    found = edges(Schedule("s", item), LINES)
    moved: list[tuple[int, int, str]] = []
    for start, length, line, _, _ in rows(light):
        sign = 1 if LINES[line].direction == "in" else -1
        moved.append((start + sign * LINES[line].delay_ps, length, line))
    assert sorted(moved) == sorted((start, length, line) for start, length, line, _, _ in rows(found))
    assert (np.diff(found.start_ps) >= 0).all()
