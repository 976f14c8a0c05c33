"""The link, fringe and noise sequences: times, settings and rotations against PHYSICS.md, and no problem on the shipped lines."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.config import load
from labctl.schedule.check import check
from labctl.schedule.items import (
    Attempt,
    Branch,
    Draw,
    Feedback,
    Item,
    Pulse,
    Repeat,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    duration,
    from_json,
    to_json,
)
from labctl.schedule.timeline import Timeline, flatten
from labctl.units import ns, us
from sequences.fringe import fringe
from sequences.link import COLUMNS, EXCITATION, NODES, PI_TIME, TURN, bell_settings, link
from sequences.noise import noise

FLIGHT = 24_483 * ns
CONFIG = load(Path(__file__).parents[2] / "configs/ca40_10km.toml")
MEASURES = ("fidelity", "tomography", "bell")


def parts(schedule: Schedule) -> tuple[Attempt, Branch]:
    assert isinstance(schedule.body, Series)
    loop, branch = schedule.body.items
    assert isinstance(loop, Attempt) and isinstance(branch, Branch)
    return loop, branch


def everything(item: Item) -> list[Item]:
    """The item and all items in it."""
    found = [item]
    match item:
        case Series() | Together():
            inner = list(item.items)
        case Branch():
            inner = list(item.cases.values())
        case Repeat():
            inner = [item.body]
        case Attempt():
            inner = [item.body, *([item.every.body] if item.every else [])]
        case _:
            inner = []
    for part in inner:
        found += everything(part)
    return found


def on(timeline: Timeline, line: str) -> list[tuple[int, int]]:
    """When a line is on: (start, end), ps."""
    return [
        (int(start), int(start + length))
        for start, length, which in zip(timeline.start_ps, timeline.duration_ps, timeline.line, strict=True)
        if timeline.lines[which] == line
    ]


@pytest.mark.parametrize("measure", MEASURES)
def test_the_shipped_lab_can_play_every_sequence(measure: str):
    for schedule in (link(measure=measure), link(measure=measure, cool_every=5), fringe(), noise()):
        assert [str(problem) for problem in check(schedule, CONFIG.line)] == []
        assert from_json(to_json(schedule)) == schedule


def test_an_attempt_takes_80_us_and_with_its_cooling_375_us():
    loop, _ = parts(link())
    assert loop.every is not None and loop.every.attempts == 1
    assert duration(loop.body) == 80 * us and duration(loop.every.body) == 295 * us


def test_light_meets_its_gates_at_the_midpoint():
    loop, _ = parts(link(window=60 * ns, window_lead=4 * ns))
    attempt, _ = flatten(loop.body)
    for node in NODES:
        ((start, end),) = on(attempt, f"{node}.excite_854")
        assert end - start == EXCITATION
        ((turned, ready),) = on(attempt, f"{node}.qubit_729")
        assert ready == start and ready - turned == PI_TIME  # the π pulse ends when the 854 nm pulse begins
        for detector in (0, 1):
            assert on(attempt, f"charlie.snspd_{detector}") == [
                (start + FLIGHT - 4 * ns, start + FLIGHT + 56 * ns)
            ]
    assert loop.every is not None
    rest = loop.every.body
    assert isinstance(rest, Series)
    cooling, _ = flatten(Series(rest.items[:-1]))
    slots = on(cooling, "alice.reference_393")
    assert slots == on(cooling, "bob.reference_393") and [b - a for a, b in slots] == [12 * us, 12 * us]
    for detector in (0, 1):
        assert on(cooling, f"charlie.snspd_{detector}") == [(a + FLIGHT, b + FLIGHT) for a, b in slots]
    bias = {
        node: [
            float(cooling.phase_turns[i])
            for i in range(len(cooling))
            if cooling.lines[cooling.line[i]] == f"{node}.reference_393"
        ]
        for node in NODES
    }
    track = rest.items[-1]
    assert [a - b for a, b in zip(bias["alice"], bias["bob"], strict=True)] == [
        turns
        for _, _, turns in track.gates  # type: ignore[union-attr]
    ]


@given(st.floats(0.001, 0.999))
def test_amplitude_of_the_854_pulse_makes_alpha(alpha: float):
    loop, _ = parts(link(alpha=alpha))
    tones = {
        item.line: item.amplitude
        for item in everything(loop.body)
        if isinstance(item, Tone) and item.line.endswith("excite_854")
    }
    for node in NODES:
        amplitude = tones[f"{node}.excite_854"]
        assert amplitude is not None and 0 < amplitude < 1
        assert math.sin(math.pi / 2 * amplitude) ** 2 == pytest.approx(
            alpha
        )  # a pulse of nominal amplitude is a π pulse


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 2.0])
def test_impossible_arguments_are_refused(alpha: float):
    with pytest.raises(ValueError, match="alpha must be between 0 and 1"):
        link(alpha=alpha)
    with pytest.raises(ValueError, match="fidelity, tomography or bell"):
        link(measure="all")
    with pytest.raises(ValueError, match="points must be 2 or more"):
        fringe(points=7)
    with pytest.raises(ValueError, match="a cycle must last at least"):
        fringe(cycle=200 * us)


@pytest.mark.parametrize("measure", MEASURES)
def test_every_outcome_is_followed_by_its_measurement_and_a_record(measure: str):
    loop, branch = parts(link(measure=measure))
    assert set(branch.cases) == {*loop.outcomes.values(), "timeout"} - {"again"}
    assert loop.outcomes["00"] == loop.outcomes["11"] == "again"
    for name in ("psi_plus", "psi_minus"):
        case = branch.cases[name]
        assert isinstance(case, Series) and case.kind == "anchored"
        (report,) = [item for item in everything(case) if isinstance(item, Report)]
        assert set(report.columns) <= set(COLUMNS)
        assert isinstance(case.items[-1], Report)  # after everything else
    both = [
        [item.offset for item in everything(branch.cases[name]) if isinstance(item, Feedback)]
        for name in ("psi_plus", "psi_minus")
    ]
    # the other detector: the phase is half a turn away
    assert [(a + TURN // 2) % TURN for a in both[0]] == both[1]
    assert all(0 <= offset < TURN for offset in both[0] + both[1])


def rotations(item: Item) -> list[tuple[str, float, float]]:
    """(ion, angle in π, phase in turns) of each 729 nm pulse, with the phase that feedback adds to a phase of 0."""
    phases = dict.fromkeys((f"{node}.qubit_729" for node in NODES), 0.0)
    found: list[tuple[str, float, float]] = []
    for part in everything(item):
        match part:
            case Feedback():
                phases[part.line] = part.offset / TURN
            case Tone():
                phases[part.line] = phases[part.line] if part.phase_turns is None else part.phase_turns
            case Pulse():
                found.append((part.line.split(".")[0], part.duration / PI_TIME, phases[part.line]))
            case _:
                pass
    return found


def branches(measure: str) -> tuple[list[Draw], Branch]:
    _, branch = parts(link(measure=measure))
    inner = everything(branch.cases["psi_plus"])
    return [i for i in inner if isinstance(i, Draw)], next(i for i in inner if isinstance(i, Branch))


def test_fidelity_settings_are_populations_and_eight_phases():
    (draw,), chosen = branches("fidelity")
    assert draw.weights == (8.0, *(1.0,) * 8) and set(chosen.cases) == {str(k) for k in range(9)}
    assert rotations(chosen.cases["0"]) == []
    for k in range(8):
        assert rotations(chosen.cases[str(k + 1)]) == [("alice", 0.5, 0.0), ("bob", 0.5, k / 8)]
    assert (
        len({duration(case) for case in chosen.cases.values()}) == 1
    )  # whatever is drawn, readout comes at one time


def axis(rotation: list[tuple[float, float]]) -> np.ndarray:
    """Bloch vector that a rotation brings to +z (S): what the readout then measures."""
    rho_axis = np.array([[1, 0], [0, -1]], complex)
    for angle, phase in rotation:
        phi, theta = 2 * math.pi * phase, angle * math.pi
        x, y = np.array([[0, 1], [1, 0]], complex), np.array([[0, -1j], [1j, 0]])
        unitary = math.cos(theta / 2) * np.eye(2) - 1j * math.sin(theta / 2) * (
            math.cos(phi) * x + math.sin(phi) * y
        )
        rho_axis = unitary.conj().T @ rho_axis @ unitary
    return np.array([rho_axis[0, 1].real, -rho_axis[0, 1].imag, rho_axis[0, 0].real])


def measured(item: Item, ion: str) -> np.ndarray:
    return axis([(angle, phase) for name, angle, phase in rotations(item) if name == ion])


def test_tomography_measures_the_nine_pauli_bases():
    (draw,), chosen = branches("tomography")
    assert draw.weights == (1.0,) * 9
    pauli = np.eye(3)
    for k in range(9):
        a, b = measured(chosen.cases[str(k)], "alice"), measured(chosen.cases[str(k)], "bob")
        assert np.abs(np.abs(a) - pauli[k // 3]).max() < 1e-12
        assert np.abs(np.abs(b) - pauli[k % 3]).max() < 1e-12
    signs = {
        tuple(np.round(measured(chosen.cases[str(4 * k)], ion), 9) @ pauli[k] for ion in NODES)
        for k in range(3)
    }
    assert signs in ({(1.0, 1.0)}, {(1.0, 1.0), (-1.0, -1.0)})  # both ions turn the same way


def test_bell_settings_are_those_of_chsh_and_the_key():
    settings = bell_settings(0)
    assert isinstance(settings, Series)
    draw_a, draw_b, chosen = settings.items
    assert isinstance(draw_a, Draw) and isinstance(draw_b, Draw) and isinstance(chosen, Branch)
    assert sum(draw_a.weights) == pytest.approx(1) and sum(draw_b.weights) == pytest.approx(1)
    diagonal = 1 / math.sqrt(2)
    for a, inner in chosen.cases.items():
        assert isinstance(inner, Branch)
        for b, case in inner.cases.items():
            alice, bob = measured(case, "alice"), measured(case, "bob")
            assert np.abs(alice - {"0": [0, 0, 1], "1": [1, 0, 0]}[a]).max() < 1e-12
            wanted = {"0": [diagonal, 0, diagonal], "1": [-diagonal, 0, diagonal], "2": [0, 0, 1]}[b]
            assert np.abs(bob - wanted).max() < 1e-12


def test_the_fringe_scans_a_whole_turn_against_the_tracked_phase():
    schedule = fringe(points=8)
    inner = everything(schedule.body)
    (chosen,) = [item for item in inner if isinstance(item, Branch)]
    found = [(case.scale, case.offset) for case in chosen.cases.values() if isinstance(case, Feedback)]
    assert found == [(-1, k * TURN // 8) for k in range(8)]
    assert schedule.rounds == "shot" and link().rounds == "round"
    cycle = [item for item in inner if isinstance(item, Repeat)]
    assert len(cycle) == 1 and cycle[0].count == 4 and duration(cycle[0].body) == 375 * us


def test_noise_opens_both_gates_in_the_dark():
    schedule = noise(gate=2 * us, dark=100 * us)
    assert isinstance(schedule.body, Series)
    timeline, _ = flatten(Series(schedule.body.items[:-1]))
    lit = [on(timeline, line)[-1][1] for line in timeline.lines if "snspd" not in line]
    for detector in (0, 1):
        ((opens, closes),) = on(timeline, f"charlie.snspd_{detector}")
        assert closes - opens == 2 * us and opens - max(lit) == 100 * us > FLIGHT
