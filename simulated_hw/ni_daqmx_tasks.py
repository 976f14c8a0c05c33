"""A task on the simulated card: its channels, its timing, its states, and the samples it acquires or generates."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulated_hw.ni_daqmx_card import (
    HIGHEST_AI_HZ,
    HIGHEST_AO_HZ,
    HIGHEST_COUNTER_HZ,
    HIGHEST_LINE_HZ,
    OUTPUT_RANGE_V,
    SOURCES,
    Card,
    Floats,
    Periodic,
    SampleClock,
    input_range,
)
from simulated_hw.ni_daqmx_errors import Code, NiError
from simulated_hw.ni_daqmx_sequencer import perform

INPUTS, OUTPUTS = ("ai", "ci", "di"), ("ao", "do", "co")
WRAP = 1 << 32
"""The counters have 32 bits."""
HIGHEST_HZ = {
    "ai": HIGHEST_AI_HZ,
    "ao": HIGHEST_AO_HZ,
    "ci": HIGHEST_COUNTER_HZ,
    "co": HIGHEST_COUNTER_HZ / 4,
    "di": HIGHEST_LINE_HZ,
    "do": HIGHEST_LINE_HZ,
}
SHORTEST_DELAY_S = 20e-9
"""A pulse train begins this long after its start at the earliest."""


@dataclass
class Channel:
    """One virtual channel."""

    name: str
    physical: tuple[str, ...]
    """One channel of the card, or the lines of a digital channel, lowest bit first."""
    low: float = 0.0
    high: float = 0.0
    """Limits of an analogue channel, V."""
    terminal: str = ""
    """What a counter counts."""
    initial: int = 0
    step: int = 1
    """+1 counts up, -1 down."""
    frequency_hz: float = 0.0
    duty: float = 0.5
    delay_s: float = 0.0
    begun_at: int = 0
    """Edges on its terminal when it was started."""


@dataclass
class Timing:
    """When samples are taken or put out. An empty ``source`` is the card's own clock for this kind of task."""

    rate_hz: float
    finite: bool
    samples: int
    source: str = ""
    implicit: bool = False


@dataclass
class Acquired:
    """What an input task has in its buffer."""

    size: int
    chunks: deque[Floats] = field(default_factory=deque[Floats])
    total: int = 0
    read: int = 0
    overrun: bool = False

    @property
    def available(self) -> int:
        """Samples per channel nobody has read."""
        return self.total - self.read

    def take(self, count: int) -> Floats:
        """The oldest samples, channels by samples."""
        taken: list[Floats] = []
        missing = count
        while missing:
            chunk = self.chunks.popleft()
            if chunk.shape[1] > missing:
                self.chunks.appendleft(chunk[:, missing:])
                chunk = chunk[:, :missing]
            taken.append(chunk)
            missing -= chunk.shape[1]
        self.read += count
        return np.concatenate(taken, axis=1) if taken else np.empty((0, 0))


class Task:
    """One task. ``started`` says whether a client started it, ``running`` whether the card works on it."""

    def __init__(self, name: str, card: Card) -> None:
        self.name = name
        self.card = card
        self.kind = ""
        self.channels: list[Channel] = []
        self.timing: Timing | None = None
        self.buffer_size = 0
        """Input buffer asked for, samples per channel; 0 for the size that follows from the timing."""
        self.kept = False
        """Whether reserved or committed by an explicit call: then stopping keeps the reservation."""
        self.running = False
        self.cleared = False
        self.starts = 0
        self.every_n: tuple[int, int] | None = None
        """Event type and number of samples."""
        self.done_event = False
        self.clock: SampleClock | None = None
        self.acquired = Acquired(0)
        self.written: Floats | None = None
        """Samples to put out, channels by samples."""
        self._cursor_s = 0.0
        self._put = 0

    # what it is made of
    def add(self, kind: str, channels: list[Channel]) -> None:
        """Add channels of one kind."""
        self._not_running()
        if self.kind not in ("", kind):
            raise NiError(Code.MULTIPLE_CHANNEL_TYPES, f"Task Name: {self.name}")
        used = {physical for channel in self.channels for physical in channel.physical}
        for channel in channels:
            if used & {*channel.physical}:
                raise NiError(
                    Code.CHANNEL_ALREADY_IN_TASK, f"Channel: {channel.name}\nTask Name: {self.name}"
                )
        if kind in ("ci", "co") and len(self.channels) + len(channels) > 1:
            raise NiError(Code.MULTIPLE_COUNTERS, f"Task Name: {self.name}")
        self.kind = kind
        self.channels += channels

    def configure(self, timing: Timing) -> None:
        """Set the timing."""
        self._not_running()
        if not self.channels:
            raise NiError(Code.NO_CHANNELS_IN_TASK, f"Task Name: {self.name}")
        self.timing = timing

    def channel(self, name: str) -> Channel:
        """A channel by its name; the first if no name is given."""
        if not self.channels:
            raise NiError(Code.NO_CHANNELS_IN_TASK, f"Task Name: {self.name}")
        for channel in self.channels:
            if channel.name.lower() == name.strip().lower():
                return channel
        return self.channels[0]

    @property
    def timed(self) -> bool:
        """Whether it has a sample clock."""
        return self.timing is not None and not self.timing.implicit

    @property
    def acquiring(self) -> bool:
        """Whether samples are still to come on its clock."""
        return self.running and self.timed and not self.acquired.overrun and not self.done()

    @property
    def exports(self) -> str:
        """The terminal on which its clock can be had."""
        if self.kind == "co":
            return f"Ctr{self.channels[0].physical[0][3:]}InternalOutput"
        return f"{self.kind}/SampleClock"

    def _not_running(self) -> None:
        if self.running:
            raise NiError(Code.CANNOT_WHILE_RUNNING, f"Task Name: {self.name}")

    # states
    def verify(self) -> None:
        """Refuse what the card cannot do."""
        if not self.channels:
            raise NiError(Code.NO_CHANNELS_IN_TASK, f"Task Name: {self.name}")
        self.card.check_device(self.card.name)
        for channel in self.channels:
            if self.kind == "ai":
                input_range(channel.low, channel.high)
            if self.kind in ("ai", "ao") and channel.low >= channel.high:
                self._refuse("Min/Max", channel.low, channel.high)
            if self.kind == "ao" and max(abs(channel.low), abs(channel.high)) > OUTPUT_RANGE_V:
                self._refuse("DAQmx_AO_Max", channel.high, OUTPUT_RANGE_V)
            if self.kind == "co" and not 0 < channel.frequency_hz <= HIGHEST_HZ["co"]:
                self._refuse("DAQmx_CO_Pulse_Freq", channel.frequency_hz, HIGHEST_HZ["co"])
        if self.timing is None:
            return
        highest_hz = HIGHEST_HZ[self.kind] / (
            len(self.channels) * 2 if len(self.channels) > 1 and self.kind == "ai" else 1
        )
        if self.timed and not 0 < self.timing.rate_hz <= highest_hz:
            self._refuse("DAQmx_SampClk_Rate", self.timing.rate_hz, highest_hz)
        if self.kind == "ci" and self.timed and not self.timing.source:
            raise NiError(Code.NO_EXTERNAL_SAMPLE_CLOCK, f"Task Name: {self.name}")

    def _refuse(self, what: str, value: float, highest: float) -> None:
        raise NiError(
            Code.INVALID_VALUE,
            f"Property: {what}\nRequested Value: {value:g}\nMaximum Value: {highest:g}\nTask Name: {self.name}",
        )

    def reserve(self) -> None:
        """Verify, and take what it needs of the card."""
        self.verify()
        if self.kind == "ai":
            needed = ["ai"]
        elif self.kind in ("ci", "co"):
            needed = [self.channels[0].physical[0]]
        else:
            needed = [physical for channel in self.channels for physical in channel.physical]
            needed += [f"{self.kind} timing"] if self.timed else []
        self.card.reserve(self, needed)

    def keep(self) -> None:
        """Reserve until unreserved or cleared."""
        self.reserve()
        self.kept = True

    def unreserve(self) -> None:
        """Give back what it has."""
        self.stop()
        self.kept = False
        self.card.release(self)

    def start(self) -> None:
        """Begin; a task that runs already goes on."""
        if self.running:
            return
        self.reserve()
        now_s = self.card.advance()
        try:
            self._begin(now_s)
        except NiError:
            self._let_go()
            raise
        self.running = True
        self.starts += 1
        self.card.running.append(self)
        if self.kind == "co" and self.card.wiring.sequencer is not None:
            perform(self.card.wiring.sequencer, self)
        self.generate(now_s)
        self.acquire(now_s)

    def _begin(self, now_s: float) -> None:
        timing = self.timing
        self._cursor_s = now_s
        self.acquired = Acquired(self.buffer())
        self.clock, self._put = None, 0
        if self.kind == "co":
            channel = self.channels[0]
            begin_s = now_s + max(channel.delay_s, SHORTEST_DELAY_S)
            finite = timing is not None and timing.finite
            once = timing is None
            limit = 1 if once else timing.samples if finite and timing else None
            self.clock = Periodic(begin_s, channel.frequency_hz, limit)
        elif timing is not None:
            if self.kind in OUTPUTS:
                self._check_written()
            if timing.source and timing.source != self.exports:
                self.clock = self.card.clock_at(timing.source)
            else:
                self.clock = Periodic(now_s, timing.rate_hz, timing.samples if timing.finite else None)
                self._cursor_s = -math.inf
        for channel in self.channels:
            if self.kind == "ci":
                channel.begun_at = self.card.edges(channel.terminal).total

    def _check_written(self) -> None:
        if self.written is None:
            raise NiError(Code.OUTPUT_BUFFER_EMPTY, f"Task Name: {self.name}")
        if self.written.shape[1] < 2:
            raise NiError(Code.OUTPUT_BUFFER_TOO_SMALL, f"Task Name: {self.name}")

    def buffer(self) -> int:
        """Size of the input buffer, samples per channel."""
        timing = self.timing
        if timing is None:
            return 0
        if timing.finite:
            return timing.samples
        steps = ((100, 1_000), (10_000, 10_000), (1_000_000, 100_000))
        usual = next((size for rate_hz, size in steps if timing.rate_hz <= rate_hz), 1_000_000)
        return self.buffer_size or max(usual, timing.samples)

    def stop(self) -> None:
        """End; outputs keep their last value."""
        if self.running:
            self.running = False
            self.card.running.remove(self)
        self._let_go()

    def _let_go(self) -> None:
        if not self.kept:
            self.card.release(self)

    def clear(self) -> None:
        """Stop and give everything back for good."""
        self.unreserve()
        self.cleared = True

    # time passing
    def generate(self, now_s: float) -> None:
        """Put out what is due; of several samples that are due the last."""
        if self.kind not in ("ao", "do") or self.clock is None or self.written is None:
            return
        _, due = self.clock.ticks(self._cursor_s, now_s, 0)
        self._cursor_s = now_s
        if due:
            length = self.written.shape[1]
            self._put += due
            assert self.timing is not None
            if self.timing.finite:
                self._put = min(self._put, self.timing.samples)
            self._put_out(self.written[:, (self._put - 1) % length])

    def _put_out(self, values: Floats) -> None:
        column = 0
        for channel in self.channels:
            for physical in channel.physical:
                value = float(values[column])
                if self.kind == "ao":
                    self.card.drive(physical, value)
                else:
                    self.card.switch(physical, value > 0.5)
                column += 1

    def acquire(self, now_s: float) -> None:
        """Take the samples whose time has come."""
        if self.kind not in INPUTS or self.clock is None or self.timing is None:
            return
        acquired = self.acquired
        room = acquired.size - (acquired.total if self.timing.finite else acquired.available)
        times, due = self.clock.ticks(self._cursor_s, now_s, max(0, room))
        self._cursor_s = now_s
        if acquired.overrun:
            return
        acquired.overrun = not self.timing.finite and due > room
        if len(times):
            acquired.chunks.append(self.sample(times))
            acquired.total += len(times)

    def sample(self, times: Floats) -> Floats:
        """Values of all channels at times that have just passed, channels by samples; digital lines one row each."""
        if self.kind == "ai":
            return np.stack([self.card.measure(c.physical[0], times, c.low, c.high) for c in self.channels])
        if self.kind == "ci":
            channel = self.channels[0]
            edges = self.card.edges(channel.terminal).at(times)
            return self._shown(channel, edges)[np.newaxis, :]
        lines = [line for channel in self.channels for line in channel.physical]
        return np.stack([np.full(len(times), float(self.card.level(line))) for line in lines])

    def _shown(self, channel: Channel, edges: NDArray[np.int64]) -> Floats:
        counted = channel.initial + channel.step * (edges - channel.begun_at)
        return np.mod(counted, WRAP).astype(np.float64)

    def count(self) -> int:
        """What its counter shows now; the edges up to the last step of the card."""
        channel = self.channels[0]
        if not self.running:
            return channel.initial
        return int(self._shown(channel, np.array([self.card.edges(channel.terminal).total]))[0])

    # what it has done
    @property
    def done_samples(self) -> int:
        """Samples per channel acquired or put out since the start."""
        return self._put if self.kind in OUTPUTS else self.acquired.total

    def done(self) -> bool:
        """Whether a finite task has finished (and any task that does not run)."""
        if not self.running:
            return True
        if self.kind == "co":
            assert isinstance(self.clock, Periodic)
            limit = self.clock.limit
            period_s = 1 / self.clock.rate_hz
            return limit is not None and self.clock.count(self.card.now() - period_s) >= limit
        if self.timing is None or not self.timing.finite:
            return False
        return self.done_samples >= self.timing.samples

    def write(self, values: Floats, auto_start: bool) -> None:
        """Samples to put out, rows (lines or channels) by samples; at once where there is no timing."""
        if self.kind not in ("ao", "do"):
            raise NiError(Code.WRITE_NO_OUTPUT_CHANNELS, f"Task Name: {self.name}")
        self.verify()
        for channel, row in zip(self.channels, values, strict=False):
            if self.kind == "ao" and not (
                channel.low - 1e-9 <= row.min() and row.max() <= channel.high + 1e-9
            ):
                raise NiError(
                    Code.INVALID_AO_DATA,
                    f"Requested Value: {row.max():g}\nLimits: {channel.low:g} to {channel.high:g} V\nChannel Name: {channel.name}\nTask Name: {self.name}",
                )
        if self.timed:
            self.reserve()
            self.written = values.copy()
            if auto_start:
                self.start()
            return
        if not self.running and not auto_start:
            raise NiError(Code.WRITE_NOT_STARTED_ON_DEMAND, f"Task Name: {self.name}")
        self.reserve()
        self._put_out(values[:, -1])
        if not self.running:
            self._let_go()


def default_source(counter: str) -> str:
    """The terminal a counter counts if nothing else is said."""
    return SOURCES[int(counter.removeprefix("ctr"))]
