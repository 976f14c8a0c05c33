"""TimeBase DIM3000 AOM drivers: one RF output over a slow serial line.

A setting is never acknowledged and the instrument takes at most ten commands a second. So commands are spaced, and every
setting is read back before it counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from drivers.serial_quiet import quiet_when_opened
from labctl.device import Device, action
from labctl.errors import BadAnswerError, ConfigError, DeviceError, LimitError, RefusedError
from labctl.signal import Signal
from labctl.transport import Transport
from labctl.units import ZERO_CELSIUS_K

END = b"\n"
DEVICE_FIELDS = ("dev", "hv", "fv", "fb", "sn")
PARAMETERS = (
    "freq",
    "ampl",
    "out",
    "pmon",
    "pmfr",
    "pmd",
    "pmphc",
    "swpm",
    "swps",
    "swpp",
    "swpf",
    "swpt",
    "fmon",
    "fmdev",
    "plson",
    "plsfr",
    "plsdt",
    "ffreq",
    "fampl",
    "amoffs",
    "pcbtemp",
    "refstat",
    "reflev",
    "vcclev",
)
"""What ``Gpar`` answers, in this order."""
LOWEST_HZ, HIGHEST_HZ = 10.0, 400e6
SHORTEST_STEP_S, LONGEST_STEP_S = 4e-9, 262e-6
FM_DEVIATIONS_HZ = tuple(3200.0 * 2**n for n in range(16))
SWEEPS = {
    "triangle": 1,
    "triangle, external trigger": 2,
    "sawtooth": 3,
    "sawtooth, external trigger": 4,
}


def decode(answer: str, names: tuple[str, ...]) -> dict[str, str]:
    """The fields of an answer such as ``Rfreq:80000000|Rampl:154``; ValueError unless it has exactly ``names`` in order."""
    found = [field.partition(":") for field in answer.split("|")]
    if [name for name, _, _ in found] != [f"R{name}" for name in names]:
        raise ValueError(f"not the {len(names)} fields {names[0]} to {names[-1]}")
    return {name[1:]: value for name, _, value in found}


def decode_parameters(answer: str) -> dict[str, int]:
    """The 24 parameters of ``Gpar`` as whole numbers; ValueError says what is wrong."""
    fields = decode(answer, PARAMETERS)
    for name, value in fields.items():
        if not (value.isascii() and value.removeprefix("-").isdecimal()):
            raise ValueError(f"{name} is {value!r}, not a whole number")
    return {name: int(value) for name, value in fields.items()}


class TimebaseDim3000(Device):
    """A DIM3000.

    transport:    ``serial:///dev/ttyUSB0`` (19200 baud unless the address says otherwise)
    highest_dbm:  highest power to allow, dBm: what the AOM bears; the instrument's own limit depends on its model
    spacing_s:    the least time between two commands, s

    Every reading, also of several signals together, asks all 24 parameters, which takes about 0.15 s at 19200 baud.
    """

    manual = "TimeBase DIM3000 manual, serial protocol; DEVICES.md 3.3"
    checked_with = "qmi 0.54 TimeBase_Dim3000 reads the same answers; not yet tried on an instrument"
    timeout_s = 1.0

    def __init__(
        self, transport: Transport, name: str = "", highest_dbm: float = 34.0, spacing_s: float = 0.1
    ) -> None:
        super().__init__(transport, name)
        if not 0 < highest_dbm <= 40:
            raise ConfigError(
                f"{self.name}: highest_dbm = {highest_dbm} must be between 0 and 40, e.g. 33 for a 2 W AOM"
            )
        if transport.address.scheme == "serial":
            transport.address.options.setdefault("baudrate", "19200")
        quiet_when_opened(self)
        if not 0 <= spacing_s <= 10:
            raise ConfigError(f"{self.name}: spacing_s = {spacing_s} must be between 0 and 10, e.g. 0.1")
        self.highest_dbm = highest_dbm
        self.spacing_s = spacing_s
        self._next_s = -math.inf
        self._sweep_wanted = False
        self._seen: dict[str, int] | None = None
        """What one ``Gpar`` said, while all signals are read or checked."""

    def open(self) -> None:
        """Connect and check that a DIM3000 answers."""
        super().open()
        try:
            self.identity()
        except DeviceError:
            self.close()
            raise

    def identity(self) -> str:
        """Kind of device, serial number, versions of hardware and firmware."""
        question = "Gdev"
        answer = self.ask(question)
        try:
            found = decode(answer, DEVICE_FIELDS)
        except ValueError as error:
            raise self._unexpected(question, answer, f"a DIM3000's description ({error})") from None
        return f"DIM3000 {found['dev']} {found['sn']}, hardware {found['hv']}, firmware {found['fv']}.{found['fb']}"

    frequency = Signal(
        float,
        "Hz",
        read=lambda rf: float(rf.parameters()["freq"]),
        write=lambda rf, hertz: rf.set_parameters({"freq": round(hertz)}),
        limits=(LOWEST_HZ, HIGHEST_HZ),
        tolerance=1.0,
        doc="RF frequency in steps of 1 Hz.",
    )
    power_dbm = Signal(
        float,
        "dBm",
        read=lambda rf: rf.parameters()["ampl"] / 10,
        write=lambda rf, dbm: rf.set_parameters({"ampl": round(dbm * 10)}),
        limits=lambda rf: (0.0, rf.highest_dbm),
        tolerance=0.1,
        doc="RF power in steps of 0.1 dB.",
    )
    output = Signal(
        bool,
        read=lambda rf: rf.parameters()["out"] == 1,
        write=lambda rf, on: rf.set_parameters({"out": int(on)}),
        poll_s=5.0,
        doc="Whether the output is on.",
    )
    fm_input = Signal(
        bool,
        read=lambda rf: rf.parameters()["fmon"] == 1,
        write=lambda rf, on: rf.set_parameters({"fmon": int(on)}),
        doc="Whether the analogue input moves the frequency.",
    )
    fm_deviation = Signal(
        float,
        "Hz",
        read=lambda rf: rf.read_deviation(),
        write=lambda rf, hertz: rf.set_parameters({"fmdev": FM_DEVIATIONS_HZ.index(hertz)}),
        choices=FM_DEVIATIONS_HZ,
        doc="How far full drive at the analogue input moves the frequency.",
    )
    temperature = Signal(
        float,
        "K",
        read=lambda rf: rf.parameters()["pcbtemp"] / 100 + ZERO_CELSIUS_K,
        poll_s=30.0,
        doc="Of the circuit board.",
    )
    supply = Signal(float, "V", read=lambda rf: rf.parameters()["vcclev"] / 100, doc="Supply voltage.")

    @action
    def safe(self) -> None:
        """Output off. Tried twice, as the answer to an earlier question may still be on the line."""
        try:
            self.set_parameters({"out": 0})
        except DeviceError:
            self.set_parameters({"out": 0})

    @action
    def sweep(
        self, start_hz: float, stop_hz: float, step_hz: float, step_s: float, kind: str = "triangle"
    ) -> None:
        """Sweep the frequency in steps of ``step_hz``, each ``step_s`` seconds (4 ns to 262 us), until ``single_tone``.

        kind:  triangle or sawtooth, or either with ", external trigger"
        """
        if kind not in SWEEPS:
            raise LimitError(
                f"{self.name}: sweep {kind!r} is not one of {'; '.join(SWEEPS)}; nothing was sent"
            )
        for what, hertz in (("start", start_hz), ("stop", stop_hz)):
            if not LOWEST_HZ <= hertz <= HIGHEST_HZ:
                raise LimitError(
                    f"{self.name}: sweep {what} {hertz:g} Hz is outside 10 Hz to 400 MHz; nothing was sent"
                )
        if not (stop_hz > start_hz and 10 <= step_hz <= stop_hz - start_hz):
            raise LimitError(
                f"{self.name}: a sweep goes up, in steps of at least 10 Hz and at most its width, not from"
                f" {start_hz:g} to {stop_hz:g} Hz by {step_hz:g} Hz; nothing was sent"
            )
        if not SHORTEST_STEP_S <= step_s <= LONGEST_STEP_S:
            raise LimitError(
                f"{self.name}: sweep step of {step_s:g} s is outside 4 ns to 262 us; nothing was sent"
            )
        self.set_parameters(
            {
                "swpm": 0,
                "swps": round(start_hz),
                "swpp": round(stop_hz),
                "swpf": round(step_hz),
                "swpt": round(step_s * 1e9),
            }
        )
        self.set_parameters({"swpm": SWEEPS[kind]})
        self._sweep_wanted = True

    @action
    def single_tone(self) -> None:
        """One frequency at one power: no sweep, no pulses, no modulation by the analogue input."""
        self.set_parameters({"swpm": 0, "plson": 0, "fmon": 0})
        self._sweep_wanted = False

    def ask_ahead(self, names: Sequence[str]) -> None:
        """One question for all signals."""
        self._seen = self.parameters()

    def forget(self) -> None:
        """The next reading asks again."""
        self._seen = None

    def not_ready(self) -> str:
        """Pulses or a sweep that somebody left on, or what a setting is off by."""
        found = self.parameters()
        if found["plson"]:
            return "its pulse mode is on, which chops the light; call single_tone()"
        if found["swpm"] and not self._sweep_wanted:
            return "it sweeps its frequency; call single_tone()"
        self._seen = found
        try:
            return super().not_ready()
        finally:
            self._seen = None

    def parameters(self) -> dict[str, int]:
        """All 24 parameters in the instrument's own units (Hz, 0.1 dBm, 0.01 degC, 0.01 V)."""
        if self._seen is not None:
            return self._seen
        question = "Gpar"
        answer = self.ask(question)
        try:
            return decode_parameters(answer)
        except ValueError as error:
            raise self._unexpected(question, answer, str(error)) from None

    def read_deviation(self) -> float:
        """Deviation of the frequency modulation, Hz."""
        number = self.parameters()["fmdev"]
        if number not in range(len(FM_DEVIATIONS_HZ)):
            raise self._unexpected("Gpar", f"fmdev:{number}", "a deviation from 0 to 15")
        return FM_DEVIATIONS_HZ[number]

    def set_parameters(self, wanted: Mapping[str, int]) -> None:
        """Send settings and read them back; RefusedError if one is not as it was set."""
        for name, value in wanted.items():
            self._send(f"S{name}:{value}")
        found = self.parameters()
        for name, value in wanted.items():
            if found[name] != value:
                raise RefusedError(
                    f"{self.transport.where}: did not take S{name}:{value}, it has {found[name]}; out of its range?"
                )

    def ask(self, question: str) -> str:
        """Send one question, return its answer; RefusedError if the instrument reports an error, be it of an earlier setting."""
        self._send(question)
        answer = self.transport.read_until(END, self.timeout_s).decode("ascii", "replace").strip()
        if answer == "error":
            self.transport.mark_stale()  # if it was about a setting, the answer is still to come
            raise RefusedError(f"{self.transport.where}: reports an error at or before {question!r}")
        return answer

    def _send(self, text: str) -> None:
        """Send one line, not sooner than the instrument can take it."""
        clock = self.transport.clock
        clock.sleep(self._next_s - clock.now())
        self.transport.write(text.encode("ascii") + END)
        self._next_s = clock.now() + self.spacing_s

    def _unexpected(self, question: str, answer: str, expected: str) -> BadAnswerError:
        self.transport.mark_stale()
        return BadAnswerError(
            f"{self.transport.where}: {question!r} was answered with {answer[:80]!r}: {expected}; check cable and baud rate"
        )
