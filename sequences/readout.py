"""Fluorescence histograms of bright and dark ions, and the threshold that tells them apart best."""

from __future__ import annotations

from labctl.schedule.items import Schedule, Wait
from labctl.units import us
from sequences.link import PI_TIME
from sequences.shots import both, drive, scan


def readout(window: int = 500 * us, threshold: int = 5) -> Schedule:
    """Counts of ions in S (pumped) and in D (pumped, then a 729 nm π pulse).

    window:     length of the fluorescence window, ps
    threshold:  counts from which an ion is called bright, as it is now; the best one is found
    """
    cases = [Wait(PI_TIME), both(lambda node: drive(node, PI_TIME))]
    return scan(
        "readout",
        cases,
        "what was prepared: 0 bright (S), 1 dark (D)",
        {},
        readout=window,
        threshold=threshold,
    )
