"""Reads an ARTIQ device_db.py without executing it: which devices there are, of which kind, on which RTIO channel.

The file is evaluated from its syntax tree as plain data (ARTIQ.md, section 3). Unknown classes stay opaque but are known
by name. Sources of the classes and their defaults: artiq.coredevice in m-labs/artiq, releases 7 to 9 beta.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from labctl.core.artiq.literals import Reader
from labctl.errors import ConfigError
from labctl.units import s

KINDS = {
    "Core": "core",
    "CoreDMA": "dma",
    "TTLOut": "output",
    "TTLInOut": "input",
    "TTLInput": "input",
    "TTLClockGen": "clock",
    "EdgeCounter": "counter",
    "AD9910": "ad9910",
    "AD9912": "ad9912",
    "CPLD": "cpld",
    "SPIMaster": "spi",
}
"""Class in device_db -> kind here; a class whose name contains Entangler is an "entangler", the rest is "opaque"."""
GATEWARE_MULTIPLIER = 8
"""Machine units in a coarse cycle, where device_db does not say."""


@dataclass(frozen=True)
class Entry:
    """One device: its name, kind, class, arguments, and where it stands in the file."""

    name: str
    kind: str
    cls: str
    arguments: dict[str, Any]
    line: int

    @property
    def channel(self) -> int:
        """RTIO channel; -1 for a device without one."""
        number = self.arguments.get("channel", -1)
        return number if isinstance(number, int) else -1


@dataclass(frozen=True)
class DeviceDb:
    """A whole device_db.

    entries:          device -> entry; aliases are in ``aliases``
    ref_period_ps:    a machine unit, ps
    ref_multiplier:   machine units in a coarse cycle
    sha256:           of the file's bytes
    """

    path: Path
    entries: dict[str, Entry]
    aliases: dict[str, str]
    core: str
    ref_period_ps: int
    ref_multiplier: int
    sha256: str

    def find(self, name: str) -> Entry:
        """The device of this name, aliases followed; ConfigError says what there is instead."""
        seen: list[str] = []
        while name in self.aliases:
            if name in seen:
                raise ConfigError(f"{self.path}: the alias {seen[0]!r} leads in a circle")
            seen.append(name)
            name = self.aliases[name]
        found = self.entries.get(name)
        if found is None:
            via = f" (an alias of {seen[0]!r})" if seen else ""
            raise ConfigError(f"{self.path}: there is no device {name!r}{via}{self._near(name)}")
        return found

    def reference(self, entry: Entry, key: str) -> Entry | None:
        """The device that an argument of another names; None if the argument is missing."""
        name = entry.arguments.get(key)
        if name is None:
            return None
        try:
            return self.find(str(name))
        except ConfigError:
            raise ConfigError(
                f"{self.path}, line {entry.line}: {key} = {name!r} of {entry.name!r} is no device of this file"
                f"{self._near(str(name))}"
            ) from None

    def of_kind(self, kind: str) -> list[Entry]:
        """Every device of a kind, in the file's order."""
        return [entry for entry in self.entries.values() if entry.kind == kind]

    def _near(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.entries, 3)
        return f"; did you mean {' or '.join(near)}?" if near else ""


def read(path: Path | str) -> DeviceDb:
    """Read a device_db.py; ConfigError names file and line of what cannot be read."""
    file = Path(path)
    try:
        data = file.read_bytes()
        tree = ast.parse(data.decode())
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file; give the device_db.py of the ARTIQ system") from None
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from None
    except SyntaxError as error:
        raise ConfigError(f"{file}, line {error.lineno or 1}: not Python: {error.msg}") from None
    reader = Reader(file)
    try:
        table = reader.read(tree).get("device_db")
    except RecursionError:
        raise ConfigError(f"{file}: nested too deeply") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: it assigns no dict to device_db")
    entries, aliases = _entries(file, cast("dict[Any, Any]", table), reader)
    core = next((entry for entry in entries.values() if entry.kind == "core"), None)
    if core is None:
        raise ConfigError(f"{file}: no core device (class Core of artiq.coredevice.core)")
    return DeviceDb(
        path=file,
        entries=entries,
        aliases=aliases,
        core=core.name,
        ref_period_ps=_ref_period_ps(file, core),
        ref_multiplier=_ref_multiplier(file, core),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _entries(file: Path, table: dict[Any, Any], reader: Reader) -> tuple[dict[str, Entry], dict[str, str]]:
    entries: dict[str, Entry] = {}
    aliases: dict[str, str] = {}
    for name, value in table.items():
        if not isinstance(name, str):
            raise ConfigError(f"{file}: the device name {name!r} is not text")
        if isinstance(value, str):
            aliases[name] = value
            continue
        if not isinstance(value, dict):
            raise ConfigError(f"{file}: device {name!r} is {value!r}; expected a dict or an alias")
        fields = cast("dict[str, Any]", value)
        line = reader.lines.get(id(cast("object", value)), 1)
        cls = str(fields.get("class", ""))
        arguments = fields.get("arguments", {})
        if not isinstance(arguments, dict):
            raise ConfigError(f"{file}, line {line}: arguments of {name!r} must be a dict, not {arguments!r}")
        local = fields.get("type") == "local"
        kind = KINDS.get(cls, "entangler" if "entangler" in cls.lower() else "opaque") if local else "opaque"
        entries[name] = Entry(name, kind, cls, cast("dict[str, Any]", arguments), line)
    return entries, aliases


def _ref_period_ps(file: Path, core: Entry) -> int:
    period = core.arguments.get("ref_period", 1e-9)
    if not isinstance(period, (int, float)) or not 0 < period < 1:
        raise ConfigError(f"{file}, line {core.line}: ref_period = {period!r} of the core is not a time in s")
    exact = Fraction(repr(float(period))) * s
    if exact.denominator != 1:
        raise ConfigError(
            f"{file}, line {core.line}: ref_period = {period!r} s is not a whole number of picoseconds"
        )
    return exact.numerator


def _ref_multiplier(file: Path, core: Entry) -> int:
    multiplier = core.arguments.get("ref_multiplier", GATEWARE_MULTIPLIER)
    if not isinstance(multiplier, int) or multiplier < 1 or multiplier & (multiplier - 1):
        raise ConfigError(
            f"{file}, line {core.line}: ref_multiplier = {multiplier!r} of the core is not a power of two"
        )
    return multiplier
