"""A simulated TimeBase DIM3000: its serial line over one RF channel of the world, ten commands a second (DEVICES.md 3.3).

The card leaves open what a value out of range does (here: ``error``, or nothing with ``refuses_quietly``) and how many
commands wait their turn (here 8; more are lost).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from labctl.sim.instrument import LineInstrument, LineSession, Send, Session, on
from simulated_hw.world.parts import RfChannel

MOST_WAITING = 8
RANGES: dict[str, tuple[int, int]] = {
    "freq": (10, 400_000_000),
    "ampl": (0, 340),
    "out": (0, 1),
    "pmon": (0, 1),
    "pmfr": (0, 1_000_000),
    "pmd": (0, 360),
    "pmphc": (0, 1),
    "swpm": (0, 4),
    "swps": (10, 400_000_000),
    "swpp": (10, 400_000_000),
    "swpf": (10, 400_000_000),
    "swpt": (4, 262_000),
    "fmon": (0, 1),
    "fmdev": (0, 15),
    "plson": (0, 1),
    "plsfr": (20, 1000),
    "plsdt": (1, 99),
    "ffreq": (10, 400_000_000),
    "fampl": (0, 340),
    "amoffs": (-255, 25),
}
"""What can be set, in the order of ``Gpar``, with its range."""
TRIANGLE, SAWTOOTH = 1, 3
"""Sweep modes that run by themselves."""


class SimTimebaseDim3000(LineInstrument):
    """A DIM3000 that drives one AOM.

    now:        the world's time, s
    spacing_s:  how long it is busy with one command, s
    """

    longest_line: ClassVar[int] = 64

    def __init__(
        self,
        rf: RfChannel,
        now: Callable[[], float],
        rng: np.random.Generator,
        *,
        spacing_s: float = 0.1,
        device: str = "ADRV4",
        serial: str = "111111",
    ) -> None:
        super().__init__()
        self.rf = rf
        self._now = now
        self._rng = rng
        self.spacing_s = spacing_s
        self.device, self.serial = device, serial
        self.refuses_quietly = False
        self.free_at_s = 0.0
        self.lost = 0
        """Commands that came while too many were waiting."""
        self._sweep_since_s = 0.0
        self.values = {name: max(0, lowest) for name, (lowest, _) in RANGES.items()}
        self.values |= {"freq": round(rf.frequency_hz), "ampl": max(0, round(rf.power_dbm * 10))}
        self.values |= {"out": int(rf.signal_on), "swpp": 100_000_000, "swpf": 1000, "plsdt": 50}
        self.drive()

    def own_faults(self) -> dict[str, Callable[[], None]]:
        """Values out of range taken without a word, or refused again."""
        return {
            "refuse_quietly": lambda: setattr(self, "refuses_quietly", True),
            "refuse_loudly": lambda: setattr(self, "refuses_quietly", False),
        }

    def session(self, port: str, send: Send) -> Session:
        """A client."""
        return DimSession(self, send)

    def now(self) -> float:
        """The world's time, s."""
        return self._now()

    def drive(self) -> None:
        """Give the channel what the settings say."""
        v = self.values
        self.rf.frequency_hz = self._frequency_hz()
        self.rf.power_dbm = v["ampl"] / 10
        self.rf.signal_on = self.rf.amplifier_on = v["out"] == 1

    def unknown(self, line: str) -> str:
        """A line it does not understand."""
        return "error"

    @on("Gdev")
    def get_device(self) -> str:
        """Kind, versions, serial number."""
        return f"Rdev:{self.device}|Rhv:4|Rfv:5|Rfb:168|Rsn:{self.serial}"

    @on("Ginit")
    def get_initial(self) -> str:
        """Limits found at power-up."""
        return "Ramoffsmin:-255|Ramoffsmax:25|Ramoffsnom:0|Rinit:1"

    @on("Gpar")
    def get_parameters(self) -> str:
        """All settings and measurements."""
        celsius = 38.5 + 0.1 * self._rng.standard_normal()
        measured = {"pcbtemp": round(celsius * 100), "refstat": 1, "reflev": -3, "vcclev": 2400}
        return "|".join(f"R{name}:{value}" for name, value in (self.values | measured).items())

    @on(r"S([a-z]+):(-?\d{1,9})")
    def set_parameter(self, name: str, text: str) -> str | None:
        """Change a setting; nothing is answered."""
        if name not in RANGES:
            return "error"
        lowest, highest = RANGES[name]
        if not lowest <= int(text) <= highest:
            return None if self.refuses_quietly else "error"
        self.values[name] = int(text)
        if name == "swpm":
            self._sweep_since_s = self._now()
        self.drive()
        return None

    def _frequency_hz(self) -> float:
        v = self.values
        steps = (v["swpp"] - v["swps"]) // v["swpf"]
        if v["swpm"] not in (TRIANGLE, SAWTOOTH) or steps < 1:
            return float(v["freq"])
        step = int((self._now() - self._sweep_since_s) / (v["swpt"] * 1e-9))
        if v["swpm"] == SAWTOOTH:
            return float(v["swps"] + v["swpf"] * (step % (steps + 1)))
        return float(v["swps"] + v["swpf"] * (steps - abs(steps - step % (2 * steps))))


class DimSession(LineSession):
    """Keeps commands waiting while the instrument is busy; a busy instrument with too many of them loses the rest."""

    def __init__(self, instrument: SimTimebaseDim3000, send: Send) -> None:
        super().__init__(instrument, send)
        self.dim = instrument
        self._waiting: deque[bytes] = deque()

    def receive(self, data: bytes) -> None:
        """Bytes from the client."""
        self._buffer += data
        for line in re.findall(rb"[^\n]*\n", bytes(self._buffer)):
            del self._buffer[: len(line)]
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(line)
            else:
                self.dim.lost += 1
        if len(self._buffer) > self.dim.longest_line:
            self._buffer.clear()
        self.tick(self.dim.now())

    def tick(self, now_s: float) -> None:
        """Do what has waited long enough, and let a sweep go on."""
        while self._waiting and self.dim.now() >= self.dim.free_at_s:
            line = self._waiting.popleft().decode("latin-1").strip("\r\n")
            self.dim.free_at_s = self.dim.now() + self.dim.spacing_s
            reply = self.dim.answer(line)
            if reply is not None:
                self.send(reply.encode("latin-1") + self.dim.reply_end)
        if self.dim.values["swpm"]:
            self.dim.drive()


def demo(now: Callable[[], float]) -> SimTimebaseDim3000:
    """A driver of one AOM, that is quicker than a real one."""
    return SimTimebaseDim3000(RfChannel(), now, np.random.default_rng(1), spacing_s=0.02)
