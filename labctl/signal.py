"""What a signal is: a typed value of an instrument, with its unit, limits and how to read and write it.

A driver declares :class:`Signal` in its class body; a user holds a :class:`BoundSignal` (``laser.current``) and
calls ``get()`` and ``set(value)``. Limits and choices are checked before a byte moves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from labctl.errors import LimitError
from labctl.units import ZERO_CELSIUS_K, format_quantity

if TYPE_CHECKING:
    from labctl.device import Device

T = TypeVar("T", float, int, bool, str, "list[float]", "list[int]")
Limits = tuple[float, float]


class Signal(Generic[T]):
    """One value of an instrument, declared in a driver's class body.

    kind:       Python type of the value: float, int, bool, str or a list of numbers
    unit:       SI unit ("A", "K", "Hz", ...), "" for none
    read:       called with the device, returns the value in ``unit``
    write:      called with the device and the value; None for read-only
    limits:     lowest and highest value allowed, or a function of the device that asks it
    choices:    the only values allowed
    poll_s:     how often a host reads it by itself, s; None for never
    tolerance:  how near to the value last set it counts as "at setpoint", in ``unit``
    shown_in:   unit for people where it differs ("degC" for "K")
    """

    def __init__(
        self,
        kind: type[T],
        unit: str = "",
        *,
        read: Callable[[Any], T],
        write: Callable[[Any, T], None] | None = None,
        limits: Limits | Callable[[Any], Limits] | None = None,
        choices: tuple[T, ...] | None = None,
        poll_s: float | None = None,
        tolerance: float | None = None,
        shown_in: str = "",
        doc: str = "",
    ) -> None:
        self.kind = kind
        self.unit = unit
        self.read = read
        self.write = write
        self.limits = limits
        self.choices = choices
        self.poll_s = poll_s
        self.tolerance = tolerance
        self.shown_in = shown_in or ("degC" if unit == "K" else unit)
        self.doc = doc
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the name it was given in the class body."""
        self.name = name

    @overload
    def __get__(self, device: None, owner: type) -> Signal[T]: ...
    @overload
    def __get__(self, device: Device, owner: type) -> BoundSignal[T]: ...
    def __get__(self, device: Device | None, owner: type) -> Signal[T] | BoundSignal[T]:
        """The signal of one device (or the declaration, on the class)."""
        if device is None:
            return self
        return cast("BoundSignal[T]", device.bound_signal(self))


class BoundSignal(Generic[T]):
    """A signal of one device: ``get()``, ``set(value)``, ``settled()``."""

    def __init__(self, signal: Signal[T], device: Device) -> None:
        self.signal = signal
        self.device = device
        self.narrowed: Limits | None = None
        """Limits from the lab's configuration, inside the driver's own."""
        self.target: T | None = None
        """The value last set, None before the first ``set``."""

    @property
    def name(self) -> str:
        """``device.signal``."""
        return f"{self.device.name}.{self.signal.name}"

    @property
    def limits(self) -> Limits | None:
        """Lowest and highest value allowed, in the signal's unit; None if unlimited."""
        own = self.signal.limits
        if callable(own):
            own = own(self.device)
        if own is None or self.narrowed is None:
            return own or self.narrowed
        return max(own[0], self.narrowed[0]), min(own[1], self.narrowed[1])

    def get(self) -> T:
        """Ask the instrument."""
        return self.signal.read(self.device)

    def set(self, value: T) -> None:
        """Send ``value`` after checking type, limits and choices; raises LimitError before anything is sent."""
        write = self.signal.write
        if write is None:
            raise LimitError(f"{self.name} is read-only")
        checked = self.checked(value)
        write(self.device, checked)
        self.target = checked

    def checked(self, value: Any) -> T:
        """``value`` as the signal's type, or LimitError."""
        signal = self.signal
        typed = self._typed(value)
        if signal.choices is not None and typed not in signal.choices:
            raise LimitError(f"{self.name}: {typed!r} is not one of {', '.join(map(str, signal.choices))}")
        limits = self.limits
        if limits is not None:
            for number in cast("list[float]", typed if isinstance(typed, list) else [typed]):
                if not limits[0] <= number <= limits[1]:
                    raise LimitError(
                        f"{self.name}: {self._show(number)} is outside {self._range(limits)}; nothing was sent"
                    )
        return typed

    def settled(self) -> bool:
        """Whether the instrument is at the value last set (exactly, or within the tolerance)."""
        if self.target is None:
            return True
        value = self.get()
        tolerance = self.signal.tolerance
        if tolerance is None or isinstance(value, str | bool):
            return value == self.target
        pairs = zip(_numbers(value), _numbers(self.target), strict=False)
        return all(abs(a - b) <= tolerance for a, b in pairs)

    def _typed(self, value: Any) -> T:
        kind: type = self.signal.kind
        name = self.name
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise LimitError(f"{name}: {value} is not a finite number")
            return cast(T, float(value))
        if kind is int and isinstance(value, int) and not isinstance(value, bool):
            return cast(T, value)
        if kind in (bool, str) and isinstance(value, kind):
            return cast(T, value)
        items = _listed(value)
        if (
            items is not None
            and "list" in repr(kind)
            and all(isinstance(v, int | float) and math.isfinite(v) for v in items)
        ):
            return cast(T, items)
        raise LimitError(
            f"{name}: {value!r} is a {type(value).__name__}, expected {_kind_name(kind)} in {self.signal.unit or 'no unit'}"
        )

    def _show(self, number: float) -> str:
        return show(number, self.signal.unit, self.signal.shown_in)

    def _range(self, limits: Limits) -> str:
        return f"{self._show(limits[0])} to {self._show(limits[1])}"


def show(number: float, unit: str, shown_in: str) -> str:
    """A number in ``unit`` as people read it: with a prefix, kelvin as degC where the signal says so."""
    if unit == "K" and shown_in == "degC":
        return f"{number - ZERO_CELSIUS_K:.6g} degC"
    return format_quantity(number, unit)


def _numbers(value: Any) -> list[float]:
    return [*cast("list[float]", value)] if isinstance(value, list) else [value]


def _listed(value: Any) -> list[Any] | None:
    return list(value) if type(value) in (list, tuple) else None


def _kind_name(kind: Any) -> str:
    return {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "text"}.get(
        getattr(kind, "__name__", ""), str(kind)
    )
