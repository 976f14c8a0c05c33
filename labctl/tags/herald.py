"""Heralds from clicks: which detectors clicked in the gate of each attempt, and how often each pattern came.

Detectors are numbered d0, d1, ... in the order in which their channels are given; bit ``k`` of a pattern is set when
``dk`` clicked, so with two detectors 0 is neither, 1 only d0, 2 only d1 and 3 both. All counters are 64 bits wide:
a night of attempts does not roll over. Windows of a two-window herald (early and late) are two searches with
shifted gates over the same clicks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.errors import DataError, LimitError
from labctl.tags.stream import CHANNELS, Tags, Times, check_channel

MAX_DETECTORS = 8
_NEVER = np.iinfo(np.int64).min
_END = np.iinfo(np.int64).max
_LONGEST_PS = 1 << 60


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """The attempts that were completed by one call, with a row for each that had a click."""

    first_attempt: int
    """Number of the first attempt completed by this call, from 0 at the start of the search."""
    attempts: int
    """How many were completed; those without a row below had the pattern 0 (neither)."""
    attempt: Times
    """Attempt number of each row, shape (m,)."""
    start_ps: Times
    """When its gate opened, shape (m,)."""
    pattern: NDArray[np.uint8]
    """Which detectors clicked, never 0, shape (m,)."""
    first_ps: Times
    """First click of each detector since the gate opened, shape (m, detectors); -1 for no click."""

    def patterns(self) -> NDArray[np.uint8]:
        """The pattern of every completed attempt, the empty ones included, shape (attempts,)."""
        every = np.zeros(self.attempts, np.uint8)
        every[self.attempt - self.first_attempt] = self.pattern
        return every


@dataclass(frozen=True, slots=True, eq=False)
class OutcomeTable:
    """How often each pattern came: total, so the counts add up to the attempts."""

    counts: Times
    """Attempts with each pattern, shape (2 ** detectors,)."""

    @property
    def attempts(self) -> int:
        """All completed attempts."""
        return int(self.counts.sum())

    def named(self) -> Mapping[str, int]:
        """Counts by the name of the pattern, e.g. ``{"neither": 97, "only d0": 2, "only d1": 1, "both": 0}``."""
        detectors = self.counts.size.bit_length() - 1
        return {pattern_name(k, detectors): int(count) for k, count in enumerate(self.counts)}


def pattern_name(pattern: int, detectors: int = 2) -> str:
    """What a person calls a pattern.

    >>> [pattern_name(k) for k in range(4)]
    ['neither', 'only d0', 'only d1', 'both']
    >>> pattern_name(0b101, 3)
    'd0 and d2'
    """
    clicked = [f"d{k}" for k in range(detectors) if pattern >> k & 1]
    if not clicked:
        return "neither" if detectors == 2 else "none"
    if len(clicked) == 1:
        return f"only {clicked[0]}"
    return "both" if detectors == 2 else " and ".join(clicked)


class HeraldSearch:
    """Finds the pattern of every attempt in a stream of clicks that comes in blocks of any size.

    ``detectors`` are the channels of d0, d1, ... (1 to 8 of them); clicks on other channels are passed over. A gate is
    open for ``start <= t < start + window_ps``. The outcomes do not depend on where the blocks are cut.
    """

    def __init__(self, detectors: Sequence[int], window_ps: int) -> None:
        if not 1 <= len(detectors) <= MAX_DETECTORS or len(set(detectors)) != len(detectors):
            raise LimitError(
                f"a herald search has 1 to {MAX_DETECTORS} different detector channels; got {tuple(detectors)}"
            )
        if not 0 < window_ps <= _LONGEST_PS:
            raise LimitError(f"the herald window is {window_ps} ps; expected 1 to {_LONGEST_PS} ps")
        from labctl.tags import _loops

        self._loops = _loops
        self._window_ps = window_ps
        self._slot = np.full(CHANNELS, _loops.NO_SLOT, np.uint8)
        for position, channel in enumerate(detectors):
            self._slot[check_channel(channel)] = position
        self._gates = np.empty(0, np.int64)
        self._last_gate_ps = _NEVER
        self._known_to_ps = _NEVER  # clicks before this are all in
        self._last_click_ps = _NEVER
        self._opened = np.full(len(detectors), -1, np.int64)
        self._state = np.zeros(3, np.int64)
        self._counts = np.zeros(1 << len(detectors), np.int64)

    @property
    def table(self) -> OutcomeTable:
        """The outcome table of all attempts completed so far."""
        return OutcomeTable(self._counts.copy())

    @property
    def waiting(self) -> int:
        """Attempts whose gates are known but not yet complete."""
        return int(self._gates.size)

    def push(self, tags: Tags, gates_ps: Times, until_ps: int | None = None) -> Outcomes:
        """Take the next clicks and the next gates; returns the attempts that are now complete.

        A gate has to come no later than the first click at or after its start. An attempt is complete when a click
        on any channel comes at or after its end, or when ``until_ps`` promises that all clicks before that time are in.
        Gates may touch but not overlap. DataError names the gate or click that breaks one of these rules.
        """
        self._check_clicks(tags)
        self._take_gates(gates_ps)
        if len(tags):
            self._last_click_ps = int(tags.time_ps[-1])
            self._known_to_ps = max(self._known_to_ps, self._last_click_ps)
        if until_ps is not None:
            self._known_to_ps = max(self._known_to_ps, until_ps)
        outcomes = self._advance(tags)
        if gates_ps.size:
            self._gates = self._gates.copy()  # what waits must not change with the caller's array
        return outcomes

    def close(self) -> Outcomes:
        """Complete every attempt that waits, with the clicks there are; no clicks may follow."""
        self._known_to_ps = _END
        return self._advance(Tags.empty())

    def _advance(self, tags: Tags) -> Outcomes:
        rows = min(self._gates.size, len(tags) + 1)
        attempt, pattern = np.empty(rows, np.int64), np.empty(rows, np.uint8)
        first_ps = np.empty((rows, self._opened.size), np.int64)
        before = int(self._state[2])
        written = int(
            self._loops.search(
                tags.time_ps,
                tags.channel,
                self._slot,
                self._gates,
                self._window_ps,
                self._known_to_ps,
                self._state,
                self._opened,
                self._counts,
                attempt,
                pattern,
                first_ps,
            )
        )
        done = int(self._state[0])
        attempt = attempt[:written].copy()
        outcomes = Outcomes(
            first_attempt=before,
            attempts=done,
            attempt=attempt,
            start_ps=self._gates[attempt - before],
            pattern=pattern[:written].copy(),
            first_ps=first_ps[:written].copy(),
        )
        self._gates = self._gates[done:]
        self._state[2] = before + done
        return outcomes

    def _check_clicks(self, tags: Tags) -> None:
        if len(tags) and int(tags.time_ps[0]) < self._known_to_ps:
            raise DataError(
                f"the block's first click is at {int(tags.time_ps[0])} ps, but clicks before {self._known_to_ps} ps"
                " were already complete; push blocks in time order"
            )

    def _take_gates(self, gates_ps: Times) -> None:
        if gates_ps.dtype != np.int64 or gates_ps.ndim != 1:
            raise DataError(
                f"gate starts have type {gates_ps.dtype} and shape {gates_ps.shape}; expected int64, one dimension"
            )
        if gates_ps.size == 0:
            return
        gates_ps = np.ascontiguousarray(gates_ps)
        number = int(self._state[2]) + self.waiting
        start = int(gates_ps[0])
        if start <= self._last_click_ps or start < self._known_to_ps:
            raise DataError(
                f"gate {number} opens at {start} ps, but clicks up to {self._known_to_ps} ps are already sorted;"
                " push a gate no later than the clicks that follow its start"
            )
        if self._last_gate_ps != _NEVER and start - self._last_gate_ps < self._window_ps:
            raise DataError(self._overlap(number, start))
        too_early = gates_ps[1:] - gates_ps[:-1] < self._window_ps
        if too_early.any():
            at = int(too_early.argmax()) + 1
            raise DataError(self._overlap(number + at, int(gates_ps[at])))
        self._last_gate_ps = int(gates_ps[-1])
        self._gates = np.concatenate((self._gates, gates_ps)) if self._gates.size else gates_ps

    def _overlap(self, number: int, start_ps: int) -> str:
        return (
            f"gate {number} opens at {start_ps} ps, less than one window ({self._window_ps} ps) after gate {number - 1};"
            " a click would belong to two attempts"
        )


def find_heralds(
    tags: Tags, gates_ps: Times, window_ps: int, detectors: Sequence[int]
) -> tuple[Outcomes, OutcomeTable]:
    """All attempts of a recording held in memory: one row per attempt with clicks, and the outcome table."""
    search = HeraldSearch(detectors, window_ps)
    outcomes = search.push(tags, gates_ps, until_ps=_END)
    return outcomes, search.table


class DeadTime:
    """Drops clicks that come within ``dead_time_ps`` of the last kept click of the same channel.

    Dropped clicks do not extend the dead time (non-paralysable). State is carried from block to block.
    """

    def __init__(self, dead_time_ps: int) -> None:
        if not 0 <= dead_time_ps <= _LONGEST_PS:
            raise LimitError(f"the dead time is {dead_time_ps} ps; expected 0 to {_LONGEST_PS} ps")
        self._dead_time_ps = dead_time_ps
        self._free_at_ps = np.full(CHANNELS, _NEVER, np.int64)
        self._last_ps = _NEVER

    def push(self, tags: Tags) -> Tags:
        """The clicks of the next block that a detector with this dead time would have given."""
        from labctl.tags import _loops

        if not len(tags):
            return tags
        if int(tags.time_ps[0]) < self._last_ps:
            raise DataError(
                f"the block's first click is at {int(tags.time_ps[0])} ps, but the block before it ended at"
                f" {self._last_ps} ps; push blocks in time order"
            )
        self._last_ps = int(tags.time_ps[-1])
        time, channel = np.empty(len(tags), np.int64), np.empty(len(tags), np.uint8)
        kept = int(
            _loops.dead_time(tags.time_ps, tags.channel, self._dead_time_ps, self._free_at_ps, time, channel)
        )
        return Tags(time[:kept].copy(), channel[:kept].copy())
