"""``labctl new`` and ``labctl drivers``: files that work at once, refusals that write nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from labctl import config as configs
from labctl import lab as labs
from labctl.cli import main
from labctl.clock import VirtualClock
from labctl.up.world import in_process, make_world

ROOT = Path(__file__).parents[2]
FILES = ("drivers/acme_source.py", "simulated_hw/acme_source.py", "tests/wire/test_acme_source.py")


def run(*words: str) -> Result:
    return CliRunner().invoke(main, [*words])


def new(lab: Path, *words: str) -> Result:
    return run("--lab", str(lab), "new", "driver", *words)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    folder = tmp_path / "mylab"
    (folder / "configs").mkdir(parents=True)
    return folder


def test_a_new_driver_is_three_files(lab: Path) -> None:
    result = new(lab, "acme_source")
    assert result.exit_code == 0, result.output
    assert all((lab / file).is_file() for file in FILES)
    assert "class AcmeSource(" in (lab / FILES[0]).read_text()
    assert "tcp://host:5025" in (lab / FILES[0]).read_text()
    assert not any("$" in (lab / file).read_text() for file in FILES)


def test_class_and_port_can_be_chosen(lab: Path) -> None:
    assert new(lab, "acme_source", "--class", "Source", "--port", "4001").exit_code == 0
    assert "class Source(" in (lab / FILES[0]).read_text()
    assert "class SimSource(" in (lab / FILES[1]).read_text()
    assert "tcp://host:4001" in (lab / FILES[0]).read_text()


def test_the_new_files_are_tidy(lab: Path) -> None:
    """As files of this repository, but for the order of imports: elsewhere labctl is a third party."""
    new(lab, "acme_source")
    shutil.copy(ROOT / "pyproject.toml", lab)
    for command in (["check", "--ignore", "I001"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "."]
        done = subprocess.run(ruff, cwd=lab, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_the_new_test_passes(lab: Path) -> None:
    new(lab, "acme_source")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", FILES[2]],
        cwd=lab,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(lab), str(ROOT)))},
    )
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_the_printed_tables_bring_it_into_a_simulated_lab(tmp_path: Path) -> None:
    lab = tmp_path / "mylab"
    assert run("new", "lab", str(lab)).exit_code == 0
    printed = new(lab, "acme_source").output
    tables = printed[printed.index("[device.") : printed.index("to test")]
    world = (
        '[world]\nmodel = "simulated_hw.world.laboratory:Laboratory"\nbuild = "simulated_hw.bench:build"\n'
        'parameters = "world/ca40_10km.toml"\n'
    )
    (lab / "configs" / "mine.toml").write_text(f'name = "mine"\n{world}{tables}')
    code = "import sys, tests.unit.test_cli_new as this; this.set_and_get(this.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(lab)],
        cwd=lab,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(lab), str(ROOT)))},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2.5 True 2.5"


def set_and_get(lab: Path) -> None:
    """In a process of its own, as two labs have modules of the same names: the new device in virtual time."""
    config, clock = configs.simulating(configs.load(lab / "configs" / "mine.toml"), ["all"]), VirtualClock()
    _, instruments = make_world(config, lab, clock)
    with labs.device_maker(config, "alice.acme_source", lab, in_process(instruments, clock))() as device:
        device.signal("voltage").set(2.5)
        device.signal("output").set(True)
        volts = vars(instruments["alice.acme_source"])["volts"]
        print(device.signal("voltage").get(), device.signal("output").get(), volts)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["Acme"], "'Acme' cannot be the name of a file of Python"),
        (["acme-source"], "'acme-source' cannot be the name of a file of Python"),
        (["class"], "'class' cannot be the name of a file of Python"),
        (["../acme"], "'../acme' cannot be the name of a file of Python"),
        (["acme_source", "--class", "A B"], "'A B' cannot be the name of a class"),
    ],
)
def test_a_bad_name_writes_nothing(lab: Path, words: list[str], text: str) -> None:
    result = new(lab, *words)
    assert result.exit_code == 1
    assert text in result.stderr
    assert [path.name for path in lab.parent.rglob("*") if path.is_file()] == []


def test_nothing_is_written_over(lab: Path) -> None:
    assert new(lab, "acme_source").exit_code == 0
    (lab / FILES[0]).unlink()
    (lab / FILES[1]).write_text("mine\n")
    result = new(lab, "acme_source")
    assert result.exit_code == 1
    assert FILES[1] in result.stderr and "nothing was written" in result.stderr
    assert not (lab / FILES[0]).exists()
    assert (lab / FILES[1]).read_text() == "mine\n"


def test_nothing_is_written_into_the_installed_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "_lab"
    (folder / "configs").mkdir(parents=True)
    monkeypatch.setattr(labs, "shipped", lambda: folder)
    result = new(folder, "acme_source")
    assert result.exit_code == 1
    assert "labctl new lab mylab" in result.stderr
    assert not (folder / "drivers").exists()


def test_a_new_lab_is_a_copy_of_the_shipped_one(tmp_path: Path) -> None:
    folder = tmp_path / "mylab"
    result = run("new", "lab", str(folder))
    assert result.exit_code == 0, result.output
    for name in ("drivers", "sequences", "simulated_hw", "configs"):
        here = {file.relative_to(ROOT / name): file.read_bytes() for file in (ROOT / name).rglob("*") if file.is_file() and "__pycache__" not in file.parts}  # fmt: skip
        there = {file.relative_to(folder / name): file.read_bytes() for file in (folder / name).rglob("*") if file.is_file()}  # fmt: skip
        assert here == there
    assert {entry.name for entry in folder.iterdir()} == {"drivers", "sequences", "simulated_hw", "configs", "pytest.ini"}  # fmt: skip


def test_a_new_lab_is_not_put_into_a_folder_that_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine\n")
    result = run("new", "lab", str(tmp_path))
    assert result.exit_code == 1
    assert "is not empty" in result.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_drivers_lists_the_lab_folder() -> None:
    result = run("--lab", str(ROOT), "drivers", "--json")
    rows = {row["driver"]: row for row in json.loads(result.stdout)}
    assert rows["drivers.toptica_dlcpro:DlcPro"] == {
        "driver": "drivers.toptica_dlcpro:DlcPro",
        "transports": ["tcp", "serial"],
        "manual": "toptica-lasersdk 3.3, parameter tree of firmware 3.3.3",
        "checked_with": "toptica-lasersdk 3.3.0 against the same simulated instrument",
        "simulator": "simulated_hw.toptica_dlcpro:SimDlcPro",
        "kit": True,
        "package": "",
        "problem": "",
    }
    assert rows["drivers.idq_id900:IdqId900"]["transports"] == ["zmq"]
    assert not any("line_device" in name or "websq" in name for name in rows)
    table = run("--lab", str(ROOT), "drivers").stdout.splitlines()
    assert table[0].split() == "driver transports simulator state manual or source checked with".split()  # noqa: SIM905
    assert len(table) == 1 + len(rows)


def test_a_driver_that_cannot_be_imported_is_listed_with_its_problem(tmp_path: Path) -> None:
    for name in ("configs", "drivers"):
        (tmp_path / name).mkdir()
    (tmp_path / "drivers" / "__init__.py").write_text('"""Drivers."""\n')
    (tmp_path / "drivers" / "broken.py").write_text("import no_such_package\n")
    (tmp_path / "drivers" / "worse.py").write_text("def (\n")
    done = subprocess.run(
        [sys.executable, "-m", "labctl", "--lab", str(tmp_path), "drivers", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1, done.stderr
    rows = {row["driver"]: row for row in json.loads(done.stdout)}
    assert "no_such_package" in rows["drivers.broken"]["problem"]
    assert "invalid syntax" in rows["drivers.worse"]["problem"]
