"""The laboratory as a core sees it: heralded states, records of clicks, repeatability, virtual time."""

import math
from typing import Any

import numpy as np
import pytest
from world_lab import (
    CYCLE,
    FLIGHT,
    IDEAL,
    NODES,
    STILL,
    attempt,
    cooling,
    laboratory,
    measurement,
    pulse,
    segment,
    values,
)

from labctl.clock import ScaledClock, SystemClock, VirtualClock
from labctl.core.phase_filter import PhaseFilter
from labctl.errors import ConfigError
from labctl.sim.played import OpenGate, Segment
from labctl.units import ns, us
from simulated_hw.world import ion
from simulated_hw.world.laboratory import Laboratory

SECOND = 10**12


def bell(phase: float, sign: int) -> np.ndarray:
    """(|SD> e^{iφ} ± |DS>)/√2 in the basis SS, SD, DS, DD."""
    return np.array([0, np.exp(1j * phase), sign, 0]) / math.sqrt(2)


def herald(lab: Laboratory, at: int, pattern: str, body: Segment) -> int:
    """Play a herald; its click time, ps of laboratory time."""
    clicks = lab.play_given(body, pattern, at)
    detector = pattern.index("1")
    assert clicks[f"click_{detector}"].count == 1
    assert clicks[f"click_{1 - detector}"].count == 0
    return at + body.gates[0].start_ps + clicks[f"click_{detector}"].first_ps


# heralded states
@pytest.mark.parametrize(("pattern", "sign"), [("10", 1), ("01", -1)])
def test_the_mean_heralded_state_is_the_exact_mixture(pattern: str, sign: int) -> None:
    lab = laboratory(changes=STILL)
    body, phase = attempt(), lab.true_phase_rad(0)
    outlook = lab.outlook(body, 0)
    exact = sum(outlook.state(way, phase) for way in outlook.causes(pattern))
    exact /= exact[: ion.LEVELS, : ion.LEVELS].sum()
    n, total = 600, np.zeros((4, 4), complex)
    for k in range(n):
        lab.play_given(body, pattern, k * SECOND // 10)
        total += lab.true_qubits()
    mean = total / n
    assert mean[1, 2] == pytest.approx(exact[ion.SD, ion.DS], abs=5e-3)
    assert np.diag(mean).real == pytest.approx(
        [exact[0, 0].real, exact[0, 1].real, exact[1, 0].real, exact[1, 1].real], abs=5e-3
    )
    assert np.sign((mean[1, 2] * np.exp(-1j * phase)).real) == sign


def test_an_ideal_pair_has_the_fidelity_of_the_protocol() -> None:
    lab = laboratory(changes={**IDEAL, **STILL, "midpoint.photon_overlap": 1.0})
    outlook = lab.outlook(attempt(), 0)
    phase = lab.true_phase_rad(0)
    state = sum(outlook.state(way, phase) for way in outlook.causes("10"))
    lab._atoms.pair.set(state)
    vector = bell(phase, 1)
    fidelity = (vector.conj() @ lab.true_qubits() @ vector).real
    assert fidelity == pytest.approx(1 - 0.17, abs=2e-3)


def test_phases_of_the_854_pulses_add_to_the_heralded_phase_and_those_of_the_pi_pulses_do_not() -> None:
    coherence = []
    for turns, pi_turns in ((0.0, 0.0), (0.2, 0.0), (0.0, 0.3)):
        lab = laboratory(changes=STILL)
        body = attempt(turns_854=turns)
        pulses = tuple(
            pulse(p.line, p.start_ps, p.duration_ps, pi_turns) if p.line == "bob.qubit_729" else p
            for p in body.pulses
        )
        lab.play_given(Segment(pulses, body.gates, body.duration_ps), "10", 0)
        coherence.append(lab.true_qubits()[1, 2])
    assert np.angle(coherence[1] / coherence[0]) == pytest.approx(2 * math.pi * 0.2)
    assert coherence[2] == pytest.approx(coherence[0])


def test_a_spin_echo_in_flight_swaps_the_ions() -> None:
    lab = laboratory(changes={**IDEAL, **STILL})
    body = attempt()
    echo = [pulse(f"{node}.qubit_729", 60 * us, 10 * us) for node in NODES]
    lab.play_given(segment([*body.pulses, *echo], list(body.gates), body.duration_ps, "echo"), "10", 0)
    swapped = lab.true_qubits()
    lab.play_given(body, "10", SECOND)
    plain = lab.true_qubits()
    assert swapped[0, 0] == pytest.approx(plain[3, 3], abs=1e-3)
    assert swapped[3, 3].real == pytest.approx(plain[0, 0].real, abs=1e-3)
    assert swapped[1, 2] == pytest.approx(plain[2, 1], abs=2e-2)


def test_click_times_follow_the_wave_packet() -> None:
    lab = laboratory()
    body = attempt()
    times = np.array(
        [herald(lab, k * SECOND, "10", body) - k * SECOND - body.gates[0].start_ps for k in range(1500)]
    )
    assert times.min() >= 0
    assert times.max() < 60 * ns
    grid = np.arange(0, 60e-9, 5e-12)
    shape = lab.outlook(body, 1500 * SECOND).packets[0].intensity(grid - 5.73e-9)
    shape /= shape.sum()
    mean, rms = (shape * grid).sum(), 0.0
    rms = math.sqrt((shape * (grid - mean) ** 2).sum())
    assert times.mean() / 1e12 == pytest.approx(mean, abs=5 * rms / math.sqrt(1500))
    assert times.std() / 1e12 == pytest.approx(rms, rel=0.1)


def test_noise_clicks_come_at_any_time() -> None:
    lab = laboratory()
    for node in NODES:
        lab.part(f"{node}.aom")[3].signal_on = False
    body = attempt()
    times = [herald(lab, k * SECOND, "01", body) - k * SECOND - body.gates[0].start_ps for k in range(500)]
    assert np.mean(times) == pytest.approx(30 * ns, rel=0.1)
    assert np.std(times) == pytest.approx(60 * ns / math.sqrt(12), rel=0.1)


def tracked_heralds(lab: Laboratory, n: int, cycles: int = 64) -> Any:
    """Heralds with the phase that a Bayes filter on the reference slots gives: (time after the body, φ_est, φ, detector)."""
    body, block = attempt(), cooling()
    tracker = PhaseFilter(0.99, 15.0, (math.pi / 2, 0.0))
    at = 0
    for k in range(n):
        starts = [at + j * CYCLE for j in range(cycles)]
        counts = lab.play_many(block, starts)
        slots = np.stack(
            [np.stack([counts[f"reference_{h}0"], counts[f"reference_{h}1"]], axis=1) for h in "qi"], axis=1
        ).astype(np.int64)
        tracker.follow(slots, (np.array(starts) + block.duration_ps) / 1e12)
        begin = starts[-1] + block.duration_ps
        clicked = herald(lab, begin, "10" if k % 2 else "01", body)
        yield begin + body.duration_ps, tracker.estimate()[0], lab.true_phase_rad(clicked), 0 if k % 2 else 1
        at = begin + SECOND // 2


def test_the_tracked_phase_has_the_published_contrast() -> None:
    errors = [math.cos(estimate - true) for _, estimate, true, _ in tracked_heralds(laboratory(), 1000, 32)]
    assert 0.995 * np.mean(errors) == pytest.approx(0.986, abs=0.005)


def test_the_bell_fidelity_comes_out_near_the_published_one() -> None:
    """Populations and an 8-point parity fringe, Bob's pulse following the tracked phase: (P + C)/2 near 0.80."""
    lab = laboratory(seed=12)
    rng = np.random.default_rng(5)
    odd: list[bool] = []
    parity: dict[int, list[int]] = {k: [] for k in range(8)}
    for after, estimate, _, detector in tracked_heralds(lab, 3000, 16):
        setting = int(rng.integers(-5, 8))
        turns = estimate / (2 * math.pi) + detector / 2 + setting / 8
        rotations = ((5 * us, 0.0), (5 * us, turns % 1)) if setting >= 0 else ((0, 0.0), (0, 0.0))
        clicks = lab.play(measurement(rotations), after + 1 * us)
        same = (clicks["a"].count >= 5) == (clicks["b"].count >= 5)
        if setting < 0:
            odd.append(not same)
        else:
            parity[setting].append(1 if same else -1)
    means = np.array([np.mean(parity[k]) for k in range(8)])
    first = np.mean(means * np.exp(-2j * math.pi * np.arange(8) / 8))
    contrast, phase = 2 * abs(first), np.angle(first)
    assert phase == pytest.approx(0.0, abs=0.12)
    assert np.mean(odd) == pytest.approx(0.83, abs=0.04)
    assert (np.mean(odd) + contrast) / 2 == pytest.approx(0.80, abs=0.03)


def test_the_pair_dephases_with_the_line_noise() -> None:
    """|<SD|ρ|DS>| of two ions with independent noise, T2* = 5.8 ms each: exp(-(t/5.8 ms)²) while the noise is slow."""
    changes = {**IDEAL, **STILL, "qubit.line_noise_hz": 38.8, "qubit.line_noise_time_s": 1.0}
    lab = laboratory(changes=changes)
    body, wait = attempt(), 4 * 10**9
    first, last = np.zeros(700, complex), np.zeros(700, complex)
    for k in range(700):
        at = k * 20 * SECOND
        lab.play_given(body, "10", at)
        first[k] = lab.true_qubits()[1, 2]
        lab.play(
            segment([pulse(f"{n}.qubit_729", 0, 1) for n in NODES], [], 1, "touch"),
            at + body.duration_ps + wait,
        )
        last[k] = lab.true_qubits()[1, 2]
    sigma = 2 * math.pi * 38.8
    time = (wait + body.duration_ps - 30 * us) / 1e12
    expected = math.exp(-((sigma * time) ** 2)) * math.exp(-time / 1.165)
    assert abs(last.mean() / first.mean()) == pytest.approx(expected, abs=0.06)


def test_the_stored_pair_decays_to_the_bright_state() -> None:
    lab = laboratory(changes={**IDEAL, **STILL})
    body = attempt()
    lab.play_given(body, "10", 0)
    before = lab.true_qubits().real
    lab.play(segment([pulse(f"{n}.qubit_729", 0, 1) for n in NODES], [], 1, "touch"), SECOND)
    after = lab.true_qubits().real
    left = math.exp(-(SECOND - 30 * us) / 1e12 / 1.165)
    assert after[1, 1] + after[2, 2] == pytest.approx((before[1, 1] + before[2, 2]) * left, abs=5e-3)
    assert np.trace(after) == pytest.approx(1, abs=5e-3)


# what a core does with it
def test_played_attempts_herald_with_their_odds() -> None:
    lab = laboratory(changes={"alice.fibre_coupling": 1.0, "bob.fibre_coupling": 1.0, "alice.objective_collection": 1.0,
                              "bob.objective_collection": 1.0, "converter.peak_efficiency": 1.0,
                              "filters.other_transmission": 1.0, "midpoint.photon_overlap": 0.0})  # fmt: skip
    body = attempt(alpha=0.6)
    odds = lab.odds(body, 0).patterns
    n = 3000
    seen = dict.fromkeys(("00", "10", "01", "11"), 0)
    for k in range(n):
        clicks = lab.play(body, k * CYCLE)
        seen[f"{clicks['click_0'].count}{clicks['click_1'].count}"] += 1
    for pattern, chance in odds.items():
        assert seen[pattern] / n == pytest.approx(chance, abs=5 * math.sqrt(chance / n))
    assert odds["11"] > 0.005


def test_many_reference_slots_at_once_are_the_same_as_one_by_one() -> None:
    block = cooling()
    starts = [k * CYCLE for k in range(1, 1500)]
    together = laboratory(3, STILL).play_many(block, starts)
    lab = laboratory(3, STILL)
    single: dict[str, list[int]] = {key: [] for key in together}
    for start in starts:
        for key, clicks in lab.play(block, start).items():
            single[key].append(clicks.count)
    for key, counts in together.items():
        mean = np.mean(counts)
        assert np.mean(single[key]) == pytest.approx(
            mean, abs=5 * math.sqrt(2 * max(mean, 0.01) / len(starts))
        )
        assert np.var(single[key]) == pytest.approx(np.var(counts), rel=0.2, abs=0.02)


def test_many_plays_with_counters_are_repeated_plays() -> None:
    block = cooling()
    watched = Segment(
        block.pulses, (*block.gates, OpenGate("alice.pmt", 25 * us, 150 * us, "light")), block.duration_ps
    )
    counts = laboratory().play_many(watched, [k * CYCLE for k in range(400)])
    assert np.mean(counts["light"]) == pytest.approx(20.0 * 150 / 500, rel=0.1)
    assert len(counts["reference_q0"]) == 400


def test_first_click_of_a_gate() -> None:
    lab = laboratory()
    clicks = lab.play(cooling(), 0)
    for seen in clicks.values():
        assert (seen.count == 0) == (seen.first_ps == -1)
        assert seen.first_ps < 12 * us


def test_skipping_counts_what_the_detectors_saw() -> None:
    lab = laboratory()
    n = 20_000
    lab.skip([(cooling(), n), (attempt(), n)], 0, n * CYCLE)
    first, second = lab.detector_clicks(0.0, n * CYCLE / 1e12)
    expected = n * 24 + 2 * 18.6 * n * CYCLE / 1e12
    assert first + second == pytest.approx(expected, rel=0.02)
    assert lab.part("charlie.tagger").counts()[2] == n


def test_skipping_and_playing_count_alike() -> None:
    skipped, played = laboratory(3, STILL), laboratory(3, STILL)
    n = 2000
    skipped.skip([(cooling(), n)], 0, n * CYCLE)
    played.play_many(cooling(), [k * CYCLE for k in range(n)])
    one, other = skipped.detector_clicks(0.0, 1.0), played.detector_clicks(0.0, 1.0)
    for a, b in zip(one, other, strict=True):
        assert a == pytest.approx(b, abs=6 * math.sqrt(a + b + 1))


def test_background_of_the_detectors_over_an_interval() -> None:
    clock = VirtualClock()
    lab = Laboratory(values(), 1, clock)
    clock.advance(100.0)
    whole = lab.detector_clicks(0.0, 100.0)
    assert whole == pytest.approx([1861, 1861], abs=220)
    clock.advance(100.0)
    lab.part("alice.aom")[3].signal_on = lab.part("bob.aom")[3].signal_on = False
    lab.detector_clicks(100.0, 200.0)
    clock.advance(100.0)
    assert lab.detector_clicks(200.0, 300.0) == pytest.approx([60, 60], abs=45)
    assert [
        a + b for a, b in zip(lab.detector_clicks(0.0, 40.0), lab.detector_clicks(40.0, 100.0), strict=True)
    ] == whole


def test_every_click_of_a_gate_is_in_the_tagger() -> None:
    lab = laboratory()
    tagger = lab.part("charlie.tagger")
    clicks = lab.play(cooling(), 7 * us)
    assert len(tagger.tags) == sum(seen.count for seen in clicks.values())
    for gate in cooling().gates:
        seen = clicks[gate.into]
        if seen.count:
            inside = [
                t for t, c in tagger.tags
                if c == int(gate.line[-1]) and 0 <= t - 7 * us - gate.start_ps < gate.duration_ps
            ]  # fmt: skip
            assert len(inside) == seen.count
            assert min(inside) - 7 * us - gate.start_ps == seen.first_ps
    before = len(tagger.tags)
    body = attempt()
    clicked = herald(lab, SECOND, "01", body)
    assert tagger.tags[before:] == [(SECOND + 30 * us, 2), (clicked, 1)]
    counts = lab.play_many(cooling(), [2 * SECOND, 2 * SECOND + CYCLE])
    assert len(tagger.tags) - before - 2 == sum(map(sum, counts.values()))
    assert [t for t, _ in tagger.tags] == sorted(t for t, _ in tagger.tags)


def test_odds_see_interventions_at_once() -> None:
    lab = laboratory()
    body = attempt()
    odds = lab.odds(body, SECOND)
    lab.part("alice.laser_729").unlock()
    assert lab.odds(body, SECOND).patterns["10"] < 0.6 * odds.patterns["10"]


SLICE = 50 * 10**9


def test_odds_hold_for_a_slice_where_anybody_may_intervene() -> None:
    lab = Laboratory(values(), 1, SystemClock())
    assert lab.odds(attempt(), SECOND).until_ps == SECOND + SLICE


def test_odds_hold_as_long_as_nothing_moves_in_virtual_time() -> None:
    lab = laboratory(changes={"alice.coupling_drift": 0.03})
    body = attempt()
    assert lab.odds(body, SECOND).until_ps == SECOND + 2 * SECOND  # 1800 s (0.001 / 0.03)^2
    assert laboratory().odds(body, SECOND).until_ps == SECOND + 20 * SECOND


@pytest.mark.parametrize(
    "touch",
    [
        lambda lab: lab.part("alice.laser_729").unlock(),
        lambda lab: setattr(lab.part("bob.oven"), "setpoint_k", 313.0),
        lambda lab: setattr(lab.part("bob.etalon"), "enabled", False),
        lambda lab: setattr(lab.part("alice.pump"), "power_setpoint_w", 0.01),
        lambda lab: setattr(lab.part("alice.pump"), "offset_setpoint_m", 1e-12),
        lambda lab: setattr(lab.part("bob.coil"), "limit_a", 1.4),
        lambda lab: lab.part("charlie.polarisation_bob").turn_to(1, 0.3),
    ],
)
def test_odds_hold_for_a_slice_while_something_moves(touch) -> None:
    lab = laboratory()
    touch(lab)
    assert lab.odds(attempt(), SECOND // 100).until_ps == SECOND // 100 + SLICE


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("bob.aom", "power_dbm", 20.0),
        ("alice.pump", "interlock_closed", False),
        ("alice.laser_854", "current_a", 0.06),
        ("charlie.snspd", "bias_a", 10e-6),
        ("charlie.snspd", "latched", True),
        ("bob.oven", "temperature_k", 316.0),
    ],
)
def test_odds_that_hold_are_told_anew_once_a_part_is_touched(part: str, name: str, value: object) -> None:
    lab = laboratory()
    body = attempt()
    before = lab.odds(body, SECOND)
    assert lab.odds(body, 2 * SECOND) == before
    touched = lab.part(part)
    setattr(touched[-1] if isinstance(touched, list) else touched, name, value)
    after = lab.odds(body, 2 * SECOND)
    assert after.patterns["01"] < 0.9 * before.patterns["01"]


def test_light_that_is_switched_off_between_two_readouts_is_seen() -> None:
    lab = laboratory()
    light = [pulse(f"{node}.{beam}", 0, 500 * us) for node in NODES for beam in ("cool_397", "repump_866")]
    read = segment(light, [OpenGate("alice.pmt", 0, 500 * us, "n")], 500 * us, "read")
    counts = [lab.play(read, k * SECOND)["n"].count for k in range(20)]
    assert np.mean(counts) > 5
    lab.part("alice.laser_397").emission = False
    assert lab.play(read, 20 * SECOND)["n"].count < 3


def test_drifts_are_smaller_than_statistics_while_odds_hold() -> None:
    lab = laboratory(5)
    body = attempt()
    odds = [lab.odds(body, 20 * k * SECOND).patterns["10"] for k in range(400)]
    steps = np.diff(np.log(odds))
    assert 1e-4 < steps.std() < 1.5e-3


def test_a_laser_locks_again_and_the_link_is_back() -> None:
    lab = laboratory()
    body = attempt()
    before = lab.odds(body, 0).patterns["10"]
    laser = lab.part("bob.laser_729")
    laser.unlock()
    laser.lock_enabled = True
    assert lab.odds(body, SECOND // 2).patterns["10"] < 0.6 * before
    lab.odds(body, SECOND)
    assert lab.odds(body, 2 * SECOND).patterns["10"] == pytest.approx(before, rel=0.01)


def test_one_node_alone_heralds_no_pair() -> None:
    lab = laboratory(changes=STILL)
    body = attempt(nodes=("alice",))
    assert lab.odds(body, 0).patterns["10"] == pytest.approx(0.17 * 0.026 * 0.0456, rel=0.02)
    lab.play_given(body, "10", 0)
    assert abs(lab.true_qubits()[1, 2]) < 1e-12


def test_a_gate_that_does_not_fit_is_refused() -> None:
    lab = laboratory()
    body = attempt()
    doubled = Segment(body.pulses, (*body.gates, body.gates[0]), body.duration_ps, "double")
    with pytest.raises(ConfigError, match="segment 'double': an attempt has at most one gate per detector"):
        lab.odds(doubled, 0)
    with pytest.raises(ConfigError, match="pattern '1' does not fit its 2 gates"):
        lab.play_given(body, "1", 0)


def test_switched_off_laboratory_comes_up() -> None:
    lab = laboratory(changes={"run.powered": False})
    assert lab.odds(attempt(), 0).patterns["10"] < 1e-12
    assert lab.detector_clicks(0.0, 0.0) == [0, 0]
    lab.power_up()
    assert lab.odds(attempt(), 0).patterns["10"] == pytest.approx(4.17e-4, rel=0.02)


# time and chance
def story(seed: int) -> str:
    """Everything that happens in a short run, as text."""
    lab = laboratory(seed)
    told: list[Any] = []
    for after, estimate, true, detector in tracked_heralds(lab, 8, 8):
        told.append(
            (after, estimate, true, detector, lab.play(measurement(((5 * us, 0.1), (5 * us, 0.3))), after))
        )
        lab.skip([(cooling(), 50), (attempt(), 50)], after + SECOND // 100, 50 * CYCLE)
        told.append(lab.odds(attempt(), after + SECOND // 5).patterns)
        told.append(lab.true_qubits().tolist())
    told.append(lab.part("charlie.tagger").tags)
    told.append(lab.detector_clicks(0.0, 4.0))
    told.append([lab.part(f"{node}.laser_397").free_running_offset_hz() for node in NODES])
    return repr(told)


def test_the_same_seed_is_the_same_to_the_bit() -> None:
    first = story(7)
    assert first == story(7)
    assert first != story(8)


def test_streams_do_not_depend_on_the_order_they_are_asked_for() -> None:
    one, other = laboratory(5), laboratory(5)
    a = one.rng("x").random(3).tolist()
    other.rng("y").random(10)
    assert other.rng("x").random(3).tolist() == a
    assert one.rng("y").random() != one.rng("x").random()


@pytest.mark.parametrize("begin", [0.0, 123_456.789, 3e7])
def test_waiting_in_virtual_time(begin: float) -> None:
    clock = VirtualClock(begin)
    lab = Laboratory(values(), 1, clock)
    assert lab.now() == 0.0
    for time in (1, 250, 375 * us, 80 * SECOND + 1):
        lab.wait_until_ps(time)
        assert time <= lab.now_ps() <= time + 10_000
    lab.wait_until_ps(5)
    assert lab.now_ps() >= 80 * SECOND


def test_waiting_in_scaled_time() -> None:
    lab = Laboratory(values(), 1, ScaledClock(1000.0))
    lab.wait_until_ps(SECOND)
    assert lab.now_ps() >= SECOND


def test_the_flight_of_the_light_is_that_of_five_kilometres() -> None:
    arrival = laboratory().outlook(attempt(), 0).arrivals_ps[0] - 30 * us - 1125
    assert arrival == pytest.approx(5000 * 1.468 / 299_792_458 * 1e12, abs=1)
    assert abs(arrival - FLIGHT) < ns
