"""What a core has to say, from its thread to the one that writes it down: in order, nothing dropped, in batches."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Outbox(Generic[T]):
    """A bounded queue whose reader may take everything there is; one writer and one reader.

    capacity:  a writer that would exceed it waits
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._items: deque[T] = deque()
        self._urgent = self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T, urgent: bool = False) -> None:
        """Add one; waits for room. An urgent one ends the reader's gathering. Nothing is kept once closed."""
        with self._changed:
            while len(self._items) >= self.capacity and not self._closed:
                self._changed.wait()
            if self._closed:
                return
            self._items.append(item)
            self._urgent = self._urgent or urgent
            if len(self._items) == 1 or self._ready():
                self._changed.notify_all()

    def take(self, timeout_s: float, gather_s: float = 0.0) -> list[T]:
        """All there are, in order; empty if none came within ``timeout_s``.

        gather_s:  how long to wait for more after the first, unless one is urgent or it is full
        """
        with self._changed:
            if not self._items:
                self._changed.wait_for(lambda: self._items or self._closed, timeout_s)
            if gather_s > 0 and self._items and not self._ready():
                self._changed.wait_for(self._ready, gather_s)
            taken = list(self._items)
            self._items.clear()
            self._urgent = False
            self._changed.notify_all()
            return taken

    def take_one(self, timeout_s: float) -> T | None:
        """The oldest one, None if none came within ``timeout_s``."""
        with self._changed:
            if not self._items:
                self._changed.wait_for(lambda: self._items or self._closed, timeout_s)
            if not self._items:
                return None
            self._changed.notify_all()
            return self._items.popleft()

    def close(self) -> None:
        """Throw away what there is and what will come."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def _ready(self) -> bool:
        return self._urgent or self._closed or len(self._items) >= self.capacity
