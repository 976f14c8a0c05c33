import math
from itertools import pairwise

import numpy as np
import pytest

from simulated_hw.world.counters import ClickCounters
from simulated_hw.world.parts import Nanowire, RfChannel, Tagger


def chunk(first: int, n: int, channel: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(first, first + n, dtype=np.int64), np.full(n, channel, np.int64)


def test_tags_come_sorted_and_as_plain_integers() -> None:
    tagger = Tagger(4, lambda: [0] * 4)
    tagger.record_many(np.array([30, 10], np.int64), np.array([1, 0], np.int64))
    tagger.record(20, 2)
    assert tagger.tags == [(10, 0), (20, 2), (30, 1)]
    assert type(tagger.tags[0][0]) is int
    kept = tagger.tags[-1]
    tagger.record(40, 0)
    assert tagger.tags[2] is kept  # readers find their place by the last tag they saw
    assert tagger.tags[-1] == (40, 0)


@pytest.mark.parametrize("read", [False, True])
def test_the_oldest_tags_are_forgotten(read: bool) -> None:
    tagger = Tagger(4, lambda: [0] * 4, most_tags=1000)
    for k in range(50):
        tagger.record_many(*chunk(100 * k, 100))
        if read:
            assert len(tagger.tags) <= 1000
    assert 400 <= len(tagger.tags) <= 1000
    assert tagger.tags[-1] == (4999, 0)
    assert [t for t, _ in tagger.tags] == list(range(5000 - len(tagger.tags), 5000))


def test_one_chunk_larger_than_the_memory() -> None:
    tagger = Tagger(4, lambda: [0] * 4, most_tags=100)
    tagger.record_many(*chunk(0, 500))
    assert tagger.tags[-1] == (499, 0)
    assert len(tagger.tags) <= 100


def test_a_nanowire_needs_bias_below_critical_and_a_level_that_fits() -> None:
    wire = Nanowire(bias_a=20e-6, trigger_v=0.1, enabled=True, peak_efficiency=0.85)
    assert wire.efficiency() == pytest.approx(0.85)
    for change in (
        {"bias_a": 0.0},
        {"bias_a": 25e-6},
        {"trigger_v": 0.0},
        {"trigger_v": 0.31},
        {"enabled": False},
        {"latched": True},
    ):
        kept = {name: getattr(wire, name) for name in change}
        for name, value in change.items():
            setattr(wire, name, value)
        assert wire.efficiency() == 0.0, change
        for name, value in kept.items():
            setattr(wire, name, value)


def test_an_aom_channel_diffracts_as_sine_squared_within_its_band() -> None:
    channel = RfChannel(power_dbm=30.0, signal_on=True, amplifier_on=True)
    assert channel.relative_power() == pytest.approx(1.0)
    channel.power_dbm = 30.0 + 20 * math.log10(0.5)
    assert channel.relative_power() == pytest.approx(0.5)
    channel.frequency_hz += 10e6
    assert channel.relative_power() == pytest.approx(0.25)
    channel.amplifier_on = False
    assert channel.relative_power() == 0.0


def test_clicks_between_times_add_up_when_asked_at_exact_times():
    counters = ClickCounters(np.random.default_rng(1), 1)
    edges = [0, 10**12, 2 * 10**12, 3 * 10**12]
    counters.add(0, 7)
    counters.advance(edges[1], (50.0,))
    counters.add(0, 1000)  # a gate at the very time at which somebody asks
    seen = [counters.between(edges[0], edges[1], 1)[0]]
    counters.advance(edges[2], (50.0,))
    counters.advance(edges[3], (50.0,))
    seen += [counters.between(a, b, 1)[0] for a, b in pairwise(edges[1:])]
    assert sum(seen) == counters.counts()[0] == counters.between(edges[0], edges[3], 1)[0]
    assert seen[0] < 1000 < seen[1]
