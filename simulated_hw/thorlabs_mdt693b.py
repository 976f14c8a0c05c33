"""A simulated Thorlabs MDT693B piezo controller over three piezos of the world, with either framing of its answers.

Up to firmware 1.06 an answer begins with ``*`` or ``!``, and some have a further ``*`` at the end; from 1.09 it ends with
``>`` (DEVICES.md 3.8). Answers to settings out of range are from general knowledge of the maker's other controllers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from labctl.sim.instrument import LineInstrument, on
from simulated_hw.world.parts_piezo import Piezo

AXES = "xyz"
FIRST_WITH_PROMPT = (1, 9)
REFUSED, OUT_OF_RANGE = "CMD_NOT_DEFINED", "CMD_ARG_INVALID"
MONITOR_STEP_V = 0.1


class SimThorlabsMdt693b(LineInstrument):
    """A piezo controller over up to three piezos.

    now:               the world's time, s
    firmware:          version, which decides the framing
    limit_v:           the switch at the back, 75, 100 or 150 V
    monitor_offset_v:  how far the read-back of each axis may be off (standard deviation)
    """

    request_end: ClassVar[bytes] = b"\r"
    reply_end: ClassVar[bytes] = b""
    longest_line: ClassVar[int] = 256

    def __init__(
        self,
        piezos: Sequence[Piezo],
        now: Callable[[], float],
        rng: np.random.Generator,
        *,
        firmware: str = "1.09",
        limit_v: int = 150,
        monitor_offset_v: float = 0.3,
        serial_number: str = "140421-07",
        echo: bool = True,
    ) -> None:
        super().__init__()
        self.piezos = dict(zip(AXES, piezos, strict=False))
        self._now = now
        self.limit_v = limit_v
        self.firmware = firmware
        self.serial_number = serial_number
        self.echo = echo
        self.monitor_offsets_v = dict(zip(AXES, rng.normal(0.0, monitor_offset_v, 3).tolist(), strict=True))
        major, minor = firmware.split(".")
        self.with_prompt = (int(major), int(minor)) >= FIRST_WITH_PROMPT

    def answer(self, line: str) -> str:
        """Echo, and the answer in the firmware's framing."""
        echoed = line + "\r" if self.echo else ""
        body = super().answer(line.strip().lower()) or ""
        return echoed + body + (">" if self.with_prompt else "")

    def unknown(self, line: str) -> str:
        """A line nobody understands."""
        return self._refusal(REFUSED)

    def own_faults(self) -> dict[str, Callable[[], None]]:
        """The echo switched off behind the driver's back, and on again."""
        return {
            "echo_off": lambda: setattr(self, "echo", False),
            "echo_on": lambda: setattr(self, "echo", True),
        }

    @on("")
    def nothing(self) -> str:
        """An empty line."""
        return self._value("")

    @on(r"id\?")
    def identify(self) -> str:
        """Several lines."""
        model = "MDT693B" if len(self.piezos) > 1 else "MDT694B"
        text = (
            f"\r\r\rModel {model} Piezo Control Module\rFirmware Version: {self.firmware}\r"
            f"Voltage Range from Switch: {self.limit_v}V\rSerial#:{self.serial_number}\r"
        )
        return text if self.with_prompt else "*" + text

    @on(r"serial\?")
    def read_serial(self) -> str:
        """Serial number; the old firmware's ``*`` comes after it."""
        return self.serial_number + ("\r" if self.with_prompt else "\r*")

    @on(r"vlimit\?")
    def read_limit(self) -> str:
        """The switch at the back; the old firmware sends a second ``*``."""
        return self._value(f"[{self.limit_v:4d}]\r") + ("" if self.with_prompt else "*")

    @on(r"echo\?")
    def read_echo(self) -> str:
        """Whether lines are sent back."""
        return self._value(f"[Echo {'On' if self.echo else 'Off'}]\r")

    @on("echo=([01])")
    def set_echo(self, state: str) -> str:
        """The one setting that is answered."""
        self.echo = state == "1"
        return self.read_echo()

    @on(r"([xyz])voltage\?")
    def read_voltage(self, axis: str) -> str:
        """The output's monitor."""
        piezo = self.piezos.get(axis)
        if piezo is None:
            return self._refusal(REFUSED)
        piezo.advance(self._now())
        monitor = piezo.voltage_v + self.monitor_offsets_v[axis]
        return self._value(f"[{round(monitor / MONITOR_STEP_V) * MONITOR_STEP_V:6.1f}]\r")

    @on(r"([xyz])voltage=([+-]?\d+(?:\.\d*)?)")
    def set_voltage(self, axis: str, volts: str) -> str:
        """An output."""
        piezo = self.piezos.get(axis)
        if piezo is None:
            return self._refusal(REFUSED)
        if not 0.0 <= float(volts) <= self.limit_v:
            return self._refusal(OUT_OF_RANGE)
        piezo.advance(self._now())
        piezo.setpoint_v = float(volts)
        return self._value("")

    def _value(self, text: str) -> str:
        return text if self.with_prompt else "*" + text

    def _refusal(self, word: str) -> str:
        return word if self.with_prompt else "!"


def demo(now: Callable[[], float]) -> SimThorlabsMdt693b:
    """A controller with three piezos and the newer firmware."""
    return SimThorlabsMdt693b([Piezo() for _ in range(3)], now, np.random.default_rng(1))
