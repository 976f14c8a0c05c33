"""The line trigger: checked, drawn, kept as JSON, waited for by the simulated core, with the world's mains behind it."""

import pytest
from fake_world import MAINS_PS, FakeWorld, play
from hypothesis import given
from hypothesis import strategies as st
from schedule_parts import LINES

from labctl.errors import CoreError
from labctl.schedule.check import check
from labctl.schedule.draw import text
from labctl.schedule.items import (
    Attempt,
    Gate,
    LineTrigger,
    Pulse,
    Repeat,
    Report,
    Schedule,
    Series,
    Together,
    Wait,
    duration,
    from_json,
    to_json,
)
from labctl.schedule.lines import Line
from labctl.units import ms, ns, us
from simulated_hw.world.mains import Mains

TRIGGERED = {**LINES, "alice.mains": Line("in", "trigger", grid_ps=ns)}
SHOT = Series(
    (LineTrigger("alice.mains"), Wait(7 * ms), Gate("alice.pmt", 1 * us, "n"), Report({"n": "n"})),
    name="shot",
)


def _found(item, lines=TRIGGERED):
    return [str(problem) for problem in check(Schedule("x", item), lines)]


def test_every_shot_begins_at_the_same_phase_of_the_mains():
    world = FakeWorld([(0, {})])
    records, _ = play(world, Schedule("x", SHOT), rounds=3)
    begins = [call.time_ps % MAINS_PS for call in world.of("play") if call.played[0][0].gates]
    assert begins == [10 * us] * 3
    assert [record.time_ps - records[0].time_ps for record in records] == [0, MAINS_PS, 2 * MAINS_PS]
    assert world.accounted_ps() == world.now  # waiting is time in which atoms evolve


def test_no_edge_is_an_error_of_the_core():
    with pytest.raises(CoreError, match=r"no rising edge on alice\.pmt within 100 ms"):
        play(FakeWorld([(0, {})]), Schedule("x", LineTrigger("alice.pmt")))
    with pytest.raises(CoreError, match="within 1 ms"):
        play(FakeWorld([(0, {})]), Schedule("x", LineTrigger("alice.mains", limit=1 * ms)))


def test_as_json_in_a_drawing_and_in_a_loop():
    schedule = Schedule("x", Repeat(3, SHOT))
    assert from_json(to_json(schedule)) == schedule
    assert duration(SHOT) is None
    assert _found(Repeat(3, SHOT)) == []
    assert "wait for the next rising edge of alice.mains" in text(schedule, TRIGGERED)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (LineTrigger("alice.main"), "no such line; did you mean alice.mains"),
        (LineTrigger("alice.pmt"), "inputs of kind 'trigger': alice.mains"),
        (LineTrigger("alice.mains", reaction=ns), "1 ns after the edge, but the core takes 1 us to react"),
        (LineTrigger("alice.mains", limit=0), "waits for an edge for 0"),
        (Together((LineTrigger("alice.mains"), Pulse("alice.cool", us))), "a LineTrigger in one of its"),
        (
            Attempt(
                Series((LineTrigger("alice.mains"), Gate("alice.pmt", us, "n"))),
                ("n",),
                {"0": "again", "1": "a"},
                9,
            ),
            "a LineTrigger in the body of an attempt loop",
        ),
    ],
)
def test_where_it_cannot_stand(item, words):
    assert any(words in problem for problem in _found(Series((item,), name="shot")))


def test_after_it_the_core_begins_anew_on_every_grid():
    before = Series((Wait(1), LineTrigger("alice.mains"), Pulse("alice.cool", us)))
    assert _found(before) == []
    assert any("off this line's grid" in one for one in _found(Series((Wait(1), Pulse("alice.cool", us)))))


@given(st.floats(40, 70), st.floats(0, 1), st.integers(0, 10**17))
def test_the_next_crossing_of_the_mains_is_the_next(frequency_hz, start_turns, after_ps):
    mains = Mains(frequency_hz, start_turns)
    edge = mains.next_edge_ps(after_ps)
    assert after_ps < edge <= after_ps + 1e12 / frequency_hz + 2
    phase = mains.phase_turns(edge / 1e12)
    assert min(phase, 1 - phase) < 1e-6
