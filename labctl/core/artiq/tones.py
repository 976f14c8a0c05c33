"""When DDS channels are set: as late as possible before the pulse that needs the tone, one transfer at a time per board.

Durations of the drivers' transfers: ARTIQ.md 2.2, measured on the compiled drivers (machine units of 1 ns; their parts
follow from the SPI clock dividers in artiq.coredevice).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from labctl.core.artiq.binding import Bound, Dds
from labctl.core.artiq.plan import Event
from labctl.schedule.problem import Path, Problems
from labctl.units import format_time

Phase = float | str
"""Turns, or the name of the variable that holds the phase word."""
Tone = tuple[float, Phase, float]
"""Frequency offset in Hz, phase, relative amplitude; NaN where it is not the same on every way here."""
Words = tuple[int, int | str, int]
"""Frequency, phase and amplitude word."""
LONG_AGO = -(10**15)


@dataclass(frozen=True)
class Transfer:
    """How long a set takes: until the update pulse, and from there to its end, mu; RTIO events and CPU time, mu."""

    before_mu: int
    after_mu: int
    events: tuple[int, ...]
    cpu_mu: int


_WRITE64 = (0, 8, 160, 168, 704, 712)
AD9910_SET = Transfer(1248, 8, (*_WRITE64, 1248, 1256), 4_900)
AD9910_TRACKING = Transfer(
    1952,
    712,
    (0, 8, 160, 168, *(704 + at for at in _WRITE64), 1952, 1960, 1960, 1968, 2120, 2128),
    9_300,
)
AD9912_SET = Transfer(1376, 10, (0, 8, 288, 296, 832, 840, 1376, 1386), 5_700)


def transfer(dds: Dds, tracking: bool) -> Transfer:
    """Cost of setting this channel."""
    if not dds.is_ad9910:
        return AD9912_SET
    return AD9910_TRACKING if tracking else AD9910_SET


@dataclass
class State:
    """What is known where a block begins; times are mu relative to its origin.

    align:  the origin modulo a coarse cycle; None if that depends on what happened
    tones:  tone of each line as the schedule has it
    words:  what is in each line's DDS; None if that depends
    off:    when each line was last switched off
    bus:    when each board's SPI bus was last in use
    """

    align: int | None
    tones: dict[str, Tone] = field(default_factory=dict[str, Tone])
    words: dict[str, Words | None] = field(default_factory=dict[str, Words | None])
    off: dict[str, int] = field(default_factory=dict[str, int])
    bus: dict[str, int] = field(default_factory=dict[str, int])

    def copy(self) -> State:
        """A state of its own."""
        return State(self.align, dict(self.tones), dict(self.words), dict(self.off), dict(self.bus))

    def passed(self, length_mu: int, coarse_mu: int) -> None:
        """Move the origin on."""
        if self.align is not None:
            self.align = (self.align + length_mu) % coarse_mu
        self.off = {name: at - length_mu for name, at in self.off.items()}
        self.bus = {name: at - length_mu for name, at in self.bus.items()}


def joined(one: State, other: State, nominal: Tone = (0.0, 0.0, 1.0)) -> State:
    """What is known where two ways meet."""
    tones = {
        name: _common(one.tones.get(name, nominal), other.tones.get(name, nominal))
        for name in {**one.tones, **other.tones}
    }
    words = {
        name: one.words[name] if one.words.get(name) == other.words.get(name) else None
        for name in {**one.words, **other.words}
        if name in one.words and name in other.words
    }
    return State(
        one.align if one.align == other.align else None,
        tones,
        words,
        _later(one.off, other.off),
        _later(one.bus, other.bus),
    )


def _common(one: Tone, other: Tone) -> Tone:
    parts = [a if a == b else math.nan for a, b in zip(one, other, strict=True)]
    return parts[0], parts[1], parts[2]  # pyright: ignore[reportReturnType]  (only the phase can be text)


def _later(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: max(one.get(name, LONG_AGO), other.get(name, LONG_AGO)) for name in {**one, **other}}


@dataclass(frozen=True)
class Need:
    """A tone that has to be in the DDS from ``until_mu`` on, and must not be there before ``from_mu``."""

    bound: Bound
    dds: Dds
    words: Words
    from_mu: int
    until_mu: int
    path: Path
    begin_ps: int
    """Innermost block of the pulse that needs it, and when that begins."""


class Setter:
    """Places the sets of one block."""

    def __init__(
        self, state: State, tracking: set[str], coarse_mu: int, ref_period_ps: int, problems: Problems
    ) -> None:
        self._state = state
        self._tracking = tracking
        self._coarse = coarse_mu
        self._ref_ps = ref_period_ps
        self._problems = problems
        self._taken: dict[str, list[tuple[int, int]]] = {}

    def place(self, needs: list[Need]) -> list[Event]:
        """Events for all needs; a need that cannot be met is a problem."""
        events = [self._one(need) for need in sorted(needs, key=lambda one: -one.until_mu)]
        for bus, spans in self._taken.items():
            self._state.bus[bus] = max(end for _, end in spans)
        return events

    def _one(self, need: Need) -> Event:
        line, dds = need.bound.line, need.dds
        cost = transfer(dds, line in self._tracking)
        begin = self._begin(need, cost)
        update = begin + cost.before_mu
        loose = self._coarse - 1 if dds.is_ad9910 and self._state.align is None else 0
        if need.from_mu == need.until_mu and (update != need.until_mu or loose):
            why = (
                f"the block comes at times that are not all multiples of {self._coarse} mu apart"
                if loose
                else f"the light is on then, so the change has to come on the {self._coarse} mu grid of the DDS"
                if update == need.until_mu or update > need.until_mu - self._coarse
                else f"the SPI bus of {dds.cpld.name} is busy with another channel"
            )
            self._say(need, f"the tone of {dds.entry.name} cannot change without a gap: {why}")
        elif update - loose < need.from_mu or begin - loose < self._state.bus.get(dds.bus.name, LONG_AGO):
            self._say(
                need,
                f"no time to set {dds.entry.name}: that takes {cost.before_mu + cost.after_mu} mu of the SPI bus "
                f"of {dds.cpld.name}",
            )
        self._taken.setdefault(dds.bus.name, []).append((begin, update + cost.after_mu))
        return Event(
            begin,
            "set",
            dds.entry.name,
            dds.io_update.channel,
            line,
            need.words,
            line in self._tracking and dds.is_ad9910,
            cost.before_mu,
            " / ".join(need.path),
            need.begin_ps // self._ref_ps,
        )

    def _begin(self, need: Need, cost: Transfer) -> int:
        """The latest begin of the transfer that is free on its bus."""
        begin = self._aligned(need.until_mu - cost.before_mu, need.dds)
        length = cost.before_mu + cost.after_mu
        for start, end in sorted(self._taken.get(need.dds.bus.name, []), reverse=True):
            if begin < end and start < begin + length:
                begin = self._aligned(start - length, need.dds)
        return begin

    def _aligned(self, time_mu: int, dds: Dds) -> int:
        """The driver of the AD9910 clears the fine part of the time; the sidecar and this have to agree."""
        if not dds.is_ad9910 or self._state.align is None:
            return time_mu
        return time_mu - (time_mu + self._state.align) % self._coarse

    def _say(self, need: Need, what: str) -> None:
        gap = format_time((need.until_mu - max(need.from_mu, need.until_mu - 10**9)) * self._ref_ps)
        self._problems.add(
            need.path,
            what,
            f"its line is off for {gap} before: leave more time, or use a channel of another board",
            line=need.bound.line,
            time_ps=need.until_mu * self._ref_ps - need.begin_ps,
        )
