"""MOGLabs QRF/XRF four-channel RF synthesizers, which drive AOMs, over their Ethernet command line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from labctl.device import Device, action
from labctl.errors import BadAnswerError, DeviceError, LimitError, RefusedError
from labctl.signal import Limits, Signal
from labctl.transport import Transport
from labctl.units import ZERO_CELSIUS_K, MHz

END = b"\r\n"
CHANNELS: tuple[int, ...] = (1, 2, 3, 4)
LOWEST_HZ, HIGHEST_HZ = 20 * MHz, 400 * MHz
LOWEST_DBM, HIGHEST_DBM = -50.0, 36.0
MOST_ROWS = 8191
STEP_S = 5e-6
"""Unit of a table row's duration."""
LONGEST_STEPS = 2**24
SIGNAL_AND_AMPLIFIER = 0b11
"""Bits of STATUS that say the signal and the amplifier are on."""
_QUANTITY = re.compile(r"\s*([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*([A-Za-z]+)?\b.*", re.DOTALL)


def _frequency(n: int) -> Signal[float]:
    return Signal(
        float,
        "Hz",
        read=lambda qrf: qrf.quantity(f"FREQ,{n}", "MHz") * MHz,
        write=lambda qrf, hertz: qrf.order(f"FREQ,{n},{hertz / MHz:.6f}"),
        limits=(LOWEST_HZ, HIGHEST_HZ),
        tolerance=1.0,
        doc=f"RF frequency of channel {n}.",
    )


def _power(n: int) -> Signal[float]:
    return Signal(
        float,
        "dBm",
        read=lambda qrf: qrf.quantity(f"POW,{n}", "dBm"),
        write=lambda qrf, dbm: qrf.order(f"POW,{n},{dbm:.3f}"),
        limits=lambda qrf: qrf.power_limits(n),
        tolerance=0.1,
        doc=f"RF power of channel {n}, up to the channel's limit.",
    )


def _phase(n: int) -> Signal[float]:
    return Signal(
        float,
        "rad",
        read=lambda qrf: math.radians(qrf.quantity(f"PHASE,{n}", "deg")),
        write=lambda qrf, radians: qrf.order(f"PHASE,{n},{math.degrees(radians):.4f}"),
        limits=(0.0, 2 * math.pi),
        tolerance=1e-3,
        doc=f"Phase offset of channel {n}.",
    )


def _output(n: int) -> Signal[bool]:
    return Signal(
        bool,
        read=lambda qrf: qrf.is_on(n),
        write=lambda qrf, on: qrf.order(f"{'ON' if on else 'OFF'},{n},ALL"),
        poll_s=2.0,
        doc=f"Signal and amplifier of channel {n} together.",
    )


def _limit(n: int) -> Signal[float]:
    return Signal(
        float,
        "dBm",
        read=lambda qrf: qrf.read_limit(n),
        write=lambda qrf, dbm: qrf.write_limit(n, dbm),
        limits=(LOWEST_DBM, HIGHEST_DBM),
        tolerance=0.1,
        doc=f"Highest power channel {n} may give, for the AOM's sake; lowering it lowers the power too.",
    )


class MoglabsQrf(Device):
    """A QRF/XRF. ``frequency_1``, ``power_dbm_1``, ``phase_1``, ``output_1``, ``limit_dbm_1`` and so on to channel 4.

    transport:  ``tcp://host:7802``

    While a channel plays a table (mode TSB) its frequency, power and phase are those of the table's present row.
    """

    manual = "MOGLabs QRF/XRF manual, command language; DEVICES.md 3.3"
    checked_with = "the dialogue of mogdevice 1.2.1 QRF; not yet tried on an instrument"

    frequency_1 = _frequency(1)
    frequency_2 = _frequency(2)
    frequency_3 = _frequency(3)
    frequency_4 = _frequency(4)
    power_dbm_1 = _power(1)
    power_dbm_2 = _power(2)
    power_dbm_3 = _power(3)
    power_dbm_4 = _power(4)
    phase_1 = _phase(1)
    phase_2 = _phase(2)
    phase_3 = _phase(3)
    phase_4 = _phase(4)
    output_1 = _output(1)
    output_2 = _output(2)
    output_3 = _output(3)
    output_4 = _output(4)
    limit_dbm_1 = _limit(1)
    limit_dbm_2 = _limit(2)
    limit_dbm_3 = _limit(3)
    limit_dbm_4 = _limit(4)
    temperature = Signal(
        float,
        "K",
        read=lambda qrf: qrf.quantity("TEMP", "C") + ZERO_CELSIUS_K,
        poll_s=10.0,
        doc="Of the electronics.",
    )

    def __init__(self, transport: Transport, name: str = "") -> None:
        super().__init__(transport, name)
        self._limit_dbm: dict[int, float] = dict.fromkeys(CHANNELS, HIGHEST_DBM)

    def open(self) -> None:
        """Connect and read the power limit of each channel, which only such a synthesizer can answer."""
        super().open()
        try:
            for n in CHANNELS:
                self.read_limit(n)
        except DeviceError:
            self.close()
            raise

    def identity(self) -> str:
        """What INFO says, on one line."""
        return " ".join(self.ask("INFO").split())

    @action
    def safe(self) -> None:
        """Signal and amplifier of all four channels off. A channel that fails does not keep the others on."""
        self._on_all(lambda n: self.order(f"OFF,{n},ALL"))

    @action
    def load_table(self, channel: int, rows: Sequence[Sequence[float]]) -> None:
        """Replace the table of ``channel`` and put the channel into table mode.

        rows:  up to 8191 of [frequency_hz, power_dbm, phase_rad, duration_s], and optionally 0 for signal off; durations
               are multiples of 5 us, and 0 waits for a trigger. All rows are checked before anything is sent.
        """
        self._check_channel(channel)
        if not 1 <= len(rows) <= MOST_ROWS:
            raise LimitError(
                f"{self.name}: a table has 1 to {MOST_ROWS} rows, not {len(rows)}; nothing was sent"
            )
        entries = [self._table_entry(channel, index, row) for index, row in enumerate(rows, start=1)]
        self.order(f"MODE,{channel},TSB")
        self.order(f"TABLE,CLEAR,{channel}")
        for entry in entries:
            self.order(entry)
        question = f"TABLE,ENTRIES,{channel}"
        held = self.ask(question)
        if held.strip() != str(len(entries)):
            raise self._unexpected(question, held, f"{len(entries)} rows")

    @action
    def arm_table(self, channel: int) -> None:
        """Make the table ready for a trigger."""
        self._check_channel(channel)
        self.order(f"TABLE,ARM,{channel}")

    @action
    def start_table(self, channel: int) -> None:
        """Trigger the armed table by software."""
        self._check_channel(channel)
        self.order(f"TABLE,START,{channel}")

    @action
    def stop_table(self, channel: int) -> None:
        """End the table after its present row."""
        self._check_channel(channel)
        self.order(f"TABLE,STOP,{channel}")

    @action
    def leave_table_mode(self, channel: int) -> None:
        """Back to one frequency, power and phase set by the signals (mode NSB)."""
        self._check_channel(channel)
        self.order(f"MODE,{channel},NSB")

    def power_limits(self, channel: int) -> Limits:
        """Lowest power and the channel's limit as last read, dBm."""
        return LOWEST_DBM, min(HIGHEST_DBM, self._limit_dbm[channel])

    def read_limit(self, channel: int) -> float:
        """The channel's power limit, dBm."""
        self._limit_dbm[channel] = self.quantity(f"LIMIT,{channel}", "dBm")
        return self._limit_dbm[channel]

    def write_limit(self, channel: int, dbm: float) -> None:
        """Set the channel's power limit, dBm."""
        self.order(f"LIMIT,{channel},{dbm:.3f}")
        self.read_limit(channel)

    def is_on(self, channel: int) -> bool:
        """Whether signal and amplifier are both on."""
        question = f"STATUS,{channel}"
        answer = self.ask(question)
        if not answer.strip().isdecimal():
            raise self._unexpected(question, answer, "a whole number")
        return int(answer) & SIGNAL_AND_AMPLIFIER == SIGNAL_AND_AMPLIFIER

    def quantity(self, question: str, unit: str) -> float:
        """A number that must come with ``unit``."""
        answer = self.ask(question)
        match = _QUANTITY.fullmatch(answer)
        if match is None or match[2] != unit:
            raise self._unexpected(question, answer, f"a number in {unit}")
        return float(match[1])

    def order(self, text: str) -> None:
        """Send a command that must be answered with OK."""
        answer = self.ask(text)
        if not answer.startswith("OK"):
            raise self._unexpected(text, answer, "OK")

    def ask(self, text: str) -> str:
        """Send one line, return its answer; RefusedError carries the instrument's own words."""
        self.transport.write(text.encode("ascii") + END)
        answer = self.transport.read_until(END, self.timeout_s).decode("ascii", "replace")
        if answer.startswith("ERR"):
            raise RefusedError(f"{self.transport.where}: refused {text!r}: {answer[4:].strip()}")
        return answer

    def _table_entry(self, channel: int, index: int, row: Sequence[float]) -> str:
        """The command that appends one row, or LimitError."""
        where = f"{self.name}: row {index} of the table for channel {channel}"
        if len(row) not in (4, 5) or not all(math.isfinite(value) for value in row):
            raise LimitError(
                f"{where}: {[*row]} is not [Hz, dBm, rad, s] with finite numbers; nothing was sent"
            )
        hertz, dbm, radians, seconds = row[:4]
        low, high = self.power_limits(channel)
        steps = round(seconds / STEP_S)
        if not LOWEST_HZ <= hertz <= HIGHEST_HZ:
            raise LimitError(f"{where}: {hertz / MHz:g} MHz is outside 20 to 400 MHz; nothing was sent")
        if not low <= dbm <= high:
            raise LimitError(f"{where}: {dbm:g} dBm is outside {low:g} to {high:g} dBm; nothing was sent")
        if not 0 <= steps <= LONGEST_STEPS or abs(seconds - steps * STEP_S) > 1e-9:
            raise LimitError(f"{where}: {seconds!r} s is not a multiple of 5 us; nothing was sent")
        off = ",SIG" if len(row) == 5 and not row[4] else ""
        degrees = math.degrees(radians) % 360
        return f"TABLE,APPEND,{channel},{hertz / MHz:.6f},{dbm:.3f},{degrees:.4f},{steps}{off}"

    def _check_channel(self, channel: int) -> None:
        if channel not in CHANNELS:
            raise LimitError(f"{self.name}: there is no channel {channel!r}; there are 1 to 4")

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
            f"{self.transport.where}: {question!r} was answered with {answer[:80]!r}, expected {expected}"
        )
