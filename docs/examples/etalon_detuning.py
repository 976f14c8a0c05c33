"""Herald rate of the link against the detuning of Alice's etalon: a scan of a device with a run at every point.

Run it in a lab folder whose lab is up: ``python docs/examples/etalon_detuning.py``. Ctrl-C ends it at any time; the
etalon goes back to where it was. Writes etalon_detuning.csv and etalon_detuning.png into the working directory.
"""

import argparse
import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import curve_fit

import labctl
from labctl.clock import SystemClock
from labctl.units import mK

ETALON_HZ_PER_K = 2e9
"""How the etalon tunes, Hz/K."""
ETALON_FWHM_HZ = 40e6
PHOTON_FWHM_HZ = 1 / (2 * math.pi * 7.45e-9)
"""Lorentzian of a photon that decays to 1/e in 7.45 ns: 21 MHz."""
LINE_FWHM_HZ = ETALON_FWHM_HZ + PHOTON_FWHM_HZ
"""A Lorentzian photon behind a Lorentzian filter: the widths add."""
SETTLED_K = 1 * mK
PATIENCE_S = 60.0


def main():
    """Scan, fit, draw."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--points", type=int, default=7)
    options.add_argument("--span", type=float, default=30.0, metavar="mK", help="scan from -span to +span")
    options.add_argument("--rounds", type=int, default=150, help="heralded rounds at each point")
    chosen = options.parse_args()
    offsets_k = np.linspace(-chosen.span, chosen.span, chosen.points) * mK
    with labctl.connect(timeout_s=10.0) as lab:  # nobody watches a scan: wait longer than a person would
        rates, errors = scan(lab, offsets_k, chosen.rounds)
    detunings_hz = offsets_k * ETALON_HZ_PER_K
    with Path("etalon_detuning.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("detuning_hz", "herald_rate_hz", "standard_error_hz"))
        table.writerows(zip(detunings_hz, rates, errors, strict=True))
    fitted, covariance = fit(detunings_hz, rates, errors)
    floor, height, centre_hz = fitted
    floor_error, height_error, centre_error_hz = np.sqrt(np.diag(covariance))
    print(f"floor   {floor:.2f} ± {floor_error:.2f} /s")
    print(f"height  {height:.2f} ± {height_error:.2f} /s")
    print(f"centre  {centre_hz / 1e6:.1f} ± {centre_error_hz / 1e6:.1f} MHz")
    pulls = (rates - line(detunings_hz, *fitted)) / errors
    print(f"chi²    {pulls @ pulls:.1f} for {len(rates) - len(fitted)} degrees of freedom")
    draw(detunings_hz, rates, errors, fitted)
    print("etalon_detuning.png")


def scan(lab, offsets_k, rounds):
    """Herald rates and their standard errors in 1/s; the points are taken in random order, so that a drift is no line."""
    etalon = lab["alice.etalon"]
    before_k = etalon.setpoint.get()
    rates, errors = np.zeros(len(offsets_k)), np.zeros(len(offsets_k))
    try:
        for point in np.random.default_rng().permutation(len(offsets_k)):
            etalon.temperature.set(before_k + offsets_k[point])
            wait_settled(lab, before_k + offsets_k[point])
            label = f"etalon {offsets_k[point] / mK:+.1f} mK"
            rates[point], errors[point] = herald_rate(rounds, label)
            print(f"{label:<20} {rates[point]:.2f} ± {errors[point]:.2f} /s", flush=True)
    finally:
        etalon.temperature.set(before_k)
        print(f"etalon back to {before_k:.3f} K", flush=True)
    return rates, errors


def wait_settled(lab, target_k):
    """Return when the etalon is at its target and the lab calls it ready."""
    clock = SystemClock()
    deadline = clock.now() + PATIENCE_S
    while clock.now() < deadline:
        state = next(row.state for row in lab.client.devices() if row.device == "alice.etalon")
        away_k = lab["alice.etalon"].temperature.get() - target_k
        if state == "ready" and abs(away_k) < SETTLED_K:
            return
        clock.sleep(0.1)
    raise SystemExit(
        f"alice.etalon is {state}, {away_k / mK:.1f} mK away from its target after {PATIENCE_S:g} s"
    )


def herald_rate(rounds, label):
    """Take one run of the link; its herald rate and standard error, 1/s. Ctrl-C reaches the run too, and ends it in good order."""
    words = [
        sys.executable,
        "-m",
        "labctl",
        "run",
        "link",
        "--rounds",
        str(rounds),
        "--label",
        label,
        "--json",
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as run:
        text, _ = run.communicate()
    if run.returncode != 0:
        raise SystemExit(f"the run at {label} failed (exit code {run.returncode}), see above")
    figure = json.loads(text)["results"]["herald_rate"]
    return figure["value"], figure["standard_error"]


def line(detuning_hz, floor, height, centre_hz):
    """Bob's heralds and the noise do not care about Alice's etalon: the floor. Alice's do: the height."""
    return floor + height / (1 + (2 * (detuning_hz - centre_hz) / LINE_FWHM_HZ) ** 2)


def fit(detunings_hz, rates, errors):
    """Floor, height (1/s) and centre (Hz) of the line with its known width, and their covariance."""
    start = (rates.min(), rates.max() - rates.min(), 0.0)
    return curve_fit(line, detunings_hz, rates, start, errors, absolute_sigma=True)


def draw(detunings_hz, rates, errors, fitted):
    """Points and line into etalon_detuning.png."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.errorbar(detunings_hz / 1e6, rates, errors, fmt="o", label="runs")
    fine = np.linspace(detunings_hz.min(), detunings_hz.max(), 200)
    axes.plot(fine / 1e6, line(fine, *fitted), label=f"Lorentzian, {LINE_FWHM_HZ / 1e6:.0f} MHz wide")
    axes.set(xlabel="detuning of Alice's etalon / MHz", ylabel="heralds per second", ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig("etalon_detuning.png", dpi=150)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the runs so far are kept, see `labctl runs`")
