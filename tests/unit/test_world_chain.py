"""From causes to the link's numbers, and what interventions at the parts do to them, against formulas written out here."""

import math

import numpy as np
import pytest
from world_lab import IDEAL, NODES, STILL, attempt, cooling, laboratory, measurement, prepare

from labctl.errors import ConfigError
from labctl.units import ns, us
from simulated_hw.world.laboratory import Laboratory
from simulated_hw.world.photon import packet

DECAY = 7.45e-9
PHOTON_HZ = 1 / (2 * math.pi * DECAY)
ETALON_HZ = 40e6
ALPHA = 0.17


def heralds(lab: Laboratory, **of_attempt: float) -> float:
    odds = lab.odds(attempt(**of_attempt), 0)  # type: ignore[arg-type]
    return odds.patterns["10"] + odds.patterns["01"]


def noise_hz(lab: Laboratory) -> tuple[float, float]:
    """Noise of each detector as the 60 ns gate sees it, 1/s."""
    first, second = lab.outlook(attempt(), 0).windows
    assert first is not None
    assert second is not None
    return -math.log1p(-first.noise) / 60e-9, -math.log1p(-second.noise) / 60e-9


def seen_share(lab: Laboratory, node: int) -> float:
    """Clicks (both detectors) per photon of a node's ion."""
    outlook = lab.outlook(attempt(), 0)
    return outlook.emitters[node].transmission * sum(
        w.seen[node] / 2 for w in outlook.windows if w is not None
    )


# the published link, as a consequence
def test_converter_input_to_click_is_nine_per_cent() -> None:
    for node, coupling in enumerate((0.3091, 0.3328)):
        assert seen_share(laboratory(), node) / (0.09 * coupling) == pytest.approx(0.091, rel=0.01)


def test_photons_in_the_fibre_per_excitation() -> None:
    for coupling, published in ((0.3091, 0.026), (0.3328, 0.028)):
        assert 0.9347 * 0.09 * coupling == pytest.approx(published, rel=1e-3)


def test_noise_of_one_arm_is_that_published() -> None:
    lab = laboratory()
    lab.part("bob.aom")[3].signal_on = False
    assert noise_hz(lab) == pytest.approx((9.6, 9.6), rel=0.01)
    bandwidth_nm = 1550e-9**2 * (math.pi / 2 * ETALON_HZ) / 299_792_458 * 1e9
    neighbours = 1 + 2 * math.exp(-4 * math.log(2) * 0.87**2)
    behind_filters = 1.3e5 * bandwidth_nm * 0.4295 * neighbours
    assert behind_filters == pytest.approx(35, rel=0.01)
    expected = behind_filters * 10**-0.1 / 2 * 0.85 * 0.762 + 0.6
    assert noise_hz(lab)[0] == pytest.approx(expected, rel=1e-6)


def test_combined_filters_pass_28_per_cent_of_the_photon() -> None:
    through = laboratory().outlook(attempt(), 0).packets[0].transmission
    assert through == pytest.approx(ETALON_HZ / (ETALON_HZ + PHOTON_HZ), rel=1e-9)
    assert through * 0.4295 == pytest.approx(0.28, rel=0.002)


def test_the_photon_is_about_20_ns_long_behind_the_etalon() -> None:
    times = np.linspace(0, 100e-9, 10_001)
    shape = laboratory().outlook(attempt(), 0).packets[0].intensity(times)
    above = times[shape > shape.max() / 2]
    assert 18e-9 < above[-1] - above[0] < 21e-9


def test_herald_probability_and_rate() -> None:
    chance = heralds(laboratory())
    assert chance == pytest.approx(0.17 * (0.026 + 0.028) * 0.091, rel=0.01)
    assert chance / 375e-6 == pytest.approx(2.226, rel=0.01)


def test_an_ideal_atom_heralds_with_the_closed_form() -> None:
    """PHYSICS 3.1 for equal detectors, with the chain multiplied out here."""
    lab = laboratory(changes=IDEAL)
    chain = 0.636 * 0.4295 * 10**-0.1 * 0.762 * 0.85
    shares = []
    for coupling in (0.3091, 0.3328):
        through = lab.outlook(attempt(), 0).packets[0].inside(-5.73e-9, 54.27e-9)  # 1.73 ns late in the gate
        shares.append(0.09 * coupling * chain * through)
    eta_a, eta_b = shares
    rate = noise_hz(lab)[0]
    p = 1 - math.exp(-rate * 60e-9)
    q, a, overlap = 1 - p, ALPHA, 0.96
    w00 = (1 - a) ** 2 * p * q
    w10 = a * (1 - a) * (eta_a * q / 2 + (1 - eta_a) * p * q)
    w01 = a * (1 - a) * (eta_b * q / 2 + (1 - eta_b) * p * q)
    w11 = (
        a
        * a
        * (
            eta_a * eta_b * q * (1 + overlap) / 4
            + (eta_a * (1 - eta_b) + eta_b * (1 - eta_a)) * q / 2
            + (1 - eta_a) * (1 - eta_b) * p * q
        )
    )
    assert heralds(lab) == pytest.approx(2 * (w00 + w10 + w01 + w11), rel=1e-4)


@pytest.mark.parametrize("offset_hz", [0.0, 40e6, -25e6])
def test_wave_packets_against_the_cavity_equation(offset_hz: float) -> None:
    """f' = -(κ/2 + iΔ) f + κ/2 s(t), integrated numerically."""
    lab = laboratory()
    known = packet(offset_hz, 0.0, lab._p)
    other = packet(0.0, 0.0, lab._p)
    step, n = 5e-12, 40_000
    times = np.arange(n) * step
    kappa = 2 * math.pi * ETALON_HZ

    def cavity(offset: float) -> np.ndarray:
        rate = kappa / 2 + 2j * math.pi * offset
        drive = np.exp(-times / (2 * DECAY)) / math.sqrt(DECAY) * kappa / 2
        grown = np.cumsum(drive * np.exp(rate * times)) * step
        return grown * np.exp(-rate * times)

    f, g = cavity(offset_hz), cavity(0.0)
    assert known.transmission == pytest.approx((np.abs(f) ** 2).sum() * step, rel=2e-3)
    inside = (times > 3e-9) & (times < 30e-9)
    assert known.inside(3e-9, 30e-9) == pytest.approx((np.abs(f[inside]) ** 2).sum() * step, rel=2e-3)
    late = 800
    shifted = np.concatenate([np.zeros(late), g[:-late]])
    expected = (f * shifted.conj()).sum() * step
    assert known.overlap(other, 0.0, 1e-6, 0.0, late * step) == pytest.approx(expected, abs=2e-3)


# interventions
def test_an_etalon_40_mhz_off_loses_its_arm_as_a_lorentzian() -> None:
    lab, before = laboratory(), laboratory()
    etalon = lab.part("alice.etalon")
    etalon.temperature_k = etalon.setpoint_k = 303.15 + 40e6 / 2e9
    lost = 1 / (1 + (2 * 40e6 / (ETALON_HZ + PHOTON_HZ)) ** 2)
    assert seen_share(lab, 0) / seen_share(before, 0) == pytest.approx(lost, rel=0.01)
    assert seen_share(lab, 1) == pytest.approx(seen_share(before, 1))
    window = lab.outlook(attempt(), 0).windows[0]
    assert window is not None
    assert abs(window.overlap) ** 2 < 0.8  # and the photons no longer look alike
    assert lab.part("alice.power_out").incident_w() / before.part(
        "alice.power_out"
    ).incident_w() == pytest.approx(1 / (1 + 4), rel=1e-6)


def test_an_oven_2_k_off_loses_phase_matching_but_keeps_its_noise() -> None:
    lab, before = laboratory(), laboratory()
    oven = lab.part("alice.oven")
    oven.temperature_k = oven.setpoint_k = 314.35 + 2.0
    x = 2 * 1.39156 * 2.0 / 2.5
    assert seen_share(lab, 0) / seen_share(before, 0) == pytest.approx((math.sin(x) / x) ** 2, rel=1e-4)
    assert noise_hz(lab) == pytest.approx(noise_hz(before))
    half = laboratory()
    oven = half.part("alice.oven")
    oven.temperature_k = oven.setpoint_k = 314.35 - 1.25
    assert seen_share(half, 0) / seen_share(before, 0) == pytest.approx(0.5, rel=1e-4)


def test_half_the_pump_power() -> None:
    lab, before = laboratory(), laboratory()
    lab.part("alice.pump").switch_on(0.010)
    assert lab.part("alice.power_in").incident_w() == pytest.approx(0.030)
    assert seen_share(lab, 0) / seen_share(before, 0) == pytest.approx(
        math.sin(math.pi / 2 * math.sqrt(0.5)) ** 2, rel=1e-6
    )
    both, dark = noise_hz(before)[0], 0.6
    assert noise_hz(lab)[0] - dark == pytest.approx((both - dark) * 0.75, rel=1e-6)


def test_no_pump_no_photons_and_no_noise() -> None:
    lab = laboratory()
    for node in NODES:
        lab.part(f"{node}.aom")[3].amplifier_on = False
    assert noise_hz(lab) == pytest.approx((0.6, 0.6), rel=1e-6)
    assert heralds(lab) == pytest.approx(2 * 0.6 * 60e-9, rel=1e-3)


def test_an_unlocked_729_laser_leaves_its_ion_in_s() -> None:
    lab = laboratory()
    lab.part("alice.laser_729").unlock()
    a, b = lab.outlook(attempt(), 0).emitters
    assert a.bright < 1e-2 * b.bright
    assert a.others[0] > 0.98
    assert heralds(lab) == pytest.approx(heralds(laboratory()) * 0.028 / 0.054, rel=0.02)


def test_a_729_laser_slightly_off_flips_by_the_rabi_formula() -> None:
    lab = laboratory(changes=IDEAL)
    channel = lab.part("alice.aom")[1]
    channel.frequency_hz = channel.nominal_frequency_hz + 30e3
    rabi, offset = math.pi / 10e-6, 2 * math.pi * 30e3
    flipped = (rabi * math.sin(math.hypot(rabi, offset) * 5e-6) / math.hypot(rabi, offset)) ** 2
    band = math.exp(-4 * math.log(2) * (30e3 / 20e6) ** 2)
    assert band == pytest.approx(1, abs=1e-5)
    a = lab.outlook(attempt(), 0).emitters[0]
    assert a.bright + a.dark == pytest.approx(flipped, rel=1e-4)


def test_an_unlocked_854_laser_excites_less_and_no_longer_resets() -> None:
    lab = laboratory(changes=IDEAL)
    laser = lab.part("alice.laser_854")
    laser.unlock()
    amplitude = 2 / math.pi * math.asin(math.sqrt(ALPHA))
    rabi, offset = math.pi / 2.25e-9 * amplitude, 2 * math.pi * laser.detuning_hz()
    alpha = (rabi * math.sin(math.hypot(rabi, offset) * 2.25e-9 / 2) / math.hypot(rabi, offset)) ** 2
    left = math.exp(-25 / (1 + (2 * laser.detuning_hz() / 40e6) ** 2)) * (1 - alpha)
    stuck = left / (1 + left)
    assert stuck > 0.05
    a = lab.outlook(attempt(), 0).emitters[0]
    assert a.bright == pytest.approx((1 - stuck) * alpha, rel=1e-6)
    assert a.others[0] == pytest.approx(stuck, rel=1e-6)


def test_more_854_power_is_more_alpha() -> None:
    lab = laboratory(changes=IDEAL)
    laser = lab.part("bob.laser_854")
    laser.current_a = laser.threshold_current_a + 1.1 * (laser.nominal_current_a - laser.threshold_current_a)
    laser.locked = True
    area = 2 * math.asin(math.sqrt(ALPHA)) * math.sqrt(1.1)
    assert lab.outlook(attempt(), 0).emitters[1].bright == pytest.approx(math.sin(area / 2) ** 2, rel=1e-6)


def test_without_cooling_light_pumping_fails_at_once_and_the_ion_heats() -> None:
    lab = laboratory()
    body, cycle = attempt(), cooling()
    before = lab.outlook(body, 0).emitters[0]
    lab.part("alice.aom")[0].signal_on = False
    after = lab.outlook(body, 0).emitters[0]
    assert after.bright / before.bright == pytest.approx(0.5, abs=0.03)
    assert after.others[2] == pytest.approx(0.5, abs=0.01)
    lab.skip([(cycle, 80_000), (body, 80_000)], 0, 30 * 10**12)
    later = lab.outlook(body, 30 * 10**12).emitters[0]
    assert later.bright < 0.8 * after.bright
    lab.part("alice.aom")[0].signal_on = True
    lab.skip([(cycle, 100), (body, 100)], 30 * 10**12, 37_500 * us)
    assert lab.outlook(body, 30_037_500 * us).emitters[0].bright == pytest.approx(before.bright, rel=1e-6)


def test_a_397_laser_on_the_blue_side_does_not_cool() -> None:
    lab = laboratory()
    laser = lab.part("alice.laser_397")
    laser.locked = laser.lock_enabled = False
    laser._drift_hz = 12e6
    lab.skip([(cooling(), 80_000), (attempt(), 80_000)], 0, 30 * 10**12)
    laser._drift_hz = 12e6
    assert lab._atoms.motion[0].quanta > 100
    assert lab._atoms.motion[1].quanta == pytest.approx(0.1, rel=0.01)


def test_a_detector_without_bias_heralds_nothing() -> None:
    lab = laboratory()
    lab.part("charlie.snspd")[1].bias_a = 0.0
    patterns = lab.odds(attempt(), 0).patterns
    assert patterns["01"] == 0.0
    assert patterns["11"] == 0.0
    assert patterns["10"] == pytest.approx(laboratory().odds(attempt(), 0).patterns["10"], rel=0.01)
    with pytest.raises(ConfigError, match="'01' cannot happen now"):
        lab.play_given(attempt(), "01", 0)


def test_a_gate_that_opens_late_loses_the_photon_it_no_longer_sees() -> None:
    lab = laboratory(changes=IDEAL)
    known = lab.outlook(attempt(), 0)
    early = known.packets[0].inside(-4e-9, 56e-9)
    late = known.packets[0].inside(25e-9, 85e-9)
    arrival = known.arrivals_ps[0] - (30 * us + 24_483 * ns)
    assert arrival == 605 + 1125  # rest of the flight, and half of the 854 nm pulse
    shift = arrival / 1e12
    expected = known.packets[0].inside(25e-9 - shift, 85e-9 - shift) / known.packets[0].inside(
        -4e-9, 56e-9 - shift
    )
    noise = 2 * noise_hz(lab)[0] * 60e-9
    ratio = (heralds(lab, lead=-25 * ns) - noise) / (heralds(lab) - noise)
    assert ratio == pytest.approx(expected, rel=1e-3)
    assert 0.1 < late / early < 0.3
    assert heralds(lab, lead=2000 * ns) == pytest.approx(noise, rel=0.01)


def test_the_power_meter_behind_the_converter_sees_pump_oven_and_reference() -> None:
    lab = laboratory()
    meter = lab.part("alice.power_out")
    nominal = meter.incident_w()
    assert nominal == pytest.approx(1e-6 * 0.636 * 0.4295 * 393.366 / 1550, rel=1e-6)
    lab.part("alice.oven").temperature_k = 314.35 + 1.25
    assert meter.incident_w() == pytest.approx(nominal / 2, rel=1e-4)
    lab.part("alice.aom")[2].signal_on = False
    assert meter.incident_w() == 0.0


# reference light
def reference(lab: Laboratory, plays: int = 400) -> tuple[float, float]:
    """Mean clicks per play and contrast of the reference fringe from many plays at a phase that stands still."""
    counts = lab.play_many(cooling(), [375 * us * k for k in range(1, plays + 1)])
    sums = {key: sum(value) for key, value in counts.items()}
    shares = [
        (sums[f"reference_{half}0"] - sums[f"reference_{half}1"])
        / max(1, sums[f"reference_{half}0"] + sums[f"reference_{half}1"])
        for half in "qi"
    ]
    return sum(sums.values()) / plays, math.hypot(*shares)


def test_the_reference_has_a_megahertz_of_clicks_and_a_clear_fringe() -> None:
    lab = laboratory(changes=STILL)
    clicks, contrast = reference(lab)
    assert clicks / 24e-6 == pytest.approx(1.0e6, rel=0.03)
    assert contrast == pytest.approx(0.995, abs=0.015)


def test_the_fringe_follows_the_programmed_phase() -> None:
    lab = laboratory(changes=STILL)
    phase = lab.true_phase_rad(0)
    counts = lab.play_many(cooling(), [375 * us * k for k in range(1, 2001)])
    for half, bias in (("q", math.pi / 2), ("i", 0.0)):
        first, second = sum(counts[f"reference_{half}0"]), sum(counts[f"reference_{half}1"])
        expected = (1 + 0.995 * math.cos(phase + bias)) / 2
        assert first / (first + second) == pytest.approx(expected, abs=5 * 0.5 / math.sqrt(first + second))


def test_a_blocked_reference_leaves_half_the_light_and_no_fringe() -> None:
    lab = laboratory(changes=STILL)
    lab.part("bob.aom")[2].signal_on = False
    clicks, contrast = reference(lab)
    assert clicks == pytest.approx(12.0, rel=0.05)
    assert contrast < 0.06
    lab.part("alice.laser_393").emission = False
    clicks, _ = reference(lab)
    assert clicks < 0.02


def test_weak_reference_on_one_side_lowers_the_contrast() -> None:
    lab = laboratory(changes=STILL)
    lab.part("bob.aom")[2].power_dbm -= 12.0
    power = math.sin(math.pi / 2 * 10 ** (-12 / 20)) ** 2
    _, contrast = reference(lab, 3000)
    assert contrast == pytest.approx(0.995 * 2 * math.sqrt(power) / (1 + power), abs=0.02)


def test_reference_light_that_arrives_outside_the_gates_is_not_seen() -> None:
    lab = laboratory(changes={**STILL, "alice.arm_length_m": 9000.0, "bob.arm_length_m": 9000.0})
    clicks, _ = reference(lab)
    seen = 24 - 4000 * 1.468 / 299_792_458 * 1e6
    assert clicks == pytest.approx(24 * 10 ** -(0.2 * 4 / 10) * seen / 24, rel=0.06)


# calibrations without a herald
def shots(lab: Laboratory, rotation: int, n: int, hz: float = 0.0) -> np.ndarray:
    """Counts (n, 2) after preparation and a 729 nm pulse."""
    ready, read = prepare(rotation, hz), measurement()
    rows, at = [], 0
    for _ in range(n):
        lab.play(ready, at)
        clicks = lab.play(read, at + ready.duration_ps)
        rows.append((clicks["a"].count, clicks["b"].count))
        at += 10**9
    return np.array(rows)


def test_bright_and_dark_histograms() -> None:
    lab = laboratory()
    bright, dark = shots(lab, 0, 1500), shots(lab, 10 * us, 1500)
    assert bright.mean() == pytest.approx(20.0, abs=0.3)
    assert bright.var() == pytest.approx(20.0, rel=0.15)
    assert (bright < 5).mean() < 4e-3
    low = dark[dark < 5]
    assert low.mean() == pytest.approx(0.3, abs=0.05)
    assert (dark >= 5).mean() == pytest.approx(0.006, abs=0.005)


def test_rabi_flops() -> None:
    lab = laboratory()
    for length in (3 * us, 5 * us, 20 * us):
        dark = (shots(lab, length, 400) < 5).mean()
        assert dark == pytest.approx(math.sin(math.pi / 2 * length / (10 * us)) ** 2, abs=0.07)


def test_the_qubit_line_answers_to_the_tone() -> None:
    lab = laboratory()
    off = (shots(lab, 10 * us, 400, hz=80e3) < 5).mean()
    rabi, offset = math.pi / 10e-6, 2 * math.pi * 80e3
    expected = (rabi * math.sin(math.hypot(rabi, offset) * 5e-6) / math.hypot(rabi, offset)) ** 2
    assert off == pytest.approx(expected, abs=0.06)


def test_an_ion_is_dark_without_repumper_or_light() -> None:
    lab = laboratory()
    lab.part("alice.laser_866").emission = False
    lab.part("bob.aom")[0].signal_on = False
    counts = shots(lab, 0, 300)
    assert counts[:, 0].mean() == pytest.approx(0.3, abs=0.15)
    assert counts[:, 1].mean() == pytest.approx(0.05, abs=0.05)


def test_a_detuned_cooling_laser_is_seen_in_the_fluorescence() -> None:
    lab = laboratory()
    laser = lab.part("alice.laser_397")
    laser.locked = laser.lock_enabled = False
    laser.piezo_v += -20e6 / laser.piezo_tuning_hz_per_v
    counts = shots(lab, 0, 300)

    def rate(detuning: float) -> float:
        return 1 / (2 + (2 * detuning / 23.05e6) ** 2)

    drift = laser.detuning_hz()
    expected = 19.7 * rate(-11.5e6 + drift) / rate(-11.5e6) + 0.3
    assert counts[:, 0].mean() == pytest.approx(expected, rel=0.12)
    assert counts[:, 1].mean() == pytest.approx(20.0, rel=0.05)


def test_unknown_lines_and_parts_are_named() -> None:
    lab = laboratory()
    wrong = attempt()
    wrong = type(wrong)(
        (*wrong.pulses, type(wrong.pulses[0])("alice.cool_423", 0, 1, 0.0, 0.0, 1.0)),
        wrong.gates,
        wrong.duration_ps,
        "a",
    )
    with pytest.raises(ConfigError, match=r"no line alice\.cool_423; out: NODE\.\{cool_397"):
        lab.play(wrong, 0)
    with pytest.raises(ConfigError, match=r"no part 'alice\.laser_423'; it has alice\.aom"):
        lab.part("alice.laser_423")
