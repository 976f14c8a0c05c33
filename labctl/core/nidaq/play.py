"""The NI core: plays a schedule buffer by buffer, and does on the host what comes between."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from labctl.clock import Clock
from labctl.config import NidaqConfig
from labctl.core.nidaq import rules
from labctl.core.nidaq.binding import X_SERIES, Bound, Capabilities, bind
from labctl.core.nidaq.buffer import Buffer, lower
from labctl.core.nidaq.card import Card
from labctl.core.phase_filter import PhaseFilter
from labctl.core.program import AttemptLoop, Chain, Choice, Loop, Program, Step, Straight
from labctl.core.sim import TURN, Control, Progress, Stopped, Value
from labctl.errors import CoreError, ScheduleError
from labctl.schedule.items import Draw, Feedback, HostPoint, LineTrigger, Report, Schedule, Track
from labctl.schedule.lines import Line
from labctl.schedule.problem import Problem, Problems
from labctl.schedule.timeline import NOMINAL, ToneState
from labctl.sim.played import OpenGate, PlayedPulse, Record


@dataclass(frozen=True)
class _Drawn:
    into: str
    value: int


@dataclass(frozen=True)
class _Measured:
    """A gate of the buffer; ``number`` in the order they were collected."""

    register: str
    number: int
    threshold: int | None


@dataclass(frozen=True)
class _Noted:
    """A Report or a Track, and when it is, ps from the beginning of the buffer."""

    item: Report | Track
    time_ps: int


@dataclass
class _Collected:
    """A buffer in the making, and what has to be done with what it measures, in order."""

    length_ps: int = 0
    pulses: list[PlayedPulse] = field(default_factory=list[PlayedPulse])
    gates: list[OpenGate] = field(default_factory=list[OpenGate])
    after: list[_Drawn | _Measured | _Noted] = field(default_factory=list["_Drawn | _Measured | _Noted"])


@dataclass
class _Run:
    """What belongs to one run. ``known`` are the registers the host knows while it makes a buffer."""

    bound: Mapping[str, Bound]
    origin_s: float
    known: dict[str, Value] = field(default_factory=dict[str, "Value"])
    registers: dict[str, Value] = field(default_factory=dict[str, "Value"])
    tones: dict[str, ToneState] = field(default_factory=dict[str, "ToneState"])
    filters: dict[str, PhaseFilter] = field(default_factory=dict[str, PhaseFilter])
    buffer: _Collected = field(default_factory=_Collected)
    rounds: int = 0
    records: int = 0


class NiCore:
    """Plays programs on a card.

    clock:  of the laboratory: records get its time
    rng:    for draws of settings
    """

    name = "nidaq"

    def __init__(
        self,
        card: Card,
        lines: Mapping[str, Line],
        config: NidaqConfig,
        clock: Clock,
        rng: np.random.Generator,
    ) -> None:
        self._card = card
        self._lines = lines
        self._config = config
        self._clock = clock
        self._rng = rng

    def capabilities(self) -> Capabilities:
        """What the card can do."""
        return X_SERIES

    def check(self, schedule: Schedule) -> list[Problem]:
        """Everything that keeps a schedule from being played."""
        return rules.check(schedule, self._lines, self._config)

    def lower(self, schedule: Schedule, choose: Mapping[str, str] | None = None) -> list[Buffer]:
        """The buffers of one pass, one for each stretch between host points; a run makes its own as it goes.

        choose:  register -> case taken where a branch reads it; without it, the first case
        """
        bound = bind(self._config, self._lines, rules.used(schedule.body), Problems())
        return [
            rules.first_pass(Schedule(schedule.name, piece), bound, self._config, choose)
            for piece in rules.stretches(schedule.body)
        ]

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
        """Play the program ``rounds`` times, calling ``emit`` with each record once its buffer has been read.

        first_record:  number of the first record, for a run that is resumed
        host_point:    told the name of a host point once the core waits there for ``Control.resume``

        However it ends, every line is low afterwards. CoreError for what the card says, or a schedule it cannot play.
        """
        problems = Problems()
        bound = bind(self._config, self._lines, rules.used(program.schedule.body), problems)
        if problems.all():
            raise CoreError("; ".join(str(problem) for problem in problems.all()))
        self._control = control or Control()
        self._emit = emit
        self._host_point = host_point
        self._run = run = _Run(bound, self._clock.now(), records=first_record)
        self._card.prepare(bound)
        try:
            with suppress(Stopped):
                while run.rounds < rounds:
                    self._heed()
                    self._step(program.root)
                    self._play()
                    run.rounds += 1
                    if progress is not None:
                        progress(self._progress())
        finally:
            self._card.finish(bound)
        end = self._progress()
        if progress is not None:
            progress(end)
        return end

    # collecting a buffer
    def _step(self, step: Step) -> None:
        run = self._run
        match step:
            case Chain():
                for part in step.steps:
                    self._step(part)
            case Straight():
                self._collect(step)
            case Loop():
                for _ in range(step.count):
                    self._step(step.body)
            case Choice():
                value = str(self._known(step.on))
                if value not in step.cases:
                    raise CoreError(f"branch on {step.on}: no case for {value!r}")
                self._step(step.cases[value])
            case Draw():
                weights = np.asarray(step.weights, float)
                value = int(self._rng.choice(len(weights), p=weights / weights.sum()))
                run.known[step.into] = value
                run.buffer.after.append(_Drawn(step.into, value))
            case Feedback():
                frequency_hz, _, amplitude = run.tones.get(step.line, NOMINAL)
                microturns = (step.scale * int(self._known(step.register)) + step.offset) % TURN
                run.tones[step.line] = (frequency_hz, microturns / TURN, amplitude)
            case Report() | Track():
                run.buffer.after.append(_Noted(step, run.buffer.length_ps))
                if isinstance(step, Track):
                    self._track_now(step)
            case HostPoint():
                self._play()
                self._control.pause()
                if self._host_point is not None:
                    self._host_point(step.name)
                self._heed()
            case AttemptLoop() | LineTrigger():
                raise CoreError(
                    f"the NI core cannot play {type(step).__name__}; `labctl run --core nidaq` says where"
                )

    def _collect(self, step: Straight) -> None:
        run = self._run
        segment = step.segment(run.tones)
        step.after(run.tones)
        at = run.buffer.length_ps
        for pulse in segment.pulses:
            run.buffer.pulses.append(
                PlayedPulse(
                    pulse.line,
                    at + pulse.start_ps,
                    pulse.duration_ps,
                    pulse.frequency_hz,
                    pulse.phase_turns,
                    pulse.amplitude,
                )
            )
        for gate in segment.gates:
            threshold = step.thresholds.get(gate.into)
            run.buffer.after.append(_Measured(gate.into, len(run.buffer.gates), threshold))
            run.buffer.gates.append(OpenGate(gate.line, at + gate.start_ps, gate.duration_ps, gate.into))
            for register in (gate.into, f"{gate.into}.bright"):
                run.known.pop(register, None)  # not known before the buffer has been read
        run.buffer.length_ps += segment.duration_ps

    def _known(self, register: str) -> Value:
        try:
            return self._run.known[register]
        except KeyError:
            raise CoreError(
                f"register {register!r} is measured in the same buffer that depends on it; put a HostPoint between"
            ) from None

    # playing it
    def _play(self) -> None:
        """Play what has been collected, then do in order what comes of it."""
        run = self._run
        buffer, run.buffer = run.buffer, _Collected()
        begin_ps, clicks = self._since_ps(), list[int]()
        if buffer.pulses or buffer.gates:
            try:
                made = lower(buffer.pulses, buffer.gates, buffer.length_ps, run.bound, self._config)
            except ScheduleError as error:
                raise CoreError(str(error)) from None
            clicks = made.counts(self._card.play(made, run.bound))
        elif buffer.length_ps:
            self._clock.sleep(buffer.length_ps / 1e12)
        for act in buffer.after:
            self._act(act, begin_ps, clicks)
        run.known = dict(run.registers)

    def _act(self, act: _Drawn | _Measured | _Noted, begin_ps: int, clicks: list[int]) -> None:
        run = self._run
        match act:
            case _Drawn():
                run.registers[act.into] = act.value
            case _Measured():
                count = run.registers[act.register] = clicks[act.number]
                if act.threshold is not None:
                    run.registers[f"{act.register}.bright"] = int(count >= act.threshold)
            case _Noted():
                if isinstance(act.item, Track):
                    self._follow(act.item, begin_ps + act.time_ps)
                    return
                values = {column: self._read(register) for column, register in act.item.columns.items()}
                self._emit(Record(run.records, begin_ps + act.time_ps, values))
                run.records += 1

    def _read(self, register: str) -> Value:
        try:
            return self._run.registers[register]
        except KeyError:
            raise CoreError(f"register {register!r} is read before anything was put into it") from None

    def _track_now(self, track: Track) -> None:
        """A tracker whose gates have been read already is followed at once, so that a Feedback after it can use it."""
        run = self._run
        made = [track.into, f"{track.into}.sigma_rad", f"{track.into}.clicks"]
        needs = [register for one, other, _ in track.gates for register in (one, other)]
        if track.valid is not None:
            made.append(f"{track.into}.valid")
            needs += [track.valid.lock] if track.valid.lock else []
        if all(register in run.known for register in needs):
            run.buffer.after.pop()
            self._follow(track, self._since_ps())
            run.known |= {register: run.registers[register] for register in made}
        else:
            for register in made:
                run.known.pop(register, None)

    def _follow(self, track: Track, time_ps: int) -> None:
        run = self._run
        counts = np.array([[[self._read(one), self._read(other)] for one, other, _ in track.gates]], np.int64)
        tracker = run.filters.get(track.into)
        if tracker is None:
            biases = tuple(bias * 2 * math.pi for _, _, bias in track.gates)
            tracker = run.filters[track.into] = PhaseFilter(
                track.contrast, track.diffusion_rad2_per_s, biases
            )
        tracker.follow(counts, np.array([time_ps / 1e12]))
        phase, sigma = tracker.estimate()
        run.registers[track.into] = round(phase / (2 * math.pi) * TURN) % TURN
        run.registers[f"{track.into}.sigma_rad"] = round(sigma, 6)
        run.registers[f"{track.into}.clicks"] = clicks = int(counts[-1].sum())
        rule = track.valid
        if rule is not None:
            held = int(self._read(rule.lock)) if rule.lock else 0
            run.registers[f"{track.into}.valid"] = int(tracker.valid(rule, clicks, held))

    # control
    def _heed(self) -> None:
        if self._control.asked and not self._control.wait():
            raise Stopped

    def _since_ps(self) -> int:
        return round((self._clock.now() - self._run.origin_s) * 1e12)

    def _progress(self) -> Progress:
        return Progress(self._since_ps(), self._run.rounds, self._run.rounds)
