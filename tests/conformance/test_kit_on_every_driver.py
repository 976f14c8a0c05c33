"""Every driver of the lab folder whose simulated instrument has a ``demo`` passes the conformance kit, run as a user does."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labctl.shelf import Shelved, shelf

ROOT = Path(__file__).parents[2]
SHELF = [one for one in shelf(ROOT) if not one.package]
AT_ONCE = 10
TRIED = [one for one in SHELF if one.kit]


def test_every_driver_can_be_loaded() -> None:
    assert [one.problem for one in SHELF if one.problem] == []


def test_the_drivers_were_found() -> None:
    files = {one.driver.partition(":")[0].removeprefix("drivers.") for one in TRIED}
    assert files >= {
        "idq_id900",
        "meerstetter_tec",
        "moglabs_qrf",
        "single_quantum_atlas",
        "thorlabs_pm100",
        "toptica_dlcpro",
    }


@pytest.fixture(scope="module")
def runs() -> dict[str, subprocess.CompletedProcess[str]]:
    """The kit on every driver, several at a time: it mostly waits for answers that do not come."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip((one.driver for one in TRIED), pool.map(kit, TRIED), strict=True))


def kit(one: Shelved) -> subprocess.CompletedProcess[str]:
    """The kit as a user calls it."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "--pyargs"]
    return subprocess.run(
        [*command, "labctl.conformance", "--driver", one.driver],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(400)
@pytest.mark.parametrize("one", TRIED, ids=lambda one: one.driver)
def test_the_kit(one: Shelved, runs: dict[str, subprocess.CompletedProcess[str]]) -> None:
    done = runs[one.driver]
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
