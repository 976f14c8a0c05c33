"""A simulated HighFinesse wavemeter behind its network server: up to eight channels that look at lasers of the world.

The card (DEVICES.md 3.7) leaves open the reply to an unknown command (here a text), and what is read of a channel that is
not being measured (here 0, "no value").
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from labctl.sim.instrument import LineInstrument, LineSession, Send, Session, on

LIGHT_M_S = 299792458.0
NO_VALUE, NO_SIGNAL, BAD_SIGNAL, LOW_SIGNAL, BIG_SIGNAL = 0, -1, -2, -3, -4
NOT_RUNNING, NO_CHANNEL = -5, -10
NOT_SET, OUT_OF_RANGE = -2, -3
SHORTEST_MS, LONGEST_MS = 1, 9999
TOO_LITTLE, BEST, TOO_MUCH = 0.1, 0.6, 1.0
"""Interference pattern on the CCD relative to saturation."""
SETTLE_S = 0.012
"""Time the fibre switch needs for one channel, beside the exposure."""
CALIBRATION_CATCH_HZ = 20e9
"""A calibration further off than this is refused."""
DAY_S = 86400.0
CH = r"(\d{1,3})"


@dataclass
class Channel:
    """One input of the fibre switch.

    source:      optical frequency of the light in Hz, or None when there is none
    per_ms:      pattern height, relative to saturation, that 1 ms of exposure gives
    forced:      a state code to show whatever comes in (0 for none)
    """

    source: Callable[[], float | None]
    per_ms: float = 0.05
    exposure_ms: int = 12
    auto: bool = True
    forced: int = 0
    reading_hz: float = NO_VALUE
    """The reading taken last: a frequency, or a state code."""
    taken_s: float = -math.inf


class SimHighFinesse(LineInstrument):
    """A WS8 with one source per channel.

    sources:  for each fibre the frequency of its light in Hz, or None while it is dark
    """

    request_end: ClassVar[bytes] = b"\n"
    reply_end: ClassVar[bytes] = b"\r\n"
    longest_line: ClassVar[int] = 256

    def __init__(
        self,
        sources: Sequence[Callable[[], float | None]],
        now: Callable[[], float],
        rng: np.random.Generator,
        *,
        noise_hz: float = 0.4e6,
        offset_hz: float = 0.0,
        drift_hz_per_k: float = 2e6,
    ) -> None:
        super().__init__()
        if not 1 <= len(sources) <= 8:
            raise ValueError(f"a fibre switch has one to eight channels, not {len(sources)}")
        self.channels = [Channel(source) for source in sources]
        self._now = now
        self._rng = rng
        self.noise_hz = noise_hz
        self.offset_hz = offset_hz
        """How far readings are off at the reference temperature; a calibration changes it."""
        self.drift_hz_per_k = drift_hz_per_k
        self.running = True
        self.switching = True
        self.active = 1
        self.sensors_work = True

    def session(self, port: str, send: Send) -> Session:
        """A client, greeted with 200."""
        return GreetedSession(self, send)

    def own_faults(self) -> dict[str, Callable[[], None]]:
        """Readings that are not good, on all channels, and back."""
        codes = {"no_signal": NO_SIGNAL, "bad_signal": BAD_SIGNAL, "under_exposed": LOW_SIGNAL}
        codes |= {"over_exposed": BIG_SIGNAL, "good_signal": 0}
        return {name: lambda code=code: self.force(code) for name, code in codes.items()}

    def force(self, code: int, channel: int = 0) -> None:
        """Show a state code instead of a reading on one channel (0: on all); code 0 ends it."""
        for number, held in enumerate(self.channels, 1):
            if channel in (0, number):
                held.forced, held.taken_s = code, -math.inf

    def temperature_c(self) -> float:
        """Temperature of the optical unit, with the day's swing of the room."""
        return 25.2 + 0.4 * math.sin(2 * math.pi * self._now() / DAY_S)

    def answer(self, line: str) -> str | None:
        """The reply to one line; nothing to an empty one."""
        return super().answer(re.sub(r"\s*([ ,])\s*", r"\1", line.strip())) if line.strip() else None

    def unknown(self, line: str) -> str:
        """What nobody understands."""
        return "unknown command"

    @on("getVersion")
    def version(self) -> str:
        """Type, serial number, revision, software."""
        return "8,1234,5,6"

    @on("getChannelCount")
    def channel_count(self) -> str:
        """Channels with a fibre."""
        return str(len(self.channels))

    @on(rf"getFrequencyNum {CH}")
    def frequency(self, channel: str) -> str:
        """THz, or a state code."""
        hertz = self._measure(channel)
        return f"{hertz / 1e12:.9f}" if hertz > 0 else str(round(hertz))

    @on(rf"getWavelengthNum {CH}")
    def wavelength(self, channel: str) -> str:
        """Vacuum wavelength in nm, or a state code."""
        hertz = self._measure(channel)
        return f"{LIGHT_M_S / hertz * 1e9:.9f}" if hertz > 0 else str(round(hertz))

    @on("getTemperature")
    def temperature(self) -> str:
        """Temperature in degC, or a code."""
        return f"{self.temperature_c():.2f}" if self.sensors_work else "-1006"

    @on("getPressure")
    def pressure(self) -> str:
        """Pressure in mbar, which goes with the weather, or a code."""
        weather = 1.5 * math.sin(2 * math.pi * self._now() / (3 * DAY_S))
        return f"{953.0 + weather:.1f}" if self.sensors_work else "-1006"

    @on(rf"getExposureNum {CH},([12])")
    def exposure(self, channel: str, ccd: str) -> str:
        """Exposure in ms."""
        held = self._channel(channel)
        return str(NO_CHANNEL if held is None else held.exposure_ms)

    @on(rf"setExposureNum {CH},([12]),(\d+)")
    def set_exposure(self, channel: str, ccd: str, ms: str) -> str:
        """Exposure in ms."""
        held = self._channel(channel)
        if held is None or not SHORTEST_MS <= int(ms) <= LONGEST_MS:
            return str(OUT_OF_RANGE)
        held.exposure_ms, held.taken_s = int(ms), -math.inf
        return "0"

    @on(rf"getAutoExposureNum {CH}")
    def auto_exposure(self, channel: str) -> str:
        """0 or 1."""
        held = self._channel(channel)
        return str(NO_CHANNEL if held is None else int(held.auto))

    @on(rf"setAutoExposureNum {CH},([01])")
    def set_auto_exposure(self, channel: str, on: str) -> str:
        """0 or 1."""
        held = self._channel(channel)
        if held is None:
            return str(OUT_OF_RANGE)
        held.auto = on == "1"
        return "0"

    @on("[gs]etSwitchMode")
    def switch_mode(self) -> str:
        """0 or 1."""
        return str(int(self.switching))

    @on("setSwitchMode ([01])")
    def set_switch_mode(self, on: str) -> str:
        """0 or 1."""
        self.switching = on == "1"
        return "0"

    @on("[gs]etActiveChannel")
    def active_channel(self) -> str:
        """Number of the channel that is measured when not switching."""
        return str(self.active)

    @on(rf"setActiveChannel {CH}")
    def set_active_channel(self, channel: str) -> str:
        """Number of the channel."""
        if self._channel(channel) is None:
            return str(OUT_OF_RANGE)
        self.active = int(channel)
        return "0"

    @on("startDevice")
    def start(self) -> str:
        """Measure."""
        self.running = True
        return "0"

    @on("closeDevice")
    def stop(self) -> str:
        """Stop measuring."""
        self.running = False
        return "0"

    @on(rf"calibration ([0-4]),([-+.\deE]+),{CH}")
    def calibration(self, unit: str, value: str, channel: str) -> str:
        """Shift all readings so that this channel reads the given value."""
        held = self._channel(channel)
        given_hz = _frequency_hz(int(unit), value)
        if held is None or given_hz is None:
            return str(OUT_OF_RANGE)
        reading_hz = self._measure(channel)
        if reading_hz <= 0 or abs(given_hz - reading_hz) > CALIBRATION_CATCH_HZ:
            return str(NOT_SET)
        self.offset_hz += given_hz - reading_hz
        for other in self.channels:
            other.taken_s = -math.inf
        return "0"

    def _channel(self, number: str) -> Channel | None:
        return self.channels[int(number) - 1] if 1 <= int(number) <= len(self.channels) else None

    def _measure(self, number: str) -> float:
        """The channel's newest reading, Hz, or its state code; a new one is taken once per cycle of the switch."""
        channel = self._channel(number)
        if channel is None:
            return NO_CHANNEL
        if not self.running:
            return NOT_RUNNING
        if not self.switching and int(number) != self.active:
            return NO_VALUE
        now_s = self._now()
        if now_s - channel.taken_s >= self.cycle_s():
            channel.reading_hz, channel.taken_s = self._look(channel), now_s
        return channel.reading_hz

    def cycle_s(self) -> float:
        """Time between two readings of the same channel, s."""
        seen = self.channels if self.switching else [self.channels[self.active - 1]]
        return sum(channel.exposure_ms * 1e-3 + SETTLE_S for channel in seen)

    def _look(self, channel: Channel) -> float:
        true_hz = channel.source()
        if channel.forced:
            return channel.forced
        if true_hz is None:
            return NO_SIGNAL
        if channel.auto:
            channel.exposure_ms = min(LONGEST_MS, max(SHORTEST_MS, round(BEST / channel.per_ms)))
        height = channel.per_ms * channel.exposure_ms
        if height < TOO_LITTLE:
            return LOW_SIGNAL
        if height > TOO_MUCH:
            return BIG_SIGNAL
        error_hz = self.offset_hz + self.drift_hz_per_k * (self.temperature_c() - 25.2)
        return true_hz + error_hz + self.noise_hz * self._rng.standard_normal()


class GreetedSession(LineSession):
    """Says 200 first."""

    def connected(self) -> None:
        """The greeting."""
        self.send(b"200\r\n")


def _frequency_hz(unit: int, text: str) -> float | None:
    """A calibration value (0, 1 nm; 2 THz; 3 1/cm; 4 eV) as a frequency; None if it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    if not (math.isfinite(value) and 1e-6 < value < 1e9):
        return None
    air = 1.00027  # refractive index, good enough for a calibration that only has to be near
    return {
        0: LIGHT_M_S / (value * 1e-9),
        1: LIGHT_M_S / (value * 1e-9 * air),
        2: value * 1e12,
        3: value * 100 * LIGHT_M_S,
        4: value / 4.135667696e-15,
    }[unit]


def demo(now: Callable[[], float]) -> SimHighFinesse:
    """Eight fibres, all lit, from 400 to 750 THz."""
    return SimHighFinesse([lambda n=n: 400e12 + n * 50e12 for n in range(8)], now, np.random.default_rng(1))
