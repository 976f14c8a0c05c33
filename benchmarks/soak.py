"""A soak: every driver on its simulated instrument, every signal read at 10 Hz, wire faults at random; what leaks, what stays hidden.

All of ``labctl drivers`` take part, the bench generator in each of its dialects. As in a lab, the drivers live in hosts, each a
process (three), and the instruments in processes of their own (one for the NI card's gRPC server, one for the others: TCP, VISA,
pseudo-terminals, ZeroMQ); the hub and what watches the events are here. Of each process the open descriptors, threads,
resident memory and processor time are written down every 10 s. ``python benchmarks/soak.py [--seconds N] [--seed S]
[--hosts N] [--log FILE]`` ends with exit code 1 if descriptors or threads grew, if a fault that broke communication left no event, if a
device did not come back, or if events were lost; in runs of a minute and more also if a signal of a device that was well was
read at less than 95 % of 10 Hz, or of what its instrument's own protocol allows; of two minutes and more also if the memory of
a process grew by more than 1 MB/min after the first third. ``--log`` gets every event but plain readings, as JSON lines.
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
from typing import TextIO

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.soaking import hosts, instruments
from benchmarks.soaking.child import Child, usage
from benchmarks.soaking.hosts import POLL_S, polled_every
from benchmarks.soaking.instruments import GROUPS
from benchmarks.soaking.watched import Watched
from labctl.bus.events import Publisher, Subscriber
from labctl.bus.hub import Hub
from labctl.sim.faults import HAS_NO_MEANING, KINDS

SAMPLE_S = 10.0
AT_ONCE = 6
"""So many instruments have a fault at the same time."""
COMES_BACK_S = 30.0
LOOK_S, QUIET_S = 0.25, 1.0
"""A fault is over when the devices are ready, its drivers raised no error and none of its late answers was on the wire for so long, s."""
SLOPE_MB_PER_MIN = 1.0
LEAST_PART = 0.95
"""A signal of a device that is well is read at this part of its rate at least."""
RATES_FROM_S, SLOPE_FROM_S = 60.0, 120.0
"""A shorter run says little about rates, and nothing about the slope of memory."""
HOSTS = 3
"""So many processes share the devices, as the nodes of a lab do."""
Used = dict[str, dict[str, float]]
"""Process -> what it uses."""
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
    looked: float = 0.0
    disturbed: float = 0.0
    """When its drivers last raised an error, or late pieces of its answers were still on the wire."""
    raised: int = 0
    """Errors in all when that was looked at."""


class Soak:
    """One run."""

    def __init__(self, seconds: float, seed: int, hosts_wanted: int, log: TextIO | None) -> None:
        self.seconds = seconds
        self.rng = random.Random(seed)
        self.log = log
        self.violations: list[str] = []
        self.samples: list[tuple[float, Used]] = []
        self.faults: list[Fault] = []
        self.active: list[Fault] = []
        self.broke = 0
        self.devices: dict[str, Watched] = {}
        self.serving: dict[str, Child] = {}
        """Instrument -> the process that serves it."""
        self.hosting: dict[str, Child] = {}
        """Device -> the process that has its driver."""
        self.hub = Hub("tcp://127.0.0.1:0").start()
        address = self.hub.addresses.registry
        self.events = Subscriber(address, ("device.", "signal.", "fault.", "host."))
        self.publisher = Publisher("soak")
        self.publisher.connect(self.hub.addresses.publish)
        self.children: list[Child] = []
        for group in GROUPS:
            self.children.append(Child(group, Path(instruments.__file__), group))
            for name, instrument, driver, where in self.children[-1].first:
                period_s, slower = polled_every(driver)
                self.serving[instrument] = self.children[-1]
                device = f"soak.{name}"
                self.devices[device] = Watched(device, instrument, driver, where, 1 / period_s, slower)
        for number in range(hosts_wanted):
            some = [*self.devices.values()][number::hosts_wanted]
            wanted = json.dumps([(one.name, one.driver, one.address) for one in some])
            node = f"soak_{number + 1}"
            self.children.append(Child(f"drivers {number + 1}", Path(hosts.__file__), node, address, wanted))
            self.hosting.update({one.name: self.children[-1] for one in some})
        self.started = time.monotonic()
        schemes = {one.instrument: one.address.partition(":")[0] for one in self.devices.values()}
        self.pairs = [(name, kind) for name, scheme in schemes.items() for kind in APPLICABLE[scheme]]
        self.plan = self._shuffled()

    def run(self) -> int:
        """The whole run; the exit code."""
        try:
            self._settle("before the faults")
            begun = time.monotonic()
            for host in {*self.hosting.values()}:
                host.ask("begin", [*self.devices])
            self._undisturbed([*self.devices.values()], True)
            third_s, end_s = begun + self.seconds / 3, begun + self.seconds
            self._faults_until(third_s)
            self._cure()
            first = self._settle("after the first third")
            self._faults_until(end_s)
            self._cure()
            self._undisturbed([*self.devices.values()], False)
            ran_s = time.monotonic() - begun
            for host in {*self.hosting.values()}:
                for name, counts in host.ask("counts", [*self.devices]).items():
                    self.devices[name].learn(counts, ran_s)
            last = self._settle("at the end", first)
            self._judge(first, last)
        finally:
            for child in reversed(self.children):
                child.close()
            self.publisher.close()
            self.events.close()
            self.hub.close()
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

    def _undisturbed(self, devices: list[Watched], is_so: bool) -> None:
        """Whether readings of devices count for their rates from now on."""
        for host in {self.hosting[one.name] for one in devices}:
            host.ask("undisturbed", [one.name for one in devices], is_so)

    def _raised(self, devices: list[Watched]) -> int:
        """How many errors their drivers have raised."""
        names = [one.name for one in devices]
        return sum(host.ask("raised", names) for host in {self.hosting[name] for name in names})

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
            self._raised(watched),
            sum(one.told["lost"] + one.told["error"] for one in watched),
        )
        self._undisturbed(watched, False)
        said = {"kind": kind, "amount": amount, "on": True, "devices": [one.name for one in watched]}
        self.publisher.publish(f"fault.{instrument}", said)
        self.serving[instrument].ask("on", instrument, kinds)
        self.faults.append(fault)
        self.active.append(fault)

    def _go_on(self, fault: Fault) -> None:
        if fault.off_at:
            self._finish(fault)
        elif time.monotonic() >= fault.until:
            self._off(fault)

    def _off(self, fault: Fault) -> None:
        self.serving[fault.instrument].ask("off", fault.instrument, [])
        self.publisher.publish(f"fault.{fault.instrument}", {"kind": fault.kind, "on": False})
        fault.off_at = fault.disturbed = time.monotonic()

    def _finish(self, fault: Fault) -> None:
        """Let go of a fault that is off once its devices are back and its wire is quiet; judge whether it was seen."""
        watched, now = self._of(fault.instrument), time.monotonic()
        if now - fault.looked < LOOK_S:
            return
        fault.looked = now
        held = self.serving[fault.instrument].ask("held", fault.instrument, [])
        if held or self._raised(watched) != fault.raised or not all(one.well for one in watched):
            fault.disturbed, fault.raised = now, self._raised(watched)
        waited_s = now - fault.off_at
        if now - fault.disturbed < QUIET_S and waited_s < COMES_BACK_S:
            return
        if now - fault.disturbed < QUIET_S and all(one.well for one in watched):
            self.violations.append(
                f"{fault.kind} ({fault.amount:g}) on {fault.instrument}: its devices are ready but still raise errors {waited_s:.0f} s after it"
            )
        self.active.remove(fault)
        self._undisturbed([one for one in watched if one.well], True)
        what = f"{fault.kind} ({fault.amount:g}) on {fault.instrument}"
        raised = self._raised(watched) - fault.errors
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

    def _sample(self) -> None:
        since_s = time.monotonic() - self.started
        self.samples.append((since_s, self._used()))
        print(f"{since_s:6.0f} s  {brief(self.samples[-1][1])}", flush=True)

    def _used(self) -> Used:
        return {"hub and watcher": usage(), **{child.name: child.ask("usage") for child in self.children}}

    def _settle(self, when: str, before: Used | None = None) -> Used:
        """Wait until every device is ready, and descriptors and threads are what they were ``before``."""
        end = time.monotonic() + COMES_BACK_S
        while not all(one.well for one in self.devices.values()) and time.monotonic() < end:
            self._watch(0.1)
        for one in self.devices.values():
            if not one.well:
                self.violations.append(f"{when}: {one.name} is {one.state or 'unheard of'} ({one.reason})")
        self._watch(2.0)
        while True:
            now = self._used()
            if before is None or not grown(before, now) or time.monotonic() > end:
                print(f"{when}: {brief(now)}", flush=True)
                return now
            self._watch(0.5)

    # the verdict

    def _judge(self, first: Used, last: Used) -> None:
        self.violations += grown(first, last)
        if self.events.lost:
            self.violations.append(f"events were lost on the way: {self.events.lost}")
        if self.seconds >= RATES_FROM_S:
            self.violations += self._too_slow()
        if self.seconds >= SLOPE_FROM_S:
            for name in last:
                slope = self.slope(name)
                if slope > SLOPE_MB_PER_MIN:
                    self.violations.append(f"memory of the process {name!r} grows by {slope:.2f} MB/min")

    def slope(self, process: str) -> float:
        """Growth of resident memory after the first third, MB/min, by least squares."""
        late = [sample for sample in self.samples if sample[0] >= self.seconds / 3]
        points = [(t / 60, used[process]["rss_mb"]) for t, used in late]
        if len(points) < 2:
            return 0.0
        mean_t, mean_y = (sum(column) / len(points) for column in zip(*points, strict=True))
        over = sum((t - mean_t) ** 2 for t, _ in points)
        return sum((t - mean_t) * (y - mean_y) for t, y in points) / over

    def table(self) -> str:
        """For people."""
        ran_s = time.monotonic() - self.started
        lines = ["readings per second of each signal, while its device was well and no fault was on:"]
        for one in self.devices.values():
            rates = ", ".join(f"{name} {rate:.2f}" for name, rate in one.rates.items())
            lines += textwrap.wrap(f"{one.name}: {rates}", 110, subsequent_indent="  ")
        lines.append(
            f"\n{'device':31} {'over':8} {'signals':>7} {'wanted':>7} {'least':>6} {'mean':>6} {'of run':>6} {'total':>6}"
            f" {'raised':>6} {'events':>6} {'lost':>5} {'ready':>5}"
        )
        for one in self.devices.values():
            lines.append(
                f"{one.name:31} {one.address.partition(':')[0]:8} {len(one.rates):7} {one.wanted_hz:7.2f} {one.least[0]:6.2f}"
                f" {fmean(one.rates.values() or [0.0]):6.2f} {one.well_part:6.0%} {one.total_hz:6.2f}"
                f" {one.raised:6} {one.told['error']:6} {one.told['lost']:5} {one.told['ready']:5}"
            )
        lines.append(
            "wanted, least, mean: readings per second of a signal while its device was well, the part of the run that was;"
            " total: over all of it"
        )
        lines += [
            f"{one.name} is read {one.wanted_hz:.2f} times a second, not {1 / POLL_S:g}: {one.slower}"
            for one in self.devices.values()
            if one.slower
        ]
        lines.append("\nprocess            processor  memory, its growth after the first third")
        (first_s, first), (last_s, last) = self.samples[0], self.samples[-1]
        for name, used in last.items():
            busy = (used["cpu_s"] - first[name]["cpu_s"]) / max(last_s - first_s, 1e-9)
            lines.append(f"{name:18} {busy:8.1%}  {used['rss_mb']:6.1f} MB  {self.slope(name):+.2f} MB/min")
        cores = sum(used["cpu_s"] - first[name]["cpu_s"] for name, used in last.items()) / max(
            last_s - first_s, 1e-9
        )
        lines.append(
            f"{'all':18} {cores:8.1%}  of one of {os.cpu_count()} processors; load average {os.getloadavg()[1]:.1f}"
        )
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
            (one.least[0], f"{one.name}.{one.least[1]}") for one in self.devices.values() if not one.slower
        )

    def _too_slow(self) -> list[str]:
        """Devices with a signal that was read less often than it can be."""
        return [
            f"{one.name}.{one.least[1]} was read at {one.least[0]:.2f} Hz, not {one.wanted_hz:.2f};"
            f" is this machine busy with something else? (load average {os.getloadavg()[1]:.1f})"
            for one in self.devices.values()
            if one.least[0] < LEAST_PART * one.wanted_hz
        ]


def brief(used: Used) -> str:
    """Processes in few words."""
    return "; ".join(
        f"{name}: {of['descriptors']:.0f} fd {of['threads']:.0f} th {of['rss_mb']:.1f} MB"
        for name, of in used.items()
    )


def grown(before: Used, after: Used) -> list[str]:
    """Which counts are higher than before."""
    return [
        f"{name}: {before[name][what]:.0f} {what} became {now[what]:.0f}"
        for name, now in after.items()
        for what in ("descriptors", "threads")
        if now[what] > before[name][what]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hosts", type=int, default=HOSTS, help="processes that share the drivers")
    parser.add_argument("--log", type=Path, help="file for the events, JSON lines")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(arguments.log.open("w")) if arguments.log else None
        return Soak(arguments.seconds, arguments.seed, arguments.hosts, log).run()


if __name__ == "__main__":
    sys.exit(main())
