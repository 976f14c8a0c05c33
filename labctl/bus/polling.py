"""When each signal is read next, and which of what was read is published."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labctl.clock import Clock, wall_time
from labctl.signal import Signal

REPEAT_S = 5.0
"""A value or an error that stays the same is published when it comes, and again after so long, s."""
ERROR_CHANGES_S = 1.0
"""An error whose text differs from poll to poll (bytes that came) is published at most so often, s."""

Publish = Callable[[str, Any], None]


class Agenda:
    """What is to be done when. Repeated things keep to a grid: each is due a period after it was due, not after it was done."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}
        self._next_due: float | None = math.inf
        """None when it has to be looked for."""

    def __contains__(self, name: str) -> bool:
        return name in self._due

    @property
    def next_due(self) -> float:
        """When the first is due, s on the clock; infinity when there is nothing."""
        if self._next_due is None:
            self._next_due = min(self._due.values(), default=math.inf)
        return self._next_due

    def due(self) -> list[str]:
        """What is due now; first that whose turn was longest ago."""
        now = self._clock.now()
        return [name for name, due in self._due.items() if due <= now]

    def put(self, name: str, in_s: float = 0.0) -> None:
        """``name`` is due in ``in_s`` seconds, whenever it was due before."""
        self.put_all((name,), in_s)

    def put_all(self, names: Iterable[str], in_s: float = 0.0) -> None:
        """All of ``names`` are due in ``in_s`` seconds."""
        self._due.update(dict.fromkeys(names, self._clock.now() + in_s))
        self._next_due = None

    def again(self, name: str, period_s: float) -> None:
        """``name`` was done: it is due one period after it was due; of periods already over all but the last are skipped."""
        due = self._due.pop(name) + period_s
        late_s = self._clock.now() - due
        if late_s >= period_s:
            due += math.floor(late_s / period_s) * period_s
        self._due[name] = due  # behind all others
        self._next_due = None

    def clear(self) -> None:
        """Nothing is due any more."""
        self._due.clear()
        self._next_due = math.inf


@dataclass
class _Known:
    """What is known of one signal."""

    value: Any = None
    time_wall: float = 0.0
    """When the value was read; 0 if none ever was."""
    error: str = ""
    """Why the last reading failed, "" if it did not."""
    failures: int = 0
    """How many readings in a row failed."""
    told: dict[str, str] = field(default_factory=dict[str, str])
    """What was published of them: type of error -> its text."""
    published: float = -math.inf
    """When something was published, s on the clock."""


class Readings:
    """The last reading of each signal of a device. Publishes values and errors when they change, and while they stay every REPEAT_S.

    An event is ``{"value", "unit", "time"}``; of a reading that failed ``{"value": None, "unit", "time", "error", "count"}``
    with the number of failures in a row so far; the first value after failures has their number as ``"count"``.
    """

    def __init__(
        self, device: str, signals: Mapping[str, Signal[Any]], publish: Publish, clock: Clock
    ) -> None:
        self._device = device
        self._signals = signals
        self._publish = publish
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def read(self, name: str, value: Any) -> None:
        """A signal was read (or set, where it is not polled)."""
        known = self._of(name)
        count = known.failures
        new = not known.time_wall or count or known.value != value
        known.value, known.time_wall = value, wall_time()
        known.error, known.failures = "", 0
        known.told.clear()
        if new or self._clock.now() - known.published >= REPEAT_S:
            told = {"count": count} if count else {}
            self._tell(name, known, {"value": value, "time": known.time_wall, **told})

    def failed(self, name: str, error: BaseException) -> None:
        """A signal could not be read, though the instrument is there."""
        known = self._of(name)
        known.failures += 1
        kind, known.error = type(error).__name__, f"{type(error).__name__}: {error}"
        since_s = self._clock.now() - known.published
        changed = known.told.get(kind) != known.error and since_s >= ERROR_CHANGES_S
        if kind not in known.told or changed or since_s >= REPEAT_S:
            known.told[kind] = known.error
            told = {"value": None, "time": wall_time(), "error": known.error, "count": known.failures}
            self._tell(name, known, told)

    def cached(self) -> dict[str, dict[str, Any]]:
        """The last value of each signal that has one, and the error if it could not be read since."""
        return {
            name: {
                "value": known.value,
                "unit": self._signals[name].unit,
                "time": known.time_wall,
                **({"error": known.error} if known.failures else {}),
            }
            for name, known in self._known.items()
            if known.time_wall
        }

    def _of(self, name: str) -> _Known:
        return self._known.setdefault(name, _Known())

    def _tell(self, name: str, known: _Known, content: dict[str, Any]) -> None:
        known.published = self._clock.now()
        self._publish(f"signal.{self._device}.{name}", {**content, "unit": self._signals[name].unit})
