"""A simulated MOGLabs QRF: its command line over four RF channels of the world, table mode included (DEVICES.md 3.3).

The card leaves open the bits of STATUS (here: 1 signal, 2 amplifier, 4 armed, 8 running) and the words of most errors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from labctl.sim.instrument import LineInstrument, LineSession, Send, Session, on
from simulated_hw.moglabs_table import Output, Row
from simulated_hw.world.parts import RfChannel

OK = "OK"
MHZ = 1e6
LOWEST_HZ, HIGHEST_HZ = 20 * MHZ, 400 * MHZ
LOWEST_DBM, HIGHEST_DBM = -50.0, 36.0
MOST_ROWS = 8191
CH = r"(\d+)"
VALUE = r"([^,]+)"
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:E[-+]?\d+)?)\s*([A-Z]*)")


class CommandError(Exception):
    """A command that is answered with ``ERR: text``."""


class SimMoglabsQrf(LineInstrument):
    """A QRF over the RF channels of the world."""

    request_end: ClassVar[bytes] = b"\r\n"
    reply_end: ClassVar[bytes] = b"\r\n"
    longest_line: ClassVar[int] = 1024

    def __init__(
        self, channels: Sequence[RfChannel], now: Callable[[], float], rng: np.random.Generator
    ) -> None:
        super().__init__()
        self.outputs = [Output(rf, signal=rf.signal_on) for rf in channels]
        self._now = now
        self._rng = rng
        self.clock_source = "INT"
        self.asleep_until_s = -math.inf

    def session(self, port: str, send: Send) -> Session:
        """A client."""
        return QrfSession(self, send)

    def advance(self) -> None:
        """Play the tables up to now."""
        for output in self.outputs:
            output.advance(self._now())

    def hardware_trigger(self, channel: int) -> None:
        """An edge at the trigger input of ``channel``."""
        self.advance()
        self.outputs[channel - 1].trigger(self._now())

    def asleep(self) -> bool:
        """Whether a SLEEP is going on."""
        return self._now() < self.asleep_until_s

    def answer(self, line: str) -> str | None:
        """The reply to one line; case and white space around commas do not matter."""
        self.advance()
        plain = line.encode("latin-1").upper().decode("latin-1")  # ASCII letters only
        try:
            return super().answer(",".join(part.strip() for part in plain.split(",")))
        except CommandError as error:
            return f"ERR: {error}"

    def unknown(self, line: str) -> str:
        """An undefined command."""
        return "ERR: Command not defined"

    @on("INFO")
    def info(self) -> str:
        """About the unit."""
        return "MOGLabs QRF421, S/N A12345, 4 channels"

    @on("VERSION")
    def version(self) -> str:
        """Firmware."""
        return "UC: 1.4.2, FPGA: 0.5.3"

    @on("TEMP")
    def temperature(self) -> str:
        """Temperature and fan."""
        return f"{31.2 + 0.1 * self._rng.standard_normal():.1f} C, fan 2400 rpm"

    @on(rf"FREQ,{CH}(?:,{VALUE})?")
    def frequency(self, channel: str, value: str | None) -> str:
        """Frequency in MHz."""
        rf = self._output(channel).rf
        if value is None:
            word = round(rf.frequency_hz / 1e9 * 2**32)
            return f"{rf.frequency_hz / MHZ:.6f} MHz (0x{word:08X})"
        rf.frequency_hz = self._frequency(value)
        return OK

    @on(rf"POW,{CH}(?:,{VALUE})?")
    def power(self, channel: str, value: str | None) -> str:
        """Power in dBm."""
        rf = self._output(channel).rf
        if value is None:
            return f"{rf.power_dbm:.3f} dBm"
        rf.power_dbm = self._power(value, rf)
        return OK

    @on(rf"LIMIT,{CH}(?:,{VALUE})?")
    def limit(self, channel: str, value: str | None) -> str:
        """Highest power in dBm; the power follows it down."""
        rf = self._output(channel).rf
        if value is None:
            return f"{rf.limit_dbm:.3f} dBm"
        dbm = _dbm(value)
        if not LOWEST_DBM <= dbm <= HIGHEST_DBM:
            raise CommandError("Limit out of range")
        rf.limit_dbm = dbm
        rf.power_dbm = min(rf.power_dbm, dbm)
        return OK

    @on(rf"PHASE,{CH}(?:,{VALUE})?")
    def phase(self, channel: str, value: str | None) -> str:
        """Phase in degrees."""
        rf = self._output(channel).rf
        if value is None:
            return f"{rf.phase_turns * 360:.4f} deg"
        rf.phase_turns = _degrees(value) / 360
        return OK

    @on(rf"MODE,{CH}(?:,{VALUE})?")
    def mode(self, channel: str, mode: str | None) -> str:
        """NSB normal, NSA advanced, TSB table."""
        output = self._output(channel)
        if mode is None:
            return output.mode
        if mode not in ("NSB", "NSA", "TSB"):
            raise CommandError("Invalid mode")
        output.halt()
        output.mode = mode
        return OK

    @on(rf"(ON|OFF),{CH}(?:,(SIG|POW|ALL))?")
    def switch(self, on_off: str, channel: str, what: str | None) -> str:
        """Signal, amplifier or both."""
        self._output(channel).switch(what or "ALL", on_off == "ON")
        return OK

    @on(rf"STATUS,{CH}")
    def status(self, channel: str) -> str:
        """A bit field."""
        return str(self._output(channel).status())

    @on(r"ALIGNPH((?:,\d+)*)")
    def align_phases(self, channels: str) -> str:
        """Reset the phase accumulators together."""
        self._several(channels)
        return OK

    @on(r"CLKSRC(?:,(INT|EXT)(?:,(\d+))?)?")
    def clock(self, source: str | None, mhz: str | None) -> str:
        """Clock source."""
        if source is None:
            return self.clock_source
        self.clock_source = source if mhz is None else f"{source}, {mhz} MHz"
        return OK

    @on(r"SLEEP,(\d{1,6})")
    def sleep(self, milliseconds: str) -> str:
        """Answer nothing more for a while."""
        self.asleep_until_s = self._now() + int(milliseconds) * 1e-3
        return OK

    @on("REBOOT")
    def reboot(self) -> str:
        """Outputs off, tables gone."""
        for output in self.outputs:
            output.halt()
            output.switch("ALL", False)
            output.mode, output.table = "NSB", []
        return OK

    @on(r"TABLE,APPEND,(\d+),(.+)")
    def table_append(self, channel: str, fields: str) -> str:
        """One more row."""
        output = self._output(channel)
        if len(output.table) >= MOST_ROWS:
            raise CommandError("Table is full")
        output.table.append(self._row(fields, output.rf))
        return OK

    @on(r"TABLE,ENTRY,(\d+),(\d+)(?:,(.+))?")
    def table_entry(self, channel: str, index: str, fields: str | None) -> str:
        """Show or change a row. Its replies have no OK, and its errors begin with Invalid."""
        output = self._output(channel)
        at = int(index) - 1
        if not 0 <= at < len(output.table):
            return "Invalid entry number"
        if fields is not None:
            try:
                output.table[at] = self._row(fields, output.rf)
            except CommandError as error:
                return f"Invalid entry: {error}"
        return output.table[at].text()

    @on(rf"TABLE,ENTRIES,{CH}(?:,(\d+))?")
    def table_entries(self, channel: str, count: str | None) -> str:
        """How many rows; setting it cuts the table."""
        output = self._output(channel)
        if count is None:
            return str(len(output.table))
        if int(count) > len(output.table):
            raise CommandError("Not so many entries")
        output.halt()
        del output.table[int(count) :]
        return OK

    @on(rf"TABLE,(CLEAR|ARM|TRIGSYNC|STATUS),{CH}")
    def table_order(self, what: str, channel: str) -> str:
        """Clear, arm, synchronise; or the table's state."""
        output = self._output(channel)
        if what == "STATUS":
            return output.state()
        if what == "CLEAR":
            output.halt()
            output.table.clear()
        if what == "ARM":
            if output.mode != "TSB":
                raise CommandError("Channel is not in table mode")
            if not output.table:
                raise CommandError("Table is empty")
            output.halt()
            output.armed = True
        return OK

    @on(r"TABLE,START((?:,\d+)*)")
    def table_start(self, channels: str) -> str:
        """Software trigger."""
        outputs = self._several(channels)
        if channels and not all(output.armed or output.row is not None for output in outputs):
            raise CommandError("Table is not armed")
        for output in outputs:
            output.trigger(self._now())
        return OK

    @on(r"TABLE,STOP((?:,\d+)*)")
    def table_stop(self, channels: str) -> str:
        """Stop at the end of the present row."""
        for output in self._several(channels):
            output.armed, output.stopping = False, output.row is not None
            output.advance(self._now())
        return OK

    @on(rf"TABLE,(REARM|RESTART),{CH}(?:,(ON|OFF))?")
    def table_repeat(self, what: str, channel: str, switch: str | None) -> str:
        """Arm again, or start again, when the table has ended."""
        output = self._output(channel)
        if switch is None:
            return "on" if (output.rearm if what == "REARM" else output.restart) else "off"
        if what == "REARM":
            output.rearm = switch == "ON"
        else:
            output.restart = switch == "ON"
        return OK

    @on(rf"TABLE,EDGE,{CH}(?:,(RISING|FALLING))?")
    def table_edge(self, channel: str, edge: str | None) -> str:
        """Trigger edge."""
        output = self._output(channel)
        if edge is None:
            return output.edge
        output.edge = edge
        return OK

    @on(rf"TABLE,NAME,{CH}(?:,{VALUE})?")
    def table_name(self, channel: str, name: str | None) -> str:
        """A label."""
        output = self._output(channel)
        if name is None:
            return output.name
        output.name = name
        return OK

    def _output(self, channel: str) -> Output:
        if not 1 <= int(channel) <= len(self.outputs):
            raise CommandError("Invalid channel")
        return self.outputs[int(channel) - 1]

    def _several(self, channels: str) -> list[Output]:
        """The outputs of ``,1,2``; all of them for nothing."""
        return [self._output(c) for c in channels.split(",")[1:]] or self.outputs

    def _row(self, fields: str, rf: RfChannel) -> Row:
        values = fields.split(",")
        if len(values) < 4 or not {*values[4:]} <= {"SIG", "POW", "TRIG"}:
            raise CommandError("Expected frequency, power, phase, duration and flags")
        if not re.fullmatch(r"\d{1,9}", values[3]):
            raise CommandError("Invalid duration")
        return Row(
            self._frequency(values[0]),
            self._power(values[1], rf),
            _degrees(values[2]),
            int(values[3]),
            tuple(values[4:]),
        )

    def _frequency(self, text: str) -> float:
        hertz = _scaled(text, {"": MHZ, "MHZ": MHZ, "KHZ": 1e3, "HZ": 1.0})
        if not LOWEST_HZ <= hertz <= HIGHEST_HZ:
            raise CommandError("Frequency out of range")
        return hertz

    def _power(self, text: str, rf: RfChannel) -> float:
        dbm = _dbm(text)
        if not LOWEST_DBM <= dbm <= rf.limit_dbm:
            raise CommandError("Power exceeds limit")
        return dbm


class QrfSession(LineSession):
    """Also lets tables run between questions, and keeps what comes during SLEEP for later."""

    def __init__(self, instrument: SimMoglabsQrf, send: Send) -> None:
        super().__init__(instrument, send)
        self.qrf = instrument
        self._later = bytearray()

    def receive(self, data: bytes) -> None:
        """Bytes from the client."""
        if self.qrf.asleep():
            self._later += data
        else:
            super().receive(data)

    def tick(self, now_s: float) -> None:
        """Let time pass."""
        self.qrf.advance()
        if self._later and not self.qrf.asleep():
            data = bytes(self._later)
            self._later.clear()
            super().receive(data)


def _scaled(text: str, units: dict[str, float]) -> float:
    """A number with one of the units (a bare one is under "")."""
    match = _NUMBER.fullmatch(text)
    if match is None or match[2] not in units or not math.isfinite(float(match[1])):
        raise CommandError("Invalid value")
    return float(match[1]) * units[match[2]]


def _dbm(text: str) -> float:
    if text.endswith("W"):
        watts = _scaled(text, {"W": 1.0, "MW": 1e-3})
        return 10 * math.log10(watts / 1e-3) if watts > 0 else LOWEST_DBM
    return _scaled(text, {"": 1.0, "DBM": 1.0})


def _degrees(text: str) -> float:
    return _scaled(text, {"": 1.0, "DEG": 1.0, "RAD": 180 / math.pi}) % 360


def demo(now: Callable[[], float]) -> SimMoglabsQrf:
    """A synthesizer with four channels."""
    return SimMoglabsQrf([RfChannel() for _ in range(4)], now, np.random.default_rng(1))
