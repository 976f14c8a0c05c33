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
from labctl.run.calibrations import CALIBRATIONS
from labctl.run.curves import Panel
from labctl.run.results import fringe_counts, parity_counts, parity_fringe
from labctl.run.table import LARGEST_PHASE_SIGMA_RAD, Rows, Table, known_phase

STEPS_SHOWN = 1000
"""Heralds drawn one by one; of more, so many."""
Figure = tuple[str, str]
"""Caption and SVG text."""

BLUE, ORANGE, GREY = "#1f4e79", "#c55a11", "#7f7f7f"


def figures(analysis: str, rows: Rows | Table, arguments: Mapping[str, Any]) -> list[Figure]:
    """The figures that these records allow; empty for none."""
    if len(rows) < 2:
        return []
    table = rows if isinstance(rows, Table) else Table(rows)
    made: list[Figure] = []
    for draw in (_calibration(analysis),) if analysis in CALIBRATIONS else _DRAWINGS.get(analysis, ()):
        try:
            made.append(draw(table, arguments))
        except LabError:  # too few records, or not such records; the table above says what there is
            continue
    return made


def _heralds(table: Table, arguments: Mapping[str, Any]) -> Figure:
    """Heralds against time, and the distribution of waiting times."""
    figure, (left, right) = panels(2)
    span = table.time_s[-1]
    rate = len(table) / span
    shown = np.unique(np.linspace(0, len(table), min(len(table) + 1, STEPS_SHOWN)).round().astype(int))
    left.step(np.append(0.0, table.time_s)[shown], shown, color=BLUE, where="post", lw=1.2)
    left.plot([0, span], [0, len(table)], color=ORANGE, lw=1, ls="--", label=f"mean: {rate:.3g} per second")
    left.set(xlabel="laboratory time / s", ylabel="heralds", xlim=(0, span), ylim=(0, None))
    left.legend(frameon=False)
    waits = np.diff(table.time_s, prepend=0.0)
    edges = np.linspace(0, max(waits.max(), 1e-9) * 1.001, min(25, 6 + len(waits) // 20))
    found, _ = np.histogram(waits, edges)
    middle, width = (edges[1:] + edges[:-1]) / 2, edges[1]
    seen = found > 0
    _points(right, middle[seen], found[seen], np.sqrt(found[seen]))
    expected = len(waits) * width * rate * np.exp(-rate * middle)
    right.plot(middle, expected, color=ORANGE, lw=1, ls="--", label="exponential of that mean")
    right.set(xlabel="wait for a herald / s", ylabel=f"heralds per {width:.2g} s", yscale="log")
    right.set(xlim=(0, edges[-1]), ylim=(0.5, 3 * max(found.max(), 1)))
    right.legend(frameon=False)
    return f"Rate: {len(table)} heralds in {span:.0f} s of laboratory time.", to_svg(figure)


def _pair(table: Table, arguments: Mapping[str, Any]) -> Figure:
    """Populations and parity fringe of the heralded pairs."""
    if arguments.get("measure") != "fidelity":
        raise LimitError("no populations and parity in these records")
    fringe = parity_fringe(table)
    figure, (left, right) = panels(2)
    z = table.column("setting").astype(int) == 0
    a, b = table.column("bright_a").astype(int), table.column("bright_b").astype(int)
    counts = np.array([int((z & (a == x) & (b == y)).sum()) for x, y in ((1, 1), (1, 0), (0, 1), (0, 0))])
    total = max(int(counts.sum()), 1)
    error = np.sqrt((counts + 0.5) * (total - counts + 0.5) / (total + 1)) / total
    left.bar(["SS", "SD", "DS", "DD"], counts / total, yerr=error, color=BLUE, width=0.6, ecolor=ORANGE)
    left.set(xlabel="state of Alice, Bob", ylabel=f"population ({total} rounds)")
    left.set_ylim(0, max(0.6, float((counts / total + error).max()) * 1.05))
    valid = known_phase(table)
    phases, even, odd = parity_counts(table, a, b, valid)
    shots = np.maximum(even + odd, 1)
    parity = (even - odd) / shots
    _points(right, phases, parity, np.sqrt((1 - parity**2 + 1 / shots) / shots))
    fine = np.linspace(-0.3, 2 * math.pi + 0.3, 200)
    cosine = fringe.contrast.value * np.cos(fine - fringe.phase.value)
    right.plot(fine, cosine, color=ORANGE, lw=1, label=f"fit, contrast {fringe.contrast.compact()}")
    right.axhline(0, color=GREY, lw=0.5)
    right.set(
        ylabel=f"parity ({int((even + odd).sum())} rounds)", ylim=(-1.1, 1.5), yticks=(-1, -0.5, 0, 0.5, 1)
    )
    _turn(right, "analysis phase of Bob")
    right.legend(frameon=False, loc="upper center")
    return "Heralded pairs: populations, and parity after both ions were turned by π/2.", to_svg(figure)


def _clicks(table: Table, arguments: Mapping[str, Any]) -> Figure:
    """When in the gate the heralding photon came, and how well the optical phase was known then."""
    tracked = table.has("phase_sigma_rad")
    figure, (left, *others) = panels(2 if tracked else 1)
    window_ns = float(arguments.get("window", 60_000)) / 1e3
    edges = np.linspace(0, window_ns, 31)
    two = table.has("early_0_ps")
    for gate, style in (("early", "-"), ("late", "--")) if two else (("click", "-"),):
        for detector, colour in ((0, BLUE), (1, ORANGE)):
            clicks = table.column(f"{gate}_{detector}_ps").astype(float) / 1e3
            clicks = clicks[clicks >= 0]
            label = f"{gate + ', ' if two else ''}detector {detector}: {len(clicks)}"
            left.hist(clicks, edges, histtype="step", color=colour, lw=1.2, ls=style, label=label)
    left.set(
        xlabel="click after the gate opened / ns",
        ylabel=f"heralds per {edges[1]:.2g} ns",
        xlim=(0, window_ns),
    )
    left.legend(frameon=False)
    if not tracked:
        return f"Arrival of the heralding photon{'s' if two else ''}.", to_svg(figure)
    (right,) = others
    sigma = table.column("phase_sigma_rad").astype(float)
    top = max(1.1 * LARGEST_PHASE_SIGMA_RAD, float(np.quantile(sigma, 0.99)))
    counts, *_ = right.hist(np.minimum(sigma, top), bins=np.linspace(0, top, 56), color=BLUE)
    right.axvline(LARGEST_PHASE_SIGMA_RAD, color=ORANGE, lw=1, ls="--", label="rounds above are void")
    right.set(xlabel="uncertainty of the tracked phase / rad", ylabel="heralds", xlim=(0, top))
    right.set_ylim(0, 1.25 * max(counts.max(), 1))
    right.legend(frameon=False, loc="upper left")
    return "Arrival of the heralding photon, and what the reference light told of the phase.", to_svg(figure)


def _fringe(table: Table, arguments: Mapping[str, Any]) -> Figure:
    """The interference fringe of the reference light with the tracked phase taken out."""
    phases, n0, n1 = fringe_counts(table, arguments)
    fitted = fit_fringe(phases, n0, n1)
    figure, (axes,) = panels(1)
    total = np.maximum(n0 + n1, 1)
    _points(axes, phases, n0 / total, np.sqrt((n0 + 0.5) * (n1 + 0.5) / (total + 1)) / total)
    fine = np.linspace(-0.3, 2 * math.pi + 0.3, 200)
    curve = (1 + fitted.contrast.value * np.cos(fine - fitted.phase.value)) / 2
    axes.plot(fine, curve, color=ORANGE, lw=1, label=f"fit, contrast {fitted.contrast.compact()}")
    axes.set(ylabel="share of clicks at detector 0", ylim=(-0.03, 1.2), yticks=(0, 0.25, 0.5, 0.75, 1))
    _turn(axes, "scanned phase")
    axes.legend(frameon=False, loc="upper center")
    return f"Reference light with the tracked phase fed forward: {int(total.sum())} clicks.", to_svg(figure)


def _noise(table: Table, arguments: Mapping[str, Any]) -> Figure:
    """Counts of each gate with no signal light, against time and against a Poisson distribution."""
    figure, (left, right) = panels(2)
    gate_s = float(arguments["gate"]) / 1e12
    for name, colour in (("n0", BLUE), ("n1", ORANGE)):
        counts = table.column(name).astype(int)
        left.plot(table.time_s, counts / gate_s, ".", ms=4, color=colour, label=f"detector {name[1]}")
        left.axhline(counts.mean() / gate_s, color=colour, lw=0.8, ls="--")
        values = np.arange(counts.min(), counts.max() + 1)
        found = np.bincount(counts - counts.min(), minlength=len(values))
        right.step(values, found, where="mid", color=colour, lw=1)
        mean = max(counts.mean(), 1e-9)
        log = [n * math.log(mean) - mean - math.lgamma(n + 1) for n in values.tolist()]
        right.plot(values, len(counts) * np.exp(log), color=colour, lw=1, ls="--")
    left.set(xlabel="laboratory time / s", ylabel="clicks per second", ylim=(0, None))
    left.legend(frameon=False, ncols=2, loc="lower center")
    right.set(xlabel=f"clicks in {gate_s:.3g} s", ylabel="gates", ylim=(0, None))
    return "Clicks with no signal light; dashed: mean, and Poisson distribution of that mean.", to_svg(figure)


def _calibration(analysis: str) -> Callable[[Table, Mapping[str, Any]], Figure]:
    """Points and fitted curves of a calibration."""

    def draw(table: Table, arguments: Mapping[str, Any]) -> Figure:
        made = CALIBRATIONS[analysis](table, arguments)
        figure, axes = panels(len(made.panels))
        for one, panel in zip(axes, made.panels, strict=True):
            _panel(one, panel)
        return made.caption, to_svg(figure)

    return draw


def _panel(axes: Any, panel: Panel) -> None:
    """One panel of a calibration: points with errors, the fit as a line of the same colour."""
    for curve, colour in zip(panel.curves, (BLUE, ORANGE), strict=False):
        axes.errorbar(curve.x, curve.y, curve.error, fmt="o", ms=3, lw=0.8, color=colour, label=curve.label)
        axes.plot(*curve.fine, color=colour, lw=1)
    for x, label in panel.marks:
        axes.axvline(x, color=GREY, lw=0.8, ls="--", label=label)
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.logarithmic:
        above = [float(curve.y[curve.y > 0].min()) for curve in panel.curves if (curve.y > 0).any()]
        least = min(above, default=1.0)
        axes.set(yscale="log", ylim=(least / 2, None))
    axes.legend(frameon=False, fontsize="small")


_DRAWINGS: dict[str, tuple[Callable[[Table, Mapping[str, Any]], Figure], ...]] = {
    "heralded_pair": (_heralds, _pair, _clicks),
    "fringe": (_fringe,),
    "noise": (_noise,),
}


def panels(count: int) -> tuple[Any, Any]:
    """A figure of so many panels side by side, and the panels."""
    from matplotlib.figure import Figure as MatplotlibFigure

    wide, high = 4.6, 3.1
    figure = MatplotlibFigure(figsize=(wide * count, high))
    axes = [
        figure.add_axes(((i + 0.17) / count, 0.6 / high, 0.8 / count, (high - 0.85) / high))
        for i in range(count)
    ]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def plain_log(axis: Any) -> None:
    """Labels 0.02, 0.05, 0.1 on a logarithmic axis rather than powers of ten, for which the margin is too narrow."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axis.set_major_formatter(plain)
    axis.set_minor_locator(LogLocator(subs=(2, 5)))
    axis.set_minor_formatter(plain)


def _points(axes: Any, x: Any, y: Any, error: Any) -> None:
    axes.errorbar(x, y, error, fmt="o", ms=4, color=BLUE, lw=1)


def _turn(axes: Any, label: str) -> None:
    """A phase axis over one turn."""
    ticks = [k * math.pi / 2 for k in range(5)]
    axes.set_xticks(ticks, ["0", "π/2", "π", "3π/2", "2π"])
    axes.set(xlabel=label, xlim=(-0.3, 2 * math.pi + 0.3))


def to_svg(figure: Any) -> str:
    """The same bytes for the same figure, and nothing but the drawing."""
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.hashsalt": "labctl"}):
        figure.savefig(
            text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"), None)
        )
    return text.getvalue()[text.getvalue().index("<svg") :]
