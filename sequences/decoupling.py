"""Dynamical decoupling of the 729 nm qubit or of the memory qubit: CP, CPMG, XY-4, XY-8, XY-16 and KDD, as schedules.

Pulse phases follow PHYSICS.md section 4: KDD is Knill's composite pulse (30, 0, 90, 0, 30 degrees) in an XY-4 frame,
[KDD_0 KDD_90]^2, 20 pulses (Souza, Alvarez, Suter, PRL 106, 240501). Pulses are equally spaced from centre to centre,
with half an interval at both ends.
"""

from __future__ import annotations

from labctl.schedule.items import (
    Branch,
    Column,
    Draw,
    Gate,
    Item,
    LineTrigger,
    Pulse,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    Wait,
)
from labctl.units import us
from sequences.link import NODES, PI_TIME, TURN

KNILL = (30, 0, 90, 0, 30)
"""Phases in degrees of the composite π pulse that corrects both flip errors and off-resonance."""
XY8 = (0, 90, 0, 90, 90, 0, 90, 0)
PHASES: dict[str, tuple[int, ...]] = {
    "cp": (0,),
    "cpmg": (90,),
    "xy4": (0, 90),
    "xy8": XY8,
    "xy16": (*XY8, *(phase + 180 for phase in XY8)),
    "kdd": tuple(phase + frame for frame in (0, 90, 0, 90) for phase in KNILL),
}
"""Phases of one period of each sequence, degrees."""


def train(line: str, sequence: str, spacing: int, pulses: int, pi_time: int = PI_TIME) -> Item:
    """``pulses`` π pulses on a tone line, ``spacing`` ps from centre to centre, half of it before the first and after the last.

    sequence:  a key of PHASES; its period is repeated, a last incomplete one is cut
    """
    if sequence not in PHASES:
        raise ValueError(f"sequence must be one of {', '.join(PHASES)}, not {sequence!r}")
    if pulses < 1:
        raise ValueError(f"a decoupling train needs at least one pulse, not {pulses}")
    if spacing <= pi_time or spacing % 2 or pi_time % 2:
        raise ValueError(f"spacing {spacing} ps must be even and longer than the π pulse of {pi_time} ps")
    period = PHASES[sequence]
    half, gap = (spacing - pi_time) // 2, spacing - pi_time
    items: list[Item] = [Tone(line, frequency_hz=0.0, amplitude=1.0), Wait(half)]
    for index in range(pulses):
        if index:
            items.append(Wait(gap))
        items += [Tone(line, phase_turns=period[index % len(period)] % 360 / 360), Pulse(line, pi_time)]
    items.append(Wait(half))
    return Series(tuple(items), name=sequence)


def decoupling(
    sequence: str = "xy8",
    spacing: int = 500 * us,
    pulses: int = 40,
    readout: int = 500 * us,
    threshold: int = 5,
    line_trigger: bool = False,
    memory: bool = False,
) -> Schedule:
    """Coherence of each ion under a decoupling train: pump, π/2, train, π/2 of scanned phase, readout.

    sequence:      cp, cpmg, xy4, xy8, xy16, kdd, or none to wait as long without pulses
    spacing:       of the π pulses, ps
    pulses:        number of π pulses
    readout:       length of the fluorescence window, ps
    threshold:     counts from which an ion is called bright
    line_trigger:  each shot begins at the same phase of the mains
    memory:        the memory qubit on the Raman beam; its S is shelved to D5/2 before the readout
    """
    blocks = (("reset_854", 25 * us), ("cool_397", 150 * us), ("eit_397", 120 * us), ("pump_397", 20 * us))
    prepare = Series(
        tuple(
            Together(tuple(Pulse(f"{node}.{beam}", span) for node in NODES for beam in (light, "repump_866")))
            for light, span in blocks
        ),
        name="prepare",
    )
    beam = "raman_393" if memory else "qubit_729"
    if sequence == "none":
        protected: Item = Wait(pulses * spacing)
    else:
        protected = Together(
            tuple(train(f"{node}.{beam}", sequence, spacing, pulses) for node in NODES), name="protected"
        )
    analysis = Branch("phase_index", {str(k): _rotate(beam, k * TURN // 8, PI_TIME // 2) for k in range(8)})
    shelve = (_rotate("qubit_729", 0, PI_TIME),) if memory else ()
    read = Together(
        (
            *(Pulse(f"{node}.{beam}", readout) for node in NODES for beam in ("cool_397", "repump_866")),
            Gate("alice.pmt", readout, "counts_a", threshold),
            Gate("bob.pmt", readout, "counts_b", threshold),
        ),
        name="readout",
    )
    report = Report(
        {
            "phase_index": "phase_index",
            "counts_a": "counts_a",
            "counts_b": "counts_b",
            "bright_a": "counts_a.bright",
            "bright_b": "counts_b.bright",
        }
    )
    first: tuple[Item, ...] = (LineTrigger("alice.mains"),) if line_trigger else ()
    body = Series(
        (
            *first,
            prepare,
            Draw("phase_index", (1.0,) * 8),
            _rotate(beam, 0, PI_TIME // 2),
            protected,
            analysis,
            *shelve,
            read,
            report,
        ),
        name="decoupling",
    )
    return Schedule(
        "decoupling",
        body,
        analysis="coherence",
        arguments={
            "sequence": sequence,
            "spacing": spacing,
            "pulses": pulses,
            "readout": readout,
            "threshold": threshold,
            "line_trigger": line_trigger,
            "memory": memory,
        },
        columns=COLUMNS,
        rounds="shot",
    )


def _rotate(beam: str, phase_microturns: int, length: int) -> Item:
    """A pulse of a phase on both ions."""
    return Together(
        tuple(
            Series(
                (
                    Tone(
                        f"{node}.{beam}",
                        frequency_hz=0.0,
                        phase_turns=phase_microturns / TURN,
                        amplitude=1.0,
                    ),
                    Pulse(f"{node}.{beam}", length),
                )
            )
            for node in NODES
        )
    )


COLUMNS = {
    "phase_index": Column("1", "phase of the last pulse in eighths of a turn"),
    "counts_a": Column("1", "fluorescence counts of Alice's ion"),
    "counts_b": Column("1", "fluorescence counts of Bob's ion"),
    "bright_a": Column("1", "1 if Alice's ion was bright (S)"),
    "bright_b": Column("1", "1 if Bob's ion was bright (S)"),
}
