"""Lowers one straight piece: from pulses and gates in picoseconds to events in machine units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from labctl.core.artiq.binding import Bound, Dds
from labctl.core.artiq.plan import Action, Block, Event, Window
from labctl.core.artiq.shape import Piece
from labctl.core.artiq.tones import LONG_AGO, Need, Setter, State, Tone, Words
from labctl.schedule.problem import Path, Problems
from labctl.schedule.timeline import NOMINAL
from labctl.units import format_time

_ORDER: dict[Action, int] = {
    "off": 0,
    "close": 1,
    "latch": 2,
    "relatch": 3,
    "on": 4,
    "open": 5,
    "count": 6,
    "set": 7,
}
"""Order of events at the same time."""


@dataclass
class System:
    """What every piece is lowered with.

    stamped:   registers whose first click is asked for
    tracking:  lines whose frequency changes, so that their phase is referred to the origin of the round
    generators:  line -> tones asked of its pulse generator, with the place that asks
    """

    bound: Mapping[str, Bound]
    ref_period_ps: int
    coarse_mu: int
    stamped: set[str]
    tracking: set[str]
    problems: Problems
    generators: dict[str, dict[Tone, Path]] = field(default_factory=dict[str, dict[Tone, Path]])

    def quiet(self) -> System:
        """The same system for a trial: its problems are not kept."""
        return System(self.bound, self.ref_period_ps, self.coarse_mu, self.stamped, self.tracking, Problems())


@dataclass(frozen=True)
class Span:
    """A pulse of one line on the core's clock, mu, whether it ends just as its piece does, and its block."""

    start_mu: int
    stop_mu: int
    at_end: bool
    tone: Tone
    path: Path
    begin_ps: int


class PieceLowering:
    """One piece in one state."""

    def __init__(self, system: System, piece: Piece, state: State) -> None:
        self.system = system
        self.piece = piece
        self.state = state
        self._place = " / ".join(piece.path)
        self._last_on = dict(state.off)

    def spans(self) -> dict[str, list[Span]]:
        """The pulses of each output line, in order of time, their tones filled in from the state."""
        line = self.piece.timeline
        found: dict[str, list[Span]] = {}
        for i in range(len(line)):
            if line.is_gate[i]:
                continue
            name = line.lines[int(line.line[i])]
            bound = self.system.bound.get(name)
            if bound is None:
                continue
            start, length = int(line.start_ps[i]), int(line.duration_ps[i])
            at = self._mu(name, start - bound.limits.delay_ps, "begins", start)
            ends = self._length(bound, length, start)
            if at is None or ends is None:
                continue
            tone = (float(line.frequency_hz[i]), float(line.phase_turns[i]), float(line.amplitude[i]))
            at_end = start + length == line.total_ps and not bound.trigger_mu
            place = self.piece.place(name, start)
            span = Span(at, at + ends, at_end, filled(tone, self.state.tones.get(name, NOMINAL)), *place)
            found.setdefault(name, []).append(span)
        return found

    def lower(
        self,
        name: str,
        held: set[str],
        *,
        attempt: bool = False,
        then: Mapping[str, tuple[Words, int]] | None = None,
    ) -> Block:
        """The piece as a block; the state is brought to its end.

        held:     lines that stay on over its end because whatever follows begins with them on
        attempt:  whether it is the body of an attempt loop, where no DDS may be set
        then:     words that have to be in a line's DDS so long (mu) after the end of the piece
        """
        spans = self.spans()
        length = self._mu("", self.piece.timeline.total_ps, "ends", self.piece.timeline.total_ps) or 0
        events = [event for line, each in spans.items() for event in self._switch(line, each, held)]
        windows = self._windows()
        events += self._gates(windows)
        needs = self._needs(spans, length, then or {})
        if attempt:
            self._forbid(needs)
        else:
            events += self._setter().place(needs)
        events.sort(key=lambda event: (event.time_mu, _ORDER[event.action], event.channel))
        lead = -min([0, *(event.time_mu for event in events)])
        for line, left in self.piece.leaves.items():
            self.state.tones[line] = filled(left, self.state.tones.get(line, NOMINAL))
        self.state.passed(length, self.system.coarse_mu)
        return Block(name, self._place, length, events, windows, lead)

    def _setter(self) -> Setter:
        system = self.system
        return Setter(self.state, system.tracking, system.coarse_mu, system.ref_period_ps, system.problems)

    # times
    def _mu(self, line: str, time_ps: int, what: str, at_ps: int) -> int | None:
        """Machine units of a time; off-grid times are a problem."""
        units, rest = divmod(time_ps, self.system.ref_period_ps)
        if rest:
            bound = self.system.bound.get(line)
            delay = bound.limits.delay_ps if bound else 0
            path, begin_ps = self.piece.place(line, at_ps)
            self.system.problems.add(
                path,
                f"{what} {format_time(rest)} off the machine unit of {format_time(self.system.ref_period_ps)}"
                + (f" (with the line's delay of {format_time(delay)})" if delay else ""),
                "ARTIQ plays whole machine units only: change the time, or let a pulse generator make it "
                "(trigger_ps and generator_ps of the line in [core.artiq.line])",
                line=line,
                time_ps=at_ps - begin_ps,
            )
            return None
        return units

    def _length(self, bound: Bound, length_ps: int, start_ps: int) -> int | None:
        if bound.trigger_mu:
            if length_ps != bound.generator_ps:
                path, begin_ps = self.piece.place(bound.line, start_ps)
                self.system.problems.add(
                    path,
                    f"a pulse of {format_time(length_ps)}, but the generator behind {bound.device} makes "
                    f"{format_time(bound.generator_ps)}",
                    "set the generator and generator_ps in [core.artiq.line] to the length asked for",
                    line=bound.line,
                    time_ps=start_ps - begin_ps,
                )
            return bound.trigger_mu
        return self._mu(bound.line, length_ps, "lasts", start_ps)

    # outputs and inputs
    def _switch(self, line: str, spans: list[Span], held: set[str]) -> list[Event]:
        """On and off, pulses that touch joined."""
        bound = self.system.bound[line]
        if bound.output is None:
            return []
        device, channel = bound.output.name, bound.output.channel
        events: list[Event] = []
        until, ended = LONG_AGO, spans[0]
        stays = False

        def event(at: int, action: Action, span: Span) -> Event:
            since = span.begin_ps // self.system.ref_period_ps
            return Event(at, action, device, channel, line, place=" / ".join(span.path), since_mu=since)

        for span in spans:
            if span.stop_mu == span.start_mu:
                continue
            if bound.trigger_mu:
                self.system.generators.setdefault(line, {}).setdefault(span.tone, span.path)
            if span.start_mu > until:
                if until != LONG_AGO:
                    events.append(event(until, "off", ended))
                events.append(event(span.start_mu, "on", span))
            if span.stop_mu >= until:
                until, ended, stays = span.stop_mu, span, span.at_end and line in held
        if until != LONG_AGO and not stays:
            events.append(event(until, "off", ended))
        if until != LONG_AGO:
            self.state.off[line] = until
        return events

    def _windows(self) -> list[Window]:
        line = self.piece.timeline
        found: list[Window] = []
        for i in range(len(line)):
            if not line.is_gate[i]:
                continue
            name = line.lines[int(line.line[i])]
            bound = self.system.bound.get(name)
            if bound is None or bound.input is None:
                continue
            start, length = int(line.start_ps[i]), int(line.duration_ps[i])
            at = self._mu(name, start + bound.limits.delay_ps, "opens", start)
            ends = self._mu(name, length, "stays open", start)
            if at is None or ends is None:
                continue
            register = line.into[int(line.register[i])]
            counter = self._counter(bound, register, at, at + ends)
            device = bound.input.name if counter is None else counter
            mode = "stamps" if counter is None else "counter"
            path, begin_ps = self.piece.place(name, start)
            place, since = " / ".join(path), begin_ps // self.system.ref_period_ps
            bright = line.thresholds.get(register)
            found.append(Window(register, name, device, mode, at, at + ends, bright, place, since))
        return found

    def _counter(self, bound: Bound, register: str, start_mu: int, stop_mu: int) -> str | None:
        """The edge counter to use: where no click is time-stamped and both ends are on its coarse grid."""
        coarse, align = self.system.coarse_mu, self.state.align
        if bound.counter is None or register in self.system.stamped or align is None:
            return None
        if (start_mu + align) % coarse or (stop_mu + align) % coarse:
            return None
        return bound.counter.name

    def _gates(self, windows: list[Window]) -> list[Event]:
        """Opening and closing; gates of a line that touch stay open (stamps) or hand over the count (counter)."""
        events: list[Event] = []
        for device in dict.fromkeys(window.device for window in windows):
            own = sorted((w for w in windows if w.device == device), key=lambda w: w.open_mu)
            bound = self.system.bound[own[0].line]
            entry = bound.input if own[0].mode == "stamps" else bound.counter
            if entry is None:
                continue

            stamps = own[0].mode == "stamps"
            for k, window in enumerate(own):
                before = k > 0 and own[k - 1].close_mu == window.open_mu
                after = k + 1 < len(own) and own[k + 1].open_mu == window.close_mu
                if not before:
                    events.append(_gate(window, window.open_mu, "open" if stamps else "count", entry.channel))
                if not after:
                    events.append(
                        _gate(window, window.close_mu, "close" if stamps else "latch", entry.channel)
                    )
                elif not stamps:
                    events.append(_gate(window, window.close_mu, "relatch", entry.channel))
        return events

    # tones
    def _needs(
        self, spans: Mapping[str, list[Span]], length: int, then: Mapping[str, tuple[Words, int]]
    ) -> list[Need]:
        needs: list[Need] = []
        for line, bound in self.system.bound.items():
            if bound.dds is None or bound.limits.kind != "tone" or (line not in spans and line not in then):
                continue
            words = self.state.words.get(line)
            since = self._last_on.get(line, LONG_AGO)
            for span in spans.get(line, []):
                wanted = self.words(bound, bound.dds, span)
                if wanted is not None and wanted != words:
                    needs.append(
                        Need(bound, bound.dds, wanted, since, span.start_mu, span.path, span.begin_ps)
                    )
                    words = wanted
                since = span.stop_mu
            if line in then and then[line][0] != words:
                words = then[line][0]
                needs.append(Need(bound, bound.dds, words, since, length + then[line][1], self.piece.path, 0))
            self.state.words[line] = words
        return needs

    def words(self, bound: Bound, dds: Dds, span: Span) -> Words | None:
        """The tuning words of a pulse; None, and a problem, if its tone depends on the way here."""
        frequency, phase, amplitude = span.tone
        if (
            math.isnan(frequency)
            or math.isnan(amplitude)
            or (not isinstance(phase, str) and math.isnan(phase))
        ):
            self.system.problems.add(
                span.path,
                "this pulse would have one tone the first time and another later",
                "set the tone in the loop, before the pulse that uses it",
                line=bound.line,
                time_ps=span.start_mu * self.system.ref_period_ps - span.begin_ps,
            )
            return None
        if not dds.is_ad9910 and amplitude != 1:
            self.system.problems.add(
                span.path,
                f"an amplitude of {amplitude:g}, but {dds.entry.name} is an AD9912, which has none",
                "use an AD9910 for this line",
                line=bound.line,
            )
        return dds.ftw(frequency), phase if isinstance(phase, str) else dds.pow(phase), dds.asf(amplitude)

    def _forbid(self, needs: list[Need]) -> None:
        for need in needs:
            self.system.problems.add(
                need.path,
                f"{need.dds.entry.name} would be set inside an attempt",
                "a DDS takes over 1 us to set; give the line one tone in the whole attempt "
                "(it is set before the loop), or use two channels",
                line=need.bound.line,
                time_ps=need.until_mu * self.system.ref_period_ps - need.begin_ps,
            )


def _gate(window: Window, at: int, action: Action, channel: int) -> Event:
    return Event(
        at, action, window.device, channel, window.line, place=window.place, since_mu=window.since_mu
    )


def filled(tone: tuple[float, float | str, float], old: Tone) -> Tone:
    """A tone with what it inherits (NaN) filled in."""
    frequency, phase, amplitude = tone
    return (
        old[0] if math.isnan(frequency) else frequency,
        old[1] if not isinstance(phase, str) and math.isnan(phase) else phase,
        old[2] if math.isnan(amplitude) else amplitude,
    )
