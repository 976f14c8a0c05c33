"""A run as it goes: a live panel on a terminal, a line every two seconds elsewhere."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from labctl.analysis.link import herald_rate
from labctl.analysis.value import Estimate
from labctl.cli.show_text import seconds
from labctl.clock import SystemClock
from labctl.core.session import ProgressMessage, RecordMessage
from labctl.run.columns import Columns
from labctl.run.results import Result, results
from labctl.run.runner import Observer, Outcome
from labctl.schedule.items import Schedule

if TYPE_CHECKING:
    from rich.live import Live
    from rich.panel import Panel

PLAIN_EVERY_S = 2.0
DRAW_EVERY_S = 0.2
FIGURES_EVERY_S = 2.0
SHOWN = ("fidelity", "parity_contrast", "chsh_s", "qber", "contrast", "noise_rate")
"""Figures worth watching while a run goes on, where its analysis gives them."""


class Counts:
    """What is known of a run so far: numbers for the display, from messages."""

    def __init__(self, schedule: Schedule, rounds: int, noise_rate_hz: float | None = None) -> None:
        self.schedule = schedule
        self.rounds = rounds
        self.noise_rate_hz = noise_rate_hz
        """Noise clicks per second and detector, from a run that measured it."""
        self.records = 0
        """Since this command began."""
        self.done = 0
        """On disk, with those a resumed run had before."""
        self.attempts = 0
        self.time_s = 0.0
        self.table = Columns()
        self.figures: dict[str, Result] = {}

    def record(self, message: RecordMessage) -> None:
        """One more."""
        self.records += 1
        self.done = message.number + 1
        self.time_s = max(self.time_s, message.time_ps / 1e12)
        self.table.append(message.number, message.time_ps, message.values)

    def progress(self, message: ProgressMessage) -> None:
        """Time and attempts."""
        self.time_s = max(self.time_s, message.time_ps / 1e12)
        self.attempts = max(self.attempts, message.attempts)

    @property
    def rate(self) -> Estimate | None:
        """Records per second of laboratory time."""
        return herald_rate(self.records, self.time_s) if self.records and self.time_s > 0 else None

    @property
    def attempts_per_s(self) -> float | None:
        """Attempts per second of laboratory time, None for schedules without attempts."""
        return self.attempts / self.time_s if self.attempts and self.time_s > 0 else None

    @property
    def signal_to_noise(self) -> float | None:
        """Heralds from light over heralds from noise clicks, if the noise and the window are known."""
        window_ps = self.schedule.arguments.get("window")
        if not self.noise_rate_hz or not isinstance(window_ps, int) or not self.attempts or not self.records:
            return None
        by_noise = 2 * self.noise_rate_hz * window_ps / 1e12 * self.attempts
        return (self.records - by_noise) / by_noise

    def evaluate(self) -> None:
        """Work the figures out from the records so far."""
        found = results(self.schedule.analysis, self.table, self.schedule.arguments)
        self.figures = {result.key: result for result in found if result.key in SHOWN}


class Progress(Observer):
    """Shows the runs of one command. Use as a context manager; one thread calls it.

    out:            where to; a terminal gets the live panel
    noise_rate_hz:  of an earlier run, for the signal-to-noise ratio; a noise run seen here replaces it
    """

    def __init__(self, out: IO[str] | None = None, noise_rate_hz: float | None = None) -> None:
        self._out = out or sys.stdout
        self._clock = SystemClock()
        self._noise_rate_hz = noise_rate_hz
        self._live: Live | None = None
        self._counts: Counts | None = None
        self._title = ""
        self._paused = ""
        self._host_points: set[str] = set()
        self._ending = False
        self._began = self._drawn = self._evaluated = 0.0
        self._cost_s = 0.0

    def __enter__(self) -> Progress:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self._stop_live()

    def ending(self) -> None:
        """Ctrl-C has come: the run is being ended (safe in a signal handler)."""
        self._ending = True

    def began(self, rid: int, folder: Path, schedule: Schedule, rounds: int) -> None:
        """A run folder exists."""
        self._counts = Counts(schedule, rounds, self._noise_rate_hz)
        self._title = f"run {rid}  {schedule.name}"
        self._paused = ""
        self._began = self._clock.now()
        self._drawn = self._evaluated = -math.inf
        if self._out.isatty():
            self._start_live()
        else:
            self._line(f"{self._title}: {rounds} {schedule.rounds}s into {folder}")
            self._drawn = self._began

    def record(self, message: RecordMessage) -> None:
        """A record is on disk."""
        if self._counts is not None:
            self._counts.record(message)
            self._show()

    def progress(self, message: ProgressMessage) -> None:
        """Time passes."""
        if self._counts is not None:
            self._counts.progress(message)
            self._show()

    def paused(self, reason: str) -> None:
        """Data-taking waits, or goes on."""
        self._paused = reason
        if self._live is None:
            self._line(f"paused: {reason}" if reason else "going on")
        else:
            self._show(now=True)

    def host_point(self, name: str) -> None:
        """The core waits for the host; the first time it is said, as a shot may have one."""
        if name not in self._host_points:
            self._host_points.add(name)
            if self._live is None:
                self._line(f"host point: {name}")

    def ended(self, outcome: Outcome) -> None:
        """It is over."""
        self._stop_live()
        self._counts = None
        for result in outcome.results:
            if result.key == "noise_rate":
                self._noise_rate_hz = result.value.value
        ends = f"{outcome.reason}{f': {outcome.error}' if outcome.error else ''}"
        self._line(
            f"{self._title}: {ends}, {outcome.records} records in {seconds(self._clock.now() - self._began)}"
        )

    def _show(self, now: bool = False) -> None:
        counts, clock = self._counts, self._clock.now()
        if counts is None:
            return
        if clock - self._evaluated > max(FIGURES_EVERY_S, 20 * self._cost_s) and counts.records:
            counts.evaluate()
            self._evaluated = self._clock.now()
            self._cost_s = self._evaluated - clock
        every_s = PLAIN_EVERY_S if self._live is None else DRAW_EVERY_S
        if not now and clock - self._drawn < every_s:
            return
        self._drawn = clock
        if self._live is None:
            self._line("  ".join(f"{name} {text}" for name, text in self._cells(counts)))
        else:
            self._live.update(self._panel(counts), refresh=True)

    def _cells(self, counts: Counts) -> list[tuple[str, str]]:
        """(name, text) of everything known, for either display."""
        what = "shots" if counts.schedule.rounds == "shot" else "heralds"
        cells = [(what, f"{counts.done}/{counts.rounds}")]
        if counts.rate is not None:
            cells.append(("rate", _plus_minus(counts.rate)))
        if counts.attempts_per_s is not None:
            cells.append(("attempts", f"{counts.attempts_per_s:.4g} /s"))
        ratio = counts.signal_to_noise
        if ratio is not None:
            cells.append(("SNR", f"{ratio:.3g}"))
        cells += [(r.label, r.value.compact()) for r in counts.figures.values()]
        cells.append(("lab time", seconds(counts.time_s)))
        passed = self._clock.now() - self._began
        if counts.records and counts.done < counts.rounds:
            cells.append(("left", seconds(passed / counts.records * (counts.rounds - counts.done))))
        return cells

    def _panel(self, counts: Counts) -> Panel:
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2))
        for name, text in self._cells(counts):
            grid.add_row(Text(name, style="bright_black"), Text(text))
        content = Table.grid()
        content.add_row(ProgressBar(counts.rounds, counts.done, width=60))
        content.add_row(grid)
        if self._paused:
            content.add_row(Text(f"paused: {self._paused}", style="yellow"))
        if self._ending:
            content.add_row(Text("ending in good order", style="yellow"))
        title = f"{self._title}  (Ctrl-C ends it in good order)"
        return Panel(content, title=title, title_align="left", expand=False)

    def _start_live(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._stop_live()
        self._live = Live(console=Console(file=self._out), auto_refresh=False, transient=True)
        self._live.start()
        self._show(now=True)

    def _stop_live(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _line(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()


def _plus_minus(rate: Estimate) -> str:
    """``2.195 ± 0.095 /s``: the error with two digits."""
    decimals = max(0, 1 - math.floor(math.log10(rate.standard_error)))
    return f"{rate.value:.{decimals}f} ± {rate.standard_error:.{decimals}f} /s"
