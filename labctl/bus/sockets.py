"""ZeroMQ sockets with the options the bus wants, behind a typed surface."""

# pyright: standard
# (pyzmq carries incomplete types; with this file in between the rest of the bus is checked strictly)

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol, cast

import zmq

from labctl.errors import BusError

Again = zmq.Again
"""Nothing came, or nothing could be sent, in the time allowed."""

HIGH_WATER = 50_000
"""Events a publisher, the exchange and a subscriber each keep for a slow reader (about 10 MB at 200 B) before they drop
and the reader counts a gap. ZeroMQ's own 1000 loses 6-13 % of a flat-out stream."""

_RCVMORE, _NOBLOCK, _SNDMORE = int(zmq.RCVMORE), int(zmq.NOBLOCK), int(zmq.SNDMORE)
_RCVTIMEO, _SNDTIMEO = int(zmq.RCVTIMEO), int(zmq.SNDTIMEO)
_POLLIN, _EVENTS = int(zmq.POLLIN), int(zmq.EVENTS)
_COPY_BELOW = 65536
"""Bytes under which copying a frame is cheaper than keeping track of it (pyzmq's own threshold)."""
_backend: Any = zmq.backend.Socket
_recv, _send, _get = (
    _backend.recv,
    _backend.send,
    _backend.get,
)  # without pyzmq's option wrappers: 0.5 us each


class Socket(Protocol):
    """What the bus uses of a zmq socket."""

    def recv(self, flags: int = 0) -> bytes:
        """One frame."""
        ...

    def send(self, data: Any, flags: int = 0) -> Any:
        """One frame."""
        ...

    def setsockopt(self, option: int, value: Any) -> None:
        """Set an option."""
        ...

    def getsockopt(self, option: int) -> Any:
        """Ask an option."""
        ...

    def poll(self, timeout: int) -> int:
        """Wait up to ``timeout`` ms for something to read."""
        ...

    def connect(self, address: str) -> Any:
        """Connect."""
        ...

    def disconnect(self, address: str) -> Any:
        """Let go of one address."""
        ...

    def close(self, linger: int | None = None) -> None:
        """Close; what is still to be sent has ``linger`` ms for it."""
        ...


def router(listen: str, drop: bool = True) -> tuple[Socket, str]:
    """A ROUTER bound to ``listen`` (``tcp://host:0`` picks a port) and the address it has; BusError if it is taken.

    drop: whether a message to somebody who has gone, or is far behind, is dropped; else ``send_now`` says False
    """
    return _bound(zmq.ROUTER, listen, zmq.Context.instance(), ROUTER_MANDATORY=0 if drop else 1)


def dealer(address: str) -> Socket:
    """A DEALER to one ROUTER; it queues nothing while there is no connection, so no old request is carried out later."""
    socket = _new(zmq.DEALER, zmq.Context.instance())
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)  # finds a machine that went away without a word
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3000)
    return _connected(socket, address)


def publisher() -> Socket:
    """A socket to publish with, not yet connected; it receives a 1 and the prefix whenever somebody subscribes anywhere."""
    socket = _new(zmq.XPUB, zmq.Context.instance())
    socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)
    return cast(Socket, socket)


def subscriber(prefixes: Sequence[str]) -> Socket:
    """A SUB socket for topics that begin with one of ``prefixes``, not yet connected."""
    socket = _new(zmq.SUB, zmq.Context.instance())
    socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
    for prefix in prefixes:
        socket.setsockopt(zmq.SUBSCRIBE, prefix.encode())
    return cast(Socket, socket)


def inproc_pair(name: str) -> tuple[Socket, Socket]:
    """Two connected ends inside this process: a byte sent on the first wakes who waits on the second."""
    context = zmq.Context.instance()
    near, far = _new(zmq.PAIR, context), _new(zmq.PAIR, context)
    near.bind(f"inproc://{name}")
    far.connect(f"inproc://{name}")
    return cast(Socket, near), cast(Socket, far)


def receive(socket: Socket, flags: int = 0) -> list[Any]:
    """All frames of the next message: the first two as bytes, the others (arrays) without copying, as memoryviews."""
    frames: list[Any] = [_recv(socket, flags)]
    while _get(socket, _RCVMORE):
        frames.append(_recv(socket) if len(frames) < 2 else _recv(socket, 0, False).buffer)
    return frames


def receive_now(socket: Socket) -> list[Any] | None:
    """The next message if it is there already."""
    try:
        return receive(socket, _NOBLOCK)
    except zmq.Again:
        return None


def send(socket: Socket, frames: Sequence[Any], flags: int = 0) -> None:
    """Send one message; large frames are not copied and must not be changed afterwards."""
    left = len(frames)
    for frame in frames:
        left -= 1
        _send(socket, frame, _SNDMORE | flags if left else flags, len(frame) < _COPY_BELOW)


def send_now(socket: Socket, frames: Sequence[Any]) -> bool:
    """Send one message if that is possible without waiting."""
    try:
        send(socket, frames, _NOBLOCK)
    except zmq.ZMQError as error:
        if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
            return False
        raise
    return True


def has_message(socket: Socket) -> bool:
    """Whether ``receive`` would have something at once; a fifth of what it costs to try."""
    return bool(_get(socket, _EVENTS) & _POLLIN)


def receive_within(socket: Socket, milliseconds: int) -> None:
    """Let ``receive`` raise Again after so many ms."""
    socket.setsockopt(_RCVTIMEO, milliseconds)


def send_within(socket: Socket, milliseconds: int) -> None:
    """Let ``send`` raise Again after so many ms."""
    socket.setsockopt(_SNDTIMEO, milliseconds)


def wait_for_any(sockets: Sequence[Socket], milliseconds: int) -> None:
    """Return when one of ``sockets`` has something to read, or after so many ms."""
    poller = zmq.Poller()
    for socket in sockets:
        poller.register(cast(Any, socket), _POLLIN)
    poller.poll(milliseconds)


class Exchange:
    """XSUB to XPUB forwarding in C, in a thread and a context of its own (closing the context ends the thread)."""

    def __init__(self, listen: str) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._incoming, self.publish_address = _bound(zmq.XSUB, listen, self._context, RCVHWM=HIGH_WATER)
        self._outgoing, self.subscribe_address = _bound(
            zmq.XPUB, listen, self._context, SNDHWM=HIGH_WATER, XPUB_VERBOSE=1
        )
        self._thread = threading.Thread(target=self._forward, name="bus-exchange", daemon=True)
        self._thread.start()

    def _forward(self) -> None:
        try:
            zmq.proxy(cast(Any, self._incoming), cast(Any, self._outgoing))
        except zmq.ContextTerminated:
            self._incoming.close()
            self._outgoing.close()

    def close(self) -> None:
        """Stop forwarding and free the ports."""
        self._context.term()
        self._thread.join(5)


def _new(kind: int, context: Any) -> Any:
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    return socket


def _bound(kind: int, listen: str, context: Any, **options: int) -> tuple[Socket, str]:
    socket = _new(kind, context)
    for name, value in options.items():
        socket.setsockopt(getattr(zmq, name), value)
    try:
        socket.bind(listen.replace(":0", ":*") if listen.endswith(":0") else listen)
    except zmq.ZMQError as error:
        socket.close()
        raise BusError(
            f"cannot listen on {listen} ({error}); is the same lab already up? see `labctl ls`, `labctl down`"
        ) from None
    return cast(Socket, socket), cast(bytes, socket.getsockopt(zmq.LAST_ENDPOINT)).decode()


def _connected(socket: Any, address: str) -> Socket:
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        socket.close()
        raise BusError(
            f"{address!r} is not a usable bus address ({error}); expected tcp://host:port"
        ) from None
    return cast(Socket, socket)
