"""The wheel puts only ``labctl`` into site-packages, carries the lab folder inside it, and works from an empty folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIND = """
import sys
import labctl.lab
found = labctl.lab.find()
labctl.lab.load("drivers.thorlabs_pm100:ThorlabsPm100", found)
print(labctl.__file__, found, sys.modules["drivers.thorlabs_pm100"].__file__, sep="\\n")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the unpacked wheel in it, as site-packages would be."""
    made = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(made)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = made.glob("*.whl")
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_only_labctl_goes_into_site_packages(site: Path) -> None:
    assert {entry.name.partition("-")[0] for entry in site.iterdir()} == {"labctl"}


def test_everything_needed_is_in_the_wheel(site: Path) -> None:
    needed = [
        "py.typed",
        "run/report.html.jinja",
        "_lab/configs/ca40_10km.toml",
        "_lab/simulated_hw/world/parts.py",
    ]
    assert [name for name in needed if not (site / "labctl" / name).is_file()] == []
    tracked = subprocess.run(["git", "ls-files", "labctl"], cwd=ROOT, capture_output=True, text=True)
    assert [name for name in tracked.stdout.split() if not (site / name).is_file()] == []


def test_nothing_else_is_in_the_wheel(site: Path) -> None:
    assert {entry.name for entry in (site / "labctl" / "_lab").iterdir()} == {
        "configs",
        "drivers",
        "sequences",
        "simulated_hw",
    }
    assert not list(site.rglob("__pycache__"))
    assert {file.parent.name for file in site.rglob("test_*")} == {"conformance"}  # the kit is made of tests


def test_an_installed_labctl_finds_its_lab_folder_from_an_empty_folder(site: Path, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "LABCTL_LAB"} | {
        "PYTHONPATH": str(site)
    }
    done = subprocess.run([sys.executable, "-c", FIND], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    package, found, driver = done.stdout.splitlines()
    assert Path(package) == site / "labctl" / "__init__.py"
    assert Path(found) == site / "labctl" / "_lab"
    assert Path(driver) == site / "labctl" / "_lab" / "drivers" / "thorlabs_pm100.py"
