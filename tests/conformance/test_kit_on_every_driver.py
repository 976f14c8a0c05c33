"""Every driver of the lab folder whose simulated instrument has a ``demo`` passes the conformance kit, run as a user does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from labctl.shelf import Shelved, shelf

ROOT = Path(__file__).parents[2]
SHELF = [one for one in shelf(ROOT) if not one.package]
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


@pytest.mark.timeout(300)
@pytest.mark.parametrize("one", TRIED, ids=lambda one: one.driver)
def test_the_kit(one: Shelved) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "--pyargs"]
    done = subprocess.run(
        [*command, "labctl.conformance", "--driver", one.driver], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
