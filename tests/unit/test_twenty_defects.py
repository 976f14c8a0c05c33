"""The twenty planted defects, one by one through ``labctl check``: exit code 1, and a finding with block path and time.

The words in front are those of the list that the checker is held to.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from labctl import config as configs
from labctl import lab as labs
from labctl.cli import main
from labctl.schedule.check import check
from labctl.schedule.items import (
    Attempt,
    Branch,
    Draw,
    Gate,
    Item,
    Pulse,
    Repeat,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    Wait,
    from_json,
    to_json,
)
from labctl.units import MHz, ms, ns, us

ROOT = Path(__file__).parents[2]
LAB = """
name = "defects"
links = [["a", "mid"]]

[core.artiq]
device_db = "device_db.py"

[core.artiq.line.a]
cool = "ttl4"
excite = "ttl5"
align = "ttl6"
led = { device = "led0", grid_mu = 8 }
dds = { device = "urukul0_ch0", frequency_hz = 80e6 }
o1 = "ttl7"
o2 = "ttl8"
o3 = "ttl9"
o4 = "ttl10"
o5 = "ttl11"
o6 = "ttl_urukul1_sw2"
o7 = "ttl_urukul1_sw3"
pmt = "ttl0"

[core.artiq.line.mid]
snspd = "ttl2"

[line.a.cool]
grid_ps = 1000
shortest_ps = 20_000
dead_ps = 10_000
[line.a.excite]
grid_ps = 1000
photon_ps = { "mid.snspd" = 5_000_000 }
spoiled_by = ["a.cool"]
[line.a.align]
grid_ps = 1000
[line.a.probe]
grid_ps = 1000
duty = 0.1
duty_over_ps = 1_000_000_000
[line.a.led]
grid_ps = 1000
[line.a.dds]
kind = "tone"
grid_ps = 1000
lowest_hz = -10e6
highest_hz = 10e6
[line.a.pmt]
direction = "in"
kind = "detector"
grid_ps = 1000
bright_on = ["a.align"]
[line.mid.snspd]
direction = "in"
kind = "detector"
grid_ps = 1000
bright_on = ["a.align"]
[line.b.cool]
grid_ps = 1000
""" + "".join(f"[line.a.o{k}]\ngrid_ps = 1000\n" for k in range(1, 8))


class Defect(NamedTuple):
    words: str
    item: Item
    found: str
    core: str = "sim"


def series(*items: Item, name: str = "block", kind: str = "rigid", reaction: int = 0) -> Series:
    return Series(items, name, kind, reaction)  # type: ignore[arg-type]


def side(*items: Item) -> Together:
    return Together(items, "block")


def attempt(*items: Item, gate: int = 5 * us, limit: int = 100, outcomes: tuple[str, ...] = ("hit",)) -> Item:
    """Excite at 10 us, the photon arrives 5 us later; what else is in the attempt, and what follows."""
    midpoint = series(
        Wait(10 * us + gate - 10 * ns), Gate("mid.snspd", 60 * ns, "click"), Wait(30 * us), name="midpoint"
    )
    body = Together(
        (*items, series(Wait(10 * us), Pulse("a.excite", 20 * ns), name="excite"), midpoint), "try"
    )
    after: dict[str, Item] = dict.fromkeys((*outcomes, "timeout"), Wait(20 * us))
    return series(
        Attempt(body, ("click",), {"0": "again", "1": "hit"}, limit), Branch("herald", after), name="link"
    )


COOL = Pulse("a.cool", 1 * us)
COUNT = Gate("a.pmt", 1 * us, "n", 2)
EIGHT = tuple(Pulse(line, 1 * us) for line in ("a.cool", *(f"a.o{k}" for k in range(1, 8))))
ANSWER = Branch("n.bright", {"0": Wait(us), "1": Wait(us)})

DEFECTS = (
    Defect(
        "overlap on a line",
        side(COOL, series(Wait(400 * ns), COOL, name="")),
        "test / block at 400 ns, a.cool: on twice at once",
    ),
    Defect(
        "off-grid",
        series(COOL, Pulse("a.cool", 20_500)),
        "test / block at 1 us, a.cool: a pulse of 20.5 ns is off",
    ),
    Defect(
        "too short",
        series(Wait(us), Pulse("a.cool", 5 * ns)),
        "test / block at 1 us, a.cool: a pulse of 5 ns is too short",
    ),
    Defect(
        "dead time", series(COOL, Wait(4 * ns), COOL), "test / block at 1.004 us, a.cool: off for only 4 ns"
    ),
    Defect(
        "duty limit",
        Repeat(100, series(Pulse("a.probe", 20 * us), Wait(10 * us))),
        "test at 0 ps, a.probe: on for 20 us in 30 us of each turn",
    ),
    Defect(
        "exposure limit",
        side(
            series(Wait(us), Gate("mid.snspd", 5 * us, "n"), name=""),
            series(Wait(3 * us), Pulse("a.align", us), name=""),
        ),
        "test / block at 3 us, mid.snspd: open for 1 us while a.align is on",
    ),
    Defect(
        "cooling on inside the photon window",
        attempt(series(Wait(12 * us), COOL, name="cooling")),
        "test / link / attempt / try / cooling at 12 us, a.cool: on for 1 us inside the photon window of a.excite",
    ),
    Defect(
        "detector gate closed at the photon's arrival",
        attempt(gate=6 * us),
        "test / link / attempt / try / midpoint at 15.99 us, mid.snspd: closed when the photon of a.excite arrives",
    ),
    Defect(
        "missing outcome in a branch",
        attempt(outcomes=()),
        "test / link at 45.05 us or later: the branch on 'herald' has no case for hit",
    ),
    Defect(
        "anchored block earlier than the core can react",
        series(attempt(), series(COOL, name="answer", kind="anchored", reaction=200 * ns)),
        "test / block / answer at 0 ps: anchored 200 ns after the herald, but the core takes 1 us",
    ),
    Defect(
        "nine simultaneous edges on ARTIQ",
        series(Wait(3 * us), Together((*EIGHT, Pulse("a.led", 1600 * ns)), "nine")),
        "test / block / nine at 0 ps, a.led: 9 simultaneous edges",
        "artiq",
    ),
    Defect(
        "two edges in one coarse cycle on a coarse line",
        series(Wait(800 * ns), Pulse("a.led", 4 * ns)),
        "test / block at 804 ns, a.led: two edges in one coarse cycle of 8 ns",
        "artiq",
    ),
    Defect(
        "DDS set inside an attempt",
        attempt(
            series(
                Tone("a.dds", phase_turns=0.0),
                Pulse("a.dds", 4 * us),
                Tone("a.dds", phase_turns=0.5),
                Pulse("a.dds", 4 * us),
                name="drive",
            )
        ),
        "test / link / attempt / try / drive at 4 us, a.dds: urukul0_ch0 would be set inside an attempt",
        "artiq",
    ),
    Defect(
        "event rate beyond the core for its FIFO",
        Repeat(2000, series(Pulse("a.o1", 100 * ns), Wait(100 * ns))),
        "events in 399.9 us are more than the core can put in",
        "artiq",
    ),
    Defect(
        "input read before its gate closes",
        series(COOL, ANSWER, COUNT),
        "test / block at 1 us: the branch reads register 'n.bright' before its gate closes",
    ),
    Defect(
        "unknown line",
        series(COOL, Pulse("a.col", us)),
        "test / block at 1 us, a.col: no such line; did you mean a.cool",
    ),
    Defect(
        "line of another node without a link",
        series(COOL, Pulse("b.cool", us)),
        "test / block at 1 us, b.cool: a line of b, which no link joins to a",
    ),
    Defect(
        "recursion or unbounded loop without limit",
        attempt(limit=0),
        "test / link / attempt at 0 ps: a limit of 0 attempts",
    ),
    Defect(
        "frequency outside the AOM's band",
        series(COOL, Tone("a.dds", frequency_hz=40 * MHz), Pulse("a.dds", us)),
        "test / block at 1 us, a.dds: a frequency of 4e+07 Hz is outside this line's band",
    ),
    Defect(
        "draw of a setting before the herald",
        attempt(series(Draw("setting", (1.0, 1.0)), name="early")),
        "test / link / attempt at 0 ps: a setting is drawn before the herald",
    ),
)
PLACE_AND_TIME = re.compile(r"test(?: / [^/]+?)* at \S+ (?:ps|ns|us|ms|s)(?: or later)?[,:] ")


@pytest.fixture(scope="module")
def lab_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    (folder / "device_db.py").write_bytes(
        (ROOT / "tests" / "data" / "artiq" / "device_db_kasli.py").read_bytes()
    )
    file = folder / "defects.toml"
    file.write_text(LAB)
    return file


def checked(lab_file: Path, item: Item, core: str) -> tuple[int, list[str]]:
    """Exit code and lines of ``labctl check``."""
    schedule = lab_file.parent / "test.json"
    schedule.write_bytes(to_json(Schedule("test", item)))
    done = CliRunner().invoke(main, ["check", str(schedule), "--config", str(lab_file), "--core", core])
    return done.exit_code, done.output.splitlines()


def test_there_are_twenty() -> None:
    assert len({defect.words for defect in DEFECTS}) == 20


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.words)
def test_each_is_found_with_block_path_and_time(defect: Defect, lab_file: Path) -> None:
    code, lines = checked(lab_file, defect.item, defect.core)
    assert code == 1
    assert any(defect.found in line for line in lines), lines
    assert all(PLACE_AND_TIME.match(line) for line in lines), lines


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.words)
def test_none_is_compiled_for_artiq(defect: Defect, lab_file: Path) -> None:
    schedule = lab_file.parent / "test.json"
    schedule.write_bytes(to_json(Schedule("test", defect.item)))
    out = lab_file.parent / "out"
    arguments = ["compile", str(schedule), "--core", "artiq", "--config", str(lab_file), "-o", str(out)]
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, out.exists()) == (1, False)
    assert done.stderr.startswith("labctl: test cannot be compiled for ARTIQ, ")
    assert defect.found in done.stderr


@pytest.mark.parametrize("core", ["sim", "artiq"])
def test_one_step_from_the_defects_nothing_is_found(core: str, lab_file: Path) -> None:
    sound = series(
        COOL,
        attempt(series(Pulse("a.cool", 9 * us), name="cooling")),
        series(COUNT, Report({"n": "n"}), name="count"),
        Wait(1 * ms),
    )
    assert checked(lab_file, sound, core) == (
        0,
        [f"test can run on defects{'' if core == 'sim' else ' with core artiq'}: no problem found"],
    )


def test_recursion_and_arguments_of_the_wrong_type_are_findings_too(
    lab_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless() -> Schedule:
        return endless()

    monkeypatch.setattr(labs, "load", lambda name, lab: endless)
    done = CliRunner().invoke(main, ["check", "link", "--config", str(ROOT / "configs" / "ca40_10km.toml")])
    assert done.exit_code == 1
    assert "link at 0 ps: sequence link: recursion without end" in done.output
    problems = check(Schedule("test", attempt(limit=None)), {})  # type: ignore[arg-type]
    assert str(problems[0]).startswith("test at 0 ps: not a schedule: Expected `int`, got `null`")
    assert "(an unbounded loop)" in str(problems[0])


LIBRARY = {
    name: configs.load(ROOT / "configs" / f"{'rb_11km' if 'rubidium' in name else 'ca40_10km'}.toml")
    for name in (
        path.stem
        for path in sorted((ROOT / "sequences").glob("*.py"))
        if f"\ndef {path.stem}(" in path.read_text() and "-> Schedule" in path.read_text()
    )
}


@pytest.mark.parametrize("name", LIBRARY)
def test_nothing_is_found_in_the_library(name: str) -> None:
    lab = LIBRARY[name]
    schedule = labs.schedule(lab, ROOT, name, {})
    assert from_json(to_json(schedule)) == schedule
    assert [str(problem) for problem in check(schedule, lab.line, links=lab.links)] == []
