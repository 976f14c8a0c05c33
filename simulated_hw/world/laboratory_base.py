"""What every simulated laboratory has: a clock, a seed with a stream of random numbers per component, parts by name."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Protocol
from zlib import crc32

import numpy as np

from labctl.clock import Clock
from labctl.errors import ConfigError
from labctl.sim.played import Segment
from simulated_hw.world.counters import ClickCounters
from simulated_hw.world.parameters import Polarisation, Source
from simulated_hw.world.segments import Readings

WANDER = 1e-3
"""Odds hold, in virtual time, until slow wandering has changed them by this share (rms)."""
LONGEST_CALM_S = 20.0
"""No odds hold longer than this."""
WIRE_STATE = attrgetter("bias_a", "trigger_v", "enabled", "latched", "peak_efficiency", "dark_rate_hz")
"""What of a nanowire decides what it sees."""


class Arm(Protocol):
    """How the fibre coupling of a node wanders."""

    @property
    def coupling_drift(self) -> float:
        """Relative, rms."""
        ...

    @property
    def coupling_drift_time_s(self) -> float:
        """Correlation time, s."""
        ...


def calm_span_s(arms: Sequence[Arm], polarisation: Polarisation) -> float:
    """How long it takes the slow wandering of couplings and polarisation to change odds by ``WANDER`` (rms), s.

    An Ornstein-Uhlenbeck process moves by sigma sqrt(2 t / tau) in a time t well below tau; light behind a polariser
    that is off by an angle x changes by 2 x dx, and x is rarely beyond two sigma.
    """
    waits = [
        arm.coupling_drift_time_s / 2 * (WANDER / arm.coupling_drift) ** 2
        for arm in arms
        if arm.coupling_drift > 0
    ]
    if polarisation.drift_rad > 0:
        waits.append(polarisation.drift_time_s / 2 * (WANDER / (4 * polarisation.drift_rad**2)) ** 2)
    return min([LONGEST_CALM_S, *waits])


class LaboratoryBase:
    """Clock, seed and parts of a laboratory.

    sources:  of its component values
    """

    _parts: Mapping[str, Any]
    _readings: Readings
    _counters: ClickCounters

    def __init__(self, sources: Sequence[Source], seed: int, clock: Clock) -> None:
        self.lock = threading.RLock()
        self._sources = sources
        self._seed = seed
        self._clock = clock
        self._origin_s = clock.now()
        self._streams: dict[str, np.random.Generator] = {}

    def part(self, name: str) -> Any:
        """A part by name, e.g. "alice.laser_397", "alice.aom" (a list of channels), "charlie.tagger"."""
        try:
            return self._parts[name]
        except KeyError:
            raise ConfigError(
                f"the simulated laboratory has no part {name!r}; it has {', '.join(sorted(self._parts))}"
            ) from None

    def now(self) -> float:
        """Seconds of laboratory time since the world began."""
        return self._clock.now() - self._origin_s

    def rng(self, name: str) -> np.random.Generator:
        """The stream of random numbers of one component, the same for the same seed and name."""
        if name not in self._streams:
            self._streams[name] = np.random.default_rng(
                np.random.SeedSequence([self._seed, crc32(name.encode())])
            )
        return self._streams[name]

    def sources(self) -> list[tuple[str, float | bool, str, str]]:
        """(name, value, unit, source) of every component value."""
        return [(s.name, s.value, s.unit, s.source) for s in self._sources]

    def clicked(self, body: Segment, patterns: Mapping[str, int]) -> None:
        """Count the clicks of skipped attempts: so many of them showed these patterns."""
        with self.lock:
            reading = self._readings.of(body)
            for pattern, count in patterns.items():
                for (detector, _), digit in zip(reading.midpoint_gates, pattern, strict=True):
                    self._counters.add(detector, count * int(digit))

    def now_ps(self) -> int:
        """Laboratory time, ps."""
        return round(self.now() * 1e12)
