"""The loop of an acquisition: repeatable, resumable, and in good order whatever goes wrong."""

import errno
import os
import random
import signal
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_world import FakeWorld
from run_parts import SHOT, fast_core, runner
from world_lab import laboratory

from labctl.core.session import CoreSession, RecordMessage
from labctl.core.sim import SimCore
from labctl.errors import BusError, CoreError, DeviceError, LimitError, RunError, StorageError
from labctl.run import folder as folders
from labctl.run import journal
from labctl.run.runner import Observer, Outcome
from labctl.schedule.items import Gate, HostPoint, Report, Schedule, Series
from labctl.units import ms, us
from sequences.link import link


class Watching(Observer):
    """Writes down what it is told; ``at`` a record, does something."""

    def __init__(self, at: int = -1, do: Any = None) -> None:
        self.heard: list[str] = []
        self.records: list[RecordMessage] = []
        self.at, self.do = at, do

    def began(self, rid: int, folder: Path, schedule: Schedule, rounds: int) -> None:
        self.heard.append(f"began {rid} {rounds}")

    def record(self, message: RecordMessage) -> None:
        self.records.append(message)
        if message.number == self.at:
            self.do()

    def paused(self, reason: str) -> None:
        self.heard.append(f"paused {reason}")

    def ended(self, outcome: Outcome) -> None:
        self.heard.append(f"ended {outcome.reason}")


def numbers(folder: Path) -> list[int]:
    return [number for number, _, _ in journal.read(folder / "journal").records]


def test_the_same_seed_gives_the_same_journal_byte_for_byte(tmp_path: Path):
    def taken(seed: int, place: str) -> bytes:
        world = laboratory(seed)
        core = CoreSession(SimCore(world, world.lock, world.rng("core")))
        outcome = runner(tmp_path / place, core, seed=seed).run(link(measure="fidelity"), 30)
        assert outcome.complete and outcome.records == 30
        return (outcome.folder / "journal").read_bytes()

    first, again, other = taken(5, "first"), taken(5, "again"), taken(6, "other")
    assert first == again
    assert first != other
    ours, others = (
        journal.read(tmp_path / p / "000001_link" / "journal").records for p in ("first", "other")
    )
    assert all(one[2] != two[2] for one, two in zip(ours, others, strict=True))


def test_a_run_from_beginning_to_end(tmp_path: Path):
    watching = Watching()
    outcome = runner(tmp_path).run(SHOT, 5, watching, "first")
    assert outcome.complete and outcome.records == 5 and outcome.error == ""
    assert outcome.folder == tmp_path / "000001_shot"
    content = journal.read(outcome.folder / "journal")
    assert content.records == [(n, n * 1010 * us + 1 * ms, {"n0": n, "n1": n}) for n in range(5)]
    assert content.end == {"reason": "complete", "records": 5, "time_ps": 5050 * us, "attempts": 0}
    assert content.header["rounds"] == 5 and content.header["sequence"] == "shot"
    assert watching.heard == ["began 1 5", "ended complete"] and len(watching.records) == 5
    assert outcome.value("noise_rate").value == pytest.approx(2000.0)  # 0 + 1 + ... + 4 clicks in 5 ms
    with pytest.raises(RunError, match=r"did not determine 'chsh_s'; it has noise_rate"):
        outcome.value("chsh_s")
    with pytest.raises(RunError, match="at least one round"):
        runner(tmp_path).run(SHOT, 0)


def test_a_full_disk_keeps_the_data_and_lets_go_of_the_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced = 0
    true_sync = os.fdatasync

    def full(file: int) -> None:
        nonlocal synced
        synced += 1
        if synced > 8:  # the header and seven records
            raise OSError(errno.ENOSPC, "No space left on device")
        true_sync(file)

    core = fast_core(capacity=1)  # one record at a time; it would wait for ever for somebody to read on
    taking = runner(tmp_path, core)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", full)
        outcome = taking.run(SHOT, 1_500)
    assert outcome.reason == "storage" and outcome.records == 7
    assert "No space left on device" in outcome.error and "7 records are safe" in outcome.error
    assert numbers(outcome.folder) == list(range(7)) and not core.playing
    about = folders.read_json(outcome.folder)
    assert about["reason"] == "storage" and about["records"] == 7 and about["error"] == outcome.error
    assert (outcome.folder / "data.nc").exists() and (outcome.folder / "report.html").exists()
    again = taking.resume(outcome.rid, SHOT)
    assert again.complete and numbers(outcome.folder) == list(range(1_500))


def test_a_stop_ends_in_good_order_and_the_run_can_go_on(tmp_path: Path):
    core = fast_core(capacity=1)
    taking = runner(tmp_path, core)
    outcome = taking.run(SHOT, 1000, Watching(20, taking.stop_requested.set))
    assert outcome.reason == "stopped" and 21 <= outcome.records < 40
    assert folders.read_json(outcome.folder)["reason"] == "stopped"
    assert journal.read(outcome.folder / "journal").end["reason"] == "stopped"
    seen: list[str] = []

    class Looking(Watching):
        def began(self, rid: int, folder: Path, schedule: Schedule, rounds: int) -> None:
            seen.append(folders.read_json(folder)["reason"])

    again = runner(tmp_path, fast_core()).resume(outcome.rid, SHOT, Looking())
    assert again.complete and again.records == 1000 and seen == ["running"]
    content = journal.read(outcome.folder / "journal")
    assert [number for number, _, _ in content.records] == list(range(1000))
    times = [time for _, time, _ in content.records]
    assert all(b - a == 1010 * us for a, b in pairwise(times))  # no time was lost
    assert content.end == {"reason": "complete", "records": 1000, "time_ps": 1_010_000 * us, "attempts": 0}
    assert {"resumed": outcome.records} in content.notes
    assert folders.read_json(outcome.folder)["resumed"][0]["record"] == outcome.records
    with pytest.raises(StorageError, match="complete"):
        runner(tmp_path).resume(outcome.rid, SHOT)


def test_trouble_pauses_the_core_and_is_noted(tmp_path: Path):
    asked = 0
    did: list[str] = []

    class Core(CoreSession):
        def pause(self) -> None:
            did.append("pause")
            super().pause()

        def resume(self) -> None:
            did.append("resume")
            super().resume()

    def trouble() -> dict[str, str]:
        nonlocal asked
        asked += 1
        return {"bob.laser_729": "unlocked", "alice.oven": "cold"} if 4 <= asked < 12 else {}

    plain = fast_core()
    core = Core(plain._core, capacity=3)
    watching = Watching()
    outcome = runner(tmp_path, core, trouble=trouble).run(SHOT, 60, watching)
    assert outcome.complete and outcome.records == 60 and did == ["pause", "resume"]
    why = "alice.oven: cold; bob.laser_729: unlocked"
    assert watching.heard == ["began 1 60", f"paused {why}", "paused ", "ended complete"]
    assert journal.read(outcome.folder / "journal").notes == [{"paused": why}, {"paused": ""}]
    report = (outcome.folder / "report.html").read_text()
    assert f"paused: {why}" in report and "went on" in report


def test_a_run_goes_on_at_a_host_point_once_the_host_has_done_its_part(tmp_path: Path):
    """What is done there is done before what follows; trouble meanwhile holds it until it is over."""
    done: list[str] = []
    asked = 0

    class Host(Watching):
        def host_point(self, name: str) -> None:
            done.append(f"{name} after {len(self.records)}")

    def trouble() -> dict[str, str]:
        nonlocal asked
        asked += 1
        return {"alice.oven": "cold"} if 2 <= asked < 5 else {}

    shot = Series(
        (Gate("snspd_0", us, "n"), Report({"n": "n"}), HostPoint("move the mirror"), Gate("snspd_0", us, "m"))
    )
    outcome = runner(tmp_path, trouble=trouble).run(Schedule("shot", shot, rounds="shot"), 3, Host())
    assert outcome.complete and outcome.records == 3
    assert done == ["move the mirror after 1", "move the mirror after 2", "move the mirror after 3"]


def test_a_core_that_fails_is_said_and_what_it_gave_is_published(tmp_path: Path):
    def clicks(register: str, start: int) -> int:
        if start > 5 * ms:
            raise RuntimeError("fibre cut")
        return 1

    outcome = runner(tmp_path, fast_core(clicks=clicks)).run(SHOT, 100)
    assert outcome.reason == "CoreError" and outcome.error.endswith("RuntimeError: fibre cut")
    assert outcome.records == 5 and (outcome.folder / "data.nc").exists()
    assert folders.read_json(outcome.folder)["error"] == outcome.error


class Broken:
    """A core that goes wrong in one place."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.stopped = False

    def start(self, schedule: Schedule, rounds: int, first_record: int) -> None:
        if self.where == "start":
            raise CoreError("busy")

    def batches(self):
        yield [RecordMessage(0, 5, {"n0": 1, "n1": 1})]
        if self.where == "silent":
            return
        if self.where == "bus":
            raise BusError("the host is gone")
        yield [RecordMessage(0 if self.where == "double" else 2, 9, {"n0": 1, "n1": 1})]

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def stop(self) -> None:
        self.stopped = True
        raise BusError("nobody to stop")


@pytest.mark.parametrize(
    ("where", "reason", "error", "records"),
    [
        ("start", "CoreError", "busy", 0),
        ("silent", "RunError", "went away without saying why", 1),
        ("bus", "BusError", "the host is gone", 1),
        ("double", "storage", "record 0 came where 1 was expected", 1),
        ("lost", "storage", "record 2 came where 1 was expected", 1),
    ],
)
def test_a_core_that_breaks_the_rules(tmp_path: Path, where: str, reason: str, error: str, records: int):
    outcome = runner(tmp_path, Broken(where)).run(SHOT, 10)
    assert outcome.reason == reason and error in outcome.error and outcome.records == records
    assert numbers(outcome.folder) == list(range(records))
    assert journal.read(outcome.folder / "journal").end["reason"] == reason


def test_an_observer_that_fails_ends_the_run_and_it_can_be_resumed(tmp_path: Path):
    def fail() -> None:
        raise ValueError("no terminal")

    core = fast_core(capacity=2)
    with pytest.raises(ValueError, match="no terminal"):
        runner(tmp_path, core).run(SHOT, 1_500, Watching(3, fail))
    assert not core.playing and not journal.in_use(tmp_path / "000001_shot" / "journal")
    assert journal.read(tmp_path / "000001_shot" / "journal").end is None
    again = runner(tmp_path).resume(1, SHOT)
    assert again.complete and numbers(again.folder) == list(range(1_500))


def test_devices_that_no_longer_answer_do_not_cost_the_data(tmp_path: Path):
    asked = 0

    def snapshot() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise DeviceError("alice.oven at tcp://x: no answer")
        return {"alice.oven.temperature": 300.0}

    outcome = runner(tmp_path, snapshot=snapshot).run(SHOT, 3)
    assert outcome.complete
    about = folders.read_json(outcome.folder)
    assert about["devices_before"] == {"alice.oven.temperature": 300.0}
    assert about["devices_after"] == {"unknown": "alice.oven at tcp://x: no answer"}
    with pytest.raises(DeviceError):
        runner(tmp_path, snapshot=snapshot).run(SHOT, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000001_shot", "last_rid"]  # nothing had begun


def test_records_the_analysis_cannot_understand_are_published(tmp_path: Path):
    other = Schedule("odd", Series((Gate("x", us, "n"), Report({"n": "n"}))), analysis="heralded_pair")
    outcome = runner(tmp_path).run(other, 4)
    assert outcome.complete and outcome.results == []
    about = folders.read_json(outcome.folder)
    assert "no column" in about["analysis_error"] and (outcome.folder / "data.nc").exists()
    assert "no column" in (outcome.folder / "report.html").read_text()


def test_a_run_cut_short_before_its_header_is_not_resumed(tmp_path: Path):
    outcome = runner(tmp_path).run(SHOT, 3)
    path = outcome.folder / "journal"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(RunError, match="cut short before it began"):
        runner(tmp_path).resume(1, SHOT)
    assert not journal.in_use(path)


TAKING = """
import sys
from itertools import pairwise
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from run_parts import SHOT, runner
from labctl.run.runner import Observer

class Said(Observer):
    def record(self, message):
        print(message.number, flush=True)

runner(Path(sys.argv[1])).run(SHOT, 2000, Said())
"""


@pytest.mark.parametrize("attempt", range(3))
def test_kill_at_any_instant_loses_nothing_on_disk_and_the_run_goes_on(tmp_path: Path, attempt: int):
    here = Path(__file__).parent
    last = random.Random(attempt).randrange(1500)
    command = [sys.executable, "-c", TAKING, str(tmp_path), str(here), str(here.parents[1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(last + 1)]
        process.send_signal(signal.SIGKILL)
        said += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    assert said == list(range(len(said))) and len(said) <= 1999
    (folder,) = folders.every(tmp_path)
    content = journal.read(folder / "journal")
    assert [number for number, _, _ in content.records] == list(range(len(content.records)))
    assert len(said) <= len(content.records) <= len(said) + 1000 and content.end is None  # a batch at most
    outcome = runner(tmp_path).resume(1, SHOT)
    assert outcome.complete and numbers(folder) == list(range(2000))
    kept = journal.read(folder / "journal").records
    assert kept[: len(content.records)] == content.records
    assert all(before[1] < after[1] for before, after in pairwise(kept))


def test_attempts_and_time_of_a_resumed_run_add_up(tmp_path: Path):
    def core(stop_after: int | None) -> tuple[CoreSession, Any]:
        world = laboratory(3)
        return CoreSession(SimCore(world, world.lock, world.rng("core"))), world

    first, _ = core(None)
    taking = runner(tmp_path, first)
    outcome = taking.run(link(), 80, Watching(2, taking.stop_requested.set))
    assert outcome.reason == "stopped"
    begun = journal.read(outcome.folder / "journal")
    assert begun.end is not None
    second, _ = core(None)
    again = runner(tmp_path, second).resume(1, link(), Watching(-1))
    assert again.complete
    whole = journal.read(again.folder / "journal")
    assert whole.end is not None
    attempts = sum(values["attempts"] for _, _, values in whole.records)
    unfinished = whole.end["attempts"] - attempts  # of the round that the stop cut short
    assert unfinished == begun.end["attempts"] - sum(v["attempts"] for _, _, v in begun.records) >= 0
    times = [time for _, time, _ in whole.records]
    assert times == sorted(times) and whole.end["time_ps"] == times[-1]
    assert times[len(begun.records)] > begun.end["time_ps"]


def test_a_run_in_a_thread_and_its_stop_from_another(tmp_path: Path):
    world = FakeWorld([(0, {})], clicks=lambda register, start: 1)
    core = CoreSession(SimCore(world, threading.Lock(), np.random.default_rng(1)), capacity=1)
    taking = runner(tmp_path, core)
    found: list[Outcome] = []
    going = threading.Event()
    thread = threading.Thread(target=lambda: found.append(taking.run(SHOT, 10**6, Watching(3, going.set))))
    thread.start()
    assert going.wait(20)
    taking.stop_requested.set()
    thread.join(30)
    assert [one.reason for one in found] == ["stopped"]


def test_a_limit_reached_while_watching_the_lab_ends_the_run(tmp_path: Path):
    def trouble() -> dict[str, str]:
        raise LimitError("asked too much")

    core = fast_core(capacity=2)
    outcome = runner(tmp_path, core, trouble=trouble).run(SHOT, 1000)
    assert outcome.reason == "LimitError" and not core.playing
