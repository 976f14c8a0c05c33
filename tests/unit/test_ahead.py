"""What is asked ahead of readings, and when it is not."""

from __future__ import annotations

from itertools import count

import pytest

from drivers.ahead import MOST_ROUNDS, PAUSE_ROUNDS, Ahead
from labctl.errors import BadAnswerError


class Instrument:
    """Signal s asks s? and, if it is a digit, unit?; every answer is a new number."""

    def __init__(self, most: int = 100) -> None:
        self.messages: list[list[str]] = []
        self.bad = ""
        self.ahead = Ahead[int](self.ask, most)
        self._numbers = count()

    def ask(self, questions: list[str]) -> list[int]:
        self.messages.append(questions)
        if self.bad in questions:
            raise BadAnswerError(f"{self.bad} spoils it")
        return [next(self._numbers) for _ in questions]

    def query(self, question: str) -> int:
        known = self.ahead.find(question)
        return self.ask([question])[0] if known is None else known

    def round(self, *names: str) -> list[list[str]]:
        """Read signals together; what was sent."""
        self.messages.clear()
        try:
            self.ahead.begin(names)
        except BadAnswerError:
            self.ahead.end()
        for name in names:
            self.query(f"{name}?")
            if name.isdigit():
                self.query("unit?")
        self.ahead.end()
        return [*self.messages]


def test_the_second_round_is_one_message() -> None:
    instrument = Instrument()
    assert instrument.round("a", "b", "1") == [["a?"], ["b?"], ["1?"], ["unit?"]]
    assert instrument.round("a", "b", "1") == [["a?", "b?", "1?", "unit?"]]
    assert instrument.round("a", "1") == [["a?"], ["1?"], ["unit?"]]  # another set has to be learned


def test_a_long_round_is_several_messages() -> None:
    instrument = Instrument(most=2)
    instrument.round("a", "b", "c")
    assert instrument.round("a", "b", "c") == [["a?", "b?"], ["c?"]]


def test_a_single_question_is_not_asked_ahead() -> None:
    instrument = Instrument()
    instrument.round("a")
    assert instrument.round("a") == [["a?"]]


def test_after_the_round_everything_is_asked_again() -> None:
    instrument = Instrument()
    instrument.round("a", "b")
    instrument.ahead.begin(("a", "b"))
    assert [instrument.query("a?"), instrument.query("a?")] == [2, 2]
    instrument.ahead.end()
    assert [instrument.query("a?"), instrument.query("a?")] == [4, 5]


def test_a_round_that_was_broken_off_is_learned_the_next_time() -> None:
    instrument = Instrument()
    instrument.ahead.begin(("a", "b", "c"))
    instrument.query("a?")
    instrument.ahead.end()
    assert instrument.round("a", "b", "c") == [["a?"], ["b?"], ["c?"]]
    assert instrument.round("a", "b", "c") == [["a?", "b?", "c?"]]


def test_one_bad_question_sends_the_others_one_by_one_for_a_while() -> None:
    instrument = Instrument()
    instrument.round("a", "b")
    instrument.bad = "b?"
    with pytest.raises(BadAnswerError):
        instrument.ahead.begin(("a", "b"))
    instrument.bad = ""
    assert [instrument.round("a", "b") for _ in range(PAUSE_ROUNDS)] == [[["a?"], ["b?"]]] * PAUSE_ROUNDS
    assert instrument.round("a", "b") == [["a?", "b?"]]


def test_it_does_not_grow_without_end() -> None:
    instrument = Instrument()
    for number in range(3 * MOST_ROUNDS):
        instrument.round("a", f"x{number}")
    assert instrument.round("a", f"x{3 * MOST_ROUNDS - 1}") == [["a?", f"x{3 * MOST_ROUNDS - 1}?"]]
    assert instrument.round("a", "x0") == [["a?"], ["x0?"]]
