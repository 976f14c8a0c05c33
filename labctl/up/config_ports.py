"""Copies of a lab on other ports, so that two can be up at once."""

from __future__ import annotations

import re
from typing import Any, cast

from labctl.config import LabConfig, build, simulated_devices
from labctl.up.free_ports import free_ports

_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost)(::?)(\d+)")
_OPTION = re.compile(r"([?&][a-z]\w*=)(\d{4,5})(?!\d)")


def with_free_ports(config: LabConfig, name: str = "") -> LabConfig:
    """The same lab with every loopback port of its simulated devices, and its hub's, replaced by a free one.

    A port that several devices share, as those on one NI card do, stays shared. The ports are kept for this process.

    name:  of the copy
    """
    simulated = simulated_devices(config)
    ports: dict[str, str] = {}
    tables: dict[str, Any] = dict(config.effective)

    def free(old: str) -> str:
        if old not in ports:
            ports[old] = str(free_ports(1)[0])
        return ports[old]

    def moved(address: str) -> str:
        address = _LOOPBACK.sub(lambda m: f"{m[1]}{m[2]}{free(m[3])}", address)
        return _OPTION.sub(lambda m: m[1] + free(m[2]), address)

    tables["hub"] = {**tables.get("hub", {}), "address": moved(config.hub.address)}
    tables["device"] = {
        node: {
            device: {**table, "address": moved(table["address"])}
            if f"{node}.{device}" in simulated
            else table
            for device, table in cast("dict[str, dict[str, Any]]", group).items()
        }
        for node, group in cast("dict[str, Any]", tables.get("device", {})).items()
    }
    if name:
        tables["name"] = name
    return build(config.path, tables)
