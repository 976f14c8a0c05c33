"""The journal of a run: append-only frames, each on disk before it is acknowledged, readable after ``kill -9``.

File: 8 bytes ``LABJRNL1``, then frames of [length u32 LE][CRC-32 of the payload u32 LE][payload]. A payload is msgpack:
``["header", {...}]`` first, then ``["record", number, time_ps, {column: value}]``, ``["note", {...}]`` and at the end
``["end", {...}]``. A torn last frame is dropped on reading, and cut off when a run is resumed.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from labctl.errors import DataError, StorageError

MAGIC = b"LABJRNL1"
_FRAME = struct.Struct("<II")
LARGEST = 1 << 28
"""No entry is longer, bytes: what says so is damage."""


class _Header(msgspec.Struct, tag="header", array_like=True):
    content: dict[str, Any]


class _Row(msgspec.Struct, tag="record", array_like=True):
    number: int
    time_ps: int
    values: dict[str, Any]


class _Note(msgspec.Struct, tag="note", array_like=True):
    content: dict[str, Any]


class _End(msgspec.Struct, tag="end", array_like=True):
    content: dict[str, Any]


_Entry = _Header | _Row | _Note | _End
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Entry)


@dataclass
class JournalContent:
    """What a journal holds.

    header:     of the run
    records:    (number, time_ps, values) in order
    count:      how many records there are
    last_ps:    laboratory time of the last of them, ps
    notes:      what happened between records (pauses, resumes)
    end:        how the run ended, None if it was cut short (or resumed and then cut short)
    good_bytes: length of the undamaged part, bytes
    torn_bytes: what follows it, bytes
    """

    header: dict[str, Any] = field(default_factory=dict[str, Any])
    records: list[tuple[int, int, dict[str, Any]]] = field(
        default_factory=list[tuple[int, int, dict[str, Any]]]
    )
    count: int = 0
    last_ps: int = 0
    notes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    end: dict[str, Any] | None = None
    good_bytes: int = 0
    torn_bytes: int = 0


class Journal:
    """Writes a journal. One thread uses it."""

    def __init__(self, path: Path, file: int, next_record: int) -> None:
        self.path = path
        self._file = file
        self.next_record = next_record
        """Number of the next record, for a run that is resumed."""

    @classmethod
    def create(cls, path: Path, header: Mapping[str, Any]) -> Journal:
        """Begin a new journal; StorageError if it exists or cannot be written.

        It gets its name when its header is on disk: there is never a journal without one, whenever the process dies.
        """
        begun = path.with_name(f"{path.name}.begun")
        try:
            file = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        except OSError as error:
            raise _cannot_begin(path, error) from None
        fcntl.flock(file, fcntl.LOCK_EX)
        journal = cls(path, file, 0)
        try:
            journal._write(MAGIC + _frame(_Header(dict(header))))
            os.link(begun, path)  # unlike a rename, this refuses to replace a journal
            _sync_folder(path.parent)
        except OSError as error:
            journal.close()
            raise _cannot_begin(path, error) from None
        except StorageError:
            journal.close()
            raise
        finally:
            begun.unlink(missing_ok=True)
        return journal

    @classmethod
    def resume(cls, path: Path) -> tuple[Journal, JournalContent]:
        """Open a journal to go on with the next record; a torn last frame and an end mark's absence are expected.

        What cannot be read at the end is cut off, and kept in a file beside it. StorageError if the run is complete, or
        if another process is writing it.
        """
        content = read(path, forget)
        if content.end is not None and content.end.get("reason") == "complete":
            raise StorageError(f"{path}: this run is complete; there is nothing to resume")
        try:
            file = os.open(path, os.O_WRONLY)
        except OSError as error:
            raise StorageError(f"{path}: cannot write ({error.strerror}); check its permissions") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            content = read(path, forget)
            if content.torn_bytes:
                torn = path.with_name(f"{path.name}.torn-{content.good_bytes}")
                torn.write_bytes(path.read_bytes()[content.good_bytes :])
            os.ftruncate(file, content.good_bytes)
            os.lseek(file, 0, os.SEEK_END)
        except BlockingIOError:
            os.close(file)
            raise StorageError(f"{path}: another process is taking this run; end that first") from None
        except OSError as error:
            os.close(file)
            raise StorageError(
                f"{path}: cannot be made ready to go on ({error.strerror}); free some space or fix the disk"
            ) from None
        return cls(path, file, content.count), content

    def append(self, number: int, time_ps: int, values: Mapping[str, Any]) -> None:
        """Put one record on disk; refuses a number that is not the next one, so none is lost or doubled."""
        self.extend([(number, time_ps, values)])

    def extend(self, rows: Iterable[tuple[int, int, Mapping[str, Any]]]) -> None:
        """Put records (number, time_ps, values) on disk, all at once; as ``append`` for each of them.

        Those before a number that is not the next one are on disk when it is refused.
        """
        frames: list[bytes] = []
        refused = ""
        for number, time_ps, values in rows:
            expected = self.next_record + len(frames)
            if number != expected:
                refused = f"{self.path}: record {number} came where {expected} was expected; the run has to be resumed"
                break
            frames.append(_frame(_Row(number, time_ps, dict(values))))
        if frames:
            self._write(b"".join(frames))
            self.next_record += len(frames)
        if refused:
            raise StorageError(refused)

    def note(self, what: Mapping[str, Any]) -> None:
        """Put something that happened on disk."""
        self._write(_frame(_Note(dict(what))))

    def close(self, reason: str = "", **more: Any) -> None:
        """Close; with a reason, say how the run ended."""
        if self._file < 0:
            return
        try:
            if reason:
                self._write(_frame(_End({"reason": reason, "records": self.next_record, **more})))
        finally:
            os.close(self._file)
            self._file = -1

    def _write(self, data: bytes) -> None:
        """All of ``data`` on disk, or nothing of it and StorageError."""
        begin = os.lseek(self._file, 0, os.SEEK_CUR)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            os.fdatasync(self._file)
        except OSError as error:
            with suppress(OSError):  # if even that fails, the torn frame is cut off on resuming
                os.ftruncate(self._file, begin)
                os.lseek(self._file, begin, os.SEEK_SET)
            raise StorageError(
                f"{self.path}: cannot write ({error.strerror}); {self.next_record} records are safe. "
                "Free some space (or fix the disk), then `labctl run --resume RID`"
            ) from None


def rows(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """The records (number, time_ps, values) of a journal, one after the other, whatever their number; DataError as ``read``."""
    for entry, _ in _entries(path):
        if isinstance(entry, _Row):
            yield entry.number, entry.time_ps, entry.values


def read(path: Path, keep: Callable[[int, int, dict[str, Any]], None] | None = None) -> JournalContent:
    """Everything undamaged in a journal, also while it is being written; DataError if it is no journal.

    keep:  gets each record (number, time_ps, values) in place of the content's list: of a long run
    """
    content = JournalContent(good_bytes=len(MAGIC))
    for entry, content.good_bytes in _entries(path):
        match entry:
            case _Header():
                content.header = entry.content
            case _Row():
                if keep is not None:
                    keep(entry.number, entry.time_ps, entry.values)
                else:
                    content.records.append((entry.number, entry.time_ps, entry.values))
                content.count += 1
                content.last_ps = entry.time_ps
                content.end = None
            case _Note():
                content.notes.append(entry.content)
                content.end = None
            case _End():
                content.end = entry.content
    content.torn_bytes = path.stat().st_size - content.good_bytes
    return content


def forget(number: int, time_ps: int, values: dict[str, Any]) -> None:
    """Keep nothing of a record: only how many there are."""


def in_use(path: Path) -> bool:
    """Whether a process is writing the journal now."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise DataError(f"{path}: cannot read the journal ({error.strerror})") from None
    return False


def _frame(what: _Entry) -> bytes:
    payload = _ENCODER.encode(what)
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _entries(path: Path) -> Iterator[tuple[_Entry, int]]:
    """Every undamaged entry and where it ends, bytes; the file is read as it goes."""
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
            if start != MAGIC:
                raise DataError(
                    f"{path}: not a labctl journal (expected it to begin with {MAGIC!r}, found {start!r})"
                )
            at = len(MAGIC)
            while (payload := _payload(file)) is not None:
                at += _FRAME.size + len(payload)
                yield _decoded(payload, path, at), at
    except OSError as error:
        raise DataError(f"{path}: cannot read the journal ({error.strerror})") from None


def _payload(file: BinaryIO) -> bytes | None:
    frame = file.read(_FRAME.size)
    if len(frame) < _FRAME.size:
        return None
    length, checksum = _FRAME.unpack(frame)
    if length == 0:  # a file system may leave zeros after a power cut
        return None
    payload = file.read(min(length, LARGEST))
    return payload if len(payload) == length and zlib.crc32(payload) == checksum else None


def _decoded(payload: bytes, path: Path, at: int) -> _Entry:
    try:
        return _DECODER.decode(payload)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise DataError(
            f"{path}: unknown entry before byte {at} ({error}); written by another version of labctl?"
        ) from None


def _cannot_begin(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path}: cannot begin a journal ({error.strerror}); check the disk and its permissions"
    )


def _sync_folder(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written ({error.strerror}); fix the disk") from None
