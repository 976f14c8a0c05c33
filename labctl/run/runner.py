"""The loop of an acquisition: check, journal every record, pause while the lab is not fit, publish at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from labctl.analysis.value import Estimate
from labctl.clock import utc_now
from labctl.core.session import (
    FinishedMessage,
    HostPointMessage,
    Message,
    ProgressMessage,
    RecordMessage,
    TagsMessage,
)
from labctl.errors import LabError, RunError, StorageError
from labctl.run import folder as folders
from labctl.run.journal import Journal
from labctl.run.publish import publish
from labctl.run.results import Result
from labctl.run.tag_check import FOLDER as TAGS
from labctl.schedule.items import Schedule, to_json

if TYPE_CHECKING:
    from labctl.tags.recording import Stretch, TagWriter

COMPLETE = "complete"


class CorePort(Protocol):
    """What the runner needs of a core, near or far."""

    def start(self, schedule: Schedule, rounds: int, first_record: int) -> None:
        """Begin to play."""
        ...

    def batches(self) -> Iterator[list[Message]]:
        """What comes back, an empty batch now and then in between, until one that ends with the finished message.

        A batch is acknowledged when the next is asked for.
        """
        ...

    def pause(self) -> None:
        """Hold."""
        ...

    def resume(self) -> None:
        """Go on."""
        ...

    def stop(self) -> None:
        """End soon; the finished message still comes."""
        ...


class Observer:
    """Somebody who watches a run: every method may be overridden, none has to be."""

    def began(self, rid: int, folder: Path, schedule: Schedule, rounds: int) -> None:
        """A run folder exists."""

    def record(self, message: RecordMessage) -> None:
        """A record is on disk."""

    def progress(self, message: ProgressMessage) -> None:
        """Time passes."""

    def host_point(self, name: str) -> None:
        """The core waits at a host point; it goes on when this returns (and nothing else holds it)."""

    def paused(self, reason: str) -> None:
        """Data-taking waits; "" when it goes on."""

    def ended(self, outcome: Outcome) -> None:
        """It is over."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    reason:   "complete", "stopped", or what went wrong
    records:  on disk
    tags:     what its time tags say of its heralds; "" without tags
    """

    rid: int
    folder: Path
    reason: str
    records: int
    results: list[Result] = field(default_factory=list[Result])
    error: str = ""
    tags: str = ""

    @property
    def complete(self) -> bool:
        """Whether every round was taken."""
        return self.reason == COMPLETE

    def value(self, key: str) -> Estimate:
        """One figure of the run; RunError if it was not determined."""
        for result in self.results:
            if result.key == key:
                return result.value
        raise RunError(
            f"run {self.rid} did not determine {key!r}; it has {', '.join(r.key for r in self.results) or 'no figures'}"
        )


@dataclass(frozen=True)
class _Taking:
    """A run in progress. ``before_ps`` and ``before_attempts`` are what it had when it was resumed."""

    rid: int
    folder: Path
    schedule: Schedule
    rounds: int
    journal: Journal
    tags: _Tags
    about: dict[str, Any]
    observer: Observer
    before_ps: int = 0
    before_attempts: int = 0


class _Tags:
    """The time tags of a run in its folder; pyarrow is loaded when the first come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / TAGS
        self._writer: TagWriter | None = None

    def write(self, messages: list[TagsMessage]) -> None:
        """On disk, as one block."""
        if not messages:
            return
        if self._writer is None:
            from labctl.tags.recording import TagWriter

            self._writer = TagWriter(self._folder)
        self._writer.write([_stretch(message) for message in messages])

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.close()


def _stretch(message: TagsMessage) -> Stretch:
    from labctl.tags.recording import Stretch

    layout = message.layout
    return Stretch(
        message.record,
        message.loop,
        message.since_ps,
        message.until_ps,
        layout.marker,
        layout.detectors,
        layout.after_ps,
        layout.window_ps,
        np.frombuffer(message.times_ps, "<i8"),
        np.frombuffer(message.channels, np.uint8),
        np.frombuffer(message.block_clicks, "<u2").reshape(-1, max(1, message.block_gates)),
    )


class Runner:
    """Takes runs on one core.

    core:      plays the schedules
    runs:      folder of run folders
    lab:       lab folder, for provenance
    config:    effective configuration, stored with every run
    snapshot:  reads the devices, stored before and after
    trouble:   why data must not be taken now: device -> reason; asked between messages
    sources:   (name, value, unit, source) of the simulated world's component values, stored with every run
    report:    whether a run gets a report with pictures
    """

    def __init__(
        self,
        core: CorePort,
        runs: Path,
        lab: Path,
        config: Mapping[str, Any],
        *,
        snapshot: Callable[[], dict[str, Any]] = dict,
        trouble: Callable[[], dict[str, str]] = dict,
        seed: int | None = None,
        sources: list[tuple[str, Any, str, str]] | None = None,
        report: bool = True,
    ) -> None:
        self._core = core
        self.runs = runs
        self._lab = lab
        self._config = config
        self._snapshot = snapshot
        self._trouble = trouble
        self._seed = seed
        self._sources = sources or []
        self._report = report
        self.stop_requested = threading.Event()
        """Set from any thread (or a signal handler) to end the run in progress in good order."""

    def run(
        self, schedule: Schedule, rounds: int, observer: Observer | None = None, label: str = ""
    ) -> Outcome:
        """Take ``rounds`` rounds (or shots) of a checked schedule into a new run folder."""
        if rounds < 1:
            raise RunError(f"a run needs at least one round, not {rounds}")
        devices = self._snapshot()
        rid, folder = folders.new(self.runs, schedule.name)
        about = self._about(rid, schedule, rounds, label) | {"devices_before": devices}
        about |= {"components": self._sources} if self._sources else {}
        folders.write_json(folder / "run.json", about)
        folders.write(folder / "schedule.json", to_json(schedule))
        journal = Journal.create(folder / "journal", self._header(schedule, rounds))
        return self._take(
            _Taking(rid, folder, schedule, rounds, journal, _Tags(folder), about, observer or Observer())
        )

    def resume(self, rid: int, schedule: Schedule, observer: Observer | None = None) -> Outcome:
        """Go on with the next round of a run that was cut short."""
        folder = folders.find(self.runs, rid)
        about = folders.read_json(folder)
        journal, content = Journal.resume(folder / "journal")
        if "rounds" not in content.header:
            journal.close()
            raise RunError(f"run {rid} was cut short before it began; take a new one")
        began = {"at": utc_now(), "record": journal.next_record}
        about |= {"reason": "running", "error": "", "resumed": [*about.get("resumed", []), began]}
        folders.write_json(folder / "run.json", about)
        journal.note({"resumed": journal.next_record})
        end = content.end or {}
        last_ps = content.last_ps
        return self._take(
            _Taking(
                rid,
                folder,
                schedule,
                int(content.header["rounds"]),
                journal,
                _Tags(folder),
                about,
                observer or Observer(),
                max(last_ps, int(end.get("time_ps", 0))),
                int(end.get("attempts", 0)),
            )
        )

    def _take(self, taking: _Taking) -> Outcome:
        """Until it is over, however it ends; then what there is gets published."""
        taking.observer.began(taking.rid, taking.folder, taking.schedule, taking.rounds)
        reason, error, times = "failed", "", dict[str, int]()
        try:
            finished = self._loop(taking)
            reason, error = finished.reason, finished.error
            times = {
                "time_ps": taking.before_ps + finished.time_ps,
                "attempts": taking.before_attempts + finished.attempts,
            }
        except LabError as failure:
            reason, error = _reason(failure), str(failure)
        except BaseException:
            taking.journal.close()
            raise
        finally:
            taking.tags.close()
        records = taking.journal.next_record
        try:
            taking.journal.close(reason, **times)
        except StorageError as failure:
            reason, error = (_reason(failure) if reason == COMPLETE else reason), error or str(failure)
        about: dict[str, Any] = taking.about | {
            "ended": utc_now(),
            "reason": reason,
            "error": error,
            "records": records,
        }
        try:
            about["devices_after"] = self._snapshot()
        except LabError as failure:
            about["devices_after"] = {"unknown": str(failure)}
        results: list[Result] = []
        try:
            results = publish(taking.folder, about, self._report)
        except LabError as failure:
            reason, error = (_reason(failure) if reason == COMPLETE else reason), error or str(failure)
        said = str(about.get("tags", {}).get("text") or about.get("tags_error", ""))
        outcome = Outcome(taking.rid, taking.folder, reason, records, results, error, said)
        taking.observer.ended(outcome)
        return outcome

    def _loop(self, taking: _Taking) -> FinishedMessage:
        """Everything between start and the finished message; a batch is on disk before the next is looked at."""
        journal = taking.journal
        self._core.start(taking.schedule, taking.rounds - journal.next_record, journal.next_record)
        batches = self._core.batches()
        try:
            return self._follow(batches, taking)
        except BaseException:
            with suppress(LabError):  # what went wrong first is what counts
                self._core.stop()
                for batch in batches:
                    if batch and isinstance(batch[-1], FinishedMessage):
                        break
            raise

    def _follow(self, batches: Iterator[list[Message]], taking: _Taking) -> FinishedMessage:
        held = ""
        stopping = waiting = False
        for batch in batches:
            self._keep(batch, taking)
            for message in batch:
                match message:
                    case RecordMessage():
                        taking.observer.record(message)
                    case ProgressMessage():
                        taking.observer.progress(message)
                    case HostPointMessage():
                        taking.observer.host_point(message.name)
                        waiting = True
                    case FinishedMessage():
                        return message
                    case TagsMessage():
                        pass  # kept above
            if self.stop_requested.is_set() and not stopping:
                stopping = True
                self._core.stop()
            held = self._hold(held, taking.journal, taking.observer)
            if waiting and not held:
                waiting = False
                self._core.resume()
        raise RunError("the core went away without saying why; see the log of the host that runs it")

    def _keep(self, batch: list[Message], taking: _Taking) -> None:
        """The batch's time tags on disk, then its records, together."""
        taking.tags.write([message for message in batch if isinstance(message, TagsMessage)])
        taking.journal.extend(
            (message.number, taking.before_ps + message.time_ps, message.values)
            for message in batch
            if isinstance(message, RecordMessage)
        )

    def _hold(self, held: str, journal: Journal, observer: Observer) -> str:
        """Pause while there is trouble; what it was is noted in the journal."""
        now = "; ".join(f"{device}: {why}" for device, why in sorted(self._trouble().items()))
        if now and not held:
            self._core.pause()
            journal.note({"paused": now})
            observer.paused(now)
        elif held and not now:
            journal.note({"paused": ""})
            observer.paused("")
            self._core.resume()
        return now

    def _header(self, schedule: Schedule, rounds: int) -> dict[str, Any]:
        """What the journal itself says of the run: the same for the same run repeated, so no time and no number."""
        return {
            "journal": 1,
            "sequence": schedule.name,
            "arguments": schedule.arguments,
            "schedule_sha256": folders.digest(to_json(schedule)),
            "rounds": rounds,
            "seed": self._seed,
        }

    def _about(self, rid: int, schedule: Schedule, rounds: int, label: str) -> dict[str, Any]:
        return {
            "rid": rid,
            "parent_rid": None,
            "sequence": schedule.name,
            "label": label,
            "arguments": schedule.arguments,
            "analysis": schedule.analysis,
            "columns": {
                name: {"unit": c.unit, "long_name": c.long_name} for name, c in schedule.columns.items()
            },
            "rounds": rounds,
            "record_kind": schedule.rounds,
            "schedule_sha256": folders.digest(to_json(schedule)),
            "seed": self._seed,
            "began": utc_now(),
            "reason": "running",
            "config": dict(self._config),
            "provenance": folders.provenance(self._lab),
        }


def _reason(failure: LabError) -> str:
    return "storage" if isinstance(failure, StorageError) else type(failure).__name__
