"""A simulated Agilent IPCMini ion pump controller: window protocol frames over a vacuum chamber of the world (DEVICES.md 3.8).

The card leaves open whether an answer repeats the digit of the command between window and value; Agilent's manuals of the
protocol say that an answer has the structure of the message, so it does here unless ``command_digit`` is False.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labctl.sim.instrument import Send, Session, SimInstrument
from simulated_hw.world.parts_vacuum import VacuumChamber

STX, ETX = b"\x02", b"\x03"
ACK, UNKNOWN_WINDOW, WRONG_DATA, OUT_OF_RANGE, DISABLED = b"\x06", b"2", b"3", b"4", b"5"
SERIAL_MODE, LAN_MODE = 0, 3
STOPPED, NORMAL, FAILED = 0, 5, 6
OVER_TEMPERATURE, INTERLOCK_CABLE, SHORT_CIRCUIT, PROTECT = 4, 32, 64, 128
PASCAL_PER_UNIT = (101325 / 760, 100.0, 1.0)
LONGEST_FRAME = 64
LEAST_CURRENT_A = 1e-10


def checksum(body: bytes) -> bytes:
    """XOR of all bytes as two hex digits."""
    total = 0
    for byte in body:
        total ^= byte
    return b"%02X" % total


def encode(address: int, payload: bytes) -> bytes:
    """A frame from the controller."""
    body = bytes([0x80 + address]) + payload + ETX
    return STX + body + checksum(body)


def decode(frame: bytes) -> tuple[int, bytes] | None:
    """(address, payload) of a frame, or None if it is none or its checksum is wrong."""
    if len(frame) < 5 or frame[:1] != STX or frame[-3:-2] != ETX or frame[-2:] != checksum(frame[1:-2]):
        return None
    return frame[1] - 0x80, frame[2:-3]


class SimAgilentIpcMini(SimInstrument):
    """A one-channel controller on a vacuum chamber."""

    def __init__(
        self,
        chamber: VacuumChamber,
        now: Callable[[], float],
        rng: np.random.Generator,
        *,
        address: int = 0,
        command_digit: bool = True,
        model: str = "IPCMini",
        serial: str = "IT1725L003",
    ) -> None:
        super().__init__()
        self.chamber = chamber
        self._now = now
        self._rng = rng
        self.address = address
        self.command_digit = command_digit
        self.model, self.serial, self.label = model, serial, "CHAMBER"
        self.mode = LAN_MODE
        self.unit = 1
        self.error = 0
        self.autostart = self.protect = self.step = 0
        self.target_v = 5000
        self.protect_ua = 1000
        self.setpoint = "1.0E-07"
        self._writers: dict[int, Callable[[str], bytes]] = {
            8: self._whole("mode", 0, 3),
            11: self._switch_on_off,
            600: self._whole("unit", 0, 2),
            601: self._whole("autostart", 0, 1),
            602: self._whole("protect", 0, 1),
            603: self._whole("step", 0, 1),
            613: self._whole("target_v", 3000, 7000),
            614: self._whole("protect_ua", 1, 10000),
        }
        self._readers: dict[int, Callable[[], str]] = {
            8: lambda: f"{self.mode:06d}",
            11: lambda: str(int(self.chamber.pumping)),
            205: lambda: f"{self.status():06d}",
            206: lambda: f"{self.error:06d}",
            319: lambda: self.model,
            323: lambda: self.serial,
            600: lambda: f"{self.unit:06d}",
            601: lambda: str(self.autostart),
            602: lambda: str(self.protect),
            603: lambda: str(self.step),
            613: lambda: f"{self.target_v:06d}",
            614: lambda: f"{self.protect_ua:06d}",
            615: lambda: self.setpoint,
            801: lambda: f"{31 + round(0.5 * self._rng.standard_normal()):06d}",
            810: lambda: f"{round(self.voltage_v(), -2):06.0f}",
            811: lambda: f"{max(self.current_a(), LEAST_CURRENT_A):.1E}",
            812: lambda: f"{self.shown_pressure():.1E}",
            890: lambda: self.label,
        }

    def session(self, port: str, send: Send) -> Session:
        """A client."""
        return WindowSession(self, send)

    def own_faults(self) -> dict[str, Callable[[], None]]:
        """A leak in the chamber and its repair, and the ways the controller trips."""
        return {
            "leak": lambda: setattr(self.chamber, "leak_pa_per_s", 1e-7),
            "seal": lambda: setattr(self.chamber, "leak_pa_per_s", 0.0),
            "short_circuit": lambda: self.trip(SHORT_CIRCUIT),
            "interlock_cable": lambda: self.trip(INTERLOCK_CABLE),
            "over_temperature": lambda: self.trip(OVER_TEMPERATURE),
        }

    def trip(self, error: int) -> None:
        """Switch off with an error, which stays until the high voltage is switched on again."""
        self.advance()
        self.error = error
        self.chamber.pumping = False

    def advance(self) -> None:
        """The chamber up to now; too much current trips a controller with its protection on."""
        self.chamber.advance(self._now())
        if self.protect and self.current_a() > self.protect_ua * 1e-6:
            self.error = PROTECT
            self.chamber.pumping = False

    def status(self) -> int:
        """Window 205."""
        if self.error:
            return FAILED
        return NORMAL if self.chamber.pumping else STOPPED

    def voltage_v(self) -> float:
        """At the pump."""
        return float(self.target_v) if self.chamber.pumping else 0.0

    def current_a(self) -> float:
        """Through the pump, less at lower voltage."""
        return self.chamber.pump_current_a() * self.voltage_v() / 5000

    def shown_pressure(self) -> float:
        """In the unit chosen; zero when there is no current to work it out from."""
        return self.chamber.pressure_pa / PASCAL_PER_UNIT[self.unit] if self.chamber.pumping else 0.0

    def answer(self, payload: bytes) -> bytes:
        """The payload of the answer to a request's payload."""
        self.advance()
        window, command, data = payload[:3], payload[3:4], payload[4:]
        if not window.isdigit() or command not in (b"0", b"1"):
            return WRONG_DATA
        number = int(window)
        if number not in self._readers:
            return UNKNOWN_WINDOW
        if command == b"0":
            value = self._readers[number]().encode("ascii")
            return window + (b"0" if self.command_digit else b"") + value
        if number not in self._writers or (self.mode not in (SERIAL_MODE, LAN_MODE) and number != 8):
            return DISABLED
        return self._writers[number](data.decode("latin-1"))

    def _whole(self, name: str, lowest: int, highest: int) -> Callable[[str], bytes]:
        """A writer of one register."""

        def write(text: str) -> bytes:
            if not (text.isascii() and text.isdecimal()):
                return WRONG_DATA
            if not lowest <= int(text) <= highest:
                return OUT_OF_RANGE
            setattr(self, name, int(text))
            return ACK

        return write

    def _switch_on_off(self, text: str) -> bytes:
        if text not in ("0", "1"):
            return WRONG_DATA
        self.chamber.pumping = text == "1"
        self.error = 0
        self.advance()
        return ACK


class WindowSession(Session):
    """Finds the frames in what a client sends; broken ones, and those for another address, get no answer."""

    def __init__(self, controller: SimAgilentIpcMini, send: Send) -> None:
        super().__init__(send)
        self.controller = controller
        self._buffer = bytearray()

    def receive(self, data: bytes) -> None:
        """Answer every whole frame."""
        self._buffer += data
        while (end := self._buffer.find(ETX)) >= 0 and len(self._buffer) >= end + 3:
            start = self._buffer.rfind(STX, 0, end)
            frame = bytes(self._buffer[start : end + 3]) if start >= 0 else b""
            found = decode(frame)
            del self._buffer[: end + (3 if found else 1)]
            if found and found[0] == self.controller.address:
                self.send(encode(self.controller.address, self.controller.answer(found[1])))
        if len(self._buffer) > LONGEST_FRAME:
            del self._buffer[:-LONGEST_FRAME]


def demo(now: Callable[[], float]) -> SimAgilentIpcMini:
    """A controller whose pump holds a good vacuum."""
    return SimAgilentIpcMini(VacuumChamber(), now, np.random.default_rng(1))
