"""A device of the lab as ARTIQ sees a controller: ``get_SIGNAL()``, ``set_SIGNAL(value)``, its actions, ``ping()``."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from labctl.bus.client import Client
from labctl.ndsp.rpc import Method, RpcServer

FIRST_PORT = 3300
"""Of the first device of a lab; the others follow, sorted by name."""
_NAME = re.compile(r"[(,]\s*\*{0,2}(\w+)")


def target_name(device: str) -> str:
    """``alice.laser_397`` -> ``alice_laser_397``: the device's name in ARTIQ, an identifier."""
    return device.replace(".", "_")


def ports(devices: Sequence[str], first: int = FIRST_PORT) -> dict[str, int]:
    """Device -> port; always the same for the devices of a lab, whichever of them are served."""
    return {device: first + index for index, device in enumerate(sorted(devices))}


def methods(client: Client, device: str) -> dict[str, Method]:
    """What can be called of a device; values in SI units."""
    described = client.describe(device)
    found: dict[str, Method] = {}
    for name, signal in described.get("signals", {}).items():
        unit = signal["unit"] or "no unit"
        found[f"get_{name}"] = Method(
            partial(client.get, f"{device}.{name}"), (), f"{signal['doc']} Returns {unit}."
        )
        if signal["writable"]:
            found[f"set_{name}"] = Method(
                _setter(client, f"{device}.{name}"), ("value",), f"{signal['doc']} In {unit}."
            )
    for name, action in described.get("actions", {}).items():
        found[name] = Method(
            partial(client.call, f"{device}.{name}", timeout_s=60.0),
            tuple(_NAME.findall(action.get("arguments", "").partition(")")[0])),
            action.get("doc") or "",
        )
    found["safe"] = Method(
        partial(client.safe, [device]), (), "Outputs off; stays so until `labctl restore`."
    )
    found["ping"] = Method(partial(_ping, client, device), (), "True if the device's host answers.")
    return found


def _setter(client: Client, name: str) -> Callable[[Any], None]:
    device, _, signal = name.rpartition(".")

    def write(value: Any) -> None:
        client.set(name, value)

    write.__qualname__ = f"{device}.set_{signal}"  # what Python says when a call has the wrong arguments
    return write


def _ping(client: Client, device: str) -> bool:
    client.ping(device)
    return True


class ServedDevices:
    """Each device on a port of its own, until ``close`` or until a client has asked each of them to terminate.

    ended:  set once no device is served any more
    """

    def __init__(
        self, client: Client, device_ports: dict[str, int], hosts: Sequence[str] = ("127.0.0.1",)
    ) -> None:
        self.ended = threading.Event()
        self.ports: dict[str, int] = {}
        self._serving = {*device_ports}
        self._mutex = threading.Lock()
        with ExitStack() as opened:
            for device, port in device_ports.items():
                server = RpcServer(
                    {target_name(device): methods(client, device)},
                    f"labctl: {device}",
                    hosts,
                    port,
                    partial(self._terminate, device),
                )
                opened.callback(server.close)
                self.ports[device] = server.port
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Free all ports."""
        self._opened.close()

    def _terminate(self, device: str) -> None:
        with self._mutex:
            self._serving.discard(device)
            if not self._serving:
                self.ended.set()


def device_db(devices: Sequence[str], first_port: int = FIRST_PORT, host: str = "127.0.0.1") -> str:
    """Entries for ARTIQ's ``device_db.py``: each device a controller that ARTIQ's controller manager starts.

    Source: ARTIQ.md section 3, controller conventions.
    """
    lines = [
        "# Devices of labctl as ARTIQ controllers; the lab has to be up. Add to device_db.py.",
        "device_db.update({",
    ]
    for device, port in ports(devices, first_port).items():
        command = f"labctl serve --ndsp {device} -p {{port}} --bind {{bind}}"
        lines += [
            f'    "{target_name(device)}": {{',
            '        "type": "controller",',
            f'        "host": "{host}",',
            f'        "port": {port},',
            f'        "target_name": "{target_name(device)}",',
            f'        "command": "{command}",',
            "    },",
        ]
    return "\n".join([*lines, "})"])
