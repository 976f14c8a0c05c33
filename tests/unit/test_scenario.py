"""Scenario files: read strictly, played in order, cleared at the end."""

import threading
from pathlib import Path

import pytest

from labctl.errors import ConfigError
from labctl.up.scenario import Fault, load, play


class Recorder:
    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def call(self, name: str, /, *arguments: object) -> object:
        self.calls.append((name, *arguments))
        return None


def test_faults_come_and_go_in_order(tmp_path: Path):
    (tmp_path / "s.toml").write_text(
        '[[fault]]\nat_s = 0.05\ndevice = "a.b"\nkind = "unlock"\n[[fault]]\nat_s = 0.0\ndevice = "c.d"\nkind = "late"\namount = 0.5\nfor_s = 0.02\n'
    )
    faults = load(tmp_path / "s.toml")
    assert [one.kind for one in faults] == ["late", "unlock"]
    lab, said = Recorder(), list[str]()
    play(lab, faults, threading.Event(), said.append)
    assert lab.calls == [
        ("world.fault", "c.d", "late", 0.5),
        ("world.clear", "c.d", "late"),
        ("world.fault", "a.b", "unlock", 1.0),
    ]
    assert len(said) == 3


def test_stopping_clears_what_had_an_end():
    lab, stop = Recorder(), threading.Event()

    def say(_: str) -> None:
        stop.set()

    play(lab, [Fault(0.0, "a.b", "silent", 1.0, 60.0), Fault(30.0, "a.b", "drop")], stop, say)
    assert lab.calls == [("world.fault", "a.b", "silent", 1.0), ("world.clear", "a.b", "silent")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[fault]]\nat_s = 1.0\ndevice = "a.b"\n', "missing required field `kind`"),
        ('[[fault]]\nat_s = 1.0\ndevice = "a.b"\nkind = "silent"\nforever = 1\n', "unknown field `forever`"),
        ('[[fault]]\nat_s = -1.0\ndevice = "a.b"\nkind = "silent"\n', "cannot be negative"),
        ('[[fault]]\nat_s = 1.0\ndevice = "a.b"\nkind = "unlock"\nfor_s = 2.0\n', "leave out for_s"),
        ("fault = 3\n", "Expected `array`"),
    ],
)
def test_bad_scenarios_are_named(tmp_path: Path, text: str, says: str):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"s\.toml") as caught:
        load(tmp_path / "s.toml")
    assert says in str(caught.value)
