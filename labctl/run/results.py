"""From the records of a run to its physics, by the kind of records its schedule says it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from labctl.analysis import bell, keyrate, link
from labctl.analysis.fringe import Fringe, fit_fringe
from labctl.analysis.value import Estimate
from labctl.errors import LimitError
from labctl.run.calibrations import CALIBRATIONS
from labctl.run.table import Result, Rows, Table, known_phase, void_phases

VOID = {
    "uncertain": "phase uncertain",
    "reference": "reference clicks out of range",
    "lock": "fibre lock open, or clicks that disagree with the phase",
}
"""Causes for which a round is void, for people."""


def results(analysis: str, rows: Rows | Table, arguments: Mapping[str, Any]) -> list[Result]:
    """The figures of a run; empty while there are too few records to say anything."""
    if not len(rows):
        return []
    table = rows if isinstance(rows, Table) else Table(rows)
    if analysis in CALIBRATIONS:
        return _if_determined(lambda: CALIBRATIONS[analysis](table, arguments).results)
    method = _METHODS.get(analysis)
    return [] if method is None else method(table, arguments)


def heralded_pair(table: Table, arguments: Mapping[str, Any]) -> list[Result]:
    """Rate, tracked phase, and fidelity, CHSH or tomography as the settings allow. Void rounds count for the rate only."""
    found = [Result("herald_rate", "herald rate", link.herald_rate(len(table), float(table.time_s[-1])))]
    total = table.has("attempts_total")  # a record may have been preceded by attempts without one
    attempts = grown(table, "attempts_total") if total else int(table.column("attempts").sum())
    found.append(Result("herald_probability", "heralds per attempt", bell.population(len(table), attempts)))
    if table.has("live_ps"):
        found += _live(table)
    valid = known_phase(table, arguments)
    if table.has("phase_sigma_rad"):
        sigma = table.column("phase_sigma_rad").astype(float)
        found.append(Result("phase_sigma", "uncertainty of the tracked phase", _mean(sigma, "rad")))
        known = bell.population(int(valid.sum()), len(table))
        found.append(Result("valid_share", "rounds with a known phase", known))
        for cause, void in void_phases(table, arguments).items():
            if void.any():
                count = Estimate(int(void.sum()), float(void.sum()) ** 0.5)
                found.append(Result(f"void_{cause}", f"rounds void: {VOID[cause]}", count))
    a, b = table.column("bright_a").astype(int), table.column("bright_b").astype(int)
    measures = {"fidelity": _fidelity, "bell": _bell, "tomography": _correlators}
    measure = measures.get(str(arguments.get("measure", "")))
    if measure is not None:
        found += _if_determined(lambda: measure(table, a, b, valid))
    return found


def grown(table: Table, name: str) -> int:
    """By how much a counter in the records grew in all; it begins anew from 0 with each run that was merged."""
    values = table.column(name).astype(np.int64)
    steps = np.diff(values, prepend=0)
    return int(np.where(steps < 0, values, steps).sum())


def _live(table: Table) -> list[Result]:
    """Rate while attempts go on, share of the time in which they do, and time spent looking for atoms.

    Each live time between heralds is exponential: the share's error is that of the live time, with the rest taken as known.
    """
    span_s, live_s = float(table.time_s[-1]), grown(table, "live_ps") / 1e12
    share = live_s / span_s
    error = share * (1 - share) / len(table) ** 0.5
    found = [
        Result("live_rate", "herald rate while live", link.herald_rate(len(table), live_s)),
        Result("live_fraction", "live fraction", Estimate(share, error)),
    ]
    if table.has("loading_ps"):
        loading = grown(table, "loading_ps") / 1e12 / span_s
        found.append(
            Result("loading_share", "time looking for atoms", Estimate(loading, loading / len(table) ** 0.5))
        )
    return found


def parity_counts(
    table: Table, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], valid: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Analysis phases in rad and the counts of even and odd parity at each, shape (8,)."""
    setting = table.column("setting").astype(int)
    phases = np.arange(8) * (2 * np.pi / 8)
    even = np.array([int(((setting == k + 1) & valid & (a == b)).sum()) for k in range(8)])
    odd = np.array([int(((setting == k + 1) & valid & (a != b)).sum()) for k in range(8)])
    return phases, even, odd


def fringe_counts(
    table: Table, arguments: Mapping[str, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Scanned phases in rad and the clicks of both detectors summed at each."""
    point = table.column("point").astype(int)
    points = np.unique(point)
    n0, n1 = table.column("n0"), table.column("n1")
    phases = points * (2 * np.pi / int(arguments["points"]))
    return (
        phases,
        np.array([n0[point == p].sum() for p in points]),
        np.array([n1[point == p].sum() for p in points]),
    )


def parity_fringe(table: Table) -> Fringe:
    """The parity fringe of a link run that measured the fidelity; LimitError while there are too few rounds."""
    valid = known_phase(table)
    counts = parity_counts(
        table, table.column("bright_a").astype(int), table.column("bright_b").astype(int), valid
    )
    return bell.fit_parity_fringe(*counts)


def _fidelity(
    table: Table, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], valid: np.ndarray[Any, Any]
) -> list[Result]:
    setting = table.column("setting").astype(int)
    z = setting == 0
    populations = bell.population(int((z & (a != b)).sum()), int(z.sum()))
    both_bright = bell.population(int((z & (a == 1) & (b == 1)).sum()), int(z.sum()))
    parity = bell.fit_parity_fringe(*parity_counts(table, a, b, valid))
    return [
        Result("populations", "population of |SD> and |DS>", populations),
        Result("both_bright", "population of |SS>", both_bright),
        Result("parity_contrast", "parity contrast", parity.contrast),
        Result("parity_phase", "phase of the parity fringe", parity.phase),
        Result(
            "fidelity", "Bell-state fidelity", bell.bell_fidelity_from_parity(populations, parity.contrast)
        ),
    ]


def _bell(
    table: Table, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], valid: np.ndarray[Any, Any]
) -> list[Result]:
    """CHSH and key. The state is a psi: Bob's outcomes are flipped, so that equal settings agree."""
    x, y = table.column("setting_a").astype(int), table.column("setting_b").astype(int)
    outcome_a, outcome_b = 2 * a - 1, 1 - 2 * b
    test = valid & (y < 2)
    chsh = bell.chsh(bell.count_trials(x[test], y[test], outcome_a[test], outcome_b[test]), minus=(1, 0))
    key = valid & (x == 0) & (y == 2)
    errors = keyrate.qber(int((outcome_a[key] != outcome_b[key]).sum()), int(key.sum()))
    return [
        Result("chsh_s", "CHSH S", chsh.s),
        Result("qber", "quantum bit error rate", errors),
        Result("key_rate", "asymptotic key rate per key round", keyrate.key_rate_estimate(chsh.s, errors)),
    ]


def _correlators(
    table: Table, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], valid: np.ndarray[Any, Any]
) -> list[Result]:
    setting = table.column("setting").astype(int)
    found: dict[str, Estimate] = {}
    for name, index in (("xx", 0), ("yy", 4), ("zz", 8)):
        chosen = (setting == index) & (valid | (name == "zz"))
        found[name] = bell.correlator(int((chosen & (a == b)).sum()), int((chosen & (a != b)).sum()))
    fidelity = bell.bell_fidelity_from_correlators(found["xx"], found["yy"], found["zz"], "psi+")
    return [
        *(Result(name, f"<{name.upper()}>", value) for name, value in found.items()),
        Result("fidelity", "Bell-state fidelity", fidelity),
    ]


def fringe(table: Table, arguments: Mapping[str, Any]) -> list[Result]:
    """Contrast and phase of the interference fringe of the reference light."""

    def fit() -> list[Result]:
        fitted = fit_fringe(*fringe_counts(table, arguments))
        return [
            Result("contrast", "interference contrast", fitted.contrast),
            Result("fringe_phase", "fringe phase", fitted.phase),
        ]

    return _if_determined(fit)


def noise(table: Table, arguments: Mapping[str, Any]) -> list[Result]:
    """Clicks per second and detector with no signal light."""
    seconds = len(table) * float(arguments["gate"]) / 1e12
    n0, n1 = int(table.column("n0").sum()), int(table.column("n1").sum())
    return [
        Result("noise_rate", "noise per detector", link.herald_rate(n0 + n1, 2 * seconds)),
        Result("noise_rate_0", "noise of detector 0", link.herald_rate(n0, seconds)),
        Result("noise_rate_1", "noise of detector 1", link.herald_rate(n1, seconds)),
    ]


def _mean(values: np.ndarray[Any, Any], unit: str) -> Estimate:
    spread = float(values.std(ddof=1)) if len(values) > 1 else float("inf")
    return Estimate(float(values.mean()), spread / len(values) ** 0.5, unit)


def _if_determined(compute: Callable[[], list[Result]]) -> list[Result]:
    """Figures that a short run may not determine yet are left out rather than invented."""
    try:
        return compute()
    except LimitError:
        return []


_METHODS: dict[str, Callable[[Table, Mapping[str, Any]], list[Result]]] = {
    "heralded_pair": heralded_pair,
    "fringe": fringe,
    "noise": noise,
}
