"""Drawings: the VCD read back edge by edge, the SVG as XML, the text line by line."""

from __future__ import annotations

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from schedule_parts import LINES, any_schedules, straight_items
from vcd.reader import TokenKind, tokenize

from labctl.config import load
from labctl.errors import ScheduleError
from labctl.schedule.draw import Zoom, svg, text, vcd
from labctl.schedule.folding import fold
from labctl.schedule.items import (
    Attempt,
    Branch,
    Draw,
    Every,
    Feedback,
    Gate,
    Item,
    Mark,
    Pulse,
    Repeat,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    Wait,
)
from labctl.schedule.timeline import flatten, one_pass
from labctl.units import format_time, ns, us
from sequences.decoupling import decoupling
from sequences.link import link


class Dump:
    """A value change dump, read strictly: declarations, then times that only grow, then changes of declared variables."""

    def __init__(self, data: str) -> None:
        header, _, body = data.partition("$enddefinitions $end\n")
        self.timescale = re.search(r"\$timescale (.*?) \$end", header)[1]  # type: ignore[index]
        self.names: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        scope: list[str] = []
        for word in re.finditer(r"\$(scope|upscope|var)\s(.*?)\s?\$end", header, re.DOTALL):
            fields = word[2].split()
            if word[1] == "scope":
                scope.append(fields[1])
            elif word[1] == "upscope":
                scope.pop()
            else:
                kind, size, code, name = fields
                assert (kind, size) in (("wire", "1"), ("real", "64"))
                assert code not in self.names
                self.names[code] = ".".join((*scope, name))
                self.kinds[code] = kind
        assert not scope
        self.changes: dict[str, list[tuple[int, float]]] = {name: [] for name in self.names.values()}
        self.end = 0
        now = -1
        for row in body.splitlines():
            if row.startswith("#"):
                assert int(row[1:]) > now
                now = int(row[1:])
            elif row.startswith("r"):
                value, code = row[1:].split(" ")
                assert self.kinds[code] == "real"
                self.changes[self.names[code]].append((now, float(value)))
            elif row.startswith("$"):
                assert row in ("$dumpvars", "$end")
            else:
                assert row[0] in "01"
                assert self.kinds[row[1:]] == "wire"
                self.changes[self.names[row[1:]]].append((now, float(row[0])))
        self.end = now

    def on(self, name: str) -> list[tuple[int, int]]:
        """When a wire is 1, from its changes."""
        found: list[tuple[int, int]] = []
        since = None
        for time, value in self.changes[name]:
            if value and since is None:
                since = time
            elif not value and since is not None:
                if time > since:
                    found.append((since, time))
                since = None
        assert since is None
        return found

    def value(self, name: str, time: int) -> float:
        """A real's value at a time."""
        return [value for at, value in self.changes[name] if at <= time][-1]


def on_times(item: Item, line: str) -> list[tuple[int, int]]:
    """When a line is on according to the timeline; touching and overlapping pulses joined."""
    timeline, _ = flatten(item)
    found: list[tuple[int, int]] = []
    for k in range(len(timeline)):
        start, stop = int(timeline.start_ps[k]), int(timeline.start_ps[k] + timeline.duration_ps[k])
        if timeline.lines[timeline.line[k]] != line or start == stop:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found


@given(straight_items)
def test_vcd_has_the_edges_of_the_timeline(item: Item) -> None:
    timeline, _ = flatten(item)
    assume(len(timeline) > 0)
    dump = Dump(vcd(Schedule("s", item), LINES))
    assert dump.timescale == "1 ps"
    assert dump.end == timeline.total_ps
    for name in timeline.lines:
        assert dump.on(name) == on_times(item, name)


def test_vcd_of_the_link_shows_one_pass_with_its_tones() -> None:
    dump = Dump(vcd(link(alpha=0.17), LINES_OF_LINK, {"herald": "psi_minus", "setting": "3"}))
    assert dump.on("alice.excite_854") == [(325 * us, 325 * us + 2_250)]
    assert dump.on("charlie.snspd_0") == [
        (89_483 * ns, 113_483 * ns),
        (349_479 * ns, 349_539 * ns),
    ]
    assert dump.on("bob.qubit_729") == [(315 * us, 325 * us), (375 * us, 380 * us)]
    assert dump.on("blocks.cooling") == [(0, 295 * us)] and dump.on("blocks.attempt") == [
        (295 * us, 375 * us)
    ]
    assert dump.on("blocks.readout") == [(380 * us, 880 * us)]
    assert dump.value("alice.reference_393_turns", 70 * us) == 0.25
    assert dump.value("alice.reference_393_turns", 80 * us) == 0.0
    assert dump.value("alice.excite_854_amplitude", 325 * us) == pytest.approx(0.27056, abs=1e-5)
    with pytest.raises(ScheduleError, match="no case 'psi'"):
        vcd(link(), LINES_OF_LINK, {"herald": "psi"})


def test_vcd_marks_blocks_of_loops_turn_by_turn() -> None:
    turn = Series((Wait(3), Series((Pulse("n.l", 5),), "flash"), Wait(2)), "turn")
    dump = Dump(vcd(Schedule("s", Series((Wait(10), Repeat(2, turn)))), {}))
    assert dump.on("blocks.flash") == [(13, 18), (23, 28)] and dump.on("blocks.turn") == [(10, 30)]
    assert dump.names.keys() == {"!", '"', "#"}
    dump = Dump(vcd(Schedule("s", Repeat(2000, turn)), {}))
    assert [*dump.names.values()] == ["n.l"]


def test_vcd_of_many_lines_has_distinct_codes() -> None:
    many = Series(tuple(Pulse(f"n.l{k}", 10) for k in range(300)))
    dump = Dump(vcd(Schedule("many", many), {}))
    assert all(dump.on(f"n.l{k}") == [(10 * k, 10 * k + 10)] for k in range(300))
    with pytest.raises(ScheduleError, match="switches no line"):
        vcd(Schedule("none", Wait(5)), {})


def test_a_piece_that_switches_nothing_is_drawn_before_one_too_wide_for_the_page() -> None:
    late = Series((Wait(1), Pulse("alice.cool", 10**300)), name="late")
    page = svg(Schedule("s", late), LINES)
    assert "late" in page
    assert ElementTree.fromstring(page).tag.endswith("svg")


@given(any_schedules)
def test_text_and_svg_of_anything(schedule: Schedule) -> None:
    """Drawings are for finding mistakes, so they must not need a schedule without any."""
    assert text(schedule, LINES).startswith("schedule")
    ElementTree.fromstring(svg(schedule, LINES))


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**9)), min_size=1, max_size=8, unique=True))
def test_every_edge_is_labelled_with_its_time(steps: list[tuple[int, int]]) -> None:
    items: list[Item] = []
    times: list[int] = []
    for wait, length in steps:
        items += [Wait(wait), Pulse("alice.cool", length)]
        times += [sum(times[-1:]) + wait, sum(times[-1:]) + wait + length]
    schedule = Schedule("s", Series(tuple(items)))
    in_svg, in_text = svg(schedule, LINES), text(schedule, LINES, 60)
    for time in times:
        assert f">{format_time(time) if time else 0}</text>" in in_svg
        assert f"╵{format_time(time) if time else 0}" in in_text


@pytest.fixture(scope="module")
def heralded() -> Schedule:
    loop = Attempt(
        Series((Pulse("alice.fast", 2_250), Mark("fire"), Gate("charlie.snspd_0", 50 * ns, "n0"))),
        ("n0",),
        {"0": "again", "1": "click"},
        1_000_000,
        Every(10, Series((Pulse("alice.cool", 100 * us), Wait(1 * us)), "cooling")),
    )
    settings = {
        str(k): Series((Feedback("setting", "alice.qubit", 1, 125_000 * k), Pulse("alice.qubit", 5 * us)))
        for k in range(8)
    }
    click = Series((Draw("setting", (1.0,) * 8), Branch("setting", settings), Report({"n": "n0"})), "measure")
    return Schedule("heralded", Series((loop, Branch("herald", {"click": click, "timeout": Wait(1 * us)}))))


def test_text_shows_loops_cases_and_both_long_and_short_times(heralded: Schedule) -> None:
    assert (
        text(heralded, LINES, 80)
        == """\
schedule heralded
↻ attempts until herald, 1 000 000 at most, then timeout
┃ before every 10 attempts
┃ │                 ├ cooling ─────────────────┤
┃ │      alice.cool ▐██ 100 us ███╌╌╌╌╌╌╌╌╌╌╌╌╌╌
┃ │                 ╵0            ╵100 us       ╵101 us
┃                               ▾fire
┃      alice.fast ▐█ 2.25 ns ███╌╌╌╌╌╌╌╌╌╌╌╌╌╌
┃ charlie.snspd_0 ╌╌╌╌╌╌╌╌╌╌╌╌╌╌▒▒ 50 ns n0 ▒▒
┃                 ╵0            ╵2.25 ns      ╵52.25 ns
┃ · clicks of n0: 0 → again; 1 → click
if herald = click: measure
╎ · draw setting: 0 to 7 with equal odds
╎ if setting = 0 to 7
╎ ╎ · phase of alice.qubit = setting + x turn, x = 0, 0.125, 0.25, 0.375, 0.5,
╎ ╎   0.625, 0.75, 0.875
╎ ╎     alice.qubit ▐███ 5 us ████
╎ ╎                 ╵0            ╵5 us
╎ · record n
if herald = timeout
╎ · wait 1 us
█ pulse  ▒ gate  ░ turns of a loop left out; slots are not to scale
"""
    )


def test_svg_shows_both_long_and_short_times(heralded: Schedule) -> None:
    drawn = svg(heralded, LINES)
    words = [element.text for element in ElementTree.fromstring(drawn).iter() if element.text]
    for word in ("2.25 ns", "100 us", "50 ns n0", "if setting = 0 to 7", "fire", "52.25 ns"):
        assert word in words
    short, long = (
        float(next(e for e in ElementTree.fromstring(drawn).iter() if title(e) == wanted).get("width", "0"))
        for wanted in ("alice.fast: 2.25 ns, 0 ps to 2.25 ns", "alice.cool: 100 us, 0 ps to 100 us")
    )
    assert 30 < short < long


def title(element: ElementTree.Element) -> str:
    return next((child.text or "" for child in element if child.tag.endswith("title")), "")


def test_long_loops_are_folded() -> None:
    burst = Repeat(1000, Series((Pulse("alice.cool", 1 * us), Wait(1 * us))))
    drawn = text(Schedule("loop", burst), LINES, 100)
    assert "↻ 1 000 times" in drawn
    assert drawn.count("998 more") == 1
    assert "╵1.999 ms" in drawn and "╵2 ms" in drawn
    assert "998 more" in svg(Schedule("loop", burst), LINES)


def test_cases_with_other_offsets_say_which() -> None:
    def turn(sign: int) -> Item:
        cases = {
            str(k): Series((Feedback("p", "alice.qubit", 1, sign + 250_000 * k), Pulse("alice.qubit", us)))
            for k in range(2)
        }
        return Series((Draw("s", (1.0, 1.0)), Branch("s", cases)))

    branch = Branch("herald", {"plus": turn(0), "minus": turn(500_000)})
    drawn = text(Schedule("s", branch), LINES)
    assert "if herald = plus or minus" in drawn
    assert "x = 0, 0.25 (minus: x = 0.5, 0.75)" in drawn


def test_drawings_are_the_same_each_time() -> None:
    assert svg(link(), LINES_OF_LINK) == svg(link(), LINES_OF_LINK)
    assert text(link(), LINES_OF_LINK) == text(link(), LINES_OF_LINK)
    assert vcd(link(), LINES_OF_LINK) == vcd(link(), LINES_OF_LINK)


def test_tones_stand_at_their_pulses() -> None:
    item = Series(
        (Tone("alice.qubit", 1e6, 0.25, 0.5), Pulse("alice.qubit", us), Together((Pulse("alice.qubit", us),)))
    )
    assert "1 us 1 MHz φ 90° a 0.5" in svg(Schedule("s", item), LINES)


LINES_OF_LINK = {
    name: LINES["alice.qubit"] if "729" in name or "excite" in name or "393" in name else LINES["alice.cool"]
    for name in flatten(one_pass(link().body))[0].lines
}


def test_kdd_shows_the_phase_of_every_pulse() -> None:
    drawn = text(decoupling(sequence="kdd", pulses=20), LINES, 150)
    row = next(line for line in drawn.splitlines() if "qubit_729" in line and "30°" in line)
    phases = re.findall(r"(\d+)°", row)
    assert phases[1:11] == ["30", "0", "90", "0", "30", "120", "90", "180", "90", "120"]
    image = svg(decoupling(sequence="kdd", pulses=20), LINES)
    assert image.count("10 us φ 120°</text>") == 2 * 4 and int(re.findall(r'width="(\d+)"', image)[0]) < 1800


def test_a_train_that_is_written_out_is_folded_as_a_loop() -> None:
    drawn = text(decoupling(sequence="kdd", pulses=400), LINES, 150)
    assert "↻ 39 times" in drawn and len(drawn.splitlines()) < 80
    plain = Series(
        (Wait(1 * us), *[Pulse("alice.cool", 1 * us), Wait(2 * us)] * 9, Pulse("alice.qubit", 1 * us))
    )
    assert fold(plain) == Series(
        (
            Wait(1 * us),
            Repeat(9, Series((Pulse("alice.cool", 1 * us), Wait(2 * us)))),
            Pulse("alice.qubit", 1 * us),
        )
    )


@given(straight_items)
def test_folding_changes_nothing(item: Item) -> None:
    before, _ = flatten(item)
    after, _ = flatten(fold(item))
    assert before.total_ps == after.total_ps
    assert [*zip(before.start_ps, before.duration_ps, strict=True)] == [
        *zip(after.start_ps, after.duration_ps, strict=True)
    ]


def test_zoom_shows_a_block_and_a_stretch_of_time() -> None:
    whole = text(link(), LINES, 120)
    cooling = text(link(), LINES, 120, Zoom("cooling"))
    assert "doppler" in cooling and "midpoint" in whole and "midpoint" not in cooling
    stretch = text(decoupling(sequence="kdd", pulses=400), LINES, 120, Zoom("kdd", (4200 * us, 6000 * us)))
    assert re.findall(r"╵([\d.]+ ms)", stretch)[:3] == ["4.2 ms", "4.245 ms", "4.255 ms"]
    assert "times" not in stretch and "120°" in stretch
    assert "4.245 ms" in svg(
        decoupling(sequence="kdd", pulses=400), LINES, Zoom("kdd", (4200 * us, 6000 * us))
    )
    with pytest.raises(ScheduleError, match="no block 'coling': there are link, attempt, cooling"):
        text(link(), LINES, 120, Zoom("coling"))


@pytest.mark.parametrize("schedule", [link(), decoupling(sequence="kdd")], ids=["link", "kdd"])
def test_another_vcd_reader_reads_it(schedule: Schedule) -> None:
    lab = load(Path(__file__).parents[2] / "configs" / "ca40_10km.toml")
    timeline, _ = flatten(one_pass(schedule.body))
    names: dict[str, str] = {}
    rises = dict.fromkeys(timeline.lines, 0)
    time = 0
    for token in tokenize(io.BytesIO(vcd(schedule, lab.line).encode())):
        match token.kind:
            case TokenKind.TIMESCALE:
                assert str(token.timescale) == "1 ps"
            case TokenKind.SCOPE:
                node = token.scope.ident
            case TokenKind.VAR:
                names[token.var.id_code] = f"{node}.{token.var.reference}"
            case TokenKind.CHANGE_TIME:
                assert token.time_change >= time
                time = token.time_change
            case TokenKind.CHANGE_SCALAR if token.scalar_change.value == "1":
                name = names[token.scalar_change.id_code]
                rises[name] = rises.get(name, 0) + 1
            case _:
                pass
    assert time == timeline.total_ps
    for index, name in enumerate(timeline.lines):
        starts = timeline.start_ps[timeline.line == index]
        stops = starts + timeline.duration_ps[timeline.line == index]
        assert rises[name] == 1 + int((starts[1:] > stops[:-1]).sum())
    assert rises["blocks.readout"] == 1
