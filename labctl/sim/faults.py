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
    "glue": "sends replies without their ends, so that they run into each other",
    "unasked": "says something nobody asked for before every reply",
    "echo": "sends back what it hears before it answers",
    "disconnect": "closes the connection instead of answering, COUNT times",
    "limit": "takes no more clients than COUNT",
    "refuse": "accepts no connection and drops those it has",
}
UNASKED = b"*** unasked ***\r\n"
"""What ``unasked`` puts before a reply."""
ENDS = b"\r\n\x17"
"""What ``glue`` takes from the end of a reply."""
HAS_NO_MEANING = {
    "zmq": (
        ("split", "glue", "unasked", "echo", "disconnect", "limit"),
        "ZeroMQ brings one whole reply for each request",
    ),
    "nidaqmx": (("split", "glue", "unasked", "echo", "limit"), "gRPC brings one whole answer for each call"),
}
"""Kind of wire -> faults that it does not have, and why."""


@dataclass
class Faults:
    """Which wire faults are on. ``switch("late", 1.5)`` turns one on, ``clear()`` all off.

    The number given with a fault is a count (drop, disconnect) or seconds (late, split).
    """

    active: dict[str, float] = field(default_factory=dict[str, float])
    wire: str = ""
    """Kind of wire, if it is one of HAS_NO_MEANING."""

    def switch(self, kind: str, amount: float = 1.0) -> None:
        """Turn a fault on; ``amount`` is a count or seconds as ``KINDS`` says. LimitError for one that the wire cannot have."""
        if kind not in KINDS:
            raise LimitError(f"unknown fault {kind!r}; there are {', '.join(KINDS)}")
        kinds, why = HAS_NO_MEANING.get(self.wire, ((), ""))
        if kind in kinds:
            raise LimitError(f"the fault {kind!r} does not exist here: {why}")
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
