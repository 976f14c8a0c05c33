"""The run in progress and the lab's signals as ARTIQ datasets, read-only, for ARTIQ's applets and dashboard.

Datasets are ``{key: (persist, value, metadata)}``. There are ``labctl.run.rid``, ``.sequence``, ``.records``, ``.state``;
a list per numeric column of the records, ``labctl.run.COLUMN``; ``labctl.figure.NAME`` and ``.NAME.error``; and, while a
lab is up, ``labctl.signal.NODE.DEVICE.SIGNAL`` in SI units. Source: ARTIQ.md section 3.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

from labctl.bus.events import Subscriber
from labctl.errors import LabError
from labctl.ndsp.publisher import StructPublisher
from labctl.run import folder as folders
from labctl.run import journal
from labctl.run.results import results
from labctl.schedule.items import Schedule, from_json

NOTIFIER = "datasets"
LOOK_S = 1.0
"""How often the run folder is looked at, s."""
RUN, FIGURE, SIGNAL = "labctl.run.", "labctl.figure.", "labctl.signal."
VALUE = (1,)
"""Where a dataset has its value."""


class DatasetMirror:
    """Keeps a publisher's datasets like the newest run of a folder, and like the signals on the bus.

    runs:  folder of runs
    hub:   address of the hub, "" for no signals
    """

    def __init__(self, publisher: StructPublisher, runs: Path, hub: str = "") -> None:
        self._publisher = publisher
        self._runs = runs
        self._hub = hub
        self._folder: Path | None = None
        self._schedule: Schedule | None = None
        self._columns: tuple[str, ...] = ()
        self._records = 0
        self._seen_bytes = -1
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._follow_runs, name="datasets-run", daemon=True)]
        if hub:
            self._threads.append(
                threading.Thread(target=self._follow_signals, name="datasets-signals", daemon=True)
            )
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop following; the publisher stays open."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _set(self, key: str, value: Any) -> None:
        self._publisher.set(key, (False, value, {}))

    def _follow_signals(self) -> None:
        with Subscriber(self._hub, ("signal.",)) as subscriber:
            while not self._ended.is_set():
                event = subscriber.receive(0.5)
                payload: Any = None if event is None else event.payload
                value = cast("dict[str, Any]", payload).get("value") if isinstance(payload, dict) else None
                if event is not None and isinstance(value, int | float | str):
                    self._set(SIGNAL + event.topic.removeprefix("signal."), value)

    def _follow_runs(self) -> None:
        while True:
            try:
                self._look()
            except (LabError, OSError) as error:
                self._set(RUN + "state", f"cannot be read: {error}")
            if self._ended.wait(LOOK_S):
                return

    def _look(self) -> None:
        newest = max(folders.every(self._runs), default=None)
        if newest is not None and newest != self._folder and (newest / "schedule.json").exists():
            self._begin(newest)
        if self._folder is None or self._schedule is None:
            return
        file = self._folder / "journal"
        size = file.stat().st_size if file.exists() else 0
        if size == self._seen_bytes:
            return
        self._take(self._schedule, journal.read(file))
        self._seen_bytes = size

    def _begin(self, folder: Path) -> None:
        for key in self._publisher.names():
            if key.startswith((RUN, FIGURE)):
                self._publisher.delete(key)
        schedule = from_json((folder / "schedule.json").read_bytes())
        self._folder, self._schedule, self._columns = folder, schedule, ()
        self._records, self._seen_bytes = 0, -1
        self._set(RUN + "rid", int(folder.name.partition("_")[0]))
        self._set(RUN + "sequence", schedule.name)

    def _take(self, schedule: Schedule, content: journal.JournalContent) -> None:
        new = content.records[self._records :]
        if new and not self._columns:
            self._columns = tuple(key for key, value in new[0][2].items() if isinstance(value, int | float))
            for column in self._columns:
                self._set(RUN + column, [])
        for _, _, values in new:
            for column in self._columns:
                self._publisher.append(RUN + column, VALUE, values[column])
        self._records += len(new)
        self._set(RUN + "records", self._records)
        self._set(RUN + "state", "running" if content.end is None else "ended")
        for figure in results(schedule.analysis, content.records, schedule.arguments):
            self._set(FIGURE + figure.key, figure.value.value)
            self._set(f"{FIGURE}{figure.key}.error", figure.value.standard_error)
