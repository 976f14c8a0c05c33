"""How fast the simulated laboratory answers a core: odds, reference slots, heralds with readout, skipped time."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/unit"))

from world_lab import CYCLE, attempt, cooling, laboratory, measurement

from labctl.units import us

SECOND = 10**12


def clock(name: str, repeats: int, call: Callable[[int], object], each: int = 1) -> None:
    """Print the mean processor time of one call, us."""
    call(0)
    begin = time.process_time()
    for k in range(1, repeats + 1):
        call(k)
    spent = (time.process_time() - begin) / repeats / each
    print(f"{name:48s} {spent * 1e6:8.1f} us")


def main() -> None:
    """Run all."""
    lab = laboratory()
    body, block, read = attempt(), cooling(), measurement(((5 * us, 0.1), (5 * us, 0.2)))
    base = SECOND

    clock("odds of an attempt, next slice", 3000, lambda k: lab.odds(body, base + k * SECOND // 20))
    base += 1000 * SECOND
    clock(
        "64 reference slots at once",
        1000,
        lambda k: lab.play_many(block, [base + (64 * k + j) * CYCLE for j in range(64)]),
    )
    base += 1000 * SECOND
    clock(
        "skip of 133 cycles",
        2000,
        lambda k: lab.skip([(block, 133), (body, 133)], base + k * 133 * CYCLE, 133 * CYCLE),
    )
    base += 1000 * SECOND

    def herald(k: int) -> None:
        at = base + k * SECOND // 2
        lab.odds(body, at)
        lab.play_given(body, "10" if k % 2 else "01", at)
        lab.play(read, at + body.duration_ps + us)

    clock("herald: odds, conditional state, rotation, readout", 2000, herald)


if __name__ == "__main__":
    main()
