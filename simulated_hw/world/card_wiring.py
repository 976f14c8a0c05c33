"""What is wired to the terminals of a multifunction card: clicks, clocks, voltages, piezos, shutters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from labctl.sim.played import Clicks as Counted
from labctl.sim.played import Segment

Clicks = Callable[[float, float], int]
"""Number of rising edges after the first and up to the second time, s; asked once per interval, intervals never overlap."""
Instants = Callable[[float, float], NDArray[np.float64]]
"""Times of the rising edges of a clock after the first and up to the second time, s, in order; may be asked again."""
Voltage = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Voltages at many times, V at s."""


@dataclass
class CardWiring:
    """The world at the connector of one card; terminals by the card's own names without the device.

    A terminal with nothing on it has no edges, 0 V and a low line. Clicks are asked only while somebody counts them.
    """

    clicks: dict[str, Clicks] = field(default_factory=dict[str, Clicks])
    """Detector pulses, for counting: ``"PFI8"``."""
    clocks: dict[str, Instants] = field(default_factory=dict[str, Instants])
    """Clocks from outside, for sampling or counting: ``"PFI9"``."""
    voltages: dict[str, Voltage] = field(default_factory=dict[str, Voltage])
    """Voltages into the analogue inputs: ``"ai0"``."""
    levels: dict[str, Callable[[], bool]] = field(default_factory=dict[str, Callable[[], bool]])
    """Levels on digital lines that are read: ``"port0/line8"``."""
    outputs: dict[str, Callable[[float], None]] = field(default_factory=dict[str, Callable[[float], None]])
    """Told each new voltage of an analogue output, V: ``"ao0"``."""
    switches: dict[str, Callable[[bool], None]] = field(default_factory=dict[str, Callable[[bool], None]])
    """Told each new level of a digital line that is driven: ``"port0/line0"``."""
    sequencer: Sequencer | None = None
    """What buffered waveforms on the card's outputs do, if it switches the lines of the laboratory's core."""


@dataclass(frozen=True)
class Sequencer:
    """A card that plays the laboratory's lines from its buffers.

    lines:      digital line -> line of the core
    phases:     analogue output -> line whose phase it shifts, and the volts for a turn
    detectors:  terminal -> input line of the core whose clicks arrive there
    jumpers:    digital line -> terminal it is wired to
    play:       what the world makes of a segment that begins at a laboratory time, ps
    """

    lines: dict[str, str]
    phases: dict[str, tuple[str, float]]
    detectors: dict[str, str]
    jumpers: dict[str, str]
    play: Callable[[Segment, int], dict[str, Counted]]
