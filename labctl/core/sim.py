"""The simulated core: plays a lowered schedule against the world, skipping uneventful attempts exactly.

An attempt loop is not played attempt by attempt: the world gives the odds of one attempt, the number of attempts until
something clicks is drawn from the geometric distribution they define, and only the reference slots just before that
attempt (which the phase tracker needs) and the attempt itself are played. The odds are asked anew every slice of
laboratory time, so that a laser that unlocks is noticed as soon as its light would have been.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np

from labctl.core.phase_filter import PhaseFilter
from labctl.core.program import AttemptLoop, Chain, Choice, Loop, Program, Step, Straight, ToneState
from labctl.errors import CoreError
from labctl.schedule.items import Draw, Feedback, HostPoint, Report, Track
from labctl.sim.played import Clicks, Record, Segment, World

TRACKED_CYCLES = 64
"""Reference cycles played before a herald: many times the memory of a phase tracker (about 4 to 11 cycles)."""
PS_PER_S = 1e12
MICROTURN_RAD = 2 * math.pi / 1e6

Value = float | int | str


class Stopped(Exception):  # noqa: N818  (not an error: somebody asked for it)
    """The run was told to stop."""


@dataclass
class Control:
    """How another thread pauses, resumes or stops a core that is playing."""

    paused: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """End after the attempt or shot in progress."""
        self.stopping.set()
        self.go_on.set()

    def pause(self) -> None:
        """Wait, after the attempt in progress, until ``resume``."""
        self.go_on.clear()
        self.paused.set()

    def resume(self) -> None:
        """Go on."""
        self.paused.clear()
        self.go_on.set()


@dataclass(frozen=True)
class Progress:
    """How far a run has come. Times in ps of laboratory time since the core began it; pauses do not count."""

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

    def run(
        self,
        program: Program,
        rounds: int,
        emit: Callable[[Record], None],
        control: Control | None = None,
        progress: Callable[[Progress], None] | None = None,
        first_record: int = 0,
    ) -> Progress:
        """Play the program ``rounds`` times, calling ``emit`` with each record as it is made.

        first_record:  number of the first record, for a run that is resumed
        """
        self._control = control or Control()
        self._emit = emit
        self._progress = progress
        self._run = run = _Run(records=first_record)
        run.origin_ps = run.time_ps = self._world.now_ps()
        done = 0
        try:
            while done < rounds:
                self._heed()
                self._play(program.root)
                done += 1
        except Stopped:
            return self._report_progress(done)
        return self._report_progress(done)

    # one step after another
    def _play(self, step: Step) -> None:
        match step:
            case Chain():
                for part in step.steps:
                    self._play(part)
            case Straight():
                self._play_straight(step)
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
                weights = np.asarray(step.weights, float)
                self._run.registers[step.into] = int(
                    self._rng.choice(len(weights), p=weights / weights.sum())
                )
            case Track():
                self._track_registers(step)
            case Report():
                self._report(step)
            case HostPoint():
                self._control.pause()
                self._heed()

    def _play_straight(self, step: Straight) -> None:
        run = self._run
        with self._lock:
            clicks = self._world.play(step.segment(run.tones), run.time_ps)
        self._store(clicks, step)
        step.after(run.tones)
        run.time_ps += step.duration_ps
        self._world.wait_until_ps(run.time_ps)

    def _case(self, choice: Choice) -> Step:
        value = self._run.registers.get(choice.on)
        case = choice.cases.get(str(value))
        if case is None:
            raise CoreError(
                f"branch on {choice.on}: no case for {value!r}; there are {', '.join(choice.cases)}"
            )
        return case

    def _feed_back(self, item: Feedback) -> None:
        run = self._run
        frequency_hz, _, amplitude = run.tones.get(item.line, (0.0, 0.0, 1.0))
        microturns = (item.scale * int(run.registers[item.register]) + item.offset) % 1_000_000
        run.tones[item.line] = (frequency_hz, microturns / 1e6, amplitude)

    def _report(self, item: Report) -> None:
        run = self._run
        values = {column: run.registers[register] for column, register in item.columns.items()}
        record = Record(run.records, run.time_ps - run.origin_ps - run.paused_ps, values)
        run.records += 1
        self._emit(record)

    def _store(self, clicks: dict[str, Clicks], step: Straight) -> None:
        for register, seen in clicks.items():
            self._run.registers[register] = seen.count
            self._run.registers[f"{register}.first_ps"] = seen.first_ps
            threshold = step.thresholds.get(register)
            if threshold is not None:
                self._run.registers[f"{register}.bright"] = int(seen.count >= threshold)

    # attempt loops
    def _play_attempts(self, loop: AttemptLoop) -> None:
        """Until an outcome ends the loop; see the module's docstring."""
        run = self._run
        body = loop.body.segment(run.tones)
        between = None if loop.between is None else loop.between.segment(run.tones)
        block_ps = 0 if between is None else between.duration_ps
        period_ps = block_ps + loop.every * body.duration_ps
        begin = run.time_ps
        accounted = 0  # whole periods the world has been told of
        attempt = 0  # attempts that have passed
        limit = loop.item.limit

        def start_of(index: int) -> int:
            return (
                begin + (index // loop.every) * period_ps + block_ps + (index % loop.every) * body.duration_ps
            )

        before = 0  # attempts before a pause
        while before + attempt < limit:
            if self._control.paused.is_set() or self._control.stopping.is_set():
                run.time_ps = start_of(attempt) - block_ps
                self._heed()
                begin, before, attempt, accounted = run.time_ps, before + attempt, 0, 0
            start = start_of(attempt)
            with self._lock:
                odds = self._world.odds(body, start)
            slots = max(1, self._attempts_between(start, odds.until_ps, period_ps, loop.every))
            chance = math.fsum(odds.patterns.values())
            waited = int(self._rng.geometric(chance)) if chance > 0 else slots + 1
            passed = min(slots, limit - before - attempt)
            if waited > passed:
                attempt += passed
                run.attempts += passed
                accounted = self._account(
                    between, body, loop, begin, period_ps, accounted, attempt // loop.every - TRACKED_CYCLES
                )
                self._world.wait_until_ps(start_of(attempt) - block_ps)
                self._report_progress(run.records)
                continue
            hit = attempt + waited - 1
            run.attempts += waited
            pattern = self._pattern(odds.patterns, chance)
            block = hit // loop.every
            accounted = self._account(
                between, body, loop, begin, period_ps, accounted, block - TRACKED_CYCLES + 1
            )
            if between is not None and loop.between is not None:
                self._track(loop, between, [begin + j * period_ps for j in range(accounted, block + 1)])
            accounted = block + 1
            at = start_of(hit)
            with self._lock:
                clicks = self._world.play_given(body, pattern, at)
            attempt = hit + 1
            outcome = loop.item.outcomes[pattern]
            if outcome != "again":
                run.time_ps = at + body.duration_ps
                self._store(clicks, loop.body)
                loop.body.after(run.tones)
                run.registers[loop.item.into] = outcome
                run.registers[f"{loop.item.into}.attempts"] = before + attempt
                self._world.wait_until_ps(run.time_ps)
                self._report_progress(run.records)
                return
        run.time_ps = start_of(attempt)
        run.registers[loop.item.into] = "timeout"
        run.registers[f"{loop.item.into}.attempts"] = before + attempt

    @staticmethod
    def _attempts_between(start: int, until: int, period_ps: int, every: int) -> int:
        return max(0, math.ceil((until - start) / period_ps * every))

    def _account(
        self,
        between: Segment | None,
        body: Segment,
        loop: AttemptLoop,
        begin: int,
        period_ps: int,
        done: int,
        upto: int,
    ) -> int:
        """Tell the world of whole periods ``done`` to ``upto`` that passed without an event; the new ``done``."""
        count = upto - done
        if count <= 0:
            return done
        played = (
            [(body, count * loop.every)]
            if between is None
            else [(between, count), (body, count * loop.every)]
        )
        with self._lock:
            self._world.skip(played, begin + done * period_ps, count * period_ps)
        return upto

    def _track(self, loop: AttemptLoop, between: Segment, starts: list[int]) -> None:
        """Play the reference slots of the interleaved block at ``starts`` and update the phase trackers from their clicks."""
        with self._lock:
            counts = self._world.play_many(between, starts)
        times_s = (np.asarray(starts, np.int64) + between.duration_ps) / PS_PER_S
        for track in loop.tracks:
            slots = np.stack(
                [
                    np.stack([np.asarray(counts[r0], np.int64), np.asarray(counts[r1], np.int64)], axis=1)
                    for r0, r1, _ in track.gates
                ],
                axis=1,
            )
            self._update(track, slots, times_s)
        for register, per_start in counts.items():
            self._run.registers[register] = int(per_start[-1])

    def _track_registers(self, track: Track) -> None:
        """A Track outside an attempt loop: from the registers as they are now."""
        registers = self._run.registers
        counts = np.array([[[int(registers[r0]), int(registers[r1])] for r0, r1, _ in track.gates]], np.int64)
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
        registers[track.into] = round(phase / MICROTURN_RAD) % 1_000_000
        registers[f"{track.into}.sigma_rad"] = round(sigma, 6)
        registers[f"{track.into}.clicks"] = int(counts[-1].sum())

    def _pattern(self, patterns: Mapping[str, float], chance: float) -> str:
        table = list(patterns.items())
        pick = self._rng.random() * chance
        for pattern, probability in table:
            pick -= probability
            if pick < 0:
                return pattern
        return table[-1][0]

    # control
    def _heed(self) -> None:
        """Stop or pause if asked to; after a pause the run's time is the laboratory's again."""
        if self._control.paused.is_set() and not self._control.stopping.is_set():
            before = self._run.time_ps
            self._control.go_on.wait()
            self._run.time_ps = max(before, self._world.now_ps())
            self._run.paused_ps += self._run.time_ps - before
        if self._control.stopping.is_set():
            raise Stopped

    def _report_progress(self, rounds: int) -> Progress:
        run = self._run
        now = Progress(
            max(run.time_ps, self._world.now_ps()) - run.origin_ps - run.paused_ps, run.attempts, rounds
        )
        if self._progress is not None:
            self._progress(now)
        return now
