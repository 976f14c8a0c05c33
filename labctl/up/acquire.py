"""Take data: on a lab that is up, over the bus; or on a simulated lab in this process, in virtual time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from labctl.bus.client import Client
from labctl.bus.stream import StreamSink
from labctl.clock import SystemClock, VirtualClock
from labctl.config import LabConfig
from labctl.core.nidaq.rules import check as check_for_card
from labctl.core.session import CoreSession, FinishedMessage, Message, decode
from labctl.device import Device
from labctl.errors import BusError, CoreError, DeviceError, NoHubError, RunError, ScheduleError
from labctl.lab import device_maker
from labctl.run import folder as folders
from labctl.run.runner import Observer, Outcome, Runner
from labctl.schedule.check import check
from labctl.schedule.items import Schedule, from_json, to_json
from labctl.transport import connect
from labctl.up.supervisor import not_ready
from labctl.up.world import in_process, make_core, make_world

WATCH_S = 0.5
"""How often the state of the devices is looked at while data is taken, s."""
GATHER_S = 0.1
"""Records of this much real time go to disk together in virtual time, s."""
SILENT_S = 10.0
"""A core unheard of for so long is lost, s."""


class BusCore:
    """The core of a lab that is up."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._clock = SystemClock()
        self._stream = ""

    def start(self, schedule: Schedule, rounds: int, first_record: int) -> None:
        """Begin to play."""
        self._stream = self._client.call(
            "core.start", to_json(schedule).decode(), rounds, first_record, self._client.owner, timeout_s=20.0
        )

    def batches(self) -> Iterator[list[Message]]:
        """What the core sends, one by one; acknowledged when the next is asked for, so after it is on disk."""
        with StreamSink(self._stream, owner=self._client.owner) as sink:
            kept = heard = self._clock.now()
            while True:
                received = sink.receive(0.25)
                now = self._clock.now()
                if now - kept > 1.0:
                    self._client.call("core.keep")
                    kept = now
                if received is None:
                    if sink.ended:
                        return
                    if now - heard > SILENT_S and not self._client.call("core.status")["playing"]:
                        raise CoreError(
                            "the core no longer plays this run (was its process restarted?); the data is kept, go on with `labctl run --resume RID`"
                        )
                    yield []
                    continue
                heard = now
                message = decode(bytes(received.frames[0]))
                if isinstance(message, FinishedMessage):
                    sink.acknowledge(received.sequence)
                    sink.receive(1.0)  # the end of the stream: the core is free for the next run
                    yield [message]
                    return
                yield [message]
                sink.acknowledge(received.sequence)

    def pause(self) -> None:
        """Hold."""
        self._client.call("core.pause")

    def resume(self) -> None:
        """Go on."""
        self._client.call("core.resume")

    def stop(self) -> None:
        """End soon."""
        self._client.call("core.stop")


class Acquisition:
    """Runs on a lab that is up.

    core:  "sim" (the core that the lab has) or "nidaq" (the NI card of the lab file, played from this process)
    """

    def __init__(self, client: Client, config: LabConfig, lab: Path, runs: Path, core: str = "sim") -> None:
        self._client = client
        self._config = config
        self._core = core
        self._clock = SystemClock()
        self._looked = -1e9
        self._trouble: dict[str, str] = {}
        self._runner = Runner(
            BusCore(client) if core == "sim" else self._own_core(),
            runs,
            lab,
            config.effective,
            snapshot=self.snapshot,
            trouble=self.trouble,
            seed=None if config.world is None else config.world.seed,
            sources=self._sources(),
        )

    def run(
        self, schedule: Schedule, rounds: int, observer: Observer | None = None, label: str = ""
    ) -> Outcome:
        """Check, then take a run; ScheduleError with every problem, or DeviceError if the lab is not ready, before anything moves."""
        refuse(schedule, self._config, self._core)
        self._looked = -math.inf  # what was known before this run may be over
        trouble = self.trouble()
        if trouble:
            raise DeviceError(
                "the lab is not ready: " + "; ".join(f"{name}: {why}" for name, why in trouble.items())
            )
        return self._runner.run(schedule, rounds, observer, label)

    def resume(self, rid: int, observer: Observer | None = None) -> Outcome:
        """Go on with a run that was cut short."""
        self._looked = -math.inf
        return self._runner.resume(rid, stored_schedule(self._runner.runs, rid), observer)

    def stop(self) -> None:
        """End the run in progress in good order; from any thread or a signal handler."""
        self._runner.stop_requested.set()

    def trouble(self) -> dict[str, str]:
        """Why data must not be taken now: device -> reason. The hub is asked twice a second at most."""
        now = self._clock.now()
        if now - self._looked >= WATCH_S:
            self._looked = now
            try:
                self._trouble = not_ready(self._config, self._client.devices())
            except NoHubError:
                return self._trouble  # the hub is being restarted: what was known holds
        return self._trouble

    def snapshot(self) -> dict[str, Any]:
        """The last polled value of every signal of every device, SI."""
        found: dict[str, Any] = {}
        for device in self._config.device:
            try:
                cached = self._client.cached(device)
            except BusError as error:
                found[device] = f"unknown: {error}"
                continue
            except DeviceError as error:
                found[device] = f"unknown: {error}"
                continue
            found[f"{device} state"] = cached["state"]
            found |= {f"{device}.{name}": entry["value"] for name, entry in cached["signals"].items()}
        return found

    def _own_core(self) -> CoreSession:
        from labctl.up.ni_core import ni_core

        return ni_core(self._config, connect, self._clock, np.random.default_rng())

    def _sources(self) -> list[tuple[str, Any, str, str]]:
        if self._config.world is None:
            return []
        return [(str(n), v, str(u), str(s)) for n, v, u, s in self._client.call("world.sources")]


class VirtualLab:
    """A simulated lab in this process: the same drivers over ``sim://``, the same core, time as fast as it can be computed.

    The same seed gives the same journal, byte for byte.

    report:  whether a run gets a report with pictures
    """

    def __init__(
        self,
        config: LabConfig,
        lab: Path,
        seed: int | None,
        runs: Path,
        core: str = "sim",
        report: bool = True,
    ) -> None:
        self.config = config
        self._core = core
        self.clock = VirtualClock()
        self.world, self.instruments = make_world(config, lab, self.clock, seed)
        addresses = {name: config.device[name].address for name in self.instruments}
        self._dial = in_process(self.instruments, self.clock, addresses)
        self.devices: dict[str, Device] = {}
        try:
            self._bring_up(lab)
        except BaseException:
            for device in self.devices.values():
                device.close()
            self._dial.close()
            raise
        used = seed if seed is not None else (config.world.seed if config.world else None)
        self._runner = Runner(
            CoreSession(make_core(self.world), gather_s=GATHER_S) if core == "sim" else self._own_core(),
            runs,
            lab,
            config.effective,
            snapshot=self.snapshot,
            seed=used,
            sources=self.world.sources(),
            report=report,
        )

    def run(
        self, schedule: Schedule, rounds: int, observer: Observer | None = None, label: str = ""
    ) -> Outcome:
        """Check, then take a run."""
        refuse(schedule, self.config, self._core)
        return self._runner.run(schedule, rounds, observer, label)

    def resume(self, rid: int, observer: Observer | None = None) -> Outcome:
        """Go on with a run that was cut short (on a fresh world: the random numbers are not those it would have had)."""
        return self._runner.resume(rid, stored_schedule(self._runner.runs, rid), observer)

    def stop(self) -> None:
        """End the run in progress in good order."""
        self._runner.stop_requested.set()

    def snapshot(self) -> dict[str, Any]:
        """Every polled signal of every device, SI."""
        return {
            f"{name}.{signal}": device.signal(signal).get()
            for name, device in self.devices.items()
            for signal, declared in type(device).signals.items()
            if declared.poll_s is not None
        }

    def settle(self, timeout_s: float = 600.0) -> None:
        """Let laboratory time pass until every device is ready; DeviceError says which is not."""
        deadline = self.clock.now() + timeout_s
        waiting = self._not_ready(self.devices)
        while waiting:
            if self.clock.now() > deadline:
                raise DeviceError(
                    f"not ready after {timeout_s:g} s: "
                    + "; ".join(f"{name}: {why}" for name, why in waiting.items())
                )
            self.clock.advance(0.5)
            # one that is still waiting is reason enough not to ask the others yet
            waiting = self._not_ready(waiting) or self._not_ready(self.devices)

    def close(self) -> None:
        """Make every device safe and let go of it."""
        try:
            for device in self.devices.values():
                device.safe()
                device.close()
        finally:
            self._dial.close()

    def __enter__(self) -> VirtualLab:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _not_ready(self, names: Iterable[str]) -> dict[str, str]:
        return {name: why for name in names if (why := self.devices[name].not_ready())}

    def _own_core(self) -> CoreSession:
        from labctl.up.ni_core import ni_core

        return ni_core(self.config, self._dial, self.clock, self.world.rng("core"))

    def _bring_up(self, lab: Path) -> None:
        for name in self.config.device:
            self.devices[name] = device_maker(self.config, name, lab, self._dial)()
        for name, device in self.devices.items():
            device.open()
            for signal, value in self.config.device[name].state.items():
                device.signal(signal).set(value)
        self.settle()


def refuse(schedule: Schedule, config: LabConfig, core: str = "sim") -> None:
    """ScheduleError with every problem of the schedule on this lab's lines, and on this core, if there are any."""
    if core == "nidaq":
        found = check_for_card(schedule, config.line, config.core.nidaq)
    else:
        found = check(schedule, config.line, links=config.links)
    problems = [str(problem) for problem in found]
    if problems:
        raise ScheduleError(
            f"schedule {schedule.name} cannot run on {config.name}: "
            + "\n  ".join(["", *problems]).lstrip("\n"),
            problems,
        )


def stored_schedule(runs: Path, rid: int) -> Schedule:
    """The schedule of a run, as it was played."""
    path = folders.find(runs, rid) / "schedule.json"
    try:
        return from_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); the run cannot be resumed") from None
