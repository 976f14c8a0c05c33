"""The fast lock of the fibres' phase at the midpoint (WDM: its light has a wavelength of its own)."""

from __future__ import annotations


class FibreLock:
    """Switched on it locks after a while; unlocked it stays so until it is switched off and on again.

    lock_time_s:  from switching on to locked
    """

    def __init__(self, *, lock_time_s: float = 0.5, enabled: bool = True) -> None:
        self.lock_time_s = lock_time_s
        self.locked = enabled
        self._enabled = enabled
        self._lost = False
        self._since: float | None = None

    @property
    def enabled(self) -> bool:
        """Whether the servo is on; off, it forgets that it lost the lock."""
        return self._enabled

    @enabled.setter
    def enabled(self, on: bool) -> None:
        self._enabled = on
        if not on:
            self.locked = self._lost = False
            self._since = None

    def advance(self, now_s: float) -> None:
        """Find the lock again, if it is on, up to ``now_s``."""
        if self._enabled and not self.locked and not self._lost:
            self._since = now_s if self._since is None else self._since
            if now_s - self._since >= self.lock_time_s:
                self.locked, self._since = True, None

    def unlock(self) -> None:
        """Lose the lock, as when a connector is touched; the servo rests until somebody switches it off and on."""
        self.locked, self._lost, self._since = False, True, None

    def steady(self) -> bool:
        """Whether it stays as it is until somebody touches it."""
        return self.locked or self._lost or not self.enabled
