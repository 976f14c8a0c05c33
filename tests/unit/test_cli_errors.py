"""Bad input: each is one line that says where and what to do, exit code 1, no traceback."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from labctl.cli import main, places

LAB = Path(__file__).parents[2]
POWER_METER = """
[device.alice.power]
driver = "drivers.thorlabs_pm100:ThorlabsPm100"
address = "tcp://127.0.0.1:17799"
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder and state folder of the test's own, the lab folder of the checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LABCTL_LAB", str(LAB))


def labctl(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments])


def refused(result: Result, *texts: str) -> None:
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("labctl: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    for text in texts:
        assert text in result.stderr


@pytest.mark.parametrize(
    ("toml", "texts"),
    [
        ('name = "x"\n[devise.alice]\n', ("bad.toml: unknown table [devise]", "did you mean 'device'?")),
        ("name = x\n", ("bad.toml: not TOML", "line 1")),
        ("[hub]\n", ("bad.toml: the lab has no name",)),
        ('name = "x"\n[hub]\nadress = "tcp://127.0.0.1:1"\n', ("bad.toml [hub]: unknown key 'adress'", "'address'")),
        (f'name = "x"\n{POWER_METER}timeout_s = "long"\n', ("[device.alice.power] timeout_s:", "float")),
        (
            f'name = "x"\n{POWER_METER}{POWER_METER.replace("alice", "bob")}',
            ("[device.bob.power]: address", "127.0.0.1:17799, which [device.alice.power] has", "another port"),
        ),
        (f'name = "x"\n{POWER_METER}limits = {{ power = [2, 1] }}\n', ("[device.alice.power] limits: power", "[lowest, highest]")),
        ('name = "x"\nextends = "none.toml"\n', ("none.toml: no such file",)),
    ],
)  # fmt: skip
def test_lab_files(tmp_path: Path, toml: str, texts: tuple[str, ...]) -> None:
    (tmp_path / "bad.toml").write_text(toml)
    refused(labctl("check", "link", "--config", "bad.toml"), *texts)
    refused(labctl("up", "bad.toml"), *texts)


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (("thorlabs_pm100:", "thorlabs_pm1000:"), ("no module drivers.thorlabs_pm1000", "did you mean drivers.thorlabs_pm100?")),
        ((":ThorlabsPm100", ":ThorlabPm100"), ("has no 'ThorlabPm100'", "did you mean 'ThorlabsPm100'?")),
        (("17799\"", "17799\"\nstate = { wavelenght = 1e-6 }"), ("has no signal 'wavelenght'", "did you mean 'wavelength'?")),
        (("17799\"", "17799\"\noptions = { colour = 1 }"), ("has no option 'colour'",)),
    ],
)  # fmt: skip
def test_drivers(tmp_path: Path, change: tuple[str, str], texts: tuple[str, ...]) -> None:
    (tmp_path / "bad.toml").write_text('name = "x"\n' + POWER_METER.replace(*change))
    result = labctl("up", "bad.toml")
    assert result.exit_code == 1
    assert result.stderr.startswith("labctl: ")
    assert result.stderr.count("\n") == 1
    for text in ("bad.toml [device.alice.power]", *texts):
        assert text in result.stderr


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["check", "lnik"], ("no sequence 'lnik'; did you mean 'link'?",)),
        (["check", "link", "--set", "alfa=0.1"], ("no argument 'alfa'; did you mean 'alpha'?",)),
        (["check", "link", "--set", "alpha=much"], ("alpha='much' is not a number",)),
        (["check", "link", "--set", "window=60parsec"], ("window='60parsec' is not a whole number, or a time",)),
        (["check", "link", "--set", "alpha=2"], ("sequence link: alpha must be between 0 and 1, not 2",)),
        (["check", "link", "--set", "alpha"], ("--set alpha: write it as KEY=VALUE",)),
        (["check", "link", "--config", "nolab"], ("no lab file 'nolab'", "ca40_10km")),
        (["check", "link", "--config", "nolab.toml"], ("nolab.toml: no such file",)),
        (["run", "link", "--virtual", "--set", "alpha=2"], ("alpha must be between 0 and 1",)),
        (["run", "--resume", "7", "--virtual"], ("no run 7 in", "the newest are none")),
        (["show", "123456", "--runs", "."], ("no run 123456 in .",)),
        (["up", "nolab"], ("no lab file 'nolab'",)),
        (["analyze", "bell", "--format", "delft2015", "no.txt"], ("no.txt: cannot be read",)),
        (["tags", "info", "no.ptu"], ("no.ptu: cannot be read",)),
        (["--lab", "/", "check", "link"], ("that folder has no configs/",)),
        (["--hub", "nonsense", "ls"], ("nonsense",)),
    ],
)  # fmt: skip
def test_arguments(arguments: list[str], texts: tuple[str, ...]) -> None:
    refused(labctl(*arguments), *texts)


def test_not_a_power_of_this_lab(tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_text(f'name = "real"\n{POWER_METER}')
    refused(labctl("up", "real.toml", "--seed", "1"), "real.toml: this lab is not simulated", "--seed")
    refused(labctl("sim", "real.toml"), "real.toml has no [world]: it is not a simulated lab")


@pytest.mark.parametrize(
    "arguments", [["ls"], ["down"], ["get", "a.b.c"], ["set", "a.b.c", "1"], ["watch"], ["safe"], ["run", "link"]]
)  # fmt: skip
def test_no_lab_up(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "mylab" / "configs").mkdir(parents=True)
    refused(labctl("--lab", "mylab", *arguments), "no lab is up in", "labctl up configs/NAME.toml")


def test_a_schedule_that_cannot_run_lists_every_problem(tmp_path: Path) -> None:
    lab_file = LAB / "configs" / "ca40_10km.toml"
    (tmp_path / "slow.toml").write_text(
        f'extends = "{lab_file}"\n[line.alice.excite_854]\nshortest_ps = 1_000_000\n[line.bob.excite_854]\nshortest_ps = 1_000_000\n'
    )
    result = labctl("check", "link", "--config", "slow.toml")
    assert result.exit_code == 1
    assert [name for name in ("alice", "bob") if f"{name}.excite_854" in result.stdout] == ["alice", "bob"]
    taken = labctl("run", "link", "--virtual", "--config", "slow.toml")
    assert taken.exit_code == 1
    assert all(taken.stderr.count(line) == 1 for line in result.stdout.splitlines())
    assert not (tmp_path / "runs").exists()


def test_the_usual_lab_file_is_named_or_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "lab_folder", lambda: tmp_path)
    configs = tmp_path / "configs"
    configs.mkdir()
    refused(labctl("check", "link"), f"{configs}: no lab file there")
    for name in ("a", "b"):
        (configs / f"{name}.toml").write_text(f'name = "{name}"\n')
    refused(labctl("check", "link"), "several lab files (a, b)", "configs/default")
    (configs / "default").write_text("b\n")
    assert places.config_file(None) == configs / "b.toml"
    (configs / "default").write_text("c\n")
    refused(labctl("check", "link"), "no lab file 'c'", "there are a, b")
    (configs / "default").unlink()
    (configs / "a.toml").unlink()
    assert places.config_file(None) == configs / "b.toml"


def test_a_mistake_in_labctl_is_one_line_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(given: str | None) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(places, "config_file", broken)
    result = labctl("check", "link")
    refused(result, "ZeroDivisionError: oops (test_cli_errors.py, line ")
    (file,) = (tmp_path / "state" / "labctl").glob("error-*.txt")
    assert str(file) in result.stderr
    assert "Traceback" in file.read_text()


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "config_file", lambda _: os.kill(os.getpid(), signal.SIGINT))
    result = labctl("check", "link")
    assert result.exit_code == 130
    assert result.stderr == "labctl: interrupted\n"
