"""The parts of a schedule: immutable data, JSON both ways, made by plain functions.

Times are integer picoseconds (``250 * ns``). A schedule names lines, never hardware channels; cable, AOM and gate
delays belong to the line and are applied when a core lowers the schedule.
"""

from __future__ import annotations

from typing import Any, Literal, Union

import msgspec

from labctl.errors import ScheduleError

SCHEDULE_VERSION = 1


class Pulse(msgspec.Struct, frozen=True, tag="pulse", forbid_unknown_fields=True):
    """A line is on for ``duration`` ps."""

    line: str
    duration: int


class Tone(msgspec.Struct, frozen=True, tag="tone", omit_defaults=True, forbid_unknown_fields=True):
    """From here on the line's tone is changed; None keeps what it was. Takes no time.

    frequency_hz:  offset from the line's nominal frequency, Hz
    phase_turns:   phase in turns
    amplitude:     relative to the line's nominal amplitude, 0 to 1
    """

    line: str
    frequency_hz: float | None = None
    phase_turns: float | None = None
    amplitude: float | None = None


class Wait(msgspec.Struct, frozen=True, tag="wait", forbid_unknown_fields=True):
    """Nothing happens for ``duration`` ps."""

    duration: int


class Gate(msgspec.Struct, frozen=True, tag="gate", omit_defaults=True, forbid_unknown_fields=True):
    """An input line is open for ``duration`` ps; its clicks are counted into register ``into``.

    ``into`` holds the count, ``into + ".first_ps"`` the time of the first click after the gate opened (-1: none).
    With a ``threshold``, ``into + ".bright"`` is 1 if the count reached it, else 0.
    """

    line: str
    duration: int
    into: str
    threshold: int | None = None


class Mark(msgspec.Struct, frozen=True, tag="mark", forbid_unknown_fields=True):
    """A named instant, for drawings and analysis. Takes no time."""

    name: str


class Series(msgspec.Struct, frozen=True, tag="series", omit_defaults=True, forbid_unknown_fields=True):
    """Items one after the other.

    A named series is a block; its ``kind`` says how far a core may move it: "rigid" (offsets exact), "anchored" (begins
    a fixed time after the herald click that led to it, ``reaction`` ps at the least) or "free" (slack may be put before it).
    """

    items: tuple[Item, ...]
    name: str = ""
    kind: Literal["rigid", "anchored", "free"] = "rigid"
    reaction: int = 0


class Together(msgspec.Struct, frozen=True, tag="together", omit_defaults=True, forbid_unknown_fields=True):
    """Items that begin at the same time; takes as long as the longest."""

    items: tuple[Item, ...]
    name: str = ""


class Repeat(msgspec.Struct, frozen=True, tag="repeat", forbid_unknown_fields=True):
    """The body ``count`` times."""

    count: int
    body: Item


class Valid(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """When a tracked phase may be used.

    clicks:       fewest and most clicks of the last cycle, both included
    agreement:    least agreement of the clicks of the last 16 cycles or so with the estimate: 1 for a fringe of the contrast
                  that the tracker assumes, 0 for none. It shows a phase that slips and a fringe that is lost
    sigma_rad:    largest posterior standard deviation, rad
    lock:         register with the counts of a lock's monitor, a gate in the same block; "" for none
    lock_counts:  fewest of them
    """

    clicks: tuple[int, int]
    sigma_rad: float = 0.25
    agreement: float = 0.6
    lock: str = ""
    lock_counts: int = 1


class Track(msgspec.Struct, frozen=True, tag="track", omit_defaults=True, forbid_unknown_fields=True):
    """Follow a phase from the clicks of reference gates, by a recursive Bayes filter that the core runs.

    gates:  for each slot (register at detector 0, register at detector 1, phase bias in turns); the expected share of
            clicks at detector 0 is (1 + contrast cos(phase + bias)) / 2
    into:   register of the estimate, integer microturns; ``into + ".sigma_rad"`` is its posterior standard deviation,
            ``into + ".clicks"`` how many clicks the last slot had
    contrast:  of the reference fringe, 0 to 1
    diffusion_rad2_per_s:  how fast the phase walks
    valid:  with it, ``into + ".valid"`` is 1 while the estimate may be used and 0 else
    """

    gates: tuple[tuple[str, str, float], ...]
    into: str
    contrast: float
    diffusion_rad2_per_s: float
    valid: Valid | None = None


class Every(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A block put before every ``attempts``-th attempt of a loop, the first included."""

    attempts: int
    body: Item


class Attempt(msgspec.Struct, frozen=True, tag="attempt", omit_defaults=True, forbid_unknown_fields=True):
    """Play the body again and again until its gates show an outcome that ends the loop.

    gates:     registers of the body's gates whose clicks decide, in the order of the pattern's digits
    outcomes:  total table: every pattern of "0" and "1" (1 = at least one click; of a gate with a threshold, at least so
               many) -> outcome name, or "again"
    limit:     attempts after which the outcome is "timeout"
    every:     a block interleaved every so many attempts (cooling, phase reference)
    into:      register of the outcome; ``into + ".attempts"`` holds how many attempts it took, ``into + ".total"`` and
               ``into + ".total_ps"`` all attempts and the time in loops of this register since the run began
    """

    body: Item
    gates: tuple[str, ...]
    outcomes: dict[str, str]
    limit: int
    every: Every | None = None
    into: str = "herald"


class Branch(msgspec.Struct, frozen=True, tag="branch", forbid_unknown_fields=True):
    """Go on with the case that register ``on`` names (integers as decimal text); the table must be total."""

    on: str
    cases: dict[str, Item]


class Feedback(msgspec.Struct, frozen=True, tag="feedback", omit_defaults=True, forbid_unknown_fields=True):
    """Set the phase of a line's tone from a register: phase = (scale * register + offset) microturns, in integers."""

    register: str
    line: str
    scale: int = 1
    offset: int = 0


class Draw(msgspec.Struct, frozen=True, tag="draw", omit_defaults=True, forbid_unknown_fields=True):
    """Draw a setting after what came before: register ``into`` becomes 0 .. len(weights) - 1 with these weights.

    source:  "core", or "qrng": from blocks of random bits that have passed their health tests, each bit used once;
             ``into + ".block"`` is then the number of the block
    """

    into: str
    weights: tuple[float, ...]
    source: str = "core"


class Report(msgspec.Struct, frozen=True, tag="report", forbid_unknown_fields=True):
    """Emit one record: the values of these registers now, under these column names (column -> register)."""

    columns: dict[str, str]


class HostPoint(msgspec.Struct, frozen=True, tag="host_point", forbid_unknown_fields=True):
    """Stop until the host says go on: for anything that is not real-time."""

    name: str


class LineTrigger(
    msgspec.Struct, frozen=True, tag="line_trigger", omit_defaults=True, forbid_unknown_fields=True
):
    """Wait for the mains: what follows begins ``reaction`` ps after the next rising edge on an input.

    Put it first in a shot, ``Series((LineTrigger("alice.mains"), prepare, ...))``, and every shot has the same phase of
    the mains; how long one waited is in no register. Nothing is on meanwhile, so it stands neither in a Together nor in an
    attempt loop.

    line:      an input of kind "trigger": a comparator that is high while the mains voltage is positive
    reaction:  from the edge to what follows, ps
    limit:     how long to wait for an edge, ps; without one the core fails
    """

    line: str
    reaction: int = 10_000_000
    limit: int = 100_000_000_000


Item = Union[  # noqa: UP007  (a recursive union has to be one that msgspec resolves)
    Pulse,
    Tone,
    Wait,
    Gate,
    Mark,
    Series,
    Together,
    Repeat,
    Track,
    Attempt,
    Branch,
    Feedback,
    Draw,
    Report,
    HostPoint,
    LineTrigger,
]


class Column(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a record's column is: its unit and what it means."""

    unit: str = ""
    long_name: str = ""


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named, complete schedule.

    analysis:   what kind of records it makes ("heralded_pair", "fringe", "noise", ...), for analysis and report
    arguments:  the arguments of the function that made it
    columns:    unit and long name of each reported column
    rounds:     whether one pass makes one heralded round ("round"), one unheralded shot ("shot"), or no more than one
                record ("record"): then records are counted, not passes
    """

    name: str
    body: Item
    analysis: str = ""
    arguments: dict[str, Any] = {}
    columns: dict[str, Column] = {}
    rounds: Literal["round", "shot", "record"] = "round"
    version: int = SCHEDULE_VERSION


def to_json(schedule: Schedule) -> bytes:
    """The schedule as JSON, the same bytes for the same schedule."""
    return msgspec.json.encode(schedule, order="deterministic")


def from_json(data: bytes) -> Schedule:
    """The schedule a JSON text stands for; ScheduleError says where it is wrong."""
    try:
        schedule = msgspec.json.decode(data, type=Schedule, strict=True)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ScheduleError(f"not a schedule: {error}") from None
    except RecursionError:
        raise ScheduleError("not a schedule: nested too deeply") from None
    if schedule.version != SCHEDULE_VERSION:
        raise ScheduleError(
            f"schedule of version {schedule.version}; this labctl reads version {SCHEDULE_VERSION}"
        )
    return schedule


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of schedules, for other programs that write or read them."""
    schema = msgspec.json.schema(Schedule)
    version = schema["$defs"]["Schedule"]["properties"]["version"]
    version["const"] = SCHEDULE_VERSION
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "labctl schedule", **schema}


def schema_text() -> str:
    """The schema as the text that is published: docs/schedule.schema.json."""
    return msgspec.json.format(msgspec.json.encode(json_schema(), order="sorted"), indent=2).decode() + "\n"


def duration(item: Item) -> int | None:
    """How long an item takes, ps; None where it depends on what happens (attempt loops, uneven branches, line triggers)."""
    match item:
        case Pulse() | Wait() | Gate():
            return item.duration
        case Series():
            total = 0
            for part in item.items:
                one = duration(part)
                if one is None:
                    return None
                total += one
            return total
        case Together():
            longest = 0
            for part in item.items:
                one = duration(part)
                if one is None:
                    return None
                longest = max(longest, one)
            return longest
        case Repeat():
            one = duration(item.body)
            return None if one is None else one * item.count
        case Branch():
            lengths = {duration(case) for case in item.cases.values()}
            return lengths.pop() if len(lengths) == 1 else None
        case Attempt() | LineTrigger():
            return None
        case _:
            return 0
