"""The drivers of the soak on a host in a process of its own: every signal polled, every reading and every error counted."""

from __future__ import annotations

import copy
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.soaking.child import serve  # noqa: E402
from labctl.bus.host import Host  # noqa: E402
from labctl.bus.owner import HostedDevice  # noqa: E402
from labctl.device import Device  # noqa: E402
from labctl.lab import find_driver  # noqa: E402
from labctl.transport import connect  # noqa: E402

POLL_S = 0.1
TIMEOUT_S = 0.5
"""How long a driver waits for an answer, s."""
STATES: Mapping[str, Mapping[str, Any]] = {
    "MeerstetterTec": {"temperature": 294.15, "output": True},
    "NiCounter": {"gate_time": 0.01},
    "SingleQuantumAtlas": {
        "trigger_level": [0.1, 0.1],
        "bias": [20e-6, 20e-6],
        "measurement_period": 0.02,
        "enabled": True,
    },
    "SrsLdc501": {"temperature": 294.15, "tec": True},
}
"""Declared states of those that are not ready as they are switched on."""
SLOWER: Mapping[str, tuple[float, str]] = {
    "Novatech409B": (
        0.13,
        "question and answer for all of them are 229 bytes, 0.12 s at its 19200 baud (DEVICES.md 3.3)",
    ),
    "TimebaseDim3000": (
        0.15,
        "question and answer for all of them are 243 bytes, 0.127 s at its 19200 baud (DEVICES.md 3.3)",
    ),
}
"""Instruments whose own line does not allow 10 Hz, which the pseudo-terminal would: how often they are polled instead, s, and why.

The other serial lines need 9 to 36 ms for a reading of all signals, at their baud rates.
"""


def polled_every(driver: str) -> tuple[float, str]:
    """How often each signal of a driver is read, s, and why not at 10 Hz ("" where it is)."""
    return SLOWER.get(driver.partition(":")[2], (POLL_S, ""))


@dataclass
class Counted:
    """A device whose driver counts what it does."""

    name: str
    driver: str
    address: str
    answers: Counter[str] = field(default_factory=Counter[str])
    """Signal -> how often it was read while no fault was on and the device was well."""
    all_answers: Counter[str] = field(default_factory=Counter[str])
    """Signal -> how often it was read, or tried to, at any time."""
    well_s: float = 0.0
    well_since: float | None = None
    raised: int = 0

    def counting(self, ask: Callable[..., Any], signal: str = "") -> Callable[..., Any]:
        """``ask``, and count what it raises; of a signal also how often it is asked."""

        def counted(*arguments: Any) -> Any:
            if signal:
                self.all_answers[signal] += 1
                if self.well_since is not None:
                    self.answers[signal] += 1
            try:
                return ask(*arguments)
            except Exception:
                self.raised += 1
                raise

        return counted

    def hosted(self) -> HostedDevice:
        """The device, every signal of it polled."""
        original = find_driver(self.driver, ROOT)
        body: dict[str, Any] = {"__module__": original.__module__, "manual": original.manual}
        opened, asked_ahead = self.counting(original.open), self.counting(original.ask_ahead)

        def open_(device: Device) -> None:
            opened(device)

        def ask_ahead(device: Device, names: Any) -> None:
            asked_ahead(device, names)

        body["open"], body["ask_ahead"] = open_, ask_ahead
        for name, signal in original.signals.items():
            body[name] = copy.copy(signal)
            body[name].poll_s = polled_every(self.driver)[0]
            body[name].read = self.counting(signal.read, name)
            self.answers[name] = self.all_answers[name] = 0
        polled: type[Device] = type(original.__name__, (original,), body)
        dialect = self.name.partition("_")[2]
        options: dict[str, Any] = {"dialect": dialect} if original.__name__ == "ScpiGenerator" else {}

        def make() -> Device:
            device = polled(connect(self.address, self.name, TIMEOUT_S), self.name, **options)
            device.timeout_s = TIMEOUT_S
            return device

        return HostedDevice(self.name, make, STATES.get(original.__name__, {}))

    def undisturbed(self, is_so: bool) -> None:
        """Whether readings count for the rates from now on."""
        now = time.monotonic()
        if self.well_since is not None:
            self.well_s += now - self.well_since
        self.well_since = now if is_so else None

    def said(self) -> dict[str, Any]:
        """What was counted."""
        return {"well_s": self.well_s, "answers": self.answers, "all_answers": self.all_answers}


def main(node: str, hub: str, wanted: str) -> None:
    """Host devices (name, driver, address) until standard input ends."""
    counted = {name: Counted(name, driver, address) for name, driver, address in json.loads(wanted)}
    host = Host(node, [one.hosted() for one in counted.values()], hub).start()

    def obey(what: str, names: list[str], is_so: bool = False) -> Any:
        devices = [counted[name] for name in names if name in counted]
        if what == "begin":
            for one in devices:
                one.all_answers = Counter(dict.fromkeys(one.answers, 0))
        elif what == "undisturbed":
            for one in devices:
                one.undisturbed(is_so)
        elif what == "raised":
            return sum(one.raised for one in devices)
        elif what == "counts":
            return {one.name: {**one.said(), "raised": one.raised} for one in devices}
        return None

    try:
        serve(node, obey)
    finally:
        host.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
