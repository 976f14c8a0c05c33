"""The demo: bring the simulated lab up, run its procedure, compare with what was published."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from labctl.analysis.link import link_efficiency
from labctl.analysis.value import Estimate
from labctl.bus.client import Client
from labctl.bus.wire import DeviceRow
from labctl.clock import SystemClock
from labctl.config import LabConfig, load, read_toml, simulating
from labctl.errors import ConfigError, RunError
from labctl.lab import folder_of, schedule
from labctl.lab import load as load_code
from labctl.run import folder as folders
from labctl.run.procedure import Figures, Steps
from labctl.run.publish import publish
from labctl.run.runner import Observer, Outcome
from labctl.up.acquire import Acquisition, VirtualLab
from labctl.up.config_ports import with_free_ports
from labctl.up.supervisor import Supervisor

READY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Row:
    """One line of the comparison."""

    key: str
    label: str
    this: str
    published: str
    distance: str
    bad: bool
    """More than three standard errors away, or below a bound."""
    source: str


@dataclass(frozen=True)
class DemoResult:
    """How the demo ended."""

    comparison: list[Row]
    folder: Path


def demo(
    config_path: Path,
    *,
    seed: int | None = None,
    virtual: bool = False,
    runs: Path | None = None,
    echo: Callable[[str], None] = print,
    observer: Observer | None = None,
    on_devices: Callable[[list[DeviceRow]], None] | None = None,
    stop: threading.Event | None = None,
) -> DemoResult:
    """Run the procedure of the lab's ``[demo]`` table; RunError if it was stopped. Every instrument is safe afterwards.

    virtual:  everything in this process, in virtual time (the same seed gives the same bytes)
    stop:     set from a signal handler to end in good order
    """
    config = load(config_path, {} if seed is None else {"world": {"seed": seed}})
    if config.world is not None:
        config = simulating(config, ("all",))
    if config.demo is None:
        raise ConfigError(
            f"{config_path} has no [demo] table: nothing says what to show; add procedure and published"
        )
    lab = folder_of(config_path)
    procedure = cast("Callable[[Steps], Figures]", load_code(config.demo.procedure, lab))
    where = runs or lab / "runs"
    ended = stop or threading.Event()
    if virtual:
        echo("virtual time: the instruments are reached in this process, the same bytes without sockets")
        with VirtualLab(config, lab, seed, where) as here:
            figures = procedure(VirtualSteps(config, lab, here, echo, observer, ended))
    else:
        copy = with_free_ports(config, f"{config.name}-demo-{os.getpid()}")
        echo(f"lab folder {lab}")
        with Supervisor(copy, lab, runs=where, echo=echo) as supervisor:
            echo(
                f"hub {supervisor.hub}; bringing {len(copy.device)} instruments up through their own wire protocols"
            )
            _wait(supervisor, ended, on_devices)
            with Client(supervisor.hub, timeout_s=5.0) as client:
                acquisition = Acquisition(client, copy, lab, where)
                steps = BusSteps(copy, lab, client, acquisition, supervisor, echo, observer, ended)
                figures = procedure(steps)
        shutil.rmtree(supervisor.state, ignore_errors=True)  # logs of a demo that went well
    published = read_toml(config.path.parent / config.demo.published)
    rows = compare(with_link_efficiency(figures.values, published), published)
    _publish(figures, rows)
    return DemoResult(rows, figures.folder)


def compare(values: Mapping[str, Estimate], published: Mapping[str, Any]) -> list[Row]:
    """This run beside what was published; the distance is in combined standard errors."""
    rows: list[Row] = []
    for key, entry in published.items():
        if key not in values or "label" not in entry:
            continue
        this = values[key]
        if "at_least" in entry:
            bound = float(entry["at_least"])
            bad = this.value < bound
            rows.append(
                Row(
                    key,
                    entry["label"],
                    this.compact(),
                    f"> {bound:g}",
                    "below" if bad else "above",
                    bad,
                    entry["source"],
                )
            )
            continue
        other = Estimate(float(entry["value"]), float(entry["sigma"]), entry["unit"])
        pull = this.pull(other)
        text = other.compact() if other.standard_error else f"{entry['value']:g} {entry['unit']}".strip()
        rows.append(
            Row(key, entry["label"], this.compact(), text, f"{pull:+.1f}", abs(pull) > 3, entry["source"])
        )
    return rows


def with_link_efficiency(values: Mapping[str, Estimate], published: Mapping[str, Any]) -> dict[str, Estimate]:
    """The values and, from the measured rate and the published decoherence rate, the quantum link efficiency."""
    found = dict(values)
    entry = published.get("decoherence_rate")
    if entry is not None and "herald_rate" in values:
        found["link_efficiency"] = link_efficiency(
            values["herald_rate"], Estimate(float(entry["value"]), float(entry["sigma"]), entry["unit"])
        )
    return found


class _Steps:
    """What both kinds of lab share for a procedure."""

    def __init__(
        self,
        config: LabConfig,
        lab: Path,
        echo: Callable[[str], None],
        observer: Observer | None,
        stop: threading.Event,
    ) -> None:
        self._config = config
        self._lab = lab
        self._echo = echo
        self._observer = observer
        self._stop = stop

    def say(self, text: str) -> None:
        """Tell the operator."""
        self._echo(text)

    def _taken(
        self,
        take: Acquisition | VirtualLab,
        sequence: str,
        rounds: int,
        label: str,
        arguments: Mapping[str, Any],
    ) -> Outcome:
        made = schedule(
            self._config, self._lab, sequence, {key: str(value) for key, value in arguments.items()}
        )
        watch = threading.Thread(target=self._pass_on, args=(take, done := threading.Event()), daemon=True)
        watch.start()
        try:
            outcome = take.run(made, rounds, self._observer, label)
        finally:
            done.set()
            watch.join()
        if not outcome.complete:
            raise RunError(
                f"run {outcome.rid} ({sequence}) ended after {outcome.records} records: {outcome.error or outcome.reason}; its folder is {outcome.folder}"
            )
        return outcome

    def _pass_on(self, take: Acquisition | VirtualLab, done: threading.Event) -> None:
        while not done.wait(0.1):
            if self._stop.is_set():
                take.stop()
                return


class BusSteps(_Steps):
    """A procedure's view of a lab that is up."""

    def __init__(
        self,
        config: LabConfig,
        lab: Path,
        client: Client,
        acquisition: Acquisition,
        supervisor: Supervisor,
        echo: Callable[[str], None],
        observer: Observer | None,
        stop: threading.Event,
    ) -> None:
        super().__init__(config, lab, echo, observer, stop)
        self._client = client
        self._acquisition = acquisition
        self._supervisor = supervisor

    def get(self, signal: str) -> Any:
        """Ask an instrument."""
        return self._client.get(signal)

    def set(self, signal: str, value: Any) -> None:
        """Set a signal."""
        self._client.set(signal, value)

    def wait_ready(self, timeout_s: float) -> None:
        """Wait in real time."""
        self._supervisor.wait_ready(timeout_s)

    def run(self, sequence: str, rounds: int, label: str = "", **arguments: Any) -> Outcome:
        """Take a run over the bus."""
        self._supervisor.check()
        return self._taken(self._acquisition, sequence, rounds, label, arguments)


class VirtualSteps(_Steps):
    """A procedure's view of a lab in this process."""

    def __init__(
        self,
        config: LabConfig,
        lab: Path,
        here: VirtualLab,
        echo: Callable[[str], None],
        observer: Observer | None,
        stop: threading.Event,
    ) -> None:
        super().__init__(config, lab, echo, observer, stop)
        self._here = here

    def get(self, signal: str) -> Any:
        """Ask an instrument."""
        device, _, name = signal.rpartition(".")
        return self._here.devices[device].signal(name).get()

    def set(self, signal: str, value: Any) -> None:
        """Set a signal."""
        device, _, name = signal.rpartition(".")
        self._here.devices[device].signal(name).set(value)

    def wait_ready(self, timeout_s: float) -> None:
        """Let virtual time pass."""
        self._here.settle(timeout_s * 30)

    def run(self, sequence: str, rounds: int, label: str = "", **arguments: Any) -> Outcome:
        """Take a run in virtual time."""
        return self._taken(self._here, sequence, rounds, label, arguments)


def _wait(
    supervisor: Supervisor, stop: threading.Event, on_devices: Callable[[list[DeviceRow]], None] | None
) -> None:
    """Until the lab is ready, or somebody wants to stop."""
    clock = SystemClock()
    began = clock.now()

    def look(rows: list[DeviceRow]) -> None:
        if on_devices is not None:
            on_devices(rows)
        if stop.is_set():
            raise RunError("stopped before any data was taken; every instrument is being made safe")

    supervisor.wait_ready(READY_TIMEOUT_S, look)
    look([])
    supervisor_ready_s = clock.now() - began
    supervisor.echo(f"all instruments ready after {supervisor_ready_s:.1f} s")


def _publish(figures: Figures, rows: list[Row]) -> None:
    """The comparison and the plots of the other runs into the main run's report."""
    about = folders.read_json(figures.folder)
    about["comparison"] = [
        {
            "label": r.label,
            "this": r.this,
            "published": r.published,
            "distance": r.distance,
            "bad": r.bad,
            "source": r.source,
        }
        for r in rows
    ]
    about["related"] = [_reference(one) for one in figures.related]
    publish(figures.folder, about)


def _reference(outcome: Outcome) -> dict[str, Any]:
    """What a report needs to draw another run's figures."""
    other = folders.read_json(outcome.folder)
    return {
        "rid": outcome.rid,
        "folder": outcome.folder.name,
        "analysis": other["analysis"],
        "arguments": other["arguments"],
    }
