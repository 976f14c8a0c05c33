"""End a lab that another process supervises."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from labctl.clock import SystemClock
from labctl.errors import BusError
from labctl.up.runtime import Runtime, running


def down(runtime: Runtime, timeout_s: float = 40.0) -> None:
    """Ask the supervisor to make everything safe and end; BusError if it has not within ``timeout_s`` s."""
    clock = SystemClock()
    try:
        os.kill(runtime.pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    deadline = clock.now() + timeout_s
    while any(one.name == runtime.name for one in running(Path(runtime.lab))):
        if clock.now() > deadline:
            raise BusError(
                f"lab {runtime.name} (process {runtime.pid}) has not ended after {timeout_s:g} s; see the logs in {runtime.state}"
            )
        clock.sleep(0.1)
