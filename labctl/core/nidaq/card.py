"""Plays buffers on an NI card through the ``nidaqmx`` package: one counter makes the clock, everything else waits for it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Mapping
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


class Card:
    """One card, reached through its transport. The ``nidaqmx`` package carries no complete types: tasks are ``Any``."""

    def __init__(self, transport: NidaqmxTransport, config: NidaqConfig) -> None:
        self._transport = transport
        self._config = config

    def prepare(self, bound: Mapping[str, Bound]) -> None:
        """Connect, and begin with every line low."""
        self._transport.open()
        self._low(bound)

    def finish(self, bound: Mapping[str, Bound]) -> None:
        """Every line low, and let go of the card."""
        try:
            if self._transport.is_open:
                self._low(bound)
        finally:
            self._transport.close()

    def play(self, buffer: Buffer, bound: Mapping[str, Bound]) -> dict[str, Counts]:
        """Play a buffer to its end; what the counters latched, for each input one count per strobe.

        CoreError with NI's code and text.
        """
        with self._asking("to play a buffer"), contextlib.ExitStack() as stack:
            outputs = [self._digital(stack, buffer, bound), *self._analogue(stack, buffer)]
            counters = {line: self._counter(stack, bound[line], buffer) for line in buffer.clicked}
            clock = stack.enter_context(self._task("clock"))
            clock.co_channels.add_co_pulse_chan_freq(
                self._terminal(self._config.clock), freq=1e12 / buffer.tick_ps
            )
            clock.timing.cfg_implicit_timing(
                sample_mode=AcquisitionType.FINITE, samps_per_chan=buffer.samples
            )
            for task in (*outputs, *counters.values()):
                task.start()
            clock.start()
            timeout_s = buffer.duration_s + MARGIN_S
            latched: dict[str, Counts] = {}
            for line, task in counters.items():
                shown = np.zeros(len(buffer.strobes), np.uint32)
                reader: Any = CounterReader(task.in_stream)
                reader.read_many_sample_uint32(shown, len(shown), timeout_s)
                first = np.uint32(shown[0])
                latched[line] = (shown - first).astype(np.int64)  # unsigned: right across the wrap
            outputs[0].wait_until_done(timeout_s)
            return latched

    def _digital(self, stack: contextlib.ExitStack, buffer: Buffer, bound: Mapping[str, Bound]) -> Any:
        """The lines, and the strobe as the last of them."""
        task = stack.enter_context(self._task("lines"))
        terminals = [*(bound[line].table.terminal for line in buffer.lines), self._config.strobe]
        for terminal in terminals:
            task.do_channels.add_do_chan(self._terminal(terminal))
        self._on_clock(task, buffer)
        task.write(np.vstack([buffer.levels, buffer.strobe()[np.newaxis]]), auto_start=False)
        return task

    def _analogue(self, stack: contextlib.ExitStack, buffer: Buffer) -> list[Any]:
        if not buffer.outputs:
            return []
        task = stack.enter_context(self._task("voltages"))
        task.ao_channels.add_ao_voltage_chan(",".join(self._terminal(one) for one in buffer.outputs))
        self._on_clock(task, buffer)
        task.write(buffer.volts if len(buffer.outputs) > 1 else buffer.volts[0], auto_start=False)
        return [task]

    def _counter(self, stack: contextlib.ExitStack, one: Bound, buffer: Buffer) -> Any:
        task = stack.enter_context(self._task(f"count_{one.table.counter}"))
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
        with self._asking("to set its lines low"), self._task("low") as task:
            for terminal in (*terminals, self._config.strobe):
                task.do_channels.add_do_chan(self._terminal(terminal))
            task.write([False] * (len(terminals) + 1), auto_start=True)

    def _terminal(self, name: str) -> str:
        return f"{self._transport.card}/{name}"

    @contextlib.contextmanager
    def _task(self, purpose: str) -> Generator[Any]:
        """A task, cleared at the end; one left at the server by a connection that broke is cleared first."""
        name = re.sub(r"\W", "_", f"labctl_core_{purpose}")
        task = self._new_task(name)
        if task.channel_names:
            task.close()
            task = self._new_task(name)
        try:
            yield task
        except RpcError:  # the server is gone or does not answer: it would not clear it either
            raise
        except BaseException:
            with contextlib.suppress(Error):
                task.close()
            raise
        task.close()

    def _new_task(self, name: str) -> Any:
        session = self._transport.session(name)
        return nidaqmx.Task("" if session is None else name, grpc_options=session)

    @contextlib.contextmanager
    def _asking(self, what: str) -> Generator[None]:
        where = self._transport.where
        try:
            yield
        except DaqError as error:
            raise CoreError(f"{where}: asked {what}: NI error {error.error_code}: {_line(error)}") from None
        except RpcError as error:
            self._transport.close()
            raise CoreError(
                f"{where}: asked {what}: the server said {error.description}; check that the NI gRPC Device Server runs"
            ) from None
        except Error as error:
            raise CoreError(f"{where}: asked {what}: {_line(error)}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
