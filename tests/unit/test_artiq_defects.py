"""What ARTIQ would lose or only log is refused before, in labctl's words and with the place."""

from __future__ import annotations

import msgspec
import pytest
from artiq_parts import CONFIG, KASLI, LINES, compiled

from labctl.config import ArtiqConfig, ArtiqLine
from labctl.core.artiq.compile import compile_schedule, problems
from labctl.errors import ScheduleError
from labctl.schedule.items import (
    Attempt,
    Branch,
    Draw,
    Every,
    Feedback,
    Gate,
    Item,
    Pulse,
    Repeat,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    Track,
    Wait,
)
from labctl.schedule.lines import Line
from labctl.units import ns, us


def found(*items: Item) -> list[str]:
    return [str(problem) for problem in problems(Schedule("test", Series(items)), LINES, CONFIG, KASLI)]


def tries(body: Item, *after: Item, gates: tuple[str, ...] = ("c",), every: Every | None = None) -> Series:
    outcomes = {"0": "again", "1": "yes"}
    return Series(
        (
            Attempt(body, gates, outcomes, 10, every),
            Branch("herald", {"yes": Series((*after, Wait(10 * us))), "timeout": Wait(1 * us)}),
        )
    )


OUTS = tuple(f"n.out{k}" for k in range(8))
EIGHT = Together(tuple(Pulse(line, 1 * us) for line in OUTS), "eight")
NINE = Together((*EIGHT.items, Pulse("n.led", 1600 * ns)), "nine")
DEFECTS: dict[str, tuple[Item, str]] = {
    "nine simultaneous edges": (
        Series((Wait(3 * us), NINE)),
        "test / nine at 0 ps, n.led: 9 simultaneous edges (n.led, n.out0, n.out1, n.out2, n.out3, n.out4, n.out5, n.out6, "
        "n.out7), but ARTIQ's dispatcher has 8 lanes: one would be lost",
    ),
    "two edges in one coarse cycle": (
        Series((Wait(800 * ns), Pulse("n.led", 4 * ns))),
        "test at 804 ns, n.led: two edges in one coarse cycle of 8 ns: led0 takes one per cycle",
    ),
    "a pulse within a coarse cycle, wherever the round begins": (
        Series((Pulse("n.out0", 3 * ns), Wait(1 * ns), Pulse("n.out1", 3 * ns), Wait(1 * ns), Pulse("n.out2", 3 * ns))),
        "two edges in one coarse cycle of 8 ns",
    ),
    "off the coarse grid": (
        Series((Pulse("n.led", 80 * ns), Wait(84 * ns), Pulse("n.led", 80 * ns))),
        "test at 164 ns, n.led: led0 has a grid of 8 ns, and this edge is 4 ns off it; set grid_ps = 8000",
    ),
    "a DDS set inside an attempt": (
        tries(
            Series(
                (
                    Tone("n.dds", phase_turns=0.0),
                    Pulse("n.dds", 5 * us),
                    Tone("n.dds", phase_turns=0.5),
                    Pulse("n.dds", 5 * us),
                    Gate("n.in0", 1 * us, "c"),
                    Wait(50 * us),
                )
            )
        ),
        "test / attempt at 5 us, n.dds: urukul0_ch0 would be set inside an attempt",
    ),
    "event rate beyond the core for its buffers": (
        Series((Repeat(2000, Series((Pulse("n.out0", 100 * ns), Wait(100 * ns)))),)),
        "events in 399.9 us are more than the core can put in",
    ),
    "a loop that loses a little in every turn": (
        Repeat(
            10_000,
            Series((Pulse("n.out0", 2 * us), Gate("n.in0", 1 * us, "c"), Wait(40 * us), Report({"c": "c"}))),
        ),
        "of 10000 turns it is late",
    ),
    "an input read before its gate closes": (
        tries(Series((Wait(20 * us), Gate("n.slow", 1 * us, "c"))), Wait(50 * us)),
        "test / attempt at 23 us, n.slow: register 'c' decides what follows, but is read 2000 mu before its gate closes",
    ),
    "a branch on a count whose gate is open": (
        Series((Gate("n.slow", 3 * us, "c", 1), Branch("c.bright", {"0": Wait(1 * us), "1": Wait(1 * us)}))),
        "register 'c' decides what follows, but is read 2000 mu before its gate closes",
    ),
    "a reaction faster than the core": (
        tries(Series((Wait(20 * us), Gate("n.in0", 1 * us, "c"))), Pulse("n.out0", 1 * us)),
        "test / yes at 0 ps, n.out0: the core would be",
    ),
    "a pulse that no machine unit fits": (
        Pulse("n.awg", 3_250),
        "a pulse of 3.25 ns, but the generator behind ttl_urukul1_sw3 makes 2.25 ns",
    ),
    "a tone of a generator that changes": (
        Series((Tone("n.awg", amplitude=0.5), Pulse("n.awg", 2_250), Wait(9_997_750), Tone("n.awg", amplitude=0.6), Pulse("n.awg", 2_250))),
        "the tone of this line changes, but the generator behind it is set once, before the run",
    ),
    "feedback to a generator": (
        Series((Draw("d", (1.0, 1.0)), Feedback("d", "n.awg"), Pulse("n.awg", 2_250))),
        "feedback to a line without a DDS",
    ),
    "two channels of a board at once": (
        Series(
            (
                Together((Pulse("n.dds", 5 * us), Pulse("n.dds2", 5 * us))),
                Tone("n.dds", phase_turns=0.5),
                Tone("n.dds2", phase_turns=0.5),
                Together((Pulse("n.dds", 5 * us), Pulse("n.dds2", 5 * us))),
            )
        ),
        "cannot change without a gap: the SPI bus of urukul0_cpld is busy with another channel",
    ),
    "a tone that changes too soon": (
        Series((Pulse("n.dds", 400 * ns), Wait(40 * ns), Tone("n.dds", phase_turns=0.5), Pulse("n.dds", 400 * ns),
                Wait(80 * ns), Tone("n.dds", phase_turns=0.0), Pulse("n.dds", 1 * us))),
        "no time to set urukul0_ch0: that takes 1256 mu of the SPI bus of urukul0_cpld",
    ),
    "a tone that changes under the light off the DDS grid": (
        Series((Pulse("n.dds", 5_003 * ns), Tone("n.dds", phase_turns=0.5), Pulse("n.dds", 5_003 * ns),
                Tone("n.dds", phase_turns=0.0), Pulse("n.dds", 5_003 * ns))),
        "cannot change without a gap: the light is on then, so the change has to come on the 8 mu grid of the DDS",
    ),
    "an amplitude of an AD9912": (
        Series((Tone("n.old", amplitude=0.5), Pulse("n.old", 1 * us))),
        "an amplitude of 0.5, but urukul2_ch0 is an AD9912, which has none",
    ),
    "a setting drawn elsewhere": (
        Series((Draw("d", (1.0, 1.0), source="quantum"), Report({"d": "d"}))),
        "a setting drawn from 'quantum'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFECTS)
def test_defects_are_refused_with_their_place(name: str) -> None:
    item, said = DEFECTS[name]
    texts = found(item)
    assert any(said in text for text in texts), texts


def test_the_defects_are_one_step_from_what_can_be_played() -> None:
    assert found(EIGHT) == []
    assert found(Wait(800 * ns), Pulse("n.led", 8 * ns)) == []
    assert found(Repeat(2000, Series((Pulse("n.out0", 1 * us), Wait(1 * us))))) == []
    once = Series(
        (Tone("n.dds", phase_turns=0.5), Pulse("n.dds", 5 * us), Gate("n.in0", 1 * us, "c"), Wait(50 * us))
    )
    assert found(tries(once)) == []
    assert found(tries(Series((Wait(20 * us), Gate("n.slow", 1 * us, "c"), Wait(50 * us))))) == []
    assert found(Pulse("n.dds", 5 * us), Tone("n.dds", phase_turns=0.5), Pulse("n.dds", 5 * us)) == []
    late = tries(Series((Wait(20 * us), Gate("n.in0", 1 * us, "c"), Wait(10 * us))), Pulse("n.out0", 1 * us))
    assert found(late) == []


def test_a_tone_is_set_before_the_loop_not_in_it() -> None:
    once = Series(
        (Tone("n.dds", phase_turns=0.5), Pulse("n.dds", 5 * us), Gate("n.in0", 1 * us, "c"), Wait(50 * us))
    )
    plan = compiled(Schedule("test", tries(once))).plan
    assert [event.action for event in plan.blocks["prepare"].events] == ["set"]
    assert all(event.action != "set" for event in plan.blocks["attempt"].events)


def test_the_schedules_own_problems_come_first() -> None:
    assert "no such line" in found(Pulse("n.nothing", 1 * us))[0]


def mapped(**lines: str | ArtiqLine) -> list[str]:
    table = {**CONFIG.line["n"], **lines}
    config = msgspec.structs.replace(CONFIG, line={"n": table})
    every = Series((Pulse("n.out0", 1 * us), Pulse("n.dds", 1 * us), Gate("n.in0", 1 * us, "c")))
    return [str(one) for one in problems(Schedule("test", every), LINES, config, KASLI)]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ({"out0": "ttl44"}, "core.artiq, n.out0: {db}: there is no device 'ttl44'; did you mean ttl4"),
        (
            {"out0": "ttl0_counter"},
            "ttl0_counter is an EdgeCounter; an output line needs a TTL or a DDS channel",
        ),
        ({"in0": "ttl4"}, "n.in0: ttl4 is a TTLOut; an input line needs a TTLInOut"),
        ({"in0": ArtiqLine("ttl0", counter="ttl5")}, "ttl5 is a TTLOut, not an EdgeCounter"),
        ({"dds": "ttl5"}, "ttl5 is a TTLOut, which has no tone"),
        ({"dds": ArtiqLine("urukul0_ch0")}, "frequency_hz = 0 of urukul0_ch0 must be above 0"),
        ({"dds": ArtiqLine("urukul0_ch0", frequency_hz=80e6, amplitude=2.0)}, "amplitude = 2"),
        (
            {"dds": ArtiqLine("urukul2_ch1", frequency_hz=80e6, amplitude=0.5)},
            "is an AD9912, which has no amplitude",
        ),
        (
            {"out0": ArtiqLine("ttl4", trigger_ps=100)},
            "trigger_ps = 100 is not a multiple of the machine unit",
        ),
        ({"out0": ArtiqLine("ttl4", trigger_ps=1000)}, "trigger_ps and generator_ps go together"),
        ({"dds": "ttl_urukul0_sw0", "out0": "ttl_urukul0_sw0"}, "has no tone"),
        ({"out0": "ttl0"}, "n.in0: ttl0 is mapped to n.out0 too"),
        ({"strange": "ttl5"}, "core.artiq, n.strange: a device for a line that this lab has not"),
    ],
)
def test_mappings_that_are_wrong(lines: dict[str, str | ArtiqLine], said: str) -> None:
    texts = mapped(**lines)
    assert any(said.format(db=KASLI.path) in text for text in texts), texts


def test_a_line_without_a_device_says_what_to_write() -> None:
    config = ArtiqConfig(line={"n": {}})
    texts = [str(p) for p in problems(Schedule("test", Pulse("n.out0", us)), LINES, config, KASLI)]
    assert texts == [
        'core.artiq, n.out0: no ARTIQ device is mapped to this line; add [core.artiq.line.n] out0 = "..." to the lab file, '
        "with a name of device_db_kasli.py"
    ]


def test_a_switch_and_its_channel_are_one_device() -> None:
    texts = mapped(out0="ttl_urukul0_sw0")
    assert any("ttl_urukul0_sw0" in text and "too" in text for text in texts), texts


def test_times_off_the_machine_unit_are_refused() -> None:
    lines = {**LINES, "n.out0": Line(grid_ps=250, delay_ps=250)}
    schedule = Schedule("test", Series((Wait(500), Pulse("n.out0", 1_500))))
    texts = [str(p) for p in problems(schedule, lines, CONFIG, KASLI)]
    assert len(texts) == 2
    assert (
        "test at 500 ps, n.out0: begins 250 ps off the machine unit of 1 ns (with the line's delay of 250 ps)"
        in texts[0]
    )
    assert "lasts 500 ps off the machine unit" in texts[1]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"nothing": "dma"}, "no block 'nothing' to be emitted as dma; there is test"),
        ({"test": "dma"}, "cannot be emitted as dma: it sets DDS channels"),
        ({"test": "magic"}, "cannot be emitted as magic: there is source, table and dma"),
        (
            {"test": "entangler"},
            "cannot be emitted as entangler: only attempt loops run on an entangler core",
        ),
    ],
)
def test_ways_that_cannot_be(how: dict[str, str], said: str) -> None:
    schedule = Schedule("test", Series((Tone("n.dds", phase_turns=0.5), Pulse("n.dds", 1 * us))))
    with pytest.raises(ScheduleError) as caught:
        compile_schedule(schedule, LINES, CONFIG, KASLI, how=how)
    assert any(said in problem for problem in caught.value.problems), caught.value.problems


def test_a_slow_loss_shows_in_nested_loops_too() -> None:
    turn = Series((Pulse("n.out0", 2 * us), Gate("n.in0", 1 * us, "c"), Wait(40 * us), Report({"c": "c"})))
    texts = found(Repeat(3_000, Repeat(2, turn)))
    assert any("of 3000 turns it is late" in text for text in texts), texts
    slow = Series((Pulse("n.out0", 2 * us), Gate("n.in0", 1 * us, "c"), Wait(80 * us), Report({"c": "c"})))
    assert found(Repeat(3_000, Repeat(2, slow))) == []


def test_too_many_events_for_a_block() -> None:
    texts = found(
        Repeat(
            150_000, Series((Pulse("n.out0", 2 * us), Wait(2 * us), Pulse("n.out1", 2 * us), Wait(1 * us)))
        )
    )
    assert any("a block of 300000 pulses and gates; the core's memory holds 200000" in text for text in texts)


def test_one_register_with_the_outcomes_of_two_loops() -> None:
    first = Attempt(
        Series((Gate("n.in0", 1 * us, "c"), Wait(50 * us))), ("c",), {"0": "again", "1": "yes"}, 3
    )
    second = Attempt(
        Series((Gate("n.in1", 1 * us, "d"), Wait(50 * us))), ("d",), {"0": "again", "1": "no"}, 3
    )
    texts = found(first, second, Report({"h": "herald"}))
    said = "test / attempt at 0 ps: two attempt loops put different outcomes into register 'herald'; give one of them a register of"
    assert any(said in text for text in texts), texts
    assert found(first, first, Report({"h": "herald"})) == []


def test_one_register_tracked_in_two_ways() -> None:
    gates = Together((Gate("n.in0", 20 * us, "a"), Gate("n.in1", 20 * us, "b")))
    one, other = (Track((("a", "b", bias),), "phase", 0.9, 10.0) for bias in (0.0, 0.25))
    texts = found(gates, one, Wait(200 * us), gates, other)
    assert texts == [
        "test at 0 ps: 'phase' is tracked in two different ways; give the trackers registers of their own"
    ]
