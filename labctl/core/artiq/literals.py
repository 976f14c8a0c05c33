"""Evaluates the plain data in a Python file from its syntax tree; nothing of the file is executed."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable
from pathlib import Path
from string import Formatter
from typing import Any, cast

from labctl.errors import ConfigError

Scope = dict[str, Any]

MOST_TURNS = 100_000
"""Most loop turns a file may take to write itself out."""
LONGEST = 1_000_000
"""Longest text or list that arithmetic may make."""

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda one, other: one + other,
    ast.Sub: lambda one, other: one - other,
    ast.Mult: lambda one, other: one * other,
    ast.Div: lambda one, other: one / other,
    ast.FloorDiv: lambda one, other: one // other,
    ast.Mod: lambda one, other: one % other,
    ast.BitOr: lambda one, other: one | other,
    ast.BitAnd: lambda one, other: one & other,
    ast.BitXor: lambda one, other: one ^ other,
    ast.LShift: lambda one, other: one << other,
    ast.RShift: lambda one, other: one >> other,
    ast.Pow: lambda one, other: one**other,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, other: one in other,
    ast.NotIn: lambda one, other: one not in other,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "hex": hex,
    "len": len,
    "range": range,
    "dict": dict,
    "list": list,
    "tuple": tuple,
    "enumerate": enumerate,
    "zip": zip,
    "sorted": sorted,
}


class Reader:
    """Runs the assignments of one file on plain data."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._turns = 0
        self.lines: dict[int, int] = {}
        """Identity of each dict written in the file -> its line."""

    def error(self, node: ast.AST, what: str) -> ConfigError:
        """ConfigError that names file and line."""
        return ConfigError(
            f"{self._file}, line {getattr(node, 'lineno', 1)}: {what}; labctl reads this file without executing it: "
            "write plain data there"
        )

    def read(self, tree: ast.Module) -> Scope:
        """Every name the file assigns."""
        scope: Scope = {}
        self._block(tree.body, scope)
        return scope

    def _block(self, statements: Iterable[ast.stmt], scope: Scope) -> None:
        for statement in statements:
            self._statement(statement, scope)

    def _statement(self, node: ast.stmt, scope: Scope) -> None:
        match node:
            case ast.Assign():
                value = self._value(node.value, scope)
                for target in node.targets:
                    self._assign(target, value, scope)
            case ast.AnnAssign(value=ast.expr() as given):
                self._assign(node.target, self._value(given, scope), scope)
            case ast.AugAssign():
                old = self._value(cast("ast.expr", node.target), scope)
                self._assign(
                    node.target, self._binary(node, node.op, old, self._value(node.value, scope)), scope
                )
            case ast.Expr(value=ast.Constant()) | ast.Pass() | ast.Import() | ast.ImportFrom():
                pass  # a docstring, or a name whose use is refused where it is used
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr="update")) as call):
                self._update(call, scope)
            case ast.For():
                for value in self._sequence(node.iter, scope):
                    self._turn(node)
                    self._assign(node.target, value, scope)
                    self._block(node.body, scope)
            case ast.If():
                self._block(node.body if self._value(node.test, scope) else node.orelse, scope)
            case ast.Delete():
                for target in node.targets:
                    self._delete(target, scope)
            case _:
                raise self.error(node, f"a {type(node).__name__} statement")

    def _turn(self, node: ast.AST) -> None:
        self._turns += 1
        if self._turns > MOST_TURNS:
            raise self.error(node, f"loops of more than {MOST_TURNS} turns")

    def _assign(self, target: ast.expr, value: Any, scope: Scope) -> None:
        match target:
            case ast.Name():
                scope[target.id] = value
            case ast.Subscript():
                holder = self._value(target.value, scope)
                key = self._value(target.slice, scope)
                try:
                    holder[key] = value
                except (TypeError, KeyError, IndexError) as error:
                    raise self.error(target, f"cannot set [{key!r}] ({error})") from None
            case ast.Tuple() | ast.List():
                try:
                    pairs = list(zip(target.elts, value, strict=True))
                except (TypeError, ValueError) as error:
                    raise self.error(target, f"cannot unpack ({error})") from None
                for part, one in pairs:
                    self._assign(part, one, scope)
            case _:
                raise self.error(target, f"an assignment to {ast.unparse(target)}")

    def _delete(self, target: ast.expr, scope: Scope) -> None:
        match target:
            case ast.Name() if target.id in scope:
                del scope[target.id]
            case ast.Subscript():
                holder, key = self._value(target.value, scope), self._value(target.slice, scope)
                try:
                    del holder[key]
                except (TypeError, KeyError, IndexError) as error:
                    raise self.error(target, f"cannot delete [{key!r}] ({error})") from None
            case _:
                raise self.error(target, f"cannot delete {ast.unparse(target)}")

    def _update(self, call: ast.Call, scope: Scope) -> None:
        holder = self._value(cast("ast.Attribute", call.func).value, scope)
        if not isinstance(holder, dict):
            raise self.error(call, "update() of something that is not a dict")
        table = cast("dict[Any, Any]", holder)
        try:
            for argument in call.args:
                table.update(self._value(argument, scope))
        except (TypeError, ValueError) as error:
            raise self.error(call, f"update() with something that is not a dict ({error})") from None
        for keyword in call.keywords:
            value = self._value(keyword.value, scope)
            table.update(value if keyword.arg is None else {keyword.arg: value})

    def _sequence(self, node: ast.expr, scope: Scope) -> list[Any]:
        value = self._value(node, scope)
        if isinstance(value, range) and len(value) > MOST_TURNS:
            raise self.error(node, f"a range of {len(value)}")
        if not isinstance(value, (list, tuple, dict, range, str, enumerate, zip)):
            raise self.error(node, f"a loop over {ast.unparse(node)}")
        return list(cast("Iterable[Any]", value))

    # expressions
    def _value(self, node: ast.expr, scope: Scope) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                if node.id not in scope:
                    raise self.error(node, f"{node.id!r} has no value here")
                return scope[node.id]
            case ast.Dict():
                return self._dict(node, scope)
            case ast.List():
                return [self._value(part, scope) for part in node.elts]
            case ast.Tuple():
                return tuple(self._value(part, scope) for part in node.elts)
            case ast.Set():
                return {self._value(part, scope) for part in node.elts}
            case ast.UnaryOp():
                return self._guarded(node, _UNARY[type(node.op)], self._value(node.operand, scope))
            case ast.BinOp():
                return self._binary(
                    node, node.op, self._value(node.left, scope), self._value(node.right, scope)
                )
            case ast.Subscript():
                return self._guarded(
                    node, operator.getitem, self._value(node.value, scope), self._value(node.slice, scope)
                )
            case ast.Slice():
                parts = (node.lower, node.upper, node.step)
                return slice(*(None if part is None else self._value(part, scope) for part in parts))
            case ast.IfExp():
                return self._value(node.body if self._value(node.test, scope) else node.orelse, scope)
            case ast.BoolOp():
                return self._bool(node, scope)
            case ast.Compare(ops=[op], comparators=[right]) if type(op) in _COMPARE:
                return self._guarded(
                    node, _COMPARE[type(op)], self._value(node.left, scope), self._value(right, scope)
                )
            case ast.JoinedStr():
                return "".join(self._text(part, scope) for part in node.values)
            case ast.DictComp(generators=[loop]):
                made: dict[Any, Any] = {}
                for inner in self._scopes(loop, scope):
                    made[self._value(node.key, inner)] = self._value(node.value, inner)
                return made
            case ast.ListComp(generators=[loop]):
                return [self._value(node.elt, inner) for inner in self._scopes(loop, scope)]
            case ast.Call():
                return self._call(node, scope)
            case _:
                raise self.error(node, f"{ast.unparse(node)!r} is not plain data")

    def _dict(self, node: ast.Dict, scope: Scope) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            found = self._value(value, scope)
            if key is None:
                self._guarded(node, made.update, found)
            else:
                self._guarded(node, made.__setitem__, self._value(key, scope), found)
        self.lines[id(made)] = node.lineno
        return made

    def _bool(self, node: ast.BoolOp, scope: Scope) -> Any:
        value: Any = None
        for part in node.values:
            value = self._value(part, scope)
            if bool(value) != isinstance(node.op, ast.And):
                return value
        return value

    def _scopes(self, loop: ast.comprehension, scope: Scope) -> Iterable[Scope]:
        for value in self._sequence(loop.iter, scope):
            self._turn(loop.iter)
            inner = dict(scope)
            self._assign(loop.target, value, inner)
            if all(self._value(test, inner) for test in loop.ifs):
                yield inner

    def _text(self, node: ast.expr, scope: Scope) -> str:
        if isinstance(node, ast.FormattedValue):
            spec = "" if node.format_spec is None else str(self._value(node.format_spec, scope))
            return str(self._guarded(node, format, self._value(node.value, scope), spec))
        return str(self._value(node, scope))

    def _call(self, node: ast.Call, scope: Scope) -> Any:
        arguments = [self._value(argument, scope) for argument in node.args]
        named = {word.arg: self._value(word.value, scope) for word in node.keywords if word.arg is not None}
        match node.func:
            case ast.Name() if node.func.id in _FUNCTIONS and node.func.id not in scope:
                return self._guarded(node, _FUNCTIONS[node.func.id], *arguments, **named)
            case ast.Attribute(attr="format"):
                text = self._value(node.func.value, scope)
                if isinstance(text, str) and not any(
                    "." in (part[1] or "") for part in Formatter().parse(text)
                ):
                    return self._guarded(node, text.format, *arguments, **named)
            case ast.Attribute(attr="items" | "keys" | "values"):
                table = self._value(node.func.value, scope)
                if isinstance(table, dict) and not arguments:
                    return list(getattr(cast("dict[Any, Any]", table), node.func.attr)())
            case ast.Attribute(attr="copy"):
                table = self._value(node.func.value, scope)
                if isinstance(table, (dict, list)) and not arguments:
                    return cast("dict[Any, Any] | list[Any]", table).copy()
            case _:
                pass
        raise self.error(node, f"a call of {ast.unparse(node.func)}")

    def _binary(self, node: ast.AST, op: ast.operator, left: Any, right: Any) -> Any:
        large = isinstance(op, (ast.LShift, ast.Pow)) and not (isinstance(right, int) and 0 <= right <= 64)
        if type(op) not in _BINARY or large:
            raise self.error(node, f"the operator {type(op).__name__}")
        if isinstance(op, ast.Mult):
            sizes = [len(cast("list[Any]", part)) for part in (left, right) if hasattr(part, "__len__")]
            times = [part for part in (left, right) if isinstance(part, int)]
            if sizes and times and sizes[0] * times[0] > LONGEST:
                raise self.error(node, "a text or list that is too long")
        return self._guarded(node, _BINARY[type(op)], left, right)

    def _guarded(self, node: ast.AST, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        try:
            made = function(*arguments, **named)
        except (TypeError, ValueError, KeyError, IndexError, ArithmeticError, AttributeError) as error:
            raise self.error(node, f"cannot be worked out ({type(error).__name__}: {error})") from None
        if isinstance(made, int) and made.bit_length() > 256:
            raise self.error(node, "a number of more than 256 bits")
        return made
