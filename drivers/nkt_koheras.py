"""NKT Photonics Koheras ADJUSTIK/BASIK fibre lasers, such as a converter's pump seed, over Interbus telegrams.

The laser loses a reply now and then (DEVICES.md 3.2: from 1 in 100 000 to 1 in 250). A request is therefore sent up to
four times; all its attempts carry one host address, which the next requests do not use again for a long while, so that a
reply that comes late is never taken for the answer to another request.
"""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass

from labctl.device import Device, action
from labctl.errors import BadAnswerError, DeviceError, NoAnswerError, RefusedError
from labctl.signal import Signal
from labctl.transport import Transport
from labctl.units import ZERO_CELSIUS_K, mW

START, END, ESCAPE = b"\x0d", b"\x0a", 0x5E
ESCAPED = frozenset((0x0A, 0x0D, ESCAPE))
ESCAPE_OFFSET = 0x40
MOST_DATA = 240

NACK, CRC_ERROR, BUSY, ACK, READ, WRITE = 0, 1, 2, 3, 4, 5
DATAGRAM, HIGHEST_KIND = 8, 9
HOSTS = range(161, 256)
"""Addresses a computer may have on the bus."""

POWER, TEMPERATURE, SUPPLY, POWER_SETPOINT, OFFSET_SETPOINT = 0x17, 0x1C, 0x1E, 0x22, 0x2A
EMISSION, STANDARD_WAVELENGTH, MODULE_TYPE, FIRMWARE, SERIAL, STATUS = 0x30, 0x32, 0x61, 0x64, 0x65, 0x66
OFFSET = 0x72

KNOWN_TYPE = 0x33
TYPES = {
    0x20: "Koheras ADJUSTIK/BOOSTIK system K8x-1",
    0x21: "Koheras BASIK K80-1",
    0x33: "Koheras BASIK MIKRO K1x2",
    0x34: "Koheras ADJUSTIK/ACOUSTIK system K822/K852",
    0x36: "Koheras BASIK MIKRO K0x2",
    0x60: "BOOSTIK OEM amplifier",
    0x70: "BOOSTIK OEM amplifier",
}
EMITTING, INTERLOCK_OFF, DISABLED, SUPPLY_LOW, TEMPERATURE_RANGE, ERROR = 1, 2, 0x10, 0x20, 0x40, 0x8000
STATUS_WORDS = {
    EMITTING: "emission",
    INTERLOCK_OFF: "interlock off",
    DISABLED: "disabled",
    SUPPLY_LOW: "supply low",
    TEMPERATURE_RANGE: "module temperature out of range",
    ERROR: "error",
}
TENTH_PM = 1e-13
HUNDREDTH_MW = 0.01 * mW
ATTEMPTS = 4
BUSY_WAIT_S = 0.05


@dataclass(frozen=True)
class Telegram:
    """One message on the bus: to, from, kind (READ, WRITE, DATAGRAM...), register, and up to 240 bytes of data."""

    destination: int
    source: int
    kind: int
    register: int
    data: bytes = b""


def encode(telegram: Telegram) -> bytes:
    """The telegram as bytes on the line: start, escaped message with CRC-16/XMODEM, end."""
    message = bytes((telegram.destination, telegram.source, telegram.kind, telegram.register)) + telegram.data
    message += struct.pack(">H", binascii.crc_hqx(message, 0))
    line = bytearray(START)
    for byte in message:
        line += bytes((ESCAPE, byte + ESCAPE_OFFSET)) if byte in ESCAPED else bytes((byte,))
    return bytes(line) + END


def decode(line: bytes) -> Telegram:
    """The telegram of one line, start and end included; ValueError says what is wrong with it."""
    if line[:1] != START or line[-1:] != END or len(line) < 2:
        raise ValueError("not a telegram")
    message = bytearray()
    escaped = False
    for byte in line[1:-1]:
        if escaped:
            if byte - ESCAPE_OFFSET not in ESCAPED:
                raise ValueError(f"byte 0x{byte:02x} after an escape")
            message.append(byte - ESCAPE_OFFSET)
            escaped = False
        elif byte == ESCAPE:
            escaped = True
        elif byte in ESCAPED:
            raise ValueError(f"byte 0x{byte:02x} inside a telegram")
        else:
            message.append(byte)
    if escaped or not 6 <= len(message) <= MOST_DATA + 6:
        raise ValueError("a telegram of the wrong length")
    if binascii.crc_hqx(bytes(message), 0) != 0:
        raise ValueError("wrong CRC")
    telegram = Telegram(*message[:4], data=bytes(message[4:-2]))
    if 0 in (telegram.destination, telegram.source) or telegram.kind > HIGHEST_KIND:
        raise ValueError("a telegram of no known kind or address")
    return telegram


class NktKoheras(Device):
    """A Koheras BASIK K1x2 laser module, alone or in an ADJUSTIK K822 frame.

    transport:       ``serial:///dev/ttyUSB0`` (115200 baud; ``?rtscts=1`` for hardware handshake) or ``tcp://host:port``
                     of a serial bridge
    module_address:  address of the laser module on the bus, 1 to 160
    highest_power_w: highest power setpoint, W
    tuning_range_m:  largest wavelength offset either way, m; both from the module's data sheet, as it does not tell
    """

    manual = (
        "NKT Photonics SDK instruction manual 2.1.3, chapters 2 (Interbus) and 6.6 (K1x2); DEVICES.md 3.2"
    )
    checked_with = (
        "qmi NktPhotonics_KoherasAdjustik and pylablib GenericInterbusDevice; not yet tried on a laser"
    )
    timeout_s = 1.0

    def __init__(
        self,
        transport: Transport,
        name: str = "",
        module_address: int = 0x01,
        highest_power_w: float = 0.040,
        tuning_range_m: float = 400e-12,
    ) -> None:
        super().__init__(transport, name)
        if transport.address.scheme == "serial":
            transport.address.options.setdefault("baudrate", "115200")
        self.module_address = module_address
        self.highest_power_w = min(highest_power_w, 0xFFFF * HUNDREDTH_MW)
        self.tuning_range_m = min(tuning_range_m, 0x7FFF * TENTH_PM)
        self._turn = -1

    def open(self) -> None:
        """Connect and check that the module is one whose registers this driver knows."""
        super().open()
        try:
            found = self.read_number(MODULE_TYPE, "<B")
            if found != KNOWN_TYPE:
                raise BadAnswerError(
                    f"{self.transport.where}: module 0x{self.module_address:02x} is of type 0x{found:02x} "
                    f"({TYPES.get(found, 'unknown')}), expected 0x{KNOWN_TYPE:02x} ({TYPES[KNOWN_TYPE]}); check module_address"
                )
        except DeviceError:
            self.close()
            raise

    def identity(self) -> str:
        """Module type, serial number and firmware version code."""
        kind = self.read_number(MODULE_TYPE, "<B")
        serial = self.read(SERIAL).rstrip(b"\0 ").decode("ascii", "replace")
        firmware = self.read(FIRMWARE)[::-1].hex()
        return f"{TYPES.get(kind, f'module type 0x{kind:02x}')}, serial {serial}, firmware {firmware}"

    emission = Signal(
        bool,
        read=lambda laser: laser.read_number(EMISSION, "<B") != 0,
        write=lambda laser, on: laser.write_number(EMISSION, "<B", int(on)),
        poll_s=2.0,
        doc="Laser emission, as commanded; the status says whether it is there.",
    )
    power_setpoint = Signal(
        float,
        "W",
        read=lambda laser: laser.read_number(POWER_SETPOINT, "<H") * HUNDREDTH_MW,
        write=lambda laser, watt: laser.write_number(POWER_SETPOINT, "<H", round(watt / HUNDREDTH_MW)),
        limits=lambda laser: (0.0, laser.highest_power_w),
        tolerance=2 * HUNDREDTH_MW,
        doc="Power the module regulates to; narrow it to what the amplifier after the laser can take.",
    )
    power = Signal(
        float,
        "W",
        read=lambda laser: laser.read_number(POWER, "<H") * HUNDREDTH_MW,
        poll_s=2.0,
        doc="Measured output power.",
    )
    wavelength = Signal(
        float,
        "m",
        read=lambda laser: (
            (laser.read_number(STANDARD_WAVELENGTH, "<I") + laser.read_number(OFFSET, "<i")) * TENTH_PM
        ),
        poll_s=5.0,
        doc="Standard wavelength plus the present offset, vacuum.",
    )
    wavelength_offset = Signal(
        float,
        "m",
        read=lambda laser: laser.read_number(OFFSET, "<i") * TENTH_PM,
        write=lambda laser, metre: laser.write_number(OFFSET_SETPOINT, "<h", round(metre / TENTH_PM)),
        limits=lambda laser: (-laser.tuning_range_m, laser.tuning_range_m),
        tolerance=5 * TENTH_PM,
        doc="Present offset from the standard wavelength; setting it sets the target, which is reached thermally.",
    )
    temperature = Signal(
        float,
        "K",
        read=lambda laser: laser.read_number(TEMPERATURE, "<h") / 10 + ZERO_CELSIUS_K,
        poll_s=10.0,
        doc="Of the module. Read as signed, which differs from the documented unsigned only below 0 degC.",
    )
    supply_voltage = Signal(
        float,
        "V",
        read=lambda laser: laser.read_number(SUPPLY, "<H") / 1000,
        poll_s=10.0,
        doc="Supply of the module; the status says when it is low.",
    )
    status = Signal(
        str,
        read=lambda laser: laser.status_text(),
        poll_s=2.0,
        doc='Set status bits in words, or "off".',
    )

    @action
    def safe(self) -> None:
        """Emission off."""
        self.write_number(EMISSION, "<B", 0)

    def not_ready(self) -> str:
        """What the status bits say against it: error, interlock, supply, temperature, no emission."""
        bits = self.read_number(STATUS, "<H")
        against = [word for bit, word in STATUS_WORDS.items() if bits & bit and bit != EMITTING]
        if against:
            return f"the laser reports {', '.join(against)}"
        return super().not_ready() if bits & EMITTING else "emission is off"

    def status_text(self) -> str:
        """Status bits in words."""
        bits = self.read_number(STATUS, "<H")
        words = [STATUS_WORDS.get(1 << n, f"bit {n}") for n in range(16) if bits & 1 << n]
        return ", ".join(words) or "off"

    def read_number(self, register: int, form: str) -> int:
        """A whole number in the register's unit; ``form`` is its struct format."""
        data = self.read(register)
        if len(data) != struct.calcsize(form):
            raise self._broken(f"reading register 0x{register:02x}", data, f"{struct.calcsize(form)} bytes")
        return struct.unpack(form, data)[0]

    def write_number(self, register: int, form: str, value: int) -> None:
        """Write a whole number in the register's unit."""
        self.write(register, struct.pack(form, value))

    def read(self, register: int) -> bytes:
        """The bytes of a register."""
        return self._request(READ, register, b"", DATAGRAM)

    def write(self, register: int, data: bytes) -> None:
        """Write a register and check the acknowledgement."""
        self._request(WRITE, register, data, ACK)

    def _request(self, kind: int, register: int, data: bytes, expected: int) -> bytes:
        """Data of the answer to one request, which is sent again if it or its answer is lost, spoilt or the module busy.

        Registers hold values, so that writing twice does no harm.
        """
        self._turn = (self._turn + 1) % len(HOSTS)
        request = Telegram(self.module_address, HOSTS[self._turn], kind, register, data)
        what = f"{'reading' if kind == READ else 'writing'} register 0x{register:02x} of module 0x{self.module_address:02x}"
        failures: list[DeviceError] = []
        while len(failures) < ATTEMPTS:
            try:
                answer = self._exchange(request)
            except (NoAnswerError, BadAnswerError) as error:
                failures.append(error)
                continue
            if answer.kind == BUSY:
                failures.append(RefusedError("the module is busy"))
                self.transport.clock.sleep(BUSY_WAIT_S)
            elif answer.kind == CRC_ERROR:
                failures.append(BadAnswerError("the module received it with a wrong CRC"))
            elif answer.kind == NACK:
                raise RefusedError(
                    f"{self.transport.where}: refused {what} ({encode(request).hex(' ')}): not understood or not allowed now"
                )
            elif answer.kind != expected or answer.register != register:
                raise self._broken(what, encode(answer), f"kind {expected} of that register")
            else:
                return answer.data
        raise type(failures[-1])(
            f"{self.transport.where}: {what} ({encode(request).hex(' ')}) failed {ATTEMPTS} times, at last: "
            f"{'no answer' if isinstance(failures[-1], NoAnswerError) else failures[-1]}; "
            "check that the laser is on, its cable and module_address"
        )

    def _exchange(self, request: Telegram) -> Telegram:
        """Send once, return the telegram that answers; those to other host addresses answer earlier requests."""
        clock = self.transport.clock
        self.transport.write(encode(request))
        deadline = clock.now() + self.timeout_s
        while True:
            line = self.transport.read_until(END, deadline - clock.now())
            try:
                answer = decode(line[max(0, line.rfind(START)) :] + END)
            except ValueError as error:
                self.transport.mark_stale()
                raise BadAnswerError(f"{error} in {line[:60]!r}") from None
            if (answer.source, answer.destination) == (request.destination, request.source):
                return answer

    def _broken(self, what: str, came: bytes, expected: str) -> BadAnswerError:
        self.transport.mark_stale()
        return BadAnswerError(
            f"{self.transport.where}: {what} was answered with {came[:60].hex(' ') or 'nothing'}, expected {expected}"
        )
