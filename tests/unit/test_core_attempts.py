"""Attempt loops on the simulated core: what the world is asked and told, when, and that nothing of the time is left out."""

from collections import Counter
from itertools import pairwise

import pytest
from fake_world import Call, FakeWorld, play
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.core.course import Course
from labctl.core.sim import TRACKED_CYCLES, Control
from labctl.errors import CoreError
from labctl.schedule.items import (
    Attempt,
    Every,
    Gate,
    Item,
    Pulse,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    Track,
    Wait,
)
from labctl.sim.played import Segment
from labctl.units import ms, us

BODY, BLOCK = 80 * us, 295 * us
TABLE = {"00": "again", "10": "plus", "01": "minus", "11": "again"}
REPORT = Report({"outcome": "herald", "attempts": "herald.attempts"})


def body(length: int = BODY, registers: tuple[str, ...] = ("c0", "c1")) -> Item:
    gates = Together(tuple(Gate(f"snspd_{r}", 1 * us, r) for r in registers))
    return Series((Pulse("excite", 1 * us), gates, Wait(length - 2 * us)))


def block(tracked: bool = True) -> Item:
    gates = Together((Gate("snspd_0", 24 * us, "r0"), Gate("snspd_1", 24 * us, "r1", threshold=3)))
    parts: tuple[Item, ...] = (Pulse("cool", 100 * us), gates, Wait(BLOCK - 124 * us))
    return Series((*parts, Track((("r0", "r1", 0.0),), "phase", 0.98, 10.0)) if tracked else parts)


def loop(every: int = 0, limit: int = 10**9, tracked: bool = True, **changes: object) -> Attempt:
    settings: dict[str, object] = {"body": body(), "gates": ("c0", "c1"), "outcomes": TABLE} | changes
    return Attempt(limit=limit, every=Every(every, block(tracked)) if every else None, **settings)  # type: ignore[arg-type]


def schedule(*items: Item) -> Schedule:
    return Schedule("test", Series(items))


def attempts_of(world: FakeWorld, length: int = BODY) -> int:
    return sum(n for call in world.calls for one, n in call.played if one.duration_ps == length)


def periods(call: Call) -> list[tuple[int, int]]:
    """When a call says something was played: (start, end) of each stretch."""
    if call.kind == "play_many":
        segment = call.played[0][0]
        return [(start, start + segment.duration_ps) for start in call.starts_ps]
    return [(call.time_ps, call.time_ps + call.duration_ps)]


@pytest.mark.parametrize("every", [0, 1, 3, 7])
@pytest.mark.parametrize("odds", [{"10": 2e-3, "01": 2e-3, "11": 1e-3}, {"10": 0.3, "11": 0.4}])
def test_every_moment_of_a_run_is_played_or_skipped_once(every, odds):
    world = FakeWorld([(0, odds)])
    records, end = play(world, schedule(loop(every), REPORT, Wait(7 * us)), rounds=40)
    assert world.accounted_ps() == end.time_ps == world.now
    assert attempts_of(world) == end.attempts == sum(int(r.values["attempts"]) for r in records)
    blocks = sum(n for call in world.calls for one, n in call.played if one.duration_ps == BLOCK)
    expected = sum(-(-int(r.values["attempts"]) // every) for r in records) if every else 0
    assert blocks == expected and end.rounds == len(records) == 40


@pytest.mark.parametrize("every", [0, 1, 3, 7])
def test_calls_of_a_kind_rise_in_time_and_nothing_is_skipped_that_is_played(every):
    world = FakeWorld([(0, {"10": 3e-3, "11": 3e-3})])
    play(world, schedule(loop(every), REPORT, Wait(7 * us)), rounds=20)
    for kinds in (("odds",), ("play", "play_given"), ("play_many",), ("skip",)):
        times = [time for call in world.of(*kinds) for time, _ in periods(call)]
        assert times == sorted(times) and len(set(times)) == len(times), kinds
    whole = [
        (a, b) for call in world.of("skip") if every == 0 or len(call.played) == 2 for a, b in periods(call)
    ]
    stretches = sorted(
        whole + [one for call in world.of("play", "play_given", "play_many") for one in periods(call)]
    )
    for (_, end), (start, _) in pairwise(stretches):
        assert end <= start
    if every == 0:  # nothing between: one stretch after the other
        assert all(end == start for (_, end), (start, _) in pairwise(stretches))


@given(
    every=st.integers(1, 9), attempt=st.integers(0, 500), told=st.integers(0, 500), with_block=st.booleans()
)
def test_start_times_of_interleaved_attempts(every, attempt, told, with_block):
    course = Course(Segment((), (), BLOCK) if with_block else None, Segment((), (), BODY), every, 1_000)
    gap = BLOCK if with_block else 0
    now, starts, blocks = 1_000, [], []
    for index in range(501):
        if index % every == 0:
            blocks.append(now)
            now += gap
        starts.append(now)
        now += BODY
        assert course.passed_ps(index + 1) == now
    assert course.start_ps(attempt) == starts[attempt]
    assert course.block_start_ps(attempt // every) == blocks[attempt // every]
    assert course.first_from(starts[attempt]) == attempt
    assert course.first_from(starts[attempt] + 1) == attempt + 1
    assert course.first_from(starts[attempt] - 1) == attempt
    course.told = min(told, attempt)
    played, start, length = course.untold(attempt)
    assert length == sum(one.duration_ps * n for one, n in played)
    assert start + length == course.passed_ps(attempt)


@pytest.mark.parametrize("every", [1, 3, 7])
def test_interleaved_blocks_and_attempts_begin_when_they_should(every):
    world = FakeWorld([(0, {"10": 0.02})])
    records, _ = play(world, schedule(loop(every), REPORT), rounds=30)
    begin = 0
    hits, looked = world.of("play_given"), world.of("play_many")
    for record, hit, look in zip(records, hits, looked, strict=True):
        number = int(record.values["attempts"]) - 1
        last = number // every
        assert hit.time_ps == begin + (last + 1) * BLOCK + number * BODY
        period = BLOCK + every * BODY
        first = max(0, last - TRACKED_CYCLES + 1)
        assert look.starts_ps == tuple(begin + j * period for j in range(first, last + 1))
        begin = record.time_ps
        assert begin == hit.time_ps + BODY


def test_without_a_tracker_only_the_last_block_is_played():
    world = FakeWorld([(0, {"10": 1e-3})], clicks=lambda register, start: 4 if register == "r1" else 1)
    seen = Report({"r0": "r0", "r1": "r1", "bright": "r1.bright"})
    records, _ = play(world, schedule(loop(1, tracked=False), seen), rounds=5)
    assert [len(call.starts_ps) for call in world.of("play_many")] == [1] * 5
    assert records[0].values == {"r0": 1, "r1": 4, "bright": 1}


@pytest.mark.parametrize("every", [0, 1, 3])
@pytest.mark.parametrize("limit", [1, 2, 3, 100, 1000])
def test_timeout_comes_exactly_at_the_limit(every, limit):
    world = FakeWorld([(0, {"11": 0.01})])  # both detectors: again
    records, end = play(world, schedule(loop(every, limit), REPORT), rounds=3)
    assert [r.values for r in records] == [{"outcome": "timeout", "attempts": limit}] * 3
    assert end.attempts == attempts_of(world) == 3 * limit
    assert (
        end.time_ps
        == world.accounted_ps()
        == 3 * (limit * BODY + (-(-limit // every) * BLOCK if every else 0))
    )


def test_a_herald_at_the_limit_counts_and_one_after_it_does_not():
    world = FakeWorld([(0, {}), (99 * BODY, {"01": 1.0})])
    (record,), _ = play(world, schedule(loop(0, 100), REPORT))
    assert record.values == {"outcome": "minus", "attempts": 100}
    world = FakeWorld([(0, {}), (100 * BODY, {"01": 1.0})])
    (record,), _ = play(world, schedule(loop(0, 100), REPORT))
    assert record.values == {"outcome": "timeout", "attempts": 100}


@pytest.mark.parametrize("every", [0, 1, 3, 7])
def test_again_goes_on_with_the_next_attempt(every):
    world = FakeWorld([(0, {"11": 0.5, "10": 0.1})])
    records, end = play(world, schedule(loop(every), REPORT), rounds=200)
    hits = world.of("play_given")
    kinds = Counter(call.pattern for call in hits)
    assert kinds["10"] == 200 and 600 < kinds["11"] < 1500
    assert {r.values["outcome"] for r in records} == {"plus"}
    assert end.attempts == sum(int(r.values["attempts"]) for r in records)
    assert abs(end.attempts / 200 - 10) < 2.5  # the mean of a geometric distribution of 0.1
    assert world.accounted_ps() == end.time_ps


def test_new_odds_are_asked_for_when_the_old_ones_end():
    table = [(k * 10 * ms, {"10": 0.0}) for k in range(5)] + [(50 * ms, {"10": 1.0})]
    world = FakeWorld(table)
    (record,), _ = play(world, schedule(loop(1), REPORT))
    begins = [-(-k * 10 * ms // (BLOCK + BODY)) for k in range(6)]
    first = [BLOCK + n * (BLOCK + BODY) for n in begins]
    first = [t - (BLOCK + BODY) if t - (BLOCK + BODY) >= k * 10 * ms else t for k, t in enumerate(first)]
    assert [call.time_ps for call in world.of("odds")] == first
    assert record.time_ps == first[-1] + BODY


def test_odds_that_ended_before_they_were_given_still_let_time_pass():
    class Late(FakeWorld):
        def odds_at(self, time_ps):
            return super().odds_at(time_ps).__class__({"10": 0.2}, time_ps - 5)

    world = Late([(0, {})])
    _, end = play(world, schedule(loop(3), REPORT), rounds=20)
    assert len(world.of("odds")) == end.attempts and world.accounted_ps() == end.time_ps


def test_deciding_gates_may_be_written_in_another_order_and_be_fewer_than_the_gates():
    swapped = loop(0, gates=("c1", "c0"))
    (record,), _ = play(FakeWorld([(0, {"10": 1.0})]), schedule(swapped, REPORT))
    assert record.values["outcome"] == "minus"
    extra = loop(0, body=body(registers=("dark", "c0", "c1")))
    world = FakeWorld([(0, {"100": 0.3, "110": 0.3, "101": 0.3})])
    records, _ = play(world, schedule(extra, REPORT), rounds=200)
    patterns = Counter(call.pattern for call in world.of("play_given"))
    assert patterns["100"] > 50  # the third gate alone decides nothing
    outcomes = Counter(r.values["outcome"] for r in records)
    assert outcomes == {"plus": patterns["110"], "minus": patterns["101"]}
    with pytest.raises(CoreError, match="no gate of its body counts into missing"):
        play(FakeWorld([(0, {})]), schedule(loop(0, gates=("c0", "missing"))))


def test_tones_are_those_of_the_loop_and_stay_as_it_leaves_them():
    inside = Series((Tone("excite", amplitude=0.3), *body().items))  # type: ignore[attr-defined]
    with_tone = Every(1, Series((Tone("cool", phase_turns=0.5), *block().items)))  # type: ignore[attr-defined]
    item = Attempt(inside, ("c0", "c1"), TABLE, 1000, with_tone)
    after = Together((Pulse("excite", 1 * us), Pulse("cool", 1 * us)))
    world = FakeWorld([(0, {"10": 0.1})])
    play(world, schedule(Tone("excite", frequency_hz=5.0), item, REPORT, after), rounds=2)
    tones = {
        p.line: (p.frequency_hz, p.phase_turns, p.amplitude) for p in world.of("play")[0].played[0][0].pulses
    }
    assert tones == {"excite": (5.0, 0.0, 0.3), "cool": (0.0, 0.5, 1.0)}
    for call in world.of("play_given", "play_many"):
        for pulse in call.played[0][0].pulses:
            assert (pulse.frequency_hz, pulse.phase_turns, pulse.amplitude) == tones[pulse.line]


def test_a_tone_that_differs_after_the_first_attempt_is_refused():
    late = Series((*body().items, Tone("excite", amplitude=0.3)))  # type: ignore[attr-defined]
    with pytest.raises(CoreError, match=r"other tones.*set them inside the attempt.*excite"):
        play(FakeWorld([(0, {"10": 0.1})]), schedule(Attempt(late, ("c0", "c1"), TABLE, 10)))


@pytest.mark.parametrize("every", [0, 1, 3])
@pytest.mark.parametrize("waits", [1, 2, 5])
def test_pause_in_the_middle_of_a_loop_loses_no_attempt_and_begins_with_a_block(every, waits):
    table = [(k * 20 * ms, {"11": 0.02}) for k in range(100)] + [(2000 * ms, {"10": 1.0})]
    count = 0

    def wait(time_ps: int) -> None:
        nonlocal count
        count += 1
        if count == waits:
            control.pause()
            pauses.append(world.now)

    pauses: list[int] = []

    class Paused(Control):
        def wait(self) -> bool:
            world.now += 500 * ms  # the laboratory goes on while nothing is played
            self.resume()
            return super().wait()

    control = Paused()
    world = FakeWorld(table, wait=wait)
    (record,), end = play(world, schedule(loop(every), REPORT), control=control)
    assert world.accounted_ps() == end.time_ps == record.time_ps
    assert world.now == end.time_ps + 500 * ms
    assert end.attempts == attempts_of(world) == record.values["attempts"]
    (pause,) = pauses
    told = [one for call in world.of("skip", "play_given", "play_many") for one in periods(call)]
    assert not any(start < pause + 500 * ms and end > pause for start, end in told)
    after = min(start for start, _ in told if start >= pause)
    assert after == pause + 500 * ms  # at once, with a block if there is one
    if every:
        again = next(call for call in world.calls if call.kind == "odds" and call.time_ps > pause)
        assert again.time_ps == after + BLOCK


@pytest.mark.parametrize("every", [0, 1, 3])
def test_stop_in_the_middle_of_a_loop_accounts_for_what_passed(every):
    control = Control()
    table = [(k * 20 * ms, {"11": 0.02}) for k in range(10_000)]
    world = FakeWorld(table, wait=lambda time: control.stop() if time > 300 * ms else None)
    records, end = play(world, schedule(loop(every), REPORT), rounds=5, control=control)
    assert records == [] and end.rounds == 0
    assert 300 * ms < end.time_ps == world.accounted_ps() == world.now
    assert end.attempts == attempts_of(world)


@settings(max_examples=60, deadline=None)
@given(
    every=st.integers(0, 9),
    limit=st.integers(1, 300),
    steps=st.lists(st.tuples(st.integers(0, 40 * ms), st.floats(0, 0.4), st.floats(0, 0.4)), max_size=5),
    seed=st.integers(0, 1000),
)
def test_no_odds_break_the_books(every, limit, steps, seed):
    table = sorted([(0, {"10": 0.01}), *((at, {"10": a, "11": b}) for at, a, b in steps)], key=lambda e: e[0])
    world = FakeWorld(table)
    records, end = play(world, schedule(loop(every, limit), REPORT), rounds=4, seed=seed)
    assert world.accounted_ps() == end.time_ps == records[-1].time_ps
    assert end.attempts == attempts_of(world) == sum(int(r.values["attempts"]) for r in records)
    assert all(int(r.values["attempts"]) <= limit for r in records)
