"""From the records of memory runs to physics: stored pairs, and the coherence of single ions under decoupling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from labctl.analysis import link, memory
from labctl.analysis.fringe import fit_fringe
from labctl.analysis.value import Estimate, propagate
from labctl.errors import LimitError
from labctl.run.curves import NODES, Calibration, Curve, FloatArray, Panel, finely, share_curve
from labctl.run.table import Result, Table, known_phase

NEXT = "next"
"""Storage times that follow the wait for the next herald."""


def stored_pair(table: Table, arguments: Mapping[str, Any]) -> Calibration:
    """Mean fidelity of stored pairs; with enough storage times, how their correlators decay. Void rounds count for <ZZ> only."""
    times, basis, product = stored_products(table, arguments)
    results = _pooled(times, basis, product)
    if arguments.get("storage") == NEXT:
        within_s = float(arguments["within"]) / 1e12
        early = times <= within_s
        label = f" within {within_s * 1e3:.0f} ms"
        if len(np.unique(basis[early])) == len(memory.BASES):
            results += [
                Result(f"{one.key}_within", one.label + label, one.value)
                for one in _pooled(times[early], basis[early], product[early])
            ]
    pairs = memory.by_time(times, basis, product)
    decay = _fitted(pairs)
    if decay is not None:
        results += _decay(decay)
    return Calibration(results, "Stored pairs against storage time.", _panels(pairs, decay))


def _fitted(pairs: list[memory.StoredPair]) -> memory.Decay | None:
    """The fit; None where there are too few storage times or rounds, or no decay to be seen in them."""
    try:
        return memory.fit_decay(pairs)
    except LimitError:
        return None


def stored_products(
    table: Table, arguments: Mapping[str, Any]
) -> tuple[FloatArray, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Storage time in s, setting and product of outcomes of each round that counts, shape (rounds,)."""
    basis = table.column("basis").astype(int)
    product = 2 * (table.column("bright_a") == table.column("bright_b")).astype(int) - 1
    times = np.asarray(arguments["storage_ps"], float)[table.column("storage").astype(int)] / 1e12
    used = known_phase(table, arguments) | (basis == memory.BASES.index("zz"))
    return times[used], basis[used], product[used]


def _pooled(times: FloatArray, basis: np.ndarray[Any, Any], product: np.ndarray[Any, Any]) -> list[Result]:
    pair = memory.stored_pair(times, basis, product)
    return [
        Result("fidelity", "mean fidelity of stored pairs", pair.fidelity),
        Result("xx", "mean <XX>", pair.xx),
        Result("yy", "mean <YY>", pair.yy),
        Result("zz", "mean <ZZ>", pair.zz),
    ]


def _decay(fitted: memory.Decay) -> list[Result]:
    results = [
        Result("coherence_time", "coherence time of the stored pair", fitted.lifetime),
        Result("decoherence_rate", "decoherence rate of the stored pair", fitted.rate),
        Result("coherence", "<XX> and <YY> without storage", fitted.coherence),
        Result("zz_start", "-<ZZ> without storage", fitted.zz),
        Result("zz_loss", "loss of <ZZ> per second", fitted.zz_loss),
        Result("fidelity_fresh", "fidelity without storage", fitted.fidelity(0.0)),
        Result("fidelity_450ms", "fidelity after 450 ms", fitted.fidelity(0.45)),
    ]
    try:
        useful = fitted.time_above_half()
    except LimitError:  # too few rounds: <ZZ> seems to grow
        return results
    return [*results, Result("time_above_half", "storage up to which the fidelity is above 1/2", useful)]


def _panels(pairs: list[memory.StoredPair], decay: memory.Decay | None) -> list[Panel]:
    """Correlators, and fidelity, against storage time, with the fits."""
    times = np.array([pair.time_s for pair in pairs])
    empty = (np.zeros(0), np.zeros(0))
    wave = zz = fidelity = empty
    if decay is not None:
        c, tau, z, k = (one.value for one in (decay.coherence, decay.lifetime, decay.zz, decay.zz_loss))
        wave = finely(times, lambda t: c * np.exp(-t / tau))
        zz = finely(times, lambda t: np.maximum(0.0, z - k * t))
        fidelity = finely(times, lambda t: (1 + 2 * c * np.exp(-t / tau) + np.maximum(0.0, z - k * t)) / 4)

    def curve(
        label: str, values: list[Estimate], fine: tuple[FloatArray, FloatArray], sign: int = 1
    ) -> Curve:
        y = sign * np.array([value.value for value in values])
        return Curve(label, times, y, np.array([value.standard_error for value in values]), fine)

    equator = [
        curve("<XX>", [pair.xx for pair in pairs], wave),
        curve("<YY>", [pair.yy for pair in pairs], empty),
    ]
    poles = [
        curve("-<ZZ>", [pair.zz for pair in pairs], zz, -1),
        curve("fidelity", [pair.fidelity for pair in pairs], fidelity),
    ]
    label = "storage time / s"
    return [Panel(label, "correlation of stored pairs", equator), Panel(label, "-<ZZ>, fidelity", poles)]


def coherence(table: Table, arguments: Mapping[str, Any]) -> Calibration:
    """Contrast and phase of each ion's fringe over the phase of its last pulse."""
    phases = np.arange(8) * (2 * np.pi / 8)
    point = table.column("phase_index").astype(int)
    results: list[Result] = []
    curves: list[Curve] = []
    for letter, name in NODES:
        bright = np.bincount(point, table.column(f"bright_{letter}").astype(float), 8).astype(np.float64)
        shots = np.bincount(point, minlength=8).astype(np.float64)
        fitted = fit_fringe(phases, bright, shots - bright)
        results += [
            Result(f"contrast_{letter}", f"coherence of the ion, {name}", fitted.contrast),
            Result(f"phase_{letter}", f"phase of the ion, {name}", fitted.phase),
        ]
        height, turn = fitted.contrast.value, fitted.phase.value
        fine = finely(phases, lambda x, h=height, t=turn: 0.5 + h * np.cos(x - t) / 2)
        curves.append(share_curve(name, phases, bright, shots, fine))
    panel = Panel("phase of the last pulse / rad", "bright ions", curves)
    return Calibration(results, "Coherence of each ion.", [panel])


def link_worth(
    fresh_fidelity: Estimate, herald_rate: Estimate, decoherence_rate: Estimate
) -> dict[str, Estimate]:
    """Link efficiency, the efficiency that clocked delivery above 1/2 needs with pairs of this fidelity, and what it delivers.

    Humphreys et al. (2018) have 0.83 for perfect fresh pairs; it is more for real ones (PHYSICS.md 3.3).
    """
    efficiency = link.link_efficiency(herald_rate, decoherence_rate)

    def threshold(fidelity: float) -> float:
        return link.deterministic_threshold(min(max(fidelity, 0.51), 1.0))

    return {
        "link_efficiency": efficiency,
        "threshold": propagate(threshold, fresh_fidelity),
        "clocked_fidelity": propagate(link.clocked_fidelity_max, efficiency, fresh_fidelity),
    }
