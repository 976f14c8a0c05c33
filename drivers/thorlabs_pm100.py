"""Thorlabs PM100D/PM100USB/PM10x optical power meters over SCPI."""

from __future__ import annotations

from labctl.device import action
from labctl.errors import BadAnswerError, DeviceError, RefusedError
from labctl.scpi import ScpiDevice, number
from labctl.signal import Limits, Signal
from labctl.transport import Transport

NM = 1e-9
NO_VALUE = 9e37
"""SCPI writes overflow as 9.9e37 and not-a-number as 9.91e37."""
MOST_AVERAGES = 3000


class ThorlabsPm100(ScpiDevice):
    """A power meter console with its sensor.

    transport:  ``visa://USB0::0x1313::0x8078::P0000000::INSTR``, ``visa://TCPIP::host::port::SOCKET`` or ``tcp://host:port``

    Only short headers that the PM100D manual lists are sent: some consoles (PM100D2) stop answering after a header they do
    not know (DEVICES.md 3.5).
    """

    manual = "Thorlabs PM100D operation manual 17654-D02, SCPI chapter"
    checked_with = "the dialogue of pymeasure ThorlabsPM100USB; not yet tried on an instrument"
    timeout_s = 2.0

    def __init__(self, transport: Transport, name: str = "") -> None:
        super().__init__(transport, name)
        self._wavelengths_m: Limits = (185e-9, 25e-6)

    def open(self) -> None:
        """Connect, check that a power meter with a power sensor answers, and learn the sensor's wavelength range."""
        super().open()
        try:
            self.transport.write(b"*CLS" + self.ending)
            identity = self.identity()
            if "PM" not in identity:
                raise BadAnswerError(
                    f"{self.transport.where}: identifies as {identity!r}, expected a Thorlabs PM power meter"
                )
            lowest, highest = (self.query_number(f"SENS:CORR:WAV? {end}") * NM for end in ("MIN", "MAX"))
        except DeviceError:
            self.close()
            raise
        self._wavelengths_m = round(lowest, 12), round(highest, 12)

    def wavelength_limits(self) -> Limits:
        """Wavelength range of the sensor, m, as it said when opened."""
        return self._wavelengths_m

    power = Signal(
        float, "W", read=lambda meter: meter.read_power(), poll_s=1.0, doc="Optical power on the sensor."
    )
    wavelength = number(
        "SENS:CORR:WAV",
        "m",
        scale=NM,
        limits=lambda meter: meter.wavelength_limits(),
        tolerance=0.05e-9,
        doc="Wavelength that the sensor's responsivity is looked up for.",
    )
    averages = Signal(
        int,
        read=lambda meter: meter.query_whole("SENS:AVER?"),
        write=lambda meter, count: meter.command(f"SENS:AVER {count}"),
        limits=(1, MOST_AVERAGES),
        doc="Samples averaged in one reading, about 0.3 ms each.",
    )
    auto_range = Signal(
        bool,
        read=lambda meter: meter.query_switch("SENS:POW:RANG:AUTO?"),
        write=lambda meter, on: meter.command(f"SENS:POW:RANG:AUTO {int(on)}"),
        doc="Whether the meter chooses its range by itself.",
    )
    sensor = Signal(
        str, read=lambda meter: meter.sensor_name(), doc="Model and serial number of the sensor head."
    )

    @action
    def safe(self) -> None:
        """Nothing: a power meter drives no output and is always safe."""

    def not_ready(self) -> str:
        """No sensor, or what a setting is off by."""
        return super().not_ready() if self.sensor.get() else "no sensor is connected"

    def read_power(self) -> float:
        """Power in W; RefusedError on overrange or without a sensor.

        The unit is asked with each reading: somebody at the front panel may have chosen dBm, and the number alone does not
        say.
        """
        unit = self.query("SENS:POW:UNIT?")
        if unit != "W":
            if unit != "DBM":
                raise self.unexpected("SENS:POW:UNIT?", unit, "W or DBM")
            self.command("SENS:POW:UNIT W")
        value = self.query_number("MEAS:POW?")
        if abs(value) >= NO_VALUE:
            raise RefusedError(
                f"{self.transport.where}: has no power reading ({value:g}); the range is exceeded or the sensor is unplugged"
            )
        return value

    def sensor_name(self) -> str:
        """Model and serial number, "" without a sensor."""
        answer = self.query("SYST:SENS:IDN?")
        fields = [field.strip(' "') for field in answer.split(",")]
        if len(fields) < 6:
            raise self.unexpected("SYST:SENS:IDN?", answer, "six fields")
        return "" if fields[0].lower() == "no sensor" else f"{fields[0]} {fields[1]}"

    def command(self, text: str) -> None:
        """Send a setting and ask the error queue about it; RefusedError if there is anything."""
        super().command(text)
        answer = self.query("SYST:ERR?")
        code, _, message = answer.partition(",")
        if not message or not code.strip().lstrip("+-").isdecimal():
            raise self.unexpected("SYST:ERR?", answer, "a number and a text")
        if int(code) != 0:
            raise RefusedError(f"{self.transport.where}: refused {text!r}: {code}, {message.strip()}")

    def query_whole(self, text: str) -> int:
        """A whole number."""
        value = self.query_number(text)
        if value != int(value):
            raise self.unexpected(text, str(value), "a whole number")
        return int(value)

    def query_switch(self, text: str) -> bool:
        """0 or 1."""
        answer = self.query(text)
        if answer not in ("0", "1"):
            raise self.unexpected(text, answer, "0 or 1")
        return answer == "1"

    def unexpected(self, question: str, answer: str, expected: str) -> BadAnswerError:
        """The error for an answer outside the protocol; the next question gets a fresh connection."""
        self.transport.mark_stale()
        return BadAnswerError(
            f"{self.transport.where}: {question!r} was answered with {answer!r}, expected {expected}"
        )
