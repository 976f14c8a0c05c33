"""A driver on trial: its simulated instrument listening on real sockets, and devices that talk to it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from labctl.clock import SystemClock
from labctl.conformance.recording import Wire, recorded
from labctl.device import Device
from labctl.errors import DeviceError, NoAnswerError, NotConnectedError
from labctl.lab import simulated
from labctl.shelf import transports_of
from labctl.signal import Signal
from labctl.sim.instrument import OwnServer, SimInstrument
from labctl.sim.server import SimServer
from labctl.sim.zmq_server import ZmqServer
from labctl.transport import connect

HOST = "127.0.0.1"
MOST_STEPS = 60
"""How often a signal is looked at until it shows what was set; the laboratory's time moves on in between."""
_ONE_CLIENT = "a serial line has one client: a second one would get half of the first one's answers"
_WHOLE_MESSAGES = "it brings whole messages: there are no halves"
NOT_APPLICABLE: Mapping[str, Mapping[str, str]] = {
    "serial": {"two clients": _ONE_CLIENT, "half a question": _ONE_CLIENT},
    "zmq": {
        "half a question": _WHOLE_MESSAGES,
        "split": _WHOLE_MESSAGES,
        "disconnect": "it makes connections again by itself: a break is a lost answer",
    },
    "nidaqmx": {
        "two clients": "a part of an NI card is reserved by one program at a time",
        "half a question": _WHOLE_MESSAGES,
        "split": _WHOLE_MESSAGES,
    },
}
"""What of the kit has no meaning on a kind of wire, and why."""
_real = SystemClock()


@dataclass
class Found:
    """What the first test found out about the driver's signals, for the others."""

    steady: list[str] = field(default_factory=list[str])
    """Those that read the same again and again."""
    asked: list[str] = field(default_factory=list[str])
    """Those of them that are asked for over the wire."""


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
    found: Found = field(default_factory=Found, compare=False)


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
        self.port = 0
        """TCP port of the instrument; 0 on a serial line."""
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
            transport = recorded(transport, wire)
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
    def scheme(self) -> str:
        """Kind of wire the driver is tried on: tcp, serial, zmq or nidaqmx."""
        return self.address.partition("://")[0]

    def does_not_apply(self, what: str) -> str:
        """Why something has no meaning on this kind of wire; "" if it has one."""
        return NOT_APPLICABLE.get(self.scheme, {}).get(what, "")

    def take_away(self) -> type[DeviceError]:
        """Make the instrument vanish from its wire; the error that a question then ends with."""
        if self.scheme == "serial":  # the port stays
            self.fault("silent")
            return NoAnswerError
        self.fault("refuse")
        self.wait(0.1)  # connections that are there are dropped
        return NoAnswerError if self.scheme == "zmq" else NotConnectedError

    @property
    def nowhere(self) -> str:
        """An address of the same kind where there is nothing."""
        if self.scheme == "serial":
            return "serial:///dev/labctl-no-such-port"
        return self.address.replace(str(self.port), str(free_port()), 1)

    def steady(self, device: Device) -> dict[str, Any]:
        """Signals that read the same three times, the laboratory's time moving on, and their values.

        If there are none, those that stay within their tolerance: of a measured voltage no two readings are equal.
        """
        found = self.choice.found
        if not found.steady:
            found.steady += self._find_steady(device)
        return {name: device.signal(name).get() for name in found.steady}

    def questions(self, wire: Wire, device: Device, steady: Mapping[str, Any]) -> list[str]:
        """Steady signals that are asked for over the wire: numbers and switches first, text last."""
        found = self.choice.found
        if not found.asked:
            asked = [name for name in steady if wire.sent_by(device.signal(name).get)]
            found.asked += sorted(asked, key=lambda name: type(device).signals[name].kind is str)
        return found.asked

    def _find_steady(self, device: Device) -> list[str]:
        readings: list[dict[str, Any]] = []
        for _ in range(3):
            readings.append({name: device.signal(name).get() for name in type(device).signals})
            self.clock.advance(1.0)
        first, *others = readings
        equal = [name for name, value in first.items() if all(one[name] == value for one in others)]
        return equal or [
            name
            for name, value in first.items()
            if all(alike(device, name, one[name], value) for one in others)
        ]

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
        """On the kind of wire that the driver's documentation names first."""
        self.sim = sim
        lock = threading.RLock()
        if isinstance(sim, OwnServer):
            self.port = sim.listen(lock, HOST, 0)
            self._close = [sim.close]
            self.address = f"nidaqmx://{HOST}:{self.port}/{sim.served_as}"
            return
        tcp, zmq = SimServer(lock, self.clock), ZmqServer(lock, self.clock)
        self._close = [tcp.close, zmq.close]
        if transports_of(self.choice.driver)[:1] == ("serial",) and len(sim.ports) == 1:
            self.address = f"serial://{tcp.serve_pty(sim)}"
        else:
            ports = {
                name: (zmq.serve if name in sim.zmq_ports else tcp.serve_tcp)(sim, name, HOST, 0)
                for name in sim.ports
            }
            first, *others = ports
            self.port = ports[first]
            options = "&".join(f"{name}={ports[name]}" for name in others)
            scheme = "zmq" if first in sim.zmq_ports else "tcp"
            self.address = f"{scheme}://{HOST}:{self.port}" + (f"?{options}" if options else "")
        tcp.start()
        zmq.start()


@dataclass(frozen=True)
class Standing:
    """A device that stays open, and what it has sent."""

    device: Device
    wire: Wire


def free_port() -> int:
    """A port nobody listens at."""
    with socket.create_server((HOST, 0)) as taken:
        return taken.getsockname()[1]


def alike(device: Device, name: str, value: Any, well: Any) -> bool:
    """Whether a signal reads as it did: the same, or within its tolerance."""
    tolerance = type(device).signals[name].tolerance
    if value == well or tolerance is None or isinstance(well, bool | str):
        return bool(value == well)
    return all(abs(one - other) <= tolerance for one, other in zip(listed(value), listed(well), strict=True))


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
