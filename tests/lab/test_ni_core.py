"""The NI core on a simulated card over gRPC, the world behind it: a Rabi scan, a slow phase scan, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from labctl import config as configs
from labctl.core.session import RecordMessage
from labctl.errors import ScheduleError
from labctl.run import journal
from labctl.run.runner import Observer
from labctl.schedule.items import (
    Branch,
    Feedback,
    Gate,
    HostPoint,
    Item,
    LineTrigger,
    Pulse,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    Wait,
)
from labctl.units import us
from labctl.up.acquire import VirtualLab, refuse
from sequences.link import link
from sequences.rabi import rabi
from sequences.slow_phase import slow_phase

ROOT = Path(__file__).parents[2]
NI = configs.load(ROOT / "configs" / "ca40_10km_ni.toml")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[VirtualLab]:
    with VirtualLab(NI, ROOT, 5, tmp_path, "nidaq") as here:
        yield here


def test_a_rabi_scan(lab: VirtualLab):
    outcome = lab.run(rabi(points=6, step=4 * us, readout=300 * us, threshold=3), 30)
    assert outcome.complete and outcome.records == 30, outcome.error
    for name in ("Alice", "Bob"):
        flopping = next(one for one in outcome.results if name in one.label and "pulse" in one.label)
        assert flopping.value.value == pytest.approx(10e-6, abs=4 * flopping.value.standard_error + 0.5e-6)


def test_a_slow_phase_scan(lab: VirtualLab):
    core = cast("Any", lab._runner)._core._core
    assert [len(buffer.windows) for buffer in core.lower(slow_phase())] == [
        4,
        2,
    ] and not core.capabilities().reacts
    outcome = lab.run(slow_phase(points=8), 40)
    assert outcome.complete
    assert outcome.value("contrast").value > 0.85
    records = journal.read(outcome.folder / "journal").records
    times = [time_ps for _, time_ps, _ in records]
    assert times == sorted(times) and times[0] > 0
    assert {values["point"] for _, _, values in records} <= set(range(8))
    assert all(values["reference_clicks"] > 5 for _, _, values in records)
    card = cast("Any", lab.instruments["charlie.sequencer"])
    assert card.tasks == []  # the card is free again, and every line low
    driven = card.card.line_levels
    assert driven and not any(driven.values())


def test_a_run_that_is_stopped_and_host_points_that_are_told(lab: VirtualLab):
    told: list[str] = []

    class Stopping(Observer):
        def host_point(self, name: str) -> None:
            told.append(name)
            if len(told) == 3:
                lab.stop()

    outcome = lab.run(slow_phase(points=2), 50, Stopping())
    lab._runner.stop_requested.clear()
    assert outcome.reason == "stopped" and 2 <= outcome.records <= 4
    assert set(told) == {"read the reference, set the phase"}


def test_a_card_that_is_pulled_out_ends_the_run_with_its_words(lab: VirtualLab):
    card = cast("Any", lab.instruments["charlie.sequencer"])

    class Pulling(Observer):
        def record(self, message: RecordMessage) -> None:
            card.unplug()

    outcome = lab.run(slow_phase(points=2), 5, Pulling())
    card.plug_in()
    assert outcome.reason == "CoreError" and "charlie.sequencer at nidaqmx://" in outcome.error
    assert lab.run(slow_phase(points=2), 2).complete


LIGHT = Pulse("alice.cool_397", 20 * us)
COUNT = Gate("alice.pmt", 20 * us, "n", 2)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (
            (COUNT, Branch("n.bright", {"0": Wait(us), "1": LIGHT})),
            "shot at 20 us: a branch on 'n.bright', which is",
        ),
        (
            (COUNT, Feedback("n", "alice.qubit_729")),
            "fed back from 'n', which is measured in the same buffer",
        ),
        (
            (LineTrigger("alice.mains"), LIGHT),
            "shot at 0 ps, alice.mains: waits for an edge: this core starts",
        ),
        ((COUNT, Report({"t": "n.first_ps"})), "the card counts clicks, it does not time them"),
        ((Tone("alice.qubit_729", frequency_hz=1e6), LIGHT), "no frequencies"),
        ((Tone("alice.qubit_729", amplitude=0.5), LIGHT), "no analogue output sets the line's amplitude"),
        ((Tone("bob.reference_393", phase_turns=0.5), LIGHT), "no analogue output sets the line's phase"),
        ((Wait(us // 2), LIGHT), "off this line's grid of 1 us"),
        ((Together((LIGHT, Pulse("alice.align_1550", 5 * us))),), "no terminal of the NI card is mapped"),
        (
            (COUNT, Wait(us), Gate("alice.pmt", 20 * us, "m")),
            "the strobe that latches the counters needs 2 us",
        ),
    ],
)
def test_what_a_buffer_cannot_do_is_refused_with_the_place(item: tuple[Item, ...], words: str):
    with pytest.raises(ScheduleError) as caught:
        refuse(Schedule("shot", Series(item, name="shot")), NI, "nidaq")
    assert words in str(caught.value)


def test_the_link_is_refused_for_its_attempts():
    with pytest.raises(ScheduleError, match="link / attempt at 0 ps: attempts until a herald") as caught:
        refuse(link(), NI, "nidaq")
    assert "play it on the ARTIQ core or on the simulated one" in str(caught.value)


def test_a_host_point_lets_a_shot_branch_on_what_it_measured(lab: VirtualLab):
    shot = Series(
        (
            COUNT,
            Report({"n": "n"}),
            HostPoint("look"),
            Branch("n.bright", {"0": Wait(us), "1": Wait(2 * us)}),
            Gate("alice.pmt", 30 * us, "m"),
            Report({"m": "m"}),
        ),
        name="shot",
    )
    outcome = lab.run(Schedule("shot", shot, rounds="shot"), 2)
    assert outcome.complete and outcome.records == 4
