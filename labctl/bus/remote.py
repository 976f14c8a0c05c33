"""The friendly layer: ``lab["alice.laser_397"].current.get()``, ``.set(value)``, ``.relock()``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from labctl.bus.client import Client
from labctl.errors import UnknownNameError


class UnknownMemberError(UnknownNameError, AttributeError):
    """A device has no such signal or action."""


class Lab:
    """The devices of a lab by name."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def __getitem__(self, device: str) -> RemoteDevice:
        """The device called ``device``; UnknownNameError lists near names."""
        self.client.row(device)
        return RemoteDevice(self.client, device)

    def __iter__(self) -> Iterator[str]:
        """Names of all devices."""
        return iter(sorted(row.device for row in self.client.devices()))

    def safe(self) -> None:
        """Make every device safe now."""
        self.client.safe()

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def __enter__(self) -> Lab:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


class RemoteSignal:
    """A signal of a device in the lab."""

    def __init__(self, client: Client, name: str, described: dict[str, Any]) -> None:
        self._client = client
        self.name = name
        self.unit: str = described["unit"]
        self.__doc__ = described["doc"] or None

    def get(self) -> Any:
        """Ask the instrument; value in ``unit``."""
        return self._client.get(self.name)

    def set(self, value: Any) -> None:
        """Set it, in ``unit``; LimitError if that is not allowed."""
        self._client.set(self.name, value)

    def __repr__(self) -> str:
        return f"<signal {self.name} in {self.unit or 'no unit'}>"


class RemoteAction:
    """An action of a device in the lab: call it."""

    def __init__(self, client: Client, name: str, described: dict[str, Any]) -> None:
        self._client = client
        self.name = name
        self.arguments: str = described.get("arguments", "")
        self.__doc__ = described.get("doc") or None

    def __call__(self, *arguments: Any, timeout_s: float | None = None) -> Any:
        """Run it; waits ``timeout_s`` s for the result (default: the client's)."""
        return self._client.call(self.name, *arguments, timeout_s=timeout_s)

    def __repr__(self) -> str:
        return f"<action {self.name}{self.arguments}>"


class RemoteDevice:
    """A device in the lab; its signals and actions are attributes."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._members: dict[str, RemoteSignal | RemoteAction] = {}

    def __getattr__(self, name: str) -> Any:
        """The signal or action called ``name``."""
        if name.startswith("_"):
            raise AttributeError(name)
        members = self._described()
        if name not in members:
            near = difflib.get_close_matches(name, [*members], 3, 0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(sorted(members))}"
            raise UnknownMemberError(f"{self._name} has no signal or action {name!r}; {hint}")
        return members[name]

    def __dir__(self) -> list[str]:
        return sorted(self._described())

    def __repr__(self) -> str:
        return f"<device {self._name}>"

    def _described(self) -> dict[str, RemoteSignal | RemoteAction]:
        if not self._members:
            described = self._client.describe(self._name)
            for name, signal in described.get("signals", {}).items():
                self._members[name] = RemoteSignal(self._client, f"{self._name}.{name}", signal)
            for name, action in described.get("actions", {}).items():
                self._members[name] = RemoteAction(self._client, f"{self._name}.{name}", action)
        return self._members
