"""A device of the soak as the events and its host's counts show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Watched:
    """What is known of one device."""

    name: str
    instrument: str
    driver: str
    address: str
    wanted_hz: float
    slower: str
    """Why its protocol does not allow 10 Hz, "" if it does."""
    rates: dict[str, float] = field(default_factory=dict[str, float])
    """Signal -> readings per second while the device was well and no fault was on; known at the end."""
    total_hz: float = 0.0
    """Readings per second of a signal over the whole run, faults and all."""
    well_part: float = 0.0
    """Part of the run that the rates are counted over."""
    raised: int = 0
    state: str = ""
    reason: str = ""
    told: Counter[str] = field(default_factory=Counter[str])

    @property
    def well(self) -> bool:
        """Whether it is ready, as the events have it."""
        return self.state == "ready"

    @property
    def least(self) -> tuple[float, str]:
        """The lowest rate, and of which signal."""
        return min((rate, signal) for signal, rate in self.rates.items()) if self.rates else (0.0, "?")

    def learn(self, counts: Mapping[str, Any], ran_s: float) -> None:
        """Take what its host has counted."""
        well_s: float = counts["well_s"]
        self.rates = {name: count / well_s for name, count in counts["answers"].items()} if well_s else {}
        self.well_part = well_s / ran_s
        every: Mapping[str, int] = counts["all_answers"]
        self.total_hz = sum(every.values()) / len(every) / ran_s
        self.raised = counts["raised"]

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
