"""What a reproduction runs, compares and draws: a TOML file, so that labctl itself knows no experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from labctl.analysis.value import Estimate
from labctl.config import read_toml
from labctl.errors import ConfigError
from labctl.reproduce.recorded import SiftedKey

Mode = Literal["quick", "full"]
Operand = str | float | int
"""``"RUN.RESULT"``, ``"published.KEY"`` or a plain number."""


class Size(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a run is.

    rounds:  heralded rounds or shots in all
    block:   rounds per block, each with a seed and a run folder of its own; 0: all in one
    """

    rounds: int
    block: int = 0

    def blocks(self) -> list[int]:
        """Rounds of each block."""
        step = self.block or self.rounds
        return [min(step, self.rounds - at) for at in range(0, self.rounds, step)]


class RunPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ``[run.KEY]`` table: one sequence on one lab.

    lab:        lab file, relative to the plan
    sequence:   its name there
    arguments:  of the sequence
    quick, full:  how long; a run without one of them is left out in that mode
    set:        signals set once the lab is up: ``"bob.aom.output_4" = false``
    changes:    component values that differ, as ``[world.changes]`` of a lab file
    label:      for the report
    """

    lab: str
    sequence: str
    quick: Size | None = None
    full: Size | None = None
    arguments: dict[str, Any] = {}
    set: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    label: str = ""


class RowPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ``[[row]]``: one figure of this reproduction beside a published one.

    label:      what it is
    value:      ``"RUN.RESULT"``
    formula:    instead: one of ``labctl.reproduce.formulas``, with the operands ``of``
    published:  key in the files of published figures
    range:      lowest and highest value that count as reproduced, where no published error says it
    skipped:    why there is no value; the row is printed with this reason
    note:       printed beside it
    """

    label: str
    value: str = ""
    formula: str = ""
    of: list[Operand] = []
    published: str = ""
    range: tuple[float, float] | None = None
    skipped: str = ""
    note: str = ""


class FigurePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ``[[figure]]``.

    kind:       "against" (results of several runs against a number), "blocks" (a run's results over laboratory time),
                "bars" (results side by side), "run" (the figures that a report of the run has)
    caption:    what it shows
    x, y:       labels of the axes
    points:     of "against": series label -> list of [x, "RUN.RESULT"]; of "bars": one series of [label, "RUN.RESULT"]
    lines:      of "against": label -> list of [x, y], straight lines that somebody published
    published:  of "against": list of [x, key]; of "blocks" and "bars": keys, drawn as bands
    run:        of "blocks" and "run"
    results:    of "blocks": one panel each
    log:        logarithmic y axis
    """

    kind: Literal["against", "blocks", "bars", "run"]
    caption: str
    x: str = ""
    y: str = ""
    points: dict[str, list[tuple[Operand, str]]] = {}
    lines: dict[str, list[tuple[float, float]]] = {}
    published: list[Any] = []
    run: str = ""
    results: list[str] = []
    log: bool = False


class Published(msgspec.Struct, frozen=True):
    """One published figure. ``sigma`` 0: the paper gives none. With ``at_least`` it is a bound."""

    label: str
    source: str
    unit: str = ""
    value: float | None = None
    sigma: float = 0.0
    at_least: float | None = None

    @property
    def estimate(self) -> Estimate:
        """Value and standard error; ConfigError for a bound."""
        if self.value is None:
            raise ConfigError(f"published figure {self.label!r} is a bound, not a value")
        return Estimate(self.value, self.sigma, self.unit)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    published: list[str]
    run: dict[str, RunPlan]
    row: list[RowPlan]
    figure: list[FigurePlan] = []
    recorded: dict[str, SiftedKey] = {}
    notes: list[str] = []


class Plan(msgspec.Struct, frozen=True):
    """A whole plan, checked. ``published`` has every figure of its files by key."""

    name: str
    path: Path
    title: str
    runs: dict[str, RunPlan]
    rows: list[RowPlan]
    figures: list[FigurePlan]
    published: dict[str, Published]
    notes: list[str]
    recorded: dict[str, SiftedKey] = {}

    def lab_file(self, key: str) -> Path:
        """The lab file of a run."""
        return (self.path.parent / self.runs[key].lab).resolve()

    def size(self, key: str, mode: Mode) -> Size | None:
        """How long a run is; None if it is left out."""
        return self.runs[key].quick if mode == "quick" else self.runs[key].full


def load(path: Path) -> Plan:
    """Read and check a plan; ConfigError names the file and what is wrong."""
    try:
        file = msgspec.convert(read_toml(path), _File)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from None
    published: dict[str, Published] = {}
    for name in file.published:
        source = path.parent / name
        try:
            more = msgspec.convert(read_toml(source), dict[str, Published])
        except msgspec.ValidationError as error:
            raise ConfigError(f"{source}: {error}") from None
        if twice := published.keys() & more.keys():
            raise ConfigError(f"{path}: {min(twice)!r} stands in two files of published figures")
        published |= more
    plan = Plan(
        path.stem,
        path.resolve(),
        file.title,
        file.run,
        file.row,
        file.figure,
        published,
        file.notes,
        file.recorded,
    )
    _check(plan)
    return plan


def _check(plan: Plan) -> None:
    """Every run, result and published figure that is named has to exist."""
    from labctl.reproduce.formulas import FORMULAS

    for key in (*plan.runs, *plan.recorded):
        if not key.replace("_", "").isalnum():
            raise ConfigError(f"{plan.path} [run.{key}]: a key is letters, digits and _")
    for row in plan.rows:
        place = f"{plan.path} row {row.label!r}"
        if sum(map(bool, (row.value, row.formula, row.skipped))) != 1:
            raise ConfigError(f"{place}: needs just one of value, formula and skipped")
        if row.formula and row.formula not in FORMULAS:
            raise ConfigError(f"{place}: no formula {row.formula!r}; there are {', '.join(FORMULAS)}")
        if row.published and row.published not in plan.published:
            raise ConfigError(f"{place}: no published figure {row.published!r}")
        for operand in [row.value, *row.of]:
            _operand(plan, place, operand)
    for figure in plan.figures:
        place = f"{plan.path} figure {figure.caption!r}"
        for series in figure.points.values():
            for _, reference in series:
                _operand(plan, place, reference)
        for entry in figure.published:
            key = entry if isinstance(entry, str) else entry[1]
            if key not in plan.published:
                raise ConfigError(f"{place}: no published figure {key!r}")
        if figure.kind in ("blocks", "run") and figure.run not in plan.runs:
            raise ConfigError(f"{place}: no run {figure.run!r}")


def _operand(plan: Plan, place: str, operand: Operand) -> None:
    if not isinstance(operand, str) or not operand:
        return
    run, _, result = operand.partition(".")
    if not result or run not in (*plan.runs, *plan.recorded, "published"):
        raise ConfigError(f"{place}: {operand!r} is neither RUN.RESULT nor published.KEY")
    if run == "published" and result not in plan.published:
        raise ConfigError(f"{place}: no published figure {result!r}")
