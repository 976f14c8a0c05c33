"""Attempts of one node at a time, for what its photons alone can tell: how many, and when."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from labctl.schedule.items import (
    Attempt,
    Branch,
    Column,
    Every,
    Gate,
    Item,
    Mark,
    Pulse,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    Wait,
)
from labctl.units import us
from sequences.link import EXCITATION, PI_TIME
from sequences.shots import prepare

PUMPING = 20 * us
SHORT = {"alice": "a", "bob": "b"}


def one_by_one(
    name: str, alpha: float, flight: int, lead: int, gate: int, limit: int, arguments: Mapping[str, Any]
) -> Schedule:
    """Rounds of attempts by Alice alone until a detector clicks, then by Bob alone until one does.

    name:    of the schedule, and of its analysis
    alpha:   excitation probability
    flight:  time of flight to the midpoint, ps
    lead:    how long before the light's arrival the gates open, ps
    gate:    their length, ps
    limit:   attempts after which a node is given up
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
    if lead > PUMPING + flight:
        raise ValueError(
            f"the gates cannot open {lead} ps before the light arrives: the attempt begins later"
        )
    report: Item = Report(RECORD)
    body: Item = report
    for node in ("bob", "alice"):
        letter = SHORT[node]
        loop = Attempt(
            _attempt(node, alpha, flight, lead, gate),
            gates=(f"{letter}0", f"{letter}1"),
            outcomes={"00": "again", "10": "click", "01": "click", "11": "click"},
            limit=limit,
            every=Every(1, Series((prepare(pump=False),), name="cooling", kind="free")),
            into=f"herald_{letter}",
        )
        body = Series((loop, Branch(loop.into, {"click": body, "timeout": Wait(1 * us)})), name=node)
    return Schedule(
        name,
        Series((body,), name=name),
        analysis=name,
        arguments={"alpha": alpha, "flight": flight, "lead": lead, "gate": gate, **arguments},
        columns=COLUMNS,
        rounds="shot",
    )


def _attempt(node: str, alpha: float, flight: int, lead: int, gate: int) -> Item:
    """Pump, 729 nm π, 854 nm pulse, flight, gates, herald return."""
    excite_at = PUMPING + PI_TIME
    excite = Series(
        (
            Together((Pulse(f"{node}.pump_397", PUMPING), Pulse(f"{node}.repump_866", PUMPING))),
            Tone(f"{node}.qubit_729", frequency_hz=0.0, phase_turns=0.0, amplitude=1.0),
            Pulse(f"{node}.qubit_729", PI_TIME),
            Tone(f"{node}.excite_854", amplitude=2 / math.pi * math.asin(math.sqrt(alpha))),
            Pulse(f"{node}.excite_854", EXCITATION),
        ),
        name=f"{node}_excite",
    )
    letter = SHORT[node]
    gates = Series(
        (
            Wait(excite_at + flight - lead),
            Together(tuple(Gate(f"charlie.snspd_{d}", gate, f"{letter}{d}") for d in (0, 1))),
        ),
        name="midpoint",
    )
    back = Series(
        (Wait(excite_at + 2 * flight + gate + 1 * us), Mark("herald received")), name="herald_return"
    )
    return Together((excite, gates, back), name="attempt")


RECORD = {
    f"{what}_{letter}{detector}": register.format(letter=letter, detector=detector)
    for letter in "ab"
    for what, detector, register in (
        ("attempts", "", "herald_{letter}.attempts"),
        ("click", "0_ps", "{letter}0.first_ps"),
        ("click", "1_ps", "{letter}1.first_ps"),
    )
}

COLUMNS = {
    f"{what}_{letter}{detector}": Column(unit, text.format(who=who))
    for letter, who in (("a", "Alice"), ("b", "Bob"))
    for what, detector, unit, text in (
        ("attempts", "", "1", "attempts of {who} until a detector clicked"),
        ("click", "0_ps", "ps", "click of {who}'s photon at detector 0 after its gate opened; -1 for none"),
        ("click", "1_ps", "ps", "click of {who}'s photon at detector 1 after its gate opened; -1 for none"),
    )
}
