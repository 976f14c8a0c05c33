"""The asking end of a lane: one DEALER, one request at a time, late answers to given-up requests dropped by number."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from labctl.bus.sockets import Again, dealer, receive, receive_within, send, send_within
from labctl.bus.wire import WIRE_VERSION, Codec, Reply, Request, Verb, error_from
from labctl.clock import SystemClock
from labctl.errors import NoHubError

_numbers = itertools.count(1)
_clock = SystemClock()


class Channel:
    """A connection to one lane; one thread at a time uses it. ``connect_s``: how long ``send`` waits for a connection."""

    def __init__(self, address: str, connect_s: float = 1.0) -> None:
        self.address = address
        self._codec = Codec()
        self._socket = dealer(address)
        self._waiting_ms = -1
        send_within(self._socket, int(connect_s * 1000))

    def send(
        self, verb: Verb, device: str = "", name: str = "", arguments: Sequence[Any] = (), client: str = ""
    ) -> int:
        """Send a request; its number, or 0 if nobody is there to take it (then nothing was sent)."""
        number = next(_numbers)
        frames = self._codec.encode(Request(WIRE_VERSION, number, verb, device, name, arguments, client))
        try:
            send(self._socket, frames)
        except Again:
            return 0
        return number

    def receive(self, number: int, timeout_s: float) -> Reply | None:
        """The reply to request ``number`` (or to one that could not be read), None if it does not come in time."""
        milliseconds = int(timeout_s * 1000) or 1
        deadline = 0.0
        while True:
            if milliseconds != self._waiting_ms:
                self._waiting_ms = milliseconds
                receive_within(self._socket, milliseconds)
            try:
                reply = self._codec.decode(Reply, receive(self._socket))
            except Again:
                return None
            if reply.number == number or reply.number == 0:
                return reply
            now = _clock.now()  # a late one: go on waiting for ours, but not longer in all
            deadline = deadline or now + timeout_s
            milliseconds = int((deadline - now) * 1000)
            if milliseconds <= 0:
                return None

    def ask(self, verb: Verb, arguments: Sequence[Any] = (), timeout_s: float = 2.0) -> Any:
        """Ask the hub (this channel's other end); NoHubError if it does not answer."""
        number = self.send(verb, "", "", arguments)
        reply = self.receive(number, timeout_s) if number else None
        if reply is None:
            raise NoHubError(
                f"no lab answers at {self.address}; start it with `labctl up`, or check the address"
            )
        if reply.error is not None:
            raise error_from(reply.error)
        return reply.value

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
