"""What Alice's multifunction card is wired to: a photomultiplier, a piezo's amplifier, the shutter of the 397 nm light."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labctl.sim.played import Clicks as Counted
from labctl.sim.played import Segment
from simulated_hw.world.card_wiring import CardWiring, Sequencer
from simulated_hw.world.counters import ClickCounters
from simulated_hw.world.parts_piezo import Piezo

PMT, AMPLIFIER, SHUTTER = "PFI8", "ao0", "port0/line0"
"""Terminals of the card."""
GAIN = 15.0
"""Of the piezo's amplifier: 150 V for 10 V."""


class Shutter:
    """A shutter in a beam, in nobody's hands open. It moves at once."""

    def __init__(self) -> None:
        self.opened = True

    def drive(self, high: bool) -> None:
        """A high level opens it."""
        self.opened = high


class Photomultiplier:
    """Looks at an ion all the time, not only while the core counts.

    dark_hz:  counts per second without light
    """

    def __init__(self, rng: np.random.Generator, dark_hz: float) -> None:
        self._rng = rng
        self._dark_hz = dark_hz
        self._counters = ClickCounters(rng, 1)
        self._time_ps = 0
        self.watching = False
        """Whether anybody wants its counts: else it saves the work."""
        self._expected = 0.0
        self._seen = 0

    def light(self, expected: float, seen: int = 0) -> None:
        """Light since the last ``advance``, spread over the time to the next: a mean number of counts, and counts drawn already."""
        if self.watching:
            self._expected += expected
            self._seen += seen

    def advance(self, time_ps: int) -> None:
        """Count up to a time."""
        if self.watching and time_ps > self._time_ps:
            self._time_ps = time_ps
            self._counters.add(0, self._seen + int(self._rng.poisson(self._expected)))
            self._expected, self._seen = 0.0, 0
            self._counters.advance(time_ps, (self._dark_hz,))

    def between(self, after_s: float, until_s: float) -> int:
        """Counts after the first and up to the second time, s; what has not been simulated yet is not counted."""
        return self._counters.between(round(after_s * 1e12), round(until_s * 1e12), 1)[0]


def wired(shutter: Shutter, piezo: Piezo, pmt_clicks: Callable[[float, float], int]) -> CardWiring:
    """The card of a node. A new card's lines are low: who plugs it in closes the shutter."""

    def amplify(volts: float) -> None:
        piezo.setpoint_v = GAIN * max(0.0, volts)

    return CardWiring(
        clicks={PMT: pmt_clicks}, outputs={AMPLIFIER: amplify}, switches={SHUTTER: shutter.drive}
    )


SEQUENCED = (
    *(
        f"{node}.{beam}"
        for node in ("alice", "bob")
        for beam in (
            "cool_397",
            "repump_866",
            "reset_854",
            "eit_397",
            "pump_397",
            "qubit_729",
            "reference_393",
        )
    ),
)
"""Lines on port0/line0, line1, ... of the card that plays them from its buffers."""
SHIFTERS = {"ao0": "alice.qubit_729", "ao1": "bob.qubit_729", "ao2": "alice.reference_393"}
"""Phase shifters on its analogue outputs, one turn for ``VOLTS_PER_TURN``."""
VOLTS_PER_TURN = 5.0
COUNTED = {"PFI8": "alice.pmt", "PFI3": "bob.pmt", "PFI0": "charlie.snspd_0", "PFI5": "charlie.snspd_1"}
STROBE, STROBE_INPUT = "port0/line31", "PFI9"


def sequencer(play: Callable[[Segment, int], dict[str, Counted]]) -> CardWiring:
    """The card that switches the laboratory's lines in place of another core."""
    return CardWiring(
        sequencer=Sequencer(
            {f"port0/line{number}": line for number, line in enumerate(SEQUENCED)},
            {output: (line, VOLTS_PER_TURN) for output, line in SHIFTERS.items()},
            COUNTED,
            {STROBE: STROBE_INPUT},
            play,
        )
    )
