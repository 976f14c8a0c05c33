"""The commands, scripts and answers of docs/tutorial.md and README.md, run as written in a copy of the lab folder.

What is not run as written stands in NOT_RUN and CHANGED, and nowhere else.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
README = ROOT / "README.md"
EXAMPLE = "docs/examples/etalon_detuning.py"

NOT_RUN = {
    "make demo": "it makes a virtual environment; what it leaves, runs 1 to 5, is counted instead (see the fixture)",
    ". .venv/bin/activate": "the environment of the tests has labctl on its PATH",
    "labctl up configs/ca40_10km.toml": "the lab is up: the README's first terminal",
}
CHANGED = {
    "--detach": "--detach --free-ports --speed 200",  # other tests use the ports of the lab file
    "--rounds 150 --points 7": "--rounds 300 --points 3 --span 20",  # starting a run costs more than its rounds
    "--rounds 300 --label": "--rounds 120 --label",
    "--rounds 200 --set": "--rounds 60 --set",
    "weak_link --rounds 100": "weak_link --rounds 30",
}


@dataclass(frozen=True)
class Step:
    """A command with the answer the document shows, a script, or a file to be written."""

    command: str = ""
    answer: str = ""
    script: str = ""
    file: str = ""


def steps(document: Path) -> list[Step]:
    """What a reader does, in order: ``console`` and ``python`` blocks; a python block after "Write `FILE`:" is a file."""
    text = document.read_text()
    found: list[Step] = []
    for block in re.finditer(r"^```(console|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if block[1] == "python":
            written = re.search(r"Write `([^`]+)`:\n\n$", text[: block.start()])
            found.append(Step(script=block[2], file=written[1] if written else ""))
            continue
        for command in re.finditer(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block[2], re.MULTILINE):
            found.append(Step(command=command[1], answer=command[2]))
    return found


def pattern(answer: str) -> str:
    """The shown answer as a regular expression: any number for a number, any text or lines for ``...``."""
    lines: list[str] = []
    for line in answer.splitlines():
        if line == "...":
            lines.append(r"(?:.*\n)*?")
            continue
        words = re.split(r"(\.\.\.|\s+|[+-]?\d+(?:\.\d+)?)", line)
        lines.append("".join(_word(word) for word in words) + r"[ ]*\n")
    return "".join(lines)


def _word(word: str) -> str:
    if word == "...":
        return ".*"
    if word.isspace():
        return r"[ ]+"
    return r"[+-]?\d+(?:\.\d+)?" if re.fullmatch(r"[+-]?\d+(?:\.\d+)?", word) else re.escape(word)


class Reader:
    """Somebody at a terminal in a lab folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {key: value for key, value in os.environ.items() if not key.startswith("LABCTL_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        self.environment = {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}

    def types(self, command: str) -> tuple[int, str]:
        """Exit code and what the terminal shows."""
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        return done.returncode, done.stdout

    def follows(self, document: Path) -> str:
        """Do what the document says, compare the answers; everything the terminal showed."""
        shown = ""
        for step in steps(document):
            if step.command in NOT_RUN:
                continue
            if step.file:
                (self.folder / step.file).write_text(step.script)
                continue
            if step.script:
                (self.folder / "script.py").write_text(step.script)
            code, text = self.types(as_run(step.command) or "python script.py")
            what = f"{step.command or step.script}\n{text}"
            refused = step.answer.startswith("labctl: ")
            assert code == (1 if refused else 0), what
            if step.answer:
                assert re.fullmatch(pattern(step.answer), text), f"{what}--- the document has:\n{step.answer}"
            shown += text
        return shown


def as_run(command: str) -> str:
    """The command with at most one of the changes."""
    written = next((text for text in CHANGED if text in command), "")
    return command.replace(written, CHANGED[written]) if written else command


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    folder = tmp_path / "labctl"
    for name in ("drivers", "sequences", "simulated_hw", "configs"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / EXAMPLE).parent.mkdir(parents=True)
    shutil.copy(ROOT / EXAMPLE, folder / EXAMPLE)
    (folder / "runs").mkdir()
    (folder / "runs" / "last_rid").write_text("5")  # the demo took runs 1 to 5
    somebody = Reader(folder)
    yield somebody
    somebody.types("labctl down")


@pytest.mark.timeout(300)
def test_the_tutorial_does_what_it_says(reader: Reader) -> None:
    shown = reader.follows(TUTORIAL)
    folder = reader.folder
    assert (folder / "waits.png").stat().st_size > 0
    assert (folder / "etalon_detuning.png").stat().st_size > 0
    detuning_hz, rate_hz, error_hz = np.loadtxt(
        folder / "etalon_detuning.csv", delimiter=",", skiprows=1, unpack=True
    )
    assert list(detuning_hz / 1e6) == pytest.approx([-40, 0, 40])
    assert np.all(error_hz / rate_hz < 0.1)
    height = re.search(r"^height +(\S+) ", shown, re.MULTILINE)
    centre = re.search(r"^centre +(\S+) ", shown, re.MULTILINE)
    assert height is not None and float(height[1]) > 0.1  # 1.1 ± 0.25 expected
    assert centre is not None and abs(float(centre[1])) < 25  # MHz; 0 ± 5 expected
    assert not [path for path in (folder / "runs").glob("0*") if not (path / "report.html").exists()]


@pytest.mark.timeout(300)
def test_the_readme_works_and_an_interrupted_scan_puts_the_etalon_back(reader: Reader) -> None:
    code, text = reader.types(as_run("labctl up configs/ca40_10km.toml --detach"))
    assert code == 0, text
    reader.follows(README)
    scan = subprocess.Popen(
        [sys.executable, EXAMPLE, "--rounds", "100000"],
        cwd=reader.folder,
        env=reader.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own, as a terminal makes one
    )
    with scan:
        assert scan.stderr is not None
        line = scan.stderr.readline()
        assert "100000 rounds" in line
        assert re.fullmatch(r"30 degC\n", reader.types("labctl get alice.etalon.setpoint")[1]) is None
        os.killpg(scan.pid, signal.SIGINT)
        out, err = scan.communicate(timeout=60)
    assert scan.returncode == 1
    assert out == "etalon back to 303.150 K\n"
    assert "interrupted" in err and "Traceback" not in err
    assert reader.types("labctl get alice.etalon.setpoint") == (0, "30 degC\n")


def test_the_excerpt_in_the_tutorial_is_the_example() -> None:
    excerpt = re.findall(r"^    (.+)$", TUTORIAL.read_text().partition("Its core:")[2].partition("Four things")[0], re.MULTILINE)  # fmt: skip
    example = {line.partition("  #")[0].strip() for line in (ROOT / EXAMPLE).read_text().splitlines()}
    assert len(excerpt) > 5
    assert [line for line in excerpt if line.strip() not in example] == []


def test_nothing_is_excepted_that_is_not_there() -> None:
    commands = [step.command for document in (TUTORIAL, README) for step in steps(document)]
    assert [command for command in NOT_RUN if command not in commands] == []
    assert [text for text in CHANGED if not any(text in command for command in commands)] == []


def test_links_lead_to_files() -> None:
    for document in (README, *sorted((ROOT / "docs").glob("*.md"))):
        targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text())
        assert [target for target in targets if not (document.parent / target).exists()] == [], document.name
