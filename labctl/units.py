"""Units: times are integer picoseconds written ``250 * ns``; everything else is SI floats.

``parse_quantity`` and ``format_quantity`` are for people (command line, dashboard); inside labctl a value is a
plain number in the unit its name or its signal states.
"""

import math
import re

from labctl.errors import LimitError

ps = 1
ns = 1_000
us = 1_000_000
ms = 1_000_000_000
s = 1_000_000_000_000

kHz = 1e3
MHz = 1e6
GHz = 1e9
THz = 1e12
mW = 1e-3
uW = 1e-6
mA = 1e-3
uA = 1e-6
mV = 1e-3
nm = 1e-9
mK = 1e-3

ZERO_CELSIUS_K = 273.15
"""0 °C in kelvin."""

_PREFIX = {
    "p": 1e-12,
    "n": 1e-9,
    "u": 1e-6,
    "µ": 1e-6,
    "m": 1e-3,
    "": 1.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
}
_PREFIXED = ("Hz", "s", "W", "A", "V", "m", "K")
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S*)\s*")


def exact(seconds: float, grid_ps: int = 1) -> int:
    """Seconds as integer picoseconds; refuses what is not on the grid instead of rounding it.

    >>> exact(2.25e-9)
    2250
    """
    value = seconds * s
    nearest = round(value / grid_ps) * grid_ps
    if abs(value - nearest) > 1e-6 * max(1.0, abs(value)) * 1e-6 + 1e-3:
        raise LimitError(
            f"{seconds!r} s is not a multiple of {grid_ps} ps; write the time as an integer, e.g. 250 * ns"
        )
    return int(nearest)


def parse_quantity(text: str, unit: str) -> float:
    """A number typed by a person, in ``unit`` (SI); ``unit`` "K" also takes ``degC``.

    A bare number is in ``unit``.

    >>> parse_quantity("121mA", "A")
    0.121
    >>> round(parse_quantity("41.2 degC", "K"), 2)
    314.35
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise LimitError(
            f"{text!r} is not a number; give e.g. 0.12, 1.2e-3 or a number with its unit ({unit or 'no unit'})"
        )
    value, suffix = float(match[1]), match[2]
    if suffix in ("", unit):
        return value
    if unit == "K" and suffix in ("degC", "°C", "C"):
        return value + ZERO_CELSIUS_K
    if unit in _PREFIXED and suffix.endswith(unit):
        factor = _PREFIX.get(suffix[: -len(unit)])
        if factor is not None:
            return float(f"{value * factor:.15g}")
    raise LimitError(f"{text!r} has the unit {suffix!r}; expected {unit or 'a bare number'}")


def format_quantity(value: float, unit: str, digits: int = 6) -> str:
    """A value for people, with an SI prefix that fits.

    >>> format_quantity(0.12, "A")
    '120 mA'
    >>> format_quantity(0.0, "Hz")
    '0 Hz'
    """
    if unit not in _PREFIXED or unit in ("K",) or not math.isfinite(value) or value == 0:
        return f"{value:.{digits}g} {unit}".rstrip()
    for prefix in ("T", "G", "M", "k", "", "m", "u", "n", "p"):
        if abs(value) >= _PREFIX[prefix] * 0.9999995:
            return f"{value / _PREFIX[prefix]:.{digits}g} {prefix}{unit}"
    return f"{value:.{digits}g} {unit}"


def format_time(time_ps: int) -> str:
    """A schedule time with a unit that fits, exactly.

    >>> format_time(2250), format_time(375 * us)
    ('2.25 ns', '375 us')
    """
    for factor, name in ((s, "s"), (ms, "ms"), (us, "us"), (ns, "ns")):
        if abs(time_ps) >= factor:
            whole, rest = divmod(abs(time_ps), factor)
            digits = f"{rest:0{len(str(factor)) - 1}d}".rstrip("0")
            return f"{'-' if time_ps < 0 else ''}{whole}{'.' + digits if digits else ''} {name}"
    return f"{time_ps} ps"
