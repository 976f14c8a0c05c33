"""A simulated Meerstetter TEC-1089/1091: MeCom frames over heated bodies of the world, one per channel.

Frames and parameters are those of DEVICES.md 3.4. Frames with a wrong checksum or for another address get no answer.
"""

from __future__ import annotations

import binascii
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from labctl.sim.instrument import LineInstrument, on
from labctl.units import ZERO_CELSIUS_K
from simulated_hw.world.parts import HeatedBody

NO_SUCH_COMMAND, FORMAT_ERROR, NO_SUCH_PARAMETER, READ_ONLY, OUT_OF_RANGE, NO_SUCH_INSTANCE = (
    "+01",
    "+04",
    "+05",
    "+06",
    "+07",
    "+08",
)
READY, RUN, ERROR = 1, 2, 3
NOT_ACTIVE, NOT_STABLE, STABLE = 0, 1, 2
LOAD_OHM = 2.0


def checksum(text: str) -> str:
    """CRC-16/XMODEM as four hex digits."""
    return f"{binascii.crc_hqx(text.encode('latin-1'), 0):04X}"


def decode_request(line: str) -> tuple[int, str, str] | None:
    """(address, sequence digits, payload) of a request, or None if it is not one or its checksum is wrong."""
    head, payload, check = line[:7], line[7:-4], line[-4:]
    if len(line) < 11 or head[0] != "#" or not head.isascii() or check != checksum(line[:-4]):
        return None
    try:
        return int(head[1:3], 16), head[3:7], payload
    except ValueError:
        return None


def encode_answer(address: int, sequence: str, payload: str) -> str:
    """An answer with its own checksum."""
    frame = f"!{address:02X}{sequence}{payload}"
    return frame + checksum(frame)


def encode_acknowledgement(address: int, sequence: str, request_checksum: str) -> str:
    """The answer to a write: the checksum is the request's."""
    return f"!{address:02X}{sequence}{request_checksum}"


@dataclass
class Channel:
    """One output with its body."""

    body: HeatedBody
    flash_target_c: float = 0.0
    live_target_c: float = 0.0
    use_live: int = 0
    output: int = 0
    current_limit_a: float = 10.0
    voltage_limit_v: float = 21.0
    stable_within_k: float = 0.1

    def __post_init__(self) -> None:
        self.flash_target_c = self.live_target_c = self.body.setpoint_k - ZERO_CELSIUS_K
        self.output = int(self.body.enabled)

    def target_c(self) -> float:
        """The target in use, degC."""
        return self.live_target_c if self.use_live else self.flash_target_c

    def drive(self) -> None:
        """Give the body what the registers say."""
        self.body.setpoint_k = self.target_c() + ZERO_CELSIUS_K
        self.body.enabled = self.output == 1

    def current_a(self) -> float:
        """Output current within its limits."""
        limit = min(self.current_limit_a, self.voltage_limit_v / LOAD_OHM)
        return max(-limit, min(limit, self.body.drive_a()))

    def stable(self) -> int:
        """Parameter 1200."""
        if not self.body.enabled:
            return NOT_ACTIVE
        near = abs(self.body.temperature_k - self.body.setpoint_k) <= self.stable_within_k
        return STABLE if near else NOT_STABLE


@dataclass(frozen=True)
class Parameter:
    """One row of the parameter list: type ("f" or "i"), how to read and write it, its range, whether it wears the flash."""

    kind: str
    read: Callable[[SimMeerstetterTec, Channel], float]
    write: Callable[[SimMeerstetterTec, Channel, float], None] | None = None
    limits: Callable[[Channel], tuple[float, float]] = field(default=lambda channel: (0.0, 0.0))
    flash: bool = False
    common: bool = False

    def encode(self, value: float) -> str:
        """Eight hex digits."""
        packed = struct.pack(">f", value) if self.kind == "f" else struct.pack(">i", int(value))
        return packed.hex().upper()

    def decode(self, digits: str) -> float:
        """The value of eight hex digits."""
        return struct.unpack(">" + self.kind, bytes.fromhex(digits))[0]


def _body_range(channel: Channel) -> tuple[float, float]:
    return channel.body.lowest_k - ZERO_CELSIUS_K, channel.body.highest_k - ZERO_CELSIUS_K


def _measured_c(sim: SimMeerstetterTec, channel: Channel) -> float:
    return channel.body.temperature_k - ZERO_CELSIUS_K + channel.body.noise_k * sim.rng.standard_normal()


def _store(name: str) -> Callable[[SimMeerstetterTec, Channel, float], None]:
    """A writer of one register of the channel."""

    def write(sim: SimMeerstetterTec, channel: Channel, value: float) -> None:
        setattr(channel, name, int(value) if isinstance(getattr(channel, name), int) else value)

    return write


def _save_off(sim: SimMeerstetterTec, channel: Channel, value: float) -> None:
    sim.flash_saving_off = bool(value)


PARAMETERS: dict[int, Parameter] = {
    100: Parameter("i", lambda s, c: s.device_type, common=True),
    102: Parameter("i", lambda s, c: s.serial_number, common=True),
    103: Parameter("i", lambda s, c: 500, common=True),
    104: Parameter("i", lambda s, c: s.device_status(), common=True),
    105: Parameter("i", lambda s, c: s.error_number, common=True),
    108: Parameter("i", lambda s, c: s.flash_saving_off, _save_off, lambda c: (0, 1), common=True),
    109: Parameter("i", lambda s, c: s.flash_saving_off, common=True),
    1000: Parameter("f", _measured_c),
    1001: Parameter("f", lambda s, c: c.body.room_k - ZERO_CELSIUS_K),
    1010: Parameter("f", lambda s, c: c.target_c()),
    1020: Parameter("f", lambda s, c: c.current_a()),
    1021: Parameter("f", lambda s, c: c.current_a() * LOAD_OHM),
    1200: Parameter("i", lambda s, c: c.stable()),
    2010: Parameter("i", lambda s, c: c.output, _store("output"), lambda c: (0, 3), flash=True),
    2030: Parameter(
        "f", lambda s, c: c.current_limit_a, _store("current_limit_a"), lambda c: (0, 10), flash=True
    ),
    2031: Parameter(
        "f", lambda s, c: c.voltage_limit_v, _store("voltage_limit_v"), lambda c: (0, 21), flash=True
    ),
    2051: Parameter("i", lambda s, c: s.address, common=True),
    3000: Parameter("f", lambda s, c: c.flash_target_c, _store("flash_target_c"), _body_range, flash=True),
    4040: Parameter(
        "f", lambda s, c: c.stable_within_k, _store("stable_within_k"), lambda c: (0, 1e3), flash=True
    ),
    50011: Parameter("i", lambda s, c: c.use_live, _store("use_live"), lambda c: (0, 1)),
    50012: Parameter("f", lambda s, c: c.live_target_c, _store("live_target_c"), _body_range),
}


class SimMeerstetterTec(LineInstrument):
    """A TEC controller over one heated body, or one for each channel.

    now:      the world's time, s
    address:  MeCom address; address 0 reaches every controller
    """

    request_end: ClassVar[bytes] = b"\r"
    reply_end: ClassVar[bytes] = b"\r"
    longest_line: ClassVar[int] = 1024

    def __init__(
        self,
        bodies: Sequence[HeatedBody] | HeatedBody,
        now: Callable[[], float],
        rng: np.random.Generator,
        *,
        address: int = 2,
        identity: str = "8065-TEC-SW-G01",
    ) -> None:
        super().__init__()
        self.channels = [Channel(b) for b in ([bodies] if isinstance(bodies, HeatedBody) else bodies)]
        self._now = now
        self.rng = rng
        self.address = address
        self.ident = f"{identity:<20.20}"
        self.device_type = 1091
        self.serial_number = 4711
        self.error_number = 0
        self.flash_saving_off = False
        self.flash_writes = 0
        """How often a value went to flash, which survives about 100 000 writes."""

    def device_status(self) -> int:
        """Parameter 104."""
        if self.error_number:
            return ERROR
        return RUN if any(channel.body.enabled for channel in self.channels) else READY

    def fail(self, error_number: int) -> None:
        """Go into an error state, as on a broken sensor: outputs off until reset."""
        self.error_number = error_number
        for channel in self.channels:
            channel.output = 0
            channel.drive()

    def power_cycle(self) -> None:
        """Lose what is only in RAM."""
        self.error_number = 0
        self.flash_saving_off = False
        for channel in self.channels:
            channel.use_live, channel.live_target_c = 0, channel.flash_target_c
            channel.drive()

    def answer(self, line: str) -> str | None:
        """The answer frame to one request frame."""
        request = decode_request(line)
        if request is None or request[0] not in (0, self.address):
            return None
        address, sequence, payload = request
        for channel in self.channels:
            channel.body.advance(self._now())
        reply = super().answer(payload)
        if reply == "":
            return encode_acknowledgement(address, sequence, line[-4:])
        return encode_answer(address, sequence, reply or NO_SUCH_COMMAND)

    def unknown(self, line: str) -> str:
        """A payload nobody understands: a malformed known command, or an unknown one."""
        return FORMAT_ERROR if line.startswith(("?VR", "?VL", "VS")) else NO_SUCH_COMMAND

    @on(r"\?IF")
    def identify(self) -> str:
        """Identity, always 20 characters: clients know it by its length."""
        return self.ident

    @on("RS")
    def reset(self) -> str:
        """Restart."""
        self.power_cycle()
        return ""

    @on(r"\?VR([0-9A-F]{4})([0-9A-F]{2})")
    def read_parameter(self, number: str, instance: str) -> str:
        """Value of a parameter."""
        found = self._find(number, instance)
        if isinstance(found, str):
            return found
        parameter, channel = found
        return parameter.encode(parameter.read(self, channel))

    @on(r"\?VL([0-9A-F]{4})([0-9A-F]{2})")
    def read_limits(self, number: str, instance: str) -> str:
        """Type, lowest and highest value of a parameter."""
        found = self._find(number, instance)
        if isinstance(found, str):
            return found
        parameter, channel = found
        low, high = parameter.limits(channel)
        return ("00" if parameter.kind == "f" else "01") + parameter.encode(low) + parameter.encode(high)

    @on(r"VS([0-9A-F]{4})([0-9A-F]{2})([0-9A-F]{8})")
    def write_parameter(self, number: str, instance: str, digits: str) -> str:
        """Change a parameter."""
        found = self._find(number, instance)
        if isinstance(found, str):
            return found
        parameter, channel = found
        if parameter.write is None:
            return READ_ONLY
        value = parameter.decode(digits)
        low, high = (parameter.decode(parameter.encode(x)) for x in parameter.limits(channel))
        if not (math.isfinite(value) and low <= value <= high):
            return OUT_OF_RANGE
        parameter.write(self, channel, value)
        if parameter.flash and not self.flash_saving_off:
            self.flash_writes += 1
        if not self.error_number:
            channel.drive()
        return ""

    def _find(self, number: str, instance: str) -> tuple[Parameter, Channel] | str:
        parameter = PARAMETERS.get(int(number, 16))
        if parameter is None:
            return NO_SUCH_PARAMETER
        index = int(instance, 16)
        if not 1 <= index <= (1 if parameter.common else len(self.channels)):
            return NO_SUCH_INSTANCE
        return parameter, self.channels[index - 1]


def demo(now: Callable[[], float]) -> SimMeerstetterTec:
    """A controller with one oven."""
    return SimMeerstetterTec(HeatedBody(), now, np.random.default_rng(1))
