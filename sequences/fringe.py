"""Interference fringe of the 393 nm phase reference: how well the tracked phase of the link is stabilised.

One shot: reference cycles as in the link sequence, then a probe slot in which Alice's reference is sent with minus the
tracked phase plus a scan phase. The probe comes when the link's 854 nm pulse would. The contrast of the clicks over the
scan is what the tracker leaves of the interference.
"""

from __future__ import annotations

from labctl.schedule.items import (
    Branch,
    Column,
    Draw,
    Feedback,
    Gate,
    Item,
    Pulse,
    Repeat,
    Report,
    Schedule,
    Series,
    Together,
    Wait,
    duration,
)
from labctl.units import ns, us
from sequences.link import NODES, PI_TIME, REFERENCE, TURN, cooling

CYCLE = 375 * us
"""Length of a reference cycle: as long as the link's cooling block and attempt over 10 km."""
PUMPING = 20 * us
"""Optical pumping before the link's π pulse."""
PROBE = 24 * us
"""Length of the probe, as long as the reference slot."""


def fringe(
    points: int = 16,
    cycles_per_point: int = 4,
    flight: int = 24_483 * ns,
    cycle: int = CYCLE,
    reference_contrast: float = 0.99,
    phase_diffusion_rad2_per_s: float = 15.0,
    half: int = REFERENCE,
) -> Schedule:
    """One probe at one scan phase, drawn at random so that a drift does not look like a fringe.

    points:            scan phases in a turn; point k adds k / points turns
    cycles_per_point:  reference cycles before each probe
    flight:            time of flight from a node to the midpoint, ps (5 km: 24.483 us)
    cycle:             length of a reference cycle, ps
    reference_contrast, phase_diffusion_rad2_per_s:  what the phase tracker assumes
    half:              length of each half of the reference slot, ps
    """
    if points < 2 or TURN % points:
        raise ValueError(f"points must be 2 or more and divide {TURN} microturns, not {points}")
    reference = cooling(flight, reference_contrast, phase_diffusion_rad2_per_s, half)
    cooled = duration(reference) or 0
    before = cycle - cooled
    probe_ends = PUMPING + PI_TIME + flight + PROBE
    if before < 0 or cycle < probe_ends:
        raise ValueError(f"a cycle must last at least {max(cooled, probe_ends)} ps, not {cycle}")
    body = Series(
        (
            Repeat(cycles_per_point, Series((Wait(before), reference), name="reference_cycle")),
            Draw("point", (1.0,) * points),
            Branch("point", {str(k): against_phase(k * TURN // points) for k in range(points)}),
            probe(flight, cycle - probe_ends),
            Report(RECORD),
        ),
        name="fringe",
    )
    return Schedule(
        "fringe",
        body,
        analysis="fringe",
        arguments={"points": points, "cycles_per_point": cycles_per_point, "flight": flight, "cycle": cycle},
        columns=COLUMNS,
        rounds="shot",
    )


def against_phase(scan: int) -> Item:
    """Alice's reference phase: minus the tracked phase plus ``scan`` microturns."""
    return Feedback("phase", "alice.reference_393", scale=-1, offset=scan)


def probe(flight: int, rest: int) -> Item:
    """Reference light from both nodes and the gates it arrives in, then ``rest`` ps of nothing."""
    at = PUMPING + PI_TIME
    return Series(
        (
            Together(
                (
                    *(Series((Wait(at), Pulse(f"{node}.reference_393", PROBE))) for node in NODES),
                    *(
                        Series((Wait(at + flight), Gate(f"charlie.snspd_{d}", PROBE, f"probe_{d}")))
                        for d in (0, 1)
                    ),
                )
            ),
            Wait(rest),
        ),
        name="probe",
    )


RECORD = {
    "point": "point",
    "n0": "probe_0",
    "n1": "probe_1",
    "phase_microturns": "phase",
    "phase_sigma_rad": "phase.sigma_rad",
    "reference_clicks": "phase.clicks",
}

COLUMNS = {
    "point": Column("1", "scan phase in turns times the number of points"),
    "n0": Column("1", "clicks of detector 0 during the probe"),
    "n1": Column("1", "clicks of detector 1 during the probe"),
    "phase_microturns": Column("1e-6 turn", "tracked optical phase before the probe"),
    "phase_sigma_rad": Column("rad", "posterior standard deviation of the tracked phase"),
    "reference_clicks": Column("1", "clicks in the last reference slot"),
}
