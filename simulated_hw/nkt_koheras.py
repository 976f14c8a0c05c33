"""A simulated NKT Koheras laser: Interbus telegrams to a BASIK K1x2 module and the ADJUSTIK frame around it.

Telegrams and registers are those of DEVICES.md 3.2. Modules that are not there do not answer.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labctl.sim.instrument import Send, Session, SimInstrument
from labctl.units import ZERO_CELSIUS_K
from simulated_hw.world.parts_pump import PumpSeed

NACK, CRC_ERROR, BUSY, ACK, READ, WRITE, SET_BITS, CLEAR_BITS, DATAGRAM, TOGGLE_BITS = range(10)
BASIK_K1X2, ADJUSTIK_K822 = 0x33, 0x34
LONGEST = 2 * (4 + 240 + 2)
"""Bytes between start and end of the longest telegram, all of it escaped."""
LOWEST_POWER_DBM = -30.0


def crc(message: bytes) -> int:
    """CRC-16/XMODEM: polynomial 0x1021 from 0, most significant bit first."""
    value = 0
    for byte in message:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1) ^ (0x1021 if value & 0x8000 else 0)
        value &= 0xFFFF
    return value


def wrap(message: bytes) -> bytes:
    """A message (destination, source, kind, register, data) as it goes over the line."""
    body = message + crc(message).to_bytes(2, "big")
    return b"\r" + b"".join(b"^" + bytes((b + 64,)) if b in b"\n\r^" else bytes((b,)) for b in body) + b"\n"


def unwrap(body: bytes) -> tuple[bytes, bool] | None:
    """(message without CRC, whether the CRC fits) from the bytes between start and end; None if it is no telegram."""
    pieces = body.split(b"^")
    plain = pieces[0]
    for piece in pieces[1:]:
        if piece[:1] not in (b"J", b"M", b"\x9e"):
            return None
        plain += bytes((piece[0] - 64,)) + piece[1:]
    if not 6 <= len(plain) <= 246:
        return None
    return plain[:-2], crc(plain[:-2]) == int.from_bytes(plain[-2:], "big")


@dataclass(frozen=True)
class Register:
    """One register: struct format ("s" for text), how to read it, how to write it (False: the value is not allowed)."""

    form: str
    read: Callable[[], float | str]
    write: Callable[[int], bool] | None = None

    def encode(self) -> bytes:
        """Its value as bytes."""
        value = self.read()
        if isinstance(value, str):
            return value.encode("ascii")
        size = 8 * struct.calcsize(self.form)
        low, high = (
            (-(1 << size - 1), (1 << size - 1) - 1) if self.form[-1].islower() else (0, (1 << size) - 1)
        )
        return struct.pack(self.form, max(low, min(high, round(value))))


class SimNktKoheras(SimInstrument):
    """A Koheras laser: a BASIK module over one pump seed, in an ADJUSTIK frame.

    now:           the world's time, s
    lost_replies:  the part of the replies that never come, as the real laser's do (0.00001 to 0.004 were seen)
    """

    def __init__(
        self,
        seed: PumpSeed,
        now: Callable[[], float],
        rng: np.random.Generator,
        *,
        basik_address: int = 0x01,
        adjustik_address: int = 0x80,
        serial_number: str = "19200042",
        lost_replies: float = 0.0,
    ) -> None:
        super().__init__()
        self.seed = seed
        self._now = now
        self.rng = rng
        self.lost_replies = lost_replies
        self.busy = 0
        """How many of the next requests are answered with "busy"."""
        self.error = False
        self.setup_bits = 0
        common = {
            0x64: Register("<H", lambda: 0x0103),
            0x65: Register("s", lambda: serial_number),
            0x66: Register("<H", self.status_bits),
        }
        self.modules: dict[int, dict[int, Register]] = {
            basik_address: common | {0x61: Register("<B", lambda: BASIK_K1X2)} | self._laser_registers(),
            adjustik_address: common | {0x61: Register("<B", lambda: ADJUSTIK_K822)},
        }

    def session(self, port: str, send: Send) -> Session:
        """One client; the registers are shared."""
        return InterbusSession(self, send)

    def own_faults(self) -> dict[str, Callable[[], None]]:
        """The interlock loop opens; the module goes into an error."""
        return {"interlock": self.open_interlock, "error": self.fail}

    def open_interlock(self) -> None:
        """Open the interlock loop: emission goes off and stays off until it is closed and emission commanded anew."""
        self.seed.interlock_closed = False
        self.seed.emission = False

    def fail(self) -> None:
        """Go into the error state, without emission."""
        self.error = True
        self.seed.emission = False

    def status_bits(self) -> int:
        """Register 0x66."""
        seed = self.seed
        return (
            seed.emitting()
            | (not seed.interlock_closed) << 1
            | (seed.supply_v < 11.0) << 5
            | (not 288.15 <= seed.temperature_k <= 323.15) << 6
            | self.error << 15
        )

    def answer(self, message: bytes, crc_fits: bool) -> bytes | None:
        """The reply (kind, register, data) to one message, or None."""
        destination, kind, register = message[0], message[2], message[3]
        registers = self.modules.get(destination)
        if registers is None or (self.lost_replies and self.rng.random() < self.lost_replies):
            return None
        if not crc_fits:
            return bytes((CRC_ERROR, register))
        if self.busy:
            self.busy -= 1
            return bytes((BUSY, register))
        self.seed.advance(self._now())
        found = registers.get(register)
        if found is None:
            return bytes((NACK, register))
        if kind == READ:
            return bytes((DATAGRAM, register)) + found.encode()
        return bytes((ACK if self._store(found, kind, message[4:]) else NACK, register))

    def _store(self, register: Register, kind: int, data: bytes) -> bool:
        """Write a register or some of its bits; whether it was allowed."""
        if register.write is None or len(data) != struct.calcsize(register.form):
            return False
        value: int = struct.unpack(register.form, data)[0]
        held: int = struct.unpack(register.form, register.encode())[0]
        changed = {
            WRITE: value,
            SET_BITS: held | value,
            CLEAR_BITS: held & ~value,
            TOGGLE_BITS: held ^ value,
        }
        return kind in changed and register.write(changed[kind])

    def _laser_registers(self) -> dict[int, Register]:
        seed = self.seed
        return {
            0x17: Register("<H", lambda: self._measured_w() * 1e5),
            0x1C: Register("<H", lambda: (seed.temperature_k - ZERO_CELSIUS_K) * 10),
            0x1E: Register("<H", lambda: seed.supply_v * 1e3),
            0x22: Register(
                "<H", lambda: seed.power_setpoint_w * 1e5, lambda value: self._set_power(value * 1e-5)
            ),
            0x2A: Register("<h", lambda: seed.offset_setpoint_m * 1e13, self._set_offset),
            0x30: Register("<B", lambda: seed.emission, self._set_emission),
            0x31: Register("<H", lambda: self.setup_bits, self._set_setup),
            0x32: Register("<I", lambda: seed.wavelength_m * 1e13),
            0x72: Register("<i", lambda: seed.offset_m * 1e13),
            0x90: Register("<h", lambda: 100 * _dbm(self._measured_w())),
            0xA0: Register(
                "<h",
                lambda: 100 * _dbm(seed.power_setpoint_w),
                lambda value: self._set_power(10 ** (value / 1000) * 1e-3),
            ),
        }

    def _measured_w(self) -> float:
        return max(0.0, self.seed.power_w() * (1 + self.seed.power_noise * self.rng.standard_normal()))

    def _set_emission(self, value: int) -> bool:
        if value not in (0, 1) or (value and (self.error or not self.seed.interlock_closed)):
            return False
        self.seed.emission = bool(value)
        return True

    def _set_power(self, watt: float) -> bool:
        if watt > self.seed.highest_power_w * 1.0001:
            return False
        self.seed.power_setpoint_w = watt
        return True

    def _set_offset(self, value: int) -> bool:
        if abs(value * 1e-13) > self.seed.tuning_range_m * 1.0001:
            return False
        self.seed.offset_setpoint_m = value * 1e-13
        return True

    def _set_setup(self, value: int) -> bool:
        self.setup_bits = value
        return True


class InterbusSession(Session):
    """Finds telegrams in the byte stream and sends the module's replies back to who asked."""

    def __init__(self, laser: SimNktKoheras, send: Send) -> None:
        super().__init__(send)
        self._laser = laser
        self._buffer = bytearray()

    def receive(self, data: bytes) -> None:
        """Answer every complete telegram; whatever is before a start byte is noise."""
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._answer(line[line.rfind(b"\r") + 1 :] if b"\r" in line else b"")
        if len(self._buffer) > LONGEST:
            del self._buffer[: -LONGEST - 1]

    def _answer(self, body: bytes) -> None:
        found = unwrap(body)
        if found is None:
            return
        message, crc_fits = found
        reply = self._laser.answer(message, crc_fits)
        if reply is not None:
            self.send(wrap(bytes((message[1], message[0])) + reply))


def _dbm(watt: float) -> float:
    return 10 * math.log10(watt * 1e3) if watt > 1e-6 else LOWEST_POWER_DBM


def demo(now: Callable[[], float]) -> SimNktKoheras:
    """A laser that emits 10 mW."""
    seed = PumpSeed(power_noise=0.0)
    seed.emission, seed.power_setpoint_w = True, 0.010
    return SimNktKoheras(seed, now, np.random.default_rng(1))
