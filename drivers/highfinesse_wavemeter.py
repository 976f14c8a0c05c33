"""HighFinesse WS wavemeters over HighFinesse's own network server (text over TCP), up to eight fibre-switch channels.

Readings of zero and below are states of the measurement (no signal, under-exposed...): they are never returned as a
number. Codes and their meaning are those of the vendor's wlmData interface.

From general knowledge, check with your server before relying on it: that readings carry those codes, the argument order
of ``setExposureNum`` (channel, CCD array, ms), and ``getAutoExposureNum``.
"""

from __future__ import annotations

from drivers.line_device import LineDevice
from labctl.device import action
from labctl.errors import BadAnswerError, LimitError, RefusedError
from labctl.signal import Signal
from labctl.transport import Transport
from labctl.units import ZERO_CELSIUS_K, THz, nm

CHANNELS = 8
GREETING = "200"
CCD = 1
"""The CCD array whose exposure is shown and set; the second follows it."""
FREQUENCY = 2
"""Unit of a calibration value: 2 is THz."""
PLAUSIBLE_HZ = 10 * THz, 2000 * THz
PLAUSIBLE_M = 150e-9, 30e-6
MS = 1e-3
HPA = 100.0

NOT_RUNNING = -5
STATES = {
    0: "no value yet",
    -1: "no signal",
    -2: "bad signal",
    -3: "under-exposed",
    -4: "over-exposed",
    -5: "wavemeter not running",
    -6: "not available",
    -7: "nothing changed since the last reading",
    -8: "no pulse",
    -10: "no such channel",
    -13: "division by zero",
    -14: "out of range",
    -15: "unit not available",
}
"""What a reading that is not positive means (wlmData: ErrNoValue, ErrNoSignal...)."""
SENSOR_STATES = {-1000: "not measured", -1005: "wavemeter not running", -1006: "not available"}
REFUSALS = {
    -1: "the wavemeter program is not running",
    -2: "it could not be set",
    -3: "parameter out of range",
    -4: "out of resources",
    -5: "internal error",
    -6: "not available on this model",
}
ADVICE = {
    -1: "check shutter and fibre",
    -3: "give it more light or a longer exposure",
    -4: "give it less light; the other CCD array suffers too",
    -5: "start it with the start action",
}


def _frequency(n: int) -> Signal[float]:
    return Signal(
        float,
        "Hz",
        read=lambda meter: meter.reading(n, f"getFrequencyNum {n}", THz, PLAUSIBLE_HZ),
        doc=f"Frequency of the light in channel {n}; RefusedError names the state if there is no good reading.",
    )


def _wavelength(n: int) -> Signal[float]:
    return Signal(
        float,
        "m",
        read=lambda meter: meter.reading(n, f"getWavelengthNum {n}", nm, PLAUSIBLE_M),
        doc=f"Vacuum wavelength of the light in channel {n}; RefusedError names the state if there is no good reading.",
    )


def _state(n: int) -> Signal[str]:
    return Signal(
        str,
        read=lambda meter: meter.state(n),
        poll_s=2.0,
        doc=f"Whether channel {n} has a good reading: 'ok' or what is wrong.",
    )


def _exposure(n: int) -> Signal[float]:
    return Signal(
        float,
        "s",
        read=lambda meter: meter.read_exposure(n),
        write=lambda meter, seconds: meter.order(f"setExposureNum {n},{CCD},{round(seconds / MS)}"),
        limits=(1e-3, 9.999),
        tolerance=0.5e-3,
        doc=f"Exposure of channel {n} in whole ms; only stays as set with auto_exposure_{n} off.",
    )


def _auto_exposure(n: int) -> Signal[bool]:
    return Signal(
        bool,
        read=lambda meter: meter.query_choice(f"getAutoExposureNum {n}", {"0": False, "1": True}),
        write=lambda meter, on: meter.order(f"setAutoExposureNum {n},{int(on)}"),
        doc=f"Whether the wavemeter chooses the exposure of channel {n} by itself.",
    )


class HighFinesseWavemeter(LineDevice):
    """A WS wavemeter with its fibre switch: ``frequency_1``, ``wavelength_1``, ``state_1``, ``exposure_1``, ``auto_exposure_1``... to 8.

    transport:  ``tcp://host:1234``
    channels:   how many of the eight channels have a fibre, counted from 1
    """

    manual = "DEVICES.md 3.7; state codes: HighFinesse wlmData API"
    checked_with = "the dialogue of highfinesse-net; not yet tried on an instrument"
    expected = "a HighFinesse network server"
    ending = b"\r\n"
    answer_end = b"\r\n"

    wavelength_1, wavelength_2, wavelength_3, wavelength_4 = map(_wavelength, (1, 2, 3, 4))
    wavelength_5, wavelength_6, wavelength_7, wavelength_8 = map(_wavelength, (5, 6, 7, 8))
    frequency_1, frequency_2, frequency_3, frequency_4 = map(_frequency, (1, 2, 3, 4))
    frequency_5, frequency_6, frequency_7, frequency_8 = map(_frequency, (5, 6, 7, 8))
    state_1, state_2, state_3, state_4 = map(_state, (1, 2, 3, 4))
    state_5, state_6, state_7, state_8 = map(_state, (5, 6, 7, 8))
    exposure_1, exposure_2, exposure_3, exposure_4 = map(_exposure, (1, 2, 3, 4))
    exposure_5, exposure_6, exposure_7, exposure_8 = map(_exposure, (5, 6, 7, 8))
    auto_exposure_1, auto_exposure_2, auto_exposure_3, auto_exposure_4 = map(_auto_exposure, (1, 2, 3, 4))
    auto_exposure_5, auto_exposure_6, auto_exposure_7, auto_exposure_8 = map(_auto_exposure, (5, 6, 7, 8))
    temperature = Signal(
        float,
        "K",
        read=lambda meter: meter.sensor("getTemperature", ZERO_CELSIUS_K, 1.0),
        poll_s=10.0,
        doc="Inside the optical unit.",
    )
    pressure = Signal(
        float,
        "Pa",
        read=lambda meter: meter.sensor("getPressure", 0.0, HPA),
        poll_s=10.0,
        doc="Inside the optical unit.",
    )
    switch_mode = Signal(
        bool,
        read=lambda meter: meter.query_choice("getSwitchMode", {"0": False, "1": True}),
        write=lambda meter, on: meter.order(f"setSwitchMode {int(on)}"),
        doc="Whether the fibre switch goes round the channels; off, only the active channel is measured.",
    )
    active_channel = Signal(
        int,
        read=lambda meter: meter.query_whole("getActiveChannel"),
        write=lambda meter, n: meter.order(f"setActiveChannel {n}"),
        limits=lambda meter: (1, meter.channels),
        doc="The channel measured while switch_mode is off.",
    )

    def __init__(self, transport: Transport, name: str = "", channels: int = CHANNELS) -> None:
        super().__init__(transport, name)
        self.channels = channels

    def greet(self) -> None:
        """Wait for the server's ``200``."""
        line = self._line()
        if line != GREETING:
            raise BadAnswerError(
                f"{self.transport.where}: greeted with {line[:80]!r}, expected {GREETING!r} of {self.expected}; check the address in the lab file"
            )

    def learn(self) -> None:
        """Check that a wavemeter stands behind the server."""
        self.identity()

    def identity(self) -> str:
        """Type, serial number and software of the wavemeter."""
        answer = self.query("getVersion")
        fields = answer.split(",")
        if len(fields) != 4 or not all(field.strip().isdecimal() for field in fields):
            raise self.unexpected("getVersion", answer, "four whole numbers")
        kind, serial, revision, software = (field.strip() for field in fields)
        return f"HighFinesse WS{kind} {serial}, software {revision}.{software}"

    @action
    def safe(self) -> None:
        """Nothing: a wavemeter only looks on. Regulation that its own program does is left as it is."""

    @action
    def start(self) -> None:
        """Start measuring."""
        self.order("startDevice")

    @action
    def stop(self) -> None:
        """Stop measuring; all channels then have the state "wavemeter not running"."""
        self.order("closeDevice")

    @action
    def calibrate(self, channel: int, frequency_hz: float) -> None:
        """Calibrate on light of known frequency (Hz) in ``channel``. Every laser measured depends on it: only on a locked one."""
        self._check_channel(channel)
        if not PLAUSIBLE_HZ[0] <= frequency_hz <= PLAUSIBLE_HZ[1]:
            raise LimitError(f"{self.name}: {frequency_hz:g} Hz is no frequency of light; nothing was sent")
        self.order(f"calibration {FREQUENCY},{frequency_hz / THz:.9f},{channel}")

    def not_ready(self) -> str:
        """Measuring stopped, or what a setting is off by. A laser that is off does not make its wavemeter unready."""
        stopped = self.query_number("getFrequencyNum 1") == NOT_RUNNING
        return "the wavemeter is not running; use its start action" if stopped else super().not_ready()

    def state(self, channel: int) -> str:
        """'ok' if the channel has a good reading, else what is wrong with it."""
        if channel > self.channels:
            return "not in use"
        question = f"getFrequencyNum {channel}"
        value = self.query_number(question)
        return "ok" if value > 0 else self._state(question, value)

    def reading(self, channel: int, question: str, unit: float, plausible: tuple[float, float]) -> float:
        """A positive reading in SI; RefusedError with the channel's state if the wavemeter has none."""
        self._check_channel(channel)
        value = self.query_number(question)
        if value <= 0:
            state = self._state(question, value)
            advice = ADVICE.get(int(value), "look at the wavemeter's own program")
            raise RefusedError(
                f"{self.transport.where}: channel {channel} has no reading: {state} ({value:g}); {advice}"
            )
        if not plausible[0] <= value * unit <= plausible[1]:
            raise self.unexpected(question, f"{value!r}", "a reading of light")
        return value * unit

    def read_exposure(self, channel: int) -> float:
        """Exposure in s."""
        self._check_channel(channel)
        question = f"getExposureNum {channel},{CCD}"
        value = self.query_number(question)
        if value <= 0:
            raise RefusedError(
                f"{self.transport.where}: channel {channel} has no exposure time ({value:g}); is the channel there?"
            )
        return value * MS

    def sensor(self, question: str, zero: float, scale: float) -> float:
        """Temperature or pressure; RefusedError if the sensor has no value (codes around -1000)."""
        value = self.query_number(question)
        if value <= -273.15 or (zero == 0.0 and value <= 0):
            state = SENSOR_STATES.get(int(value), f"unknown state {value:g}")
            raise RefusedError(f"{self.transport.where}: {question} has no value: {state}")
        return zero + scale * value

    def order(self, text: str) -> None:
        """Send a command that must be answered with 0."""
        code = self.query_whole(text)
        if code != 0:
            raise RefusedError(
                f"{self.transport.where}: refused {text!r}: {REFUSALS.get(code, 'unknown error')} ({code})"
            )

    def _state(self, question: str, value: float) -> str:
        if value != int(value):
            raise self.unexpected(question, f"{value!r}", "a positive reading or a whole state code")
        return STATES.get(int(value), f"unknown state {value:g}")

    def _check_channel(self, channel: int) -> None:
        if not 1 <= channel <= self.channels:
            raise LimitError(
                f"{self.name}: channel {channel} is not in use (channels = {self.channels} in the lab file); nothing was sent"
            )
