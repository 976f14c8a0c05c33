"""The comparison: every row of a plan with what was measured, what was published, and how far apart they are."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from labctl.analysis.value import Estimate
from labctl.errors import LimitError, RunError
from labctl.reproduce.formulas import FORMULAS
from labctl.reproduce.plan import Operand, Plan, Published, RowPlan
from labctl.reproduce.recorded import results as recorded

FARTHEST = 3.0
"""Standard errors from which on a row counts as not reproduced."""

Results = Mapping[str, Mapping[str, Estimate]]
"""Run -> result -> value."""


class Row(msgspec.Struct, frozen=True):
    """One line of the comparison, as text and as numbers.

    verdict:  "agrees", "differs", "not run", or "" where nothing was published to compare with
    pull:     distance in combined standard errors; from the nearer end of a range
    """

    label: str
    measured: str
    published: str
    pull: float | None
    verdict: str
    source: str = ""
    note: str = ""
    value: float | None = None
    standard_error: float | None = None
    unit: str = ""


def compare(plan: Plan, results: Results) -> list[Row]:
    """Every row of the plan."""
    return [_row(plan, row, results) for row in plan.rows]


def value_of(plan: Plan, results: Results, operand: Operand) -> Estimate:
    """What an operand stands for; RunError if its run has not determined it."""
    if not isinstance(operand, str):
        return Estimate(float(operand), 0.0)
    run, _, result = operand.partition(".")
    if run == "published":
        return plan.published[result].estimate
    if run in plan.recorded:
        return recorded_value(plan, run, result)
    if run not in results:
        raise RunError(f"run {run} is not part of this")
    found = results[run].get(result)
    if found is None:
        raise RunError(
            f"run {run} did not determine {result!r}; it has {', '.join(results[run]) or 'no figures'}"
        )
    return found


def recorded_value(plan: Plan, key: str, result: str) -> Estimate:
    """One figure of recorded data; RunError if the files are not there or it has no such figure."""
    found = recorded(plan.path.parent, plan.recorded[key])
    if result not in found:
        raise RunError(f"the recorded {key} has no {result!r}; it has {', '.join(found)}")
    return found[result]


def _row(plan: Plan, row: RowPlan, results: Results) -> Row:
    published = plan.published.get(row.published)
    source = published.source if published else ""
    text = _published_text(published, row.range)
    if row.skipped:
        return Row(row.label, "-", text, None, "not run", source, row.skipped)
    try:
        measured = (
            FORMULAS[row.formula](*(value_of(plan, results, one) for one in row.of))
            if row.formula
            else value_of(plan, results, row.value)
        )
    except (RunError, LimitError) as why:
        return Row(row.label, "-", text, None, "not run", source, row.note or str(why))
    pull = _pull(measured, published, row.range)
    verdict = "" if pull is None else "agrees" if abs(pull) <= FARTHEST else "differs"
    return Row(
        row.label,
        text_of(measured),
        text,
        pull,
        verdict,
        source,
        row.note,
        measured.value,
        measured.standard_error,
        measured.unit,
    )


def _pull(
    measured: Estimate, published: Published | None, wanted: tuple[float, float] | None
) -> float | None:
    """Distance in standard errors: from the range if there is one, else from the published value or bound."""
    if wanted is not None:
        lowest, highest = wanted
        outside = min(0.0, measured.value - lowest) + max(0.0, measured.value - highest)
        return _in_errors(outside, measured.standard_error)
    if published is None:
        return None
    if published.at_least is not None:
        return _in_errors(min(0.0, measured.value - published.at_least), measured.standard_error)
    return measured.pull(published.estimate)


def _in_errors(distance: float, error: float) -> float:
    if distance == 0:
        return 0.0
    return distance / error if error else math.copysign(math.inf, distance)


def _published_text(published: Published | None, wanted: tuple[float, float] | None) -> str:
    parts: list[str] = []
    if published is not None:
        parts.append(
            f"> {published.at_least:g}" if published.at_least is not None else text_of(published.estimate)
        )
    if wanted is not None:
        parts.append(f"{wanted[0]:g} to {wanted[1]:g}")
    return ", ".join(parts) or "-"


def text_of(value: Estimate) -> str:
    """``0.923(12)``; four digits where no error is known."""
    if value.standard_error == 0 or not math.isfinite(value.standard_error):
        return f"{value.value:.6g} {value.unit}".strip()
    return value.compact()
