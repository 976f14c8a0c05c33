"""Excitation of ⁴⁰Ca⁺ by 729 nm and 854 nm: which amplitude of the 2.25 ns pulse makes which α."""

from __future__ import annotations

from labctl.schedule.items import Item, Pulse, Schedule, Series, Tone
from labctl.units import us
from sequences.link import EXCITATION, PI_TIME
from sequences.shots import both, drive, padded, scan


def excitation(
    points: int = 21, largest: float = 1.0, readout: int = 500 * us, threshold: int = 5
) -> Schedule:
    """729 nm π pulse to D5/2, 854 nm pulse of scanned amplitude to P3/2, readout.

    An excited ion decays to S (with the 393 nm photon) and is bright: the bright share is α times the branching.

    points:     amplitudes, equally spaced from 0 to the largest
    largest:    amplitude of the 854 nm pulse, relative to nominal
    readout:    length of the fluorescence window, ps
    threshold:  counts from which an ion is called bright
    """
    if points < 4 or not 0 < largest <= 1:
        raise ValueError(
            f"excitation needs 4 points and a largest amplitude up to 1, not {points}, {largest}"
        )

    def excite(node: str, amplitude: float) -> Item:
        line = f"{node}.excite_854"
        return Series((drive(node, PI_TIME), Tone(line, amplitude=amplitude), Pulse(line, EXCITATION)))

    amplitudes = [largest * k / (points - 1) for k in range(points)]
    cases = [
        padded(both(lambda node, value=value: excite(node, value)), PI_TIME + 1 * us) for value in amplitudes
    ]
    return scan(
        "excitation",
        cases,
        "amplitude of the 854 nm pulse, times points - 1, over the largest",
        {"points": points, "amplitudes": amplitudes},
        readout=readout,
        threshold=threshold,
    )
