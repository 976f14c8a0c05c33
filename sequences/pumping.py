"""Optical pumping to one Zeeman state of S1/2: how fast, and how much is left in the other state."""

from __future__ import annotations

from labctl.schedule.items import Item, Pulse, Schedule, Series, Together, Wait
from labctl.units import ns, us
from sequences.link import PI_TIME
from sequences.shots import FIELD_T, TO_D52_M12_HZ_PER_T, TO_D52_M52_HZ_PER_T, both, drive, padded, scan


def pumping(
    points: int = 16,
    step: int = 400 * ns,
    settled: int = 20 * us,
    field_t: float = FIELD_T,
    second_rabi: float = 0.6,
    readout: int = 500 * us,
    threshold: int = 5,
) -> Schedule:
    """Pumping light of scanned length, then the pumped state is shelved in D5/2: what stays bright was not pumped.

    Shelved twice, on the lines to m = -5/2 and m = -1/2, so that a π pulse's error does not look like one of the pumping.

    points:       lengths; the last but one is (points - 2) steps, the last is ``settled`` and gets half of the shots
    step:         ps
    settled:      a length after which pumping has long ended, ps
    field_t:      field, T: where the second line is
    second_rabi:  Rabi frequency of the second line, relative to the first
    readout:      length of the fluorescence window, ps
    threshold:    counts from which an ion is called bright
    """
    if points < 4:
        raise ValueError(f"pumping needs at least 4 points, not {points}")
    apart_hz = (TO_D52_M12_HZ_PER_T - TO_D52_M52_HZ_PER_T) * field_t
    second = round(PI_TIME / second_rabi / ns) * ns
    lengths = [k * step for k in range(points - 1)] + [settled]

    def shelve(node: str) -> Item:
        return Series((drive(node, PI_TIME), drive(node, second, frequency_hz=apart_hz)))

    def pump(node: str, length: int) -> Item:
        if not length:
            return Series(())
        return Together((Pulse(f"{node}.pump_397", length), Pulse(f"{node}.repump_866", length)))

    cases = [
        Series(
            (
                padded(both(lambda node, length=length: pump(node, length)), max(lengths)),
                Wait(1 * us),
                both(shelve),
            )
        )
        for length in lengths
    ]
    return scan(
        "pumping",
        cases,
        "length of the pumping light: 0 to points - 2 in steps; points - 1: settled",
        {"points": points, "step": step, "settled": settled},
        readout=readout,
        threshold=threshold,
        pump=False,
        weights=(1.0,) * (points - 1) + (points - 1.0,),
    )
