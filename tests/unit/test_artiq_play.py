"""Emitted experiments, run as plain Python, do event by event what their sidecar says, whatever clicks."""

from __future__ import annotations

import json

import pytest
from artiq_parts import CONFIG, KASLI, LAB, LINES, Run, compiled, play
from fake_artiq import RTIOUnderflow
from msgspec.structs import replace

from labctl.core.artiq.compile import Experiment, compile_schedule
from labctl.core.artiq.course import Choice
from labctl.core.artiq.sidecar import expected, read
from labctl.core.artiq.slack import Costs
from labctl.errors import ScheduleError
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
    Tone,
    Wait,
)
from labctl.units import ns, us
from sequences.fringe import fringe
from sequences.link import link


def schedule(*items: Item, name: str = "test") -> Schedule:
    return Schedule(name, Series(items))


def same(made: Experiment, run: Run, number: int, choices: dict[str, Choice]) -> None:
    """The events of a round are those of the sidecar, in order."""
    wanted = expected(made.sidecar, choices)
    got = run.rounds[number].events
    assert [(time, device, action) for time, device, action, _ in got] == [
        (one.time_mu, one.event.device, one.event.action) for one in wanted
    ]
    for (_, _, _, words), one in zip(got, wanted, strict=True):
        fixed = [w for w in zip(words, one.event.words, strict=True) if not isinstance(w[1], str)]
        assert all(got_word == word for got_word, word in fixed)


class Midpoint:
    """Clicks at the two detectors: in round r the herald comes with the attempt and at the detectors of ``plan[r]``."""

    def __init__(self, plan: list[tuple[int, str]], limit: int) -> None:
        self._attempts = [
            (k == attempt, pattern) for attempt, pattern in plan for k in range(1, min(attempt, limit) + 1)
        ]
        self._seen = {"ttl2": 0, "ttl3": 0}

    def __call__(self, device: str, opened: int, closed: int) -> list[int]:
        if device in self._seen and closed - opened == 60:
            last, pattern = self._attempts[self._seen[device]]
            self._seen[device] += 1
            return [opened + 7] if last and pattern[["ttl2", "ttl3"].index(device)] == "1" else []
        if device in self._seen:  # reference light: 3 clicks at detector 0 in each half, 1 at detector 1
            half = (closed - opened) // 2
            per_half = [opened + 100, opened + 200, opened + 300] if device == "ttl2" else [opened + 50]
            return per_half + [at + half for at in per_half]
        return [opened] * (9 if device == "ttl0_counter" else 2)


@pytest.mark.parametrize("cool_every", [1, 2])
def test_link_plays_as_its_sidecar_says_for_every_outcome(cool_every: int) -> None:
    limit = 4
    made = compile_schedule(link(limit=limit, cool_every=cool_every), LAB.line, LAB.core.artiq, KASLI)
    plan = [(1, "10"), (3, "01"), (9, "10"), (2, "10"), (4, "01"), (2, "10")] * 12
    run = play(made.source, rounds=len(plan), clicks=Midpoint(plan, limit))
    names = read(made.sidecar).plan.registers["herald"]
    record = 0
    seen: set[tuple[str, int]] = set()
    for number, (attempt, pattern) in enumerate(plan):
        registers = run.rounds[number].registers
        outcome = names[registers["r_herald"]]
        if attempt > limit:
            assert outcome == "timeout" and registers["r_herald_attempts"] == limit
            same(made, run, number, {"herald": ("timeout", limit)})
            continue
        assert outcome == {"10": "psi_plus", "01": "psi_minus"}[pattern]
        setting = run.datasets["link.setting"][record]
        same(made, run, number, {"herald": (outcome, attempt), "setting": setting})
        seen.add((outcome, setting))
        if setting:  # the tracked phase is fed forward
            offset = (setting - 1) * 125_000 + (0 if outcome == "psi_plus" else 500_000)
            microturns = (run.datasets["link.phase_microturns"][record] + offset) % 1_000_000
            word = (microturns * 65536 + 500_000) // 1_000_000 % 65536
            sets = [
                words
                for _, device, action, words in run.rounds[number].events
                if (device, action) == ("urukul1_ch0", "set")
            ]
            assert sets[-1][1] == word
        assert run.datasets["link.attempts"][record] == attempt
        assert run.datasets["link.click_0_ps"][record] == (7_000 if pattern == "10" else -1)
        assert run.datasets["link.click_1_ps"][record] == (7_000 if pattern == "01" else -1)
        assert run.datasets["link.bright_a"][record] == 1 and run.datasets["link.bright_b"][record] == 0
        assert run.datasets["link.counts_a"][record] == 9
        assert run.datasets["link.reference_clicks"][record] == 8
        record += 1
    assert {outcome for outcome, _ in seen} == {"psi_plus", "psi_minus"}
    assert len(seen) > 12
    assert record == len(run.datasets["link.setting"]) == 60
    assert run.datasets["link.underflow.round"] == []
    assert run.machine.least_slack > 0


@pytest.mark.parametrize("cool_every", [1, 3])
def test_a_free_block_waits_for_the_coarse_cycle_where_attempts_are_off_it(cool_every: int) -> None:
    """Over 101 km an attempt lasts 525.634 us, no multiple of 8 ns, and the reference tone changes under the light."""
    far = {
        name: replace(line, photon_ps=dict.fromkeys(line.photon_ps, 247_300 * ns))
        for name, line in LAB.line.items()
    }
    made = compile_schedule(
        link(flight=247_300 * ns, limit=7, cool_every=cool_every), far, LAB.core.artiq, KASLI
    )
    plan = [(1, "10"), (2, "01"), (7, "10"), (9, "01"), (4, "01")]
    run = play(made.source, rounds=len(plan), clicks=Midpoint(plan, 7))
    settings = iter(run.datasets["link.setting"])
    for number, (attempt, pattern) in enumerate(plan):
        if attempt > 7:
            same(made, run, number, {"herald": ("timeout", 7)})
        else:
            outcome = {"10": "psi_plus", "01": "psi_minus"}[pattern]
            same(made, run, number, {"herald": (outcome, attempt), "setting": next(settings)})
    assert made.plan.blocks["attempt"].length_mu % 8


def test_the_link_sidecar_lists_the_timeline_of_every_outcome() -> None:
    made = compile_schedule(link(limit=2), LAB.line, LAB.core.artiq, KASLI)
    assert made.source.count("def block_analysis") == 1, "blocks that do the same share a method"
    sidecar = read(made.sidecar)
    assert sidecar.left_out == 0
    assert len(sidecar.courses) == 2 * 9 + 1
    for course in sidecar.courses:
        choices = {name: tuple(v) if isinstance(v, list) else v for name, v in course.choices.items()}
        rows = [(one.segment, one.time_mu, one.event.device) for one in expected(made.sidecar, choices)]
        assert rows == [row[:3] for row in course.events]
    lines = made.source.splitlines()
    assert any("self.ttl5.on()" in lines[int(number) - 1] for number in sidecar.source_map)
    assert json.loads(made.sidecar)["format"] == "labctl-artiq-1"


def test_the_fringe_plays_as_its_sidecar_says() -> None:
    made = compile_schedule(fringe(points=4, cycles_per_point=2), LAB.line, LAB.core.artiq, KASLI)
    run = play(
        made.source, rounds=20, clicks=lambda device, opened, closed: [opened + 5] if device == "ttl2" else []
    )
    points = run.datasets["fringe.point"]
    assert set(points) == {0, 1, 2, 3}
    for number, point in enumerate(points):
        same(made, run, number, {"point": point})
    assert run.datasets["fringe.n0"] == [1] * 20 and run.datasets["fringe.n1"] == [0] * 20


def xy8(spacing: int = 100 * us, pi: int = 10 * us) -> Schedule:
    phases = (0.0, 0.25, 0.0, 0.25, 0.25, 0.0, 0.25, 0.0)
    items: list[Item] = [Tone("n.dds", phase_turns=0.0), Pulse("n.dds", pi // 2), Wait(spacing // 2)]
    for phase in phases:
        items += [Tone("n.dds", phase_turns=phase), Pulse("n.dds", pi), Wait(spacing - pi)]
    items += [
        Tone("n.dds", phase_turns=0.5),
        Pulse("n.dds", pi // 2),
        Gate("n.in0", 200 * us, "n", 3),
        Report({"n": "n", "b": "n.bright"}),
    ]
    return schedule(*items, name="xy8")


@pytest.mark.parametrize("how", ["source", "table"])
def test_xy8_plays_from_source_and_from_a_table(how: str) -> None:
    made = compiled(xy8(), {"xy8": how})
    run = play(made.source, rounds=2, clicks=lambda device, opened, closed: [opened] * 4)
    same(made, run, 0, {})
    same(made, run, 1, {})
    assert run.datasets["xy8.n"] == [4, 4] and run.datasets["xy8.b"] == [1, 1]
    phases = [words[1] for _, device, action, words in run.rounds[0].events if action == "set"]
    assert phases == [16384, 0, 16384, 0, 16384, 0, 32768]


def train(count: int = 60, name: str = "train") -> Schedule:
    pulses = tuple(
        part
        for _ in range(count)
        for part in (Pulse("n.out0", 2 * us), Wait(1 * us), Pulse("n.late", 1 * us))
    )
    return schedule(*pulses, Gate("n.in0", 5 * us, "n"), Report({"n": "n"}), name=name)


@pytest.mark.parametrize("how", ["source", "table", "dma"])
def test_a_long_block_is_the_same_from_source_table_and_dma(how: str) -> None:
    made = compiled(train(), {"train": how})
    run = play(made.source, clicks=lambda device, opened, closed: [closed - 1])
    same(made, run, 0, {})
    assert run.datasets["train.n"] == [1]
    assert "def part_train_2" in made.source if how != "table" else "def table_train" in made.source


def test_a_long_block_is_played_by_dma_and_says_why() -> None:
    made = compiled(train())
    block = made.plan.blocks["train"]
    assert block.how == "dma" and "242 events, more than 40" in block.reason
    assert "recorded once, played by DMA" in made.report


@pytest.mark.parametrize(
    ("length", "mu"),
    [
        (1 * us, 1000),
        (10 * us, 10_000),
        (150 * us, 150_000),
        (3_300 * ns, 3300),
        (5 * ns, 5),
        (17 * ns, 17),
        (1000 * us, 1_000_000),
    ],
)
def test_durations_are_exact(length: int, mu: int) -> None:
    """As delays, pulses and gates: seconds_to_mu of ARTIQ makes 999 of 1 us."""
    items = (
        Pulse("n.out0", length),
        Wait(length),
        Pulse("n.out1", length),
        Gate("n.in0", length, "n"),
        Report({"f": "n.first_ps"}),
    )
    for how in ("source", "table", "dma"):
        made = compiled(schedule(*items), {"test": how})
        run = play(made.source, clicks=lambda device, opened, closed: [opened + mu - 1])
        same(made, run, 0, {})
        times = {(device, action): time for time, device, action, _ in run.rounds[0].events}
        start = times["ttl4", "on"]
        assert times["ttl4", "off"] - start == mu
        assert times["ttl5", "on"] - start == 2 * mu
        assert times["ttl5", "off"] - start == times["ttl0", "open"] - start == 3 * mu
        assert times["ttl0", "close"] - start == 4 * mu
        assert run.datasets["test.f"] == [(mu - 1) * 1000]
        (course,) = read(made.sidecar).courses
        rows = {(channel, action): time for _, time, _, channel, action, _, _ in course.events}
        assert [rows[4, "off"] - rows[4, "on"], rows[0, "close"] - rows[0, "open"]] == [mu, mu]


def test_a_table_sets_both_kinds_of_dds() -> None:
    """Frequency words of an AD9912 are 64 bits wide, those of an AD9910 32: the compiler does not convert arguments."""
    pulses = [
        part
        for k in range(3)
        for line in ("n.dds", "n.old")
        for part in (Tone(line, phase_turns=k / 4), Pulse(line, 5 * us), Wait(10 * us))
    ]
    made = compiled(schedule(*pulses), {"test": "table"})
    run = play(made.source)
    same(made, run, 0, {})
    sets = [device for _, device, action, _ in run.rounds[0].events if action == "set"]
    assert sets == ["urukul0_ch0", "urukul2_ch0"] * 2
    updates = read(made.sidecar).rtio
    assert updates["set urukul0_ch0"] == [(1248, 0, 1), (1256, 0, 0)]
    assert updates["set urukul2_ch0"] == [(1376, 0, 1), (1386, 0, 0)]


def test_the_sidecar_marks_what_may_come_later() -> None:
    free = Series((Wait(1 * us), Pulse("n.out0", 2 * us)), kind="free")
    shot = Series((free, Gate("n.in0", 10 * us, "n"), Wait(60 * us), Report({"n": "n"})))
    (course,) = read(compiled(schedule(Repeat(2, shot))).sidecar).courses
    marked = [course.events[row][2:5] for row in course.free]
    assert marked == [("ttl4", 4, "on")] * 2


def test_pulses_that_touch_keep_the_line_on_over_blocks_and_loops() -> None:
    loop = Attempt(
        Series((Pulse("n.out0", 20 * us), Gate("n.in0", 10 * us, "c"), Wait(30 * us))),
        ("c",),
        {"0": "again", "1": "yes"},
        3,
        Every(1, Series((Pulse("n.out0", 50 * us),), kind="free")),
    )
    made = compiled(
        schedule(loop, Branch("herald", {"yes": Pulse("n.out1", 1 * us), "timeout": Wait(1 * us)}))
    )
    run = play(made.source, clicks=lambda device, opened, closed: [])
    same(made, run, 0, {"herald": ("timeout", 3)})
    offs = [time for time, device, action, _ in run.rounds[0].events if (device, action) == ("ttl4", "off")]
    assert offs == [70_000, 180_000, 290_000]


def test_draws_repeats_feedback_and_host_points() -> None:
    body = Series(
        (
            Pulse("n.out0", 3 * us),
            Gate("n.in0", 4 * us, "n"),
            Wait(100 * us),
            Feedback("n", "n.dds", scale=-3, offset=125_000),
            Pulse("n.dds", 5 * us),
            Report({"n": "n"}),
        )
    )
    made = compiled(
        schedule(
            Draw("s", (1.0, 3.0)),
            Branch("s", {"0": Pulse("n.out1", 1 * us), "1": Wait(1 * us)}),
            Repeat(4, body),
            HostPoint("move the mirror"),
            Pulse("n.out2", 1 * us),
            Report({"s": "s"}),
        )
    )
    run = play(made.source, rounds=200, clicks=lambda device, opened, closed: [opened + 1] * 2)
    drawn = run.datasets["test.1.s"]
    assert 120 < sum(drawn) < 175
    words = {w[1] for _, device, action, w in run.rounds[0].events if action == "set"}
    assert words == {round((125_000 - 6) % 1_000_000 * 65536 / 1e6)}
    wanted = expected(made.sidecar, {"s": drawn[5]})
    before = [one for one in wanted if one.segment == 0]
    after = [one for one in wanted if one.segment == 1]
    assert [one.event.device for one in after] == ["ttl6", "ttl6"]
    got = run.rounds[5].events
    # the origin of the round is that of its last segment
    shift = got[-2][0] - after[0].time_mu
    assert shift == 0
    first = got[0][0]
    assert [(t - first, d, a) for t, d, a, _ in got[: len(before)]] == [
        (one.time_mu - before[0].time_mu, one.event.device, one.event.action) for one in before
    ]


def test_a_late_round_is_tried_again_and_noted() -> None:
    made = compiled(schedule(Pulse("n.out0", 3 * us), Wait(1 * us), Report({})))
    late = 10_000_000
    run = play(made.source, rounds=2, hiccups=(late, 0, late, late, 0))
    assert run.datasets["test.underflow.round"] == [0, 1, 1]
    assert run.datasets["test.underflow.try"] == [0, 0, 1]
    assert run.datasets["test.round"] == [0, 1] and run.datasets["test.try"] == [1, 2]


def test_the_same_schedule_gives_the_same_files() -> None:
    one = compile_schedule(link(), LAB.line, LAB.core.artiq, KASLI)
    other = compile_schedule(link(), LAB.line, LAB.core.artiq, KASLI)
    assert (one.source, one.sidecar, one.report) == (other.source, other.sidecar, other.report)


def test_a_round_that_is_late_four_times_ends_the_run() -> None:
    made = compiled(schedule(Pulse("n.out0", 3 * us), Report({})))
    with pytest.raises(RTIOUnderflow):
        play(made.source, hiccups=(10_000_000,) * 4)


def test_the_slack_is_not_promised_better_than_it_is() -> None:
    """The stand-in's calls cost less than those assumed, so its least slack is at least the one reported."""
    made = compile_schedule(link(limit=4), LAB.line, LAB.core.artiq, KASLI)
    plan = [(1, "10"), (3, "01"), (9, "10"), (4, "01")] * 10
    run = play(made.source, rounds=len(plan), clicks=Midpoint(plan, 4))
    reported = min(one.slack_mu for one in read(made.sidecar).slack)
    assert 0 < reported <= run.machine.least_slack


def test_a_schedule_with_no_slack_left_is_late_on_the_stand_in_too() -> None:
    """What the slack check refuses does underflow when it is played nevertheless."""
    free = Costs(edge_ns=0, read_ns=0, feed_ns=0, gate_latency_coarse=0)
    loop = Attempt(
        Series((Wait(20 * us), Gate("n.in0", 1 * us, "c"), Wait(500 * ns))),
        ("c",),
        {"0": "again", "1": "yes"},
        4,
    )
    made = schedule(loop, Branch("herald", {"yes": Pulse("n.out0", 1 * us), "timeout": Wait(1 * us)}))
    with pytest.raises(ScheduleError) as caught:
        compiled(made)
    assert "cannot react this fast" in caught.value.problems[0]
    careless = compile_schedule(made, LINES, CONFIG, KASLI, costs=free)
    with pytest.raises(RTIOUnderflow):
        play(careless.source, clicks=lambda device, opened, closed: [opened])
