"""From a schedule to the three files of an ARTIQ experiment: source, expected timeline, report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labctl.config import ArtiqConfig
from labctl.core.artiq.device_db import DeviceDb
from labctl.core.artiq.emit import emit
from labctl.core.artiq.lower import lower
from labctl.core.artiq.plan import Plan
from labctl.core.artiq.sidecar import report, sidecar
from labctl.core.artiq.slack import CALIBRATED, Costs
from labctl.core.artiq.text import identifier
from labctl.errors import ScheduleError, StorageError
from labctl.schedule.items import Schedule
from labctl.schedule.lines import Line
from labctl.schedule.problem import Problem


@dataclass(frozen=True)
class Experiment:
    """An emitted experiment: its source, the JSON text of its expected timeline, a report; and the plan behind them."""

    name: str
    source: str
    sidecar: bytes
    report: str
    plan: Plan

    def write(self, folder: Path) -> list[Path]:
        """Write the three files, NAME.py, NAME.json and NAME.txt; StorageError if that fails."""
        files = {f"{self.name}.py": self.source.encode(), f"{self.name}.json": self.sidecar}
        files[f"{self.name}.txt"] = self.report.encode()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, data in files.items():
                (folder / name).write_bytes(data)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be written ({error.strerror})") from None
        return [folder / name for name in files]


def problems(
    schedule: Schedule,
    lines: Mapping[str, Line],
    config: ArtiqConfig,
    db: DeviceDb,
    *,
    costs: Costs = CALIBRATED,
    links: Iterable[tuple[str, str]] = (),
) -> list[Problem]:
    """Everything that keeps a schedule from being played by this ARTIQ system."""
    return lower(schedule, lines, config, db, costs=costs, links=links).problems


def compile_schedule(
    schedule: Schedule,
    lines: Mapping[str, Line],
    config: ArtiqConfig,
    db: DeviceDb,
    *,
    how: Mapping[str, str] | None = None,
    costs: Costs = CALIBRATED,
    links: Iterable[tuple[str, str]] = (),
) -> Experiment:
    """The experiment of a schedule; ScheduleError with every problem if there is none.

    how:    block -> "source", "table" or "dma", instead of what would be chosen
    costs:  CPU time of the core's calls, for the slack
    links:  pairs of nodes that a link joins; a schedule keeps to nodes that are joined
    """
    done = lower(schedule, lines, config, db, how=how, costs=costs, links=links)
    if done.plan is None:
        found = [str(problem) for problem in done.problems]
        count = f"{len(found)} problem{'s' if len(found) > 1 else ''}"
        raise ScheduleError(f"{schedule.name} cannot be compiled for ARTIQ, {count}:", found)
    source, places = emit(done.plan, done.bound, db, costs)
    return Experiment(
        identifier(schedule.name).lower(),
        source,
        sidecar(done.plan, done.slack, costs, places),
        report(done.plan, done.slack, costs),
        done.plan,
    )
