"""Schedules as JSON: the same schedule back, the same bytes each time, mistakes named."""

import json
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from schedule_parts import storable_schedules, straight_items

from labctl.errors import ScheduleError
from labctl.schedule.check import check
from labctl.schedule.items import (
    SCHEDULE_VERSION,
    Branch,
    Draw,
    Item,
    Pulse,
    Repeat,
    Schedule,
    Series,
    Wait,
    duration,
    from_json,
    json_schema,
    schema_text,
    to_json,
)
from labctl.schedule.timeline import flatten


@given(storable_schedules)
def test_json_round_trip(schedule: Schedule) -> None:
    data = to_json(schedule)
    assert from_json(data) == schedule
    assert to_json(from_json(data)) == data


def test_the_same_schedule_is_the_same_bytes() -> None:
    one = Schedule("s", Branch("r", {"a": Wait(1), "b": Wait(2)}), arguments={"x": 1, "y": 2})
    other = Schedule("s", Branch("r", {"b": Wait(2), "a": Wait(1)}), arguments={"y": 2, "x": 1})
    assert to_json(one) == to_json(other)
    data = to_json(Schedule("s", Pulse("a", 5)))
    assert b'"body":{"type":"pulse","line":"a","duration":5}' in data
    assert b'"version":1' in data


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "not a schedule"),
        (b"[1]", "Expected `object`"),
        (b'{"name": "s"}', "missing required field `body`"),
        (b'{"name": "s", "body": {"type": "puls"}}', r"Invalid value 'puls' - at `\$\.body\.type`"),
        (b'{"name": "s", "body": {"type": "wait", "duration": 1.5}}', r"Expected `int`.*\$\.body\.duration"),
        (b'{"name": "s", "body": {"type": "tone", "line": "a", "phase": 1}}', "unknown field `phase`"),
        (b'{"name": "s", "body": {"type": "wait", "duration": 1}, "version": 2}', "reads version 1"),
        (
            b'{"name": "s", "body": ' + b'{"type":"repeat","count":1,"body":' * 9000,
            "nested too deeply|truncated",
        ),
    ],
)
def test_what_is_no_schedule_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(ScheduleError, match=text):
        from_json(data)


@given(straight_items)
def test_duration_is_the_length_of_the_timeline(item: Item) -> None:
    assert duration(item) == flatten(item)[0].total_ps


def test_duration_of_what_depends_on_what_happens() -> None:
    even = Branch("r", {"0": Wait(5), "1": Wait(5)})
    assert duration(Repeat(3, even)) == 15
    assert duration(Series((Wait(1), Branch("r", {"0": Wait(5), "1": Wait(6)})))) is None
    assert duration(Draw("r", (1.0,))) == 0


def test_json_schema_describes_every_item() -> None:
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    definitions = schema["$defs"]
    tags = {
        d["properties"]["type"]["enum"][0] for d in definitions.values() if "type" in d.get("properties", {})
    }
    assert tags == {kind.__struct_config__.tag for kind in get_args(Item)}
    assert definitions["Pulse"]["required"] == ["type", "line", "duration"]
    assert definitions["Pulse"]["additionalProperties"] is False


def test_a_schedule_read_back_has_the_same_problems() -> None:
    schedule = Schedule("s", Series((Pulse("a", -1), Repeat(0, Wait(1)))))
    assert check(from_json(to_json(schedule)), {}) == check(schedule, {})


def test_the_published_schema_is_that_of_the_items() -> None:
    """Written with `labctl check --schema > docs/schedule.schema.json`; the version of schedules stands in it."""
    published = Path(__file__).parents[2] / "docs" / "schedule.schema.json"
    assert published.read_text() == schema_text()
    version = json.loads(published.read_text())["$defs"]["Schedule"]["properties"]["version"]
    assert version["const"] == SCHEDULE_VERSION
