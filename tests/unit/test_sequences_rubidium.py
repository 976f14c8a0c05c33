"""The rubidium sequences: no problem on any rubidium lab, the cycle of PHYSICS.md 2, pictures, settings after the herald."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.config import load
from labctl.lab import schedule, sequence_names
from labctl.schedule.check import check
from labctl.schedule.draw import text
from labctl.schedule.items import (
    Attempt,
    Branch,
    Draw,
    Item,
    Repeat,
    Series,
    Together,
    duration,
    from_json,
    to_json,
)
from labctl.units import ms, ns, us
from sequences.rubidium_link import PI_TIME, alpha_pulse, attempt, default_echoes, flight_of, rubidium_link

ROOT = Path(__file__).parents[2]
LENGTHS = (11, 20, 50, 70, 100)


def parts(item: Item) -> Iterator[Item]:
    yield item
    match item:
        case Series() | Together():
            for one in item.items:
                yield from parts(one)
        case Repeat():
            yield from parts(item.body)
        case Branch():
            for case in item.cases.values():
                yield from parts(case)
        case Attempt():
            yield from parts(item.body)
        case _:
            pass


@pytest.mark.parametrize("km", LENGTHS)
@pytest.mark.parametrize("measure", ["fidelity", "tomography", "bell"])
def test_no_problem_on_the_lab_of_its_length(km: int, measure: str) -> None:
    config = load(ROOT / f"configs/rb_{km}km.toml")
    made = schedule(config, ROOT, "rubidium_link", {"measure": measure})
    assert check(made, config.line) == []
    assert made.arguments["fibre_km"] == km


def test_every_rubidium_sequence_of_the_lab_is_checked() -> None:
    config = load(ROOT / "configs/rb_11km.toml")
    for name in config.sequences:
        assert name in sequence_names(config, ROOT)
        assert check(schedule(config, ROOT, name, {}), config.line) == []


@pytest.mark.parametrize(("km", "cycle_us"), [(11, 670), (20, 715), (50, 861), (70, 959), (100, 1106)])
def test_an_attempt_with_its_share_of_pumping_takes_as_long_as_inferred(km: float, cycle_us: float) -> None:
    flight = flight_of(km)
    body = duration(attempt(0.025, flight, 120 * ns, 4 * ns, 12 * us, default_echoes(flight)))
    assert body is not None
    assert (body + 3 * ms / 5) / us == pytest.approx(cycle_us, rel=0.01)


def test_settings_are_drawn_after_the_herald_from_the_random_source() -> None:
    made = rubidium_link(measure="bell")
    every = list(parts(made.body))
    draws = [item for item in every if isinstance(item, Draw)]
    assert {draw.source for draw in draws} == {"qrng"}
    loops = [item for item in every if isinstance(item, Attempt)]
    assert not any(isinstance(inner, Draw) for loop in loops for inner in parts(loop.body))


def test_json_both_ways() -> None:
    made = rubidium_link()
    assert from_json(to_json(made)) == made


def test_the_picture_has_every_branch_of_loading() -> None:
    config = load(ROOT / "configs/rb_11km.toml")
    picture = text(rubidium_link(), config.line)
    for word in (
        "check",
        "load_both",
        "load_alice",
        "load_bob",
        "settle",
        "refill",
        "pumping",
        "photons arrive",
    ):
        assert word in picture


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"alpha": 1.0}, "between 0 and 1"),
        ({"fibre_km": 0.0}, "above 0 km"),
        ({"echoes": 3}, "even number"),
        ({"echoes": 6}, "do not fit"),
        ({"measure": "parity"}, "fidelity, tomography or bell"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rubidium_link(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("alpha", [1e-9, 0.025, 0.17, 0.9])
def test_the_pulse_of_alpha_is_within_the_amplitude_there_is(alpha: float) -> None:
    length, amplitude = alpha_pulse(alpha)
    assert 0 < amplitude <= 1
    assert math.sin(math.pi / 2 * amplitude * length / PI_TIME) ** 2 == pytest.approx(alpha, rel=1e-9)
    config = load(ROOT / "configs/rb_11km.toml")
    assert check(rubidium_link(alpha=alpha), config.line) == []
