"""PYON of both versions: what is written is read back, and no text hangs, crashes or runs anything."""

from __future__ import annotations

import math
from collections import OrderedDict
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import WireError
from labctl.ndsp import pyon

NUMBERS = st.integers() | st.floats(allow_nan=False)
HASHABLE = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text() | st.binary() | st.fractions(),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)
VALUES = st.recursive(
    HASHABLE
    | st.complex_numbers(allow_infinity=False, allow_nan=False)
    | st.builds(slice, st.integers(), st.none(), st.integers()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(HASHABLE, min_size=1, max_size=3)
        | st.dictionaries(st.text(), inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=12,
)


def kinds(value: Any) -> Any:
    """The types all the way down; order of sets left out."""
    match value:
        case list() | tuple():
            return type(value), [kinds(one) for one in value]
        case dict():
            return type(value), [(kinds(key), kinds(one)) for key, one in value.items()]
        case _:
            return type(value)


@pytest.mark.parametrize("version", pyon.VERSIONS)
@given(value=VALUES)
def test_what_is_written_is_read_back(version: int, value: Any) -> None:
    text = pyon.encode(value, version)
    assert "\n" not in text
    read = pyon.decode(text, version)
    assert read == value
    assert kinds(read) == kinds(value)


@pytest.mark.parametrize("version", pyon.VERSIONS)
@pytest.mark.parametrize("dtype", ["b1", "i1", "<i4", "<i8", "u2", "<f4", "<f8", "<c16"])
def test_arrays_and_scalars(version: int, dtype: str) -> None:
    array = np.arange(6).astype(dtype).reshape(2, 3).T
    read = pyon.decode(pyon.encode({"a": array, "s": array[1, 1]}, version), version)
    assert read["a"].dtype == array.dtype and np.array_equal(read["a"], array)
    assert type(read["s"]) is type(array[1, 1]) and read["s"] == array[1, 1]
    read["a"][0, 0] = 1  # it is a copy of one's own


@pytest.mark.parametrize("version", pyon.VERSIONS)
def test_not_a_number_and_infinity(version: int) -> None:
    read = pyon.decode(pyon.encode([math.inf, -math.inf, math.nan], version), version)
    assert read[:2] == [math.inf, -math.inf] and math.isnan(read[2])


def test_as_sipyco_writes_it() -> None:
    """The forms of sipyco's encoders, from m-labs/sipyco (pyon.py before and since 1.10)."""
    value = {(1, 2): [(2,), None, True], "s": slice(3), "f": Fraction(3, 4), "a": np.int32(42)}
    assert (
        pyon.decode(
            '{(1, 2): [(2, ), null, true], "s": slice(None, 3, None), "f": Fraction(3, 4), "a": npscalar("<i4", b"KgAAAA==")}',
            1,
        )
        == value
    )
    assert (
        pyon.decode(
            '{"__jsonclass__":["dict",[[[{"__jsonclass__":["tuple",[[1,2]]]},[{"__jsonclass__":["tuple",[[2]]]},null,true]],'
            '["s",{"__jsonclass__":["slice",[null,3,null]]}],["f",{"__jsonclass__":["Fraction",[3,4]]}],'
            '["a",{"__jsonclass__":["npscalar",["<i4","KgAAAA=="]]}]]]]}',
            2,
        )
        == value
    )
    assert (
        pyon.encode((1, {"a": 2j}), 2)
        == '{"__jsonclass__":["tuple",[[1,{"a":{"__jsonclass__":["complex",[0.0,2.0]]}}]]]}'
    )
    assert pyon.encode((1, [None, np.float64(1)]), 1) == '(1, [null, npscalar("<f8", b"AAAAAAAA8D8=")])'


@pytest.mark.parametrize("version", pyon.VERSIONS)
@given(text=st.text() | st.text(alphabet="{}[]()\"',:0123456789abcj_.-+ \\", max_size=60))
def test_no_text_does_harm(version: int, text: str) -> None:
    try:
        value = pyon.decode(text, version)
    except WireError:
        return
    pyon.decode(pyon.encode(value, version), version) if "nan" not in repr(value) else None


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').getcwd()",
        "[x for x in ()]",
        "(lambda: 1)()",
        "print",
        "nparray((1,), '|O', b'AAAAAAAAAAA=')",
        "nparray((9,), '<f8', b'AAAAAAAA8D8=')",
        "9**9**9",
        "(" * 2000 + ")" * 2000,
        "-" * 5000 + "1",
        "'a' 'b' % 3",
        "{**{}}",
        "f'{1}'",
    ],
)
def test_version_1_is_read_not_run(text: str) -> None:
    with pytest.raises(WireError, match="not PYON version 1"):
        pyon.decode(text, 1)


@pytest.mark.parametrize("version", pyon.VERSIONS)
@pytest.mark.parametrize("value", [object(), {"a": range(3)}, np.array([None]), [pytest]])
def test_what_pyon_has_not_is_refused(version: int, value: Any) -> None:
    with pytest.raises(WireError, match="PYON has no"):
        pyon.encode(value, version)


@pytest.mark.parametrize("version", pyon.VERSIONS)
def test_a_value_that_contains_itself(version: int) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(WireError, match="contains itself"):
        pyon.encode(endless, version)
