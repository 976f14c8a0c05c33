"""One acquisition on a core in a thread of its own: start, pause, stop, and what comes back, in batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from labctl.core.heralds import HeraldTags
from labctl.core.outbox import Outbox
from labctl.core.program import Program, lower
from labctl.core.sim import Control, Progress, SimCore
from labctl.errors import CoreError, LabError
from labctl.schedule.items import Schedule
from labctl.sim.played import Record, TagLayout


class RecordMessage(msgspec.Struct, tag="record", array_like=True, frozen=True):
    """One record, as in :class:`labctl.sim.played.Record`."""

    number: int
    time_ps: int
    values: dict[str, float | int | str]


class ProgressMessage(msgspec.Struct, tag="progress", array_like=True, frozen=True):
    """How far the run has come; times in ps of laboratory time."""

    time_ps: int
    attempts: int
    rounds: int


class TagsMessage(msgspec.Struct, tag="tags", array_like=True, frozen=True):
    """The time tags around one herald, as in :class:`labctl.core.heralds.HeraldTags`; arrays as little-endian bytes."""

    record: int
    loop: str
    layout: TagLayout
    since_ps: int
    until_ps: int
    times_ps: bytes
    channels: bytes
    block_gates: int
    block_clicks: bytes


class HostPointMessage(msgspec.Struct, tag="host_point", array_like=True, frozen=True):
    """The core waits at a host point until it is told to resume."""

    name: str


class FinishedMessage(msgspec.Struct, tag="finished", array_like=True, frozen=True):
    """The core has stopped: "complete", "stopped", or an error's name and text."""

    reason: str
    time_ps: int = 0
    attempts: int = 0
    error: str = ""


Message = RecordMessage | TagsMessage | ProgressMessage | HostPointMessage | FinishedMessage
encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Message).decode
PROGRESS_EVERY_PS = 200_000_000_000


class Core(Protocol):
    """What plays programs; see :class:`labctl.core.sim.SimCore`."""

    def run(
        self,
        program: Program,
        rounds: int,
        emit: Callable[[Record], None],
        control: Control | None = None,
        progress: Callable[[Progress], None] | None = None,
        first_record: int = 0,
        host_point: Callable[[str], None] | None = None,
    ) -> Progress:
        """Play the program ``rounds`` times."""
        ...


class CoreSession:
    """Plays one schedule at a time; messages come out in the order they happened. Nothing is dropped: a full outbox
    makes the core wait.

    capacity:  messages that may wait to be read
    gather_s:  real time for which ``batches`` lets messages come together: 0 where laboratory time is real
    """

    def __init__(self, core: Core, capacity: int = 1000, gather_s: float = 0.0) -> None:
        self._core = core
        self._capacity = capacity
        self._gather_s = gather_s
        self._outbox: Outbox[Message] = Outbox(capacity)
        self._control = Control()
        self._thread: threading.Thread | None = None
        self._abandoned = threading.Event()

    @property
    def playing(self) -> bool:
        """Whether a run is in progress."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, schedule: Schedule, rounds: int, first_record: int = 0) -> None:
        """Begin; CoreError if something is playing already."""
        if self.playing:
            raise CoreError("the core is already playing a run; stop that first")
        program = lower(schedule)
        self._control = Control()
        self._abandoned.clear()
        self._outbox = Outbox(self._capacity)
        self._thread = threading.Thread(
            target=self._play, args=(program, rounds, first_record), name="core", daemon=True
        )
        self._thread.start()

    def pause(self) -> None:
        """Hold after the attempt in progress."""
        self._control.pause()

    def resume(self) -> None:
        """Go on after a pause."""
        self._control.resume()

    def stop(self) -> None:
        """End after the attempt in progress; the finished message still comes."""
        self._control.stop()

    def abandon(self) -> None:
        """Stop, and throw away what nobody will read."""
        self._abandoned.set()
        self._control.stop()
        self._outbox.close()
        if self._thread is not None:
            self._thread.join()

    def batches(self) -> Iterator[list[Message]]:
        """Messages as they come, an empty batch about twice a second in between; the last one ends with the finished message (none after ``abandon``)."""
        while not self._abandoned.is_set():
            batch = self._outbox.take(0.5, self._gather_s)
            finished = bool(batch) and isinstance(batch[-1], FinishedMessage)
            if finished and self._thread is not None:
                self._thread.join()
            yield batch
            if finished:
                return

    def next_message(self, timeout_s: float) -> Message | None:
        """The next message, None if none came in time. After the finished message the core is free for the next run."""
        message = self._outbox.take_one(timeout_s)
        if isinstance(message, FinishedMessage) and self._thread is not None:
            self._thread.join()
        return message

    def _put(self, message: Message) -> None:
        self._outbox.put(message, isinstance(message, FinishedMessage | HostPointMessage))

    def _play(self, program: Program, rounds: int, first_record: int) -> None:
        last = -PROGRESS_EVERY_PS

        def record(made: Record) -> None:
            self._put(RecordMessage(made.number, made.time_ps, made.values))

        def progress(now: Progress) -> None:
            nonlocal last
            if now.time_ps - last >= PROGRESS_EVERY_PS:
                last = now.time_ps
                self._put(ProgressMessage(now.time_ps, now.attempts, now.rounds))

        def tags(made: HeraldTags) -> None:
            self._put(
                TagsMessage(
                    made.record,
                    made.loop,
                    made.layout,
                    made.since_ps,
                    made.until_ps,
                    made.times_ps.astype("<i8", copy=False).tobytes(),
                    made.channels.tobytes(),
                    made.sums.shape[1],
                    made.sums.astype("<u2", copy=False).tobytes(),
                )
            )

        def host_point(name: str) -> None:
            self._put(HostPointMessage(name))

        try:
            if isinstance(self._core, SimCore):
                self._core.on_tags = tags
            end = self._core.run(program, rounds, record, self._control, progress, first_record, host_point)
        except LabError as error:
            self._put(FinishedMessage(type(error).__name__, error=str(error)))
        except Exception as error:  # noqa: BLE001  (whatever went wrong, the run must learn of it)
            self._put(FinishedMessage("CoreError", error=f"the core failed: {type(error).__name__}: {error}"))
        else:
            reason = "complete" if end.rounds >= rounds else "stopped"
            self._put(FinishedMessage(reason, end.time_ps, end.attempts))
