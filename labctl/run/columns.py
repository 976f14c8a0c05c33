"""The records of a run as columns that grow: each value in the smallest number that holds it, never the records themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.errors import DataError
from labctl.run import journal
from labctl.run.journal import JournalContent
from labctl.run.table import Table

CHUNK = 4096
"""Records that are kept as they came before they become arrays."""
NO_WORD = -1
"""Code of a text that is missing."""
Row = tuple[int, int, Mapping[str, Any]]


class Columns(Table):
    """As :class:`labctl.run.table.Table`, filled record by record. A round of a link costs about 50 bytes."""

    def __init__(self) -> None:
        self._waiting: list[Row] = []
        self._chunks: list[dict[str, NDArray[Any]]] = []
        self._lengths: list[int] = []
        self._numbers: list[NDArray[np.int64]] = []
        self._times: list[NDArray[np.int64]] = []
        self._words: dict[str, dict[str, int]] = {}
        self._gaps: set[str] = set()
        self.names: list[str] = []
        """Columns that any record has, in the order in which they came."""

    def append(self, number: int, time_ps: int, values: Mapping[str, Any]) -> None:
        """One more record."""
        self._waiting.append((number, time_ps, values))
        if len(self._waiting) >= CHUNK:
            self._settle()

    def __len__(self) -> int:
        return sum(self._lengths) + len(self._waiting)

    @property
    def time_s(self) -> NDArray[np.float64]:
        """Laboratory time of each record since the run began, s."""
        self._settle()
        return self._joined(self._times) / 1e12

    @property
    def number(self) -> NDArray[np.int64]:
        """Number of each record."""
        self._settle()
        return self._joined(self._numbers)

    @property
    def last_ps(self) -> int:
        """Laboratory time of the last record, ps; 0 without one."""
        self._settle()
        return int(self._times[-1][-1]) if self._times else 0

    def has(self, name: str) -> bool:
        """Whether every record has that column."""
        self._settle()
        return name in self.names and name not in self._gaps

    def column(self, name: str) -> NDArray[Any]:
        """One column; DataError unless every record has it."""
        if not self.has(name):
            raise DataError(f"the records have no column {name!r}; they have {', '.join(sorted(self.names))}")
        values, words = self.values(name)
        return values if words is None else np.array(words)[values]

    def values(self, name: str) -> tuple[NDArray[Any], list[str] | None]:
        """A column with its gaps: int64, or float64 with NaN; or codes of texts (-1: missing), and the texts by code."""
        self._settle()
        words = self._words.get(name)
        parts = [self._part(place, name) for place in range(len(self._chunks))]
        joined = np.concatenate(parts) if parts else np.zeros(0)
        if words is not None:
            return joined.astype(np.int32), list(words)
        return joined.astype(np.float64 if joined.dtype.kind == "f" else np.int64), None

    def pieces(self, names: list[str]) -> Iterator[tuple[NDArray[np.int64], dict[str, list[Any]]]]:
        """The records piece by piece: their numbers, and these columns as plain values (None: missing)."""
        self._settle()
        for place, number in enumerate(self._numbers):
            yield number, {name: self._plain(place, name) for name in names}

    def _plain(self, place: int, name: str) -> list[Any]:
        if name not in self.names:
            return [None] * self._lengths[place]
        part = self._part(place, name)
        words = self._words.get(name)
        if words is not None:
            texts = [*words, None]
            return [texts[code] for code in part.tolist()]
        values = part.tolist()
        return [None if value != value else value for value in values] if part.dtype.kind == "f" else values

    def _part(self, place: int, name: str) -> NDArray[Any]:
        """A column of one chunk."""
        part = self._chunks[place].get(name)
        words = self._words.get(name)
        if words is None:
            return np.full(self._lengths[place], np.nan) if part is None else part
        if part is None:
            return np.full(self._lengths[place], NO_WORD, np.int16)
        if part.dtype == np.int16:
            return part
        texts = [str(value) for value in part.tolist()]  # numbers, before a text came in this column
        return np.array([words.setdefault(text, len(words)) for text in texts], np.int16)

    def _settle(self) -> None:
        """What waits becomes arrays."""
        rows = self._waiting
        if not rows:
            return
        self._waiting = []
        self._numbers.append(np.array([number for number, _, _ in rows], np.int64))
        self._times.append(np.array([time_ps for _, time_ps, _ in rows], np.int64))
        self._lengths.append(len(rows))
        names = dict.fromkeys(name for _, _, values in rows for name in values)
        fresh = [name for name in names if name not in self.names]
        if self._chunks:
            self._gaps.update(fresh)
        self._gaps.update(name for name in self.names if name not in names)
        self.names += fresh
        self._chunks.append(
            {name: self._packed(name, [row.get(name) for _, _, row in rows]) for name in names}
        )

    def _packed(self, name: str, values: list[Any]) -> NDArray[Any]:
        """One column of a chunk in the smallest type; codes of texts are int16, numbers are not."""
        missing = None in values
        if missing:
            self._gaps.add(name)
        if name in self._words or any(isinstance(value, str) for value in values):
            words = self._words.setdefault(name, {})
            return np.array(
                [NO_WORD if value is None else words.setdefault(str(value), len(words)) for value in values],
                np.int16,
            )
        if missing:
            return np.array([np.nan if value is None else value for value in values], np.float64)
        array = np.asarray(values)
        if array.dtype.kind == "f":
            return array
        array = array.astype(np.int64)
        for kind in (np.int8, np.int32):
            limits = np.iinfo(kind)
            if limits.min <= array.min() and array.max() <= limits.max:
                return array.astype(kind)
        return array

    @staticmethod
    def _joined(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def of_rows(rows: Iterator[Row] | list[Row]) -> Columns:
    """Records as columns."""
    table = Columns()
    for row in rows:
        table.append(*row)
    return table


def read(path: Path) -> tuple[Columns, JournalContent]:
    """The records of a journal as columns, and the rest of it; the journal is read as it goes."""
    table = Columns()
    return table, journal.read(path, table.append)
