"""Memory entanglement: a heralded pair goes into two Zeeman states of S1/2, is kept there under decoupling pulses, and is read out.

One round: attempts until a herald as in the link, then the transfer in two steps (Raman π from S to the other Zeeman state M
of S1/2, 729 nm π from D5/2 to S), storage for a time drawn from a table, and one of three settings: XX, YY or ZZ. The
pair is read where it is (Raman π/2, then S shelved to D5/2) or after it has been brought back to the optical qubit. With
``storage = "next"`` the times follow the wait for the next herald, so that the mean over the rounds is the worth of a
stored pair when the next one succeeds (Humphreys et al., Nature 558, 268 (2018)).
"""

from __future__ import annotations

import itertools
import math

from labctl.schedule.items import (
    Attempt,
    Branch,
    Column,
    Draw,
    Every,
    Feedback,
    Gate,
    Item,
    Pulse,
    Repeat,
    Report,
    Schedule,
    Series,
    Together,
    Tone,
    Wait,
)
from labctl.units import ms, ns, parse_quantity, us
from labctl.units import s as second
from sequences.decoupling import PHASES, train
from sequences.link import NODES, PI_TIME, TURN, attempt, cooling, rotate_both

RAMAN_PI = 10 * us
"""Length of a Raman π pulse of the memory qubit at nominal amplitude."""
QUARTER = TURN // 4
BASES = ("xx", "yy", "zz")
NEXT = "next"
INSIDE, BEYOND = 24, 12
"""Equally likely storage times inside the window and beyond it that stand for an exponential wait."""


def memory(
    storage: str = "10ms, 100ms, 200ms, 300ms, 400ms, 500ms, 600ms, 800ms",
    sequence: str = "kdd",
    spacing: int = 500 * us,
    alpha: float = 0.17,
    retrieve: bool = False,
    mean_wait: int = 449 * ms,
    within: int = 450 * ms,
    flight: int = 24_483 * ns,
    window: int = 60 * ns,
    window_lead: int = 4 * ns,
    cool_every: int = 1,
    limit: int = 10_000_000,
    readout: int = 500 * us,
    threshold: int = 5,
    reference_contrast: float = 0.99,
    phase_diffusion_rad2_per_s: float = 15.0,
) -> Schedule:
    """One stored pair.

    storage:      times such as "0, 50ms, 0.4s", each as likely; or "next": the wait for the next herald, exponential. A
                  time is brought to whole periods of the pulse sequence
    sequence:     cp, cpmg, xy4, xy8, xy16, kdd, or none for no decoupling
    spacing:      of the π pulses, ps
    retrieve:     bring the pair back to the optical qubit before it is rotated and read out
    mean_wait:    of "next", ps: one over the herald rate
    within:       of "next", ps: no drawn time stands for waits on both sides of it
    The other arguments are those of ``link``. A round given up after ``limit`` attempts plays the storage for nothing.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
    wanted, weights = waits(mean_wait, within) if storage.strip() == NEXT else times(storage)
    cases = [stored(time, sequence, spacing) for time in wanted]

    def after(sign: int) -> Item:
        settings = {str(index): analysis(name, sign, retrieve) for index, name in enumerate(BASES)}
        return Series((Branch("basis", settings), read_out(readout, threshold), Report(RECORD)))

    keep = Series(
        (
            Draw("storage", weights),
            Draw("basis", (1.0,) * len(BASES)),
            transfer(),
            Branch("storage", {str(index): item for index, (item, _) in enumerate(cases)}),
            Branch("herald", {"psi_plus": after(0), "psi_minus": after(TURN // 2), "timeout": Wait(1 * us)}),
        ),
        name="stored_pair",
        kind="anchored",
        reaction=1 * us,
    )
    body = Series(
        (
            Attempt(
                attempt(alpha, flight, window, window_lead),
                gates=("click_0", "click_1"),
                outcomes={"00": "again", "10": "psi_plus", "01": "psi_minus", "11": "again"},
                limit=limit,
                every=Every(cool_every, cooling(flight, reference_contrast, phase_diffusion_rad2_per_s)),
            ),
            keep,
        ),
        name="memory",
    )
    return Schedule(
        "memory",
        body,
        analysis="stored_pair",
        arguments={
            "storage": storage,
            "storage_ps": [time for _, time in cases],
            "sequence": sequence,
            "spacing": spacing,
            "alpha": alpha,
            "retrieve": retrieve,
            "mean_wait": mean_wait,
            "within": within,
            "flight": flight,
            "window": window,
            "readout": readout,
            "threshold": threshold,
        },
        columns=COLUMNS,
    )


def times(text: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Storage times in ps from text such as "0, 50ms, 0.4s", and their weights: all the same."""
    found = tuple(
        0 if part.strip() == "0" else round(parse_quantity(part.strip(), "s") * second)
        for part in text.split(",")
    )
    if any(time < 0 for time in found):
        raise ValueError(f"a storage time must not be negative: {text!r}")
    return found, (1.0,) * len(found)


def waits(mean_wait: int, within: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Times in ps and weights that stand for an exponential wait: means of equally likely parts, inside a window and beyond."""
    if mean_wait <= 0 or within <= 0:
        raise ValueError(f"mean_wait and within must be above 0, not {mean_wait} and {within} ps")
    left = math.exp(-within / mean_wait)
    edges = [1 - (1 - left) * k / INSIDE for k in range(INSIDE)]
    edges += [left * (1 - k / BEYOND) for k in range(BEYOND + 1)]
    found = tuple(
        round(mean_wait * (1 + (_x_log_x(high) - _x_log_x(low)) / (low - high)))
        for high, low in itertools.pairwise(edges)
    )
    return found, ((1 - left) / INSIDE,) * INSIDE + (left / BEYOND,) * BEYOND


def _x_log_x(share: float) -> float:
    return share * math.log(share) if share > 0 else 0.0


def stored(time: int, sequence: str, spacing: int) -> tuple[Item, int]:
    """Both memory qubits kept for about ``time`` ps under decoupling pulses, and how long that takes."""
    if sequence == "none":
        return Wait(max(time, 1 * us)), max(time, 1 * us)
    if sequence not in PHASES:
        raise ValueError(f"sequence must be none or one of {', '.join(PHASES)}, not {sequence!r}")
    pulses = math.lcm(len(PHASES[sequence]), 4)  # after which perfect pulses have done nothing
    periods = round(time / (pulses * spacing))
    if periods == 0:
        return Wait(1 * us), 1 * us
    period = Together(
        tuple(train(f"{node}.raman_393", sequence, spacing, pulses, RAMAN_PI) for node in NODES),
        name=sequence,
    )
    return Repeat(periods, period), periods * pulses * spacing


def transfer(back: bool = False) -> Item:
    """Between the optical qubit (S, D5/2) and the memory (M, S), both ions: Raman π, then 729 nm π; ``back``: the reverse."""
    steps = ("raman_393", "qubit_729")
    return Series(
        tuple(_pi(beam) for beam in (reversed(steps) if back else steps)),
        name="retrieval" if back else "transfer",
    )


def _pi(beam: str) -> Item:
    """A π pulse of phase 0 on both ions."""
    length = RAMAN_PI if beam == "raman_393" else PI_TIME
    return Together(
        tuple(
            Series(
                (
                    Tone(f"{node}.{beam}", frequency_hz=0.0, phase_turns=0.0, amplitude=1.0),
                    Pulse(f"{node}.{beam}", length),
                )
            )
            for node in NODES
        )
    )


def analysis(basis: str, sign: int, retrieve: bool) -> Item:
    """Rotate both ions so that fluorescence shows their product in a basis.

    The memory's S stands for D5/2 and its M for S: its equator turns the other way, so phases change their sign.

    sign:  microturns added for the detector that clicked
    """
    turn = {"xx": 3 * QUARTER, "yy": 0}.get(basis)
    if retrieve:
        rotated = (
            Wait(PI_TIME // 2)
            if turn is None
            else rotate_both(PI_TIME // 2, turn / TURN, PI_TIME // 2, sign + turn)
        )
        return Series((transfer(back=True), rotated), name=f"read_{basis}")
    shelve = _pi("qubit_729")
    if turn is None:
        return Series((Wait(RAMAN_PI // 2), shelve), name=f"read_{basis}")
    forward = Feedback("phase", "bob.raman_393", scale=-1, offset=-(sign + turn) % TURN)
    alice = Tone("alice.raman_393", phase_turns=-turn % TURN / TURN)
    halves = Together(tuple(Pulse(f"{node}.raman_393", RAMAN_PI // 2) for node in NODES))
    return Series((forward, alice, halves, shelve), name=f"read_{basis}")


def read_out(readout: int, threshold: int) -> Item:
    """Fluorescence of both ions."""
    return Together(
        (
            *(Pulse(f"{node}.{beam}", readout) for node in NODES for beam in ("cool_397", "repump_866")),
            Gate("alice.pmt", readout, "counts_a", threshold),
            Gate("bob.pmt", readout, "counts_b", threshold),
        ),
        name="readout",
    )


RECORD = {
    "outcome": "herald",
    "attempts": "herald.attempts",
    "storage": "storage",
    "basis": "basis",
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
    "storage": Column("1", "which of the storage times of the run's arguments was drawn, from 0"),
    "basis": Column("1", "drawn setting: 0 XX, 1 YY, 2 ZZ"),
    "phase_microturns": Column("1e-6 turn", "tracked optical phase at the herald"),
    "phase_sigma_rad": Column("rad", "posterior standard deviation of the tracked phase"),
    "reference_clicks": Column("1", "clicks in the last reference slot"),
    "phase_valid": Column("1", "1 if the phase was known before the storage: posterior, clicks, fibre lock"),
    "counts_a": Column("1", "fluorescence counts of Alice's ion"),
    "counts_b": Column("1", "fluorescence counts of Bob's ion"),
    "bright_a": Column("1", "1 if Alice's ion was bright (S before the transfer)"),
    "bright_b": Column("1", "1 if Bob's ion was bright (S before the transfer)"),
}
