"""Find the lab folder, import code from it and from nowhere else, build its devices and schedules."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_type_hints

from labctl.config import LabConfig
from labctl.device import Device
from labctl.errors import ConfigError, LimitError, ScheduleError
from labctl.schedule.items import Schedule
from labctl.sim.instrument import SimInstrument
from labctl.transport import Transport, connect
from labctl.units import parse_quantity, s

Connect = Callable[[str, str, float], Transport]
SEQUENCE, PROCEDURE = "Schedule", "Figures"
"""What a function in ``sequences/`` returns if it is one."""
DRIVERS, SIMULATORS = "labctl.drivers", "labctl.simulators"
"""Entry point groups: installed packages provide drivers, and simulated instruments of the same names."""


def folder_of(config_file: Path) -> Path:
    """The lab folder of a lab file: the nearest folder above it that has ``configs/``, else ``LABCTL_LAB``, else the one shipped with labctl."""
    for parent in config_file.resolve().parents:
        if (parent / "configs").is_dir():
            return parent
    return find()


def find() -> Path:
    """The lab folder without a lab file: ``$LABCTL_LAB``, the nearest parent of the working directory with ``configs/``, or the one shipped with labctl."""
    named = os.environ.get("LABCTL_LAB")
    if named:
        if not (Path(named) / "configs").is_dir():
            raise ConfigError(f"LABCTL_LAB={named}: that folder has no configs/; point it at a lab folder")
        return Path(named).resolve()
    here = Path.cwd()
    for parent in (here, *here.parents):
        if (parent / "configs").is_dir() and (parent / "drivers").is_dir():
            return parent
    return shipped()


def shipped() -> Path:
    """The lab folder that comes with labctl: the checkout's, or the copy inside the installed package."""
    package = Path(__file__).resolve().parent
    for folder in (package.parent, package / "_lab"):
        if (folder / "configs").is_dir():
            return folder
    raise ConfigError("no lab folder found: run labctl inside one, or set LABCTL_LAB")


def load(name: str, lab: Path) -> Any:
    """The object called "module:name" from the lab folder; refuses a module that lies elsewhere."""
    module_name, _, attribute = name.partition(":")
    if not attribute:
        raise ConfigError(f'{name!r} is not of the form "module:name", e.g. "drivers.toptica_dlcpro:DlcPro"')
    module = _module(module_name, lab)
    if not hasattr(module, attribute):
        names = [n for n in vars(module) if not n.startswith("_")]
        near = difflib.get_close_matches(attribute, names, 1)
        raise ConfigError(
            f"{name}: {module_name} has no {attribute!r}{f'; did you mean {near[0]!r}?' if near else ''}"
        )
    return getattr(module, attribute)


def _module(name: str, lab: Path) -> ModuleType:
    folder = str(lab)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            package = lab / name.split(".")[0]
            there = (
                sorted(p.stem for p in package.glob("*.py") if p.stem != "__init__")
                if package.is_dir()
                else []
            )
            near = difflib.get_close_matches(name.split(".")[-1], there, 1)
            hint = (
                f"; did you mean {name.rpartition('.')[0]}.{near[0]}?"
                if near
                else f"; there are {', '.join(there) or 'none'}"
            )
            raise ConfigError(f"no module {name} in the lab folder {lab}{hint}") from None
        raise ConfigError(
            f"{name} needs the package {error.name!r}, which is not installed; install it in labctl's environment"
        ) from None
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).resolve().is_relative_to(lab.resolve()):
        raise ConfigError(
            f"{name} was found at {file}, outside the lab folder {lab}: another package has the same name"
        )
    return module


def installed(group: str) -> dict[str, EntryPoint]:
    """What installed packages offer under an entry point group, by name."""
    return {point.name: point for point in entry_points(group=group)}


def find_driver(name: str, lab: Path) -> type[Device]:
    """The driver class that a lab file calls ``name``: "module:Class" in the lab folder, "entry:NAME" or just NAME.

    The latter two are drivers of installed packages, found by the entry point group ``labctl.drivers``. ConfigError says
    what is missing.
    """
    cls = _named(name, lab, DRIVERS)
    if not (isinstance(cls, type) and issubclass(cls, Device)):
        raise ConfigError(f"{name} is not a driver (a class derived from labctl.device.Device)")
    return cls


def simulated(name: str, lab: Path, now: Callable[[], float]) -> SimInstrument:
    """A simulated instrument over parts of its own: what ``demo(now)`` of the class's module makes, else ``Class()``.

    name:  "module:Class" in the lab folder, or "entry:NAME" of the entry point group ``labctl.simulators``
    now:   the laboratory's time, s; given to ``demo`` if it takes it, as is the class as ``kind``
    """
    cls = _named(name, lab, SIMULATORS)
    make = getattr(sys.modules[cls.__module__], "demo", cls)
    offered = {"now": now, "kind": cls}
    wanted = inspect.signature(make).parameters
    try:
        made: Any = make(**{name: value for name, value in offered.items() if name in wanted})
    except TypeError as error:
        raise ConfigError(
            f"{name} cannot be made without the world ({error}); give its parts, or its module a demo()"
        ) from None
    if not isinstance(made, SimInstrument):
        raise ConfigError(
            f"{name} is not a simulated instrument (derived from labctl.sim.instrument.SimInstrument)"
        )
    return made


def _named(name: str, lab: Path, group: str) -> Any:
    """What "module:attribute", "entry:NAME" or NAME stands for."""
    kind, colon, entry = name.partition(":")
    if colon and kind != "entry":
        return load(name, lab)
    entry = entry if colon else name
    there = installed(group)
    if entry not in there:
        near = difflib.get_close_matches(entry, there, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"installed are {', '.join(there) or 'none'}"
        raise ConfigError(
            f'{name!r} is neither "module:Class" in the lab folder nor provided by an installed package'
            f" (entry point group {group}); {hint}"
        )
    try:
        return there[entry].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{name!r}: {there[entry].value}, which an installed package provides, cannot be loaded ({error})"
        ) from None


def driver_class(config: LabConfig, device: str, lab: Path) -> type[Device]:
    """The driver class of a device; ConfigError names file, table and what is wrong."""
    try:
        return find_driver(config.device[device].driver, lab)
    except ConfigError as error:
        raise ConfigError(f"{config.path} [device.{device}] driver: {error}") from None


def device_maker(config: LabConfig, device: str, lab: Path, dial: Connect = connect) -> Callable[[], Device]:
    """A function that makes the device, unopened; options, limits and declared state are checked now."""
    table = config.device[device]
    cls = driver_class(config, device, lab)
    place = f"{config.path} [device.{device}]"
    parameters = [
        p for p in inspect.signature(cls.__init__).parameters if p not in ("self", "transport", "name")
    ]
    for key in table.options:
        if key not in parameters:
            raise ConfigError(
                f"{place} options: {cls.__name__} has no option {key!r}; it has {', '.join(parameters) or 'none'}"
            )
    for what, keys in (("limits", table.limits), ("state", table.state)):
        for key in keys:
            if key not in cls.signals:
                near = difflib.get_close_matches(key, list(cls.signals), 1)
                raise ConfigError(
                    f"{place} {what}: {cls.__name__} has no signal {key!r}{f'; did you mean {near[0]!r}?' if near else ''}"
                )

    def make() -> Device:
        made = cls(
            dial(table.address, device, table.timeout_s), device, **cast("dict[str, Any]", table.options)
        )
        made.timeout_s = table.timeout_s
        made.narrow(table.limits)
        return made

    return make


def sequence_names(config: LabConfig, lab: Path) -> dict[str, str]:
    """Short name -> "module:function" of every sequence the lab file names, or that lies in ``sequences/`` under its own name."""
    found = {name: f"sequences.{name}:{name}" for name, kind in library(lab).items() if kind == SEQUENCE}
    return {**found, **config.sequences}


def procedure_names(lab: Path) -> list[str]:
    """The procedures (several runs with something done between them) that lie in ``sequences/`` under their own names."""
    return [name for name, kind in library(lab).items() if kind == PROCEDURE]


def library(lab: Path) -> dict[str, str]:
    """What each file in ``sequences/`` has a function of its own name for, by what that returns; nothing is imported.

    SEQUENCE and PROCEDURE are kinds; a file that only serves others is left out, one that cannot be read counts as a sequence.
    """
    found: dict[str, str] = {}
    for file in sorted((lab / "sequences").glob("*.py")):
        try:
            parts = ast.parse(file.read_text(encoding="utf-8")).body
        except (OSError, SyntaxError, UnicodeDecodeError):
            found[file.stem] = SEQUENCE  # importing it will say what is wrong
            continue
        for part in parts:
            if isinstance(part, ast.FunctionDef) and part.name == file.stem:
                found[file.stem] = ast.unparse(part.returns) if part.returns else SEQUENCE
    return found


def schedule(config: LabConfig, lab: Path, sequence: str, settings: Mapping[str, str]) -> Schedule:
    """Call a sequence with arguments given as text (``alpha=0.05``, ``window=60ns``) and return its schedule.

    What is not given comes from the lab file's ``[arguments]``, else from the sequence itself.
    """
    names = sequence_names(config, lab)
    for meant in config.arguments:
        if meant not in names:
            near = difflib.get_close_matches(meant, list(names), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"{config.path}: [arguments.{meant}] is for no sequence of this lab{hint}; there are {', '.join(names)}"
            )
    if sequence not in names:
        procedures = procedure_names(lab)
        if sequence in procedures:
            raise ConfigError(
                f"{sequence} is a procedure (several runs), not a sequence; `labctl demo` takes the one its lab file names"
            )
        near = difflib.get_close_matches(sequence, list(names), 1)
        raise ConfigError(
            f"no sequence {sequence!r}{f'; did you mean {near[0]!r}?' if near else ''}; there are {', '.join(names)}"
            + (f"; procedures, for `labctl demo`: {', '.join(procedures)}" if procedures else "")
        )
    function = load(names[sequence], lab)
    signature = inspect.signature(function)
    hints = get_type_hints(function)
    arguments: dict[str, Any] = {}
    of_lab = {key: str(value) for key, value in config.arguments.get(sequence, {}).items()}
    for key, text in {**of_lab, **settings}.items():
        if key not in signature.parameters:
            near = difflib.get_close_matches(key, list(signature.parameters), 1)
            raise ConfigError(
                f"{'' if key in settings else f'{config.path}: [arguments.{sequence}]: '}"
                f"sequence {sequence} has no argument {key!r}{f'; did you mean {near[0]!r}?' if near else ''}; "
                f"it has {', '.join(signature.parameters)}"
            )
        arguments[key] = _argument(sequence, key, text, hints.get(key, str))
    try:
        made = function(**arguments)
    except RecursionError:
        raise ScheduleError(f"sequence {sequence}: recursion without end: it calls itself") from None
    except (ValueError, TypeError) as error:
        raise LimitError(f"sequence {sequence}: {error}") from None
    if not isinstance(made, Schedule):
        raise ScheduleError(f"sequence {sequence} returned {type(made).__name__}, not a Schedule")
    return made


def _argument(sequence: str, key: str, text: str, kind: Any) -> Any:
    """One argument from text; whole numbers also take a time with a unit, which becomes picoseconds."""
    try:
        if kind is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                text.lower()
            ]
        if kind is int:
            try:
                return int(text)
            except ValueError:
                picoseconds = parse_quantity(text, "s") * s
                if abs(picoseconds - round(picoseconds)) > 1e-3:
                    raise LimitError(f"{text} is not a whole number of picoseconds") from None
                return round(picoseconds)
        if kind is float:
            return float(text)
        return text
    except (ValueError, KeyError, LimitError) as error:
        name = getattr(kind, "__name__", str(kind))
        wanted = (
            "a whole number, or a time such as 60ns"
            if kind is int
            else {"float": "a number", "bool": "true or false"}.get(name, name)
        )
        detail = f" ({error})" if isinstance(error, LimitError) else ""
        raise LimitError(f"sequence {sequence}: {key}={text!r} is not {wanted}{detail}") from None
