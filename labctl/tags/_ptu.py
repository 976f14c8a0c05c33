"""PicoQuant PTU files in T2 mode through ``ptufile``, with every way they can be damaged told apart."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labctl.errors import DataError
from labctl.tags.stream import Tags

if TYPE_CHECKING:
    from ptufile import PtuFile

MAGIC = b"PQTTTR\0\0"
SYNC_CHANNEL = 255
"""Channel of clicks on the SYNC input; ``ptufile`` itself calls both it and the first input 0."""

_T2 = 2
_PICOHARP_T2 = 0x00010203
_COUNTED_T2 = (0x01010204, 0x00010205, 0x00010206, 0x00010207)
"""HydraHarp 2, TimeHarp 260 N and P, MultiHarp: an overflow record has a count of overflows in it."""
_HEADER_END = b"Header_End".ljust(32, b"\0")
_TAG_BYTES = 48
_FIRST_TAG = 16


@dataclass(frozen=True, slots=True, eq=False)
class PtuRecords:
    """The photons of a PTU file and what its header and records say about them."""

    tags: Tags
    records: int
    record_type: str
    resolution_ps: int
    last_record_ps: int


def read(path: Path) -> PtuRecords:
    """All photons of a T2 file; DataError names file, offset, what was expected and what is there."""
    from ptufile import PqFileError, PtuFile

    data_at = _data_offset(path)
    try:
        with path.open("rb") as handle, PtuFile(handle) as file:
            return _decode(path, file, data_at)
    except (PqFileError, ValueError, KeyError, TypeError, OverflowError, struct.error) as error:
        raise DataError(
            f"{path}: between bytes {_FIRST_TAG} and {data_at}: expected the header of a PTU T2 file, found one that"
            f" cannot be read ({error})"
        ) from error


def _data_offset(path: Path) -> int:
    """Where the records begin; looks for the end of the header in 48-byte steps."""
    at = _FIRST_TAG
    with path.open("rb") as file:
        size = file.seek(0, 2)
        while at + _TAG_BYTES <= size:
            file.seek(at)
            name, _index, kind, value = struct.unpack("<32siIq", file.read(_TAG_BYTES))
            at += _TAG_BYTES
            if name == _HEADER_END:
                return at
            if kind & 0xFFFF == 0xFFFF:  # a block of that many bytes follows
                if value < 0:
                    break
                at += value
    raise DataError(
        f"{path}: at byte {min(at, size)}: expected the rest of the header up to Header_End, found the end of the"
        f" file ({size} bytes)"
    )


def _decode(path: Path, file: "PtuFile", data_at: int) -> PtuRecords:
    header: dict[str, Any] = file.tags
    mode = int(header["Measurement_Mode"])
    record_type = int(header["TTResultFormat_TTTRRecType"])
    if mode != _T2 or file.is_t3:
        raise DataError(
            f"{path}: the header says measurement mode T{mode}, record type {record_type:#010x}; expected T2:"
            " only T2 files have absolute times"
        )
    resolution_ps = _resolution_ps(path, file.global_resolution)
    records = _records(path, int(header.get("TTResult_NumberOfRecords", 0)), data_at)
    decoded = file.decode_records(records)
    steps: NDArray[np.uint64] = _counted_steps(records) if record_type in _COUNTED_T2 else decoded["time"]
    photon: NDArray[np.bool_] = decoded["channel"] >= 0
    time = (steps[photon] * np.uint64(resolution_ps)).view(np.int64)
    channel = decoded["channel"][photon].astype(np.uint8)
    if record_type != _PICOHARP_T2:
        channel[(records >> np.uint32(25))[photon] == 64] = SYNC_CHANNEL
    _refuse_backwards(path, time, np.flatnonzero(photon), data_at)
    return PtuRecords(
        tags=Tags(np.ascontiguousarray(time), channel),
        records=int(records.size),
        record_type=file.record_type.name,
        resolution_ps=resolution_ps,
        last_record_ps=int(steps[-1]) * resolution_ps if records.size else 0,
    )


def _counted_steps(records: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """When each record is, in steps of the file, shape (n,).

    ptufile (2026.2.6) multiplies an overflow count in 32 bits: 128 and more, which is 4.3 ms without a click at 1 ps, come
    out too early. A count of 0 stands for 1.
    """
    low = records & np.uint32(0x1FFFFFF)
    is_overflow = records >> np.uint32(25) == 127
    turns = np.where(is_overflow, np.maximum(low, 1), 0)
    low[is_overflow] = 0
    return (np.cumsum(turns, dtype=np.uint64) << np.uint64(25)) + low


def _records(path: Path, expected: int, data_at: int) -> NDArray[np.uint32]:
    """The raw records; a measurement that was never closed says 0, and then all there are count."""
    available = path.stat().st_size - data_at
    if available % 4 or (expected > 0 and available != 4 * expected):
        wanted = f"{expected} records of 4 bytes" if expected > 0 else "records of 4 bytes"
        at = data_at + (4 * expected if 0 < 4 * expected < available else available - available % 4)
        raise DataError(
            f"{path}: at byte {at}: expected {wanted} from byte {data_at} to the end, found {available} bytes"
            f" ({available / 4:g} records); the file was cut short or does not belong to its header"
        )
    return np.fromfile(path, dtype="<u4", offset=data_at)


def _resolution_ps(path: Path, seconds: float) -> int:
    resolution_ps = round(seconds * 1e12)
    if resolution_ps < 1 or abs(seconds * 1e12 - resolution_ps) > 1e-6:
        raise DataError(
            f"{path}: the header says a resolution (MeasDesc_GlobalResolution) of {seconds!r} s; expected whole picoseconds"
        )
    return resolution_ps


def _refuse_backwards(path: Path, time: NDArray[np.int64], record: NDArray[np.intp], data_at: int) -> None:
    fell = time[1:] < time[:-1]
    if fell.any():
        at = int(fell.argmax()) + 1
        raise DataError(
            f"{path}: at byte {data_at + 4 * int(record[at])}: expected a time of at least {time[at - 1]} ps,"
            f" found {time[at]} ps; the records are damaged"
        )
