"""Bulk streams straight from producer to consumer (time tags, run records): credit-based, acknowledged, nothing lost silently.

The source keeps every message until the sink has acknowledged it. A sink that lost its connection, or a new one started
with ``resume_after``, goes on with the next message; a message that can no longer be had is an error, never a gap.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal

from msgspec import Struct

from labctl.bus.sockets import (
    Socket,
    dealer,
    inproc_pair,
    receive_now,
    router,
    send_now,
    wait_for_any,
)
from labctl.bus.wire import WIRE_VERSION, Codec
from labctl.clock import SystemClock
from labctl.errors import BusError, WireError

REPEAT_S = 0.3
"""A sink repeats its credit so often, so a lost one stops nothing, s."""
SILENT_S = 2.0
"""A sink unheard of for so long may be replaced by another, s."""
SOURCE_SILENT_S = 5.0
"""A source unheard of for so long is an error for its sink, s."""
_clock = SystemClock()


class Credit(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Sink to source: everything up to ``acknowledged`` is safe with me; send up to ``limit``."""

    version: Literal[1]
    sink: str
    owner: str
    acknowledged: int
    limit: int
    resume: bool
    """Send again from ``acknowledged`` + 1."""


class Chunk(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Source to sink: message ``sequence`` (its frames follow), the end (all is acknowledged), a sign of
    life, or a refusal (for now: busy) with its reason.
    """

    version: Literal[1]
    kind: Literal["data", "end", "here", "busy", "refused"]
    stream: str
    sequence: int
    text: str = ""


class StreamSource:
    """The producing end, bound to ``listen``; ``address`` is what the sink connects to. ``send`` may be used by one thread.

    window:     messages kept for a sink that has not acknowledged them
    max_bytes:  bytes kept likewise
    """

    def __init__(
        self, listen: str = "tcp://127.0.0.1:0", *, window: int = 1024, max_bytes: int = 256_000_000
    ) -> None:
        self.stream = uuid.uuid4().hex[:16]
        self.window = window
        self.max_bytes = max_bytes
        self._socket: Socket
        self._socket, self.address = router(listen, drop=False)
        self._wake, self._woken = inproc_pair(f"stream-{self.stream}")
        self._codec = Codec()
        self._changed = threading.Condition()
        self._kept: deque[tuple[int, list[Any], int]] = deque()  # sequence, frames, bytes; not acknowledged
        self._bytes = 0
        self._last = 0
        self._acknowledged = 0
        self._ended = False
        self._stopping = False
        self._peer = b""
        self._sink = ""
        self._owner = ""
        self._heard = 0.0
        self._next = 1
        self._limit = 0
        self._thread = threading.Thread(target=self._run, name="bus-stream", daemon=True)
        self._thread.start()

    @property
    def acknowledged(self) -> int:
        """The last sequence number the sink has said is safe."""
        return self._acknowledged

    def send(self, *frames: Any, timeout_s: float = 10.0) -> int:
        """Queue one message of ``frames`` (bytes-like; unchanged until acknowledged); its sequence number, from 1.

        Waits while the window is full; BusError after ``timeout_s`` s, and then the message was not queued.
        """
        parts = [frame if isinstance(frame, bytes) else memoryview(frame).cast("B") for frame in frames]
        size = sum(len(part) for part in parts)
        with self._changed:
            if self._ended:
                raise BusError(f"stream at {self.address}: already ended")
            if not self._changed.wait_for(lambda: self._fits(size), timeout_s):
                raise BusError(f"stream at {self.address}: {self._who()}; the message was not sent")
            self._last += 1
            self._kept.append((self._last, parts, size))
            self._bytes += size
            sequence = self._last
        send_now(self._wake, [b""])
        return sequence

    def finish(self, timeout_s: float = 10.0) -> None:
        """Say that nothing more comes and wait until the sink has acknowledged everything; BusError if it does not."""
        with self._changed:
            self._ended = True
        send_now(self._wake, [b""])
        with self._changed:
            told = self._changed.wait_for(lambda: self._next > self._last + 1, timeout_s)
            if not told and self._acknowledged < self._last:
                raise BusError(
                    f"stream at {self.address}: {self._who()}; {self._last - self._acknowledged} messages are not safe"
                )

    def close(self) -> None:
        """Stop, whether everything was acknowledged or not (``finish`` waits)."""
        if self._stopping:
            return
        self._stopping = True
        send_now(self._wake, [b""])
        self._thread.join(5)
        self._wake.close()

    def __enter__(self) -> StreamSource:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _fits(self, size: int) -> bool:
        return len(self._kept) < self.window and (not self._kept or self._bytes + size <= self.max_bytes)

    def _who(self) -> str:
        if not self._sink:
            return "nobody reads it"
        return f"its reader {self._owner!r} has acknowledged {self._acknowledged} of {self._last} messages and takes no more"

    # the thread that owns the socket

    def _run(self) -> None:
        try:
            while not self._stopping:
                wait_for_any([self._socket, self._woken], 200)
                while receive_now(self._woken) is not None:
                    pass
                while (frames := receive_now(self._socket)) is not None:
                    with contextlib.suppress(WireError):  # not from a sink: nobody to answer
                        self._credit(frames[0], self._codec.decode(Credit, frames[1:] or [b""]))
                self._advance()
        finally:
            self._socket.close(1000)  # the end may still be on its way out
            self._woken.close()

    def _credit(self, peer: bytes, credit: Credit) -> None:
        now = _clock.now()
        if credit.sink != self._sink:
            if self._sink and now - self._heard < SILENT_S:
                self._say(peer, "busy", f"{self._owner!r} reads this stream already")
                return
            self._sink, self._owner, self._peer = credit.sink, credit.owner, b""
        elif credit.acknowledged < self._acknowledged:
            return  # from a connection of this sink that is gone already
        if not self._acknowledged <= credit.acknowledged <= self._last:
            self._sink = ""
            self._say(
                peer,
                "refused",
                f"it cannot go on after message {credit.acknowledged}: messages {self._acknowledged + 1} to {self._last} are here",
            )
            return
        self._heard = now
        self._limit = credit.limit
        if credit.resume or peer != self._peer:  # a new connection has a new peer: what was under way is lost
            self._peer = peer
            self._next = credit.acknowledged + 1
        self._next = max(self._next, credit.acknowledged + 1)  # (it may have come over a connection now gone)
        self._drop(credit.acknowledged)
        self._say(peer, "here", "")

    def _drop(self, acknowledged: int) -> None:
        with self._changed:
            while self._kept and self._kept[0][0] <= acknowledged:
                self._bytes -= self._kept.popleft()[2]
            self._acknowledged = acknowledged
            self._changed.notify_all()

    def _advance(self) -> None:
        if not self._peer:
            return
        with self._changed:
            first = self._acknowledged + 1
            waiting = [*self._kept] if self._next <= min(self._last, self._limit) else []
            end = first if self._ended and self._acknowledged == self._last else 0
        for sequence, frames, _ in waiting[self._next - first :]:
            if sequence > self._limit or not self._put("data", sequence, frames):
                return
            self._next = sequence + 1
        if end and self._next == end and self._put("end", end, []):
            with self._changed:
                self._next = end + 1
                self._changed.notify_all()

    def _put(self, kind: Literal["data", "end"], sequence: int, frames: list[Any]) -> bool:
        head = self._codec.encode(Chunk(WIRE_VERSION, kind, self.stream, sequence))
        return send_now(self._socket, [self._peer, *head, *frames])

    def _say(self, peer: bytes, kind: Literal["here", "busy", "refused"], reason: str) -> None:
        head = self._codec.encode(Chunk(WIRE_VERSION, kind, self.stream, 0, reason))
        send_now(self._socket, [peer, *head])


class Message(Struct, frozen=True):
    """One message of a stream: its number and its frames (bytes or memoryviews)."""

    sequence: int
    frames: list[Any]


class StreamSink:
    """The consuming end; one thread uses it.

    resume_after:  number of the last message that is safe already (from the journal), 0 to begin
    credit:        messages that may be unacknowledged
    """

    def __init__(
        self, address: str, *, resume_after: int = 0, credit: int = 64, owner: str = "reader"
    ) -> None:
        self.address = address
        self.owner = owner
        self.ended = False
        """Whether everything has been received and acknowledged, and the source has finished."""
        self._credit = credit
        self._name = uuid.uuid4().hex[:16]
        self._codec = Codec()
        self._socket = dealer(address)
        self._acknowledged = resume_after
        self._received = resume_after
        self._told = resume_after
        self._stream: str = ""
        self._asked_again = -REPEAT_S
        self._busy_since = 0.0
        self._unheard = 0
        self._next_word = 0.0
        self._resume = True

    def receive(self, timeout_s: float) -> Message | None:
        """The next message, in order and without gaps; None after ``timeout_s`` s or at the end (``ended``).

        BusError if the source refuses, was started anew, or is silent for SOURCE_SILENT_S.
        """
        deadline = _clock.now() + timeout_s
        while not self.ended:
            now = _clock.now()
            if now >= self._next_word:
                self._speak()
                self._listen_for_life()
            wait_s = max(0.0, min(deadline, self._next_word) - now)
            frames = receive_now(self._socket)
            if frames is None and self._socket.poll(int(wait_s * 1000) + 1):
                frames = receive_now(self._socket)
            if frames is not None:
                message = self._accept(frames)
                if message is not None:
                    return message
            elif _clock.now() >= deadline:
                return None
        return None

    def acknowledge(self, sequence: int) -> None:
        """Say that everything up to ``sequence`` is safe (on disk); the source forgets it."""
        if not self._acknowledged <= sequence <= self._received:
            raise BusError(
                f"cannot acknowledge message {sequence}: {self._acknowledged} is acknowledged, {self._received} received"
            )
        self._acknowledged = sequence
        if sequence - self._told >= max(1, self._credit // 4) or not self._socket.poll(0):
            self._speak()

    def __iter__(self) -> Iterator[Message]:
        """Every message until the end; each is acknowledged when the loop body is through with it."""
        while not self.ended:
            message = self.receive(1.0)
            if message is not None:
                yield message
                self.acknowledge(message.sequence)

    def close(self) -> None:
        """Stop reading; what is not acknowledged stays with the source."""
        if self._told < self._acknowledged:
            self._speak()
        self._socket.close(1000)  # the last acknowledgement may still be on its way out

    def __enter__(self) -> StreamSink:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _speak(self) -> None:
        credit = Credit(
            WIRE_VERSION, self._name, self.owner, self._acknowledged, self._acknowledged + self._credit, self._resume
        )  # fmt: skip
        if send_now(self._socket, self._codec.encode(credit)):
            self._resume = False
            self._told = self._acknowledged
        self._next_word = _clock.now() + REPEAT_S

    def _listen_for_life(self) -> None:
        """Every credit is answered: count those that were not."""
        self._unheard += 1
        if self._unheard * REPEAT_S > SOURCE_SILENT_S:
            self._unheard = 0
            raise BusError(
                f"stream at {self.address}: its source does not answer; message {self._received} was the last that came"
            )

    def _accept(self, frames: list[Any]) -> Message | None:
        chunk = self._codec.decode(Chunk, frames)
        now = _clock.now()
        self._unheard = 0
        if chunk.kind in ("busy", "refused"):
            self._refused(chunk, now)
            return None
        if self._stream and chunk.stream != self._stream:
            raise BusError(
                f"stream at {self.address}: its source was started anew; messages after {self._received} of the old one are lost"
            )
        self._stream = chunk.stream
        self._busy_since = 0.0
        if chunk.sequence > self._received + 1:
            if now - self._asked_again > REPEAT_S:  # something was lost on the way: have it sent again
                self._asked_again = now
                self._resume = True
                self._speak()
            return None
        if chunk.sequence <= self._received:
            return None  # sent again after a reconnection, here already
        if chunk.kind == "end":
            self.ended = True
            return None
        self._received = chunk.sequence
        return Message(chunk.sequence, frames[1:])

    def _refused(self, chunk: Chunk, now: float) -> None:
        """Another reader: wait whether it has died; anything else is final."""
        self._busy_since = self._busy_since or now
        self._resume = True
        if chunk.kind == "refused" or now - self._busy_since > 2 * SILENT_S:
            raise BusError(f"stream at {self.address}: refused: {chunk.text}")
