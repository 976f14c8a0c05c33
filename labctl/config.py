"""Lab files: TOML in, a strictly typed lab out; every mistake is one line that names file, table, key and the way out."""

from __future__ import annotations

import copy
import difflib
import fnmatch
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import msgspec

from labctl.errors import ConfigError
from labctl.schedule.lines import Line
from labctl.transport import Address, parse_address


class DeviceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[device.NODE.NAME]`` table.

    driver:     "module:Class" in the lab folder, or the name of a driver that an installed package provides
    address:    where the instrument is
    options:    keyword arguments of the driver
    limits:     narrower limits of signals, in their units
    state:      signals and values the device has before it counts as ready, in order
    timeout_s:  how long to wait for an answer
    optional:   whether a run may go on without it
    """

    driver: str
    address: str
    options: dict[str, float | int | bool | str] = {}
    limits: dict[str, tuple[float, float]] = {}
    state: dict[str, float | int | bool | str | list[float]] = {}
    timeout_s: float = 1.0
    optional: bool = False


class HubConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[hub]`` table: the one address anybody is told."""

    address: str = "tcp://127.0.0.1:17700"


class ArtiqLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one line is on an ARTIQ system: an entry of ``[core.artiq.line.NODE]``; text alone is the device.

    device:          its name in device_db.py: a TTL, or a DDS channel whose switch the line is
    counter:         edge counter of an input; empty: the device's name with "_counter", where that exists
    frequency_hz:    nominal frequency of a DDS channel, Hz; Tone frequencies are added to it
    amplitude:       nominal amplitude of a DDS channel, 0 to 1; Tone amplitudes multiply it
    attenuation_db:  of a DDS channel, set before a run; none: as it is
    grid_mu:         grid of the output in machine units; 0: 1, as for all outputs behind a serialiser (an LED has 8)
    trigger_ps:      the output triggers a pulse generator with a pulse of this length, ps; 0: it switches the light itself
    generator_ps:    length of the pulse that the generator makes, ps; the schedule has to ask for just that
    """

    device: str
    counter: str = ""
    frequency_hz: float = 0.0
    amplitude: float = 1.0
    attenuation_db: float | None = None
    grid_mu: int = 0
    trigger_ps: int = 0
    generator_ps: int = 0


class ArtiqEntangler(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[core.artiq.entangler]`` table: lines that are also wired through an entangler core.

    device:   its name in device_db.py
    outputs:  line -> number of the entangler's output
    inputs:   line -> number of the entangler's input
    reference_mu:  for gateware that counts its windows from the edge of a reference input: when that edge comes, mu after
                   an attempt begins; 0 for gateware that counts from the attempt's beginning
    """

    device: str
    outputs: dict[str, int] = {}
    inputs: dict[str, int] = {}
    reference_mu: int = 0


class ArtiqConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[core.artiq]`` table: which ARTIQ device each line is. Names need not differ from node to node.

    device_db:  device_db.py of the system, relative to the lab file
    line:       node -> line -> device, or a table of :class:`ArtiqLine`
    """

    device_db: str = ""
    line: dict[str, dict[str, str | ArtiqLine]] = {}
    entangler: ArtiqEntangler | None = None


class NidaqLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one line is on an NI card: an entry of ``[core.nidaq.line.NODE]``; text alone is the terminal.

    terminal:        an output such as "port0/line3", or where an input's clicks arrive, such as "PFI8"
    counter:         of an input: the counter that counts it
    phase:           analogue output with a phase shifter behind it: makes the phases of Tones
    volts_per_turn:  of that phase shifter, V
    amplitude:       analogue output with an attenuator behind it: makes the amplitudes of Tones
    volts:           on it for nominal amplitude, V; other amplitudes are in proportion
    trigger_ps:      the output triggers a pulse generator with a pulse of this length, ps; 0: it switches the light itself
    generator_ps:    length of the pulse that the generator makes, ps; the schedule has to ask for just that
    """

    terminal: str
    counter: str = ""
    phase: str = ""
    volts_per_turn: float = 5.0
    amplitude: str = ""
    volts: float = 5.0
    trigger_ps: int = 0
    generator_ps: int = 0


class NidaqConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[core.nidaq]`` table: an NI card that plays buffered waveforms, and which of its terminals each line is.

    device:        the lab's device that is this card; its address is used
    tick_ps:       period of the sample clock: the grid of every line, ps
    clock:         counter that makes the sample clock
    strobe:        digital line that pulses whenever a gate opens or closes
    strobe_input:  terminal that ``strobe`` is wired to, outside the card: the counters' clock
    line:          node -> line -> terminal, or a table of :class:`NidaqLine`
    """

    device: str = ""
    tick_ps: int = 1_000_000
    clock: str = "ctr3"
    strobe: str = "port0/line31"
    strobe_input: str = "PFI9"
    line: dict[str, dict[str, str | NidaqLine]] = {}


class CoreConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[core]`` table: which real-time core plays the schedules, and what its lines are elsewhere."""

    kind: Literal["sim"] = "sim"
    artiq: ArtiqConfig = ArtiqConfig()
    nidaq: NidaqConfig = NidaqConfig()


class SimulatorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[world.simulator.NODE.NAME]`` table: what stands behind a device's address in the simulated lab.

    instrument:  "module:Class" of the simulated instrument, in the lab folder, or "entry:NAME" of an installed package
    parts:       names of the world's parts it drives or shows; none for an instrument over parts of its own
    address:     where it listens when its device is simulated and the device's own address is that of the real one;
                 without it, it listens at the device's address
    """

    instrument: str
    parts: list[str] = []
    address: str = ""


class WorldConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[world]`` table: the simulated laboratory.

    model:       "module:Class" of the world
    build:       "module:function" that makes a simulated instrument from the world and a simulator table
    parameters:  TOML file of component values, relative to the lab file; it may extend another
    changes:     component values that differ from that file's: table -> name -> value and source
    seed:        of all randomness
    speed:       laboratory seconds per real second
    """

    model: str
    build: str
    parameters: str
    changes: dict[str, Any] = {}
    seed: int = 1
    speed: float = 1.0
    simulator: dict[str, SimulatorConfig] = {}


class DemoConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[demo]`` table: what ``labctl demo`` does.

    procedure:  "module:function" in the lab folder
    published:  TOML file of published figures to compare with, relative to the lab file
    """

    procedure: str
    published: str


class LabConfig(msgspec.Struct, frozen=True):
    """A whole lab file, checked. Device and line names are ``node.name``."""

    name: str
    path: Path
    hub: HubConfig
    device: dict[str, DeviceConfig]
    line: dict[str, Line]
    sequences: dict[str, str]
    core: CoreConfig
    world: WorldConfig | None
    demo: DemoConfig | None
    effective: dict[str, Any]
    """The merged tables as plain data, for the record of a run."""
    description: str = ""
    arguments: dict[str, dict[str, str | int | float | bool]] = {}
    """Sequence -> argument -> value that this lab gives unless the user does."""
    links: list[tuple[str, str]] = []
    """Pairs of nodes that a fibre and a common clock join; none: all of them."""

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes that have devices, in the file's order."""
        return list(dict.fromkeys(name.partition(".")[0] for name in self.device))


_TOP = (
    "name",
    "description",
    "extends",
    "links",
    "hub",
    "device",
    "line",
    "sequences",
    "arguments",
    "core",
    "world",
    "demo",
)
T = TypeVar("T")


def load(path: Path | str, overrides: Mapping[str, Any] | None = None) -> LabConfig:
    """Read and check a lab file.

    overrides:  tables merged over the file's, e.g. ``{"world": {"seed": 7}}``
    """
    file = Path(path)
    return build(file, merge(read_extended(file), overrides or {}))


def build(file: Path, tables: dict[str, Any]) -> LabConfig:
    """Check tables that are a lab's, as read from ``file`` (and perhaps changed since)."""
    for key in tables:
        if key not in _TOP:
            raise ConfigError(f"{file}: unknown table [{key}]{_near(key, _TOP)}")
    name = tables.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigError(f'{file}: the lab has no name; add name = "..." at the top')
    devices = {
        f"{node}.{device}": _convert(file, f"device.{node}.{device}", table, DeviceConfig)
        for node, device, table in _nested(file, tables, "device")
    }
    lines = {
        f"{node}.{line}": _convert(file, f"line.{node}.{line}", table, Line)
        for node, line, table in _nested(file, tables, "line")
    }
    config = LabConfig(
        name=name,
        path=file.resolve(),
        hub=_convert(file, "hub", tables.get("hub", {}), HubConfig),
        device=devices,
        line=lines,
        sequences=_convert(file, "sequences", tables.get("sequences", {}), dict[str, str]),
        core=_convert(file, "core", tables.get("core", {}), CoreConfig),
        world=_world(file, tables),
        demo=_convert(file, "demo", tables["demo"], DemoConfig) if "demo" in tables else None,
        effective=tables,
        description=str(tables.get("description", "")),
        arguments=_convert(
            file, "arguments", tables.get("arguments", {}), dict[str, dict[str, str | int | float | bool]]
        ),
        links=_convert(file, "links", tables.get("links", []), list[tuple[str, str]]),
    )
    _check(config, file)
    return config


def simulating(config: LabConfig, names: Sequence[str] = ()) -> LabConfig:
    """The lab with each device at one address: that of its simulator if it is to be simulated, else its own.

    names:  devices to simulate (``alice.laser_397``), patterns with * and ?, or ``all``; ConfigError for one that has no
            simulator. A device whose simulator has no address of its own is simulated in any case. The other devices on
            an NI card go with the one that has the card's simulator.

    Nothing but addresses and ``[world]`` changes: it keeps the simulators of the simulated devices, and is gone if there
    are none.
    """
    if config.world is None:
        if names:
            raise ConfigError(
                f"{config.path} has no [world]: it is not a simulated lab; use one such as configs/ca40_10km.toml"
            )
        return config
    simulators = config.world.simulator
    chosen = {name for name, one in simulators.items() if not one.address}
    for pattern in names:
        found = fnmatch.filter(simulators, "*" if pattern == "all" else pattern)
        if not found and pattern != "all":
            raise ConfigError(
                f"{config.path}: there is no [world.simulator.{pattern}]{_simulator_meant(config, pattern)}"
            )
        chosen.update(found)
    tables = copy.deepcopy(config.effective)
    for name, one in simulators.items():
        node, _, device = name.partition(".")
        if name not in chosen:
            del tables["world"]["simulator"][node][device]
        elif one.address:
            for moved in (name, *_on_card_of(config, name)):
                its_node, _, its_name = moved.partition(".")
                tables["device"][its_node][its_name]["address"] = one.address
            del tables["world"]["simulator"][node][device]["address"]
    if not chosen and simulators:
        del tables["world"]
    return build(config.path, tables)


def _on_card_of(config: LabConfig, owner: str) -> list[str]:
    """Devices without a simulator of their own at the same NI card as ``owner``, which has the card's simulator."""
    simulators = {} if config.world is None else config.world.simulator
    card = parse_address(config.device[owner].address)
    return [
        name
        for name, one in config.device.items()
        if card.scheme == "nidaqmx"
        and name not in simulators
        and parse_address(one.address).target == card.target
    ]


def _simulator_meant(config: LabConfig, pattern: str) -> str:
    """A hint for a name that has no simulator."""
    simulators = {} if config.world is None else config.world.simulator
    owner = next((name for name in simulators if pattern in _on_card_of(config, name)), None)
    if owner is not None:
        return f"; {pattern} is on the NI card of {owner}: give that, and all on the card are simulated"
    near = difflib.get_close_matches(pattern, simulators, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def simulated_devices(config: LabConfig) -> set[str]:
    """Devices that a simulator answers: those with one, and those that share a simulated NI card's address."""
    simulators: set[str] = set() if config.world is None else set(config.world.simulator)
    cards = {card_place(config.device[name].address) for name in simulators} - {""}
    return simulators | {name for name, one in config.device.items() if card_place(one.address) in cards}


def card_place(address: str) -> str:
    """``host:port`` of the computer with an NI card, of the card's address; "" for other addresses."""
    parsed = parse_address(address)
    return parsed.target.rpartition("/")[0] if parsed.scheme == "nidaqmx" else ""


def read_toml(file: Path) -> dict[str, Any]:
    """A TOML file as plain data; ConfigError names file, line and column."""
    try:
        return tomllib.loads(file.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file; give a lab file such as configs/ca40_10km.toml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not TOML: {error}") from None


def read_extended(file: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A TOML file merged over the one it names with ``extends``, if any; for lab files and component values alike."""
    if file.resolve() in above:
        raise ConfigError(f"{file}: extends itself in a circle")
    tables = read_toml(file)
    base = tables.pop("extends", None)
    if base is None:
        return tables
    if not isinstance(base, str):
        raise ConfigError(f'{file}: extends must name one file, e.g. extends = "ca40_10km.toml"')
    return merge(read_extended(file.parent / base, (*above, file.resolve())), tables)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables over tables: a table is merged key by key, anything else replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = (
            merge(cast("dict[str, Any]", old), cast("dict[str, Any]", value))
            if isinstance(old, dict) and isinstance(value, dict)
            else value
        )
    return merged


def _nested(file: Path, tables: Mapping[str, Any], kind: str) -> list[tuple[str, str, Any]]:
    found: list[tuple[str, str, Any]] = []
    for node, group in _table(file, kind, tables.get(kind, {})).items():
        for name, table in _table(file, f"{kind}.{node}", group).items():
            found.append((node, name, table))
    return found


def _table(file: Path, place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{file} [{place}]: expected a table, found {value!r}; write [{place}.NAME]")
    return cast("dict[str, Any]", value)


def _world(file: Path, tables: Mapping[str, Any]) -> WorldConfig | None:
    if "world" not in tables:
        return None
    table = dict(_table(file, "world", tables["world"]))
    simulators = {
        f"{node}.{name}": _convert(file, f"world.simulator.{node}.{name}", one, SimulatorConfig)
        for node, name, one in _nested(file, table, "simulator")
    }
    table.pop("simulator", None)
    world = _convert(file, "world", table, WorldConfig)
    return msgspec.structs.replace(world, simulator=simulators)


def _convert(file: Path, place: str, table: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(table, kind, strict=True)
    except msgspec.ValidationError as error:
        text = str(error)
        unknown = re.search(r"unknown field `(\w+)`", text)
        if unknown:
            fields = getattr(kind, "__struct_fields__", ())
            raise ConfigError(
                f"{file} [{place}]: unknown key {unknown[1]!r}{_near(unknown[1], fields)}"
            ) from None
        missing = re.search(r"missing required field `(\w+)`", text)
        if missing:
            raise ConfigError(f"{file} [{place}]: missing key {missing[1]!r}") from None
        what, _, where = text.partition(" - at `$")
        key = where.strip("`").lstrip(".")
        raise ConfigError(
            f"{file} [{place}]{f' {key}' if key else ''}: {what[:1].lower()}{what[1:]}"
        ) from None


def _near(word: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; it can have {', '.join(known)}"


def _check(config: LabConfig, file: Path) -> None:
    """What no single table can say: addresses that collide, limits the wrong way round, simulators of no device."""
    used: dict[str, str] = {}
    for name, device in config.device.items():
        place = f"{file} [device.{name}]"
        try:
            address = parse_address(device.address)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None
        for endpoint in endpoints(address):
            if endpoint in used:
                raise ConfigError(
                    f"{place}: address {device.address} uses {endpoint}, which [device.{used[endpoint]}] has already; give one of them another port"
                )
            used[endpoint] = name
        for signal, (low, high) in device.limits.items():
            if not low < high:
                raise ConfigError(f"{place} limits: {signal} = [{low}, {high}] must be [lowest, highest]")
    try:
        parse_address(config.hub.address)
    except ConfigError as error:
        raise ConfigError(f"{file} [hub]: {error}") from None
    if config.world is not None:
        for name, simulator in config.world.simulator.items():
            place = f"{file} [world.simulator.{name}]"
            if name not in config.device:
                raise ConfigError(f"{place}: there is no [device.{name}]{_near(name, tuple(config.device))}")
            try:
                if simulator.address:
                    parse_address(simulator.address)
            except ConfigError as error:
                raise ConfigError(f"{place}: {error}") from None
        if config.world.speed <= 0:
            raise ConfigError(f"{file} [world]: speed = {config.world.speed} must be positive")
    for name, line in config.line.items():
        if line.device and line.device not in config.device:
            raise ConfigError(
                f"{file} [line.{name}]: device = {line.device!r} is not in this lab{_near(line.device, tuple(config.device))}"
            )


def endpoints(address: Address) -> list[str]:
    """The ports an address occupies: its own and those given as options. An NI card is shared by the devices on it."""
    if address.scheme == "nidaqmx":
        return []
    if address.scheme not in ("tcp", "zmq"):
        return [address.target]
    extra = [f"{address.host}:{value}" for value in address.options.values() if value.isdigit()]
    return [address.target, *extra]
