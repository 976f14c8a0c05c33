"""Runs the processes of a lab: hub, one host per node, and the world of a simulated lab; restarts those that die."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from labctl.bus.client import Client
from labctl.bus.safe_mark import forget_all
from labctl.bus.wire import DeviceRow
from labctl.clock import SystemClock, utc_now
from labctl.config import LabConfig
from labctl.errors import BusError, ConfigError, DeviceError, from_wire
from labctl.lab import device_maker
from labctl.up.process import QUIT, SAFE, Task
from labctl.up.runtime import Claim, Runtime

START_TIMEOUT_S = 30.0
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 10.0
STEADY_S = 30.0
"""A process that lived so long starts its back-off anew, s."""


@dataclass
class _Child:
    """One process and how often it had to be started."""

    name: str
    task: Task
    process: subprocess.Popen[str] | None = None
    started: float = 0.0
    backoff_s: float = FIRST_BACKOFF_S
    retry_at: float = 0.0


class Supervisor:
    """Brings a lab up and keeps it up.

    runs:  folder of run folders (default: ``runs`` in the lab folder)
    echo:  told, line by line, what an operator should know
    """

    def __init__(
        self, config: LabConfig, lab: Path, *, runs: Path | None = None, echo: Callable[[str], None] = print
    ) -> None:
        self.config = config
        self.lab = lab
        self.runs = runs or lab / "runs"
        self.hub = ""
        """Address of the hub once started."""
        self.echo = echo
        self._clock = SystemClock()
        self._children: list[_Child] = []
        self._claim: Claim | None = None
        self._closed = False

    def start(self) -> None:
        """Start every process; ConfigError or BusError, with nothing left running, if one cannot."""
        for device in self.config.device:  # every driver, option and declared state, before anything starts
            device_maker(self.config, device, self.lab)
        self._claim = Claim(self.lab, self.config.name)
        try:
            self._forget_safe()
            tables = self._claim.folder / "effective.json"
            tables.write_bytes(msgspec.json.encode(self.config.effective))
            self.hub = self._launch("hub", self._task("hub", tables))["hub"]
            if self.config.world is not None:
                self._launch("world", self._task("world", tables))
            for node in self.config.nodes:
                self._launch(node, self._task("host", tables, node))
            self._claim.publish(self.runtime)
        except BaseException:
            self.close(safe=False)
            raise

    @property
    def runtime(self) -> Runtime:
        """How others find this lab."""
        assert self._claim is not None
        return Runtime(
            self.config.name,
            str(self.config.path),
            str(self.lab),
            self.hub,
            os.getpid(),
            str(self.runs),
            utc_now(),
            str(self.state),
        )

    @property
    def state(self) -> Path:
        """Folder of the logs of this lab's processes."""
        assert self._claim is not None
        return self._claim.folder

    def wait_ready(
        self, timeout_s: float, on_change: Callable[[list[DeviceRow]], None] | None = None
    ) -> None:
        """Return when every required device is ready; DeviceError after ``timeout_s`` s says which are not, and why."""
        deadline = self._clock.now() + timeout_s
        before: list[tuple[str, str, str]] = []
        with Client(self.hub) as client:
            while True:
                self.check()
                rows = client.devices()
                now = [(row.device, row.state, row.reason) for row in rows]
                if now != before and on_change is not None:
                    on_change(rows)
                before = now
                waiting = not_ready(self.config, rows)
                if not waiting:
                    return
                if self._clock.now() > deadline:
                    raise DeviceError(
                        f"not ready after {timeout_s:g} s: "
                        + "; ".join(f"{name}: {why}" for name, why in waiting.items())
                    )
                self._clock.sleep(0.1)

    def check(self) -> None:
        """Restart what has died, with back-off."""
        now = self._clock.now()
        for child in self._children:
            if child.process is None:
                if now >= child.retry_at:
                    self._again(child)
            elif child.process.poll() is not None:
                code = child.process.returncode
                self._forget(child)
                if now - child.started > STEADY_S:
                    child.backoff_s = FIRST_BACKOFF_S
                child.retry_at = now + child.backoff_s
                self.echo(
                    f"{child.name} ended (exit code {code}); it is started again in {child.backoff_s:g} s, see {child.task.log}"
                )
                child.backoff_s = min(child.backoff_s * 2, LONGEST_BACKOFF_S)

    def run_until(self, stop: threading.Event) -> None:
        """Supervise until ``stop`` is set."""
        while not stop.wait(0.2):
            self.check()

    def close(self, safe: bool = True) -> None:
        """End every process: hosts first (making their instruments safe, unless told not to), then world and hub."""
        if self._closed:
            return
        self._closed = True
        hosts = [child for child in self._children if child.task.role == "host"]
        others = [child for child in reversed(self._children) if child.task.role != "host"]
        self._end(hosts, SAFE if safe else QUIT, 25.0)
        for child in others:
            self._end([child], QUIT, 10.0)
        if self._claim is not None:
            self._claim.close()

    def __enter__(self) -> Supervisor:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it, instruments safe."""
        self.close()

    def _forget_safe(self) -> None:
        """Bringing a lab up sets every declared state; only hosts started again later leave safe what was made safe."""
        try:
            forget_all(self.state / "safe")
        except OSError as error:
            raise ConfigError(
                f"{error.filename} cannot be removed ({error.strerror}); remove it by hand"
            ) from None

    def _task(self, role: str, tables: Path, node: str = "") -> Task:
        log = tables.parent / f"{node or role}.log"
        return Task(
            role,
            str(self.config.path),
            str(tables),
            str(self.lab),
            self.hub or self.config.hub.address,
            node,
            str(log),
            str(self.state / "safe"),
        )

    def _launch(self, name: str, task: Task) -> dict[str, Any]:
        child = _Child(name, task)
        self._children.append(child)
        return self._begin(child)

    def _begin(self, child: _Child) -> dict[str, Any]:
        child.started = self._clock.now()
        log = Path(child.task.log).open("a")  # noqa: SIM115  (closed below; the child keeps its own)
        try:
            child.process = subprocess.Popen(
                [sys.executable, "-m", "labctl.up.process", msgspec.json.encode(child.task).decode()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        finally:
            log.close()
        report = _first_line(child.process, START_TIMEOUT_S)
        if report is None:
            self._forget(child, kill=True)
            raise BusError(f"{child.name} did not start within {START_TIMEOUT_S:g} s; see {child.task.log}")
        if "error" in report:
            self._forget(child, kill=True)
            raise from_wire(report["error"], report["text"])
        return report

    def _again(self, child: _Child) -> None:
        try:
            self._begin(child)
            self.echo(f"{child.name} runs again")
        except (BusError, ConfigError) as error:
            child.process = None
            child.retry_at = self._clock.now() + child.backoff_s
            child.backoff_s = min(child.backoff_s * 2, LONGEST_BACKOFF_S)
            self.echo(f"{child.name} cannot be started: {error}; next try in {child.backoff_s:g} s")

    def _end(self, children: list[_Child], word: str, timeout_s: float) -> None:
        for child in children:
            if child.process is not None and child.process.stdin is not None:
                try:
                    child.process.stdin.write(word + "\n")
                    child.process.stdin.close()
                except OSError:
                    self.echo(f"{child.name} had ended already; see {child.task.log}")
        deadline = self._clock.now() + timeout_s
        for child in children:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.1, deadline - self._clock.now()))
            except subprocess.TimeoutExpired:
                self.echo(f"{child.name} did not end in time and was killed; see {child.task.log}")
            self._forget(child, kill=True)

    def _forget(self, child: _Child, kill: bool = False) -> None:
        process, child.process = child.process, None
        if process is None:
            return
        if kill and process.poll() is None:
            process.kill()
        process.wait(5)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except OSError:
                    continue  # what was not read by a dead process


def not_ready(config: LabConfig, rows: list[DeviceRow]) -> dict[str, str]:
    """Required devices that cannot be used for data now, and why."""
    known = {row.device: row for row in rows}
    found: dict[str, str] = {}
    for name, table in config.device.items():
        row = known.get(name)
        if row is None:
            found[name] = "its host has not registered, or is gone"
        elif row.state != "ready" and not table.optional:
            found[name] = f"{row.state}: {row.reason}" if row.reason else row.state
    return found


def _first_line(process: subprocess.Popen[str], timeout_s: float) -> dict[str, Any] | None:
    """The report of a child, None if it does not come."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], timeout_s)
    line = process.stdout.readline() if ready else ""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
