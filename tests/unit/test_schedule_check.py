"""One planted defect per rule of the check, and schedules that have none."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
from hypothesis import given
from schedule_parts import LINES, any_schedules, pulse_items

from labctl.errors import ScheduleError
from labctl.schedule.check import check, require
from labctl.schedule.items import (
    Attempt,
    Branch,
    Draw,
    Every,
    Feedback,
    Gate,
    HostPoint,
    Item,
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
from labctl.schedule.timeline import flatten
from labctl.units import ms, ns, us

TABLE = {"0": "again", "1": "click"}
COOL = Pulse("alice.cool", 1 * us)
CLICK = Gate("charlie.snspd_0", 60 * ns, "n0")


def series(*items: Item, name: str = "") -> Series:
    return Series(items, name)


def together(*items: Item) -> Together:
    return Together(items, "side")


def attempt(*items: Item, every: Every | None = None, limit: int = 1000) -> Attempt:
    return Attempt(Series((*items, CLICK, Wait(940 * ns))), ("n0",), TABLE, limit, every)


def track(gates: tuple[tuple[str, str, float], ...] = (("q0", "q1", 0.25),), contrast: float = 0.9) -> Track:
    return Track(gates, "phase", contrast, 15.0)


REFERENCE = together(Gate("charlie.snspd_0", 12 * us, "q0"), Gate("charlie.snspd_1", 12 * us, "q1"))
AFTER = {"click": Wait(1 * us), "timeout": Wait(1 * us)}


class Case(NamedTuple):
    """A schedule with defects and a piece of each problem's text, in order."""

    name: str
    item: Item
    expected: tuple[str, ...]


DEFECTS = (
    # lines
    Case(
        "unknown line",
        Pulse("alice.cooll", 1 * us),
        ("test at 0 ps, alice.cooll: no such line; did you mean alice.cool",),
    ),
    Case("unknown node", Pulse("zoe.x", 1 * us), ("zoe.x: no such line; nodes with lines: alice, charlie",)),
    Case(
        "pulse on an input", Pulse("alice.pmt", 1 * us), ("a pulse on an input; inputs are opened with Gate",)
    ),
    Case("gate on an output", Gate("alice.cool", 1 * us, "n"), ("a gate on an output",)),
    Case(
        "too short",
        Pulse("alice.cool", 5 * ns),
        ("a pulse of 5 ns is too short; this line needs at least 20 ns",),
    ),
    Case("gate too short", Gate("alice.pmt", 50 * ns, "n"), ("a gate of 50 ns is too short",)),
    Case(
        "too long",
        Pulse("alice.repump", 1 * ms),
        ("a pulse of 1 ms is too long; this line may be on for 500 us",),
    ),
    Case(
        "negative duration", series(COOL, Wait(-5 * ns)), ("test at 1 us: a duration of -5 ns is negative",)
    ),
    Case(
        "duration off the grid",
        Pulse("alice.cool", 20_250),
        ("a pulse of 20.25 ns is off this line's grid of 1 ns; take 20 ns or 21 ns",),
    ),
    Case(
        "start off the grid",
        series(Wait(250), COOL, name="block"),
        ("test / block at 250 ps, alice.cool: the pulse begins 250 ps off this line's grid of 1 ns",),
    ),
    Case(
        "off the grid after the delay",
        Pulse("alice.late", 1 * us),
        ("off this line's grid of 1 ns (after its delay of 500 ps); the delay of the line is off its grid",),
    ),
    Case(
        "off the grid from the second turn on",
        Repeat(3, series(COOL, Wait(20_300))),
        (
            "from the second turn of the loop on off this line's grid of 1 ns: a turn lasts 1.0203 us; add a wait of 700 ps",
        ),
    ),
    Case(
        "attempts off the grid",
        Attempt(series(CLICK, Wait(250)), ("n0",), TABLE, 10),
        ("charlie.snspd_0: from the second turn of the loop on off this line's grid",),
    ),
    Case(
        "off the grid after a branch of uneven length",
        series(Draw("s", (1.0, 1.0)), Branch("s", {"0": Wait(1 * ns), "1": Wait(250)}), COOL),
        ("the pulse begins 250 ps off this line's grid",),
    ),
    Case(
        "overlap",
        together(COOL, series(Wait(400 * ns), COOL)),
        (
            "test / side at 400 ns, alice.cool: on twice at once: a branch of this Together turns it on 600 ns before",
        ),
    ),
    Case(
        "overlap with a loop too long to unroll",
        together(
            Repeat(10_000, series(Pulse("alice.cool", 50 * ns), Wait(50 * ns))),
            series(Wait(500 * us), COOL),
        ),
        ("alice.cool: on twice at once",),
    ),
    Case(
        "dead time",
        series(COOL, Wait(5 * ns), COOL),
        (
            "alice.cool: off for only 5 ns, less than its dead time of 10 ns; leave it off for 10 ns or let the pulses touch",
        ),
    ),
    Case(
        "dead time between branches of a Together",
        together(COOL, series(Wait(1_005 * ns), COOL)),
        ("between two branches, off for only 5 ns",),
    ),
    Case(
        "dead time at the seam of a loop",
        Repeat(2, series(COOL, Wait(5 * ns))),
        ("test at 1.005 us, alice.cool: from one turn of the loop to the next, off for only 5 ns",),
    ),
    Case(
        "dead time from attempt to attempt",
        Attempt(series(Pulse("alice.fast", 2 * ns), CLICK), ("n0",), TABLE, 1000),
        (
            "test / attempt at 62 ns, alice.fast: from one attempt to the next, off for only 60 ns, less than its dead time of 1 us",
        ),
    ),
    Case(
        "dead time from the interleaved block to the attempt",
        attempt(Wait(5 * ns), COOL, every=Every(1, COOL)),
        ("alice.cool: from the interleaved block to the attempt, off for only 5 ns",),
    ),
    Case(
        "dead time from the attempt to the interleaved block",
        Attempt(series(CLICK, COOL, Wait(5 * ns)), ("n0",), TABLE, 10, Every(2, COOL)),
        ("from an attempt to the interleaved block, off for only 5 ns",),
    ),
    Case(
        "dead time over a case that leaves the line off",
        series(
            COOL,
            Draw("s", (1.0, 1.0)),
            Branch("s", {"0": Wait(5 * ns), "1": COOL}),
            COOL,
        ),
        ("alice.cool: off for only 5 ns",),
    ),
    Case(
        "duty of a loop",
        Repeat(1000, series(Pulse("alice.reference", 20 * us), Wait(80 * us))),
        ("on for 20 us in 100 us of each turn: a duty of 0.2 over 1 ms or more; this line may have 0.1",),
    ),
    Case(
        "duty of attempts",
        attempt(every=Every(10, Pulse("alice.reference", 20 * us))),
        (
            "test / attempt at 0 ps, alice.reference: on for 20 us in 30 us of each turn: a duty of 0.667 over 1 ms or more",
        ),
    ),
    Case(
        "duty of one pulse",
        Pulse("alice.reference", 200 * us),
        ("on for 200 us in 200 us: a duty of 0.2 over 1 ms",),
    ),
    Case(
        "event rate",
        Repeat(10_000, series(Pulse("alice.slow", 1 * us), Wait(1 * us))),
        ("alice.slow: 1e+06 edges per second, more than the 1e+05 the core sustains",),
    ),
    Case(
        "exposure",
        together(series(Wait(2 * us), Pulse("alice.align", 5 * us)), Gate("charlie.snspd_0", 3 * us, "n")),
        (
            "test / side at 2 us, charlie.snspd_0: open for 1 us while alice.align is on, whose light harms it",
        ),
    ),
    Case("tone on a switch", Tone("alice.cool", phase_turns=0.5), ("Tone on a line of kind 'switch'",)),
    Case(
        "frequency",
        Tone("alice.qubit", frequency_hz=2e7),
        ("a frequency of 2e+07 Hz is outside this line's band",),
    ),
    Case("frequency not a number", Tone("alice.qubit", frequency_hz=math.nan), ("a frequency of nan Hz",)),
    Case("amplitude", Tone("alice.qubit", amplitude=1.5), ("an amplitude of 1.5 is outside 0 to 1",)),
    Case("phase not a number", Tone("alice.qubit", phase_turns=math.inf), ("a phase of inf turns",)),
    Case(
        "tone in one branch, pulse in another",
        together(Tone("alice.qubit", phase_turns=0.5), Pulse("alice.qubit", 1 * us)),
        ("alice.qubit: one branch of this Together sets its tone while another uses it",),
    ),
    Case(
        "feedback to a switch",
        series(Draw("s", (1.0,)), Feedback("s", "alice.cool")),
        ("alice.cool: Feedback on a line of kind 'switch'",),
    ),
    # shape
    Case("empty loop", Repeat(0, COOL), ("a loop of 0 turns; a loop needs at least one turn",)),
    Case("no time in a loop", Repeat(5, series()), ("a loop in which no time passes",)),
    Case("no attempts", attempt(limit=0), ("test / attempt at 0 ps: a limit of 0 attempts",)),
    Case(
        "no time in an attempt",
        Attempt(Gate("charlie.snspd_0", 0, "n0"), ("n0",), TABLE, 10),
        ("an attempt in which no time passes", "a gate of 0 ps is too short"),
    ),
    Case(
        "block before every zeroth attempt",
        attempt(every=Every(0, COOL)),
        ("a block put before every 0 attempts",),
    ),
    Case(
        "setting drawn before the herald",
        attempt(Draw("setting", (0.5, 0.5))),
        ("test / attempt at 0 ps: a setting is drawn before the herald; draw it after the attempt loop",),
    ),
    Case(
        "setting drawn in an interleaved block",
        attempt(every=Every(1, series(COOL, Draw("setting", (0.5, 0.5))))),
        ("a setting is drawn before the herald",),
    ),
    Case("attempts within attempts", attempt(attempt()), ("an Attempt in the body of an attempt loop",)),
    Case(
        "branch within attempts",
        attempt(series(Gate("alice.pmt", 1 * us, "m", 1), Branch("m.bright", {"0": COOL, "1": COOL}))),
        ("a Branch in the body of an attempt loop",),
    ),
    Case(
        "host point within attempts",
        attempt(HostPoint("stop")),
        ("a HostPoint in the body of an attempt loop",),
    ),
    Case(
        "report in an interleaved block",
        attempt(every=Every(1, series(COOL, Report({})))),
        ("a Report in a block interleaved into an attempt loop",),
    ),
    Case(
        "draw side by side",
        together(COOL, Draw("s", (1.0,))),
        ("test / side at 0 ps: a Together with a Draw in one of its",),
    ),
    Case(
        "outcomes not total",
        Attempt(
            together(CLICK, Gate("charlie.snspd_1", 60 * ns, "n1")), ("n0", "n1"), {"10": "a", "01": "b"}, 10
        ),
        ("no outcome for the click patterns 00, 11",),
    ),
    Case(
        "pattern of the wrong length",
        Attempt(CLICK, ("n0",), {**TABLE, "01": "b"}, 10),
        ("01 cannot be a click pattern of 1 gate; patterns have 1 digits",),
    ),
    Case(
        "outcome of nothing",
        Attempt(CLICK, ("n0",), {"0": "dark", "1": "click"}, 10),
        ("an attempt without a click has the outcome 'dark'",),
    ),
    Case(
        "outcome called timeout",
        Attempt(CLICK, ("n0",), {"0": "again", "1": "timeout"}, 10),
        ('called "timeout"',),
    ),
    Case(
        "nothing ends the loop",
        Attempt(CLICK, ("n0",), {"0": "again", "1": "again"}, 10),
        ("no click pattern ends",),
    ),
    Case("no gates decide", Attempt(CLICK, (), {}, 10), ("0 gates decide the attempt",)),
    Case(
        "anchored too early",
        series(
            attempt(), Branch("herald", {**AFTER, "click": Series((COOL,), "fast", "anchored", 200 * ns)})
        ),
        ("test / click / fast at 0 ps: anchored 200 ns after the herald, but the core takes 1 us to react",),
    ),
    Case("draw with no weights", Draw("s", ()), ("cannot draw 's' with weights",)),
    Case(
        "draw with a negative weight",
        Draw("s", (1.0, -1.0)),
        ("with weights 1, -1; weights are not negative",),
    ),
    Case("draw without a register", Draw("", (1.0,)), ("a Draw without a register",)),
    Case("contrast of a tracker", series(REFERENCE, track(contrast=1.5)), ("assumes a contrast of 1.5",)),
    Case(
        "tracker without gates", series(track(gates=())), ("the tracker of 'phase' has no reference gates",)
    ),
    Case(
        "diffusion of a tracker",
        series(REFERENCE, Track((("q0", "q1", 0.0),), "phase", 0.9, -1.0)),
        ("assumes a diffusion of -1 rad²/s",),
    ),
    Case("too long to count", Repeat(10**9, Wait(10**12)), ("a piece longer than 53 days",)),
    Case("number beyond reach", Wait(10**30), ("Wait with a number beyond",)),
    Case("too many pulses", Repeat(10**8, COOL), ("a straight piece of 100000000 pulses and gates",)),
    # registers
    Case("gate without a register", Gate("alice.pmt", 1 * us, ""), ("alice.pmt: a gate without a register",)),
    Case("threshold", Gate("alice.pmt", 1 * us, "n", 0), ("a threshold of 0 calls every count bright",)),
    Case(
        "register twice in a piece",
        series(Gate("alice.pmt", 1 * us, "n"), COOL, Gate("alice.pmt", 1 * us, "n")),
        ("alice.pmt: register 'n' is written again before anything has read it",),
    ),
    Case("register in a loop", Repeat(3, Gate("alice.pmt", 1 * us, "n")), ("register 'n' is written again",)),
    Case(
        "report of nothing",
        series(Gate("alice.pmt", 1 * us, "counts"), Report({"n": "count"})),
        ("column 'n' of the record reads register 'count' before it is written; did you mean counts",),
    ),
    Case(
        "report after a possible timeout",
        series(attempt(), Report({"n": "n0.first_ps"})),
        (
            "reads register 'n0.first_ps', which is not written after a timeout; read it in a case of a branch on 'herald'",
        ),
    ),
    Case(
        "report in the case of a timeout",
        series(attempt(), Branch("herald", {**AFTER, "timeout": Report({"n": "n0"})})),
        (
            "test / timeout at 0 ps: column 'n' of the record reads register 'n0', which is not written after a timeout",
        ),
    ),
    Case(
        "branch on nothing", Branch("s", {"0": COOL}), ("the branch reads register 's' before it is written",)
    ),
    Case(
        "feedback from nothing",
        Feedback("s", "alice.qubit"),
        ("the feedback reads register 's' before it is",),
    ),
    Case(
        "tracker of nothing", track(), ("the tracker reads register 'q0'", "the tracker reads register 'q1'")
    ),
    Case(
        "written in one case only",
        series(
            Draw("s", (1.0, 1.0)),
            Branch("s", {"0": Gate("alice.pmt", 1 * us, "n"), "1": COOL}),
            Report({"n": "n"}),
        ),
        ("column 'n' of the record reads register 'n' before its gate closes",),
    ),
    Case(
        "tracker of other gates",
        attempt(every=Every(1, series(COOL, track((("n0", "n0", 0.0),))))),
        ("the tracker of 'phase' reads register 'n0', which no gate of the interleaved block writes",),
    ),
    Case(
        "attempt decides on nothing",
        Attempt(CLICK, ("n1",), TABLE, 10),
        ("register 'n1' decides the attempt, but no gate of its body writes it; there is n0",),
    ),
    Case(
        "outcome without a case",
        series(attempt(), Branch("herald", {"click": COOL})),
        ("the branch on 'herald' has no case for timeout; every value needs a case",),
    ),
    Case(
        "case that never comes",
        series(attempt(), Branch("herald", {**AFTER, "clack": COOL})),
        ("the branch on 'herald' has a case 'clack' that never comes; did you mean click",),
    ),
    Case(
        "drawn setting without a case",
        series(Draw("s", (1.0,) * 11), Branch("s", {str(k): COOL for k in range(9)})),
        ("the branch on 's' has no case for 9, 10",),
    ),
    Case(
        "bright without a case",
        series(Gate("alice.pmt", 1 * us, "n", 3), Branch("n.bright", {"1": COOL})),
        ("the branch on 'n.bright' has no case for 0",),
    ),
    Case(
        "branch on a count",
        series(Gate("alice.pmt", 1 * us, "n"), Branch("n", {"0": COOL})),
        ("a branch on 'n', which can have any value",),
    ),
    Case(
        "branch without cases", series(Draw("s", (1.0,)), Branch("s", {})), ("has no cases", "no case for 0")
    ),
    Case(
        "phase from an outcome",
        series(attempt(), Feedback("herald", "alice.qubit")),
        ("alice.qubit: the phase is fed back from 'herald', which is not an integer",),
    ),
    Case(
        "phase from a standard deviation",
        series(REFERENCE, track(), Feedback("phase.sigma_rad", "alice.qubit")),
        ("fed back from 'phase.sigma_rad', which is not an integer",),
    ),
)

SOUND = (
    Case("nothing", series(), ()),
    Case("pulses that touch", series(COOL, COOL, Repeat(5, COOL)), ()),
    Case("a loop at its dead time", Repeat(5, series(COOL, Wait(10 * ns))), ()),
    Case("a loop at its duty", Repeat(1000, series(Pulse("alice.reference", 10 * us), Wait(90 * us))), ()),
    Case("a short loop of high duty", Repeat(5, series(Pulse("alice.reference", 20 * us), Wait(1 * us))), ()),
    Case("a burst of edges", Repeat(50, series(Pulse("alice.slow", 1 * us), Wait(1 * us))), ()),
    Case("a fine grid", series(Wait(250), Pulse("alice.fast", 2_250), Wait(1_001_500), COOL), ()),
    Case(
        "light that ends as the detector opens",
        together(Pulse("alice.align", 1 * us), series(Wait(1 * us), CLICK)),
        (),
    ),
    Case(
        "turns of a loop that fit between",
        together(Repeat(3, series(COOL, Wait(2 * us))), series(Wait(2 * us), Pulse("alice.cool", 100 * ns))),
        (),
    ),
    Case(
        "a herald and what follows",
        series(
            attempt(every=Every(5, series(REFERENCE, track()))),
            Branch("herald", {"click": Report({"n": "n0", "t": "n0.first_ps"}), "timeout": Wait(1 * us)}),
            Report({"outcome": "herald", "tries": "herald.attempts", "phase": "phase", "last": "q0"}),
            Feedback("phase", "alice.qubit", -1, 250_000),
        ),
        (),
    ),
    Case(
        "a register read in every turn",
        Repeat(
            3,
            series(
                Gate("alice.pmt", 1 * us, "n", 2),
                Branch("n.bright", {"0": COOL, "1": COOL}),
                Report({"n": "n"}),
            ),
        ),
        (),
    ),
)


@pytest.mark.parametrize("case", [*DEFECTS, *SOUND], ids=lambda case: case.name)
def test_check(case: Case) -> None:
    problems = [str(problem) for problem in check(Schedule("test", case.item), LINES)]
    assert len(problems) == len(case.expected), problems
    for problem, text in zip(problems, case.expected, strict=True):
        assert text in problem


def test_all_problems_are_found_at_once() -> None:
    item = series(Pulse("alice.cool", 5 * ns), Tone("alice.cool"), Repeat(0, COOL), Report({"n": "n"}))
    problems = check(Schedule("test", item), LINES)
    assert len(problems) == 4
    with pytest.raises(
        ScheduleError, match="schedule 'test' cannot be played, 4 problems:\n  test"
    ) as refused:
        require(Schedule("test", item), LINES)
    assert len(refused.value.problems) == 4
    require(Schedule("test", COOL), LINES)


def test_a_problem_reads_as_one_line() -> None:
    item = Series((Wait(1 * us), Series((Wait(40 * ns), Pulse("alice.cool", 5 * ns)), "cooling")), "link")
    (problem,) = check(Schedule("link", item), LINES)
    assert str(problem) == (
        "link / cooling at 40 ns, alice.cool: a pulse of 5 ns is too short; this line needs at least 20 ns"
    )
    assert (problem.place, problem.time_ps, problem.line) == ("link / cooling", 40 * ns, "alice.cool")


def test_deep_nesting_is_refused() -> None:
    item: Item = COOL
    for _ in range(500):
        item = Series((item,))
    (problem,) = check(Schedule("deep", item), LINES)
    assert "nested more than 100 deep" in str(problem)


def test_a_core_that_reacts_slower() -> None:
    item = series(attempt(), Branch("herald", {**AFTER, "click": Series((COOL,), "on", "anchored", 2 * us)}))
    assert check(Schedule("test", item), LINES) == []
    (problem,) = check(Schedule("test", item), LINES, core_reaction_ps=5 * us)
    assert "the core takes 5 us to react" in problem.what


def test_loops_are_checked_without_unrolling() -> None:
    loop = attempt(limit=2**60)
    assert check(Schedule("test", Repeat(2**30, series(loop, Wait(1 * us)))), LINES) == []


@given(any_schedules)
def test_check_never_fails(schedule: Schedule) -> None:
    for problem in check(schedule, LINES):
        assert str(problem)


@given(pulse_items)
def test_overlap_and_dead_time_agree_with_the_timeline(item: Item) -> None:
    """Between two pulses of a line the check complains exactly where the flattened timeline shows it."""
    seen = {
        (problem.line, "overlap" if "on twice" in problem.what else "dead time")
        for problem in check(Schedule("test", item), LINES)
        if "on twice" in problem.what or "dead time" in problem.what
    }
    timeline, _ = flatten(item)
    expected: set[tuple[str, str]] = set()
    for k, name in enumerate(timeline.lines):
        starts, ends = timeline.start_ps[timeline.line == k], timeline.start_ps + timeline.duration_ps
        ends = ends[timeline.line == k]
        latest = -1
        for start, end in zip(starts, ends, strict=True):
            if start < latest:
                expected.add((name, "overlap"))
            elif latest >= 0 and 0 < start - latest < LINES[name].dead_ps:
                expected.add((name, "dead time"))
            latest = max(latest, end)
    assert {name for name, kind in seen if kind == "overlap"} == {
        n for n, kind in expected if kind == "overlap"
    }
    clear = set(timeline.lines) - {name for name, kind in seen | expected if kind == "overlap"}
    assert {n for n, _ in seen if n in clear} == {n for n, _ in expected if n in clear}
