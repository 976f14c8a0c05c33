import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.analysis.value import Estimate, propagate
from labctl.errors import LimitError

FINITE = st.floats(-1e15, 1e15, allow_nan=False)
ERROR = st.floats(1e-12, 1e12)
COMPACT = re.compile(r"(-?\d+(?:\.(\d+))?)\((\d+)\)(?:e([+-]\d+))?")


@pytest.mark.parametrize(
    ("value", "error", "unit", "full", "compact"),
    [
        (2.42248, 0.20381, "", "2.4225 ± 0.2038", "2.4(2)"),
        (2.5758, 0.0059, "", "2.575800 ± 0.005900", "2.576(6)"),
        (0.923, 0.012, "", "0.92300 ± 0.01200", "0.923(12)"),
        (0.986, 0.005, "", "0.986000 ± 0.005000", "0.986(5)"),
        (550, 36, "ms", "550.00 ± 36.00 ms", "550(36) ms"),
        (1.8, 0.1, "Hz", "1.8000 ± 0.1000 Hz", "1.80(10) Hz"),
        (-0.5, 0.0996, "", "-0.50000 ± 0.09960", "-0.50(10)"),
        (1.25e-6, 2e-8, "", "(1.25000 ± 0.02000)e-6", "1.25(2)e-6"),
        (1.0, 0.0, "", "1 ± 0", "1 ± 0"),
        (1.0, math.inf, "rad", "1 ± inf rad", "1 ± inf rad"),
    ],
)
def test_texts(value: float, error: float, unit: str, full: str, compact: str) -> None:
    estimate = Estimate(value, error, unit)
    assert str(estimate) == full
    assert estimate.compact() == compact


@settings(deadline=None)
@given(FINITE, ERROR)
def test_compact_reads_back_within_its_last_digit(value: float, error: float) -> None:
    text = Estimate(value, error).compact()
    match = COMPACT.fullmatch(text)
    if match is None:
        assert error <= 1e-13 * abs(value), text
        return
    power = 10.0 ** int(match[4] or 0)
    last_digit = 10.0 ** -len(match[2] or "") * power
    assert abs(float(match[1]) * power - value) <= 0.5001 * last_digit + 1e-14 * abs(value)
    assert abs(int(match[3]) * last_digit - error) <= 0.5001 * last_digit
    assert 1 <= int(match[3]) <= 20 or last_digit >= power


@settings(deadline=None)
@given(FINITE, ERROR)
def test_full_text_keeps_value_to_a_thousandth_of_the_error(value: float, error: float) -> None:
    text = str(Estimate(value, error))
    match = re.fullmatch(r"\(?(-?\S+) ± ([^\s)]+)(?:\)e([+-]\d+))?", text)
    assert match is not None, text
    power = 10.0 ** int(match[3] or 0)
    coarse = max(error * 1e-3, power) if error > 1e3 * power else error * 1e-3
    if error > 1e-13 * abs(value):
        assert abs(float(match[1]) * power - value) <= coarse + 1e-13 * abs(value)
        assert abs(float(match[2]) * power - error) <= coarse


@settings(deadline=None)
@given(FINITE, FINITE, ERROR, ERROR)
def test_pull_is_antisymmetric_and_scales(a: float, b: float, sigma_a: float, sigma_b: float) -> None:
    first, second = Estimate(a, sigma_a), Estimate(b, sigma_b)
    assert first.pull(second) == -second.pull(first)
    assert abs(first.pull(second)) <= abs(a - b) / max(sigma_a, sigma_b) * (1 + 1e-12)


def test_pull_of_known_values() -> None:
    assert Estimate(1.3, 0.3).pull(Estimate(0.8, 0.4)) == pytest.approx(1.0)
    assert Estimate(1, 0).pull(Estimate(1, 0)) == 0
    assert Estimate(1, 0).pull(Estimate(2, 0)) == -math.inf
    with pytest.raises(LimitError, match="'Hz'"):
        Estimate(1, 1, "Hz").pull(Estimate(1, 1, "s"))


@pytest.mark.parametrize("error", [-0.1, math.nan])
def test_refuses_an_impossible_error(error: float) -> None:
    with pytest.raises(LimitError, match="standard error"):
        Estimate(1.0, error)


def test_propagation_matches_the_textbook() -> None:
    ratio = propagate(lambda a, b: a / b, Estimate(2.226, 0.02), Estimate(1.8, 0.1), unit="x")
    assert ratio.value == 2.226 / 1.8
    assert ratio.standard_error == pytest.approx(ratio.value * math.hypot(0.02 / 2.226, 0.1 / 1.8), rel=1e-4)
    assert ratio.unit == "x"
    assert propagate(math.exp, Estimate(1.0, 0.0)) == Estimate(math.e, 0.0)
