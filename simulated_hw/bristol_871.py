"""A simulated Bristol 871 wavelength meter: its telnet command line over light of the world (DEVICES.md 3.7).

The card leaves open the banner's other lines, how many connections there are (here one), whether it answers during a
calibration (``silent_while_calibrating``), and which status bits go with what light.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from labctl.sim.instrument import LineSession, Send, Session, on
from simulated_hw.scpi_lines import ScpiLines, header

LIGHT_M_S = 299792458.0
REFERENCE_LOCKED, FRINGE_ERROR, SATURATION, CALIBRATION_FAILED = 1 << 2, 1 << 3, 1 << 4, 1 << 7
UNSTABLE, CALIBRATING, LOW_SIGNAL = 1 << 11, 1 << 21, 1 << 29
RATES_HZ = ("20", "50", "100", "250", "500", "1000")
BANNER = ("Connected to the 871A", "Laser Wavelength Meter", "Bristol Instruments, Inc.", "")


class SimBristol871(ScpiLines):
    """An 871A that looks at whatever comes through its fibre.

    sources:  frequencies of the lights that share the fibre, Hz, each None while dark; more than one lit is a fringe error
    """

    request_end: ClassVar[bytes] = b"\n"
    reply_end: ClassVar[bytes] = b"\r\n"

    def __init__(
        self,
        sources: Sequence[Callable[[], float | None]],
        now: Callable[[], float],
        rng: np.random.Generator,
        *,
        noise_hz: float = 2e6,
        offset_hz: float = 0.0,
        most_clients: int = 1,
    ) -> None:
        super().__init__()
        self.sources = [*sources]
        self._now = now
        self._rng = rng
        self.noise_hz = noise_hz
        self.offset_hz = offset_hz
        """How far readings are off; a calibration makes it zero."""
        self.most_clients = self.room = most_clients
        self.clients: list[Session] = []
        self.model = "871A-VIS4"
        self.forced = 0
        """Status bits of a trouble that a fault has caused."""
        self.calibrated_s = -math.inf
        """When the calibration in progress ends."""
        self.calibration_works = True
        self.silent_while_calibrating = False
        self._scans, self._scans_s = 0.0, now()
        self._reset()

    def _reset(self) -> None:
        self.trigger, self.method, self.rate_hz = "INT", "OFF", "100"
        self.calibration_minutes, self.calibration_tenths = "30", "5"

    def session(self, port: str, send: Send) -> Session:
        """A telnet client."""
        return TelnetSession(self, send)

    def own_faults(self) -> dict[str, Callable[[], None]]:
        """Measurements that fail, no room for further clients (which says so in its banner), and the ways back."""
        bits = {
            "no_signal": LOW_SIGNAL,
            "saturated": SATURATION,
            "reference_unstable": UNSTABLE,
            "good_signal": 0,
        }
        return {
            **{name: lambda bit=bit: self.force(bit) for name, bit in bits.items()},
            "busy": lambda: setattr(self, "most_clients", 0),
            "free": lambda: setattr(self, "most_clients", self.room),
        }

    def force(self, bits: int) -> None:
        """Set status bits of a trouble; 0 ends it."""
        self.forced = bits

    def calibrating(self) -> bool:
        """Whether a calibration is going on."""
        return self._now() < self.calibrated_s

    def status(self) -> tuple[int, float]:
        """Status word, and the frequency in Hz of a measurement (0.0 if it failed)."""
        lit = [hertz for source in self.sources if (hertz := source()) is not None]
        status = REFERENCE_LOCKED | self.forced
        if self.calibrating():
            status |= CALIBRATING
        elif not self.calibration_works and self.calibrated_s > -math.inf:
            status |= CALIBRATION_FAILED
        if not lit:
            status |= LOW_SIGNAL
        elif len(lit) > 1:
            status |= FRINGE_ERROR
        if status != REFERENCE_LOCKED:
            return status, 0.0
        return status, lit[0] + self.offset_hz + self.noise_hz * self._rng.standard_normal()

    def _count_scans(self) -> float:
        """Scans up to now, at whatever rate."""
        now_s = self._now()
        self._scans += max(0.0, now_s - self._scans_s) * int(self.rate_hz)
        self._scans_s = now_s
        return self._scans

    @on(header("*IDN?"))
    def identity(self) -> str:
        """Maker, model, serial number, firmware."""
        return f"BRISTOL WAVELENGTH METER, {self.model}, 6894, 1.2.0"

    @on(header("*RST"))
    def restart(self) -> None:
        """Default settings."""
        self._reset()

    @on(header("READ:ALL?"))
    def read_all(self) -> str:
        """Scan index, status, wavelength in nm, relative intensity."""
        status, hertz = self.status()
        nm = LIGHT_M_S / hertz * 1e9 if hertz else 0.0
        intensity = abs(0.42 + 0.01 * self._rng.standard_normal()) if hertz else 0.0
        index = int(self._count_scans()) % 2**32
        return f"{index},{status},{nm:.6f},{intensity:.4f}"

    @on(header("SENSe:CALIbrate"))
    def calibrate(self) -> None:
        """Two to five seconds without measurements."""
        self.calibrated_s = self._now() + self._rng.uniform(2.0, 5.0)
        if self.calibration_works:
            self.offset_hz = 0.0

    @on(header("SENSe:CALIbrate:METHod?"))
    def get_method(self) -> str:
        """When it calibrates itself."""
        return self.method

    @on(header("SENSe:CALIbrate:METHod", r"(\S+)"))
    def set_method(self, method: str) -> None:
        """OFF, TIME or TEMP."""
        self.method = self._choice(method, ("OFF", "TIME", "TEMP"), self.method)

    @on(header("SENSe:CALIbrate:TIMe?"))
    def get_minutes(self) -> str:
        """Time between calibrations, min."""
        return self.calibration_minutes

    @on(header("SENSe:CALIbrate:TIMe", r"(\S+)"))
    def set_minutes(self, text: str) -> None:
        """5 to 1440 min."""
        value = self.number(text, 5, 1440)
        self.calibration_minutes = self.calibration_minutes if value is None else str(round(value))

    @on(header("SENSe:CALIbrate:TEMPerature?"))
    def get_tenths(self) -> str:
        """Change of temperature that starts a calibration, 0.1 degC."""
        return self.calibration_tenths

    @on(header("SENSe:CALIbrate:TEMPerature", r"(\S+)"))
    def set_tenths(self, text: str) -> None:
        """1 to 50 tenths of a degC."""
        value = self.number(text, 1, 50)
        self.calibration_tenths = self.calibration_tenths if value is None else str(round(value))

    @on(header("TRIGger:SEQuence:METHod?"))
    def get_trigger(self) -> str:
        """What starts a scan."""
        return self.trigger

    @on(header("TRIGger:SEQuence:METHod", r"(\S+)"))
    def set_trigger(self, method: str) -> None:
        """INT, FALL or RISE."""
        self.trigger = self._choice(method, ("INT", "FALL", "RISE"), self.trigger)

    @on(header("TRIGger:SEQuence:RATE[:ADJust]?"))
    def get_rate(self) -> str:
        """Scans per second."""
        return self.rate_hz

    @on(header("TRIGger:SEQuence:RATE", r"(\S+)"))
    def set_rate(self, rate: str) -> None:
        """One of the six rates, Hz."""
        self._count_scans()
        self.rate_hz = self._choice(rate, RATES_HZ, self.rate_hz)

    @on(header("TRIGger:SEQuence:RATE:ADJust"))
    def adjust_rate(self) -> None:
        """The rate that suits this light."""
        self._count_scans()
        self.rate_hz = "250"

    @on(header("STATus:QUEStionable:CONDition?"))
    def condition(self) -> str:
        """Sum of the condition bits: 2 calibration failed, 6 saturated, 8 no signal."""
        status = self.status()[0]
        pairs = ((CALIBRATION_FAILED, 1 << 2), (SATURATION, 1 << 6), (LOW_SIGNAL, 1 << 8))
        return str(sum(bit for mask, bit in pairs if status & mask))

    def _choice(self, text: str, words: tuple[str, ...], present: str) -> str:
        if text.upper() in words:
            return text.upper()
        self.error(-224)
        return present


class TelnetSession(LineSession):
    """A client with the banner; one too many is told so and not listened to."""

    def __init__(self, instrument: SimBristol871, send: Send) -> None:
        super().__init__(instrument, send)
        self.meter = instrument
        self._later = bytearray()

    def connected(self) -> None:
        """The banner."""
        if len(self.meter.clients) >= self.meter.most_clients:
            self.send(b"no connections available\r\n")
            return
        self.meter.clients.append(self)
        self.send("".join(f"{line}\r\n" for line in BANNER).encode())

    def receive(self, data: bytes) -> None:
        """Bytes from the client; kept for later during a silent calibration."""
        if self not in self.meter.clients:
            return
        self._later += data
        self.tick(0.0)

    def tick(self, now_s: float) -> None:
        """Answer what waits, unless the meter is busy. A calibration begins with the line after the one that asks for it."""
        while (at := self._later.find(b"\n")) >= 0:
            if self.meter.silent_while_calibrating and self.meter.calibrating():
                return
            line = bytes(self._later[: at + 1])
            del self._later[: at + 1]
            super().receive(line)
        if len(self._later) > self.meter.longest_line:
            self._later.clear()

    def disconnected(self) -> None:
        """Make room for another client."""
        if self in self.meter.clients:
            self.meter.clients.remove(self)


def demo(now: Callable[[], float]) -> SimBristol871:
    """A meter that sees 397 nm light, and has room for four clients."""
    return SimBristol871([lambda: 755.222766e12], now, np.random.default_rng(1), most_clients=4)
