"""What the simulated core asks of the physics behind it: a Protocol, and the plain data that crosses it.

The core knows schedules and registers; the world knows light, atoms and detectors. The core hands the world straight
pieces of timeline (a :class:`Segment`: which line was on when, with which tone) and gets back the clicks in the gates.
For attempt loops it asks the odds of one attempt, draws how many attempts pass without an event, and has the world play
only the attempt that ends the wait, given what is known of it.

Times are integer picoseconds of laboratory time since the world began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PlayedPulse:
    """A line that was on. ``start_ps`` counts from the start of its segment."""

    line: str
    start_ps: int
    duration_ps: int
    frequency_hz: float
    """Offset of the tone from the line's nominal frequency, Hz."""
    phase_turns: float
    amplitude: float
    """Relative to the line's nominal amplitude: 1.0 is nominal."""


@dataclass(frozen=True, slots=True)
class OpenGate:
    """An input line that was open; its clicks go into the register ``into``."""

    line: str
    start_ps: int
    duration_ps: int
    into: str
    phase_turns: float = 0.0
    """Unused by clicks; kept so that gates and pulses read alike."""
    threshold: int = 1
    """Clicks from which the gate's digit in a pattern is "1"."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A straight piece of timeline, every pulse and gate resolved: no loops, no branches. Sorted by start."""

    pulses: tuple[PlayedPulse, ...]
    gates: tuple[OpenGate, ...]
    duration_ps: int
    name: str = ""


@dataclass(slots=True)
class Clicks:
    """What came in through one gate."""

    count: int
    first_ps: int = -1
    """Time of the first click after the gate opened, ps; -1 if there was none or the times were not resolved."""


@dataclass(frozen=True, slots=True)
class Odds:
    """What can happen in one attempt, given the state of the laboratory now.

    patterns:  probability of each click pattern other than "no click"; the pattern has one digit per gate of the
               attempt's body in order, "1" for at least one click (for a gate with a threshold: for at least so many)
    until_ps:  laboratory time until which these odds hold
    passing:   an attempt leaves nothing behind if it does not end its loop: such ones may be counted (``World.clicked``) and not
               played, where nobody wants their tags
    """

    patterns: Mapping[str, float]
    until_ps: int
    passing: bool = False


class World(Protocol):
    """The physics behind the simulated core. Calls come from one thread, in order of time, under the world's lock."""

    def now_ps(self) -> int:
        """Laboratory time."""
        ...

    def wait_until_ps(self, time_ps: int) -> None:
        """Return when the laboratory clock has come to ``time_ps`` (at once in virtual time); not under the lock."""
        ...

    def next_edge_ps(self, line: str, after_ps: int) -> int | None:
        """When a trigger input (the mains) next rises after a laboratory time; None if never."""
        ...

    def play(self, segment: Segment, start_ps: int) -> dict[str, Clicks]:
        """Play one segment once from ``start_ps``: atoms evolve under its pulses, its gates return clicks by register."""
        ...

    def play_many(self, segment: Segment, starts_ps: Sequence[int]) -> dict[str, list[int]]:
        """Play a segment at each of the given times (all before the next ``play``); counts by register, one per start.

        The same physics as repeated ``play``; used for the reference slots just before a herald.
        """
        ...

    def odds(self, body: Segment, start_ps: int) -> Odds:
        """Odds of the click patterns of one attempt that plays ``body`` from ``start_ps`` on freshly prepared atoms."""
        ...

    def play_given(self, body: Segment, pattern: str, start_ps: int) -> dict[str, Clicks]:
        """Play ``body`` given that its gates showed ``pattern``: click times, and the joint state of the atoms that follows."""
        ...

    def skip(self, segments: Sequence[tuple[Segment, int]], start_ps: int, duration_ps: int) -> None:
        """Account for time in which each segment was played so many times without a herald: counters, phases, drifts."""
        ...

    def clicked(self, body: Segment, patterns: Mapping[str, int]) -> None:
        """Count the clicks of skipped attempts: so many of them showed these patterns, which ended nothing."""
        ...


@dataclass(frozen=True, slots=True)
class TagLayout:
    """Where a time tagger has an attempt.

    marker:      channel of the start marker, one tag per attempt
    detectors:   channels of the attempt's gates, in the order of the gates
    after_ps:    how long after the marker the gates open, ps
    window_ps:   how long they are open, ps
    """

    marker: int
    detectors: tuple[int, ...]
    after_ps: int
    window_ps: int


@runtime_checkable
class TaggingWorld(Protocol):
    """A world with a time tagger."""

    def tag_layout(self, body: Segment) -> TagLayout | None:
        """Where the tags of an attempt are; None if its gates do not open and close together."""
        ...

    def tagged(
        self, since_ps: int, until_ps: int, quiet: Sequence[tuple[Segment, int]]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Times and channels of all tags in a stretch of time that has passed, in order of time.

        quiet:  attempts of this time that were skipped because nothing clicked in their gates, with their starts
        """
        ...


@dataclass(slots=True)
class Record:
    """One reported round or shot: register values at the time of the Report.

    number:    from 0, within the run
    time_ps:   laboratory time of the report, ps since the core began this run
    values:    register name -> value
    """

    number: int
    time_ps: int
    values: dict[str, float | int | str] = field(default_factory=dict[str, "float | int | str"])
