"""Simulated Toptica DLC pro: up to four laser heads of the world behind the DeCoP command and monitoring lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar, cast

import numpy as np

from labctl.clock import utc_text, wall_time
from labctl.sim.instrument import Send, Session, SimInstrument
from labctl.units import ZERO_CELSIUS_K
from simulated_hw.decop import (
    BAD_VALUE,
    CommandSession,
    MonitorSession,
    Parameter,
    System,
    Value,
)
from simulated_hw.dlcpro_head import STATE_TEXTS, Head
from simulated_hw.world.parts import Laser


class SimDlcPro(SimInstrument):
    """A DLC pro with one to four laser heads.

    lasers:   the heads, in the order of their numbers
    now:      the world's time, s
    rng:      for the noise of what it measures; None for no noise
    epoch_s:  wall-clock time (s since 1970) of ``now() == 0``; by default such that it shows the time of day
    """

    ports: ClassVar[tuple[str, ...]] = ("command", "monitor")

    def __init__(
        self,
        lasers: Sequence[Laser] | Laser,
        now: Callable[[], float],
        rng: np.random.Generator | None = None,
        *,
        serial_number: str = "DLC PRO_000001",
        epoch_s: float | None = None,
    ) -> None:
        super().__init__()
        self._now = now
        self._epoch_s = wall_time() - now() if epoch_s is None else epoch_s
        self._started_s = now()
        parts = [lasers] if isinstance(lasers, Laser) else [*lasers]
        if not 1 <= len(parts) <= 4:
            raise ValueError(f"a DLC pro drives one to four heads, not {len(parts)}")
        self._heads = [Head(laser, index, rng) for index, laser in enumerate(parts, 1)]
        self.interlock_open = False
        self.key_locked = False
        self.button_enabled = True
        self._parameters = self._system_parameters(serial_number)
        commands: dict[str, Callable[[], list[str]]] = {
            "system-summary": lambda: [*self._summary(), "()"],
            "error-log": lambda: ["no errors", "()"],
        }
        for head in self._heads:
            self._parameters |= _head_parameters(head)
            commands[f"laser{head.index}:dl:lock:close"] = head.close_lock
            commands[f"laser{head.index}:dl:lock:open"] = head.open_lock
        self.system = System(self._parameters, commands, {2: "CAUTION"}, self._wall_s, self.refresh)
        self.refresh()

    def session(self, port: str, send: Send) -> Session:
        """A client of the command or of the monitoring line."""
        return (MonitorSession if port == "monitor" else CommandSession)(self.system, send)

    def refresh(self) -> None:
        """Bring every head up to the world's time."""
        allowed = not self.interlock_open and not self.key_locked and self.button_enabled
        now_s = self._now()
        for head in self._heads:
            head.advance(now_s, allowed)

    def own_faults(self) -> dict[str, Callable[[], None]]:
        """A lost lock and a mode hop of the first laser."""
        return {"unlock": self.unlock, "mode_hop": self.mode_hop}

    def unlock(self, laser: int = 1) -> None:
        """Fault: the lock of a head is lost and stays open until engaged again."""
        self._heads[laser - 1].laser.unlock()

    def mode_hop(self, laser: int = 1) -> None:
        """Fault: a head jumps to another mode; its lock searches in vain until it is tuned back."""
        self._heads[laser - 1].laser.mode_hop()

    def _wall_s(self) -> float:
        return self._epoch_s + self._now()

    def _uptime_s(self) -> int:
        return int(self._now() - self._started_s)

    def _set_time(self, text: str) -> int:
        try:
            self._epoch_s = datetime.fromisoformat(text).timestamp() - self._now()
        except (ValueError, OverflowError, OSError):
            return BAD_VALUE
        return 0

    def _emits(self) -> bool:
        return any(head.laser.emission for head in self._heads)

    def _summary(self) -> list[str]:
        return [
            f"laser{head.index}: {head.laser.wavelength_m * 1e9:.1f} nm, {STATE_TEXTS[head.lock_state()]}"
            for head in self._heads
        ]

    def _system_parameters(self, serial_number: str) -> dict[str, Parameter]:
        """Everything above the laser heads."""
        label = _Kept("simulated")

        def set_button(value: bool) -> int:
            self.button_enabled = value
            return 0

        return {
            "serial-number": _fixed(serial_number),
            "system-type": _fixed("DLC pro"),
            "system-model": _fixed("DLC pro"),
            "system-label": Parameter(str, label.read, label.write),
            "fw-ver": _fixed("3.3.3"),
            "ssw-ver": _fixed("3.3.3"),
            "decof-ver": _fixed("3.3.3"),
            "uptime": Parameter(int, self._uptime_s),
            "uptime-txt": Parameter(str, lambda: f"{self._uptime_s()} s"),
            "time": Parameter(str, lambda: utc_text(self._wall_s()), self._set_time),
            "emission": Parameter(bool, self._emits),
            "emission-button-enabled": Parameter(bool, lambda: self.button_enabled, set_button),
            "interlock-open": Parameter(bool, lambda: self.interlock_open),
            "frontkey-locked": Parameter(bool, lambda: self.key_locked),
            "system-health": Parameter(int, lambda: int(self.interlock_open)),
            "system-health-txt": Parameter(str, lambda: "Interlock open" if self.interlock_open else "Ok"),
        }


class _Kept:
    """A setting without effect: keeps what is written."""

    def __init__(self, value: Value) -> None:
        self.value = value

    def read(self) -> Value:
        return self.value

    def write(self, value: Value) -> int:
        self.value = value
        return 0


def _fixed(value: str | bool | float | bytes) -> Parameter:
    """A read-only parameter that never changes."""
    return Parameter(type(value), lambda: value)


def _kept(value: str | bool | float | bytes) -> Parameter:
    """A setting without effect on the world."""
    kept = _Kept(value)
    return Parameter(type(value), kept.read, kept.write)


def _attribute(
    owner: Any, name: str, low: float = -math.inf, high: float = math.inf, level: int = 3
) -> Parameter:
    """A setting that is an attribute of the head or its laser; numbers outside ``low`` to ``high`` are refused."""

    def write(value: Any) -> int:
        if not low <= value <= high:
            return BAD_VALUE
        setattr(owner, name, value)
        return 0

    first = cast("bool | int | float", getattr(owner, name))
    return Parameter(type(first), lambda: getattr(owner, name), write, level)


def _head_parameters(head: Head) -> dict[str, Parameter]:
    """The parameter tree of one head, by full name."""
    parts = {
        "": _top(head),
        "dl:cc:": _current_driver(head),
        "dl:tc:": _temperature_controller(head),
        "dl:pc:": _piezo_driver(head),
        "dl:lock:": _lock(head),
        "scan:": _scan(head),
    }
    return {
        f"laser{head.index}:{prefix}{name}": parameter
        for prefix, part in parts.items()
        for name, parameter in part.items()
    }


def _top(head: Head) -> dict[str, Parameter]:
    laser = head.laser
    number = f"DL pro_{head.index:06d}"
    return {
        "type": _fixed("DL pro"),
        "product-name": _fixed("DL pro"),
        "label": _kept(f"{laser.wavelength_m * 1e9:.0f} nm"),
        "emission": Parameter(bool, lambda: laser.emission),
        "enabled": _attribute(head, "enabled"),
        "health": _fixed(0),
        "health-txt": _fixed("Ok"),
        "busy": _fixed(False),
        "dl:type": _fixed("DL pro"),
        "dl:model": _fixed("DL pro"),
        "dl:version": _fixed("1.0"),
        "dl:serial-number": _fixed(number),
        "dl:factory-settings:wavelength": _kept(round(laser.wavelength_m * 1e9, 6)),
        "dl:factory-settings:threshold-current": _kept(laser.threshold_current_a * 1e3),
        "dl:factory-settings:power": _kept(laser.nominal_power_w * 1e3),
    }


def _current_driver(head: Head) -> dict[str, Parameter]:
    laser = head.laser
    return {
        "enabled": _attribute(head, "driver_on"),
        "emission": Parameter(bool, lambda: laser.emission),
        "current-set": Parameter(float, lambda: round(laser.current_a * 1e3, 9), head.set_current),
        "current-act": Parameter(float, head.current_act_ma),
        "current-clip": _attribute(head, "largest_ma", 0.0, laser.largest_current_a * 1e3, level=2),
        "current-clip-limit": _fixed(laser.largest_current_a * 1e3),
        "feedforward-enabled": _attribute(head, "feedforward"),
        "feedforward-factor": _attribute(head, "feedforward_ma_per_v", -10.0, 10.0),
        "status": Parameter(int, lambda: int(laser.emission)),
        "status-txt": Parameter(str, lambda: "Ok" if laser.emission else "Off"),
    }


def _temperature_controller(head: Head) -> dict[str, Parameter]:
    low_c, high_c = 5.0, 50.0

    def set_temperature(temperature_c: float) -> int:
        if not low_c <= temperature_c <= high_c:
            return BAD_VALUE
        head.temperature_set_k = temperature_c + ZERO_CELSIUS_K
        return 0

    def ready() -> bool:
        return abs(head.laser.temperature_k - head.temperature_set_k) < 0.01

    return {
        "enabled": _kept(True),
        "temp-act": Parameter(float, head.temperature_act_c),
        "temp-set": Parameter(
            float, lambda: round(head.temperature_set_k - ZERO_CELSIUS_K, 9), set_temperature
        ),
        "temp-set-min": _fixed_setting(low_c),
        "temp-set-max": _fixed_setting(high_c),
        "ready": Parameter(bool, ready),
        "fault": _fixed(False),
        "status": _fixed(0),
        "status-txt": Parameter(str, lambda: "Temperature ok" if ready() else "Settling"),
    }


def _fixed_setting(value: float) -> Parameter:
    """A limit that can be written at service level only, and then to its own value only."""
    return Parameter(float, lambda: value, lambda new: 0 if new == value else BAD_VALUE, level=1)


def _piezo_driver(head: Head) -> dict[str, Parameter]:
    return {
        "enabled": _kept(True),
        "voltage-set": Parameter(float, head.piezo_set_v, head.set_piezo),
        "voltage-act": Parameter(float, head.piezo_act_v),
        "voltage-min": _attribute(head, "piezo_low_v", -1.0, 140.0, level=2),
        "voltage-max": _attribute(head, "piezo_high_v", -1.0, 140.0, level=2),
        "status": _fixed(0),
        "status-txt": _fixed("Ok"),
    }


def _lock(head: Head) -> dict[str, Parameter]:
    laser = head.laser
    return {
        "state": Parameter(int, head.lock_state),
        "state-txt": Parameter(str, lambda: STATE_TEXTS[head.lock_state()]),
        "lock-enabled": Parameter(bool, lambda: laser.lock_enabled, head.set_lock),
        "hold": _attribute(head, "hold"),
        "setpoint": _kept(0.0),
        "lock-without-lockpoint": _kept(True),
        "candidates": _fixed(b""),
        "relock:enabled": _kept(True),
        "relock:frequency": _kept(1.0),
        "relock:amplitude": _kept(1.0),
        "window:enabled": _kept(True),
        "pid1:enabled": _kept(True),
        "pid1:gain:all": _kept(1.0),
        "pid1:lock-state": Parameter(bool, lambda: laser.locked),
        "pid2:enabled": _kept(False),
        "pid2:gain:all": _kept(1.0),
    }


def _scan(head: Head) -> dict[str, Parameter]:
    def ends() -> tuple[float, float]:
        centre_v = head.piezo_set_v()
        return centre_v - head.scan_v / 2, centre_v + head.scan_v / 2

    return {
        "enabled": Parameter(bool, lambda: head.scanning, head.set_scan),
        "frequency": _attribute(head, "scan_hz", 0.02, 2000.0),
        "amplitude": _attribute(head, "scan_v", 0.0, 141.0),
        "offset": Parameter(float, head.piezo_set_v, head.set_piezo),
        "start": Parameter(float, lambda: ends()[0], lambda low: head.set_scan_ends(low, ends()[1])),
        "end": Parameter(float, lambda: ends()[1], lambda high: head.set_scan_ends(ends()[0], high)),
        "output-channel": _attribute(head, "scan_output", 50, 57),
        "unit": Parameter(str, lambda: "mA" if head.scan_output == 51 else "V"),
        "signal-type": _kept(1),
    }


def demo(now: Callable[[], float]) -> SimDlcPro:
    """A controller with one 397 nm head that emits."""
    laser = Laser(
        np.random.default_rng(1),
        wavelength_m=397e-9,
        power_w=0.05,
        nominal_current_a=0.12,
        threshold_current_a=0.04,
        largest_current_a=0.18,
        drift_hz_per_sqrt_s=0.0,
    )
    laser.emission = True
    return SimDlcPro([laser], now)
