"""Run folders: one per acquisition, numbered, never reused; ``run.json`` says what made it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from labctl.errors import DataError, StorageError

PACKAGES = (
    "labctl",
    "pyzmq",
    "msgspec",
    "numpy",
    "scipy",
    "numba",
    "pyvisa",
    "pyvisa-py",
    "pyserial",
    "h5netcdf",
    "xarray",
)


def new(runs: Path, name: str) -> tuple[int, Path]:
    """A fresh run number (RID) and its folder ``runs/000012_name``."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with (runs / "last_rid").open("a+") as counter:
            fcntl.flock(counter, fcntl.LOCK_EX)
            counter.seek(0)
            text = counter.read().strip()
            present = [int(p.name[:6]) for p in runs.iterdir() if p.name[:6].isdigit()]
            rid = max([int(text or 0), *present]) + 1
            folder = runs / f"{rid:06d}_{name}"
            folder.mkdir()
            counter.seek(0)
            counter.truncate()
            counter.write(str(rid))
    except OSError as error:
        raise StorageError(
            f"{runs}: cannot make a run folder ({error.strerror}); check the disk and its permissions"
        ) from None
    return rid, folder


def find(runs: Path, rid: int) -> Path:
    """The folder of a run; DataError lists the newest ones."""
    for path in runs.glob(f"{rid:06d}_*"):
        return path
    newest = sorted(p.name for p in runs.glob("[0-9]*_*"))[-5:] if runs.is_dir() else []
    raise DataError(f"no run {rid} in {runs}; the newest are {', '.join(newest) or 'none'}")


def every(runs: Path) -> Iterator[Path]:
    """All run folders, oldest first."""
    if runs.is_dir():
        yield from sorted(p for p in runs.glob("[0-9][0-9][0-9][0-9][0-9][0-9]*_*") if p.is_dir())


def write(path: Path, content: bytes) -> None:
    """Replace a file at once (rename), so that a reader never sees half of it; StorageError if that fails."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(
            f"{path}: cannot write ({error.strerror}); the journal is complete: free some space or fix the disk, "
            "then `labctl show RID --publish`"
        ) from None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file at once."""
    write(path, json.dumps(content, indent=1, default=str).encode())


def read_json(folder: Path) -> dict[str, Any]:
    """A run's ``run.json``."""
    try:
        return json.loads((folder / "run.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"{folder / 'run.json'}: cannot be read ({error})") from None


def provenance(lab: Path) -> dict[str, Any]:
    """What software made a run: versions, Python, machine, git commit and uncommitted changes of the lab folder."""
    versions: dict[str, str] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "packages": versions,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "git": {"commit": _git(lab, "rev-parse", "HEAD").strip(), "diff": _git(lab, "diff", "HEAD")},
    }


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
