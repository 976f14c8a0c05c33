"""Calibrations of the light's way to the midpoint: balance, arrival, delay, converters, etalons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from labctl.analysis.fits import Fit
from labctl.analysis.link import herald_rate
from labctl.analysis.photon import fit_arrivals, fit_etalon, packet_integral
from labctl.analysis.value import Estimate, propagate
from labctl.errors import LimitError
from labctl.run.curves import NODES, Calibration, Curve, FloatArray, Panel, count_curve, finely
from labctl.run.table import Result, Table

PS = 1e-12
BIN_S = {"arrival": 1e-9, "delay": 4e-9}
"""Bins of the arrival-time histograms."""


def balance(table: Table, arguments: Mapping[str, Any]) -> Calibration:
    """Clicks per attempt of each node, per excitation too, their ratio, and Bob's α that balances them."""
    alpha = float(arguments["alpha"])
    chances: list[Estimate] = []
    results: list[Result] = []
    curves: list[Curve] = []
    for letter, name in NODES:
        attempts = table.column(f"attempts_{letter}").astype(np.float64)
        if len(attempts) < 2:
            raise LimitError("one click per node tells nothing about its rate")
        chance = click_chance(attempts)
        chances.append(chance)
        results += [
            Result(f"click_probability_{letter}", f"clicks per attempt, {name}", chance),
            Result(
                f"efficiency_{letter}",
                f"clicks per excitation, {name}",
                Estimate(chance.value / alpha, chance.standard_error / alpha),
            ),
        ]
        order = np.sort(attempts)
        share = 1 - np.arange(1, order.size + 1) / (order.size + 1)
        fine = finely(np.append(order, 0.0), lambda n, c=chance.value: np.exp(-n * c))
        curves.append(Curve(name, order, share, np.zeros_like(share), fine))
    ratio = propagate(_quotient, *chances)
    results += [
        Result("balance", "clicks of Alice over clicks of Bob, per attempt", ratio),
        Result(
            "balanced_alpha_b",
            "α of Bob that balances the nodes",
            Estimate(alpha * ratio.value, alpha * ratio.standard_error),
        ),
    ]
    panel = Panel("attempts", "rounds without a click yet", curves, logarithmic=True)
    return Calibration(results, "Attempts until a click, each node alone.", [panel])


def click_chance(attempts: FloatArray) -> Estimate:
    """Chance of a click per attempt from the attempts each click took: (n - 1)/(N - 1), unbiased, with its standard error."""
    n, whole = attempts.size, float(attempts.sum())
    chance = (n - 1) / (whole - 1)
    return Estimate(chance, chance * math.sqrt((1 - chance) / max(n - 2, 1)))


def arrival(table: Table, arguments: Mapping[str, Any]) -> Calibration:
    """Arrival and 1/e decay of each node's wave packet."""
    results: list[Result] = []
    panels: list[Panel] = []
    starts: list[Estimate] = []
    for letter, name in NODES:
        edges, counts = histogram(table, letter, arguments, BIN_S["arrival"])
        fit = fit_arrivals(edges, counts, float(arguments["etalon_fwhm_hz"]))
        lead_s = float(arguments["lead"]) * PS
        start = Estimate(fit["start"].value - lead_s, fit["start"].standard_error, "s")
        starts.append(start)
        noise = fit["noise"].value * counts.size / max(float(counts.sum()), 1.0)
        results += [
            Result(f"late_{letter}", f"photon after its expected arrival, {name}", start),
            Result(f"decay_{letter}", f"1/e decay of the photon, {name}", fit["decay"]),
            Result(
                f"noise_share_{letter}",
                f"clicks that are noise, {name}",
                Estimate(noise, noise * _relative(fit["noise"])),
            ),
        ]
        decay_s = fit["decay"].value
        panels.append(_packet_panel(name, edges, counts, fit, decay_s, arguments))
    difference = propagate(_difference, starts[1], starts[0], unit="s")
    results.append(Result("delay", "Bob's photon after Alice's", difference))
    return Calibration(results, "Arrival of each node's photons, and their wave packet.", panels)


def delay(table: Table, arguments: Mapping[str, Any]) -> Calibration:
    """Time of flight of each node's photons and the difference that has to be taken out."""
    results: list[Result] = []
    panels: list[Panel] = []
    flights: list[Estimate] = []
    decay_s = float(arguments["photon_decay_s"])
    for letter, name in NODES:
        edges, counts = histogram(table, letter, arguments, BIN_S["delay"])
        fit = fit_arrivals(edges, counts, float(arguments["etalon_fwhm_hz"]), decay_s)
        opened_s = (float(arguments["flight"]) - float(arguments["lead"])) * PS
        flight = Estimate(opened_s + fit["start"].value, fit["start"].standard_error, "s")
        flights.append(flight)
        results.append(Result(f"flight_{letter}", f"time of flight to the midpoint, {name}", flight))
        panels.append(_packet_panel(name, edges, counts, fit, decay_s, arguments))
    difference = propagate(_difference, flights[1], flights[0], unit="s")
    results.append(Result("delay", "Bob's photon after Alice's: excite Bob that much earlier", difference))
    return Calibration(results, "Clicks in a wide gate around the expected arrival.", panels)


def histogram(
    table: Table, letter: str, arguments: Mapping[str, Any], bin_s: float
) -> tuple[FloatArray, FloatArray]:
    """Edges (s after the gate opened) and clicks of one node, both detectors together."""
    clicks = np.concatenate([table.column(f"click_{letter}{d}_ps").astype(np.float64) for d in (0, 1)])
    bins = max(8, round(float(arguments["gate"]) * PS / bin_s))
    edges = np.linspace(0.0, float(arguments["gate"]) * PS, bins + 1)
    counts, _ = np.histogram(clicks[clicks >= 0] * PS, edges)
    return edges, counts.astype(np.float64)


def _packet_panel(
    name: str, edges: FloatArray, counts: FloatArray, fit: Fit, decay_s: float, arguments: Mapping[str, Any]
) -> Panel:
    start, photons, noise = (float(value) for value in fit.values[:3])
    shape = np.diff(packet_integral(edges - start, decay_s, float(arguments["etalon_fwhm_hz"])))
    middles = (edges[1:] + edges[:-1]) / 2 * 1e9
    model = photons * shape + noise
    curve = count_curve(name, middles[counts > 0], counts[counts > 0], 1.0, (middles, model))
    width = (edges[1] - edges[0]) * 1e9
    return Panel("click after the gate opened / ns", f"clicks per {width:.2g} ns", [curve])


def _live(dead_s: float, first: float, second: float, noise: float) -> float:
    """Rate of the light from that of two detectors with a dead time, R = r / (1 - r dead), without the noise."""
    return sum(rate / (1 - rate * dead_s) for rate in (first, second)) - noise


def _difference(one: float, other: float) -> float:
    return one - other


def _quotient(one: float, other: float) -> float:
    return one / other


def _relative(value: Estimate) -> float:
    return value.standard_error / value.value if value.value > 0 else math.inf


def converter(table: Table, arguments: Mapping[str, Any]) -> Calibration:
    """Clicks per photon at each converter's input, and clicks with no light."""
    light_s = len(table) * float(arguments["pulse"]) * PS
    dark_s = len(table) * float(arguments["dark"]) * PS
    noise = herald_rate(int(table.column("n0").sum() + table.column("n1").sum()), dark_s)
    into, dead_s = float(arguments["input_photons_hz"]), float(arguments["dead_s"])
    results: list[Result] = []
    rates: list[Estimate] = []
    for letter, name in NODES:
        seen = [herald_rate(int(table.column(f"{letter}{d}").sum()), light_s) for d in (0, 1)]
        rate = propagate(lambda *rates: _live(dead_s, *rates), *seen, noise, unit="Hz")
        rates.append(rate)
        results += [
            Result(f"rate_{letter}", f"clicks per second of the reference light, {name}", rate),
            Result(
                f"efficiency_{letter}",
                f"clicks per photon into the converter, {name}",
                Estimate(rate.value / into, rate.standard_error / into),
            ),
        ]
    half = Estimate(noise.value / 2, noise.standard_error / 2, "Hz")
    results.append(Result("noise_rate", "noise per detector", half))
    x = np.array([0.0, 1.0, 2.0])
    y = np.array([*(rate.value for rate in rates), noise.value])
    error = np.array([*(rate.standard_error for rate in rates), noise.standard_error])
    empty = np.zeros(0)
    curve = Curve("both detectors", x, y, error, (empty, empty))
    panel = Panel("light of: 0 Alice, 1 Bob, 2 nobody", "clicks per second", [curve], logarithmic=True)
    return Calibration(results, "Clicks with each arm's reference light, and with none.", [panel])


def etalon(table: Table, arguments: Mapping[str, Any]) -> Calibration:
    """Centre and width of each arm's etalon."""
    frequencies = np.array(arguments["frequencies_hz"], np.float64)
    point = table.column("point").astype(int)
    shots = np.bincount(point, minlength=frequencies.size).astype(np.float64)
    exposure_s = shots * float(arguments["pulse"]) * PS
    results: list[Result] = []
    curves: list[Curve] = []
    for letter, name in NODES:
        seen = (table.column(f"{letter}0") + table.column(f"{letter}1")).astype(np.float64)
        clicks = np.bincount(point, seen, frequencies.size).astype(np.float64)
        fit = fit_etalon(frequencies, clicks, exposure_s)
        results += [
            Result(f"centre_{letter}", f"etalon minus nominal frequency, {name}", fit["centre"]),
            Result(f"fwhm_{letter}", f"width of the etalon (FWHM), {name}", fit["fwhm"]),
        ]
        used = exposure_s > 0
        found = fit.values
        fine = finely(
            frequencies / 1e6,
            lambda f, v=found: (v[3] + v[2] / (1 + (2 * (f * 1e6 - v[0]) / v[1]) ** 2)) / 1e3,
        )
        curves.append(count_curve(name, frequencies[used] / 1e6, clicks[used], 1e-3 / exposure_s[used], fine))
    panel = Panel("frequency of the reference light / MHz", "clicks per ms", curves)
    return Calibration(results, "Transmission of each arm's etalon.", [panel])
