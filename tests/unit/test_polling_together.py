"""Signals that are due together are read together: in one message where the driver can, with room for requests in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from labctl.bus.leases import Leases
from labctl.bus.owner import DeviceLane, HostedDevice
from labctl.clock import VirtualClock
from labctl.device import Device, action
from labctl.errors import BadAnswerError, NoAnswerError
from labctl.signal import Signal
from labctl.transport import Transport, connect


class Box(Device):
    """Six signals; keeps a diary of what is asked of it."""

    diary: list[str]
    fails: BaseException | None = None
    a, b, c, d, e, f = (
        Signal(int, read=lambda box, n=n: box.ask("abcdef"[n]), poll_s=0.1, doc="") for n in range(6)
    )

    def __init__(self, transport: Transport, name: str = "") -> None:
        super().__init__(transport, name)
        self.diary = []
        self.known: set[str] = set()

    def open(self) -> None: ...

    def close(self) -> None: ...

    def ask(self, name: str) -> int:
        if name not in self.known:
            self.diary.append(name)
        return 1

    def ask_ahead(self, names: Sequence[str]) -> None:
        if self.fails is not None:
            raise self.fails
        self.diary.append("".join(names))
        self.known = {*names}

    def forget(self) -> None:
        self.known = set()

    @action
    def safe(self) -> None:
        """Nothing to do."""


class Bench:
    def __init__(self) -> None:
        self.clock = VirtualClock(5.0)
        self.told: dict[str, Any] = {}
        self.box = Box(connect("tcp://127.0.0.1:1", "alice.box", 1.0), "alice.box")
        self.lane = DeviceLane(
            HostedDevice("alice.box", lambda: self.box),
            "tcp://127.0.0.1:0",
            Leases(self.clock),
            lambda topic, payload: self.told.update({topic: payload}),
            clock=self.clock,
        )

    def go_on(self, seconds: float) -> list[str]:
        """Let the lane work for a while; what was asked of the box."""
        until = self.clock.now() + seconds
        while (wait_s := self.lane.work()) <= 0 or self.clock.now() < until:
            self.clock.advance(max(0.0, min(wait_s, until - self.clock.now())))
        said = [*self.box.diary]
        self.box.diary.clear()
        return said


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.lane.close()


def test_one_message_for_each_time_they_are_due(bench: Bench) -> None:
    bench.go_on(0.05)
    assert bench.go_on(0.4) == ["abcdef"] * 4


def test_what_spoils_the_message_leaves_the_signals_to_themselves(bench: Bench) -> None:
    bench.box.fails = BadAnswerError("alice.box: nonsense")
    bench.go_on(0.05)
    assert bench.go_on(0.1) == [*"abcdef"]
    bench.box.fails = ZeroDivisionError()  # a mistake in the driver
    assert bench.go_on(0.1) == [*"abcdef"]
    assert bench.lane.state().state == "ready"
    bench.box.fails = None
    assert bench.go_on(0.1) == ["abcdef"]


def test_no_answer_to_the_message_means_that_it_is_lost(bench: Bench) -> None:
    bench.go_on(0.05)
    bench.box.fails = NoAnswerError("alice.box: silent")
    assert bench.go_on(0.1) == []
    assert bench.told["device.alice.box"]["state"] == "lost"
    assert "silent" in bench.told["device.alice.box"]["reason"]


def test_nothing_is_kept_between_polls(bench: Bench) -> None:
    bench.go_on(0.05)
    assert bench.box.known == set()
