"""Blocks of a schedule by name, and trains that are written out pulse by pulse as the loops they are: for drawings."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from labctl.schedule.items import Attempt, Branch, Item, Repeat, Series, Together


def fold(item: Item) -> Item:
    """The item with every train that is written out as a loop: four or more like pieces in a row."""
    match item:
        case Series():
            return _with_items(item, tuple(_folded([fold(part) for part in item.items])))
        case Together():
            return _with_items(item, tuple(fold(part) for part in item.items))
        case Repeat():
            return Repeat(item.count, fold(item.body))
        case Attempt():
            every = item.every and msgspec.structs.replace(item.every, body=fold(item.every.body))
            return msgspec.structs.replace(item, body=fold(item.body), every=every)
        case Branch():
            return Branch(item.on, {name: fold(case) for name, case in item.cases.items()})
        case _:
            return item


def _with_items(item: Series | Together, items: tuple[Item, ...]) -> Item:
    """The block with other items."""
    return item if items == item.items else msgspec.structs.replace(item, items=items)


FEWEST_ALIKE, LONGEST_ALIKE, LATEST_ALIKE = 4, 256, 4


def _folded(items: list[Item]) -> list[Item]:
    """The longest stretch of equal pieces as one loop, of the shortest pieces that make it."""
    codes: dict[Item, int] = {}
    try:
        row = [codes.setdefault(item, len(codes)) for item in items]
    except TypeError:  # an item with a table in it
        return items
    best = (0, 0, 0)  # items covered, minus the period, and where it begins
    for first in range(min(LATEST_ALIKE + 1, len(row))):
        for period in range(1, min(LONGEST_ALIKE, (len(row) - first) // FEWEST_ALIKE) + 1):
            turn = row[first : first + period]
            turns = 1
            while row[first + turns * period : first + (turns + 1) * period] == turn:
                turns += 1
            if turns >= FEWEST_ALIKE:
                best = max(best, (turns * period, -period, -first))
    covered, period, first = best[0], -best[1], -best[2]
    if not covered:
        return items
    loop = Repeat(covered // period, Series(tuple(items[first : first + period])))
    return [*items[:first], loop, *items[first + covered :]]


def find_block(item: Item, name: str) -> Item | None:
    """The first block of a name; attempt loops are called attempt."""
    if isinstance(item, (Series, Together)) and item.name == name:
        return item
    if isinstance(item, Attempt) and name == "attempt":
        return item
    for part in _inside(item):
        found = find_block(part, name)
        if found is not None:
            return found
    return None


def block_names(item: Item) -> Iterator[str]:
    """Names of the blocks of an item, in order; attempt loops are called attempt."""
    if isinstance(item, (Series, Together)) and item.name:
        yield item.name
    if isinstance(item, Attempt):
        yield "attempt"
    for part in _inside(item):
        yield from block_names(part)


def _inside(item: Item) -> tuple[Item, ...]:
    match item:
        case Series() | Together():
            return item.items
        case Repeat():
            return (item.body,)
        case Attempt():
            return (item.body,) if item.every is None else (item.every.body, item.body)
        case Branch():
            return tuple(item.cases.values())
        case _:
            return ()
