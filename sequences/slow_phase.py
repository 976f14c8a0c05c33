"""Slow phase stabilisation of the two arms: measure the phase, set a phase shifter from the host, see what contrast is left.

For cores that cannot react within a shot (an NI card): between measuring and setting the phase the host reads the counters,
which takes milliseconds. So it follows the fibre's thermal drift, not its acoustic noise. One shot: a reference slot in two
quadratures, a host point, then a probe with the phase shifter at minus the measured phase plus a scan phase.
"""

from __future__ import annotations

from labctl.schedule.items import (
    Branch,
    Column,
    Draw,
    Gate,
    HostPoint,
    Item,
    Pulse,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    Track,
    Wait,
)
from labctl.units import us
from sequences.fringe import against_phase
from sequences.link import NODES, TURN

GRID = 1 * us
"""All times are multiples of this."""


def slow_phase(
    points: int = 16,
    slot: int = 32 * us,
    arrives: int = 25 * us,
    cycle: int = 1_000 * us,
    reference_contrast: float = 0.99,
    phase_diffusion_rad2_per_s: float = 15.0,
) -> Schedule:
    """One probe at one scan phase, drawn at random so that a drift does not look like a fringe.

    points:   scan phases in a turn; point k adds k / points turns
    slot:     length of each of the two reference slots and of the probe, ps
    arrives:  from the light at a node to its gate at the midpoint, ps: the flight (5 km: 24.483 us), rounded up
    cycle:    how often there is light: keeps its duty down, ps
    reference_contrast, phase_diffusion_rad2_per_s:  what the phase tracker assumes
    """
    if points < 2 or TURN % points:
        raise ValueError(f"points must be 2 or more and divide {TURN} microturns, not {points}")
    if slot % GRID or arrives % GRID or cycle % GRID or slot < 3 * GRID:
        raise ValueError(
            f"slot, arrives and cycle must be multiples of {GRID} ps, and slot 3 of them at least"
        )
    if cycle < 2 * slot + arrives:
        raise ValueError(f"a cycle must last at least {2 * slot + arrives} ps, not {cycle}")
    track = Track(
        gates=(("reference_q0", "reference_q1", 0.25), ("reference_i0", "reference_i1", 0.0)),
        into="phase",
        contrast=reference_contrast,
        diffusion_rad2_per_s=phase_diffusion_rad2_per_s,
    )
    body = Series(
        (
            _reference(slot, arrives, cycle),
            HostPoint("read the reference, set the phase"),
            track,
            Draw("point", (1.0,) * points),
            Branch("point", {str(k): against_phase(k * TURN // points) for k in range(points)}),
            _lit(slot, arrives, cycle, ("probe",), "probe"),
            Report(RECORD),
        ),
        name="slow_phase",
    )
    return Schedule(
        "slow_phase",
        body,
        analysis="fringe",
        arguments={"points": points, "slot": slot, "arrives": arrives, "cycle": cycle},
        columns=COLUMNS,
        rounds="shot",
    )


def _reference(slot: int, arrives: int, cycle: int) -> Item:
    """Two slots of reference light, the first a quarter of a turn on."""
    return _lit(slot, arrives, cycle, ("reference_q", "reference_i"), "reference")


def _lit(slot: int, arrives: int, cycle: int, names: tuple[str, ...], block: str) -> Item:
    """Slots of light from both nodes, each with a gate that opens after it has arrived and closes before it ends."""
    alice: list[Item] = []
    for k, _ in enumerate(names):
        if len(names) > 1:
            alice.append(Tone("alice.reference_393", phase_turns=0.25 if k == 0 else 0.0))
        alice.append(Pulse("alice.reference_393", slot))
    gates: list[Item] = [Wait(arrives)]
    for name in names:
        gates += [
            Together(tuple(Gate(f"charlie.snspd_{d}", slot - 2 * GRID, f"{name}{d}") for d in (0, 1))),
            Wait(2 * GRID),
        ]
    bob = Pulse(f"{NODES[1]}.reference_393", slot * len(names))
    rest = cycle - slot * len(names) - arrives
    return Series((Together((Series(tuple(alice)), bob, Series(tuple(gates)))), Wait(rest)), name=block)


RECORD = {
    "point": "point",
    "n0": "probe0",
    "n1": "probe1",
    "phase_microturns": "phase",
    "phase_sigma_rad": "phase.sigma_rad",
    "reference_clicks": "phase.clicks",
}

COLUMNS = {
    "point": Column("1", "scan phase in turns times the number of points"),
    "n0": Column("1", "clicks of detector 0 during the probe"),
    "n1": Column("1", "clicks of detector 1 during the probe"),
    "phase_microturns": Column("1e-6 turn", "measured optical phase before the probe"),
    "phase_sigma_rad": Column("rad", "posterior standard deviation of the measured phase"),
    "reference_clicks": Column("1", "clicks in the last reference slot"),
}
