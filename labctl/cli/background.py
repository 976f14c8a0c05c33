"""``labctl up --detach``: a lab that stays up after the command has returned."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from labctl.cli import places, show_text
from labctl.clock import SystemClock
from labctl.errors import BusError, ConfigError, DeviceError, NoHubError

if TYPE_CHECKING:
    from labctl.up.runtime import Runtime


def start_detached(
    given: str | None,
    free_ports: bool,
    speed: float | None,
    seed: int | None,
    simulate: tuple[str, ...],
    runs: Path | None,
    ready_s: float,
) -> None:
    """Start ``labctl up`` in a session of its own, wait until its devices are ready, and return.

    ConfigError with its last line if it ends at once; DeviceError if devices are not ready in time (it stays up).
    """
    from labctl.up.runtime import state_folder

    config, lab = places.load_config(given, seed=seed, speed=speed, simulate=simulate)
    log = state_folder(lab) / config.name / "up.log"
    log.parent.mkdir(exist_ok=True)
    words = [sys.executable, "-m", "labctl", "--lab", str(lab), "up", str(config.path)]
    words += ["--runs", str((runs or places.default_runs(lab)).resolve()), "--ready-within", str(ready_s)]
    words += ["--free-ports"] if free_ports else []
    for key, value in (("--speed", speed), ("--seed", seed)):
        words += [] if value is None else [key, str(value)]
    for name in simulate:
        words += ["--sim", name]
    with log.open("a") as out:
        begin = out.tell()
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    required = {name for name, device in config.device.items() if not device.optional}
    running = _wait(child, lab, log, begin, required, ready_s)
    click.echo(
        f"{running.name} is up, {len(required)} devices ready; hub {running.hub}; log {log}; end it with `labctl down`"
    )


def _wait(
    child: subprocess.Popen[bytes], lab: Path, log: Path, begin: int, required: set[str], ready_s: float
) -> Runtime:
    clock = SystemClock()
    deadline = clock.now() + ready_s
    missing = dict.fromkeys(required, "not there yet")
    while clock.now() < deadline:
        if child.poll() is not None:
            lines = log.read_bytes()[begin:].decode(errors="replace").strip().splitlines()
            last = lines[-1].removeprefix("labctl: ") if lines else "it ended without a word"
            raise ConfigError(f"the lab did not come up: {last} (log {log})")
        found = _runtime_of(child.pid, lab)
        if found is not None:
            missing = _missing(found.hub, required)
            if not missing:
                return found
        clock.sleep(0.2)
    listed = "; ".join(f"{name}: {why}" for name, why in sorted(missing.items()))
    raise DeviceError(
        f"not ready after {show_text.seconds(ready_s)}: {listed}; the lab stays up and goes on trying, see `labctl ls`, end it with `labctl down`"
    )


def _runtime_of(pid: int, lab: Path) -> Runtime | None:
    from labctl.up.runtime import running

    return next((one for one in running(lab) if one.pid == pid), None)


def _missing(hub: str, required: set[str]) -> dict[str, str]:
    """Required device -> why it is not ready."""
    from labctl.bus.client import Client

    try:
        with Client(hub) as client:
            rows = {row.device: row for row in client.devices()}
    except (NoHubError, BusError) as error:
        return {name: str(error) for name in required}
    return {
        name: f"{rows[name].state} {rows[name].reason}".rstrip() if name in rows else "no host has it yet"
        for name in required
        if name not in rows or rows[name].state != "ready"
    }
