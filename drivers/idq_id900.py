"""ID Quantique ID900 and ID1000 time controllers: counters, histograms and streams of time tags over ZeroMQ.

The address is the command port with the DataLinkTarget service and its streams as options:
``zmq://host:5555?dlt=6060&stream1=4242&stream2=4243``; where the service runs on another machine, ``&dlt_host=NAME``.
Source: DEVICES.md section 3.6. Uncertain there and chosen here: integration times are sent in ns, and any text that
answers a setting is a refusal.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

from drivers.ahead import Ahead
from labctl.device import Device, action
from labctl.errors import BadAnswerError, DeviceError, LimitError, NoAnswerError, RefusedError
from labctl.signal import Signal
from labctl.transport import Transport
from labctl.units import exact

NS, PS = 1e-9, 1e-12
MOST_BINS = 16384
LONGEST_DELAY_S = 1.0
FIRST_STREAM_PORT = 4242
"""Where the service is asked to stream channel 1 if the address does not say; the others follow."""
MOST_TAGS = 1_000_000
"""``read_tags`` returns at most about so many at once; the next call goes on."""
MOST_AT_ONCE = 20
"""Questions in one chain; the longest the instrument takes is not documented."""
INPUTS = (1, 2, 3, 4)


def _tidy(value: float) -> float:
    return float(f"{value:.12g}")


def _count(number: int) -> Signal[int]:
    return Signal(
        int,
        read=lambda device: device.query_whole(f"INPU{number}:COUN?"),
        poll_s=1.0,
        doc=f"clicks of input {number} in the last whole integration time",
    )


def _threshold(number: int) -> Signal[float]:
    return Signal(
        float,
        "V",
        read=lambda device: device.query_volts(f"INPU{number}:THRE?"),
        write=lambda device, volts: device.command(f"INPU{number}:THRE {volts:.6g}V"),
        limits=(-2.0, 2.0),
        doc=f"comparator threshold of input {number}",
    )


def _enabled(number: int) -> Signal[bool]:
    return Signal(
        bool,
        read=lambda device: device.query_switch(f"INPU{number}:ENAB?"),
        write=lambda device, on: device.command(f"INPU{number}:ENAB {'ON' if on else 'OFF'}"),
        doc=f"whether input {number} is on",
    )


def _delay(number: int) -> Signal[float]:
    return Signal(
        float,
        "s",
        read=lambda device: _tidy(device.query_whole(f"DELA{number}:VALU?") * PS),
        write=lambda device, seconds: device.command(f"DELA{number}:LINK INPU{number};VALU {exact(seconds)}"),
        limits=(0.0, LONGEST_DELAY_S),
        doc=f"delay of input {number} on its way to histograms and streams, whole ps",
    )


class IdqId900(Device):
    """A time controller with four inputs and START (input 0 where an input is an argument)."""

    manual = "ID900 command set as in DEVICES.md section 3.6"
    checked_with = "a plain pyzmq client against the same simulated instrument"
    timeout_s = 2.0
    identities: ClassVar[re.Pattern[str]] = re.compile(r"ID ?(900|1000)", re.IGNORECASE)

    count_1, count_2, count_3, count_4 = (_count(n) for n in INPUTS)
    threshold_1, threshold_2, threshold_3, threshold_4 = (_threshold(n) for n in INPUTS)
    enabled_1, enabled_2, enabled_3, enabled_4 = (_enabled(n) for n in INPUTS)
    delay_1, delay_2, delay_3, delay_4 = (_delay(n) for n in INPUTS)
    resolution = Signal(
        float,
        "s",
        read=lambda device: _tidy(device.query_whole("DEVI:RES:BWID?") * PS),
        doc="step of the time tags; see the action high_resolution",
    )
    integration_time = Signal(
        float,
        "s",
        read=lambda device: _tidy(device.query_whole("INPU1:COUN:INTE?") * NS),
        write=lambda device, seconds: device.write_integration(seconds),
        limits=(1e-6, 1e4),
        doc="time the counters of all inputs count over; sent in ns, which no manual at hand confirms",
    )
    recording = Signal(
        bool,
        read=lambda device: device.query("REC:STAG?").upper() == "PLAYING",
        write=lambda device, on: device.write_recording(on),
        poll_s=2.0,
        doc="whether a record is played; once set, nothing goes to histograms and streams outside records",
    )

    def __init__(self, transport: Transport, name: str = "") -> None:
        super().__init__(transport, name)
        self._ahead = Ahead[str](lambda some: self.exchange(";:".join(some), len(some)), MOST_AT_ONCE)
        self._dlt: Transport | None = None
        self._streams: dict[int, Transport] = {}
        self._acquisitions: dict[int, str] = {}
        self._configured: tuple[list[str], list[str]] = [], []
        """Histogram asked for last, and what the instrument then showed of it."""

    def open(self) -> None:
        """Connect and check that a time controller answers."""
        self.transport.open()
        try:
            identity = self.identity()
            if not self.identities.search(identity):
                raise RefusedError(
                    f"{self.transport.where}: is {identity!r}, expected an ID900 or ID1000; check the address in the lab file"
                )
        except DeviceError:
            self.transport.close()
            raise

    def close(self) -> None:
        """Let go of all connections; acquisitions of the service go on until stopped."""
        for transport in (self._dlt, *self._streams.values(), self.transport):
            if transport is not None:
                transport.close()
        self._streams.clear()

    def identity(self) -> str:
        """The answer to ``*IDN?``."""
        return self.query("*IDN?")

    def ask_ahead(self, names: Sequence[str]) -> None:
        """A chain of questions, each of which is answered with a line."""
        self._ahead.begin(names)

    def forget(self) -> None:
        """The next reading asks again."""
        self._ahead.end()

    def not_ready(self) -> str:
        """An input that reports an error, or what a setting is off by."""
        answers = self.exchange(";:".join(f"INPU{n}:ENAB?;HIRES:ERROR?" for n in INPUTS), 2 * len(INPUTS))
        for n, enabled, error in zip(INPUTS, answers[::2], answers[1::2], strict=True):
            if enabled in ("ON", "1") and error != "0":
                cure = "call recalibrate" if error == "1" else "check its rate and threshold"
                return f"input {n} reports error {error}: {cure}"
        return super().not_ready()

    @action
    def safe(self) -> None:
        """Stop recording, transfers and every acquisition of the service, each also if another fails. No outputs to switch off."""
        steps: list[Callable[[], object]] = [
            lambda: self.command("REC:STOP"),
            lambda: self.command(";:".join(f"RAW{n}:SEND OFF" for n in INPUTS)),
        ]
        if self.transport.address.scheme == "sim" or "dlt" in self.transport.address.options:
            steps.append(self._stop_acquisitions)
        failures: list[DeviceError] = []
        for step in steps:
            try:
                step()
            except DeviceError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    @action
    def high_resolution(self) -> None:
        """The finest time step the instrument has; empties its histograms."""
        self.command("DEVI:RES HIRES")

    @action
    def recalibrate(self) -> None:
        """Calibrate the sampling anew, as an input error 1 asks for."""
        self.command("DEVI:SAMP:RECA")

    @action
    def gate(self, stop: int, trigger: int, begin_ps: int, end_ps: int) -> None:
        """Let clicks of input ``stop`` into histograms only from ``begin_ps`` to ``end_ps`` after a click of ``trigger``."""
        self._check_input(stop, INPUTS)
        self._check_input(trigger, INPUTS)
        if not 0 <= begin_ps < end_ps:
            raise LimitError(
                f"{self.name}: a gate from {begin_ps} ps to {end_ps} ps is empty; nothing was sent"
            )
        block = f"TSCO{4 + stop}"
        self.command(
            f"{self._path(stop)};:{self._path(trigger)};:{block}:OPIN ONLYFIR;OPOU MUTE"
            f";:{block}:WIND:BEGI:LINK DELA{trigger};DELA {begin_ps};EDGE RISING"
            f";:{block}:WIND:END:LINK DELA{trigger};DELA {end_ps};EDGE RISING;:{block}:WIND:ENAB ON"
        )

    @action
    def ungate(self, stop: int) -> None:
        """Let all clicks of an input into histograms."""
        self._check_input(stop, INPUTS)
        self.command(f"TSCO{4 + stop}:WIND:ENAB OFF")

    @action
    def histogram(self, reference: int, stop: int, bin_width_ps: int, bins: int) -> list[int]:
        """Counts per bin of the time from the last click of ``reference`` (0 for START) to each click of ``stop``.

        A histogram with other inputs or bins than before begins empty; the same one goes on. ``bin_width_ps`` must be a
        multiple of the resolution.
        """
        self._check_input(reference, (0, *INPUTS))
        self._check_input(stop, INPUTS)
        step_ps = self.query_whole("DEVI:RES:BWID?")
        if bin_width_ps < 1 or bin_width_ps % step_ps or not 1 <= bins <= MOST_BINS:
            raise LimitError(
                f"{self.name}: a histogram needs bins of a multiple of {step_ps} ps and 1 to {MOST_BINS} of them,"
                f" not {bins} of {bin_width_ps} ps; nothing was set"
            )
        source = f"TSCO{4 + reference}" if reference else "STAR"
        wanted = [source, f"TSCO{4 + stop}", str(bin_width_ps), str(bins)]
        shown = self._histogram_shown()
        if shown != wanted and (wanted, shown) != self._configured:
            paths = ";:".join(self._path(n) for n in (reference, stop) if n)
            self.command(
                f"{paths};:HIST1:REF:LINK {source};:HIST1:STOP:LINK {wanted[1]}"
                f";:HIST1:BWID {bin_width_ps};BCOU {bins};FLUS"
            )
            self._configured = wanted, self._histogram_shown()
        return self._histogram_data(bins)

    @action
    def clear_histogram(self) -> None:
        """Empty the histogram."""
        self.command("HIST1:FLUS")

    @action
    def start_stream(self, channel: int) -> None:
        """Have the DataLinkTarget service stream the tags of an input; ``read_tags`` gets them."""
        self._check_input(channel, INPUTS)
        if channel in self._acquisitions:
            raise RefusedError(
                f"{self.transport.where}: input {channel} is streamed already; stop_stream first"
            )
        address = self.transport.address
        port = FIRST_STREAM_PORT + channel - 1
        if address.scheme == "zmq":
            port = address.option_port(f"stream{channel}")
        self._drop_stream(channel)
        stream = self.transport.sibling(self._service_address(f"stream{channel}", socket="pair"))
        stream.open()
        self._streams[channel] = stream
        host = address.host or "localhost"
        request = f"start-stream --address {host} --channel {channel} --stream-port {port}"
        try:
            started: Any = self._service(request)
            match started:
                case {"id": str() as identifier}:
                    self._acquisitions[channel] = identifier
                case _:
                    raise BadAnswerError(
                        f"{self.transport.where}: {request!r} was answered with {started!r}, expected an id"
                    )
        except DeviceError:
            self._drop_stream(channel)
            raise
        self.command(f"RAW{channel}:ERRORS:CLEAR;:RAW{channel}:SEND ON")

    @action
    def stop_stream(self, channel: int) -> None:
        """End the stream of an input; what is still under way can be read until it is over."""
        self._check_input(channel, INPUTS)
        if channel not in self._acquisitions:
            raise RefusedError(f"{self.transport.where}: input {channel} is not streamed; start_stream first")
        self.command(f"RAW{channel}:SEND OFF")
        self._service(f"stop --id {self._acquisitions.pop(channel)}")

    @action
    def read_tags(self, channel: int, timeout_s: float = 1.0) -> list[int]:
        """Tags of a streamed input since the last call, ps; waits up to ``timeout_s`` s for the first. Empty if none came.

        RefusedError if the input is not streamed or its stream is over.
        """
        stream = self._streams.get(channel)
        if stream is None:
            raise RefusedError(f"{self.transport.where}: no stream of input {channel}; start_stream first")
        tags: list[int] = []
        wait_s = max(0.0, timeout_s)
        while len(tags) < MOST_TAGS:
            try:
                frame = stream.read_frame(wait_s)
            except NoAnswerError:
                break
            if not frame:  # the end
                self._drop_stream(channel)
                break
            if len(frame) % 8:
                raise BadAnswerError(f"{stream.where}: sent {len(frame)} bytes, expected 64-bit time tags")
            tags += struct.unpack(f"<{len(frame) // 8}Q", frame)
            wait_s = 0.0
        return tags

    def query(self, text: str) -> str:
        """The answer to one question."""
        answer = self._ahead.find(text)
        return self.exchange(text, 1)[0] if answer is None else answer

    def command(self, text: str) -> None:
        """A setting, or a chain of them; RefusedError if it is answered with anything."""
        self.exchange(text, 0)

    def exchange(self, text: str, lines: int) -> list[str]:
        """Send one request; the lines of its answer, of which there must be so many."""
        self.transport.write(text.encode("ascii"))
        answer = self.transport.read_frame(self.timeout_s).decode("utf-8", "replace").strip()
        got = [line.strip() for line in answer.split("\n")] if answer else []
        if len(got) != lines or any(re.match(r"-\d+,", line) for line in got):
            refused = not lines or any(re.match(r"-\d+,|.*error", line, re.IGNORECASE) for line in got)
            error = RefusedError if refused and got else BadAnswerError
            raise error(
                f"{self.transport.where}: {text!r} was answered with {answer[:80]!r}, expected {lines or 'no'} lines"
            )
        return got

    def query_whole(self, text: str) -> int:
        """A whole number; a unit of time bins (TB) or ps may follow."""
        answer = self.query(text)
        match = re.fullmatch(r"(\d+) ?(?:TB|ps)?", answer)
        if match is None:
            raise self._unexpected(text, answer, "a whole number")
        return int(match[1])

    def query_volts(self, text: str) -> float:
        """A voltage, with or without its unit."""
        answer = self.query(text)
        match = re.fullmatch(r"([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?) ?V?", answer)
        if match is None:
            raise self._unexpected(text, answer, "a voltage")
        return float(match[1])

    def query_switch(self, text: str) -> bool:
        """ON or OFF."""
        answer = self.query(text).upper()
        if answer not in ("ON", "OFF", "1", "0"):
            raise self._unexpected(text, answer, "ON or OFF")
        return answer in ("ON", "1")

    def write_integration(self, seconds: float) -> None:
        """Cyclic counting of all inputs over the same time, begun anew."""
        nanoseconds = round(seconds / NS)
        self.command(";:".join(f"INPU{n}:COUN:MODE CYCL;INTE {nanoseconds};RESE" for n in INPUTS))

    def write_recording(self, on: bool) -> None:
        """Play one record without an end, or stop."""
        self.command("REC:TRIG:ARM:MODE MANU;:REC:ENAB ON;NUM 0;PLAY" if on else "REC:STOP")

    def _histogram_shown(self) -> list[str]:
        """Reference, stop, bin width and number of bins of the histogram, in the instrument's words."""
        return self.exchange("HIST1:REF:LINK?;:HIST1:STOP:LINK?;:HIST1:BWID?;BCOU?", 4)

    def _histogram_data(self, bins: int) -> list[int]:
        answer = self.query("HIST1:DATA?")
        try:
            data: Any = json.loads(answer)
        except ValueError:
            data = None
        values = cast("list[Any]", data) if isinstance(data, list) else []
        if len(values) != bins or not all(type(value) is int and value >= 0 for value in values):
            raise self._unexpected("HIST1:DATA?", answer, f"a list of {bins} counts")
        return values

    def _unexpected(self, question: str, answer: str, expected: str) -> BadAnswerError:
        self.transport.mark_stale()
        return BadAnswerError(
            f"{self.transport.where}: {question!r} was answered with {answer[:80]!r}, expected {expected}"
        )

    def _check_input(self, number: int, allowed: tuple[int, ...]) -> None:
        if number not in allowed:
            raise LimitError(
                f"{self.name}: input {number} is not one of {', '.join(map(str, allowed))}; nothing was sent"
            )

    @staticmethod
    def _path(number: int) -> str:
        """Input -> its delay -> its combiner."""
        return f"DELA{number}:LINK INPU{number};:TSCO{4 + number}:FIR:LINK DELA{number}"

    def _service_address(self, port: str, **options: str) -> str:
        """Address of a port of the DataLinkTarget service."""
        address = self.transport.port_address(port, **options)
        host = self.transport.address.options.get("dlt_host")
        return re.sub(r"://.*:", lambda _: f"://{host}:", address, count=1) if host else address

    def _service(self, text: str) -> Any:
        """The answer of the DataLinkTarget service; RefusedError with its own words."""
        if self._dlt is None:
            self._dlt = self.transport.sibling(self._service_address("dlt"))
        self._dlt.write(text.encode("ascii"))
        answer = self._dlt.read_frame(self.timeout_s).decode("utf-8", "replace").strip()
        try:
            said: Any = json.loads(answer) if answer else None
        except ValueError:
            self._dlt.mark_stale()
            raise BadAnswerError(
                f"{self._dlt.where}: {text!r} was answered with {answer[:80]!r}, expected JSON; is it the DataLinkTarget port?"
            ) from None
        if isinstance(said, dict) and "error" in said:
            problem: Any = cast("dict[str, Any]", said)["error"]
            words = (
                cast("dict[str, Any]", problem).get("description") if isinstance(problem, dict) else problem
            )
            raise RefusedError(f"{self._dlt.where}: refused {text!r}: {words}")
        return cast("Any", said)

    def _stop_acquisitions(self) -> None:
        """Stop every acquisition the service has, also those that somebody else left behind."""
        self._acquisitions.clear()
        running: Any = self._service("list")
        for identifier in cast("list[Any]", running) if isinstance(running, list) else []:
            self._service(f"stop --id {identifier}")

    def _drop_stream(self, channel: int) -> None:
        stream = self._streams.pop(channel, None)
        if stream is not None:
            stream.close()
