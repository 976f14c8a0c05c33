"""Heralded entanglement of two ⁴⁰Ca⁺ ions by two photons, for comparison with the one photon of ``link``.

Barrett and Kok, PRA 71, 060310 (2005), as this ion can do it. Their emitter comes back to the level that is excited, so a
spin flip has to come between the two excitations. D5/2 of ⁴⁰Ca⁺ ends in S1/2 when it emits, so here the flip is between S
and the other Zeeman state M of S1/2: it hides the ions that have emitted, while those that have not are still in D5/2.

One attempt: cooled and pumped, 729 nm π to D5/2, an 854 nm pulse that takes ``alpha`` = 1/2 of it to P3/2 (early photon), Raman π
from S to M, an 854 nm π pulse (late photon), and at the midpoint a gate for each. The state of a node is then
(|M, early> + |S, late>)/√2, and a click in each gate leaves (|M S> ± |S M>)/√2: + if the same detector clicked twice, - if both
did. Each pair had two photons, so the rate falls with the square of their chance to arrive; each optical phase is
used twice, with opposite signs, so that nobody has to know it.
"""

from __future__ import annotations

import itertools
import math

from labctl.schedule.items import (
    Attempt,
    Branch,
    Column,
    Every,
    Gate,
    Item,
    Mark,
    Pulse,
    Schedule,
    Series,
    Together,
    Tone,
    Wait,
)
from labctl.units import ns, us
from sequences.link import COLUMNS as PAIR
from sequences.link import DECISION, EXCITATION, NODES, PI_TIME, TURN, echoes, measurement
from sequences.memory import RAMAN_PI, transfer

SETTLE = 200 * ns
"""From an 854 nm pulse to the next pulse: 27 times the 1/e decay of P3/2."""
GATES = ("early_0", "early_1", "late_0", "late_1")
"""Registers of the gates, as the digits of a pattern have them."""


def two_photon(
    alpha: float = 0.5,
    measure: str = "fidelity",
    flight: int = 24_483 * ns,
    separation: int = 11 * us,
    window: int = 60 * ns,
    window_lead: int = 4 * ns,
    cool_every: int = 1,
    limit: int = 1_000_000_000,
    readout: int = 500 * us,
    threshold: int = 5,
    echo: int = 0,
) -> Schedule:
    """One pair heralded by two photons, and its measurement.

    alpha:         probability that the first 854 nm pulse brings an ion to P3/2, 0 to 1; the rate goes as alpha (1 - alpha)
    measure:       "fidelity", "tomography" or "bell", as of ``link``
    flight:        time of flight from a node to the midpoint, ps (5 km: 24.483 us)
    separation:    from the first to the second 854 nm pulse, ps: only what the optical phase moves meanwhile matters
    window:        length of each gate, ps
    window_lead:   how long before the light's arrival a gate opens, ps
    cool_every:    attempts per cooling block
    limit:         attempts after which the round is given up
    readout:       length of the fluorescence window, ps
    threshold:     counts from which an ion is called bright
    echo:          Raman π pulses while the light and the herald travel, equally spaced: none, 1 or more
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
    if separation < RAMAN_PI + 2 * SETTLE or separation % ns:
        raise ValueError(
            f"separation must be whole nanoseconds, at least {RAMAN_PI + 2 * SETTLE} ps, for a Raman pulse in between; not {separation} ps"
        )
    body = Series(
        (
            Attempt(
                attempt(alpha, flight, separation, window, window_lead, echo),
                gates=GATES,
                outcomes=outcomes(),
                limit=limit,
                every=Every(cool_every, cooling()),
            ),
            Branch(
                "herald",
                {
                    "psi_plus": pair(measure, 0, readout, threshold),
                    "psi_minus": pair(measure, TURN // 2, readout, threshold),
                    "timeout": Wait(1 * us),
                },
            ),
        ),
        name="two_photon",
    )
    return Schedule(
        "two_photon",
        body,
        analysis="heralded_pair",
        arguments={
            "alpha": alpha,
            "measure": measure,
            "separation": separation,
            "window": window,
            "readout": readout,
            "threshold": threshold,
            "flight": flight,
            "echo": echo,
        },
        columns=COLUMNS,
    )


def long_two_photon(
    alpha: float = 0.5,
    measure: str = "fidelity",
    flight: int = 247_283 * ns,
    echo: int = 1,
    window: int = 60 * ns,
    limit: int = 1_000_000_000,
) -> Schedule:
    """``two_photon`` over 101 km of fibre: 50.5 km and 247.3 us from node to midpoint, and an echo on the way.

    Arguments as those of ``two_photon``.
    """
    return two_photon(alpha, measure, flight=flight, window=window, limit=limit, echo=echo)


def outcomes() -> dict[str, str]:
    """One click in each pair of gates heralds: the same detector psi_plus, both detectors psi_minus; all else goes on."""
    found: dict[str, str] = {}
    for digits in itertools.product("01", repeat=len(GATES)):
        pattern = "".join(digits)
        early, late = pattern[:2], pattern[2:]
        one_each = early.count("1") == late.count("1") == 1
        found[pattern] = ("psi_plus" if early == late else "psi_minus") if one_each else "again"
    return found


def cooling() -> Item:
    """Reset, Doppler and EIT cooling as in the link, without the phase reference that nobody needs here: 295 us."""
    steps = (("reset", "reset_854", 25 * us), ("doppler", "cool_397", 150 * us), ("eit", "eit_397", 120 * us))
    return Series(
        tuple(
            Together(
                tuple(Pulse(f"{node}.{line}", length) for node in NODES for line in (beam, "repump_866")),
                name=name,
            )
            for name, beam, length in steps
        ),
        name="cooling",
        kind="free",
    )


def attempt(alpha: float, flight: int, separation: int, window: int, lead: int, echo: int = 0) -> Item:
    """One attempt: pump, 729 nm π, two 854 nm pulses with a Raman π in between, two gates, herald return: 91 us at 10 km.

    The last is as long after the second pulse as in the link after the only one: nothing is decided before.

    echo:  Raman π pulses between the second 854 nm pulse and the end of the attempt; they swap both ions' states, and the
           pair stays what it is
    """
    excite_at = 20 * us + PI_TIME
    back = 2 * flight + DECISION
    nodes = tuple(
        Series(
            (
                Together((Pulse(f"{node}.pump_397", 20 * us), Pulse(f"{node}.repump_866", 20 * us))),
                Tone(f"{node}.qubit_729", frequency_hz=0.0, phase_turns=0.0, amplitude=1.0),
                Pulse(f"{node}.qubit_729", PI_TIME),
                Tone(f"{node}.excite_854", amplitude=2 / math.pi * math.asin(math.sqrt(alpha))),
                Pulse(f"{node}.excite_854", EXCITATION),
                Wait(SETTLE - EXCITATION),
                Tone(f"{node}.raman_393", frequency_hz=0.0, phase_turns=0.0, amplitude=1.0),
                Pulse(f"{node}.raman_393", RAMAN_PI),
                Wait(separation - SETTLE - RAMAN_PI),
                Tone(f"{node}.excite_854", amplitude=1.0),
                Pulse(f"{node}.excite_854", EXCITATION),
                *echoes(node, back - EXCITATION, echo, "raman_393"),
            ),
            name=f"{node}_excite",
        )
        for node in NODES
    )
    gate = Series(
        (
            Wait(excite_at + flight - lead),
            Mark("early photons arrive"),
            Together(tuple(Gate(f"charlie.snspd_{d}", window, GATES[d]) for d in (0, 1))),
            Wait(separation - window),
            Mark("late photons arrive"),
            Together(tuple(Gate(f"charlie.snspd_{d}", window, GATES[2 + d]) for d in (0, 1))),
        ),
        name="midpoint",
    )
    decision = Series((Wait(excite_at + separation + back), Mark("herald received")), name="herald_return")
    return Together((*nodes, gate, decision), name="attempt")


def pair(measure: str, sign: int, readout: int, threshold: int) -> Item:
    """Bring the pair from the Zeeman states back to S1/2 and D5/2, and measure it as in the link, without a tracked phase."""
    back = transfer(back=True)
    after = measurement(measure, sign, readout, threshold, tracked=False, record=RECORD)
    return Series((back, after), name="pair", kind="anchored", reaction=1 * us)


RECORD = {
    "outcome": "herald",
    "attempts": "herald.attempts",
    **{f"{gate}_ps": f"{gate}.first_ps" for gate in GATES},
    "counts_a": "counts_a",
    "counts_b": "counts_b",
    "bright_a": "counts_a.bright",
    "bright_b": "counts_b.bright",
}

COLUMNS = {name: column for name, column in PAIR.items() if name in RECORD or name.startswith("setting")} | {
    "outcome": Column("", "which detectors clicked: psi_plus (the same twice) or psi_minus (both)"),
    **{
        f"{kind}_{d}_ps": Column(
            "ps", f"{kind} click time after its gate of detector {d} opened; -1 for none"
        )
        for kind in ("early", "late")
        for d in (0, 1)
    },
}
