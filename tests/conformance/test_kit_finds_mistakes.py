"""The conformance kit fails a driver, or a simulated instrument, with one mistake, in the test that is about it.

The driver is the one that ``labctl new driver`` writes; each mistake replaces a piece of its text, or of its simulator's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent, indent
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DRIVER, SIMULATOR = "drivers/acme.py", "simulated_hw/acme.py"
DECLARED = 'limits=(0.0, 10.0), tolerance=1e-3, poll_s=1.0, doc="Output voltage."'
AT_ONCE = 4
OPENS_WITHOUT_ERROR = (
    "        try:\n            super().open()\n        except DeviceError:\n            return\n"
)
OFF = "        self.output.set(False)\n"


class Mistake(NamedTuple):
    """One mistake, and the test of the kit that finds it."""

    found_by: str
    file: str
    old: str
    new: str


def method(found_by: str, text: str) -> Mistake:
    """A method that the driver should not have."""
    before = "    @action\n    def safe("
    return Mistake(found_by, DRIVER, before, f"{indent(dedent(text), '    ')}\n{before}")


def query(found_by: str, failed: str) -> Mistake:
    """What the driver does when a query has failed."""
    text = f"""
        def query(self, text):
            try:
                return super().query(text)
            except DeviceError as error:
                {failed}
        """
    return method(found_by, text)


def simulator(found_by: str, text: str) -> Mistake:
    """A method that the simulated instrument should not have."""
    before = "    def unknown("
    return Mistake(found_by, SIMULATOR, before, f"{indent(dedent(text), '    ')}\n{before}")


MISTAKES = [
    Mistake("names_its_manual", DRIVER, '    manual = "the', '    source = "the'),
    Mistake("how_it_is_made_safe", DRIVER, "def safe(", "def off("),
    Mistake("a_signal_says_what_it_is", DRIVER, 'doc="Output voltage."', 'doc=""'),
    Mistake("a_signal_says_what_it_is", DRIVER, '"VOLT", "V"', '"VOLT", "mV"'),
    Mistake("limits_are_a_range", DRIVER, "(0.0, 10.0)", "(10.0, 0.0)"),
    Mistake(
        "refused_before_a_byte_moves", DRIVER, "limits=(0.0, 10.0)", "limits=lambda device: device.range()"
    ),
    Mistake("shows_what_was_set", SIMULATOR, "self.volts = volts", "self.volts = round(volts)"),
    Mistake("safe_works", DRIVER, OFF, "        self.voltage.set(0.0)\n"),
    Mistake("safe_works", DRIVER, OFF, "        self.output.set(not self.output.get())\n"),
    Mistake("nobody_there", DRIVER, "        super().open()\n", OPENS_WITHOUT_ERROR),
    query("no_room_for_another", 'return "0"'),
    method(
        "making_one_opens_nothing",
        """
        def __init__(self, transport, name=""):
            super().__init__(transport, name)
            transport.open()
        """,
    ),
    method("says_who_it_is", "def identity(self):\n    return super().identity() + chr(10)\n"),
    method("reads_as_its_kind", "def query_switch(self, text):\n    return self.query(text)\n"),
    method(
        "read_together",
        """
        def ask_ahead(self, names):
            self.known = {}

        def query(self, text):
            known = getattr(self, "known", {})
            if text not in known:
                known[text] = super().query(text)
            return known[text]
        """,
    ),
    method(
        "closing_leaves_the_instrument",
        """
        def close(self):
            if self.transport.is_open:
                self.output.set(False)
            super().close()
        """,
    ),
    method("closing_twice", "def close(self):\n    assert self.transport.is_open\n    super().close()\n"),
    query("silence_is_an_error", 'return "0"'),
    query("silence_is_an_error", 'raise type(error)("no answer") from None'),
    query("one_lost_reply", 'return "0"'),
    query("other_noise_on_the_wire", "return '0'"),
    query("a_late_reply", "self.transport._stale = False; raise"),
    query("half_an_answer", 'return self.transport.read_available().decode() or "0"'),
    query("an_instrument_that_is_away", "raise RefusedError(str(error)) from None"),
    method("nonsense_is_an_error", 'def query_switch(self, text):\n    return self.query(text) == "1"\n'),
    method(
        "a_garbled_number",
        """
        def query_number(self, text):
            return float("".join(c for c in self.query(text) if c in "0123456789."))
        """,
    ),
    method(
        "an_answer_in_two_pieces",
        """
        def query(self, text):
            self.transport.write(text.encode() + self.ending)
            return self.transport.read_available(self.timeout_s).decode("ascii", "replace").strip()
        """,
    ),
    method(
        "a_connection_that_breaks",
        """
        def query(self, text):
            if not self.transport.is_open:
                raise DeviceError(self.transport.where)
            return super().query(text)
        """,
    ),
    method(
        "nothing_is_left",
        """
        kept = []

        def open(self):
            self.kept.append(self.transport.sibling(str(self.transport.address)))
            self.kept[-1].open()
            super().open()
        """,
    ),
    simulator(
        "two_clients",
        """
        clients = 0

        def session(self, port, send):
            self.clients += 1
            return super().session(port, send if self.clients == 1 else lambda data: None)
        """,
    ),
    simulator(
        "half_a_question",
        """
        shared = bytearray()

        def session(self, port, send):
            made = super().session(port, send)
            made._buffer = self.shared
            return made
        """,
    ),
]
LIMITS_ASKED_NOW_AND_THEN = """
    asked = 0

    def range(self):
        self.asked += 1
        if self.asked > 2:
            self.query("VOLT?")
        return 0.0, 10.0
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab folder with the driver that ``labctl new driver acme`` writes and nothing else."""
    folder = tmp_path_factory.mktemp("mistakes") / "lab"
    for name in ("drivers", "simulated_hw", "configs"):
        (folder / name).mkdir(parents=True)
    new = [sys.executable, "-m", "labctl", "--lab", str(folder), "new", "driver", "acme"]
    subprocess.run(new, check=True, capture_output=True, env=environment())
    return folder


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def kit(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The kit alone: other plugins would cost more time than most tests."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "labctl.conformance.plugin",
    ]
    command += ["--tb=line", "--timeout-s", "0.2", "--pyargs", "labctl.conformance"]
    command += ["--driver", "drivers.acme:Acme", "--lab", str(folder), *options]
    alone = environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=alone)


def test_the_driver_without_a_mistake_passes(lab: Path) -> None:
    done = kit(lab)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def runs(
    lab: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[Mistake, subprocess.CompletedProcess[str]]:
    """The kit on each mistake that is asked for, several at a time: it mostly waits."""
    params = [getattr(item, "callspec").params for item in request.session.items if hasattr(item, "callspec")]  # noqa: B009
    wanted = [param["mistake"] for param in params if isinstance(param.get("mistake"), Mistake)]
    folders = [tmp_path_factory.mktemp("mistake") / "lab" for _ in wanted]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = pool.map(lambda mistake, folder: on(mistake, lab, folder), wanted, folders)
        return dict(zip(wanted, done, strict=True))


def on(mistake: Mistake, lab: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """The kit's test for the mistake, in a copy of the lab that has it."""
    shutil.copytree(lab, folder, ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / mistake.file
    text = file.read_text()
    assert text.count(mistake.old) == 1
    file.write_text(text.replace(mistake.old, mistake.new))
    if "device.range()" in mistake.new:
        with file.open("a") as more:
            more.write(LIMITS_ASKED_NOW_AND_THEN)
    return kit(folder, "-k", mistake.found_by)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.found_by)
def test_a_mistake_is_found(mistake: Mistake, runs: dict[Mistake, subprocess.CompletedProcess[str]]) -> None:
    done = runs[mistake]
    assert done.returncode == 1, done.stdout + done.stderr
    assert "failed" in done.stdout.splitlines()[-1]


def test_every_test_of_the_kit_finds_a_mistake() -> None:
    files = (ROOT / "labctl" / "conformance").glob("test_*.py")
    tests = [line[9:].partition("(")[0] for file in files for line in file.read_text().splitlines() if line.startswith("def test_")]  # fmt: skip
    assert len(tests) > 20
    assert [name for name in tests if not any(mistake.found_by in name for mistake in MISTAKES)] == []


def test_the_kit_says_what_it_needs(lab: Path) -> None:
    command = [sys.executable, "-m", "pytest", "--pyargs", "labctl.conformance"]
    done = subprocess.run(command, cwd=lab, capture_output=True, text=True, env=environment())
    assert done.returncode == 4
    assert "say which driver" in done.stderr
    done = kit(lab, "--driver", "drivers.acmee:Acme")
    assert done.returncode == 4
    assert "did you mean drivers.acme?" in done.stderr


def test_with_an_address_nothing_is_set(lab: Path) -> None:
    """Served by this process and asked by the kit: only questions arrive."""
    from labctl.sim.instrument import LineInstrument
    from labctl.sim.server import SimServer

    class Asked(LineInstrument):
        lines: set[str] = set()  # noqa: RUF012

        def unknown(self, line: str) -> str | None:
            self.lines.add(line)
            return {"*IDN?": "ACME,1", "VOLT?": "1.5", "OUTP?": "1"}.get(line)

    server = SimServer()
    port = server.serve_tcp(Asked())
    with server:
        done = kit(lab, "--address", f"tcp://127.0.0.1:{port}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout and " skipped" in done.stdout
    assert Asked.lines == {"*IDN?", "VOLT?", "OUTP?"}
