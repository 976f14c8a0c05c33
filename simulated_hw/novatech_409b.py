"""A simulated Novatech 409B: its serial commands over four RF channels of the world (DEVICES.md 3.3).

The four channels go through amplifiers of their own, which are always on. Table mode is not simulated: ``M t`` is a bad mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from labctl.sim.instrument import LineInstrument, LineSession, Send, Session, on
from simulated_hw.world.parts import RfChannel

OK = "OK"
UNRECOGNIZED, BAD_FREQUENCY, TOO_LONG, BAD_PHASE, BAD_MODE, BAD_AMPLITUDE = "?0", "?1", "?3", "?4", "?6", "?7"
HIGHEST_MHZ = 171.1276
FULL_SCALE_V = 1.02
LONGEST_COMMAND = 60
RESTART_S = 1.0


@dataclass
class Words:
    """What one channel's registers hold."""

    decihertz: int = 0
    phase: int = 0
    amplitude: int = 0


class SimNovatech409B(LineInstrument):
    """A 409B over four RF channels.

    amplifier_db:  gain between each output and its AOM
    """

    request_end: ClassVar[bytes] = b"\n"
    reply_end: ClassVar[bytes] = b"\r\n"
    longest_line: ClassVar[int] = 1024

    def __init__(
        self,
        channels: Sequence[RfChannel],
        now: Callable[[], float],
        rng: np.random.Generator,
        *,
        amplifier_db: float = 26.0,
    ) -> None:
        super().__init__()
        self.rf = list(channels)
        self._now = now
        self._rng = rng
        self.amplifier_db = amplifier_db
        self.saved = [Words(round(rf.frequency_hz * 10), 0, self._word(rf)) for rf in self.rf]
        self.silent_until_s = -math.inf
        self.power_up()

    def power_up(self) -> None:
        """Settings from its memory, and the echo on."""
        self.echo = True
        self.automatic = True
        self.words = [Words(w.decihertz, w.phase, w.amplitude) for w in self.saved]
        self.drive()

    def own_faults(self) -> dict[str, Callable[[], None]]:
        """A dip of the mains: it starts anew."""
        return {"power_cycle": self.power_up}

    def session(self, port: str, send: Send) -> Session:
        """A client."""
        return NovatechSession(self, send)

    def silent(self) -> bool:
        """Whether it is still starting after a reset."""
        return self._now() < self.silent_until_s

    def drive(self) -> None:
        """Give the channels what the registers say."""
        for rf, words in zip(self.rf, self.words, strict=True):
            rf.frequency_hz = words.decihertz / 10
            rf.phase_turns = words.phase / 16384
            rf.amplifier_on = True
            rf.signal_on = words.amplitude > 0
            if words.amplitude:
                rf.power_dbm = _dbm(words.amplitude) + self.amplifier_db

    def answer(self, line: str) -> str | None:
        """The reply to one line, in any case of letters."""
        if len(line) > LONGEST_COMMAND:
            return TOO_LONG
        return super().answer(line.strip().upper())

    def unknown(self, line: str) -> str:
        """Anything else."""
        return UNRECOGNIZED

    @on("")
    def nothing(self) -> str:
        """An empty line."""
        return OK

    @on(r"E\s*([DE])")
    def set_echo(self, switch: str) -> str:
        """Echo off (d) or on (e)."""
        self.echo = switch == "E"
        return OK

    @on(r"F([0-9]) (\S+)")
    def frequency(self, channel: str, mhz: str) -> str:
        """Frequency in MHz."""
        value = _number(mhz)
        if not 0 <= value <= HIGHEST_MHZ or int(channel) >= len(self.rf):
            return BAD_FREQUENCY
        self.words[int(channel)].decihertz = round(value * 1e7)
        return self._taken()

    @on(r"P([0-9]) (\S+)")
    def phase(self, channel: str, word: str) -> str:
        """Phase in 1/16384 turn."""
        value = _number(word)
        if not 0 <= value < 16384 or value % 1 or int(channel) >= len(self.rf):
            return BAD_PHASE
        self.words[int(channel)].phase = int(value)
        return self._taken()

    @on(r"V([0-9]) (\S+)")
    def amplitude(self, channel: str, word: str) -> str:
        """Amplitude of 1023; 1024 and more are full scale and no error, as users found."""
        value = _number(word)
        if not value >= 0 or value % 1 or int(channel) >= len(self.rf):
            return BAD_AMPLITUDE
        self.words[int(channel)].amplitude = min(int(value), 1023)
        return self._taken()

    @on(r"I\s*([A-Z])")
    def update(self, how: str) -> str:
        """Updates by themselves (a), by hand (m), now (p)."""
        if how not in "AMP":
            return BAD_MODE
        if how != "P":
            self.automatic = how == "A"
        if how != "M":
            self.drive()
        return OK

    @on(r"M\s*(\S)")
    def mode(self, how: str) -> str:
        """Single tone (0), phase cleared at each change (a) or not (n)."""
        return OK if how in "0AN" else BAD_MODE

    @on(r"(?:KB|KP)\s*[0-9A-F]{2}|C\s*[IED]")
    def constants(self) -> str:
        """Baud rate, clock multiplier, clock source."""
        return OK

    @on("S")
    def save(self) -> str:
        """Settings to memory."""
        self.saved = [Words(w.decihertz, w.phase, w.amplitude) for w in self.words]
        return OK

    @on("R")
    def reset(self) -> None:
        """Start anew; nothing is answered for a second."""
        self.power_up()
        self.silent_until_s = self._now() + RESTART_S

    @on("QUE")
    def query(self) -> str:
        """All registers in hex, then clock settings and version."""
        lines = [
            f"{w.decihertz:08X} {w.phase:04X} {w.amplitude:04X} 0000 00000000 00000000 000301"
            for w in self.words
        ]
        return "\r\n".join([*lines, "80 BC0000 0000 0102 21"])

    def _taken(self) -> str:
        if self.automatic:
            self.drive()
        return OK

    def _word(self, rf: RfChannel) -> int:
        """The register that gives the channel's present power."""
        if not rf.signal_on:
            return 0
        return min(1023, round(1023 * 10 ** ((rf.power_dbm - self.amplifier_db - _dbm(1023)) / 20)))


class NovatechSession(LineSession):
    """Echoes what comes, and hears nothing while the instrument starts."""

    def __init__(self, instrument: SimNovatech409B, send: Send) -> None:
        super().__init__(instrument, send)
        self.dds = instrument

    def receive(self, data: bytes) -> None:
        """Answer every complete line."""
        if self.dds.silent():
            return
        self._buffer += data
        while (at := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:at]).rstrip(b"\r")
            del self._buffer[: at + 1]
            echo = self.dds.echo
            reply = self.dds.answer(line.decode("latin-1"))
            answers = ([line] if echo else []) + ([] if reply is None else [reply.encode("latin-1")])
            if answers:
                self.send(b"".join(answer + self.dds.reply_end for answer in answers))
        if len(self._buffer) > self.dds.longest_line:
            self._buffer.clear()


def _dbm(amplitude: int) -> float:
    """Power into 50 ohm at an amplitude word, dBm."""
    volts = FULL_SCALE_V * amplitude / 1023
    return 10 * math.log10(volts**2 / 8 / 50 / 1e-3)


def _number(text: str) -> float:
    """A plain decimal number, NaN for anything else."""
    plain = text.replace(".", "", 1)
    return float(text) if plain.isascii() and plain.isdecimal() else math.nan


def demo(now: Callable[[], float]) -> SimNovatech409B:
    """A synthesizer with four channels."""
    return SimNovatech409B([RfChannel() for _ in range(4)], now, np.random.default_rng(1))
