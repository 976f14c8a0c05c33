"""Thorlabs MPC320 motorised fibre polarisation controllers over the binary APT protocol.

APT messages carry neither number nor checksum, and the controller speaks unasked (a move has ended). After every fresh
connection the driver therefore asks for the hardware information and skips what comes before it, so that the answer to
an earlier question is never taken for the next; and in an answer it checks kind, length, channel and range.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from labctl.device import Device, action
from labctl.errors import BadAnswerError, DeviceError, LimitError, NoAnswerError, RefusedError
from labctl.signal import Signal
from labctl.transport import Transport

HOST, CONTROLLER = 0x01, 0x50
LONG = 0x80
"""Bit of the destination byte: data follow the header."""
HEADER_BYTES = 6

REQ_INFO, GET_INFO, STOP_UPDATES, SET_ENABLED = 0x0005, 0x0006, 0x0012, 0x0210
MOVE_HOME, MOVE_HOMED, MOVE_ABSOLUTE, MOVE_COMPLETED = 0x0443, 0x0444, 0x0453, 0x0464
MOVE_STOP, MOVE_STOPPED, REQ_STATUS, GET_STATUS = 0x0465, 0x0466, 0x0490, 0x0491
SET_PARAMETERS, REQ_PARAMETERS, GET_PARAMETERS = 0x0530, 0x0531, 0x0532
RESPONSE, RICH_RESPONSE = 0x0080, 0x0081
KNOWN = frozenset(
    (GET_INFO, MOVE_HOMED, MOVE_COMPLETED, MOVE_STOPPED, GET_STATUS, GET_PARAMETERS, RESPONSE, RICH_RESPONSE)
)
SHORT = frozenset((MOVE_HOMED, RESPONSE))
"""Those without data."""
LENGTHS = {GET_INFO: 84, GET_STATUS: 14, GET_PARAMETERS: 12}
MOST_DATA = 128

PADDLES = (1, 2, 3)
MASKS = {1: 1, 2: 2, 3: 4}
"""Channels on the wire are bit masks."""
ENABLE, AT_ONCE = 1, 1
MOST_COUNTS = 1370
TRAVEL_RAD = math.radians(170)
COUNT_RAD = TRAVEL_RAD / MOST_COUNTS
PLAUSIBLE_COUNTS = range(-MOST_COUNTS // 10, MOST_COUNTS + MOST_COUNTS // 10)
PERCENT_RAD_PER_S = math.radians(400) / 100
SLOWEST_PERCENT, FASTEST_PERCENT = 10, 100
STOPPING_S = 0.5
"""How long a paddle may take to come to rest."""


@dataclass(frozen=True)
class Message:
    """One APT message: its kind, its two parameter bytes or, for a long one, its data."""

    kind: int
    first: int = 0
    second: int = 0
    data: bytes = b""


@dataclass(frozen=True)
class PaddleStatus:
    """Position of a paddle in counts, speed and motor current in the controller's units, status bits."""

    counts: int
    speed: int
    current: int
    bits: int


def encode(message: Message) -> bytes:
    """The message from the computer to the controller."""
    if message.data:
        header = struct.pack("<HHBB", message.kind, len(message.data), CONTROLLER | LONG, HOST)
        return header + message.data
    return struct.pack("<HBBBB", message.kind, message.first, message.second, CONTROLLER, HOST)


def decode_header(header: bytes) -> tuple[Message, int]:
    """(message without its data, how many bytes of data follow) of six bytes from the controller; ValueError if none."""
    kind, first, second, destination, source = struct.unpack("<HBBBB", header)
    if destination & ~LONG != HOST or source != CONTROLLER or kind not in KNOWN:
        raise ValueError(f"{header.hex(' ')} is no message of the controller")
    if bool(destination & LONG) == (kind in SHORT):
        raise ValueError(f"message 0x{kind:04x} of the wrong form")
    length = 0 if kind in SHORT else first | second << 8
    if length != LENGTHS.get(kind, length) or length > MOST_DATA:
        raise ValueError(f"message 0x{kind:04x} with {length} bytes of data")
    return Message(kind, first, second) if kind in SHORT else Message(kind), length


def unpack_info(data: bytes) -> tuple[int, str, int, int, int]:
    """Serial number, model, and minor, middle and major number of the firmware, from 84 bytes of hardware information."""
    serial, model, _, minor, middle, major = struct.unpack("<I8sHBBBx", data[:18])
    return serial, model.split(b"\0")[0].decode("ascii", "replace"), minor, middle, major


class ThorlabsMpc320(Device):
    """Three paddles; angles from 0 to 170 degrees in rad.

    transport:  ``serial:///dev/ttyUSB0`` (115200 baud and RTS/CTS unless the address says otherwise) or the ``tcp://`` address
                of a serial bridge
    """

    manual = "Thorlabs APT Communications Protocol, issue 25; DEVICES.md 3.8. Stop (0x0465) and error messages (0x0080) from general knowledge of APT: check them for the MPC320"
    checked_with = "qmi Thorlabs_Mpc320; not yet tried on an instrument"
    timeout_s = 1.0

    def __init__(self, transport: Transport, name: str = "") -> None:
        super().__init__(transport, name)
        if transport.address.scheme == "serial":
            transport.address.options.setdefault("baudrate", "115200")
            transport.address.options.setdefault("rtscts", "1")
        transport.after_open = self._synchronise
        self._seen: dict[int, PaddleStatus] | None = None
        """Of each paddle, while all signals are read: several are made from one status."""

    def identity(self) -> str:
        """Model, serial number and firmware."""
        serial, model, minor, middle, major = unpack_info(self._ask(Message(REQ_INFO), GET_INFO))
        return f"Thorlabs {model}, serial {serial}, firmware {major}.{middle}.{minor}"

    position_1 = Signal(
        float,
        "rad",
        read=lambda mpc: mpc.position(1),
        write=lambda mpc, angle: mpc.turn(1, angle),
        limits=(0.0, TRAVEL_RAD),
        tolerance=3 * COUNT_RAD,
        poll_s=2.0,
        doc="Angle of paddle 1; setting it begins a move.",
    )
    position_2 = Signal(
        float,
        "rad",
        read=lambda mpc: mpc.position(2),
        write=lambda mpc, angle: mpc.turn(2, angle),
        limits=(0.0, TRAVEL_RAD),
        tolerance=3 * COUNT_RAD,
        poll_s=2.0,
        doc="Angle of paddle 2; setting it begins a move.",
    )
    position_3 = Signal(
        float,
        "rad",
        read=lambda mpc: mpc.position(3),
        write=lambda mpc, angle: mpc.turn(3, angle),
        limits=(0.0, TRAVEL_RAD),
        tolerance=3 * COUNT_RAD,
        poll_s=2.0,
        doc="Angle of paddle 3; setting it begins a move.",
    )
    velocity = Signal(
        float,
        "rad/s",
        read=lambda mpc: mpc.parameters()[1] * PERCENT_RAD_PER_S,
        write=lambda mpc, speed: mpc.set_velocity(speed),
        limits=(SLOWEST_PERCENT * PERCENT_RAD_PER_S, FASTEST_PERCENT * PERCENT_RAD_PER_S),
        tolerance=0.51 * PERCENT_RAD_PER_S,
        doc="Speed of all paddles, in steps of 4 degrees per second.",
    )
    moving = Signal(bool, read=lambda mpc: mpc.is_moving(), poll_s=1.0, doc="Whether any paddle turns.")

    @action
    def home(self) -> None:
        """Send all paddles to the home position kept in the controller; ``moving`` says when they have arrived."""
        self._order(*(Message(MOVE_HOME, MASKS[n]) for n in PADDLES))
        self.status(PADDLES[-1])

    @action
    def stop(self) -> None:
        """Stop all paddles where they are, and see that they have stopped."""
        self._halt([Message(MOVE_STOP, MASKS[n], AT_ONCE) for n in PADDLES])

    @action
    def safe(self) -> None:
        """Stop all paddles where they are and switch their motors off; the next move switches them on again.

        The light's polarisation stays as it is. Tried twice, as a first attempt may meet the remains of an earlier question.
        """
        messages = [Message(MOVE_STOP, MASKS[n], AT_ONCE) for n in PADDLES]
        messages.append(Message(SET_ENABLED, 0, ENABLE))  # all channels not named are switched off
        try:
            self._halt(messages)
        except DeviceError:
            self._halt(messages)

    def ask_ahead(self, names: Sequence[str]) -> None:
        """Nothing is asked, but the status of a paddle once."""
        self._seen = {}

    def forget(self) -> None:
        """The next reading asks again."""
        self._seen = None

    def not_ready(self) -> str:
        """A paddle that turns, or is not where it was sent."""
        return "paddles are turning" if self.is_moving() else super().not_ready()

    def position(self, paddle: int) -> float:
        """Angle of a paddle, rad."""
        return self.status(paddle).counts * COUNT_RAD

    def turn(self, paddle: int, angle: float) -> None:
        """Begin to turn a paddle to ``angle``, rad, and see that the controller is still there."""
        counts = struct.pack("<Hi", MASKS[paddle], round(angle / COUNT_RAD))
        self._order(Message(MOVE_ABSOLUTE, data=counts))
        self.status(paddle)

    def is_moving(self) -> bool:
        """Whether any paddle turns."""
        return any(self.status(n).speed != 0 for n in PADDLES)

    def status(self, paddle: int) -> PaddleStatus:
        """Where a paddle is and what it does."""
        if paddle not in MASKS:
            raise LimitError(f"{self.name}: there is no paddle {paddle!r}; there are 1, 2 and 3")
        if self._seen is not None and paddle in self._seen:
            return self._seen[paddle]
        request = Message(REQ_STATUS, MASKS[paddle])
        data = self._ask(request, GET_STATUS, MASKS[paddle])
        _, counts, speed, current, bits = struct.unpack("<HiHhI", data)
        if counts not in PLAUSIBLE_COUNTS:
            raise self._broken(request, f"position {counts} of paddle {paddle}, which has 0 to {MOST_COUNTS}")
        status = PaddleStatus(counts, speed, current, bits)
        if self._seen is not None:
            self._seen[paddle] = status
        return status

    def parameters(self) -> tuple[int, ...]:
        """Unused, speed in percent, home position and three jog steps in counts."""
        request = Message(REQ_PARAMETERS)
        values = struct.unpack("<6H", self._ask(request, GET_PARAMETERS))
        if not SLOWEST_PERCENT <= values[1] <= FASTEST_PERCENT:
            raise self._broken(request, f"a speed of {values[1]} %, which can be 10 to 100 %")
        return values

    def set_velocity(self, speed: float) -> None:
        """Set the speed, rad/s, leaving the other parameters as they are, and see that the controller took it."""
        percent = round(speed / PERCENT_RAD_PER_S)
        unused, _, *others = self.parameters()
        self._send(Message(SET_PARAMETERS, data=struct.pack("<6H", unused, percent, *others)))
        taken = self.parameters()[1]
        if taken != percent:
            raise RefusedError(
                f"{self.transport.where}: refused a speed of {percent} % (message 0x{SET_PARAMETERS:04x}); it stays at {taken} %"
            )

    def _order(self, *messages: Message) -> None:
        """Send commands that move, all motors switched on first: naming fewer would switch the others off."""
        self._send(Message(SET_ENABLED, sum(MASKS.values()), ENABLE), *messages)

    def _halt(self, messages: list[Message]) -> None:
        self._send(*messages)
        clock = self.transport.clock
        deadline = clock.now() + STOPPING_S
        while self.is_moving():
            if clock.now() >= deadline:
                raise RefusedError(
                    f"{self.transport.where}: a paddle still turns {STOPPING_S:g} s after the stop command (0x{MOVE_STOP:04x}); "
                    "unplug the controller if it must not"
                )

    def _send(self, *messages: Message) -> None:
        self.transport.write(b"".join(map(encode, messages)))

    def _ask(self, request: Message, expected: int, mask: int = 0) -> bytes:
        """Data of the answer of the expected kind (and channel); what the controller says unasked is passed over."""
        self._send(request)
        clock = self.transport.clock
        deadline = clock.now() + self.timeout_s
        while True:
            message = self._receive(request, deadline - clock.now())
            if message.kind == expected and (not mask or message.data[:2] == struct.pack("<H", mask)):
                return message.data
            if clock.now() >= deadline:
                self.transport.mark_stale()
                raise NoAnswerError(
                    f"{self.transport.where}: no answer to {encode(request).hex(' ')} among what it says; check that nobody else uses it"
                )

    def _receive(self, request: Message, timeout_s: float) -> Message:
        """The next message; RefusedError if it is an error report."""
        header = self.transport.read_exactly(HEADER_BYTES, timeout_s)
        try:
            message, length = decode_header(header)
        except ValueError as error:
            raise self._broken(request, str(error)) from None
        data = self.transport.read_exactly(length, self.timeout_s) if length else b""
        if message.kind in (RESPONSE, RICH_RESPONSE):
            notes = data[4:].split(b"\0")[0].decode("ascii", "replace").strip() or "no reason given"
            raise RefusedError(
                f"{self.transport.where}: error report after {encode(request).hex(' ')}: {notes}"
            )
        return Message(message.kind, message.first, message.second, data)

    def _synchronise(self) -> None:
        """Ask who is there, passing over all that comes before the answer; called after each fresh connection."""
        self._send(Message(STOP_UPDATES), Message(REQ_INFO))
        header = struct.pack("<HHBB", GET_INFO, LENGTHS[GET_INFO], HOST | LONG, CONTROLLER)
        self.transport.read_until(header, self.timeout_s)
        model = unpack_info(self.transport.read_exactly(LENGTHS[GET_INFO], self.timeout_s))[1]
        if not model.startswith("MPC"):
            raise BadAnswerError(
                f"{self.transport.where}: it is a {model!r}, expected an MPC320; check the address in the lab file"
            )

    def _broken(self, request: Message, came: str) -> BadAnswerError:
        self.transport.mark_stale()
        return BadAnswerError(
            f"{self.transport.where}: {encode(request).hex(' ')} was answered with {came}; check the cable and the baud rate"
        )
