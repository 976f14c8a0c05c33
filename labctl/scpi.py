"""SCPI text over a transport: queries, writes, and signals made from a header."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labctl.device import Device
from labctl.errors import BadAnswerError
from labctl.signal import Limits, Signal


class ScpiDevice(Device):
    """A device that speaks lines of SCPI; ``ending`` separates them."""

    ending: bytes = b"\n"

    def identity(self) -> str:
        """The answer to ``*IDN?``."""
        return self.query("*IDN?")

    def query(self, text: str) -> str:
        """Send one line, return the line that answers it, without line ends."""
        self.transport.write(text.encode("ascii") + self.ending)
        return self.transport.read_until(self.ending, self.timeout_s).decode("ascii", "replace").strip()

    def command(self, text: str) -> None:
        """Send one line that has no answer."""
        self.transport.write(text.encode("ascii") + self.ending)

    def query_number(self, text: str) -> float:
        """Query a number; BadAnswerError names what came."""
        answer = self.query(text)
        try:
            return float(answer)
        except ValueError:
            self.transport.mark_stale()
            raise BadAnswerError(
                f"{self.transport.where}: {text!r} was answered with {answer!r}, expected a number"
            ) from None

    def query_switch(self, text: str) -> bool:
        """Query a switch, 0 or 1, OFF or ON; BadAnswerError names what came."""
        answer = self.query(text)
        if answer.upper() not in ("0", "1", "OFF", "ON"):
            self.transport.mark_stale()
            raise BadAnswerError(
                f"{self.transport.where}: {text!r} was answered with {answer!r}, expected 0 or 1"
            )
        return answer.upper() in ("1", "ON")


def number(
    header: str,
    unit: str,
    *,
    scale: float = 1.0,
    limits: Limits | Callable[[Any], Limits] | None = None,
    writable: bool = True,
    poll_s: float | None = None,
    tolerance: float | None = None,
    doc: str = "",
) -> Signal[float]:
    """A signal read with ``header?`` and written with ``header value``; ``scale`` is SI per instrument unit."""

    def read(device: Any) -> float:
        return device.query_number(f"{header}?") * scale

    def write(device: Any, value: float) -> None:
        device.command(f"{header} {value / scale:.9g}")

    return Signal(
        float,
        unit,
        read=read,
        write=write if writable else None,
        limits=limits,
        poll_s=poll_s,
        tolerance=tolerance,
        doc=doc,
    )


def switch(header: str, *, writable: bool = True, poll_s: float | None = None, doc: str = "") -> Signal[bool]:
    """A signal read with ``header?`` and written with ``header 1`` or ``header 0``."""

    def read(device: Any) -> bool:
        return device.query_switch(f"{header}?")

    def write(device: Any, on: bool) -> None:
        device.command(f"{header} {int(on)}")

    return Signal(bool, read=read, write=write if writable else None, poll_s=poll_s, doc=doc)
