"""The simulated lab of a config: the world, its simulated instruments, and the core that plays against it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, cast

from labctl.clock import Clock, VirtualClock
from labctl.config import LabConfig, WorldConfig, read_toml
from labctl.core.sim import SimCore
from labctl.errors import ConfigError
from labctl.lab import load, simulated
from labctl.sim.inprocess import Bench
from labctl.sim.instrument import SimInstrument
from labctl.sim.played import World
from labctl.sim.server import SimServer
from labctl.sim.zmq_server import ZmqServer
from labctl.transport import Address, SimTransport, Transport, parse_address

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
    file = config.path.parent / table.parameters
    model = load(table.model, lab)
    world = cast("Laboratory", model(read_toml(file), table.seed if seed is None else seed, clock))
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
        for index, name in enumerate(instrument.ports):
            host, port = listening_port(address, name if index else "")
            if port is None:
                continue  # the lab does not use this port of the instrument
            if name in instrument.zmq_ports:
                self._zmq.serve(instrument, name, host, port)
            else:
                self._tcp.serve_tcp(instrument, name, host, port)
        self.listening[device] = text

    def start(self) -> Instruments:
        """Begin to answer."""
        self._tcp.start()
        self._zmq.start()
        return self

    def close(self) -> None:
        """Stop answering and free the ports."""
        self._tcp.close()
        self._zmq.close()


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


def in_process(
    instruments: Mapping[str, SimInstrument], clock: VirtualClock
) -> Callable[[str, str, float], Transport]:
    """How devices reach the simulated instruments in the same process: the lab file's address is not used, the bytes are the same."""
    bench = Bench(instruments, clock)

    def dial(_: str, device: str, timeout_s: float) -> Transport:
        def connection(address: Address) -> Any:
            return bench.connection(device, address.options.get("port", ""))

        return SimTransport(f"sim://{device}", device, timeout_s, connection, clock)

    return dial
