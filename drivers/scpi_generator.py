"""Bench signal generators over SCPI in three dialects: Rigol DG4000, Keysight 33600 and Rohde & Schwarz SMB100A.

All have the same signals. The Rigol and the Keysight set a peak-to-peak voltage and the Rohde & Schwarz a power; the driver
works out the other for a sine into 50 ohm, and ``not_ready`` says when a generator gives something else. Units are a setting
of the generator that its front panel can change, so they are asked before every level or phase.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from labctl.device import action
from labctl.errors import BadAnswerError, ConfigError, DeviceError, RefusedError
from labctl.scpi import ScpiDevice
from labctl.signal import Limits, Signal
from labctl.transport import Transport

LOAD_OHM = 50.0


@dataclass(frozen=True)
class Dialect:
    """How one family says it. ``{n}`` is the channel."""

    models: tuple[str, ...]
    """How the model in the answer to ``*IDN?`` may begin."""
    channels: int
    frequency: str
    level: str
    level_unit: str
    """Asks and sets the unit of the level ("" where it is fixed)."""
    unit: str
    """Unit of the level that the driver works in: VPP or DBM."""
    level_limits: Limits
    phase: str
    phase_unit: str
    output: str
    function: str
    """Asks the waveform ("" where it is always a sine)."""
    load: str
    """Asks the load the generator reckons with ("" where it is always 50 ohm)."""


DIALECTS = {
    "rigol": Dialect(
        models=("DG4",),
        channels=2,
        frequency=":SOUR{n}:FREQ",
        level=":SOUR{n}:VOLT",
        level_unit=":SOUR{n}:VOLT:UNIT",
        unit="VPP",
        level_limits=(1e-3, 10.0),
        phase=":SOUR{n}:PHAS",
        phase_unit="",
        output=":OUTP{n}",
        function=":SOUR{n}:FUNC",
        load=":OUTP{n}:LOAD",
    ),
    "keysight": Dialect(
        models=("335", "336"),
        channels=2,
        frequency="SOUR{n}:FREQ",
        level="SOUR{n}:VOLT",
        level_unit="SOUR{n}:VOLT:UNIT",
        unit="VPP",
        level_limits=(1e-3, 10.0),
        phase="SOUR{n}:PHAS",
        phase_unit="UNIT:ANGL",
        output="OUTP{n}",
        function="SOUR{n}:FUNC",
        load="OUTP{n}:LOAD",
    ),
    "rohde_schwarz": Dialect(
        models=("SMB100A",),
        channels=1,
        frequency="SOUR:FREQ",
        level="SOUR:POW",
        level_unit="UNIT:POW",
        unit="DBM",
        level_limits=(-120.0, 30.0),
        phase="SOUR:PHAS",
        phase_unit="",
        output="OUTP:STAT",
        function="",
        load="",
    ),
}


def dbm_of(volts_pp: float) -> float:
    """Power in dBm of a sine of this peak-to-peak voltage at 50 ohm."""
    return 10 * math.log10(volts_pp**2 / (8 * LOAD_OHM) / 1e-3)


def volts_of(dbm: float) -> float:
    """Peak-to-peak voltage at 50 ohm of a sine of this power in dBm."""
    return math.sqrt(8 * LOAD_OHM * 1e-3 * 10 ** (dbm / 10))


class ScpiGenerator(ScpiDevice):
    """One channel of a signal generator.

    transport:  ``tcp://host:5555`` (Rigol) or ``:5025`` (Keysight, Rohde & Schwarz), or a ``visa://`` resource
    dialect:    ``rigol`` (DG4062, DG4102, DG4162), ``keysight`` (33500B, 33600A) or ``rohde_schwarz`` (SMB100A)
    channel:    1 or 2; two devices in the lab may share a generator

    Ports 5025, the unit queries and the level limits are from general knowledge of these families: check the manual of
    yours, and narrow the limits in the lab file to what the amplifier and the AOM bear.
    """

    manual = "Rigol DG4000, Keysight 33600A and Rohde & Schwarz SMB100A programming guides; DEVICES.md 3.3"
    checked_with = "qmi 0.54 Rigol_DG4102 and RohdeSchwarz_SMBV100A use the same simulators; not yet tried on an instrument"
    simulator = "simulated_hw.scpi_generator:SimRigolDg4102"
    timeout_s = 2.0

    def __init__(
        self, transport: Transport, name: str = "", dialect: str = "rigol", channel: int = 1
    ) -> None:
        super().__init__(transport, name)
        spoken = DIALECTS.get(dialect)
        if spoken is None:
            raise ConfigError(f"{self.name}: dialect {dialect!r} is not one of {', '.join(DIALECTS)}")
        if not 1 <= channel <= spoken.channels:
            raise ConfigError(
                f"{self.name}: channel = {channel}, but a {dialect} generator has {spoken.channels}; the first is 1"
            )
        self.dialect = spoken
        self.channel = channel
        self._frequencies_hz: Limits = (1e-6, 40e9)

    def open(self) -> None:
        """Connect, check that a generator of the dialect answers, and learn its range of frequencies."""
        super().open()
        try:
            self.transport.write(b"*CLS" + self.ending)
            identity = self.identity()
            model = f"{identity},".split(",")[1].strip()
            if not model.startswith(self.dialect.models):
                raise BadAnswerError(
                    f"{self.transport.where}: identifies as {identity!r}, expected a model that begins with"
                    f" {' or '.join(self.dialect.models)}; check the dialect in the lab file"
                )
            question = self._said(self.dialect.frequency) + "?"
            lowest, highest = (self.query_number(f"{question} {end}") for end in ("MIN", "MAX"))
        except DeviceError:
            self.close()
            raise
        self._frequencies_hz = lowest, highest

    frequency = Signal(
        float,
        "Hz",
        read=lambda gen: gen.read_frequency(),
        write=lambda gen, hertz: gen.write_frequency(hertz),
        limits=lambda gen: gen.frequency_limits(),
        tolerance=10.0,
        doc="Of the sine; some generators answer with seven digits only.",
    )
    power_dbm = Signal(
        float,
        "dBm",
        read=lambda gen: gen.read_level("DBM"),
        write=lambda gen, dbm: gen.write_level(dbm, "DBM"),
        limits=lambda gen: gen.level_limits("DBM"),
        tolerance=0.05,
        doc="Of a sine into 50 ohm.",
    )
    amplitude = Signal(
        float,
        "V",
        read=lambda gen: gen.read_level("VPP"),
        write=lambda gen, volts: gen.write_level(volts, "VPP"),
        limits=lambda gen: gen.level_limits("VPP"),
        doc="Peak to peak, of a sine into 50 ohm; the same setting as power_dbm.",
    )
    phase = Signal(
        float,
        "rad",
        read=lambda gen: gen.read_phase(),
        write=lambda gen, radians: gen.write_phase(radians),
        limits=(0.0, 2 * math.pi),
        tolerance=1e-3,
        doc="Of the sine against the generator's own reference.",
    )
    output = Signal(
        bool,
        read=lambda gen: gen.query_switch(f"{gen.said_output()}?"),
        write=lambda gen, on: gen.command(f"{gen.said_output()} {'ON' if on else 'OFF'}"),
        poll_s=5.0,
        doc="Whether the output is on.",
    )

    @action
    def safe(self) -> None:
        """Output off. Tried twice, in case the connection has to be made anew."""
        try:
            self.output.set(False)
        except DeviceError:
            self.output.set(False)

    def not_ready(self) -> str:
        """Not a sine, another load than 50 ohm, or what a setting is off by."""
        if self.dialect.function:
            question = self._said(self.dialect.function) + "?"
            waveform = self.query(question)
            if not waveform.isalpha():
                raise self.unexpected(question, waveform, "the name of a waveform")
            if waveform.upper() not in ("SIN", "SINUSOID"):
                return f"its waveform is {waveform}, not a sine"
        if self.dialect.load:
            ohm = self.query_number(self._said(self.dialect.load) + "?")
            if not abs(ohm - LOAD_OHM) < 0.5:
                return f"its levels are for a load of {ohm:g} ohm; set it to 50 ohm"
        return super().not_ready()

    def frequency_limits(self) -> Limits:
        """Range of frequencies as the generator said when opened, Hz."""
        return self._frequencies_hz

    def level_limits(self, unit: str) -> Limits:
        """Range of levels in VPP or DBM."""
        lowest, highest = self.dialect.level_limits
        return _converted(lowest, self.dialect.unit, unit), _converted(highest, self.dialect.unit, unit)

    def read_frequency(self) -> float:
        """Frequency, Hz."""
        return self.query_number(self._said(self.dialect.frequency) + "?")

    def write_frequency(self, hertz: float) -> None:
        """Set the frequency, Hz."""
        self.command(f"{self._said(self.dialect.frequency)} {hertz:.6f}")

    def read_level(self, unit: str) -> float:
        """Level in VPP or DBM."""
        self._use_unit(self.dialect.level_unit, self.dialect.unit)
        level = self.query_number(self._said(self.dialect.level) + "?")
        if self.dialect.unit == "VPP" and not level > 0:
            raise self.unexpected(self._said(self.dialect.level) + "?", str(level), "a positive voltage")
        return _converted(level, self.dialect.unit, unit)

    def write_level(self, value: float, unit: str) -> None:
        """Set the level in VPP or DBM."""
        self._use_unit(self.dialect.level_unit, self.dialect.unit)
        level = _converted(value, unit, self.dialect.unit)
        self.command(f"{self._said(self.dialect.level)} {level:.6g}")

    def read_phase(self) -> float:
        """Phase, rad."""
        self._use_unit(self.dialect.phase_unit, "DEG")
        return math.radians(self.query_number(self._said(self.dialect.phase) + "?"))

    def write_phase(self, radians: float) -> None:
        """Set the phase, rad."""
        self._use_unit(self.dialect.phase_unit, "DEG")
        self.command(f"{self._said(self.dialect.phase)} {math.degrees(radians):.4f}")

    def said_output(self) -> str:
        """The header that switches the output."""
        return self._said(self.dialect.output)

    def query(self, text: str) -> str:
        """Send one line, return its answer. Empty lines are no answers: a DG4102 sends one after that to ``:OUTP?``."""
        self.transport.write(text.encode("ascii") + self.ending)
        line = ""
        for _ in range(3):
            line = self.transport.read_until(self.ending, self.timeout_s).decode("ascii", "replace").strip()
            if line:
                break
        return line

    def command(self, text: str) -> None:
        """Send a setting and ask the error queue about it; RefusedError if there is anything."""
        super().command(text)
        answer = self.query("SYST:ERR?")
        code, _, message = answer.partition(",")
        if not message or not code.strip().removeprefix("+").removeprefix("-").isdecimal():
            raise self.unexpected("SYST:ERR?", answer, "a number and a text")
        if int(code) != 0:
            raise RefusedError(f"{self.transport.where}: refused {text!r}: {code}, {message.strip()}")

    def unexpected(self, question: str, answer: str, expected: str) -> BadAnswerError:
        """The error for an answer outside the protocol; the next question gets a fresh connection."""
        self.transport.mark_stale()
        return BadAnswerError(
            f"{self.transport.where}: {question!r} was answered with {answer[:80]!r}, expected {expected}"
        )

    def _said(self, header: str) -> str:
        return header.format(n=self.channel)

    def _use_unit(self, header: str, unit: str) -> None:
        """Make sure of a unit; changing it changes nothing at the output."""
        if not header:
            return
        question = self._said(header) + "?"
        found = self.query(question)
        if not found.isalpha():
            raise self.unexpected(question, found, unit)
        if found.upper() != unit:
            self.command(f"{self._said(header)} {unit}")


def _converted(value: float, unit: str, wanted: str) -> float:
    if unit == wanted:
        return value
    return dbm_of(value) if wanted == "DBM" else volts_of(value)
