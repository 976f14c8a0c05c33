"""Faults that can be switched on any simulated instrument's wire."""

from __future__ import annotations

from dataclasses import dataclass, field

from labctl.errors import LimitError

KINDS = {
    "silent": "answers nothing",
    "drop": "loses the next COUNT replies",
    "late": "answers only after SECONDS",
    "garble": "flips bytes in every reply",
    "garbage": "answers random bytes instead of the reply",
    "split": "sends replies in two parts, SECONDS apart",
    "disconnect": "closes the connection instead of answering, COUNT times",
    "limit": "takes no more clients than COUNT",
    "refuse": "accepts no connection and drops those it has",
}


@dataclass
class Faults:
    """Which wire faults are on. ``switch("late", 1.5)`` turns one on, ``clear()`` all off.

    The number given with a fault is a count (drop, disconnect) or seconds (late, split).
    """

    active: dict[str, float] = field(default_factory=dict[str, float])

    def switch(self, kind: str, amount: float = 1.0) -> None:
        """Turn a fault on; ``amount`` is a count or seconds as ``KINDS`` says."""
        if kind not in KINDS:
            raise LimitError(f"unknown fault {kind!r}; there are {', '.join(KINDS)}")
        self.active[kind] = amount

    def clear(self, kind: str = "") -> None:
        """Turn one fault off, or all."""
        if kind:
            self.active.pop(kind, None)
        else:
            self.active.clear()

    def take(self, kind: str) -> bool:
        """Use one of a counted fault; whether it applies now."""
        left = self.active.get(kind, 0)
        if left <= 0:
            return False
        if left <= 1:
            self.active.pop(kind, None)
        else:
            self.active[kind] = left - 1
        return True
