"""The second 729 nm line of the world: where it is, what a pulse there does, and what it leaves alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from world_lab import VALUES, pulse
from world_lab import values as powered_up

from simulated_hw.world import ion
from simulated_hw.world.ion import LEVELS, D, IonPair, S, X
from simulated_hw.world.light import Beam, Bench, NodeLight
from simulated_hw.world.parameters import parse
from simulated_hw.world.second_line import driven, exchange

P, _ = parse(VALUES)
FIELD_T = 1.8e-4
APART_HZ = (5.612e9 + 27.988e9) * FIELD_T
LIGHT = NodeLight(*(Beam(1.0, 0.0) for _ in range(7)), field_t=FIELD_T)
PI = math.pi / 10e-6
SECOND_PI_PS = round(10_000_000 / 0.6)


def populations(channel: ion.State, start: int) -> list[float]:
    pair = IonPair()
    state = np.zeros_like(pair.state)
    state[start, S] = 1.0
    pair.set(state)
    pair.apply(0, channel)
    return pair.populations(0).tolist()


def test_a_pulse_on_the_second_line_moves_s_to_another_state_of_d52() -> None:
    tone = pulse("alice.qubit_729", 0, SECOND_PI_PS, hz=APART_HZ)
    channel = driven(tone, PI, 0.0, LIGHT, P)
    assert channel is not None
    moved = populations(channel, S)
    assert moved[X] == pytest.approx(1 - P.qubit.pi_infidelity, abs=1e-6)
    assert moved[D] == 0.0
    assert populations(channel, D)[D] == 1.0
    back = populations(channel @ channel, S)
    assert back[S] == pytest.approx(1 - 2 * P.qubit.pi_infidelity, abs=1e-4)


def test_the_second_line_moves_with_the_field_and_its_noise() -> None:
    far = pulse("alice.qubit_729", 0, 500_000_000, amplitude=1 / 30, hz=APART_HZ + 5_612.0)
    weak = PI / 30
    here = driven(far, weak, 0.0, LIGHT, P)
    there = driven(far, weak, 0.0, LIGHT._replace(field_t=FIELD_T + 5_612.0 / 33.6e9), P)
    noisy = driven(far, weak, -27.988e9 * 1e-6 * 500e-6, LIGHT, P)  # 1 uT of noise: 5.612 kHz on this line
    assert here is not None and there is not None and noisy is not None
    assert populations(here, S)[X] < 0.1
    assert populations(there, S)[X] > 0.98
    assert populations(noisy, S)[X] > 0.98


def test_a_pulse_near_the_qubit_line_is_not_its_business() -> None:
    assert driven(pulse("alice.qubit_729", 0, 10_000_000), PI, 0.0, LIGHT, P) is None
    assert driven(pulse("alice.qubit_729", 0, 10_000_000, hz=APART_HZ * 0.49), PI, 0.0, LIGHT, P) is None
    without = {name: table for name, table in VALUES.items() if name != "second_line"}
    alone, _ = parse(without)
    assert driven(pulse("alice.qubit_729", 0, 10_000_000, hz=APART_HZ), PI, 0.0, LIGHT, alone) is None


@given(st.floats(0, 1))
def test_the_exchange_keeps_states_states(share: float) -> None:
    channel = exchange(share)
    assert channel[:LEVELS, :LEVELS].sum(axis=0).real == pytest.approx(np.ones(LEVELS))
    half = np.zeros(channel.shape[0], complex)
    half[[S, D, ion.SD, ion.DS]] = 0.5
    after = channel @ half
    assert abs(after[ion.SD]) ** 2 <= after[S].real * after[D].real + 1e-12


def test_the_bench_tells_the_field_at_the_ion() -> None:
    values, _ = parse(powered_up())
    bench = Bench("alice", values, lambda name: np.random.default_rng(1))
    assert bench.light().field_t == pytest.approx(FIELD_T)
    bench.coil.flowing_a = 1.6
    assert bench.light().field_t == pytest.approx(1.6 * 1.2e-4)
