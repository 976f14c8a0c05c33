"""The simulated lab of a config: the world, its simulated instruments, and the core that plays against it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, cast

from labctl.clock import Clock, VirtualClock
from labctl.config import LabConfig, WorldConfig, card_place, merge, read_extended
from labctl.core.sim import SimCore
from labctl.errors import ConfigError
from labctl.lab import load, simulated
from labctl.sim.inprocess import Bench
from labctl.sim.instrument import OwnServer, SimInstrument
from labctl.sim.played import World
from labctl.sim.server import SimServer
from labctl.sim.zmq_server import ZmqServer
from labctl.transport import Address, SimTransport, Transport, connect, parse_address

_VISA_SOCKET = re.compile(r"TCPIP\d*::([^:]+)::(\d+)::SOCKET", re.IGNORECASE)


class Laboratory(World, Protocol):
    """What a world class must have besides what the core asks."""

    @property
    def lock(self) -> AbstractContextManager[object]:
        """Held while anybody reads or changes the world."""
        ...

    def rng(self, name: str) -> Any:
        """A random generator of its own for each component."""
        ...

    def sources(self) -> list[tuple[str, Any, str, str]]:
        """(name, value, unit, source) of every component value."""
        ...


def make_world(
    config: LabConfig, lab: Path, clock: Clock, seed: int | None = None
) -> tuple[Laboratory, dict[str, SimInstrument]]:
    """The world and its simulated instruments by device name; nothing is listening yet."""
    table = world_table(config)
    parameters = merge(read_extended(config.path.parent / table.parameters), table.changes)
    model = load(table.model, lab)
    world = cast("Laboratory", model(parameters, table.seed if seed is None else seed, clock))
    build = cast("Callable[[Laboratory, str, str, list[str]], SimInstrument]", load(table.build, lab))
    instruments: dict[str, SimInstrument] = {}
    for device, simulator in table.simulator.items():
        try:
            instruments[device] = (
                build(world, device, simulator.instrument, list(simulator.parts))
                if simulator.parts
                else simulated(simulator.instrument, lab, clock.now)
            )
        except ConfigError as error:
            raise ConfigError(f"{config.path} [world.simulator.{device}]: {error}") from None
    return world, instruments


def make_core(world: Laboratory) -> SimCore:
    """The core that plays schedules against the world."""
    return SimCore(world, world.lock, world.rng("core"))


def world_table(config: LabConfig) -> WorldConfig:
    """The ``[world]`` table; ConfigError if the lab is not a simulated one."""
    if config.world is None:
        raise ConfigError(
            f"{config.path} has no [world]: it is not a simulated lab; use one such as configs/ca40_10km.toml"
        )
    return config.world


class Instruments:
    """The simulated instruments of a lab listening at their devices' addresses."""

    def __init__(
        self, config: LabConfig, world: Laboratory, instruments: Mapping[str, SimInstrument], clock: Clock
    ) -> None:
        self._tcp = SimServer(lock=world.lock, clock=clock)
        self._zmq = ZmqServer(lock=world.lock, clock=clock)
        self._lock = world.lock
        self._own: dict[str, tuple[str, OwnServer]] = {}
        self.listening: dict[str, str] = {}
        """Device -> address served."""
        try:
            for device, instrument in instruments.items():
                self._serve(device, instrument, config.device[device].address)
        except BaseException:
            self.close()
            raise

    def _serve(self, device: str, instrument: SimInstrument, text: str) -> None:
        address = parse_address(text)
        if address.scheme == "nidaqmx":
            self._serve_card(device, own_server(device, instrument, address), address)
        else:
            self._serve_ports(instrument, address)
        self.listening[device] = text

    def _serve_card(self, device: str, card: OwnServer, address: Address) -> None:
        """One simulator serves a computer with a card; the other devices on the card share its address."""
        place = card_place(str(address))
        if place in self._own:
            raise ConfigError(
                f"[world.simulator.{device}]: {address} is served by [world.simulator.{self._own[place][0]}] already; a card has one simulator: remove one of the two tables"
            )
        card.listen(self._lock, address.host, address.port)
        self._own[place] = (device, card)

    def _serve_ports(self, instrument: SimInstrument, address: Address) -> None:
        for index, name in enumerate(instrument.ports):
            host, port = listening_port(address, name if index else "")
            if port is None:
                continue  # the lab does not use this port of the instrument
            if name in instrument.zmq_ports:
                self._zmq.serve(instrument, name, host, port)
            else:
                self._tcp.serve_tcp(instrument, name, host, port)

    def start(self) -> Instruments:
        """Begin to answer."""
        self._tcp.start()
        self._zmq.start()
        return self

    def close(self) -> None:
        """Stop answering and free the ports."""
        self._tcp.close()
        self._zmq.close()
        for _, card in self._own.values():
            card.close()


def own_server(device: str, instrument: SimInstrument, address: Address) -> OwnServer:
    """The instrument as one that serves a ``nidaqmx`` address; ConfigError if it does not."""
    if not isinstance(instrument, OwnServer):
        raise ConfigError(
            f"[world.simulator.{device}]: {type(instrument).__name__} is no simulated NI card, so it cannot serve {address}"
        )
    if address.target.startswith("local/"):
        raise ConfigError(
            f"[world.simulator.{device}]: {address} is a card in this computer; a simulated one needs an address such as nidaqmx://127.0.0.1:17770/{address.card}"
        )
    return instrument


def listening_port(address: Address, option: str) -> tuple[str, int | None]:
    """Host and port on which a simulated instrument has to listen; None for an option the address does not give."""
    visa = _VISA_SOCKET.fullmatch(address.target) if address.scheme == "visa" else None
    if visa is not None:
        return (visa[1], int(visa[2])) if not option else (visa[1], None)
    if address.scheme == "serial" and address.target.startswith("socket://"):
        host, _, port = address.target.removeprefix("socket://").rpartition(":")
        return host, (int(port) if not option else None)
    if address.scheme not in ("tcp", "zmq"):
        raise ConfigError(
            f"{address}: a simulated instrument listens on tcp, zmq, serial://socket://host:port or visa TCPIP SOCKET addresses only"
        )
    if not option:
        return address.host, address.port
    text = address.options.get(option)
    return address.host, (int(text) if text else None)


class InProcess:
    """How devices reach the simulated instruments in the same process: the bytes are those that a socket would carry.

    The lab file's addresses are not used, but for NI cards: gRPC needs a server, which is on a free port of loopback.

    addresses:  device -> address, of all devices with a simulator; needed for NI cards only
    """

    def __init__(
        self, instruments: Mapping[str, SimInstrument], clock: VirtualClock, addresses: Mapping[str, str]
    ) -> None:
        self._bench = Bench(instruments, clock)
        self._clock = clock
        self._cards: dict[str, int] = {}
        """Place in the lab file -> port on which the card there is served."""
        self._own: list[OwnServer] = []
        for device, instrument in instruments.items():
            address = parse_address(addresses.get(device, f"sim://{device}"))
            if address.scheme == "nidaqmx":
                card = own_server(device, instrument, address)
                self._cards[card_place(str(address))] = card.listen(None, "127.0.0.1", 0, clock.sleep)
                self._own.append(card)

    def __call__(self, text: str, device: str, timeout_s: float) -> Transport:
        """An unopened transport for a device."""
        address = parse_address(text)
        port = self._cards.get(card_place(text))
        if port is not None:
            return connect(f"nidaqmx://127.0.0.1:{port}/{address.card}", device, timeout_s)

        def connection(own: Address) -> Any:
            return self._bench.connection(device, own.options.get("port", ""))

        return SimTransport(f"sim://{device}", device, timeout_s, connection, self._clock)

    def close(self) -> None:
        """Stop serving cards."""
        for card in self._own:
            card.close()


def in_process(
    instruments: Mapping[str, SimInstrument],
    clock: VirtualClock,
    addresses: Mapping[str, str] | None = None,
) -> InProcess:
    """How devices reach simulated instruments in the same process; to be closed."""
    return InProcess(instruments, clock, addresses or {})
