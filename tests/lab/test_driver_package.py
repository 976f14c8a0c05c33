"""A driver of an installed package: found by its entry point, listed, tried by the kit, named in a lab file."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labctl import config as configs
from labctl import lab as labs
from labctl.device import Device
from labctl.errors import ConfigError
from labctl.shelf import shelf, simulator_of
from labctl.sim.server import SimServer
from labctl.transport import Transport, connect

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tests" / "data" / "demo_driver_package"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the demo package has been installed to."""
    copy = tmp_path_factory.mktemp("source") / "package"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*install, "--no-build-isolation", "--no-index", "--target", str(target), str(copy)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process with the package installed."""
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    return site


def labctl(*words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, filter(None, (path, ROOT))))}
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)


def drivers(path: Path | None = None) -> dict[str, dict[str, object]]:
    done = labctl("labctl", "drivers", "--json", path=path)
    return {row["driver"]: row for row in json.loads(done.stdout)}


def lab_file(folder: Path, driver: str) -> configs.LabConfig:
    file = folder / "lab.toml"
    file.write_text(
        f'name = "lab"\n[device.alice.source]\ndriver = "{driver}"\naddress = "tcp://127.0.0.1:5025"\n'
        "limits = { voltage = [0.0, 2.0] }\n"
    )
    return configs.load(file)


def test_it_appears_in_labctl_drivers_once_installed(site: Path) -> None:
    assert "demo_source" not in drivers()
    row = drivers(site)["demo_source"]
    assert row == {
        "driver": "demo_source",
        "transports": ["tcp"],
        "manual": "the command list of labctl_demo_source.simulator",
        "checked_with": "labctl_demo_source.simulator",
        "simulator": "entry:demo_source",
        "kit": True,
        "package": "labctl-demo-source 0.3.1",
        "problem": "",
    }
    table = labctl("labctl", "drivers", path=site).stdout
    (line,) = [line for line in table.splitlines() if line.startswith("demo_source ")]
    assert "kit, labctl-demo-source 0.3.1" in line


@pytest.mark.parametrize("name", ["demo_source", "entry:demo_source"])
def test_a_lab_file_names_it(installed: Path, tmp_path: Path, name: str) -> None:
    config = lab_file(tmp_path, name)
    server = SimServer()
    sim = labs.simulated("entry:demo_source", ROOT, lambda: 0.0)
    port = server.serve_tcp(sim)

    def dial(_: str, device: str, timeout_s: float) -> Transport:
        return connect(f"tcp://127.0.0.1:{port}", device, timeout_s)

    with server, labs.device_maker(config, "alice.source", ROOT, dial)() as device:
        assert isinstance(device, Device)
        device.signal("voltage").set(1.5)
        assert device.signal("voltage").get() == 1.5
        assert device.signal("voltage").limits == (0.0, 2.0)


def test_the_simulator_of_an_installed_driver_is_that_of_the_same_name(installed: Path) -> None:
    assert simulator_of("demo_source", ROOT) == simulator_of("entry:demo_source", ROOT) == "entry:demo_source"
    assert "demo_source" in {row.driver for row in shelf(ROOT)}


@pytest.mark.parametrize("name", ["demo_sorce", "entry:demo_sorce"])
def test_a_driver_that_nobody_provides_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        labs.device_maker(lab_file(tmp_path, name), "alice.source", ROOT)
    assert str(refused.value).startswith(f"{tmp_path / 'lab.toml'} [device.alice.source] driver: {name!r}")
    assert "labctl.drivers" in str(refused.value)
    assert "installed are none" in str(refused.value)


def test_a_near_name_is_suggested(installed: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'demo_source'"):
        labs.device_maker(lab_file(tmp_path, "demo_sorce"), "alice.source", ROOT)


def test_a_package_that_is_broken_is_listed_with_its_problem(site: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(site, broken)
    (broken / "labctl_demo_source" / "driver.py").write_text("import no_such_package\n")
    done = labctl("labctl", "drivers", "--json", path=broken)
    assert done.returncode == 1
    row = {row["driver"]: row for row in json.loads(done.stdout)}["demo_source"]
    assert "labctl_demo_source.driver:DemoSource" in row["problem"] and "no_such_package" in row["problem"]


def test_the_kit_tries_it(site: Path) -> None:
    kit = (
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--pyargs",
        "labctl.conformance",
        "--driver",
        "demo_source",
    )
    done = labctl(*kit, path=site)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
