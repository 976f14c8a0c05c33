"""What an instrument is: signals and actions over one transport, and a way to make it safe."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar, cast

from labctl.errors import UnknownNameError
from labctl.signal import BoundSignal, Limits, Signal
from labctl.transport import Transport

F = TypeVar("F", bound=Callable[..., Any])


def action(method: F) -> F:
    """Mark a method as callable over the bus; its arguments and result are numbers, text, bools or lists of them."""
    method.__labctl_action__ = True  # type: ignore[attr-defined]
    return method


class Device:
    """One instrument. Synchronous; owned by one thread; opens nothing until ``open()``.

    transport:  bytes to the instrument (or None where the driver opens its vendor library by itself)
    name:       the device's name in the lab, for messages
    """

    signals: ClassVar[Mapping[str, Signal[Any]]] = MappingProxyType({})
    actions: ClassVar[Mapping[str, str]] = MappingProxyType({})
    manual: ClassVar[str] = ""
    """Manual or source the driver follows."""
    checked_with: ClassVar[str] = ""
    """Client or instrument it was checked against."""
    simulator: ClassVar[str] = ""
    """Simulated instrument it comes with, "module:Class" of the lab folder, if that is not in the file of the driver's name."""
    timeout_s: float = 1.0
    """How long to wait for an answer, s."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Collect the signals and actions of the class body and its bases."""
        super().__init_subclass__(**kwargs)
        signals: dict[str, Signal[Any]] = {}
        actions: dict[str, str] = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                if isinstance(value, Signal):
                    signals[name] = cast("Signal[Any]", value)
                elif getattr(value, "__labctl_action__", False):
                    actions[name] = inspect.getdoc(value) or ""
        if "safe" not in actions:
            actions["safe"] = inspect.getdoc(cls.safe) or ""
        cls.signals = MappingProxyType(signals)
        cls.actions = MappingProxyType(actions)

    def __init__(self, transport: Transport, name: str = "") -> None:
        self.transport = transport
        self.name = name or type(self).__name__
        self._bound: dict[str, BoundSignal[Any]] = {}

    def __enter__(self) -> Self:
        """Open it."""
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it; does not change the instrument."""
        self.close()

    def open(self) -> None:
        """Connect and check that the right instrument answers; raises a DeviceError naming device and address."""
        self.transport.open()

    def close(self) -> None:
        """Let go of the connection; the instrument stays as it is."""
        self.transport.close()

    def identity(self) -> str:
        """What the instrument says it is."""
        return type(self).__name__

    def not_ready(self) -> str:
        """Why the instrument cannot be used for data now ("" if it can): signals off their setpoints, and what the driver adds."""
        for bound in [*self._bound.values()]:
            if bound.target is not None and bound.signal.tolerance is not None and not bound.settled():
                return f"{bound.signal.name} is {bound.get()} {bound.signal.unit}, not yet {bound.target}"
        return ""

    def ask_ahead(self, names: Sequence[str]) -> None:
        """The signals ``names`` are read right after this, until ``forget``: ask for all of them in one go.

        Only for instruments that answer several questions at once. Readings then use what came, and ask for the rest.
        """

    def forget(self) -> None:
        """What was asked ahead is out of date."""

    @action
    def safe(self) -> None:
        """Outputs off, or to the safe value; called on exit, abort and by interlocks."""
        raise TypeError(f"{type(self).__name__} does not say how to be made safe: define safe()")

    def bound_signal(self, signal: Signal[Any]) -> BoundSignal[Any]:
        """The signal of this device, made once."""
        bound = self._bound.get(signal.name)
        if bound is None:
            bound = self._bound[signal.name] = BoundSignal(signal, self)
        return bound

    def signal(self, name: str) -> BoundSignal[Any]:
        """The signal called ``name``; UnknownNameError lists the ones there are."""
        declared = type(self).signals.get(name)
        if declared is None:
            raise UnknownNameError(
                f"{self.name} has no signal {name!r}; it has {', '.join(sorted(type(self).signals)) or 'none'}"
            )
        return self.bound_signal(declared)

    def call(self, name: str, *arguments: Any) -> Any:
        """Run the action called ``name``; only methods marked ``@action`` can be called."""
        if name not in type(self).actions:
            raise UnknownNameError(
                f"{self.name} has no action {name!r}; it has {', '.join(sorted(type(self).actions))}"
            )
        method = cast("Callable[..., Any]", getattr(self, name))
        try:
            inspect.signature(method).bind(*arguments)
        except TypeError as error:
            raise UnknownNameError(f"{self.name}.{name}{inspect.signature(method)}: {error}") from None
        return method(*arguments)

    def narrow(self, limits: Mapping[str, Limits]) -> None:
        """Tighten limits of signals, as the lab's configuration says."""
        for name, pair in limits.items():
            self.signal(name).narrowed = pair

    def describe(self) -> dict[str, Any]:
        """Signals and actions as plain data, for the bus and the command line. Asks the instrument only for dynamic limits."""
        signals: dict[str, Any] = {}
        for name, on_class in type(self).signals.items():
            bound = self.bound_signal(on_class)
            declared = bound.signal
            signals[name] = {
                "kind": getattr(declared.kind, "__name__", str(declared.kind)),
                "unit": declared.unit,
                "shown_in": declared.shown_in,
                "writable": declared.write is not None,
                "limits": bound.limits,
                "choices": declared.choices,
                "tolerance": declared.tolerance,
                "poll_s": declared.poll_s,
                "doc": declared.doc,
            }
        actions = {
            name: {
                "doc": doc,
                "arguments": str(inspect.signature(getattr(type(self), name)))
                .replace("self, ", "")
                .replace("self", ""),
            }
            for name, doc in type(self).actions.items()
        }
        return {
            "driver": f"{type(self).__module__}:{type(self).__name__}",
            "manual": type(self).manual,
            "signals": signals,
            "actions": actions,
        }
