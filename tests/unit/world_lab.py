"""The shipped laboratory with values changed, and the segments that a core would hand it."""

import copy
import math
import tomllib
from pathlib import Path
from typing import Any

from labctl.clock import VirtualClock
from labctl.sim.played import OpenGate, PlayedPulse, Segment
from labctl.units import ns, us
from simulated_hw.world.laboratory import Laboratory

SHIPPED = Path(__file__).parents[2] / "configs/world/ca40_10km.toml"
VALUES: dict[str, Any] = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
NODES = ("alice", "bob")
FLIGHT = 24_483 * ns
CYCLE = 375 * us
IDEAL = {
    "atom.p32_to_s12": 1.0,
    "atom.p32_to_d52": 0.0,
    "atom.p32_to_d32": 0.0,
    "preparation.pump_error": 0.0,
    "preparation.eit_quanta": 0.0,
    "preparation.doppler_quanta": 0.0,
    "preparation.heating_per_s": 0.0,
    "qubit.pi_infidelity": 0.0,
    "phase.unseen_rad": 0.0,
    "qubit.line_noise_hz": 0.0,
    "qubit.line_drift_hz": 0.0,
    "alice.coupling_drift": 0.0,
    "bob.coupling_drift": 0.0,
}
"""Changes that leave an ideal atom: no preparation, pulse or branching errors."""

STILL = {
    "phase.spool_drift_k_per_s": 0.0,
    "phase.drift_rad_per_s_100km": 0.0,
    "phase.acoustic_1.rad_per_km": 0.0,
    "phase.acoustic_2.rad_per_km": 0.0,
    "phase.lock_noise_rad": 0.0,
    "phase.laser_linewidth_hz": 0.0,
    "phase.unseen_rad": 0.0,
}
"""Changes that leave a phase that stands still."""


def values(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The shipped component values with some changed, by dotted name."""
    content = copy.deepcopy(VALUES)
    content["run"]["powered"][0] = True  # at its operating point, unless a test wants it otherwise
    for name, value in (changes or {}).items():
        *tables, key = name.split(".")
        place = content
        for table in tables:
            place = place[table]
        place[key][0] = value
    return content


def laboratory(seed: int = 1, changes: dict[str, Any] | None = None) -> Laboratory:
    return Laboratory(values(changes), seed, VirtualClock())


def pulse(
    line: str, start: int, duration: int, turns: float = 0.0, amplitude: float = 1.0, hz: float = 0.0
) -> PlayedPulse:
    return PlayedPulse(line, start, duration, hz, turns, amplitude)


def segment(pulses: list[PlayedPulse], gates: list[OpenGate], duration: int, name: str) -> Segment:
    return Segment(
        tuple(sorted(pulses, key=lambda p: p.start_ps)),
        tuple(sorted(gates, key=lambda g: g.start_ps)),
        duration,
        name,
    )


def attempt(
    alpha: float = 0.17,
    lead: int = 4 * ns,
    window: int = 60 * ns,
    turns_854: float = 0.0,
    nodes: tuple[str, ...] = NODES,
) -> Segment:
    """One attempt of sequences/link.py: pump 20 us, π 10 us, 854 nm pulse, flight, gate, herald return."""
    amplitude = 2 / math.pi * math.asin(math.sqrt(alpha))
    pulses: list[PlayedPulse] = []
    for node in nodes:
        pulses += [
            pulse(f"{node}.pump_397", 0, 20 * us),
            pulse(f"{node}.repump_866", 0, 20 * us),
            pulse(f"{node}.qubit_729", 20 * us, 10 * us),
            pulse(f"{node}.excite_854", 30 * us, 2_250, turns_854 if node == "alice" else 0.0, amplitude),
        ]
    opens = 30 * us + FLIGHT - lead
    gates = [OpenGate(f"charlie.snspd_{d}", opens, window, f"click_{d}") for d in (0, 1)]
    return segment(pulses, gates, 80 * us, "attempt")


def cooling() -> Segment:
    """Reset, Doppler cooling with the reference slot inside, EIT cooling: 295 us."""
    pulses: list[PlayedPulse] = []
    for node in NODES:
        pulses += [
            pulse(f"{node}.reset_854", 0, 25 * us),
            pulse(f"{node}.repump_866", 0, 295 * us),
            pulse(f"{node}.cool_397", 25 * us, 150 * us),
            pulse(f"{node}.eit_397", 175 * us, 120 * us),
            pulse(f"{node}.reference_393", 65 * us, 12 * us, 0.25 if node == "alice" else 0.0),
            pulse(f"{node}.reference_393", 77 * us, 12 * us),
        ]
    gates = [
        OpenGate(
            f"charlie.snspd_{d}", 65 * us + FLIGHT + 12 * us * half, 12 * us, f"reference_{'qi'[half]}{d}"
        )
        for half in (0, 1)
        for d in (0, 1)
    ]
    return segment(pulses, gates, 295 * us, "cooling")


def measurement(
    rotations: tuple[tuple[int, float], tuple[int, float]] = ((0, 0.0), (0, 0.0)), readout: int = 500 * us
) -> Segment:
    """Rotate each ion on 729 nm by (length, phase in turns) and read both out into ``a`` and ``b``."""
    pulses: list[PlayedPulse] = []
    gates: list[OpenGate] = []
    for node, (length, turns), register in zip(NODES, rotations, "ab", strict=True):
        if length:
            pulses.append(pulse(f"{node}.qubit_729", 1 * us, length, turns))
        for beam in ("cool_397", "repump_866"):
            pulses.append(pulse(f"{node}.{beam}", 12 * us, readout))
        gates.append(OpenGate(f"{node}.pmt", 12 * us, readout, register))
    return segment(pulses, gates, 12 * us + readout, "measurement")


def prepare(rotation: int = 0, hz: float = 0.0, turns: float = 0.0) -> Segment:
    """Reset, cool and pump both ions, then a 729 nm pulse of this length."""
    pulses: list[PlayedPulse] = []
    for node in NODES:
        pulses += [
            pulse(f"{node}.reset_854", 0, 25 * us),
            pulse(f"{node}.repump_866", 0, 315 * us),
            pulse(f"{node}.cool_397", 25 * us, 150 * us),
            pulse(f"{node}.eit_397", 175 * us, 120 * us),
            pulse(f"{node}.pump_397", 295 * us, 20 * us),
        ]
        if rotation:
            pulses.append(pulse(f"{node}.qubit_729", 315 * us, rotation, turns, hz=hz))
    return segment(pulses, [], 315 * us + rotation, "prepare")
