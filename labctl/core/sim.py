"""The simulated core: plays a lowered schedule against the world, skipping uneventful attempts exactly.

An attempt loop is not played attempt by attempt: the world gives the odds of one attempt, the number of attempts until
something clicks is drawn from the geometric distribution they define, and only the reference slots just before that
attempt (which the phase tracker needs) and the attempt itself are played. The odds are asked anew every slice of
laboratory time, so that a laser that unlocks is noticed as soon as its light would have been.
"""

from __future__ import annotations

import bisect
import itertools
import math
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field

import numpy as np

from labctl.core.course import Course
from labctl.core.heralds import NO_SUMS, HeraldRecorder, HeraldTags, Sums, block_sums
from labctl.core.passing import split
from labctl.core.phase_filter import PhaseFilter
from labctl.core.program import AttemptLoop, Chain, Choice, Loop, Program, Step, Straight
from labctl.core.qrng import SettingSource
from labctl.errors import CoreError
from labctl.schedule.items import Draw, Feedback, HostPoint, LineTrigger, Report, Track
from labctl.schedule.timeline import NOMINAL, ToneState
from labctl.sim.played import Clicks, Odds, Record, Segment, TaggingWorld, World
from labctl.units import format_time

TRACKED_CYCLES = 64
"""Reference cycles played before a herald: many times the memory of a phase tracker (about 4 to 11 cycles)."""
PS_PER_S = 1e12
TURN = 1_000_000
"""Microturns in a turn."""
AGAIN = "again"
"""Outcome of an attempt that does not end its loop."""

Value = float | int | str


class Stopped(Exception):  # noqa: N818  (not an error: somebody asked for it)
    """The run was told to stop."""


class Control:
    """How another thread pauses, resumes or stops a core that is playing."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._playing = threading.Event()
        self._playing.set()

    def stop(self) -> None:
        """End after the attempt or shot in progress."""
        self.stopping.set()
        self._playing.set()

    def pause(self) -> None:
        """Wait, after the attempt in progress, until ``resume``."""
        self._playing.clear()

    def resume(self) -> None:
        """Go on."""
        self._playing.set()

    @property
    def asked(self) -> bool:
        """Whether the core has to stop or to pause."""
        return self.stopping.is_set() or not self._playing.is_set()

    def wait(self) -> bool:
        """Return once the core may go on (True) or has to stop (False)."""
        if not self.stopping.is_set():
            self._playing.wait()
        return not self.stopping.is_set()


@dataclass(frozen=True)
class Progress:
    """How far a run has come: rounds finished, attempts, ps of laboratory time since it began; pauses do not count."""

    time_ps: int
    attempts: int
    rounds: int


@dataclass
class _Run:
    """What belongs to one run: registers, tones, trackers, counts."""

    registers: dict[str, Value] = field(default_factory=dict[str, "Value"])
    tones: dict[str, ToneState] = field(default_factory=dict[str, "ToneState"])
    filters: dict[str, PhaseFilter] = field(default_factory=dict[str, PhaseFilter])
    time_ps: int = 0
    origin_ps: int = 0
    paused_ps: int = 0
    attempts: int = 0
    rounds: int = 0
    records: int = 0


class SimCore:
    """Plays programs against a world.

    lock:  the world's lock, held while the world is asked something
    rng:   for draws of settings and of the attempts that pass
    """

    name = "sim"

    def __init__(self, world: World, lock: AbstractContextManager[object], rng: np.random.Generator) -> None:
        self._world = world
        self._lock = lock
        self._rng = rng
        (bits,) = rng.spawn(1)
        self.settings = SettingSource(lambda count: bits.integers(0, 2, count, np.uint8))
        """Where draws with source "qrng" come from."""
        self.on_tags: Callable[[HeraldTags], None] | None = None
        """Gets the time tags around the heralds of each record, before the record, if the world has a time tagger."""

    def run(
        self,
        program: Program,
        rounds: int,
        emit: Callable[[Record], None],
        control: Control | None = None,
        progress: Callable[[Progress], None] | None = None,
        first_record: int = 0,
        host_point: Callable[[str], None] | None = None,
    ) -> Progress:
        """Play the program ``rounds`` times, calling ``emit`` with each record as it is made.

        first_record:  number of the first record, for a run that is resumed
        host_point:    told the name of a host point once the core waits there for ``Control.resume``
        """
        self._control = control or Control()
        self._emit = emit
        self._progress = progress
        self._host_point = host_point
        self._heralds = (
            HeraldRecorder(self._world, self._lock, self.on_tags)
            if self.on_tags is not None and isinstance(self._world, TaggingWorld)
            else None
        )
        self._run = run = _Run(records=first_record)
        self._sorted: (
            tuple[AttemptLoop, Mapping[str, float], Mapping[str, float], Mapping[str, float]] | None
        ) = None
        """Loop, odds, and what ``_events`` made of them, last."""
        run.origin_ps = run.time_ps = self._world.now_ps()
        with suppress(Stopped):
            while run.rounds < rounds:
                self._heed()
                records = run.records
                self._play(program.root)
                run.rounds += 1 if program.schedule.rounds != "record" else run.records - records
        return self._report_progress()

    # one step after another
    def _play(self, step: Step) -> None:
        match step:
            case Straight():
                self._play_straight(step)
            case Chain():
                for part in step.steps:
                    self._play(part)
            case Choice():
                self._play(self._case(step))
            case Loop():
                for _ in range(step.count):
                    self._heed()
                    self._play(step.body)
            case AttemptLoop():
                self._play_attempts(step)
            case Feedback():
                self._feed_back(step)
            case Draw():
                self._draw(step)
            case Track():
                self._track_registers(step)
            case Report():
                self._report(step)
            case HostPoint():
                self._control.pause()
                if self._host_point is not None:
                    self._host_point(step.name)
                self._heed()
            case LineTrigger():
                self._wait_for_edge(step)

    def _play_straight(self, step: Straight) -> None:
        run = self._run
        if len(step.timeline) or step.duration_ps:
            with self._lock:
                clicks = self._world.play(step.segment(run.tones), run.time_ps)
            self._store(clicks, step)
        step.after(run.tones)
        run.time_ps += step.duration_ps
        self._world.wait_until_ps(run.time_ps)

    def _wait_for_edge(self, item: LineTrigger) -> None:
        """The atoms go on by themselves meanwhile."""
        run = self._run
        with self._lock:
            edge = self._world.next_edge_ps(item.line, run.time_ps)
            if edge is None or edge - run.time_ps > item.limit:
                raise CoreError(
                    f"no rising edge on {item.line} within {format_time(item.limit)}; check what is connected to it"
                )
            waited = edge + item.reaction - run.time_ps
            self._world.play(Segment((), (), waited), run.time_ps)
        run.time_ps += waited
        self._world.wait_until_ps(run.time_ps)

    def _case(self, choice: Choice) -> Step:
        value = self._register(choice.on)
        case = choice.cases.get(str(value))
        if case is None:
            raise CoreError(
                f"branch on {choice.on}: no case for {value!r}; there are {', '.join(choice.cases)}"
            )
        return case

    def _draw(self, item: Draw) -> None:
        registers = self._run.registers
        if item.source == "qrng":
            registers[item.into] = self.settings.draw(item.weights)
            registers[f"{item.into}.block"] = self.settings.block
            return
        steps = list(itertools.accumulate(item.weights))
        place = bisect.bisect_right(steps, self._rng.random() * steps[-1])
        registers[item.into] = min(place, len(steps) - 1)

    def _feed_back(self, item: Feedback) -> None:
        run = self._run
        frequency_hz, _, amplitude = run.tones.get(item.line, NOMINAL)
        microturns = (item.scale * int(self._register(item.register)) + item.offset) % TURN
        run.tones[item.line] = (frequency_hz, microturns / TURN, amplitude)

    def _report(self, item: Report) -> None:
        run = self._run
        values = {column: self._register(register) for column, register in item.columns.items()}
        record = Record(run.records, run.time_ps - run.origin_ps - run.paused_ps, values)
        run.records += 1
        if self._heralds is not None:
            self._heralds.reported(record.number, run.time_ps)
        self._emit(record)

    def _register(self, name: str) -> Value:
        try:
            return self._run.registers[name]
        except KeyError:
            if name.endswith((".total", ".total_ps")):
                return 0
            raise CoreError(
                f"register {name!r} is read before anything was put into it; `labctl check` says where"
            ) from None

    def _store(self, clicks: Mapping[str, Clicks], step: Straight) -> None:
        for register, seen in clicks.items():
            self._run.registers[register] = seen.count
            self._run.registers[f"{register}.first_ps"] = seen.first_ps
            threshold = step.thresholds.get(register)
            if threshold is not None:
                self._run.registers[f"{register}.bright"] = int(seen.count >= threshold)

    # attempt loops
    def _play_attempts(self, loop: AttemptLoop) -> None:
        """Until an outcome ends the loop; see the module's docstring."""
        run, item = self._run, loop.item
        began_ps, paused_ps = run.time_ps, run.paused_ps
        between, body = loop.segments(run.tones)
        course = Course(between, body, loop.every, run.time_ps)
        look_back = 0 if between is None else TRACKED_CYCLES if loop.tracks else 1
        before = 0  # attempts until the last pause
        done = 0  # attempts since
        outcome = AGAIN
        while outcome == AGAIN and before + done < item.limit:
            if self._control.asked:
                self._tell(course, done)
                self._heed()
                before, done, course = before + done, 0, Course(between, body, loop.every, run.time_ps)
            with self._lock:
                odds = self._world.odds(body, course.start_ps(done))
            last = min(item.limit - before, max(done + 1, course.first_from(odds.until_ps)))
            events, course.passing = self._events(loop, body, odds)
            chance = min(1.0, math.fsum(events.values()))
            hit = done - 1 + (int(self._rng.geometric(chance)) if chance > 0 else last + 1)
            if hit >= last:  # nothing happens as long as these odds hold
                run.attempts += last - done
                done = last
                if before + done < item.limit:  # else the rest is told with it
                    self._tell(course, (done // loop.every - look_back) * loop.every)
            else:
                run.attempts += hit + 1 - done
                done = hit + 1
                outcome = self._event(loop, course, self._pattern(events, chance), hit, look_back)
            run.time_ps = course.passed_ps(done)
            self._world.wait_until_ps(run.time_ps)
            self._report_progress()
        self._tell(course, done)
        run.registers[item.into] = "timeout" if outcome == AGAIN else outcome
        run.registers[f"{item.into}.attempts"] = before + done
        spent_ps = run.time_ps - began_ps - (run.paused_ps - paused_ps)
        run.registers[f"{item.into}.total"] = int(self._register(f"{item.into}.total")) + before + done
        run.registers[f"{item.into}.total_ps"] = int(self._register(f"{item.into}.total_ps")) + spent_ps

    def _event(self, loop: AttemptLoop, course: Course, pattern: str, hit: int, look_back: int) -> str:
        """Play the attempt in which something clicked, and the blocks before it that trackers need; its outcome."""
        block = hit // loop.every
        self._tell(course, min(hit, (block - look_back + 1) * loop.every))
        sums = self._look_back(loop, course, range(course.blocks(course.told), block + 1))
        skipped = hit - course.told
        with self._lock:
            if skipped:
                length = skipped * course.body.duration_ps
                self._world.skip([(course.body, skipped)], course.start_ps(course.told), length)
                self._pass(course, skipped)
            clicks = self._world.play_given(course.body, pattern, course.start_ps(hit))
        course.told = hit + 1
        outcome = loop.outcome(pattern)
        if outcome != AGAIN:
            self._store(clicks, loop.body)
        if self._heralds is not None:
            if outcome == AGAIN:
                self._heralds.went_on(course, hit)
            else:
                self._heralds.heralded(loop, course, hit, clicks, sums)
        return outcome

    def _tell(self, course: Course, attempts: int) -> None:
        """Tell the world of what passed without an event until so many attempts were over."""
        if attempts > course.told:
            with self._lock:
                self._world.skip(*course.untold(attempts))
                self._pass(course, attempts - course.told)
            course.told = attempts

    def _events(
        self, loop: AttemptLoop, body: Segment, odds: Odds
    ) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Patterns that are played and patterns that pass, if they may; remembered while the odds hold."""
        known = self._sorted
        if known is not None and known[0] is loop and known[1] is odds.patterns:
            return known[2], known[3]
        passing: Mapping[str, float] = {}
        ends = odds.patterns
        if odds.passing and not (self._heralds is not None and self._heralds.wanted(body)):
            ends, passing = split(odds, loop.outcome, AGAIN)
        self._sorted = loop, odds.patterns, ends, passing
        return ends, passing

    def _pass(self, course: Course, attempts: int) -> None:
        """Tell the world what so many skipped attempts showed."""
        if course.passing:
            chances = np.array([*course.passing.values(), 0.0])
            chances[-1] = max(0.0, 1 - chances.sum())
            drawn = self._rng.multinomial(attempts, chances / chances.sum()).tolist()
            self._world.clicked(course.body, dict(zip(course.passing, drawn, strict=False)))

    def _look_back(self, loop: AttemptLoop, course: Course, blocks: range) -> Sums:
        """Play these blocks and update the phase trackers from their clicks; the clicks of each gate of each block."""
        if not blocks or course.between is None or loop.between is None:
            return NO_SUMS
        first, period = course.block_start_ps(blocks[0]), course.period_ps
        starts = [first + period * place for place in range(len(blocks))]
        with self._lock:
            counts = self._world.play_many(course.between, starts)
        times_s = (np.asarray(starts, np.int64) + course.block_ps) / PS_PER_S
        self._store({register: Clicks(int(seen[-1])) for register, seen in counts.items()}, loop.between)
        for track in loop.tracks:
            gates = np.array([(counts[r0], counts[r1]) for r0, r1, _ in track.gates], np.int64)
            self._update(track, np.ascontiguousarray(gates.transpose(2, 0, 1)), times_s)
        return NO_SUMS if self._heralds is None else block_sums(loop.between.gates, counts)

    def _track_registers(self, track: Track) -> None:
        """A Track outside an attempt loop: from the registers as they are now."""
        counts = np.array(
            [[[int(self._register(r0)), int(self._register(r1))] for r0, r1, _ in track.gates]], np.int64
        )
        self._update(track, counts, np.array([self._run.time_ps / PS_PER_S]))

    def _update(
        self,
        track: Track,
        counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
        times_s: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    ) -> None:
        tracker = self._run.filters.get(track.into)
        if tracker is None:
            biases = tuple(bias * 2 * math.pi for _, _, bias in track.gates)
            tracker = self._run.filters[track.into] = PhaseFilter(
                track.contrast, track.diffusion_rad2_per_s, biases
            )
        tracker.follow(counts, times_s)
        phase, sigma = tracker.estimate()
        registers = self._run.registers
        registers[track.into] = round(phase / (2 * math.pi) * TURN) % TURN
        registers[f"{track.into}.sigma_rad"] = round(sigma, 6)
        registers[f"{track.into}.clicks"] = clicks = int(counts[-1].sum())
        rule = track.valid
        if rule is not None:
            held = int(self._register(rule.lock)) if rule.lock else 0
            registers[f"{track.into}.valid"] = int(tracker.valid(rule, clicks, held))

    def _pattern(self, events: Mapping[str, float], chance: float) -> str:
        pick = self._rng.random() * chance
        for pattern, probability in events.items():
            pick -= probability
            if pick < 0:
                return pattern
        return max(events, key=events.__getitem__)  # what rounding leaves

    # control
    def _heed(self) -> None:
        """Stop or pause if asked to; after a pause the run's time is the laboratory's again."""
        if not self._control.asked:
            return
        before = self._run.time_ps
        if not self._control.wait():
            raise Stopped
        self._run.time_ps = max(before, self._world.now_ps())
        self._run.paused_ps += self._run.time_ps - before

    def _report_progress(self) -> Progress:
        run = self._run
        now = Progress(run.time_ps - run.origin_ps - run.paused_ps, run.attempts, run.rounds)
        if self._progress is not None:
            self._progress(now)
        return now
