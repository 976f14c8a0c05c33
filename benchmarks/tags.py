"""Time tags at memory speed: herald search, coincidences and histograms, in Mtag/s beside the bound and numpy.

The bound is copying the same clicks (9 bytes each), and gates where there are any, with numpy; the numpy column is a plain vectorised
implementation of the same job with the same answer, which is checked. Run ``python benchmarks/tags.py``.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from labctl.tags import histogram
from labctl.tags.herald import DeadTime, HeraldSearch
from labctl.tags.stream import Tags, merge
from labctl.units import ms, ns, s, us

CLICKS = 2_000_000
REPEATS = 5
PERIOD = 10 * us  # attempts at 100 kHz
WINDOW = 60 * ns
DETECTORS = (1, 2)

Job = Callable[[], object]


@dataclass(frozen=True)
class Case:
    name: str
    clicks: int
    copied: Job
    ours: Job
    plain: Job


def main() -> None:
    rng = np.random.default_rng(1)
    first = time.perf_counter()
    _ = histogram.coincidences(Tags.empty(), 0, 1, 1)
    print(f"loading the compiled loops: {1e3 * (time.perf_counter() - first):.0f} ms (once per process)\n")
    print(
        f"{'job':44}{'labctl':>9}{'bound':>9}{'ratio':>7}{'numpy':>9}{'ratio':>7}   (Mtag/s, median of {REPEATS})"
    )
    for case in cases(rng):
        check_same(case.name, case.ours(), case.plain())
        ours, bound, plain = (
            case.clicks / median_s(job) / 1e6 for job in (case.ours, case.copied, case.plain)
        )
        print(
            f"{case.name:44}{ours:9.0f}{bound:9.0f}{ours / bound:7.2f}{plain:9.0f}{ours / plain:7.1f}",
            flush=True,
        )


def cases(rng: np.random.Generator) -> list[Case]:
    found: list[Case] = []
    for rate in (1e5, 1e6, 1e7):
        tags = poisson(rng, rate)
        gates = np.arange(0, int(tags.time_ps[-1]), PERIOD, dtype=np.int64)
        found += [replace(case, name=f"{case.name}, {rate / 1e6:g} Mcps") for case in cases_of(tags, gates)]
    return [*found, *cases_of_streams(poisson(rng, 1e6))]


def cases_of(tags: Tags, gates: NDArray[np.int64]) -> list[Case]:
    return [
        Case(
            "herald search, 100 kHz attempts",
            len(tags),
            lambda: (copied(tags), gates.copy()),
            lambda: heralds(tags, gates),
            lambda: plain_heralds(tags, gates),
        ),
        Case(
            "arrival in gate, 1 ns x 1000",
            len(tags),
            lambda: (copied(tags), gates.copy()),
            lambda: histogram.arrival(tags, 1, gates, 1 * ns, 1000).counts,
            lambda: plain_arrival(tags, gates),
        ),
        Case(
            "coincidences, 5 ns",
            len(tags),
            lambda: copied(tags),
            lambda: histogram.coincidences(tags, 1, 2, 5 * ns),
            lambda: plain_coincidences(tags, 5 * ns),
        ),
        Case(
            "start-stop, 1 ns x 1000",
            len(tags),
            lambda: copied(tags),
            lambda: histogram.start_stop(tags, 1, 2, 1 * ns, 1000).counts,
            lambda: plain_start_stop(tags),
        ),
        Case(
            "g2, 1 ns bins, +-1 us",
            len(tags),
            lambda: copied(tags),
            lambda: histogram.correlate(tags, 1, 2, 1 * ns, 1 * us).counts,
            lambda: plain_correlate(tags),
        ),
    ]


def cases_of_streams(tags: Tags) -> list[Case]:
    streams = [tags.on(k) for k in DETECTORS]
    return [
        Case(
            "dead time 50 ns, 1 Mcps",
            len(tags),
            lambda: copied(tags),
            lambda: DeadTime(50 * ns).push(tags).time_ps,
            lambda: plain_dead_time(tags),
        ),
        Case(
            "merge of 2, 1 Mcps",
            len(tags),
            lambda: copied(tags),
            lambda: merge(streams).time_ps,
            lambda: plain_merge(streams)[0],
        ),
        blocks(tags),
    ]


def copied(tags: Tags) -> object:
    return tags.time_ps.copy(), tags.channel.copy()


def blocks(tags: Tags) -> Case:
    """The live case: the same search in blocks of 1 ms, gates and clicks arriving together."""
    gates = np.arange(0, int(tags.time_ps[-1]), PERIOD, dtype=np.int64)
    edges = np.arange(0, int(tags.time_ps[-1]) + ms, ms)
    parts = [
        (tags.between(int(a), int(b)), gates[np.searchsorted(gates, a) : np.searchsorted(gates, b)], int(b))
        for a, b in pairwise(edges)
    ]
    parts.append((tags.between(int(edges[-1]), s * s), gates[:0], int(tags.time_ps[-1]) + s))

    def live() -> object:
        search = HeraldSearch(DETECTORS, WINDOW)
        for part, gates_of_part, until in parts:
            search.push(part, gates_of_part, until_ps=until)
        return search.table.counts

    return Case(
        "herald search, 1 ms blocks, 1 Mcps",
        len(tags),
        lambda: (copied(tags), gates.copy()),
        live,
        lambda: plain_heralds(tags, gates),
    )


def poisson(rng: np.random.Generator, rate_hz: float) -> Tags:
    gaps = rng.exponential(1e12 / rate_hz, CLICKS).astype(np.int64)
    return Tags(np.cumsum(gaps), rng.integers(1, 3, CLICKS).astype(np.uint8))


def heralds(tags: Tags, gates: NDArray[np.int64]) -> object:
    search = HeraldSearch(DETECTORS, WINDOW)
    search.push(tags, gates)
    search.close()
    return search.table.counts


def plain_heralds(tags: Tags, gates: NDArray[np.int64]) -> object:
    gate = np.searchsorted(gates, tags.time_ps, side="right") - 1
    inside = (gate >= 0) & (tags.time_ps - gates[gate] < WINDOW)
    pattern = np.zeros(gates.size, np.uint8)
    for k, detector in enumerate(DETECTORS):
        pattern[gate[inside & (tags.channel == detector)]] |= 1 << k
    return np.bincount(pattern, minlength=4)


def plain_coincidences(tags: Tags, window: int) -> object:
    a, b = (tags.time_ps[tags.channel == k] for k in DETECTORS)
    return int((np.searchsorted(b, a + window, side="right") - np.searchsorted(b, a - window)).sum())


def plain_start_stop(tags: Tags) -> object:
    starts, stops = (tags.time_ps[tags.channel == k] for k in DETECTORS)
    return since_last(starts, stops)


def plain_arrival(tags: Tags, gates: NDArray[np.int64]) -> object:
    return since_last(gates, tags.time_ps[tags.channel == 1])


def since_last(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> object:
    last = np.searchsorted(starts, stops, side="right") - 1
    dt = (stops - starts[last])[last >= 0] // ns
    return np.bincount(dt[dt < 1000], minlength=1000)


def plain_correlate(tags: Tags) -> object:
    a, b = (tags.time_ps[tags.channel == k] for k in DETECTORS)
    lowest = -1 * us - ns // 2
    low, high = np.searchsorted(b, a + lowest), np.searchsorted(b, a + lowest + 2001 * ns)
    many = high - low
    which = np.repeat(np.arange(a.size), many)
    partner = np.arange(which.size) - np.repeat(np.cumsum(many) - many, many) + low[which]
    return np.bincount((b[partner] - a[which] - lowest) // ns, minlength=2001)


def plain_dead_time(tags: Tags) -> object:
    """Numpy has no recursion: drop until nothing changes, the first offender of each group at a time."""
    kept: list[NDArray[np.int64]] = []
    for k in DETECTORS:
        t = tags.time_ps[tags.channel == k]
        while True:
            close = np.flatnonzero(np.diff(t) < 50 * ns) + 1
            if close.size == 0:
                break
            t = np.delete(t, close[np.diff(close, prepend=-9) > 1])
        kept.append(t)
    return np.sort(np.concatenate(kept), kind="stable")


def plain_merge(streams: list[Tags]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    times = np.concatenate([tags.time_ps for tags in streams])
    channels = np.concatenate([tags.channel for tags in streams])
    order = np.argsort(times, kind="stable")
    return times[order], channels[order]


def check_same(name: str, ours: object, plain: object) -> None:
    if not np.array_equal(np.asarray(ours), np.asarray(plain)):
        raise SystemExit(f"{name}: labctl and numpy disagree; their speeds cannot be compared")


def median_s(job: Job) -> float:
    durations: list[float] = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        job()
        durations.append(time.perf_counter() - begun)
    return float(np.median(durations))


if __name__ == "__main__":
    main()
