"""The simulated card itself: its channels by name, its terminals and clocks, who has reserved what, and its time.

The profile is a PCIe-6363: 32 analogue inputs, 4 analogue outputs, 4 counters, 48 digital lines. Noise, ranges and the
default terminals of the counters are from general knowledge of the X series: check the manual.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from simulated_hw.ni_daqmx_errors import Code, NiError
from simulated_hw.world.card_wiring import CardWiring, Clicks, Instants

if TYPE_CHECKING:
    from simulated_hw.ni_daqmx_tasks import Task

Floats = NDArray[np.float64]
PRODUCT = "PCIe-6363"
PRODUCT_NUMBER = 0x7434
SERIAL = 0x01A2B3C4
PHYSICAL: dict[str, list[str]] = {
    "ai": [f"ai{n}" for n in range(32)],
    "ao": [f"ao{n}" for n in range(4)],
    "ci": [f"ctr{n}" for n in range(4)],
    "co": [f"ctr{n}" for n in range(4)],
    "line": [f"port{p}/line{n}" for p, width in enumerate((32, 8, 8)) for n in range(width)],
}
INTERNAL_INPUTS = {f"_ao{n}_vs_aognd": f"ao{n}" for n in range(4)}
"""Inputs of the card's own that measure its outputs."""
INPUT_RANGES_V = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
INPUT_NOISE_V = (17e-6, 21e-6, 27e-6, 38e-6, 64e-6, 157e-6, 315e-6)
OUTPUT_RANGE_V = 10.0
HIGHEST_AI_HZ, HIGHEST_AO_HZ, HIGHEST_LINE_HZ, HIGHEST_COUNTER_HZ = 2e6, 2.86e6, 10e6, 100e6
SOURCES = ("PFI8", "PFI3", "PFI0", "PFI5")
"""Terminals the counters count if nothing else is said."""
TERMINALS = [f"PFI{n}" for n in range(16)]
BLOCK_S = 1e-3
"""Clicks are spread at random over intervals of at most this length; slower changes of their rate are kept."""
STEP_S = 0.1
"""While somebody samples a counter, a leap of the world's clock is taken in steps of at most this length."""


class SampleClock(Protocol):
    """Where sample instants come from."""

    def ticks(self, after_s: float, until_s: float, most: int) -> tuple[Floats, int]:
        """The first ``most`` tick times in (after, until], and how many there are in all."""
        ...


@dataclass
class Periodic:
    """Ticks at start, start + 1/rate, ...; ``limit`` of them, or without end."""

    start_s: float
    rate_hz: float
    limit: int | None = None

    def count(self, until_s: float) -> int:
        """Ticks up to a time."""
        if until_s < self.start_s:
            return 0
        ticks = math.floor((until_s - self.start_s) * self.rate_hz + 1e-6) + 1
        return ticks if self.limit is None else min(ticks, self.limit)

    def ticks(self, after_s: float, until_s: float, most: int) -> tuple[Floats, int]:
        """The first ``most`` tick times in (after, until], and how many there are in all."""
        first, last = self.count(after_s), self.count(until_s)
        indices = np.arange(first, min(last, first + most))
        return self.start_s + indices / self.rate_hz, last - first


@dataclass
class External:
    """A clock from outside."""

    instants: Instants

    def ticks(self, after_s: float, until_s: float, most: int) -> tuple[Floats, int]:
        """The first ``most`` tick times in (after, until], and how many there are in all."""
        times = self.instants(after_s, until_s) if until_s > after_s else np.empty(0)
        return times[:most], len(times)


@dataclass
class Borrowed:
    """The clock of whichever task has it now: ``ai/SampleClock`` or ``Ctr1InternalOutput``."""

    card: Card
    terminal: str

    def ticks(self, after_s: float, until_s: float, most: int) -> tuple[Floats, int]:
        """The first ``most`` tick times in (after, until], and how many there are in all."""
        for task in self.card.running:
            if task.exports == self.terminal and task.clock is not None:
                return task.clock.ticks(after_s, until_s, most)
        return np.empty(0), 0


@dataclass
class Edges:
    """The edges on one terminal, the same ones for every counter on it."""

    clicks: Clicks | None
    clock: SampleClock | None
    total: int = 0
    recent: Floats = field(default_factory=lambda: np.empty(0))
    """Times of the edges of the last step, ``before`` edges came ahead of them."""
    before: int = 0

    def step(self, after_s: float, until_s: float, rng: np.random.Generator, timed: bool) -> None:
        """Go on to a time; ``timed`` if somebody samples the count in between."""
        self.before = self.total
        if self.clock is not None:
            self.recent = self.clock.ticks(after_s, until_s, 100_000_000)[0]
        elif self.clicks is None:
            self.recent = np.empty(0)
        elif not timed:
            self.recent = np.empty(0)
            self.total += self.clicks(after_s, until_s)
            return
        else:
            blocks = max(1, math.ceil((until_s - after_s) / BLOCK_S))
            bounds = np.linspace(after_s, until_s, blocks + 1).tolist()
            self.recent = np.concatenate(
                [np.sort(b - rng.random(self.clicks(a, b)) * (b - a)) for a, b in itertools.pairwise(bounds)]
            )
        self.total += len(self.recent)

    def at(self, times: Floats) -> NDArray[np.int64]:
        """Edges up to each of these times, which lie within the last step."""
        return self.before + np.searchsorted(self.recent, times, side="right").astype(np.int64)


class Card:
    """One card: ``advance`` brings everything that runs on it up to the world's time."""

    def __init__(
        self, name: str, wiring: CardWiring, now: Callable[[], float], rng: np.random.Generator
    ) -> None:
        self.name = name
        self.wiring = wiring
        self.now = now
        self.rng = rng
        self.unplugged = False
        self.running: list[Task] = []
        self.reserved: dict[str, Task] = {}
        self.output_v: dict[str, float] = dict.fromkeys(PHYSICAL["ao"], 0.0)
        self.line_levels: dict[str, bool] = {}
        """Lines that are driven."""
        self._edges: dict[str, Edges] = {}
        self.planned: dict[str, Floats] = {}
        """Times of the edges that buffered outputs, and the world that answers them, put on terminals; in order."""
        self._at_s = now()

    # names
    def physical(self, text: str, kind: str) -> list[str]:
        """Channels of a kind named by ``Dev1/ai0:3, Dev1/ai5``; a port stands for all its lines."""
        found: list[str] = []
        for name in expand(text):
            device, _, rest = name.strip().lstrip("/").partition("/")
            self.check_device(device)
            known = PHYSICAL["line" if kind in ("di", "do") else kind]
            lowered = rest.lower()
            if kind in ("di", "do") and re.fullmatch(r"port\d", lowered):
                matching = [line for line in known if line.startswith(f"{lowered}/")]
            elif kind == "ai" and lowered in INTERNAL_INPUTS:
                matching = [lowered]
            else:
                matching = [channel for channel in known if channel == lowered]
            if not matching:
                raise NiError(Code.NO_SUCH_CHANNEL, f"Device: {self.name}\nPhysical Channel Name: {rest}")
            found += matching
        return found

    def check_device(self, device: str) -> None:
        """Refuse another card's name, and everything while unplugged."""
        if device.lower() != self.name.lower():
            raise NiError(
                Code.INVALID_DEVICE, f"Device Specified: {device}\nSuggested Device(s): {self.name}"
            )
        if self.unplugged:
            raise NiError(Code.DEVICE_CANNOT_BE_ACCESSED, f"Device: {self.name}")

    def terminal(self, text: str) -> str:
        """A terminal without its device: ``/Dev1/PFI8`` is ``PFI8``."""
        name = text.strip().lstrip("/")
        device, _, rest = name.partition("/")
        if device.lower() == self.name.lower():
            name = rest
        known = [*TERMINALS, "ai/SampleClock", "ao/SampleClock", "di/SampleClock", "do/SampleClock"]
        known += [f"Ctr{n}InternalOutput" for n in range(4)]
        for candidate in known:
            if candidate.lower() == name.lower():
                return candidate
        raise NiError(Code.INVALID_SAMPLE_CLOCK, f"Device: {self.name}\nTerminal: {text}")

    def clock_at(self, terminal: str) -> SampleClock:
        """The sample clock that a terminal carries."""
        sequencer = self.wiring.sequencer
        if sequencer is not None and terminal in (*sequencer.detectors, *sequencer.jumpers.values()):
            return External(self._planned_times(terminal))
        if terminal in self.wiring.clocks:
            return External(self.wiring.clocks[terminal])
        if terminal in self.wiring.clicks:
            return External(self._click_times(terminal))
        return Borrowed(self, terminal)

    def _planned_times(self, terminal: str) -> Instants:
        """Edges that were known when the buffers were started."""

        def instants(after_s: float, until_s: float) -> Floats:
            times = self.planned.get(terminal, np.empty(0))
            first, last = np.searchsorted(times, (after_s, until_s), side="right")
            return times[first:last]

        return instants

    def _click_times(self, terminal: str) -> Instants:
        """Detector pulses used as a clock: the times that the counters see too."""

        def instants(after_s: float, until_s: float) -> Floats:
            recent = self.edges(terminal).recent
            return recent[(recent > after_s) & (recent <= until_s)]

        return instants

    def edges(self, terminal: str) -> Edges:
        """The edges on a terminal."""
        if terminal not in self._edges:
            clicks = self.wiring.clicks.get(terminal)
            self._edges[terminal] = Edges(clicks, None if clicks else self.clock_at(terminal))
        return self._edges[terminal]

    # who has what
    def reserve(self, task: Task, resources: Iterable[str]) -> None:
        """Give parts of the card to a task, or none of them."""
        wanted = [*resources]
        for resource in wanted:
            holder = self.reserved.get(resource)
            if holder is not None and holder is not task:
                raise NiError(
                    Code.RESERVED, f"Device: {self.name}\nResource: {resource}\nTask Name: {task.name}"
                )
        for resource in wanted:
            self.reserved[resource] = task

    def release(self, task: Task) -> None:
        """Take back all that a task has."""
        self.reserved = {name: holder for name, holder in self.reserved.items() if holder is not task}

    # time
    def advance(self) -> float:
        """Everything up to now: outputs, then edges, then samples; the time, s."""
        now_s = self.now()
        while now_s > self._at_s:
            sampling = any(task.kind == "ci" and task.acquiring for task in self.running)
            self._step(self._at_s, min(now_s, self._at_s + STEP_S) if sampling else now_s)
        return self._at_s

    def _step(self, after_s: float, until_s: float) -> None:
        self._at_s = until_s
        for task in self.running:
            task.generate(until_s)
        counted = {
            channel.terminal: False for task in self.running if task.kind == "ci" for channel in task.channels
        }
        for task in self.running:
            if task.kind == "ci" and task.acquiring:
                counted[task.channels[0].terminal] = True
            if task.timing is not None and task.timing.source in self.wiring.clicks:
                counted[task.timing.source] = True
        for terminal, timed in counted.items():
            self.edges(terminal).step(after_s, until_s, self.rng, timed)
        for task in self.running:
            task.acquire(until_s)

    # what it measures and drives
    def measure(self, channel: str, times: Floats, lowest_v: float, highest_v: float) -> Floats:
        """Voltages of an input as the converter of a range gives them: with noise, 16 bits, clipped."""
        if channel in INTERNAL_INPUTS:
            volts = np.full(len(times), self.output_v[INTERNAL_INPUTS[channel]])
        elif channel in self.wiring.voltages:
            volts = self.wiring.voltages[channel](times)
        else:
            volts = np.zeros(len(times))
        index = input_range(lowest_v, highest_v)
        range_v = INPUT_RANGES_V[index]
        step_v = range_v / 32768
        noisy = volts + self.rng.normal(0.0, INPUT_NOISE_V[index], len(times))
        return np.clip(np.rint(noisy / step_v) * step_v, -range_v, range_v - step_v)

    def drive(self, channel: str, volts: float) -> None:
        """Set an analogue output, in the steps of its converter."""
        step_v = OUTPUT_RANGE_V / 32768
        self.output_v[channel] = round(volts / step_v) * step_v
        tell = self.wiring.outputs.get(channel)
        if tell is not None:
            tell(self.output_v[channel])

    def level(self, line: str) -> bool:
        """The level on a line: what is driven, or what the world puts on it."""
        if line in self.line_levels:
            return self.line_levels[line]
        read = self.wiring.levels.get(line)
        return read() if read is not None else False

    def switch(self, line: str, high: bool) -> None:
        """Drive a line."""
        if self.line_levels.get(line) != high:
            self.line_levels[line] = high
            tell = self.wiring.switches.get(line)
            if tell is not None:
                tell(high)


def input_range(lowest_v: float, highest_v: float) -> int:
    """Index of the narrowest range that holds both limits."""
    for index, range_v in enumerate(INPUT_RANGES_V):
        if max(abs(lowest_v), abs(highest_v)) <= range_v * (1 + 1e-9):
            return index
    raise NiError(
        Code.INVALID_VALUE,
        f"Property: DAQmx_AI_Max\nRequested Value: {highest_v:g}\nMaximum Value: {INPUT_RANGES_V[-1]:g}",
    )


def expand(text: str) -> list[str]:
    """Names in a list with ranges: ``Dev1/ai0:2, Dev1/ai5``."""
    names: list[str] = []
    for item in (part.strip() for part in text.split(",")):
        first, colon, last = item.partition(":")
        begin = re.fullmatch(r"(.*?)(\d+)", first)
        end = re.fullmatch(r"(?:.*?)(\d+)", last)
        if not colon:
            names.append(item)
        elif begin is None or end is None or abs(int(end[1]) - int(begin[2])) > 1000:
            raise NiError(Code.INVALID_RANGE_SYNTAX, f"Range: {item}")
        else:
            low, high = int(begin[2]), int(end[1])
            step = 1 if high >= low else -1
            names += [f"{begin[1]}{n}" for n in range(low, high + step, step)]
    return names
