"""Bristol 871 laser wavelength meters, over telnet.

A measurement that failed is sent as wavelength 0.0 with a status word that says why; neither it nor one of reduced accuracy
is ever returned as a number.
"""

from __future__ import annotations

from typing import NamedTuple

from drivers.line_device import MOST_OLD_LINES, LineDevice
from labctl.device import action
from labctl.errors import BadAnswerError, NotConnectedError, RefusedError
from labctl.signal import Signal
from labctl.transport import Transport
from labctl.units import nm

LIGHT_M_S = 299792458.0
PLAUSIBLE_M = 300e-9, 20e-6
CALIBRATION_S = 6.0
"""A calibration takes 2 to 5 s; the meter may be silent so long."""
BUSY_S = 0.2
"""Time the meter needs to notice that a connection was closed."""

REFERENCE_LOCKED, CALIBRATION_FAILED, CALIBRATING = 2, 7, 21
STATUS = {
    3: "etalon fringe error",
    4: "etalon saturation",
    7: "calibration failure",
    11: "reference laser not stable",
    13: "temperature high",
    14: "temperature low",
    15: "pressure high",
    16: "pressure low",
    17: "wavelength outside the specification",
    19: "etalon fringe error",
    20: "etalon saturation",
    21: "calibration in progress",
    22: "etalon fringe error",
    23: "etalon saturation",
    27: "accuracy reduced",
    29: "low detector signal",
    30: "fringe frequency error",
}
"""Bits of the status word that tell of trouble (as in qmi's Bristol_871A)."""
INSTRUMENT_BITS = (7, 11, 13, 14, 15, 16, 21)
"""Those that are the meter's own trouble, not that of the light."""
TRIGGERS = {"internal": "INT", "falling": "FALL", "rising": "RISE"}
METHODS = {"off": "OFF", "time": "TIME", "temperature": "TEMP"}
RATES_HZ = (20, 50, 100, 250, 500, 1000)


class Measurement(NamedTuple):
    """One answer to ``:READ:ALL?``."""

    scan: int
    status: int
    wavelength_m: float
    """Vacuum wavelength; 0.0 if the measurement failed."""
    intensity: float
    """Relative intensity on the detector."""

    @property
    def state(self) -> str:
        """'ok', or everything that is wrong with it."""
        wrong = [text for bit, text in STATUS.items() if self.status >> bit & 1]
        if not self.status >> REFERENCE_LOCKED & 1:
            wrong.append("reference laser not locked")
        if not wrong and self.wavelength_m == 0.0:
            wrong.append("no measurement")
        return ", ".join(dict.fromkeys(wrong)) or "ok"


class BusyError(NotConnectedError):
    """All connections of the meter are taken."""


def _setting(header: str, words: dict[str, str], doc: str) -> Signal[str]:
    meanings = {word: meaning for meaning, word in words.items()}
    return Signal(
        str,
        read=lambda meter: meter.query_choice(f"{header}?", meanings),
        write=lambda meter, value: meter.set_and_check(
            f"{header} {words[value]}", f"{header}?", words[value]
        ),
        choices=tuple(words),
        doc=doc,
    )


class Bristol871(LineDevice):
    """An 871A or 871B with its one input fibre.

    transport:  ``tcp://host:23``
    """

    manual = "Bristol 871A user's manual, SCPI commands; DEVICES.md 3.7"
    checked_with = "qmi 0.54 Bristol_871A against the same simulated meter; not yet tried on an instrument"
    identity_has = "BRISTOL"
    expected = "a Bristol wavelength meter"
    timeout_s = 2.0

    wavelength = Signal(
        float,
        "m",
        read=lambda meter: meter.good().wavelength_m,
        doc="Vacuum wavelength; RefusedError names what is wrong if there is no good measurement.",
    )
    frequency = Signal(
        float,
        "Hz",
        read=lambda meter: LIGHT_M_S / meter.good().wavelength_m,
        doc="Optical frequency; RefusedError names what is wrong if there is no good measurement.",
    )
    intensity = Signal(
        float, read=lambda meter: meter.measure().intensity, doc="Relative intensity on the detector."
    )
    state = Signal(
        str,
        read=lambda meter: meter.measure().state,
        poll_s=2.0,
        doc="'ok', or what is wrong with the measurement.",
    )
    trigger = _setting(":TRIG:SEQ:METH", TRIGGERS, "What starts a measurement: the meter itself or an edge.")
    rate = Signal(
        int,
        "Hz",
        read=lambda meter: meter.query_whole(":TRIG:SEQ:RATE:ADJ?"),
        write=lambda meter, hz: meter.set_and_check(f":TRIG:SEQ:RATE {hz}", ":TRIG:SEQ:RATE:ADJ?", str(hz)),
        choices=RATES_HZ,
        doc="Measurements per second with the internal trigger.",
    )
    calibration_method = _setting(":SENS:CALI:METH", METHODS, "When the meter calibrates itself.")

    def __init__(self, transport: Transport, name: str = "") -> None:
        super().__init__(transport, name)
        self._quiet_until = float("-inf")

    def greet(self) -> None:
        """Read the banner, which ends with the maker's name, then find the identity; BusyError if all connections are taken."""
        seen = ""
        for _ in range(MOST_OLD_LINES):
            line = self._line()
            if "no connections available" in line:
                raise BusyError(
                    f"{self.transport.where}: has no free connection; close the other telnet session or NuView"
                )
            if "Bristol Instruments" in line:
                super().greet()
                return
            seen = line or seen
        raise BadAnswerError(
            f"{self.transport.where}: greeted with {seen[:80]!r}, expected the banner of Bristol Instruments; check the address in the lab file"
        )

    def learn(self) -> None:
        """Check that it is an 871."""
        identity = self.identity()
        if "871" not in identity:
            raise BadAnswerError(f"{self.transport.where}: is {identity!r}, expected a Bristol 871")

    def command(self, text: str) -> None:
        """Send one line; once more if the meter had not yet noticed that the connection before was closed."""
        try:
            super().command(text)
        except BusyError:
            self.transport.clock.sleep(BUSY_S)
            super().command(text)

    def patience_s(self) -> float:
        """Longer after a calibration was started."""
        return self.timeout_s + max(0.0, self._quiet_until - self.transport.clock.now())

    @action
    def safe(self) -> None:
        """Nothing: a wavelength meter only looks on."""

    @action
    def calibrate(self) -> None:
        """Start a calibration and return; for 2 to 5 s ``state`` is "calibration in progress" and there is no reading."""
        self.command(":SENS:CALI")
        self._quiet_until = self.transport.clock.now() + CALIBRATION_S

    @action
    def adjust_rate(self) -> None:
        """Let the meter choose the rate for the light it gets."""
        self.command(":TRIG:SEQ:RATE:ADJ")

    def not_ready(self) -> str:
        """Calibrating, or trouble of the meter itself. A laser that is off does not make its wavemeter unready."""
        measurement = self.measure()
        own = [STATUS[bit] for bit in INSTRUMENT_BITS if measurement.status >> bit & 1]
        if not measurement.status >> REFERENCE_LOCKED & 1:
            own.append("reference laser not locked")
        return ", ".join(own) or super().not_ready()

    def measure(self) -> Measurement:
        """The newest measurement, good or not."""
        answer = self.query(":READ:ALL?")
        fields = [field.strip() for field in answer.split(",")]
        if len(fields) != 4 or not (fields[0].isdecimal() and fields[1].isdecimal()):
            raise self.unexpected(":READ:ALL?", answer, "index, status, wavelength and intensity")
        wavelength_m, intensity = (self.as_number(":READ:ALL?", field) for field in fields[2:])
        measurement = Measurement(int(fields[0]), int(fields[1]), wavelength_m * nm, intensity)
        if wavelength_m != 0.0 and not PLAUSIBLE_M[0] <= measurement.wavelength_m <= PLAUSIBLE_M[1]:
            raise self.unexpected(":READ:ALL?", answer, "a wavelength of light in nm")
        return measurement

    def good(self) -> Measurement:
        """The newest measurement; RefusedError if anything is wrong with it."""
        measurement = self.measure()
        if measurement.state != "ok" or measurement.wavelength_m == 0.0:
            raise RefusedError(
                f"{self.transport.where}: no good reading: {measurement.state} (status 0x{measurement.status:08X}); check light and fibre, or wait for a calibration"
            )
        return measurement

    def set_and_check(self, command: str, question: str, expected: str) -> None:
        """Send a setting, which has no reply, and read it back; RefusedError if it did not take."""
        self.command(command)
        answer = self.query(question)
        if answer != expected:
            raise RefusedError(f"{self.transport.where}: did not take {command!r}: it still says {answer!r}")
