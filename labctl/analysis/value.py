"""A measured value with its standard error, and first-order propagation of such errors through a formula."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from labctl.errors import LimitError

_SIGNIFICANT = 4
"""Digits of the standard error that ``str`` shows."""


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error (one sigma, same unit) and the unit's symbol ("" for a pure number).

    The standard error may be infinite ("not determined") but not negative and not NaN.

    >>> str(Estimate(2.42248, 0.20381)), Estimate(2.5758, 0.0059).compact()
    ('2.4225 ± 0.2038', '2.576(6)')
    """

    value: float
    standard_error: float
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.standard_error >= 0:
            raise LimitError(f"a standard error must be zero or more, not {self.standard_error!r}")

    def pull(self, other: "Estimate") -> float:
        """Difference self - other in units of the combined standard error (independent errors).

        Two exact values give 0 if equal and an infinity if not. Raises LimitError when the units differ.
        """
        if self.unit != other.unit:
            raise LimitError(f"cannot compare a value in {self.unit!r} with one in {other.unit!r}")
        difference = self.value - other.value
        combined = math.hypot(self.standard_error, other.standard_error)
        if combined == 0:
            return math.copysign(math.inf, difference) if difference else 0.0
        return difference / combined

    def compact(self) -> str:
        """The error in brackets, in units of the last digit: ``2.576(6)``, ``0.923(12)``, ``550(36) ms``.

        The error has one digit, two if the first is 1 (the rule of most data tables); digits before the
        decimal point are never rounded away.
        """
        if not self._is_plain():
            return str(self)
        exponent = self._exponent()
        value, error = _scale(self.value, exponent), _scale(self.standard_error, exponent)
        first_digit = f"{error:.1e}"[0]
        decimals = _decimals(error, 2 if first_digit == "1" else 1)
        digits = round(error * 10**decimals)
        return f"{value:.{decimals}f}({digits}){_power(exponent)}{self._suffix()}"

    def __str__(self) -> str:
        if not self._is_plain():
            return f"{self.value:.6g} ± {self.standard_error:.4g}{self._suffix()}"
        exponent = self._exponent()
        value, error = _scale(self.value, exponent), _scale(self.standard_error, exponent)
        decimals = _decimals(error, _SIGNIFICANT)
        text = f"{value:.{decimals}f} ± {error:.{decimals}f}"
        return f"{f'({text}){_power(exponent)}' if exponent else text}{self._suffix()}"

    def _is_plain(self) -> bool:
        """True when value and error are finite, the error is not zero and both fit in one number's digits."""
        if not (math.isfinite(self.value) and math.isfinite(self.standard_error)):
            return False
        return self.standard_error > 1e-13 * abs(self.value) and self.standard_error > 1e-290

    def _exponent(self) -> int:
        """Power of ten to take out: 0 for ordinary numbers, else the larger number's decimal exponent."""
        largest = max(abs(self.value), self.standard_error)
        return 0 if 1e-3 <= largest < 1e9 else math.floor(math.log10(largest))

    def _suffix(self) -> str:
        return f" {self.unit}" if self.unit else ""


def propagate(formula: Callable[..., float], *inputs: Estimate, unit: str = "") -> Estimate:
    """Formula of several independent estimates, with its first-order standard error.

    sigma_f^2 = sum_i (df/dx_i sigma_i)^2, the derivatives by central differences over a hundredth of each
    standard error; the formula must accept arguments that far outside its natural range (clip, do not raise).
    """
    values = [item.value for item in inputs]
    variance = 0.0
    for index, item in enumerate(inputs):
        step = item.standard_error / 100
        if step == 0:
            continue
        low, high = list(values), list(values)
        low[index] -= step
        high[index] += step
        change = formula(*high) - formula(*low)
        variance += (change / (high[index] - low[index]) * item.standard_error) ** 2 if change else 0.0
    return Estimate(formula(*values), math.sqrt(variance), unit)


def _scale(number: float, exponent: int) -> float:
    return number * 10.0**-exponent if exponent < 0 else number / 10.0**exponent


def _power(exponent: int) -> str:
    return f"e{exponent:+d}" if exponent else ""


def _decimals(error: float, significant: int) -> int:
    """Decimals that show ``significant`` digits of ``error``, with rounding up (0.0996 -> 0.1) counted in."""
    leading = int(f"{error:.{significant - 1}e}".partition("e")[2])
    return min(max(0, significant - 1 - leading), 15)
