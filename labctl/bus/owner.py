"""The thread that owns one instrument: answers requests, polls signals, and brings it back when it was lost.

connecting -> (open, declared state) -> settling -> ready; without connection "lost" (retried with back-off); with its
declared state refused "fault" (retried too); after safe() "safe", until ``restore``: neither a reconnection nor, where the
host has a folder for marks, a restart of the host brings outputs back by itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.bus.lane import Lane
from labctl.bus.leases import Leases
from labctl.bus.polling import REPEAT_S, Agenda, Publish, Readings
from labctl.bus.safe_mark import SafeMark
from labctl.bus.wire import DeviceEntry, DeviceState, MovedError, Request, State
from labctl.clock import Clock, wall_time
from labctl.device import Device
from labctl.errors import (
    DeviceError,
    LabError,
    NoAnswerError,
    NotConnectedError,
    WireError,
)

log = logging.getLogger(__name__)
FIRST_RETRY_S, LAST_RETRY_S = 0.2, 5.0
SETTLING_CHECK_S, READY_CHECK_S = 0.3, 2.0
"""How often not_ready() is asked while it settles and once it is ready, s."""
AFTER_SET_S = 0.05
"""How long after a set not_ready() is asked, s: a client that sets again and again is not slowed down by it."""
WIRE_S = 50e-6
"""What took less was known already, and not asked on any wire, s."""
LOOK_S = 1e-3
"""How often, while it polls, a lane looks whether a request has come, s."""
UPKEEP = ""
"""On the agenda, beside the signals to poll: connecting, or asking whether it is ready."""


@dataclass(frozen=True)
class HostedDevice:
    """An instrument a host owns.

    make:   a new unopened driver instance (limits of the lab's configuration applied); called again for every
            connection, and for a second connection to make it safe
    state:  signals to set, in this order, before it counts as ready
    """

    name: str
    make: Callable[[], Device]
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    required: bool = True


class SafeOrder:
    """A demand to make the device safe, before anything else, in its own thread."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.begun = threading.Event()
        self.done = threading.Event()
        self.error: BaseException | None = None


class DeviceLane(Lane):
    """The thread of one instrument, its ROUTER socket, and the instrument's state."""

    def __init__(
        self,
        hosted: HostedDevice,
        listen: str,
        leases: Leases,
        publish: Publish,
        marks: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(hosted.name, listen, clock)
        self.hosted = hosted
        self.device = hosted.make()
        self.driver = f"{type(self.device).__module__}:{type(self.device).__name__}"
        self._leases = leases
        self._publish = publish
        self._state: tuple[State, str, float] = ("connecting", "", wall_time())
        self._state_mutex = threading.Lock()
        self._connected = False
        self._gone_at = -1.0  # last answer before the connection broke, s; -1 while there is one
        self._mark = SafeMark(marks, hosted.name)
        self._safe_reason = self._mark.read()
        self._order: SafeOrder | None = None
        self._order_mutex = threading.Lock()  # over reason, order and mark, which belong together
        self._retry_s = FIRST_RETRY_S
        self._agenda = Agenda(self.clock)
        self._agenda.put(UPKEEP)
        self._readings = Readings(hosted.name, type(self.device).signals, publish, self.clock)
        self._described: dict[str, Any] = {}
        self._stale = False
        self._answered = -1.0
        self._latency_s = 0.0
        self._asked = False
        """Whether the last use of the instrument went over its wire."""

    # requests, in this thread

    def answer(self, request: Request, sender: bytes) -> Any:
        """One request to the device."""
        if request.device != self.name:
            raise MovedError(f"{self.name} is here, not {request.device}")
        verb = request.verb
        if verb == "get":
            return self._use(self.device.signal(request.name).get)
        if verb == "set" or verb == "call" or verb == "restore":
            if request.name == "safe":
                return self._make_safe()
            self._leases.check(self.name, request.client)
            return self._change(request)
        if verb == "describe":
            return self._describe()
        if verb == "cached":
            return self._cached()
        if verb == "ping":
            return wall_time()
        raise WireError(f"{self.name}: a device does not understand {verb!r}")

    def _change(self, request: Request) -> Any:
        if request.verb == "restore":
            return self._restore()
        arguments = request.arguments
        if request.verb == "set":
            if len(arguments) != 1:
                raise WireError(f"{self.name}.{request.name}: set takes one value, {len(arguments)} came")
            bound = self.device.signal(request.name)
            self._use(lambda: bound.set(arguments[0]))
            if bound.signal.tolerance is not None:
                self._unsettle(request.name)
            if request.name in self._agenda:
                self._agenda.put(request.name)
            else:
                self._readings.read(request.name, bound.target)
            return None
        return self._use(lambda: self.device.call(request.name, *arguments))

    def _unsettle(self, name: str) -> None:
        """A setpoint has moved: not ready until not_ready() has been asked, which is done after the reply."""
        if self._state[0] in ("ready", "settling"):
            self.set_state("settling", f"{name} was set")
            self._agenda.put(UPKEEP, AFTER_SET_S)

    def _use(self, ask: Callable[[], Any]) -> Any:
        """The instrument's answer; a broken connection makes the device lost."""
        if not self._connected:
            state, reason, since = self._state
            raise NotConnectedError(
                f"{self.name} is {state} since {wall_time() - since:.0f} s: {reason or 'first connection under way'}; it is retried by itself"
            )
        started = self.clock.now()
        try:
            value = ask()
        except (NotConnectedError, NoAnswerError) as error:
            self._lose(error)
            raise
        self._answered = now = self.clock.now()
        self._asked = now - started > WIRE_S
        if self._asked or not self._latency_s:
            self._latency_s = now - started
        return value

    def _cached(self) -> dict[str, Any]:
        state, reason, since = self._state
        return {"state": state, "reason": reason, "since": since, "signals": self._readings.cached()}

    def _describe(self) -> dict[str, Any]:
        if self._connected or not self._described:
            self._described = {**self.device.describe(), "device": self.name}
        return self._described

    def _make_safe(self) -> None:
        order = self.order_safe("safe() was called")
        self._obey(order)
        if order.error is not None:
            raise order.error

    def _restore(self) -> None:
        with self._order_mutex:
            if self._order is not None:
                raise DeviceError(f"{self.name} is being {self._order.reason}: restore it after that")
            self._mark.remove()
            self._safe_reason = ""
        if not self._connected:
            raise NotConnectedError(
                f"{self.name} is {self._state[0]} ({self._state[1]}); its declared state is set as soon as it is back"
            )
        self._use(self._declare)
        self.set_state("settling", "declared state set again")
        self._agenda.put(UPKEEP)

    # own work, in this thread

    def work(self) -> float:
        """Whatever is due: an order to be safe, (re)connection, the readiness check, or the signals to poll until a request comes."""
        if self._order is not None:
            self._obey(self._order)
        wait_s = self._agenda.next_due - self.clock.now()
        if wait_s > 0:
            return wait_s
        due = self._agenda.due()
        if UPKEEP not in due:
            self._poll_all(due)
        elif self._connected:
            self._check()
        else:
            self._connect()
        return self._agenda.next_due - self.clock.now()

    def _poll_all(self, names: Sequence[str]) -> None:
        """Read signals, one after the other; leaves the rest for later when somebody asks for something."""
        device = self.device
        self._ask_ahead(names)
        looked = self._answered
        for name in names:
            if not self._connected:
                return
            self._poll(name)
            if self._asked and self._answered - looked > LOOK_S:
                looked = self._answered
                if self._order is not None or self._stopping or self.called():
                    break
        device.forget()

    def _ask_ahead(self, names: Sequence[str]) -> None:
        try:
            self._use(lambda: self.device.ask_ahead(names))
        except (NotConnectedError, NoAnswerError):
            return  # now lost, with the reason
        except Exception:  # noqa: BLE001
            self.device.forget()  # each signal asks by itself, and says what is wrong with it

    def _connect(self) -> None:
        if self._state[0] != "lost":
            self.set_state("connecting", "")
        try:
            self._open()
            self._declare()
        except (NotConnectedError, NoAnswerError) as error:
            self._lose(error)
        except Exception as error:  # noqa: BLE001  (whatever a driver does, its thread goes on trying)
            self._refused(error)
        else:
            self._declared()

    def _open(self) -> None:
        if self._stale:
            self.device = self.hosted.make()
            self._stale = False
        self.device.open()
        self._connected = True
        self._answered = self.clock.now()
        signals = type(self.device).signals.items()
        self._agenda.put_all(name for name, signal in signals if signal.poll_s is not None)

    def _declare(self) -> None:
        """The declared state, signal by signal; or safe() if that is wanted, also when it is wanted halfway."""
        for name, value in self.hosted.state.items():
            if self._safe_reason or self._order is not None:
                break
            self.device.signal(name).set(value)
        if self._safe_reason or self._order is not None:
            self.device.safe()

    def _declared(self) -> None:
        gap = self._gap()
        if self._safe_reason:
            self.set_state("safe", self._safe_reason, **gap)
        else:
            back = "".join(f"back after {gap_s:.1f} s without an answer, " for gap_s in gap.values())
            self.set_state("settling", f"{back}declared state set", **gap)
        self._agenda.put(UPKEEP)

    def _gap(self) -> dict[str, float]:
        """How long it gave no answer, for the event that says it is back; empty if it was not away."""
        since, self._gone_at = self._gone_at, -1.0
        return {"gap_s": self.clock.now() - since} if since >= 0 else {}

    def _lose(self, error: BaseException) -> None:
        if self._connected and self._gone_at < 0:
            self._gone_at = self._answered
        self._connected = False
        reason = str(error) + self._let_go()
        self._agenda.clear()
        self._retry()
        self.set_state("lost", reason)

    def _refused(self, error: BaseException) -> None:
        text = str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
        if not self._connected:
            text += self._let_go()
        self.set_state("fault", text)
        self._retry()

    def _retry(self) -> None:
        """Try again after a while, and after a longer while the next time."""
        self._agenda.put(UPKEEP, self._retry_s)
        self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)

    def _let_go(self) -> str:
        """Close the driver, whatever state it is in; the next connection gets a new one. What went wrong, to append to a reason."""
        self._stale = True
        try:
            self.device.close()
        except (LabError, OSError):
            return ""  # a connection that is gone has nothing to close
        except Exception as error:  # noqa: BLE001  (a mistake in a driver must not end its thread)
            return f"; and closing it failed: {type(error).__name__}: {error}"
        return ""

    def _check(self) -> None:
        state = self._state[0]
        try:
            if state == "fault":
                self._use(self._declare)
                self._declared()
                return
            reason: str = "" if state == "safe" else self._use(self.device.not_ready)
        except (NotConnectedError, NoAnswerError):
            return  # now lost, with the reason
        except Exception as error:  # noqa: BLE001
            if state == "fault":
                self._refused(error)
                return
            reason = f"cannot tell whether it is ready: {error}"
        if state != "safe":
            self.set_state("settling" if reason else "ready", reason)
        if not reason:
            self._retry_s = FIRST_RETRY_S
        self._agenda.put(UPKEEP, SETTLING_CHECK_S if reason else READY_CHECK_S)

    def _poll(self, name: str) -> None:
        bound = self.device.signal(name)
        try:
            self._readings.read(name, self._use(bound.get))
        except (NotConnectedError, NoAnswerError):
            return  # now lost, with the reason
        except Exception as error:  # noqa: BLE001  (whatever a driver does, the other signals are read)
            self._readings.failed(name, error)
        self._agenda.again(name, bound.signal.poll_s or REPEAT_S)

    # safety

    def order_safe(self, reason: str) -> SafeOrder:
        """From any thread: be made safe before the next request, and stay so."""
        with self._order_mutex:
            unmarked = self._mark.write(reason)
            order = SafeOrder(f"{reason}; {unmarked}" if unmarked else reason)
            self._safe_reason = order.reason
            self._order = order
        return order

    def interrupt(self) -> None:
        """From any thread: make a query under way fail at once, where its transport can."""
        transport: Any = self.device.transport
        if transport is not None:
            transport.interrupt()

    def _obey(self, order: SafeOrder) -> None:
        with self._order_mutex:
            if self._order is order:  # and not a newer one, which is obeyed after this
                self._order = None
        order.begun.set()
        try:
            if not self._connected:
                self._open()
            self._use(self.device.safe)
            self.set_state("safe", order.reason, **self._gap())
            self._agenda.put(UPKEEP, READY_CHECK_S)
        except (NotConnectedError, NoAnswerError) as error:
            order.error = error
            if self._connected or self._state[0] != "lost":
                self._lose(error)
            else:
                self._let_go()
        except Exception as error:  # noqa: BLE001
            order.error = error if isinstance(error, LabError) else DeviceError(f"{self.name}: {error!r}")
            self._refused(order.error)
        order.done.set()

    # what others see

    def set_state(self, state: State, reason: str, **more: float) -> None:
        """From any thread: change the state, with an event if it is a change; ``more`` goes into the event."""
        with self._state_mutex:
            if (state, reason) == self._state[:2]:
                return
            since = self._state[2] if state == self._state[0] else wall_time()
            self._state = (state, reason, since)
            self._publish(f"device.{self.name}", {"state": state, "reason": reason, "since": since, **more})

    def entry(self, address: str) -> DeviceEntry:
        """What the hub is told when the host registers."""
        return DeviceEntry(self.name, self.driver, address, self.hosted.required)

    def state(self) -> DeviceState:
        """What the hub is told in every heartbeat."""
        state, reason, since = self._state
        age_s = self.clock.now() - self._answered if self._answered >= 0 else -1.0
        return DeviceState(
            self.name, state, reason, since, age_s, self._latency_s, self._leases.holder(self.name)
        )

    def finish(self) -> None:
        """Let go of the instrument."""
        unclosed = self._let_go()
        if unclosed:
            log.error("%s is left behind%s", self.name, unclosed)
