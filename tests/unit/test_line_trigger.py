"""The line trigger: checked, drawn, kept as JSON, waited for by the simulated core, with the world's mains behind it."""

import pytest
from artiq_parts import CONFIG, KASLI
from artiq_parts import LINES as ARTIQ_LINES
from artiq_parts import play as play_emitted
from fake_world import MAINS_PS, FakeWorld, play
from hypothesis import given
from hypothesis import strategies as st
from schedule_parts import LINES

from labctl.config import ArtiqConfig
from labctl.core.artiq.compile import compile_schedule
from labctl.core.artiq.sidecar import expected
from labctl.errors import CoreError, ScheduleError
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


def test_artiq_waits_for_the_edge_closes_the_input_and_begins_anew():
    lines = {**ARTIQ_LINES, "n.mains": Line("in", "trigger", grid_ps=ns)}
    config = ArtiqConfig(line={"n": {**CONFIG.line["n"], "mains": "ttl3"}})
    shot = (
        Pulse("n.out0", 3 * us),
        LineTrigger("n.mains"),
        Pulse("n.out1", 2 * us),
        Gate("n.in0", 4 * us, "n"),
        Report({"n": "n"}),
    )
    made = compile_schedule(Schedule("shot", Series(shot, name="shot")), lines, config, KASLI)
    edges: list[int] = []

    def clicks(device: str, opened: int, closed: int) -> list[int]:
        if device != "ttl3":
            return [opened + 1] * 3
        if edges and opened <= edges[-1] + 3:
            return [edges[-1] + 3]  # a comparator that bounces
        edges.append(opened + 7_000_003)
        return [edges[-1]]

    run = play_emitted(made.source, rounds=3, clicks=clicks)
    assert run.datasets["shot.n"] == [3, 3, 3]
    for k, one in enumerate(run.rounds):
        origin = run.datasets["shot.origin_mu"][k]
        wanted = [e for e in expected(made.sidecar, {}) if e.segment == 1]
        got = one.events[-len(wanted) :]
        assert [(t, d, a) for t, d, a, _ in got] == [
            (e.time_mu, e.event.device, e.event.action) for e in wanted
        ]
        on = origin + next(t for t, d, a, _ in got if (d, a) == ("ttl5", "on"))
        assert 10_000 <= on - edges[k] < 10_000 + 8  # on the coarse grid
    assert one.events[-5:-4] == [(0, "ttl3", "close", ())]


def test_artiq_says_so_if_no_edge_comes_or_none_can_be_waited_for():
    lines = {**ARTIQ_LINES, "n.mains": Line("in", "trigger", grid_ps=ns)}
    config = ArtiqConfig(line={"n": {**CONFIG.line["n"], "mains": "ttl3"}})
    waits = Series((LineTrigger("n.mains"), Pulse("n.out1", 2 * us)), name="shot")
    made = compile_schedule(Schedule("shot", waits), lines, config, KASLI)
    with pytest.raises(ValueError, match=r"no rising edge on n\.mains"):
        play_emitted(made.source)
    with pytest.raises(ScheduleError) as caught:
        compile_schedule(Schedule("shot", waits), lines, CONFIG, KASLI)
    assert "n.mains: no ARTIQ device is mapped" in str(caught.value.problems[0])
    hasty = Series((LineTrigger("n.mains", reaction=2 * us), Pulse("n.out1", 2 * us)), name="shot")
    with pytest.raises(ScheduleError) as caught:
        compile_schedule(Schedule("shot", hasty), lines, config, KASLI)
    assert "2 us after the edge, but ARTIQ has to close" in str(caught.value.problems[0])


@given(st.floats(40, 70), st.floats(0, 1), st.integers(0, 10**17))
def test_the_next_crossing_of_the_mains_is_the_next(frequency_hz, start_turns, after_ps):
    mains = Mains(frequency_hz, start_turns)
    edge = mains.next_edge_ps(after_ps)
    assert after_ps < edge <= after_ps + 1e12 / frequency_hz + 2
    phase = mains.phase_turns(edge / 1e12)
    assert min(phase, 1 - phase) < 1e-6
