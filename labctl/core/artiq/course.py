"""Courses through a plan: which blocks are played when, for given outcomes; the events of a course, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from labctl.core.artiq.plan import (
    Attempts,
    Await,
    Block,
    Cases,
    Chain,
    Event,
    Feed,
    Follow,
    Keep,
    Node,
    Pick,
    Plan,
    Play,
    Stop,
    Turns,
    Window,
)
from labctl.errors import ScheduleError

Choice = str | int | tuple[str, int]
"""What a register becomes: an outcome (with how many attempts it took, else 1), a drawn setting, or bright (1, 0)."""
Choices = Mapping[str, Choice]
MOST_COURSES = 400
FEWEST_TURNS = 4
"""Turns of a loop that show whether it loses time."""


@dataclass(frozen=True)
class Step:
    """One thing the core does.

    what:       a block, or something without events
    origin_mu:  of the block, from the origin of the segment
    segment:    counts host points and line triggers passed
    """

    what: Block | Follow | Feed | Pick | Keep | Stop | Await
    origin_mu: int
    segment: int
    free: bool = False
    turns: tuple[tuple[str, int], ...] = ()
    """The loops around it, outermost first, and the turn each is in."""


@dataclass
class _Now:
    origin_mu: int = 0
    segment: int = 0
    turns: tuple[tuple[str, int], ...] = ()


def steps(plan: Plan, choices: Choices, most_turns: int | None = None) -> Iterator[Step]:
    """What the core does in one round when the registers become what ``choices`` say, in order.

    most_turns:  play loops no more often than this, and loops in them a tenth as often

    ScheduleError if the choices leave something open.
    """
    yield from _steps(plan, plan.root, choices, most_turns, _Now())


def _steps(plan: Plan, node: Node, choices: Choices, most: int | None, now: _Now) -> Iterator[Step]:
    match node:
        case Play():
            yield _play(plan, node, now)
        case Chain():
            for one in node.nodes:
                yield from _steps(plan, one, choices, most, now)
        case Turns():
            around = now.turns
            for k in range(node.count if most is None else min(node.count, most)):
                now.turns = (*around, (node.name, k))
                inner = None if most is None else max(FEWEST_TURNS, most // 10)
                yield from _steps(plan, node.body, choices, inner, now)
            now.turns = around
        case Cases():
            value = choices.get(node.on)
            name = str(value[0] if isinstance(value, tuple) else value)
            if name not in node.cases:
                raise ScheduleError(
                    f"this course needs a choice for {node.on!r}: one of {', '.join(node.cases)}, not {name}"
                )
            yield from _steps(plan, node.cases[name], choices, most, now)
        case Attempts():
            yield from _attempts(plan, node, choices, now)
        case Stop():
            yield Step(node, now.origin_mu, now.segment, turns=now.turns)
            now.origin_mu, now.segment = 0, now.segment + 1
        case Await():
            yield Step(node, now.origin_mu, now.segment, turns=now.turns)
            now.origin_mu, now.segment = node.rest_mu, now.segment + 1
        case _:
            yield Step(node, now.origin_mu, now.segment, turns=now.turns)


def _play(plan: Plan, node: Play, now: _Now) -> Step:
    block = plan.blocks[node.block]
    if node.aligned:
        now.origin_mu += -now.origin_mu % plan.coarse_mu
    step = Step(block, now.origin_mu, now.segment, node.free, now.turns)
    now.origin_mu += block.length_mu
    return step


def _attempts(plan: Plan, node: Attempts, choices: Choices, now: _Now) -> Iterator[Step]:
    count = attempts_of(node, choices)
    if plan.blocks[node.body].entangler is not None:
        yield from _runs(plan, node, count, now)
        return
    for k in range(count):
        if node.between is not None and k % node.every == 0:
            yield _play(plan, node.between, now)
            for track in node.tracks:
                yield Step(track, now.origin_mu, now.segment, turns=now.turns)
        yield _play(plan, Play(node.body), now)


def _runs(plan: Plan, node: Attempts, count: int, now: _Now) -> Iterator[Step]:
    """The runs of an entangler core that make so many attempts: each an event, and a wait for its end."""
    body = plan.blocks[node.body]
    told = body.entangler
    assert told is not None
    for first in range(0, count, told.longest):
        length_mu = min(count - first, told.longest) * body.length_mu
        event = Event(0, "run", told.device, told.channel, told.device, (run_mu(body, min(node.limit - first, told.longest)),), place=body.place)  # fmt: skip
        end = Window("", told.device, told.device, "counter", 0, length_mu, place=body.place)
        run = Block(body.name, body.place, length_mu, [event], [end], how=body.how, reason=body.reason)
        yield Step(run, now.origin_mu, now.segment, turns=now.turns)
        now.origin_mu += length_mu


def run_mu(body: Block, attempts: int) -> int:
    """What an entangler core is told for so many attempts: it ends with the attempt in which that time is over."""
    return attempts * body.length_mu - body.length_mu // 2


def attempts_of(node: Attempts, choices: Choices) -> int:
    """How many attempts a course makes in a loop; ScheduleError if it leaves that open."""
    value = choices.get(node.into)
    outcome, count = value if isinstance(value, tuple) else (str(value), 0)
    if outcome not in (*node.outcomes.values(), "timeout") or outcome == "again":
        raise ScheduleError(f"this course needs an outcome for {node.into!r}, not {outcome}")
    return count or (node.limit if outcome == "timeout" else 1)


def on_grid(plan: Plan, event: Event, time_mu: int) -> int:
    """When an event really is: the AD9910 driver clears the fine part of the time."""
    if event.action == "set" and event.update_after_mu % plan.coarse_mu == 0:
        return time_mu - (time_mu + plan.phase_mu) % plan.coarse_mu
    return time_mu


@dataclass(frozen=True)
class Played:
    """An event of a course: its segment and time from that segment's origin, mu.

    free:  it is the first of a block that may begin later, with everything behind it
    """

    segment: int
    time_mu: int
    event: Event
    block: str
    free: bool = False


def events(plan: Plan, choices: Choices) -> list[Played]:
    """Every event of a course, in the order the core puts them in."""
    found: list[Played] = []
    free = False
    for step in steps(plan, choices):
        if isinstance(step.what, Block):
            block = step.what
            free = free or step.free
            for event in block.events:
                time_mu = on_grid(plan, event, step.origin_mu + event.time_mu)
                found.append(Played(step.segment, time_mu, event, block.name, free))
                free = False
        elif isinstance(step.what, Await):
            free = False
            found.append(Played(step.segment, step.origin_mu, step.what.opening, step.what.name))
            found.append(Played(step.segment + 1, 0, step.what.closing, step.what.name))
    return found


def courses(plan: Plan, longest: int = 40) -> list[dict[str, Choice]]:
    """Choices that lead through every case at least once; loops end at once, after a few attempts, and never.

    longest:  attempts in the courses where a loop never ends
    """
    asked = set(_asked(plan.root))
    return _courses(plan.root, [{}], asked, longest)


def _asked(node: Node) -> Iterator[str]:
    match node:
        case Chain():
            for one in node.nodes:
                yield from _asked(one)
        case Turns():
            yield from _asked(node.body)
        case Cases():
            yield node.on
            for case in node.cases.values():
                yield from _asked(case)
        case _:
            pass


def _courses(
    node: Node, so_far: list[dict[str, Choice]], asked: set[str], longest: int
) -> list[dict[str, Choice]]:
    match node:
        case Chain():
            for one in node.nodes:
                so_far = _courses(one, so_far, asked, longest)
            return so_far
        case Turns():
            return _courses(node.body, so_far, asked, longest)
        case Pick() if node.into in asked:
            return _spread(so_far, [{node.into: k} for k in range(len(node.below))])
        case Attempts():
            count = min(node.limit, max(3, min(2 * node.every + 1, longest)))
            names = [name for name in dict.fromkeys(node.outcomes.values()) if name != "again"]
            ends = [*((name, 1) for name in names), (names[0], count), ("timeout", count)]
            return _spread(so_far, [{node.into: end} for end in ends])
        case Cases():
            found: list[dict[str, Choice]] = []
            for course in so_far:
                value = course.get(node.on)
                name = str(value[0] if isinstance(value, tuple) else value)
                for case, inner in node.cases.items():
                    if value is None:
                        found += _courses(inner, [{**course, node.on: case}], asked, longest)
                    elif case == name:
                        found += _courses(inner, [course], asked, longest)
            return found
        case _:
            return so_far


def _spread(so_far: list[dict[str, Choice]], more: list[dict[str, Choice]]) -> list[dict[str, Choice]]:
    """Every combination, or, if those are too many, every addition at least once."""
    if len(so_far) * len(more) <= MOST_COURSES:
        return [{**one, **other} for one in so_far for other in more]
    count = max(len(so_far), len(more))
    return [{**so_far[k % len(so_far)], **more[k % len(more)]} for k in range(count)]
