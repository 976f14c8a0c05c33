"""A soak: every driver on its simulated instrument, every signal read at 10 Hz, wire faults at random; what leaks, what stays hidden.

The instruments live in one process (TCP, VISA, pseudo-terminals, ZeroMQ, gRPC), hub, host and drivers in another. Of both
the open descriptors, threads and resident memory are written down every 10 s. ``python benchmarks/soak.py [--seconds N]
[--seed S] [--log FILE]`` ends with exit code 1 if descriptors or threads grew, if a fault that broke communication left no
event, or if a device did not come back; in runs of two minutes and more also if memory grew by more than 1 MB/min after the
first third, or if a signal of a device that was well was read less often than 10 Hz allows by more than a tenth (which is not
judged on a machine that was busy with something else). ``--log`` gets every event but plain readings, as JSON lines.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.soaking.instruments import Instruments, usage
from benchmarks.soaking.watched import POLL_S, Watched
from labctl.bus.events import Publisher, Subscriber
from labctl.bus.host import Host
from labctl.bus.hub import Hub
from labctl.sim.faults import HAS_NO_MEANING, KINDS

SAMPLE_S = 10.0
AT_ONCE = 6
"""So many instruments have a fault at the same time."""
COMES_BACK_S = 30.0
SLOPE_MB_PER_MIN = 1.0
LEAST_PART = 0.9
"""A signal of a device that is well is read at this part of its rate at least."""
BUSY_LOAD = 1.5
"""Load average per processor above which other work takes the time that readings need; the soak itself makes about 1."""
JUDGED_FROM_S = 120.0
"""A shorter run says nothing about the slope of memory, and little about rates."""
APPLICABLE = {
    "tcp": tuple(KINDS),
    "visa": tuple(KINDS),
    "serial": tuple(kind for kind in KINDS if kind not in ("disconnect", "limit", "refuse")),
    **{wire: tuple(kind for kind in KINDS if kind not in no) for wire, (no, _) in HAS_NO_MEANING.items()},
}
NEVER_HIDDEN = ("silent", "garbage", "refuse")
"""No driver can read through these, so each has to break communication."""


@dataclass
class Fault:
    """One that was switched on."""

    instrument: str
    kind: str
    amount: float
    until: float
    errors: int
    """That the drivers had raised before."""
    events: int
    """That told of trouble before."""
    off_at: float = 0.0


class Soak:
    """One run."""

    def __init__(self, seconds: float, seed: int, log: TextIO | None) -> None:
        self.seconds = seconds
        self.rng = random.Random(seed)
        self.log = log
        self.violations: list[str] = []
        self.samples: list[tuple[float, dict[str, float], dict[str, float]]] = []
        self.faults: list[Fault] = []
        self.active: list[Fault] = []
        self.broke = 0
        self.instruments = Instruments()
        self.devices: dict[str, Watched] = {}
        drivers: dict[str, str] = {}
        for instrument, driver, address in self.instruments.devices:
            name = f"soak.{driver.partition(':')[2]}"
            self.devices[name] = Watched(name, instrument, address)
            drivers[name] = driver
        self.hub = Hub("tcp://127.0.0.1:0").start()
        address = self.hub.addresses.registry
        self.events = Subscriber(address, ("device.", "signal.", "fault.", "host."))
        self.publisher = Publisher("soak")
        self.publisher.connect(self.hub.addresses.publish)
        hosted = [one.hosted(drivers[name]) for name, one in self.devices.items()]
        self.host = Host("soak", hosted, address).start()
        self.started = time.monotonic()
        schemes = {one.instrument: one.address.partition(":")[0] for one in self.devices.values()}
        self.pairs = [(name, kind) for name, scheme in schemes.items() for kind in APPLICABLE[scheme]]
        self.plan = self._shuffled()

    def run(self) -> int:
        """The whole run; the exit code."""
        try:
            self._settle("before the faults")
            begun = time.monotonic()
            for one in self.devices.values():
                one.undisturbed(True)
            third_s, end_s = begun + self.seconds / 3, begun + self.seconds
            self._faults_until(third_s)
            self._cure()
            first = self._settle("after the first third")
            self._faults_until(end_s)
            self._cure()
            for one in self.devices.values():
                one.undisturbed(False)
            last = self._settle("at the end", first)
            self._judge(first, last)
        finally:
            self.host.close()
            self.publisher.close()
            self.events.close()
            self.hub.close()
            self.instruments.close()
        print(self.table())
        return 1 if self.violations else 0

    # faults

    def _shuffled(self) -> Iterator[tuple[str, str]]:
        while True:
            self.rng.shuffle(self.pairs)
            yield from [*self.pairs]

    def _faults_until(self, end: float) -> None:
        waiting: list[tuple[str, str]] = []
        while time.monotonic() < end:
            for fault in [*self.active]:
                self._go_on(fault)
            if len(self.active) < AT_ONCE:
                waiting += itertools.islice(self.plan, max(0, 40 - len(waiting)))
                ready = [pair for pair in waiting if self._free(pair[0])]
                if ready:
                    waiting.remove(ready[0])
                    self._on(*ready[0])
            self._watch(0.05)

    def _free(self, instrument: str) -> bool:
        return all(one.well for one in self._of(instrument)) and all(
            fault.instrument != instrument for fault in self.active
        )

    def _of(self, instrument: str) -> list[Watched]:
        return [one for one in self.devices.values() if one.instrument == instrument]

    def _on(self, instrument: str, kind: str) -> None:
        amount = {
            "drop": float(self.rng.randint(1, 5)),
            "disconnect": float(self.rng.randint(1, 3)),
            "late": self.rng.choice([0.1, 0.3, 0.8, 1.5]),
            "split": self.rng.choice([0.02, 0.2, 0.8]),
            "limit": 0.0,
        }.get(kind, 1.0)
        kinds = [(kind, amount)] + ([("disconnect", 1.0)] if kind == "limit" else [])
        watched = self._of(instrument)
        fault = Fault(
            instrument,
            kind,
            amount,
            time.monotonic() + self.rng.uniform(1.5, 4.0),
            sum(one.raised.total() for one in watched),
            sum(one.told["lost"] + one.told["error"] for one in watched),
        )
        for one in watched:
            one.undisturbed(False)
        said = {"kind": kind, "amount": amount, "on": True, "devices": [one.name for one in watched]}
        self.publisher.publish(f"fault.{instrument}", said)
        self.instruments.ask("on", instrument, kinds)
        self.faults.append(fault)
        self.active.append(fault)

    def _go_on(self, fault: Fault) -> None:
        if fault.off_at:
            self._finish(fault)
        elif time.monotonic() >= fault.until:
            self._off(fault)

    def _off(self, fault: Fault) -> None:
        self.instruments.ask("off", fault.instrument)
        self.publisher.publish(f"fault.{fault.instrument}", {"kind": fault.kind, "on": False})
        fault.off_at = time.monotonic()

    def _finish(self, fault: Fault) -> None:
        """Let go of a fault that is off once its devices are back; judge whether it was seen."""
        watched, waited_s = self._of(fault.instrument), time.monotonic() - fault.off_at
        if waited_s < 1.0 or (waited_s < COMES_BACK_S and not all(one.well for one in watched)):
            return
        self.active.remove(fault)
        for one in watched:
            one.undisturbed(one.well)
        what = f"{fault.kind} ({fault.amount:g}) on {fault.instrument}"
        raised = sum(one.raised.total() for one in watched) - fault.errors
        told = sum(one.told["lost"] + one.told["error"] for one in watched) - fault.events
        self.broke += raised > 0
        if raised and not told:
            self.violations.append(f"{what}: the driver raised {raised} errors, no event tells of it")
        if fault.kind in NEVER_HIDDEN and not raised:
            self.violations.append(f"{what}: no driver noticed")
        for one in watched:
            if not one.well:
                self.violations.append(
                    f"{what}: {one.name} is {one.state} {waited_s:.0f} s after it ({one.reason})"
                )

    def _cure(self) -> None:
        while self.active:
            for fault in [*self.active]:
                self._go_on(fault)
            self._watch(0.05)

    # what is seen

    def _watch(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left_s := end - time.monotonic()) > 0:
            for event in self.events.drain(left_s):
                kind, _, rest = event.topic.partition(".")
                device = rest.rpartition(".")[0] if kind == "signal" else rest
                tells = device not in self.devices or self.devices[device].hear(event.topic, event.payload)
                if tells and self.log is not None:
                    line = {"time_wall": round(event.time_wall, 3), "topic": event.topic, **event.payload}
                    self.log.write(json.dumps(line) + "\n")
            if time.monotonic() - self.started > SAMPLE_S * (len(self.samples) + 1):
                self._sample()

    def _sample(self) -> tuple[dict[str, float], dict[str, float]]:
        drivers, instruments = usage(), self.instruments.ask("usage")
        since_s = time.monotonic() - self.started
        self.samples.append((since_s, drivers, instruments))
        print(f"{since_s:6.0f} s  drivers {brief(drivers)}  instruments {brief(instruments)}", flush=True)
        return drivers, instruments

    def _settle(self, when: str, before: Any = None) -> tuple[dict[str, float], dict[str, float]]:
        """Wait until every device is ready, and descriptors and threads are what they were ``before``."""
        end = time.monotonic() + COMES_BACK_S
        while not all(one.well for one in self.devices.values()) and time.monotonic() < end:
            self._watch(0.1)
        for one in self.devices.values():
            if not one.well:
                self.violations.append(f"{when}: {one.name} is {one.state or 'unheard of'} ({one.reason})")
        self._watch(2.0)
        while True:
            now = usage(), self.instruments.ask("usage")
            if before is None or not grown(before, now) or time.monotonic() > end:
                print(f"{when}: drivers {brief(now[0])}, instruments {brief(now[1])}", flush=True)
                return now
            self._watch(0.5)

    # the verdict

    def _judge(self, first: Any, last: Any) -> None:
        self.violations += grown(first, last)
        if self.events.lost:
            self.violations.append(f"events were lost on the way: {self.events.lost}")
        if self.seconds >= JUDGED_FROM_S:
            load = os.getloadavg()[1] / (os.cpu_count() or 1)
            if load > BUSY_LOAD:
                print(f"rates are not judged: this machine had {load:.1f} runnable processes per processor")
            else:
                self.violations += self._too_slow()
            for which, name in enumerate(("drivers", "instruments")):
                slope = self.slope(which)
                print(f"memory of the {name} after the first third: {slope:+.2f} MB/min")
                if slope > SLOPE_MB_PER_MIN:
                    self.violations.append(f"memory of the {name} grows by {slope:.2f} MB/min")

    def slope(self, which: int) -> float:
        """Growth of resident memory after the first third, MB/min, by least squares."""
        late = [sample for sample in self.samples if sample[0] >= self.seconds / 3]
        points = [(t / 60, used[which]["rss_mb"]) for t, *used in late]
        mean_t, mean_y = (sum(column) / len(points) for column in zip(*points, strict=True))
        over = sum((t - mean_t) ** 2 for t, _ in points)
        return sum((t - mean_t) * (y - mean_y) for t, y in points) / over

    def table(self) -> str:
        """For people."""
        ran_s = time.monotonic() - self.started
        lines = ["readings per second of each signal, while its device was well and no fault was on:"]
        for one in self.devices.values():
            rates = ", ".join(f"{name} {rate:.2f}" for name, rate in one.rates().items())
            lines += textwrap.wrap(f"{one.name}: {rates}", 110, subsequent_indent="  ")
        lines.append(
            f"\n{'device':28} {'over':8} {'signals':>7} {'least Hz':>8} {'mean Hz':>8} {'raised':>7} {'events':>7} {'lost':>5} {'ready':>6}"
        )
        for one in self.devices.values():
            rates = [*one.rates().values()] or [0.0]
            lines.append(
                f"{one.name:28} {one.address.partition(':')[0]:8} {len(one.answers):7} {min(rates):8.2f} {fmean(rates):8.2f} "
                f"{one.raised.total():7} {one.told['error']:7} {one.told['lost']:5} {one.told['ready']:6}"
            )
        lines += [
            f"{one.name} is read {one.fastest_hz:.2f} times a second at most: {one.slower}"
            for one in self.devices.values()
            if one.slower
        ]
        rate, signal = self.slowest()
        lines.append(f"least rate, of those that can be read at {1 / POLL_S:g} Hz: {rate:.2f} Hz ({signal})")
        kinds = Counter(fault.kind for fault in self.faults)
        lines.append(
            f"{len(self.faults)} faults ({', '.join(f'{n} {k}' for k, n in sorted(kinds.items()))}), {self.broke} broke communication"
        )
        lines += [f"VIOLATED: {text}" for text in self.violations]
        lines.append(f"soak of {ran_s:.0f} s: {'FAILED' if self.violations else 'passed'}")
        return "\n".join(lines)

    def slowest(self) -> tuple[float, str]:
        """The signal read least often, of the devices whose protocol allows 10 Hz."""
        return min(
            (rate, f"{one.name}.{signal}")
            for one in self.devices.values()
            if not one.slower
            for signal, rate in (one.rates() or {"?": 0.0}).items()
        )

    def _too_slow(self) -> list[str]:
        """Devices with a signal that was read less often than it can be."""
        found: list[str] = []
        for one in self.devices.values():
            for signal, rate in one.rates().items():
                if rate < LEAST_PART * one.fastest_hz:
                    found.append(
                        f"{one.name}.{signal} was read at {rate:.2f} Hz, not {one.fastest_hz:.2f}; is this machine busy with something else?"
                    )
                    break
        return found


def brief(used: dict[str, float]) -> str:
    """A process in few words."""
    return f"{used['descriptors']:.0f} descriptors, {used['threads']:.0f} threads, {used['rss_mb']:.1f} MB"


def grown(before: Any, after: Any) -> list[str]:
    """Which counts are higher than before."""
    return [
        f"{name}: {was[what]:.0f} {what} became {now[what]:.0f}"
        for name, was, now in zip(("drivers", "instruments"), before, after, strict=True)
        for what in ("descriptors", "threads")
        if now[what] > was[what]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, help="file for the events, JSON lines")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(arguments.log.open("w")) if arguments.log else None
        return Soak(arguments.seconds, arguments.seed, log).run()


if __name__ == "__main__":
    sys.exit(main())
