"""Stanford Research Systems LDC500/501/502 laser diode and TEC controllers, for etalons and diodes.

Settings have no reply, so each is read back. The laser is switched with words (``LDON ON``), the TEC with digits
(``TEON 1``). From general knowledge, check with the manual: TCP port 8888, and that token answers are words (TOKN ON).
"""

from __future__ import annotations

from typing import ClassVar

from drivers.line_device import LineDevice
from labctl.device import action
from labctl.errors import DeviceError, RefusedError
from labctl.signal import Limits, Signal
from labctl.transport import Transport
from labctl.units import ZERO_CELSIUS_K, mA, uA

ERROR_DELAY_S = 0.015
"""After a refused command the error code is there only so much later (pymeasure)."""
FULL_SCALE_A = {
    "LDC500": {"HIGH": 0.1, "LOW": 0.05},
    "LDC501": {"HIGH": 0.5, "LOW": 0.25},
    "LDC502": {"HIGH": 2.0, "LOW": 1.0},
}
"""Laser current of each range; by model."""
LARGEST_TEC_A = 4.5
WORDS = {"ON": True, "OFF": False}
DIGITS = {"1": True, "0": False}


def _reading(mnemonic: str, unit: str, scale: float = 1.0, doc: str = "") -> Signal[float]:
    return Signal(float, unit, read=lambda ldc: ldc.query_number(f"{mnemonic}?") * scale, poll_s=2.0, doc=doc)


class SrsLdc501(LineDevice):
    """One LDC500-series controller: a current source for a diode, a TEC for its mount (or an etalon).

    transport:    ``tcp://host:8888`` or ``serial:///dev/ttyS0``
    tolerance_k:  how near the setpoint counts as reached, K
    """

    manual = "SRS LDC500 series manual, remote programming; DEVICES.md 3.4"
    checked_with = (
        "pymeasure 0.16 LDC500Series against the same simulated controller; not yet tried on an instrument"
    )
    identity_has = "LDC50"
    expected = "an SRS LDC500-series controller"
    tolerances: ClassVar[dict[str, float]] = {"SILD": 0.02, "SILM": 0.02, "TEMP": 0.002, "TILM": 0.002}
    """How much a read-back may differ by rounding, in the instrument's unit (mA, degC, A)."""

    temperature = Signal(
        float,
        "K",
        read=lambda ldc: ldc.query_number("TTRD?") + ZERO_CELSIUS_K,
        write=lambda ldc, kelvin: ldc.set_number("TEMP", kelvin - ZERO_CELSIUS_K),
        limits=lambda ldc: ldc.temperature_limits(),
        tolerance=0.02,
        poll_s=1.0,
        doc="Measured; setting it sets the setpoint.",
    )
    temperature_setpoint = Signal(
        float,
        "K",
        read=lambda ldc: ldc.query_number("TEMP?") + ZERO_CELSIUS_K,
        doc="Temperature the TEC works towards.",
    )
    tec = Signal(
        bool,
        read=lambda ldc: ldc.query_choice("TEON?", DIGITS),
        write=lambda ldc, on: ldc.set_word("TEON", str(int(on))),
        poll_s=2.0,
        doc="Temperature control on.",
    )
    tec_current = _reading("TIRD", "A", doc="Measured TEC current.")
    tec_voltage = _reading("TVRD", "V", doc="Measured TEC voltage.")
    tec_current_limit = Signal(
        float,
        "A",
        read=lambda ldc: ldc.query_number("TILM?"),
        write=lambda ldc, ampere: ldc.set_number("TILM", ampere),
        limits=(0.0, LARGEST_TEC_A),
        doc="What the TEC current never exceeds, either way.",
    )
    current = Signal(
        float,
        "A",
        read=lambda ldc: ldc.query_number("RILD?") * mA,
        write=lambda ldc, ampere: ldc.set_number("SILD", ampere / mA),
        limits=lambda ldc: (0.0, ldc.limit_a),
        tolerance=2e-4,
        poll_s=1.0,
        doc="Measured diode current; setting it sets the setpoint, up to current_limit.",
    )
    current_setpoint = Signal(
        float,
        "A",
        read=lambda ldc: ldc.query_number("SILD?") * mA,
        doc="Diode current that flows while laser is on.",
    )
    current_limit = Signal(
        float,
        "A",
        read=lambda ldc: ldc.read_limit(),
        write=lambda ldc, ampere: ldc.write_limit(ampere),
        limits=lambda ldc: (0.0, ldc.full_scale_a),
        doc="What the diode current can never exceed; lowering it takes the setpoint along.",
    )
    laser = Signal(
        bool,
        read=lambda ldc: ldc.query_choice("LDON?", WORDS),
        write=lambda ldc, on: ldc.set_word("LDON", "ON" if on else "OFF"),
        poll_s=1.0,
        doc="Diode current on.",
    )
    diode_voltage = _reading("RVLD", "V", doc="Measured diode voltage.")
    photodiode_current = _reading("RIPD", "A", uA, doc="Monitor photodiode.")
    interlock = Signal(
        bool,
        read=lambda ldc: ldc.query_choice("ILOC?", {"CLOSED": True, "OPEN": False}),
        poll_s=2.0,
        doc="Whether the safety loop is closed.",
    )

    def __init__(self, transport: Transport, name: str = "", tolerance_k: float = 0.02) -> None:
        super().__init__(transport, name)
        self.tolerance_k = tolerance_k
        self.full_scale_a = 0.0
        self.limit_a = 0.0
        """Diode current limit as last read, A."""
        self._temperatures_k: Limits = (0.0, 0.0)

    def learn(self) -> None:
        """Model and current range, the limits of current and temperature."""
        identity = self.identity()
        model = next((model for model in FULL_SCALE_A if model in identity), "LDC501")
        self.full_scale_a = self.query_choice("RNGE?", FULL_SCALE_A[model])
        self.read_limit()
        low, high = (self.query_number(f"{end}?") + ZERO_CELSIUS_K for end in ("TMIN", "TMAX"))
        self._temperatures_k = round(low, 6), round(high, 6)

    def temperature_limits(self) -> Limits:
        """The controller's own TMIN and TMAX, K, as they were when it was opened."""
        return self._temperatures_k

    @action
    def safe(self) -> None:
        """Diode current off, then TEC off, each also if the other fails."""
        try:
            self._off("LDON", "OFF")
        finally:
            self._off("TEON", "0")

    def _off(self, mnemonic: str, word: str) -> None:
        """Tried twice: the answer to an earlier question may still be on the line."""
        try:
            self.set_word(mnemonic, word)
        except DeviceError:
            self.set_word(mnemonic, word)

    def not_ready(self) -> str:
        """TEC off, temperature off its setpoint, or the laser off although it was switched on."""
        if not self.tec.get():
            return "the TEC is off"
        actual, wanted = self.temperature.get(), self.temperature_setpoint.get()
        if not abs(actual - wanted) <= self.tolerance_k:
            return f"temperature is {actual - ZERO_CELSIUS_K:.3f} degC, setpoint {wanted - ZERO_CELSIUS_K:.3f} degC"
        if self.laser.target and not self.laser.get():
            return f"the laser went off: {'look at the front panel' if self.interlock.get() else 'interlock open'}"
        return super().not_ready()

    def read_limit(self) -> float:
        """Diode current limit, A."""
        self.limit_a = self.query_number("SILM?") * mA
        return self.limit_a

    def write_limit(self, ampere: float) -> None:
        """Set the diode current limit, A."""
        self.set_number("SILM", ampere / mA)
        self.read_limit()

    def set_number(self, mnemonic: str, value: float) -> None:
        """Send a setting in the instrument's unit and read it back; RefusedError if it did not take."""
        sent = f"{value:.9g}"
        self.command(f"{mnemonic} {sent}")
        held = self.query_number(f"{mnemonic}?")
        if not abs(held - value) <= self.tolerances[mnemonic]:
            raise self._refused(f"{mnemonic} {sent}", f"{held:g}")

    def set_word(self, mnemonic: str, word: str) -> None:
        """Send a setting that is a word and read it back; RefusedError if it did not take."""
        self.command(f"{mnemonic} {word}")
        known = DIGITS if mnemonic == "TEON" else WORDS
        held = self.query_choice(f"{mnemonic}?", {key: key for key in known})
        if held != word:
            raise self._refused(f"{mnemonic} {word}", held)

    def _refused(self, text: str, held: str) -> RefusedError:
        self.transport.clock.sleep(ERROR_DELAY_S)
        execution, command = self.query("LEXE?"), self.query("LCME?")
        if text == "LDON ON" and not self.interlock.get():
            why = "the interlock is open"
        else:
            why = f"execution error {execution}, command error {command}; see the manual's lists"
        return RefusedError(f"{self.transport.where}: did not take {text!r}, it stays {held}: {why}")
