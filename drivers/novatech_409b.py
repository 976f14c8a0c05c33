"""Novatech 409B four-channel DDS synthesizers, which drive AOMs through amplifiers, over a serial line or a serial server."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from drivers.serial_quiet import quiet_when_opened
from labctl.device import Device, action
from labctl.errors import BadAnswerError, ConfigError, DeviceError, LimitError, RefusedError
from labctl.signal import Signal
from labctl.transport import Transport
from labctl.units import MHz

END = b"\r\n"
CHANNELS = (0, 1, 2, 3)
HIGHEST_HZ = 171.1276e6
PHASE_STEPS = 16384
HIGHEST_RAD = 2 * math.pi * (PHASE_STEPS - 1) / PHASE_STEPS
FULL_AMPLITUDE = 1023
FULL_SCALE_V = 1.02
REFUSALS = {
    "0": "unrecognized command",
    "1": "bad frequency",
    "2": "bad AM command",
    "3": "input line too long",
    "4": "bad phase",
    "5": "bad time",
    "6": "bad mode",
    "7": "bad amplitude",
    "8": "bad constant",
    "f": "bad byte",
}
_CHANNEL_LINE = re.compile(r"([0-9A-F]{8}) ([0-9A-F]{4}) ([0-9A-F]{4})(?: [0-9A-F]+){4}", re.IGNORECASE)
_LAST_LINE = re.compile(r"[0-9A-F]{2} [0-9A-F]{6} [0-9A-F]{4} [0-9A-F]{4} ([0-9A-F]{2})", re.IGNORECASE)


class Channel(NamedTuple):
    """What ``QUE`` says about one channel."""

    decihertz: int
    phase: int
    """In 1/16384 of a turn."""
    amplitude: int
    """Of 1023."""


def decode_channel(line: str) -> Channel:
    """One of the first four lines of ``QUE``; ValueError if it is not."""
    match = _CHANNEL_LINE.fullmatch(line)
    if match is None:
        raise ValueError("not the seven hex fields of a channel")
    channel = Channel(int(match[1], 16), int(match[2], 16), int(match[3], 16))
    if channel.phase >= PHASE_STEPS or channel.amplitude > FULL_AMPLITUDE:
        raise ValueError("phase or amplitude out of range")
    return channel


def decode_version(line: str) -> str:
    """The firmware in the fifth line of ``QUE``; ValueError if it is not that."""
    match = _LAST_LINE.fullmatch(line)
    if match is None:
        raise ValueError("not the five hex fields of the last line")
    return match[1]


def _frequency(n: int) -> Signal[float]:
    return Signal(
        float,
        "Hz",
        read=lambda dds: dds.channel(n).decihertz / 10,
        write=lambda dds, hertz: dds.order(f"F{n} {hertz / MHz:.7f}"),
        limits=(0.0, HIGHEST_HZ),
        tolerance=0.2,
        doc=f"RF frequency of channel {n} in steps of 0.1 Hz.",
    )


def _phase(n: int) -> Signal[float]:
    return Signal(
        float,
        "rad",
        read=lambda dds: dds.channel(n).phase / PHASE_STEPS * 2 * math.pi,
        write=lambda dds, radians: dds.order(f"P{n} {phase_word(radians)}"),
        limits=(0.0, HIGHEST_RAD),
        tolerance=4e-4,
        doc=f"Phase offset of channel {n} in steps of 1/16384 turn.",
    )


def _amplitude(n: int) -> Signal[float]:
    return Signal(
        float,
        "V",
        read=lambda dds: dds.channel(n).amplitude / FULL_AMPLITUDE * dds.full_scale_v,
        write=lambda dds, volts: dds.order(f"V{n} {dds.amplitude_word(volts)}"),
        limits=lambda dds: (0.0, dds.full_scale_v),
        tolerance=1e-3,
        doc=f"Peak-to-peak amplitude of channel {n} into 50 ohm; 0 is off.",
    )


def phase_word(radians: float) -> int:
    """The nearest of 16384 phases."""
    return round(radians / (2 * math.pi) * PHASE_STEPS) % PHASE_STEPS


class Novatech409B(Device):
    """A 409B. ``frequency_0``, ``phase_0``, ``amplitude_0`` and so on to channel 3, as the instrument numbers them.

    transport:     ``serial:///dev/ttyUSB0`` (19200 baud unless the address says otherwise) or ``tcp://host:port``
    full_scale_v:  peak-to-peak voltage into 50 ohm at full amplitude; measure yours

    A channel has no switch of its own: off is amplitude 0. Table mode and the external clock are not served. The codes
    of the errors and the shape of ``QUE`` are from drivers other labs use; check them against the manual.
    """

    manual = "Novatech 409B manual, serial commands; DEVICES.md 3.3"
    checked_with = "the dialogue of the ARTIQ and labscript drivers; not yet tried on an instrument"

    frequency_0 = _frequency(0)
    frequency_1 = _frequency(1)
    frequency_2 = _frequency(2)
    frequency_3 = _frequency(3)
    phase_0 = _phase(0)
    phase_1 = _phase(1)
    phase_2 = _phase(2)
    phase_3 = _phase(3)
    amplitude_0 = _amplitude(0)
    amplitude_1 = _amplitude(1)
    amplitude_2 = _amplitude(2)
    amplitude_3 = _amplitude(3)

    def __init__(self, transport: Transport, name: str = "", full_scale_v: float = FULL_SCALE_V) -> None:
        super().__init__(transport, name)
        if not 0 < full_scale_v < 10:
            raise ConfigError(
                f"{self.name}: full_scale_v = {full_scale_v} must be a voltage between 0 and 10, e.g. {FULL_SCALE_V}"
            )
        if transport.address.scheme == "serial":
            transport.address.options.setdefault("baudrate", "19200")
        quiet_when_opened(self)
        self.full_scale_v = full_scale_v
        self._seen: list[Channel] | None = None
        """What one ``QUE`` said, while all signals are read or checked."""

    def open(self) -> None:
        """Connect, end whatever somebody left half typed, switch the echo off, and check that a 409B answers."""
        super().open()
        try:
            self.transport.write(END)
            while self.transport.read_available(0.1 * self.timeout_s):
                pass  # OK, or a complaint about the half line
            self._echo_off()
            self.channels()
        except DeviceError:
            self.close()
            raise

    def identity(self) -> str:
        """The firmware version."""
        return f"Novatech 409B, firmware {decode_version(self._query_all()[-1])}"

    @action
    def safe(self) -> None:
        """Amplitude 0 on all four channels. A channel that fails does not keep the others on."""
        self._on_all(lambda n: self.order(f"V{n} 0"))

    @action
    def set_together(self, settings: Sequence[Sequence[float]]) -> None:
        """Change several channels at one instant.

        settings:  [channel, frequency_hz, amplitude_v, phase_rad] for each channel to change; all are checked before
                   anything is sent
        """
        orders = [order for setting in settings for order in self._orders(setting)]
        self.order("I m")
        try:
            for order in orders:
                self.order(order)
            self.order("I p")
        finally:
            self.order("I a")

    @action
    def clear_phase(self, always: bool) -> None:
        """Whether a change of frequency clears the phase (channels stay aligned) or goes on with it (no jump)."""
        self.order("M a" if always else "M n")

    @action
    def store(self) -> None:
        """Save all settings to the instrument's memory, to come back after a power cycle."""
        self.order("S")

    def ask_ahead(self, names: Sequence[str]) -> None:
        """One question for all signals."""
        self._seen = self.channels()

    def forget(self) -> None:
        """The next reading asks again."""
        self._seen = None

    def not_ready(self) -> str:
        """What a setting is off by, with one question for all of them."""
        self._seen = self.channels()
        try:
            return super().not_ready()
        finally:
            self._seen = None

    def amplitude_word(self, volts: float) -> int:
        """The nearest of the instrument's 1024 amplitudes."""
        return round(volts / self.full_scale_v * FULL_AMPLITUDE)

    def channel(self, n: int) -> Channel:
        """What one channel is set to."""
        return (self._seen or self.channels())[n]

    def channels(self) -> list[Channel]:
        """What all four channels are set to."""
        lines = self._query_all()
        try:
            decode_version(lines[-1])
            return [decode_channel(line) for line in lines[:-1]]
        except ValueError as error:
            raise self._unexpected(
                "QUE", " / ".join(lines), f"four channels and a version ({error})"
            ) from None

    def order(self, text: str) -> None:
        """Send a command that must be answered with OK; RefusedError says which of the instrument's errors came."""
        answer = self._ask(text)
        if answer != "OK":
            raise self._unexpected(text, answer, "OK")

    def _echo_off(self) -> None:
        """Tried twice, the second time on a fresh connection: the complaint about the half line may come late."""
        try:
            self.order("E d")
        except BadAnswerError:
            self.order("E d")

    def _query_all(self) -> list[str]:
        return [self._ask("QUE"), *(self._line() for _ in range(4))]

    def _ask(self, text: str, echoes: bool = False) -> str:
        """Send one line, return the first line of its answer.

        An instrument that was restarted echoes: then its echo is read away and switched off again.

        echoes:  whether that has been tried
        """
        self.transport.write(text.encode("ascii") + END)
        answer = self._line()
        if answer == text:
            if text != "E d":
                if echoes:
                    raise self._unexpected(text, answer, "an answer, not what was sent, as the echo is off")
                self._read_rest(text)
                self.order("E d")
                return self._ask(text, echoes=True)
            answer = self._line()
        if answer.startswith("?"):
            raise RefusedError(
                f"{self.transport.where}: refused {text!r}: {answer}, {REFUSALS.get(answer[1:2].lower(), 'see its manual')}"
            )
        return answer

    def _read_rest(self, text: str) -> None:
        """The answer that follows an echo; the command is then sent again, as all of them bear being repeated."""
        for _ in range(5 if text == "QUE" else 1):
            self._line()

    def _line(self) -> str:
        return self.transport.read_until(END, self.timeout_s).decode("ascii", "replace").strip()

    def _orders(self, setting: Sequence[float]) -> list[str]:
        """The commands for one channel, or LimitError."""
        if len(setting) != 4 or setting[0] not in CHANNELS:
            raise LimitError(
                f"{self.name}: {[*setting]} is not [channel 0 to 3, Hz, V, rad]; nothing was sent"
            )
        n = int(setting[0])
        hertz, volts, radians = (
            self.signal(f"{kind}_{n}").checked(value)
            for kind, value in zip(("frequency", "amplitude", "phase"), setting[1:], strict=True)
        )
        return [
            f"F{n} {hertz / MHz:.7f}",
            f"V{n} {self.amplitude_word(volts)}",
            f"P{n} {phase_word(radians)}",
        ]

    def _on_all(self, do: Callable[[int], None]) -> None:
        """Do it on every channel; the first failure is raised at the end."""
        failures: list[DeviceError] = []
        for n in CHANNELS:
            try:
                do(n)
            except DeviceError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _unexpected(self, question: str, answer: str, expected: str) -> BadAnswerError:
        self.transport.mark_stale()
        return BadAnswerError(
            f"{self.transport.where}: {question!r} was answered with {answer[:120]!r}, expected {expected};"
            " check cable and baud rate"
        )
