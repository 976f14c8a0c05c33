"""Taking, listing and showing runs, with a core that plays from a list."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xarray
from click.testing import CliRunner, Result

from labctl.analysis.value import Estimate
from labctl.cli import main, progress, run_commands
from labctl.core.session import FinishedMessage, Message, ProgressMessage, RecordMessage
from labctl.run import folder as folders
from labctl.run.journal import Journal
from labctl.run.results import Result as Figure
from labctl.run.runner import Outcome, Runner
from labctl.schedule.items import Column, Report, Schedule, from_json, to_json

LAB = Path(__file__).parents[2]
NOISE = Schedule(
    "noise",
    Report({"n0": "n0", "n1": "n1"}),
    analysis="noise",
    columns={"n0": Column("", "clicks"), "n1": Column("", "clicks")},
    arguments={"gate": 10**9},
    rounds="shot",
)


class ListCore:
    """Plays shots of 1 s with three clicks per detector and 1 ms of gate; ``before`` is called with each number."""

    def __init__(self, before: Any = None) -> None:
        self.before = before
        self.stopped = False
        self.first = self.rounds = 0

    def start(self, schedule: Schedule, rounds: int, first_record: int) -> None:
        self.first, self.rounds = first_record, rounds

    def batches(self) -> Iterator[list[Message]]:
        number = self.first
        for number in range(self.first, self.first + self.rounds):
            if self.before is not None:
                self.before(number)
            if self.stopped:
                break
            time_ps = (number + 1) * 10**12
            yield [RecordMessage(number, time_ps, {"n0": 3, "n1": 3})]
            yield [ProgressMessage(time_ps, 0, number + 1)]
        yield [FinishedMessage("stopped" if self.stopped else "complete", number * 10**12)]

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def stop(self) -> None:
        self.stopped = True


class FakeLab:
    """Stands in for a simulated lab in this process; everything from the runner on is the real thing."""

    before: Any = None

    def __init__(self, config: Any, lab: Path, seed: int | None, runs: Path, core: str = "sim") -> None:
        self.runs = runs
        self.runner = Runner(ListCore(FakeLab.before), runs, lab, {"name": config.name}, seed=seed)

    def run(self, schedule: Schedule, rounds: int, observer: Any, label: str) -> Outcome:
        return self.runner.run(schedule, rounds, observer, label)

    def resume(self, rid: int, observer: Any) -> Outcome:
        stored = from_json((folders.find(self.runs, rid) / "schedule.json").read_bytes())
        return self.runner.resume(rid, stored, observer)

    def stop(self) -> None:
        self.runner.stop_requested.set()

    def __enter__(self) -> FakeLab:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def labctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABCTL_LAB", str(LAB))
    monkeypatch.setenv("LABCTL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("labctl.up.acquire.VirtualLab", FakeLab)
    monkeypatch.setattr("labctl.lab.schedule", lambda *_: NOISE)
    monkeypatch.setattr("labctl.up.acquire.refuse", lambda *_: None)
    monkeypatch.setattr(FakeLab, "before", None)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments])

    return invoke


def test_a_run(labctl: Any, tmp_path: Path) -> None:
    result = labctl("run", "noise", "--virtual", "--rounds", "5", "--seed", "3", "--label", "dark")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    folder = tmp_path / "runs" / "000001_noise"
    assert lines[0] == f"run 1  noise: 5 shots into {folder}"
    assert lines[-1] == str(folder)
    assert "noise per detector   3000.0 ± 547.7 Hz" in result.stdout
    assert len(xarray.load_dataset(folder / "data.nc").record) == 5
    about = json.loads(labctl("show", "1", "--json").stdout)
    assert (about["state"], about["records"], about["label"], about["seed"]) == ("complete", 5, "dark", 3)


def test_a_run_as_json(labctl: Any, tmp_path: Path) -> None:
    result = labctl("run", "noise", "--virtual", "--rounds", "5", "--json")
    found = json.loads(result.stdout)
    assert (found["rid"], found["reason"], found["records"]) == (1, "complete", 5)
    assert found["results"]["noise_rate"]["value"] == pytest.approx(3000)
    assert "complete" in result.stderr


def test_ctrl_c_ends_a_run_in_good_order(labctl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(number: int) -> None:
        if number == 3:
            os.kill(os.getpid(), signal.SIGINT)
        if number > 3:
            threading.Event().wait(0.1)  # the run is told in a moment, and goes on until then

    monkeypatch.setattr(FakeLab, "before", staticmethod(interrupt))
    before = signal.getsignal(signal.SIGINT)
    result = labctl("run", "noise", "--virtual", "--rounds", "50", "--json")
    assert result.exit_code == 130
    found = json.loads(result.stdout)
    assert found["reason"] == "stopped" and 4 <= found["records"] < 50
    assert "noise_rate" in found["results"]
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.setattr(FakeLab, "before", None)
    again = labctl("run", "--resume", "1", "--virtual", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["records"] == 50


def test_a_core_that_fails_is_exit_code_1_and_keeps_the_records(
    labctl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labctl.errors import CoreError

    def fail(number: int) -> None:
        if number == 2:
            raise CoreError("the core lost its clock")

    monkeypatch.setattr(FakeLab, "before", staticmethod(fail))
    result = labctl("run", "noise", "--virtual")
    assert result.exit_code == 1
    assert "labctl: run 1 ended early: the core lost its clock; what was taken is in" in result.stderr
    assert labctl("runs").stdout.splitlines()[1].split()[-3:] == ["CoreError", "2", "100"]


def killed_run(runs: Path) -> Journal:
    """A run whose process is about to be killed: its journal is open, run.json says running."""
    rid, folder = folders.new(runs, "noise")
    runner = Runner(ListCore(), runs, LAB, {})
    about = runner._about(rid, NOISE, 10, "")
    folders.write_json(folder / "run.json", about)
    (folder / "schedule.json").write_bytes(to_json(NOISE))
    journal = Journal.create(folder / "journal", runner._header(NOISE, 10))
    for number in range(4):
        journal.append(number, (number + 1) * 10**12, {"n0": 3, "n1": 3})
    return journal


def test_a_killed_run_is_cut_short_and_can_be_published(labctl: Any, tmp_path: Path) -> None:
    runs = tmp_path / "elsewhere"
    journal = killed_run(runs)

    def row() -> list[str]:
        return labctl("runs", "--runs", str(runs)).stdout.splitlines()[1].split("  ")

    assert "running" in row()
    busy = labctl("show", "1", "--publish", "--runs", str(runs))
    assert busy.exit_code == 1
    assert "still being taken" in busy.stderr
    journal.close()  # without an end mark, as kill -9 leaves it
    assert "cut short" in row()
    shown = labctl("show", "1", "--runs", str(runs)).stdout
    assert "cut short, 4 of 10 records" in shown
    assert "not published yet: `labctl show 1 --publish`" in shown
    published = labctl("show", "1", "--publish", "--runs", str(runs))
    assert published.exit_code == 0, published.stderr
    assert "noise per detector" in published.stdout
    assert "report.html" in published.stdout
    found = json.loads(labctl("show", "1", "--json", "--runs", str(runs)).stdout)
    assert (found["state"], found["reason"], found["records"]) == ("cut short", "cut short", 4)
    resumed = labctl("run", "--resume", "1", "--virtual", "--runs", str(runs), "--json")
    assert json.loads(resumed.stdout)["records"] == 10
    assert "complete" in row()


def test_a_run_is_taken_by_one_process_only(tmp_path: Path) -> None:
    from labctl.errors import StorageError

    journal = killed_run(tmp_path)
    with pytest.raises(StorageError, match="another process is taking this run"):
        Journal.resume(journal.path)
    journal.close()
    resumed, content = Journal.resume(journal.path)
    assert content.count == 4
    resumed.close("stopped")


def test_a_resumed_and_killed_run_has_no_end(tmp_path: Path) -> None:
    from labctl.run import journal as journals

    journal = killed_run(tmp_path)
    journal.close("stopped")
    assert journals.read(journal.path).end == {"reason": "stopped", "records": 4}
    again, _ = Journal.resume(journal.path)
    again.note({"resumed": 4})
    again.close()
    assert journals.read(journal.path).end is None


def test_runs_that_cannot_be_read_are_listed(labctl: Any, tmp_path: Path) -> None:
    (tmp_path / "runs" / "000004_link").mkdir(parents=True)
    text = labctl("runs").stdout
    assert "unreadable" in text and "000004_link/run.json" in text
    assert json.loads(labctl("runs", "--json").stdout)[0]["rid"] == 4


def test_no_runs(labctl: Any) -> None:
    assert "take one with `labctl run SEQUENCE`" in labctl("runs").stdout
    assert labctl("runs", "--json").stdout.strip() == "[]"


def test_provenance(labctl: Any) -> None:
    labctl("run", "noise", "--virtual", "--rounds", "2")
    text = labctl("show", "1", "--provenance").stdout
    assert "python    3." in text
    assert "msgspec" in text
    assert '"name": "ca40_10km"' in text


def test_the_noise_of_an_earlier_run_is_known(labctl: Any, tmp_path: Path) -> None:
    labctl("run", "noise", "--virtual", "--rounds", "5")
    assert run_commands._noise_rate(tmp_path / "runs") == pytest.approx(3000)
    assert run_commands._noise_rate(tmp_path / "none") is None


LINK = Schedule("link", Report({}), analysis="heralded_pair", arguments={"measure": "", "window": 60_000})


def counts(records: int, attempts: int, noise: float | None = None) -> progress.Counts:
    found = progress.Counts(LINK, 1000, noise)
    for number in range(records):
        values = {"attempts": attempts // records, "phase_sigma_rad": 0.1, "bright_a": 0, "bright_b": 1}
        found.record(RecordMessage(number, (number + 1) * 10**11, values))
    found.progress(ProgressMessage(records * 10**11, attempts, records))
    return found


def test_rates_and_signal_to_noise() -> None:
    found = counts(100, 26_000, noise=10.0)
    rate = found.rate
    assert rate is not None
    assert (rate.value, rate.standard_error) == (pytest.approx(10.0), pytest.approx(1.0))
    assert found.attempts_per_s == pytest.approx(2600)
    by_noise = 2 * 10.0 * 60e-9 * 26_000
    assert found.signal_to_noise == pytest.approx((100 - by_noise) / by_noise)
    assert counts(100, 26_000).signal_to_noise is None
    assert progress.Counts(LINK, 10).rate is None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("out", [io.StringIO(), Terminal()])
def test_the_display_shows_pauses_and_the_end(out: io.StringIO, tmp_path: Path) -> None:
    figures = [Figure("noise_rate", "noise per detector", Estimate(10.0, 0.5, "1/s"))]
    with progress.Progress(out) as shown:
        shown.began(7, tmp_path, LINK, 1000)
        for number in range(20):
            shown.record(RecordMessage(number, (number + 1) * 10**11, {"attempts": 260, "phase_sigma_rad": 0.1, "bright_a": 0, "bright_b": 1}))  # fmt: skip
            shown.progress(ProgressMessage((number + 1) * 10**11, 260 * (number + 1), number + 1))
        shown.paused("alice.laser_397: lost lock")
        shown.paused("")
        shown.ending()
        shown.paused("bob.oven: 40 degC")
        shown.ended(Outcome(7, tmp_path, "stopped", 20, figures))
    text = out.getvalue()
    assert "run 7  link" in text
    assert "paused: alice.laser_397: lost lock" in text
    assert "run 7  link: stopped, 20 records in" in text
    if out.isatty():
        assert "20/1000" in text
        assert "10.0 ± 2.2 /s" in text
        assert "ending in good order" in text
        assert "\x1b[?25h" in text  # the cursor is back


def test_a_resumed_run_counts_what_it_had() -> None:
    found = progress.Counts(LINK, 10)
    found.record(RecordMessage(4, 10**12, {}))
    rate = found.rate
    assert rate is not None
    assert (found.done, rate.value) == (5, pytest.approx(1.0))


def test_plain_progress_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    out = io.StringIO()
    with progress.Progress(out, 10.0) as shown:
        shown.began(7, tmp_path, LINK, 2)
        shown.progress(ProgressMessage(10**12, 2600, 0))
        shown.record(RecordMessage(0, 10**12, {"attempts": 2600, "phase_sigma_rad": 0.1, "bright_a": 0, "bright_b": 1}))  # fmt: skip
    lines = out.getvalue().splitlines()
    assert lines[1].startswith("heralds 0/2  attempts 2600 /s  lab time 1 s")
    assert lines[2].startswith("heralds 1/2  rate 1.0 ± 1.0 /s  attempts 2600 /s  SNR 320")
    assert "  left " in lines[2]
