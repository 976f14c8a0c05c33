"""A schedule lowered for ARTIQ: blocks of events in integer machine units, and the tree that plays them. JSON both ways.

All times in a block count from its origin; ``channel`` is the RTIO channel of the event's first action.
"""

from __future__ import annotations

from typing import Any, Literal, Union

import msgspec

from labctl.schedule.items import Valid

Action = Literal["on", "off", "open", "close", "count", "relatch", "latch", "set", "run"]
"""Outputs: on, off. Time-stamping inputs: open, close. Edge counters: count (reset and count), latch (stop and send the
count), relatch (both at once). DDS channels: set (frequency, phase and amplitude words, then an update pulse).
Entangler cores: run (for so many mu)."""
How = Literal["source", "table", "dma", "entangler"]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One action on one device.

    time_mu:  of a "set": when its SPI transfer begins; the AD9910 driver first clears the fine part of the time, see
              ``update_after_mu`` for when the tone changes
    words:    of a "set": frequency, phase and amplitude word; the phase may be the name of a variable that holds it
    tracking:  of a "set": the phase is referred to the origin of the round
    place:    block of the schedule it comes from
    since_mu: when that block begins
    """

    time_mu: int
    action: Action
    device: str
    channel: int
    line: str
    words: tuple[int | str, ...] = ()
    tracking: bool = False
    update_after_mu: int = 0
    place: str = ""
    since_mu: int = 0


class Window(msgspec.Struct, frozen=True, omit_defaults=True):
    """A gate of a block: which input, from when to when, and the registers it fills.

    mode:  "stamps" (each click is time-stamped) or "counter" (the gateware counts)
    """

    register: str
    line: str
    device: str
    mode: Literal["stamps", "counter"]
    open_mu: int
    close_mu: int
    threshold: int | None = None
    place: str = ""
    since_mu: int = 0
    """Block of the schedule it comes from, and when that begins."""


class EntanglerLoop(msgspec.Struct, frozen=True):
    """An attempt loop on an entangler core: what it is told, mu from the beginning of an attempt.

    outputs:   line -> number of the core's output, on from, to
    inputs:    line -> number of the core's input, open from, to
    patterns:  exact patterns that end the loop, at most four: bit k is input k
    outcomes:  what each pattern means
    longest:   attempts that one run can be told to make
    reference_mu:  when the edge comes from which the core counts its windows; 0: it counts from the attempt's beginning
    """

    device: str
    channel: int
    outputs: dict[str, tuple[int, int, int]]
    inputs: dict[str, tuple[int, int, int]]
    patterns: list[int]
    outcomes: list[str]
    longest: int
    reference_mu: int = 0


class Block(msgspec.Struct, omit_defaults=True):
    """A straight piece: its events in the order they are written, its gates, and how it is emitted.

    lead_mu:  how long before its origin the first event is
    """

    name: str
    place: str
    length_mu: int
    events: list[Event]
    windows: list[Window]
    lead_mu: int = 0
    how: How = "source"
    reason: str = ""
    others: dict[str, str] = {}
    """Why it is not emitted in the other ways."""
    entangler: EntanglerLoop | None = None


class Play(msgspec.Struct, frozen=True, tag="play"):
    """A block; ``free`` ones may begin later if the core is late, ``aligned`` ones wait for the next coarse cycle."""

    block: str
    free: bool = False
    aligned: bool = False


class Attempts(msgspec.Struct, frozen=True, tag="attempts"):
    """An attempt loop; ``between`` (with its trackers) is played before every ``every``-th attempt."""

    name: str
    place: str
    between: Play | None
    tracks: list[Follow]
    body: str
    every: int
    limit: int
    gates: list[str]
    outcomes: dict[str, str]
    into: str


class Chain(msgspec.Struct, frozen=True, tag="chain"):
    """Nodes one after the other."""

    nodes: list[Node]


class Turns(msgspec.Struct, frozen=True, tag="turns"):
    """A node repeated."""

    name: str
    place: str
    count: int
    body: Node


class Cases(msgspec.Struct, frozen=True, tag="cases"):
    """One node by the value of a register."""

    on: str
    cases: dict[str, Node]


class Follow(msgspec.Struct, frozen=True, tag="follow"):
    """Update a phase tracker from the counts of its reference gates."""

    into: str
    gates: list[tuple[str, str, float]]
    contrast: float
    diffusion_rad2_per_s: float
    valid: Valid | None = None


class Feed(msgspec.Struct, frozen=True, tag="feed"):
    """Phase word ``variable`` = scale * register + offset microturns, in units of 1/turn."""

    variable: str
    register: str
    scale: int
    offset: int
    turn: int


class Pick(msgspec.Struct, frozen=True, tag="pick"):
    """Draw a register; ``below`` are the bounds of a number from 0 to ``PICK_RANGE`` - 1."""

    into: str
    below: list[int]


class Keep(msgspec.Struct, frozen=True, tag="keep"):
    """Send one record to the host: column -> register."""

    number: int
    columns: dict[str, str]


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Wait for the host; the timeline begins anew afterwards."""

    name: str


class Await(msgspec.Struct, frozen=True, tag="await"):
    """Open an input until its first rising edge; the timeline begins anew ``close_mu`` after the edge, where it is closed.

    What follows begins ``rest_mu`` after that. ``opening`` and ``closing`` are at 0 of the old and of the new timeline.
    """

    name: str
    line: str
    place: str
    device: str
    channel: int
    close_mu: int
    rest_mu: int
    limit_mu: int

    @property
    def opening(self) -> Event:
        """The event that opens the input."""
        return Event(0, "open", self.device, self.channel, self.line, place=self.place)

    @property
    def closing(self) -> Event:
        """The event that closes it."""
        return Event(0, "close", self.device, self.channel, self.line, place=self.place)


Node = Union[Play, Attempts, Chain, Turns, Cases, Follow, Feed, Pick, Keep, Stop, Await]  # noqa: UP007  (recursive)

PICK_RANGE = 2_147_483_562
"""Numbers drawn are 0 .. PICK_RANGE - 1 (L'Ecuyer 1988, doi:10.1145/62959.62969)."""


class Channel(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a line is: its devices, its delay and its nominal tone as words."""

    device: str
    kind: str
    channel: int
    delay_ps: int = 0
    grid_mu: int = 1
    counter: str = ""
    trigger_mu: int = 0
    generator_ps: int = 0
    initial: tuple[int, int, int] | None = None


class Plan(msgspec.Struct):
    """A lowered schedule.

    phase_mu:      the origin of a round modulo a coarse cycle
    lead_mu:       how long before the origin of a round its first event is
    generators:    line -> what its pulse generator has to be set to by hand: frequency (Hz), phase (turns), amplitude
    registers:     register -> the names of its values, for those that hold outcomes
    stamped:       registers whose first click is time-stamped
    """

    schedule: str
    schedule_sha256: str
    device_db: str
    device_db_sha256: str
    core: str
    ref_period_ps: int
    coarse_mu: int
    phase_mu: int
    lead_mu: int
    channels: dict[str, Channel]
    blocks: dict[str, Block]
    root: Node
    generators: dict[str, tuple[float, float, float]] = {}
    registers: dict[str, list[str]] = {}
    columns: dict[str, Any] = {}
