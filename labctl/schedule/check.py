"""Everything that is wrong with a schedule, found before anything is played."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from labctl.errors import ScheduleError
from labctl.schedule.items import Attempt, Branch, Item, Repeat, Schedule, Series, Together
from labctl.schedule.line_check import LineCheck
from labctl.schedule.lines import Line
from labctl.schedule.problem import Problem, Problems
from labctl.schedule.register_check import RegisterCheck
from labctl.schedule.shape_check import ShapeCheck
from labctl.units import us

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
) -> list[Problem]:
    """All problems of a schedule on these lines; none means that it can be played.

    node_of:           node of a line's name, for hints
    core_reaction_ps:  shortest time from a herald click to what follows it
    """
    problems = Problems()
    path = (schedule.name or "schedule",)
    if _depth(schedule.body) > DEEPEST:
        problems.add(path, f"blocks nested more than {DEEPEST} deep", "put items side by side in one Series")
        return problems.all()
    ShapeCheck(core_reaction_ps, problems).run(schedule.body, path)
    LineCheck(lines, node_of, problems).run(schedule.body, path)
    RegisterCheck(problems).run(schedule.body, path)
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
        match part:
            case Series() | Together():
                inner = part.items
            case Repeat():
                inner = (part.body,)
            case Attempt():
                inner = (part.body,) if part.every is None else (part.body, part.every.body)
            case Branch():
                inner = tuple(part.cases.values())
            case _:
                inner = ()
        stack.extend((one, depth + 1) for one in inner)
    return deepest
