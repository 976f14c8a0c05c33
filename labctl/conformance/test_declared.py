"""What a driver says of itself: manual, signals, limits; and that making one touches nothing."""

from __future__ import annotations

import math
import threading

import pytest

from labctl.conformance.recording import Wire
from labctl.conformance.tried import Choice, Standing, Tried
from labctl.errors import LimitError

SHORTEST_POLL_S = 0.01
OF_ANOTHER_KIND = {float: "warm", int: 0.5, bool: 2.5, str: 7}


def test_it_names_its_manual_and_what_it_was_checked_with(choice: Choice) -> None:
    """``manual`` and ``checked_with`` are sentences, not empty."""
    assert len(choice.driver.manual) >= 10, "manual: name the manual or source the driver follows"
    assert len(choice.driver.checked_with) >= 10, (
        "checked_with: name the client or instrument it was checked against"
    )


def test_it_says_how_it_is_made_safe(choice: Choice) -> None:
    """``safe`` is the driver's own, and says what it does."""
    assert choice.driver.safe.__qualname__ != "Device.safe", "define safe()"
    assert choice.driver.actions["safe"], "safe() needs a docstring: what is off afterwards"


def test_making_one_opens_nothing(asked: Tried) -> None:
    """Connections and threads begin with ``open()``."""
    wire, threads = Wire(), threading.active_count()
    asked.device(wire=wire)
    assert (wire.opened, wire.sent, threading.active_count()) == (0, [], threads)


def test_a_signal_says_what_it_is(choice: Choice, readable: str) -> None:
    """Documentation, and unit, choices, tolerance and poll period that make sense."""
    signal = choice.driver.signals[readable]
    assert signal.doc.strip(), "doc: say in a few words what it is"
    assert not (signal.kind in (bool, str) and signal.unit), (
        f"unit {signal.unit!r} of something that is no number"
    )
    assert signal.unit not in ("mA", "mV", "mW", "nm", "degC", "C", "MHz", "kHz", "GHz", "ms", "us", "ns"), (
        "unit: SI, without prefix"
    )
    assert signal.tolerance is None or signal.tolerance > 0
    assert signal.poll_s is None or signal.poll_s >= SHORTEST_POLL_S
    assert signal.choices is None or len(set(signal.choices)) == len(signal.choices) > 0


def test_limits_are_a_range(standing: Standing, choice: Choice, readable: str) -> None:
    """Lowest below highest, both finite, of numbers only."""
    limits = standing.device.signal(readable).limits
    if limits is None:
        return
    assert choice.driver.signals[readable].kind not in (bool, str)
    low, high = limits
    assert math.isfinite(low) and math.isfinite(high) and low < high


def test_what_is_outside_the_limits_is_refused_before_a_byte_moves(standing: Standing, writable: str) -> None:
    """Nothing is sent but, where the limits are the instrument's, the question for them."""
    wire, signal = standing.wire, standing.device.signal(writable)
    declared = signal.signal
    signal.limits  # noqa: B018  (asks now what is asked once)
    asking = wire.sent_by(lambda: signal.limits)
    wrong: list[object] = [OF_ANOTHER_KIND.get(declared.kind, "none")]
    if declared.kind is float:
        wrong += [math.nan, math.inf, -math.inf]
    if declared.choices is not None and declared.kind is str:
        wrong.append("no such choice")
    if signal.limits is not None:
        low, high = signal.limits
        step = 1 if declared.kind is int else max(abs(low), abs(high), high - low)
        outside = [low - step, high + step]
        if declared.kind is int:
            outside = [math.ceil(low) - 1, math.floor(high) + 1]
        wrong += outside if declared.kind in (float, int) else [[value] for value in outside]

    def refused(value: object) -> None:
        with pytest.raises(LimitError):
            signal.set(value)

    for value in wrong:
        sent = wire.sent_by(lambda value=value: refused(value))
        assert len(sent) <= len(asking), f"{writable} = {value!r} was refused after {sent!r} had been sent"
