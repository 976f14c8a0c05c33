"""When what of an attempt loop is played: pure arithmetic of blocks and attempts, in ps of laboratory time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from labctl.sim.played import Segment


@dataclass
class Course:
    """An attempt loop under way: a block before attempt 0, ``every``, 2 ``every``, ...; attempts count from 0.

    told:     attempts the world has heard of, with the blocks before them
    passing:  click patterns that attempts may show without anybody looking at them, with their chance in an attempt that
              does not end the loop
    """

    between: Segment | None
    body: Segment
    every: int
    begin_ps: int
    told: int = 0
    passing: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def block_ps(self) -> int:
        """Length of the interleaved block; 0 without one."""
        return 0 if self.between is None else self.between.duration_ps

    @property
    def period_ps(self) -> int:
        """A block and the attempts up to the next one."""
        return self.block_ps + self.every * self.body.duration_ps

    def blocks(self, attempts: int) -> int:
        """Blocks played by the time so many attempts have passed."""
        return -(-attempts // self.every)

    def start_ps(self, attempt: int) -> int:
        """When an attempt begins."""
        return self.begin_ps + (attempt // self.every + 1) * self.block_ps + attempt * self.body.duration_ps

    def block_start_ps(self, block: int) -> int:
        """When a block begins."""
        return self.begin_ps + block * self.period_ps

    def passed_ps(self, attempts: int) -> int:
        """When so many attempts have passed."""
        return self.begin_ps + self.blocks(attempts) * self.block_ps + attempts * self.body.duration_ps

    def first_from(self, time_ps: int) -> int:
        """The first attempt that begins at ``time_ps`` or later."""
        block, rest = divmod(time_ps - self.begin_ps, self.period_ps)
        inside = -(-(rest - self.block_ps) // self.body.duration_ps)
        return max(0, block * self.every + min(max(inside, 0), self.every))

    def untold(self, attempts: int) -> tuple[list[tuple[Segment, int]], int, int]:
        """What was played since the world was last told until so many attempts had passed, its start and its length."""
        played: list[tuple[Segment, int]] = []
        if self.between is not None:
            played.append((self.between, self.blocks(attempts) - self.blocks(self.told)))
        played.append((self.body, attempts - self.told))
        start = self.passed_ps(self.told)
        return (
            [(segment, count) for segment, count in played if count],
            start,
            self.passed_ps(attempts) - start,
        )
