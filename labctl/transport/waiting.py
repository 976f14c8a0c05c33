"""Waits for a socket or a serial port with one system call."""

from __future__ import annotations

import math
import select


def ready(numbers: tuple[int, ...], seconds: float, to_write: bool = False) -> bool:
    """Whether one of the descriptors can be read (or written) within a time, which is at least 1 ms.

    Also when one was closed meanwhile: reading it says so.
    """
    if min(numbers) < 0:
        return True
    if not hasattr(select, "poll"):  # Windows, where only sockets can be waited for
        return any(select.select([] if to_write else numbers, numbers if to_write else [], [], seconds))
    waiting = select.poll()
    for number in numbers:
        waiting.register(number, select.POLLOUT if to_write else select.POLLIN)
    return bool(waiting.poll(math.ceil(seconds * 1000)))
