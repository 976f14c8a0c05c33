"""Rabi flopping on the 729 nm qubit line: length of a π pulse at each node."""

from __future__ import annotations

from labctl.schedule.items import Schedule
from labctl.units import us
from sequences.shots import both, drive, padded, scan


def rabi(
    points: int = 26,
    step: int = 1 * us,
    detuning_hz: float = 0.0,
    amplitude: float = 1.0,
    readout: int = 500 * us,
    threshold: int = 5,
) -> Schedule:
    """A pulse of scanned length on both ions, then readout: bright (S) oscillates with the pulse's angle.

    points:       lengths; point k is k times the step
    step:         ps
    detuning_hz:  of the pulse from the line's nominal frequency
    amplitude:    of the pulse, relative to nominal
    readout:      length of the fluorescence window, ps
    threshold:    counts from which an ion is called bright
    """
    longest = (points - 1) * step
    cases = [
        padded(both(lambda node, k=k: drive(node, k * step, detuning_hz, 0.0, amplitude)), longest)
        for k in range(points)
    ]
    arguments = {"points": points, "step": step, "detuning_hz": detuning_hz, "amplitude": amplitude}
    return scan(
        "rabi",
        cases,
        "length of the 729 nm pulse in steps",
        arguments,
        readout=readout,
        threshold=threshold,
    )
