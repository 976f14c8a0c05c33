"""Drift of the 729 nm line over time: a Ramsey probe at its two steepest phases, again and again."""

from __future__ import annotations

from labctl.schedule.items import Schedule
from labctl.units import ms, us
from sequences.link import PI_TIME
from sequences.ramsey import interferometer
from sequences.shots import both, scan


def drift(
    wait: int = 2 * ms,
    rest: int = 500 * ms,
    blocks: int = 12,
    readout: int = 500 * us,
    threshold: int = 5,
) -> Schedule:
    """π/2, wait, π/2 at plus or minus a quarter turn: the difference of both is the line's offset, to ±1/(4 wait).

    The offsets of ``blocks`` stretches of the run are the points of the drift model (PHYSICS.md 8.4): a parabola through the last
    hour that says where the line is next.

    wait:       between the pulses, ps
    rest:       before the next shot, ps
    blocks:     points of the drift model
    readout:    length of the fluorescence window, ps
    threshold:  counts from which an ion is called bright
    """
    if blocks < 6:
        raise ValueError(f"a drift model needs more than 5 points, not {blocks}")
    cases = [both(lambda node, turns=turns: interferometer(node, wait, turns)) for turns in (0.25, 0.75)]
    return scan(
        "drift",
        cases,
        "phase of the second pulse: 0 a quarter turn, 1 three quarters",
        {"wait": wait, "rest": rest, "blocks": blocks, "pi_time": PI_TIME},
        readout=readout,
        threshold=threshold,
        rest=rest,
    )
