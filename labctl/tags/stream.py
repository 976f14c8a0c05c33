"""Streams of time tags: int64 picoseconds and uint8 channels, always in time order."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.errors import DataError

Times = NDArray[np.int64]
Channels = NDArray[np.uint8]

CHANNELS = 256


@dataclass(frozen=True, slots=True, eq=False)
class Tags:
    """Clicks in time order; both arrays have shape (n,) and are read-only views of what was given.

    Raises DataError for other types or shapes, and for times that go backwards (equal times are allowed).
    """

    time_ps: Times
    """When each click was, in picoseconds since an origin the file or run defines."""
    channel: Channels
    """Where each click was."""

    def __post_init__(self) -> None:
        time = _read_only(self.time_ps, np.dtype(np.int64), "time_ps")
        channel = _read_only(self.channel, np.dtype(np.uint8), "channel")
        if time.size != channel.size:
            raise DataError(
                f"time tags have {time.size} times but {channel.size} channels; expected as many of both"
            )
        refuse_backwards(time, "time tags")
        object.__setattr__(self, "time_ps", time)
        object.__setattr__(self, "channel", channel)

    @classmethod
    def empty(cls) -> "Tags":
        """No clicks."""
        return cls(np.empty(0, np.int64), np.empty(0, np.uint8))

    @classmethod
    def on_channel(cls, time_ps: Times, channel: int) -> "Tags":
        """Clicks that are all on one channel (0 to 255)."""
        return cls(time_ps, np.full(time_ps.size, check_channel(channel), np.uint8))

    def __len__(self) -> int:
        return int(self.time_ps.size)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Tags)
            and np.array_equal(self.time_ps, other.time_ps)
            and np.array_equal(self.channel, other.channel)
        )

    @property
    def duration_ps(self) -> int:
        """From the first click to the last; 0 for fewer than two clicks."""
        return int(self.time_ps[-1] - self.time_ps[0]) if len(self) else 0

    def counts(self) -> Times:
        """Clicks on each channel, shape (256,)."""
        return np.bincount(self.channel, minlength=CHANNELS).astype(np.int64, copy=False)

    def between(self, start_ps: int, stop_ps: int) -> "Tags":
        """The clicks with start_ps <= time < stop_ps; a view, nothing is copied."""
        first, last = np.searchsorted(self.time_ps, (start_ps, stop_ps), side="left")
        return self.part(int(first), int(last))

    def part(self, first: int, last: int) -> "Tags":
        """The clicks number ``first`` up to, not including, ``last``; a view, nothing is copied."""
        return _trusted(self.time_ps[first:last], self.channel[first:last])

    def on(self, *channels: int) -> "Tags":
        """The clicks on these channels."""
        wanted = np.zeros(CHANNELS, np.bool_)
        wanted[[check_channel(channel) for channel in channels]] = True
        keep = wanted[self.channel]
        return _trusted(self.time_ps[keep], self.channel[keep])


def merge(streams: Iterable[Tags]) -> Tags:
    """All clicks of several streams in time order; at equal times the earlier stream comes first."""
    level = list(streams)
    if not level:
        return Tags.empty()
    while len(level) > 1:
        pairs = [_merge_two(a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[2 * len(pairs) :]
    return level[0]


def check_channel(channel: int) -> int:
    """The channel number, or DataError when it does not fit in a uint8."""
    if not 0 <= channel < CHANNELS:
        raise DataError(f"channel {channel} does not exist; time tags have channels 0 to {CHANNELS - 1}")
    return channel


def refuse_backwards(time_ps: NDArray[Any], what: str) -> None:
    """DataError with the first position at which times go backwards, if there is one."""
    backwards = time_ps[1:] < time_ps[:-1]
    if backwards.any():
        at = int(backwards.argmax()) + 1
        raise DataError(
            f"{what} go backwards at index {at}: {time_ps[at]} ps comes after {time_ps[at - 1]} ps;"
            " sort them, or merge the channels with labctl.tags.stream.merge"
        )


def _merge_two(a: Tags, b: Tags) -> Tags:
    from labctl.tags import _loops

    time = np.empty(len(a) + len(b), np.int64)
    channel = np.empty(time.size, np.uint8)
    _loops.merge_two(a.time_ps, a.channel, b.time_ps, b.channel, time, channel)
    return _trusted(time, channel)


def _read_only(array: NDArray[Any], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    if array.dtype != dtype or array.ndim != 1:
        raise DataError(
            f"{name} has type {array.dtype} and shape {array.shape}; expected {dtype} and one dimension"
        )
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def _trusted(time: Times, channel: Channels) -> Tags:
    """Tags from arrays known to be in order; skips the pass over the data that checks it."""
    for array in (time, channel):
        array.flags.writeable = False
    tags = object.__new__(Tags)
    object.__setattr__(tags, "time_ps", time)
    object.__setattr__(tags, "channel", channel)
    return tags
