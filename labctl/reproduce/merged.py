"""The records of many blocks as one table: columns in the smallest numbers that hold them, never the records themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.errors import DataError
from labctl.run.journal import JournalContent
from labctl.run.table import Table

PS_PER_S = 1e12


class Columns(Table):
    """As :class:`labctl.run.table.Table`, filled block by block. A round of a link costs about 40 bytes."""

    def __init__(self) -> None:
        super().__init__([])
        self._chunks: dict[str, list[NDArray[Any]]] = {}
        self._words: dict[str, dict[str, int]] = {}
        self._times: list[NDArray[np.float64]] = []
        self._length = 0
        self.span_s = 0.0
        """Laboratory time of all blocks so far, one after the other."""

    def add(self, content: JournalContent) -> None:
        """Append a block; its time begins where the last one ended."""
        rows = content.records
        if not rows:
            return
        names = list(rows[0][2])
        if self._chunks and set(names) != set(self._chunks):
            raise DataError(
                f"blocks with different columns: {', '.join(self._chunks)} and {', '.join(names)}"
            )
        for name in names:
            self._chunks.setdefault(name, []).append(self._small(name, [values[name] for *_, values in rows]))
        times = np.array([time_ps for _, time_ps, _ in rows], np.float64) / PS_PER_S
        self._times.append(times + self.span_s)
        end_ps = (content.end or {}).get("time_ps", rows[-1][1])
        self.span_s += max(float(end_ps) / PS_PER_S, float(times[-1]))
        self._length += len(rows)

    def finish(self) -> Columns:
        """Itself, once every block is in."""
        self.time_s = np.concatenate(self._times) if self._times else np.zeros(0)
        for name, chunks in self._chunks.items():
            self._chunks[name] = [np.concatenate(chunks)]
        return self

    def __len__(self) -> int:
        return self._length

    def column(self, name: str) -> NDArray[Any]:
        """One column; DataError if the records have none of that name."""
        if name not in self._chunks:
            raise DataError(f"the records have no column {name!r}; they have {', '.join(self._chunks)}")
        whole = self._chunks[name][0]
        if name in self._words:
            return np.array(list(self._words[name]))[whole]
        return whole.astype(np.int64) if whole.dtype.kind in "iu" else whole

    def has(self, name: str) -> bool:
        """Whether the records have that column."""
        return name in self._chunks

    def _small(self, name: str, values: list[Any]) -> NDArray[Any]:
        """The values in the smallest type that holds them all; texts as numbers of words."""
        if isinstance(values[0], str):
            words = self._words.setdefault(name, {})
            return np.array([words.setdefault(value, len(words)) for value in values], np.uint8)
        array = np.asarray(values)
        if array.dtype.kind == "f":
            return array
        smallest = np.result_type(np.min_scalar_type(int(array.min())), np.min_scalar_type(int(array.max())))
        return array.astype(smallest)
