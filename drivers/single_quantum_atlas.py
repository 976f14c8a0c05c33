"""Single Quantum Atlas (WebSQ): bias, trigger level and counts of superconducting nanowire detectors.

The address is the control line with the counts line as an option: ``tcp://host:12000?counts=12345``. Source:
DEVICES.md section 3.6. The labels of errors and the unit of the dark counts that the automatic bias aims at are not
known from a manual: any label with ``Error`` in it counts as a refusal, dark counts are passed on as given.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

from drivers.websq import ControlLine, CountsLine
from labctl.device import Device, action
from labctl.errors import BadAnswerError, ConfigError, DeviceError, LimitError, NoAnswerError, RefusedError
from labctl.signal import Limits, Signal
from labctl.transport import Transport

UA, MV, MS = 1e-6, 1e-3, 1e-3
BIAS_LIMITS_A = (0.0, 60e-6)
"""Beyond any nanowire's critical current; the instrument's own bounds and the lab file narrow it."""
TRIGGER_LIMITS_V = (-1.0, 1.0)
PERIOD_LIMITS_S = (1e-3, 60.0)
STARTS_WITHIN_S = 5.0
"""The automatic bias must report that it runs within this time, s."""
POLL_S = 0.1


def _is_near(kept: list[float], wanted: list[float]) -> bool:
    """Whether the instrument kept what was set, within the steps of its converters (wire units)."""
    return len(kept) == len(wanted) and all(
        math.isclose(k, w, rel_tol=0.01, abs_tol=0.05) for k, w in zip(kept, wanted, strict=True)
    )


def _numbers(
    label: str, scale: float, command: str, outer: Limits, unit: str, doc: str
) -> Signal[list[float]]:
    """A signal with one number per detector; ``scale`` is SI per wire unit."""

    def read(device: SingleQuantumAtlas) -> list[float]:
        return device.tidy(device.numbers(label), scale)

    def write(device: SingleQuantumAtlas, values: list[float]) -> None:
        device.one_each(label, values)
        device.apply(command, label, [float(f"{value / scale:.9g}") for value in values])

    def limits(device: SingleQuantumAtlas) -> Limits:
        return device.limits_of(label, scale, outer)

    return Signal(
        list[float],
        unit,
        read=read,
        write=write if command else None,
        limits=limits if command else None,
        poll_s=5.0,
        doc=f"{doc} ({label})",
    )


class SingleQuantumAtlas(Device):
    """An Atlas or EOS driver with its nanowires.

    detectors:       how many it has
    latch_window_s:  a biased detector that counts nothing for this long is taken to be latched, s; must be several
                     times the mean time between dark counts
    """

    manual = "WebSQ protocol, DEVICES.md section 3.6"
    checked_with = "qcodes_contrib_drivers 0.24.1 WebSQControlqcode against the same simulated instrument"
    timeout_s = 2.0

    bias = _numbers(
        "BiasCurrent", UA, "SetAllBiasCurrents", BIAS_LIMITS_A, "A", "bias currents, one per detector"
    )
    trigger_level = _numbers(
        "TriggerLevel",
        MV,
        "SetAllTriggerLevels",
        TRIGGER_LIMITS_V,
        "V",
        "comparator levels, one per detector",
    )
    bias_voltage = Signal(
        list[float],
        "V",
        read=lambda device: device.read_bias_voltage(),
        poll_s=5.0,
        doc="voltages over the nanowires (BiasVoltage)",
    )
    enabled = Signal(
        bool,
        read=lambda device: device.read_enabled(),
        write=lambda device, on: device.apply("DetectorEnable", "DetectorEnable", on),
        poll_s=2.0,
        doc="whether the detectors are switched on (DetectorEnable)",
    )
    measurement_period = Signal(
        float,
        "s",
        read=lambda device: device.read_period(),
        write=lambda device, period_s: device.apply(
            "SetMeasurementPeriod", "InptMeasurementPeriod", float(f"{period_s / MS:.9g}")
        ),
        limits=PERIOD_LIMITS_S,
        doc="time that each line of counts is taken over (InptMeasurementPeriod)",
    )
    count_rate = Signal(
        list[float],
        "Hz",
        read=lambda device: device.read_count_rate(),
        poll_s=1.0,
        doc="counts of the newest complete measurement period over its length, one per detector",
    )
    detectors = Signal(
        int, read=lambda device: device.read_detectors(), doc="number of detectors (NumberOfDetectors)"
    )
    last_error = Signal(
        str,
        read=lambda device: device.read_last_error(),
        poll_s=5.0,
        doc='what the instrument reported last without being asked, "" for nothing',
    )

    def __init__(
        self, transport: Transport, name: str = "", detectors: int = 2, latch_window_s: float = 10.0
    ) -> None:
        super().__init__(transport, name)
        if detectors < 1 or latch_window_s <= 0:
            raise ConfigError(
                f"{self.name}: detectors = {detectors} and latch_window_s = {latch_window_s:g} must be positive"
            )
        self.expected = detectors
        self.latch_window_s = latch_window_s
        self.control = ControlLine(transport, self.timeout_s)
        self._line: CountsLine | None = None
        self._period_s = 0.0
        """Measurement period of the lines in ``_seen``."""
        self._burst: dict[str, Any] | None = None
        """All labels, while several signals are read."""
        self._seen: deque[list[int]] = deque(maxlen=100_000)

    def open(self) -> None:
        """Connect and check the number of detectors."""
        self.transport.open()
        try:
            found = self.read_detectors()
            if found != self.expected:
                raise RefusedError(
                    f"{self.transport.where}: has {found} detectors, expected {self.expected}; set `detectors` in the lab file"
                )
        except DeviceError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of both lines."""
        if self._line is not None:
            self._line.close()
        self.transport.close()

    def identity(self) -> str:
        """The protocol has no name to ask for: maker and number of detectors."""
        return f"Single Quantum WebSQ, {self.read_detectors()} detectors"

    def ask_ahead(self, names: Sequence[str]) -> None:
        """All labels come in one burst."""
        if {*names} - {"last_error", "count_rate"}:
            self._burst = {**self.control.all_labels()}

    def forget(self) -> None:
        """The next reading asks again."""
        self._burst = None

    def not_ready(self) -> str:
        """Off, without bias, latched, or what a setting is off by."""
        if not self.read_enabled():
            return "the detectors are off"
        bias = self.bias.get()
        if unbiased := [str(k) for k, value in enumerate(bias, 1) if value <= 0]:
            return f"no bias on detector {', '.join(unbiased)}"
        self.read_count_rate()
        if latched := self._silent_detectors():
            return (
                f"detector {', '.join(map(str, latched))} counted nothing for {self.latch_window_s:g} s with"
                f" {bias[latched[0] - 1] / UA:.3g} uA bias: latched? set its bias to zero and back"
            )
        return super().not_ready()

    @action
    def safe(self) -> None:
        """Bias to zero, then detectors off; the second also if the first fails."""
        try:
            self.apply("SetAllBiasCurrents", "BiasCurrent", [0.0] * self.expected)
        finally:
            self.apply("DetectorEnable", "DetectorEnable", False)

    @action
    def auto_bias(self, dark_counts: list[float], timeout_s: float = 300.0) -> list[float]:
        """Let the instrument find the bias that gives these dark counts, one per detector; returns the bias in A.

        No light may reach the detectors. The unit of ``dark_counts`` is the instrument's own (not documented; counts
        per second in its simulator). NoAnswerError if it still runs after ``timeout_s`` s; it is then left running.
        """
        self.one_each("dark counts", dark_counts)
        if not all(math.isfinite(value) and value > 0 for value in dark_counts):
            raise LimitError(f"{self.name}: dark counts {dark_counts} must be positive; nothing was sent")
        self.apply("DarkCountsAutoIV", "DarkCountsAutoIV", [float(value) for value in dark_counts])
        clock = self.transport.clock
        began_s = clock.now()
        try:
            self.control.command("AutoCaliBiasCurrents", True)
            while not self.control.ask("StartAutoIV"):
                if clock.now() - began_s > STARTS_WITHIN_S:
                    raise RefusedError(
                        f"{self.transport.where}: the automatic bias did not start; are the detectors enabled?"
                    )
                clock.sleep(POLL_S)
        finally:
            self.control.done()
        while self.control.ask("StartAutoIV"):
            if clock.now() - began_s > timeout_s:
                raise NoAnswerError(
                    f"{self.transport.where}: the automatic bias still runs after {timeout_s:g} s; look for light on the detectors"
                )
            clock.sleep(POLL_S)
        self._seen.clear()
        return self.bias.get()

    @action
    def counts(self, seconds: float) -> list[int]:
        """Clicks of each detector in the next ``seconds``, which must be a whole number of measurement periods.

        Counting begins at the first border between two periods after the call.
        """
        period_s = self.read_period()
        periods = round(seconds / period_s) if math.isfinite(seconds) else 0
        if periods < 1 or not math.isclose(periods * period_s, seconds, rel_tol=1e-9):
            raise LimitError(
                f"{self.name}: {seconds:g} s is not a whole number of measurement periods of {period_s:g} s"
            )
        line = self.counts_line()
        line.skip_past()
        lines: list[list[int]] = []
        while len(lines) < 1 + periods:  # the first was running when we were called
            lines += line.next(period_s + self.timeout_s)
        return [sum(each) for each in zip(*lines[1 : 1 + periods], strict=True)]

    def counts_line(self) -> CountsLine:
        """The client of the counts line."""
        if self._line is None:
            transport = self.transport.sibling(self.transport.port_address("counts"))
            self._line = CountsLine(transport, self.expected, self.timeout_s)
        return self._line

    def apply(self, command: str, label: str, value: list[float] | float | bool) -> None:
        """Send a setting and wait until the instrument shows it; RefusedError if it keeps another value."""
        self._seen.clear()
        try:
            self.control.command(command, value, label)
            deadline = self.transport.clock.now() + self.timeout_s
            while not self._shows(label, value):
                if self.transport.clock.now() >= deadline:
                    kept = self.control.labels.get(label)
                    raise RefusedError(
                        f"{self.transport.where}: {command} {value} had no effect: {label} is {kept}"
                    )
                self.control.listen(POLL_S)
        finally:
            self.control.done()

    def numbers(self, label: str) -> list[float]:
        """Value of a label with one number per detector, wire units."""
        return self.one_each(label, self._list(label, self.labels().get(label)), BadAnswerError)

    def one_each(
        self, what: str, values: list[float], error: type[LimitError | BadAnswerError] = LimitError
    ) -> list[float]:
        """``values`` if there is one per detector."""
        if len(values) != self.expected:
            where = self.name if error is LimitError else self.transport.where
            raise error(
                f"{where}: {what} {values} has {len(values)} numbers, expected {self.expected}, one per detector"
            )
        return values

    @staticmethod
    def tidy(values: list[float], scale: float) -> list[float]:
        """Wire units to SI without the dust of a change of unit."""
        return [float(f"{value * scale:.12g}") for value in values]

    def limits_of(self, label: str, scale: float, outer: Limits) -> Limits:
        """The driver's limits and, where it gave a pair of numbers, the instrument's bounds, in SI."""
        match self.control.bounds.get(label):
            case [int() | float() as low, int() | float() as high] if low < high:
                return max(outer[0], low * scale), min(outer[1], high * scale)
            case _:
                return outer

    def labels(self) -> dict[str, Any]:
        """The values of all labels, asked anew unless they were asked ahead."""
        return self.control.all_labels() if self._burst is None else self._burst

    def read_detectors(self) -> int:
        """Number of detectors."""
        return int(self._number("NumberOfDetectors"))

    def read_enabled(self) -> bool:
        """Whether the detectors are on; one off is off."""
        return self._truth("DetectorEnable", self.labels().get("DetectorEnable"))

    def read_bias_voltage(self) -> list[float]:
        """Voltages over the nanowires, V."""
        known = self._burst or {}
        value = known["BiasVoltage"] if "BiasVoltage" in known else self.control.ask("BiasVoltage")
        voltages = self._list("BiasVoltage", value)
        return self.tidy(self.one_each("BiasVoltage", voltages, BadAnswerError), MV)

    def read_period(self) -> float:
        """Measurement period, s."""
        period_s = self._number("InptMeasurementPeriod") * MS
        if not period_s > 0:
            raise BadAnswerError(f"{self.transport.where}: has a measurement period of {period_s:g} s")
        return float(f"{period_s:.12g}")

    def read_last_error(self) -> str:
        """Newest error message that came unasked."""
        self.control.listen()
        return self.control.errors[-1] if self.control.errors else ""

    def read_count_rate(self) -> list[float]:
        """Counts per second of the newest complete measurement period."""
        self.control.listen()
        known: Any = self.control.labels.get("InptMeasurementPeriod")
        period_s = known * MS if isinstance(known, int | float) and known > 0 else self.read_period()
        line = self.counts_line()
        if period_s != self._period_s:  # the lines that have come, and the next, may be of the old period
            line.skip_past()
            if self._period_s:
                line.next(self._period_s + period_s + self.timeout_s)
            self._seen.clear()
            self._period_s = period_s
        self._seen += line.next(period_s + self.timeout_s)
        return [count / period_s for count in self._seen[-1]]

    def _silent_detectors(self) -> list[int]:
        """Numbers of the detectors that counted nothing during the latch window; none if it has not passed yet."""
        needed = math.ceil(self.latch_window_s / self._period_s - 1e-9)
        if len(self._seen) < min(needed, self._seen.maxlen or needed):
            return []
        window = [*self._seen][-needed:]
        return [k for k in range(1, self.expected + 1) if not any(counts[k - 1] for counts in window)]

    def _shows(self, label: str, value: list[float] | float | bool) -> bool:
        """Whether a label has this value."""
        kept = self.control.all_labels().get(label)
        if isinstance(value, bool):
            return self._truth(label, kept) == value
        return _is_near(self._list(label, kept), value if isinstance(value, list) else [value])

    def _number(self, label: str) -> float:
        values = self._list(label, self.labels().get(label))
        if len(values) != 1:
            raise self._unexpected(label, values, "one number")
        return values[0]

    def _list(self, label: str, value: Any) -> list[float]:
        """A value that comes as a number or a list of numbers."""
        values = cast("list[Any]", value if isinstance(value, list) else [value])
        if any(isinstance(v, bool) or not isinstance(v, int | float) or not abs(v) < 1e300 for v in values):
            raise self._unexpected(label, value, "numbers")
        return [float(v) for v in values]

    def _truth(self, label: str, value: Any) -> bool:
        """A value that comes as true or false, or a list of them; one false is false."""
        values = cast("list[Any]", value if isinstance(value, list) else [value])
        if not values or any(v not in (True, False) for v in values):
            raise self._unexpected(label, value, "true or false")
        return all(values)

    def _unexpected(self, label: str, value: Any, expected: str) -> BadAnswerError:
        self.transport.mark_stale()
        return BadAnswerError(f"{self.transport.where}: {label} is {value!r}, expected {expected}")
