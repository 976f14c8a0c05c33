"""Simulated signal generators over RF channels of the world: Rigol DG4102, Keysight 33622A, Rohde & Schwarz SMB100A.

They take headers in long and short form and in any case, with units after numbers (DEVICES.md 3.3). Each channel goes through
an amplifier of its own to the AOM, which is always on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from labctl.sim.instrument import LineInstrument, on
from simulated_hw.scpi_headers import canonical, number
from simulated_hw.world.parts import RfChannel

MESSAGES = {
    0: "No error",
    -104: "Data type error",
    -109: "Missing parameter",
    -113: "Undefined header",
    -222: "Data out of range",
    -224: "Illegal parameter value",
    -350: "Queue overflow",
}
ERRORS_KEPT = 20
RMS_OF_PP = 1 / (2 * math.sqrt(2))
OHM = 50.0
INFINITE_OHM = 9.9e37


@dataclass
class Channel:
    """Settings of one output."""

    rf: RfChannel
    frequency_hz: float
    volts_pp: float
    """Into a real 50 ohm."""
    phase_deg: float = 0.0
    offset_v: float = 0.0
    on: bool = False
    waveform: str = "SIN"
    load_ohm: float = OHM
    unit: str = "VPP"

    def load_factor(self) -> float:
        """Shown voltage over the voltage into 50 ohm, for the load it reckons with."""
        return 2 / (1 + OHM / self.load_ohm)


class SimScpiGenerator(LineInstrument):
    """What all three have in common; use one of the classes below.

    channels:      what the outputs drive, one for each
    amplifier_db:  gain between each output and its AOM
    """

    longest_line: ClassVar[int] = 4096
    identity: ClassVar[str]
    level: ClassVar[str]
    """Header of the level: VOLT or POW."""
    frequencies_hz: ClassVar[tuple[float, float]]
    phases_deg: ClassVar[tuple[float, float]]
    volts_pp: ClassVar[tuple[float, float]] = (1e-3, 10.0)
    digits: ClassVar[str]
    """Format of numbers."""
    on_off: ClassVar[tuple[str, str]] = ("0", "1")
    no_error: ClassVar[str] = "0"

    def __init__(
        self,
        channels: Sequence[RfChannel] | RfChannel,
        now: Callable[[], float],
        rng: np.random.Generator,
        *,
        amplifier_db: float = 26.0,
    ) -> None:
        super().__init__()
        self._now = now
        self._rng = rng
        self.amplifier_db = amplifier_db
        self.errors: deque[int] = deque()
        self.angle = "DEG"
        self.channels = [
            Channel(rf, rf.frequency_hz, _volts(rf.power_dbm - amplifier_db), on=rf.signal_on)
            for rf in ([channels] if isinstance(channels, RfChannel) else channels)
        ]
        self.reset(self.level == "POW")

    def reset(self, keep: bool = False) -> None:
        """The state after ``*RST``, or after power-up with the settings kept."""
        for channel in self.channels:
            channel.unit = "DBM" if self.level == "POW" else "VPP"
            if not keep:
                channel.on, channel.phase_deg, channel.waveform = False, 0.0, "SIN"
            channel.volts_pp = min(max(channel.volts_pp, self.lowest_volts()), self.volts_pp[1])
            self._drive(channel)

    def lowest_volts(self) -> float:
        """Least peak-to-peak voltage into 50 ohm."""
        return self.volts_pp[0]

    def answer(self, line: str) -> str | None:
        """Replies to all commands of a line, joined with semicolons; None if none replies."""
        replies: list[str] = []
        path = ""
        for part in line.split(";"):
            command = " ".join(part.split())
            if not command:
                continue
            if path and not command.startswith((":", "*")):
                command = path + command
            if not command.startswith("*"):
                path = command.partition(" ")[0].rpartition(":")[0] + ":"
            plain = canonical(command)
            reply = self.unknown(command) if plain is None else super().answer(plain)
            if reply is not None:
                replies.append(reply)
        return ";".join(replies) if replies else None

    def unknown(self, line: str) -> None:
        """An undefined header goes to the error queue, and nothing is answered."""
        self._error(-113)

    @on(r"\*IDN\?")
    def identify(self) -> str:
        """Maker, model, serial number, firmware."""
        return self.identity

    @on(r"\*RST")
    def restart(self) -> None:
        """Default settings."""
        self.reset()

    @on(r"\*CLS")
    def clear_status(self) -> None:
        """Empty the error queue."""
        self.errors.clear()

    @on(r"\*OPC\?")
    def complete(self) -> str:
        """All done."""
        return "1"

    @on(r"SYST:ERR\? \d")
    def next_error(self) -> str:
        """Oldest error of the queue."""
        code = self.errors.popleft() if self.errors else 0
        return f'{code or self.no_error},"{MESSAGES[code]}"'

    @on(r"SYST:ERR:ALL\? \d")
    def all_errors(self) -> str:
        """The whole queue."""
        return ",".join([self.next_error(), *(self.next_error() for _ in range(len(self.errors)))])

    @on(r"SOUR:FREQ\? (\d+)(?: (MIN|MAX)\w*)?")
    def get_frequency(self, n: str, end: str | None) -> str | None:
        """Frequency, or an end of its range."""
        channel = self._channel(n)
        ends = {"MIN": self.frequencies_hz[0], "MAX": self.frequencies_hz[1]}
        return channel and self._show(ends.get(end or "", channel.frequency_hz))

    @on(r"SOUR:FREQ (\d+)(?: (.+))?")
    def set_frequency(self, n: str, text: str | None) -> None:
        """Frequency in Hz."""
        channel, hertz = self._channel(n), self._value(text, *self.frequencies_hz)
        if channel and hertz is not None:
            channel.frequency_hz = hertz
            self._drive(channel)

    @on(r"SOUR:(VOLT|POW)\? (\d+)")
    def get_level(self, header: str, n: str) -> str | None:
        """Level in the unit chosen."""
        channel = self._channel(n)
        if channel is None or header != self.level:
            return self._error(-113)
        shown = channel.volts_pp * channel.load_factor()
        levels = {"VPP": shown, "VRMS": shown * RMS_OF_PP, "DBM": _dbm(channel.volts_pp)}
        return self._show(levels[channel.unit])

    @on(r"SOUR:(VOLT|POW) (\d+)(?: (.+))?")
    def set_level(self, header: str, n: str, text: str | None) -> None:
        """Level in the unit chosen."""
        channel = self._channel(n)
        if channel is None or header != self.level:
            return self._error(-113)
        value = self._value(text, -math.inf, math.inf)
        if value is None:
            return None
        shown = {"VPP": value, "VRMS": value / RMS_OF_PP}.get(channel.unit, 0.0)
        volts = _volts(value) if channel.unit == "DBM" else shown / channel.load_factor()
        if not self.lowest_volts() * (1 - 1e-6) <= volts <= self.volts_pp[1] * (1 + 1e-6):
            return self._error(-222)
        channel.volts_pp = volts
        return self._drive(channel)

    @on(r"SOUR:VOLT:UNIT\? (\d+)")
    def get_unit(self, n: str) -> str | None:
        """VPP, VRMS or DBM."""
        channel = self._channel(n)
        return self._error(-113) if channel is None or self.level == "POW" else channel.unit

    @on(r"SOUR:VOLT:UNIT (\d+) (\w+)")
    def set_unit(self, n: str, unit: str) -> None:
        """VPP, VRMS or DBM."""
        channel = self._channel(n)
        if channel is None or self.level == "POW":
            return self._error(-113)
        if unit not in ("VPP", "VRMS", "DBM"):
            return self._error(-224)
        channel.unit = unit
        return None

    @on(r"UNIT:(POW|ANGL)\? \d+")
    def get_common_unit(self, what: str) -> str | None:
        """Unit of all powers (Rohde & Schwarz) or angles (Keysight)."""
        return (
            {"POW": self.channels[0].unit, "ANGL": self.angle}[what]
            if what in self.units
            else self._error(-113)
        )

    @on(r"UNIT:(POW|ANGL) \d+ (\w+)")
    def set_common_unit(self, what: str, unit: str) -> None:
        """Unit of all powers or angles."""
        if what not in self.units:
            return self._error(-113)
        if unit not in {"POW": ("DBM", "V"), "ANGL": ("DEG", "RAD")}[what]:
            return self._error(-224)
        if what == "ANGL":
            self.angle = unit
        else:
            self.channels[0].unit = {"V": "VRMS"}.get(unit, unit)
        return None

    units: ClassVar[tuple[str, ...]] = ()
    """Which units are common to all channels."""

    @on(r"SOUR:PHAS\? (\d+)")
    def get_phase(self, n: str) -> str | None:
        """Phase in the unit chosen."""
        channel = self._channel(n)
        return channel and self._show(channel.phase_deg * self._angle())

    @on(r"SOUR:PHAS (\d+)(?: (.+))?")
    def set_phase(self, n: str, text: str | None) -> None:
        """Phase in the unit chosen."""
        channel = self._channel(n)
        value = self._value(text, *(end * self._angle() for end in self.phases_deg))
        if channel and value is not None:
            channel.phase_deg = value / self._angle()
            self._drive(channel)

    @on(r"SOUR:VOLT:OFFS(\?)? (\d+)(?: (.+))?")
    def offset(self, question: str | None, n: str, text: str | None) -> str | None:
        """Offset in V."""
        channel = self._channel(n)
        if channel is None or self.level == "POW":
            return self._error(-113)
        if question:
            return self._show(channel.offset_v)
        volts = self._value(text, -5.0, 5.0)
        channel.offset_v = channel.offset_v if volts is None else volts
        return None

    @on(r"SOUR:FUNC(\?)? (\d+)(?: (\w+))?")
    def waveform(self, question: str | None, n: str, name: str | None) -> str | None:
        """SIN, SQU, RAMP or NOIS."""
        channel = self._channel(n)
        if channel is None or self.level == "POW":
            return self._error(-113)
        if question:
            return channel.waveform
        short = next((w for w in ("SIN", "SQU", "RAMP", "NOIS") if (name or "").startswith(w)), None)
        if short is None:
            return self._error(-224)
        channel.waveform = short
        return None

    @on(r"OUTP:(?:LOAD|IMP)(\?)? (\d+)(?: (\S+))?")
    def load(self, question: str | None, n: str, text: str | None) -> str | None:
        """The load that levels are reckoned for, ohm; the output itself stays as it is."""
        channel = self._channel(n)
        if channel is None or self.level == "POW":
            return self._error(-113)
        if question:
            return self._show(channel.load_ohm)
        ohm = INFINITE_OHM if (text or "").startswith("INF") else self._value(text, 1.0, 10e3)
        channel.load_ohm = channel.load_ohm if ohm is None else ohm
        return None

    @on(r"OUTP\? (\d+)")
    def get_output(self, n: str) -> str | None:
        """Whether the output is on."""
        channel = self._channel(n)
        return channel and self.on_off[channel.on]

    @on(r"OUTP (\d+)(?: (\w+))?")
    def set_output(self, n: str, text: str | None) -> None:
        """Output on or off."""
        channel = self._channel(n)
        switch = {"ON": True, "1": True, "OFF": False, "0": False}.get(text or "")
        if channel is None:
            return None
        if switch is None:
            return self._error(-224 if text else -109)
        channel.on = switch
        return self._drive(channel)

    def _drive(self, channel: Channel) -> None:
        """Give the RF channel what the settings say."""
        rf = channel.rf
        rf.frequency_hz = channel.frequency_hz
        rf.power_dbm = _dbm(channel.volts_pp) + self.amplifier_db
        rf.phase_turns = channel.phase_deg / 360
        rf.signal_on, rf.amplifier_on = channel.on, True

    def _channel(self, n: str) -> Channel | None:
        if not 1 <= int(n) <= len(self.channels):
            return self._error(-113)
        return self.channels[int(n) - 1]

    def _angle(self) -> float:
        """Of one degree in the unit chosen."""
        return 1.0 if self.angle == "DEG" else math.pi / 180

    def _value(self, text: str | None, lowest: float, highest: float) -> float | None:
        """A number within its range, or None with an error in the queue."""
        if text is None:
            return self._error(-109)
        value = number(text)
        if value is None:
            return self._error(-104)
        return value if lowest <= value <= highest and math.isfinite(value) else self._error(-222)

    def _show(self, value: float) -> str:
        return format(value, self.digits)

    def _error(self, code: int) -> None:
        if len(self.errors) >= ERRORS_KEPT:
            self.errors[-1] = -350
        else:
            self.errors.append(code)


class SimRigolDg4102(SimScpiGenerator):
    """Two channels; answers ``:OUTP1?`` with a line end too many, and numbers with seven digits."""

    identity = "Rigol Technologies,DG4102,DG4E000000001,00.01.12"
    level = "VOLT"
    frequencies_hz = (1e-6, 100e6)
    phases_deg = (0.0, 360.0)
    digits = ".6E"
    on_off = ("OFF\n", "ON\n")


class SimKeysight33622A(SimScpiGenerator):
    """Two channels; signs before numbers, and a unit of angles."""

    identity = "Keysight Technologies,33622A,MY00000001,A.02.03-3.15-03-64-02"
    level = "VOLT"
    frequencies_hz = (1e-6, 120e6)
    phases_deg = (-360.0, 360.0)
    digits = "+.14E"
    no_error = "+0"
    units = ("ANGL",)


class SimSmb100A(SimScpiGenerator):
    """One channel of sine, levels in dBm."""

    identity = "Rohde&Schwarz,SMB100A,1406.6000k02/100001,3.1.19.15-3.20.390.24"
    level = "POW"
    frequencies_hz = (9e3, 1.1e9)
    phases_deg = (-720.0, 720.0)
    volts_pp = (0.0, 20.0)
    digits = ".10g"
    units = ("POW",)

    def lowest_volts(self) -> float:
        """-120 dBm."""
        return _volts(-120.0)


def _dbm(volts_pp: float) -> float:
    return 10 * math.log10(volts_pp**2 / (8 * OHM) / 1e-3)


def _volts(dbm: float) -> float:
    return math.sqrt(8 * OHM * 1e-3 * 10 ** (dbm / 10)) if dbm < 400 else math.inf


def demo(now: Callable[[], float], kind: type[SimScpiGenerator]) -> SimScpiGenerator:
    """A generator of a kind, with an AOM at each output."""
    outputs = 1 if kind is SimSmb100A else 2
    return kind([RfChannel() for _ in range(outputs)], now, np.random.default_rng(1))
