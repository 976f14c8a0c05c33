"""PicoQuant PTU files in T2 mode as a HydraHarp writes them (format version 2): header and records as bytes."""

import hashlib
import struct
import uuid
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labctl.errors import DataError
from labctl.tags._ptu import MAGIC, SYNC_CHANNEL
from labctl.tags.stream import Tags

HYDRAHARP_V2_T2 = 0x01010204
HIGHEST_CHANNEL = 63

_TIME_BITS = 25
_LOW = (1 << _TIME_BITS) - 1
_MOST_OVERFLOWS = 127
"""In one record, where the format would allow 2^25 - 1: ptufile (2026.2.6) reckons in 32 bits and reads more as less."""
_MOST_RECORDS_BETWEEN = 100_000_000
"""Overflow records in one file, 400 MB: five days at 1 ps."""
_SPECIAL = np.uint32(1 << 31)
_OVERFLOW = np.uint32(1 << 31 | 63 << _TIME_BITS)
_INT8, _FLOAT8, _DATE, _TEXT, _EMPTY8 = 0x10000008, 0x20000008, 0x21000008, 0x4001FFFF, 0xFFFF0008
_DAYS_TO_1970 = 25569
"""From 1899-12-30, where the format's dates begin."""


def header(records: NDArray[np.uint32], resolution_ps: int, created_s: float) -> bytes:
    """The header of a file of these records, written ``created_s`` seconds after 1970; its GUID is made from the records."""
    resolution_s = resolution_ps * 1e-12
    digest = hashlib.sha256(records.tobytes()).digest()
    fields = (
        _text("File_GUID", f"{{{uuid.UUID(bytes=digest[:16])}}}"),
        _text("CreatorSW_Name", "labctl"),
        _text("CreatorSW_Version", "1"),
        _tag("File_CreatingTime", _DATE, struct.pack("<d", created_s / 86400 + _DAYS_TO_1970)),
        _tag("Measurement_Mode", _INT8, struct.pack("<q", 2)),
        _tag("Measurement_SubMode", _INT8, struct.pack("<q", 0)),
        _tag("TTResultFormat_TTTRRecType", _INT8, struct.pack("<q", HYDRAHARP_V2_T2)),
        _tag("TTResultFormat_BitsPerRecord", _INT8, struct.pack("<q", 32)),
        _tag("MeasDesc_Resolution", _FLOAT8, struct.pack("<d", resolution_s)),
        _tag("MeasDesc_GlobalResolution", _FLOAT8, struct.pack("<d", resolution_s)),
        _tag("TTResult_SyncRate", _INT8, struct.pack("<q", 0)),  # not measured
        _tag("TTResult_NumberOfRecords", _INT8, struct.pack("<q", records.size)),
        _tag("Header_End", _EMPTY8, bytes(8)),
    )
    return MAGIC + b"1.0.00\0\0" + b"".join(fields)


def encode(path: Path, tags: Tags, resolution_ps: int) -> NDArray[np.uint32]:
    """The records of ``tags``, overflows between them, shape (n,); DataError (naming ``path``) for what T2 cannot hold."""
    time = _steps(path, tags, resolution_ps)
    channel = tags.channel
    _refuse_channels(path, channel)
    is_sync = channel == SYNC_CHANNEL
    click = (time & _LOW).astype(np.uint32)
    click |= np.where(is_sync, _SPECIAL, channel.astype(np.uint32) << np.uint32(_TIME_BITS))

    overflows = np.diff(time >> _TIME_BITS, prepend=0)
    before = (overflows + (_MOST_OVERFLOWS - 1)) // _MOST_OVERFLOWS  # overflow records before each click
    if int(before.sum()) > _MOST_RECORDS_BETWEEN:
        raise DataError(
            f"{path}: {int(before.sum())} records would be needed to count from time 0 to {tags.time_ps[-1]} ps; take off an"
            f" origin, or write with a coarser resolution than {resolution_ps} ps"
        )
    at = np.arange(time.size) + np.cumsum(before)
    records = np.full(time.size + int(before.sum()), _OVERFLOW | np.uint32(_MOST_OVERFLOWS), np.uint32)
    records[at] = click
    late = before > 0
    rest = overflows[late] - (before[late] - 1) * _MOST_OVERFLOWS
    records[at[late] - 1] = _OVERFLOW | rest.astype(np.uint32)
    return records


def _steps(path: Path, tags: Tags, resolution_ps: int) -> NDArray[np.int64]:
    """The times in steps of the file, shape (n,)."""
    if resolution_ps < 1:
        raise DataError(f"{path}: a resolution of {resolution_ps} ps; expected at least 1 ps")
    if len(tags) and tags.time_ps[0] < 0:
        raise DataError(
            f"{path}: a PTU file begins at time 0, the first of these tags is at {tags.time_ps[0]} ps; move them all later"
        )
    steps, off = np.divmod(tags.time_ps, resolution_ps)
    if off.any():
        at = int(off.astype(np.bool_).argmax())
        raise DataError(
            f"{path}: index {at} is at {tags.time_ps[at]} ps, which is no multiple of the file's {resolution_ps} ps;"
            " write with a resolution of 1 ps"
        )
    return steps


def _refuse_channels(path: Path, channel: NDArray[np.uint8]) -> None:
    used = np.flatnonzero(np.bincount(channel, minlength=SYNC_CHANNEL + 1))
    wrong = used[(used > HIGHEST_CHANNEL) & (used != SYNC_CHANNEL)]
    if wrong.size:
        raise DataError(
            f"{path}: a PTU file has channels 0 to {HIGHEST_CHANNEL} and {SYNC_CHANNEL} for SYNC, these tags have"
            f" {', '.join(str(number) for number in wrong)}"
        )
    if {0, SYNC_CHANNEL} <= {*used.tolist()}:
        raise DataError(
            f"{path}: channel 0 and SYNC ({SYNC_CHANNEL}) in one file: common readers, ptufile among them, take both for"
            " channel 0; write one of them to a file of its own"
        )


def _tag(name: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<32siI", name.encode("ascii"), -1, kind) + value


def _text(name: str, text: str) -> bytes:
    """A tag whose value is the length of the text that follows, padded to whole words."""
    raw = text.encode("ascii") + b"\0"
    padded = raw.ljust((len(raw) + 7) // 8 * 8, b"\0")
    return _tag(name, _TEXT, struct.pack("<q", len(padded))) + padded
