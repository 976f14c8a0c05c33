"""The clocks: system, scaled and virtual. No other module of labctl reads the time or sleeps."""

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Time in seconds from an arbitrary origin; it never goes back."""

    def now(self) -> float:
        """Seconds since the clock's origin."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return when ``seconds`` have passed on this clock."""
        ...


class SystemClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Seconds, monotonic."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait in real time."""
        if seconds > 0:
            time.sleep(seconds)


class ScaledClock:
    """Runs ``speed`` times as fast as the machine's clock, from 0 at creation."""

    def __init__(self, speed: float) -> None:
        if speed <= 0:
            raise ValueError(f"a clock's speed must be positive, not {speed}")
        self.speed = speed
        self._origin = time.monotonic()

    def now(self) -> float:
        """Seconds of scaled time since creation."""
        return (time.monotonic() - self._origin) * self.speed

    def sleep(self, seconds: float) -> None:
        """Wait ``seconds`` of scaled time."""
        if seconds > 0:
            time.sleep(seconds / self.speed)


class VirtualClock:
    """Stands still until somebody sleeps on it or advances it; for tests and for runs faster than real time."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._mutex = threading.Lock()

    def now(self) -> float:
        """Seconds of virtual time."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Advance the clock at once."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move forward by ``seconds`` (never back)."""
        with self._mutex:
            self._now += max(0.0, seconds)


def utc_now() -> str:
    """The wall clock as ISO 8601 in UTC with milliseconds, for logs and provenance."""
    return utc_text(time.time())


def wall_time() -> float:
    """Seconds since 1970, for provenance only."""
    return time.time()


def utc_text(wall_s: float) -> str:
    """ISO 8601 in UTC with milliseconds for ``wall_s`` seconds since 1970."""
    whole = int(wall_s // 1)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((wall_s - whole) * 1000):03d}Z"
