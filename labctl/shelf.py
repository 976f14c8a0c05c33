"""The shelf: every driver there is, in the lab folder and in installed packages, and the simulator it comes with."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.device import Device
from labctl.errors import ConfigError
from labctl.lab import DRIVERS, SIMULATORS, find_driver, installed, load
from labctl.sim.instrument import SimInstrument

_ADDRESS = re.compile(r"\b(tcp|serial|visa|zmq|grpc|usb|nidaqmx)://")


@dataclass(frozen=True)
class Shelved:
    """One driver."""

    driver: str
    """What a lab file writes after ``driver =``."""
    transports: tuple[str, ...]
    """Kinds of addresses that the driver's documentation names."""
    manual: str
    checked_with: str
    simulator: str
    """What a lab file writes after ``instrument =``; "" for none."""
    kit: bool
    """Whether ``labctl.conformance`` can try the driver on its simulator: the simulator's module has a ``demo``."""
    package: str
    """The installed package it comes from; "" for the lab folder."""
    problem: str = ""
    """Why it cannot be used."""


def shelf(lab: Path) -> list[Shelved]:
    """Every driver of the lab folder, by file, and of installed packages, by name.

    A file that cannot be imported, or a driver that cannot be loaded, is listed with its problem.
    """
    found: list[Shelved] = []
    for file in sorted((lab / "drivers").glob("*.py")):
        if file.stem != "__init__":
            found += _in_file(file.stem, lab)
    for name, point in sorted(installed(DRIVERS).items()):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        try:
            found.append(_shelved(name, find_driver(f"entry:{name}", lab), lab, package))
        except ConfigError as error:
            found.append(Shelved(name, (), "", "", "", False, package, str(error)))
    return found


def simulator_of(driver: str, lab: Path) -> str:
    """Name of the simulated instrument that belongs to a driver; "" if there is none.

    For ``drivers.x:X`` it is what X says in ``simulator``, else the instrument that ``demo`` of ``simulated_hw.x``
    makes (without a ``demo``, the first there); for a driver of an installed package, what the package provides under the same name.
    """
    module_name, colon, _ = driver.partition(":")
    if not colon or module_name == "entry":
        name = driver.removeprefix("entry:")
        return f"entry:{name}" if name in installed(SIMULATORS) else ""
    if said := find_driver(driver, lab).simulator:
        load(said, lab)
        return said
    name = f"simulated_hw.{module_name.partition('.')[2]}"
    if not (lab / f"{name.replace('.', '/')}.py").is_file():
        return ""
    load(f"{name}:__name__", lab)
    module = sys.modules[name]
    classes = [cls.__name__ for cls in _own_classes(module, SimInstrument)]
    made = inspect.signature(module.demo).return_annotation if hasattr(module, "demo") else None
    wanted = made if isinstance(made, str) else getattr(made, "__name__", "")
    if wanted in classes:
        return f"{name}:{wanted}"
    return f"{name}:{classes[0]}" if classes else ""


def transports_of(cls: type[Device]) -> tuple[str, ...]:
    """Kinds of addresses that a driver's documentation names, in that order."""
    documented = "\n".join(filter(None, (sys.modules[cls.__module__].__doc__, cls.__doc__)))
    return tuple(dict.fromkeys(_ADDRESS.findall(documented)))


def _in_file(stem: str, lab: Path) -> list[Shelved]:
    name = f"drivers.{stem}"
    try:
        load(f"{name}:__name__", lab)
        drivers = [cls for cls in _own_classes(sys.modules[name], Device) if cls.manual and not _is_base(cls)]
        return [_shelved(f"{name}:{cls.__name__}", cls, lab) for cls in drivers]
    except (ConfigError, ImportError, SyntaxError) as error:
        return [Shelved(name, (), "", "", "", False, "", str(error))]


def _shelved(driver: str, cls: type[Device], lab: Path, package: str = "") -> Shelved:
    try:
        simulator, problem = simulator_of(driver, lab), ""
    except (ConfigError, ImportError, SyntaxError) as error:
        simulator, problem = "", f"its simulator cannot be used: {error}"
    kit = bool(simulator) and _has_demo(simulator)
    return Shelved(driver, transports_of(cls), cls.manual, cls.checked_with, simulator, kit, package, problem)


def _is_base(cls: type[Device]) -> bool:
    """Whether it is only derived from: it has no signal, so nothing to control by itself, but classes derived from it."""
    return not cls.signals and bool(cls.__subclasses__())


def _has_demo(simulator: str) -> bool:
    name = simulator.partition(":")[0]
    if name == "entry":
        name = installed(SIMULATORS)[simulator.partition(":")[2]].module
    return hasattr(importlib.import_module(name), "demo")


def _own_classes(module: Any, base: type[Any]) -> list[type[Any]]:
    """Classes defined in the module itself that derive from ``base``."""
    classes = [cls for _, cls in inspect.getmembers(module, inspect.isclass)]
    return [cls for cls in classes if issubclass(cls, base) and cls.__module__ == module.__name__]
