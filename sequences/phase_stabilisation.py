"""Phase stabilisation of a link by single-photon interference: fast fibre lock, reference slots, Bayes filter (PHYSICS.md 5).

Three layers keep the optical phase between the arms known. The fast lock (WDM) holds the fibres on light of another
wavelength; its monitor is an input of the core that counts while it holds. The reference slot (TDM) sends weak light of
the photons' own wavelength through the whole chain, half of it with a quarter turn on Alice's side, so that both
quadratures are seen. The tracker is a recursive Bayes filter over the single clicks (arXiv 2604.21388): between slots the
posterior spreads by the diffusion, each click multiplies it by (1 ± V cos(φ + bias))/2. An estimate is valid while the
lock holds, the posterior is narrower than 0.25 rad and the clicks are 0.5 to 2 times nominal.

``phase_stabilisation`` alone repeats the slots and reports every one; its analysis compares the filter with the best
estimate of each slot alone, on the same clicks.
"""

from __future__ import annotations

from labctl.schedule.items import (
    Column,
    Gate,
    Item,
    Pulse,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    Track,
    Valid,
    Wait,
)
from labctl.units import ns, us

NODES = ("alice", "bob")
LOCK = "charlie.wdm_lock"
"""Monitor of the fibre lock: a clock of 1 MHz that runs while it holds."""
LOCK_COUNTS_PER_US = 0.9
"""A gate in which the clock has run for this share counts as locked."""


def phase_stabilisation(
    half: int = 13 * us,
    cycle: int = 400 * us,
    flight: int = 24_483 * ns,
    reference_contrast: float = 0.99,
    phase_diffusion_rad2_per_s: float = 15.0,
    nominal_clicks: int = 25,
    lock_monitor: str = LOCK,
) -> Schedule:
    """One reference slot every ``cycle``: 26 clicks of 1 MHz at a duty of 6.5 % in the published loop.

    half:            length of each of the two halves of a slot, ps
    cycle:           from slot to slot, ps
    flight:          time of flight from a node to the midpoint, ps (5 km: 24.483 us)
    reference_contrast, phase_diffusion_rad2_per_s:  what the phase tracker assumes
    nominal_clicks:  per slot; half to twice as many are valid
    lock_monitor:    line of the fibre lock's monitor; "" for a laboratory without
    """
    rest = cycle - 2 * half - flight
    if rest < 0:
        raise ValueError(f"a cycle must last at least {2 * half + flight} ps, not {cycle}")
    slot = Together(
        (
            *(Series(reference_light(node, half)) for node in NODES),
            Series((Wait(flight), *reference_gates(half))),
            *lock_gate(lock_monitor, 2 * half),
        ),
        name="slot",
    )
    track = tracker(reference_contrast, phase_diffusion_rad2_per_s, nominal_clicks, lock_monitor, 2 * half)
    locked = {"lock_counts": "wdm"} if lock_monitor else {}
    return Schedule(
        "phase_stabilisation",
        Series((slot, track, Report({**RECORD, **locked}), Wait(rest)), name="phase_stabilisation"),
        analysis="phase_stabilisation",
        arguments={"half": half, "cycle": cycle, "reference_contrast": reference_contrast},
        columns=COLUMNS,
        rounds="shot",
    )


def reference_light(node: str, half: int) -> tuple[Item, ...]:
    """Reference light of a node: ``half`` ps with a quarter turn on Alice's side, ``half`` in phase."""
    line = f"{node}.reference_393"
    first = 0.25 if node == "alice" else 0.0
    return (
        Tone(line, phase_turns=first, amplitude=1.0),
        Pulse(line, half),
        Tone(line, phase_turns=0.0),
        Pulse(line, half),
    )


def reference_gates(half: int) -> tuple[Item, ...]:
    """Both detectors open for the two halves of the reference slot."""
    return tuple(
        Together(tuple(Gate(f"charlie.snspd_{d}", half, f"reference_{name}{d}") for d in (0, 1)))
        for name in ("q", "i")
    )


def lock_gate(monitor: str, length: int) -> tuple[Item, ...]:
    """A gate of the fibre lock's monitor into the register ``wdm``; none without a monitor."""
    return (Gate(monitor, length, "wdm"),) if monitor else ()


def tracker(
    contrast: float, diffusion_rad2_per_s: float, nominal_clicks: int, monitor: str, length: int
) -> Track:
    """The Bayes filter into the register ``phase``, with the rules of PHYSICS.md 5 and 8.6 for ``phase.valid``.

    monitor, length:  of the lock gate in the same block
    """
    return Track(
        gates=(("reference_q0", "reference_q1", 0.25), ("reference_i0", "reference_i1", 0.0)),
        into="phase",
        contrast=contrast,
        diffusion_rad2_per_s=diffusion_rad2_per_s,
        valid=Valid(
            clicks=(nominal_clicks // 2, 2 * nominal_clicks),
            lock="wdm" if monitor else "",
            lock_counts=max(1, int(LOCK_COUNTS_PER_US * length / us)),
        ),
    )


RECORD = {
    "q0": "reference_q0",
    "q1": "reference_q1",
    "i0": "reference_i0",
    "i1": "reference_i1",
    "phase_microturns": "phase",
    "phase_sigma_rad": "phase.sigma_rad",
    "reference_clicks": "phase.clicks",
    "phase_valid": "phase.valid",
}

COLUMNS = {
    "q0": Column("1", "clicks of detector 0 in the half with a quarter turn on Alice's side"),
    "q1": Column("1", "clicks of detector 1 in that half"),
    "i0": Column("1", "clicks of detector 0 in the half in phase"),
    "i1": Column("1", "clicks of detector 1 in that half"),
    "phase_microturns": Column("1e-6 turn", "tracked optical phase after the slot"),
    "phase_sigma_rad": Column("rad", "posterior standard deviation of the tracked phase"),
    "reference_clicks": Column("1", "clicks in the slot"),
    "phase_valid": Column("1", "1 if fibre lock, posterior and clicks allow to use the phase"),
    "lock_counts": Column("1", "counts of the fibre lock's monitor: microseconds locked during the slot"),
}
