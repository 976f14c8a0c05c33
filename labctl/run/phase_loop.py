"""A run of reference slots alone: what the Bayes filter and each slot by itself know of the phase, from the same clicks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from labctl.analysis.bell import population
from labctl.analysis.phase import LAGS, Stabilisation, maximum_likelihood, stabilisation, unwrap
from labctl.analysis.value import Estimate
from labctl.run.curves import Calibration, Curve, FloatArray, Panel
from labctl.run.table import Result, Table

BIASES_RAD = (math.pi / 2, 0.0)
"""Of the two halves of a slot."""
SHOWN = 2000
"""Cycles in the picture of the phase."""


def phase_stabilisation(table: Table, arguments: Mapping[str, Any]) -> Calibration:
    """<cos error> of the filter and of maximum likelihood per slot, contrast, diffusion, valid cycles, slips."""
    cycle_s = float(arguments["cycle"]) * 1e-12
    columns = [[f"{half}{detector}" for detector in (0, 1)] for half in "qi"]
    counts = np.stack(
        [np.stack([table.column(name).astype(np.float64) for name in pair], axis=1) for pair in columns],
        axis=1,
    )
    tracked = table.column("phase_microturns").astype(np.float64) * (2e-6 * math.pi)
    alone = maximum_likelihood(counts, BIASES_RAD, float(arguments["reference_contrast"]))
    found = stabilisation(counts, BIASES_RAD, cycle_s, (tracked, alone))
    valid = table.column("phase_valid").astype(int)
    unwrapped, slips = unwrap(tracked)
    clicks = counts.sum(axis=(1, 2))
    spread = math.sqrt(float(clicks.var()) / len(clicks))
    results = [
        Result("cos_bayes", "<cos error> of the Bayes filter", found.cosines[0]),
        Result("cos_slot", "<cos error> of each slot alone, maximum likelihood", found.cosines[1]),
        Result("contrast", "contrast of the reference fringe", found.contrast),
        Result("diffusion", "diffusion of the phase", found.diffusion),
        Result("reference_clicks", "clicks per slot", Estimate(float(clicks.mean()), spread)),
        Result("valid_share", "cycles with a valid phase", population(int(valid.sum()), len(valid))),
        Result("slips", "steps of more than a quarter turn", Estimate(slips, math.sqrt(slips))),
    ]
    caption = "Tracked phase, and how much later slots agree with what was known: left as tracked, right for both estimators."
    return Calibration(results, caption, [_course(unwrapped, cycle_s), _memory(found, cycle_s)])


def _course(unwrapped: FloatArray, cycle_s: float) -> Panel:
    shown = unwrapped[:SHOWN] - unwrapped[0]
    times = np.arange(len(shown)) * cycle_s
    nothing = np.zeros_like(shown)
    return Panel(
        "time / s", "tracked phase / rad", [Curve("Bayes filter", times, shown, nothing, (times, shown))]
    )


def _memory(found: Stabilisation, cycle_s: float) -> Panel:
    lags = np.arange(1, LAGS + 1)
    curves: list[Curve] = []
    for label, cosine, remembered in zip(
        ("Bayes filter", "slot alone"), found.cosines, found.remembered, strict=True
    ):
        fine = np.linspace(0.0, LAGS, 50)
        kept = cosine.value * np.exp(-found.diffusion.value * fine * cycle_s / 2)
        curves.append(
            Curve(label, lags * cycle_s * 1e3, remembered, np.zeros(LAGS), (fine * cycle_s * 1e3, kept))
        )
    return Panel("time after the estimate / ms", "<cos(later phase - estimate)>", curves)
