"""Starting clean on a serial line, which has no connection that could be dropped with its late answers."""

from __future__ import annotations

from labctl.device import Device
from labctl.errors import BadAnswerError
from labctl.transport import Transport

NEVER_QUIET_S = 5.0
"""A line that still brings bytes after this long belongs to something that talks unasked."""


def quiet_when_opened(device: Device) -> None:
    """Make every fresh connection to a serial port begin only when nothing has come for one timeout of the device.

    After a missing answer the transport opens its connection anew; over TCP that loses the late answer, on a serial line it
    would be taken for the answer to the next question. Nothing changes on other transports.
    """
    if device.transport.address.scheme == "serial":
        device.transport.after_open = lambda: _wait(device.transport, device.timeout_s)


def _wait(transport: Transport, quiet_s: float) -> None:
    deadline = transport.clock.now() + NEVER_QUIET_S
    while came := transport.read_available(quiet_s):
        if transport.clock.now() > deadline:
            raise BadAnswerError(
                f"{transport.where}: sends without being asked ({came[-40:]!r}); is this the right port and baud rate?"
            )
