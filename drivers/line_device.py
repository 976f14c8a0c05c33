"""What instruments that answer each question with one line have in common: greeting, checked answers, errors with context."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeVar

from labctl.errors import BadAnswerError, DeviceError, NoAnswerError, NotConnectedError
from labctl.scpi import ScpiDevice

T = TypeVar("T")
MOST_OLD_LINES = 20
"""Lines passed over in search of the identity on a fresh connection."""


class LineDevice(ScpiDevice):
    """A text instrument that says who it is.

    On each fresh connection it is asked ``*IDN?`` and lines before the answer are dropped: on a serial line they answer
    questions that were given up. A line nobody asked for makes the next question open the connection anew.
    """

    identity_has: ClassVar[str] = ""
    """What the identity must contain."""
    expected: ClassVar[str] = "this instrument"
    """The instrument's name for messages."""
    answer_end: bytes = b"\n"
    _heard: dict[str, str] | None = None
    """Answers of this round of readings, in which no question is asked twice."""

    def open(self) -> None:
        """Connect, check that the right instrument answers, and ask it what the driver has to know (``learn``)."""
        self.transport.after_open = self.greet
        super().open()
        try:
            self.learn()
        except DeviceError:
            self.close()
            raise

    def greet(self) -> None:
        """Called on each fresh connection: find the identity among what comes."""
        self.transport.write(b"*IDN?" + self.ending)
        seen = ""
        for _ in range(MOST_OLD_LINES):
            try:
                line = self._line()
            except NoAnswerError:
                if not seen:
                    raise
                break
            if self.identity_has in line:
                return
            seen = line or seen
        raise BadAnswerError(
            f"{self.transport.where}: '*IDN?' was answered with {seen[:80]!r}, expected {self.expected}; check the address in the lab file"
        )

    def patience_s(self) -> float:
        """How long to wait for an answer, s."""
        return self.timeout_s

    def learn(self) -> None:
        """What else to ask when opened; nothing unless the driver says so."""

    def ask_ahead(self, names: Sequence[str]) -> None:
        """Nothing is asked, but what several of the signals ask is asked once."""
        self._heard = {}

    def forget(self) -> None:
        """The round is over."""
        self._heard = None

    def query(self, text: str) -> str:
        """Send one line, return the line that answers it, without line ends."""
        if self._heard is None:
            return self._asked(text)
        if text not in self._heard:
            self._heard[text] = self._asked(text)
        return self._heard[text]

    def command(self, text: str) -> None:
        """Send one line that has no answer."""
        if self._came_unasked():
            self.transport.mark_stale()
        super().command(text)

    def query_number(self, text: str) -> float:
        """A finite number; BadAnswerError names what came."""
        return self.as_number(text, self.query(text))

    def as_number(self, question: str, answer: str) -> float:
        """``answer`` as a finite number."""
        try:
            value = float(answer)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or "_" in answer:
            raise self.unexpected(question, answer, "a number")
        return value

    def query_whole(self, text: str) -> int:
        """A whole number."""
        answer = self.query(text)
        if not answer.lstrip("+-").isdecimal():
            raise self.unexpected(text, answer, "a whole number")
        return int(answer)

    def query_choice(self, text: str, choices: Mapping[str, T]) -> T:
        """The meaning of an answer that must be one of the keys of ``choices``."""
        answer = self.query(text)
        if answer not in choices:
            raise self.unexpected(text, answer, " or ".join(choices))
        return choices[answer]

    def unexpected(self, question: str, answer: str, expected: str) -> BadAnswerError:
        """The error for an answer outside the protocol; the next question gets a fresh connection."""
        self.transport.mark_stale()
        return BadAnswerError(
            f"{self.transport.where}: {question!r} was answered with {answer[:80]!r}, expected {expected}"
        )

    def _came_unasked(self) -> bool:
        """Whether something lies there that nobody asked for; a connection found broken is opened anew by the next write."""
        try:
            return bool(self.transport.read_available())
        except NotConnectedError:
            return False

    def _asked(self, text: str) -> str:
        self.command(text)
        return self._line()

    def _line(self) -> str:
        answer = self.transport.read_until(self.answer_end, self.patience_s())
        return answer.decode("ascii", "replace").strip()
