"""A driver on trial: its simulated instrument listening on real sockets, and devices that talk to it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from labctl.clock import SystemClock
from labctl.conformance.recording import RecordingTransport, Wire
from labctl.device import Device
from labctl.errors import DeviceError
from labctl.lab import simulated
from labctl.signal import Signal
from labctl.sim.instrument import SimInstrument
from labctl.sim.server import SimServer
from labctl.sim.zmq_server import ZmqServer
from labctl.transport import connect

HOST = "127.0.0.1"
MOST_STEPS = 60
"""How often a signal is looked at until it shows what was set; the laboratory's time moves on in between."""
_real = SystemClock()


@dataclass(frozen=True)
class Choice:
    """What the command line asks for."""

    driver: type[Device]
    lab: Path
    simulator: str
    """"" with an address."""
    address: str
    """Of an instrument that is there already."""
    options: Mapping[str, Any]
    timeout_s: float


class LaboratoryClock:
    """Runs with the machine's clock from 1000 s, and can be put ahead: what takes minutes is over at once."""

    def __init__(self) -> None:
        self._ahead = 1000.0 - _real.now()

    def now(self) -> float:
        """The laboratory's time, s."""
        return _real.now() + self._ahead

    def sleep(self, seconds: float) -> None:
        """Wait in real time."""
        _real.sleep(seconds)

    def advance(self, seconds: float) -> None:
        """Put the clock ahead."""
        self._ahead += seconds


class Tried:
    """One driver and one instrument; ``close`` ends all of it.

    Devices made here belong to it and are closed with it.
    """

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.clock = LaboratoryClock()
        self.sim: SimInstrument | None = None
        self.address = choice.address
        self.ports: dict[str, int] = {}
        self._devices: list[Device] = []
        self._close: list[Callable[[], None]] = []
        if not choice.address:
            self._serve(simulated(choice.simulator, choice.lab, self.clock.now))

    def device(self, name: str = "", wire: Wire | None = None, address: str = "") -> Device:
        """A further client, made as the lab makes it, not open; what it sends is written to ``wire``."""
        timeout_s = self.choice.timeout_s
        name = name or self.choice.driver.__module__.rpartition(".")[2]
        transport = connect(address or self.address, name, timeout_s)
        if wire is not None:
            transport = RecordingTransport(transport, wire)
        made = self.choice.driver(transport, name, **self.choice.options)
        made.timeout_s = timeout_s
        self._devices.append(made)
        return made

    def open(self, name: str = "", wire: Wire | None = None) -> Device:
        """A further client, open."""
        device = self.device(name, wire)
        device.open()
        return device

    @property
    def instrument(self) -> SimInstrument:
        """The simulated instrument."""
        assert self.sim is not None
        return self.sim

    def fault(self, kind: str, amount: float = 1.0) -> None:
        """Switch a fault of the wire on, all others off."""
        self.instrument.faults.clear()
        self.instrument.faults.switch(kind, amount)

    def cure(self) -> None:
        """All faults off."""
        self.instrument.faults.clear()

    @property
    def over_zmq(self) -> bool:
        """Whether the instrument's first port is a ZeroMQ one, where connections are not seen to break."""
        return self.instrument.ports[0] in self.instrument.zmq_ports

    def steady(self, device: Device) -> dict[str, Any]:
        """Signals that read the same three times, the laboratory's time moving on, and their values."""
        names = [*type(device).signals]
        values = {name: device.signal(name).get() for name in names}
        for _ in range(2):
            self.clock.advance(1.0)
            values = {name: value for name, value in values.items() if device.signal(name).get() == value}
        return values

    def questions(self, wire: Wire, device: Device, steady: Mapping[str, Any]) -> list[str]:
        """Steady signals that are asked for over the wire: numbers and switches first, text last."""
        asked = [name for name in steady if wire.sent_by(device.signal(name).get)]
        return sorted(asked, key=lambda name: type(device).signals[name].kind is str)

    def wait(self, seconds: float) -> None:
        """Let real time pass, as late bytes do not come sooner."""
        _real.sleep(seconds)

    def close(self) -> None:
        """Close devices and servers."""
        for device in self._devices:
            device.close()
        for close in self._close:
            close()

    def _serve(self, sim: SimInstrument) -> None:
        lock = threading.RLock()
        tcp, zmq = SimServer(lock, self.clock), ZmqServer(lock, self.clock)
        self._close = [tcp.close, zmq.close]
        self.sim = sim
        for name in sim.ports:
            serve = zmq.serve if name in sim.zmq_ports else tcp.serve_tcp
            self.ports[name] = serve(sim, name, HOST, 0)
        tcp.start()
        zmq.start()
        first, *others = self.ports
        options = "&".join(f"{name}={self.ports[name]}" for name in others)
        scheme = "zmq" if first in sim.zmq_ports else "tcp"
        self.address = f"{scheme}://{HOST}:{self.ports[first]}" + (f"?{options}" if options else "")


def free_port() -> int:
    """A port nobody listens at."""
    with socket.create_server((HOST, 0)) as taken:
        return taken.getsockname()[1]


def names_itself(error: DeviceError, device: Device) -> bool:
    """Whether the text says which device it is about, and at which address."""
    host = device.transport.address.host or device.transport.address.target
    return device.name in str(error) and host in str(error)


def is_of_kind(value: Any, signal: Signal[Any]) -> bool:
    """Whether a value read has the type the signal declares."""
    kind = signal.kind
    if kind in (float, int, bool, str):
        return type(value) is kind
    return isinstance(value, list) and all(type(item) in (float, int) for item in listed(value))


def listed(value: Any) -> list[Any]:
    """The numbers of a value: its items, or itself."""
    return [*cast("list[Any]", value)] if isinstance(value, list) else [value]


def near(value: Any, wanted: Any, signal: Signal[Any], span: float) -> bool:
    """Whether a value read is the one set: exactly, or within the tolerance or a thousandth for numbers.

    span:  of the signal's limits; a hundred-thousandth of it counts as equal too
    """
    if isinstance(wanted, bool | str):
        return value == wanted
    return all(
        abs(got - want) <= max(signal.tolerance or 0.0, 1e-3 * abs(want), 1e-5 * span)
        for got, want in zip(listed(value), listed(wanted), strict=True)
    )
