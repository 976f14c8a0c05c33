# pyright: standard
# (matplotlib carries incomplete types; this is the one file of the room that draws)
"""The figures of a reproduction, as SVG, from what the plan asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from labctl.analysis.value import Estimate
from labctl.errors import LabError
from labctl.reproduce.plan import FigurePlan
from labctl.reproduce.rows import value_of
from labctl.run.figures import BLUE, GREY, ORANGE, Figure, figures, panels, plain_log, to_svg

if TYPE_CHECKING:
    from labctl.reproduce.reproduce import Reproduction

COLOURS = (BLUE, ORANGE, "#548235", "#7030a0")


def drawn(made: Reproduction) -> list[Figure]:
    """Every figure of the plan that its runs allow."""
    found: list[Figure] = []
    for plan in made.plan.figures:
        try:
            found += _DRAWINGS[plan.kind](made, plan)
        except LabError:  # a run that this mode leaves out
            continue
    return found


def _against(made: Reproduction, plan: FigurePlan) -> list[Figure]:
    """Results of several runs against a number, with what was published."""
    figure, (one,) = panels(1)
    for colour, (label, series) in zip(COLOURS, plan.points.items(), strict=False):
        seen = [(float(x), value) for x, reference in series if (value := _value(made, reference))]
        _points(one, [x for x, _ in seen], [value for _, value in seen], colour, label, "o")
    for label, line in plan.lines.items():
        xs = np.linspace(line[0][0], line[-1][0], 200)  # straight also where the axis is logarithmic
        ys = np.interp(xs, [x for x, _ in line], [y for _, y in line])
        one.plot(xs, ys, color=GREY, ls="--", lw=1, label=label)
    known = [(float(x), made.plan.published[key].estimate) for x, key in plan.published]
    if known:
        _points(one, [x for x, _ in known], [value for _, value in known], "black", "published", "s")
    one.set(xlabel=plan.x, ylabel=plan.y, yscale="log" if plan.log else "linear")
    if plan.log:
        plain_log(one.yaxis)
    one.legend(frameon=False)
    return [(plan.caption, to_svg(figure))]


def _blocks(made: Reproduction, plan: FigurePlan) -> list[Figure]:
    """Results of a run's blocks over laboratory time, the whole as a line, the publication as a band."""
    run = made.runs.get(plan.run)
    if run is None:
        return []
    figure, several = panels(len(plan.results))
    for panel, key, known in zip(several, plan.results, [*plan.published, *[""] * 9], strict=False):
        seen = [one for one in run.blocks if key in one.results]
        hours = [(one.start_s + one.end_s) / 7200 for one in seen]
        _points(panel, hours, [one.results[key] for one in seen], BLUE, "blocks", "o")
        if key in run.results:
            panel.axhline(run.results[key].value, color=BLUE, lw=1, label="all")
        if known:
            _band(panel, made.plan.published[known].estimate)
        unit = run.results[key].unit if key in run.results else ""
        label = run.labels.get(key, key) + (f" / {unit}" if unit else "")
        panel.set(xlabel="laboratory time / h", ylabel=label)
        panel.yaxis.label.set_size("small")
        panel.legend(frameon=False)
    return [(plan.caption, to_svg(figure))]


def _bars(made: Reproduction, plan: FigurePlan) -> list[Figure]:
    """Results side by side."""
    figure, (one,) = panels(1)
    for series in plan.points.values():
        seen = [(str(label), value) for label, reference in series if (value := _value(made, reference))]
        one.bar(
            [label for label, _ in seen],
            [value.value for _, value in seen],
            yerr=[value.standard_error for _, value in seen],
            color=BLUE,
            ecolor=ORANGE,
            width=0.6,
        )
    for key in plan.published:
        _band(one, made.plan.published[key].estimate)
        one.legend(frameon=False)
    one.set(xlabel=plan.x, ylabel=plan.y)
    return [(plan.caption, to_svg(figure))]


def _run(made: Reproduction, plan: FigurePlan) -> list[Figure]:
    """What the report of the run itself would show."""
    run = made.runs.get(plan.run)
    if run is None:
        return []
    return [
        (f"{plan.caption}: {caption}", picture)
        for caption, picture in figures(run.analysis, run.table, run.arguments)
    ]


def _value(made: Reproduction, reference: str) -> Estimate | None:
    try:
        return value_of(made.plan, {key: run.results for key, run in made.runs.items()}, reference)
    except LabError:
        return None


def _points(panel: Any, x: list[float], values: list[Estimate], colour: str, label: str, marker: str) -> None:
    if x:
        y, error = [one.value for one in values], [one.standard_error for one in values]
        panel.errorbar(x, y, yerr=error, fmt=marker, ms=4, color=colour, capsize=2, lw=1, label=label)


def _band(panel: Any, known: Estimate) -> None:
    low, high = known.value - known.standard_error, known.value + known.standard_error
    panel.axhspan(low, high, color=ORANGE, alpha=0.25, lw=0)
    panel.axhline(known.value, color=ORANGE, lw=1, ls="--", label="published")


_DRAWINGS: dict[str, Callable[[Reproduction, FigurePlan], list[Figure]]] = {
    "against": _against,
    "blocks": _blocks,
    "bars": _bars,
    "run": _run,
}
