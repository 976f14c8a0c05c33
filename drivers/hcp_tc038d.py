"""HC Photonics TC038D crystal ovens over Modbus RTU.

Modbus RTU answers carry no number, and the answers to two different readings look alike. After every fresh connection the
driver therefore sends an echo request with a number of its own and skips what comes before it, so that the answer to an
earlier question is never taken for the next.
"""

from __future__ import annotations

import copy
import struct

from labctl.device import Device, action
from labctl.errors import BadAnswerError, DeviceError, RefusedError
from labctl.signal import BoundSignal, Signal
from labctl.transport import Transport
from labctl.units import ZERO_CELSIUS_K

READ, ECHO, WRITE = 0x03, 0x08, 0x10
FAILED = 0x80
"""Bit of the function in an answer that refuses."""
TEMPERATURE, SETPOINT = 0x0000, 0x0106
WORDS = 2
"""Every value takes two words of 16 bits."""
TENTH_K = 0.1
LOWEST_K, HIGHEST_K = 293.15, 473.15
REFUSALS = {
    1: "no such function",
    2: "wrong start address",
    3: "value out of range",
    4: "cannot do that now",
}


def crc(message: bytes) -> bytes:
    """CRC-16/Modbus of ``message``, low byte first."""
    value = 0xFFFF
    for byte in message:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0xA001 if value & 1 else 0)
    return struct.pack("<H", value)


def encode_read(unit: int, register: int) -> bytes:
    """Ask for the value at a register."""
    message = struct.pack(">BBHH", unit, READ, register, WORDS)
    return message + crc(message)


def encode_write(unit: int, register: int, value: int) -> bytes:
    """Write a value, signed 32 bits."""
    message = struct.pack(">BBHHBi", unit, WRITE, register, WORDS, 2 * WORDS, value)
    return message + crc(message)


def encode_echo(unit: int, number: int) -> bytes:
    """Ask for ``number``, 16 bits, to be sent back."""
    message = struct.pack(">BBHH", unit, ECHO, 0, number)
    return message + crc(message)


def check_answer(answer: bytes, request: bytes) -> None:
    """ValueError unless ``answer`` is whole and belongs to the unit, function and register of ``request``."""
    if crc(answer[:-2]) != answer[-2:]:
        raise ValueError("wrong CRC")
    if answer[0] != request[0] or answer[1] & ~FAILED != request[1]:
        raise ValueError("another unit or function")
    if answer[1] == WRITE and answer[2:6] != request[2:6]:
        raise ValueError("another register")
    if answer[1] == READ and answer[2] != 2 * WORDS:
        raise ValueError(f"{answer[2]} bytes of data")
    if answer[1] == ECHO and answer != request:
        raise ValueError("another number")


class HcpTc038d(Device):
    """One oven.

    transport:    ``serial:///dev/ttyUSB0`` (9600 baud unless the address says otherwise) or the ``tcp://`` address of a serial
                  bridge
    unit:         Modbus address of the oven, 1 to 247
    tolerance_k:  how near the setpoint counts as reached, K
    safe_k:       the setpoint that ``safe`` leaves, K: near the room's temperature, so that the heater is off
    """

    manual = "the register list in DEVICES.md 3.4; serial settings and the range 20 to 200 degC from general knowledge: check the oven's manual"
    checked_with = "pymeasure TC038D; not yet tried on an oven"
    timeout_s = 1.0

    def __init__(
        self,
        transport: Transport,
        name: str = "",
        unit: int = 1,
        tolerance_k: float = 0.15,
        safe_k: float = 298.15,
    ) -> None:
        super().__init__(transport, name)
        self.unit = unit
        self.tolerance_k = tolerance_k
        self.safe_k = safe_k
        transport.after_open = self._synchronise
        declared = copy.copy(type(self).temperature)
        declared.tolerance = tolerance_k
        self._bound["temperature"] = BoundSignal(declared, self)
        self._number = 0

    def open(self) -> None:
        """Connect, and read temperature and setpoint, which only such an oven has at these registers."""
        super().open()
        try:
            self.read(TEMPERATURE)
            self.read(SETPOINT)
        except DeviceError:
            self.close()
            raise

    def identity(self) -> str:
        """The oven does not say what it is; that it answers."""
        self._synchronise()
        return f"HC Photonics TC038D, Modbus unit {self.unit}"

    temperature = Signal(
        float,
        "K",
        read=lambda oven: oven.read(TEMPERATURE) * TENTH_K + ZERO_CELSIUS_K,
        write=lambda oven, kelvin: oven.write(SETPOINT, round((kelvin - ZERO_CELSIUS_K) / TENTH_K)),
        limits=(LOWEST_K, HIGHEST_K),
        tolerance=0.15,
        poll_s=1.0,
        doc="Oven temperature; setting it sets the setpoint, in steps of 0.1 K.",
    )
    setpoint = Signal(
        float,
        "K",
        read=lambda oven: oven.read(SETPOINT) * TENTH_K + ZERO_CELSIUS_K,
        doc="Temperature the oven works towards.",
    )

    @action
    def safe(self) -> None:
        """Setpoint to ``safe_k``: the heater goes off and the crystal cools by itself.

        No switch for the heater is known. Tried twice, as the answer to an earlier question may be on the line.
        """
        tenths = round((self.safe_k - ZERO_CELSIUS_K) / TENTH_K)
        try:
            self.write(SETPOINT, tenths)
        except DeviceError:
            self.write(SETPOINT, tenths)

    def not_ready(self) -> str:
        """Temperature off its setpoint."""
        actual, target = self.read(TEMPERATURE) * TENTH_K, self.read(SETPOINT) * TENTH_K
        if abs(actual - target) > self.tolerance_k:
            return f"temperature is {actual:.1f} degC, setpoint {target:.1f} degC"
        return super().not_ready()

    def read(self, register: int) -> int:
        """The value at a register, in the oven's unit (0.1 degC)."""
        answer = self._ask(encode_read(self.unit, register))
        return struct.unpack(">i", answer[3:-2])[0]

    def write(self, register: int, value: int) -> None:
        """Write a value and check the acknowledgement."""
        self._ask(encode_write(self.unit, register, value))

    def _ask(self, request: bytes) -> bytes:
        """The checked answer to one request; RefusedError if it is an exception."""
        if self.transport.unread:  # an answer too many: start afresh
            self.transport.mark_stale()
        self.transport.write(request)
        clock = self.transport.clock
        deadline = clock.now() + self.timeout_s
        answer = self.transport.read_exactly(5, self.timeout_s)  # the shortest, a refusal
        if not answer[1] & FAILED:
            answer += self.transport.read_exactly(4 if request[1] == READ else 3, deadline - clock.now())
        try:
            check_answer(answer, request)
        except ValueError as error:
            self.transport.mark_stale()
            raise BadAnswerError(
                f"{self.transport.where}: {request.hex(' ')} was answered with {answer.hex(' ')}: {error}; check cable, baud rate and parity"
            ) from None
        if answer[1] & FAILED:
            raise RefusedError(
                f"{self.transport.where}: unit {self.unit} refused {request.hex(' ')}: error {answer[2]}, {REFUSALS.get(answer[2], 'unknown')}"
            )
        return answer

    def _synchronise(self) -> None:
        """Have a number sent back, passing over all that comes before it; called after each fresh connection."""
        self._number = (self._number + 1) & 0xFFFF
        echo = encode_echo(self.unit, self._number)
        self.transport.write(echo)
        self.transport.read_until(echo, self.timeout_s)
