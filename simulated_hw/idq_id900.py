"""A simulated ID Quantique ID900: the world's time tagger behind SCPI text over ZeroMQ, with its DataLinkTarget service.

Wire: DEVICES.md section 3.6. Not known from a manual and chosen here: integration times in ns, refusals in the words
of the SCPI standard (``-113,"Undefined header"``), the power-on state, and that a raw stream carries an input's tags
delayed by the block of the same number. Coincidence presets, files and reference indices are not simulated: refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from labctl.sim.instrument import Send, Session, SimInstrument
from simulated_hw.id900_dlt import DataLinkTarget, StreamSession
from simulated_hw.id900_scpi import (
    ILLEGAL_VALUE,
    MISSING_PARAMETER,
    OUT_OF_RANGE,
    UNDEFINED_HEADER,
    Command,
    Entry,
    Requests,
    ScpiError,
    attribute,
    header,
    link,
    parse_chain,
    real,
    switch,
    whole,
    word,
)
from simulated_hw.id900_tags import Counter, Recorder, SignalPath, TagReader
from simulated_hw.world.parts import Tagger

STREAMS = ("stream1", "stream2", "stream3", "stream4")
BLOCKS = {"INPU": 4, "DELA": 8, "TSCO": 8, "HIST": 4, "RAW": 4}
"""How many of each there are."""
MOST_BINS = 16384
LONGEST_PS = 10**18
BIN_WIDTHS_PS = {"HIRES": 13, "LOWRES": 100}
"""Resolution of an ID900 in its two modes."""


class SimId900(SimInstrument):
    """An ID900 whose inputs 1 to 4 see the tagger's channels 0 to 3.

    tagger:         the world's counts and tags
    now:            the world's time, s
    rng:            for the converter's jitter
    start_channel:  the tagger's channel that is wired to START instead of its own input; None for none
    jitter_ps:      of the converter itself, rms
    """

    ports: ClassVar[tuple[str, ...]] = ("command", "dlt", *STREAMS)
    zmq_ports: ClassVar[dict[str, str]] = {"command": "rep", "dlt": "rep", **dict.fromkeys(STREAMS, "pair")}

    def __init__(
        self,
        tagger: Tagger,
        now: Callable[[], float],
        rng: np.random.Generator,
        *,
        start_channel: int | None = None,
        jitter_ps: float = 0.0,
    ) -> None:
        super().__init__()
        self._tagger = tagger
        self._now = now
        self._rng = rng
        self._start_channel = start_channel
        self._jitter_ps = jitter_ps
        self._reader = TagReader(tagger)
        self._counts = self._numbered(tagger.counts())
        self.recorder = Recorder()
        self.path = SignalPath()
        self.service = DataLinkTarget(STREAMS, now)
        self.counters = [Counter() for _ in range(5)]
        for counter in self.counters:
            counter.reset(now())
        self.resolution = "LOWRES"
        self.sending = [False] * 5
        self.input_errors = [0] * 5
        """What ``INPU#:HIRES:ERROR?`` shows: 1 asks for recalibration, 1001 to 1003 for another rate or threshold."""
        self._stored: dict[tuple[str, int], str] = {}
        self._entries = [*self._inputs(), *self._routing(), *self._recording(), *self._device()]

    def session(self, port: str, send: Send) -> Session:
        """A client of the commands, of the DataLinkTarget or of a stream."""
        if port == "command":
            return Requests(send, lambda text: self.answer(text), self.advance)
        if port == "dlt":
            return Requests(send, self._dlt_answer, self.advance)
        return StreamSession(self.service, port, send, self.advance)

    def listening(self, port: str, number: int) -> None:
        """Let the service know where its streams are."""
        if port in STREAMS:
            self.service.listening(port, number)

    def miscalibrate(self, number: int = 1) -> None:
        """Fault: an input asks for recalibration."""
        self.input_errors[number] = 1

    def answer(self, text: str) -> str:
        """The answer to one request: a line for each query and each refusal, nothing for the rest."""
        self.advance()
        self._count()
        lines: list[str] = []
        for command in parse_chain(text):
            try:
                line = self._execute(command)
            except ScpiError as error:
                line = str(error)
            if line is not None:
                lines.append(line)
        return "\n".join(lines)

    def advance(self) -> None:
        """Take the tags the world has recorded, and bring cyclic counters past the ends of their cycles."""
        now_s = self._now()
        tags: list[tuple[int, int]] = []
        for time_ps, channel in self._reader.take():
            number = self._number(channel)
            if self._value("INPU:ENAB", number) == "ON" and self.recorder.takes(time_ps):
                tags.append((self._converted(time_ps), number))
        if tags:
            self.path.add(tags)
            self._stream(tags)
        finished = self.recorder.finished(round(now_s * 1e12))
        if finished:
            self.service.records_finished(finished)
        if any(counter.due(now_s) for counter in self.counters):
            self._count()

    def _dlt_answer(self, text: str) -> str:
        self.advance()
        return self.service.answer(text)

    def _converted(self, time_ps: int) -> int:
        """A time as the converter gives it: with its jitter, in steps of its resolution."""
        if self._jitter_ps:
            time_ps += round(self._rng.normal(0.0, self._jitter_ps))
        step = BIN_WIDTHS_PS[self.resolution]
        return max(0, time_ps // step * step)

    def _stream(self, tags: list[tuple[int, int]]) -> None:
        for number in range(1, 5):
            if self.sending[number] and self.service.wants(number):
                delay_ps = self.path.delays[number][1]
                times = sorted(time_ps + delay_ps for time_ps, at in tags if at == number)
                if times:
                    self.service.add(number, times)

    def _number(self, channel: int) -> int:
        """Input that a channel of the tagger is wired to; 0 is START."""
        return 0 if channel == self._start_channel else channel + 1

    def _numbered(self, counts: list[int]) -> list[int]:
        found = [0] * 5
        for channel, count in enumerate(counts):
            if self._number(channel) < 5:
                found[self._number(channel)] = count
        return found

    def _count(self) -> None:
        now_s = self._now()
        counts = self._numbered(self._tagger.counts())
        for number, counter in enumerate(self.counters):
            enabled = self._value("INPU:ENAB", number) == "ON"
            counter.add(counts[number] - self._counts[number] if enabled else 0, now_s)
        self._counts = counts

    # what there is
    def _execute(self, command: Command) -> str | None:
        path = command.path
        if path == ("*IDN",) and command.query:
            return "IDQ ID900,SN00000001,simulated"
        if header("STARt").fullmatch(path[0]):
            path = ("INPU0", *path[1:])
        elif header("INPUt#").fullmatch(path[0]) and path[0].endswith("0"):
            raise ScpiError(OUT_OF_RANGE)
        text = ":".join(path)
        for entry in self._entries:
            match = entry.pattern.fullmatch(text)
            if match is not None:
                return self._do(entry, int((match.groups() or ("",))[0] or 1), path[0], command)
        raise ScpiError(UNDEFINED_HEADER)

    def _do(self, entry: Entry, number: int, block: str, command: Command) -> str | None:
        most = next((most for name, most in BLOCKS.items() if block.startswith(name)), number)
        if number > most or (number < 1 and block != "INPU0"):
            raise ScpiError(OUT_OF_RANGE)
        if command.query:
            if entry.read is None:
                raise ScpiError(UNDEFINED_HEADER)
            return entry.read(number)
        self.path.settle()  # what came so far went through the path as it was
        if entry.act is not None and not command.argument:
            entry.act(number)
        elif entry.write is None:
            raise ScpiError(UNDEFINED_HEADER)
        elif not command.argument:
            raise ScpiError(MISSING_PARAMETER)
        else:
            entry.write(number, command.argument)
        return None

    def _value(self, name: str, number: int) -> str:
        """A setting that is only kept."""
        return self._stored.get((name, number), _POWER_ON[name])

    def _kept(self, spelling: str, parse: Callable[[str], str]) -> Entry:
        """A setting that is kept as parsed."""
        name = re.sub("[a-z#]", "", spelling)

        def write(number: int, text: str) -> None:
            self._stored[name, number] = parse(text)

        return Entry(header(spelling), lambda number: self._value(name, number), write)

    def _inputs(self) -> list[Entry]:
        def set_mode(number: int, text: str) -> None:
            self.counters[number].cyclic = word(text, "CYCLe", "ACCUmulate") == "CYCL"

        def set_integration(number: int, text: str) -> None:
            self.counters[number].integration_s = whole(text, 1, 10**13) * 1e-9
            self.counters[number].reset(self._now())

        return [
            self._kept("INPUt#:ENABle", switch),
            self._kept("INPUt#:THREshold", lambda text: f"{real(text, 'V', -5, 5):g}V"),
            self._kept("INPUt#:EDGE", lambda text: word(text, "RISIng", "FALLing")),
            self._kept("INPUt#:COUPling", lambda text: word(text, "AC", "DC")),
            self._kept("INPUt#:SELEct", lambda text: word(text, "UNSHaped", "SHAPed", "OUTPut")),
            Entry(
                header("INPUt#:COUNter:MODE"),
                lambda number: "CYCL" if self.counters[number].cyclic else "ACCU",
                set_mode,
            ),
            Entry(
                header("INPUt#:COUNter:INTEgration"),
                lambda number: str(round(self.counters[number].integration_s * 1e9)),
                set_integration,
            ),
            Entry(
                header("INPUt#:COUNter:RESEt"), act=lambda number: self.counters[number].reset(self._now())
            ),
            Entry(header("INPUt#:COUNter"), lambda number: str(self.counters[number].value())),
            Entry(header("INPUt#:HIRES:ERROR"), lambda number: str(self.input_errors[number])),
        ]

    def _routing(self) -> list[Entry]:
        path = self.path

        def set_source(number: int, text: str) -> None:
            path.delays[number] = link(text), path.delays[number][1]

        def set_delay(number: int, text: str) -> None:
            path.delays[number] = path.delays[number][0], whole(text, 0, LONGEST_PS)

        def set_output(number: int, text: str) -> None:
            path.combiners[number].mutes = word(text, "MUTE", "ONLYfir") == "MUTE"

        def set_window(number: int, text: str) -> None:
            path.combiners[number].window = switch(text) == "ON"

        def set_bin_width(number: int, text: str) -> None:
            width_ps = whole(text, 1, LONGEST_PS)
            if width_ps % BIN_WIDTHS_PS[self.resolution]:
                raise ScpiError(ILLEGAL_VALUE)
            path.histograms[number].bin_width_ps = width_ps

        return [
            Entry(header("DELAy#:LINK"), lambda number: path.delays[number][0], set_source),
            Entry(header("DELAy#:VALUe"), lambda number: str(path.delays[number][1]), set_delay),
            attribute("TSCO#:FIRst:LINK", path.combiners, "first", link),
            self._kept("TSCO#:OPIN", lambda text: word(text, "ONLYfir")),
            Entry(
                header("TSCO#:OPOUt"),
                lambda number: "MUTE" if path.combiners[number].mutes else "ONLY",
                set_output,
            ),
            Entry(
                header("TSCO#:WINDow:ENABle"),
                lambda number: "ON" if path.combiners[number].window else "OFF",
                set_window,
            ),
            attribute("TSCO#:WINDow:BEGIn:LINK", path.combiners, "begin", link),
            attribute("TSCO#:WINDow:BEGIn:DELAy", path.combiners, "begin_ps", _delay),
            self._kept("TSCO#:WINDow:BEGIn:EDGE", lambda text: word(text, "RISIng")),
            attribute("TSCO#:WINDow:END:LINK", path.combiners, "end", link),
            attribute("TSCO#:WINDow:END:DELAy", path.combiners, "end_ps", _delay),
            self._kept("TSCO#:WINDow:END:EDGE", lambda text: word(text, "RISIng")),
            self._flushing(attribute("HISTogram#:REFerence:LINK", path.histograms, "reference", link)),
            self._flushing(attribute("HISTogram#:STOP:LINK", path.histograms, "stop", link)),
            self._flushing(
                Entry(
                    header("HISTogram#:BWIDth"),
                    lambda number: str(path.histograms[number].bin_width_ps),
                    set_bin_width,
                )
            ),
            self._flushing(
                attribute(
                    "HISTogram#:BCOUnt", path.histograms, "bins", lambda text: whole(text, 1, MOST_BINS)
                )
            ),
            Entry(header("HISTogram#:FLUSh"), act=lambda number: path.histograms[number].flush()),
            Entry(header("HISTogram#:DATA"), self._histogram_data),
        ]

    def _histogram_data(self, number: int) -> str:
        self.path.settle()
        return "[" + ",".join(map(str, self.path.histograms[number].data.tolist())) + "]"

    def _flushing(self, entry: Entry) -> Entry:
        """A setting of a histogram: what it holds is of no use after it."""

        def write(number: int, text: str) -> None:
            assert entry.write is not None
            entry.write(number, text)
            self.path.histograms[number].flush()

        return Entry(entry.pattern, entry.read, write)

    def _recording(self) -> list[Entry]:
        recorder = self.recorder

        def now_ps() -> int:
            return round(self._now() * 1e12)

        def enable(_: int, text: str) -> None:
            recorder.enabled = switch(text) == "ON"

        def set_number(_: int, text: str) -> None:
            recorder.number = 0 if text.upper() == "INF" else whole(text, 0, 10**9)

        def set_duration(_: int, text: str) -> None:
            recorder.duration_ps = whole(text, 1000, LONGEST_PS)

        def send(number: int, text: str) -> None:
            self.sending[number] = switch(text) == "ON"

        def play(_: int) -> None:
            if not recorder.enabled:
                raise ScpiError(ILLEGAL_VALUE)
            self.path.forget()
            recorder.play(now_ps())

        durations = [
            Entry(header(spelling), lambda _: str(recorder.duration_ps), set_duration)
            for spelling in ("RECord:DURation", "RECord:PWIDth")
        ]
        return [
            *durations,
            self._kept("RECord:TRIGger:ARM:MODE", lambda text: word(text, "MANUal", "AUTO")),
            Entry(header("RECord:ENABle"), lambda _: "ON" if recorder.enabled else "OFF", enable),
            Entry(header("RECord:NUMber"), lambda _: str(recorder.number or "INF"), set_number),
            Entry(header("RECord:PLAY"), act=play),
            Entry(header("RECord:STOP"), act=lambda _: recorder.stop(now_ps())),
            Entry(header("RECord:STAGe"), lambda _: "PLAYING" if recorder.playing(now_ps()) else "IDLE"),
            Entry(header("RAW#:SEND"), lambda number: "ON" if self.sending[number] else "OFF", send),
            Entry(header("RAW#:ERRORS"), lambda _: "0"),
            Entry(header("RAW#:ERRORS:CLEAR"), act=lambda _: None),
            self._kept("RAW#:REFerence:LINK", lambda text: word(text, "NONE")),
        ]

    def _device(self) -> list[Entry]:
        def set_resolution(_: int, text: str) -> None:
            self.resolution = word(text, *BIN_WIDTHS_PS)
            for histogram in self.path.histograms.values():
                histogram.bin_width_ps = BIN_WIDTHS_PS[self.resolution]
                histogram.flush()

        def recalibrate(_: int) -> None:
            self.input_errors = [0 if error == 1 else error for error in self.input_errors]

        return [
            Entry(header("DEVIce:RESolution"), lambda _: self.resolution, set_resolution),
            Entry(header("DEVIce:RESolution:BWIDth"), lambda _: str(BIN_WIDTHS_PS[self.resolution])),
            Entry(header("DEVIce:SAMPling:RECAlibrate"), act=recalibrate),
        ]


_POWER_ON = {
    "INPU:ENAB": "OFF",
    "INPU:THRE": "0.5V",
    "INPU:EDGE": "RISI",
    "INPU:COUP": "DC",
    "INPU:SELE": "UNSH",
    "TSCO:OPIN": "ONLY",
    "TSCO:WIND:BEGI:EDGE": "RISI",
    "TSCO:WIND:END:EDGE": "RISI",
    "REC:TRIG:ARM:MODE": "AUTO",
    "RAW:REF:LINK": "NONE",
}


def _delay(text: str) -> int:
    return whole(text, -LONGEST_PS, LONGEST_PS)


def demo(now: Callable[[], float]) -> SimId900:
    """A time controller with nothing at its inputs."""
    return SimId900(Tagger(4, lambda: [0, 0, 0, 0]), now, np.random.default_rng(1))
