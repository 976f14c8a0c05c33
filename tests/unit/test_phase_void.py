"""Void rounds are counted by cause, each once."""

from typing import Any

import numpy as np
import pytest

from labctl.run.results import results
from labctl.run.table import Table, known_phase, void_phases

ROUNDS: tuple[tuple[float, int, int], ...] = (
    (0.11, 24, 1),
    (0.30, 24, 0),  # uncertain
    (0.11, 5, 0),  # too dark
    (0.11, 60, 0),  # too bright
    (0.30, 5, 0),  # uncertain first
    (0.11, 24, 0),  # the lock
    (0.11, 25, 1),
)


def table(**left_out: bool) -> Table:
    rows: list[tuple[int, int, dict[str, Any]]] = []
    for number, (sigma, clicks, valid) in enumerate(ROUNDS):
        values = {"attempts": 100, "phase_sigma_rad": sigma, "reference_clicks": clicks, "phase_valid": valid}
        values |= {"bright_a": 0, "bright_b": 1}
        rows.append((number, (number + 1) * 10**12, {k: v for k, v in values.items() if k not in left_out}))
    return Table(rows)


def test_each_void_round_has_one_cause() -> None:
    causes = void_phases(table(), {"reference_nominal": 24})
    assert {name: np.flatnonzero(void).tolist() for name, void in causes.items()} == {
        "uncertain": [1, 4],
        "reference": [2, 3],
        "lock": [5],
    }
    assert known_phase(table(), {"reference_nominal": 24}).tolist() == [True, *[False] * 5, True]


def test_what_was_not_recorded_voids_nothing() -> None:
    assert known_phase(table(phase_valid=True)).tolist() == [s <= 0.25 for s, _, _ in ROUNDS]
    assert known_phase(table(phase_valid=True, phase_sigma_rad=True)).all()


def test_the_results_count_them() -> None:
    found = {one.key: one.value.value for one in results("heralded_pair", table(), {"reference_nominal": 24})}
    assert (found["void_uncertain"], found["void_reference"], found["void_lock"]) == (2, 2, 1)
    assert found["valid_share"] == pytest.approx(2 / 7)
    good = Table([row for row in table().rows if row[2]["phase_valid"]])
    assert not any(one.key.startswith("void") for one in results("heralded_pair", good, {}))
