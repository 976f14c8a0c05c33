"""Meerstetter TEC-1089/1091 temperature controllers over MeCom, for crystal ovens, etalons and filters.

The target is written to parameter 50012, which lives in RAM, and parameter 50011 selects it: parameter 3000 is saved to
flash on every write and would wear out under a feedback loop or a scan. After a power cycle the controller therefore goes
back to the target in its flash; ``store_target`` puts the present one there.
"""

from __future__ import annotations

import binascii
import copy
import struct

from labctl.device import Device, action
from labctl.errors import BadAnswerError, DeviceError, RefusedError
from labctl.signal import BoundSignal, Limits, Signal
from labctl.transport import Transport
from labctl.units import ZERO_CELSIUS_K

END = b"\r"
LOWEST_K, HIGHEST_K = 283.15, 473.15

DEVICE_STATUS, ERROR_NUMBER = 104, 105
OBJECT_TEMPERATURE, ACTIVE_TARGET, ACTUAL_CURRENT, ACTUAL_VOLTAGE = 1000, 1010, 1020, 1021
TEMPERATURE_STABLE, OUTPUT_ENABLE, FLASH_TARGET = 1200, 2010, 3000
TARGET_SOURCE, LIVE_TARGET = 50011, 50012
USE_LIVE_TARGET = 1

STATUS = {0: "init", 1: "ready", 2: "run", 3: "error", 4: "bootloader", 5: "resetting"}
STABLE = 2
REFUSALS = {
    1: "no such command",
    2: "busy; try again",
    3: "communication error",
    4: "format error",
    5: "no such parameter in this firmware",
    6: "the parameter is read-only",
    7: "value out of the controller's range",
    8: "no such channel (instance)",
}


def checksum(frame: bytes) -> bytes:
    """CRC-16/XMODEM of ``frame`` as four hex digits."""
    return b"%04X" % binascii.crc_hqx(frame, 0)


def encode_request(address: int, sequence: int, payload: str) -> bytes:
    """One request without its CR: ``#``, address, sequence number, payload, checksum."""
    frame = b"#%02X%04X%s" % (address, sequence, payload.encode("ascii"))
    return frame + checksum(frame)


def decode_answer(answer: bytes, request: bytes) -> str:
    """The payload of the answer to ``request`` (both without CR); "" is an acknowledgement; ValueError says what is wrong.

    An acknowledgement carries the checksum of the request instead of its own (DEVICES.md 3.4).
    """
    if answer[:1] != b"!" or len(answer) < 11:
        raise ValueError("not a MeCom answer")
    acknowledged = len(answer) == 11
    if answer[-4:] != (request[-4:] if acknowledged else checksum(answer[:-4])):
        raise ValueError("wrong checksum")
    if answer[1:7] != request[1:7]:
        raise ValueError(f"address and sequence {answer[1:7]!r}, expected {request[1:7]!r}")
    return answer[7:-4].decode("ascii", "replace")


class MeerstetterTec(Device):
    """One channel of a Meerstetter TEC controller.

    transport:       ``tcp://host:50000`` or ``serial:///dev/ttyUSB0`` (57600 baud unless the address says otherwise)
    device_address:  MeCom address (parameter 2051), 1 to 255
    instance:        channel of the controller, from 1
    tolerance_k:     how near the target counts as reached, K
    """

    manual = "Meerstetter MeCom 5117 (frames), TEC-Family 5136 (parameters)"
    checked_with = "MeCom frames of DEVICES.md 3.4; not yet tried on an instrument"

    def __init__(
        self,
        transport: Transport,
        name: str = "",
        device_address: int = 2,
        instance: int = 1,
        tolerance_k: float = 0.05,
    ) -> None:
        super().__init__(transport, name)
        if transport.address.scheme == "serial":
            transport.address.options.setdefault("baudrate", "57600")
        self.device_address = device_address
        self.instance = instance
        self.tolerance_k = tolerance_k
        declared = copy.copy(type(self).temperature)
        declared.tolerance = tolerance_k
        self._bound["temperature"] = BoundSignal(declared, self)
        self._sequence = 0
        self._limits_k: Limits = (LOWEST_K, HIGHEST_K)

    def open(self) -> None:
        """Connect, check that a TEC controller answers, and learn the target range it allows."""
        super().open()
        try:
            identity = self.identity()
            if "TEC" not in identity:
                raise BadAnswerError(
                    f"{self.transport.where}: MeCom address {self.device_address} is {identity!r}, expected a TEC controller"
                )
            low, high = self._read_limits(LIVE_TARGET)
        except DeviceError:
            self.close()
            raise
        self._limits_k = max(LOWEST_K, low + ZERO_CELSIUS_K), min(HIGHEST_K, high + ZERO_CELSIUS_K)

    def identity(self) -> str:
        """Firmware identity, such as ``8065-TEC-SW-G01``."""
        return self.ask("?IF").strip()

    def target_limits(self) -> Limits:
        """Lowest and highest target, K: the controller's own range (asked when opened) inside 283.15 to 473.15 K."""
        return self._limits_k

    temperature = Signal(
        float,
        "K",
        read=lambda tec: tec.read_float(OBJECT_TEMPERATURE) + ZERO_CELSIUS_K,
        write=lambda tec, kelvin: tec.set_target(kelvin),
        limits=lambda tec: tec.target_limits(),
        tolerance=0.05,
        poll_s=0.5,
        doc="Object temperature; setting it sets the target.",
    )
    setpoint = Signal(
        float,
        "K",
        read=lambda tec: tec.read_float(ACTIVE_TARGET) + ZERO_CELSIUS_K,
        doc="Target the controller works towards.",
    )
    output = Signal(
        bool,
        read=lambda tec: tec.output_on(),
        write=lambda tec, on: tec.write_int(OUTPUT_ENABLE, int(on)),
        doc="Output stage; switching it is saved to flash, so not for cycling.",
    )
    current = Signal(
        float,
        "A",
        read=lambda tec: tec.read_float(ACTUAL_CURRENT),
        poll_s=2.0,
        doc="Output current, as measured.",
    )
    voltage = Signal(
        float,
        "V",
        read=lambda tec: tec.read_float(ACTUAL_VOLTAGE),
        poll_s=2.0,
        doc="Output voltage, as measured.",
    )
    stable = Signal(
        bool,
        read=lambda tec: tec.read_int(TEMPERATURE_STABLE) == STABLE,
        doc="The controller's own opinion, by its window (parameters 4040, 4041).",
    )
    status = Signal(
        str, read=lambda tec: tec.device_status(), poll_s=2.0, doc="What the controller is doing."
    )
    error_number = Signal(
        int,
        read=lambda tec: tec.read_int(ERROR_NUMBER, 1),
        poll_s=2.0,
        doc="Number of its error, 0 for none.",
    )

    @action
    def safe(self) -> None:
        """Output off: the oven drifts to the room's temperature, which no crystal minds.

        Holding the temperature instead would keep heating with nobody watching. Tried twice, as the answer to an
        earlier question may still be on a serial line.
        """
        try:
            self.write_int(OUTPUT_ENABLE, 0)
        except DeviceError:
            self.write_int(OUTPUT_ENABLE, 0)

    @action
    def store_target(self) -> None:
        """Save the present target to flash (parameter 3000), to come back after a power cycle. One flash write."""
        self.write_float(FLASH_TARGET, self.read_float(ACTIVE_TARGET))

    def not_ready(self) -> str:
        """Controller in error, output off, or object temperature off its target."""
        status = self.device_status()
        if status == "error":
            return f"the controller is in error {self.read_int(ERROR_NUMBER, 1)}; see its manual, then power-cycle it"
        if not self.output_on():
            return "the output is off"
        actual, target = self.read_float(OBJECT_TEMPERATURE), self.read_float(ACTIVE_TARGET)
        if not abs(actual - target) <= self.tolerance_k:
            return f"temperature is {actual:.3f} degC, target {target:.3f} degC"
        return super().not_ready()

    def set_target(self, kelvin: float) -> None:
        """Write the target to RAM and make sure it is the one in use; the target first, so that an old one never acts."""
        self.write_float(LIVE_TARGET, kelvin - ZERO_CELSIUS_K)
        if self.read_int(TARGET_SOURCE) != USE_LIVE_TARGET:
            self.write_int(TARGET_SOURCE, USE_LIVE_TARGET)

    def output_on(self) -> bool:
        """Whether the output stage is on; where a pin or live parameter decides (mode 2 and up), whether it runs."""
        mode = self.read_int(OUTPUT_ENABLE)
        return mode == 1 or (mode > 1 and self.device_status() == "run")

    def device_status(self) -> str:
        """``ready``, ``run``, ``error``... of the whole controller."""
        code = self.read_int(DEVICE_STATUS, 1)
        return STATUS.get(code, f"unknown status {code}")

    def read_float(self, parameter: int, instance: int = 0) -> float:
        """A FLOAT32 parameter in the controller's unit (degC, A, V)."""
        return struct.unpack(">f", self._read(parameter, instance))[0]

    def read_int(self, parameter: int, instance: int = 0) -> int:
        """An INT32 parameter."""
        return struct.unpack(">i", self._read(parameter, instance))[0]

    def write_float(self, parameter: int, value: float) -> None:
        """Write a FLOAT32 parameter and check the acknowledgement."""
        self._write(parameter, struct.pack(">f", value))

    def write_int(self, parameter: int, value: int) -> None:
        """Write an INT32 parameter and check the acknowledgement."""
        self._write(parameter, struct.pack(">i", value))

    def ask(self, payload: str) -> str:
        """Send one request and return its answer's payload.

        RefusedError if the controller says no; BadAnswerError if the answer is broken or belongs to another request, and
        then the connection is opened anew before the next.
        """
        self._sequence = (self._sequence + 1) & 0xFFFF
        request = encode_request(self.device_address, self._sequence, payload)
        self.transport.write(request + END)
        answer = self.transport.read_until(END, self.timeout_s)
        try:
            reply = decode_answer(answer, request)
        except ValueError as error:
            raise self._broken(payload, answer, str(error)) from None
        if reply.startswith("+"):
            code = int(reply[1:]) if reply[1:].isdecimal() else 0
            raise RefusedError(
                f"{self.transport.where}: MeCom address {self.device_address} refused {payload}: "
                f"error {reply}, {REFUSALS.get(code, 'see document 5117')}"
            )
        return reply

    def _read(self, parameter: int, instance: int) -> bytes:
        return self._hex(f"?VR{parameter:04X}{instance or self.instance:02X}", 4)

    def _read_limits(self, parameter: int) -> Limits:
        """Range of a FLOAT32 parameter: type byte, lowest, highest."""
        _, low, high = struct.unpack(">Bff", self._hex(f"?VL{parameter:04X}{self.instance:02X}", 9))
        return low, high

    def _write(self, parameter: int, value: bytes) -> None:
        payload = f"VS{parameter:04X}{self.instance:02X}{value.hex().upper()}"
        reply = self.ask(payload)
        if reply:
            raise self._broken(payload, reply.encode(), "expected an acknowledgement")

    def _hex(self, payload: str, count: int) -> bytes:
        """The answer as ``count`` bytes."""
        reply = self.ask(payload)
        try:
            value = bytes.fromhex(reply)
        except ValueError:
            value = b""
        if len(value) != count or len(reply) != 2 * count:
            raise self._broken(payload, reply.encode(), f"expected {2 * count} hex digits")
        return value

    def _broken(self, payload: str, answer: bytes, why: str) -> BadAnswerError:
        self.transport.mark_stale()
        return BadAnswerError(
            f"{self.transport.where}: {payload} was answered with {answer[:60]!r}: {why}; check the cable and the baud rate"
        )
