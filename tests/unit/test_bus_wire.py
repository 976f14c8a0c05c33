"""The bus's messages: what goes in comes out, and nothing else is let in."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from labctl.bus.leases import Leases
from labctl.bus.wire import (
    MOVED,
    WIRE_VERSION,
    Beat,
    Codec,
    DeviceState,
    Event,
    MovedError,
    Reply,
    Request,
    convert,
    error_from,
    error_pair,
)
from labctl.clock import VirtualClock
from labctl.errors import ConfigError, LabError, LeaseError, LimitError, WireError

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
arrays = npst.arrays(
    st.sampled_from([np.int64, np.uint8, np.float64, np.complex128, np.bool_, np.dtype(">i4")]),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)


@given(plain, st.integers(0, 2**63 - 1))
def test_a_reply_comes_back_as_it_went(value: object, number: int) -> None:
    codec = Codec()
    back = codec.decode(Reply, codec.encode(Reply(WIRE_VERSION, number, value)))
    assert (back.number, back.value, back.error) == (number, value, None)


@given(st.lists(arrays, max_size=3))
def test_arrays_travel_in_frames_of_their_own(sent: list[np.ndarray]) -> None:
    codec = Codec()
    frames = codec.encode(Reply(WIRE_VERSION, 1, {"arrays": sent, "n": len(sent)}))
    assert len(frames) == 1 + len(sent)
    back = codec.decode(Reply, [bytes(frame) for frame in frames]).value["arrays"]
    for one, other in zip(sent, back, strict=True):
        assert other.dtype == one.dtype
        np.testing.assert_array_equal(one, other)


def test_an_array_is_not_copied() -> None:
    codec = Codec()
    array = np.arange(1000)
    frames = codec.encode(Reply(WIRE_VERSION, 1, array))
    assert np.shares_memory(np.frombuffer(frames[1], array.dtype), array)
    assert np.shares_memory(codec.decode(Reply, frames).value, array)
    strided = codec.encode(Reply(WIRE_VERSION, 1, array[::7]))
    np.testing.assert_array_equal(codec.decode(Reply, strided).value, array[::7])


def test_numpy_scalars_travel_as_numbers() -> None:
    codec = Codec()
    back = codec.decode(Reply, codec.encode(Reply(WIRE_VERSION, 1, [np.float64(2.5), np.int32(3), np.True_])))
    assert back.value == [2.5, 3, True]


@pytest.mark.parametrize("value", [object(), np.array([object()]), 2**70, {1, object()}])
def test_what_cannot_travel_is_refused_with_its_type(value: object) -> None:
    with pytest.raises(WireError, match="cannot travel"):
        Codec().encode(Reply(WIRE_VERSION, 1, value))


@given(st.binary(max_size=80))
def test_random_bytes_are_a_wire_error_or_a_message(data: bytes) -> None:
    codec = Codec()
    for kind in (Request, Reply, Event):
        try:
            message = codec.decode(kind, [data])
        except WireError as error:
            assert kind.__name__ in str(error) or "array" in str(error) or "extension" in str(error)
        else:
            assert message.version == WIRE_VERSION


@given(plain)
def test_any_other_shape_is_a_wire_error(value: object) -> None:
    with pytest.raises(WireError):
        Codec().decode(Request, [msgspec.msgpack.encode({"a": value})])
    with pytest.raises(WireError):
        Codec().decode(Request, [msgspec.msgpack.encode([1, 1, "get", "d", "n", [], "c", value])])


def test_another_version_is_named() -> None:
    data = msgspec.msgpack.encode([WIRE_VERSION + 1, 5, "get", "alice.laser", "current", [], "c"])
    with pytest.raises(WireError, match=r"version '2' came, expected a labctl bus Request of version 1"):
        Codec().decode(Request, [data])


@pytest.mark.parametrize(
    "change",
    [{"verb": "exec"}, {"number": "1"}, {"device": 3}, {"arguments": "ab"}],
    ids=str,
)
def test_a_field_of_another_kind_is_named(change: dict[str, object]) -> None:
    fields = {
        "version": 1,
        "number": 1,
        "verb": "get",
        "device": "d",
        "name": "n",
        "arguments": [],
        "client": "",
    }
    with pytest.raises(WireError, match="expected a labctl bus Request"):
        Codec().decode(Request, [msgspec.msgpack.encode([*(fields | change).values()])])


def test_array_headers_that_lie_are_refused() -> None:
    def with_header(*header: object) -> list[bytes]:
        ext = msgspec.msgpack.Ext(1, msgspec.msgpack.encode(header))
        return [msgspec.msgpack.encode([1, 1, ext, None]), b"12345678"]

    codec = Codec()
    assert codec.decode(Reply, with_header(1, "<i8", [1])).value.shape == (1,)
    for header in [(2, "<i8", [1]), (0, "<i8", [1]), (-1, "<i8", [1]), (1, "<i8", [2]), (1, "<i8", [-1]),
                   (1, "|O8", [1]), (1, "<i8,<f8", [1]), (1, "<i8", ["x"]), (1,), (1, "<i8", [2**62, 2**62])]:  # fmt: skip
        with pytest.raises(WireError):
            codec.decode(Reply, with_header(*header))


def test_errors_travel_by_a_closed_table() -> None:
    back = error_from(error_pair(LimitError("too much")))
    assert type(back) is LimitError
    assert str(back) == "too much"

    class OwnError(LimitError):
        pass

    assert error_pair(OwnError("x")) == ("LimitError", "x")
    assert error_pair(ZeroDivisionError("y")) == ("LabError", "ZeroDivisionError: y")
    assert error_pair(MovedError("z"))[0] == MOVED
    assert type(error_from(("os.system", "z"))) is LabError


def test_structs_in_arguments_are_checked() -> None:
    state = DeviceState("d", "ready", "", 0.0, 0.0, 0.0, "")
    codec = Codec()
    request = Request(WIRE_VERSION, 1, "beat", arguments=[Beat("n", 1, 0.0, [state])])
    back = codec.decode(Request, codec.encode(request))
    assert convert(back.arguments, tuple[Beat])[0].states == [state]
    with pytest.raises(WireError):
        convert([["n", 1, 0.0, [["d", "dreaming", "", 0, 0, 0, ""]]]], tuple[Beat])


# leases


def test_a_lease_excludes_others_and_ends() -> None:
    clock = VirtualClock()
    leases = Leases(clock)
    leases.take(["a", "b"], "me", "run 17", 3.0)
    leases.check("a", "me")
    with pytest.raises(LeaseError, match=r"a is leased by 'run 17' for another 3\.0 s"):
        leases.check("a", "other")
    with pytest.raises(LeaseError):
        leases.take(["c", "b"], "other", "x", 3.0)
    assert leases.holder("c") == ""  # all or none
    clock.advance(2.0)
    leases.renew(["a"], "me", 3.0)
    clock.advance(1.5)
    assert leases.expired() == {"b": "run 17"}
    assert leases.expired() == {}
    with pytest.raises(LeaseError, match="ran out"):
        leases.renew(["b"], "me", 3.0)
    assert leases.release(["a", "b"], "other") == []
    assert leases.release(["a", "b"], "me") == ["a"]
    leases.check("a", "other")


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, math.inf, math.nan, 1e9])
def test_a_lease_of_absurd_length_is_refused(ttl_s: float) -> None:
    with pytest.raises(ConfigError):
        Leases(VirtualClock()).take(["a"], "me", "x", ttl_s)
