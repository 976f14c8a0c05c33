"""For all tests: no windows, hypothesis without a clock, and nothing left running behind a test."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["MPLBACKEND"] = "Agg"
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as `labctl` sets it; tests run beside each other

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell leaves it to what it starts with &
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "here", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, print_blob=True)
settings.register_profile("search", settings.get_profile("here"), max_examples=1000, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

PROCESSES = ("lab", "wire", "conformance")
"""Folders whose tests run other processes, sockets and pseudo-terminals in real time, beside each other on a few cores: one
that fails is tried once more, and the summary says so. The others have to pass at once."""
GRACE_S = 3.0
"""How long a thread or process may take to end after the test that started it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A second try for tests of real processes."""
    for item in items:
        if item.path.parent.name in PROCESSES and item.config.pluginmanager.hasplugin("rerunfailures"):
            item.add_marker(pytest.mark.flaky(reruns=1))


def _threads() -> set[threading.Thread]:
    # (pyzmq has a thread of its own for sends without copying: one per process, from the first such send to the exit)
    return {thread for thread in threading.enumerate() if type(thread).__name__ != "GarbageCollectorThread"}


def _children() -> dict[int, str]:
    """Process id -> command of the living children of this process (of multiprocessing alone where there is no /proc)."""
    found = {child.pid: child.name for child in multiprocessing.active_children() if child.pid}
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            pids = [int(pid) for pid in listing.read_text().split()]
        except FileNotFoundError:  # the thread ended while we looked
            continue
        for pid in pids:
            found |= _command(pid)
    return {pid: command for pid, command in found.items() if "resource_tracker" not in command}


def _command(pid: int) -> dict[int, str]:
    """The process and its command line; nothing if it has ended, reaped or not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {} if state == "Z" else {pid: command.replace(b"\0", b" ").decode(errors="replace")}


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Fail a test that leaves a thread or a child process behind."""
    threads, children = _threads(), _children().keys()
    yield
    wait = threading.Event()
    for _ in range(int(GRACE_S / 0.05)):
        late = [thread.name for thread in _threads() - threads]
        late += [f"process {pid}: {command}" for pid, command in _children().items() if pid not in children]
        if not late:
            return
        wait.wait(0.05)
    pytest.fail(f"still running {GRACE_S:g} s after the test: {', '.join(late)}")
