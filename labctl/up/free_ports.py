"""TCP ports of the loopback that nobody uses, kept apart for this process until it ends.

A port that is found free and let go of can be taken by a neighbour before it is used. So ports come in blocks below the
range from which the system hands out ports by itself; the first port of a block is held by whoever has the block.
"""

from __future__ import annotations

import atexit
import random
import socket

from labctl.errors import ConfigError

LOWEST, HIGHEST = 20_000, 32_000
BLOCK = 64

_left: list[int] = []


def free_ports(count: int) -> list[int]:
    """So many ports of 127.0.0.1, none given twice to any process that asks here.

    Raises ConfigError when every block is taken.
    """
    found: list[int] = []
    while len(found) < count:
        if not _left:
            _left.extend(_new_block())
        port = _left.pop()
        if _bound(port) is not None:
            found.append(port)
    return found


def _new_block() -> list[int]:
    starts = list(range(LOWEST, HIGHEST, BLOCK))
    random.SystemRandom().shuffle(starts)
    for start in starts:
        guard = _bound(start, keep=True)
        if guard is not None:
            atexit.register(guard.close)
            return list(range(start + BLOCK - 1, start, -1))
    raise ConfigError(
        f"no free ports of 127.0.0.1 between {LOWEST} and {HIGHEST}: end the labs that are up (`labctl down`)"
    )


def _bound(port: int, keep: bool = False) -> socket.socket | None:
    """A socket bound to the port, closed again unless it is to be kept; None if somebody has the port."""
    sock = socket.socket()
    try:
        sock.bind(("127.0.0.1", port))
        if keep:
            sock.listen(1)
    except OSError:
        sock.close()
        return None
    if not keep:
        sock.close()
    return sock
