"""PYON, how ARTIQ's programs write values on the wire: version 1 (sipyco up to 1.9) and version 2 (sipyco 1.10, ARTIQ 9).

Version 1 looks like Python and is read here by its syntax tree, never executed. Version 2 is JSON in which anything JSON
does not have is ``{"__jsonclass__": [name, arguments]}``. Both know None, bool, int, float, complex, str, bytes, tuple,
list, set, dict, slice, Fraction, OrderedDict, and numpy arrays and scalars. Source: ARTIQ.md section 3; m-labs/sipyco.
"""

from __future__ import annotations

import ast
import base64
import binascii
import json
import math
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from typing import Any, cast

import numpy as np

from labctl.errors import WireError

VERSIONS = (1, 2)
CLASS = "__jsonclass__"
NAMES = {"null": None, "true": True, "false": False, "inf": math.inf, "nan": math.nan}
"""What version 1 calls by name."""
PARSE_ERRORS = (ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError, binascii.Error)


def encode(value: Any, version: int) -> str:
    """``value`` on one line; WireError for what PYON does not have."""
    try:
        return _text(value) if version == 1 else json.dumps(_plain(value), separators=(",", ":"))
    except RecursionError:
        raise WireError("a value that contains itself cannot be sent as PYON") from None


def decode(text: str, version: int) -> Any:
    """The value of one line; WireError if it is not PYON of that version."""
    try:
        if version == 1:
            return _value(ast.parse(text.strip(), mode="eval").body)
        return json.loads(text, object_hook=_built)
    except PARSE_ERRORS as error:
        raise WireError(f"not PYON version {version}: {text[:80]!r} ({error})") from None


def _refused(value: Any) -> WireError:
    return WireError(f"PYON has no {type(value).__name__}: {value!r:.80}")


def _bytes64(data: Any) -> str:
    return base64.b64encode(data).decode()


def _from_64(text: str | bytes) -> bytes:
    return base64.b64decode(text, validate=True)


def _numpy(value: Any) -> tuple[tuple[int, ...] | None, str, str] | None:
    """Shape (None for a scalar), type and content of numpy's numbers; None for anything else."""
    if not isinstance(value, np.ndarray | np.generic):
        return None
    array = cast("np.ndarray[Any, np.dtype[Any]]", np.ascontiguousarray(cast(Any, value)))
    if array.dtype.kind not in "biufc":
        return None
    shape = cast("tuple[int, ...]", cast(Any, value).shape) if isinstance(value, np.ndarray) else None
    return shape, array.dtype.str, _bytes64(array.data)


def _array(shape: Any, dtype: str, data: str | bytes) -> np.ndarray[Any, Any]:
    return np.frombuffer(_from_64(data), np.dtype(dtype)).reshape(shape).copy()


def _scalar(dtype: str, data: str | bytes) -> Any:
    (value,) = np.frombuffer(_from_64(data), np.dtype(dtype))
    return value


# version 1


def _text(value: Any) -> str:
    kind = cast("type[Any]", type(value))
    if kind in (bool, type(None)):
        return {None: "null", True: "true", False: "false"}[value]
    if kind in (int, float, complex, bytes):
        if kind is complex and not (math.isfinite(value.real) and math.isfinite(value.imag)):
            raise WireError(f"version 1 of PYON cannot write {value!r}")
        return repr(value)
    if kind is str:
        return json.dumps(value, ensure_ascii=False)
    if kind is list:
        return f"[{_listed(value)}]"
    if kind is tuple:
        return f"({_listed(value)}{',' if len(value) == 1 else ''})"
    if kind is set:
        return f"{{{_listed(value)}}}"
    if kind is dict:
        return "{" + ", ".join(f"{_text(key)}: {_text(one)}" for key, one in value.items()) + "}"
    if kind is slice:
        return f"slice({_listed((value.start, value.stop, value.step))})"
    if kind is Fraction:
        return f"Fraction({value.numerator}, {value.denominator})"
    if kind is OrderedDict:
        return f"OrderedDict({_text([*value.items()])})"
    if (found := _numpy(value)) is not None:
        shape, dtype, data = found
        inside = f'{_text(dtype)}, b"{data}"'
        return f"npscalar({inside})" if shape is None else f"nparray({_text(shape)}, {inside})"
    raise _refused(value)


def _listed(values: Any) -> str:
    return ", ".join(map(_text, values))


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value) if value is not Ellipsis:
            return value
        case ast.Name(id=name) if name in NAMES:
            return NAMES[name]
        case ast.Tuple(elts=parts):
            return tuple(map(_value, parts))
        case ast.List(elts=parts):
            return [*map(_value, parts)]
        case ast.Set(elts=parts):
            return {*map(_value, parts)}
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_value(cast("ast.expr", key)): _value(one) for key, one in zip(keys, values, strict=True)}
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(
            left=left, op=ast.Add() | ast.Sub() as sign, right=ast.Constant(value=complex() as imaginary)
        ):
            real = _value(left)
            if isinstance(real, int | float):
                return complex(real, imaginary.imag if isinstance(sign, ast.Add) else -imaginary.imag)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _BUILT_1:
            return _BUILT_1[name](*map(_value, arguments))
        case _:
            pass
    raise ValueError(f"{ast.unparse(node)[:40]} is not a value")


_BUILT_1: dict[str, Callable[..., Any]] = {
    "slice": slice,
    "Fraction": Fraction,
    "OrderedDict": OrderedDict,
    "nparray": _array,
    "npscalar": _scalar,
}


# version 2


def _plain(value: Any) -> Any:
    kind = cast("type[Any]", type(value))
    if kind in (bool, type(None), int, float, str):
        return value
    if kind is list:
        return [*map(_plain, value)]
    if kind is dict and all(isinstance(key, str) for key in value):
        if CLASS in value:
            raise WireError(f"a dictionary with the key {CLASS!r} cannot be sent as PYON")
        return {key: _plain(one) for key, one in value.items()}
    if kind in (dict, OrderedDict):
        pairs = [[_plain(key), _plain(one)] for key, one in value.items()]
        return {CLASS: ["dict" if kind is dict else "OrderedDict", [pairs]]}
    if kind in (tuple, set):
        return {CLASS: [kind.__name__, [[*map(_plain, value)]]]}
    if kind is complex:
        return {CLASS: ["complex", [value.real, value.imag]]}
    if kind is bytes:
        return {CLASS: ["bytes", [_bytes64(value)]]}
    if kind is slice:
        return {CLASS: ["slice", [_plain(part) for part in (value.start, value.stop, value.step)]]}
    if kind is Fraction:
        return {CLASS: ["Fraction", [value.numerator, value.denominator]]}
    if (found := _numpy(value)) is not None:
        shape, *inside = found
        return {CLASS: ["npscalar", inside] if shape is None else ["nparray", [[*shape], *inside]]}
    raise _refused(value)


def _pairs(kind: type[Any]) -> Callable[[list[list[Any]]], Any]:
    return lambda pairs: kind((key, value) for key, value in pairs)


_BUILT_2: dict[str, Callable[..., Any]] = {
    "tuple": tuple,
    "set": set,
    "dict": _pairs(dict),
    "OrderedDict": _pairs(OrderedDict),
    "complex": complex,
    "bytes": _from_64,
    "slice": slice,
    "Fraction": Fraction,
    "nparray": _array,
    "npscalar": _scalar,
}


def _built(plain: dict[str, Any]) -> Any:
    if CLASS not in plain:
        return plain
    name, arguments = plain[CLASS]
    return _BUILT_2[name](*arguments)
