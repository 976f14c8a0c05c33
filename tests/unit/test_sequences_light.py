"""Calibrations of the light's way on the simulated laboratory: they find the component values, and see what is changed."""

import math

import numpy as np
from calibration_parts import QUIET, agrees, take
from scipy.signal import fftconvolve
from world_lab import VALUES

from sequences.arrival import arrival
from sequences.balance import balance
from sequences.converter import converter
from sequences.delay import delay
from sequences.etalon import etalon
from simulated_hw.world.laboratory import Laboratory

PUMP_AOM = 3
"""Channel of a node's AOM driver for the converter pump, from 0."""
LIGHT_M_PER_S = 299_792_458.0


def value(name: str) -> float:
    table, key = name.split(".")
    return float(VALUES[table][key][0])


def flight_s(node: str) -> float:
    return value(f"{node}.arm_length_m") * value("fibre.index") / LIGHT_M_PER_S


def passive() -> float:
    """From the input of a converter to a click, for light that the etalon lets pass whole."""
    fibre = 10 ** (-value("fibre.loss_db_per_km") * value("alice.arm_length_m") / 1e4)
    return (
        value("converter.peak_efficiency")
        * value("filters.other_transmission")
        * fibre
        * value("midpoint.transmission")
        * value("detectors.efficiency")
    )


def etalon_share(lead_s: float, window_s: float) -> float:
    """Share of a photon that the etalon lets pass within a window opened so long before it arrives, by numerical filtering."""
    decay, fwhm = value("atom.photon_decay_s"), value("filters.etalon_fwhm_hz")
    step = 5e-12
    t = np.arange(0, window_s - lead_s, step)
    field = np.exp(-t / (2 * decay)) / math.sqrt(decay)
    response = math.pi * fwhm * np.exp(-math.pi * fwhm * t)
    passed = fftconvolve(field, response)[: t.size] * step
    return float((passed**2).sum() * step)


def per_excitation(node: str, lead_s: float, window_s: float) -> float:
    """Clicks per excited ion: branching, collection, fibre, converter, filters, fibre, detector."""
    collected = value(f"{node}.objective_collection") * value(f"{node}.fibre_coupling")
    return value("atom.p32_to_s12") * collected * passive() * etalon_share(lead_s, window_s)


def test_balance_counts_each_node_by_itself() -> None:
    taken = take(balance(), 1000, changes=QUIET)
    expected = {node[0]: per_excitation(node, 4e-9, 60e-9) for node in ("alice", "bob")}
    prepared = 1 - value("qubit.pi_infidelity") - value("preparation.pump_error")
    for node in "ab":
        assert agrees(taken[f"efficiency_{node}"], expected[node] * prepared, within=0.05 * expected[node])
    ratio = expected["a"] / expected["b"]
    assert agrees(taken["balance"], ratio, within=0.05)
    assert agrees(taken["balanced_alpha_b"], 0.17 * ratio, within=0.01)


def test_balance_sees_a_converter_whose_pump_is_weak() -> None:
    def weaken(world: Laboratory) -> None:
        world.part("alice.aom")[PUMP_AOM].power_dbm -= 6.0

    taken = take(balance(), 700, changes=QUIET, disturb=weaken)
    share = taken.world.part("alice.aom")[PUMP_AOM].relative_power()
    left = math.sin(math.pi / 2 * math.sqrt(share)) ** 2
    assert left < 0.9
    expected = left * value("alice.fibre_coupling") / value("bob.fibre_coupling")
    assert agrees(taken["balance"], expected, within=0.05)


def test_arrivals_show_the_decay_of_the_photon_and_when_it_came() -> None:
    """The 854 nm pulse's middle plus the time of flight is the photon's earliest arrival."""
    longer_m = 1.0
    taken = take(arrival(), 900, changes=QUIET | {"bob.arm_length_m": value("bob.arm_length_m") + longer_m})
    late_s = flight_s("alice") - 24_483e-9 + 2.25e-9 / 2
    extra_s = longer_m * value("fibre.index") / LIGHT_M_PER_S
    assert agrees(taken["late_a"], late_s, within=4e-10)
    assert agrees(taken["late_b"], late_s + extra_s, within=4e-10)
    assert agrees(taken["delay"], extra_s, within=6e-10)
    for node in "ab":
        assert agrees(taken[f"decay_{node}"], value("atom.photon_decay_s"), within=4e-10)
        assert taken[f"noise_share_{node}"].value < 0.05


def test_arrivals_see_another_decay() -> None:
    taken = take(arrival(), 500, changes=QUIET | {"atom.photon_decay_s": 12e-9})
    assert agrees(taken["decay_a"], 12e-9, within=1.5e-9)


def test_delay_is_found_far_from_where_it_was_expected() -> None:
    """100 m of fibre more than anybody knew of."""
    longer_m = 100.0
    taken = take(delay(), 150, changes=QUIET | {"bob.arm_length_m": value("bob.arm_length_m") + longer_m})
    extra_s = longer_m * value("fibre.index") / LIGHT_M_PER_S
    assert extra_s > 4e-7
    assert agrees(taken["flight_a"], flight_s("alice") + 2.25e-9 / 2, within=3e-9)
    assert agrees(taken["delay"], extra_s, within=4e-9)


def test_converter_finds_efficiency_and_noise() -> None:
    """Reference light passes the etalon whole; a photon of the ion passes 65 % of it, which makes the published 9.1 %.

    Each converter adds 9.0 clicks per second and detector (9.6 published, with the detector's own).
    """
    taken = take(converter(dark=30_000_000_000), 400, changes=QUIET)
    for node in "ab":
        assert agrees(taken[f"efficiency_{node}"], passive(), within=0.003)
    assert agrees(taken["noise_rate"], 2 * 9.0 + value("detectors.dark_hz"), within=1.0)
    assert abs(passive() * etalon_share(4e-9, 300e-9) - 0.091) < 0.002


def test_converter_follows_its_pump_and_its_oven() -> None:
    """sin² of the root of the pump power, sinc² of the oven's offset over the acceptance; noise goes with the pump."""

    def disturb(world: Laboratory) -> None:
        world.part("alice.aom")[PUMP_AOM].power_dbm -= 6.0
        oven = world.part("bob.oven")
        oven.setpoint_k += 1.0
        oven.temperature_k += 1.0

    taken = take(converter(dark=30_000_000_000), 300, changes=QUIET, disturb=disturb)
    share = taken.world.part("alice.aom")[PUMP_AOM].relative_power()
    assert agrees(
        taken["efficiency_a"], passive() * math.sin(math.pi / 2 * math.sqrt(share)) ** 2, within=0.003
    )
    x = 2 * 1.391557378 / value("converter.acceptance_k")
    assert agrees(taken["efficiency_b"], passive() * (math.sin(x) / x) ** 2, within=0.003)
    assert agrees(taken["noise_rate"], 9.0 * (1 + share) + value("detectors.dark_hz"), within=1.0)
    assert share < 0.9


def test_etalon_scan_finds_centre_and_width() -> None:
    warmer_k = 0.005

    def warm(world: Laboratory) -> None:
        body = world.part("bob.etalon")
        body.setpoint_k += warmer_k
        body.temperature_k += warmer_k

    taken = take(etalon(), 600, changes=QUIET, disturb=warm)
    moved_hz = warmer_k * value("filters.etalon_hz_per_k")
    assert agrees(taken["centre_a"], 0.0, within=1e6)
    assert agrees(taken["centre_b"], moved_hz, within=1e6)
    for node in "ab":
        assert agrees(taken[f"fwhm_{node}"], value("filters.etalon_fwhm_hz"), within=3e6)
