"""What goes beside an emitted experiment: the expected timeline as JSON, and a report for people."""

from __future__ import annotations

from typing import Any

import msgspec

from labctl.core.artiq.course import Choice, Choices, Played, attempts_of, courses, events
from labctl.core.artiq.names import nodes
from labctl.core.artiq.plan import Attempts, Await, Follow, Plan
from labctl.core.artiq.slack import Costs, Slack
from labctl.core.artiq.tones import AD9910_SET, AD9910_TRACKING, AD9912_SET
from labctl.errors import DataError, ScheduleError
from labctl.units import format_time

FORMAT = "labctl-artiq-1"
MOST_EVENTS = 20_000
"""Events written out over all courses; further ones are left to :func:`expected`."""
OUTPUT: dict[str, tuple[int, int]] = {
    "off": (0, 0),
    "on": (0, 1),
    "close": (2, 0),
    "open": (2, 1),
    "latch": (0, 0b0100),
    "count": (0, 0b1001),
    "relatch": (0, 0b1101),
}
"""Action -> address on its channel, and data."""
PULSE_MU = {
    AD9910_SET.before_mu: 8,
    AD9910_TRACKING.before_mu: 8,
    AD9912_SET.before_mu: 10,
}
"""Time from the beginning of a set to its update pulse -> length of the pulse."""


class Course(msgspec.Struct, frozen=True):
    """What is expected in a round with these outcomes.

    choices:  register -> value; for an attempt loop [outcome, attempts]
    events:   [segment, time in mu from the segment's origin, device, RTIO channel, action, words, block], as put in
    free:     rows of ``events`` (from 0) with which a block begins that may be later, with all that follows in its segment
    """

    choices: dict[str, Any]
    events: list[tuple[int, int, str, int, str, tuple[int | str, ...], str]]
    free: list[int]


class Sidecar(msgspec.Struct):
    """The JSON file beside an experiment.

    courses:     the expected timeline of each course that is short enough to be written out
    left_out:    how many courses are not: see :func:`expected`
    source_map:  line of the experiment -> block of the schedule
    rtio:        action, or "set" and the DDS -> RTIO outputs on the row's channel: [mu after the row's time, address, data]
    """

    plan: Plan
    slack: list[Slack]
    costs: Costs
    courses: list[Course]
    left_out: int
    source_map: dict[str, str]
    rtio: dict[str, list[tuple[int, int, int]]]
    format: str = FORMAT


def sidecar(plan: Plan, slack: list[Slack], costs: Costs, source_map: dict[int, str]) -> bytes:
    """The JSON text; the same for the same plan."""
    written: list[Course] = []
    left_out = total = 0
    for choices in _ends(plan):
        room = _events(plan, choices)
        if total + room > MOST_EVENTS:
            left_out += 1
            continue
        total += room
        played = events(plan, choices)
        free = [k for k, one in enumerate(played) if one.free]
        written.append(Course(_plain(choices), [_row(one) for one in played], free))
    lines = {str(number): place for number, place in source_map.items()}
    made = Sidecar(plan, slack, costs, written, left_out, lines, rtio(plan))
    return msgspec.json.format(msgspec.json.encode(made, order="deterministic"), indent=1)


def rtio(plan: Plan) -> dict[str, list[tuple[int, int, int]]]:
    """What each action of a plan puts out on its channel: [mu after the action's time, address, data].

    Sources: TTLOut, TTLInOut (address 2 is the sensitivity), EdgeCounter (bits: rising, falling, send, reset), AD9910,
    AD9912 in artiq.coredevice. Of a set these are the update pulse; its SPI transfer is on another channel.
    """
    found: dict[str, list[tuple[int, int, int]]] = {}
    for block in plan.blocks.values():
        for event in block.events if block.entangler is None else ():
            if event.action == "set":
                update = event.update_after_mu
                found[f"set {event.device}"] = [(update, 0, 1), (update + PULSE_MU[update], 0, 0)]
            else:
                found[event.action] = [(0, *OUTPUT[event.action])]
    for node in nodes(plan.root):
        if isinstance(node, Await):
            found |= {action: [(0, *OUTPUT[action])] for action in ("open", "close")}
    return dict(sorted(found.items()))


def read(data: bytes) -> Sidecar:
    """A sidecar from its JSON text; DataError if it is none."""
    try:
        made = msgspec.json.decode(data, type=Sidecar)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DataError(f"not the JSON file of an emitted experiment: {error}") from None
    if made.format != FORMAT:
        raise DataError(f"an expected timeline of format {made.format!r}; this labctl reads {FORMAT!r}")
    return made


def expected(data: bytes, choices: Choices) -> list[Played]:
    """The events of a round with these outcomes, from the JSON text: ``{"herald": ("psi_plus", 7), "setting": 3}``."""
    return events(read(data).plan, choices)


def _ends(plan: Plan) -> list[dict[str, Choice]]:
    """Every course in which each loop ends at the first attempt, or really times out."""
    loops = {node.into: node for node in nodes(plan.root) if isinstance(node, Attempts)}
    found: dict[str, dict[str, Choice]] = {}
    for choices in courses(plan):
        made: dict[str, Choice] = dict(choices)
        for into, node in loops.items():
            value = made.get(into)
            if isinstance(value, tuple):
                made[into] = (value[0], node.limit if value[0] == "timeout" else 1)
        found.setdefault(repr(sorted(made.items())), made)
    return list(found.values())


def _events(plan: Plan, choices: Choices) -> int:
    """About how many events a course has, without going through it."""
    total = sum(len(block.events) for block in plan.blocks.values())
    for node in nodes(plan.root):
        if isinstance(node, Attempts) and node.into in choices:
            try:
                count = attempts_of(node, choices)
            except ScheduleError:
                continue
            body = plan.blocks[node.body]
            total += count * len(body.events) if body.entangler is None else 1
    return total


def _plain(choices: Choices) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in choices.items()}


def _row(one: Played) -> tuple[int, int, str, int, str, tuple[int | str, ...], str]:
    event = one.event
    return one.segment, one.time_mu, event.device, event.channel, event.action, event.words, one.block


def report(plan: Plan, slack: list[Slack], costs: Costs) -> str:
    """What was made of the schedule, for people."""
    least = {one.block: one for one in slack}

    def time(time_mu: int) -> str:
        return format_time(time_mu * plan.ref_period_ps)

    lines = [
        f"{plan.schedule} (SHA-256 {plan.schedule_sha256[:16]}) for {plan.device_db}",
        f"machine unit {time(1)}, coarse cycle {time(plan.coarse_mu)}; a round begins "
        f"{plan.phase_mu} mu after a coarse cycle begins",
        "",
        "Blocks",
    ]
    for block in plan.blocks.values():
        lines.append(f"  {block.name}: {block.place}")
        lines.append(f"    {time(block.length_mu)}, {len(block.events)} events; {block.how}: {block.reason}")
        for way, why in block.others.items():
            lines.append(f"    not {way}: {why}")
        one = least.get(block.name)
        if one is not None:
            lines.append(
                f"    slack at least {time(one.slack_mu)} ({one.line} at {time(one.time_mu)}); "
                f"{time(one.cpu_mu)} of CPU time"
            )
    lines += ["", "Lines"]
    for name, channel in plan.channels.items():
        details = [f"delay {format_time(channel.delay_ps)}"] if channel.delay_ps else []
        details += [f"counter {channel.counter}"] if channel.counter else []
        lines.append(
            f"  {name}: {channel.device}, RTIO channel {channel.channel}" + "".join(f", {d}" for d in details)
        )
    if plan.generators:
        lines += ["", "Set by hand before a run"]
    for name, (frequency, phase, amplitude) in plan.generators.items():
        channel = plan.channels[name]
        lines.append(
            f"  {name}: the generator triggered by {channel.device} makes pulses of {format_time(channel.generator_ps)}, "
            f"{frequency:g} Hz, {phase:g} turns, amplitude {amplitude:.6g}"
        )
    if any(isinstance(node, Follow) for node in nodes(plan.root)):
        lines += [
            "",
            "Phases are tracked on 64 points in integers, diffusion as a widening of the peak: an approximation of the",
            "Bayes filter of the simulated core.",
        ]
    lines += [
        "",
        "Slack is estimated: "
        + ", ".join(f"{key} {value}" for key, value in msgspec.to_builtins(costs).items()),
        "",
    ]
    return "\n".join(lines)
