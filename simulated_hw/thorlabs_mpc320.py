"""A simulated Thorlabs MPC320: APT messages over three paddles of the world.

Messages are those of DEVICES.md 3.8. It reports the end of a move unasked, to the client that commanded it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from labctl.sim.instrument import Send, Session, SimInstrument
from simulated_hw.world.parts_polarisation import PolarisationPaddles

HOST, CONTROLLER, LONG = 0x01, 0x50, 0x80
COUNTS = 1370
UPDATE_S = 0.1
STATUS = struct.Struct("<HiHhI")
FORWARD, REVERSE, CONNECTED, HOMED, ENABLED = 1 << 4, 1 << 5, 1 << 8, 1 << 10, 1 << 31
DATA_LENGTHS = {0x0453: 6, 0x0530: 12, 0x04B9: 4}
SHORT = frozenset(
    (0x0002, 0x0005, 0x0011, 0x0012, 0x0210, 0x0211, 0x0223, 0x0443, 0x0465, 0x046A, 0x0490, 0x0492, 0x0531)
)


def short_message(kind: int, first: int = 0, second: int = 0) -> bytes:
    """A message of six bytes to the computer."""
    return kind.to_bytes(2, "little") + bytes((first, second, HOST, CONTROLLER))


def long_message(kind: int, data: bytes) -> bytes:
    """A message with data to the computer."""
    return (
        kind.to_bytes(2, "little") + len(data).to_bytes(2, "little") + bytes((HOST | LONG, CONTROLLER)) + data
    )


def next_message(buffer: bytearray) -> tuple[int, int, int, bytes] | None:
    """Take (kind, first, second, data) off the buffer, passing over what is no message; None while it is incomplete."""
    while len(buffer) >= 6:
        kind = int.from_bytes(buffer[:2], "little")
        length = DATA_LENGTHS.get(kind, -1)
        addressed = buffer[4] & ~LONG == CONTROLLER and buffer[5] == HOST
        if addressed and not buffer[4] & LONG and kind in SHORT:
            first, second = buffer[2], buffer[3]
            del buffer[:6]
            return kind, first, second, b""
        if addressed and buffer[4] & LONG and int.from_bytes(buffer[2:4], "little") == length:
            if len(buffer) < 6 + length:
                return None
            data = bytes(buffer[6 : 6 + length])
            del buffer[: 6 + length]
            return kind, 0, 0, data
        del buffer[0]
    return None


class SimThorlabsMpc320(SimInstrument):
    """A polarisation controller over three paddles.

    now:  the world's time, s
    """

    def __init__(
        self,
        paddles: PolarisationPaddles,
        now: Callable[[], float],
        rng: np.random.Generator,
        *,
        serial_number: int = 38_000_042,
        model: str = "MPC320",
    ) -> None:
        super().__init__()
        self.paddles = paddles
        self.now = now
        self.rng = rng
        self.serial_number = serial_number
        self.model = model
        self.enabled = 0
        """Mask of the channels whose motors are on."""
        self.homed = 0
        self.percent, self.home_counts, self.jog_counts = 50, COUNTS // 2, [25, 25, 25]
        self._drive()

    def session(self, port: str, send: Send) -> Session:
        """One client; the paddles are shared."""
        return AptSession(self, send)

    def own_faults(self) -> dict[str, Callable[[], None]]:
        """The motors lose power."""
        return {"motors_off": self.switch_off}

    def switch_off(self) -> None:
        """Motors off, wherever the paddles are."""
        self.enable(0)

    def enable(self, mask: int) -> None:
        """Switch on the motors in the mask and off the others, which stop."""
        self.advance()
        self.enabled = mask & 0b111
        for n in range(3):
            if not self.enabled & 1 << n:
                self.paddles.stop(n)

    def advance(self) -> None:
        """Bring the paddles up to date."""
        self.paddles.advance(self.now())

    def move(self, mask: int, counts: int) -> bool:
        """Begin a move; whether the motor is on."""
        self.advance()
        if mask not in (1, 2, 4) or not self.enabled & mask:
            return False
        self.paddles.turn_to(mask.bit_length() - 1, counts / COUNTS * self.paddles.travel_rad)
        return True

    def counts(self, paddle: int) -> int:
        """Position of a paddle (0 to 2)."""
        return round(self.paddles.angles_rad[paddle] / self.paddles.travel_rad * COUNTS)

    def info(self) -> bytes:
        """Data of the hardware information."""
        text = self.model.encode("ascii")
        head = struct.pack("<I8sH4B", self.serial_number, text, 44, 5, 0, 1, 0)
        return head + bytes(60) + struct.pack("<3H", 1, 0, 3)

    def status(self, paddle: int) -> bytes:
        """Data of a status report: channel, position, speed, current, bits."""
        self.advance()
        left = self.paddles.targets_rad[paddle] - self.paddles.angles_rad[paddle]
        turning = FORWARD if left > 0 else REVERSE if left < 0 else 0
        bits = turning | CONNECTED | HOMED * bool(self.homed & 1 << paddle)
        bits |= ENABLED * bool(self.enabled & 1 << paddle)
        speed, current = (self.percent, 60) if left else (0, 0)
        return STATUS.pack(1 << paddle, self.counts(paddle), speed, current, bits)

    def parameters(self) -> bytes:
        """Data of the polarisation parameters."""
        return struct.pack("<6H", 0, self.percent, self.home_counts, *self.jog_counts)

    def set_parameters(self, data: bytes) -> None:
        """Take new parameters; what is out of range changes nothing."""
        _, percent, home, *jogs = struct.unpack("<6H", data)
        if 10 <= percent <= 100 and max(home, *jogs) <= COUNTS:
            self.percent, self.home_counts, self.jog_counts = percent, home, jogs
            self._drive()

    def _drive(self) -> None:
        self.paddles.speed_rad_per_s = self.percent / 100 * self.paddles.fastest_rad_per_s


class AptSession(Session):
    """Answers messages, and reports unasked the end of the moves this client commanded."""

    def __init__(self, controller: SimThorlabsMpc320, send: Send) -> None:
        super().__init__(send)
        self._controller = controller
        self._buffer = bytearray()
        self._awaited: dict[int, int] = {}
        """Moves under way: paddle -> kind of the message at its end."""
        self._updates = False
        self._next_update_s = 0.0

    def receive(self, data: bytes) -> None:
        """Answer every complete message."""
        self._buffer += data
        while (message := next_message(self._buffer)) is not None:
            self.handle(*message)

    def tick(self, now_s: float) -> None:
        """Report moves that have ended, and the state of all paddles if that was asked for."""
        sim = self._controller
        sim.advance()
        for paddle, kind in [*self._awaited.items()]:
            if sim.paddles.moving(paddle):
                continue
            del self._awaited[paddle]
            if kind == 0x0444:
                sim.homed |= 1 << paddle
                self.send(short_message(kind, 1 << paddle))
            else:
                self.send(long_message(kind, sim.status(paddle)))
        if self._updates and now_s >= self._next_update_s:
            self._next_update_s = now_s + UPDATE_S
            for paddle in range(3):
                self.send(long_message(0x0491, sim.status(paddle)))

    def handle(self, kind: int, first: int, second: int, data: bytes) -> None:
        """Do what one message says, and answer it."""
        sim = self._controller
        paddle = first.bit_length() - 1 if first in (1, 2, 4) else None
        match kind:
            case 0x0005:
                self.send(long_message(0x0006, sim.info()))
            case 0x0011 | 0x0012:
                self._updates = kind == 0x0011
            case 0x0210:
                sim.enable(first if second == 1 else sim.enabled & ~first)
            case 0x0211:
                self.send(short_message(0x0212, first, 1 if sim.enabled & first else 2))
            case 0x0530:
                sim.set_parameters(data)
            case 0x0531:
                self.send(long_message(0x0532, sim.parameters()))
            case 0x0453:
                mask, counts = struct.unpack("<Hi", data)
                self._move(mask, counts, 0x0464)
            case _ if paddle is not None:
                self._handle_paddle(kind, paddle, second)
            case _:  # identify, keep-alive, save: nothing to answer
                return

    def _handle_paddle(self, kind: int, paddle: int, second: int) -> None:
        sim = self._controller
        match kind:
            case 0x0490:
                self.send(long_message(0x0491, sim.status(paddle)))
            case 0x0443:
                self._move(1 << paddle, sim.home_counts, 0x0444)
            case 0x046A:
                step = sim.jog_counts[paddle] * (1 if second == 1 else -1)
                sim.advance()
                self._move(1 << paddle, sim.counts(paddle) + step, 0x0464)
            case 0x0465:
                sim.advance()
                sim.paddles.stop(paddle)
                self._awaited.pop(paddle, None)
                self.send(long_message(0x0466, sim.status(paddle)))
            case _:
                return

    def _move(self, mask: int, counts: int, report: int) -> None:
        if self._controller.move(mask, counts):
            self._awaited[mask.bit_length() - 1] = report


def demo(now: Callable[[], float]) -> SimThorlabsMpc320:
    """A controller with its paddles at 0."""
    return SimThorlabsMpc320(PolarisationPaddles(), now, np.random.default_rng(1))
