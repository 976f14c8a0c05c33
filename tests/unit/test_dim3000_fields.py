"""The DIM3000's answers: both ends against the published shapes, and against everything else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import timebase_dim3000 as driver
from simulated_hw.timebase_dim3000 import RANGES, SimTimebaseDim3000
from simulated_hw.world.parts import RfChannel

DEVICE = "Rdev:ADRV4|Rhv:4|Rfv:5|Rfb:168|Rsn:111111"  # DEVICES.md 3.3


def instrument() -> SimTimebaseDim3000:
    return SimTimebaseDim3000(RfChannel(), lambda: 0.0, np.random.default_rng(1))


def test_the_published_device_answer() -> None:
    assert instrument().answer("Gdev") == DEVICE
    assert driver.decode(DEVICE, driver.DEVICE_FIELDS)["sn"] == "111111"


def test_parameters_come_as_24_fields_in_the_fixed_order() -> None:
    answer = instrument().answer("Gpar")
    assert answer is not None
    assert [field.partition(":")[0] for field in answer.split("|")] == [f"R{n}" for n in driver.PARAMETERS]
    assert len(driver.PARAMETERS) == 24
    assert driver.decode_parameters(answer)["freq"] == 80_000_000


@given(st.lists(st.integers(-(10**9), 10**9), min_size=24, max_size=24))
def test_parameters_survive_the_wire(values: list[int]) -> None:
    named = dict(zip(driver.PARAMETERS, values, strict=True))
    assert driver.decode_parameters("|".join(f"R{n}:{v}" for n, v in named.items())) == named


@given(st.text(max_size=300))
def test_no_text_upsets_the_driver(noise: str) -> None:
    with pytest.raises(ValueError):
        driver.decode_parameters(noise)


@given(st.permutations(range(24)).filter(lambda order: order != [*range(24)]))
def test_fields_in_another_order_are_refused(order: list[int]) -> None:
    answer = instrument().answer("Gpar")
    assert answer is not None
    fields = answer.split("|")
    with pytest.raises(ValueError, match="24 fields"):
        driver.decode_parameters("|".join(fields[n] for n in order))


@given(st.integers(0, 400), st.sampled_from("x;:| \x7f"))
def test_a_wrong_character_in_a_name_or_number_is_noticed(at: int, wrong: str) -> None:
    answer = instrument().answer("Gpar")
    assert answer is not None
    at %= len(answer)
    if answer[at] != wrong:
        with pytest.raises(ValueError):
            driver.decode_parameters(answer[:at] + wrong + answer[at + 1 :])


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_no_bytes_upset_the_simulator(pieces: list[bytes]) -> None:
    sim = instrument()
    sim.spacing_s = 0.0
    sent: list[bytes] = []
    session = sim.session("main", sent.append)
    for piece in pieces:
        session.receive(piece)
    session.receive(b"\n")
    sent.clear()
    session.receive(b"Gd")
    session.receive(b"ev\n")
    assert sent == [DEVICE.encode() + b"\n"]


@given(st.sampled_from(sorted(RANGES)), st.integers(-999_999_999, 999_999_999))
def test_a_setting_is_taken_or_refused_and_nothing_else_moves(name: str, value: int) -> None:
    sim = instrument()
    before = dict(sim.values)
    answer = sim.answer(f"S{name}:{value}")
    lowest, highest = RANGES[name]
    if lowest <= value <= highest:
        assert answer is None and sim.values == before | {name: value}
    else:
        assert answer == "error" and sim.values == before
