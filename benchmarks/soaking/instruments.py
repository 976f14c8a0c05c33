"""The simulated instruments of the soak on real sockets, in processes of their own that their parent asks to switch faults."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.soaking.child import serve  # noqa: E402

GROUPS = ("instruments", "NI card")
"""What is served by a process each."""
NI_ROLES = ("NiCard", "NiCounter", "NiAnalogOut", "NiShutter")

Device = tuple[str, str, str, str]
"""Name, instrument, driver and address."""


def generators(now: Callable[[], float], rng: Any) -> dict[str, Any]:
    """A bench generator of each dialect: name of the instrument (which ends in the dialect) -> instrument."""
    from simulated_hw.scpi_generator import SimKeysight33622A, SimRigolDg4102, SimSmb100A
    from simulated_hw.world.parts import RfChannel

    return {
        "scpi_generator_rigol": SimRigolDg4102([RfChannel(), RfChannel()], now, rng),
        "scpi_generator_keysight": SimKeysight33622A([RfChannel(), RfChannel()], now, rng),
        "scpi_generator_rohde_schwarz": SimSmb100A([RfChannel()], now, rng),
    }


def unplaced(now: Callable[[], float]) -> dict[str, Any]:
    """Simulated instruments whose module has no ``demo``, or one in the dark, over parts of their own: driver file -> instrument."""
    import numpy as np

    from simulated_hw.single_quantum_atlas import SimAtlas
    from simulated_hw.timebase_dim3000 import SimTimebaseDim3000
    from simulated_hw.world.parts import Nanowire, RfChannel

    rng = np.random.default_rng(1)
    lit = SimAtlas([Nanowire(), Nanowire()], lambda begin_s, end_s: [round(1e4 * (end_s - begin_s))] * 2, now)
    return {
        "single_quantum_atlas": lit,
        "timebase_dim3000": SimTimebaseDim3000(RfChannel(), now, rng),
    }


def ni_card(now: Callable[[], float]) -> Any:
    """An NI card with a detector, a piezo and a shutter on it."""
    import numpy as np

    from simulated_hw.ni_daqmx import SimNiDaq
    from simulated_hw.world.card_wiring import CardWiring

    wiring = CardWiring(
        clicks={"PFI8": lambda after_s, until_s: int(until_s * 2e4) - int(after_s * 2e4)},
        outputs={"ao0": lambda volts: None},
        switches={"port0/line0": lambda level: None},
    )
    return SimNiDaq(wiring, now, np.random.default_rng(1))


@contextlib.contextmanager
def served_card() -> Generator[tuple[dict[str, Any], list[Device], list[Any]]]:
    """The NI card by name, a device of each of its roles, and no servers: it has its own."""
    card = ni_card(time.monotonic)
    number = card.listen(threading.RLock())
    address = f"nidaqmx://127.0.0.1:{number}/Dev1"
    yield {"ni_daq": card}, [(role, "ni_daq", f"drivers.ni_daq:{role}", address) for role in NI_ROLES], []
    card.close()


@contextlib.contextmanager
def served() -> Generator[tuple[dict[str, Any], list[Device], list[Any]]]:
    """Every other simulated instrument by name, a device of each, and the servers."""
    import numpy as np

    from labctl.lab import simulated
    from labctl.shelf import shelf
    from labctl.sim.server import SimServer
    from labctl.sim.zmq_server import ZmqServer

    lock, now = threading.RLock(), time.monotonic
    others = unplaced(now)
    instruments: dict[str, Any] = {}
    devices: list[Device] = []
    tcp, zmq = SimServer(lock), ZmqServer(lock)

    def serve_one(device: str, name: str, driver: str, sim: Any, wire: str) -> None:
        instruments[name] = sim
        if len(sim.ports) == 1 and wire == "serial":
            devices.append((device, name, driver, f"serial://{tcp.serve_pty(sim)}"))
            return
        ports = {
            port: (zmq.serve if port in sim.zmq_ports else tcp.serve_tcp)(sim, port) for port in sim.ports
        }
        first, *further = ports
        options = "&".join(f"{port}={ports[port]}" for port in further)
        scheme = "zmq" if first in sim.zmq_ports else wire
        at = f"127.0.0.1:{ports[first]}"
        where = f"TCPIP::127.0.0.1::{ports[first]}::SOCKET" if scheme == "visa" else at
        devices.append((device, name, driver, f"{scheme}://{where}" + (f"?{options}" if options else "")))

    for one in shelf(ROOT):
        module, _, device = one.driver.partition(":")
        name = module.rpartition(".")[2]
        if one.package or name == "ni_daq":
            continue
        if name == "scpi_generator":
            for each, sim in generators(now, np.random.default_rng(1)).items():
                dialect = each.removeprefix("scpi_generator_")
                serve_one(f"{device}_{dialect}", each, one.driver, sim, one.transports[0])
            continue
        sim = others[name] if name in others else simulated(one.simulator, ROOT, now)
        serve_one(device, name, one.driver, sim, one.transports[0])
    with tcp, zmq:
        yield instruments, devices, [tcp, zmq]


def main(group: str) -> None:
    """Serve one of GROUPS until standard input ends."""
    with (served_card if group == GROUPS[1] else served)() as (instruments, devices, servers):

        def obey(switch: str, name: str, kinds: list[tuple[str, float]]) -> int | None:
            if switch == "held":
                return sum(server.held(instruments[name]) for server in servers)
            faults = instruments[name].faults
            if switch == "off":
                faults.clear()
            for kind, amount in kinds:
                faults.switch(kind, amount)
            return None

        serve(devices, obey)


if __name__ == "__main__":
    main(sys.argv[1])
