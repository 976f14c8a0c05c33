"""DeCoP values: the driver's codec, the simulated instrument's, and one against the other."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.decop import Value, check_name, decode, encode
from drivers.decop_monitor import Update, parse_update
from labctl.errors import LimitError, RefusedError
from simulated_hw import decop as instrument
from simulated_hw.toptica_dlcpro import SimDlcPro
from simulated_hw.world.parts import Laser

PRINTABLE = st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=("Cs",)))
ATOMS = (
    st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | PRINTABLE
    | st.binary()
)
VALUES: st.SearchStrategy[Value] = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=12
)
DECOP_LIKE = st.text(st.sampled_from(list("#tf()'`,\"\\&= \t\r\n+-.0129eEnaifAZ:;!> ")), max_size=60)


@given(VALUES)
def test_decode_undoes_encode(value: Value) -> None:
    back = decode(encode(value))
    assert back == value
    assert type(back) is type(value)


@given(VALUES)
def test_driver_reads_what_the_instrument_writes(value: Value) -> None:
    assert decode(instrument.written(value)) == value


@given(ATOMS)
def test_instrument_reads_what_the_driver_writes(value: Value) -> None:
    form = instrument.parse(f"(param-set! 'a:b {encode(value)})")
    assert form == ["param-set!", ["'", "a:b"], value]
    assert type(form[2]) is type(value)


@given(st.binary().map(lambda data: data.decode("utf-8", "replace")) | DECOP_LIKE)
def test_decoder_survives_anything(text: str) -> None:
    try:
        value = decode(text)
    except ValueError:
        return
    assert isinstance(value, bool | int | float | str | bytes | tuple)


@given(DECOP_LIKE)
def test_monitoring_line_parser_survives_anything(text: str) -> None:
    for line in (text, f"(2026-11-21T08:26:03.755Z 'laser1:emission {text})", f"(Error: {text})"):
        try:
            update = parse_update(line)
        except (ValueError, RefusedError):
            continue
        assert isinstance(update, Update)


@given(DECOP_LIKE)
def test_instrument_survives_anything(text: str) -> None:
    try:
        instrument.parse(text)
    except instrument.DecopError as error:
        assert str(error).startswith("Error: -2 ")


WORDS = (
    "param-ref", "param-set!", "param-gsv", "exec", "change-ul", "+", "'laser1:dl:cc:current-set", "'laser1:dl:lock:close",
    "'time", "'system-label", "'uptime", "'ul", "'echo", "'change-ul", "1", "-5", "2.5", "1e999", "9" * 5000, "#t", '"x"', "&AA==", "`", ",",
)  # fmt: skip
REQUESTS = st.recursive(
    st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=4).map(lambda words: f"({' '.join(words)})"),
)
LASER = Laser(
    np.random.default_rng(1),
    wavelength_m=397e-9,
    power_w=20e-3,
    nominal_current_a=0.12,
    threshold_current_a=0.04,
    largest_current_a=0.16,
)


@given(REQUESTS)
def test_instrument_answers_every_request_once_and_in_grammar(request_line: str) -> None:
    sent: list[bytes] = []
    session = instrument.CommandSession(SimDlcPro(LASER, lambda: 0.0).system, sent.append)
    session.receive(request_line.encode() + b"\n")
    assert len(sent) == 1
    answer, prompt, rest = sent[0].decode().partition("\n> ")
    assert prompt
    assert rest == ""
    assert answer.startswith("Error: -") or isinstance(decode(answer), bool | int | float | str | tuple)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("#t", True),
        ("#F", False),
        ("120", 120),
        ("-1.5e-3", -0.0015),
        (".5", 0.5),
        ("5.", 5.0),
        ('"DLC PRO_000001"', "DLC PRO_000001"),
        (r'"a \"b\" \\c"', 'a "b" \\c'),
        ("&AAEC", b"\x00\x01\x02"),
        ("&", b""),
        ("()", ()),
        ("'(1 2)", (1, 2)),
        (' ( #t\t1 2.0 "x y" &AA== (3) ) ', (True, 1, 2.0, "x y", b"\x00", (3,))),
        ("+inf.0", math.inf),
        ("-inf", -math.inf),
    ],
)
def test_known_values(text: str, value: Value) -> None:
    back = decode(text)
    assert back == value
    assert type(back) is type(value)


def test_not_a_number_is_read_as_one() -> None:
    for text in ("nan", "NaN", "+nan.0"):
        value = decode(text)
        assert isinstance(value, float)
        assert math.isnan(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "(",
        ")",
        "(1",
        "1)",
        '"open',
        "#x",
        "&%%",
        "&A",
        "1 2",
        "abc",
        "٣",
        "1e",
        "--1",
        "(" * 5000,
        "'",
        "()()",
    ],
)
def test_not_values(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text)


@pytest.mark.parametrize("value", [math.nan, math.inf, "two\nlines", "\x03", (1.0, -math.inf)])
def test_cannot_be_sent(value: Value) -> None:
    with pytest.raises(LimitError):
        encode(value)


@pytest.mark.parametrize("name", ["", "a b", "a)", "a'b", "a\nb", "laser1:emission "])
def test_not_a_name(name: str) -> None:
    with pytest.raises(LimitError, match="not a parameter name"):
        check_name(name)


def test_monitoring_lines() -> None:
    assert parse_update("(2026-11-21T08:26:03.755Z 'laser1:emission #t)") == Update(
        datetime(2026, 11, 21, 8, 26, 3, 755000, tzinfo=UTC), "laser1:emission", True
    )
    with pytest.raises(RefusedError, match="nothing: error -4: no such parameter"):
        parse_update("(Error: -4 (2026-11-21T08:26:03.755Z 'nothing) no such parameter)")
    for line in ("", "()", "(now 'a 1)", "(2026-11-21T08:26:03.755Z 'a )", "2026-11-21T08:26:03.755Z a 1"):
        with pytest.raises(ValueError, match=r"."):
            parse_update(line)
