"""Plays buffers on an NI card through the ``nidaqmx`` package: one counter makes the clock, everything else waits for it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import nidaqmx
import numpy as np
from nidaqmx.constants import AcquisitionType
from nidaqmx.errors import DaqError, Error, RpcError
from nidaqmx.stream_readers import CounterReader

from labctl.config import NidaqConfig
from labctl.core.nidaq.binding import Bound
from labctl.core.nidaq.buffer import Buffer, Counts
from labctl.errors import CoreError
from labctl.transport import NidaqmxTransport

MARGIN_S = 5.0
"""How much longer than a buffer lasts its end is waited for."""
MOST_SHAPES = 8
"""Shapes of buffers whose tasks are kept."""


@dataclass
class _Tasks:
    """The tasks of buffers of one shape, kept between them: making a task takes longer than most shots."""

    lines: Any
    voltages: Any | None
    counters: dict[str, Any]
    clock: Any

    def every(self) -> list[Any]:
        """In the order they are started."""
        outputs = [self.lines] if self.voltages is None else [self.lines, self.voltages]
        return [*outputs, *self.counters.values(), self.clock]


class Card:
    """One card, reached through its transport. The ``nidaqmx`` package carries no complete types: tasks are ``Any``."""

    def __init__(self, transport: NidaqmxTransport, config: NidaqConfig) -> None:
        self._transport = transport
        self._config = config
        self._made: dict[tuple[object, ...], _Tasks] = {}
        self._open: list[Any] = []

    def prepare(self, bound: Mapping[str, Bound]) -> None:
        """Connect, and begin with every line low."""
        self._transport.open()
        self._low(bound)

    def finish(self, bound: Mapping[str, Bound]) -> None:
        """Every line low, and let go of the card."""
        try:
            self._clear()
            if self._transport.is_open:
                self._low(bound)
        finally:
            self._transport.close()

    def play(self, buffer: Buffer, bound: Mapping[str, Bound]) -> dict[str, Counts]:
        """Play a buffer to its end; what the counters latched, for each input one count per strobe.

        CoreError with NI's code and text.
        """
        with self._asking("to play a buffer"):
            tasks = self._tasks(buffer, bound)
            levels = np.vstack([buffer.levels, buffer.strobe()[np.newaxis]])
            tasks.lines.write(levels if len(levels) > 1 else levels[0], auto_start=False)
            if tasks.voltages is not None:
                volts = buffer.volts
                tasks.voltages.write(volts if len(volts) > 1 else volts[0], auto_start=False)
            for task in tasks.every():
                task.start()
            timeout_s = buffer.duration_s + MARGIN_S
            latched = {line: self._read(task, buffer, timeout_s) for line, task in tasks.counters.items()}
            tasks.lines.wait_until_done(timeout_s)
            for task in tasks.every():
                task.stop()
            return latched

    def _read(self, task: Any, buffer: Buffer, timeout_s: float) -> Counts:
        shown = np.zeros(len(buffer.strobes), np.uint32)
        reader: Any = CounterReader(task.in_stream)
        reader.read_many_sample_uint32(shown, len(shown), timeout_s)
        return (shown - shown[0]).astype(np.int64)  # unsigned: right across the wrap

    def _tasks(self, buffer: Buffer, bound: Mapping[str, Bound]) -> _Tasks:
        """The tasks of the buffer's shape, nothing written yet."""
        shape = (buffer.samples, buffer.lines, buffer.outputs, buffer.clicked, len(buffer.strobes))
        if shape not in self._made:
            if len(self._made) >= MOST_SHAPES:
                self._clear()
            self._made[shape] = self._new_tasks(buffer, bound, len(self._made))
        return self._made[shape]

    def _new_tasks(self, buffer: Buffer, bound: Mapping[str, Bound], number: int) -> _Tasks:
        terminals = [*(bound[line].table.terminal for line in buffer.lines), self._config.strobe]
        lines = self._task(f"lines_{number}")
        for terminal in terminals:
            lines.do_channels.add_do_chan(self._terminal(terminal))
        self._on_clock(lines, buffer)
        voltages = self._voltages(buffer, number) if buffer.outputs else None
        counters = {line: self._counter(bound[line], buffer, number) for line in buffer.clicked}
        clock = self._task(f"clock_{number}")
        clock.co_channels.add_co_pulse_chan_freq(
            self._terminal(self._config.clock), freq=1e12 / buffer.tick_ps
        )
        clock.timing.cfg_implicit_timing(sample_mode=AcquisitionType.FINITE, samps_per_chan=buffer.samples)
        return _Tasks(lines, voltages, counters, clock)

    def _voltages(self, buffer: Buffer, number: int) -> Any:
        task = self._task(f"voltages_{number}")
        task.ao_channels.add_ao_voltage_chan(",".join(self._terminal(one) for one in buffer.outputs))
        self._on_clock(task, buffer)
        return task

    def _counter(self, one: Bound, buffer: Buffer, number: int) -> Any:
        task = self._task(f"count_{one.table.counter}_{number}")
        channel = task.ci_channels.add_ci_count_edges_chan(self._terminal(one.table.counter))
        channel.ci_count_edges_term = f"/{self._terminal(one.table.terminal)}"
        task.timing.cfg_samp_clk_timing(
            1e12 / buffer.tick_ps,
            source=f"/{self._terminal(self._config.strobe_input)}",
            sample_mode=AcquisitionType.FINITE,
            samps_per_chan=len(buffer.strobes),
        )
        return task

    def _on_clock(self, task: Any, buffer: Buffer) -> None:
        source = f"/{self._terminal(f'Ctr{self._config.clock[3:]}InternalOutput')}"
        task.timing.cfg_samp_clk_timing(
            1e12 / buffer.tick_ps,
            source=source,
            sample_mode=AcquisitionType.FINITE,
            samps_per_chan=buffer.samples,
        )

    def _low(self, bound: Mapping[str, Bound]) -> None:
        terminals = [one.table.terminal for one in bound.values() if one.bit >= 0]
        with self._asking("to set its lines low"):
            task = self._task("low")
            for terminal in (*terminals, self._config.strobe):
                task.do_channels.add_do_chan(self._terminal(terminal))
            task.write([False] * (len(terminals) + 1), auto_start=True)
            self._clear()

    def _terminal(self, name: str) -> str:
        return f"{self._transport.card}/{name}"

    def _task(self, purpose: str) -> Any:
        """A new task; one left at the server by a connection that broke is cleared first."""
        name = re.sub(r"\W", "_", f"labctl_core_{purpose}")
        task = self._new_task(name)
        if task.channel_names:
            task.close()
            task = self._new_task(name)
        self._open.append(task)
        return task

    def _new_task(self, name: str) -> Any:
        session = self._transport.session(name)
        return nidaqmx.Task("" if session is None else name, grpc_options=session)

    def _clear(self) -> None:
        """Clear every task; one that cannot be cleared is gone with its card or its server."""
        self._made.clear()
        while self._open:
            with contextlib.suppress(Error):
                self._open.pop().close()

    @contextlib.contextmanager
    def _asking(self, what: str) -> Generator[None]:
        where = self._transport.where
        try:
            yield
        except DaqError as error:
            self._clear()
            raise CoreError(f"{where}: asked {what}: NI error {error.error_code}: {_line(error)}") from None
        except RpcError as error:
            self._clear()
            self._transport.close()
            raise CoreError(
                f"{where}: asked {what}: the server said {error.description}; check that the NI gRPC Device Server runs"
            ) from None
        except Error as error:
            raise CoreError(f"{where}: asked {what}: {_line(error)}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
