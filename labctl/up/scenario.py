"""Scenarios of faults: a TOML file that says what breaks when, played against a simulated lab that is up.

    [[fault]]
    at_s = 10.0
    device = "alice.oven"
    kind = "silent"
    for_s = 5.0

Times are real seconds after the scenario begins. ``for_s`` ends a fault of the wire; an instrument's own fault
(``unlock``) happens once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from labctl.clock import SystemClock
from labctl.config import read_toml
from labctl.errors import ConfigError
from labctl.sim.faults import KINDS


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[[fault]]`` table.

    at_s:    when, s after the scenario begins
    kind:    of labctl.sim.faults.KINDS, or one of the instrument's own
    amount:  seconds or a count, as the kind says
    for_s:   how long, s; 0: until it is cleared
    """

    at_s: float
    device: str
    kind: str
    amount: float = 1.0
    for_s: float = 0.0


class _File(msgspec.Struct, forbid_unknown_fields=True):
    fault: list[Fault]


class Caller(Protocol):
    """What a scenario needs of a client."""

    def call(self, name: str, /, *arguments: object) -> object:
        """Run an action of a service."""
        ...


def load(path: Path) -> list[Fault]:
    """The faults of a scenario file, in order of time; ConfigError names the file and what is wrong."""
    try:
        found = msgspec.convert(read_toml(path), _File, strict=True).fault
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}; see `labctl fault --help`") from None
    for number, one in enumerate(found, 1):
        if one.at_s < 0 or one.for_s < 0:
            raise ConfigError(f"{path} fault {number} ({one.device} {one.kind}): times cannot be negative")
        if one.for_s and one.kind not in KINDS:
            raise ConfigError(
                f"{path} fault {number}: {one.kind} of {one.device} is the instrument's own and has no end; leave out for_s"
            )
    return sorted(found, key=lambda one: one.at_s)


def play(client: Caller, faults: list[Fault], stop: threading.Event, echo: Callable[[str], None]) -> None:
    """Switch the faults on and off at their times; what is still on at the end, or when ``stop`` is set, is cleared if it had an end."""
    steps = [(one.at_s, True, one) for one in faults]
    steps += [(one.at_s + one.for_s, False, one) for one in faults if one.for_s]
    steps.sort(key=lambda step: step[0])
    clock = SystemClock()
    began = clock.now()
    lasting: list[Fault] = []
    try:
        for when, begins, one in steps:
            if stop.wait(max(0.0, began + when - clock.now())):
                return
            if begins:
                client.call("world.fault", one.device, one.kind, one.amount)
                lasting += [one] if one.for_s else []
            else:
                client.call("world.clear", one.device, one.kind)
                lasting.remove(one)
            echo(f"{when:7.1f} s  {one.device} {one.kind} {'on' if begins else 'off'}")
    finally:
        for one in lasting:
            client.call("world.clear", one.device, one.kind)
