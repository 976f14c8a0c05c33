"""Everything that is wrong with a schedule, found before anything is played."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from labctl.errors import ScheduleError
from labctl.schedule.items import (
    Attempt,
    Branch,
    Feedback,
    Gate,
    Item,
    LineTrigger,
    Pulse,
    Repeat,
    Schedule,
    Series,
    Together,
    Wait,
    from_json,
    to_json,
)
from labctl.schedule.line_check import LineCheck
from labctl.schedule.lines import Line
from labctl.schedule.link_check import LinkCheck
from labctl.schedule.photon_check import PhotonCheck
from labctl.schedule.problem import Path, Problem, Problems, inside
from labctl.schedule.register_check import RegisterCheck
from labctl.schedule.shape_check import ShapeCheck
from labctl.schedule.timeline import LONGEST_PS
from labctl.units import s, us

DEEPEST = 100
"""How deep blocks may be nested."""


def node_of(line: str) -> str:
    """The node of a line called ``node.name``."""
    return line.partition(".")[0]


def check(
    schedule: Schedule,
    lines: Mapping[str, Line],
    *,
    node_of: Callable[[str], str] = node_of,
    core_reaction_ps: int = 1 * us,
    links: Iterable[tuple[str, str]] = (),
) -> list[Problem]:
    """All problems of a schedule on these lines; none means that it can be played.

    node_of:           node of a line's name, for hints
    core_reaction_ps:  shortest time from a herald click to what follows it
    links:             pairs of nodes that a link joins; a schedule keeps to nodes that are joined. None given: all are
    """
    problems = Problems()
    path = (schedule.name or "schedule",)
    if _depth(schedule.body) > DEEPEST:
        problems.add(
            path, f"blocks nested more than {DEEPEST} deep", "put items side by side in one Series", time_ps=0
        )
        return problems.all()
    try:
        from_json(to_json(schedule))
    except (ScheduleError, TypeError, ValueError) as error:
        unlimited = " (an unbounded loop)" if "limit" in str(error) else ""
        problems.add(path, f"{error}{unlimited}", "give every argument the type its item names", time_ps=0)
        return problems.all()
    _sizes(schedule.body, path, problems)
    if problems.all():
        return problems.all()
    ShapeCheck(core_reaction_ps, problems).run(schedule.body, path)
    LineCheck(lines, node_of, problems).run(schedule.body, path)
    PhotonCheck(lines, problems).run(schedule.body, path)
    RegisterCheck(problems).run(schedule.body, path)
    LinkCheck(links, node_of, problems).run(schedule.body, path)
    return problems.all()


def require(schedule: Schedule, lines: Mapping[str, Line], *, core_reaction_ps: int = 1 * us) -> None:
    """ScheduleError with every problem, if there is one."""
    problems = [str(problem) for problem in check(schedule, lines, core_reaction_ps=core_reaction_ps)]
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ScheduleError(
            "\n  ".join((f"schedule {schedule.name!r} cannot be played, {count}:", *problems)), problems
        )


def _depth(item: Item) -> int:
    deepest = 0
    stack: list[tuple[Item, int]] = [(item, 1)]
    while stack:
        part, depth = stack.pop()
        deepest = max(deepest, depth)
        if depth > DEEPEST:
            break
        stack.extend((one, depth + 1) for one in _parts(part))
    return deepest


def _parts(item: Item) -> tuple[Item, ...]:
    match item:
        case Series() | Together():
            return item.items
        case Repeat():
            return (item.body,)
        case Attempt():
            return (item.body,) if item.every is None else (item.body, item.every.body)
        case Branch():
            return tuple(item.cases.values())
        case _:
            return ()


def _sizes(item: Item, path: Path, problems: Problems) -> tuple[int, int]:
    """Longest course of an item in ps (attempts counted once) and its pulses and gates; notes what no core can count."""
    for number in _numbers(item):
        if abs(number) > LONGEST_PS:
            problems.add(
                path,
                f"{type(item).__name__} with a number beyond {LONGEST_PS}",
                "use smaller numbers",
                time_ps=0,
            )
            return 0, 0
    here = inside(path, getattr(item, "name", "")) if isinstance(item, (Series, Together)) else path
    sizes = [_sizes(part, here, problems) for part in _parts(item)]
    lengths, entries = [length for length, _ in sizes], sum(count for _, count in sizes)
    match item:
        case Pulse() | Gate() | Wait():
            length, entries = max(0, item.duration), 1
        case Together() | Branch():
            length = max(lengths, default=0)
        case LineTrigger():
            length = max(0, item.reaction) + max(0, item.limit)
        case Repeat():
            length, entries = max(0, item.count) * lengths[0], max(0, item.count) * entries
        case _:
            length = sum(lengths)
    if length > LONGEST_PS or entries > LONGEST_PS:
        much = (
            f"longer than {LONGEST_PS // (86_400 * s)} days"
            if length > LONGEST_PS
            else f"with more than {LONGEST_PS} pulses"
        )
        problems.add(here, f"a piece {much}", "make its loops shorter", time_ps=0)
        return 0, 0
    return length, entries


def _numbers(item: Item) -> tuple[int, ...]:
    match item:
        case Pulse() | Wait():
            return (item.duration,)
        case Gate():
            return (item.duration, item.threshold or 0)
        case Repeat():
            return (item.count,)
        case Series():
            return (item.reaction,)
        case Attempt():
            return (item.limit, 0 if item.every is None else item.every.attempts)
        case Feedback():
            return (item.scale, item.offset)
        case LineTrigger():
            return (item.reaction, item.limit)
        case _:
            return ()
