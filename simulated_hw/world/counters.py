"""Clicks per input since the world began, and their history for instruments that ask about an interval."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

HISTORY = 20_000
"""Points of the history kept."""


class ClickCounters:
    """Cumulative clicks of detectors that are never gated: background as time passes, plus what the core's gates saw."""

    def __init__(self, rng: np.random.Generator, inputs: int) -> None:
        self._rng = rng
        self._counts = [0] * inputs
        self._time_ps = 0
        self._times: list[int] = [0]
        self._past: list[tuple[int, ...]] = [(0,) * inputs]

    def advance(self, time_ps: int, rates_hz: tuple[float, ...]) -> None:
        """Let background at these rates of the first inputs click until ``time_ps``."""
        span_s = (time_ps - self._time_ps) / 1e12
        if span_s <= 0:
            return
        for channel, rate_hz in enumerate(rates_hz):
            self._counts[channel] += int(self._rng.poisson(rate_hz * span_s))
        self._time_ps = time_ps
        self._times.append(time_ps)
        self._past.append(tuple(self._counts))
        if len(self._times) > HISTORY:
            del self._times[: HISTORY // 2], self._past[: HISTORY // 2]

    def add(self, channel: int, count: int) -> None:
        """Count clicks seen in a gate."""
        self._counts[channel] += count

    def counts(self) -> list[int]:
        """All clicks so far, one per input."""
        return list(self._counts)

    def between(self, start_ps: int, end_ps: int, inputs: int) -> list[int]:
        """Clicks of the first inputs between two times; 0 before what is remembered."""
        first, last = self._at(start_ps), self._at(end_ps)
        return [last[channel] - first[channel] for channel in range(inputs)]

    def _at(self, time_ps: int) -> list[int]:
        place = bisect_right(self._times, time_ps)
        if place == 0:
            return list(self._past[0])
        if place == len(self._times):  # clicks of gates since then belong to the time that follows
            return list(self._past[-1])
        before, after = self._times[place - 1], self._times[place]
        share = (time_ps - before) / (after - before)
        return [
            low + int((high - low) * share)
            for low, high in zip(self._past[place - 1], self._past[place], strict=True)
        ]
