"""Everything a schedule may hold besides attempt loops: order, registers, feedback, draws, branches, host points."""

import math
import threading
from collections import Counter

import numpy as np
import pytest
from fake_world import FakeWorld, play
from hypothesis import given
from hypothesis import strategies as st

from labctl.core.program import AttemptLoop, Chain, Straight, lower
from labctl.core.sim import Control
from labctl.errors import CoreError
from labctl.schedule.items import (
    Attempt,
    Branch,
    Draw,
    Every,
    Feedback,
    Gate,
    HostPoint,
    Item,
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
from labctl.units import us


def schedule(*items: Item) -> Schedule:
    return Schedule("test", Series(items))


def fixed(**counts: int) -> FakeWorld:
    return FakeWorld([(0, {})], clicks=lambda register, start: counts[register])


def test_straight_pieces_follow_one_another_without_a_gap():
    world = fixed(a=2, b=0)
    items = (
        Pulse("x", 3 * us),
        Wait(2 * us),
        Gate("in", 5 * us, "a"),
        Draw("d", (1.0,)),
        Gate("in", 7 * us, "b"),
    )
    records, end = play(world, schedule(*items, Report({"a": "a", "b": "b"}), Wait(1 * us)), rounds=3)
    plays = world.of("play")
    assert [call.time_ps for call in plays] == [n * us for n in (0, 10, 17, 18, 28, 35, 36, 46, 53)]
    assert [record.time_ps for record in records] == [17 * us, 35 * us, 53 * us]
    assert end.time_ps == 54 * us == world.accounted_ps() and end.rounds == 3 and end.attempts == 0
    first = plays[0].played[0][0]
    assert [(p.line, p.start_ps, p.duration_ps) for p in first.pulses] == [("x", 0, 3 * us)]
    assert [(g.line, g.start_ps, g.duration_ps, g.into) for g in first.gates] == [("in", 5 * us, 5 * us, "a")]


def test_registers_counts_first_click_and_threshold():
    world = fixed(a=4, b=5)
    gates = Together((Gate("x", us, "a", threshold=5), Gate("y", us, "b", threshold=5)))
    columns = {"a": "a", "first": "a.first_ps", "dark": "a.bright", "b": "b", "bright": "b.bright"}
    (record,), _ = play(world, schedule(gates, Report(columns)))
    assert record.values == {"a": 4, "first": 3, "dark": 0, "b": 5, "bright": 1}


def test_records_are_numbered_from_the_first_one_asked_for():
    records, end = play(fixed(), schedule(Wait(us), Report({}), Report({})), rounds=3, first_record=7)
    assert [record.number for record in records] == [7, 8, 9, 10, 11, 12]
    assert end.rounds == 3


def test_time_counts_from_when_the_core_began():
    world = fixed()
    world.now = 5_000_000
    (record,), end = play(world, schedule(Wait(us), Report({})))
    assert record.time_ps == end.time_ps == us
    assert world.of("play")[0].time_ps == 5_000_000


@given(st.integers(0, 999_999), st.integers(-3, 3), st.integers(-2_000_000, 2_000_000))
def test_feedback_is_integer_arithmetic_modulo_a_turn(value, scale, offset):
    world = fixed(n=value)
    items = (
        Tone("x", frequency_hz=3.0, phase_turns=0.9, amplitude=0.25),
        Gate("in", us, "n"),
        Feedback("n", "x", scale=scale, offset=offset),
        Pulse("x", us),
    )
    play(world, schedule(*items))
    pulse = world.of("play")[-1].played[0][0].pulses[0]
    assert pulse.phase_turns == ((scale * value + offset) % 1_000_000) / 1e6
    assert (pulse.frequency_hz, pulse.amplitude) == (3.0, 0.25)


def test_tones_last_from_round_to_round_and_through_loops():
    world = fixed(n=0)
    items = (
        Pulse("x", us),
        Tone("x", phase_turns=0.5),
        Repeat(2, Pulse("x", us)),
        Draw("d", (1.0,)),
        Pulse("x", us),
    )
    play(world, schedule(*items), rounds=2)
    phases = [p.phase_turns for call in world.of("play") for p in call.played[0][0].pulses]
    assert phases == [0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]


def test_many_fed_back_phases_each_make_their_own_segment():
    count = iter(range(1000))
    world = FakeWorld([(0, {})], clicks=lambda register, start: next(count))
    play(world, schedule(Gate("in", us, "n"), Feedback("n", "x"), Pulse("x", us)), rounds=300)
    phases = [p.phase_turns for call in world.of("play") for p in call.played[0][0].pulses]
    assert phases == [n / 1e6 for n in range(300)]


def test_draws_have_their_weights_and_branches_follow_them():
    weights = (8.0, 1.0, 0.0, 3.0)
    cases: dict[str, Item] = {str(k): Wait((k + 1) * us) for k in range(4)}
    world = fixed()
    records, _ = play(
        world, schedule(Draw("d", weights), Branch("d", cases), Report({"d": "d"})), rounds=6000
    )
    found = Counter(record.values["d"] for record in records)
    for k, weight in enumerate(weights):
        expected = 6000 * weight / 12
        assert abs(found[k] - expected) <= 5 * math.sqrt(expected)
    lengths = [call.duration_ps for call in world.of("play")]
    assert lengths == [(int(record.values["d"]) + 1) * us for record in records]


def test_a_branch_without_a_case_and_an_empty_register_are_core_errors():
    with pytest.raises(CoreError, match="branch on d: no case for 0; there are 1, 2"):
        play(fixed(), schedule(Draw("d", (1.0,)), Branch("d", {"1": Wait(1), "2": Wait(1)})))
    for item in (Branch("no", {"0": Wait(1)}), Feedback("no", "x"), Report({"c": "no"})):
        with pytest.raises(CoreError, match="register 'no' is read before"):
            play(fixed(), schedule(item))
    with pytest.raises(CoreError, match="register 'r0'"):
        play(fixed(), schedule(Track((("r0", "r1", 0.0),), "phase", 0.9, 1.0)))


def test_a_tracker_outside_a_loop_follows_the_registers():
    rng = np.random.default_rng(2)
    phase = 0.3
    mean = {"q0": math.pi / 2, "q1": math.pi / 2, "i0": 0.0, "i1": 0.0}

    def clicks(register: str, start: int) -> int:
        sign = 1 if register[1] == "0" else -1
        return int(rng.poisson(50 * (1 + sign * 0.98 * math.cos(2 * math.pi * phase + mean[register]))))

    gates = Series(tuple(Together((Gate("a", us, f"{h}0"), Gate("b", us, f"{h}1"))) for h in "qi"))
    track = Track((("q0", "q1", 0.25), ("i0", "i1", 0.0)), "phase", 0.98, 1.0)
    columns = {"phase": "phase", "sigma": "phase.sigma_rad", "clicks": "phase.clicks", "i0": "i0", "i1": "i1"}
    columns |= {"q0": "q0", "q1": "q1"}
    world = FakeWorld([(0, {})], clicks=clicks)
    records, _ = play(world, schedule(Repeat(20, Series((gates, track))), Report(columns)))
    values = records[0].values
    assert abs(int(values["phase"]) / 1e6 - phase) < 4 * float(values["sigma"]) / (2 * math.pi)
    assert float(values["sigma"]) < 0.05
    assert values["clicks"] == sum(int(values[name]) for name in mean)


def test_repeat_of_what_is_not_straight_plays_it_so_often():
    world = fixed(n=1)
    body = Series((Gate("in", us, "n"), Report({"n": "n"})))
    records, _ = play(world, schedule(Repeat(5, body)), rounds=2)
    assert len(records) == 10 and len(world.of("play")) == 10


def test_straight_neighbours_become_one_piece():
    items = (
        Pulse("x", us),
        Series((Wait(us), Mark("m"))),
        Repeat(3, Pulse("x", us)),
        Report({}),
        Pulse("y", us),
    )
    root = lower(schedule(*items)).root
    assert isinstance(root, Chain) and [type(step) for step in root.steps] == [Straight, Report, Straight]
    piece = root.steps[0]
    assert isinstance(piece, Straight) and piece.duration_ps == 5 * us


def test_shapes_the_core_cannot_play_are_refused_when_lowered():
    outcomes = {"0": "again", "1": "yes"}
    with pytest.raises(CoreError, match="body of an attempt loop must be straight"):
        lower(schedule(Attempt(Series((Gate("x", us, "c"), Report({}))), ("c",), outcomes, 5)))
    with pytest.raises(CoreError, match="interleaved into an attempt loop must be straight"):
        block = Every(1, Series((Wait(us), Draw("d", (1.0,)))))
        lower(schedule(Attempt(Gate("x", us, "c"), ("c",), outcomes, 5, block)))
    with pytest.raises(CoreError, match="cannot play a Together"):
        lower(schedule(Together((Wait(us), Report({})))))
    one = lower(schedule(Attempt(Gate("x", us, "c"), ("c",), outcomes, 5))).root
    assert isinstance(one, Chain) and isinstance(one.steps[0], AttemptLoop)


class Holding(Control):
    """Says when the core waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = threading.Semaphore(0)

    def wait(self) -> bool:
        self.waits.release()
        return super().wait()


@pytest.mark.parametrize("end", ["resume", "stop"])
def test_a_host_point_waits_for_the_host(end):
    control = Holding()
    done: list[int] = []
    world = fixed()

    def core() -> None:
        records, _ = play(
            world, schedule(Wait(us), HostPoint("turn the knob"), Report({})), 2, control=control
        )
        done.append(len(records))

    thread = threading.Thread(target=core)
    thread.start()
    for _ in range(2 if end == "resume" else 1):
        assert control.waits.acquire(timeout=10)
        assert not done
        control.resume() if end == "resume" else control.stop()
    thread.join(10)
    assert done == [2 if end == "resume" else 0]


def test_a_pause_between_rounds_is_not_run_time():
    class Paused(Control):
        def wait(self) -> bool:
            world.now += 9 * us
            self.resume()
            return super().wait()

    control = Paused()
    world = FakeWorld([(0, {})], wait=lambda time: control.pause() if time == 2 * us else None)
    records, end = play(world, schedule(Wait(us), Report({})), rounds=4, control=control)
    assert [record.time_ps for record in records] == [us, 2 * us, 3 * us, 4 * us] and end.time_ps == 4 * us
    assert [call.time_ps for call in world.of("play")] == [0, us, 11 * us, 12 * us]


def test_a_stop_between_rounds_ends_after_the_round():
    control = Control()
    world = FakeWorld([(0, {})], wait=lambda time: control.stop() if time == 3 * us else None)
    records, end = play(world, schedule(Wait(us), Report({})), rounds=10, control=control)
    assert len(records) == end.rounds == 3
