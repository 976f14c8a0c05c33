"""NI multifunction cards through NI-DAQmx: a photon counter, a voltage for a piezo, a shutter on a digital line.

Each device is one role of a card: several devices share one address, ``nidaqmx://host:31763/Dev1`` (NI gRPC Device
Server on the computer with the card) or ``nidaqmx://local/Dev1`` (driver installed here). A voltage or a line is set in
one go and the card released again, so that nothing is left reserved when a computer dies. From general knowledge of
the X series, check the manual: outputs and lines keep their value when a task is cleared; a line's state is read back
without changing it; ``_ao0_vs_aognd`` measures output 0.
"""

from __future__ import annotations

import contextlib
import platform
import re
from collections.abc import Generator
from typing import Any

import nidaqmx
import numpy as np
from nidaqmx.constants import AcquisitionType
from nidaqmx.errors import DaqError, Error, RpcError
from nidaqmx.stream_readers import AnalogSingleChannelReader, CounterReader, DigitalSingleChannelReader
from nidaqmx.system import System
from numpy.typing import NDArray

from labctl.device import Device, action
from labctl.errors import (
    BadAnswerError,
    ConfigError,
    LimitError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
)
from labctl.signal import Signal
from labctl.transport import NidaqmxTransport, Transport
from labctl.units import format_quantity

SHORTEST_GATE_S, LONGEST_GATE_S = 1e-5, 10.0
MOST_GATES, LONGEST_COUNTING_S = 1_000_000, 100.0
READBACK_SAMPLES, READBACK_RATE_HZ = 20, 100e3
SERVER_CODES = {
    "UNAVAILABLE": NotConnectedError,
    "DEADLINE_EXCEEDED": NoAnswerError,
    "UNIMPLEMENTED": RefusedError,
}
NI_CODES: dict[int, tuple[type[Exception], str]] = {
    -200220: (RefusedError, "check the card's name in the address against NI MAX"),
    -200170: (RefusedError, "the card has no such channel: check the options in the lab file"),
    -200284: (NoAnswerError, "the clock did not come: check what drives it"),
    -50103: (RefusedError, "another program uses this part of the card: end it, or reset the card in NI MAX"),
    -201003: (NotConnectedError, "the card is gone: check that it is plugged in and powered"),
    -88705: (NotConnectedError, "the card is gone: check that it is plugged in and powered"),
}
RESERVED = -50103


class NiDevice(Device):
    """What all roles of a card have in common."""

    manual = "the nidaqmx package and DEVICES.md section 2"
    checked_with = "nidaqmx 1.7 over gRPC against a simulated card; not yet a real one"
    simulator = "simulated_hw.ni_daqmx:SimNiDaq"

    def __init__(self, transport: Transport, name: str = "") -> None:
        super().__init__(transport, name)
        if not isinstance(transport, NidaqmxTransport):
            raise ConfigError(
                f"{transport.where}: an NI card needs an address such as nidaqmx://10.0.4.20:31763/Dev1 or nidaqmx://local/Dev1"
            )
        self.nidaqmx = transport
        self._own: set[str] = set()
        """Tasks that this connection has made and cleared: nobody else's are left under these names."""

    def open(self) -> None:
        """Connect and check that the card is there."""
        self._own.clear()
        self.transport.open()
        try:
            self.identity()
        except Exception:
            self.transport.close()
            raise

    def identity(self) -> str:
        """The card's product name and serial number."""
        with self.asking("what card it is"):
            card = self._card()
            return f"{card.product_type} {card.serial_num:08X}"

    @action
    def reset_card(self) -> None:
        """Reset the whole card: every program's tasks on it end, all its outputs go to their power-up state."""
        with self.asking("to be reset"):
            self._card().reset_device()

    def terminal(self, name: str) -> str:
        """A channel or terminal of the card by its full name."""
        return f"{self.nidaqmx.card}/{name}"

    @contextlib.contextmanager
    def asking(self, what: str) -> Generator[None]:
        """Errors of NI as errors of labctl: device, address, what was asked, NI's code and text."""
        where = self.transport.where
        try:
            yield
        except DaqError as error:
            kind, cure = NI_CODES.get(error.error_code, (RefusedError, "see NI's text"))
            raise kind(
                f"{where}: asked {what}: NI error {error.error_code}: {_line(error)}; {cure}"
            ) from None
        except RpcError as error:
            self.transport.close()
            rpc_code: Any = error.rpc_code
            code: str = getattr(rpc_code, "name", str(rpc_code))
            kind = SERVER_CODES.get(code, BadAnswerError)
            cure = (
                "check that the NI gRPC Device Server runs, and its version; it is connected anew by itself"
            )
            raise kind(
                f"{where}: asked {what}: the server said {code}: {error.description}; {cure}"
            ) from None
        except Error as error:  # no driver, or one too old
            raise NotConnectedError(
                f"{where}: asked {what}: {_line(error)} Install NI-DAQmx, or use nidaqmx://host:31763/{self.nidaqmx.card}"
            ) from None

    @contextlib.contextmanager
    def task(self, purpose: str) -> Generator[Any]:
        """A ``nidaqmx.Task``, cleared at the end; one left at the server by a connection that broke is cleared first.

        (Any, as the types of the package are incomplete and in places wrong: its sentinels stand for their defaults only.)
        """
        name = re.sub(r"\W", "_", f"labctl_{platform.node()}_{self.name}_{purpose}")
        task = self._new_task(name)
        if name not in self._own and task.channel_names:
            task.close()
            task = self._new_task(name)
        self._own.discard(name)
        try:
            yield task
        except RpcError:  # the server is gone or does not answer: it would not clear it either
            raise
        except BaseException:
            with contextlib.suppress(Error):
                task.close()
            raise
        task.close()
        self._own.add(name)

    def _new_task(self, name: str) -> Any:
        session = self.nidaqmx.session(name)
        return nidaqmx.Task("" if session is None else name, grpc_options=session)

    def _card(self) -> Any:
        session = self.nidaqmx.session("")
        system: Any = System
        known = system.local() if session is None else system.remote(session)
        return known.devices[self.nidaqmx.card]


class NiCard(NiDevice):
    """A whole card that plays schedules (``[core.nidaq]``): the lab knows it is there, and can make it safe."""

    identity_text = Signal(
        str, read=lambda device: device.identity(), poll_s=10.0, doc="product name and serial number"
    )

    @action
    def safe(self) -> None:
        """Reset the card: what plays on it ends, and every output goes to its power-up state."""
        self.reset_card()


class NiCounter(NiDevice):
    """Counts photons: one counter counts the clicks on a terminal, another makes its gates.

    counter:   counter that counts
    terminal:  where the clicks arrive, e.g. "PFI8"; "" for the counter's usual terminal
    clock:     counter that makes the gates
    """

    rate = Signal(
        float,
        "Hz",
        read=lambda device: device.measure_rate(),
        poll_s=1.0,
        doc="clicks per second, counted for one gate_time",
    )
    gate_time = Signal(
        float,
        "s",
        read=lambda device: device.gate_s,
        write=lambda device, seconds: setattr(device, "gate_s", seconds),
        limits=(SHORTEST_GATE_S, LONGEST_GATE_S),
        doc="how long rate counts",
    )

    def __init__(
        self,
        transport: Transport,
        name: str = "",
        counter: str = "ctr0",
        terminal: str = "",
        clock: str = "ctr1",
    ) -> None:
        super().__init__(transport, name)
        if not all(re.fullmatch(r"ctr\d", each) for each in (counter, clock)) or counter == clock:
            raise ConfigError(
                f"{transport.where}: counter = {counter!r} and clock = {clock!r} must be two counters such as ctr0 and ctr1"
            )
        self.counter = counter
        self.source = terminal
        self.clock = clock
        self.gate_s = 0.1

    @action
    def safe(self) -> None:
        """Nothing to do: it only listens, and its gates end with each reading."""

    @action
    def count(self, gate_s: float) -> int:
        """Clicks in one gate."""
        return self.count_gates(1, gate_s)[0]

    @action
    def count_gates(self, gates: int, gate_s: float) -> list[int]:
        """Clicks in each of so many gates, one right after the other without a gap."""
        self._check_gates(gates)
        if not SHORTEST_GATE_S <= gate_s <= LONGEST_GATE_S or gates * gate_s > LONGEST_COUNTING_S * (
            1 + 1e-9
        ):
            raise LimitError(
                f"{self.name}: {gates} gates of {format_quantity(gate_s, 's')}: a gate is {SHORTEST_GATE_S:g} s to {LONGEST_GATE_S:g} s,"
                f" all of them at most {LONGEST_COUNTING_S:g} s; nothing was counted"
            )
        return self._counted(gates, gate_s)[0].tolist()

    @action
    def count_clocked(self, gates: int, terminal: str, timeout_s: float = 10.0) -> list[int]:
        """Clicks between each two rising edges on a terminal, e.g. "PFI9"; NoAnswerError if they do not come in time."""
        self._check_gates(gates)
        if not 0 <= timeout_s <= LONGEST_COUNTING_S:
            raise LimitError(
                f"{self.name}: a timeout of {timeout_s:g} s is outside 0 s to {LONGEST_COUNTING_S:g} s"
            )
        with (
            self.asking(f"to count {gates} gates that {terminal} makes"),
            self.task("count") as counting,
        ):
            self._prepare(counting, gates, READBACK_RATE_HZ, terminal)
            counting.start()
            return self._read(counting, gates, timeout_s).tolist()

    def measure_rate(self) -> float:
        """Clicks per second over one gate."""
        counts, gate_s = self._counted(1, self.gate_s)
        return float(counts[0]) / gate_s

    def _check_gates(self, gates: int) -> None:
        if not 1 <= gates <= MOST_GATES:
            raise LimitError(f"{self.name}: {gates} gates are outside 1 to {MOST_GATES}; nothing was counted")

    def _counted(self, gates: int, gate_s: float) -> tuple[NDArray[np.int64], float]:
        """Counts, and how long each gate really was."""
        asked = f"to count {gates} gates of {format_quantity(gate_s, 's')}"
        with self.asking(asked), self.task("count") as counting, self.task("gates") as pulsing:
            clock = self.terminal(self.clock)
            pulses = pulsing.co_channels.add_co_pulse_chan_freq(clock, freq=1 / gate_s)
            pulsing.timing.cfg_implicit_timing(sample_mode=AcquisitionType.CONTINUOUS)
            self._prepare(counting, gates, 1 / gate_s, f"Ctr{self.clock[3:]}InternalOutput")
            counting.start()
            pulsing.start()
            true_gate_s = 1 / pulses.co_pulse_freq
            return self._read(counting, gates, gates * gate_s + 1.0), true_gate_s

    def _prepare(self, task: Any, gates: int, rate_hz: float, clock: str) -> None:
        channel = task.ci_channels.add_ci_count_edges_chan(self.terminal(self.counter))
        if self.source:
            channel.ci_count_edges_term = f"/{self.terminal(self.source)}"
        task.timing.cfg_samp_clk_timing(
            rate_hz,
            source=f"/{self.terminal(clock)}",
            sample_mode=AcquisitionType.FINITE,
            samps_per_chan=gates + 1,
        )

    def _read(self, task: Any, gates: int, timeout_s: float) -> NDArray[np.int64]:
        """Differences of the counts at the edges of the gates; the counter has 32 bits and wraps."""
        shown = np.zeros(gates + 1, np.uint32)
        reader = _reader(CounterReader, task)
        reader.read_many_sample_uint32(shown, gates + 1, timeout_s)
        return np.diff(shown).astype(np.int64)  # unsigned: right across the wrap


class NiAnalogOut(NiDevice):
    """One analogue output, e.g. to the amplifier of a piezo.

    channel:            output, "ao0" to "ao3"
    lowest_v, highest_v: what the thing behind it stands, V
    safe_v:             voltage that safe() sets, V
    """

    voltage = Signal(
        float,
        "V",
        read=lambda device: device.measure(),
        write=lambda device, volts: device.write(volts),
        limits=lambda device: device.range_v,
        tolerance=0.01,
        doc="output voltage as the card itself measures it; while another program uses its inputs, the value last set",
    )

    def __init__(
        self,
        transport: Transport,
        name: str = "",
        channel: str = "ao0",
        lowest_v: float = -10.0,
        highest_v: float = 10.0,
        safe_v: float = 0.0,
    ) -> None:
        super().__init__(transport, name)
        if not lowest_v < highest_v or not lowest_v <= safe_v <= highest_v:
            raise ConfigError(
                f"{transport.where}: lowest_v = {lowest_v:g}, safe_v = {safe_v:g}, highest_v = {highest_v:g} must be in this order"
            )
        self.channel = channel
        self.range_v = (lowest_v, highest_v)
        self.safe_v = safe_v

    @action
    def safe(self) -> None:
        """Set the safe voltage."""
        self.write(self.safe_v)

    def write(self, volts: float) -> None:
        """Set the output, V."""
        with self.asking(f"to set {self.channel} to {volts:g} V"), self.task("out") as task:
            lowest_v, highest_v = self.range_v
            task.ao_channels.add_ao_voltage_chan(
                self.terminal(self.channel), min_val=lowest_v, max_val=highest_v
            )
            task.write(volts, auto_start=True, timeout=self.timeout_s)

    def measure(self) -> float:
        """The output as the card's own input sees it, V."""
        with self.asking(f"what is on {self.channel}"):
            try:
                return self._measured()
            except DaqError as error:
                if error.error_code == RESERVED and self.voltage.target is not None:
                    return self.voltage.target
                raise

    def _measured(self) -> float:
        with self.task("readback") as task:
            task.ai_channels.add_ai_voltage_chan(
                self.terminal(f"_{self.channel}_vs_aognd"), min_val=-10.0, max_val=10.0
            )
            task.timing.cfg_samp_clk_timing(READBACK_RATE_HZ, samps_per_chan=READBACK_SAMPLES)
            volts = np.zeros(READBACK_SAMPLES)
            reader = _reader(AnalogSingleChannelReader, task)
            reader.read_many_sample(volts, READBACK_SAMPLES, self.timeout_s)
            return float(np.mean(volts))


class NiShutter(NiDevice):
    """A shutter, or any switch, on a digital line.

    line:       e.g. "port0/line0"
    open_high:  whether a high level opens it
    """

    opened = Signal(
        bool,
        read=lambda device: device.is_opened(),
        write=lambda device, wanted: device.write(wanted),
        poll_s=2.0,
        doc="whether the line says open",
    )

    def __init__(
        self, transport: Transport, name: str = "", line: str = "port0/line0", open_high: bool = True
    ) -> None:
        super().__init__(transport, name)
        self.line = line
        self.open_high = open_high

    @action
    def safe(self) -> None:
        """Close it."""
        self.write(False)

    def write(self, opened: bool) -> None:
        """Drive the line."""
        with self.asking(f"to {'open' if opened else 'close'} {self.line}"), self.task("line") as task:
            task.do_channels.add_do_chan(self.terminal(self.line))
            task.write(opened == self.open_high, auto_start=True, timeout=self.timeout_s)

    def is_opened(self) -> bool:
        """The level the card drives."""
        with self.asking(f"whether {self.line} is open"), self.task("level") as task:
            task.do_channels.add_do_chan(self.terminal(self.line))
            level: bool = _reader(DigitalSingleChannelReader, task).read_one_sample_one_line(self.timeout_s)
            return level == self.open_high


def _reader(kind: Any, task: Any) -> Any:
    """One of NI's stream readers, which ask less than ``task.read``, and nothing about arrays made here."""
    reader = kind(task.in_stream)
    reader.verify_array_shape = False
    return reader


def _line(error: Exception) -> str:
    """NI's text in one line: what failed, and the details below it."""
    said, *below = str(error).strip().splitlines()
    details = [line for line in below if re.match(r"(?!Status Code|Task Name)[\w .()]+: ", line)]
    return " ".join([said, *details])
