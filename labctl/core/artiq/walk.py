"""Goes through a schedule's shape in the order it is played, lowering block after block with what is known at each point."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from labctl.core.artiq.piece import PieceLowering, System, filled
from labctl.core.artiq.plan import (
    PICK_RANGE,
    Attempts,
    Await,
    Block,
    Cases,
    Chain,
    Feed,
    Follow,
    Keep,
    Node,
    Pick,
    Play,
    Stop,
    Turns,
)
from labctl.core.artiq.shape import Act, Choice, Loop, Piece, Row, Shape, Tries, begins_with
from labctl.core.artiq.tones import State, Words, joined
from labctl.schedule.items import Draw, Feedback, HostPoint, LineTrigger, Report, Series, Track
from labctl.schedule.problem import Path
from labctl.schedule.timeline import NOMINAL, flatten
from labctl.units import format_time, us

WordsThen = Mapping[str, tuple[Words, int]]
"""Line -> words its DDS has to hold so long after the end of a block."""
MOST_ATTEMPTS = 2**31 - 1
FASTEST_TRIGGER_PS = 8 * us
"""From an edge to what follows: reading it, closing the input and emptying it take about 3 us of CPU time."""
MOST_EVENTS = 200_000
"""Most events in one block: a table of more does not fit beside the program."""


class Walk:
    """Goes through a shape in the order it is played, with what is known at each point."""

    def __init__(self, system: System, phase_mu: int) -> None:
        self.system = system
        self._phase_mu = phase_mu
        self.blocks: dict[str, Block] = {}
        self.registers: dict[str, list[str]] = {}
        self._reports: list[dict[str, str]] = []
        self._follows: dict[str, Follow] = {}
        self._loops = 0
        self._awaits = 0
        self.consistent = True
        """Whether the plan can be played on paper, in spite of problems."""

    def node(self, part: Shape, state: State, then: set[str]) -> Node:
        """The node of a shape; the state is brought to its end. then: lines on at the beginning of all that follows."""
        match part:
            case Piece():
                return self._play(part, state, then)
            case Row():
                return self._row(part, state, then)
            case Loop():
                return self._loop(part, state, then)
            case Choice():
                return self._choice(part, state, then)
            case Tries():
                return self._tries(part, state, then)
            case Act():
                return self._act(part, state)

    def _play(
        self,
        piece: Piece,
        state: State,
        then: set[str],
        name: str = "",
        *,
        attempt: bool = False,
        words: WordsThen | None = None,
    ) -> Play:
        aligned = piece.free and state.align is None
        if aligned:
            state.align = self._phase_mu
        lowering = PieceLowering(self.system, piece, state)
        name = self._name(name or piece.path[-1])
        if len(piece.timeline) > MOST_EVENTS:
            self.system.problems.add(
                piece.path,
                f"a block of {len(piece.timeline)} pulses and gates; the core's memory holds {MOST_EVENTS}",
                "put a Report into its loop, so that the core keeps it as a loop",
            )
            self.blocks[name] = Block(name, " / ".join(piece.path), 0, [], [])
            return Play(name, piece.free, aligned)
        self.blocks[name] = lowering.lower(name, then, attempt=attempt, then=words)
        return Play(name, piece.free, aligned)

    def _name(self, wanted: str) -> str:
        base = (
            "".join(c if c.isascii() and c.isalnum() else "_" for c in wanted).strip("_").lower() or "block"
        )
        base = f"block_{base}" if base[0].isdigit() else base
        name, number = base, 1
        while name in self.blocks:
            number += 1
            name = f"{base}_{number}"
        return name

    def _row(self, row: Row, state: State, then: set[str]) -> Node:
        following: list[set[str]] = []
        for part in reversed(row.parts):
            following.append(then)
            then = begins_with(part, then)
        following.reverse()
        nodes = [self.node(part, state, after) for part, after in zip(row.parts, following, strict=True)]
        for one, other in zip(row.parts, row.parts[1:], strict=False):
            self._read_too_early(one, other)
        return Chain(nodes)

    def _read_too_early(self, part: Shape, reader: Shape) -> None:
        """A register that decides what comes next has to be complete by then."""
        if isinstance(part, Piece):
            on = reader.on if isinstance(reader, Choice) else ""
            if isinstance(reader, Act) and isinstance(reader.item, Feedback):
                on = reader.item.register
            if on:
                self._closed(part, {on.removesuffix(".bright").removesuffix(".first_ps")})

    def _closed(self, piece: Piece, registers: set[str]) -> None:
        block = next((b for b in reversed(self.blocks.values()) if b.place == " / ".join(piece.path)), None)
        for window in () if block is None else block.windows:
            late = window.close_mu - (0 if block is None else block.length_mu)
            if window.register in registers and late > 0:
                self.system.problems.add(
                    tuple(window.place.split(" / ")),
                    f"register {window.register!r} decides what follows, but is read {late} mu before its gate closes",
                    "let the block go on until then: the line's delay shifts its gate",
                    line=window.line,
                    time_ps=(window.close_mu - window.since_mu) * self.system.ref_period_ps,
                )

    def _loop(self, loop: Loop, state: State, then: set[str]) -> Node:
        follows = begins_with(loop.body, then) & then if loop.count > 1 else then
        if loop.count > 1:
            self._settle(state, lambda walk, inner: walk.node(loop.body, inner, follows))
        body = self.node(loop.body, state, follows)
        self._loops += 1
        return Turns(f"loop_{self._loops}", " / ".join(loop.path), loop.count, body)

    def _settle(self, state: State, turn: Callable[[Walk, State], object]) -> None:
        """Bring the state to what holds before every turn of a loop."""
        for _ in range(3):
            inner = state.copy()
            turn(Walk(self.system.quiet(), self._phase_mu), inner)
            head = joined(state, inner)
            if head == state:
                return
            _copy(head, state)

    def _choice(self, choice: Choice, state: State, then: set[str]) -> Node:
        cases: dict[str, Node] = {}
        ends: list[State] = []
        for name, case in choice.cases.items():
            inner = state.copy()
            cases[name] = self.node(case, inner, then)
            ends.append(inner)
        if ends:
            end = ends[0]
            for other in ends[1:]:
                end = joined(end, other)
            _copy(end, state)
        return Cases(choice.on, cases)

    def _tries(self, tries: Tries, state: State, then: set[str]) -> Node:
        item = tries.item
        if item.limit > MOST_ATTEMPTS:
            self.system.problems.add(
                tries.path, f"a limit of {item.limit} attempts", f"the core counts to {MOST_ATTEMPTS}"
            )
        nodes: list[Node] = []
        if tries.between is None:
            words = self._attempt_words(tries, state)
            before = PieceLowering(self.system, _nothing(tries.path), state)
            block = before.lower(self._name("prepare"), set(), then=words)
            if block.events:
                self.blocks[block.name] = block
                nodes.append(Play(block.name))
        self._settle(state, lambda walk, inner: walk.turn(tries, inner, then))
        nodes.append(self.turn(tries, state, then))
        names = [name for name in dict.fromkeys(item.outcomes.values()) if name != "again"]
        values = ["again", *names, "timeout"]
        if self.registers.setdefault(item.into, values) != values:
            self.consistent = False
            self.system.problems.add(
                tries.path,
                f"two attempt loops put different outcomes into register {item.into!r}",
                "give one of them a register of its own: into=...",
            )
        return nodes[0] if len(nodes) == 1 else Chain(nodes)

    def turn(self, tries: Tries, state: State, then: set[str]) -> Attempts:
        """An attempt loop in a state that holds before every turn of it."""
        item, body = tries.item, tries.body
        between: Play | None = None
        follows = body.begins_with() if item.every is None or item.every.attempts > 1 else None
        if tries.between is not None:
            after = state.copy()
            for line, left in tries.between.leaves.items():
                after.tones[line] = filled(left, after.tones.get(line, NOMINAL))
            words = self._attempt_words(tries, after)
            between = self._play(tries.between, state, body.begins_with(), words=words)
            starts = tries.between.begins_with()
            follows = starts if follows is None else follows & starts
            self._closed(tries.between, {register for track in tries.tracks for register in _read_by(track)})
        # the attempt's own tones are the same every time: what one leaves is what the next begins with
        play = self._play(body, state, (follows or set()) & then, "attempt", attempt=True)
        self._closed(body, set(item.gates))
        return Attempts(
            f"{item.into}",
            " / ".join(tries.path),
            between,
            [self._follow(track, tries.path) for track in tries.tracks],
            play.block,
            1 if item.every is None else item.every.attempts,
            item.limit,
            list(item.gates),
            dict(item.outcomes),
            item.into,
        )

    def _attempt_words(self, tries: Tries, state: State) -> dict[str, tuple[Words, int]]:
        """What each DDS has to hold when an attempt begins, and when its first pulse comes."""
        lowering = PieceLowering(self.system.quiet(), tries.body, state.copy())
        found: dict[str, tuple[Words, int]] = {}
        for line, spans in lowering.spans().items():
            bound = self.system.bound[line]
            if bound.dds is None or bound.limits.kind != "tone" or not spans:
                continue
            words = lowering.words(bound, bound.dds, spans[0])
            if words is not None:
                found[line] = (words, spans[0].start_mu)
        return found

    def _follow(self, track: Track, path: Path) -> Follow:
        made = Follow(track.into, list(track.gates), track.contrast, track.diffusion_rad2_per_s, track.valid)
        if self._follows.setdefault(track.into, made) != made:
            self.system.problems.add(
                path,
                f"{track.into!r} is tracked in two different ways",
                "give the trackers registers of their own",
            )
        return made

    def _act(self, act: Act, state: State) -> Node:
        match act.item:
            case Track():
                return self._follow(act.item, act.path)
            case Feedback():
                return self._feed(act.item, act.path, state)
            case Draw():
                if act.item.source != "core":
                    self.system.problems.add(
                        act.path,
                        f"a setting drawn from {act.item.source!r}",
                        'the ARTIQ core draws with its own generator only: source="core"',
                    )
                return Pick(act.item.into, _bounds(act.item.weights))
            case Report():
                if act.item.columns not in self._reports:
                    self._reports.append(act.item.columns)
                return Keep(self._reports.index(act.item.columns), dict(act.item.columns))
            case HostPoint():
                state.align = self._phase_mu  # the kernel begins a new timeline there
                return Stop(act.item.name)
            case LineTrigger():
                return self._await(act.item, act.path, state)

    def _await(self, item: LineTrigger, path: Path, state: State) -> Node:
        ref_ps, coarse = self.system.ref_period_ps, self.system.coarse_mu
        bound = self.system.bound.get(item.line)
        state.align = self._phase_mu  # the kernel begins a new timeline at the edge
        if bound is None or bound.input is None:
            return Chain([])
        if item.reaction < FASTEST_TRIGGER_PS:
            self.system.problems.add(
                path,
                f"{format_time(item.reaction)} after the edge, but ARTIQ has to close the input and to read it first",
                f"give it reaction={FASTEST_TRIGGER_PS} or more",
                line=item.line,
            )
        close = item.reaction // ref_ps // 2 // coarse * coarse
        self._awaits += 1
        return Await(
            f"await_{self._awaits}",
            item.line,
            " / ".join(path),
            bound.input.name,
            bound.input.channel,
            close,
            item.reaction // ref_ps - close,
            item.limit // ref_ps,
        )

    def _feed(self, item: Feedback, path: Path, state: State) -> Node:
        variable = "pow_" + item.line.replace(".", "_")
        bound = self.system.bound.get(item.line)
        if bound is None or bound.dds is None:
            self.system.problems.add(
                path, "feedback to a line without a DDS", "map it to a DDS channel", line=item.line
            )
            return Chain([])
        frequency, _, amplitude = state.tones.get(item.line, NOMINAL)
        state.tones[item.line] = (frequency, variable, amplitude)
        words = state.words.get(item.line)
        if words is not None and words[1] == variable:
            state.words[item.line] = None
        return Feed(variable, item.register, item.scale, item.offset, bound.dds.turn)


def _read_by(track: Track) -> list[str]:
    lock = [track.valid.lock] if track.valid is not None and track.valid.lock else []
    return [register for one, other, _ in track.gates for register in (one, other)] + lock


def _copy(source: State, target: State) -> None:
    target.align, target.tones, target.words = source.align, source.tones, source.words
    target.off, target.bus = source.off, source.bus


def _nothing(path: Path) -> Piece:
    timeline, leaves = flatten(Series(()))
    return Piece((*path, "prepare"), timeline, leaves)


def _bounds(weights: tuple[float, ...]) -> list[int]:
    """Bounds that share the numbers drawn out by weight."""
    total = math.fsum(weights)
    below: list[int] = []
    for k in range(len(weights)):
        below.append(round(math.fsum(weights[: k + 1]) / total * PICK_RANGE))
    below[-1] = PICK_RANGE
    return below
