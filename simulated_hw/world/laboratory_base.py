"""What every simulated laboratory has: a clock, a seed with a stream of random numbers per component, parts by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np

from labctl.clock import Clock
from labctl.errors import ConfigError
from simulated_hw.world.parameters import Source


class LaboratoryBase:
    """Clock, seed and parts of a laboratory.

    sources:  of its component values
    """

    _parts: Mapping[str, Any]

    def __init__(self, sources: Sequence[Source], seed: int, clock: Clock) -> None:
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

    def now_ps(self) -> int:
        """Laboratory time, ps."""
        return round(self.now() * 1e12)
