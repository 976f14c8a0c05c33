"""The simulated core: heralds and laboratory time per second in virtual time, skipping beside attempt after attempt.

Both columns are the link of ca40_10km on the same simulated laboratory in the same run of this file; rounds include the
phase tracker, feed-forward and readout. The plain column plays cooling and attempt one after the other, as a core without
``odds`` would have to. Run ``python benchmarks/core.py``.
"""

import math
import time
import tomllib
from pathlib import Path

from labctl.clock import VirtualClock
from labctl.core.program import AttemptLoop, Chain, lower
from labctl.core.sim import SimCore
from labctl.sim.played import Record
from labctl.units import us
from sequences.link import link
from simulated_hw.world.laboratory import Laboratory

ROOT = Path(__file__).parents[1]
ALPHAS = (0.025, 0.17)
SECONDS = 4.0
"""Real time given to each cell."""


def main() -> None:
    first = time.perf_counter()
    rounds_of(link(), 2, seed=1)
    print(f"loading the compiled loops: {time.perf_counter() - first:.1f} s (once per process)\n")
    print(
        f"{'link of ca40_10km':24}{'heralds/s':>11}{'lab s / s':>11}{'attempts/s':>13}"
        f"{'plain heralds/s':>18}{'plain lab s / s':>17}{'ratio':>9}   {'rate skipped':>15}{'plain':>14}"
    )
    for alpha in ALPHAS:
        schedule = link(alpha=alpha)
        trial_s, _, _ = rounds_of(schedule, 20, seed=2)
        rounds = max(50, round(20 * SECONDS / trial_s))
        real_s, lab_s, attempts = rounds_of(schedule, rounds, seed=3)
        plain_s, plain_lab_s, plain_heralds = attempt_by_attempt(alpha, seed=4)
        rate = f"{rounds / lab_s:.2f}({error(rounds, lab_s)}) /s"
        plain_rate = f"{plain_heralds / plain_lab_s:.1f}({error(plain_heralds, plain_lab_s, 1)}) /s"
        print(
            f"{f'alpha = {alpha:g}':24}{rounds / real_s:11.0f}{lab_s / real_s:11.0f}{attempts / real_s:13.0f}"
            f"{plain_heralds / plain_s:18.1f}{plain_lab_s / plain_s:17.1f}"
            f"{lab_s / real_s * plain_s / plain_lab_s:9.0f}   {rate:>15}{plain_rate:>14}",
            flush=True,
        )


def laboratory(seed: int) -> Laboratory:
    values = tomllib.loads((ROOT / "configs/world/ca40_10km.toml").read_text(encoding="utf-8"))
    world = Laboratory(values, seed, VirtualClock())
    world.power_up()
    return world


def rounds_of(schedule, rounds: int, seed: int) -> tuple[float, float, int]:
    """Real seconds, laboratory seconds and attempts of so many rounds."""
    world = laboratory(seed)
    core = SimCore(world, world.lock, world.rng("core"))
    program = lower(schedule)
    records: list[Record] = []
    begin = time.perf_counter()
    end = core.run(program, rounds, records.append)
    real_s = time.perf_counter() - begin
    if len(records) != rounds:
        raise SystemExit(f"{rounds} rounds gave {len(records)} records")
    return real_s, end.time_ps / 1e12, end.attempts


def attempt_by_attempt(alpha: float, seed: int) -> tuple[float, float, int]:
    """Real seconds, laboratory seconds and heralds of cooling and attempts played one after the other."""
    root = lower(link(alpha=alpha)).root
    if not isinstance(root, Chain) or not isinstance(root.steps[0], AttemptLoop):
        raise SystemExit("the link does not begin with its attempt loop")
    loop = root.steps[0]
    between, body = loop.segments({})
    if between is None:
        raise SystemExit("the link has no cooling block")
    world = laboratory(seed)
    world.play(between, 0)
    now = 375 * us
    heralds = 0
    begin = time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        world.play(between, now)
        clicks = world.play(body, now + between.duration_ps)
        pattern = "".join(str(min(1, clicks[register].count)) for register in loop.item.gates)
        heralds += loop.outcome(pattern) != "again"
        now += between.duration_ps + body.duration_ps
        world.wait_until_ps(now)
    return time.perf_counter() - begin, now / 1e12, heralds


def error(count: int, lab_s: float, digits: int = 2) -> int:
    """Poisson error in units of the last digit shown."""
    return math.ceil(math.sqrt(max(count, 1)) / lab_s * 10**digits)


if __name__ == "__main__":
    main()
