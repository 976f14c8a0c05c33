"""From spools, vibrations and lasers to the phase that the photons see, with the fibre lock on and off (PHYSICS 5)."""

import dataclasses
import math

import numpy as np
import pytest
from world_lab import values

from simulated_hw.world import parameters
from simulated_hw.world.fibre_phase import ArmPhase, leak, raw_diffusion_rad2_per_s, regime
from simulated_hw.world.parts_lock import FibreLock

P = parameters.parse(values())[0]
NODES = (P.alice, P.bob)
SIGNAL_M = 1550e-9


def arms(km: float) -> tuple[parameters.Node, parameters.Node]:
    half = [dataclasses.replace(node, arm_length_m=km * 500) for node in NODES]
    return half[0], half[1]


def test_the_lock_leaves_its_wavelengths_share_of_the_thermal_drift() -> None:
    assert leak(P.phase, SIGNAL_M) == pytest.approx(1.29e-3, rel=1e-2)
    free, locked = (regime(P.phase, NODES, SIGNAL_M, on) for on in (False, True))
    assert free.ramp_rad_per_s == pytest.approx(7.5, rel=0.01)  # 4.5e5 rad/K at 1 mK/min
    assert locked.ramp_rad_per_s == pytest.approx(9.6e-3, rel=0.02)
    assert regime(P.phase, arms(101), SIGNAL_M, True).ramp_rad_per_s == pytest.approx(97e-3, rel=0.02)


def test_spooled_fibre_drifts_as_published() -> None:
    rate = {km: math.sqrt(raw_diffusion_rad2_per_s(P.phase, km * 1e3) / 1e-3) for km in (100, 550)}
    assert rate[100] == pytest.approx(2400)
    assert rate[550] == pytest.approx(6000, rel=0.07)


@pytest.mark.parametrize(("km", "lowest", "highest"), [(10, 1, 50), (101, 1, 50)])
def test_behind_the_lock_the_walk_is_that_of_the_lasers(km: float, lowest: float, highest: float) -> None:
    free, locked = (regime(P.phase, arms(km), SIGNAL_M, on) for on in (False, True))
    lasers = 2 * math.pi * P.phase.laser_linewidth_hz
    assert lowest < locked.diffusion_rad2_per_s < highest
    assert locked.diffusion_rad2_per_s == pytest.approx(lasers, rel=2e-3)
    assert free.diffusion_rad2_per_s == pytest.approx(lasers + 57.6 * km)


def test_the_lock_follows_its_loop_equation() -> None:
    """x' = raw' - bandwidth (x + noise), integrated in small steps: jitter and vibrations as derived."""
    rng = np.random.default_rng(2)
    step, steps = 2e-7, 400_000
    bandwidth = 2 * math.pi * P.phase.lock_bandwidth_hz
    raw = raw_diffusion_rad2_per_s(P.phase, 1e4)
    times = np.arange(steps) * step
    vibration = 1.0 * np.sin(2 * math.pi * 600.0 * times)  # 1 rad: 10 km at 0.1 rad/km
    kicks = rng.standard_normal(steps) * math.sqrt(raw * step)
    noise = rng.standard_normal(steps) * P.phase.lock_noise_rad * math.sqrt(2 / (bandwidth * step))
    push = kicks + np.diff(vibration, prepend=0.0) - bandwidth * step * noise
    keep = 1 - bandwidth * step
    found = np.empty(steps)
    x = 0.0
    for k, one in enumerate(push.tolist()):
        x = x * keep + one
        found[k] = x
    found = found[steps // 20 :]
    when = times[steps // 20 :]
    louder = dataclasses.replace(P.phase.acoustic_2, rad_per_km=0.1)
    locked = regime(dataclasses.replace(P.phase, acoustic_2=louder), NODES, SIGNAL_M, True)
    tone = 2 * np.mean(found * np.exp(-2j * math.pi * 600.0 * when))
    left = locked.swings[1]
    assert abs(tone) == pytest.approx(left.amplitude_rad, rel=0.1)
    sine = tone * 1j  # a sin(wt + s) has amplitude -i a exp(i s) / 2
    assert np.angle(sine) == pytest.approx(left.start_rad, abs=0.15)
    assert np.std(found - np.real(tone * np.exp(2j * math.pi * 600.0 * when))) == pytest.approx(
        locked.jitter_rad, rel=0.05
    )
    assert locked.jitter_time_s == pytest.approx(1 / bandwidth)


def test_unlocked_it_walks_as_the_bare_fibre_and_locks_again() -> None:
    phase = ArmPhase(P.phase, NODES, SIGNAL_M, np.random.default_rng(1), np.random.default_rng(2))
    phase.advance(1.0)
    locked = phase.walk.regime
    phase.lock.unlock()
    phase.advance(2.0)
    assert phase.walk.regime.diffusion_rad2_per_s > 100 > locked.diffusion_rad2_per_s
    phase.advance(20.0)
    assert not phase.lock.locked  # it does not come back by itself
    phase.lock.enabled = False
    phase.lock.enabled = True
    phase.advance(21.0)
    phase.advance(21.1)
    assert not phase.lock.locked and not phase.lock.steady()
    phase.advance(22.0)
    assert phase.lock.locked and phase.lock.steady()
    assert phase.walk.regime is locked


def test_a_lock_that_begins_off_is_off() -> None:
    lock = FibreLock(enabled=False)
    lock.advance(5.0)
    assert not lock.locked and lock.steady()
