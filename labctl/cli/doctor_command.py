"""``labctl doctor``: is everything in order, and if not, what to do."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from labctl.cli import places, show_text
from labctl.cli.run_commands import json_option
from labctl.errors import LabError, NoHubError

LEAST_FREE_GB = 1.0
LARGEST_OFFSET_S = 0.1
"""Clocks of hosts that are further apart make the times of events useless."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    good: bool
    text: str


@click.command("doctor")
@json_option
def doctor_command(as_json: bool) -> None:
    """Check installation, lab folder, every lab file in configs/, disk, and the lab that is up; exit code 1 if something is wrong.

    No lab being up is not wrong.
    """
    found: list[Finding] = []
    for look in (_versions, _visa, _lab_folder, _configs, _disk, _lab_up):
        found += look()
    if as_json:
        show_text.print_json(found)
    else:
        for one in found:
            mark = click.style("ok   ", fg="green") if one.good else click.style("WRONG", fg="red")
            click.echo(f"{mark}  {one.what:<14} {one.text}")
    if not all(one.good for one in found):
        click.get_current_context().exit(1)


def _versions() -> list[Finding]:
    good = sys.version_info >= (3, 11)
    found = [
        Finding("python", good, sys.version.split()[0] + ("" if good else "; labctl needs 3.11 or newer"))
    ]
    for package in (
        "labctl",
        "pyzmq",
        "msgspec",
        "numpy",
        "scipy",
        "numba",
        "pyserial",
        "h5netcdf",
        "xarray",
    ):
        try:
            found.append(Finding(package, True, version(package)))
        except PackageNotFoundError:
            found.append(Finding(package, False, "not installed; `pip install labctl` again"))
    return found


def _visa() -> list[Finding]:
    try:
        return [
            Finding(
                "pyvisa", True, f"{version('pyvisa')} with pyvisa-py {version('pyvisa-py')} (backend @py)"
            )
        ]
    except PackageNotFoundError as error:
        return [Finding("pyvisa", False, f"{error.name} is not installed; visa:// addresses cannot be used")]


def _lab_folder() -> list[Finding]:
    return _guard("lab folder", lambda: [Finding("lab folder", True, str(places.lab_folder()))])


def _configs() -> list[Finding]:
    def look() -> list[Finding]:
        files = places.config_files()
        if not files:
            return [Finding("lab files", False, f"none in {places.lab_folder() / 'configs'}")]
        return [finding for file in files for finding in _guard(file.name, lambda f=file: [_config(f)])]

    return _guard("lab files", look)


def _config(file: Path) -> Finding:
    """Reads the file and imports every driver it names, opening nothing."""
    from labctl import config as configs
    from labctl import lab as labs

    config = configs.load(file)
    lab = places.lab_folder(file)
    for device in config.device:
        labs.device_maker(config, device, lab)
    names = labs.sequence_names(config, lab)
    for name in config.sequences.values():
        labs.load(name, lab)
    text = f"{len(config.device)} devices, {len(config.line)} lines, {len(names)} sequences"
    if config.world is None:
        kind = "real"
    else:
        kind = "simulated" if configs.simulating(config).world else "real, or simulated with `up --sim`"
    return Finding(file.name, True, f"{text}, {kind}")


def _disk() -> list[Finding]:
    folder = places.runs_folder(None)
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free_gb = shutil.disk_usage(there).free / 1e9
    good = free_gb >= LEAST_FREE_GB
    return [
        Finding(
            "disk",
            good,
            f"{free_gb:.1f} GB free for {folder}{'' if good else '; make room before taking data'}",
        )
    ]


def _lab_up() -> list[Finding]:
    def look() -> list[Finding]:
        hub = places.hub_address()
        with places.connect() as client:
            rows = client.devices()
        found = [Finding("lab", True, f"up, hub {hub}, {len(rows)} devices and services")]
        for row in rows:
            if row.required and row.state != "ready":
                found.append(Finding(row.device, False, f"{row.state} {row.reason}".rstrip()))
        offsets = {row.node: row.clock_offset_s for row in rows}
        for node, offset_s in offsets.items():
            good = abs(offset_s) <= LARGEST_OFFSET_S
            hint = "" if good else "; set its clock (chrony or NTP)"
            found.append(Finding(f"clock {node}", good, f"{offset_s * 1e3:+.1f} ms from the hub's{hint}"))
        return found

    try:
        if not places.option("hub"):
            places.runtime()
    except NoHubError as error:
        return [Finding("lab", True, str(error))]
    except LabError as error:
        return [Finding("lab", False, str(error))]
    return _guard("lab", look)


def _guard(what: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return look()
    except LabError as error:
        return [Finding(what, False, str(error))]
