"""Commands that start processes: up, down, the simulated instruments alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.meerstetter_tec import MeerstetterTec
from labctl.transport import connect
from labctl.up.free_ports import free_ports

LAB = Path(__file__).parents[2]
OVEN = """
name = "one_oven"

[world]
model = "simulated_hw.world.laboratory:Laboratory"
build = "simulated_hw.bench:build"
parameters = "{parameters}"

[device.alice.oven]
driver = "drivers.meerstetter_tec:MeerstetterTec"
address = "tcp://127.0.0.1:17720"

[world.simulator.alice.oven]
instrument = "simulated_hw.meerstetter_tec:SimMeerstetterTec"
parts = ["alice.oven"]
"""


class Shell:
    """Runs ``labctl`` in a lab folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "labctl", *arguments],
            cwd=self.folder,
            env={"PATH": "", "PYTHONPATH": str(LAB), "HOME": str(self.folder), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=60)
            return process.returncode, out, err


@pytest.fixture
def labctl(tmp_path: Path) -> Iterator[Shell]:
    folder = tmp_path / "mylab"
    (folder / "configs").mkdir(parents=True)
    (folder / "drivers").mkdir()
    (folder / "configs" / "hub_only.toml").write_text(
        f'name = "hub_only"\n[hub]\naddress = "tcp://127.0.0.1:{free_ports(1)[0]}"\n'
    )
    shell = Shell(folder)
    yield shell
    for _ in range(3):
        if shell("down")[0] != 0:
            break


def test_up_and_down(labctl: Shell) -> None:
    code, out, err = labctl("up", "--detach")
    assert (code, err) == (0, "")
    assert out.startswith("hub_only is up, 0 devices ready; hub tcp://127.0.0.1:")
    assert labctl("ls")[1] == "no host has registered yet\n"
    code, out, _ = labctl("doctor", "--json")
    assert code == 0
    assert next(one["text"] for one in json.loads(out) if one["what"] == "lab").startswith("up, hub tcp://")
    assert labctl("down") == (0, "hub_only is down\n", "")
    code, _, err = labctl("ls")
    assert code == 1
    assert "no lab is up" in err


def test_a_lab_is_up_once_but_a_copy_may_be(labctl: Shell) -> None:
    assert labctl("up", "--detach")[0] == 0
    for again in (("up",), ("up", "--detach")):
        code, _, err = labctl(*again)
        assert code == 1
        assert "lab hub_only is up already" in err
        assert "--free-ports" in err
        assert err.count("\n") == 1
    code, out, err = labctl("up", "--detach", "--free-ports")
    assert (code, err) == (0, "")
    assert out.startswith("hub_only-2 is up")
    code, _, err = labctl("ls")
    assert code == 1
    assert "several labs are up" in err
    assert "hub_only, hub_only-2" in err
    assert labctl("--lab-name", "hub_only-2", "ls")[0] == 0
    assert labctl("--lab-name", "hub_only-2", "down")[1] == "hub_only-2 is down\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_up_in_the_foreground_ends_by_signal(labctl: Shell, number: int, code: int) -> None:
    with labctl.start("up") as process:
        assert process.stdout is not None
        line = ""
        while "Ctrl-C makes them safe" not in line:
            line = process.stdout.readline()
            assert line, process.communicate()[1]
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert err == "\nmaking every device safe and ending; this takes a few seconds\n"
    assert labctl("down")[0] == 1


def test_the_simulated_instruments_alone(tmp_path: Path) -> None:
    file = tmp_path / "one_oven.toml"
    file.write_text(OVEN.format(parameters=LAB / "configs" / "world" / "ca40_10km.toml"))
    shell = Shell(tmp_path)
    with shell.start("--lab", str(LAB), "sim", str(file), "--free-ports", "--json") as process:
        try:
            assert process.stdout is not None
            text = ""
            while not text.endswith("}\n"):
                text += process.stdout.readline()
            listening = json.loads(text)
            assert set(listening) == {"alice.oven"}
            assert listening["alice.oven"] != "tcp://127.0.0.1:17720"
            with MeerstetterTec(connect(listening["alice.oven"], "alice.oven", 5.0), "alice.oven") as oven:
                assert 250 < oven.temperature.get() < 400
        finally:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
