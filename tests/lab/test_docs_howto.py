"""The code of docs/howto-new-instrument.md, run as it stands there: three files and a table in a lab folder of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "howto-new-instrument.md").read_text()
FILES = dict(re.findall(r"^Write `([^`]+)`:\n\n```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
TABLES = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^\$ (.*)$", TEXT, re.MULTILINE)
WORLD = """name = "mine"

[world]
model = "simulated_hw.world.laboratory:Laboratory"
build = "simulated_hw.bench:build"
parameters = "world/ca40_10km.toml"

"""
SET_AND_GET = """
import sys
from pathlib import Path
from labctl import config as configs, lab as labs
from labctl.clock import ScaledClock
from labctl.errors import LimitError
from labctl.up.config_ports import with_free_ports
from labctl.up.world import Instruments, make_world

folder = Path.cwd()
config = with_free_ports(configs.simulating(configs.load(folder / "configs" / "mine.toml"), ["alice.chiller"]))
clock = ScaledClock(1000.0)
world, instruments = make_world(config, folder, clock)
served = Instruments(config, world, instruments, clock).start()
try:
    with labs.device_maker(config, "alice.chiller", folder)() as chiller:
        for name, value in config.device["alice.chiller"].state.items():
            chiller.signal(name).set(value)
        print(chiller.identity(), chiller.signal("setpoint").get(), chiller.signal("pump").get())
        print(chiller.signal("setpoint").limits)
        try:
            chiller.signal("setpoint").set(300.0)
        except LimitError as error:
            print(error)
finally:
    served.close()
"""


def run(lab: Path, *words: str) -> str:
    path = os.pathsep.join((str(lab), str(ROOT)))
    done = subprocess.run(
        [sys.executable, *words],
        cwd=lab,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab folder as the page says, with its files and tables."""
    folder = tmp_path_factory.mktemp("howto") / "mylab"
    run(folder.parent, "-m", "labctl", "new", "lab", str(folder))
    run(folder, "-m", "labctl", "new", "driver", "chiller")
    for name, code in FILES.items():
        assert (folder / name).is_file(), f"`labctl new driver` does not write {name}"
        (folder / name).write_text(code)
    (folder / "configs" / "mine.toml").write_text(WORLD + "\n".join(TABLES[:2]))
    return folder


def test_it_takes_three_files_and_one_table_of_under_150_lines() -> None:
    assert [*FILES] == ["drivers/chiller.py", "simulated_hw/chiller.py", "tests/wire/test_chiller.py"]
    assert [*tomllib.loads(TABLES[0])["device"]["alice"]] == ["chiller"]
    assert sum(len(code.splitlines()) for code in (*FILES.values(), TABLES[0])) < 150


def test_every_block_of_code_is_one_of_these() -> None:
    assert TEXT.count("```python") == len(FILES)
    assert TEXT.count("```toml") == len(TABLES) == 3
    assert len(re.findall(r"^```\w+$", TEXT, re.MULTILINE)) == len(FILES) + len(TABLES) + 1


def test_the_kit_passes(lab: Path) -> None:
    (command,) = COMMANDS
    python, *words = command.split()
    assert python == "python"
    assert " passed" in run(lab, *words, "-q", "-p", "no:cacheprovider")


def test_its_own_test_passes(lab: Path) -> None:
    assert "1 passed" in run(
        lab, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/wire/test_chiller.py"
    )


def test_a_lab_sets_and_gets_it_over_its_wire(lab: Path) -> None:
    lines = run(lab, "-c", SET_AND_GET).splitlines()
    assert lines[0] == "CHILLER 7 SN1234 293.15 True"
    assert lines[1] == "(288.15, 298.15)"
    assert lines[2].startswith("alice.chiller.setpoint: 26.85 degC is outside 15 degC to 25 degC")


def test_it_is_listed(lab: Path) -> None:
    rows = {row["driver"]: row for row in json.loads(run(lab, "-m", "labctl", "drivers", "--json"))}
    row = rows["drivers.chiller:Chiller"]
    assert row["transports"] == ["tcp", "serial"]
    assert row["simulator"] == "simulated_hw.chiller:SimChiller"
    assert row["kit"] is True


def test_the_lab_file_is_checked_with_the_new_driver(lab: Path) -> None:
    checked = json.loads(run(lab, "-m", "labctl", "--lab-name", "mine", "doctor", "--json"))
    assert {one["what"]: one["good"] for one in checked}["mine.toml"]


def test_the_code_is_tidy(lab: Path) -> None:
    files = [str(lab / name) for name in FILES]
    for command in (["check", "--ignore", "I001,D103"], ["format", "--check"]):
        ruff = [
            sys.executable,
            "-m",
            "ruff",
            *command,
            "--config",
            str(ROOT / "pyproject.toml"),
            "--no-cache",
        ]
        done = subprocess.run([*ruff, *files], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_entry_points_are_written_as_labctl_reads_them() -> None:
    points = tomllib.loads(TABLES[2])["project"]["entry-points"]
    assert [*points] == ["labctl.drivers", "labctl.simulators"]
    assert [*points["labctl.drivers"]] == [*points["labctl.simulators"]]
