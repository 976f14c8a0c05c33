"""Heralded entanglement of two ⁸⁷Rb atoms over a fibre link by single-photon interference.

One pass: look whether both atoms are there (and load those that are not), then attempts in pumping cycles until one
detector clicks or it is time to look again. After a herald: settings drawn, microwaves, atoms in F = 2 blown away, the
rest counted. A pass without a herald makes no record. Cadence: the Wisconsin two-node experiment (PHYSICS.md 2), but for
``cycles``: it looks every 5 cycles, and with looks of 20 ms no more than 0.33 pairs per second would come out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from labctl.schedule.items import (
    Attempt,
    Branch,
    Column,
    Draw,
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
from labctl.units import ms, ns, us

NODES = ("alice", "bob")
LIGHT_KM_PER_S = 299_792.458
INDEX = 1.4676
"""Of the fibre at 1315 nm."""
PI_TIME = 16 * us
"""Length of a microwave π pulse of the clock states at nominal amplitude."""
RISE, TRANSFER = 30 * ns, 10 * ns
"""Two-photon pulse to the Rydberg state, and 480 nm pulse down to 5P3/2, which emits."""
DARK = 1 * us
"""How long the trap is off around them; they come in its middle."""
MARGIN = 200 * ns
DECISION = 1 * us
ECHO_SPACING = 120 * us


class Loading(NamedTuple):
    """How atoms are loaded: times in ps, counts from which one is there, polls before the cloud is made anew."""

    poll: int
    level: int
    polls: int
    mot: int
    fort: int
    pgc: int


class Reading(NamedTuple):
    """How states are read: times in ps, counts from which an atom is there, source of the settings."""

    blow: int
    readout: int
    level: int
    source: str


def rubidium_link(
    fibre_km: float = 11.0,
    alpha: float = 0.025,
    measure: str = "fidelity",
    window: int = 120 * ns,
    window_lead: int = 4 * ns,
    attempts: int = 5,
    pumping: int = 3 * ms,
    reset: int = 12 * us,
    cycles: int = 50,
    check: int = 20 * ms,
    presence_hz: float = 10_000.0,
    poll: int = 20 * ms,
    load_hz: float = 14_000.0,
    polls: int = 100,
    mot: int = 500 * ms,
    fort: int = 100 * ms,
    pgc: int = 20 * ms,
    blow: int = 150 * us,
    readout: int = 20 * ms,
    echoes: int = -1,
    source: str = "qrng",
) -> Schedule:
    """Passes until so many heralded pairs are measured.

    fibre_km:     fibre between the nodes; the midpoint is in its middle
    alpha:        population of the bright state, 0 to 1
    measure:      "fidelity" (populations and an 8-point parity fringe), "tomography" (9 Pauli bases) or "bell"
                  (CHSH settings and a key basis)
    window, window_lead:  length of the signal gate and how long before the light it opens, ps
    attempts:     per pumping cycle
    pumping:      optical pumping before them, chopped against the trap, ps
    reset:        pumping before each attempt: an atom left bright by the last one would be excited again, ps
    cycles:       pumping cycles between looks at the atoms
    check:        recooling light while they are counted, ps
    presence_hz, load_hz:  counts per second from which an atom is there, after a check and while loading
    poll, polls:  length of a look while loading, ps; looks after which the cloud is given up and made anew
    mot:          the cloud is filled for so long then, ps
    fort, pgc:    hold in the dark trap and cooling after loading, ps
    blow:         light that removes atoms in F = 2, ps
    readout:      counting of those left, ps
    echoes:       microwave π pulses while light and herald travel (XY), an even number; -1: one per 120 us, 2 at least
    source:       of the settings: "qrng" (health-tested blocks, each bit used once) or "core"
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
    if not fibre_km > 0:
        raise ValueError(f"fibre_km must be above 0 km, not {fibre_km}")
    flight = flight_of(fibre_km)
    count = default_echoes(flight) if echoes < 0 else echoes
    if count % 2:
        raise ValueError(f"{echoes} echoes would swap the atoms' states; take an even number")
    loop = Attempt(
        attempt(alpha, flight, window, window_lead, reset, count),
        gates=("click_0", "click_1"),
        outcomes={"00": "again", "10": "psi_plus", "01": "psi_minus", "11": "again"},
        limit=attempts * cycles,
        every=Every(attempts, pumped(pumping)),
    )
    load = Loading(poll, counts_of(load_hz, poll), polls, mot, fort, pgc)
    read = Reading(blow, readout, counts_of(presence_hz, readout), source)
    body = Series(
        (
            looked(check, counts_of(presence_hz, check)),
            loading(load),
            loop,
            Branch(
                "herald",
                {
                    "psi_plus": measurement(measure, 0.0, read),
                    "psi_minus": measurement(measure, 0.5, read),
                    "timeout": Wait(1 * us),
                },
            ),
        ),
        name="rubidium_link",
    )
    return Schedule(
        "rubidium_link",
        body,
        analysis="heralded_pair",
        arguments={
            "fibre_km": fibre_km,
            "alpha": alpha,
            "measure": measure,
            "window": window,
            "attempts": attempts,
            "cycles": cycles,
            "check": check,
            "echoes": count,
            "source": source,
        },
        columns=COLUMNS,
        rounds="record",
    )


def flight_of(fibre_km: float) -> int:
    """Time of flight from a node to the midpoint, ps, to a nanosecond."""
    return round(fibre_km / 2 * INDEX / LIGHT_KM_PER_S * 1e9) * ns


def counts_of(rate_hz: float, span: int) -> int:
    """Counts that this rate gives in so many ps; one at least."""
    return max(1, round(rate_hz * span / 1e12))


def default_echoes(flight: int) -> int:
    """An even number of π pulses with about 120 us between them."""
    return 2 * max(1, round(2 * flight / (2 * ECHO_SPACING)))


def both(beam: str, span: int) -> tuple[Item, ...]:
    """The same light at both nodes."""
    return tuple(Pulse(f"{node}.{beam}", span) for node in NODES)


def looked(span: int, level: int) -> Item:
    """Recool both atoms and count them."""
    gates = tuple(Gate(f"{node}.spcm", span, f"seen_{node[0]}", level) for node in NODES)
    return Together((*both("cool_780", span), *gates), name="check")


def loading(how: Loading) -> Item:
    """Load what is missing; a node that has its atom keeps it in the dark trap meanwhile."""

    def until(*missing: str) -> Attempt:
        """Polls until one of these nodes sees an atom."""
        body = Together(
            (
                *(Pulse(f"{node}.mot_780", how.poll) for node in missing),
                *(Gate(f"{node}.spcm", how.poll, f"poll_{node[0]}", how.level) for node in missing),
            ),
            name="poll",
        )
        gates = tuple(f"poll_{node[0]}" for node in missing)
        outcomes = {"0": "again", "1": "loaded"}
        if len(missing) == 2:
            outcomes = {"00": "again", "10": "alice", "01": "bob", "11": "loaded"}
        return Attempt(body, gates, outcomes, how.polls, into="load")

    settled = Series((Wait(how.fort), Together(both("cool_780", how.pgc))), name="settle")
    refilled = Together(both("mot_780", how.mot), name="refill")

    def one(node: str) -> Item:
        return Series(
            (until(node), Branch("load", {"loaded": settled, "timeout": refilled})), name=f"load_{node}"
        )

    together = Series(
        (
            until(*NODES),
            Branch(
                "load",
                {"alice": one("bob"), "bob": one("alice"), "loaded": settled, "timeout": refilled},
            ),
        ),
        name="load_both",
    )
    return Branch(
        "seen_a.bright",
        {
            "1": Branch("seen_b.bright", {"1": Wait(1 * us), "0": one("bob")}),
            "0": Branch("seen_b.bright", {"1": one("alice"), "0": together}),
        },
    )


def pumped(span: int) -> Item:
    """Optical pumping to the clock state of F = 1; its generator chops it against the trap light."""
    return Series((Together(both("pump_795", span)),), name="pumping", kind="free")


def attempt(alpha: float, flight: int, window: int, lead: int, reset: int, echoes: int) -> Item:
    """One attempt: reset, α, Rydberg-based emission in the dark, echoes while light and herald travel: 70 us at 11 km."""
    before = (DARK - RISE - TRANSFER) // 2
    length, amplitude = alpha_pulse(alpha)
    emitted = reset + length + MARGIN + before + RISE + TRANSFER
    back = 2 * flight + DECISION
    nodes = tuple(
        Series(
            (
                Pulse(f"{node}.pump_795", reset),
                Tone(f"{node}.microwave", frequency_hz=0.0, phase_turns=0.0, amplitude=amplitude),
                Pulse(f"{node}.microwave", length),
                Wait(MARGIN),
                Together(
                    (
                        Pulse(f"{node}.fort_off", DARK),
                        Series(
                            (
                                Wait(before),
                                Tone(f"{node}.excite_420", amplitude=1.0, phase_turns=0.0, frequency_hz=0.0),
                                Pulse(f"{node}.excite_420", RISE),
                                Tone(f"{node}.transfer_480", amplitude=1.0),
                                Pulse(f"{node}.transfer_480", TRANSFER),
                            )
                        ),
                    )
                ),
                *echo_pulses(node, DARK - before - RISE - TRANSFER, back, echoes),
            ),
            name=f"{node}_emission",
        )
        for node in NODES
    )
    gate = Series(
        (
            Wait(emitted + flight - lead),
            Mark("photons arrive"),
            Together(tuple(Gate(f"charlie.snspd_{d}", window, f"click_{d}") for d in (0, 1))),
        ),
        name="midpoint",
    )
    decision = Series((Wait(emitted + back), Mark("herald received")), name="herald_return")
    return Together((*nodes, gate, decision), name="attempt")


def alpha_pulse(alpha: float) -> tuple[int, float]:
    """Length, ps, to a nanosecond, and amplitude of the microwave pulse that puts α into the bright state."""
    exact = 2 * math.asin(math.sqrt(alpha)) / math.pi * PI_TIME
    length = max(20, math.ceil(exact / ns)) * ns
    return length, exact / length


def echo_pulses(node: str, since: int, span: int, count: int) -> tuple[Item, ...]:
    """π pulses about X and Y in turn, centred at odd multiples of span/2n after the emission, which was ``since`` ps ago."""
    items: list[Item] = []
    at = since
    for k in range(count):
        begin = (span * (2 * k + 1) // (2 * count) - PI_TIME // 2) // ns * ns
        if begin < at:
            raise ValueError(f"{count} echoes of {PI_TIME} ps do not fit into {span} ps")
        line = f"{node}.microwave"
        items += [
            Wait(begin - at),
            Tone(line, phase_turns=0.25 * (k % 2), amplitude=1.0),
            Pulse(line, PI_TIME),
        ]
        at = begin + PI_TIME
    return tuple(items)


def measurement(measure: str, sign: float, how: Reading) -> Item:
    """What follows a herald: settings drawn, atoms turned, those in F = 2 blown away, the others counted.

    sign:  turns added to Bob's phase for the detector that clicked; the loop holds the optical phase at zero
    """
    if measure == "fidelity":
        rotations: dict[str, Item] = {"0": Wait(PI_TIME // 2)}
        for k in range(8):
            rotations[str(k + 1)] = rotate_both(PI_TIME // 2, 0.0, PI_TIME // 2, sign + k / 8)
        chosen = Series((Draw("setting", (8.0,) + (1.0,) * 8, how.source), Branch("setting", rotations)))
        settings = ("setting",)
    elif measure == "tomography":
        bases: dict[str, Item] = {}
        for a in range(3):
            for b in range(3):
                bases[str(3 * a + b)] = rotate_both(
                    PI_TIME // 2 if a < 2 else 0,
                    (0.75, 0.0)[a % 2],
                    PI_TIME // 2 if b < 2 else 0,
                    sign + (0.75, 0.0)[b % 2],
                )
        chosen = Series((Draw("setting", (1.0,) * 9, how.source), Branch("setting", bases)))
        settings = ("setting",)
    elif measure == "bell":
        chosen = bell_settings(sign, how.source)
        settings = ("setting_a", "setting_b")
    else:
        raise ValueError(f"measure must be fidelity, tomography or bell, not {measure!r}")
    read = Series(
        (
            Wait(1 * us),
            Together(both("blow_780", how.blow)),
            Wait(100 * us),
            Together(
                (
                    *both("cool_780", how.readout),
                    *(Gate(f"{node}.spcm", how.readout, f"counts_{node[0]}", how.level) for node in NODES),
                )
            ),
        ),
        name="readout",
    )
    columns = RECORD | {setting: setting for setting in settings}
    if how.source == "qrng":
        columns |= {f"{setting}_block": f"{setting}.block" for setting in settings}
    return Series(
        (chosen, read, Report(columns)), name=f"measure_{measure}", kind="anchored", reaction=1 * us
    )


def bell_settings(sign: float, source: str) -> Item:
    """CHSH and key settings: A0 = Z, A1 = X; B0, B1 = (Z ± X)/√2, B2 = Z (PHYSICS.md 3.4)."""
    cases: dict[str, Item] = {}
    eighth = PI_TIME // 4
    bob = {"0": (eighth, 0.75), "1": (eighth, 0.25), "2": (0, 0.0)}
    for a, (length_a, phase_a) in {"0": (0, 0.0), "1": (PI_TIME // 2, 0.75)}.items():
        cases[a] = Branch(
            "setting_b",
            {
                b: rotate_both(length_a, phase_a, length_b, sign + phase_b)
                for b, (length_b, phase_b) in bob.items()
            },
        )
    return Series(
        (
            Draw("setting_a", (0.63, 0.37), source),
            Draw("setting_b", (0.29, 0.29, 0.42), source),
            Branch("setting_a", cases),
        )
    )


def rotate_both(length_a: int, phase_a_turns: float, length_b: int, phase_b_turns: float) -> Item:
    """Turn both clock-state qubits at once by microwaves."""
    nodes: list[Item] = []
    for node, length, turns in (("alice", length_a, phase_a_turns), ("bob", length_b, phase_b_turns)):
        if length:
            line = f"{node}.microwave"
            nodes.append(Series((Tone(line, phase_turns=turns % 1.0, amplitude=1.0), Pulse(line, length))))
    return Together((*nodes, Wait(PI_TIME // 2)), name="analysis")


RECORD = {
    "outcome": "herald",
    "attempts": "herald.attempts",
    "attempts_total": "herald.total",
    "live_ps": "herald.total_ps",
    "loading_ps": "load.total_ps",
    "click_0_ps": "click_0.first_ps",
    "click_1_ps": "click_1.first_ps",
    "counts_a": "counts_a",
    "counts_b": "counts_b",
    "bright_a": "counts_a.bright",
    "bright_b": "counts_b.bright",
}

COLUMNS = {
    "outcome": Column("", "which detector clicked: psi_plus (detector 0) or psi_minus (detector 1)"),
    "attempts": Column("1", "attempts since the last look at the atoms"),
    "attempts_total": Column("1", "attempts since the run began"),
    "live_ps": Column("ps", "time in attempt loops since the run began"),
    "loading_ps": Column("ps", "time spent looking for atoms since the run began"),
    "click_0_ps": Column("ps", "click time after the gate of detector 0 opened; -1 for none"),
    "click_1_ps": Column("ps", "click time after the gate of detector 1 opened; -1 for none"),
    "setting": Column("1", "drawn setting: 0 populations, 1-8 parity phase; or Pauli basis 3 a + b"),
    "setting_a": Column("1", "Alice's setting: 0 = Z, 1 = X"),
    "setting_b": Column("1", "Bob's setting: 0 = (Z+X)/sqrt 2, 1 = (Z-X)/sqrt 2, 2 = Z"),
    "setting_block": Column("1", "block of random bits that the setting came from"),
    "setting_a_block": Column("1", "block of random bits that Alice's setting came from"),
    "setting_b_block": Column("1", "block of random bits that Bob's setting came from"),
    "counts_a": Column("1", "counts of Alice's atom after the blow-away light"),
    "counts_b": Column("1", "counts of Bob's atom after the blow-away light"),
    "bright_a": Column("1", "1 if Alice's atom was still there (F = 1: no photon)"),
    "bright_b": Column("1", "1 if Bob's atom was still there (F = 1: no photon)"),
}
