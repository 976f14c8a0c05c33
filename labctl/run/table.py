"""The records of a run as columns, and one figure that follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from labctl.analysis.value import Estimate
from labctl.errors import DataError

Rows = list[tuple[int, int, dict[str, Any]]]
LARGEST_PHASE_SIGMA_RAD = 0.25
"""A round whose tracked phase was less certain than this is void (PHYSICS.md 8.6)."""


@dataclass(frozen=True)
class Result:
    """One figure of a run: a key for scripts, a label for people, the value with its standard error."""

    key: str
    label: str
    value: Estimate


class Table:
    """The records of a run as columns."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.time_s = np.array([time_ps for _, time_ps, _ in rows], float) / 1e12

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> np.ndarray[tuple[int], np.dtype[Any]]:
        """One column; DataError if the records have none of that name."""
        try:
            return np.array([values[name] for _, _, values in self.rows])
        except KeyError:
            known = sorted({key for _, _, values in self.rows for key in values})
            raise DataError(f"the records have no column {name!r}; they have {', '.join(known)}") from None

    def has(self, name: str) -> bool:
        """Whether the records have that column."""
        return bool(self.rows) and name in self.rows[0][2]


def known_phase(table: Table, arguments: Mapping[str, Any] | None = None) -> np.ndarray[Any, Any]:
    """Which rounds had their optical phase known well enough: all, where it is not tracked but held by a loop.

    With the clicks that a reference slot should have (``reference_nominal`` among the arguments), those with less than half
    or more than twice as many are void, too, and where the core said whether it knew the phase (``phase_valid``), those in
    which it did not. All this is known before a setting is drawn (PHYSICS.md 8.6).
    """
    void = np.zeros(len(table), bool)
    for rounds in void_phases(table, arguments).values():
        void |= rounds
    return ~void


def void_phases(table: Table, arguments: Mapping[str, Any] | None = None) -> dict[str, np.ndarray[Any, Any]]:
    """Which rounds are void, by the first cause of "uncertain", "reference" (too few or too many clicks) and "lock".

    The last one: fibre lock open, or clicks that do not agree with the tracked phase.
    """
    causes: dict[str, np.ndarray[Any, Any]] = {}
    if not table.has("phase_sigma_rad"):
        return causes
    causes["uncertain"] = table.column("phase_sigma_rad").astype(float) > LARGEST_PHASE_SIGMA_RAD
    nominal = float((arguments or {}).get("reference_nominal", 0))
    if nominal and table.has("reference_clicks"):
        clicks = table.column("reference_clicks").astype(float)
        causes["reference"] = (clicks < nominal / 2) | (clicks > 2 * nominal)
    if table.has("phase_valid"):
        causes["lock"] = table.column("phase_valid").astype(int) == 0
    seen = np.zeros(len(table), bool)
    for cause, rounds in causes.items():
        causes[cause] = rounds & ~seen
        seen = seen | rounds
    return causes
