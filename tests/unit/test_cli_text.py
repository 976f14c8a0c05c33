"""Values as people read and type them."""

from __future__ import annotations

import json
import math
from typing import Any

import click
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.bus.wire import DeviceRow, State
from labctl.cli import show_text
from labctl.errors import LimitError

CURRENT = {"kind": "float", "unit": "A", "shown_in": "A", "limits": [0.0, 0.18], "writable": True}
OVEN = {"kind": "float", "unit": "K", "shown_in": "degC", "limits": [288.15, 343.15], "writable": True}
SWITCH = {"kind": "bool", "unit": "", "shown_in": ""}
COUNT = {"kind": "int", "unit": "", "shown_in": "", "limits": [0, 7]}
BIAS = {"kind": "list", "unit": "A", "shown_in": "A"}
MODE = {"kind": "str", "unit": "", "shown_in": "", "choices": ["cw", "pulsed"]}


@pytest.mark.parametrize(
    ("described", "text", "value"),
    [
        (CURRENT, "0.12", 0.12),
        (CURRENT, "121mA", 0.121),
        (CURRENT, "121 mA", 0.121),
        (CURRENT, "-1e-3", -0.001),
        (OVEN, "41.2", 314.35),
        (OVEN, "41.2degC", 314.35),
        (OVEN, "314.35 K", 314.35),
        (OVEN, "-5", 268.15),
        (SWITCH, "on", True),
        (SWITCH, "False", False),
        (SWITCH, "0", False),
        (COUNT, "3", 3),
        (COUNT, "3.0", 3),
        (MODE, "cw", "cw"),
    ],
)
def test_typed_values(described: dict[str, Any], text: str, value: Any) -> None:
    parsed = show_text.parse_value("a.b.c", text, described)
    assert type(parsed) is type(value)
    assert parsed == pytest.approx(value) if isinstance(value, float) else parsed == value


@pytest.mark.parametrize("text", ["20e-6,10e-6", "20uA,10uA", "[20e-6, 10e-6]"])
def test_lists(text: str) -> None:
    assert show_text.parse_value("a.b.c", text, BIAS) == pytest.approx([20e-6, 10e-6])


@pytest.mark.parametrize(
    ("described", "text", "says"),
    [
        (CURRENT, "much", "'much' is not a number"),
        (CURRENT, "3 V", "has the unit 'V'; expected A"),
        (CURRENT, "nan", "is not a number"),
        (OVEN, "nan", "is not a number"),
        (OVEN, "warm", "allowed: 15 to 70 degC"),
        (SWITCH, "maybe", "is not true or false"),
        (COUNT, "2.5", "'2.5' is not a whole number; allowed: 0 to 7"),
        (BIAS, "1,,2", "is not a number"),
    ],
)
def test_refused_values_name_signal_and_what_is_allowed(
    described: dict[str, Any], text: str, says: str
) -> None:
    with pytest.raises(LimitError) as caught:
        show_text.parse_value("alice.x.y", text, described)
    assert str(caught.value).startswith("alice.x.y: ")
    assert says in str(caught.value)
    assert "nothing was sent" in str(caught.value)


@given(st.floats(-1e6, 1e6), st.sampled_from([CURRENT, OVEN]))
def test_what_is_shown_can_be_typed_back(value: float, described: dict[str, Any]) -> None:
    text = show_text.shown(value, described)
    back = show_text.parse_value("a.b.c", text, described)
    assert back == pytest.approx(value, rel=2e-8, abs=1e-9 + (1e-6 if described is OVEN else 0))
    bare = text.split()[0]
    assert show_text.parse_value("a.b.c", bare, described) == back


def test_shown() -> None:
    assert show_text.shown(314.35, OVEN) == "41.2 degC"
    assert show_text.shown(True, SWITCH) == "true"
    assert show_text.shown([2e-5, 1e-5], BIAS) == "2e-05,1e-05 A"
    assert show_text.shown(None, CURRENT) == "-"
    assert show_text.limits(OVEN) == "15 to 70 degC"
    assert show_text.limits(MODE) == "cw, pulsed"
    assert show_text.limits(SWITCH) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0004, "0.4 ms"), (12.34, "12.3 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (59.9999 * 60, "1 h 00 min")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert show_text.seconds(seconds) == text


def test_arguments_of_actions_follow_the_signature() -> None:
    signature = "(name: str, times: int, slow: bool = False, gains: list[float] = ()) -> str"
    texts = ("12", "3", "on", "1,2.5")
    assert show_text.parse_arguments("x", texts, signature) == ["12", 3, True, [1, 2.5]]
    assert show_text.parse_arguments("x", ("3", "2.5", "true", "cw"), "(*anything)") == [3, 2.5, True, "cw"]
    with pytest.raises(LimitError, match="'many' is not of type int"):
        show_text.parse_arguments("a.b.relock", ("many",), "(times: int)")


def test_tables_line_up_whatever_the_colour() -> None:
    text = show_text.table(("a", "n"), [(click.style("green", fg="green"), "1"), ("x", "22")], right=(1,))
    assert [click.unstyle(line) for line in text.splitlines()] == ["a       n", "green   1", "x      22"]


def test_json_takes_arrays_and_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    show_text.print_json({"x": np.arange(3), "bad": math.nan, "large": math.inf})
    assert json.loads(capsys.readouterr().out) == {"x": [0, 1, 2], "bad": None, "large": None}


def test_state_lines_tell_what_changed() -> None:
    said: list[str] = []
    lines = show_text.StateLines(lambda text: said.append(click.unstyle(text)))

    def row(name: str, state: State, reason: str = "") -> DeviceRow:
        return DeviceRow(name, "alice", "d:D", "", "", 1, True, state, reason)

    lines([row("alice.a", "connecting"), row("alice.b", "settling")])
    lines([row("alice.a", "ready"), row("alice.b", "ready")])
    lines([row("alice.a", "ready"), row("alice.b", "lost", "no answer")])
    assert said == ["  ready 2/2  alice.a alice.b", "  lost  alice.b  no answer"]
    assert lines.ready == {"alice.a"}
