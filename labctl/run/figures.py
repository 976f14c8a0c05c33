# pyright: standard
# (matplotlib carries incomplete types; this is the one file of the room that draws)
"""The figures of a run's report, as SVG: what a physicist would show of these records."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from labctl.analysis.fringe import fit_fringe
from labctl.errors import LabError, LimitError
from labctl.run.results import (
    LARGEST_PHASE_SIGMA_RAD,
    Rows,
    Table,
    fringe_counts,
    parity_counts,
    parity_fringe,
)

Figure = tuple[str, str]
"""Caption and SVG text."""

BLUE, ORANGE, GREY = "#1f4e79", "#c55a11", "#7f7f7f"


def figures(analysis: str, rows: Rows, arguments: Mapping[str, Any]) -> list[Figure]:
    """The figures that these records allow; empty for none."""
    if len(rows) < 2:
        return []
    made: list[Figure] = []
    for draw in _DRAWINGS.get(analysis, ()):
        try:
            made.append(draw(Table(rows), arguments))
        except LabError:  # too few records, or not such records; the table above says what there is
            continue
    return made


def _heralds(table: Table, arguments: Mapping[str, Any]) -> Figure:
    """Heralds against time, and the distribution of waiting times."""
    figure, (left, right) = _axes(2)
    count = np.arange(1, len(table) + 1)
    rate = len(table) / table.time_s[-1]
    left.step(table.time_s, count, color=BLUE, where="post", lw=1)
    left.plot(
        [0, table.time_s[-1]],
        [0, rate * table.time_s[-1]],
        color=ORANGE,
        lw=1,
        ls="--",
        label=f"{rate:.3f} /s",
    )
    left.set(xlabel="laboratory time / s", ylabel="heralds")
    left.legend(frameon=False)
    waits = np.diff(np.concatenate(([0.0], table.time_s)))
    edges = np.linspace(0, max(waits.max(), 1e-9), 30)
    found, _ = np.histogram(waits, edges)
    middle, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    right.errorbar(middle, found, np.sqrt(np.maximum(found, 1)), fmt="o", ms=3, color=BLUE, lw=1)
    right.plot(
        middle,
        len(waits) * width * rate * np.exp(-rate * middle),
        color=ORANGE,
        lw=1,
        label="Poisson process of that rate",
    )
    right.set(xlabel="waiting time / s", ylabel="rounds", yscale="log", ylim=(0.5, None))
    right.legend(frameon=False)
    return (
        f"{len(table)} heralds in {table.time_s[-1]:.0f} s of laboratory time; waiting times are exponential.",
        _svg(figure),
    )


def _arrivals(table: Table, arguments: Mapping[str, Any]) -> Figure:
    """When in the gate the heralding photon came, by detector."""
    figure, (axes,) = _axes(1)
    window_ns = float(arguments.get("window", 60_000)) / 1e3
    edges = np.linspace(0, window_ns, 61)
    for detector, colour in ((0, BLUE), (1, ORANGE)):
        clicks = table.column(f"click_{detector}_ps").astype(float) / 1e3
        found, _ = np.histogram(clicks[clicks >= 0], edges)
        axes.step(edges[:-1], found, where="post", color=colour, lw=1, label=f"detector {detector}")
    axes.set(
        xlabel="click after the gate opened / ns",
        ylabel="heralds per ns",
        yscale="symlog",
        xlim=(0, window_ns),
    )
    axes.legend(frameon=False)
    return (
        "Arrival time of the heralding photon: 7.5 ns decay, widened by the etalon; the flat part is noise.",
        _svg(figure),
    )


def _pair(table: Table, arguments: Mapping[str, Any]) -> Figure:
    """Populations and parity fringe of the heralded pairs."""
    if arguments.get("measure") != "fidelity":
        raise LimitError("no populations and parity in these records")
    fringe = parity_fringe(table)
    figure, (left, right) = _axes(2)
    setting = table.column("setting").astype(int)
    a, b = table.column("bright_a").astype(int), table.column("bright_b").astype(int)
    z = setting == 0
    counts = np.array([int((z & (a == x) & (b == y)).sum()) for x, y in ((0, 0), (0, 1), (1, 0), (1, 1))])
    total = max(int(counts.sum()), 1)
    share = counts / total
    left.bar(
        ["DD", "DS", "SD", "SS"],
        share,
        yerr=np.sqrt(share * (1 - share) / total),
        color=BLUE,
        width=0.6,
        ecolor=GREY,
    )
    left.set(ylabel="population", ylim=(0, 0.6))
    valid = table.column("phase_sigma_rad").astype(float) <= LARGEST_PHASE_SIGMA_RAD
    phases, even, odd = parity_counts(table, a, b, valid)
    shots = np.maximum(even + odd, 1)
    parity = (even - odd) / shots
    right.errorbar(phases, parity, np.sqrt((1 - parity**2) / shots), fmt="o", ms=4, color=BLUE, lw=1)
    fine = np.linspace(0, 2 * math.pi, 200)
    right.plot(fine, fringe.contrast.value * np.cos(fine - fringe.phase.value), color=ORANGE, lw=1)
    right.set(xlabel="analysis phase of Bob / rad", ylabel="parity", ylim=(-1, 1))
    right.axhline(0, color=GREY, lw=0.5)
    return (
        f"Populations of the pair, and its parity against the analysis phase: contrast {fringe.contrast.compact()}.",
        _svg(figure),
    )


def _phase(table: Table, arguments: Mapping[str, Any]) -> Figure:
    """The tracked optical phase at each herald and how well it was known."""
    figure, (left, right) = _axes(2)
    left.plot(
        table.time_s, table.column("phase_microturns").astype(float) * 2e-6 * math.pi, ".", ms=2, color=BLUE
    )
    left.set(xlabel="laboratory time / s", ylabel="tracked phase / rad", ylim=(0, 2 * math.pi))
    right.hist(table.column("phase_sigma_rad").astype(float), bins=40, color=BLUE)
    right.axvline(LARGEST_PHASE_SIGMA_RAD, color=ORANGE, lw=1, ls="--", label="void above")
    right.set(xlabel="uncertainty of the tracked phase / rad", ylabel="rounds")
    right.legend(frameon=False)
    return (
        "Optical phase at each herald from the 393 nm reference clicks, and its posterior standard deviation.",
        _svg(figure),
    )


def _fringe(table: Table, arguments: Mapping[str, Any]) -> Figure:
    """The interference fringe of the reference light with the tracked phase taken out."""
    phases, n0, n1 = fringe_counts(table, arguments)
    fitted = fit_fringe(phases, n0, n1)
    figure, (axes,) = _axes(1)
    total = np.maximum(n0 + n1, 1)
    share = n0 / total
    axes.errorbar(
        phases, share, np.sqrt(np.maximum(share * (1 - share), 1e-4) / total), fmt="o", ms=4, color=BLUE, lw=1
    )
    fine = np.linspace(0, 2 * math.pi, 200)
    axes.plot(fine, (1 + fitted.contrast.value * np.cos(fine - fitted.phase.value)) / 2, color=ORANGE, lw=1)
    axes.set(xlabel="scanned phase / rad", ylabel="share of clicks at detector 0", ylim=(0, 1))
    return (
        f"Interference fringe with the tracked phase fed forward: contrast {fitted.contrast.compact()}.",
        _svg(figure),
    )


def _noise(table: Table, arguments: Mapping[str, Any]) -> Figure:
    """Counts of each gate with no signal light."""
    figure, (axes,) = _axes(1)
    for name, colour in (("n0", BLUE), ("n1", ORANGE)):
        counts = table.column(name).astype(float) / (float(arguments["gate"]) / 1e12)
        axes.plot(table.time_s, counts, ".", ms=3, color=colour, label=f"detector {name[1]}")
    axes.set(xlabel="laboratory time / s", ylabel="clicks per second", ylim=(0, None))
    axes.legend(frameon=False)
    return "Clicks with no signal light.", _svg(figure)


_DRAWINGS: dict[str, tuple[Callable[[Table, Mapping[str, Any]], Figure], ...]] = {
    "heralded_pair": (_heralds, _arrivals, _pair, _phase),
    "fringe": (_fringe,),
    "noise": (_noise,),
}


def _axes(count: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(4.6 * count, 3.1), layout="constrained")
    return figure, [figure.add_subplot(1, count, i + 1) for i in range(count)]


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
