"""The processes of a lab: ``python -m labctl.up.process hub|host|world``. Each serves until its standard input closes.

The supervisor holds the other end of that pipe, so a supervisor that dies, however it dies, takes its lab down in
good order. The first line on standard output says that the process serves, as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import msgspec

from labctl.bus.host import Host
from labctl.bus.hub import Hub
from labctl.bus.owner import HostedDevice
from labctl.bus.service import HostedService
from labctl.clock import ScaledClock
from labctl.config import LabConfig, build
from labctl.core.session import CoreSession
from labctl.errors import ConfigError, LabError
from labctl.lab import device_maker
from labctl.log import to_file
from labctl.transport import parse_address
from labctl.up.services import CoreService, WorldControl
from labctl.up.world import Instruments, make_core, make_world, world_table

QUIT, SAFE = "quit", "safe"
Serving = tuple[dict[str, Any], Callable[[bool], None]]
"""What to report once serving, and how to close (making instruments safe or not)."""


class Task(msgspec.Struct, frozen=True):
    """What a process has to do; given as JSON on its command line.

    role:    "hub", "host" or "world"
    config:  path of the lab file
    tables:  file with the effective tables (JSON)
    lab:     lab folder
    hub:     address of the hub
    node:    of a host
    log:     log file
    safe:    folder that remembers which devices of a host were made safe
    """

    role: str
    config: str
    tables: str
    lab: str
    hub: str
    node: str = ""
    log: str = ""
    safe: str = ""


def only_here(task: Task) -> None:
    """ConfigError if the hub is to be reached from other machines: nobody is asked who he is, and devices listen on loopback."""
    host = urlsplit(f"//{parse_address(task.hub).target}").hostname or ""
    try:
        here = ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    if not here:
        raise ConfigError(
            f"{task.config} [hub]: address {task.hub} is not loopback, and labctl does not yet open devices to other machines; CURVE keys come first; use tcp://127.0.0.1:PORT"
        )


def serve_hub(task: Task) -> Serving:
    """The hub."""
    hub = Hub(task.hub).start()
    return {"hub": hub.addresses.registry}, lambda _: hub.close()


def serve_host(task: Task, config: LabConfig) -> Serving:
    """The devices of one node."""
    lab = Path(task.lab)
    devices = [
        HostedDevice(name, device_maker(config, name, lab), table.state, not table.optional)
        for name, table in config.device.items()
        if name.partition(".")[0] == task.node
    ]
    host = Host(task.node, devices, task.hub, safe_marks=Path(task.safe) if task.safe else None).start()
    return {"node": task.node, "devices": len(devices)}, lambda safe: _said(host.close(safe))


def serve_world(task: Task, config: LabConfig) -> Serving:
    """The simulated world: instruments on their ports, core and world control on the bus."""
    clock = ScaledClock(world_table(config).speed)
    world, simulated = make_world(config, Path(task.lab), clock)
    instruments = Instruments(config, world, simulated, clock).start()
    core = CoreService(CoreSession(make_core(world)))
    services = [HostedService("core", core), HostedService("world", WorldControl(world, simulated, clock))]
    host = Host("world", [], task.hub, services=services).start() if task.hub else None

    def close(_: bool) -> None:
        if host is not None:
            host.close()
        core.close()
        instruments.close()

    return {"listening": instruments.listening}, close


def main(arguments: list[str]) -> int:
    """Serve one task until standard input ends or says so; exit code 1 with one line if it cannot begin."""
    task = msgspec.json.decode(arguments[0], type=Task)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's business
    to_file(Path(task.log), task.node or task.role)
    try:
        if task.hub:
            only_here(task)
        if task.role == "hub":
            report, close = serve_hub(task)
        else:
            config = build(Path(task.config), msgspec.json.decode(Path(task.tables).read_bytes()))
            report, close = serve_host(task, config) if task.role == "host" else serve_world(task, config)
    except LabError as error:
        print(json.dumps({"error": type(error).__name__, "text": str(error)}), flush=True)
        return 1
    except Exception as error:
        logging.getLogger(__name__).exception("cannot begin")
        text = f"process {task.node or task.role} failed: {type(error).__name__}: {error}; traceback in {task.log}"
        print(json.dumps({"error": "LabError", "text": text}), flush=True)
        return 1
    orders: SimpleQueue[str] = SimpleQueue()  # (an event set in a signal handler can wait for itself)

    def end(*_: object) -> None:
        orders.put(SAFE)

    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    print(json.dumps(report), flush=True)
    close(orders.get() == SAFE)
    return 0


def _listen(orders: SimpleQueue[str]) -> None:
    """Wait for the supervisor's word, or for its end."""
    for line in sys.stdin:
        if line.strip() in (QUIT, SAFE):
            orders.put(line.strip())
            return
    orders.put(SAFE)


def _said(failures: dict[str, str]) -> None:
    for device, text in failures.items():
        logging.getLogger(__name__).error("%s: %s", device, text)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)  # a driver thread stuck in an instrument must not keep the process
