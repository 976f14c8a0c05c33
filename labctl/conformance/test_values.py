"""Signals read and written on an instrument that is well; safe(); identity."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.conformance.recording import Wire
from labctl.conformance.tried import MOST_STEPS, Standing, Tried, alike, is_of_kind, listed, near
from labctl.device import Device
from labctl.errors import DeviceError, LimitError

OFF_WHEN_SAFE = ("output", "emission")
"""Switches whose names begin so are off after safe()."""
MOST_TOGETHER = 4
"""So many signals are read together."""
FEW_STEPS = 3
"""After so many looks in vain every switch is put on: an oven that is off does not warm up."""


def test_it_says_who_it_is(standing: Standing) -> None:
    """``identity`` is one line of text."""
    identity = standing.device.identity()
    assert identity.strip() and identity.isprintable()


def test_a_signal_reads_as_its_kind(standing: Standing, readable: str) -> None:
    """Type as declared, one of the choices, finite."""
    signal = standing.device.signal(readable)
    value = signal.get()
    assert is_of_kind(value, signal.signal), f"{value!r} is a {type(value).__name__}"
    assert signal.signal.choices is None or value in signal.signal.choices
    assert value == value, "not a number is no value: raise an error that says why there is none"


def test_signals_read_together_show_what_they_show_alone(asked: Tried) -> None:
    """After ``ask_ahead`` each reads as it does alone, with no more questions; after ``forget`` it is asked for again."""
    wire, together = Wire(), dict[str, Any]()
    device = asked.open(wire=wire)
    steady = asked.steady(device)
    questions = asked.questions(wire, device, steady)
    alone = {name: steady[name] for name in questions[:MOST_TOGETHER]}

    def read(ahead: bool) -> None:
        if ahead:
            device.ask_ahead([*alone])
        together.update({name: device.signal(name).get() for name in alone})

    most = len(wire.sent_by(lambda: read(ahead=False)))
    for _ in range(2):  # what a driver learns in the first round it may use in the second
        assert len(wire.sent_by(lambda: read(ahead=True))) <= most, "asked together they take more questions"
        device.forget()
        changed = [name for name in alone if not alike(device, name, together[name], alone[name])]
        assert not changed, f"read together, {', '.join(changed)} show something else"
    for name in alone:
        assert wire.sent_by(device.signal(name).get), f"{name} shows what was asked before forget()"


def test_a_signal_shows_what_was_set(tried: Tried, writable: str) -> None:
    """After ``set``, ``get`` shows the value: at once, after a while, or a while after every switch is on."""
    device = tried.open()
    signal = device.signal(writable)
    limits = signal.limits
    span = limits[1] - limits[0] if limits else 0.0
    for wanted in _inside(signal.get(), signal.signal.kind, limits, signal.signal.choices):
        signal.set(wanted)
        step_s, got = 0.1, signal.get()
        for steps in range(MOST_STEPS):
            if near(got, wanted, signal.signal, span):
                break
            if steps == FEW_STEPS:
                _all_on(device)
            tried.clock.advance(step_s)
            tried.wait(0.02)
            step_s, got = step_s * 1.1, signal.get()
        assert near(got, wanted, signal.signal, span), f"{writable} was set to {wanted!r} and shows {got!r}"


def test_safe_works_from_any_state_and_twice(tried: Tried) -> None:
    """Fresh, with every switch on, on a connection that has gone, after silence; the second time changes nothing."""
    device = tried.open()
    device.safe()
    _all_on(device)
    device.safe()
    _is_safe(device)
    before = _switches(device)
    device.safe()
    assert _switches(device) == before, "the second safe() changed something"
    _all_on(device)
    device.transport.close()
    device.safe()
    _is_safe(device)
    _all_on(device)
    tried.fault("silent")
    with pytest.raises(DeviceError):
        _ask_something(device)
    tried.cure()
    device.safe()
    _is_safe(device)


def test_closing_leaves_the_instrument_as_it_is(tried: Tried) -> None:
    """``close`` lets go of the connection and of nothing else."""
    device = tried.open()
    _all_on(device)
    before = _switches(device)
    device.close()
    assert _switches(tried.open()) == before


def _inside(present: Any, kind: Any, limits: tuple[float, float] | None, choices: Any) -> list[Any]:
    """Values to set: both of a switch, every choice, two inside the limits, or near the present one without any."""
    if choices is not None:
        return [*choices]
    if kind is bool:
        return [not present, present]
    if kind is str:
        return [present]
    items = listed(present)
    if limits is not None:
        low, high = limits
        numbers: list[list[float]] = [[low + part * (high - low)] * len(items) for part in (0.25, 0.75)]
    else:
        numbers = [[*items], [1.05 * item for item in items]]
    typed = [[round(number) if kind is int else float(number) for number in row] for row in numbers]
    return typed if isinstance(present, list) else [row[0] for row in typed]


def _switches(device: Device) -> dict[str, bool]:
    found = type(device).signals.items()
    return {name: device.signal(name).get() for name, one in found if one.kind is bool and one.write}


def _all_on(device: Device) -> None:
    """Every switch on, as far as driver and instrument allow it."""
    for name in _switches(device):
        try:
            device.signal(name).set(True)
        except LimitError:
            continue  # a switch that the driver refuses in this state


def _is_safe(device: Device) -> None:
    on = [name for name, value in _switches(device).items() if value and name.startswith(OFF_WHEN_SAFE)]
    assert not on, f"still on after safe(): {', '.join(on)}"


def _ask_something(device: Device) -> None:
    """Read every signal; at least one goes over the wire."""
    for name in type(device).signals:
        device.signal(name).get()
