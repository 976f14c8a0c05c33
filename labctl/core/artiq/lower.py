"""Lowers a checked schedule for an ARTIQ system: a plan in integer machine units, or every reason why there is none."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from labctl.config import ArtiqConfig
from labctl.core.artiq import rules, ways
from labctl.core.artiq.binding import Bound, bind
from labctl.core.artiq.device_db import DeviceDb
from labctl.core.artiq.piece import System
from labctl.core.artiq.plan import Channel, Plan
from labctl.core.artiq.shape import Shape, acts, pieces, shape
from labctl.core.artiq.slack import CALIBRATED, Costs, Slack
from labctl.core.artiq.tones import State
from labctl.core.artiq.walk import Walk
from labctl.schedule.check import check
from labctl.schedule.items import Feedback, LineTrigger, Report, Schedule, to_json
from labctl.schedule.lines import Line
from labctl.schedule.problem import Problem, Problems


@dataclass
class Lowered:
    """What came of a schedule: a plan with its slack, or problems."""

    plan: Plan | None
    slack: list[Slack]
    problems: list[Problem]
    bound: Mapping[str, Bound]


def lower(
    schedule: Schedule,
    lines: Mapping[str, Line],
    config: ArtiqConfig,
    db: DeviceDb,
    *,
    how: Mapping[str, str] | None = None,
    costs: Costs = CALIBRATED,
    links: Iterable[tuple[str, str]] = (),
) -> Lowered:
    """Lower a schedule; every problem is found, those of `check` included.

    how:    block -> "source", "table" or "dma", instead of what would be chosen
    costs:  CPU time of the core's calls
    links:  pairs of nodes that a link joins, as for `check`
    """
    problems = Problems()
    found = check(schedule, lines, links=links)
    if found:
        return Lowered(None, [], found, {})
    tree = shape(schedule, problems)
    used = {name for piece in pieces(tree) for name in piece.timeline.lines}
    used |= {act.item.line for act in acts(tree) if isinstance(act.item, (Feedback, LineTrigger))}
    used |= {name for piece in pieces(tree) for name in piece.leaves}
    bound = bind(config, lines, [name for name in lines if name in used], db, problems)
    _one_kind_of_ad9910(bound, problems)
    if problems.all():
        return Lowered(None, [], problems.all(), bound)
    first: Lowered | None = None
    for phase in range(db.ref_multiplier):
        done = _attempt(schedule, tree, bound, config, db, phase, how or {}, costs)
        if not done.problems:
            return done
        first = first or done
    assert first is not None
    return first


def _one_kind_of_ad9910(bound: Mapping[str, Bound], problems: Problems) -> None:
    """ARTIQ's compiler takes objects of a class only if their attributes are of the same types (AD9910.sync_data)."""
    kinds: dict[bool, str] = {}
    for name, one in bound.items():
        if one.dds is not None and one.dds.is_ad9910:
            given = [one.dds.entry.arguments.get(key) for key in ("sync_delay_seed", "io_update_delay")]
            kinds.setdefault(any(isinstance(value, str) for value in given), name)
    if len(kinds) == 2:
        problems.add(
            ("core.artiq",),
            f"the AD9910 of {kinds[True]} has its synchronisation in an EEPROM, that of {kinds[False]} has not: ARTIQ's "
            "compiler refuses both in one kernel",
            "make sync_delay_seed and io_update_delay of device_db.py alike, or map one of the lines elsewhere",
        )


def _attempt(
    schedule: Schedule,
    tree: Shape,
    bound: Mapping[str, Bound],
    config: ArtiqConfig,
    db: DeviceDb,
    phase: int,
    how: Mapping[str, str],
    costs: Costs,
) -> Lowered:
    """Lower with the origin of a round so many machine units after a coarse cycle begins."""
    problems = Problems()
    system = System(
        bound, db.ref_period_ps, db.ref_multiplier, _stamped(tree), _tracking(tree, bound), problems
    )
    walk = Walk(system, phase)
    state = State(phase)
    for name, one in bound.items():
        if one.dds is not None:
            state.words[name] = (one.dds.ftw(0.0), one.dds.pow(0.0), one.dds.asf(1.0))
    root = walk.node(tree, state, set())
    generators = _generators(system)
    if not walk.consistent:
        return Lowered(None, [], problems.all(), bound)
    plan = Plan(
        schedule=schedule.name,
        schedule_sha256=hashlib.sha256(to_json(schedule)).hexdigest(),
        device_db=db.path.name,
        device_db_sha256=db.sha256,
        core=db.core,
        ref_period_ps=db.ref_period_ps,
        coarse_mu=db.ref_multiplier,
        phase_mu=phase,
        lead_mu=0,
        channels={name: _channel(one) for name, one in bound.items()},
        blocks={block.name: block for block in walk.blocks.values()},
        root=root,
        generators=generators,
        registers=walk.registers,
        columns=msgspec.to_builtins(schedule.columns),
    )
    plan.lead_mu = rules.lead_mu(plan)
    ways.choose(plan, config, db, how, problems)
    slack = rules.check(plan, costs, problems)
    return Lowered(None if problems.all() else plan, slack, problems.all(), bound)


def _stamped(tree: Shape) -> set[str]:
    """Registers whose clicks have to be time-stamped: somebody asks when the first was."""
    asked: set[str] = set()
    for act in acts(tree):
        match act.item:
            case Report():
                asked |= set(act.item.columns.values())
            case Feedback():
                asked.add(act.item.register)
            case _:
                pass
    return {name.removesuffix(".first_ps") for name in asked if name.endswith(".first_ps")}


def _tracking(tree: Shape, bound: Mapping[str, Bound]) -> set[str]:
    """Lines that are given more than one frequency."""
    found: dict[str, set[float]] = {}
    for piece in pieces(tree):
        line = piece.timeline
        for index, name in enumerate(line.lines):
            values = line.frequency_hz[(line.line == index) & ~line.is_gate & ~np.isnan(line.frequency_hz)]
            if len(values):
                found.setdefault(name, {0.0}).update(float(value) for value in np.unique(values))
    return {name for name, values in found.items() if len(values) > 1 and name in bound}


def _generators(system: System) -> dict[str, tuple[float, float, float]]:
    found: dict[str, tuple[float, float, float]] = {}
    for line, tones in system.generators.items():
        (tone, path), *others = tones.items()
        frequency, phase, amplitude = tone
        if (
            others
            or isinstance(phase, str)
            or any(math.isnan(part) for part in (frequency, phase, amplitude))
        ):
            system.problems.add(
                others[0][1] if others else path,
                "the tone of this line changes, but the generator behind it is set once, before the run",
                "give all its pulses the same tone, or map the line to a DDS channel",
                line=line,
            )
            continue
        found[line] = (frequency, phase, amplitude)
    return found


def _channel(one: Bound) -> Channel:
    entry = one.output or one.input
    dds = one.dds
    return Channel(
        device=one.device,
        kind="dds" if dds else "output" if one.output else "input",
        channel=-1 if entry is None else entry.channel,
        delay_ps=one.limits.delay_ps,
        grid_mu=one.grid_mu,
        counter="" if one.counter is None else one.counter.name,
        trigger_mu=one.trigger_mu,
        generator_ps=one.generator_ps,
        initial=None if dds is None else (dds.ftw(0.0), dds.pow(0.0), dds.asf(1.0)),
    )
