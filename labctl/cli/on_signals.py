"""Ctrl-C and SIGTERM, told outside of what they interrupt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from queue import SimpleQueue

END = 0
"""No signal has this number."""


@contextmanager
def on_signals(
    told: Callable[[int], None], *numbers: int, at_once: Callable[[int], bool] = lambda _: False
) -> Generator[None]:
    """For the time of a ``with`` block, ``told(number)`` is called for each of these signals, in a thread of its own.

    A handler runs between two instructions of the main thread, which may hold the lock of an event or of a stream at that
    moment: setting the event or printing there waits for that lock for ever. The queue is made for use in handlers.

    at_once:  told how many signals came before; where it says yes, KeyboardInterrupt is raised in the main thread besides.
              It runs in the handler, so it takes no lock.

    In any thread but the main one nothing is done: Python gives signals to the main thread alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: SimpleQueue[int] = SimpleQueue()
    seen: list[int] = []

    def handle(number: int, _: object) -> None:
        came.put(number)
        seen.append(number)
        if at_once(len(seen) - 1):
            raise KeyboardInterrupt

    def tell() -> None:
        while (number := came.get()) != END:
            told(number)

    teller = threading.Thread(target=tell, name="signals", daemon=True)
    teller.start()
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
        came.put(END)
        teller.join()
