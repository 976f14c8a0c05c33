"""A short soak of every driver on its simulated instrument, as ``benchmarks/soak.py`` runs it for longer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drivers.scpi_generator import DIALECTS
from labctl.shelf import shelf

ROOT = Path(__file__).parents[2]
NEVER_HIDDEN = ("silent", "garbage", "refuse")


@pytest.mark.timeout(200)
def test_a_short_soak_leaks_nothing_and_every_fault_is_in_the_event_log(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    options = ["--seconds", "6", "--seed", "7", "--hosts", "1", "--log", str(log)]
    command = [sys.executable, "benchmarks/soak.py", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=190)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    events: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]

    injected = [event for event in events if event["topic"].startswith("fault.") and event["on"]]
    assert len(injected) >= 6
    assert f"{len(injected)} faults" in done.stdout
    assert sum(event["topic"].startswith("fault.") for event in events) == 2 * len(injected)  # each was ended

    unseen = [fault for fault in injected if fault["kind"] in NEVER_HIDDEN and not troubles(fault, events)]
    assert unseen == []

    ends: dict[str, str] = {}
    for event in events:
        if event["topic"].startswith("device."):
            ends[event["topic"]] = event["state"]
    assert set(ends.values()) == {"ready"}
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("soak.")]
    table = [words for words in rows if not words[0].endswith(":") and len(words) == 12]
    rates = {words[0]: float(words[4]) for words in table}
    assert {topic.removeprefix("device.") for topic in ends} == {*rates}
    assert min(rates.values()) > 0.0
    assert "least rate, of those that can be read at 10 Hz" in done.stdout

    here = {one.driver.rpartition(":")[2] for one in shelf(ROOT) if not one.package}
    assert {name.removeprefix("soak.").partition("_")[0] for name in rates} == here
    dialects = {name.partition("_")[2] for name in rates if name.startswith("soak.ScpiGenerator")}
    assert dialects == {*DIALECTS}


def troubles(fault: dict[str, Any], events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events of the fault's own devices, until the next fault there, that tell of lost connections or of errors."""
    ends = [
        event["time_wall"]
        for event in events
        if event["topic"] == fault["topic"] and event["on"] and event["time_wall"] > fault["time_wall"]
    ]
    return [
        event
        for event in events
        if fault["time_wall"] <= event["time_wall"] < min(ends, default=float("inf"))
        and any(
            event["topic"] == f"device.{device}" or event["topic"].startswith(f"signal.{device}.")
            for device in fault["devices"]
        )
        and (event.get("state") in ("lost", "fault") or event.get("error"))
    ]
