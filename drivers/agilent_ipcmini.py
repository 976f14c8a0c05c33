"""Agilent IPCMini (and 4UHV) ion pump controllers over the window protocol: the pressure of a vacuum chamber and its interlock.

The unit of pressure is a setting of the controller that anybody can change at its front panel, so it is asked with every
reading. The pressure is worked out from the pump's current: with the high voltage off there is none, and zero is never
taken for a good vacuum.
"""

from __future__ import annotations

import math

from drivers.serial_quiet import quiet_when_opened
from labctl.device import Device, action
from labctl.errors import BadAnswerError, ConfigError, DeviceError, RefusedError
from labctl.signal import Signal
from labctl.transport import Transport

STX, ETX = b"\x02", b"\x03"
READ, WRITE = b"0", b"1"
ACK = b"\x06"
REFUSALS = {
    b"\x15": "the command failed (NACK)",
    b"2": "it has no such window",
    b"3": "wrong type of data",
    b"4": "value out of range",
    b"5": "the window is read-only or disabled in the present mode (see MODE at its front panel)",
}

MODE, HIGH_VOLTAGE, STATUS, ERROR = 8, 11, 205, 206
MODEL, SERIAL_NUMBER, PRESSURE_UNIT = 319, 323, 600
MEASURED_VOLTAGE, MEASURED_CURRENT, PRESSURE = 810, 811, 812

TORR_PA = 101325 / 760
PASCAL_PER_UNIT = {0: TORR_PA, 1: 100.0, 2: 1.0}
"""By the number in window 600: Torr, mbar, Pa."""
STATUSES = {0: "stopped", 5: "normal", 6: "failed"}
ERRORS = {4: "over temperature", 32: "interlock cable", 64: "short circuit", 128: "protect"}


def checksum(body: bytes) -> bytes:
    """XOR of ``body`` (what follows STX, ETX included) as two hex digits."""
    total = 0
    for byte in body:
        total ^= byte
    return b"%02X" % total


def encode(address: int, payload: bytes) -> bytes:
    """One frame: STX, 0x80 + address, payload, ETX, checksum."""
    body = bytes([0x80 + address]) + payload + ETX
    return STX + body + checksum(body)


def encode_request(address: int, window: int, command: bytes, data: bytes = b"") -> bytes:
    """A request to read or write a window."""
    return encode(address, b"%03d" % window + command + data)


def decode(frame: bytes, address: int) -> bytes:
    """The payload of a frame; ValueError says what is wrong with it."""
    if len(frame) < 5 or frame[:1] != STX or frame[-3:-2] != ETX:
        raise ValueError("not a frame of the window protocol")
    if frame[-2:] != checksum(frame[1:-2]):
        raise ValueError("wrong checksum")
    if frame[1] != 0x80 + address:
        raise ValueError(f"address {frame[1] - 0x80}, expected {address}")
    return frame[2:-3]


class AgilentIpcMini(Device):
    """The pump on one vacuum chamber.

    transport:       ``tcp://host:23`` (telnet) or ``serial:///dev/ttyUSB0`` (9600 baud unless the address says otherwise)
    device_address:  RS-485 address, 0 to 31; 0 otherwise
    limit_pa:        pressure above which the chamber is not ready for data, Pa

    Status and error numbers and the digit between window and value are from drivers other labs use, and the Agilent manuals
    of the same protocol ("the answer has the structure of the message"): check them against the manual.
    """

    manual = "Agilent IPCMini user manual, window protocol; DEVICES.md 3.8"
    checked_with = "window protocol frames of DEVICES.md 3.8; not yet tried on an instrument"

    def __init__(
        self, transport: Transport, name: str = "", device_address: int = 0, limit_pa: float = 1e-7
    ) -> None:
        super().__init__(transport, name)
        if not limit_pa > 0:
            raise ConfigError(
                f"{self.name}: limit_pa = {limit_pa} must be a positive pressure in Pa, e.g. 1e-7"
            )
        if transport.address.scheme == "serial":
            transport.address.options.setdefault("baudrate", "9600")
        quiet_when_opened(self)
        self.device_address = device_address
        self.limit_pa = limit_pa
        self._digit = b""
        """What stands between window and value in an answer: READ, or nothing."""

    def open(self) -> None:
        """Connect, check that an ion pump controller answers, and learn how it frames its answers."""
        super().open()
        try:
            switch = self._exchange(HIGH_VOLTAGE, READ)
            if len(switch) not in (1, 2):
                raise self._unexpected(
                    HIGH_VOLTAGE, repr(switch), "one digit, with or without that of the command"
                )
            self._digit = READ if len(switch) == 2 else b""
        except DeviceError:
            self.close()
            raise

    def identity(self) -> str:
        """Model and serial number."""
        return f"{self.read_text(MODEL)} {self.read_text(SERIAL_NUMBER)}"

    pressure = Signal(
        float,
        "Pa",
        read=lambda pump: pump.read_pressure(),
        poll_s=2.0,
        doc="From the pump's current; refused while the high voltage is off, when there is no reading.",
    )
    high_voltage = Signal(
        bool,
        read=lambda pump: pump.read_switch(HIGH_VOLTAGE),
        write=lambda pump, on: pump.switch_high_voltage(on),
        poll_s=2.0,
        doc="Whether the pump pumps. Not for the state a lab file declares: a pump that tripped would go on by itself.",
    )
    voltage = Signal(
        float,
        "V",
        read=lambda pump: pump.read_number(MEASURED_VOLTAGE),
        poll_s=5.0,
        doc="Voltage on the pump.",
    )
    current = Signal(
        float,
        "A",
        read=lambda pump: pump.read_number(MEASURED_CURRENT),
        poll_s=5.0,
        doc="Ion current of the pump.",
    )
    status = Signal(
        str, read=lambda pump: pump.read_status(), poll_s=5.0, doc="What the controller is doing."
    )
    error = Signal(
        str, read=lambda pump: pump.read_error(), poll_s=5.0, doc="What is wrong; empty if nothing."
    )

    @action
    def safe(self) -> None:
        """Nothing: the pump stays as it is, normally ON.

        Without the pump the pressure rises within minutes, ions are lost and the chamber may need a bake; a running pump
        harms nobody. Whoever has to work on the chamber switches it off by hand (``high_voltage``).
        """

    def not_ready(self) -> str:
        """The vacuum interlock: an error, the high voltage off, or a pressure above the limit."""
        error = self.read_error()
        if error:
            return f"vacuum interlock: the pump controller reports {error}"
        if not self.read_switch(HIGH_VOLTAGE):
            return "vacuum interlock: the pump's high voltage is off, so the pressure is not known"
        pressure = self.read_pressure()
        if not pressure <= self.limit_pa:
            return (
                f"vacuum interlock: pressure is {pressure:.2g} Pa, above the limit of {self.limit_pa:.2g} Pa"
            )
        return super().not_ready()

    def read_pressure(self) -> float:
        """Pressure in Pa; RefusedError while there is no reading."""
        number = self.read_whole(PRESSURE_UNIT)
        unit = PASCAL_PER_UNIT.get(number)
        if unit is None:
            raise self._unexpected(PRESSURE_UNIT, str(number), "0 (Torr), 1 (mbar) or 2 (Pa)")
        pressure = self.read_number(PRESSURE) * unit
        if not pressure > 0:
            raise RefusedError(
                f"{self.transport.where}: has no pressure reading; is the pump's high voltage off?"
            )
        return pressure

    def switch_high_voltage(self, on: bool) -> None:
        """Switch, then ask: an acknowledgement does not say that the pump obeyed."""
        self.write_window(HIGH_VOLTAGE, b"1" if on else b"0")
        if self.read_switch(HIGH_VOLTAGE) != on:
            raise RefusedError(
                f"{self.transport.where}: high voltage did not go {'on' if on else 'off'}; status {self.read_status()},"
                f" error {self.read_error() or 'none'}"
            )

    def read_status(self) -> str:
        """``normal``, ``stopped`` or ``failed``."""
        number = self.read_whole(STATUS)
        return STATUSES.get(number, f"status {number}")

    def read_error(self) -> str:
        """All errors in words, "" for none."""
        number = self.read_whole(ERROR)
        known = [text for bit, text in ERRORS.items() if number & bit]
        unknown = number & ~sum(ERRORS)
        return ", ".join(known + ([f"error {unknown}"] if unknown else []))

    def read_switch(self, window: int) -> bool:
        """A logic window."""
        text = self.read_text(window)
        if text not in ("0", "1"):
            raise self._unexpected(window, text, "0 or 1")
        return text == "1"

    def read_whole(self, window: int) -> int:
        """A numeric window that holds a whole number."""
        text = self.read_text(window)
        if not (text.isascii() and text.isdecimal()):
            raise self._unexpected(window, text, "a whole number")
        return int(text)

    def read_number(self, window: int) -> float:
        """A window that holds a number."""
        text = self.read_text(window)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self._unexpected(window, text, "a number")
        return value

    def read_text(self, window: int) -> str:
        """What a window shows."""
        payload = self._exchange(window, READ)
        if not payload.startswith(self._digit):
            raise self._unexpected(window, repr(payload), f"{self._digit!r} and a value")
        return payload[len(self._digit) :].decode("ascii", "replace").strip()

    def write_window(self, window: int, data: bytes) -> None:
        """Change a window; RefusedError carries the controller's reason."""
        self._exchange(window, WRITE, data)

    def _exchange(self, window: int, command: bytes, data: bytes = b"") -> bytes:
        """One request and what its answer says after the window's number (nothing for an acknowledged write)."""
        self.transport.write(encode_request(self.device_address, window, command, data))
        self.transport.read_until(STX, self.timeout_s)  # a telnet server may greet before the first frame
        body = self.transport.read_until(ETX, self.timeout_s)
        frame = STX + body.rpartition(STX)[2] + ETX + self.transport.read_exactly(2, self.timeout_s)
        try:
            payload = decode(frame, self.device_address)
        except ValueError as error:
            raise self._unexpected(window, repr(frame), f"a good frame ({error})") from None
        if payload in REFUSALS:
            what = f"window {window}" if command == READ else f"window {window} = {data.decode('ascii')}"
            raise RefusedError(f"{self.transport.where}: refused {what}: {REFUSALS[payload]}")
        if command == WRITE:
            if payload != ACK:
                raise self._unexpected(window, repr(payload), "an acknowledgement")
            return b""
        if payload[:3] != b"%03d" % window:
            raise self._unexpected(window, repr(payload), f"the value of window {window}")
        return payload[3:]

    def _unexpected(self, window: int, answer: str, expected: str) -> BadAnswerError:
        self.transport.mark_stale()
        return BadAnswerError(
            f"{self.transport.where}: window {window} was answered with {answer[:80]}, expected {expected};"
            " check address, cable and baud rate"
        )
