"""A laser in memory to host on the bus in tests; run as a program, a host of it in a process of its own."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labctl.bus.host import Host
from labctl.bus.owner import HostedDevice
from labctl.clock import SystemClock
from labctl.device import Device, action
from labctl.errors import NotConnectedError, RefusedError
from labctl.signal import Signal
from labctl.transport import Transport, connect

clock = SystemClock()


class Instrument:
    """The instrument itself, outlives the driver instances; several connections share it."""

    def __init__(self, connections: int = 2) -> None:
        self.reachable = True
        self.connections = connections
        self.open = 0
        self.log: list[tuple[str, Any]] = []
        self.values: dict[str, Any] = {"current": 0.0, "power": 0.0, "wave": 0}
        self.busy = threading.Event()
        self.interrupted = threading.Event()


class MemoryLaser(Device):
    """A laser whose instrument is an object in this process."""

    def __init__(self, instrument: Instrument, name: str, transport: Transport | None = None) -> None:
        super().__init__(transport or connect("tcp://127.0.0.1:9", name), name)
        self.instrument = instrument
        self.is_open = False

    def open(self) -> None:
        if not self.instrument.reachable or self.instrument.open >= self.instrument.connections:
            raise NotConnectedError(f"{self.name} at memory: cannot connect")
        self.instrument.open += 1
        self.is_open = True

    def close(self) -> None:
        if self.is_open:
            self.instrument.open -= 1
        self.is_open = False

    def _read(self, name: str) -> Any:
        if not self.instrument.reachable:
            raise NotConnectedError(f"{self.name} at memory: connection lost")
        return self.instrument.values[name]

    def _write(self, name: str, value: Any) -> None:
        self._read(name)
        self.instrument.log.append((name, value))
        self.instrument.values[name] = value

    current = Signal(
        float,
        "A",
        read=lambda d: d._read("current"),
        write=lambda d, v: d._write("current", v),
        limits=(0.0, 0.18),
        tolerance=1e-4,
        doc="diode current",
    )
    power = Signal(
        float, "W", read=lambda d: d._read("power"), write=lambda d, v: d._write("power", v), poll_s=0.02
    )
    wave = Signal(int, read=lambda d: d._read("wave"))

    @action
    def relock(self, times: int) -> str:
        """Lock again."""
        return f"locked after {times}"

    @action
    def fail(self) -> None:
        """Always refused."""
        raise RefusedError(f"{self.name} at memory: no")

    @action
    def broken(self) -> None:
        """A mistake in the driver."""
        raise ZeroDivisionError("oops")

    @action
    def samples(self, count: int) -> Any:
        """An array."""
        import numpy as np

        return np.arange(count, dtype=np.int64)

    @action
    def ponder(self, seconds: float) -> str:
        """Take long, or until it is interrupted."""
        self.instrument.busy.set()
        try:
            if self.instrument.interrupted.wait(seconds):
                raise NotConnectedError(f"{self.name} at memory: interrupted")
        finally:
            self.instrument.busy.clear()
        return "done"

    @action
    def safe(self) -> None:
        """Current to zero."""
        self._read("current")
        self.instrument.log.append(("safe", None))
        self.instrument.values["current"] = 0.0


def hosted(name: str, instrument: Instrument, **state: Any) -> HostedDevice:
    """``name`` on the bus."""
    return HostedDevice(name, lambda: MemoryLaser(instrument, name), state)


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 10.0) -> Any:
    """What ``condition`` gives once it is true; fails when it never is."""
    deadline = clock.now() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert clock.now() < deadline, f"never happened: {what}"
        clock.sleep(0.01)


def main(hub_address: str, node: str, device: str, marks: str = "", found_a: str = "0") -> None:
    """Serve one laser until killed; ``found_a`` is the current it is found with, A, as somebody left it."""
    instrument = Instrument()
    instrument.values["current"] = float(found_a)
    folder = Path(marks) if marks else None
    with Host(node, [hosted(device, instrument, current=0.1)], hub_address, safe_marks=folder):
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
