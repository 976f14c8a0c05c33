# pyright: standard
# (pyarrow carries no types)
"""The live time tags of a run: Arrow IPC streams, one checksummed batch per block; and their publication as Parquet.

A row is the stretch of time around one herald: which record and attempt loop it belongs to, the tags in it, where the
marker and the gates of an attempt are, and the clicks of each gate of the reference blocks before it. A batch is on disk
before ``write`` returns; its metadata have the CRC-32 of its data. A torn last batch is dropped on reading. Each time
a run goes on it begins a new file; what an earlier file says of records that a later one has again is void.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labctl.errors import DataError, StorageError

SCHEMA = pa.schema(
    [
        pa.field("record", pa.int64()),
        pa.field("loop", pa.string()),
        pa.field("since_ps", pa.int64()),
        pa.field("until_ps", pa.int64()),
        pa.field("marker", pa.uint8()),
        pa.field("detectors", pa.list_(pa.uint8())),
        pa.field("after_ps", pa.int64()),
        pa.field("window_ps", pa.int64()),
        pa.field("time_ps", pa.list_(pa.int64())),
        pa.field("channel", pa.list_(pa.uint8())),
        pa.field("block_gates", pa.int64()),
        pa.field("block_clicks", pa.list_(pa.uint16())),
    ]
)
SUFFIX = ".arrows"
ROW_GROUP = 1_000_000
"""Tags in one piece of the published file; a block has fewer."""


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """The tags around one herald.

    record, loop:       what it belongs to
    since_ps, until_ps: laboratory time, first instant and after the last
    marker, detectors:  channels of an attempt's start marker and of its gates
    after_ps, window_ps:  when the gates open after the marker, and for how long
    time_ps, channel:   tags in order of time, shape (n,)
    block_clicks:       clicks of each gate of the blocks before, shape (blocks, gates)
    """

    record: int
    loop: str
    since_ps: int
    until_ps: int
    marker: int
    detectors: tuple[int, ...]
    after_ps: int
    window_ps: int
    time_ps: NDArray[np.int64]
    channel: NDArray[np.uint8]
    block_clicks: NDArray[np.uint16]


class TagWriter:
    """Writes the tags of a run into a folder. One thread uses it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stretches = 0
        """Written by this object."""
        self._writer: pa.RecordBatchStreamWriter | None = None
        self._file: Any = None

    def write(self, stretches: Sequence[Stretch]) -> None:
        """Put stretches on disk as one block; StorageError if the disk does not take it."""
        if not stretches:
            return
        batch = _batch(stretches)
        try:
            writer = self._writer or self._begin()
            writer.write_batch(batch, custom_metadata={"crc32": str(_checksum(batch))})
            self._file.flush()
            os.fdatasync(self._file.fileno())
        except OSError as error:
            raise StorageError(
                f"{self.folder}: cannot write time tags ({error.strerror or error}); free some space (or fix the disk), "
                "then `labctl run --resume RID`"
            ) from None
        self.stretches += len(stretches)

    def close(self) -> None:
        """End the stream."""
        if self._file is not None:
            with suppress(OSError):  # the end mark: readers do without
                if self._writer is not None:
                    self._writer.close()
                self._file.close()
            self._file = self._writer = None

    def _begin(self) -> pa.RecordBatchStreamWriter:
        self.folder.mkdir(exist_ok=True)
        number = len(files(self.folder))
        self._file = (self.folder / f"{number:06d}{SUFFIX}").open("xb")
        self._writer = pa.ipc.new_stream(self._file, SCHEMA)
        return self._writer


def files(folder: Path) -> list[Path]:
    """The files of a run's tags, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def batches(folder: Path) -> Iterator[pa.RecordBatch]:
    """The valid rows of a run's tags, block by block, in order; DataError for a block that is damaged."""
    found = files(folder)
    for path, after in zip(found, [*found[1:], None], strict=True):
        void_from = None if after is None else _first_record(after)
        for batch in _blocks(path):
            if void_from is not None:
                batch = batch.slice(0, int(np.sum(np.from_dlpack(batch.column("record")) < void_from)))
            if batch.num_rows:
                yield batch


def publish(folder: Path, target: Path) -> int:
    """Write a run's tags as one Parquet file, a row per tag, by atomic rename; how many tags there are.

    Columns: ``record``, ``time_ps`` (laboratory time, delta-packed) and ``channel``. Nothing is written without tags.
    """
    temporary = target.with_name(target.name + ".tmp")
    schema = pa.schema([("record", pa.int64()), ("time_ps", pa.int64()), ("channel", pa.uint8())])
    tags = 0
    try:
        with pq.ParquetWriter(
            temporary,
            schema,
            use_dictionary=False,
            column_encoding={
                "record": "DELTA_BINARY_PACKED",
                "time_ps": "DELTA_BINARY_PACKED",
                "channel": "PLAIN",
            },
            compression="zstd",
        ) as writer:
            for table in _gathered(folder, ROW_GROUP):
                writer.write_table(table)
                tags += table.num_rows
        if tags:
            temporary.replace(target)
    except OSError as error:
        raise StorageError(
            f"{target}: cannot publish the time tags ({error}); the live ones in {folder} are complete: free some space, then `labctl show RID --publish`"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return tags


def _gathered(folder: Path, rows: int) -> Iterator[pa.Table]:
    """One row per tag, in pieces of so many: the same tags make the same file, however they came."""
    waiting: list[pa.Table] = []
    for batch in batches(folder):
        times = batch.column("time_ps")
        lengths = np.diff(np.from_dlpack(times.offsets))
        record = np.repeat(np.from_dlpack(batch.column("record")), lengths)
        columns = [_array(record, pa.int64()), times.flatten(), batch.column("channel").flatten()]
        waiting.append(pa.table(columns, names=["record", "time_ps", "channel"]))
        while sum(table.num_rows for table in waiting) >= rows:
            whole = pa.concat_tables(waiting).combine_chunks()
            yield whole.slice(0, rows)
            waiting = [whole.slice(rows)]
    if sum(table.num_rows for table in waiting):
        yield pa.concat_tables(waiting).combine_chunks()


def _batch(stretches: Sequence[Stretch]) -> pa.RecordBatch:
    def numbers(name: str, kind: Any) -> pa.Array:
        return _array([getattr(one, name) for one in stretches], kind)

    def lists(parts: list[NDArray[Any]], kind: Any) -> pa.Array:
        ends = np.cumsum([0, *(len(part) for part in parts)])
        return pa.ListArray.from_arrays(_array(ends, pa.int32()), _array(np.concatenate(parts), kind))

    columns = [
        numbers("record", pa.int64()),
        _texts([one.loop for one in stretches]),
        numbers("since_ps", pa.int64()),
        numbers("until_ps", pa.int64()),
        numbers("marker", pa.uint8()),
        lists([np.array(one.detectors, np.uint8) for one in stretches], pa.uint8()),
        numbers("after_ps", pa.int64()),
        numbers("window_ps", pa.int64()),
        lists([one.time_ps for one in stretches], pa.int64()),
        lists([one.channel for one in stretches], pa.uint8()),
        _array([one.block_clicks.shape[1] for one in stretches], pa.int64()),
        lists([one.block_clicks.ravel() for one in stretches], pa.uint16()),
    ]
    return pa.record_batch(columns, schema=SCHEMA)


def _array(values: Any, kind: Any) -> pa.Array:
    """Numbers as they lie in memory. (``pyarrow.array`` and ``to_numpy`` import pandas first: half a second of every run.)"""
    data = np.ascontiguousarray(values, str(kind))
    return pa.Array.from_buffers(kind, len(data), [None, pa.py_buffer(data)])


def _texts(values: Sequence[str]) -> pa.Array:
    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))


def _checksum(batch: pa.RecordBatch) -> int:
    """CRC-32 of the values of all columns, whatever the buffers around them."""
    total = 0
    for column in batch.columns:
        if pa.types.is_list(column.type):
            lengths = np.diff(np.from_dlpack(column.offsets))
            total = zlib.crc32(
                np.from_dlpack(column.flatten()).tobytes(), zlib.crc32(lengths.tobytes(), total)
            )
        elif pa.types.is_string(column.type):
            total = zlib.crc32("\n".join(column.to_pylist()).encode(), total)
        else:
            total = zlib.crc32(np.from_dlpack(column).tobytes(), total)
    return total


def _blocks(path: Path) -> Iterator[pa.RecordBatch]:
    number = 0
    with path.open("rb") as file:
        try:
            reader = pa.ipc.open_stream(file)
        except pa.ArrowInvalid:  # cut short within its first bytes
            return
        if reader.schema != SCHEMA:
            raise DataError(f"{path}: other columns than labctl writes; made by another version?")
        while True:
            try:
                batch, about = reader.read_next_batch_with_custom_metadata()
            except (
                StopIteration,
                pa.ArrowInvalid,
                OSError,
            ):  # the end, or a block torn by the end of its process
                return
            said = None if about is None else about.get(b"crc32")
            if said is None or int(said) != _checksum(batch):
                raise DataError(f"{path}: block {number} is damaged (its checksum does not fit its data)")
            number += 1
            yield batch


def _first_record(path: Path) -> int | None:
    for batch in _blocks(path):
        return int(batch.column("record")[0].as_py())
    return None
