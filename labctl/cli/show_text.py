"""Text for people and scripts: aligned tables, values in their units, JSON; and values typed by people."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import click

from labctl.errors import LimitError
from labctl.units import ZERO_CELSIUS_K, parse_quantity

if TYPE_CHECKING:
    from labctl.bus.wire import DeviceRow

_YES = ("true", "on", "yes", "1")
_NO = ("false", "off", "no", "0")
_COLORS = {"ready": "green", "settling": "yellow", "connecting": "yellow", "safe": "cyan", "lost": "red", "fault": "red"}  # fmt: skip


def print_json(value: Any) -> None:
    """Plain data, structs and arrays as JSON; numbers that are not finite become null."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value, enc_hook=_plain), indent=2).decode())


def json_line(value: Any) -> str:
    """The same on one line."""
    import msgspec

    return msgspec.json.encode(value, enc_hook=_plain).decode()


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns as wide as their longest cell; ``right`` are those set flush right. Styled cells count as they look."""
    lines = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(click.unstyle(line[i])) for line in lines) for i in range(len(headings))]

    def cell(text: str, i: int) -> str:
        gap = " " * (widths[i] - len(click.unstyle(text)))
        return gap + text if i in right else text + gap

    return "\n".join("  ".join(cell(text, i) for i, text in enumerate(line)).rstrip() for line in lines)


def state(name: str) -> str:
    """A device's state, coloured on a terminal."""
    return click.style(name, fg=_COLORS.get(name))


class StateLines:
    """Says what becomes of devices while a lab comes up: those that got ready together on one line, trouble with its reason."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.ready: set[str] = set()
        self._say = say
        self._seen: dict[str, tuple[str, str]] = {}

    def __call__(self, rows: Sequence[DeviceRow]) -> None:
        """Look at the devices again."""
        fresh: list[str] = []
        for row in rows:
            now = (row.state, row.reason)
            before, self._seen[row.device] = self._seen.get(row.device), now
            if now == before:
                continue
            if row.state == "ready":
                self.ready.add(row.device)
                fresh.append(row.device)
            elif row.state in ("lost", "fault", "safe") or (before or now)[0] == "ready":
                self.ready.discard(row.device)
                self._say(f"  {state(row.state)}  {row.device}  {row.reason}".rstrip())
        if fresh:
            self._say(f"  {state('ready')} {len(self.ready)}/{len(self._seen)}  {' '.join(fresh)}")


def seconds(value: float) -> str:
    """A duration for people: ``0.4 ms``, ``12 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    if value < 100:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def in_celsius(described: Mapping[str, Any]) -> bool:
    """Whether a signal in kelvin is shown and typed in degrees Celsius."""
    return described.get("unit") == "K" and described.get("shown_in") == "degC"


def shown_unit(described: Mapping[str, Any]) -> str:
    """The unit a signal is shown and typed in: its own without prefix, degC for kelvin."""
    return "degC" if in_celsius(described) else str(described.get("unit", ""))


def shown(value: Any, described: Mapping[str, Any], digits: int = 9) -> str:
    """A value in the unit ``shown_unit`` gives, without a prefix: what is read can be typed back."""
    if isinstance(value, list):
        numbers = ",".join(_number(v, described, digits) for v in cast("list[Any]", value))
        return f"{numbers} {shown_unit(described)}".rstrip()
    if value is None:
        return "-"
    return f"{_number(value, described, digits)} {shown_unit(described)}".rstrip()


def _number(value: Any, described: Mapping[str, Any], digits: int = 9) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        number = value - ZERO_CELSIUS_K if in_celsius(described) else value
        return str(number) if isinstance(number, int) else f"{number:.{digits}g}"
    return str(value)


def limits(described: Mapping[str, Any]) -> str:
    """``0 to 0.18 A``, the choices, or nothing."""
    choices = described.get("choices")
    if choices:
        return ", ".join(map(str, choices))
    pair = described.get("limits")
    if not pair:
        return ""
    return f"{_number(pair[0], described)} to {_number(pair[1], described)} {shown_unit(described)}".rstrip()


def parse_value(name: str, text: str, described: Mapping[str, Any]) -> Any:
    """A value typed by a person for the signal ``name``, in the signal's own unit; LimitError says what is expected.

    A bare number is in the unit ``labctl get`` shows; a number with a unit (``121mA``, ``41.2degC``) is converted.
    """
    kind = str(described.get("kind", "float"))
    try:
        if kind == "str":
            return text
        if kind == "bool":
            return _truth(text)
        if kind.startswith("list"):
            return [_quantity(part, described) for part in text.strip("[]() ").split(",")]
        value = _quantity(text, described)
        if kind != "int":
            return value
        if value != round(value):
            raise LimitError(f"{text!r} is not a whole number")
        return round(value)
    except LimitError as error:
        allowed = limits(described)
        raise LimitError(
            f"{name}: {error}{f'; allowed: {allowed}' if allowed else ''}; nothing was sent"
        ) from None


def _truth(text: str) -> bool:
    word = text.strip().lower()
    if word not in _YES + _NO:
        raise LimitError(f"{text!r} is not true or false (true, on, yes, 1; false, off, no, 0)")
    return word in _YES


def _quantity(text: str, described: Mapping[str, Any]) -> float:
    bare = text.strip()[-1:].isdigit() or text.strip()[-1:] == "."
    if bare and in_celsius(described):
        text = f"{text} degC"
    return parse_quantity(text, str(described.get("unit", "")))


def plain_signature(signature: str) -> str:
    """A signature without the quotes that postponed annotations leave: ``(to: float) -> str``."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", signature)


def parse_arguments(name: str, texts: Sequence[str], signature: str) -> list[Any]:
    """Arguments of an action typed by a person; ``signature`` is the action's, ``(times: int, slow: bool = False)``."""
    signature = plain_signature(signature)
    kinds = re.findall(r"\w+: (\w+(?:\[\w+\])?)", signature.partition("->")[0])
    values: list[Any] = []
    for index, text in enumerate(texts):
        kind = kinds[index] if index < len(kinds) else ""
        try:
            values.append(_argument(text, kind))
        except ValueError:
            raise LimitError(f"{name}{signature}: {text!r} is not of type {kind}") from None
    return values


def _argument(text: str, kind: str) -> Any:
    if kind == "str":
        return text
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text)
    if kind == "bool":
        if text.lower() not in _YES + _NO:
            raise ValueError(text)
        return text.lower() in _YES
    if kind.startswith("list") or "," in text:
        return [_literal(part) for part in text.strip("[]() ").split(",")]
    return _literal(text)


def _literal(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.strip().lower(), text)
