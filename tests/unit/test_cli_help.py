"""Help is complete, consistent and cheap."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from labctl.cli import FAMILIES, main

COMMANDS = [name for _, commands in FAMILIES.values() for name in commands]
HEAVY = ("numpy", "scipy", "numba", "h5py", "xarray", "matplotlib", "pyvisa", "rich", "zmq", "msgspec")


def heavy_after(arguments: list[str]) -> list[str]:
    """Heavy packages that a fresh interpreter has imported after running the command line."""
    code = (
        "import sys\n"
        "from labctl.cli import main\n"
        f"try:\n    main({arguments!r})\n"
        "except SystemExit:\n    pass\n"
        f"print('HEAVY', *[name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert heavy_after(arguments) == []


def test_importing_labctl_is_light() -> None:
    code = f"import labctl, sys; print(*[name for name in {(*HEAVY, 'click')!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_module_and_command_are_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "labctl", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Usage: labctl ")
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_worth_reading(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert command.help is not None
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["rnu"], "did you mean 'run'?"),
        (["frobnicate"], "see `labctl --help`"),
        (["ls", "--colour"], "No such option"),
        (["run"], "give a SEQUENCE, or --resume RID"),
        (["run", "link", "--resume", "3"], "give a SEQUENCE, or --resume RID"),
        (["run", "link", "--seed", "3"], "--seed needs --virtual"),
        (["run", "link", "--rounds", "0"], "0 is not in the range"),
        (["run", "link", "--rounds", "many"], "not a valid integer"),
        (["set", "alice.laser.current"], "Missing argument 'VALUE'"),
        (["get"], "Missing argument 'NAME...'"),
        (["draw", "link", "--format", "pdf"], "'pdf' is not one of"),
        (["analyze", "bell", "file.txt"], "Missing option '--format'"),
        (["fault", "alice.laser"], "give a KIND of fault, or --clear"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert text in result.stderr
    assert "Traceback" not in result.stderr
