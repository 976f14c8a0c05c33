"""Ramsey fringes on the 729 nm qubit line: detuning of the laser and free coherence time at each node."""

from __future__ import annotations

from labctl.schedule.items import Item, Schedule, Series, Wait
from labctl.units import ms, us
from sequences.link import PI_TIME
from sequences.shots import both, drive, padded, scan


def ramsey(
    waits: int = 6,
    longest: int = 10 * ms,
    phases: int = 4,
    readout: int = 500 * us,
    threshold: int = 5,
) -> Schedule:
    """π/2, wait, π/2 of scanned phase, readout, at several waiting times.

    The phase of the fringe turns with the waiting time at the rate of the detuning; its contrast falls as the line wanders.

    waits:      waiting times, equally spaced from 0 to the longest
    longest:    ps from the end of the first pulse to the beginning of the second
    phases:     of the second pulse, equally spaced over a turn: at least 3
    readout:    length of the fluorescence window, ps
    threshold:  counts from which an ion is called bright
    """
    if waits < 2 or phases < 3 or longest % (waits - 1):
        raise ValueError("ramsey needs 2 waits, 3 phases, and a longest wait that waits - 1 divides")
    step = longest // (waits - 1)
    cases = [
        padded(both(lambda node, k=k, m=m: interferometer(node, k * step, m / phases)), longest + PI_TIME)
        for k in range(waits)
        for m in range(phases)
    ]
    return scan(
        "ramsey",
        cases,
        "waiting time's number times phases, plus the phase's number",
        {"waits": waits, "step": step, "phases": phases, "pi_time": PI_TIME},
        readout=readout,
        threshold=threshold,
    )


def interferometer(node: str, wait: int, phase_turns: float) -> Item:
    """π/2, wait, π/2 with a phase, on one ion."""
    half = PI_TIME // 2
    between = (Wait(wait),) if wait else ()
    return Series((drive(node, half), *between, drive(node, half, phase_turns=phase_turns)))
