"""Questions asked ahead: what a round of readings asked the last time is asked in one go the next time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from labctl.errors import DeviceError

A = TypeVar("A")
MOST_ROUNDS = 100
"""So many different sets of signals are remembered."""
PAUSE_ROUNDS = 10
"""So many rounds of a set are asked one by one after it was refused in one go: one bad question spoils them all."""


class Ahead(Generic[A]):
    """For an instrument that answers several questions of one message.

    ask:   asks them, and returns their answers in the same order
    most:  how many one message may have

    Between ``begin`` and ``end``, ``find`` has the answers; what is not among them is to be asked as ever. Nothing is
    known before a set of signals was read once.
    """

    def __init__(self, ask: Callable[[list[str]], Sequence[A]], most: int) -> None:
        self._ask = ask
        self._most = most
        self._questions: dict[tuple[str, ...], list[str]] = {}
        self._pause: dict[tuple[str, ...], int] = {}
        self._names: tuple[str, ...] = ()
        self._noted: dict[str, None] = {}
        self._answers: dict[str, A] = {}

    def begin(self, names: Sequence[str]) -> None:
        """Signals ``names`` are about to be read."""
        self._names = tuple(names)
        self._noted, self._answers = {}, {}
        paused = self._pause.get(self._names, 0)
        if paused:
            self._pause[self._names] = paused - 1
            return
        questions = self._questions.get(self._names, [])
        try:
            for first in range(0, len(questions) if len(questions) > 1 else 0, self._most):
                some = questions[first : first + self._most]
                self._answers.update(zip(some, self._ask(some), strict=True))
        except DeviceError:
            self._pause[self._names] = PAUSE_ROUNDS
            self.end()
            raise

    def find(self, question: str) -> A | None:
        """Its answer, None if it was not asked ahead."""
        if self._names:
            self._noted[question] = None
        return self._answers.get(question)

    def end(self) -> None:
        """The answers are out of date."""
        if len(self._noted) > len(self._questions.get(self._names, ())):
            if len(self._questions) >= MOST_ROUNDS:
                self._questions.clear()
                self._pause.clear()
            self._questions[self._names] = [*self._noted]
        self._names = ()
        self._answers = {}
