"""What the time tagger recorded around each herald, gathered while the core plays (PHYSICS.md 7: every click within 1 ms)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labctl.core.course import Course
from labctl.core.program import AttemptLoop
from labctl.sim.played import Clicks, Segment, TaggingWorld, TagLayout

AROUND_PS = 1_000_000_000
"""Clicks this close to a herald's are kept, ps."""
Sums = NDArray[np.uint16]
NO_SUMS: Sums = np.zeros((0, 0), np.uint16)


@dataclass(frozen=True, slots=True)
class HeraldTags:
    """The tags around one herald.

    record:    number of the record the herald belongs to
    loop:      register of its attempt loop's outcome
    layout:    where its markers and clicks are
    since_ps, until_ps:  laboratory time of the first and after the last instant; it ends with the round
    times_ps, channels:  the tags in order of time, shape (n,)
    sums:      clicks of each gate of the blocks played before the herald, shape (blocks, gates); the last block is the newest
    """

    record: int
    loop: str
    layout: TagLayout
    since_ps: int
    until_ps: int
    times_ps: NDArray[np.int64]
    channels: NDArray[np.uint8]
    sums: Sums


@dataclass(slots=True)
class _Herald:
    loop: str
    layout: TagLayout
    click_ps: int
    quiet: list[tuple[Segment, int]]
    sums: Sums


class HeraldRecorder:
    """Remembers the heralds of a round and hands their tags over when the round is reported.

    emit:  gets the tags, before the record they belong to
    """

    def __init__(
        self,
        world: TaggingWorld,
        lock: AbstractContextManager[object],
        emit: Callable[[HeraldTags], None],
    ) -> None:
        self._world = world
        self._lock = lock
        self._emit = emit
        self._layouts: dict[int, tuple[Segment, TagLayout | None]] = {}
        self._round: list[_Herald] = []
        self._again: deque[int] = deque(maxlen=64)
        self._told_ps = 0

    def wanted(self, body: Segment) -> bool:
        """Whether the tags of an attempt's clicks are wanted: whether the world says where they are."""
        return self._layout(body) is not None

    def went_on(self, course: Course, attempt: int) -> None:
        """An attempt had clicks and did not end its loop."""
        self._again.append(course.start_ps(attempt))

    def heralded(
        self, loop: AttemptLoop, course: Course, attempt: int, clicks: Mapping[str, Clicks], sums: Sums
    ) -> None:
        """An attempt ended its loop with these clicks."""
        layout = self._layout(course.body)
        if layout is None:
            return
        layout = replace(layout, detectors=tuple(layout.detectors[place] for place in loop.deciding))
        start_ps = course.start_ps(attempt)
        click_ps = start_ps + min(
            gate.start_ps + max(0, clicks[gate.into].first_ps)
            for gate in course.body.gates
            if clicks[gate.into].count
        )
        quiet = self._quiet(course, attempt, click_ps - AROUND_PS)
        self._round.append(_Herald(loop.item.into, layout, click_ps, quiet, sums))

    def reported(self, record: int, time_ps: int) -> None:
        """The round is over; hand over the tags of its heralds."""
        for number, herald in enumerate(self._round):
            ends = self._round[number + 1].click_ps if number + 1 < len(self._round) else time_ps
            since_ps = max(self._told_ps, herald.click_ps - AROUND_PS)
            until_ps = min(herald.click_ps + AROUND_PS, ends, time_ps)
            with self._lock:
                times, channels = self._world.tagged(since_ps, until_ps, herald.quiet)
            self._told_ps = until_ps
            self._emit(
                HeraldTags(
                    record, herald.loop, herald.layout, since_ps, until_ps, times, channels, herald.sums
                )
            )
        self._round.clear()

    def _quiet(self, course: Course, attempt: int, since_ps: int) -> list[tuple[Segment, int]]:
        """Earlier attempts of the loop whose marker may lie in the window and that had no clicks."""
        found: list[tuple[Segment, int]] = []
        for earlier in range(attempt - 1, -1, -1):
            start_ps = course.start_ps(earlier)
            if start_ps < since_ps:
                break
            if start_ps not in self._again:
                found.append((course.body, start_ps))
        return found[::-1]

    def _layout(self, body: Segment) -> TagLayout | None:
        known = self._layouts.get(id(body))
        if known is None or known[0] is not body:
            if len(self._layouts) >= 64:
                self._layouts.clear()
            known = self._layouts[id(body)] = (body, self._world.tag_layout(body))
        return known[1]


def block_sums(registers: Sequence[str], counts: Mapping[str, Sequence[int]]) -> Sums:
    """Counts of the gates of blocks as a table, shape (blocks, gates)."""
    if not registers:
        return NO_SUMS
    return np.minimum(np.array([counts[register] for register in registers]).T, 65535).astype(np.uint16)
