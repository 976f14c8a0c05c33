"""A device of the soak: its driver with every signal polled and every error counted, and what the events say of it."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.bus.owner import HostedDevice
from labctl.device import Device
from labctl.lab import find_driver
from labctl.transport import connect

ROOT = Path(__file__).parents[2]
POLL_S = 0.1
TIMEOUT_S = 0.5
"""How long a driver waits for an answer, s."""
OPTIONS: Mapping[str, Mapping[str, Any]] = {"ScpiGenerator": {"dialect": "keysight"}}
STATES: Mapping[str, Mapping[str, Any]] = {
    "MeerstetterTec": {"temperature": 294.15, "output": True},
    "NiCounter": {"gate_time": 0.01},
    "SingleQuantumAtlas": {
        "trigger_level": [0.1, 0.1],
        "bias": [20e-6, 20e-6],
        "enabled": True,
    },
    "SrsLdc501": {"temperature": 294.15, "tec": True},
}
"""Declared states of those that are not ready as they are switched on."""
SLOWER: Mapping[str, tuple[float, str]] = {
    "TimebaseDim3000": (
        0.1,
        "it takes 10 commands a second (DEVICES.md 3.3), so its signals share them",
    ),
}
"""Instruments whose protocol does not allow 10 Hz: time that reading one signal takes, s, and why."""


@dataclass
class Watched:
    """What is known of one device: what its driver raised, and, independently, what the events say."""

    name: str
    instrument: str
    address: str
    slower: str = ""
    """Why its protocol does not allow 10 Hz, if it does not."""
    fastest_hz: float = 1 / POLL_S
    """How often each signal can be read."""
    answers: Counter[str] = field(default_factory=Counter[str])
    """Signal -> how often it was read while the device was well and no fault was on; those that failed too."""
    well_s: float = 0.0
    """How long that was, s."""
    well_since: float | None = None
    raised: Counter[str] = field(default_factory=Counter[str])
    state: str = ""
    reason: str = ""
    told: Counter[str] = field(default_factory=Counter[str])

    def counting(self, ask: Callable[..., Any], signal: str = "") -> Callable[..., Any]:
        """``ask``, and count what it raises; of a signal also how often it is asked."""

        def counted(*arguments: Any) -> Any:
            if signal and self.well_since is not None:
                self.answers[signal] += 1
            try:
                return ask(*arguments)
            except Exception as error:
                self.raised[type(error).__name__] += 1
                raise

        return counted

    def hosted(self, driver: str) -> HostedDevice:
        """The device, every signal of it polled."""
        original = find_driver(driver, ROOT)
        body: dict[str, Any] = {"__module__": original.__module__, "manual": original.manual}
        opened = self.counting(original.open)

        def open_(device: Device) -> None:
            opened(device)

        body["open"] = open_
        for name, signal in original.signals.items():
            body[name] = copy.copy(signal)
            body[name].poll_s = POLL_S
            body[name].read = self.counting(signal.read, name)
            self.answers[name] = 0
        polled: type[Device] = type(original.__name__, (original,), body)

        def make() -> Device:
            device = polled(
                connect(self.address, self.name, TIMEOUT_S), self.name, **OPTIONS.get(original.__name__, {})
            )
            device.timeout_s = TIMEOUT_S
            return device

        takes_s, self.slower = SLOWER.get(original.__name__, (0.0, ""))
        self.fastest_hz = 1 / max(POLL_S, takes_s * len(original.signals))
        return HostedDevice(self.name, make, STATES.get(original.__name__, {}))

    def undisturbed(self, is_so: bool) -> None:
        """Whether readings count for the rates from now on."""
        now = time.monotonic()
        if self.well_since is not None:
            self.well_s += now - self.well_since
        self.well_since = now if is_so else None

    def rates(self) -> dict[str, float]:
        """Readings per second of each signal, while the device was well; empty if it never was."""
        return {name: count / self.well_s for name, count in self.answers.items()} if self.well_s else {}

    @property
    def well(self) -> bool:
        return self.state == "ready"

    def hear(self, topic: str, payload: Any) -> bool:
        """Take an event of the device; whether it tells more than a reading."""
        if topic.startswith("signal."):
            if "error" not in payload:
                return False
            self.told["error"] += 1
            return True
        was, self.state, self.reason = self.state, payload["state"], payload["reason"]
        if self.state in ("lost", "fault") and was != self.state:
            self.told["lost"] += 1
        elif self.reason.startswith("cannot tell"):
            self.told["error"] += 1
        if self.state == "ready" and was != "ready":
            self.told["ready"] += 1
        return True
