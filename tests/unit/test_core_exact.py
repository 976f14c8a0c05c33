"""Skipping uneventful attempts is exact: the same distributions as attempt after attempt, with far fewer questions."""

import math
import threading
from collections import Counter
from collections.abc import Mapping

import numpy as np
from fake_world import FakeWorld, play
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from world_lab import FLIGHT, laboratory

from labctl.core.program import lower
from labctl.core.sim import SimCore
from labctl.schedule.items import Attempt, Every, Gate, Report, Schedule, Series, Together, Wait
from labctl.sim.played import Record
from labctl.units import us
from sequences.link import attempt, cooling
from simulated_hw.world.laboratory import Laboratory

BODY, BLOCK = 80 * us, 295 * us
ROUNDS = 1000
Table = list[tuple[int, Mapping[str, float]]]


def loop(every: int, limit: int) -> Schedule:
    gates = Together((Gate("snspd_0", 1 * us, "c0"), Gate("snspd_1", 1 * us, "c1")))
    item = Attempt(
        Series((gates, Wait(BODY - 1 * us))),
        ("c0", "c1"),
        {"00": "again", "10": "plus", "01": "minus", "11": "again"},
        limit,
        Every(every, Wait(BLOCK)) if every else None,
    )
    return Schedule("test", Series((item, Report({"outcome": "herald", "attempts": "herald.attempts"}))))


def one_by_one(table: Table, every: int, limit: int, rng: np.random.Generator) -> tuple[str, int]:
    """The plain reference: one round from time 0, one attempt after the other, each drawn from the odds of its time."""
    time = 0
    for index in range(limit):
        time += BLOCK if every and index % every == 0 else 0
        odds = next(patterns for begins, patterns in reversed(table) if begins <= time)
        pick = rng.random()
        for pattern, chance in odds.items():
            pick -= chance
            if pick < 0:
                if pattern != "11":
                    return {"10": "plus", "01": "minus"}[pattern], index + 1
                break
        time += BODY
    return "timeout", limit


def skipping(table: Table, every: int, limit: int, seed: int) -> tuple[list[tuple[str, int]], int, int]:
    """Rounds of the core, each in a fresh world; also how often it asked for odds and how many attempts passed."""
    rng = np.random.default_rng(seed)
    program = lower(loop(every, limit))
    found: list[tuple[str, int]] = []
    asked = attempts = 0
    for _ in range(ROUNDS):
        world = FakeWorld(table)
        records: list[Record] = []
        attempts += SimCore(world, threading.Lock(), rng).run(program, 1, records.append).attempts
        found.append((str(records[0].values["outcome"]), int(records[0].values["attempts"])))
        asked += len(world.of("odds"))
    return found, asked, attempts


def same_counts(ours: Counter[object], plain: Counter[object]) -> float:
    """p-value that two histograms come from one distribution; rare classes are put together."""
    names = sorted({*ours, *plain}, key=str)
    common = [n for n in names if ours[n] + plain[n] >= 20]
    rows = [[c[n] for n in common] for c in (ours, plain)]
    rest = [sum(c.values()) - sum(row) for c, row in zip((ours, plain), rows, strict=True)]
    if sum(rest) >= 20:
        rows = [[*row, left] for row, left in zip(rows, rest, strict=True)]
    return float(stats.chi2_contingency(rows)[1]) if len(rows[0]) > 1 else 1.0


chances = st.builds(lambda a, b, c: {"10": a, "01": b, "11": c}, *(st.floats(0.002, 0.06) for _ in range(3)))
tables = st.builds(
    lambda first, steps: sorted([(0, first), *steps], key=lambda entry: entry[0]),
    chances,
    st.lists(st.tuples(st.integers(1, 200 * 375).map(lambda n: n * us), chances | st.just({})), max_size=4),
)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(table=tables, every=st.sampled_from([0, 1, 3, 7]), limit=st.sampled_from([40, 10_000]))
def test_skipping_agrees_with_attempt_by_attempt(table, every, limit):
    table = [*table, (300_000 * us, {"10": 0.01, "01": 0.01})]  # so that every round ends
    ours, asked, attempts = skipping(table, every, limit, seed=1)
    rng = np.random.default_rng(2)
    plain = [one_by_one(table, every, limit, rng) for _ in range(ROUNDS)]
    assert same_counts(Counter(o for o, _ in ours), Counter(o for o, _ in plain)) > 1e-4
    waits = [n for _, n in ours], [n for _, n in plain]
    assert stats.ks_2samp(*waits).pvalue > 1e-4
    edges = np.unique(np.quantile(waits[0] + waits[1], np.linspace(0, 1, 12)))
    binned = [Counter(np.searchsorted(edges, one).tolist()) for one in waits]
    assert same_counts(*binned) > 1e-4
    assert asked <= attempts


def test_the_comparison_sees_odds_that_end_a_few_attempts_late():
    table: Table = [(0, {"10": 0.002}), (100 * 375 * us, {"01": 0.5})]
    late: Table = [(0, {"10": 0.002}), (103 * 375 * us, {"01": 0.5})]
    ours, _, _ = skipping(table, 1, 10_000, seed=1)
    rng = np.random.default_rng(2)
    plain = [one_by_one(late, 1, 10_000, rng) for _ in range(ROUNDS)]
    assert stats.ks_2samp([n for _, n in ours], [n for _, n in plain]).pvalue < 1e-6


def test_few_questions_are_asked_when_heralds_are_rare():
    slice_ps = 50_000 * us
    odds = {"10": 4.5e-4, "01": 4.5e-4}
    world = FakeWorld([(k * slice_ps, odds) for k in range(2000)])
    records, end = play(world, loop(1, 10**7), rounds=100)
    attempts = [int(r.values["attempts"]) for r in records]
    assert abs(np.mean(attempts) * 9e-4 - 1) < 5 / math.sqrt(100)
    assert stats.kstest(attempts, stats.geom(9e-4).cdf).pvalue > 1e-3
    assert 50 * len(world.of("odds")) < end.attempts


def test_a_certain_click_and_odds_that_sum_to_a_little_more_than_one():
    world = FakeWorld([(0, {"10": 0.1, "01": 0.2, "11": 0.7000000000000002})])
    records, _ = play(world, loop(0, 10**6), rounds=2000)
    shares = Counter(r.values["outcome"] for r in records)
    assert abs(shares["plus"] / 2000 - 1 / 3) < 5 * math.sqrt(2 / 9 / 2000)
    waits = [int(r.values["attempts"]) for r in records]
    assert stats.kstest(waits, stats.geom(0.3).cdf).statistic < 0.72  # discrete: the first step alone is 0.3
    assert abs(np.mean(waits) - 1 / 0.3) < 5 * math.sqrt(0.7) / 0.3 / math.sqrt(2000)


# against the physics

BOOSTED = {
    "alice.objective_collection": 0.4,
    "bob.objective_collection": 0.4,
    "alice.fibre_coupling": 0.6,
    "bob.fibre_coupling": 0.6,
    "phase.unseen_rad": 0.0,
}
"""Heralds every 80 attempts or so, and a phase that the reference sees all of."""


def heralded(world: Laboratory, outcome: str, phase_rad: float) -> tuple[float, complex]:
    """Population of |SD> and |DS>, and their coherence turned back by the sign of the herald and the phase."""
    rho = world.true_qubits()
    sign = 1 if outcome == "psi_plus" else -1
    return float((rho[1, 1] + rho[2, 2]).real), complex(sign * rho[1, 2] * np.exp(-1j * phase_rad))


def test_the_real_laboratory_gives_the_same_skipped_and_attempt_by_attempt():
    item = Attempt(
        attempt(0.3, FLIGHT, 60_000, 4_000),
        ("click_0", "click_1"),
        {"00": "again", "10": "psi_plus", "01": "psi_minus", "11": "again"},
        10**7,
        Every(1, cooling(FLIGHT, 0.99, 15.0)),
    )
    columns = {"outcome": "herald", "n": "herald.attempts", "phase": "phase", "sigma": "phase.sigma_rad"}
    program = lower(Schedule("link", Series((item, Report(columns)))))
    world = laboratory(3, BOOSTED)
    skipped: list[tuple[int, float, complex]] = []
    sigmas: list[float] = []

    def emit(made: Record) -> None:
        phase = float(made.values["phase"]) * 2e-6 * math.pi
        skipped.append((int(made.values["n"]), *heralded(world, str(made.values["outcome"]), phase)))
        sigmas.append(float(made.values["sigma"]))

    SimCore(world, world.lock, world.rng("core")).run(program, 200, emit)

    world = laboratory(4, BOOSTED)
    played: list[tuple[int, float, complex]] = []
    loop_step = program.root.steps[0]  # type: ignore[union-attr]
    body = loop_step.body.segment({})
    time = count = 0
    while len(played) < 200:
        time, count = time + 375 * us, count + 1
        clicks = world.play(body, time)
        outcome = item.outcomes["".join(str(min(1, clicks[register].count)) for register in item.gates)]
        if outcome != "again":
            phase = world.true_phase_rad(time + 30 * us + FLIGHT)
            played.append((count, *heralded(world, outcome, phase)))
            count = 0

    waits = [np.array([one[0] for one in taken]) for taken in (skipped, played)]
    pull = (waits[0].mean() - waits[1].mean()) / math.hypot(*(w.std() / math.sqrt(len(w)) for w in waits))
    assert abs(pull) < 3.5 and stats.ks_2samp(*waits).pvalue > 1e-3
    populations = [np.mean([one[1] for one in taken]) for taken in (skipped, played)]
    assert abs(populations[0] - populations[1]) < 1e-4
    coherence = [np.array([one[2] for one in taken]) for taken in (skipped, played)]
    contrast = [2 * c.mean().real for c in coherence]
    jitter = world._phase.walk.regime.jitter_rad  # of the fibre lock: new in every slot
    tracking = math.exp(
        -(np.mean(np.square(sigmas)) + jitter**2) / 2
    )  # what the tracker says it loses, and cannot know
    spread = 2 * coherence[0].real.std() / math.sqrt(200)
    assert abs(contrast[0] - tracking * contrast[1]) < 4 * spread
    assert contrast[1] > 0.6 and abs(coherence[1].mean().imag) < 0.02 and abs(coherence[0].mean().imag) < 0.03
