"""Calibrations of the ions on the simulated laboratory: they find the component values, and see what is changed."""

import math

import pytest
from calibration_parts import QUIET, agrees, take
from world_lab import VALUES

from labctl.analysis.readout import best_threshold
from labctl.analysis.value import Estimate
from sequences.drift import drift
from sequences.excitation import excitation
from sequences.lines_729 import lines_729
from sequences.pumping import pumping
from sequences.rabi import rabi
from sequences.ramsey import ramsey
from sequences.readout import readout
from sequences.shots import FIELD_T, TO_D52_M12_HZ_PER_T, TO_D52_M52_HZ_PER_T
from simulated_hw.world.laboratory import Laboratory

QUBIT_AOM = 1
"""Channel of a node's AOM driver for the 729 nm light, from 0."""


def value(name: str) -> float:
    table, key = name.split(".")
    return float(VALUES[table][key][0])


def qubit_laser(offset_hz: float, node: str = "alice"):
    """Move the 729 nm light of a node."""

    def disturb(world: Laboratory) -> None:
        channel = world.part(f"{node}.aom")[QUBIT_AOM]
        channel.frequency_hz = channel.nominal_frequency_hz + offset_hz

    return disturb


def test_rabi_finds_the_pi_time_and_sees_the_power() -> None:
    """The Rabi frequency goes with the root of the light's power, which an AOM with less RF lets through less of."""

    def weaken(world: Laboratory) -> None:
        world.part("bob.aom")[QUBIT_AOM].power_dbm -= 6.0

    taken = take(rabi(points=16, step=1_300_000), 560, disturb=weaken)
    share = taken.world.part("bob.aom")[QUBIT_AOM].relative_power()
    assert share < 0.9
    assert agrees(taken["pi_time_a"], value("qubit.pi_time_s"), within=1.5e-7)
    assert agrees(taken["pi_time_b"], value("qubit.pi_time_s") / math.sqrt(share), within=4e-7)
    assert taken["contrast_a"].value > 0.95


def test_rabi_loses_contrast_when_the_ion_is_hot() -> None:
    """Thermal motion spreads the Rabi frequency by η²√(n(n+1)): contrast exp(-(θ spread)²/2) at an angle θ."""
    hot = {
        "preparation.eit_quanta": 60.0,
        "preparation.doppler_quanta": 60.0,
        "preparation.cool_time_s": 1e-6,
    }
    spread = value("preparation.lamb_dicke") ** 2 * math.sqrt(60 * 61)
    taken = take(rabi(points=7, step=10_000_000), 300, changes=hot)
    late = [row["bright_a"] for _, _, row in taken.rows if row["point"] in (4, 6)]  # 4 π and 6 π
    expected = sum((1 + math.exp(-((k * math.pi * spread) ** 2) / 2)) / 4 for k in (4, 6))
    assert sum(late) / len(late) == pytest.approx(expected, abs=3.5 * 0.5 / math.sqrt(len(late)))
    assert expected < 0.85


def test_ramsey_finds_the_detuning_and_the_coherence_time() -> None:
    """Slow noise of rms σ makes T2* = √2/σ (PHYSICS.md 4)."""
    sigma_hz = 50.0
    slow = QUIET | {"qubit.line_noise_hz": sigma_hz, "qubit.line_noise_time_s": 0.03}
    taken = take(ramsey(), 720, changes=slow, disturb=qubit_laser(120.0))
    run_s = taken.rows[-1][1] / 1e12
    left_hz = sigma_hz * math.sqrt(
        2 * 0.03 / run_s
    )  # of the noise's mean over the run: not an error of the fit
    for node, there in (("a", 120.0), ("b", 0.0)):
        found = taken[f"detuning_{node}"]
        assert agrees(
            Estimate(found.value, math.hypot(found.standard_error, left_hz), "Hz"), there, within=18.0
        )
        assert agrees(taken[f"t2_{node}"], math.sqrt(2) / (2 * math.pi * sigma_hz), within=1e-3)
        assert taken[f"contrast_{node}"].value > 0.9


def test_ramsey_without_noise_keeps_its_contrast() -> None:
    taken = take(ramsey(waits=3, phases=3, longest=4_000_000_000), 180, changes=QUIET)
    assert agrees(taken["detuning_a"], 0.0, within=15.0)
    assert taken["t2_a"].value > 0.01


def test_drift_model_says_where_a_line_is_at_the_end() -> None:
    """A laser that moves, faster and faster."""

    def course(time_s: float) -> float:
        return -30.0 + 0.03 * time_s + 5e-4 * time_s**2

    def move(world: Laboratory, time_s: float) -> None:
        channel = world.part("alice.aom")[QUBIT_AOM]
        channel.frequency_hz = channel.nominal_frequency_hz + course(time_s)

    taken = take(drift(), 600, changes=QUIET, meanwhile=move)
    end_s = taken.rows[-1][1] / 1e12
    assert course(end_s) > 20
    assert agrees(taken["offset_a"], course(end_s), within=12.0)
    assert agrees(taken["drift_a"], 0.03 + 1e-3 * end_s, within=0.2)
    assert agrees(taken["offset_b"], 0.0, within=12.0)
    for node in "ab":
        assert taken[f"chi_squared_{node}"].value < 2.5


def test_two_lines_tell_field_and_laser_apart() -> None:
    """A moved laser moves both lines alike: the centre; a moved field moves them apart: the field, not the centre."""
    coil_a = 0.0002

    def disturb(world: Laboratory) -> None:
        qubit_laser(600.0)(world)
        coil = world.part("bob.coil")
        coil.limit_a += coil_a
        coil.flowing_a += coil_a

    taken = take(lines_729(points=11), 660, disturb=disturb)
    extra_t = coil_a * value("field.tesla_per_a")
    assert agrees(taken["line_1_a"], -600.0, within=60.0)
    assert agrees(taken["centre_a"], -600.0, within=60.0)
    assert agrees(taken["field_a"], FIELD_T, within=3e-9)
    assert agrees(taken["line_1_b"], extra_t * TO_D52_M52_HZ_PER_T, within=60.0)
    assert agrees(taken["field_b"], FIELD_T + extra_t, within=3e-9)
    assert agrees(taken["centre_b"], 0.0, within=60.0)
    apart = (TO_D52_M12_HZ_PER_T - TO_D52_M52_HZ_PER_T) * FIELD_T
    assert agrees(taken["line_2_a"], apart - 600.0, within=60.0)
    assert pytest.approx(value("field.line_hz_per_t")) == TO_D52_M52_HZ_PER_T
    assert pytest.approx(value("second_line.hz_per_t")) == TO_D52_M12_HZ_PER_T
    assert pytest.approx(value("field.coil_current_a") * value("field.tesla_per_a")) == FIELD_T


def test_readout_finds_the_counts_and_the_published_threshold() -> None:
    """20 and 0.3 counts in 0.5 ms: bright from 5, error 1.8e-4 (PHYSICS.md 1.5)."""
    taken = take(readout(), 500)
    dark = (value("readout.stray_hz") + value("readout.dark_hz")) * 500e-6
    for node in "ab":
        assert agrees(taken[f"bright_mean_{node}"], value("readout.bright_hz") * 500e-6 + dark, within=0.4)
        assert agrees(taken[f"dark_mean_{node}"], dark, within=0.05)
        assert agrees(taken[f"left_bright_{node}"], value("qubit.pi_infidelity"), within=0.01)
        assert abs(taken[f"threshold_{node}"].value - 5) <= 1  # the error is nearly the same at 5 and at 6
        assert taken[f"readout_error_{node}"].value == pytest.approx(1.8e-4, rel=0.15)


def test_readout_of_a_longer_window_wants_a_higher_threshold() -> None:
    """30 and 0.5 counts in 1 ms want 11 (PHYSICS.md 1.5)."""
    taken = take(
        readout(window=1_000_000_000), 400, changes={"readout.bright_hz": 29_500.0, "readout.stray_hz": 400.0}
    )
    assert abs(taken["threshold_a"].value - 11) <= 1
    assert taken["readout_error_a"].value == pytest.approx(best_threshold(30.0, 0.5, 1e-3).error, rel=0.15)
    assert taken["error_now_a"].value > 4e-4


def test_pumping_finds_its_time_and_what_it_leaves() -> None:
    changes = {"preparation.pump_error": 0.03}
    taken = take(pumping(points=10, step=600_000), 700, changes=changes)
    for node in "ab":
        assert agrees(taken[f"pump_time_{node}"], value("preparation.pump_time_s"), within=6e-7)
        assert agrees(taken[f"pump_error_{node}"], 0.03, within=0.02)


def test_pumping_as_shipped_is_good_to_a_thousandth_and_not_limited_by_the_pi_pulse() -> None:
    """A π pulse leaves 4e-3 bright; shelved twice, only what was not pumped is left."""
    taken = take(pumping(points=4, step=3_000_000), 800, changes={"qubit.pi_infidelity": 0.02})
    left = value("preparation.pump_error")
    for node in "ab":
        assert agrees(taken[f"pump_error_{node}"], left, within=5e-3)
        assert taken[f"pump_error_{node}"].value < 0.015


def test_excitation_finds_the_amplitude_and_the_branching() -> None:
    """α = sin²(π/2 a/a_π), a_π as the inverse root of the power; excited ions end bright unless they fall back to D5/2."""
    current = 0.1  # four fifths of the way from threshold to operating point

    def weaken(world: Laboratory) -> None:
        world.part("bob.laser_854").current_a = current

    taken = take(excitation(points=12), 600, disturb=weaken)
    share = taken.world.part("bob.laser_854").power_w() / taken.world.part("bob.laser_854").nominal_power_w
    assert share == pytest.approx(0.8)
    bright = 1 - value("atom.p32_to_d52")
    assert agrees(taken["pi_amplitude_a"], 1.0, within=0.12)
    assert agrees(taken["pi_amplitude_b"], 1 / math.sqrt(share), within=0.15)
    assert agrees(taken["transfer_a"], bright * (1 - value("qubit.pi_infidelity")), within=0.05)
    assert taken["floor_a"].value < 0.03
