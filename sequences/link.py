"""Heralded entanglement of two ⁴⁰Ca⁺ ions over a fibre link by single-photon interference.

One round: attempts (cool, pump, 729 nm π, 2.25 ns 854 nm pulse, flight, gate at the midpoint, herald return) until one
detector clicks; then the phase of the click is fed forward, a setting is drawn, both ions are rotated and read out.
Timing: PHYSICS.md 1.5 (reconstruction; 375 us per attempt with everything).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from labctl.schedule.items import (
    Attempt,
    Branch,
    Column,
    Draw,
    Every,
    Feedback,
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
from labctl.units import ns, us
from sequences.phase_stabilisation import lock_gate, reference_gates, reference_light, tracker

NODES = ("alice", "bob")
TURN = 1_000_000
"""Microturns in a turn."""
PI_TIME = 10 * us
"""Length of a π pulse of the 729 nm qubit line at nominal amplitude."""
EXCITATION = 2_250
"""Length of the 854 nm pulse, ps: 2.25 ns."""
REFERENCE = 12 * us
"""Each half of the phase-reference slot: 24 us in a cycle of 375 us are a duty of 6.4 %."""
DECISION = 1_034 * ns
"""From the earliest arrival of a herald at a node to the next thing it does."""


def link(
    alpha: float = 0.17,
    measure: str = "fidelity",
    flight: int = 24_483 * ns,
    window: int = 60 * ns,
    window_lead: int = 4 * ns,
    cool_every: int = 1,
    limit: int = 10_000_000,
    readout: int = 500 * us,
    threshold: int = 5,
    reference_contrast: float = 0.99,
    phase_diffusion_rad2_per_s: float = 15.0,
    reference: int = REFERENCE,
    echo: int = 0,
    stored: int = 0,
    checks: int = 0,
    lock_monitor: str = "",
) -> Schedule:
    """One heralded pair and its measurement.

    What makes a round void (PHYSICS.md 8.6: the phase's uncertainty, the clicks of the last reference slot) is known before
    its setting is drawn and stands in its record. After the draw nothing is void: an ion without counts is a dark one.

    alpha:         probability that the 854 nm pulse brings an ion to P3/2, 0 to 1
    measure:       "fidelity" (populations and an 8-point parity fringe), "tomography" (9 Pauli bases) or "bell"
                   (CHSH settings and a key basis)
    flight:        time of flight from a node to the midpoint, ps (5 km: 24.483 us)
    window:        length of the signal gate, ps
    window_lead:   how long before the light's arrival the gate opens, ps
    cool_every:    attempts per cooling and phase-reference block
    limit:         attempts after which the round is given up
    readout:       length of the fluorescence window, ps
    threshold:     counts from which an ion is called bright
    reference_contrast, phase_diffusion_rad2_per_s:  what the phase tracker assumes
    reference:     length of each half of the phase-reference slot, ps
    echo:          729 nm π pulses while the light and the herald travel, equally spaced (Carr-Purcell): none, 1 or more
    stored:        how long a heralded pair waits for its measurement, ps
    checks:        time after each measurement before the next round, ps: checks of ions, locks and levels
    lock_monitor:  input that counts while the fibres' fast lock holds ("charlie.wdm_lock"); "" for none
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
    after: dict[str, Any] = {"readout": readout, "threshold": threshold, "echo": echo, "stored": stored}
    body = Series(
        (
            Attempt(
                attempt(alpha, flight, window, window_lead, echo),
                gates=("click_0", "click_1"),
                outcomes={"00": "again", "10": "psi_plus", "01": "psi_minus", "11": "again"},
                limit=limit,
                every=Every(
                    cool_every,
                    cooling(flight, reference_contrast, phase_diffusion_rad2_per_s, reference, lock_monitor),
                ),
            ),
            Branch(
                "herald",
                {
                    "psi_plus": measurement(measure, 0, **after),
                    "psi_minus": measurement(measure, TURN // 2, **after),
                    "timeout": Wait(1 * us),
                },
            ),
            *((Wait(checks),) if checks else ()),
        ),
        name="link",
    )
    return Schedule(
        "link",
        body,
        analysis="heralded_pair",
        arguments={
            "alpha": alpha,
            "measure": measure,
            "window": window,
            "readout": readout,
            "threshold": threshold,
            "flight": flight,
            "reference_nominal": round(2 * reference / us),  # at 1 MHz
            "echo": echo,
            "stored": stored,
            "checks": checks,
        },
        columns=COLUMNS,
    )


def long_link(
    alpha: float = 0.05,
    measure: str = "fidelity",
    flight: int = 247_283 * ns,
    echo: int = 1,
    window: int = 60 * ns,
    limit: int = 10_000_000,
    phase_diffusion_rad2_per_s: float = 15.0,
    reference: int = 31 * us,
    stored: int = 0,
    checks: int = 0,
) -> Schedule:
    """``link`` over 101 km of fibre: 50.5 km and 247.3 us from node to midpoint, and an echo on the way.

    Arguments as those of ``link``. A cycle is 1.02 ms; its reference slot of 62 us is a duty of 6 %.
    """
    return link(
        alpha,
        measure,
        flight=flight,
        window=window,
        limit=limit,
        phase_diffusion_rad2_per_s=phase_diffusion_rad2_per_s,
        reference=reference,
        echo=echo,
        stored=stored,
        checks=checks,
    )


def cooling(
    flight: int,
    contrast: float,
    diffusion_rad2_per_s: float,
    half: int = REFERENCE,
    lock_monitor: str = "",
) -> Item:
    """Reset, Doppler cooling with the 393 nm phase-reference slot inside, EIT cooling: 295 us, more over long fibres.

    half:  length of each half of the reference slot, ps
    """
    doppler = Together(
        (
            *(Pulse(f"{node}.{beam}", 150 * us) for node in NODES for beam in ("cool_397", "repump_866")),
            *(Series((Wait(40 * us), *reference_light(node, half))) for node in NODES),
            Series((Wait(40 * us + flight), *reference_gates(half))),
            *lock_gate(lock_monitor, 2 * half),
        ),
        name="doppler",
    )
    reset = Together(
        tuple(Pulse(f"{node}.{beam}", 25 * us) for node in NODES for beam in ("reset_854", "repump_866")),
        name="reset",
    )
    eit = Together(
        tuple(Pulse(f"{node}.{beam}", 120 * us) for node in NODES for beam in ("eit_397", "repump_866")),
        name="eit",
    )
    nominal_clicks = round(2 * half / us)  # of 1 MHz
    track = tracker(contrast, diffusion_rad2_per_s, nominal_clicks, lock_monitor, 2 * half)
    return Series((reset, doppler, eit, track), name="cooling", kind="free")


def attempt(alpha: float, flight: int, window: int, lead: int, echo: int = 0) -> Item:
    """One attempt: pump, 729 nm π, 854 nm pulse, flight, gate, herald return and decision: 80 us at 10 km.

    echo:  π pulses between the 854 nm pulse and the end of the attempt
    """
    amplitude = 2 / math.pi * math.asin(math.sqrt(alpha))
    excite_at = 20 * us + PI_TIME
    back = 2 * flight + DECISION
    nodes = tuple(
        Series(
            (
                Together((Pulse(f"{node}.pump_397", 20 * us), Pulse(f"{node}.repump_866", 20 * us))),
                Tone(f"{node}.qubit_729", frequency_hz=0.0, phase_turns=0.0, amplitude=1.0),
                Pulse(f"{node}.qubit_729", PI_TIME),
                Tone(f"{node}.excite_854", amplitude=amplitude),
                Pulse(f"{node}.excite_854", EXCITATION),
                *echoes(node, back - EXCITATION, echo),
            ),
            name=f"{node}_excite",
        )
        for node in NODES
    )
    gate = Series(
        (
            Wait(excite_at + flight - lead),
            Mark("photons arrive"),
            Together(tuple(Gate(f"charlie.snspd_{d}", window, f"click_{d}") for d in (0, 1))),
        ),
        name="midpoint",
    )
    decision = Series((Wait(excite_at + back), Mark("herald received")), name="herald_return")
    return Together((*nodes, gate, decision), name="attempt")


def echoes(node: str, span: int, count: int, beam: str = "qubit_729") -> tuple[Item, ...]:
    """``count`` π pulses of a beam on one ion in ``span`` ps of waiting: equally spaced, half an interval at both ends."""
    if count < 0:
        raise ValueError(f"echo must be 0 or more pulses, not {count}")
    grid = 1 * ns
    items: list[Item] = []
    at = 0
    for k in range(count):
        begin = (2 * k + 1) * span // (2 * count) - PI_TIME // 2
        begin += -begin % grid + (-(EXCITATION % grid)) % grid  # onto the grid of the line
        if begin < at:
            raise ValueError(f"{count} echo pulses of {PI_TIME} ps do not fit into {span} ps")
        items += [Wait(begin - at), Pulse(f"{node}.{beam}", PI_TIME)]
        at = begin + PI_TIME
    return tuple(items)


def measurement(
    measure: str,
    sign: int,
    readout: int,
    threshold: int,
    echo: int = 0,
    stored: int = 0,
    tracked: bool = True,
    record: Mapping[str, str] | None = None,
) -> Item:
    """What follows a herald: settings drawn, phase fed forward, ions rotated and read out.

    sign:     microturns added for the detector that clicked
    echo:     π pulses that both ions have had since: an odd number swaps them, and the sign of the pair's phase
    tracked:  whether the pair has the tracked optical phase; else it has none
    record:   column -> register of what is reported, without settings: ``RECORD``, or another
    """
    scale = (-1 if echo % 2 else 1) if tracked else 0
    if measure == "fidelity":
        rotations: dict[str, Item] = {"0": Wait(PI_TIME // 2)}
        for k in range(8):
            rotations[str(k + 1)] = rotate_both(PI_TIME // 2, 0.0, PI_TIME // 2, sign + k * TURN // 8, scale)
        chosen = Series((Draw("setting", (8.0,) + (1.0,) * 8), Branch("setting", rotations)))
        settings = {"setting": "setting"}
    elif measure == "tomography":
        bases: dict[str, Item] = {}
        for a in range(3):
            for b in range(3):
                bases[str(3 * a + b)] = rotate_both(
                    PI_TIME // 2 if a < 2 else 0,
                    (0.75, 0.0)[a % 2],
                    PI_TIME // 2 if b < 2 else 0,
                    sign + (750_000, 0)[b % 2],
                    scale,
                )
        chosen = Series((Draw("setting", (1.0,) * 9), Branch("setting", bases)))
        settings = {"setting": "setting"}
    elif measure == "bell":
        chosen = bell_settings(sign, scale)
        settings = {"setting_a": "setting_a", "setting_b": "setting_b"}
    else:
        raise ValueError(f"measure must be fidelity, tomography or bell, not {measure!r}")
    read = Together(
        (
            *(Pulse(f"{node}.{beam}", readout) for node in NODES for beam in ("cool_397", "repump_866")),
            Gate("alice.pmt", readout, "counts_a", threshold),
            Gate("bob.pmt", readout, "counts_b", threshold),
        ),
        name="readout",
    )
    return Series(
        (*((Wait(stored),) if stored else ()), chosen, read, Report({**(record or RECORD), **settings})),
        name=f"measure_{measure}",
        kind="anchored",
        reaction=1 * us,
    )


def bell_settings(sign: int, scale: int = 1) -> Item:
    """CHSH and key settings: A0 = Z, A1 = X; B0, B1 = (Z ± X)/√2, B2 = Z (PHYSICS.md 3.4)."""
    cases: dict[str, Item] = {}
    eighth = PI_TIME // 4
    bob = {"0": (eighth, 750_000), "1": (eighth, 250_000), "2": (0, 0)}
    for a, (length_a, phase_a) in {"0": (0, 0.0), "1": (PI_TIME // 2, 0.75)}.items():
        cases[a] = Branch(
            "setting_b",
            {
                b: rotate_both(length_a, phase_a, length_b, sign + phase_b, scale)
                for b, (length_b, phase_b) in bob.items()
            },
        )
    return Series(
        (Draw("setting_a", (0.63, 0.37)), Draw("setting_b", (0.29, 0.29, 0.42)), Branch("setting_a", cases))
    )


def rotate_both(length_a: int, phase_a_turns: float, length_b: int, offset_b: int, scale: int = 1) -> Item:
    """Rotate both ions on 729 nm at once; Bob's phase is ``scale`` times the tracked optical phase plus ``offset_b`` microturns.

    With ``scale`` 0 no phase is tracked.
    """
    alice: tuple[Item, ...] = (Tone("alice.qubit_729", phase_turns=phase_a_turns),)
    bob: tuple[Item, ...] = ()
    if length_a:
        alice += (Pulse("alice.qubit_729", length_a),)
    if length_b:
        bob += (Pulse("bob.qubit_729", length_b),)
    offset = offset_b % TURN
    forward = (
        Feedback("phase", "bob.qubit_729", scale=scale, offset=offset)
        if scale
        else Tone("bob.qubit_729", phase_turns=offset / TURN)
    )
    return Series((forward, Together((Series(alice), Series(bob), Wait(PI_TIME // 2)))), name="analysis")


RECORD = {
    "outcome": "herald",
    "attempts": "herald.attempts",
    "click_0_ps": "click_0.first_ps",
    "click_1_ps": "click_1.first_ps",
    "phase_microturns": "phase",
    "phase_sigma_rad": "phase.sigma_rad",
    "reference_clicks": "phase.clicks",
    "phase_valid": "phase.valid",
    "counts_a": "counts_a",
    "counts_b": "counts_b",
    "bright_a": "counts_a.bright",
    "bright_b": "counts_b.bright",
}

COLUMNS = {
    "outcome": Column("", "which detector clicked: psi_plus (detector 0) or psi_minus (detector 1)"),
    "attempts": Column("1", "attempts since the round began"),
    "click_0_ps": Column("ps", "click time after the gate of detector 0 opened; -1 for none"),
    "click_1_ps": Column("ps", "click time after the gate of detector 1 opened; -1 for none"),
    "phase_microturns": Column("1e-6 turn", "tracked optical phase at the herald"),
    "phase_sigma_rad": Column("rad", "posterior standard deviation of the tracked phase"),
    "reference_clicks": Column("1", "clicks in the last reference slot"),
    "phase_valid": Column(
        "1", "1 if the phase was known when the setting was drawn: posterior, clicks, fibre lock"
    ),
    "setting": Column("1", "drawn setting: 0 populations, 1-8 parity phase; or Pauli basis 3 a + b"),
    "setting_a": Column("1", "Alice's setting: 0 = Z, 1 = X"),
    "setting_b": Column("1", "Bob's setting: 0 = (Z+X)/sqrt 2, 1 = (Z-X)/sqrt 2, 2 = Z"),
    "counts_a": Column("1", "fluorescence counts of Alice's ion"),
    "counts_b": Column("1", "fluorescence counts of Bob's ion"),
    "bright_a": Column("1", "1 if Alice's ion was bright (S)"),
    "bright_b": Column("1", "1 if Bob's ion was bright (S)"),
}
