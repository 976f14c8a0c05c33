"""A digital delay generator's clockwork: when its outputs are high, whatever its protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

TTL_V = 4.0


@dataclass
class PulseOutput:
    """One output: a pulse of ``width_s`` that begins ``delay_s`` after each T0.

    mode and its counts work as those of the generator, on this output alone.
    """

    enabled: bool = False
    delay_s: float = 0.0
    width_s: float = 1e-6
    inverted: bool = False
    adjustable: bool = False
    """Output stage: the fast one at 4 V, or the slower one at ``amplitude_v``."""
    amplitude_v: float = 2.0
    mode: str = "NORM"
    burst: int = 5
    pulses: int = 4
    skips: int = 2

    def high_v(self) -> float:
        """Level of a pulse into a high impedance, V."""
        return self.amplitude_v if self.adjustable else TTL_V


@dataclass
class DelayGenerator:
    """T0 every ``period_s`` (or on each external trigger), and the outputs that follow it.

    mode:  NORM endless, SING one T0, BURS ``burst`` of them, DCYC ``pulses`` of them then ``skips`` left out
    """

    outputs: list[PulseOutput] = field(default_factory=lambda: [PulseOutput() for _ in range(8)])
    period_s: float = 1e-3
    mode: str = "NORM"
    burst: int = 5
    pulses: int = 4
    skips: int = 2
    external: bool = False
    """T0 comes from the trigger input instead of the clock."""
    running: bool = False
    started_s: float = 0.0
    last_trigger_s: float = -math.inf

    def start(self, now_s: float) -> None:
        """Run from now, if it does not; a single pulse or burst is made again."""
        if not self.running or self.mode in ("SING", "BURS"):
            self.running, self.started_s, self.last_trigger_s = True, now_s, -math.inf

    def stop(self) -> None:
        """All outputs at rest."""
        self.running = False

    def trigger(self, now_s: float) -> None:
        """An edge at the trigger input."""
        if self.running and self.external and now_s - self.last_trigger_s >= self.period_s:
            self.last_trigger_s = now_s

    def is_high(self, output: int, now_s: float) -> bool:
        """Whether a pulse of output ``output`` (from 0) is on at ``now_s``, before its polarity."""
        out = self.outputs[output]
        if not (self.running and out.enabled):
            return False
        since_s = now_s - out.delay_s - (self.last_trigger_s if self.external else self.started_s)
        if self.external:
            return 0 <= since_s < out.width_s
        first = max(0, math.floor((since_s - out.width_s) / self.period_s) + 1)
        last = math.floor(since_s / self.period_s)
        # a pulse longer than the period covers several T0: any of the last few that fired will do
        return any(self._fires(out, k) for k in range(max(first, last - 64), last + 1))

    def level_v(self, output: int, now_s: float) -> float:
        """Voltage at output ``output`` (from 0) into a high impedance, V."""
        out = self.outputs[output]
        return out.high_v() if self.is_high(output, now_s) != out.inverted else 0.0

    def _fires(self, out: PulseOutput, k: int) -> bool:
        return k >= 0 and _allowed(self, k) and _allowed(out, k)


def _allowed(who: DelayGenerator | PulseOutput, k: int) -> bool:
    """Whether T0 number ``k`` counts in this mode."""
    match who.mode:
        case "SING":
            return k == 0
        case "BURS":
            return k < who.burst
        case "DCYC":
            return k % (who.pulses + who.skips) < who.pulses
        case _:
            return True
