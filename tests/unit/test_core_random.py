"""Random whole schedules on the simulated core: the same distributions as a plain reading of the items, attempt by attempt.

The reference below walks the items themselves (not the lowered program), draws every single attempt from the odds of its time,
and knows nothing of skipping. Schedules have attempt loops of one to three gates with random outcome tables, interleaved
blocks, drawn settings, branches, loops and line triggers, before and after each other; all of them pass the check.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from fake_world import MAINS_PS, FakeWorld
from hypothesis import given, settings
from hypothesis import strategies as st
from test_core_exact import same_counts

from labctl.core.program import lower
from labctl.core.sim import SimCore
from labctl.schedule.check import check
from labctl.schedule.items import (
    Attempt,
    Branch,
    Draw,
    Every,
    Gate,
    Item,
    LineTrigger,
    Pulse,
    Repeat,
    Report,
    Schedule,
    Series,
    Together,
    Wait,
)
from labctl.schedule.lines import Line
from labctl.sim.played import Record
from labctl.units import us

LINES = {
    "a.cool": Line(grid_ps=us),
    "a.mains": Line("in", "trigger"),
    **{f"a.d{k}": Line("in", "detector", grid_ps=us) for k in range(3)},
}
ROUNDS = 250
Table = list[tuple[int, Mapping[str, float]]]


@dataclass
class Plain:
    """The plain reading of a schedule, from time 0."""

    table: Table
    rng: np.random.Generator
    now: int = 0
    registers: dict[str, int | str] = field(default_factory=dict)
    records: list[tuple[object, ...]] = field(default_factory=list)

    def walk(self, item: Item) -> None:
        match item:
            case Pulse() | Wait() | Gate():
                self.now += item.duration
            case Series():
                for part in item.items:
                    self.walk(part)
            case Together():
                begin, ends = self.now, [self.now]
                for part in item.items:
                    self.now = begin
                    self.walk(part)
                    ends.append(self.now)
                self.now = max(ends)
            case Repeat():
                for _ in range(item.count):
                    self.walk(item.body)
            case Draw():
                weights = np.array(item.weights)
                self.registers[item.into] = int(self.rng.choice(len(weights), p=weights / weights.sum()))
            case Branch():
                self.walk(item.cases[str(self.registers[item.on])])
            case Report():
                values = (self.registers[register] for register in item.columns.values())
                self.records.append((*values, self.now))
            case LineTrigger():
                self.now = (self.now // MAINS_PS + 1) * MAINS_PS + item.reaction
            case Attempt():
                self.attempts(item)
            case _:
                raise AssertionError(item)

    def attempts(self, item: Attempt) -> None:
        self.registers[item.into] = "timeout"
        self.registers[f"{item.into}.attempts"] = item.limit
        for index in range(item.limit):
            if item.every is not None and index % item.every.attempts == 0:
                self.walk(item.every.body)
            odds = next(patterns for begins, patterns in reversed(self.table) if begins <= self.now)
            pick, seen = self.rng.random(), "0" * len(item.gates)
            for pattern, chance in odds.items():
                pick -= chance
                if pick < 0:
                    seen = pattern
                    break
            self.walk(item.body)
            if item.outcomes[seen] != "again":
                self.registers[item.into] = item.outcomes[seen]
                self.registers[f"{item.into}.attempts"] = index + 1
                return


@st.composite
def cases(draw: st.DrawFn) -> tuple[Schedule, Table]:
    """A schedule that passes the check, and a world's odds."""
    digits = draw(st.integers(1, 3))
    patterns = ["".join(bits) for bits in product("01", repeat=digits)]
    steps = st.integers(1, 40).map(lambda k: k * us)

    def loop(number: int) -> Item:
        gates = Together(tuple(Gate(f"a.d{k}", us, f"c{number}_{k}") for k in range(digits)))
        ends = draw(
            st.lists(
                st.sampled_from(("again", "plus", "minus")),
                min_size=len(patterns) - 1,
                max_size=len(patterns) - 1,
            )
        )
        outcomes = dict(zip(patterns[1:], [*ends[:-1], "plus"], strict=True)) | {patterns[0]: "again"}
        every = draw(
            st.none() | st.builds(Every, st.integers(1, 7), st.builds(Pulse, st.just("a.cool"), steps))
        )
        into = f"herald{number}"
        body = Series((gates, Wait(draw(steps))))
        tried = Attempt(
            body,
            tuple(f"c{number}_{k}" for k in range(digits)),
            outcomes,
            draw(st.sampled_from((7, 400))),
            every,
            into,
        )
        after = {
            name: Pulse("a.cool", draw(steps))
            for name in dict.fromkeys((*outcomes.values(), "timeout"))
            if name != "again"
        }
        return Series((tried, Branch(into, after), Report({"o": into, "n": f"{into}.attempts"})))

    def setting(number: int) -> Item:
        weights = tuple(draw(st.lists(st.floats(0.2, 1.0), min_size=2, max_size=3)))
        lengths = {str(k): Wait(draw(steps)) for k in range(len(weights))}
        return Series(
            (Draw(f"s{number}", weights), Branch(f"s{number}", lengths), Report({"s": f"s{number}"}))
        )

    kinds = draw(
        st.lists(st.sampled_from(("loop", "setting", "mains", "light", "turns")), min_size=1, max_size=4)
    )
    items: list[Item] = []
    for number, kind in enumerate([*kinds, "loop"]):
        match kind:
            case "loop":
                items.append(loop(number))
            case "setting":
                items.append(setting(number))
            case "mains":
                items.append(LineTrigger("a.mains"))
            case "light":
                items.append(Repeat(draw(st.integers(1, 3)), Pulse("a.cool", draw(steps))))
            case _:
                items.append(Repeat(2, setting(number)))
    most = 0.8 / len(patterns)
    chances = st.lists(st.floats(0.002, most), min_size=len(patterns) - 1, max_size=len(patterns) - 1)
    table: Table = [(0, dict(zip(patterns[1:], draw(chances), strict=True)))]
    for begins in sorted(draw(st.lists(st.integers(1, 3000), max_size=3))):
        quiet = draw(st.booleans())
        table.append((begins * us, {} if quiet else dict(zip(patterns[1:], draw(chances), strict=True))))
    return Schedule("random", Series(tuple(items), name="random")), table


def played(schedule: Schedule, table: Table, seed: int, rounds: int = ROUNDS) -> list[tuple[object, ...]]:
    """What the core reports in each round, each in a fresh world."""
    rng, program = np.random.default_rng(seed), lower(schedule)
    found: list[tuple[object, ...]] = []
    for _ in range(rounds):
        world = FakeWorld(table)
        records: list[Record] = []
        SimCore(world, threading.Lock(), rng).run(program, 1, records.append)
        assert world.accounted_ps() == world.now  # no time was lost or counted twice
        found.append(tuple(v for record in records for v in (*record.values.values(), record.time_ps)))
    return found


@settings(max_examples=8, deadline=None, derandomize=True)
@given(cases())
def test_random_schedules_have_the_distributions_of_a_plain_reading(case: tuple[Schedule, Table]) -> None:
    schedule, table = case
    assert check(schedule, LINES) == []
    ours = played(schedule, table, seed=1)
    rng = np.random.default_rng(2)
    plain: list[tuple[object, ...]] = []
    for _ in range(ROUNDS):
        reader = Plain(table, rng)
        reader.walk(schedule.body)
        plain.append(tuple(value for record in reader.records for value in record))
    assert {len(one) for one in ours} == {len(one) for one in plain}
    for column in range(len(ours[0])):
        one, other = [row[column] for row in ours], [row[column] for row in plain]
        if all(isinstance(value, int) for value in one + other):
            bounds = np.unique(np.quantile(one + other, np.linspace(0, 1, 9)))
            one, other = (np.searchsorted(bounds, values).tolist() for values in (one, other))
        assert same_counts(Counter(one), Counter(other)) > 1e-5, column
    outcomes = [
        Counter(tuple(v for v in row if isinstance(v, str)) for row in rows) for rows in (ours, plain)
    ]
    assert same_counts(*outcomes) > 1e-5  # how the loops' outcomes go together


@settings(max_examples=20, deadline=None)
@given(cases(), st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_records(case: tuple[Schedule, Table], seed: int) -> None:
    assert played(*case, seed, 3) == played(*case, seed, 3)
