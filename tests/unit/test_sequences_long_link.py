"""The link with an echo, over 101 km, and what makes its rounds void."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.config import load
from labctl.run.results import results
from labctl.schedule.check import check
from labctl.schedule.items import Attempt, Branch, Feedback, Item, Schedule, Series, Together, duration
from labctl.schedule.timeline import flatten
from labctl.units import ms, ns, us
from sequences.link import EXCITATION, PI_TIME, echoes, link, long_link, measurement

LONG = load(Path(__file__).parents[2] / "configs/ca40_101km.toml")
FLIGHT = 247_283 * ns


def loop_of(schedule: Schedule) -> Attempt:
    assert isinstance(schedule.body, Series)
    loop = schedule.body.items[0]
    assert isinstance(loop, Attempt)
    return loop


def starts_of(item: Item, line: str) -> list[int]:
    timeline, _ = flatten(item)
    wanted = timeline.lines.index(line)
    return [
        int(start) for start, which in zip(timeline.start_ps, timeline.line, strict=True) if which == wanted
    ]


def feedbacks(item: Item) -> list[Feedback]:
    match item:
        case Feedback():
            return [item]
        case Series() | Together():
            return [found for part in item.items for found in feedbacks(part)]
        case Branch():
            return [found for part in item.cases.values() for found in feedbacks(part)]
        case _:
            return []


@pytest.mark.parametrize("measure", ["fidelity", "tomography", "bell"])
@pytest.mark.parametrize("echo", [0, 1, 2])
def test_the_long_lab_can_play_it(measure: str, echo: int) -> None:
    assert check(long_link(measure=measure, echo=echo, stored=1 * ms, checks=380 * ms), LONG.line) == []


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("node", ["alice", "bob"])
def test_echoes_lie_symmetrically_between_excitation_and_analysis(count: int, node: str) -> None:
    body = loop_of(long_link(echo=count)).body
    end = duration(body)
    assert end == 30 * us + 2 * FLIGHT + 1_034 * ns
    starts = starts_of(body, f"{node}.qubit_729")[1:]
    [excited] = starts_of(body, f"{node}.excite_854")
    middles = [start + PI_TIME // 2 for start in starts]
    span = end - excited
    expected = [excited + (2 * k + 1) * span / (2 * count) for k in range(count)]
    assert middles == pytest.approx(expected, abs=5_000)
    assert all(start % 1_000 == 0 for start in starts)


def test_an_odd_number_of_echoes_turns_the_sign_of_the_phase() -> None:
    for echo, scale in ((0, 1), (1, -1), (2, 1), (3, -1)):
        for measure in ("fidelity", "tomography", "bell"):
            found = feedbacks(measurement(measure, 0, 500 * us, 5, echo))
            assert found and {one.scale for one in found} == {scale}


def test_echoes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        echoes("alice", 30 * us, 4)
    with pytest.raises(ValueError, match="0 or more"):
        link(echo=-1)
    assert echoes("alice", 50 * us - EXCITATION, 0) == ()


def test_stored_pairs_and_checks_take_their_time() -> None:
    short, long = link(), link(stored=1 * ms, checks=2 * ms)
    assert isinstance(short.body, Series) and isinstance(long.body, Series)
    (_, plain), (_, stored, checks) = short.body.items, long.body.items
    assert isinstance(plain, Branch) and isinstance(stored, Branch)
    assert duration(stored.cases["psi_plus"]) == (duration(plain.cases["psi_plus"]) or 0) + 1 * ms
    assert duration(checks) == 2 * ms
    assert long_link().arguments["reference_nominal"] == 62


def record(sigma: float, clicks: int, setting: int, same: bool) -> dict[str, Any]:
    return {
        "attempts": 100, "phase_sigma_rad": sigma, "reference_clicks": clicks, "setting": setting,
        "bright_a": 1, "bright_b": int(same),
    }  # fmt: skip


def test_rounds_are_void_for_what_was_known_before_the_draw() -> None:
    """Good rounds follow a fringe of full contrast; rounds with an unknown phase or odd reference counts do not count."""
    rng = np.random.default_rng(1)
    rounds = []
    for n in range(972):
        setting = n % 9
        good = n // 9 % 3 != 0
        even = rng.random() < (1 + np.cos((setting - 1) * np.pi / 4)) / 2 if good else rng.random() < 0.5
        sigma, clicks = ((0.3, 24), (0.1, 11), (0.1, 49))[n // 27 % 3] if not good else (0.1, 12 + n % 37)
        rounds.append((n, (n + 1) * 10**12, record(sigma, clicks, setting, bool(even) and setting > 0)))
    found = {
        r.key: r.value
        for r in results("heralded_pair", rounds, {"measure": "fidelity", "reference_nominal": 24})
    }
    assert found["valid_share"].value == pytest.approx(2 / 3)
    assert found["parity_contrast"].value > 0.9
    without = {r.key: r.value for r in results("heralded_pair", rounds, {"measure": "fidelity"})}
    assert without["parity_contrast"].value < 0.9
