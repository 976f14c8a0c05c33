"""Whether the heralds of a run, found again in its time tags, are those its core recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from labctl.run.columns import Columns
from labctl.schedule.items import Attempt, Branch, Item, Repeat, Report, Schedule, Series, Together

if TYPE_CHECKING:
    from labctl.tags.again import FoundHerald

FOLDER = "tags"
PUBLISHED = "tags.parquet"


class Heralds(msgspec.Struct, frozen=True):
    """The heralds of a run.

    recorded:  heralds of the core's records (of a record with several attempt loops, of each)
    found:     heralds in the time tags of these records
    agree:     of these, with the outcome and the click times of the record
    tags:      published
    """

    recorded: int
    found: int
    agree: int
    tags: int

    @property
    def text(self) -> str:
        """For a person."""
        missing = "" if self.agree == self.recorded == self.found else f"; only {self.agree} agree"
        return f"heralds found in the tags: {self.found} of {self.recorded}{missing}"


@dataclass(frozen=True)
class _Loop:
    """Where a record has the outcome and the click times of an attempt loop."""

    into: str
    outcomes: Mapping[str, str]
    outcome_column: str | None
    click_columns: tuple[str | None, ...]


def check(folder: Path, schedule: Schedule, table: Columns) -> Heralds | None:
    """Search the tags of a run folder for heralds, compare them with its records, publish them; None without tags.

    A record with several passes of one loop knows only the last of them: that one is compared.
    """
    from labctl.tags import again, recording

    tags = folder / FOLDER
    if not recording.files(tags):
        return None
    loops = {loop.into: loop for loop in _loops(schedule)}
    columns = [name for loop in loops.values() for name in (loop.outcome_column, *loop.click_columns) if name]
    count = recording.publish(tags, folder / PUBLISHED)
    found = agree = recorded = 0
    heralds = again.find(tags, {into: loop.outcomes for into, loop in loops.items()})
    waiting = next(heralds, None)
    for numbers, values in table.pieces(columns):
        for place, number in enumerate(numbers.tolist()):
            last: dict[str, again.FoundHerald] = {}
            while waiting is not None and waiting.record <= number:
                if waiting.record == number:
                    last[waiting.loop] = waiting
                waiting = next(heralds, None)
            found += len(last)
            for into, loop in loops.items():
                said = _said(loop, values, place)
                if said is None:
                    continue
                recorded += 1
                herald = last.get(into)
                agree += herald is not None and _same(loop, said, herald, values, place)
    return Heralds(recorded, found, agree, count)


def _said(loop: _Loop, values: Mapping[str, list[Any]], place: int) -> str | None:
    """The outcome a record has of a loop; None if it has none, or no herald."""
    said = values[loop.outcome_column][place] if loop.outcome_column else None
    return said if said in loop.outcomes.values() and said != "again" else None


def _same(loop: _Loop, said: str, herald: FoundHerald, values: Mapping[str, list[Any]], place: int) -> bool:
    return said == herald.outcome and all(
        column is None or values[column][place] == first
        for column, first in zip(loop.click_columns, herald.first_ps, strict=False)
    )


def _loops(schedule: Schedule) -> list[_Loop]:
    """The attempt loops of a schedule, and where its reports put what they gave."""
    items = list(_walk(schedule.body))
    columns: dict[str, str] = {}
    for item in items:
        if isinstance(item, Report):
            columns |= {register: column for column, register in item.columns.items()}
    return [
        _Loop(
            item.into,
            item.outcomes,
            columns.get(item.into),
            tuple(columns.get(f"{gate}.first_ps") for gate in item.gates),
        )
        for item in items
        if isinstance(item, Attempt)
    ]


def _walk(item: Item) -> Iterator[Item]:
    yield item
    match item:
        case Series() | Together():
            for part in item.items:
                yield from _walk(part)
        case Repeat():
            yield from _walk(item.body)
        case Branch():
            for case in item.cases.values():
                yield from _walk(case)
        case _:
            pass
