"""However a lab ends (Ctrl-C, SIGTERM, kill -9 of its supervisor), its instruments are left safe.

The simulated instruments run in a process of their own, so they can be asked, in their own protocols, after the lab is gone.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.clock import SystemClock
from labctl.transport import connect
from labctl.up.free_ports import free_ports

pytestmark = pytest.mark.timeout(400)
ROOT = Path(__file__).parents[2]
LABCTL = [sys.executable, "-m", "labctl"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A lab folder with two lab files on the same free ports: all.toml with a world, instruments_only.toml without."""
    for name in ("drivers", "sequences", "simulated_hw", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "configs" / "ca40_10km.toml").read_text()
    old = list(dict.fromkeys(re.findall(r"\b177\d\d\b", text)))
    ports = dict(zip(old, free_ports(len(old)), strict=True))
    text = re.sub(r"\b177\d\d\b", lambda match: str(ports[match[0]]), text)
    (tmp_path / "configs" / "all.toml").write_text(text)
    alone = re.sub(r"^\[world[^\]]*\]\n(?:(?!\[).*\n)*", "", text, flags=re.MULTILINE)
    alone = re.sub(r"^\[demo\]\n(?:(?!\[).*\n)*", "", alone, flags=re.MULTILINE)
    (tmp_path / "configs" / "instruments_only.toml").write_text(alone)
    yield tmp_path


def read_until(process: subprocess.Popen[str], mark: str, timeout_s: float = 60.0) -> str:
    assert process.stdout is not None
    watchdog = threading.Timer(timeout_s, process.kill)
    watchdog.start()
    seen = ""
    try:
        for line in process.stdout:
            seen += line
            if mark in line:
                return seen
    finally:
        watchdog.cancel()
        watchdog.join()
    raise AssertionError(f"ended before {mark!r}:\n{seen}")


def ask(address: str, question: bytes, end: bytes, banner: bytes = b"") -> bytes:
    transport = connect(address, "left behind", 3.0)
    transport.open()
    try:
        if banner:
            transport.read_until(banner)
        transport.write(question)
        return transport.read_until(end)
    finally:
        transport.close()


def outputs(addresses: dict[str, str]) -> dict[str, bool]:
    """Which outputs are on, asked on the wire: laser current, AOM channel 1, oven."""
    on: dict[str, bool] = {}
    for node in ("alice", "bob"):
        laser = ask(addresses[f"{node}.laser_397"], b"(param-ref 'laser1:dl:cc:enabled)\n", b"\n", b"> ")
        aom = ask(addresses[f"{node}.aom"], b"STATUS,1\r\n", b"\r\n")
        on[f"{node}.laser_397"] = laser.strip() == b"#t"
        on[f"{node}.aom"] = int(aom) != 0
    return on


@pytest.mark.parametrize(
    "how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["ctrl-c", "term", "kill-9"]
)
def test_instruments_are_safe_after_the_lab_has_gone(folder: Path, how: signal.Signals):
    instruments = subprocess.Popen(
        [*LABCTL, "sim", "configs/all.toml", "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    lab: subprocess.Popen[str] | None = None
    try:
        addresses: dict[str, str] = json.loads(read_until(instruments, "}"))
        lab = subprocess.Popen(
            [*LABCTL, "up", "configs/instruments_only.toml"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )
        read_until(lab, "Ctrl-C")
        assert all(outputs(addresses).values())
        lab.send_signal(how)
        lab.communicate(timeout=60)
        clock = SystemClock()
        deadline = clock.now() + 60.0  # after kill -9 the hosts learn of it from their closed pipe
        while any((left := outputs(addresses)).values()) and clock.now() < deadline:
            clock.sleep(0.1)
        assert not any(left.values()), left
    finally:
        for process in (lab, instruments):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=60)
            elif process is not None and process.stdout is not None:
                process.stdout.close()
