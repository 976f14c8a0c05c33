"""When signals are read, and what of it is published."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, cycle, repeat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.bus.polling import ERROR_CHANGES_S, REPEAT_S, Agenda, Readings
from labctl.clock import VirtualClock
from labctl.device import Device
from labctl.errors import BadAnswerError, RefusedError
from labctl.signal import Signal

PERIOD_S = 0.125  # exact in binary


class Oven(Device):
    temperature = Signal(float, "K", read=lambda d: 0.0, doc="")


def do_all(
    agenda: Agenda, clock: VirtualClock, durations: Iterator[float], until_s: float
) -> dict[str, list[float]]:
    """Do what is due, each taking the next of ``durations``, s; when each was begun."""
    begun: dict[str, list[float]] = {}
    while clock.now() < until_s:
        if clock.now() < agenda.next_due:
            clock.advance(agenda.next_due - clock.now())
        name = agenda.due()[0]
        begun.setdefault(name, []).append(clock.now())
        clock.advance(next(durations))
        agenda.again(name, PERIOD_S)
    return begun


@given(st.integers(1, 8), st.floats(0.0, 0.015))
def test_what_is_quick_enough_keeps_to_the_grid_forever(names: int, takes_s: float) -> None:
    clock = VirtualClock(17.0)
    agenda = Agenda(clock)
    agenda.put_all(f"s{n}" for n in range(names))
    for times in do_all(agenda, clock, repeat(takes_s), 29.45).values():
        assert len(times) >= 99
        assert all(0.0 <= at - 17.0 - n * PERIOD_S <= names * takes_s + 1e-9 for n, at in enumerate(times))


@given(st.lists(st.floats(0.0, 0.1) | st.floats(0.0, 3.0), min_size=1))
def test_after_a_long_one_there_is_no_burst(durations: list[float]) -> None:
    clock = VirtualClock()
    agenda = Agenda(clock)
    agenda.put("s")
    times = do_all(agenda, clock, cycle([*durations, 0.01]), 20.0)["s"]
    for first, begun in enumerate(times):
        for more, later in enumerate(times[first:]):
            assert more <= (later - begun) / PERIOD_S + 1
    assert all(at + 0.05 > (number - 1) * PERIOD_S for number, at in enumerate(times))


@given(st.floats(0.0, 5.0))
def test_after_a_long_one_it_is_on_the_grid_again(stall_s: float) -> None:
    clock = VirtualClock()
    agenda = Agenda(clock)
    agenda.put("s")
    times = do_all(agenda, clock, chain([stall_s], repeat(0.01)), 20.0)["s"]
    assert all(at % PERIOD_S == 0 for at in times[3:])
    assert len(times) >= (20.0 - stall_s) / PERIOD_S - 1


@given(st.integers(2, 6), st.floats(0.0625, 0.3))
def test_of_several_that_are_too_slow_each_has_its_turn(names: int, takes_s: float) -> None:
    clock = VirtualClock()
    agenda = Agenda(clock)
    agenda.put_all(f"s{n}" for n in range(names))
    counts = [len(times) for times in do_all(agenda, clock, repeat(takes_s), 60.0).values()]
    assert len(counts) == names
    assert max(counts) - min(counts) <= 1 + max(counts) // 4


def test_an_agenda_with_nothing_on_it() -> None:
    agenda = Agenda(VirtualClock())
    assert agenda.next_due == float("inf")
    agenda.put("a", 3.0)
    assert "a" in agenda and agenda.next_due == 3.0
    agenda.clear()
    assert "a" not in agenda and agenda.next_due == float("inf")


class Listener:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.heard: list[dict[str, Any]] = []
        self.readings = Readings("alice.oven", Oven.signals, self.hear, self.clock)

    def hear(self, topic: str, content: dict[str, Any]) -> None:
        assert topic == "signal.alice.oven.temperature"
        assert content["unit"] == "K"
        self.heard.append(content)

    def read(self, value: float) -> None:
        self.readings.read("temperature", value)

    def fail(self, error: Exception) -> None:
        self.readings.failed("temperature", error)

    def new(self) -> list[dict[str, Any]]:
        heard, self.heard = self.heard, []
        return heard


@pytest.fixture
def listener() -> Listener:
    return Listener()


def test_a_value_is_told_when_it_changes_and_now_and_then(listener: Listener) -> None:
    for _ in range(100):
        listener.read(300.0)
        listener.clock.advance(PERIOD_S)
    assert [event["value"] for event in listener.new()] == [300.0] * 3  # 12.5 s
    listener.read(301.0)
    listener.read(301.0)
    (changed,) = listener.new()
    assert (
        changed["value"] == 301.0
        and changed["time"] > 0
        and "error" not in changed
        and "count" not in changed
    )
    assert listener.readings.cached()["temperature"]["value"] == 301.0


def test_an_error_that_stays_is_told_once_and_then_counted(listener: Listener) -> None:
    listener.read(300.0)
    listener.new()
    for _ in range(100):
        listener.fail(RefusedError("alice.oven: sensor broken"))
        listener.clock.advance(PERIOD_S)
    first, later, again = listener.new()
    assert first["error"] == "RefusedError: alice.oven: sensor broken"
    assert first["value"] is None and first["count"] == 1
    assert later["error"] == again["error"] == first["error"]
    assert (later["count"], again["count"]) == (1 + REPEAT_S / PERIOD_S, 1 + 2 * REPEAT_S / PERIOD_S)
    cached = listener.readings.cached()["temperature"]
    assert cached["value"] == 300.0 and "sensor broken" in cached["error"]

    listener.read(300.0)  # the same value as before, and yet news
    (end,) = listener.new()
    assert end["value"] == 300.0 and end["count"] == 100
    assert "error" not in listener.readings.cached()["temperature"]
    listener.read(300.0)
    assert listener.new() == []


def test_an_error_is_never_hidden_behind_another(listener: Listener) -> None:
    listener.fail(RefusedError("no"))
    listener.fail(BadAnswerError("'?#'"))
    listener.fail(RefusedError("no"))
    listener.fail(BadAnswerError("'?#'"))
    assert [event["error"] for event in listener.new()] == ["RefusedError: no", "BadAnswerError: '?#'"]


def test_an_error_with_a_new_text_each_time_is_told_once_a_second(listener: Listener) -> None:
    for number in range(100):
        listener.fail(BadAnswerError(f"came {number}"))
        listener.clock.advance(PERIOD_S)
    told = listener.new()
    assert [event["count"] for event in told] == [1 + 8 * n for n in range(13)]
    assert ERROR_CHANGES_S == 8 * PERIOD_S


def test_each_failure_after_a_value_is_news(listener: Listener) -> None:
    for _ in range(5):
        listener.fail(RefusedError("no"))
        listener.read(300.0)
    assert [event.get("error", event["value"]) for event in listener.new()] == ["RefusedError: no", 300.0] * 5


def test_a_signal_that_was_never_read_is_not_cached(listener: Listener) -> None:
    listener.fail(RefusedError("no"))
    assert listener.readings.cached() == {}
