"""The library in sequences/: every sequence can be played, is drawn and described, and draws no setting before its herald."""

import itertools
import shlex
from pathlib import Path
from typing import Any

import pytest

from labctl import lab as labs
from labctl.config import load
from labctl.errors import LabError
from labctl.schedule import draw
from labctl.schedule.check import check
from labctl.schedule.items import Attempt, Branch, Draw, Item, Repeat, Schedule, Series, Together

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sequences.md").read_text(encoding="utf-8")
PICTURES = ROOT / "docs" / "pictures"
COMMANDS = [shlex.split(line) for line in PAGE.splitlines() if line.startswith("labctl draw ")]
NAMES = [name for name, kind in labs.library(ROOT).items() if kind == labs.SEQUENCE]
PAIRS = ("link", "two_photon", "memory", "rubidium_link")
"""Sequences whose settings must be drawn after the herald."""


def picture(command: list[str]) -> Path:
    return ROOT / command[command.index("-o") + 1]


def config_of(command: list[str]) -> Path:
    name = command[command.index("--config") + 1] if "--config" in command else "ca40_10km"
    return ROOT / "configs" / f"{name}.toml"


def settings(command: list[str]) -> dict[str, str]:
    pairs = [after.partition("=") for before, after in itertools.pairwise(command) if before == "--set"]
    return {key: value for key, _, value in pairs}


def section(name: str) -> str:
    return PAGE.partition(f"\n### {name}\n")[2].partition("\n#")[0]


def command_for(name: str) -> list[str]:
    return next(command for command in COMMANDS if command[2] == name)


def made(name: str) -> Schedule:
    """A sequence with its default arguments, by the lab file its section draws it for."""
    return labs.schedule(load(config_of(command_for(name))), ROOT, name, {})


@pytest.mark.parametrize("name", NAMES)
def test_every_sequence_has_a_section_with_its_picture(name: str) -> None:
    text = section(name)
    assert text, f"docs/sequences.md has no section ### {name}"
    assert picture(command_for(name)).name == f"{name}.svg"
    assert f"(pictures/{name}.svg)" in text
    assert len(text.split()) > 20


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: picture(command).stem)
def test_pictures_are_what_labctl_draws_now(command: list[str]) -> None:
    """`make pictures` runs the same commands."""
    config = load(config_of(command))
    drawn = draw.svg(labs.schedule(config, ROOT, command[2], settings(command)), config.line)
    assert picture(command).read_text(encoding="utf-8") == drawn, "stale: run `make pictures`"


def test_no_picture_is_left_over() -> None:
    assert sorted(PICTURES.iterdir()) == sorted(picture(command) for command in COMMANDS)


@pytest.mark.parametrize("name", NAMES)
def test_every_sequence_can_be_played_by_its_lab(name: str) -> None:
    config = load(config_of(command_for(name)))
    schedule = labs.schedule(config, ROOT, name, {})
    assert [str(problem) for problem in check(schedule, config.line)] == []
    assert schedule.analysis
    assert all(column.long_name for column in schedule.columns.values())


@pytest.mark.parametrize("name", [name for name in NAMES if config_of(command_for(name)).stem == "ca40_10km"])
def test_the_long_link_has_arguments_of_its_own_for_what_depends_on_the_fibre(name: str) -> None:
    config = load(ROOT / "configs" / "ca40_101km.toml")
    schedule = labs.schedule(config, ROOT, name, {})
    assert [str(problem) for problem in check(schedule, config.line, links=config.links)] == []


def test_what_the_user_gives_goes_before_what_the_lab_gives() -> None:
    config = load(ROOT / "configs" / "ca40_101km.toml")
    of_lab = labs.schedule(config, ROOT, "memory", {})
    given = labs.schedule(config, ROOT, "memory", {"flight": "24.483us"})
    assert (of_lab.arguments["flight"], given.arguments["flight"]) == (247_283_000, 24_483_000)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"memry": {"flight": "1us"}}, r"\[arguments\.memry\] is for no sequence of this lab; did you mean 'memory'"),
        ({"memory": {"fligt": "1us"}}, r"\[arguments\.memory\]: sequence memory has no argument 'fligt'; did you mean 'flight'"),
        ({"memory": {"flight": "long"}}, "flight='long' is not a whole number, or a time"),
        ({"memory": {"flight": ["1us"]}}, r"\[arguments\]"),
    ],
)  # fmt: skip
def test_arguments_of_a_lab_that_no_sequence_takes_are_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(LabError, match=told):
        labs.schedule(load(ROOT / "configs" / "ca40_10km.toml", {"arguments": arguments}), ROOT, "memory", {})


def test_what_only_serves_others_and_procedures_are_no_sequences() -> None:
    assert {"shots", "photons"}.isdisjoint(labs.library(ROOT))
    assert "first_light" in labs.procedure_names(ROOT)
    assert "first_light" not in NAMES
    with pytest.raises(labs.ConfigError, match="first_light is a procedure"):
        labs.schedule(load(ROOT / "configs" / "ca40_10km.toml"), ROOT, "first_light", {})


def events(item: Item) -> list[str]:
    """Attempt loops and draws of an item in the order in which they happen, on whatever branch."""
    match item:
        case Attempt():
            inside = [*events(item.body), *(events(item.every.body) if item.every else [])]
            return [*inside, "herald"]
        case Draw():
            return [item.into]
        case Series() | Together():
            return [event for part in item.items for event in events(part)]
        case Repeat():
            return events(item.body)
        case Branch():
            return [event for case in item.cases.values() for event in events(case)]
        case _:
            return []


def drawn_after(schedule: Schedule) -> bool:
    """Whether every draw comes after the last attempt loop."""
    found = events(schedule.body)
    last = max(index for index, event in enumerate(found) if event == "herald")
    return all(event == "herald" for event in found[: last + 1]) and len(found) > last + 1


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("measure", ["fidelity", "tomography", "bell"])
def test_settings_are_drawn_after_the_herald(name: str, measure: str) -> None:
    config = load(config_of(command_for(name)))
    chosen = {"measure": measure} if name != "memory" else {}
    assert drawn_after(labs.schedule(config, ROOT, name, chosen))


@pytest.mark.parametrize("measure", ["fidelity", "tomography", "bell"])
def test_a_setting_drawn_while_the_pair_is_made_is_refused(measure: str) -> None:
    """The link with its draws moved into the attempt, and into the block before each: the checker finds both."""
    config = load(ROOT / "configs" / "ca40_10km.toml")
    link = labs.schedule(config, ROOT, "link", {"measure": measure})
    assert isinstance(link.body, Series)
    loop = link.body.items[0]
    assert isinstance(loop, Attempt) and loop.every is not None
    setting = Draw("setting_a" if measure == "bell" else "setting", (1.0,) * 9)
    early = [
        Attempt(Series((setting, loop.body)), loop.gates, loop.outcomes, loop.limit, loop.every),
        Attempt(
            loop.body,
            loop.gates,
            loop.outcomes,
            loop.limit,
            type(loop.every)(loop.every.attempts, Series((setting, loop.every.body))),
        ),
    ]
    for one in early:
        body = Series((one, *link.body.items[1:]), name="link")
        problems = [str(problem) for problem in check(Schedule("link", body, "heralded_pair"), config.line)]
        assert any("a setting is drawn before the herald" in problem for problem in problems), problems


@pytest.mark.parametrize("measure", ["fidelity", "tomography", "bell"])
def test_a_setting_drawn_before_the_attempts_is_refused(measure: str) -> None:
    """The link with its draws before the attempt loop and none after: the checker names the branch that uses them."""
    config = load(ROOT / "configs" / "ca40_10km.toml")
    link = labs.schedule(config, ROOT, "link", {"measure": measure})
    assert isinstance(link.body, Series)
    found: list[Draw] = []
    rest = tuple(without_draws(part, found) for part in link.body.items)
    once = {one.into: one for one in found}
    assert len(once) == (2 if measure == "bell" else 1)
    body = Series((*once.values(), *rest), name="link")
    problems = [str(problem) for problem in check(Schedule("link", body, "heralded_pair"), config.line)]
    for register in once:
        text = f"a setting is drawn before the herald: the branch uses {register!r} after it"
        assert any(text in problem for problem in problems), problems


def without_draws(item: Item, found: list[Draw]) -> Item:
    """The item without its draws, which are put into ``found``."""
    match item:
        case Series():
            found += [part for part in item.items if isinstance(part, Draw)]
            left = tuple(without_draws(part, found) for part in item.items if not isinstance(part, Draw))
            return Series(left, item.name, item.kind, item.reaction)
        case Branch():
            return Branch(item.on, {name: without_draws(case, found) for name, case in item.cases.items()})
        case _:
            return item


def test_a_scanned_value_may_be_drawn_before_the_attempts_it_is_for() -> None:
    """Drawn, used to choose the attempt, and reported after the herald: no setting of a measurement."""
    config = load(ROOT / "configs" / "ca40_10km.toml")
    link = labs.schedule(config, ROOT, "link", {})
    assert isinstance(link.body, Series)
    loop, after = link.body.items[0], link.body.items[1]
    body = Series((Draw("scan", (1.0, 1.0)), Branch("scan", {"0": loop, "1": loop}), after), name="link")
    assert check(Schedule("link", body, "heralded_pair"), config.line) == []
