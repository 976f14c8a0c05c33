"""What travels on the bus: msgspec structs in msgpack, arrays as frames of their own, errors as names from a closed table.

Decoding is strict: another version, another shape or an unknown verb is a WireError. Nothing is evaluated, imported or
unpickled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import msgspec
from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder, Ext

from labctl.errors import WIRE_NAMES, LabError, WireError, from_wire

if TYPE_CHECKING:
    import numpy as np

WIRE_VERSION = 1
"""Raised by one with every change of a message's shape."""

Verb = Literal[
    # to a device or service
    "get", "set", "call", "describe", "cached", "ping", "restore",
    # to a host's control lane
    "lease", "renew", "release", "safe",
    # to the hub
    "register", "beat", "leave", "list", "exchange",
]  # fmt: skip

State = Literal["connecting", "settling", "ready", "lost", "fault", "safe"]
"""A device's life: connecting -> settling -> ready; lost (no connection, retried), fault (connected, but its declared
state was refused), safe (made safe; stays so until ``restore``)."""

MOVED = "Moved"
"""Error name in the reply of a lane that was asked for a device it does not own."""

_ARRAY = 1
_DTYPE = re.compile(r"[<>|](?:b1|[iu][1248]|f[248]|c(?:8|16))")
_BAD_BYTES = (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError)


class Request(Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """Asks one thing; ``number`` comes back in the reply, ``client`` says who asks (for leases)."""

    version: Literal[1]
    number: int
    verb: Verb
    device: str = ""
    name: str = ""
    """Signal or action."""
    arguments: Sequence[Any] = ()
    client: str = ""


class Reply(Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """The answer to request ``number``: a value, or an error as (name, text). Number 0: the request was unreadable."""

    version: Literal[1]
    number: int
    value: Any = None
    error: tuple[str, str] | None = None


class Event(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Something that happened. ``sequence`` counts the events of one topic from one source, from 1."""

    version: Literal[1]
    topic: str
    sequence: int
    source: str
    time_wall: float
    """Publisher's wall clock, s since 1970."""
    payload: Any = None


class DeviceEntry(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What a host says about one device when it registers."""

    device: str
    driver: str
    address: str
    """Where the device's own thread listens."""
    required: bool


class Registration(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A host introduces itself. ``epoch`` is new with every start of the host; the greater one wins."""

    node: str
    epoch: int
    control: str
    """Where leases and safe() are asked for."""
    devices: list[DeviceEntry]


class DeviceState(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """How one device is, in every heartbeat."""

    device: str
    state: State
    reason: str
    since: float
    """Wall clock, s since 1970."""
    age_s: float
    """Since the instrument last answered, s; negative if it never did."""
    latency_s: float
    """How long its last answer took, s."""
    leased_by: str


class Beat(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A host lives."""

    node: str
    epoch: int
    clock_offset_s: float
    """Host's wall clock minus the hub's, s."""
    states: list[DeviceState]


class DeviceRow(Struct, frozen=True):
    """One device as the hub lists it."""

    device: str
    node: str
    driver: str
    address: str
    control: str
    epoch: int
    required: bool
    state: State = "connecting"
    reason: str = ""
    since: float = 0.0
    age_s: float = -1.0
    latency_s: float = 0.0
    clock_offset_s: float = 0.0
    leased_by: str = ""


class MovedError(WireError):
    """The asked device is not here: the client's address is out of date. Clients look it up again and go on."""


S = TypeVar("S")


class Codec:
    """Encodes and decodes messages, with one encoder and decoder kept for all; one thread at a time uses a codec."""

    def __init__(self) -> None:
        self._arrays: list[Any] = []
        self._encoder = Encoder(enc_hook=self._take_out)
        self._decoders: dict[type, Decoder[Any]] = {}

    def encode(self, message: Any) -> list[Any]:
        """Frames of ``message``: msgpack first, then each array's memory; WireError for what cannot travel."""
        self._arrays = []
        try:
            first = self._encoder.encode(message)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise WireError(
                f"a {type(message).__name__} cannot travel: {error}; use numbers, text, lists, dicts, arrays"
            ) from None
        return [first, *self._arrays] if self._arrays else [first]

    def decode(self, kind: type[S], frames: Sequence[Any]) -> S:
        """The message in ``frames``; WireError says what came and what was expected."""
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = Decoder(kind, ext_hook=self._put_back)
        self._arrays = frames if isinstance(frames, list) else [*frames]
        try:
            return decoder.decode(frames[0])
        except _BAD_BYTES as error:
            raise WireError(_complaint(kind, bytes(frames[0]), error)) from None

    def _take_out(self, value: Any) -> Any:
        kind = cast("type[object]", type(value))
        if kind.__module__ != "numpy":
            raise TypeError(f"{kind.__name__} is not a type of the bus")
        if not hasattr(value, "__array_interface__") or kind.__name__ != "ndarray":
            return value.item()
        array = cast("np.ndarray[Any, Any]", value)
        dtype = array.dtype.str
        if not _DTYPE.fullmatch(dtype):
            raise TypeError(f"an array of {array.dtype} is not a type of the bus")
        contiguous = array if array.flags.c_contiguous else array.copy(order="C")
        self._arrays.append(contiguous.reshape(-1).data.cast("B") if array.size else b"")
        return Ext(_ARRAY, msgspec.msgpack.encode((len(self._arrays), dtype, array.shape)))

    def _put_back(self, code: int, data: memoryview) -> Any:
        if code != _ARRAY:
            raise WireError(f"extension type {code}, expected {_ARRAY} (an array)")
        index, dtype, shape = msgspec.msgpack.decode(data, type=tuple[int, str, tuple[int, ...]])
        if not _DTYPE.fullmatch(dtype):
            raise WireError(f"an array of {dtype[:20]!r}, expected numbers")
        if not 1 <= index < len(self._arrays):
            raise WireError(
                f"an array in frame {index}, but the message has {len(self._arrays) - 1} array frames"
            )
        import numpy as np

        frame = self._arrays[index]
        kind = np.dtype(dtype)
        if min(shape, default=0) < 0 or math.prod(shape) * kind.itemsize != len(frame):
            raise WireError(f"an array of {shape} {dtype} in {len(frame)} bytes")
        return np.frombuffer(frame, kind).reshape(shape)


def convert(value: Any, kind: type[S]) -> S:
    """``value`` (as it came in arguments or a reply) as the struct ``kind``; WireError if it is not one."""
    try:
        return msgspec.convert(value, kind)
    except _BAD_BYTES as error:
        raise WireError(f"expected a {kind.__name__}: {error}") from None


def error_pair(error: BaseException) -> tuple[str, str]:
    """Name and text of ``error`` for a Reply: the nearest class of the closed table."""
    if isinstance(error, MovedError):
        return MOVED, str(error)
    for cls in type(error).__mro__:
        if WIRE_NAMES.get(cls.__name__) is cls:
            return cls.__name__, str(error)
    return LabError.__name__, f"{type(error).__name__}: {error}"


def error_from(pair: tuple[str, str]) -> LabError:
    """The error a Reply carries."""
    return from_wire(*pair)


def _complaint(kind: type, data: bytes, error: BaseException) -> str:
    expected = f"expected a labctl bus {kind.__name__} of version {WIRE_VERSION}"
    try:
        came: Any = msgspec.msgpack.decode(data)
    except _BAD_BYTES:
        return f"{data[:24]!r}{'...' if len(data) > 24 else ''} came, {expected}"
    if isinstance(came, list) and came and came[0] != WIRE_VERSION:  # pyright: ignore[reportUnknownArgumentType]
        return f"a message of version {str(came[0])[:20]!r} came, {expected}; update the older of the two programs"  # pyright: ignore[reportUnknownArgumentType]
    return f"{expected}: {error}"
