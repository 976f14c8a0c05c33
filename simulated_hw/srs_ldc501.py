"""A simulated SRS LDC501: its mnemonics over a heated body and a laser diode of the world (DEVICES.md 3.4).

The card leaves open the error numbers; here LEXE 1 is an illegal value, 2 a wrong word and 3 a conflict, and LCME 2 is an
undefined command, 3 a command without a question, 4 a question without a command and 5 a missing value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from labctl.sim.instrument import LineInstrument
from labctl.units import ZERO_CELSIUS_K
from simulated_hw.world.parts import HeatedBody
from simulated_hw.world.parts_diode import LaserDiode

ILLEGAL_VALUE, WRONG_WORD, CONFLICT = 1, 2, 3
UNDEFINED, QUERY_ONLY, NO_QUERY, MISSING = 2, 3, 4, 5
TEC_A_PER_K = 0.02
"""Current that holds the body one kelvin from the room (as in HeatedBody.drive_a)."""
ERROR_DELAY_S = 0.010
"""An error code can be read only so long after the command that caused it."""
RANGES_MA = {"HIGH": 500.0, "LOW": 250.0}
NTC_KOHM, NTC_BETA_K, NTC_REFERENCE_K = 10.0, 3950.0, 298.15
_COMMAND = re.compile(r"([*A-Z]{4})\s*(\?)?\s*(.*)", re.IGNORECASE)


class Refusal(Exception):  # noqa: N818  (not an error of ours: the number that LEXE? will show)
    """A value that is not taken."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Entry:
    """What one mnemonic reads and sets; either may be missing."""

    read: Callable[[], str] | None = None
    write: Callable[[str], None] | None = None


class SimSrsLdc501(LineInstrument):
    """An LDC501 with a mount whose temperature it controls and a diode on it."""

    request_end: ClassVar[bytes] = b"\n"
    reply_end: ClassVar[bytes] = b"\n"
    longest_line: ClassVar[int] = 256

    def __init__(
        self, body: HeatedBody, diode: LaserDiode, now: Callable[[], float], rng: np.random.Generator
    ) -> None:
        super().__init__()
        self.body, self.diode = body, diode
        self._now = now
        self._rng = rng
        self.model = "LDC501"
        self.current_ma = diode.current_a * 1e3
        self.limit_ma = 200.0
        self.range = "HIGH"
        self.voltage_limit_v = 5.0
        self.mode = "CC"
        self.monitor_ua = 0.0
        self.tec_mode = "CT"
        self.setpoint_c = body.setpoint_k - ZERO_CELSIUS_K
        self.tec_a = 0.0
        self.tec_limit_a = 1.5
        self.lowest_c, self.highest_c = body.lowest_k - ZERO_CELSIUS_K, 60.0
        self.responsivity = 20.0  # uA per mW
        self.kept = {"SIBW": "HIGH", "MODU": "OFF", "PDMW": "OFF", "TSNR": "3"}
        self.limits = {"BIAS": 0.0, "PILM": 1000.0, "TVLM": 6.0}
        self._errors: list[tuple[float, str, int]] = []
        self._table = self._entries()

    def own_faults(self) -> dict[str, Callable[[], None]]:
        """Interlock and diode cable, and back."""
        return {
            "interlock_open": lambda: self._interlock(False),
            "interlock_closed": lambda: self._interlock(True),
            "diode_off": lambda: self._cable(False),
            "diode_on": lambda: self._cable(True),
        }

    def _interlock(self, closed: bool) -> None:
        self.diode.interlock_closed = closed
        self.advance()

    def _cable(self, connected: bool) -> None:
        self.diode.connected = connected
        self.advance()

    def advance(self) -> None:
        """Body and diode up to now; what trips, trips. A constant TEC current leads to its own temperature."""
        self.body.advance(self._now())
        if self.tec_mode == "CT":
            self.body.setpoint_k = self.setpoint_c + ZERO_CELSIUS_K
        else:
            end_k = self.body.room_k + self.tec_a / TEC_A_PER_K
            self.body.setpoint_k = min(self.body.highest_k, max(self.body.lowest_k, end_k))
        self.diode.temperature_k = self.body.temperature_k
        wanted_a = self.current_ma * 1e-3
        if self.mode == "CP":
            wanted_a = self.diode.current_for_monitor_a(self.monitor_ua * 1e-6)
        self.diode.current_a = min(wanted_a, self.limit_ma * 1e-3)
        if not self.diode.interlock_closed or self.diode.voltage_v() > self.voltage_limit_v:
            self.diode.on = False

    def answer(self, line: str) -> str | None:
        """Replies to all commands of a line, joined with semicolons; None if none replies."""
        replies = [reply for part in line.split(";") if (reply := self._one(part.strip())) is not None]
        return ";".join(replies) if replies else None

    def unknown(self, line: str) -> None:
        """An undefined command has no reply."""
        self._fail("LCME", UNDEFINED)

    def _one(self, text: str) -> str | None:
        self.advance()
        match = _COMMAND.fullmatch(text)
        if match is None:
            return self.unknown(text) if text else None
        mnemonic, question, argument = match[1].upper(), match[2], match[3].strip()
        entry = self._table.get(mnemonic)
        if entry is None:
            return self.unknown(text)
        if question:
            if entry.read is None:
                return self._fail("LCME", NO_QUERY)
            return entry.read()
        if entry.write is None:
            return self._fail("LCME", QUERY_ONLY)
        if not argument and mnemonic != "*RST":
            return self._fail("LCME", MISSING)
        try:
            entry.write(argument)
        except Refusal as refusal:
            return self._fail("LEXE", refusal.code)
        self.advance()
        return None

    def _fail(self, register: str, code: int) -> None:
        self._errors.append((self._now() + ERROR_DELAY_S, register, code))

    def _last_error(self, register: str) -> str:
        """The last code of a register that has become visible; reading clears it."""
        visible = [e for e in self._errors if e[1] == register and e[0] <= self._now()]
        self._errors = [e for e in self._errors if e not in visible]
        return str(visible[-1][2] if visible else 0)

    def _entries(self) -> dict[str, Entry]:
        return {
            "*IDN": Entry(lambda: f"Stanford_Research_Systems,{self.model},s/n148011,ver1.20"),
            "LEXE": Entry(lambda: self._last_error("LEXE")),
            "LCME": Entry(lambda: self._last_error("LCME")),
            **self._diode_entries(),
            **self._photodiode_entries(),
            **self._tec_entries(),
        }

    def _diode_entries(self) -> dict[str, Entry]:
        noise = self._rng.standard_normal
        return {
            "ILOC": Entry(lambda: "CLOSED" if self.diode.interlock_closed else "OPEN"),
            "LDON": Entry(lambda: "ON" if self.diode.on else "OFF", self._switch_laser),
            "SMOD": Entry(lambda: self.mode, self._set_mode),
            "RILD": Entry(lambda: f"{self.diode.flowing_a() * 1e3 + 0.003 * noise():.3f}"),
            "SILD": Entry(lambda: f"{self.current_ma:.2f}", self._set_current),
            "SILM": Entry(lambda: f"{self.limit_ma:.2f}", self._set_limit),
            "RNGE": Entry(lambda: self.range, self._set_range),
            "RVLD": Entry(lambda: f"{self.diode.voltage_v():.3f}"),
            "SVLM": Entry(lambda: f"{self.voltage_limit_v:.2f}", self._set_voltage_limit),
            "MODU": self._word("MODU", ("ON", "OFF")),
            "SIBW": self._word("SIBW", ("HIGH", "LOW")),
        }

    def _photodiode_entries(self) -> dict[str, Entry]:
        def monitor_ua() -> float:
            return self.diode.monitor_a() * 1e6

        def set_monitor(text: str) -> None:
            self.monitor_ua = _number(text, 0.0, self.limits["PILM"])

        def set_power(text: str) -> None:
            self.monitor_ua = _number(text, 0.0, self.limits["PILM"] / self.responsivity) * self.responsivity

        def set_power_limit(text: str) -> None:
            self.limits["PILM"] = _number(text, 0.0, 5000.0 / self.responsivity) * self.responsivity
            self.monitor_ua = min(self.monitor_ua, self.limits["PILM"])

        def set_responsivity(text: str) -> None:
            self.responsivity = _number(text, 1e-3, 2000.0)

        def calibrate(text: str) -> None:
            milliwatts = _number(text, 1e-6, 1e4)
            if monitor_ua() <= 0:
                raise Refusal(CONFLICT)
            self.responsivity = monitor_ua() / milliwatts

        return {
            "PDMW": self._word("PDMW", ("ON", "OFF")),
            "BIAS": self._limit("BIAS", 0.0, 5.0),
            "RIPD": Entry(lambda: f"{monitor_ua():.3f}"),
            "SIPD": Entry(lambda: f"{self.monitor_ua:.2f}", set_monitor),
            "PILM": self._limit("PILM", 0.0, 5000.0),
            "RESP": Entry(lambda: f"{self.responsivity:.4f}", set_responsivity),
            "CALP": Entry(None, calibrate),
            "RWPD": Entry(lambda: f"{monitor_ua() / self.responsivity:.4f}"),
            "SWPD": Entry(lambda: f"{self.monitor_ua / self.responsivity:.4f}", set_power),
            "PWLM": Entry(lambda: f"{self.limits['PILM'] / self.responsivity:.4f}", set_power_limit),
        }

    def _tec_entries(self) -> dict[str, Entry]:
        noise = self._rng.standard_normal

        def kelvin() -> float:
            return self.body.temperature_k + self.body.noise_k * noise()

        def set_lowest(text: str) -> None:
            self.lowest_c = _number(text, -55.0, self.highest_c)

        def set_highest(text: str) -> None:
            self.highest_c = _number(text, self.lowest_c, 150.0)

        def set_least_resistance(text: str) -> None:
            set_highest(f"{_celsius_of(_number(text, 0.01, 1000.0))}")

        def set_most_resistance(text: str) -> None:
            set_lowest(f"{_celsius_of(_number(text, 0.01, 1000.0))}")

        return {
            "TEON": Entry(lambda: str(int(self.body.enabled)), self._switch_tec),
            "TMOD": Entry(lambda: self.tec_mode, self._set_tec_mode),
            "TSNR": self._word("TSNR", tuple("0123456")),
            "TIRD": Entry(lambda: f"{self._tec_current_a():.4f}"),
            "TCUR": Entry(lambda: f"{self.tec_a:.4f}", self._set_tec_current),
            "TILM": Entry(lambda: f"{self.tec_limit_a:.4f}", self._set_tec_limit),
            "TVRD": Entry(lambda: f"{1.8 * self._tec_current_a():.4f}"),
            "TVLM": self._limit("TVLM", -8.5, 8.5),
            "TTRD": Entry(lambda: f"{kelvin() - ZERO_CELSIUS_K:.4f}"),
            "TRAW": Entry(lambda: f"{_kohm(kelvin()):.5f}"),
            "TEMP": Entry(lambda: f"{self.setpoint_c:.3f}", self._set_temperature),
            "TMIN": Entry(lambda: f"{self.lowest_c:.3f}", set_lowest),
            "TMAX": Entry(lambda: f"{self.highest_c:.3f}", set_highest),
            "TRTH": Entry(lambda: f"{_kohm(self.setpoint_c + ZERO_CELSIUS_K):.4f}", self._set_resistance),
            "TRMN": Entry(lambda: f"{_kohm(self.highest_c + ZERO_CELSIUS_K):.4f}", set_least_resistance),
            "TRMX": Entry(lambda: f"{_kohm(self.lowest_c + ZERO_CELSIUS_K):.4f}", set_most_resistance),
        }

    def _word(self, mnemonic: str, words: tuple[str, ...]) -> Entry:
        def write(text: str) -> None:
            self.kept[mnemonic] = _chosen(text, words)

        return Entry(lambda: self.kept[mnemonic], write)

    def _limit(self, mnemonic: str, low: float, high: float) -> Entry:
        def write(text: str) -> None:
            self.limits[mnemonic] = _number(text, low, high)

        return Entry(lambda: f"{self.limits[mnemonic]:.3f}", write)

    def _switch_laser(self, text: str) -> None:
        on = _chosen(text, ("ON", "OFF")) == "ON"
        if on and not self.diode.interlock_closed:
            raise Refusal(CONFLICT)
        self.diode.on = on

    def _set_mode(self, text: str) -> None:
        """Changed while on, the new setpoint is what flows now."""
        mode = _chosen(text, ("CC", "CP"))
        if mode != self.mode and self.diode.on:
            if mode == "CP":
                self.monitor_ua = self.diode.monitor_a() * 1e6
            else:
                self.current_ma = self.diode.flowing_a() * 1e3
        self.mode = mode

    def _set_current(self, text: str) -> None:
        self.current_ma = round(_number(text, 0.0, self.limit_ma), 2)

    def _set_limit(self, text: str) -> None:
        self.limit_ma = round(_number(text, 0.0, RANGES_MA[self.range]), 2)
        self.current_ma = min(self.current_ma, self.limit_ma)

    def _set_range(self, text: str) -> None:
        chosen = _chosen(text, tuple(RANGES_MA))
        if self.diode.on and chosen != self.range:
            raise Refusal(CONFLICT)
        self.range = chosen
        self.limit_ma = min(self.limit_ma, RANGES_MA[chosen])
        self.current_ma = min(self.current_ma, self.limit_ma)

    def _set_voltage_limit(self, text: str) -> None:
        self.voltage_limit_v = _number(text, 0.1, 10.0)

    def _switch_tec(self, text: str) -> None:
        self.body.enabled = _chosen(text, ("0", "1", "OFF", "ON")) in ("1", "ON")

    def _set_tec_mode(self, text: str) -> None:
        """Changed while on, the new setpoint is what is measured now."""
        mode = _chosen(text, ("CT", "CC"))
        if mode == "CC" and self.tec_mode == "CT":
            self.tec_a = self._tec_current_a()
        elif mode == "CT" and self.tec_mode == "CC" and self.body.enabled:
            self.setpoint_c = self.body.temperature_k - ZERO_CELSIUS_K
        self.tec_mode = mode

    def _tec_current_a(self) -> float:
        if self.tec_mode == "CC":
            return self.tec_a if self.body.enabled else 0.0
        limit_a = abs(self.tec_limit_a)
        return max(-limit_a, min(limit_a, self.body.drive_a()))

    def _set_tec_current(self, text: str) -> None:
        limit_a = abs(self.tec_limit_a)
        self.tec_a = _number(text, -limit_a, limit_a)

    def _set_tec_limit(self, text: str) -> None:
        self.tec_limit_a = _number(text, -4.5, 4.5)
        limit_a = abs(self.tec_limit_a)
        self.tec_a = max(-limit_a, min(limit_a, self.tec_a))

    def _set_temperature(self, text: str) -> None:
        self.setpoint_c = round(_number(text, self.lowest_c, self.highest_c), 3)

    def _set_resistance(self, text: str) -> None:
        self._set_temperature(f"{_celsius_of(_number(text, 0.01, 1000.0)):.6f}")


def _number(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise Refusal(ILLEGAL_VALUE) from None
    if not low - 1e-9 <= value <= high + 1e-9:
        raise Refusal(ILLEGAL_VALUE)
    return value


def _chosen(text: str, words: tuple[str, ...]) -> str:
    if text.upper() not in words:
        raise Refusal(WRONG_WORD)
    return text.upper()


def _kohm(kelvin: float) -> float:
    """Resistance of a 10 kOhm NTC."""
    return NTC_KOHM * math.exp(NTC_BETA_K * (1 / kelvin - 1 / NTC_REFERENCE_K))


def _celsius_of(kohm: float) -> float:
    return 1 / (1 / NTC_REFERENCE_K + math.log(kohm / NTC_KOHM) / NTC_BETA_K) - ZERO_CELSIUS_K


def demo(now: Callable[[], float]) -> SimSrsLdc501:
    """A controller with a heated body and a diode on it."""
    return SimSrsLdc501(HeatedBody(), LaserDiode(), now, np.random.default_rng(1))
