"""The lab as a user meets it: ``labctl`` in processes of its own, the whole simulated lab up on free ports.

One lab serves all tests of this module; what each test changes it puts back.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import xarray

from labctl.run import journal
from labctl.up.free_ports import free_ports

pytestmark = pytest.mark.timeout(400)
ROOT = Path(__file__).parents[2]
LABCTL = [sys.executable, "-m", "labctl"]
NAMES = ("drivers", "sequences", "simulated_hw", "configs")


@dataclass
class Lab:
    """A lab folder of its own, with the lab up."""

    folder: Path
    name: str

    def labctl(self, *words: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LABCTL, *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=environment(),
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*LABCTL, *words],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )

    def ok(self, *words: str) -> str:
        done = self.labctl(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, *words: str) -> str:
        """The one line of an error."""
        done = self.labctl(*words)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1, done.stderr
        return lines[0]

    def runs(self) -> list[Path]:
        return sorted((self.folder / "runs").glob("[0-9]*"))


def pause(wait_s: float) -> None:
    """Leave the processors to the lab."""
    threading.Event().wait(wait_s)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    for name in NAMES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    here = Lab(folder, "copy")
    (folder / "configs" / "copy.toml").write_text(
        on_free_ports((ROOT / "configs" / "ca40_10km.toml").read_text())
    )
    process = here.start("up", "configs/copy.toml", "--speed", "100")
    try:
        lines = read_until(process, "ready after", "Ctrl-C")
        assert process.poll() is None, lines
        yield here
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode in (0, 130), rest


def on_free_ports(text: str) -> str:
    """The lab file under another name, each of its ports replaced by a free one."""
    old = list(dict.fromkeys(re.findall(r"\b177\d\d\b", text)))
    ports = dict(zip(old, free_ports(len(old)), strict=True))
    text = re.sub(r"\b177\d\d\b", lambda match: str(ports[match[0]]), text)
    return text.replace('name = "ca40_10km"', 'name = "copy"', 1)


def read_until(process: subprocess.Popen[str], *marks: str, timeout_s: float = 60.0) -> str:
    """What the process prints up to a line with one of the marks; it is killed if that does not come."""
    assert process.stdout is not None
    watchdog = threading.Timer(timeout_s, process.kill)
    watchdog.start()
    seen = ""
    try:
        for line in process.stdout:
            seen += line
            if any(mark in line for mark in marks):
                return seen
    finally:
        watchdog.cancel()
    raise AssertionError(f"ended before {marks}:\n{seen}")


def test_ls_lists_every_device_ready(lab: Lab):
    rows = json.loads(lab.ok("ls", "--json"))
    devices = {row["device"]: row["state"] for row in rows}
    assert len(devices) == 31
    assert set(devices.values()) == {"ready"}


def test_get_and_set_within_limits(lab: Lab):
    assert "A" in lab.ok("get", "alice.laser_397.current")
    lab.ok("set", "alice.oven.temperature", "41.3")
    lab.ok("set", "alice.oven.temperature", "41.2")
    text = lab.refused("set", "alice.oven.temperature", "99")
    assert "alice.oven.temperature" in text and "15 degC to 70 degC" in text and "nothing was sent" in text
    assert "not a number" in lab.refused("set", "alice.oven.temperature", "warm")
    assert "did you mean 'temperature'" in lab.refused("get", "alice.oven.temprature")
    assert "did you mean" in lab.refused("get", "alice.ovn.temperature")


def test_python_reaches_the_same_lab(lab: Lab):
    code = "from labctl import connect\nwith connect() as lab: print(lab['alice.laser_397'].current.get())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=lab.folder,
        capture_output=True,
        text=True,
        timeout=30,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(0.120, abs=0.001)


def test_watch_streams_changes(lab: Lab):
    assert "alice." in lab.ok("watch", "alice.*", "--count", "3")


def test_a_run_is_taken_shown_and_readable(lab: Lab):
    done = json.loads(lab.ok("run", "link", "--set", "alpha=0.05", "--rounds", "60", "--json"))
    assert done["records"] == 60 and done["reason"] == "complete"
    folder = lab.runs()[-1]
    data = xarray.open_dataset(folder / "data.nc")
    try:
        assert data.sizes["record"] == 60
        assert data.counts_a.attrs["units"] == "1" and data.time.attrs["units"] == "s"
    finally:
        data.close()
    about = json.loads((folder / "run.json").read_text())
    assert about["devices_before"]["alice.oven.temperature"] == pytest.approx(314.35, abs=0.5)
    assert about["arguments"]["alpha"] == 0.05 and about["provenance"]["packages"]["labctl"]
    assert "<svg" in (folder / "report.html").read_text()
    assert "complete" in lab.ok("show", str(done["rid"]))


def test_a_bad_sequence_argument_is_refused_before_anything_moves(lab: Lab):
    assert "alpha" in lab.refused("run", "link", "--set", "alpha=2", "--rounds", "5")
    assert "did you mean 'alpha'" in lab.refused("run", "link", "--set", "alfa=0.1", "--rounds", "5")
    off_grid = lab.labctl("run", "link", "--set", "window=60001", "--rounds", "5")
    assert off_grid.returncode == 1 and "grid" in off_grid.stderr and "charlie.snspd_0" in off_grid.stderr


def test_a_second_up_of_the_same_lab_is_refused(lab: Lab):
    text = lab.refused("up", lab.name)
    assert f"lab {lab.name} is up already" in text and "labctl down" in text
    assert {row["state"] for row in json.loads(lab.ok("ls", "--json"))} == {"ready"}


def test_an_instrument_that_stops_answering_pauses_the_run_and_loses_nothing(lab: Lab):
    process = lab.start("run", "link", "--rounds", "1500")
    try:
        read_until(process, "heralds")
        lab.ok("fault", "bob.oven", "silent")
        paused = read_until(process, "paused")
        assert "bob.oven" in paused and "no answer" in paused
        text = lab.refused("get", "bob.oven.temperature")
        assert "bob.oven" in text and "127.0.0.1" in text
        lab.ok("fault", "bob.oven", "--clear")
        read_until(process, "going on")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    finally:
        lab.labctl("fault", "bob.oven", "--clear")
        if process.poll() is None:
            process.kill()
            process.communicate()
    content = journal.read(lab.runs()[-1] / "journal")
    assert [number for number, _, _ in content.records] == list(range(len(content.records)))
    assert (
        len(content.notes) >= 2
        and content.end is not None
        and content.end["reason"] in ("stopped", "complete")
    )


def test_an_unlocked_laser_is_not_ready_for_data(lab: Lab):
    lab.ok("fault", "alice.laser_854", "unlock")
    try:
        process = lab.labctl("run", "link", "--rounds", "3")
        if process.returncode == 0:  # the host had not looked yet
            process = lab.labctl("run", "link", "--rounds", "3")
        assert process.returncode == 1 and "alice.laser_854" in process.stderr and "lock" in process.stderr
    finally:
        lab.ok("call", "alice.laser_854.relock")
    for _ in range(40):
        if {row["state"] for row in json.loads(lab.ok("ls", "--json"))} == {"ready"}:
            return
        pause(0.2)
    pytest.fail("the laser did not come back")


@pytest.mark.parametrize("records", [40])
def test_kill_of_the_run_leaves_a_readable_run_that_can_be_resumed(lab: Lab, records: int):
    process = lab.start("run", "link", "--rounds", "400")
    begun = len(lab.runs())
    try:
        while not (len(lab.runs()) > begun and (lab.runs()[-1] / "journal").exists()):
            assert process.poll() is None
            pause(0.05)
        folder = lab.runs()[-1]
        while len(journal.read(folder / "journal").records) < records:
            assert process.poll() is None
            pause(0.05)
    finally:
        process.kill()
        process.communicate()
    kept = journal.read(folder / "journal").records
    assert [n for n, _, _ in kept] == list(range(len(kept))) and len(kept) >= records
    rid = int(folder.name[:6])
    assert "cut short" in lab.ok("show", str(rid))
    resumed = None
    for _ in range(30):  # the core notices within 5 s that the run is dead
        resumed = lab.labctl("run", "--resume", str(rid), "--json")
        if resumed.returncode == 0:
            break
        pause(1.0)
    assert resumed is not None and resumed.returncode == 0, resumed.stderr
    after = journal.read(folder / "journal").records
    assert [n for n, _, _ in after] == list(range(400)) and after[: len(kept)] == kept
