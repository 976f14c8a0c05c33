"""docs/reference-lab-file.md has every key of a lab file with its default, and no other."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from labctl import config
from labctl.schedule.lines import Line

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference-lab-file.md").read_text()
STRUCTS: dict[str, type[msgspec.Struct]] = {
    "`[hub]`": config.HubConfig,
    "`[device.NODE.NAME]`": config.DeviceConfig,
    "`[line.NODE.NAME]`": Line,
    "`[core]`": config.CoreConfig,
    "`[world]`": config.WorldConfig,
    "`[world.simulator.NODE.NAME]`": config.SimulatorConfig,
    "`[demo]`": config.DemoConfig,
}


def sections() -> dict[str, str]:
    return {part.partition("\n")[0]: part for part in REFERENCE.split("\n## ")[1:]}


def rows(section: str) -> dict[str, str]:
    """Key -> default, as the table has them."""
    found: dict[str, str] = {}
    for line in sections()[section].splitlines():
        if line.startswith("| `"):
            key, _, default, meaning = (cell.strip() for cell in line.strip("|").split(" |"))
            assert meaning, f"{section} {key} is not explained"
            assert key not in found, f"{key} stands twice in {section}"
            found[key.strip("`")] = default
    return found


def written(default: Any) -> str:
    """A default as TOML."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, str):
        return f'"{default}"'
    if isinstance(default, tuple | list):
        return "[]"
    if isinstance(default, dict | msgspec.Struct):
        return "{}"
    if isinstance(default, float) and abs(default) >= 1e6:
        return f"{default:g}".replace("e+0", "e")
    return str(default)


def test_every_table_is_described() -> None:
    assert set(sections()) == {"Top level", "Addresses", *STRUCTS}


@pytest.mark.parametrize("section", [*STRUCTS])
def test_keys_and_defaults(section: str) -> None:
    table = rows(section)
    fields = {field.name: field for field in msgspec.structs.fields(STRUCTS[section])}
    assert set(table) == set(fields)
    for name, field in fields.items():
        shown = table[name].strip("`")
        if field.required:
            assert shown == "required", name
            continue
        default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()  # type: ignore[operator]
        if shown == "none":
            assert not default, name
        else:
            assert shown == written(default), name


def test_top_level() -> None:
    assert set(rows("Top level")) == set(config._TOP)  # pyright: ignore[reportPrivateUsage]
