"""Which labs are up on this machine: a locked file per lab in ``.labctl/`` of the lab folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from labctl import lab as labs
from labctl.errors import ConfigError, NoHubError


class Runtime(msgspec.Struct, frozen=True):
    """A lab that is up.

    name:     of the lab
    config:   its lab file
    lab:      its lab folder
    hub:      address of its hub
    pid:      process that supervises it
    runs:     folder of its run folders
    started:  wall clock, ISO 8601
    state:    folder of its logs
    """

    name: str
    config: str
    lab: str
    hub: str
    pid: int
    runs: str
    started: str
    state: str


def state_folder(lab: Path) -> Path:
    """Where what belongs to running labs is kept: ``.labctl`` in the lab folder; in the home folder for the lab shipped with labctl."""
    if lab.name == "_lab":
        return _in_home()
    folder = lab / ".labctl"
    with contextlib.suppress(OSError):  # a lab folder shipped with an installed labctl may be read-only
        folder.mkdir(exist_ok=True)
    if not os.access(folder, os.W_OK):
        return _in_home()
    return folder


def _in_home() -> Path:
    folder = Path.home() / ".local" / "state" / "labctl"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Claim:
    """The right to be the one process that runs a lab; given up when the process ends, however it ends."""

    def __init__(self, lab: Path, name: str) -> None:
        self.folder = state_folder(lab) / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] = (self.folder / "lock").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            other = _read(self.folder)
            who = f" by process {other.pid} since {other.started}, hub {other.hub}" if other else ""
            raise ConfigError(
                f"lab {name} is up already{who}; use it (`labctl ls`), end it (`labctl down`), or start another copy with --free-ports"
            ) from None

    def publish(self, runtime: Runtime) -> None:
        """Say where the lab's hub is."""
        temporary = self.folder / "runtime.tmp"
        temporary.write_bytes(msgspec.json.encode(runtime))
        temporary.replace(self.folder / "runtime.json")

    def close(self) -> None:
        """Give the claim up."""
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "runtime.json").unlink()
        self._file.close()


def running(lab: Path) -> Iterator[Runtime]:
    """The labs of this lab folder that are up."""
    for folder in sorted(state_folder(lab).iterdir()):
        lock = folder / "lock"
        if not lock.exists():
            continue
        with lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                found = _read(folder)
                if found is not None:
                    yield found


def find(lab: Path | None = None, name: str = "") -> Runtime:
    """The lab that is up (the one called ``name``, if there are several); NoHubError if there is none."""
    folder = lab or labs.find()
    up = [one for one in running(folder) if name in ("", one.name)]
    if not up:
        raise NoHubError(
            f"no lab{f' {name}' if name else ''} is up in {folder}; start one with `labctl up configs/NAME.toml`"
        )
    if len(up) > 1:
        raise NoHubError(
            f"several labs are up in {folder}: {', '.join(one.name for one in up)}; say which with --lab-name"
        )
    return up[0]


def _read(folder: Path) -> Runtime | None:
    try:
        return msgspec.json.decode((folder / "runtime.json").read_bytes(), type=Runtime)
    except (OSError, msgspec.DecodeError):
        return None
