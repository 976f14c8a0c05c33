"""Which labctl line is which terminal of the NI card, and what an NI card can do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from labctl.config import NidaqConfig, NidaqLine
from labctl.errors import ConfigError
from labctl.schedule.lines import Line
from labctl.schedule.problem import Problems, near
from labctl.units import format_time, ns


@dataclass(frozen=True)
class Capabilities:
    """What the card can do; the figures are those of NI's X series (PCIe-6363), from general knowledge: check the manual.

    fastest_ps:   shortest period of a buffered digital output
    most_samples: samples of one buffer, in this computer's memory
    analogue_v:   range of the analogue outputs
    reacts:       whether it can branch, feed back or wait for clicks in real time
    """

    fastest_ps: int = 100 * ns
    most_samples: int = 20_000_000
    analogue_v: float = 10.0
    reacts: bool = False


X_SERIES = Capabilities()


@dataclass(frozen=True)
class Bound:
    """A line and its terminal.

    bit:      number of the digital line on port 0; -1 for inputs
    """

    line: str
    limits: Line
    table: NidaqLine
    bit: int = -1


def table_of(config: NidaqConfig) -> dict[str, NidaqLine]:
    """Line -> its entry in the lab file."""
    return {
        f"{node}.{name}": one if isinstance(one, NidaqLine) else NidaqLine(one)
        for node, group in config.line.items()
        for name, one in group.items()
    }


def bit_of(terminal: str) -> int:
    """Number of a buffered digital line; ConfigError for anything but port 0, the only port that is buffered."""
    found = re.fullmatch(r"port0/line(\d{1,2})", terminal)
    if found is None or int(found[1]) > 31:
        raise ConfigError(f"{terminal!r} is no buffered output: those are port0/line0 to port0/line31")
    return int(found[1])


def bind(
    config: NidaqConfig, lines: Mapping[str, Line], wanted: Iterable[str], problems: Problems
) -> dict[str, Bound]:
    """Bind the wanted lines; every line that cannot be is a problem with the lab file's table in its hint."""
    table = table_of(config)
    for name in table:
        if name not in lines:
            problems.add(
                ("core.nidaq",), "a terminal for a line that this lab has not", near(name, lines), line=name
            )
    if config.tick_ps < X_SERIES.fastest_ps:
        problems.add(
            ("core.nidaq",),
            f"tick_ps = {config.tick_ps}: a sample clock of {format_time(config.tick_ps)}",
            f"the card's shortest is {format_time(X_SERIES.fastest_ps)}",
        )
    bound: dict[str, Bound] = {}
    users = {config.clock: "the sample clock", config.strobe: "the strobe"}
    for name in dict.fromkeys(wanted):
        if name not in lines:
            continue  # `check` has said so
        if name not in table:
            node, _, short = name.partition(".")
            problems.add(
                ("core.nidaq",),
                "no terminal of the NI card is mapped to this line",
                f'add [core.nidaq.line.{node}] {short} = "..." to the lab file',
                line=name,
            )
            continue
        try:
            bound[name] = _bind(name, lines[name], table[name])
        except ConfigError as error:
            problems.add(("core.nidaq",), str(error), line=name)
            continue
        one = bound[name].table
        for part in filter(None, (one.terminal, one.counter, one.phase, one.amplitude)):
            if part in users:
                problems.add(
                    ("core.nidaq",),
                    f"{part} is used for {users[part]} too",
                    "one terminal serves one line of a schedule",
                    line=name,
                )
            users[part] = name
    return bound


def _bind(name: str, line: Line, table: NidaqLine) -> Bound:
    if line.direction == "in":
        if not re.fullmatch(r"ctr\d", table.counter):
            raise ConfigError(
                f"counter = {table.counter!r}: an input line needs a counter of its own, such as ctr0"
            )
        return Bound(name, line, table)
    if bool(table.trigger_ps) != bool(table.generator_ps):
        raise ConfigError("trigger_ps and generator_ps go together: one of them is missing")
    for part in filter(None, (table.phase, table.amplitude)):
        if not re.fullmatch(r"ao\d", part):
            raise ConfigError(f"{part!r} is no analogue output, such as ao0")
    highest = max(table.volts_per_turn if table.phase else 0.0, table.volts if table.amplitude else 0.0)
    if not 0 <= highest <= X_SERIES.analogue_v:
        raise ConfigError(f"{highest:g} V: the card's outputs go to {X_SERIES.analogue_v:g} V")
    return Bound(name, line, table, bit_of(table.terminal))
