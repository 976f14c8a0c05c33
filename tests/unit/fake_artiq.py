"""A stand-in for ``artiq.experiment`` that runs emitted experiments as plain Python and writes down what they do.

It knows time (a cursor and a wall clock that calls and inputs move on), outputs, inputs, counters, DDS boards and DMA; what
clicks is up to the test. Nothing of ARTIQ is in it.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from numpy import int64

CPU_NS = {"edge": 370, "set": 4_900}
GATE_LATENCY = 104
Clicks = Callable[[str, int, int], list[int]]
"""(device, opened, closed) -> times of the clicks, absolute mu."""


class RTIOUnderflow(Exception):  # noqa: N818  (ARTIQ's name)
    pass


@dataclass
class Machine:
    """Cursor, wall clock, and everything that was put in: (time, device, action, words)."""

    clicks: Clicks
    now: int = 0
    wall: int = 0
    events: list[tuple[int, str, str, tuple[int, ...]]] = field(default_factory=list)
    recording: list[tuple[int, Callable[[], None]]] | None = None
    least_slack: int = 1 << 62
    hiccups: list[int] = field(default_factory=list)
    """CPU time lost, mu, each time the cursor is asked for: once in each try of a round."""

    def put(self, device: str, action: str, words: tuple[int, ...] = (), cost: str = "edge") -> None:
        event = (int(self.now), device, action, words)
        assert self.recording is None, f"{device} {action} cannot be recorded"
        self.wall += CPU_NS[cost]
        slack = int(self.now) - self.wall + (CPU_NS[cost] if cost == "set" else 0)
        if slack < 0:
            raise RTIOUnderflow(f"{device} {action} {-slack} mu late")
        self.least_slack = min(self.least_slack, slack)
        self.events.append(event)

    def wait(self, until: int) -> None:
        self.wall = max(self.wall, int(until) + GATE_LATENCY) + 500


def recorded(method: Callable[..., None]) -> Callable[..., None]:
    """A method that a DMA recording notes instead of doing it."""

    def call(self: Any, *arguments: Any) -> None:
        machine: Machine = self._machine
        if machine.recording is None:
            method(self, *arguments)
        else:
            machine.recording.append((int(machine.now), lambda: method(self, *arguments)))

    return call


class Core:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def reset(self) -> None:
        self.break_realtime()

    def break_realtime(self) -> None:
        machine = self._machine
        machine.now = int64(max(int(machine.now), machine.wall + 125_000))

    def get_rtio_counter_mu(self) -> int64:
        return int64(self._machine.wall)


class Ttl:
    def __init__(self, machine: Machine, name: str, arguments: dict[str, Any]) -> None:
        self._machine, self._name = machine, name
        self._opened: int | None = None
        self._waiting: list[int] = []

    @recorded
    def on(self) -> None:
        self._machine.put(self._name, "on")

    @recorded
    def off(self) -> None:
        self._machine.put(self._name, "off")

    def output(self) -> None:
        pass

    def input(self) -> None:
        pass

    @recorded
    def _set_sensitivity(self, value: int) -> None:
        machine = self._machine
        if value == 0 and self._opened is None:
            machine.put(self._name, "closed")  # closing what is closed: part of setting up
            return
        machine.put(self._name, "open" if value else "close")
        if value:
            self._opened = int(machine.now)
        else:
            assert self._opened is not None
            self._waiting += machine.clicks(self._name, self._opened, int(machine.now))
            self._opened = None

    def timestamp_mu(self, up_to: int64) -> int64:
        assert isinstance(up_to, int64)
        if self._waiting:
            return int64(self._waiting.pop(0))
        if self._opened is not None:  # asked while it is open: the clicks so far
            seen = self._machine.clicks(self._name, self._opened, int(up_to))
            if seen:
                self._waiting, self._opened = seen[1:], seen[-1] + 1
                self._machine.wall = max(self._machine.wall, seen[0]) + 500
                return int64(seen[0])
        self._machine.wait(up_to)
        return int64(-1)


class Counter:
    def __init__(self, machine: Machine, name: str, arguments: dict[str, Any]) -> None:
        self._machine, self._name = machine, name
        self._since = 0
        self._counts: list[tuple[int, int]] = []

    @recorded
    def set_config(self, rising: bool, falling: bool, send: bool, reset: bool) -> None:
        assert not falling
        machine = self._machine
        assert machine.now % 8 == 0, "the counter has a grid of 8 mu"
        machine.put(
            self._name,
            {(True, False): "count", (False, True): "latch", (True, True): "relatch"}[rising, send],
        )
        if send:
            clicks = machine.clicks(self._name, self._since, int(machine.now))
            self._counts.append((int(machine.now), len(clicks)))
        if reset:
            self._since = int(machine.now)

    def fetch_count(self) -> int:
        at, count = self._counts.pop(0)
        self._machine.wait(at)
        return count


class Cpld:
    def __init__(self, machine: Machine, name: str, arguments: dict[str, Any]) -> None:
        self._machine = machine

    def init(self) -> None:
        self._machine.now += 100_000

    def get_att_mu(self) -> int:
        return 0


class Ad9910:
    def __init__(self, machine: Machine, name: str, arguments: dict[str, Any]) -> None:
        self._machine, self._name = machine, name

    def init(self) -> None:
        self._machine.now += 100_000

    def set_att_mu(self, value: int) -> None:
        assert 0 <= value <= 255

    def set_mu(self, ftw: int, pow_: int, asf: int, phase_mode: int = 0, ref_time_mu: int = -1) -> None:
        assert not isinstance(ftw, int64), "set_mu wants 32 bits"
        assert 0 <= ftw < 2**31 and 0 <= pow_ < 2**16 and 0 <= asf < 2**14
        machine = self._machine
        machine.now = machine.now & ~7
        machine.put(self._name, "set", (int(ftw), int(pow_), int(asf)), "set")
        machine.now += 1256 if phase_mode == 0 else 2664


class Ad9912(Ad9910):
    def set_mu(self, ftw: int64, pow_: int) -> None:  # type: ignore[override]
        assert isinstance(ftw, int64) and 0 <= ftw < 2**48 and 0 <= pow_ < 2**14
        self._machine.put(self._name, "set", (int(ftw), int(pow_), 0), "set")
        self._machine.now += 1386


class Dma:
    def __init__(self, machine: Machine, name: str, arguments: dict[str, Any]) -> None:
        self._machine = machine
        self._traces: dict[str, list[tuple[int, Callable[[], None]]]] = {}

    @contextmanager
    def record(self, name: str) -> Iterator[None]:
        machine, before = self._machine, self._machine.now
        machine.recording, machine.now = [], int64(0)
        yield
        self._traces[name] = machine.recording
        assert all(event[0] >= 0 for event in machine.recording)
        machine.recording, machine.now = None, before

    def get_handle(self, name: str) -> str:
        return name

    def playback_handle(self, handle: str) -> None:
        begin = int(self._machine.now)
        for time, call in self._traces[handle]:
            self._machine.now = int64(begin + time)
            call()


class Entangler:
    """As ARTIQ.md 2.5 describes the gateware: repeats a cycle, four coarse cycles longer than told, until a pattern or timeout."""

    def __init__(self, machine: Machine, name: str, arguments: dict[str, Any]) -> None:
        self._machine, self._name = machine, name
        self.timing: dict[int, tuple[int, int]] = {}
        self.cycle_mu = 0
        self.patterns: list[int] = []
        self.config = (False, False)
        self._stamps: dict[int, int] = {}

    def init(self) -> None:
        self._machine.now += 8

    def set_timing_mu(self, channel: int, start: int, stop: int) -> None:
        assert 8 <= channel < 16
        if channel < 12:
            assert start % 8 == 0 and stop % 8 == 0, "outputs are on the coarse grid"
        self.timing[channel] = (start, stop)
        self._machine.now += 8

    def set_cycle_length_mu(self, cycle_mu: int) -> None:
        assert cycle_mu % 8 == 0 and 0 < cycle_mu <= 8 * 1023
        self.cycle_mu = cycle_mu
        self._machine.now += 8

    def write(self, address: int, value: int) -> None:
        assert address == 3
        self.patterns = [(value >> 4 * k) & 15 for k in range(4) if value >> (16 + k) & 1]
        self._machine.now += 8

    def set_config(self, enable: bool = False, standalone: bool = False) -> None:
        self.config = (enable, standalone)
        self._machine.now += 8

    def run_mu(self, duration: int) -> tuple[int64, int]:
        assert 0 < duration < 2**31 and self.config == (True, True)
        machine, begin = self._machine, int(self._machine.now)
        machine.put(self._name, "run", (int(duration),))
        end = begin
        while True:
            pattern = 0
            for k in range(4):
                start, stop = self.timing[12 + k]
                if start < self.cycle_mu:
                    seen = machine.clicks(f"{self._name} {k}", end + start, end + stop)
                    if seen:
                        pattern |= 1 << k
                        self._stamps[k] = seen[0] - end
            end += self.cycle_mu + 32
            matches = sum(1 << k for k, wanted in enumerate(self.patterns) if wanted == pattern)
            if matches or end - begin >= duration:
                machine.wait(end)
                return int64(end), matches or 0x3FFF

    def get_timestamp_mu(self, address: int) -> int:
        machine = self._machine
        assert int(machine.now) > machine.wall, "asked for in the past"
        machine.wait(int(machine.now))
        return self._stamps[address - 40]


CLASSES = {
    "Entangler": Entangler,
    "TTLOut": Ttl,
    "TTLInOut": Ttl,
    "EdgeCounter": Counter,
    "CPLD": Cpld,
    "AD9910": Ad9910,
    "AD9912": Ad9912,
    "CoreDMA": Dma,
}


def module(machine: Machine, device_db: dict[str, Any], arguments: dict[str, Any]) -> types.ModuleType:
    """An ``artiq.experiment`` whose devices are those of a device_db."""
    devices: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in devices:
            entry = device_db[name]
            if entry["class"] == "Core":
                devices[name] = Core(machine)
            else:
                devices[name] = CLASSES[entry["class"]](machine, name, entry.get("arguments", {}))
            devices[name].device = name
        return devices[name]

    class EnvExperiment:
        def __init__(self) -> None:
            self.datasets: dict[str, Any] = {}
            self.build()

        def setattr_device(self, name: str) -> None:
            setattr(self, name, get(name))

        def get_device(self, name: str) -> Any:
            return get(name)

        def setattr_argument(self, name: str, processor: Any) -> None:
            setattr(self, name, float(arguments.get(name, processor)))

        def set_dataset(self, name: str, value: Any) -> None:
            self.datasets[name] = value

        def append_to_dataset(self, name: str, value: Any) -> None:
            self.datasets[name].append(value)

    def at_mu(time: int64) -> None:
        assert isinstance(time, int64), f"at_mu of {type(time)}"
        machine.now = time

    def now_mu() -> int64:
        if machine.hiccups:
            machine.wall += machine.hiccups.pop(0)
        return int64(machine.now)

    def delay_mu(time: int) -> None:
        machine.now = machine.now + time

    def rpc(argument: Any = None, flags: set[str] | None = None) -> Any:
        return argument if argument is not None else lambda function: function

    made = types.ModuleType("artiq.experiment")
    made.__dict__.update(
        EnvExperiment=EnvExperiment,
        kernel=lambda function: function,
        rpc=rpc,
        now_mu=now_mu,
        at_mu=at_mu,
        delay_mu=delay_mu,
        NumberValue=lambda default, **_: default,
        RTIOUnderflow=RTIOUnderflow,
        TInt32="TInt32",
        TInt64="TInt64",
        TNone="TNone",
    )
    return made
