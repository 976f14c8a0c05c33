"""A simulated Thorlabs PM100 power meter: SCPI over a power sensor of the world.

Headers are taken in long and short form and in any case (DEVICES.md 3.5); the real meter speaks the same over USBTMC.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from labctl.sim.instrument import LineInstrument, on
from simulated_hw.world.parts import PowerSensor

POWER, WAVELENGTH, THERMOMETER = 1, 32, 256
OVERFLOW, NOT_A_NUMBER = "9.90000000E+37", "9.91000000E+37"
RANGES_W = tuple(5.0 * 10.0**-k for k in range(9, 0, -1))
"""Full scales of the amplifier, 5 nW to 500 mW."""
MESSAGES = {
    0: "No error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -120: "Numeric data error",
    -222: "Data out of range",
    -224: "Illegal parameter value",
    -230: "Data corrupt or stale",
    -241: "Hardware missing",
    -350: "Queue overflow",
}
ERRORS_KEPT = 30
DAY_S = 86400.0


def header(spelling: str, argument: str = "") -> str:
    """A pattern for an SCPI header written as in manuals (``SENSe:CORRection:WAVelength``), long or short, any case.

    Nodes may carry the number 1; a part in square brackets may be left out. ``argument`` is a pattern after white space.
    """
    pattern, colon = ":?", ""
    for part in re.split(r"(\[[^\]]*\])", spelling):
        nodes = ""
        for name in re.findall(r"\w+", part):
            nodes += rf"{colon}(?:{name.upper()}|{re.sub('[a-z]', '', name)})1?"
            colon = ":"
        pattern += f"(?:{nodes})?" if part.startswith("[") else nodes
    question = r"\?" if spelling.endswith("?") else ""
    return f"(?i:{pattern}{question}" + (rf"\s+{argument})" if argument else ")")


class SimThorlabsPm100(LineInstrument):
    """A PM100 console with one photodiode head.

    The head's responsivity grows with the wavelength as that of a diode of constant quantum efficiency does: a console
    set to the wrong wavelength shows the wrong power.
    """

    reply_end: ClassVar[bytes] = b"\n"
    longest_line: ClassVar[int] = 4096

    def __init__(
        self,
        sensor: PowerSensor,
        now: Callable[[], float],
        rng: np.random.Generator,
        *,
        model: str = "PM100USB",
        serial: str = "P2000001",
        head: str = "S132C",
    ) -> None:
        super().__init__()
        self.sensor = sensor
        self._now = now
        self._rng = rng
        self.model, self.serial, self.head = model, serial, head
        self.sensor_connected = True
        self.wedges_on_unknown = False
        """PM100D2 behaviour seen in the field: after an undefined header nothing is answered until ``unwedge``."""
        self.wedged = False
        self.errors: deque[int] = deque()
        self.reset()

    def reset(self) -> None:
        """The state after ``*RST``."""
        self.wavelength_m = self.sensor.calibrated_wavelength_m
        self.averages = 1
        self.unit = "W"
        self.auto_range = True
        self.range_w = RANGES_W[-1]
        self.fetched: str | None = None

    def own_faults(self) -> dict[str, Callable[[], None]]:
        """The interface that wedges on an unknown header, as seen on a PM100D2."""
        return {"wedge": self.wedge, "unwedge": self.unwedge}

    def wedge(self, on: bool = True) -> None:
        """Behave as a PM100D2 with undefined headers."""
        self.wedges_on_unknown = on

    def unwedge(self) -> None:
        """Power cycle."""
        self.wedged = False
        self.errors.clear()
        self.reset()

    def answer(self, line: str) -> str | None:
        """Replies to all commands of a line, joined with semicolons; None if none replies."""
        replies: list[str] = []
        path = ""
        for part in line.split(";"):
            command = part.strip()
            if not command or self.wedged:
                continue
            if path and not command.startswith((":", "*")):
                command = path + command
            if not command.startswith("*"):
                path = command.split(maxsplit=1)[0].rpartition(":")[0] + ":" if ":" in command else ""
            reply = super().answer(command)
            if reply is not None:
                replies.append(reply)
        return ";".join(replies) if replies else None

    def unknown(self, line: str) -> None:
        """An undefined header goes to the error queue, and nothing is answered."""
        self._error(-113)
        self.wedged = self.wedges_on_unknown

    def _error(self, code: int) -> None:
        if len(self.errors) >= ERRORS_KEPT:
            self.errors[-1] = -350
        else:
            self.errors.append(code)

    @on(r"(?i:\*IDN\?)")
    def identity(self) -> str:
        """Maker, model, serial number, firmware."""
        return f"Thorlabs,{self.model},{self.serial},1.4.0"

    @on(r"(?i:\*RST)")
    def restart(self) -> None:
        """Default settings."""
        self.reset()

    @on(r"(?i:\*CLS)")
    def clear_status(self) -> None:
        """Empty the error queue."""
        self.errors.clear()

    @on(r"(?i:\*(OPC|TST|STB|ESR)\?)")
    def status(self, which: str) -> str:
        """Operation complete, self-test result, status registers."""
        return {"OPC": "1", "STB": "4" if self.errors else "0"}.get(which.upper(), "0")

    @on(header("SYSTem:ERRor[:NEXT]?"))
    def next_error(self) -> str:
        """Oldest error of the queue."""
        code = self.errors.popleft() if self.errors else 0
        return f'{code:+d},"{MESSAGES[code]}"'

    @on(header("SYSTem:VERSion?"))
    def scpi_version(self) -> str:
        """SCPI version."""
        return "1999.0"

    @on(header("SYSTem:SENSor:IDN?"))
    def sensor_identity(self) -> str:
        """Name, serial number, calibration, type, subtype, flags."""
        if not self.sensor_connected:
            return "no sensor,,,0,0,0"
        return f"{self.head},17052306,06-Jun-2017,1,18,{POWER + WAVELENGTH + THERMOMETER}"

    @on(header("SENSe:CORRection:WAVelength?") + r"(?:\s+(\w+))?")
    def get_wavelength(self, end: str | None) -> str | None:
        """Wavelength in nm, or an end of its range."""
        ends = {"": self.wavelength_m, "MIN": self.sensor.shortest_m, "MAX": self.sensor.longest_m}
        value = ends.get((end or "")[:3].upper())
        return self._illegal() if value is None else f"{value * 1e9:.6E}"

    @on(header("SENSe:CORRection:WAVelength", r"(\S+)"))
    def set_wavelength(self, text: str) -> None:
        """Wavelength in nm."""
        nm = self._number(text, self.sensor.shortest_m * 1e9, self.sensor.longest_m * 1e9)
        if nm is not None:
            self.wavelength_m = nm * 1e-9

    @on(header("SENSe:AVERage[:COUNt]?"))
    def get_averages(self) -> str:
        """Samples per reading."""
        return str(self.averages)

    @on(header("SENSe:AVERage[:COUNt]", r"(\S+)"))
    def set_averages(self, text: str) -> None:
        """Samples per reading."""
        count = self._number(text, 1, 3000)
        if count is not None:
            self.averages = round(count)

    @on(header("SENSe:POWer[:DC]:UNIT?"))
    def get_unit(self) -> str:
        """W or DBM."""
        return self.unit

    @on(header("SENSe:POWer[:DC]:UNIT", r"(\S+)"))
    def set_unit(self, unit: str) -> None:
        """W or DBM."""
        if unit.upper() in ("W", "DBM"):
            self.unit = unit.upper()
        else:
            self._illegal()

    @on(header("SENSe:POWer[:DC]:RANGe:AUTO?"))
    def get_auto_range(self) -> str:
        """0 or 1."""
        return str(int(self.auto_range))

    @on(header("SENSe:POWer[:DC]:RANGe:AUTO", r"(\S+)"))
    def set_auto_range(self, text: str) -> None:
        """ON, OFF, 1 or 0."""
        switch = {"ON": True, "1": True, "OFF": False, "0": False}.get(text.upper())
        if switch is None:
            self._illegal()
        else:
            self.auto_range = switch

    @on(header("SENSe:POWer[:DC]:RANGe[:UPPer]?"))
    def get_range(self) -> str:
        """Full scale, W."""
        return f"{self.range_w:.8E}"

    @on(header("SENSe:POWer[:DC]:RANGe[:UPPer]", r"(\S+)"))
    def set_range(self, text: str) -> None:
        """Smallest full scale that holds the value; ends automatic ranging."""
        value = self._number(text, 0.0, RANGES_W[-1])
        if value is not None:
            self.range_w = min(full for full in RANGES_W if full >= value * (1 - 1e-9))
            self.auto_range = False

    @on(header("SENSe:TEMPerature:DATA?"))
    def head_temperature(self) -> str:
        """Temperature of the head, degC: the room's, with its daily swing."""
        swing = 0.4 * math.sin(2 * math.pi * self._now() / DAY_S)
        return f"{23.0 + swing + 0.01 * self._rng.standard_normal():.6E}"

    @on(header("MEASure[:SCALar][:POWer]?"))
    def measure(self) -> str:
        """Configure, take and return one reading."""
        self.initiate()
        return self.fetch() or NOT_A_NUMBER

    @on(header("READ?"))
    def read(self) -> str:
        """Take and return one reading."""
        return self.measure()

    @on(header("CONFigure[:SCALar][:POWer]"))
    def configure(self) -> None:
        """Power is the only thing this head measures."""

    @on(header("CONFigure?"))
    def get_configuration(self) -> str:
        """What is measured."""
        return "POW"

    @on(header("ABORt"))
    def abort(self) -> None:
        """Give up a reading that was started."""
        self.fetched = None

    @on(header("INITiate[:IMMediate]"))
    def initiate(self) -> None:
        """Take one reading."""
        self.fetched = self._reading()

    @on(header("FETCh?"))
    def fetch(self) -> str | None:
        """The reading taken last."""
        if self.fetched is None:
            self._error(-230)
        return self.fetched

    def _reading(self) -> str:
        if not self.sensor_connected:
            self._error(-241)
            return NOT_A_NUMBER
        watts = self.sensor.incident_w() * self.sensor.calibrated_wavelength_m / self.wavelength_m
        watts += self.sensor.noise_w * self._rng.standard_normal() / math.sqrt(self.averages)
        if self.auto_range:
            self.range_w = next((full for full in RANGES_W if full >= watts), RANGES_W[-1])
        if watts > self.range_w:
            return OVERFLOW
        if self.unit == "DBM":
            return f"{10 * math.log10(watts / 1e-3):.8E}" if watts > 0 else NOT_A_NUMBER
        return f"{watts:.8E}"

    def _number(self, text: str, low: float, high: float) -> float | None:
        """An argument within its range, or None with the error queued."""
        value = {"MIN": low, "MAX": high}.get(text[:3].upper())
        if value is None:
            try:
                value = float(text)
            except ValueError:
                self._error(-120)
                return None
        if not low * (1 - 1e-9) <= value <= high * (1 + 1e-9):
            self._error(-222)
            return None
        return value

    def _illegal(self) -> None:
        self._error(-224)


def demo(now: Callable[[], float]) -> SimThorlabsPm100:
    """A console whose head sees 1 mW."""
    return SimThorlabsPm100(PowerSensor(lambda: 1e-3), now, np.random.default_rng(1))
