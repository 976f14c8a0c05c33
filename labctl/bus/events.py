"""Events: what hosts and the hub publish, counted per topic so that a reader knows what it lost."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from labctl.bus.channel import Channel
from labctl.bus.sockets import Again, has_message, publisher, receive_now, send_now, subscriber
from labctl.bus.wire import WIRE_VERSION, Codec, Event, convert
from labctl.clock import SystemClock, wall_time
from labctl.errors import BusError, NoHubError, WireError

HUB_BEAT = "hub.beat"
"""Topic the hub publishes every ``HUB_BEAT_S``, so that a reader can tell a quiet lab from a dead connection."""
HUB_BEAT_S = 0.5
SILENCE_S = 2.0
"""A subscriber that hears not even the hub for so long asks the hub for its address again, s."""
_AT_ONCE = 10_000


class Publisher:
    """Publishes events under one source name; safe to use from any thread.

    Up to ``sockets.HIGH_WATER`` events wait for a slow exchange, the others are dropped, which every reader sees as a gap.

    kept:  prefixes of topics that are states: the last event of each topic is sent again, under its old number, to whoever
           subscribes later (by ``publish`` and ``tell_newcomers``), and so is what was published before there was a connection
    """

    def __init__(self, source: str, kept: tuple[str, ...] = ()) -> None:
        self.source = source
        self._kept_prefixes = kept
        self._kept: dict[str, list[Any]] = {}
        self._codec = Codec()
        self._socket = publisher()
        self._address = ""
        self._sequences: dict[str, int] = {}
        self._mutex = threading.Lock()
        self._closed = False

    def connect(self, address: str) -> None:
        """Publish to the exchange at ``address`` from now on (again, if it moved)."""
        with self._mutex:
            if self._closed or address == self._address:
                return
            if self._address:
                self._socket.disconnect(self._address)
            self._socket.connect(address)
            self._address = address

    def publish(self, topic: str, payload: Any) -> None:
        """Publish at once; never waits."""
        with self._mutex:
            if self._closed:
                return
            sequence = self._sequences.get(topic, 0) + 1
            frames = self._codec.encode(
                Event(WIRE_VERSION, topic, sequence, self.source, wall_time(), payload)
            )
            self._sequences[topic] = sequence
            self._greet()
            message = [topic.encode(), *frames]
            if topic.startswith(self._kept_prefixes):
                self._kept[topic] = message
            send_now(self._socket, message)

    def tell_newcomers(self) -> None:
        """Send the last event of each topic that is kept to those who have subscribed since; to be called now and then."""
        with self._mutex:
            if not self._closed:
                self._greet()

    def _greet(self) -> None:
        """What newcomers want; others who get it too know the numbers and drop it."""
        wanted: list[bytes] = []
        while has_message(self._socket) and (word := receive_now(self._socket)) is not None:
            if word[0][:1] == b"\x01":
                wanted.append(word[0][1:])
        for message in self._kept.values() if wanted else ():
            if message[0].startswith(tuple(wanted)):
                send_now(self._socket, message)

    def close(self) -> None:
        """Stop publishing."""
        with self._mutex:
            self._closed = True
            self._socket.close()


class Subscriber:
    """Reads the events whose topic begins with one of ``prefixes`` ("" for all); one thread uses it.

    The first event of a ``device.`` topic is the device's state as it was before. ``lost`` counts, per topic, the events
    missed since the first one seen; ``malformed`` what was not an event.
    """

    def __init__(self, hub_address: str, prefixes: str | Sequence[str] = "", timeout_s: float = 2.0) -> None:
        self._prefixes = (prefixes,) if isinstance(prefixes, str) else tuple(prefixes)
        self._clock = SystemClock()
        self._codec = Codec()
        self._hub = Channel(hub_address)
        self._timeout_s = timeout_s
        self._waiting: deque[Event] = deque()
        self._last: dict[tuple[str, str], int] = {}
        self.lost: dict[str, int] = {}
        self.malformed = 0
        self._socket = subscriber([*self._prefixes, HUB_BEAT])
        self._address = ""
        try:
            self._find(timeout_s)
        except BusError:
            self.close()
            raise
        self._heard = self._clock.now()

    def receive(self, timeout_s: float) -> Event | None:
        """The next event, or None if none comes within ``timeout_s`` s."""
        if not self._waiting:
            self._fill(timeout_s)
        return self._waiting.popleft() if self._waiting else None

    def drain(self, timeout_s: float = 0.0) -> list[Event]:
        """Everything that is there, waiting up to ``timeout_s`` s for the first."""
        self._fill(0.0 if self._waiting else timeout_s)
        events = [*self._waiting]
        self._waiting.clear()
        return events

    def events(self, timeout_s: float) -> Iterator[Event]:
        """Events until none comes for ``timeout_s`` s."""
        while (event := self.receive(timeout_s)) is not None:
            yield event

    def close(self) -> None:
        """Stop reading."""
        self._socket.close()
        self._hub.close()

    def __enter__(self) -> Subscriber:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _fill(self, timeout_s: float) -> None:
        deadline = self._clock.now() + timeout_s
        while True:
            now = self._clock.now()
            if now - self._heard > SILENCE_S:
                self._find_again()
            left_s = min(deadline - now, 0.5)
            if self._socket.poll(max(0, int(left_s * 1000))):
                self._heard = self._clock.now()
                self._take_all()
            if self._waiting or self._clock.now() >= deadline:
                return

    def _take_all(self) -> None:
        for _ in range(_AT_ONCE):
            frames = receive_now(self._socket)
            if frames is None:
                return
            try:
                event = self._codec.decode(Event, frames[1:] or [b""])
            except WireError:
                self.malformed += 1
                continue
            if self._is_new(event) and event.topic.startswith(self._prefixes):
                self._waiting.append(event)

    def _is_new(self, event: Event) -> bool:
        """Whether it was not heard before (states are sent again for newcomers); counts those that are missing."""
        key = (event.topic, event.source)
        last = self._last.get(key)
        if last is not None and event.sequence <= last:
            return False
        if last is not None and event.sequence > last + 1:
            self.lost[event.topic] = self.lost.get(event.topic, 0) + event.sequence - last - 1
        self._last[key] = event.sequence
        return True

    def _find(self, timeout_s: float) -> None:
        address = convert(self._hub.ask("exchange", timeout_s=timeout_s), tuple[str, str])[1]
        if address != self._address:
            if self._address:
                self._socket.disconnect(self._address)
            self._socket.connect(address)
            self._address = address

    def _find_again(self) -> None:
        self._heard = self._clock.now()
        try:
            self._find(0.5)
        except (NoHubError, Again):
            return  # the hub is down: what is there stays connected, and it is asked again after SILENCE_S
