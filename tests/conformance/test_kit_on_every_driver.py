"""Every driver of the lab folder passes the conformance kit, run as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labctl.shelf import shelf

ROOT = Path(__file__).parents[2]
SHELF = [one for one in shelf(ROOT) if not one.package]
AT_ONCE = 8
TIMEOUT_S, PATIENT_S = "0.25", "0.6"
GENERATOR = "simulated_hw.scpi_generator"
OPTIONS = {"drivers.timebase_dim3000:TimebaseDim3000": ["--option", "spacing_s=0.02"]}
"""The simulated one is quicker here, too."""
FURTHER = {
    "keysight": ["--simulator", f"{GENERATOR}:SimKeysight33622A", "--option", "dialect=keysight"],
    "rohde_schwarz": ["--simulator", f"{GENERATOR}:SimSmb100A", "--option", "dialect=rohde_schwarz"],
}
"""Dialects of the signal generator beside the one that it has without options."""
SLOWEST_FIRST = sorted(
    SHELF, key=lambda one: (one.driver.endswith("Dim3000"), one.transports[:1] == ("serial",))
)[::-1]
RUNS = {
    **{one.driver: ["--driver", one.driver, *OPTIONS.get(one.driver, [])] for one in SLOWEST_FIRST},
    **{
        f"scpi_generator {name}": ["--driver", "drivers.scpi_generator:ScpiGenerator", *options]
        for name, options in FURTHER.items()
    },
}


def test_every_driver_can_be_loaded() -> None:
    assert [one.problem for one in SHELF if one.problem] == []


def test_every_driver_is_tried() -> None:
    assert len(SHELF) >= 22
    assert [one.driver for one in SHELF if not one.kit] == []


@pytest.fixture(scope="module")
def runs() -> dict[str, subprocess.CompletedProcess[str]]:
    """The kit on every driver, several at a time: it mostly waits for answers that do not come."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(RUNS, pool.map(kit, RUNS.values()), strict=True))


def kit(options: list[str], timeout_s: str = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    """The kit as a user calls it, without plugins that it does not need."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    command += ["-p", "labctl.conformance.plugin", "-p", "pytest_timeout", "--timeout-s", timeout_s]
    command += ["--pyargs", "labctl.conformance", *options]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=alone)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", RUNS)
def test_the_kit(name: str, runs: dict[str, subprocess.CompletedProcess[str]]) -> None:
    done = runs[name]
    if done.returncode:  # alone and with more patience: a busy machine is no mistake of the driver
        done = kit(RUNS[name], PATIENT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
