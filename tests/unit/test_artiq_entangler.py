"""Attempt loops on an entangler core: when one is chosen, what it is told, what its loop does; on a stand-in for the gateware."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from artiq_parts import CONFIG, DEVICE_DB, LINES, play

from labctl.config import ArtiqConfig, ArtiqEntangler
from labctl.core.artiq.compile import Experiment, compile_schedule
from labctl.core.artiq.device_db import DeviceDb, read
from labctl.core.artiq.sidecar import expected
from labctl.errors import ScheduleError
from labctl.schedule.items import (
    Attempt,
    Branch,
    Gate,
    Item,
    Pulse,
    Report,
    Schedule,
    Series,
    Together,
    Wait,
)
from labctl.units import ns, us

TABLE = ArtiqEntangler("entangler", {"n.out0": 0, "n.out1": 2}, {"n.in0": 0, "n.in1": 3})
LENGTH = 1_080
"""Of an attempt, mu."""


@pytest.fixture
def device_db(tmp_path: Path) -> Path:
    """The Kasli of the tests with an entangler core."""
    file = tmp_path / "device_db.py"
    entry = '{"type": "local", "class": "Entangler", "arguments": {"channel": 60, "is_master": True}}'
    file.write_text(f'{DEVICE_DB.read_text()}\ndevice_db["entangler"] = {entry}\n')
    return file


@pytest.fixture
def db(device_db: Path) -> DeviceDb:
    return read(device_db)


def config(table: ArtiqEntangler | None = TABLE) -> ArtiqConfig:
    return msgspec.structs.replace(CONFIG, entangler=table)


def body() -> Item:
    """Two pulses and two windows of 1080 ns."""
    return Series(
        (
            Together(
                (
                    Pulse("n.out0", 400 * ns),
                    Series((Wait(200 * ns), Pulse("n.out1", 80 * ns))),
                    Series((Wait(603 * ns), Gate("n.in0", 57 * ns, "a"))),
                    Series((Wait(610 * ns), Gate("n.in1", 50 * ns, "b"))),
                )
            ),
            Wait((LENGTH - 660) * ns),
        ),
        name="attempt",
    )


OUTCOMES = {"00": "again", "10": "plus", "01": "minus", "11": "again"}


def link(limit: int, attempt: Item | None = None) -> Schedule:
    always = {"herald": "herald", "n": "herald.attempts"}

    def after(columns: dict[str, str]) -> Item:
        return Series(
            (Wait(20 * us), Pulse("n.out3", 1 * us), Report({**always, **columns})),
            name="after",
            kind="anchored",
            reaction=20 * us,
        )

    seen = after({"at": "a.first_ps", "b": "b"})
    loop = Attempt(attempt or body(), ("a", "b"), OUTCOMES, limit)
    return Schedule(
        "test", Series((loop, Branch("herald", {"plus": seen, "minus": seen, "timeout": after({})})))
    )


def made(db: DeviceDb, limit: int = 50, how: dict[str, str] | None = None) -> Experiment:
    return compile_schedule(link(limit), LINES, config(), db, how=how)


class Photons:
    """Clicks in attempt number ``herald`` of a round at these inputs, 7 mu after the window opens."""

    def __init__(self, herald: int, inputs: tuple[int, ...], both_before: int = 0) -> None:
        self.herald, self.inputs, self.both_before = herald, inputs, both_before
        self.attempts = 0

    def __call__(self, device: str, opened: int, closed: int) -> list[int]:
        number = int(device.split()[1])
        self.attempts += number == 0
        if self.attempts == self.both_before or (self.attempts == self.herald and number in self.inputs):
            return [opened + 7]
        return []


def test_it_is_chosen_and_the_reasons_are_given(db: DeviceDb) -> None:
    experiment = made(db)
    block = experiment.plan.blocks["attempt"]
    assert block.how == "entangler" and block.entangler is not None
    assert block.entangler.outputs == {"n.out0": (0, 0, 400), "n.out1": (2, 200, 280)}
    assert block.entangler.inputs == {"n.in0": (0, 603, 660), "n.in1": (3, 610, 660)}
    assert block.entangler.patterns == [0b0001, 0b1000]
    assert "entangler: an attempt that the entangler core can repeat" in experiment.report
    assert "not source: the entangler core repeats it by itself" in experiment.report
    told = [
        line.split("#")[0].strip() for line in experiment.source.splitlines() if "self.entangler." in line
    ]
    assert told == [
        "self.entangler.init()",
        "self.entangler.set_timing_mu(8, 0, 400)",
        "self.entangler.set_timing_mu(9, 16000, 16000)",
        "self.entangler.set_timing_mu(10, 200, 280)",
        "self.entangler.set_timing_mu(11, 16000, 16000)",
        "self.entangler.set_timing_mu(12, 603, 660)",
        "self.entangler.set_timing_mu(13, 16000, 16000)",
        "self.entangler.set_timing_mu(14, 16000, 16000)",
        "self.entangler.set_timing_mu(15, 610, 660)",
        f"self.entangler.set_cycle_length_mu({LENGTH - 32})",
        f"self.entangler.write(3, {0x30081})",
        "self.entangler.set_config(True, True)",
        f"end, match = self.entangler.run_mu(attempts * {LENGTH} - {LENGTH // 2})",
        "stamp = self.entangler.get_timestamp_mu(40)",
    ]


@pytest.mark.parametrize(
    ("photons", "outcome", "attempts"),
    [
        (Photons(1, (0,)), "plus", 1),
        (Photons(37, (0,)), "plus", 37),
        (Photons(50, (3,)), "minus", 50),
        (Photons(9, (3,), both_before=4), "minus", 9),
        (Photons(51, (0,)), "timeout", 50),
        (Photons(20, (0, 3)), "timeout", 50),
    ],
)
def test_a_round_is_as_its_sidecar_says(
    db: DeviceDb, device_db: Path, photons: Photons, outcome: str, attempts: int
) -> None:
    experiment = made(db)
    run = play(experiment.source, clicks=photons, device_db=device_db)
    wanted = expected(experiment.sidecar, {"herald": (outcome, attempts)})
    assert [(time, device, action, words) for time, device, action, words in run.rounds[0].events] == [
        (one.time_mu, one.event.device, one.event.action, one.event.words) for one in wanted
    ]
    registers, values = run.rounds[0].registers, run.datasets["test.values.herald"]
    assert str(values).split()[registers["r_herald"]] == outcome
    assert registers["r_herald_attempts"] == attempts
    assert registers["r_a_first_ps"] == (7_000 if outcome == "plus" else -1)
    assert (registers["r_a"], registers["r_b"]) == (int(outcome == "plus"), int(outcome == "minus"))
    assert run.datasets["test.underflow.round"] == []


def test_the_same_schedule_without_the_core_has_the_same_attempts(db: DeviceDb, device_db: Path) -> None:
    """What follows the herald comes at the same time either way."""
    ends: list[int] = []
    slow = msgspec.structs.replace(config(), entangler=None)
    schedule = link(3, Series((body(), Wait(40 * us)), name="attempt"))
    source = compile_schedule(schedule, LINES, slow, db).source
    shots = iter([[], [], [1], []])
    run = play(
        source, clicks=lambda device, opened, closed: [opened + x for x in next(shots)], device_db=device_db
    )
    ends.append(next(time for time, device, _, _ in run.rounds[0].events if device == "ttl7"))
    run = play(made(db).source, clicks=Photons(2, (0,)), device_db=device_db)
    ends.append(next(time for time, device, _, _ in run.rounds[0].events if device == "ttl7"))
    assert ends[0] - 2 * 40_000 == ends[1] == 2 * LENGTH + 20_000


def test_more_attempts_than_one_run_can_be_told(db: DeviceDb, device_db: Path) -> None:
    longest = (2**31 - 1) // LENGTH
    experiment = made(db, limit=2 * longest + 10)
    runs = [
        one
        for one in expected(experiment.sidecar, {"herald": ("plus", longest + 3)})
        if one.event.action == "run"
    ]
    assert [(one.time_mu, one.event.words) for one in runs] == [
        (0, (longest * LENGTH - LENGTH // 2,)),
        (longest * LENGTH, (longest * LENGTH - LENGTH // 2,)),
    ]
    last = expected(experiment.sidecar, {"herald": ("timeout", 2 * longest + 10)})
    assert [one.event.words for one in last if one.event.action == "run"][-1] == (10 * LENGTH - LENGTH // 2,)


def test_another_way_can_be_asked_for(db: DeviceDb) -> None:
    with pytest.raises(ScheduleError) as caught:  # a Kasli's CPU cannot make an attempt in 1 us
        made(db, how={"attempt": "source"})
    assert any("late" in problem or "slack" in problem for problem in caught.value.problems)


def reason(
    db: DeviceDb, attempt: Item, *, table: ArtiqEntangler | None = TABLE, more: tuple[Item, ...] = ()
) -> str:
    loop = Attempt(
        Series((attempt, Wait(0))) if isinstance(attempt, Pulse) else attempt,
        ("c",),
        {"0": "again", "1": "yes"},
        10,
    )
    plan = compile_schedule(
        Schedule("test", Series((loop, Wait(200 * us), *more))), LINES, config(table), db
    ).plan
    return plan.blocks["attempt"].others.get("entangler", "chosen")


def test_every_clause_that_fails_is_said(db: DeviceDb) -> None:
    fits = (Pulse("n.out0", 400 * ns), Gate("n.in0", 203 * ns, "c"), Wait(7397 * ns))
    first, gate, _ = fits

    def said(*items: Item, **more: object) -> str:
        return reason(db, Series(items, name="attempt"), **more)  # type: ignore[arg-type]

    assert said(*fits) == "chosen"
    assert said(*fits, Wait(800 * ns)) == "an attempt of 1100 coarse cycles, more than 1027"
    assert said(first, gate, Wait(7400 * ns)) == "its length is off the coarse grid"
    assert said(Wait(3 * ns), first, gate, Wait(7394 * ns)) == "n.out0 has an edge off the coarse grid"
    assert (
        said(first, gate, Wait(400 * ns + 5 * ns), Pulse("n.out0", 400 * ns), Wait(6592 * ns))
        == "n.out0 has 2 pulses in an attempt"
    )
    assert (
        said(first, gate, Wait(5 * ns), Pulse("n.out2", 400 * ns), Wait(6992 * ns))
        == "n.out2 is not wired through it"
    )
    assert (
        said(Wait(7_400 * ns), first, gate, Wait(5 * ns))
        == "something happens in its last 4 coarse cycles, which the core needs"
    )
    assert said(*fits, more=(Pulse("n.out0", 1 * us),)) == "n.out0 is needed outside the attempts, too"
    with pytest.raises(ScheduleError):  # no ARTIQ core decides by a threshold
        said(first, Gate("n.in0", 203 * ns, "c", threshold=3), Wait(7397 * ns))
    assert said(*fits, table=None) == "no [core.artiq.entangler] in the lab file"
    other = msgspec.structs.replace(TABLE, device="ttl0")
    assert said(*fits, table=other) == "ttl0 is no entangler core"
    wrong = msgspec.structs.replace(TABLE, outputs={"n.out0": 5}, inputs={"n.in0": 4})
    assert (
        said(*fits, table=wrong)
        == "n.out0 is its output 5; there are 0 to 3; n.in0 is its input 4; there are 0 to 3"
    )
    late = msgspec.structs.replace(TABLE, reference_mu=396)
    assert said(*fits, table=late) == "a window opens less than 8 mu after its reference"


def test_windows_count_from_the_reference_where_the_gateware_does(db: DeviceDb) -> None:
    source = compile_schedule(
        link(5), LINES, config(msgspec.structs.replace(TABLE, reference_mu=590)), db
    ).source
    assert "self.entangler.set_timing_mu(12, 13, 70)" in source
    assert "self.entangler.set_timing_mu(15, 20, 70)" in source


def test_two_loops_and_one_core(db: DeviceDb) -> None:
    other = Attempt(
        Series((Pulse("n.out1", 400 * ns), Gate("n.in1", 200 * ns, "d"), Wait(40 * us)), name="other"),
        ("d",),
        {"0": "again", "1": "no"},
        3,
        into="second",
    )
    one = Attempt(
        Series((Pulse("n.out0", 400 * ns), Gate("n.in0", 200 * ns, "c"), Wait(480 * ns)), name="attempt"),
        ("c",),
        {"0": "again", "1": "yes"},
        3,
    )
    short = Attempt(
        Series((Pulse("n.out1", 400 * ns), Gate("n.in1", 200 * ns, "d"), Wait(480 * ns)), name="other"),
        ("d",),
        {"0": "again", "1": "no"},
        3,
        into="second",
    )
    with pytest.raises(
        ScheduleError
    ):  # one is played by the core, the other would have to be by the CPU, within 1 us
        compile_schedule(Schedule("test", Series((one, Wait(100 * us), short))), LINES, config(), db)
    plan = compile_schedule(Schedule("test", Series((one, Wait(100 * us), other))), LINES, config(), db).plan
    assert plan.blocks["attempt"].how == "entangler"
    assert plan.blocks["attempt_2"].how == "source"
    assert "more than 1027" in plan.blocks["attempt_2"].others["entangler"]
