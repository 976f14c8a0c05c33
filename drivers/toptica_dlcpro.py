"""Toptica DLC pro laser controller: current, piezo, temperature, lock and scan of one laser head.

The address is the command line: ``tcp://host:1998?monitor=1999``, or ``serial:///dev/ttyUSB0?baudrate=115200`` (no
monitoring line). Names and types of the parameters: firmware 3.3.3 as in toptica-lasersdk 3.3 (DEVICES.md section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from drivers.decop import CommandLine, Value
from drivers.decop_monitor import Monitor
from labctl.device import Device, action
from labctl.errors import BadAnswerError, ConfigError, DeviceError, LimitError, RefusedError
from labctl.signal import Limits, Signal
from labctl.transport import Transport
from labctl.units import ZERO_CELSIUS_K

T = TypeVar("T", float, int, bool, str)

LOCK_STATES = (
    "idle",
    "scanning",
    "selecting",
    "selected",
    "locking",
    "locked",
    "hold",
    "resetting",
    "reset",
    "relocking",
)
"""Names of ``lock:state`` 0 to 9."""
LOCKED = LOCK_STATES.index("locked")


def _tidy(value: float) -> float:
    """A number without the dust of a change of unit, so that 0.1215 A is sent as 121.5 mA."""
    return float(f"{value:.12g}")


def _parameter(
    kind: type[T], name: str, *, writable: bool = False, poll_s: float | None = None, doc: str = ""
) -> Signal[T]:
    """A signal that is one parameter of the head, as the instrument has it."""

    def read(device: DlcPro) -> T:
        return device.line.get(device.of_head(name), kind)

    def write(device: DlcPro, value: T) -> None:
        device.line.set(device.of_head(name), value)

    return Signal(kind, read=read, write=write if writable else None, poll_s=poll_s, doc=f"{doc} ({name})")


def _number(
    name: str,
    unit: str,
    *,
    written_to: str = "",
    scale: float = 1.0,
    zero: float = 0.0,
    limits: Callable[[Any], Limits] | None = None,
    poll_s: float | None = None,
    tolerance: float | None = None,
    doc: str = "",
) -> Signal[float]:
    """A real parameter in ``unit``: ``value = zero + scale * parameter``; written to ``written_to``, read-only if ""."""

    def read(device: DlcPro) -> float:
        return _tidy(zero + scale * device.line.get(device.of_head(name), float))

    def write(device: DlcPro, value: float) -> None:
        device.line.set(device.of_head(written_to), _tidy((value - zero) / scale))

    return Signal(
        float,
        unit,
        read=read,
        write=write if written_to else None,
        limits=limits,
        poll_s=poll_s,
        tolerance=tolerance,
        doc=f"{doc} ({name})",
    )


def _scan_voltage(name: str, doc: str) -> Signal[float]:
    """Amplitude or offset of the scan in V; refused while the scan drives anything but the piezo."""

    def read(device: DlcPro) -> float:
        unit, value = device.line.get_many((device.of_head("scan:unit"), str), (device.of_head(name), float))
        device.check_scan_unit(unit)
        assert isinstance(value, float)
        return value

    def write(device: DlcPro, value: float) -> None:
        device.check_scan_unit(device.line.get(device.of_head("scan:unit"), str))
        device.line.set(device.of_head(name), value)

    return Signal(float, "V", read=read, write=write, doc=f"{doc} ({name})")


def _current_limits(device: DlcPro) -> Limits:
    """Zero to the current clip, A."""
    return device.limits_asked(("", "dl:cc:current-clip"), scale=1e-3)


def _temperature_limits(device: DlcPro) -> Limits:
    """Lowest and highest temperature setpoint, K."""
    return device.limits_asked(("dl:tc:temp-set-min", "dl:tc:temp-set-max"), zero=ZERO_CELSIUS_K)


def _piezo_limits(device: DlcPro) -> Limits:
    """Lowest and highest piezo voltage, V."""
    return device.limits_asked(("dl:pc:voltage-min", "dl:pc:voltage-max"))


def _write_lock(device: DlcPro, closed: bool) -> None:
    """Enable or disable the lock; where enabling only arms it, close it."""
    device.line.set(device.of_head("dl:lock:lock-enabled"), closed)
    if closed and device.read_lock_state() in ("idle", "scanning", "selecting", "selected"):
        device.line.execute(device.of_head("dl:lock:close"))


class DlcPro(Device):
    """One laser head of a DLC pro.

    transport:  the command line
    laser:      which head, 1 to 4
    """

    manual = "toptica-lasersdk 3.3, parameter tree of firmware 3.3.3"
    checked_with = "toptica-lasersdk 3.3.0 against the same simulated instrument"
    timeout_s = 2.0

    current = _number(
        "dl:cc:current-act",
        "A",
        written_to="dl:cc:current-set",
        scale=1e-3,
        limits=_current_limits,
        poll_s=1.0,
        tolerance=2e-4,
        doc="laser diode current: measured, and the setpoint it is written to; moves with the piezo while feedforward is on",
    )
    current_setpoint = _number("dl:cc:current-set", "A", scale=1e-3, doc="laser diode current setpoint")
    feedforward = _parameter(
        bool, "dl:cc:feedforward-enabled", writable=True, doc="whether the current follows the piezo voltage"
    )
    temperature = _number(
        "dl:tc:temp-act",
        "K",
        written_to="dl:tc:temp-set",
        zero=ZERO_CELSIUS_K,
        limits=_temperature_limits,
        poll_s=2.0,
        tolerance=0.02,
        doc="laser diode temperature: measured, and the setpoint it is written to",
    )
    piezo_voltage = _number(
        "dl:pc:voltage-set",
        "V",
        written_to="dl:pc:voltage-set",
        limits=_piezo_limits,
        poll_s=1.0,
        doc="piezo voltage setpoint",
    )
    piezo_output = _number(
        "dl:pc:voltage-act", "V", poll_s=1.0, doc="measured piezo voltage, with what lock and scan add"
    )
    emission = _parameter(
        bool,
        "emission",
        poll_s=1.0,
        doc="whether the head emits: interlock, key, button and driver all allow it",
    )
    enabled = _parameter(bool, "dl:cc:enabled", writable=True, doc="current driver on")
    locked = Signal(
        bool,
        read=lambda device: device.read_lock_state() == "locked",
        poll_s=0.5,
        doc="whether the lock holds (dl:lock:state is 5)",
    )
    lock = Signal(
        bool,
        read=lambda device: device.line.get(device.of_head("dl:lock:lock-enabled"), bool),
        write=_write_lock,
        doc="whether the lock is wanted; writing closes or opens it (dl:lock:lock-enabled)",
    )
    lock_state = Signal(
        str,
        read=lambda device: device.read_lock_state(),
        choices=LOCK_STATES,
        poll_s=1.0,
        doc="state of the lock (dl:lock:state)",
    )
    scan_enabled = _parameter(bool, "scan:enabled", writable=True, doc="piezo scan on")
    scan_amplitude = _scan_voltage("scan:amplitude", "peak-to-peak amplitude of the piezo scan")
    scan_offset = _scan_voltage("scan:offset", "centre of the piezo scan")
    scan_frequency = _number(
        "scan:frequency", "Hz", written_to="scan:frequency", doc="repetition rate of the scan"
    )
    wavelength = _number(
        "dl:factory-settings:wavelength", "m", scale=1e-9, doc="nominal wavelength of the head in vacuum"
    )
    laser_type = _parameter(str, "type", doc="kind of laser")
    product_name = _parameter(str, "product-name", doc="product name")
    serial_number = _parameter(str, "dl:serial-number", doc="serial number of the head")
    controller_serial_number = Signal(
        str, read=lambda device: device.line.get("serial-number", str), doc="serial number of the controller"
    )
    health = _parameter(str, "health-txt", poll_s=5.0, doc="what the controller says of the head")

    def __init__(self, transport: Transport, name: str = "", laser: int = 1) -> None:
        super().__init__(transport, name)
        if laser not in (1, 2, 3, 4):
            raise ConfigError(f"{self.name}: a DLC pro has laser 1 to 4, not {laser}")
        self.laser = laser
        self.line = CommandLine(transport, self.timeout_s)
        self._limits: dict[tuple[str, str], Limits] = {}

    def open(self) -> None:
        """Connect, check that the laser head is there, and ask its limits."""
        self.line.timeout_s = self.timeout_s
        self.transport.open()
        self._limits.clear()
        try:
            self._check_head()
            for limits in (_current_limits, _temperature_limits, _piezo_limits):
                limits(self)
        except DeviceError:
            self.transport.close()
            raise

    def identity(self) -> str:
        """Controller, firmware, and the head with its serial number."""
        names = ("system-type", "serial-number", "fw-ver")
        heads = (self.of_head("type"), self.of_head("dl:serial-number"))
        asked: list[tuple[str, type[str]]] = [(name, str) for name in (*names, *heads)]
        kind, number, firmware, head, head_number = self.line.get_many(*asked)
        return f"{kind} {number}, firmware {firmware}, laser {self.laser}: {head} {head_number}"

    def ask_ahead(self, names: Sequence[str]) -> None:
        """Several parameters in one round trip."""
        self.line.ahead.begin(names)

    def forget(self) -> None:
        """The next reading asks again."""
        self.line.ahead.end()

    def not_ready(self) -> str:
        """Why the light cannot be used for data: no emission and what prevents it, lock not locked, setpoints not reached."""
        emission, wanted = self.line.get_many(
            (self.of_head("emission"), bool), (self.of_head("dl:lock:lock-enabled"), bool)
        )
        if not emission:
            return f"emission off: {self._why_dark()}"
        target = self.lock.target
        if wanted if target is None else target:
            state = self.read_lock_state()
            if state != "locked":
                return f"lock state is {state} ({LOCK_STATES.index(state)}), not locked ({LOCKED})"
        return super().not_ready()

    @action
    def safe(self) -> None:
        """Light off: current driver off; then the lock open, so that nothing starts to search when the light comes back."""
        try:
            self.enabled.set(False)
        finally:
            self.lock.set(False)

    @action
    def unlock(self) -> None:
        """Open the lock; the laser runs free."""
        self.lock.set(False)

    @action
    def relock(self) -> None:
        """Open the lock and close it again."""
        self.lock.set(False)
        self.lock.set(True)

    @action
    def parameter(self, name: str) -> Value:
        """Any parameter of the controller by its full name, in the instrument's own unit."""
        return self.line.get_any(name)

    def monitor(self) -> Monitor:
        """A client of the monitoring line of the same controller, not yet open; ConfigError over serial."""
        address = self.transport.address
        if address.scheme == "tcp":
            other = f"tcp://{address.target.rpartition(':')[0]}:{address.option_port('monitor')}"
        elif address.scheme == "sim":
            other = f"sim://{address.target}?port=monitor"
        else:
            raise ConfigError(
                f"{self.transport.where}: a DLC pro has its monitoring line on TCP only; use tcp://host:1998?monitor=1999"
            )
        return Monitor(self.transport.sibling(other))

    def of_head(self, name: str) -> str:
        """Full name of a parameter of this head."""
        return f"laser{self.laser}:{name}"

    def read_lock_state(self) -> str:
        """Name of the lock's state."""
        number = self.line.get(self.of_head("dl:lock:state"), int)
        if not 0 <= number < len(LOCK_STATES):
            raise BadAnswerError(
                f"{self.transport.where}: lock state {number} is none of the ten known; is the firmware newer than 3.3?"
            )
        return LOCK_STATES[number]

    def check_scan_unit(self, unit: Value) -> None:
        """Raise LimitError unless the scan is of the piezo, in V."""
        if unit != "V":
            raise LimitError(
                f"{self.name}: the scan drives an output in {unit!r}, not the piezo in V; set {self.of_head('scan:output-channel')} to 50 at the controller"
            )

    def limits_asked(self, names: tuple[str, str], scale: float = 1.0, zero: float = 0.0) -> Limits:
        """Limits the instrument gives in two parameters, asked once per ``open``; one without a name is zero."""
        known = self._limits.get(names)
        if known is None:
            low, high = (self.line.get(self.of_head(name), float) if name else 0.0 for name in names)
            known = self._limits[names] = _tidy(zero + scale * low), _tidy(zero + scale * high)
        return known

    def _check_head(self) -> None:
        try:
            self.line.get(self.of_head("dl:type"), str)
        except RefusedError as error:
            raise RefusedError(
                f"{self.transport.where}: has no laser {self.laser} ({error}); check `laser` in the lab file"
            ) from None

    def _why_dark(self) -> str:
        """What keeps the head from emitting, all reasons."""
        conditions = (
            ("interlock-open", True, "interlock open"),
            ("frontkey-locked", True, "key turned off"),
            ("emission-button-enabled", False, "emission button off"),
            (self.of_head("enabled"), False, "laser disabled"),
            (self.of_head("dl:cc:enabled"), False, "current driver off"),
        )
        asked: list[tuple[str, type[bool]]] = [(name, bool) for name, _, _ in conditions]
        values = self.line.get_many(*asked)
        reasons = [text for (_, bad, text), value in zip(conditions, values, strict=True) if value is bad]
        return ", ".join(reasons) or "for a reason the controller does not give; look at its display"
