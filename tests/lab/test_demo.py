"""The demo: its figures agree with the published ones, the same seed gives the same bytes, Ctrl-C leaves a valid run."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from labctl.run import journal

pytestmark = pytest.mark.timeout(400)
ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, "-m", "labctl", "demo", "configs/ca40_10km.toml"]


def test_the_virtual_demo_agrees_with_the_publication(tmp_path: Path):
    one = subprocess.run(
        [*DEMO, "--virtual", "--json", "--seed", "3", "--runs", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert one.returncode == 0, one.stderr
    rows = {row["key"]: row for row in json.loads(one.stdout)["comparison"]}
    assert set(rows) == {
        "herald_rate",
        "noise_rate",
        "signal_to_noise",
        "contrast",
        "fidelity",
        "link_efficiency",
    }
    assert rows["signal_to_noise"]["distance"] == "above"
    assert all(abs(float(row["distance"])) < 4 for key, row in rows.items() if key != "signal_to_noise"), rows
    assert len([*tmp_path.glob("*/journal")]) == 5


def test_the_same_seed_gives_the_same_bytes_and_another_other_counts(tmp_path: Path):
    """The whole way: instruments brought up over their protocols, link, phase, records."""
    command = [sys.executable, "-m", "labctl", "run", "link", "--virtual", "--rounds", "40"]
    for folder, seed in (("first", "3"), ("again", "3"), ("other", "4")):
        runs = str(tmp_path / folder)
        subprocess.run([*command, "--seed", seed, "--runs", runs], cwd=ROOT, check=True, capture_output=True)
    first, again, other = (
        (tmp_path / folder / "000001_link" / "journal").read_bytes() for folder in ("first", "again", "other")
    )
    assert first == again
    assert len(journal.read(tmp_path / "first" / "000001_link" / "journal").records) == 40
    assert first != other


@pytest.mark.parametrize("moment", ["  ready ", "run 1 ", "heralds "])
def test_ctrl_c_leaves_valid_runs(tmp_path: Path, moment: str):
    process = subprocess.Popen(
        [*DEMO, "--runs", str(tmp_path / "runs")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ},
    )
    watchdog = threading.Timer(90, process.kill)
    watchdog.start()
    seen = ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            seen += line
            if moment in line:
                break
        process.send_signal(signal.SIGINT)
        seen += process.communicate()[0]
    finally:
        watchdog.cancel()
        watchdog.join()
    assert process.returncode == 130, seen
    assert "Traceback" not in seen
    runs = sorted((tmp_path / "runs").glob("[0-9]*")) if (tmp_path / "runs").exists() else []
    for run in runs:
        content = journal.read(run / "journal")
        about = json.loads((run / "run.json").read_text())
        assert [n for n, _, _ in content.records] == list(range(len(content.records)))
        assert content.torn_bytes == 0 and about["reason"] in ("complete", "stopped")
        assert (run / "report.html").exists() and (run / "data.nc").exists()
    if moment == "heralds ":
        assert json.loads((runs[-1] / "run.json").read_text())["reason"] == "stopped"
