"""Two Zeeman lines of the 729 nm transition: magnetic field and laser frequency at each node."""

from __future__ import annotations

from labctl.schedule.items import Schedule, Series, Wait
from labctl.units import us
from sequences.link import PI_TIME
from sequences.shots import FIELD_T, TO_D52_M12_HZ_PER_T, TO_D52_M52_HZ_PER_T, both, drive, scan


def lines_729(
    points: int = 15,
    span_hz: float = 6_000.0,
    pulse: int = 500 * us,
    field_t: float = FIELD_T,
    second_rabi: float = 0.6,
    readout: int = 500 * us,
    threshold: int = 5,
) -> Schedule:
    """A weak 729 nm pulse of scanned frequency on both ions, across the lines to D5/2 with m = -5/2 and m = -1/2.

    Two lines give field and centre (PHYSICS.md 1.1): B = (f1 - f2) / (k1 - k2). A coarse scan first, when nothing is known:
    span_hz=120e3, pulse=80us, points=60.

    points:       frequencies across each line
    span_hz:      from the first to the last of them
    pulse:        length, ps; its amplitude makes it a π pulse
    field_t:      field at which the lines are looked for, T
    second_rabi:  Rabi frequency of the second line, relative to the first
    readout:      length of the fluorescence window, ps
    threshold:    counts from which an ion is called bright
    """
    if points < 5:
        raise ValueError(f"a line needs at least 5 points, not {points}")
    amplitude = PI_TIME / pulse
    if amplitude > second_rabi:
        raise ValueError(f"a pulse of {pulse} ps is too short to be a π pulse on the second line")
    apart_hz = (TO_D52_M12_HZ_PER_T - TO_D52_M52_HZ_PER_T) * field_t
    offsets = [span_hz * (k / (points - 1) - 0.5) for k in range(points)]
    tones = [(offset, amplitude) for offset in offsets]
    tones += [(apart_hz + offset, amplitude / second_rabi) for offset in offsets]
    cases = [
        Series(
            (
                Wait(5 * us),  # for the synthesisers of both nodes to be set
                both(lambda node, hz=hz, power=power: drive(node, pulse, frequency_hz=hz, amplitude=power)),
            )
        )
        for hz, power in tones
    ]
    return scan(
        "lines_729",
        cases,
        "frequency of the pulse: across the first line, then across the second",
        {
            "points": points,
            "pulse": pulse,
            "field_t": field_t,
            "frequencies_hz": [hz for hz, _ in tones],
            "first_hz_per_t": TO_D52_M52_HZ_PER_T,
            "second_hz_per_t": TO_D52_M12_HZ_PER_T,
        },
        readout=readout,
        threshold=threshold,
    )
