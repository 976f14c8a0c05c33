"""Commands about drivers and lab folders of one's own: what there is, and how to begin a new one."""

from __future__ import annotations

import keyword
import re
import shutil
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import click

from labctl.cli import places, show_text
from labctl.errors import ConfigError

if TYPE_CHECKING:
    from labctl.shelf import Shelved

FOLDERS = ("drivers", "sequences", "simulated_hw", "configs")
"""What a lab folder consists of."""
TEMPLATES = {
    "driver.py.txt": "drivers/{}.py",
    "simulator.py.txt": "simulated_hw/{}.py",
    "test.py.txt": "tests/wire/test_{}.py",
}


@click.command("drivers")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def drivers_command(as_json: bool) -> None:
    """List every driver of the lab folder and of installed packages.

    With the addresses it takes, the manual or source it follows, what it was checked with, its simulated instrument,
    and whether the conformance kit can try it. Exit code 1 if one cannot be loaded.
    """
    from labctl.shelf import shelf

    found = shelf(places.lab_folder())
    if as_json:
        show_text.print_json(found)
    else:
        rows = [
            (
                one.driver,
                " ".join(one.transports) or "-",
                one.simulator.rpartition(":")[2] if one.simulator else "-",
                _state(one),
                one.manual or "-",
                one.checked_with or "-",
            )
            for one in found
        ]
        headings = ("driver", "transports", "simulator", "state", "manual or source", "checked with")
        click.echo(show_text.table(headings, rows) if rows else "no drivers")
        for one in found:
            if one.problem:
                click.echo(f"{one.driver}: {one.problem}", err=True)
    if any(one.problem for one in found):
        click.get_current_context().exit(1)


def _state(one: Shelved) -> str:
    """One or two words."""
    if one.problem:
        return "cannot be used"
    source = f", {one.package}" if one.package else ""
    if one.kit:
        return f"kit{source}"
    return ("no demo()" if one.simulator else "no simulator") + source


@click.group("new")
def new_command() -> None:
    """Begin a lab folder or a driver of one's own: files that work at once, to be changed."""


@new_command.command("lab")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def new_lab_command(folder: Path) -> None:
    """Copy the lab folder that comes with labctl to FOLDER: drivers, sequences, simulated instruments, lab files.

    \b
      labctl new lab mylab && cd mylab && labctl up
    """
    from labctl.lab import shipped

    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty; give a folder that does not exist yet")
    source = shipped()
    for name in FOLDERS:
        shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    click.echo(f"{folder} is a copy of {source}; begin with `cd {folder}`, `labctl drivers`, `labctl up`")


@new_command.command("driver")
@click.argument("name")
@click.option("--class", "class_name", metavar="NAME", help="Name of the class. Default: NAME in capitals and lower case.")  # fmt: skip
@click.option("--port", type=click.IntRange(1, 65535), default=5025, show_default=True, help="TCP port of the instrument.")  # fmt: skip
def new_driver_command(name: str, class_name: str | None, port: int) -> None:
    """Write drivers/NAME.py, simulated_hw/NAME.py and tests/wire/test_NAME.py of an instrument of text lines.

    They work at once: a voltage, a switch, safe(), the simulated instrument, tests. Change them to the command list of
    the manual; docs/howto-new-instrument.md shows how. Prints the table for the lab file.

    \b
      labctl new driver acme_chiller --port 4001
    """
    from labctl.lab import shipped

    lab = places.lab_folder()
    if lab == shipped() and lab.name == "_lab":
        raise ConfigError(
            f"{lab} belongs to the installed labctl; make a lab folder of your own, `labctl new lab mylab`, and go there"
        )
    cls = class_name or "".join(word.capitalize() for word in name.split("_"))
    _check_names(name, cls)
    files = {lab / where.format(name): template for template, where in TEMPLATES.items()}
    there = [str(file) for file in files if file.exists()]
    if there:
        raise ConfigError(f"{', '.join(there)}: there already; nothing was written")
    words = {"name": name, "class": cls, "port": str(port), "maker": name.partition("_")[0].upper()}
    for file, template in files.items():
        text = (Path(__file__).parent / "new_driver" / template).read_text()
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.parent.name in FOLDERS:
            _make_package(file.parent)
        file.write_text(Template(text).substitute(words))
        click.echo(f"wrote {file.relative_to(lab)}")
    click.echo(f"""
for the lab file, simulated until the address is that of the real one and the second table is gone:

[device.alice.{name}]
driver = "drivers.{name}:{cls}"
address = "tcp://127.0.0.1:{port}"

[world.simulator.alice.{name}]
instrument = "simulated_hw.{name}:Sim{cls}"

to test (in {lab}):

python -m pytest --pyargs labctl.conformance --driver drivers.{name}:{cls}
python -m pytest tests/wire/test_{name}.py""")


def _make_package(folder: Path) -> None:
    """Give a folder of the lab its ``__init__.py``: without one, a package of the same name elsewhere would be found first."""
    file = folder / "__init__.py"
    if not file.exists():
        file.write_text(f'"""The {folder.name} of this lab."""\n')


def _check_names(name: str, cls: str) -> None:
    """ConfigError if these cannot be a module and a class."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a file of Python: lower case letters, digits and _, e.g. acme_chiller"
        )
    if not cls.isidentifier() or keyword.iskeyword(cls):
        raise ConfigError(
            f"{cls!r} cannot be the name of a class; give one with --class, e.g. --class AcmeChiller"
        )
