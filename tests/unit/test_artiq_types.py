"""Emitted kernels have types that ARTIQ's compiler accepts; every one that is played in a test is looked at as it is prepared."""

from __future__ import annotations

from pathlib import Path

import pytest
from artiq_parts import KASLI, LAB, compiled, no_clicks, prepared
from artiq_types import KernelTypeError
from fake_artiq import Machine
from test_artiq_play import schedule
from test_artiq_source import SOURCES

from labctl import lab as labs
from labctl.core.artiq.compile import compile_schedule
from labctl.schedule.items import Pulse, Tone, Wait
from labctl.units import us

ROOT = Path(__file__).parents[2]
LIBRARY = ["decoupling", "lines_729", "slow_phase"]


def check(source: str) -> None:
    prepared(source, Machine(no_clicks), {"rounds": 1, "seed": 1})


@pytest.fixture(scope="module")
def link() -> str:
    return SOURCES["link"]()


@pytest.mark.parametrize("name", LIBRARY)
def test_kernels_of_the_library(name: str) -> None:
    made = labs.schedule(LAB, ROOT, name, {})
    check(compile_schedule(made, LAB.line, LAB.core.artiq, KASLI).source)


def test_a_table_with_both_kinds_of_dds() -> None:
    pulses = [part for line in ("n.dds", "n.old") for k in (0, 1) for part in (Tone(line, phase_turns=k / 4), Pulse(line, 5 * us), Wait(10 * us))]  # fmt: skip
    source = compiled(schedule(*pulses), {"test": "table"}).source
    check(source)
    with pytest.raises(KernelTypeError, match=r"64 is not 32|32 is not 64"):
        check(source.replace("int32(self.test_frequency[i])", "self.test_frequency[i]"))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("self.r_herald_attempts = int64(count)", "self.r_herald_attempts = int32(count)", r"is not (32|64)"),
        ("count += 1", "count += self.r_click_0 + int32(1)", r"is not (32|64)|would be cut"),
        ("self.later(t, 5000)", "self.later(t, int32(5000))", r"is not (32|64)"),
        ("t += 80000", "number = at", "at has no type|at is not always initialized"),
        ("pattern = 0", "pass", "pattern is not always initialized"),
        ("self.ttl5.on()", "self.ttl5.input()", "TTLOut has no input"),
        ("self.all_off()", "self.all_off(tried)", "has 1 arguments"),
        ("int64(-1)", "-1.0", r"1\.0"),
    ],
)
def test_what_the_compiler_would_refuse_is_found(link: str, before: str, after: str, words: str) -> None:
    assert before in link
    with pytest.raises(KernelTypeError, match=words):
        check(link.replace(before, after))
