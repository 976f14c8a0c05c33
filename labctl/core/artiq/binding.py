"""Which labctl line is which ARTIQ device, and what that device can do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from labctl.config import ArtiqConfig, ArtiqLine
from labctl.core.artiq.device_db import DeviceDb, Entry
from labctl.errors import ConfigError
from labctl.schedule.lines import Line
from labctl.schedule.problem import Problems, near

AD9910_TURN = 1 << 16
AD9912_TURN = 1 << 14
FULL_AMPLITUDE = 0x3FFF


@dataclass(frozen=True)
class Dds:
    """A DDS channel behind a line: how tones become tuning words.

    entry, cpld, bus, io_update:  its device, its board's CPLD, SPI bus and update output
    turn:                         phase words in a turn
    sysclk_hz:                    clock of the DDS, Hz
    """

    entry: Entry
    cpld: Entry
    bus: Entry
    io_update: Entry
    turn: int
    sysclk_hz: float
    frequency_hz: float
    amplitude: float
    attenuation_db: float | None

    @property
    def is_ad9910(self) -> bool:
        """AD9910 (32-bit frequency, amplitude) or AD9912 (48-bit frequency, no amplitude)."""
        return self.turn == AD9910_TURN

    def ftw(self, offset_hz: float) -> int:
        """Frequency tuning word of the nominal frequency plus an offset in Hz."""
        bits = 32 if self.is_ad9910 else 48
        return round((self.frequency_hz + offset_hz) * 2**bits / self.sysclk_hz)

    def pow(self, turns: float) -> int:
        """Phase offset word of a phase in turns."""
        return round(turns * self.turn) % self.turn

    def asf(self, amplitude: float) -> int:
        """Amplitude scale factor of a relative amplitude; 0 for an AD9912, which has none."""
        return round(self.amplitude * amplitude * FULL_AMPLITUDE) if self.is_ad9910 else 0


@dataclass(frozen=True)
class Bound:
    """A line and its devices.

    line, limits:  name, and the line of the lab file
    output:        TTL that switches it; None for inputs
    input, counter:  TTL and edge counter that read it; None for outputs
    grid_mu:       grid of the output, machine units
    trigger_mu:    length of the trigger of a pulse generator, machine units; 0 without one
    generator_ps:  length of the generator's pulse, ps
    """

    line: str
    limits: Line
    grid_mu: int = 1
    output: Entry | None = None
    input: Entry | None = None
    counter: Entry | None = None
    dds: Dds | None = None
    trigger_mu: int = 0
    generator_ps: int = 0

    @property
    def device(self) -> str:
        """Name in device_db of what it is mapped to."""
        entry = self.dds.entry if self.dds else self.output or self.input
        return "" if entry is None else entry.name


def bind(
    config: ArtiqConfig, lines: Mapping[str, Line], wanted: Iterable[str], db: DeviceDb, problems: Problems
) -> dict[str, Bound]:
    """Bind the wanted lines; every line that cannot be is a problem with the lab file's table in its hint."""
    table = {
        f"{node}.{name}": one if isinstance(one, ArtiqLine) else ArtiqLine(one)
        for node, group in config.line.items()
        for name, one in group.items()
    }
    bound: dict[str, Bound] = {}
    for name in table:
        if name not in lines:
            problems.add(
                ("core.artiq",), "a device for a line that this lab has not", near(name, lines), line=name
            )
    users: dict[str, str] = {}
    for name in dict.fromkeys(wanted):
        if name not in lines:
            continue  # `check` has said so
        if name not in table:
            node, _, short = name.partition(".")
            problems.add(
                ("core.artiq",),
                "no ARTIQ device is mapped to this line",
                f'add [core.artiq.line.{node}] {short} = "..." to the lab file, with a name of {db.path.name}',
                line=name,
            )
            continue
        try:
            made = _bind(name, lines[name], table[name], db)
        except ConfigError as error:
            problems.add(("core.artiq",), str(error), line=name)
            continue
        for device in dict.fromkeys((made.device, made.output.name if made.output else made.device)):
            if device in users:
                problems.add(
                    ("core.artiq",),
                    f"{device} is mapped to {users[device]} too",
                    "one device serves one line",
                    line=name,
                )
            users[device] = name
        bound[name] = made
    return bound


def _bind(name: str, line: Line, table: ArtiqLine, db: DeviceDb) -> Bound:
    entry = db.find(table.device)
    if line.direction == "in":
        if entry.kind != "input":
            raise ConfigError(f"{entry.name} is {_a(entry)}; an input line needs a TTLInOut")
        counter = db.find(table.counter) if table.counter else db.entries.get(f"{entry.name}_counter")
        if counter is not None and counter.kind != "counter":
            raise ConfigError(f"{counter.name} is {_a(counter)}, not an EdgeCounter")
        return Bound(name, line, input=entry, counter=counter)
    trigger, rest = divmod(table.trigger_ps, db.ref_period_ps)
    if rest or trigger < 0:
        raise ConfigError(
            f"trigger_ps = {table.trigger_ps} is not a multiple of the machine unit of {db.ref_period_ps} ps"
        )
    if bool(table.trigger_ps) != bool(table.generator_ps):
        raise ConfigError("trigger_ps and generator_ps go together: one of them is missing")
    if entry.kind in ("ad9910", "ad9912"):
        dds = _dds(entry, table, db)
        switch = db.reference(entry, "sw_device")
        if switch is None:
            raise ConfigError(
                f"{entry.name} has no sw_device, and switching it over SPI takes 896 ns each time; "
                "give it its switch in device_db.py"
            )
        return Bound(name, line, table.grid_mu or 1, output=switch, dds=dds)
    if entry.kind not in ("output", "input"):
        raise ConfigError(f"{entry.name} is {_a(entry)}; an output line needs a TTL or a DDS channel")
    if line.kind == "tone" and not trigger:
        raise ConfigError(
            f"{entry.name} is {_a(entry)}, which has no tone; map the line to a DDS channel, "
            "or give trigger_ps and generator_ps if it triggers a generator"
        )
    return Bound(
        name,
        line,
        table.grid_mu or 1,
        output=entry,
        trigger_mu=trigger,
        generator_ps=table.generator_ps,
    )


def _dds(entry: Entry, table: ArtiqLine, db: DeviceDb) -> Dds:
    cpld = db.reference(entry, "cpld_device")
    bus = None if cpld is None else db.reference(cpld, "spi_device")
    update = None if cpld is None else db.reference(cpld, "io_update_device")
    if cpld is None or bus is None or update is None:
        raise ConfigError(f"{entry.name} has no cpld_device with spi_device and io_update_device")
    ad9910 = entry.kind == "ad9910"
    dividers = (4, 1, 2, 4) if ad9910 else (1, 1, 2, 4)
    clk_div = int(cpld.arguments.get("clk_div", 0))
    refclk = float(cpld.arguments.get("refclk", 125e6)) / dividers[clk_div if 0 <= clk_div < 4 else 0]
    sysclk = refclk * int(entry.arguments.get("pll_n", 40 if ad9910 else 10))
    dds = Dds(
        entry,
        cpld,
        bus,
        update,
        AD9910_TURN if ad9910 else AD9912_TURN,
        sysclk,
        table.frequency_hz,
        table.amplitude,
        table.attenuation_db,
    )
    if not 0 < table.frequency_hz < 0.45 * sysclk:
        raise ConfigError(
            f"frequency_hz = {table.frequency_hz:g} of {entry.name} must be above 0 and below {0.45 * sysclk:g} Hz"
        )
    if not 0 < table.amplitude <= 1:
        raise ConfigError(f"amplitude = {table.amplitude:g} of {entry.name} must be above 0 and at most 1")
    if not ad9910 and table.amplitude != 1:
        raise ConfigError(f"{entry.name} is an AD9912, which has no amplitude; use attenuation_db")
    return dds


def _a(entry: Entry) -> str:
    word = entry.cls or "a device without a class"
    return f"{'an' if word[:1] in 'AEIOU' else 'a'} {word}"
