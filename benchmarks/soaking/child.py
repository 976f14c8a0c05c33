"""A process of the soak: a JSON line in, a JSON line out; and what a process uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NOT_COUNTED = ("event_engine", "grpc_", "resolver-", "timer")
"""Threads of gRPC's own pools, which come and go with its load."""


class Child:
    """A process of its own that runs ``file``, from here. ``first`` is what it says when it has begun."""

    def __init__(self, name: str, file: Path, *arguments: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, str(file), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.first = self._read()

    def ask(self, *order: Any) -> Any:
        """Give an order; its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=30)

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of the {self.name} has ended; see above")
        return json.loads(line)


def serve(first: Any, obey: Callable[..., Any]) -> None:
    """Say ``first``, then answer orders with what ``obey`` returns (``usage`` by itself) until standard input ends."""
    print(json.dumps(first), flush=True)
    for line in sys.stdin:
        order: list[Any] = json.loads(line)
        print(json.dumps(usage() if order == ["usage"] else obey(*order)), flush=True)


def usage() -> dict[str, float]:
    """Open descriptors, threads, resident memory and processor time of this process.

    Workers of the simulated card's gRPC pool are not counted: they are made as calls overlap, kept, and bounded.
    """
    import threading

    workers = sum(thread.name.startswith("simulated-nidaqmx_") for thread in threading.enumerate())
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "descriptors": len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208  (the listing itself is one)
        "threads": sum(not name.startswith(NOT_COUNTED) for name in _thread_names()) - workers,
        "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "cpu_s": time.process_time(),
    }


def _thread_names() -> list[str]:
    """As the system calls them."""
    names: list[str] = []
    for task in os.listdir("/proc/self/task"):  # noqa: PTH208
        try:
            names.append(Path(f"/proc/self/task/{task}/comm").read_text())
        except OSError:  # it has just ended
            continue
    return names
