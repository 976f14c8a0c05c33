"""A simulated Rohde & Schwarz HMP4040: SCPI over four coil channels of the world, with its one selection for all clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from labctl.sim.instrument import on
from simulated_hw.scpi_lines import ScpiLines, header
from simulated_hw.world.parts_coils import CoilChannel

CHANNELS = 4
HIGHEST_V, HIGHEST_A = 32.05, 10.0


class SimHmp4040(ScpiLines):
    """An HMP4040. Channels without a coil are open.

    coils:  what the first channels feed
    """

    reply_end: ClassVar[bytes] = b"\n"

    def __init__(
        self, coils: Sequence[CoilChannel], now: Callable[[], float], rng: np.random.Generator
    ) -> None:
        super().__init__()
        if not 1 <= len(coils) <= CHANNELS:
            raise ValueError(f"an HMP4040 has four channels, not {len(coils)}")
        open_ends = [CoilChannel(connected=False) for _ in range(CHANNELS - len(coils))]
        self.coils = [*coils, *open_ends]
        self._now = now
        self._rng = rng
        self.model = "HMP4040"
        self.selected = 1
        self.active = [coil.on for coil in self.coils]
        self.master = any(self.active)
        self.panel = "LOC"
        self.step_v, self.step_a = 1.0, 0.1

    def own_faults(self) -> dict[str, Callable[[], None]]:
        """The first channel's electronic fuse, and its coil's cable."""
        return {
            "fuse": self.trip,
            "coil_off": lambda: self._plug(False),
            "coil_on": lambda: self._plug(True),
        }

    def trip(self, channel: int = 1) -> None:
        """The electronic fuse switches a channel off."""
        self.active[channel - 1] = False
        self._apply()

    def _plug(self, connected: bool) -> None:
        self.coils[0].connected = connected
        self.advance()

    def advance(self) -> None:
        """Currents up to now."""
        for coil in self.coils:
            coil.advance(self._now())

    def answer(self, line: str) -> str | None:
        """Replies to all commands of a line."""
        self.advance()
        return super().answer(line)

    @property
    def _coil(self) -> CoilChannel:
        return self.coils[self.selected - 1]

    def _apply(self) -> None:
        """Switches to the coils."""
        self.advance()
        for coil, active in zip(self.coils, self.active, strict=True):
            coil.on = active and self.master

    @on(header("*IDN?"))
    def identity(self) -> str:
        """Maker, model, part and serial number, firmware."""
        return f"ROHDE&SCHWARZ,{self.model},041523025,HW50020001/SW2.41"

    @on(header("*RST"))
    def restart(self) -> None:
        """Outputs off, no voltage."""
        self.active, self.master, self.selected = [False] * CHANNELS, False, 1
        self._apply()
        for coil in self.coils:
            coil.set_v, coil.limit_a = 0.0, 0.1

    @on(header("SYSTem:VERSion?"))
    def scpi_version(self) -> str:
        """SCPI version."""
        return "1999.0"

    @on(header("SYSTem:BEEPer[:IMMediate]"))
    def beep(self) -> None:
        """Nobody hears it."""

    @on(r"(?i::?SYST(?:EM)?:(LOC(?:AL)?|REM(?:OTE)?|MIX|RWL(?:OCK)?))")
    def set_panel(self, mode: str) -> None:
        """Who may turn the knobs."""
        self.panel = mode[:3].upper()

    @on(header("INSTrument:NSELect?"))
    def get_selected(self) -> str:
        """The channel that commands act on."""
        return str(self.selected)

    @on(header("INSTrument:NSELect", r"(\S+)"))
    def select(self, text: str) -> None:
        """1 to 4."""
        value = self.number(text, 1, CHANNELS)
        self.selected = self.selected if value is None else round(value)

    @on(header("INSTrument[:SELect]?"))
    def get_selected_name(self) -> str:
        """The same by name."""
        return f"OUTP{self.selected}"

    @on(header("INSTrument[:SELect]", r"OUT(?:P(?:UT)?)?([1-4])"))
    def select_name(self, number: str) -> None:
        """OUT1 to OUT4."""
        self.selected = int(number)

    @on(header("[SOURce:]VOLTage[:LEVel]?") + r"(?:\s+(\w+))?")
    def get_voltage(self, end: str | None) -> str | None:
        """Setpoint, V, or an end of its range."""
        return self._setpoint(end, self._coil.set_v, HIGHEST_V, 3)

    @on(header("[SOURce:]VOLTage[:LEVel]", r"(\S+)"))
    def set_voltage(self, text: str) -> None:
        """Setpoint, V; UP and DOWN by a step."""
        value = self._stepped(text, self._coil.set_v, self.step_v, HIGHEST_V)
        if value is not None:
            self._coil.set_v = round(value, 3)

    @on(header("[SOURce:]VOLTage[:LEVel]:STEP?"))
    def get_voltage_step(self) -> str:
        """Step of UP and DOWN, V."""
        return f"{self.step_v:.3f}"

    @on(header("[SOURce:]VOLTage[:LEVel]:STEP", r"(\S+)"))
    def set_voltage_step(self, text: str) -> None:
        """Step of UP and DOWN, V."""
        value = self.number(text, 0.0, HIGHEST_V)
        self.step_v = self.step_v if value is None else value

    @on(header("[SOURce:]CURRent[:LEVel]?") + r"(?:\s+(\w+))?")
    def get_current(self, end: str | None) -> str | None:
        """Setpoint, A, or an end of its range."""
        return self._setpoint(end, self._coil.limit_a, HIGHEST_A, 4)

    @on(header("[SOURce:]CURRent[:LEVel]", r"(\S+)"))
    def set_current(self, text: str) -> None:
        """Setpoint, A; UP and DOWN by a step. 0.2 mA below 1 A, 1 mA above."""
        value = self._stepped(text, self._coil.limit_a, self.step_a, HIGHEST_A)
        if value is not None:
            grid = 2e-4 if value < 1.0 else 1e-3
            self._coil.limit_a = round(round(value / grid) * grid, 4)

    @on(header("[SOURce:]CURRent[:LEVel]:STEP?"))
    def get_current_step(self) -> str:
        """Step of UP and DOWN, A."""
        return f"{self.step_a:.4f}"

    @on(header("[SOURce:]CURRent[:LEVel]:STEP", r"(\S+)"))
    def set_current_step(self, text: str) -> None:
        """Step of UP and DOWN, A."""
        value = self.number(text, 0.0, HIGHEST_A)
        self.step_a = self.step_a if value is None else value

    @on(header("APPLy?"))
    def get_both(self) -> str:
        """Voltage and current setpoint."""
        return f"{self._coil.set_v:.3f}, {self._coil.limit_a:.4f}"

    @on(header("APPLy", r"([^,]+),([^,]+)"))
    def set_both(self, volt: str, ampere: str) -> None:
        """Voltage and current setpoint."""
        self.set_voltage(volt.strip())
        self.set_current(ampere.strip())

    @on(header("OUTPut:SELect?"))
    def get_active(self) -> str:
        """The channel's own switch."""
        return str(int(self.active[self.selected - 1]))

    @on(header("OUTPut:SELect", r"(\S+)"))
    def set_active(self, text: str) -> None:
        """The channel's own switch."""
        on = self.switch(text)
        if on is not None:
            self.active[self.selected - 1] = on
            self._apply()

    @on(header("OUTPut:GENeral?"))
    def get_master(self) -> str:
        """The master switch."""
        return str(int(self.master))

    @on(header("OUTPut:GENeral", r"(\S+)"))
    def set_master(self, text: str) -> None:
        """The master switch."""
        on = self.switch(text)
        if on is not None:
            self.master = on
            self._apply()

    @on(header("MEASure[:SCALar]:VOLTage[:DC]?"))
    def measure_voltage(self) -> str:
        """At the terminals, V."""
        return f"{self._noisy(self._coil.voltage_v(), 5e-4):.3f}"

    @on(header("MEASure[:SCALar]:CURRent[:DC]?"))
    def measure_current(self) -> str:
        """Through the coil, A."""
        return f"{self._noisy(self._coil.flowing_a, 1e-4):.4f}"

    def _noisy(self, value: float, sigma: float) -> float:
        return max(0.0, value + sigma * self._rng.standard_normal()) if value > 0 else 0.0

    def _setpoint(self, end: str | None, value: float, highest: float, digits: int) -> str | None:
        shown = {"": value, "MIN": 0.0, "MAX": highest}.get((end or "")[:3].upper())
        if shown is None:
            self.error(-224)
            return None
        return f"{shown:.{digits}f}"

    def _stepped(self, text: str, value: float, step: float, highest: float) -> float | None:
        turn = {"UP": step, "DOWN": -step}.get(text.upper())
        if turn is not None:
            return min(highest, max(0.0, value + turn))
        return self.number(text, 0.0, highest)


def demo(now: Callable[[], float]) -> SimHmp4040:
    """A supply with four coils."""
    return SimHmp4040([CoilChannel() for _ in range(4)], now, np.random.default_rng(1))
