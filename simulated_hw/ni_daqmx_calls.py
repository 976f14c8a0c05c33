"""The NI gRPC calls that make, describe and run tasks of a simulated card, and how all calls are answered."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

import grpc
from nidaqmx._stubs import nidaqmx_pb2 as pb  # the message types NI ships with its Python package
from nidaqmx._stubs.nidaqmx_pb2_grpc import NiDAQmxServicer
from session_pb2 import Session

from labctl.sim.faults import Faults
from simulated_hw.ni_daqmx_card import Card
from simulated_hw.ni_daqmx_errors import Code, NiError
from simulated_hw.ni_daqmx_tasks import Channel, Task, Timing, default_source

Context = grpc.ServicerContext
FINITE = 10178
COUNT_DOWN = 10124
TIMEBASE_HZ = 100e6
SLICE_S = 0.002
"""A call that waits looks so often whether its time has come, s."""

M = TypeVar("M", bound=Callable[..., Any])


def waiting(method: M) -> M:
    """A call that takes the lock by itself, as it waits in between: with the faults of the wire, refusals NI's way."""

    @functools.wraps(method)
    def answer(self: TaskCalls, request: Any, context: Context) -> Any:
        self.refuse_connection(context)
        try:
            result = method(self, request, context)
        except NiError as error:
            self.lose_answer(context)
            return refuse(context, error)
        self.lose_answer(context)
        return result

    return cast(M, answer)


def prompt(method: M) -> M:
    """A call that is answered at once, under the world's lock and with the card up to date."""

    @functools.wraps(method)
    def locked(self: TaskCalls, request: Any, context: Context) -> Any:
        with self.lock:
            self.card.advance()
            return method(self, request, context)

    return cast(M, waiting(locked))


def refuse(context: Context, error: NiError) -> Any:
    """End the call the way NI's server does: the status code in the trailing metadata."""
    context.set_trailing_metadata((("ni-error", str(int(error.code))),))
    context.abort(grpc.StatusCode.UNKNOWN, str(error))


def unknown(context: Context, what: str) -> Any:
    """End a call about something that is not simulated."""
    context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{what} is not simulated")


class TaskCalls(NiDAQmxServicer):
    """Calls about tasks, channels and timing. Calls that are not here are answered with UNIMPLEMENTED.

    lock:     the world's lock
    sleep:    waits on the world's clock, s
    """

    def __init__(self, card: Card, lock: Any, sleep: Callable[[float], None], faults: Faults) -> None:
        self.card = card
        self.lock = lock
        self.sleep = sleep
        self.faults = faults
        self.stopping = threading.Event()
        self.tasks: dict[str, Task] = {}
        self._unnamed = 0

    # how calls wait and fail
    def refuse_connection(self, context: Context) -> None:
        """The fault of a server that cannot be reached."""
        if "refuse" in self.faults.active:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    def lose_answer(self, context: Context) -> None:
        """The faults of a wire on which the request came through, as a client sees them."""
        faults = self.faults
        if not faults.active:
            return
        if faults.take("disconnect"):
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        if "garble" in faults.active or "garbage" in faults.active:
            context.abort(grpc.StatusCode.INTERNAL, "Exception deserializing response!")
        lost = faults.take("drop")
        while lost or "silent" in faults.active:
            self.pause(context)
        if "late" in faults.active:
            self.stopping.wait(faults.active["late"])

    def pause(self, context: Context) -> None:
        """A moment of real time; ends the call if the server is closing or the client has gone."""
        if self.stopping.wait(SLICE_S):
            context.abort(grpc.StatusCode.UNAVAILABLE, "Server shutting down")
        if not context.is_active():
            context.abort(grpc.StatusCode.CANCELLED, "cancelled")

    def wait_until(self, ready: Callable[[], bool], timeout_s: float, context: Context) -> bool:
        """Wait on the world's clock; whether it was ready in time. A negative timeout waits without end."""
        begun_s = self.card.now()
        while True:
            with self.lock:
                left_s = begun_s + timeout_s - self.card.advance()
                if ready():
                    return True
            if timeout_s >= 0 and left_s <= 0:
                return False
            if self.stopping.is_set():
                context.abort(grpc.StatusCode.UNAVAILABLE, "Server shutting down")
            if not context.is_active():
                context.abort(grpc.StatusCode.CANCELLED, "cancelled")
            self.sleep(min(SLICE_S, left_s) if timeout_s >= 0 else SLICE_S)

    def task(self, session: Session) -> Task:
        """The task of a session."""
        task = self.tasks.get(session.name)
        if task is None:
            raise NiError(Code.INVALID_TASK, f"Task Name: {session.name}")
        return task

    # tasks
    @prompt
    def CreateTask(self, request: pb.CreateTaskRequest, context: Context) -> pb.CreateTaskResponse:
        """Make a task, or attach to the one of that name."""
        name = request.session_name
        behaviour = int(request.initialization_behavior)
        exists = name in self.tasks
        if behaviour == 1 and exists:
            context.abort(grpc.StatusCode.ALREADY_EXISTS, f"The session name {name!r} is already in use.")
        if behaviour == 2 and not exists:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"There is no session named {name!r}.")
        if not name:
            name = f"_unnamedTask<{self._unnamed:X}>"
            self._unnamed += 1
        if not exists:
            self.tasks[name] = Task(name, self.card)
        return pb.CreateTaskResponse(task=Session(name=name), new_session_initialized=not exists)

    @prompt
    def ClearTask(self, request: pb.ClearTaskRequest, context: Context) -> pb.ClearTaskResponse:
        """Stop a task and forget it."""
        self.task(request.task).clear()
        del self.tasks[request.task.name]
        return pb.ClearTaskResponse()

    @prompt
    def StartTask(self, request: pb.StartTaskRequest, context: Context) -> pb.StartTaskResponse:
        """Start."""
        self.task(request.task).start()
        return pb.StartTaskResponse()

    @prompt
    def StopTask(self, request: pb.StopTaskRequest, context: Context) -> pb.StopTaskResponse:
        """Stop."""
        self.task(request.task).stop()
        return pb.StopTaskResponse()

    @prompt
    def TaskControl(self, request: pb.TaskControlRequest, context: Context) -> pb.TaskControlResponse:
        """Start, stop, verify, commit, reserve, unreserve or abort."""
        task = self.task(request.task)
        actions = (task.start, task.stop, task.verify, task.keep, task.keep, task.unreserve, task.unreserve)
        actions[request.action_raw or request.action]()
        return pb.TaskControlResponse()

    @prompt
    def IsTaskDone(self, request: pb.IsTaskDoneRequest, context: Context) -> pb.IsTaskDoneResponse:
        """Whether it is done."""
        return pb.IsTaskDoneResponse(is_task_done=self.task(request.task).done())

    @waiting
    def WaitUntilTaskDone(
        self, request: pb.WaitUntilTaskDoneRequest, context: Context
    ) -> pb.WaitUntilTaskDoneResponse:
        """Wait for the end of a finite task."""
        task = self.task(request.task)
        if not self.wait_until(task.done, request.time_to_wait, context):
            raise NiError(Code.WAIT_UNTIL_DONE_NOT_DONE, f"Task Name: {task.name}")
        return pb.WaitUntilTaskDoneResponse()

    @prompt
    def GetTaskAttributeString(
        self, request: pb.GetTaskAttributeStringRequest, context: Context
    ) -> pb.GetTaskAttributeStringResponse:
        """Name, channels, devices."""
        task = self.task(request.task)
        values = {
            0x1276: task.name,
            0x1273: ", ".join(channel.name for channel in task.channels),
            0x230E: self.card.name if task.channels else "",
        }
        return pb.GetTaskAttributeStringResponse(value=values[request.attribute_raw or request.attribute])

    @prompt
    def GetTaskAttributeUInt32(
        self, request: pb.GetTaskAttributeUInt32Request, context: Context
    ) -> pb.GetTaskAttributeUInt32Response:
        """How many channels and devices."""
        task = self.task(request.task)
        values = {0x2181: len(task.channels), 0x29BA: 1 if task.channels else 0}
        return pb.GetTaskAttributeUInt32Response(value=values[request.attribute_raw or request.attribute])

    # channels
    @prompt
    def CreateAIVoltageChan(
        self, request: pb.CreateAIVoltageChanRequest, context: Context
    ) -> pb.CreateAIVoltageChanResponse:
        """Analogue inputs."""
        names = self.card.physical(request.physical_channel, "ai")
        low, high = request.min_val, request.max_val
        channels = self._named(names, request.name_to_assign_to_channel)
        self.task(request.task).add("ai", [Channel(n, (p,), low, high) for n, p in channels])
        return pb.CreateAIVoltageChanResponse()

    @prompt
    def CreateAOVoltageChan(
        self, request: pb.CreateAOVoltageChanRequest, context: Context
    ) -> pb.CreateAOVoltageChanResponse:
        """Analogue outputs."""
        names = self.card.physical(request.physical_channel, "ao")
        low, high = request.min_val, request.max_val
        channels = self._named(names, request.name_to_assign_to_channel)
        self.task(request.task).add("ao", [Channel(n, (p,), low, high) for n, p in channels])
        return pb.CreateAOVoltageChanResponse()

    @prompt
    def CreateCICountEdgesChan(
        self, request: pb.CreateCICountEdgesChanRequest, context: Context
    ) -> pb.CreateCICountEdgesChanResponse:
        """A counter that counts edges."""
        names = self.card.physical(request.counter, "ci")
        direction = request.count_direction_raw or request.count_direction
        step = -1 if direction == COUNT_DOWN else 1
        channels = [
            Channel(name, (p,), terminal=default_source(p), initial=request.initial_count, step=step)
            for name, p in self._named(names, request.name_to_assign_to_channel)
        ]
        self.task(request.task).add("ci", channels)
        return pb.CreateCICountEdgesChanResponse()

    @prompt
    def CreateCOPulseChanFreq(
        self, request: pb.CreateCOPulseChanFreqRequest, context: Context
    ) -> pb.CreateCOPulseChanFreqResponse:
        """A counter that puts out pulses."""
        names = self.card.physical(request.counter, "co")
        channels = [
            Channel(
                name,
                (p,),
                frequency_hz=coerced(request.freq),
                duty=request.duty_cycle,
                delay_s=request.initial_delay,
            )
            for name, p in self._named(names, request.name_to_assign_to_channel)
        ]
        self.task(request.task).add("co", channels)
        return pb.CreateCOPulseChanFreqResponse()

    @prompt
    def CreateDIChan(self, request: pb.CreateDIChanRequest, context: Context) -> pb.CreateDIChanResponse:
        """Digital inputs."""
        grouped = bool(request.line_grouping_raw or request.line_grouping)
        channels = self._lines(request.lines, request.name_to_assign_to_lines, grouped)
        self.task(request.task).add("di", channels)
        return pb.CreateDIChanResponse()

    @prompt
    def CreateDOChan(self, request: pb.CreateDOChanRequest, context: Context) -> pb.CreateDOChanResponse:
        """Digital outputs."""
        grouped = bool(request.line_grouping_raw or request.line_grouping)
        channels = self._lines(request.lines, request.name_to_assign_to_lines, grouped)
        self.task(request.task).add("do", channels)
        return pb.CreateDOChanResponse()

    def _named(self, physical: list[str], name: str) -> list[tuple[str, str]]:
        if not name:
            return [(f"{self.card.name}/{channel}", channel) for channel in physical]
        if len(physical) == 1:
            return [(name, physical[0])]
        return [(f"{name}{n}", channel) for n, channel in enumerate(physical)]

    def _lines(self, text: str, name: str, grouped: bool) -> list[Channel]:
        lines = self.card.physical(text, "do")
        if grouped:
            whole = f"{self.card.name}/{lines[0]}{'...' if len(lines) > 1 else ''}"
            return [Channel(name or whole, tuple(lines))]
        return [Channel(name, (line,)) for name, line in self._named(lines, name)]

    # timing
    @prompt
    def CfgSampClkTiming(
        self, request: pb.CfgSampClkTimingRequest, context: Context
    ) -> pb.CfgSampClkTimingResponse:
        """Samples on a clock."""
        task = self.task(request.task)
        finite = (request.sample_mode_raw or request.sample_mode) == FINITE
        source = request.source if request.source.lower() != "onboardclock" else ""
        source = self.card.terminal(source) if source else ""
        rate_hz = request.rate if source else coerced(request.rate)
        task.configure(Timing(rate_hz, finite, request.samps_per_chan, source))
        return pb.CfgSampClkTimingResponse()

    @prompt
    def CfgImplicitTiming(
        self, request: pb.CfgImplicitTimingRequest, context: Context
    ) -> pb.CfgImplicitTimingResponse:
        """How many pulses."""
        finite = (request.sample_mode_raw or request.sample_mode) == FINITE
        self.task(request.task).configure(Timing(0.0, finite, request.samps_per_chan, implicit=True))
        return pb.CfgImplicitTimingResponse()


def coerced(rate_hz: float) -> float:
    """The rate that the card's timebase can be divided to."""
    return TIMEBASE_HZ / max(1, round(TIMEBASE_HZ / rate_hz)) if rate_hz > 0 else rate_hz
