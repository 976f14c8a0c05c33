"""The simulated NI card without its wire: names, clocks, edges, buffers."""

from __future__ import annotations

import itertools
import re
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nidaqmx.utils import unflatten_channel_string

from labctl.clock import VirtualClock
from simulated_hw.ni_daqmx_calls import coerced
from simulated_hw.ni_daqmx_card import (
    INPUT_RANGES_V,
    PHYSICAL,
    Card,
    Edges,
    External,
    Periodic,
    expand,
    input_range,
)
from simulated_hw.ni_daqmx_errors import TEXTS, Code, NiError
from simulated_hw.ni_daqmx_tasks import Acquired, Channel, Task, Timing
from simulated_hw.world.card_wiring import CardWiring

RATES = st.floats(0.01, 1e6)
TIMES = st.lists(st.floats(0.0, 50.0), min_size=1, max_size=12).map(sorted)


def make_card(**wiring: object) -> tuple[Card, VirtualClock]:
    clock = VirtualClock()
    return Card("Dev1", CardWiring(**wiring), clock.now, np.random.default_rng(2)), clock  # type: ignore[arg-type]


# names


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=5))
def test_ranges_mean_what_nidaqmx_says(ranges: list[tuple[int, int]]) -> None:
    text = ", ".join(f"Dev1/ai{a}" if a == b else f"Dev1/ai{a}:{b}" for a, b in ranges)
    assert expand(text) == unflatten_channel_string(text)


def test_names_of_channels() -> None:
    card, _ = make_card()
    assert card.physical("Dev1/ai0:2, dev1/AI5", "ai") == ["ai0", "ai1", "ai2", "ai5"]
    assert card.physical("/Dev1/ctr3", "ci") == ["ctr3"]
    assert card.physical("Dev1/port1", "do") == [f"port1/line{n}" for n in range(8)]
    assert card.physical("Dev1/port0/line2:0", "di") == ["port0/line2", "port0/line1", "port0/line0"]
    assert card.physical("Dev1/_ao0_vs_aognd", "ai") == ["_ao0_vs_aognd"]
    assert len(PHYSICAL["line"]) == 48
    assert card.terminal("/Dev1/pfi8") == "PFI8"
    assert card.terminal("Ctr1InternalOutput") == "Ctr1InternalOutput"


@given(st.text(max_size=30), st.sampled_from(["ai", "ao", "ci", "co", "di", "do"]))
def test_any_name_is_known_or_refused(text: str, kind: str) -> None:
    card, _ = make_card()
    for ask in (lambda: card.physical(text, kind), lambda: card.terminal(text)):
        try:
            assert ask()
        except NiError as error:
            assert error.code in (
                Code.INVALID_DEVICE,
                Code.NO_SUCH_CHANNEL,
                Code.INVALID_RANGE_SYNTAX,
                Code.INVALID_SAMPLE_CLOCK,
            )


def test_every_code_has_a_text() -> None:
    assert TEXTS.keys() == {*Code}


# clocks


@given(RATES, st.floats(0.0, 5.0), TIMES, st.none() | st.integers(0, 1000))
def test_ticks_are_the_same_however_time_is_cut(
    rate_hz: float, start_s: float, cuts: list[float], limit: int | None
) -> None:
    clock = Periodic(start_s, rate_hz, limit)
    whole, total = clock.ticks(-np.inf, cuts[-1], 5000)
    pieces: list[float] = []
    counted = 0
    before_s = -np.inf
    for cut in cuts:
        times, due = clock.ticks(before_s, cut, 5000)
        pieces += times.tolist()
        counted += due
        before_s = cut
    assert counted == total == clock.count(cuts[-1])
    assert pieces[: len(whole)] == whole.tolist()
    assert (np.diff(whole) > 0).all()


def test_a_click_is_a_tick_for_nobody_but_once() -> None:
    clock = External(lambda a, b: np.arange(int(a) + 1.0, int(b) + 1.0))
    assert clock.ticks(0.0, 3.5, 10)[0].tolist() == [1.0, 2.0, 3.0]
    assert clock.ticks(0.0, 3.5, 2)[1] == 3
    assert clock.ticks(3.5, 3.5, 10)[1] == 0


@given(st.floats(1.0, 5e7))
def test_rates_are_divided_from_the_timebase(rate_hz: float) -> None:
    divisor = 100e6 / coerced(rate_hz)
    assert divisor == pytest.approx(round(divisor), rel=1e-12)
    assert abs(coerced(rate_hz) - rate_hz) <= 0.5 * rate_hz * coerced(rate_hz) / 100e6 * (1 + 1e-6) + 1e-9
    assert coerced(coerced(rate_hz)) == coerced(rate_hz)


# edges


@given(st.lists(st.floats(0.0, 0.3), min_size=1, max_size=6).map(sorted), st.booleans())
def test_no_edge_is_lost_or_counted_twice(cuts: list[float], timed: bool) -> None:
    asked: list[tuple[float, float]] = []

    def clicks(after_s: float, until_s: float) -> int:
        asked.append((after_s, until_s))
        return int(until_s * 9999) - int(after_s * 9999)

    edges = Edges(clicks, None)
    rng = np.random.default_rng(0)
    before_s = 0.0
    for cut in cuts:
        if cut > before_s:
            edges.step(before_s, cut, rng, timed)
            assert edges.total == int(cut * 9999)
            if timed:
                middle = np.linspace(before_s, cut, 7)
                seen = edges.at(middle)
                assert (np.diff(seen) >= 0).all()
                assert (seen[0], seen[-1]) == (int(before_s * 9999), edges.total)
            before_s = cut
    assert all(until == later for (_, until), (later, _) in itertools.pairwise(asked))


def test_clicks_keep_the_time_of_their_rate() -> None:
    """A burst of 10 ms within a second is found where it was."""
    card, clock = make_card(clicks={"PFI8": lambda a, b: 1000 if a < 0.5 <= b else 0})
    task = Task("t", card)
    task.add("ci", [Channel("c", ("ctr0",), terminal="PFI8")])
    task.configure(Timing(1000.0, False, 2000, "PFI9"))
    card.wiring.clocks["PFI9"] = lambda a, b: np.arange(int(a * 1000) + 1, int(b * 1000) + 1) / 1000
    task.start()
    clock.advance(1.0)
    card.advance()
    counts = task.acquired.take(task.acquired.available)[0]
    assert counts[496] == 0
    assert counts[502] == 1000


# voltages


@given(st.floats(-12.0, 12.0), st.sampled_from(INPUT_RANGES_V))
def test_inputs_have_sixteen_bits_and_clip(volts: float, range_v: float) -> None:
    card, _ = make_card(voltages={"ai0": lambda t: np.full(len(t), volts)})
    seen = card.measure("ai0", np.zeros(64), -range_v, range_v)
    step_v = range_v / 32768
    assert np.abs(seen / step_v - np.rint(seen / step_v)).max() < 1e-6
    assert (np.abs(seen) <= range_v).all()
    assert np.abs(seen.mean() - np.clip(volts, -range_v, range_v)) < 400e-6


def test_the_narrowest_range_is_taken() -> None:
    assert [INPUT_RANGES_V[input_range(-v, v)] for v in (0.05, 0.1, 0.11, 5.0, 10.0)] == [
        0.1,
        0.1,
        0.2,
        5.0,
        10.0,
    ]
    with pytest.raises(NiError, match=re.escape("Maximum Value: 10")):
        input_range(-10.5, 1.0)


# buffers


@given(st.lists(st.integers(1, 20), max_size=10), st.lists(st.integers(0, 30), max_size=10))
def test_samples_leave_the_buffer_in_order(chunks: list[int], reads: list[int]) -> None:
    acquired = Acquired(1000)
    for length in chunks:
        first = acquired.total
        acquired.chunks.append(np.arange(first, first + length, dtype=float)[np.newaxis, :])
        acquired.total += length
    taken: deque[float] = deque()
    for count in reads:
        taken += acquired.take(min(count, acquired.available)).ravel().tolist()
    assert list(taken) == list(range(len(taken)))
    assert acquired.read == len(taken)


def test_a_long_leap_of_time_fills_no_memory() -> None:
    card, clock = make_card()
    task = Task("t", card)
    task.add("ai", [Channel("a", ("ai0",), low=-1.0, high=1.0)])
    task.configure(Timing(1e6, False, 1000))
    task.start()
    clock.advance(1e6)
    card.advance()
    assert task.acquired.overrun
    assert task.acquired.total == task.buffer() == 100_000


def test_a_leap_while_counting_is_taken_in_steps() -> None:
    lengths: list[float] = []

    def clicks(after_s: float, until_s: float) -> int:
        lengths.append(until_s - after_s)
        return 10

    card, clock = make_card(clicks={"PFI8": clicks})
    card.wiring.clocks["PFI9"] = lambda a, b: np.arange(int(a) + 1.0, int(b) + 1.0)
    task = Task("t", card)
    task.add("ci", [Channel("c", ("ctr0",), terminal="PFI8")])
    task.configure(Timing(1.0, True, 3, "PFI9"))
    task.start()
    clock.advance(1000.0)
    card.advance()
    assert task.done()
    assert task.acquired.take(3)[0].tolist() == pytest.approx([10_000, 20_000, 30_000], rel=0.05)
    assert sorted(lengths)[-1] > 990.0  # nobody samples any more: the rest at once
    assert sorted(lengths)[-2] < 0.0011


def test_reservations_are_all_or_nothing() -> None:
    card, _ = make_card()
    one, other = Task("one", card), Task("other", card)
    one.add("do", [Channel("a", ("port0/line1",))])
    other.add("do", [Channel("b", ("port0/line0", "port0/line1"))])
    one.keep()
    with pytest.raises(NiError) as caught:
        other.keep()
    assert caught.value.code == Code.RESERVED
    assert card.reserved == {"port0/line1": one}
    one.clear()
    other.keep()
    assert card.reserved == {"port0/line0": other, "port0/line1": other}
