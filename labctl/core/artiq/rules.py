"""What ARTIQ's gateware would lose or log only: lanes, collisions, coarse grids, late events. Found here, with the place."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.core.artiq.course import FEWEST_TURNS, Choices, Step, courses, on_grid, steps
from labctl.core.artiq.plan import Await, Block, Cases, Chain, Event, Plan, Stop, Turns
from labctl.core.artiq.slack import Costs, Cpu, Slack
from labctl.core.artiq.tones import AD9910_SET, AD9910_TRACKING, AD9912_SET, LONG_AGO
from labctl.schedule.problem import Path, Problems
from labctl.units import format_time

LANES = 8
"""Lanes of the event dispatcher: events whose coarse times do not increase take the next one."""
UNROLLED = 60
"""Turns of a loop that are followed; longer loops are extrapolated."""


def lead_mu(plan: Plan) -> int:
    """How long before the origin of a round its first event can be."""
    most = 0
    for choices in courses(plan, 3):
        for step in steps(plan, choices, 2):
            if isinstance(step.what, Block):
                most = max(most, step.what.lead_mu - step.origin_mu)
    return most


def check(plan: Plan, costs: Costs, problems: Problems) -> list[Slack]:
    """Play every course on paper; problems are noted, and the least slack of each block is returned."""
    least: dict[str, Slack] = {}
    grid = Gateware(plan, problems)
    for choices in courses(plan):
        _course(plan, choices, costs, problems, grid, least)
    for block in plan.blocks.values():
        slack = least.get(block.name)
        if slack is not None and slack.slack_mu < 0:
            _late(plan, block, slack, problems)
    return [least[name] for name in plan.blocks if name in least]


def _course(
    plan: Plan, choices: Choices, costs: Costs, problems: Problems, grid: Gateware, least: dict[str, Slack]
) -> None:
    cpu = Cpu(costs, plan.ref_period_ps, plan.coarse_mu, plan.lead_mu)
    grid.begin()
    shift = 0
    ahead: dict[str, list[int]] = {}
    for step in steps(plan, choices, UNROLLED):
        if not isinstance(step.what, Block):
            cpu.act(step.what)
            if isinstance(step.what, (Stop, Await)):
                grid.begin()
                shift = 0
            continue
        for name, turn in step.turns:
            if turn == len(ahead.setdefault(name, [])):
                ahead[name].append(step.origin_mu + shift - cpu.now_mu)
        if step.free:
            shift += max(0, cpu.now_mu + cpu.free_mu(step.what) - step.origin_mu - shift)
        grid.play(step.what, step)
        slack = cpu.play(step.what, step.origin_mu + shift)
        if slack is not None and (slack.block not in least or slack.slack_mu < least[slack.block].slack_mu):
            least[slack.block] = slack
    _trend(plan, ahead, problems)


def _trend(plan: Plan, ahead: dict[str, list[int]], problems: Problems) -> None:
    """A long loop that loses a little slack in every turn is late in the end."""
    for name, slacks in ahead.items():
        loop = next(node for node in _loops(plan.root) if node.name == name)
        if loop.count <= len(slacks) or len(slacks) < FEWEST_TURNS:
            continue
        loss = slacks[-2] - slacks[-1]
        left = slacks[-1] - loss * (loop.count - len(slacks))
        if loss > 0 and left < 0:
            problems.add(
                tuple(loop.place.split(" / ")),
                f"each turn of the loop takes the core {_time(plan, loss)} more than it lasts: after "
                f"{len(slacks) + slacks[-1] // loss} of {loop.count} turns it is late",
                "make the loop slower, or its block straight, so that it is played from a table or by DMA",
            )


def _loops(node: object) -> Iterator[Turns]:
    match node:
        case Turns():
            yield node
            yield from _loops(node.body)
        case Chain():
            for one in node.nodes:
                yield from _loops(one)
        case Cases():
            for case in node.cases.values():
                yield from _loops(case)
        case _:
            pass


def _late(plan: Plan, block: Block, slack: Slack, problems: Problems) -> None:
    path: Path = tuple(block.place.split(" / "))
    short = _time(plan, -slack.slack_mu)
    if slack.first_mu < 0:
        what = f"the core would be {short} late: it cannot react this fast after the gates before have closed"
        hint = "let more time pass between the last gate before this block and its first event"
    else:
        span = block.events[-1].time_mu - block.events[0].time_mu
        what = (
            f"{len(block.events)} events in {_time(plan, span)} are more than the core can put in "
            f"({_time(plan, slack.cpu_mu)} of CPU time) and its buffers can hold: {short} late"
        )
        hint = "spread the events out, or have the block played by DMA"
    problems.add(path, what, hint, line=slack.line, time_ps=slack.time_mu * plan.ref_period_ps)


def _time(plan: Plan, time_mu: int) -> str:
    return format_time(time_mu * plan.ref_period_ps)


class Gateware:
    """What the event dispatcher and the outputs would do with events, in the order they are put in."""

    def __init__(self, plan: Plan, problems: Problems) -> None:
        self._plan = plan
        self._problems = problems
        self._grids = {one.channel: one.grid_mu for one in plan.channels.values() if one.kind != "input"}
        self.begin()

    def begin(self) -> None:
        """Nothing put in yet."""
        self._lanes = [LONG_AGO] * LANES
        self._lane = 0
        self._last: dict[int, int] = {}

    def play(self, block: Block, step: Step) -> None:
        """Put in a block's events."""
        plan = self._plan
        for event in block.events:
            time_mu = on_grid(plan, event, step.origin_mu + event.time_mu) + plan.phase_mu
            for offset in _parts(event):
                self._dispatch(block, event, (time_mu + offset) // plan.coarse_mu)
            if event.action != "set":
                self._output(event, time_mu)

    def _dispatch(self, block: Block, event: Event, coarse: int) -> None:
        if coarse <= self._lanes[self._lane]:
            self._lane = (self._lane + 1) % LANES
            if coarse <= self._lanes[self._lane]:
                self._crowded(block, event)
                return
        self._lanes[self._lane] = coarse

    def _crowded(self, block: Block, event: Event) -> None:
        plan = self._plan
        at = [one for one in block.events if one.time_mu // plan.coarse_mu == event.time_mu // plan.coarse_mu]
        if len(at) > LANES:
            lines = ", ".join(sorted({one.line for one in at}))
            what = f"{len(at)} simultaneous edges ({lines}), but ARTIQ's dispatcher has {LANES} lanes: one would be lost"
            hint = f"move some of them by {_time(plan, plan.coarse_mu)} or more"
        else:
            what = f"this event comes after later ones in all {LANES} lanes of ARTIQ's dispatcher and would be lost"
            hint = (
                "too many DDS channels are set at once here, or line delays differ too much: leave more time"
            )
        self._problems.add(
            tuple(event.place.split(" / ")),
            what,
            hint,
            line=event.line,
            time_ps=(event.time_mu - event.since_mu) * plan.ref_period_ps,
        )

    def _output(self, event: Event, time_mu: int) -> None:
        plan, path = self._plan, tuple(event.place.split(" / "))
        at_ps = (event.time_mu - event.since_mu) * plan.ref_period_ps
        coarse = plan.coarse_mu
        last = self._last.get(event.channel)
        grid = (
            coarse
            if event.action in ("count", "latch", "relatch", "run")
            else self._grids.get(event.channel, 1)
        )
        if last is not None and last != time_mu and last // coarse == time_mu // coarse:
            self._problems.add(
                path,
                f"two edges in one coarse cycle of {_time(plan, coarse)}: {event.device} takes one per cycle, "
                "the other would be lost",
                f"put {_time(plan, coarse)} between them, or let them fall into different cycles",
                line=event.line,
                time_ps=at_ps,
            )
        elif grid > 1 and time_mu % grid:
            self._problems.add(
                path,
                f"{event.device} has a grid of {_time(plan, grid)}, and this edge is {_time(plan, time_mu % grid)} off it",
                f"set grid_ps = {grid * plan.ref_period_ps} for the line in the lab file, or use an output with a serialiser",
                line=event.line,
                time_ps=at_ps,
            )
        self._last[event.channel] = time_mu


def _parts(event: Event) -> tuple[int, ...]:
    """When an event's RTIO events come, after its time."""
    if event.action != "set":
        return (0,)
    if event.update_after_mu == AD9912_SET.before_mu:
        return AD9912_SET.events
    return (AD9910_TRACKING if event.tracking else AD9910_SET).events
