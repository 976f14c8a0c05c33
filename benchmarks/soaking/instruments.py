"""The simulated instruments of the soak on real sockets, in a process of their own that its parent asks to switch faults."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))


def unplaced(now: Callable[[], float]) -> dict[str, Any]:
    """Simulated instruments whose module has no ``demo``, or one in the dark, over parts of their own: driver file -> instrument."""
    import numpy as np

    from simulated_hw.scpi_generator import SimKeysight33622A
    from simulated_hw.single_quantum_atlas import SimAtlas
    from simulated_hw.timebase_dim3000 import SimTimebaseDim3000
    from simulated_hw.world.parts import Nanowire, RfChannel

    rng = np.random.default_rng(1)
    lit = SimAtlas([Nanowire(), Nanowire()], lambda begin_s, end_s: [round(1e4 * (end_s - begin_s))] * 2, now)
    return {
        "single_quantum_atlas": lit,
        "scpi_generator": SimKeysight33622A([RfChannel(), RfChannel()], now, rng),
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
def served() -> Generator[tuple[dict[str, Any], list[tuple[str, str, str]]]]:
    """Every simulated instrument by name; and instrument, driver and address of every device."""
    from labctl.lab import simulated
    from labctl.shelf import shelf
    from labctl.sim.server import SimServer
    from labctl.sim.zmq_server import ZmqServer

    lock, now = threading.RLock(), time.monotonic
    others = unplaced(now)
    instruments: dict[str, Any] = {}
    devices: list[tuple[str, str, str]] = []
    tcp, zmq, card = SimServer(lock), ZmqServer(lock), ni_card(now)
    for one in shelf(ROOT):
        name = one.driver.partition(":")[0].rpartition(".")[2]
        if one.package or name == "ni_daq":
            continue
        sim = others[name] if name in others else simulated(one.simulator, ROOT, now)
        instruments[name] = sim
        if len(sim.ports) == 1 and one.transports[0] == "serial":
            devices.append((name, one.driver, f"serial://{tcp.serve_pty(sim)}"))
            continue
        ports = {
            port: (zmq.serve if port in sim.zmq_ports else tcp.serve_tcp)(sim, port) for port in sim.ports
        }
        first, *further = ports
        options = "&".join(f"{port}={ports[port]}" for port in further)
        scheme = "zmq" if first in sim.zmq_ports else one.transports[0]
        where = (
            f"TCPIP::127.0.0.1::{ports[first]}::SOCKET" if scheme == "visa" else f"127.0.0.1:{ports[first]}"
        )
        devices.append((name, one.driver, f"{scheme}://{where}" + (f"?{options}" if options else "")))
    instruments["ni_daq"] = card
    number = card.listen(lock)
    for role in ("NiCounter", "NiAnalogOut", "NiShutter"):
        devices.append(("ni_daq", f"drivers.ni_daq:{role}", f"nidaqmx://127.0.0.1:{number}/Dev1"))
    with tcp, zmq:
        yield instruments, devices
        card.close()


def serve() -> None:
    """Serve until standard input ends; a JSON line in, a JSON line out."""
    with served() as (instruments, devices):
        print(json.dumps(devices), flush=True)
        for line in sys.stdin:
            order: list[Any] = json.loads(line)
            if order[0] == "on":
                for kind, amount in order[2]:
                    instruments[order[1]].faults.switch(kind, amount)
            elif order[0] == "off":
                instruments[order[1]].faults.clear()
            print(json.dumps(usage()), flush=True)


class Instruments:
    """The process of the instruments, from here."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.devices: list[tuple[str, str, str]] = [tuple(one) for one in self._read()]

    def ask(self, *order: Any) -> dict[str, float]:
        """Switch faults; what the process uses."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self._process.communicate(timeout=20)

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def usage() -> dict[str, float]:
    """Open descriptors, threads and resident memory of this process.

    Workers of the simulated card's gRPC pool are not counted: they are made as calls overlap, kept, and bounded.
    """
    workers = sum(thread.name.startswith("simulated-nidaqmx_") for thread in threading.enumerate())
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "descriptors": len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208  (the listing itself is one)
        "threads": len(os.listdir("/proc/self/task")) - workers,  # noqa: PTH208
        "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
    }


if __name__ == "__main__":
    serve()
