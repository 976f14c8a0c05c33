"""The sequences of this lab on the lines of its lab files."""

from pathlib import Path

import pytest

from labctl.config import load
from labctl.schedule.check import check
from labctl.schedule.items import Attempt, Branch, Feedback, Item, Repeat, Report, Schedule, Series, duration
from labctl.schedule.lines import Line
from labctl.schedule.timeline import flatten, one_pass
from labctl.units import ms, ns, s, us
from sequences.fringe import fringe
from sequences.link import link
from sequences.noise import noise

ROOT = Path(__file__).parents[2]

SCHEDULES = {
    "link fidelity": lambda: link(),
    "link tomography": lambda: link(measure="tomography", alpha=0.025),
    "link bell": lambda: link(measure="bell"),
    "link, cooling every 20 attempts": lambda: link(cool_every=20),
    "link over 101 km": lambda: link(flight=247_283 * ns),
    "fringe": lambda: fringe(),
    "fringe of 8 points": lambda: fringe(points=8, cycles_per_point=1),
    "fringe over 101 km": lambda: fringe(flight=247_300 * ns, cycle=1 * ms),
    "noise": lambda: noise(),
    "noise, short": lambda: noise(gate=10 * ms),
}


@pytest.fixture(scope="module")
def lines() -> dict[str, Line]:
    return load(ROOT / "configs" / "ca40_10km.toml").line


@pytest.fixture(scope="module")
def long_lines() -> dict[str, Line]:
    return load(ROOT / "configs" / "ca40_101km.toml").line


@pytest.mark.parametrize("name", SCHEDULES)
def test_sequences_can_be_played(name: str, lines: dict[str, Line], long_lines: dict[str, Line]) -> None:
    own = long_lines if "101 km" in name else lines
    assert [str(problem) for problem in check(SCHEDULES[name](), own)] == []


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_reported_column_is_described(name: str) -> None:
    schedule = SCHEDULES[name]()
    reported = {column for report in reports(schedule.body) for column in report.columns}
    assert reported
    assert reported <= set(schedule.columns)
    assert all(schedule.columns[column].long_name for column in reported)


def reports(item: Item) -> list[Report]:
    match item:
        case Report():
            return [item]
        case Series():
            return [report for part in item.items for report in reports(part)]
        case Repeat() | Attempt():
            return reports(item.body)
        case Branch():
            return [report for case in item.cases.values() for report in reports(case)]
        case _:
            return []


def test_a_link_attempt_with_its_cooling_takes_375_us() -> None:
    """PHYSICS.md 1.5: 375 us per attempt."""
    assert flatten(one_pass(link().body, {"herald": "timeout"}))[0].total_ps == 375 * us + 1 * us


def test_the_fringe_probes_where_the_link_excites() -> None:
    """Between reference and probe the phase walks for as long as between reference and photon."""
    of_link, _ = flatten(one_pass(link().body, {"herald": "timeout"}))
    shot, _ = flatten(one_pass(fringe(cycles_per_point=1).body))

    def gaps(timeline: object, probe: str) -> tuple[int, int]:
        assert isinstance(timeline, type(shot))
        starts = {
            line: [
                int(t)
                for t, k in zip(timeline.start_ps, timeline.line, strict=True)
                if timeline.lines[k] == line
            ]
            for line in timeline.lines
        }
        return starts[probe][-1] - starts["bob.reference_393"][0], starts["charlie.snspd_0"][-1] - starts[
            probe
        ][-1]

    walk, flight = gaps(shot, "alice.reference_393")
    walk_of_link, flight_of_link = gaps(of_link, "alice.excite_854")
    assert walk == walk_of_link
    assert flight == 24_483 * ns
    assert flight_of_link == flight - 4 * ns  # the gate opens before the photon arrives


def test_a_fringe_shot() -> None:
    schedule = fringe(points=4, cycles_per_point=3)
    assert duration(schedule.body) == 4 * 375 * us
    assert schedule.rounds == "shot"
    assert schedule.arguments["points"] == 4
    assert len(reports(schedule.body)) == 1
    (branch,) = [part for part in parts(schedule) if isinstance(part, Branch)]
    assert branch.cases == {
        str(k): Feedback("phase", "alice.reference_393", -1, 250_000 * k) for k in range(4)
    }


def parts(schedule: Schedule) -> tuple[Item, ...]:
    assert isinstance(schedule.body, Series)
    return schedule.body.items


def test_a_noise_shot_is_dark_while_the_detectors_are_open() -> None:
    timeline, _ = flatten(one_pass(noise(gate=2 * s).body))
    ends = timeline.start_ps + timeline.duration_ps
    opened = timeline.start_ps[timeline.is_gate]
    assert set(timeline.duration_ps[timeline.is_gate]) == {2 * s}
    assert (ends[~timeline.is_gate].max() + 100 * us <= opened).all()
    assert noise(gate=2 * s).arguments["gate"] == 2 * s


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: link(alpha=1.0), "alpha must be between 0 and 1"),
        (lambda: link(measure="fun"), "measure must be"),
        (lambda: fringe(points=1), "points must be 2 or more"),
        (lambda: fringe(points=7), "divide 1000000 microturns"),
        (lambda: fringe(cycle=200 * us), "a cycle must last at least 295000000 ps"),
    ],
)
def test_sequences_refuse_what_makes_no_sense(make: object, text: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=text):
        make()
