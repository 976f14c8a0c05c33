"""The NI gRPC calls that move samples to and from a simulated card's tasks, and the streams of its events."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import numpy as np
from nidaqmx._stubs import nidaqmx_pb2 as pb
from numpy.typing import NDArray

from simulated_hw.ni_daqmx_calls import Context, prompt, refuse, unknown, waiting
from simulated_hw.ni_daqmx_card import Floats
from simulated_hw.ni_daqmx_errors import Code, NiError
from simulated_hw.ni_daqmx_properties import PropertyCalls
from simulated_hw.ni_daqmx_tasks import INPUTS, Task

BY_SCAN = 1
"""Layout of samples: all channels of the first instant first. The other layout is all samples of the first channel first."""
ACQUIRED, TRANSFERRED = 1, 2
M = TypeVar("M", bound=Callable[..., Any])


def stream(method: M) -> M:
    """A call that is answered with a stream: refused, if at all, before its first metadata."""

    @functools.wraps(method)
    def answers(self: DataCalls, request: Any, context: Context) -> Iterator[Any]:
        self.refuse_connection(context)
        self.lose_answer(context)
        try:
            yield from method(self, request, context)
        except NiError as error:
            refuse(context, error)

    return cast(M, answers)


class DataCalls(PropertyCalls):
    """Calls about samples and events."""

    # reading
    def read(self, task: Task, count: int, timeout_s: float, context: Context) -> tuple[Floats, int]:
        """(values by row and sample, status) of the next samples; status 0, or that they did not come in time.

        A task that nobody has started is started for this call only, as the real driver does: so a counter that
        was not started always shows its initial count.
        """
        with self.lock:
            now_s = self.card.advance()
            if task.kind == "do":
                task.verify()
                return task.sample(np.full(max(count, 1), now_s)), 0
            if task.kind not in INPUTS:
                raise NiError(Code.READ_NO_INPUT_CHANNELS, f"Task Name: {task.name}")
            started = task.running
            task.start()
        try:
            return self._read_started(task, count, timeout_s, context)
        finally:
            if not started:
                with self.lock:
                    task.stop()

    def _read_started(self, task: Task, count: int, timeout_s: float, context: Context) -> tuple[Floats, int]:
        if task.timing is None:
            with self.lock:
                now_s = self.card.advance()
                times = np.full(1 if count < 0 else count, now_s)
                if task.kind == "ci":
                    return np.full((1, len(times)), float(task.count())), 0
                return task.sample(times), 0
        acquired, starts = task.acquired, task.starts
        if count < 0:
            count = task.timing.samples - acquired.read if task.timing.finite else acquired.available

        def over() -> bool:
            ended = not task.running or task.starts != starts
            return acquired.available >= count or acquired.overrun or ended or task.done()

        self.wait_until(over, timeout_s, context)
        with self.lock:
            if task.cleared:
                raise NiError(Code.INVALID_TASK, f"Task Name: {task.name}")
            if acquired.overrun:
                raise NiError(Code.SAMPLES_NO_LONGER_AVAILABLE, f"Task Name: {task.name}")
            if not task.running or task.starts != starts:
                raise NiError(Code.NOT_RUNNING, f"Task Name: {task.name}")
            if acquired.available < count and task.done():
                raise NiError(Code.SAMPLES_NEVER_AVAILABLE, f"Task Name: {task.name}")
            ready = min(count, acquired.available)
            values = acquired.take(ready)
        rows = sum(len(channel.physical) for channel in task.channels)
        padded = np.zeros((rows, count))
        if ready:
            padded[:, :ready] = values
        return padded, 0 if ready == count else int(Code.SAMPLES_NOT_YET_AVAILABLE)

    def _asked(self, request: Any, context: Context, size: str) -> tuple[Task, Floats, int, int]:
        """(task, values, samples per channel that came, status) of a request to read."""
        with self.lock:
            task = self.task(request.task)
            before = task.acquired.read if task.running else 0
        values, status = self.read(task, request.num_samps_per_chan, request.timeout, context)
        if getattr(request, size) < values.shape[1] * len(task.channels):
            raise NiError(Code.READ_BUFFER_TOO_SMALL, f"Task Name: {task.name}")
        came = values.shape[1] if not status else task.acquired.read - before
        return task, values, came, status

    @waiting
    def ReadAnalogF64(self, request: pb.ReadAnalogF64Request, context: Context) -> pb.ReadAnalogF64Response:
        """Voltages."""
        _, values, came, status = self._asked(request, context, "array_size_in_samps")
        flat = laid_out(values, request.fill_mode_raw or request.fill_mode)
        return pb.ReadAnalogF64Response(status=status, read_array=flat, samps_per_chan_read=came)

    @waiting
    def ReadAnalogScalarF64(
        self, request: pb.ReadAnalogScalarF64Request, context: Context
    ) -> pb.ReadAnalogScalarF64Response:
        """One voltage."""
        return pb.ReadAnalogScalarF64Response(value=self._one(request, context))

    @waiting
    def ReadCounterScalarU32(
        self, request: pb.ReadCounterScalarU32Request, context: Context
    ) -> pb.ReadCounterScalarU32Response:
        """One count."""
        return pb.ReadCounterScalarU32Response(value=int(self._one(request, context)))

    @waiting
    def ReadCounterScalarF64(
        self, request: pb.ReadCounterScalarF64Request, context: Context
    ) -> pb.ReadCounterScalarF64Response:
        """One count."""
        return pb.ReadCounterScalarF64Response(value=self._one(request, context))

    def _one(self, request: Any, context: Context) -> float:
        with self.lock:
            task = self.task(request.task)
        values, status = self.read(task, 1, request.timeout, context)
        if status:
            raise NiError(Code(status), f"Task Name: {task.name}")
        return float(values[0, 0])

    @waiting
    def ReadCounterU32(
        self, request: pb.ReadCounterU32Request, context: Context
    ) -> pb.ReadCounterU32Response:
        """Counts."""
        _, values, came, status = self._asked(request, context, "array_size_in_samps")
        flat = values.astype(np.uint32).ravel().tolist()
        return pb.ReadCounterU32Response(status=status, read_array=flat, samps_per_chan_read=came)

    @waiting
    def ReadCounterU32Ex(
        self, request: pb.ReadCounterU32ExRequest, context: Context
    ) -> pb.ReadCounterU32ExResponse:
        """Counts."""
        _, values, came, status = self._asked(request, context, "array_size_in_samps")
        flat = values.astype(np.uint32).ravel().tolist()
        return pb.ReadCounterU32ExResponse(status=status, read_array=flat, samps_per_chan_read=came)

    @waiting
    def ReadCounterF64(
        self, request: pb.ReadCounterF64Request, context: Context
    ) -> pb.ReadCounterF64Response:
        """Counts."""
        _, values, came, status = self._asked(request, context, "array_size_in_samps")
        flat = values.ravel().tolist()
        return pb.ReadCounterF64Response(status=status, read_array=flat, samps_per_chan_read=came)

    @waiting
    def ReadCounterF64Ex(
        self, request: pb.ReadCounterF64ExRequest, context: Context
    ) -> pb.ReadCounterF64ExResponse:
        """Counts."""
        _, values, came, status = self._asked(request, context, "array_size_in_samps")
        flat = values.ravel().tolist()
        return pb.ReadCounterF64ExResponse(status=status, read_array=flat, samps_per_chan_read=came)

    @waiting
    def ReadDigitalLines(
        self, request: pb.ReadDigitalLinesRequest, context: Context
    ) -> pb.ReadDigitalLinesResponse:
        """Levels, a byte for each line of each channel."""
        task, values, came, status = self._asked(request, context, "array_size_in_bytes")
        width = max(len(channel.physical) for channel in task.channels)
        levels = np.zeros((len(task.channels), values.shape[1], width), np.uint8)
        for index, rows in enumerate(rows_of(task)):
            levels[index, :, : len(rows)] = values[rows].T
        if (request.fill_mode_raw or request.fill_mode) == BY_SCAN:
            levels = levels.swapaxes(0, 1)
        return pb.ReadDigitalLinesResponse(
            status=status, read_array=levels.tobytes(), samps_per_chan_read=came, num_bytes_per_samp=width
        )

    @waiting
    def ReadDigitalU32(
        self, request: pb.ReadDigitalU32Request, context: Context
    ) -> pb.ReadDigitalU32Response:
        """Levels, a bit for each line of a channel."""
        task, values, came, status = self._asked(request, context, "array_size_in_samps")
        words = np.stack([values[rows].T @ 2.0 ** np.arange(len(rows)) for rows in rows_of(task)])
        flat = laid_out(words, request.fill_mode_raw or request.fill_mode).astype(np.uint32).tolist()
        return pb.ReadDigitalU32Response(status=status, read_array=flat, samps_per_chan_read=came)

    # what there is to read and write
    @prompt
    def GetReadAttributeString(
        self, request: pb.GetReadAttributeStringRequest, context: Context
    ) -> pb.GetReadAttributeStringResponse:
        """Channels that are read: all."""
        attribute = request.attribute_raw or request.attribute
        if attribute != 0x1823:
            unknown(context, f"read attribute {attribute:#x}")
        names = ", ".join(channel.name for channel in self.task(request.task).channels)
        return pb.GetReadAttributeStringResponse(value=names)

    @prompt
    def GetReadAttributeUInt32(
        self, request: pb.GetReadAttributeUInt32Request, context: Context
    ) -> pb.GetReadAttributeUInt32Response:
        """Samples available, channels, lines; 0x31E8 is how many samples "all available" means now."""
        task = self.task(request.task)
        timing, available = task.timing, task.acquired.available
        unread = 1 if timing is None else timing.samples - task.acquired.read if timing.finite else available
        width = max((len(channel.physical) for channel in task.channels), default=0)
        values = {0x1223: available, 0x217B: len(task.channels), 0x217C: width, 0x31E8: unread}
        attribute = request.attribute_raw or request.attribute
        if attribute not in values:
            unknown(context, f"read attribute {attribute:#x}")
        return pb.GetReadAttributeUInt32Response(value=values[attribute])

    @prompt
    def GetReadAttributeUInt64(
        self, request: pb.GetReadAttributeUInt64Request, context: Context
    ) -> pb.GetReadAttributeUInt64Response:
        """Samples acquired and read since the start."""
        acquired = self.task(request.task).acquired
        values = {0x192A: acquired.total, 0x1221: acquired.read}
        attribute = request.attribute_raw or request.attribute
        if attribute not in values:
            unknown(context, f"read attribute {attribute:#x}")
        return pb.GetReadAttributeUInt64Response(value=values[attribute])

    @prompt
    def GetWriteAttributeUInt32(
        self, request: pb.GetWriteAttributeUInt32Request, context: Context
    ) -> pb.GetWriteAttributeUInt32Response:
        """Channels and lines that are written."""
        task = self.task(request.task)
        width = max((len(channel.physical) for channel in task.channels), default=0)
        values = {0x217E: len(task.channels), 0x217F: width}
        attribute = request.attribute_raw or request.attribute
        if attribute not in values:
            unknown(context, f"write attribute {attribute:#x}")
        return pb.GetWriteAttributeUInt32Response(value=values[attribute])

    @prompt
    def GetWriteAttributeUInt64(
        self, request: pb.GetWriteAttributeUInt64Request, context: Context
    ) -> pb.GetWriteAttributeUInt64Response:
        """Samples put out since the start."""
        attribute = request.attribute_raw or request.attribute
        if attribute != 0x192B:
            unknown(context, f"write attribute {attribute:#x}")
        return pb.GetWriteAttributeUInt64Response(value=self.task(request.task).done_samples)

    # writing
    @prompt
    def WriteAnalogF64(
        self, request: pb.WriteAnalogF64Request, context: Context
    ) -> pb.WriteAnalogF64Response:
        """Voltages."""
        task = self.task(request.task)
        values = self._shaped(task, np.array(request.write_array, float), request)
        task.write(values, request.auto_start)
        return pb.WriteAnalogF64Response(samps_per_chan_written=request.num_samps_per_chan)

    @prompt
    def WriteAnalogScalarF64(
        self, request: pb.WriteAnalogScalarF64Request, context: Context
    ) -> pb.WriteAnalogScalarF64Response:
        """One voltage."""
        self.task(request.task).write(np.array([[request.value]]), request.auto_start)
        return pb.WriteAnalogScalarF64Response()

    @prompt
    def WriteDigitalLines(
        self, request: pb.WriteDigitalLinesRequest, context: Context
    ) -> pb.WriteDigitalLinesResponse:
        """Levels, a byte for each line of each channel."""
        task = self.task(request.task)
        width = max((len(channel.physical) for channel in task.channels), default=1)
        levels = np.frombuffer(request.write_array, np.uint8).reshape(-1, width)
        by_line = [self._shaped(task, levels[:, line].astype(float), request) for line in range(width)]
        rows = [
            by_line[line][index]
            for index, channel in enumerate(task.channels)
            for line in range(len(channel.physical))
        ]
        task.write(np.stack(rows), request.auto_start)
        return pb.WriteDigitalLinesResponse(samps_per_chan_written=request.num_samps_per_chan)

    @prompt
    def WriteDigitalU32(
        self, request: pb.WriteDigitalU32Request, context: Context
    ) -> pb.WriteDigitalU32Response:
        """Levels, a bit for each line of a channel."""
        task = self.task(request.task)
        words = self._shaped(task, np.array(request.write_array, np.int64), request)
        rows = [
            (words[index] >> bit & 1).astype(float)
            for index, channel in enumerate(task.channels)
            for bit in range(len(channel.physical))
        ]
        task.write(np.stack(rows), request.auto_start)
        return pb.WriteDigitalU32Response(samps_per_chan_written=request.num_samps_per_chan)

    def _shaped(self, task: Task, values: NDArray[Any], request: Any) -> NDArray[Any]:
        """Values as channels by samples, whichever way they were sent."""
        count = int(request.num_samps_per_chan)
        if task.kind in ("", *INPUTS):
            raise NiError(Code.WRITE_NO_OUTPUT_CHANNELS, f"Task Name: {task.name}")
        if count < 1 or len(values) != count * len(task.channels):
            raise NiError(Code.WRITE_CHANNELS_MISMATCH, f"Task Name: {task.name}")
        if (request.data_layout_raw or request.data_layout) == BY_SCAN:
            return values.reshape(count, -1).T
        return values.reshape(-1, count)

    # events
    @stream
    def RegisterEveryNSamplesEvent(
        self, request: pb.RegisterEveryNSamplesEventRequest, context: Context
    ) -> Iterator[pb.RegisterEveryNSamplesEventResponse]:
        """An event for every so many samples, until unregistered or the task is cleared."""
        kind = request.every_n_samples_event_type_raw or request.every_n_samples_event_type
        with self.lock:
            task = self.task(request.task)
            if task.every_n is not None:
                raise NiError(Code.EVERY_N_ALREADY_REGISTERED, f"Task Name: {task.name}")
            if task.running:
                raise NiError(Code.CANNOT_REGISTER_WHILE_RUNNING, f"Task Name: {task.name}")
            if (kind == ACQUIRED) != (task.kind in INPUTS) or request.n_samples < 1:
                raise NiError(Code.INVALID_VALUE, f"Task Name: {task.name}")
            registered = task.every_n = (kind, request.n_samples)
        context.send_initial_metadata(())
        starts, fired = 0, 0
        while task.every_n is registered and not task.cleared:
            with self.lock:
                self.card.advance()
                if task.starts != starts:
                    starts, fired = task.starts, 0
                due = task.running and task.done_samples // request.n_samples > fired
            if due:
                fired += 1
                yield pb.RegisterEveryNSamplesEventResponse(
                    every_n_samples_event_type_raw=kind, n_samples=request.n_samples
                )
            else:
                self.pause(context)

    @prompt
    def UnregisterEveryNSamplesEvent(
        self, request: pb.UnregisterEveryNSamplesEventRequest, context: Context
    ) -> pb.UnregisterEveryNSamplesEventResponse:
        """End the stream of events."""
        self.task(request.task).every_n = None
        return pb.UnregisterEveryNSamplesEventResponse()

    @stream
    def RegisterDoneEvent(
        self, request: pb.RegisterDoneEventRequest, context: Context
    ) -> Iterator[pb.RegisterDoneEventResponse]:
        """An event each time a finite task has finished by itself."""
        with self.lock:
            task = self.task(request.task)
            if task.done_event:
                raise NiError(Code.DONE_EVENT_ALREADY_REGISTERED, f"Task Name: {task.name}")
            task.done_event = True
        context.send_initial_metadata(())
        told = task.starts
        while task.done_event and not task.cleared:
            with self.lock:
                self.card.advance()
                finished = task.running and task.starts > told and task.done()
            if finished:
                told = task.starts
                yield pb.RegisterDoneEventResponse(status=0)
            else:
                self.pause(context)

    @prompt
    def UnregisterDoneEvent(
        self, request: pb.UnregisterDoneEventRequest, context: Context
    ) -> pb.UnregisterDoneEventResponse:
        """End the stream of events."""
        self.task(request.task).done_event = False
        return pb.UnregisterDoneEventResponse()


def laid_out(values: Floats, layout: int) -> Floats:
    """Channels by samples as one row in the layout asked for."""
    return (values.T if layout == BY_SCAN else values).ravel()


def rows_of(task: Task) -> list[list[int]]:
    """Which rows of values belong to each digital channel."""
    rows: list[list[int]] = []
    first = 0
    for channel in task.channels:
        rows.append([*range(first, first + len(channel.physical))])
        first += len(channel.physical)
    return rows
