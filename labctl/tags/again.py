# pyright: standard
# (pyarrow carries no types)
"""Find the heralds of a run again, from nothing but its time tags: marker, gate, click pattern."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labctl.tags import recording
from labctl.tags.herald import HeraldSearch, Outcomes
from labctl.tags.stream import Tags

AGAIN = "again"


@dataclass(frozen=True, slots=True)
class FoundHerald:
    """A herald in the tags.

    record, loop:  of the stretch of time in which it was found
    outcome:       what its pattern means
    first_ps:      first click of each gate after it opened; -1 for none
    """

    record: int
    loop: str
    outcome: str
    first_ps: tuple[int, ...]


def find(folder: Path, outcomes: Mapping[str, Mapping[str, str]]) -> Iterator[FoundHerald]:
    """Every herald in the tags of a run, in order of time within each block and attempt loop.

    outcomes:  register of an attempt loop -> click pattern (one digit per gate that decides) -> outcome
    """
    searches: dict[tuple[str, tuple[int, ...], int], HeraldSearch] = {}
    for batch in recording.batches(folder):
        columns = {name: batch.column(name) for name in batch.schema.names}
        loops = np.array(columns["loop"].to_pylist())
        for loop in dict.fromkeys(loops.tolist()):
            mine = loops == loop
            rows = batch if mine.all() else batch.take(np.flatnonzero(mine))
            yield from _in_rows(rows, loop, outcomes.get(loop, {}), searches)


def _in_rows(
    rows: Any,
    loop: str,
    outcomes: Mapping[str, str],
    searches: dict[tuple[str, tuple[int, ...], int], HeraldSearch],
) -> Iterator[FoundHerald]:
    """The heralds of one attempt loop in one block."""
    detectors = tuple(rows.column("detectors")[0].as_py())
    window_ps = int(rows.column("window_ps")[0].as_py())
    search = searches.get((loop, detectors, window_ps))
    if search is None:
        search = searches[loop, detectors, window_ps] = HeraldSearch(detectors, window_ps)
    times = _numbers(rows.column("time_ps").flatten())
    channels = _numbers(rows.column("channel").flatten())
    after_ps, marker = int(rows.column("after_ps")[0].as_py()), int(rows.column("marker")[0].as_py())
    gates = times[channels == marker] + after_ps
    found = search.push(Tags(times, channels), gates, int(rows.column("until_ps")[-1].as_py()))
    since = _numbers(rows.column("since_ps"))
    records = _numbers(rows.column("record"))
    for row, start_ps in enumerate(found.start_ps.tolist()):
        outcome = outcomes.get(_digits(found, row), AGAIN)
        if outcome != AGAIN:
            place = int(np.searchsorted(since, start_ps, side="right")) - 1
            yield FoundHerald(int(records[place]), loop, outcome, tuple(found.first_ps[row].tolist()))


def _numbers(column: Any) -> Any:
    return np.from_dlpack(column)


def _digits(found: Outcomes, row: int) -> str:
    return "".join("1" if first >= 0 else "0" for first in found.first_ps[row].tolist())
