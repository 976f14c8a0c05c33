"""The core in a thread of its own: messages in order, none lost, no deadlock whatever the reader does."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
from fake_world import FakeWorld

from labctl.core.session import (
    CoreSession,
    FinishedMessage,
    Message,
    ProgressMessage,
    RecordMessage,
    decode,
    encode,
)
from labctl.core.sim import SimCore
from labctl.errors import CoreError
from labctl.schedule.items import Attempt, Branch, Draw, Gate, Report, Schedule, Series, Wait
from labctl.units import ms, s, us

SHOT = Schedule("shot", Series((Gate("in", us, "n"), Report({"n": "n"}))))
WAITING = Schedule("waiting", Attempt(Gate("in", 100 * us, "c"), ("c",), {"0": "again", "1": "yes"}, 10**12))


def session(
    table=((0, {}),), capacity: int = 1000, clicks: Callable[[str, int], int] = lambda register, start: 1
) -> tuple[CoreSession, FakeWorld]:
    world = FakeWorld(list(table), clicks=clicks)
    return CoreSession(SimCore(world, threading.Lock(), np.random.default_rng(1)), capacity), world


def all_messages(core: CoreSession) -> list[Message]:
    return [message for batch in core.batches() for message in batch]


@pytest.mark.parametrize("capacity", [1, 3, 1000])
def test_all_records_come_in_order_through_a_queue_of_any_size(capacity):
    core, _ = session(capacity=capacity)
    core.start(SHOT, 300, first_record=4)
    messages = all_messages(core)
    assert [m.number for m in messages if isinstance(m, RecordMessage)] == list(range(4, 304))
    assert messages[-1] == FinishedMessage("complete", 300 * us, 0)
    assert not core.playing


def test_a_full_queue_makes_the_core_wait():
    core, world = session(capacity=5)
    core.start(SHOT, 10_000)
    first = core.next_message(5.0)
    assert isinstance(first, RecordMessage)
    assert core.playing and len(world.of("play")) < 20
    core.stop()
    last = all_messages(core)[-1]
    assert isinstance(last, FinishedMessage) and last.reason == "stopped" and not core.playing


@pytest.mark.parametrize("read", [0, 1, 4])
def test_abandon_never_waits_for_a_reader(read):
    core, _ = session(capacity=2)
    for _ in range(3):
        core.start(SHOT, 10**9)
        for _ in range(read):
            core.next_message(5.0)
        core.abandon()
        assert not core.playing and core.next_message(0.0) is None
        assert list(core.batches()) == []


def test_abandon_ends_a_paused_core_and_one_that_waits_for_a_herald():
    for pause in (False, True):
        core, _ = session([(k * 50 * ms, {}) for k in range(1000)])
        core.start(WAITING, 1)
        if pause:
            core.pause()
        core.abandon()
        assert not core.playing


def test_a_run_can_follow_at_once():
    class Slow(CoreSession):
        def _put(self, message: Message) -> None:
            super()._put(message)
            if isinstance(message, FinishedMessage):
                threading.Event().wait(0.05)  # the thread is not yet over when its last message is read

    plain, _ = session()
    core = Slow(plain._core)
    for _ in range(4):
        core.start(SHOT, 2)
        assert len(all_messages(core)) >= 3


def test_a_second_run_at_the_same_time_is_refused():
    core, _ = session()
    core.start(SHOT, 10**9)
    with pytest.raises(CoreError, match="already playing"):
        core.start(SHOT, 2)
    core.abandon()


def test_pause_holds_and_resume_goes_on():
    core, world = session(capacity=1)
    core.start(SHOT, 500)
    core.pause()
    seen = 0
    while isinstance(core.next_message(0.3), RecordMessage):
        seen += 1
    assert seen < 20 and core.playing
    stood = len(world.of("play"))
    assert core.next_message(0.05) is None and len(world.of("play")) == stood
    core.resume()
    assert seen + sum(isinstance(m, RecordMessage) for m in all_messages(core)) == 500


def test_progress_comes_about_five_times_a_second_of_laboratory_time():
    core, _ = session([(k * 50 * ms, {}) for k in range(100)] + [(5 * s, {"1": 1.0})])
    core.start(WAITING, 1)
    messages = all_messages(core)
    times = [m.time_ps for m in messages if isinstance(m, ProgressMessage)]
    assert times == sorted(times) and 20 <= len(times) <= 27
    assert all(m.attempts == m.time_ps // (100 * us) for m in messages if isinstance(m, ProgressMessage))
    assert messages[-1] == FinishedMessage("complete", 5 * s + 100 * us, 50_001)


def test_a_stop_after_the_last_round_is_still_complete():
    core, world = session()
    world.wait = lambda time_ps: core.stop() if time_ps == 3 * us else None
    core.start(SHOT, 3)
    assert all_messages(core)[-1] == FinishedMessage("complete", 3 * us, 0)


def test_what_goes_wrong_is_the_last_message():
    def broken(register: str, start: int) -> int:
        raise ZeroDivisionError("no light")

    core, _ = session(clicks=broken)
    core.start(SHOT, 3)
    (message,) = all_messages(core)
    assert isinstance(message, FinishedMessage) and message.reason == "CoreError"
    assert message.error == "the core failed: ZeroDivisionError: no light"
    core, _ = session()
    core.start(Schedule("b", Series((Draw("d", (1.0,)), Branch("d", {"7": Wait(1)})))), 1)
    (message,) = all_messages(core)
    assert isinstance(message, FinishedMessage) and message.reason == "CoreError"
    assert message.error.startswith("branch on d: no case for 0")
    with pytest.raises(CoreError, match="must be straight"):
        core.start(Schedule("a", Attempt(Report({}), ("c",), {"0": "again"}, 1)), 1)
    assert not core.playing


@pytest.mark.parametrize(
    "message",
    [
        RecordMessage(3, 10**15, {"outcome": "psi_plus", "n": -1, "x": 0.25}),
        ProgressMessage(1, 2, 3),
        FinishedMessage("CoreError", error="no light"),
    ],
)
def test_messages_cross_the_wire_unchanged(message):
    assert decode(encode(message)) == message
