"""Files of time tags: PicoQuant PTU in T2 mode and ID Quantique ID900/ID1000 ``.bin``, both read and written.

PTU is read through ``ptufile`` and written as a HydraHarp does; DEVICES.md section 4 has the record layout. An ID900 file is little-endian 64-bit
picoseconds without a header, one file per input; with ``--with-ref-index`` each time is followed by a 64-bit count
of the clicks on the reference input, and the time is since the last of them (Time Controller manual, section 6).
The file does not say which of the two it is: the reader has to be told.
"""

import contextlib
import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from labctl.clock import wall_time
from labctl.errors import DataError, StorageError
from labctl.tags import _ptu, _ptu_write
from labctl.tags.stream import Tags, Times, check_channel

_WORD = np.dtype("<u8")
_LARGEST = np.iinfo(np.int64).max
_FIRST = 4


@dataclass(frozen=True, slots=True)
class Info:
    """What a file of time tags holds."""

    path: Path
    format: str
    records: int
    """Records in the file, overflows and markers included."""
    photons: dict[int, int]
    """Photons on each channel that has any."""
    resolution_ps: int
    """What one step of the file's times stands for."""
    duration_s: float
    """From the start of the measurement to the last record (PTU), or from the first to the last photon (ID900)."""
    first_ps: tuple[int, ...]
    """The first photons, up to four."""

    @property
    def photon_count(self) -> int:
        """Photons on all channels."""
        return sum(self.photons.values())

    @property
    def mean_rate_hz(self) -> float:
        """Photons per second; 0 for a file without duration."""
        return self.photon_count / self.duration_s if self.duration_s else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Referenced:
    """Clicks timed against a reference input, as an ID900 writes them with ``--with-ref-index``."""

    since_ps: Times
    """Time since the last click on the reference input, shape (n,)."""
    index: Times
    """How many clicks the reference input had had by then, shape (n,)."""

    def on_clock(self, period_ps: int, channel: int) -> Tags:
        """Absolute times when the reference input is a clock of exactly this period."""
        return Tags.on_channel(self.index * period_ps + self.since_ps, channel)


def read(path: Path | str, *, channel: int = 1) -> Tags:
    """The photons of a PTU T2 or ID900 ``.bin`` file.

    PTU inputs keep their number (0 is the first input) and clicks on its SYNC input get channel 255; markers and
    overflows are dropped. ``channel`` is the input an ID900 file was recorded from. DataError names file, offset,
    what was expected and what is there.
    """
    path = Path(path)
    if _is_ptu(path):
        return _ptu.read(path).tags
    return Tags.on_channel(_read_times(path), check_channel(channel))


def read_referenced(path: Path | str) -> Referenced:
    """An ID900 ``.bin`` file that was recorded with the reference index."""
    path = Path(path)
    words = _read_words(path, words_per_record=2)
    since, index = words[0::2], words[1::2]
    fell = index[1:] < index[:-1]
    if fell.any():
        at = int(fell.argmax()) + 1
        raise DataError(
            f"{path}: at byte {at * 16 + 8}: expected a reference index of at least {index[at - 1]}, found {index[at]};"
            " the file is damaged or was recorded without the reference index"
        )
    return Referenced(since.copy(), index.copy())


def info(path: Path | str, *, with_ref_index: bool = False, channel: int = 1) -> Info:
    """What a file holds, after reading all of it; errors as :func:`read`.

    ``with_ref_index`` says that an ID900 file has reference indices; its first photons are then times since the
    reference, and its duration is unknown (0), because the file does not tell the period of the reference.
    """
    path = Path(path)
    if _is_ptu(path):
        ptu = _ptu.read(path)
        return Info(
            path=path,
            format=f"PicoQuant PTU T2 ({ptu.record_type})",
            records=ptu.records,
            photons=_photons(ptu.tags),
            resolution_ps=ptu.resolution_ps,
            duration_s=ptu.last_record_ps * 1e-12,
            first_ps=_first(ptu.tags.time_ps),
        )
    if with_ref_index:
        referenced = read_referenced(path)
        photons = {channel: referenced.since_ps.size} if referenced.since_ps.size else {}
        return Info(
            path,
            "ID900 binary with reference index",
            referenced.since_ps.size,
            photons,
            1,
            0.0,
            _first(referenced.since_ps),
        )
    tags = read(path, channel=channel)
    return Info(
        path, "ID900 binary", len(tags), _photons(tags), 1, tags.duration_ps * 1e-12, _first(tags.time_ps)
    )


def write_id900(path: Path | str, clicks: Tags | Referenced) -> None:
    """Write an ID900 ``.bin`` file, with the reference index for ``Referenced``; the file appears when it is whole.

    The format has neither channel nor sign: DataError for tags of several channels or before time zero.
    """
    path = Path(path)
    columns = (clicks.time_ps,) if isinstance(clicks, Tags) else (clicks.since_ps, clicks.index)
    if isinstance(clicks, Tags) and len(clicks) and (clicks.channel != clicks.channel[0]).any():
        used = ", ".join(str(number) for number in np.flatnonzero(clicks.counts()))
        raise DataError(
            f"{path}: an ID900 file holds one channel, these tags have {used}; write one file per channel"
        )
    for column in columns:
        if column.size and int(column.min()) < 0:
            at = int((column < 0).argmax())
            raise DataError(f"{path}: an ID900 file holds no negative numbers; index {at} is {column[at]}")
    with _whole(path) as file:
        np.stack(columns, axis=1).astype(_WORD, copy=False).tofile(file)


def write_ptu(
    path: Path | str, tags: Tags, *, resolution_ps: int = 1, created_s: float | None = None
) -> None:
    """Write a PTU file in T2 mode (HydraHarp, format version 2); the file appears when it is whole.

    What :func:`read` gives back is exactly ``tags``: channels 0 to 63, and 255 for clicks on the SYNC input, but not 0 and
    SYNC in one file. ``resolution_ps`` is the step of the file's times, ``created_s`` the date in its header in seconds since
    1970 (now, if not given). DataError for other channels, times before zero and times between the steps; StorageError
    if the disk does not take it.
    """
    path = Path(path)
    records = _ptu_write.encode(path, tags, resolution_ps)
    with _whole(path) as file:
        file.write(_ptu_write.header(records, resolution_ps, wall_time() if created_s is None else created_s))
        records.astype("<u4", copy=False).tofile(file)


@contextlib.contextmanager
def _whole(path: Path) -> Generator[BinaryIO]:
    """A file to write to that takes its name only when it is complete and on disk; a failure leaves nothing behind."""
    unfinished = path.with_name(path.name + ".part")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error
        raise


def _is_ptu(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(len(_ptu.MAGIC))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if start == _ptu.MAGIC:
        return True
    if path.suffix.lower() == ".bin":
        return False
    expected = f"{_ptu.MAGIC!r} of a PicoQuant PTU file"
    if path.suffix.lower() != ".ptu":
        expected += ", or the name of an ID900 file, ending in .bin"
    raise DataError(f"{path}: at byte 0: expected {expected}, found {start!r}")


def _read_times(path: Path) -> Times:
    times = _read_words(path, words_per_record=1)
    fell = times[1:] < times[:-1]
    if fell.any():
        at = int(fell.argmax()) + 1
        raise DataError(
            f"{path}: at byte {at * 8}: expected a time of at least {times[at - 1]} ps, found {times[at]} ps; the file is"
            " damaged, or its times are relative to a reference input (then read it with its reference index)"
        )
    return times


def _read_words(path: Path, words_per_record: int) -> Times:
    record = words_per_record * 8
    try:
        size = path.stat().st_size
        if size % record:
            whole = size - size % record
            raise DataError(
                f"{path}: at byte {whole}: expected a record of {record} bytes, found {size - whole};"
                " the file was cut short or is no ID900 file"
            )
        words: NDArray[np.uint64] = np.fromfile(path, dtype=_WORD)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    too_large = words > _LARGEST
    if too_large.any():
        at = int(too_large.argmax())
        raise DataError(
            f"{path}: at byte {at * 8}: expected a number below 2^63, found {words[at]:#x}; this is no ID900 file"
        )
    return words.astype(np.uint64, copy=False).view(np.int64)


def _photons(tags: Tags) -> dict[int, int]:
    counts = tags.counts()
    return {int(channel): int(counts[channel]) for channel in np.flatnonzero(counts)}


def _first(times: Times) -> tuple[int, ...]:
    return tuple(int(time) for time in times[:_FIRST])
