"""A simulated Single Quantum Atlas: nanowires of the world behind the WebSQ control and counts lines.

Wire: DEVICES.md section 3.6. Not known from a manual and chosen here: the labels of errors ("ErrorMessage"), broadcasts
to every client, dark counts in counts per second, and that a setting ends the automatic bias.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

from labctl.clock import wall_time
from labctl.sim.instrument import Send, Session, SimInstrument
from simulated_hw.world.parts import Nanowire

UA, MV, MS = 1e-6, 1e-3, 1e-3
ETB = b"\x17"
PERIOD_BOUNDS_MS = (1.0, 60_000.0)
TRIGGER_BOUNDS_MV = (-1000.0, 1000.0)
LARGEST_BIAS_UA = 60.0
LINES_KEPT = 1000
"""A client that falls further behind than this many periods loses the oldest, as one that does not read."""
LONGEST = 1 << 16


class SimAtlas(SimInstrument):
    """An Atlas with its nanowires.

    nanowires:    the detectors, in the order of their numbers
    counts:       asks the world for the clicks of each detector between two of its times, s
    now:          the world's time, s
    epoch_s:      wall-clock time (s since 1970) of ``now() == 0``; by default such that it shows the time of day
    auto_bias_s:  how long the automatic bias takes, s of the world
    """

    ports: ClassVar[tuple[str, ...]] = ("control", "counts")

    def __init__(
        self,
        nanowires: Sequence[Nanowire],
        counts: Callable[[float, float], list[int]],
        now: Callable[[], float],
        *,
        epoch_s: float | None = None,
        auto_bias_s: float = 5.0,
        resistance_ohm: float = 50.0,
        latched_resistance_ohm: float = 5000.0,
    ) -> None:
        super().__init__()
        self.nanowires = [*nanowires]
        self._counts = counts
        self._now = now
        self._epoch_s = wall_time() - now() if epoch_s is None else epoch_s
        self._auto_bias_s = auto_bias_s
        self._resistances_ohm = resistance_ohm, latched_resistance_ohm
        self.period_s = 0.1
        self.glued = False
        """Fault seen in the field: messages follow each other with nothing between them."""
        self._dark_counts = [10.0] * len(self.nanowires)
        self._auto_bias_ends_s: float | None = None
        self._controls: list[ControlSession] = []
        self._readers: list[CountsSession] = []
        self._period_began_s = 0.0
        self._commands: dict[str, Callable[[Any], str]] = {
            "SetMeasurementPeriod": self._set_period,
            "SetAllBiasCurrents": self._set_bias,
            "SetAllTriggerLevels": self._set_trigger,
            "DetectorEnable": self._set_enabled,
            "DarkCountsAutoIV": self._set_dark_counts,
            "AutoCaliBiasCurrents": self._start_auto_bias,
        }

    def session(self, port: str, send: Send) -> Session:
        """A client of the control or of the counts line."""
        return CountsSession(self, send) if port == "counts" else ControlSession(self, send)

    def own_faults(self) -> dict[str, Callable[[], None]]:
        """A latched first nanowire."""
        return {"latch": self.latch}

    def latch(self, detector: int = 1) -> None:
        """Fault: a nanowire stays normal-conducting and counts nothing until its bias has been zero."""
        self.nanowires[detector - 1].latched = True

    def glue(self, on: bool = True) -> None:
        """Fault: messages of the control line without the byte between them."""
        self.glued = on

    def broadcast(self, label: str, value: object) -> None:
        """A message to every client of the control line."""
        for client in self._controls:
            client.tell(label, value)

    # the control line
    def labels(self) -> dict[str, tuple[object, str, object]]:
        """Value, unit and bounds of every label."""
        highest_ua = min(LARGEST_BIAS_UA, 2 * max(wire.critical_bias_a for wire in self.nanowires) / UA)
        return {
            "NumberOfDetectors": (len(self.nanowires), "", None),
            "InptMeasurementPeriod": (round(self.period_s / MS, 6), "ms", [*PERIOD_BOUNDS_MS]),
            "BiasCurrent": ([round(wire.bias_a / UA, 4) for wire in self.nanowires], "uA", [0.0, highest_ua]),
            "TriggerLevel": (
                [round(wire.trigger_v / MV, 4) for wire in self.nanowires],
                "mV",
                [*TRIGGER_BOUNDS_MV],
            ),
            "BiasVoltage": ([self._voltage_mv(wire) for wire in self.nanowires], "mV", None),
            "DetectorEnable": (all(wire.enabled for wire in self.nanowires), "", None),
            "DarkCountsAutoIV": (self._dark_counts, "", None),
            "StartAutoIV": (self._auto_bias_ends_s is not None, "", None),
        }

    def handle(self, message: dict[str, Any], client: ControlSession) -> None:
        """Do what one message of a client says."""
        self.advance()
        request, command = str(message.get("request")), str(message.get("command"))
        labels = self.labels()
        if request == "labelProps":
            for label, (value, unit, bounds) in labels.items():
                client.tell(label, {"value": value, "unit": unit, "bounds": bounds})
        elif request in labels:
            client.tell(request, labels[request][0])
        elif command in self._commands:
            problem = self._commands[command](message.get("value"))
            if problem:
                self.broadcast("ErrorMessage", f"{command}: {problem}")
        else:
            self.broadcast("ErrorMessage", f"unknown message {json.dumps(message)[:80]}")

    def advance(self) -> None:
        """End an automatic bias whose time has come."""
        if self._auto_bias_ends_s is None or self._now() < self._auto_bias_ends_s:
            return
        self._auto_bias_ends_s = None
        for wire, wanted_hz in zip(self.nanowires, self._dark_counts, strict=True):
            _find_bias(wire, wanted_hz)
        self._show("BiasCurrent", "StartAutoIV")

    def _show(self, *labels: str) -> None:
        now = self.labels()
        for label in labels:
            self.broadcast(label, now[label][0])

    def _voltage_mv(self, wire: Nanowire) -> float:
        superconducting_ohm, latched_ohm = self._resistances_ohm
        flows = wire.bias_a if wire.enabled else 0.0
        return round(flows * (latched_ohm if wire.latched else superconducting_ohm) / MV, 4)

    def _per_detector(self, value: Any, low: float, high: float) -> list[float] | None:
        """One number per detector within bounds."""
        values = cast("list[Any]", value if isinstance(value, list) else [value])
        if len(values) != len(self.nanowires) or not all(_is_number(v) and low <= v <= high for v in values):
            return None
        return [float(v) for v in values]

    def _set_period(self, value: Any) -> str:
        if not _is_number(value) or not PERIOD_BOUNDS_MS[0] <= value <= PERIOD_BOUNDS_MS[1]:
            return f"{value!r} is no period in ms"
        self.send_counts()
        self.period_s = value * MS
        self._period_began_s = self._now()
        self._show("InptMeasurementPeriod")
        return ""

    def _set_bias(self, value: Any) -> str:
        highest = cast("list[float]", self.labels()["BiasCurrent"][2])[1]
        values = self._per_detector(value, 0.0, highest)
        if values is None:
            return f"{value!r} is not {len(self.nanowires)} currents of 0 to {highest:g} uA"
        self._stop_auto_bias()
        for wire, bias_ua in zip(self.nanowires, values, strict=True):
            wire.bias_a = bias_ua * UA
            self._settle(wire)
        self._show("BiasCurrent")
        return ""

    def _set_trigger(self, value: Any) -> str:
        values = self._per_detector(value, *TRIGGER_BOUNDS_MV)
        if values is None:
            return f"{value!r} is not {len(self.nanowires)} levels in mV"
        for wire, level_mv in zip(self.nanowires, values, strict=True):
            wire.trigger_v = level_mv * MV
        self._show("TriggerLevel")
        return ""

    def _set_enabled(self, value: Any) -> str:
        if not isinstance(value, bool):
            return f"{value!r} is neither true nor false"
        if not value:
            self._stop_auto_bias()
        for wire in self.nanowires:
            wire.enabled = value
            self._settle(wire)
        self._show("DetectorEnable")
        return ""

    @staticmethod
    def _settle(wire: Nanowire) -> None:
        """A wire driven beyond its critical current latches, and recovers only without current."""
        if not wire.enabled or wire.bias_a <= 0:
            wire.latched = False
        elif wire.bias_a >= wire.critical_bias_a:
            wire.latched = True

    def _set_dark_counts(self, value: Any) -> str:
        values = self._per_detector(value, 0.0, 1e9)
        if values is None:
            return f"{value!r} is not {len(self.nanowires)} numbers of dark counts"
        self._dark_counts = values
        self._show("DarkCountsAutoIV")
        return ""

    def _start_auto_bias(self, value: Any) -> str:
        if value is not True:
            return f"{value!r} is not true"
        if not all(wire.enabled for wire in self.nanowires):
            return "the detectors are off"
        for wire in self.nanowires:  # the sweep begins without current
            wire.bias_a = 0.0
            self._settle(wire)
        self._auto_bias_ends_s = self._now() + self._auto_bias_s
        self._show("StartAutoIV")
        return ""

    def _stop_auto_bias(self) -> None:
        if self._auto_bias_ends_s is not None:
            self._auto_bias_ends_s = None
            self._show("StartAutoIV")

    # the counts line
    def send_counts(self) -> None:
        """A line to every reader for every measurement period that has ended."""
        now_s = self._now()
        behind = math.floor((now_s - self._period_began_s) / self.period_s + 1e-9)
        if behind > LINES_KEPT:
            self._period_began_s += (behind - LINES_KEPT) * self.period_s
            behind = LINES_KEPT
        for _ in range(behind):
            end_s = self._period_began_s + self.period_s
            clicks = self._counts(self._period_began_s, end_s)
            self._period_began_s = end_s
            line = ",".join([f"{self._epoch_s + end_s:.3f}", *(str(count) for count in clicks)])
            for reader in self._readers:
                reader.send(line.encode() + b"\n")

    def join(self, client: Session) -> None:
        """A client has connected. The first reader starts the counting."""
        if isinstance(client, CountsSession):
            if self._readers:
                self.send_counts()
            else:
                self._period_began_s = self._now()
            self._readers.append(client)
        elif isinstance(client, ControlSession):
            self._controls.append(client)

    def leave(self, client: Session) -> None:
        """A client has gone."""
        self._readers = [reader for reader in self._readers if reader is not client]
        self._controls = [control for control in self._controls if control is not client]


class ControlSession(Session):
    """A client of the control line: cuts JSON objects out of what it sends."""

    def __init__(self, atlas: SimAtlas, send: Send) -> None:
        super().__init__(send)
        self.atlas = atlas
        self._buffer = ""

    def connected(self) -> None:
        """From now on it hears broadcasts."""
        self.atlas.join(self)

    def disconnected(self) -> None:
        """No broadcasts any more."""
        self.atlas.leave(self)

    def tick(self, now_s: float) -> None:
        """The automatic bias may have ended."""
        self.atlas.advance()

    def tell(self, label: str, value: object) -> None:
        """Send one message."""
        message = json.dumps({"label": label, "value": value}).encode()
        self.send(message if self.atlas.glued else message + ETB)

    def receive(self, data: bytes) -> None:
        """Handle every complete object; keep half of one for later; say what was garbage."""
        self._buffer += data.decode("latin-1")
        decoder = json.JSONDecoder()
        garbage = ""
        while self._buffer:
            at = self._buffer.find("{")
            garbage += self._buffer[:at] if at >= 0 else self._buffer
            self._buffer = self._buffer[at:] if at >= 0 else ""
            try:
                message, end = decoder.raw_decode(self._buffer)
            except (ValueError, RecursionError):
                if not self._buffer or _is_unfinished(self._buffer):
                    break
                garbage, self._buffer = garbage + "{", self._buffer[1:]
                continue
            self._buffer = self._buffer[end:]
            self.atlas.handle(cast("dict[str, Any]", message), self)
        if garbage.strip(" \r\n\t\x17"):
            self.atlas.broadcast("ErrorMessage", f"not JSON: {garbage.strip()[:40]!r}")


class CountsSession(Session):
    """A client of the counts line: only listens."""

    def __init__(self, atlas: SimAtlas, send: Send) -> None:
        super().__init__(send)
        self.atlas = atlas

    def connected(self) -> None:
        """Lines come from the next end of a period."""
        self.atlas.join(self)

    def disconnected(self) -> None:
        """No more lines."""
        self.atlas.leave(self)

    def receive(self, data: bytes) -> None:
        """What a client says here is not heard."""

    def tick(self, now_s: float) -> None:
        """Send the lines that are due."""
        self.atlas.send_counts()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def _is_unfinished(text: str) -> bool:
    """Whether an object that begins here may still end: its braces are open and it is not endless."""
    depth, in_text, escaped = 0, False, False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\x17":
            return False
        elif in_text:
            escaped, in_text = character == "\\", character != '"'
        elif character == '"':
            in_text = True
        else:
            depth += (character in "{[") - (character in "}]")
            if depth <= 0:
                return False
    return len(text) < LONGEST


def _find_bias(wire: Nanowire, wanted_hz: float) -> None:
    """Set the bias at which a wire shows so many dark counts, below its critical current."""
    low_a, high_a = 0.0, 0.98 * wire.critical_bias_a
    for _ in range(40):
        wire.bias_a = (low_a + high_a) / 2
        if wire.dark_hz() < wanted_hz:
            low_a = wire.bias_a
        else:
            high_a = wire.bias_a


def demo(now: Callable[[], float]) -> SimAtlas:
    """Two nanowires in the dark."""
    wires = [Nanowire(), Nanowire()]
    return SimAtlas(
        wires, lambda begin_s, end_s: [round(w.dark_hz() * (end_s - begin_s)) for w in wires], now
    )
