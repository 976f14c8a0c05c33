"""A simulated HC Photonics TC038D oven: Modbus RTU over one heated body of the world.

Functions and registers are those of DEVICES.md 3.4. Frames with a wrong CRC or for another unit get no answer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labctl.sim.instrument import Send, Session, SimInstrument
from labctl.units import ZERO_CELSIUS_K
from simulated_hw.world.parts import HeatedBody

READ, ECHO, WRITE = 0x03, 0x08, 0x10
NO_FUNCTION, WRONG_ADDRESS, WRONG_VALUE = 1, 2, 3
TEMPERATURE, SETPOINT = 0x0000, 0x0106
LONGEST = 64
"""Bytes kept of a request that has not ended."""
BROADCAST = 0


def crc(message: bytes) -> int:
    """CRC-16/Modbus; over a whole frame it is 0."""
    value = 0xFFFF
    for byte in message:
        value ^= byte
        for _ in range(8):
            value, carry = value >> 1, value & 1
            value ^= 0xA001 * carry
    return value


def frame(message: bytes) -> bytes:
    """A message with its CRC, low byte first."""
    return message + crc(message).to_bytes(2, "little")


def request_length(head: bytes) -> int:
    """Length of the request that begins with ``head``, CRC included; 0 while that cannot be said."""
    if len(head) < 7:
        return 0
    return 9 + head[6] if head[1] == WRITE else 8


def find_request(buffer: bytes) -> tuple[bytes, int] | None:
    """(message without CRC, where its frame ends) of the first whole request in ``buffer``, at any place."""
    for start in range(len(buffer) - 7):
        end = start + request_length(buffer[start : start + 7])
        if end <= len(buffer) and end - start >= 8 and crc(buffer[start:end]) == 0:
            return buffer[start : end - 2], end
    return None


class SimHcpTc038d(SimInstrument):
    """An oven over one heated body.

    now:   the world's time, s
    unit:  Modbus address; a write to address 0 reaches every oven
    """

    def __init__(
        self, body: HeatedBody, now: Callable[[], float], rng: np.random.Generator, *, unit: int = 1
    ) -> None:
        super().__init__()
        self.body = body
        self._now = now
        self.rng = rng
        self.unit = unit
        body.enabled = True  # it has no switch

    def session(self, port: str, send: Send) -> Session:
        """One client; the oven is shared."""
        return ModbusSession(self, send)

    def answer(self, message: bytes) -> bytes | None:
        """The answer to one request, both without CRC; None for another unit."""
        unit, function = message[0], message[1]
        if unit not in (self.unit, BROADCAST):
            return None
        self.body.advance(self._now())
        match function:
            case 0x03:
                reply = self._read(message)
            case 0x08:
                reply = message[1:] if message[2:4] == b"\0\0" else bytes((function | 0x80, WRONG_VALUE))
            case 0x10:
                reply = self._write(message)
            case _:
                reply = bytes((function | 0x80, NO_FUNCTION))
        return None if unit == BROADCAST else bytes((unit,)) + reply

    def _read(self, message: bytes) -> bytes:
        register, words = int.from_bytes(message[2:4], "big"), int.from_bytes(message[4:6], "big")
        if register not in (TEMPERATURE, SETPOINT):
            return bytes((READ | 0x80, WRONG_ADDRESS))
        if words != 2:
            return bytes((READ | 0x80, WRONG_VALUE))
        kelvin = self.body.setpoint_k
        if register == TEMPERATURE:
            kelvin = self.body.temperature_k + self.body.noise_k * self.rng.standard_normal()
        return bytes((READ, 4)) + round(10 * (kelvin - ZERO_CELSIUS_K)).to_bytes(4, "big", signed=True)

    def _write(self, message: bytes) -> bytes:
        if int.from_bytes(message[2:4], "big") != SETPOINT:
            return bytes((WRITE | 0x80, WRONG_ADDRESS))
        kelvin = int.from_bytes(message[7:11], "big", signed=True) / 10 + ZERO_CELSIUS_K
        if message[4:7] != b"\0\2\4" or not self.body.lowest_k <= kelvin <= self.body.highest_k:
            return bytes((WRITE | 0x80, WRONG_VALUE))
        self.body.setpoint_k = kelvin
        return message[1:6]


class ModbusSession(Session):
    """Finds requests in the byte stream. The line's pauses between frames are not kept: a frame is known by its CRC."""

    def __init__(self, oven: SimHcpTc038d, send: Send) -> None:
        super().__init__(send)
        self._oven = oven
        self._buffer = bytearray()

    def receive(self, data: bytes) -> None:
        """Answer every whole request; whatever is before it is noise."""
        self._buffer += data
        while (found := find_request(bytes(self._buffer))) is not None:
            message, end = found
            del self._buffer[:end]
            reply = self._oven.answer(message)
            if reply is not None:
                self.send(frame(reply))
        del self._buffer[:-LONGEST]


def demo(now: Callable[[], float]) -> SimHcpTc038d:
    """An oven at the room's temperature."""
    return SimHcpTc038d(HeatedBody(), now, np.random.default_rng(1))
