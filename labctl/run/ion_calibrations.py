"""Calibrations of the ions: from records to π times, detunings, lines, drift, thresholds, pumping and excitation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from labctl.analysis import qubit
from labctl.analysis import readout as fluorescence
from labctl.analysis.drift import DriftModel, fit_drift
from labctl.analysis.fits import Fit
from labctl.analysis.value import Estimate, propagate
from labctl.errors import LimitError
from labctl.run.curves import (
    NODES,
    Calibration,
    Curve,
    FloatArray,
    Panel,
    count_curve,
    finely,
    share_curve,
    shares,
)
from labctl.run.table import Result, Table

PS = 1e-12


def rabi(table: Table, arguments: Mapping[str, Any]) -> Calibration:
    """π time and contrast of each node."""
    times = np.arange(int(arguments["points"])) * float(arguments["step"]) * PS
    results: list[Result] = []
    curves: list[Curve] = []
    for letter, name in NODES:
        bright, shots = shares(table, letter, times.size)
        fit = qubit.fit_rabi(times, bright, shots)
        results += [
            Result(f"pi_time_{letter}", f"length of a π pulse, {name}", fit["pi_time"]),
            Result(f"contrast_{letter}", f"contrast of the flopping, {name}", fit["contrast"]),
        ]
        found = fit.values
        fine = finely(times, lambda t, v=found: qubit.rabi_share(t, v[0], v[1], v[2]))
        curves.append(_micro(share_curve(name, times, bright, shots, fine)))
    panel = Panel("length of the 729 nm pulse / µs", "bright ions", curves)
    return Calibration(results, "Rabi flopping on the qubit line.", [panel])


def ramsey(table: Table, arguments: Mapping[str, Any]) -> Calibration:
    """Detuning of the 729 nm laser from the line, contrast and T2* of each node."""
    phases, pi_time_s = int(arguments["phases"]), float(arguments["pi_time"]) * PS
    points = int(arguments["waits"]) * phases
    waits = np.arange(points) // phases * float(arguments["step"]) * PS
    turns = np.arange(points) % phases / phases
    results: list[Result] = []
    panels: list[Panel] = []
    for letter, name in NODES:
        bright, shots = shares(table, letter, points)
        fit = qubit.fit_ramsey(waits, turns, bright, shots, pi_time_s)
        results += [
            Result(f"detuning_{letter}", f"729 nm laser minus line, {name}", fit["detuning"]),
            Result(f"contrast_{letter}", f"contrast without waiting, {name}", fit["contrast"]),
            Result(f"t2_{letter}", f"free coherence time T2*, {name}", fit["t2"]),
        ]
        curves: list[Curve] = []
        for m in (0, phases // 4 or 1):
            chosen = np.arange(points) % phases == m
            found = fit.values

            def model(t: FloatArray, m: int = m, v: FloatArray = found) -> FloatArray:
                turned = np.full_like(t, m / phases)
                return qubit.ramsey_share(t, turned, qubit.dead_time_s(pi_time_s), v[0], v[1], v[2])

            fine = finely(waits[chosen], model)
            label = f"{name}, {m}/{phases} turn"
            curves.append(_milli(share_curve(label, waits[chosen], bright[chosen], shots[chosen], fine)))
        panels.append(Panel("waiting time / ms", "bright ions", curves))
    return Calibration(
        results, "Ramsey fringes against the waiting time, at two of the scanned phases.", panels
    )


def drift(table: Table, arguments: Mapping[str, Any]) -> Calibration:
    """Offset of the line over the run, and the drift model's word for its end."""
    wait_s = float(arguments["wait"]) * PS + qubit.dead_time_s(float(arguments["pi_time"]) * PS)
    blocks, end_s = int(arguments["blocks"]), float(table.time_s[-1])
    results: list[Result] = []
    curves: list[Curve] = []
    for letter, name in NODES:
        times, offsets = offsets_over_time(table, letter, wait_s, blocks)
        model = fit_drift(times, offsets)
        results += [
            Result(f"offset_{letter}", f"729 nm laser minus line at the end, {name}", model.at(end_s)),
            Result(f"drift_{letter}", f"drift of that, {name}", model.rate(end_s)),
            Result(f"chi_squared_{letter}", f"χ² per degree of freedom, {name}", _reduced(model)),
        ]
        values = np.array([offset.value for offset in offsets])
        errors = np.array([offset.standard_error for offset in offsets])
        fine = np.linspace(float(times[0]), end_s, 200)
        line = np.array([model.at(float(t)).value for t in fine])
        curves.append(Curve(name, times, values, errors, (fine, line)))
    panel = Panel("laboratory time / s", "729 nm laser minus line / Hz", curves)
    return Calibration(results, "Drift of the line, and the parabola that says where it will be.", [panel])


def offsets_over_time(
    table: Table, letter: str, wait_s: float, blocks: int
) -> tuple[FloatArray, list[Estimate]]:
    """Mean time and offset of one node's line in each of so many stretches of the run with enough shots."""
    point, bright = table.column("point").astype(int), table.column(f"bright_{letter}").astype(int)
    times: list[float] = []
    offsets: list[Estimate] = []
    for part in np.array_split(np.arange(len(table)), blocks):
        up, down = part[point[part] == 0], part[point[part] == 1]
        if min(len(up), len(down)) < 5:
            raise LimitError(f"{len(table)} shots are too few for {blocks} points of a drift model")
        times.append(float(table.time_s[part].mean()))
        offsets.append(
            qubit.offset_from_quarters(
                int(bright[up].sum()), len(up), int(bright[down].sum()), len(down), wait_s
            )
        )
    return np.array(times), offsets


def _reduced(model: DriftModel) -> Estimate:
    """χ² per degree of freedom, with the spread it has when the model is right."""
    degrees = model.degrees_of_freedom
    return Estimate(model.chi_squared / degrees, math.sqrt(2 / degrees))


def lines_729(table: Table, arguments: Mapping[str, Any]) -> Calibration:
    """Two lines of each node; the field and the laser's distance from the line's unshifted frequency."""
    frequencies = np.array(arguments["frequencies_hz"], np.float64)
    half, pulse_s = int(arguments["points"]), float(arguments["pulse"]) * PS
    first_k, second_k = float(arguments["first_hz_per_t"]), float(arguments["second_hz_per_t"])
    results: list[Result] = []
    panels: list[list[Curve]] = [[], []]
    for letter, name in NODES:
        bright, shots = shares(table, letter, frequencies.size)
        fits: list[Fit] = []
        for number, part in enumerate((slice(0, half), slice(half, None))):
            fit = qubit.fit_line(frequencies[part], bright[part], shots[part], pulse_s)
            fits.append(fit)

            def model(f: FloatArray, v: FloatArray = fit.values) -> FloatArray:
                return 1 - v[1] * qubit.flop(float(v[2]) / pulse_s, f - v[0], pulse_s)

            fine = finely(frequencies[part], model)
            curve = share_curve(name, frequencies[part], bright[part], shots[part], fine)
            panels[number].append(_scaled(curve, 1e-3))
        one, other = fits[0]["centre"], fits[1]["centre"]
        field, centre = qubit.field_and_centre(one, other, first_k, second_k)
        nominal = -first_k * float(arguments["field_t"])
        results += [
            Result(f"line_1_{letter}", f"line to m = -5/2, {name}", one),
            Result(f"line_2_{letter}", f"line to m = -1/2, {name}", other),
            Result(f"field_{letter}", f"magnetic field, {name}", field),
            Result(
                f"centre_{letter}",
                f"unshifted line minus where the laser believes it, {name}",
                Estimate(centre.value - nominal, centre.standard_error, "Hz"),
            ),
        ]
    labels = ("frequency of the pulse / kHz: m = -5/2", "frequency of the pulse / kHz: m = -1/2")
    return Calibration(
        results,
        "Two Zeeman lines of the 729 nm transition.",
        [Panel(label, "bright ions", curves) for label, curves in zip(labels, panels, strict=True)],
    )


def readout(table: Table, arguments: Mapping[str, Any]) -> Calibration:
    """Counts of bright and dark ions of each node, the best threshold and its error."""
    window_s = float(arguments["readout"]) * PS
    point = table.column("point").astype(int)
    results: list[Result] = []
    panels: list[Panel] = []
    for letter, name in NODES:
        counts = table.column(f"counts_{letter}").astype(int)
        size = int(counts.max()) + 10
        seen = [np.bincount(counts[point == case], minlength=size).astype(np.float64) for case in (0, 1)]
        fit = fluorescence.fit_histograms(seen[0], seen[1], window_s)
        b, d, left = (float(value) for value in fit.values)
        best = fluorescence.best_threshold(b, d, window_s)
        now = fluorescence.threshold_errors(b, d, window_s, int(arguments["threshold"]))
        results += [
            Result(f"bright_mean_{letter}", f"counts of a bright ion, {name}", fit["bright_mean"]),
            Result(f"dark_mean_{letter}", f"counts of a dark ion, {name}", fit["dark_mean"]),
            Result(
                f"left_bright_{letter}", f"dark ions whose preparation failed, {name}", fit["left_bright"]
            ),
            Result(f"threshold_{letter}", f"best threshold, {name}", Estimate(best.counts, 0.0)),
            Result(f"readout_error_{letter}", f"error with it, {name}", _error(fit, window_s, best.counts)),
            Result(f"error_now_{letter}", f"error as it is set, {name}", _error(fit, window_s, now.counts)),
        ]
        n = np.arange(size, dtype=np.float64)
        dark = left * fluorescence.poisson(b, n) + (1 - left) * fluorescence.dark_distribution(
            b, d, window_s, n
        )
        models = (seen[0].sum() * fluorescence.poisson(b, n), seen[1].sum() * dark)
        curves = [
            count_curve(f"{name}, {label}", n[h > 0], h[h > 0], 1.0, (n, model))
            for label, h, model in zip(("bright", "dark"), seen, models, strict=True)
        ]
        mark = (best.counts - 0.5, f"bright from {best.counts}")
        panels.append(Panel("fluorescence counts", "shots", curves, [mark], logarithmic=True))
    return Calibration(results, "Fluorescence of bright and dark ions, and the best threshold.", panels)


def _error(fit: Fit, window_s: float, counts: int) -> Estimate:
    """Mean readout error at a threshold, with what the fit leaves open."""

    def error(bright: float, dark: float) -> float:
        return fluorescence.threshold_errors(bright, max(dark, 0.0), window_s, counts).error

    return propagate(error, fit["bright_mean"], fit["dark_mean"])


def pumping(table: Table, arguments: Mapping[str, Any]) -> Calibration:
    """Time constant of optical pumping and what it leaves in the other Zeeman state, readout errors taken out."""
    points = int(arguments["points"])
    lengths = np.arange(points) * float(arguments["step"]) * PS
    lengths[-1] = float(arguments["settled"]) * PS
    window_s, threshold = float(arguments["readout"]) * PS, int(arguments["threshold"])
    results: list[Result] = []
    curves: list[Curve] = []
    for letter, name in NODES:
        bright, shots = shares(table, letter, points)
        fit = qubit.fit_pumping(lengths, bright, shots)
        counts = table.column(f"counts_{letter}").astype(int)
        lit, unlit = counts[counts >= threshold], counts[counts < threshold]
        means = (float(lit.mean()) if lit.size else 1.0, float(unlit.mean()) if unlit.size else 0.0)
        wrong = fluorescence.threshold_errors(*means, window_s, threshold)
        left = Estimate(max(fit["left"].value - wrong.invented, 0.0), fit["left"].standard_error)
        results += [
            Result(f"pump_time_{letter}", f"time constant of the pumping, {name}", fit["time"]),
            Result(f"pump_error_{letter}", f"not pumped, {name}", left),
        ]
        found = fit.values
        fine = finely(lengths[:-1], lambda t, v=found: v[2] + (v[1] - v[2]) * np.exp(-t / v[0]))
        short = slice(0, points - 1)
        curves.append(_micro(share_curve(name, lengths[short], bright[short], shots[short], fine)))
    panel = Panel("length of the pumping light / µs", "ions not shelved", curves)
    return Calibration(results, "Optical pumping: ions that were not in the pumped state.", [panel])


def excitation(table: Table, arguments: Mapping[str, Any]) -> Calibration:
    """Amplitude of the 854 nm pulse that excites completely (α = 1), and the share of bright ions it leaves."""
    amplitudes = np.array(arguments["amplitudes"], np.float64)
    results: list[Result] = []
    curves: list[Curve] = []
    for letter, name in NODES:
        bright, shots = shares(table, letter, amplitudes.size)
        fit = qubit.fit_excitation(amplitudes, bright, shots)
        results += [
            Result(f"pi_amplitude_{letter}", f"854 nm amplitude of α = 1, {name}", fit["pi_amplitude"]),
            Result(f"transfer_{letter}", f"bright share of excited ions, {name}", fit["transfer"]),
            Result(f"floor_{letter}", f"bright share without excitation, {name}", fit["floor"]),
        ]
        found = fit.values
        fine = finely(amplitudes, lambda a, v=found: v[2] + v[1] * np.sin(math.pi / 2 * a / v[0]) ** 2)
        curves.append(share_curve(name, amplitudes, bright, shots, fine))
    panel = Panel("amplitude of the 854 nm pulse", "bright ions", curves)
    return Calibration(results, "Excitation by the 854 nm pulse against its amplitude.", [panel])


def _scaled(curve: Curve, factor: float) -> Curve:
    """The same curve with x in another unit."""
    return Curve(curve.label, curve.x * factor, curve.y, curve.error, (curve.fine[0] * factor, curve.fine[1]))


def _micro(curve: Curve) -> Curve:
    return _scaled(curve, 1e6)


def _milli(curve: Curve) -> Curve:
    return _scaled(curve, 1e3)
