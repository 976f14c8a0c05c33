"""Types of emitted kernels, inferred as ARTIQ's compiler does: no conversion of arguments, attributes and list elements;
operands of an operator widen; a literal is as wide as its place asks, else 32 bits.

Only what emitted kernels consist of is known here, and the drivers' methods that they call. Written after the rules in
artiq.compiler (inferencer, int_monomorphizer, local_access) and the signatures in artiq.coredevice.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from numpy import int32, int64


class KernelTypeError(AssertionError):
    """What the compiler would refuse, or would cut without a word."""


@dataclass(eq=False)
class Type:
    """A type: a name with parameters, or a variable (no name) that may be bound to another."""

    name: str = ""
    parts: tuple[Type, ...] = ()
    bound: Type | None = None

    def end(self) -> Type:
        return self if self.bound is None else self.bound.end()

    def __str__(self) -> str:
        here = self.end()
        return f"{here.name or '?'}{[str(part) for part in here.parts] if here.parts else ''}"


WIDTHS = {32: Type("32"), 64: Type("64")}
NONE, BOOL, STR = Type("none"), Type("bool"), Type("str")


def integer(width: int | None = None) -> Type:
    return Type("int", (WIDTHS[width] if width else Type(),))


I32, I64 = integer(32), integer(64)


def unify(one: Type, other: Type, where: str) -> None:
    a, b = one.end(), other.end()
    if a is b:
        return
    if not a.name:
        a.bound = b
    elif not b.name:
        b.bound = a
    elif a.name != b.name or len(a.parts) != len(b.parts):
        raise KernelTypeError(f"{where}: {a} is not {b}")
    else:
        for part, its in zip(a.parts, b.parts, strict=True):
            unify(part, its, where)


def width(kind: Type) -> int | None:
    here = kind.end()
    return int(here.parts[0].end().name or 0) or None if here.name == "int" else None


ANNOTATIONS = {"TNone": NONE, "TInt32": I32, "TInt64": I64}
HANDLE = Type("handle")
Signature = tuple[tuple[Type, ...], dict[str, Type], Type]


def takes(*arguments: Type, returns: Type = NONE, **named: Type) -> Signature:
    return arguments, named, returns


OUTPUT = {"on": takes(), "off": takes(), "output": takes()}
INPUT = {"input": takes(), "_set_sensitivity": takes(I32), "timestamp_mu": takes(I64, returns=I64)}
DRIVERS: dict[str, dict[str, Signature]] = {
    "Core": {"reset": takes(), "break_realtime": takes(), "get_rtio_counter_mu": takes(returns=I64)},
    "CoreDMA": {
        "record": takes(STR),
        "get_handle": takes(STR, returns=HANDLE),
        "playback_handle": takes(HANDLE),
    },
    "TTLOut": OUTPUT,
    "TTLInOut": OUTPUT | INPUT,
    "EdgeCounter": {"set_config": takes(BOOL, BOOL, BOOL, BOOL), "fetch_count": takes(returns=I32)},
    "CPLD": {"init": takes(), "get_att_mu": takes(returns=I32)},
    "AD9910": {
        "init": takes(),
        "set_att_mu": takes(I32),
        "set_mu": takes(I32, I32, I32, phase_mode=I32, ref_time_mu=I64, returns=I32),
    },
    "AD9912": {"init": takes(), "set_att_mu": takes(I32), "set_mu": takes(I64, I32)},
    "Entangler": {
        "init": takes(),
        "set_timing_mu": takes(I32, I32, I32),
        "set_cycle_length_mu": takes(I32),
        "write": takes(I32, I32),
        "set_config": takes(BOOL, BOOL),
        "run_mu": takes(I32, returns=Type("tuple", (I64, I32))),
        "get_timestamp_mu": takes(I32, returns=I32),
    },
}
BUILTINS = {
    "now_mu": takes(returns=I64),
    "at_mu": takes(I64),
    "delay_mu": takes(I64),
    "ValueError": takes(STR),
}


@dataclass
class Kernels:
    """The kernels of one prepared experiment.

    classes:  device -> its class in device_db
    """

    source: str
    experiment: Any
    classes: dict[str, str]
    types: dict[int, Type] = field(default_factory=dict[int, Type])
    literals: dict[int, tuple[Type, int]] = field(default_factory=dict[int, tuple[Type, int]])
    loose: set[int] = field(default_factory=set[int])
    """Operators seen while the width of an operand was open: their operands are converted to what is asked of them."""
    attributes: dict[str, Type] = field(default_factory=dict[str, Type])

    def check(self) -> None:
        """KernelTypeError for the first thing that does not fit."""
        (cls,) = (node for node in ast.parse(self.source).body if isinstance(node, ast.ClassDef))
        methods = [node for node in cls.body if isinstance(node, ast.FunctionDef)]
        self.kernels = {m.name: m for m in methods if "kernel" in map(ast.unparse, m.decorator_list)}
        self.remote = {m.name: m for m in methods if "rpc" in "".join(map(ast.unparse, m.decorator_list))}
        self.names = {name: self._parameters(one) for name, one in self.kernels.items()}
        for _ in range(
            4
        ):  # the compiler goes on until nothing changes; here a few rounds suffice, see the end
            self._pass()
        for kind, value in self.literals.values():
            if width(kind) is None:
                unify(kind, integer(32 if -(2**31) < value < 2**31 - 1 else 64), str(value))
        self._settle()
        for name, one in self.kernels.items():
            self._assigned(one.body, {"self", *self.names[name]} & {a.arg for a in one.args.args}, name)
            for variable, kind in self.names[name].items():
                known = kind.end().name and (kind.end().name != "int" or width(kind))
                if not known:
                    raise KernelTypeError(f"{name}: {variable} has no type")

    def _parameters(self, function: ast.FunctionDef) -> dict[str, Type]:
        return {
            arg.arg: Type() if arg.annotation is None else ANNOTATIONS[ast.unparse(arg.annotation)]
            for arg in function.args.args[1:]
        }

    def _settle(self) -> None:
        """Some passes; the compiler goes on until nothing changes. What is still open then is an error in ``check``."""
        for _ in range(2):
            self._pass()

    def _pass(self) -> None:
        for name, one in self.kernels.items():
            self.where, self.local = name, self.names[name]
            self.returns = ANNOTATIONS[ast.unparse(one.returns)] if one.returns else NONE
            self._body(one.body)

    # statements
    def _body(self, statements: Iterable[ast.stmt]) -> None:
        for statement in statements:
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets=[target]):
                self._unify(self._expr(target), self._expr(node.value), node)
            case ast.AugAssign():
                left, right = self._expr(node.target), self._expr(node.value)
                kind = self._operator(node, left, right)
                if kind is not None:
                    self._unify(left, kind, node)
            case ast.Expr():
                self._expr(node.value)
            case ast.If() | ast.While():
                self._expr(node.test)
                self._body([*node.body, *node.orelse])
            case ast.For():
                elements = self._expr(node.iter)
                self._unify(elements, Type("range", (self._expr(node.target),)), node)
                self._body(node.body)
            case ast.With(items=[item]):
                self._expr(item.context_expr)
                self._body(node.body)
            case ast.Try():
                self._body(node.body)
                for handler in node.handlers:
                    assert ast.unparse(handler.type or ast.Pass()) == "RTIOUnderflow"
                    self._body(handler.body)
            case ast.Return():
                self._unify(self.returns, self._expr(node.value) if node.value else NONE, node)
            case ast.Raise():
                if node.exc is not None:
                    self._expr(node.exc)
            case ast.Pass():
                pass
            case _:
                raise KernelTypeError(f"{self.where}: {ast.unparse(node)}")

    def _unify(self, one: Type, other: Type, node: ast.AST) -> None:
        unify(one, other, f"{self.where}, line {getattr(node, 'lineno', 0)}: {ast.unparse(node)[:80]}")

    # expressions
    def _expr(self, node: ast.expr) -> Type:
        kind = self.types.setdefault(id(node), Type())
        found = self._type(node)
        if found is not None:
            self._unify(kind, found, node)
        return kind

    def _type(self, node: ast.expr) -> Type | None:
        match node:
            case ast.Constant(value=bool()):
                return BOOL
            case ast.Constant(value=int() as value):
                return self.literals.setdefault(id(node), (integer(), value))[0]
            case ast.Constant(value=str()):
                return STR
            case ast.Name():
                return self.local.setdefault(node.id, Type())
            case ast.Attribute(value=ast.Name(id="self")):
                return self._attribute(node.attr)
            case ast.Tuple():
                return Type("tuple", tuple(map(self._expr, node.elts)))
            case ast.List():
                element = Type()
                for part in node.elts:
                    self._unify(element, self._expr(part), part)
                return Type("list", (element,))
            case ast.Subscript():
                element = Type()
                self._unify(self._expr(node.value), Type("list", (element,)), node)
                self._unify(self._expr(node.slice), integer(), node)
                return element
            case ast.UnaryOp():
                inner = self._expr(node.operand)
                return BOOL if isinstance(node.op, ast.Not) else inner
            case ast.BoolOp():
                for part in node.values:
                    self._unify(BOOL, self._expr(part), part)
                return BOOL
            case ast.Compare(comparators=[right]):
                self._operator(node, self._expr(node.left), self._expr(right))
                return BOOL
            case ast.BinOp():
                return self._operator(node, self._expr(node.left), self._expr(node.right))
            case ast.Call():
                return self._call(node)
            case _:
                raise KernelTypeError(f"{self.where}: {ast.unparse(node)}")

    def _operator(self, node: ast.AST, left: Type, right: Type) -> Type | None:
        """The type to which both operands are converted; None while one is not known."""
        operands = [left.end(), right.end()]
        if not all(one.name for one in operands):
            return None
        if any(one.name != "int" for one in operands):
            raise KernelTypeError(f"{self.where}: {ast.unparse(node)} is of {left} and {right}")
        widths = [width(one) for one in operands]
        if None in widths:
            self.loose.add(id(node))
            return integer()
        most = max(one for one in widths if one)
        asked = width(self.types.get(id(node), Type())) if isinstance(node, ast.BinOp) else None
        if id(node) in self.loose and asked is not None:
            if asked < most:
                raise KernelTypeError(f"{self.where}: {ast.unparse(node)} would be cut to {asked} bits")
            return integer(asked)
        return integer(most)

    def _attribute(self, name: str) -> Type:
        if name not in self.attributes:
            self.attributes[name] = self._quoted(getattr(self.experiment, name), name)
        return self.attributes[name]

    def _quoted(self, value: Any, name: str) -> Type:
        """The type of something of the host's."""
        if isinstance(value, int64):
            return I64
        if isinstance(value, int32):
            return I32
        if isinstance(value, list):
            element = Type()
            for part in value:
                unify(element, self._quoted(part, name), f"self.{name}")
            return Type("list", (element,))
        device = getattr(value, "device", None)
        if device is not None:
            return Type(self.classes[device])
        raise KernelTypeError(f"self.{name} is {value!r}: its width is left to where it is used first")

    def _call(self, node: ast.Call) -> Type | None:
        match node.func:
            case ast.Name(id="int32" | "int64" as name):
                (argument,) = node.args
                found = self._expr(argument).end().name
                if found not in ("", "int"):
                    raise KernelTypeError(f"{self.where}: {name} of {found}")
                return I32 if name == "int32" else I64
            case ast.Name(id="range"):
                for argument in node.args:
                    self._unify(self._expr(node.args[0]), self._expr(argument), node)
                    self._unify(integer(), self._expr(argument), node)
                return Type("range", (self._expr(node.args[0]),))
            case ast.Name():
                signature = BUILTINS[node.func.id]
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if name in self.remote:
                for argument in node.args:
                    self._expr(argument)
                returns = self.remote[name].returns
                return NONE if returns is None else ANNOTATIONS[ast.unparse(returns)]
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                returns = self.kernels[name].returns
                signature = takes(
                    *list(self.names[name].values())[: len(self.kernels[name].args.args) - 1],
                    returns=NONE if returns is None else ANNOTATIONS[ast.unparse(returns)],
                )
            case ast.Attribute(attr=name):
                device = self._expr(node.func.value).end().name
                if not device:
                    return None
                if name not in DRIVERS[device]:
                    raise KernelTypeError(f"{self.where}: {device} has no {name}")
                signature = DRIVERS[device][name]
            case _:
                raise KernelTypeError(f"{self.where}: {ast.unparse(node)}")
        positional, named, returns = signature
        if len(node.args) != len(positional):
            raise KernelTypeError(f"{self.where}: {ast.unparse(node)} has {len(node.args)} arguments")
        for argument, kind in zip(node.args, positional, strict=True):
            self._unify(kind, self._expr(argument), node)
        for word in node.keywords:
            self._unify(named[word.arg or ""], self._expr(word.value), node)
        return returns

    # variables
    def _assigned(self, statements: Iterable[ast.stmt], before: set[str], where: str) -> set[str]:
        """The variables that have a value for certain afterwards; one used without is what the compiler refuses."""
        known = set(before)
        for node in statements:
            for name in _read(node):
                if name in self.names[where] and name not in known:
                    raise KernelTypeError(f"{where}: {name} is not always initialized")
            match node:
                case ast.Assign():
                    known |= {
                        one.id for t in node.targets for one in ast.walk(t) if isinstance(one, ast.Name)
                    }
                case ast.If():
                    known |= self._assigned(node.body, known, where) & self._assigned(
                        node.orelse, known, where
                    )
                case ast.For(target=ast.Name(id=variable)):
                    self._assigned(node.body, known | {variable}, where)
                case ast.While():
                    self._assigned(node.body, known, where)
                case ast.With():
                    known = self._assigned(node.body, known, where)
                case ast.Try():
                    self._assigned(node.body, known, where)
                    for handler in node.handlers:
                        self._assigned(handler.body, known, where)
                case _:
                    pass
        return known


def _read(node: ast.stmt) -> Iterator[str]:
    """Names that a statement itself reads, not those of statements in it."""
    inner = [value for key, value in ast.iter_fields(node) if key not in ("body", "orelse", "handlers")]
    for part in inner:
        for one in part if isinstance(part, list) else [part]:
            if isinstance(one, ast.AST):
                for name in ast.walk(one):
                    if isinstance(name, ast.Name) and (
                        isinstance(name.ctx, ast.Load) or isinstance(node, ast.AugAssign)
                    ):
                        yield name.id
