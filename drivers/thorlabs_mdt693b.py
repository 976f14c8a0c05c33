"""Thorlabs MDT693B (three axes) and MDT694B (one axis) piezo controllers over USB serial.

The controller's echo is switched on and used: an answer counts only after the echo of its question, so that the answer to
an earlier question is never taken for the next, which its answers alone could not tell. The firmware frames its answers in
one of two ways: up to 1.06 with a ``*`` (done) or ``!`` (refused) before them, from 1.09 with a ``>`` after them.
"""

from __future__ import annotations

import re

from labctl.device import Device, action
from labctl.errors import BadAnswerError, DeviceError, LimitError, RefusedError
from labctl.signal import Limits, Signal
from labctl.transport import Transport

END = b"\r"
PROMPT = b">"
DONE, REFUSED = b"*", b"!"
LAST_WITHOUT_PROMPT, FIRST_WITH_PROMPT = (1, 6), (1, 9)
READING_TOLERANCE_V = 3.0
"""The read-back is the output's monitor, which is off by up to some volts."""
_FIRMWARE = re.compile(r"Firmware Version:\s*(\d+)\.(\d+)")
_NUMBER = re.compile(r"\[?\s*([+-]?\d+(?:\.\d*)?)\s*\]?")


def parse_number(text: str) -> float:
    """The number of an answer, with or without its brackets; ValueError if it is none."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected a number in brackets")
    return float(match[1])


def _voltage(axis: str) -> Signal[float]:
    return Signal(
        float,
        "V",
        read=lambda mdt: mdt.query_number(f"{axis}voltage"),
        write=lambda mdt, volts: mdt.set_voltage(axis, volts),
        limits=lambda mdt: mdt.voltage_limits(),
        tolerance=READING_TOLERANCE_V,
        poll_s=2.0,
        doc=f"Output {axis}; reading it asks the output's monitor, which may differ from what was set by some volts.",
    )


class ThorlabsMdt693b(Device):
    """A piezo controller.

    transport:  ``serial:///dev/ttyACM0`` (115200 baud unless the address says otherwise) or the ``tcp://`` address of a serial
                bridge
    """

    manual = "Thorlabs MDT693B/MDT694B manual, command list; framings of firmware 1.05 to 1.09 as users report them (DEVICES.md 3.8)"
    checked_with = "the dialogue of the oxart-devices driver; not yet tried on an instrument"
    timeout_s = 1.0
    quiet_s: float = 0.15
    """After a pause of this length, s, the controller has said what it had to say."""

    voltage_x = _voltage("x")
    voltage_y = _voltage("y")
    voltage_z = _voltage("z")
    voltage_limit = Signal(
        float,
        "V",
        read=lambda mdt: mdt.query_number("vlimit"),
        doc="Highest output, as the switch at the back says: 75, 100 or 150 V.",
    )

    def __init__(self, transport: Transport, name: str = "") -> None:
        super().__init__(transport, name)
        if transport.address.scheme == "serial":
            transport.address.options.setdefault("baudrate", "115200")
        transport.after_open = self._greet
        self._with_prompt = True
        self._axes = "xyz"
        self._limit_v = 0.0

    def open(self) -> None:
        """Connect, check that a piezo controller answers, and learn its framing and its voltage limit."""
        super().open()
        try:
            self._limit_v = self.query_number("vlimit")
        except DeviceError:
            self.close()
            raise

    def identity(self) -> str:
        """What the controller says of itself, on one line."""
        return ", ".join(line.strip() for line in self._identify().splitlines() if line.strip())

    def voltage_limits(self) -> Limits:
        """Lowest and highest output, V, as found when opened."""
        return 0.0, self._limit_v

    @action
    def safe(self) -> None:
        """All outputs to 0 V. All are told in one go before any answer is awaited; what then fails is tried once more by itself,
        and does not keep the others up.
        """
        lines = [f"{axis}voltage=0.000" for axis in self._axes]
        try:
            self.transport.write(b"".join(line.encode("ascii") + END for line in lines))
            for line in lines:
                self._check_done(line, self._answer_to(line, valued=False))
        except DeviceError:
            failures: list[DeviceError] = []
            for line in lines:
                try:
                    self.command(line)
                except DeviceError as error:
                    failures.append(error)
            if failures:
                raise failures[0] from None

    def set_voltage(self, axis: str, volts: float) -> None:
        """Set an output."""
        if axis not in self._axes:
            raise LimitError(
                f"{self.name}: this controller has no axis {axis}; it has {', '.join(self._axes)}"
            )
        self.command(f"{axis}voltage={volts:.3f}")

    def query_number(self, what: str) -> float:
        """Ask for a number; BadAnswerError names what came."""
        question = f"{what}?"
        answer = self._ask(question, valued=True)
        try:
            return parse_number(answer)
        except ValueError as error:
            raise self._unexpected(question, answer, str(error)) from None

    def command(self, text: str) -> None:
        """Send a setting; RefusedError carries the controller's words."""
        self._check_done(text, self._ask(text, valued=False))

    def _check_done(self, text: str, answer: str) -> None:
        if answer:
            raise self._refused(text, answer)

    def _ask(self, text: str, valued: bool) -> str:
        """What the controller says to one line, without echo and framing."""
        self.transport.write(text.encode("ascii") + END)
        return self._answer_to(text, valued)

    def _answer_to(self, text: str, valued: bool) -> str:
        """What comes after the echo of a line that was sent; all that comes before it is passed over."""
        self._pass_echo(text)
        if self._with_prompt:
            answer = self.transport.read_until(PROMPT, self.timeout_s).decode("ascii", "replace").strip()
            if "CMD_" in answer:
                raise self._refused(text, answer)
            return answer
        mark = self.transport.read_exactly(1, self.timeout_s)
        if mark == REFUSED:
            raise self._refused(text, "!")
        if mark != DONE:
            raise self._unexpected(text, mark.decode("ascii", "replace"), "expected * or !")
        if not valued:
            return ""
        return self.transport.read_until(END, self.timeout_s).decode("ascii", "replace").strip()

    def _pass_echo(self, text: str) -> None:
        self.transport.read_until(text.encode("ascii") + END, self.timeout_s)

    def _greet(self) -> None:
        """Echo on, and find out who it is; called after each fresh connection."""
        for line in (END, b"echo=1" + END):  # the first ends what somebody else may have begun to type
            self.transport.write(line)
            self._rest(self.quiet_s)
        text = self._identify()
        self._axes = "x" if "MDT694" in text else "xyz"

    def _identify(self) -> str:
        """The identity's lines; how they end says how answers are framed, where the firmware's version does not."""
        self.transport.write(b"id?" + END)
        self._pass_echo("id?")
        text = self._rest(self.timeout_s)
        found = _FIRMWARE.search(text)
        if found is None or "MDT69" not in text:
            raise self._unexpected("id?", text, "expected an MDT693B or MDT694B with its firmware version")
        version = int(found[1]), int(found[2])
        self._with_prompt = version >= FIRST_WITH_PROMPT or (
            version > LAST_WITHOUT_PROMPT and text.endswith(PROMPT.decode())
        )
        return text.strip("*>\r").replace("\r", "\n")

    def _rest(self, patience_s: float) -> str:
        """What comes within ``patience_s`` s and until a prompt or a pause."""
        deadline = self.transport.clock.now() + self.timeout_s
        text = piece = self.transport.read_available(patience_s)
        while piece and not text.endswith(PROMPT) and self.transport.clock.now() < deadline:
            piece = self.transport.read_available(self.quiet_s)
            text += piece
        return text.decode("ascii", "replace")

    def _refused(self, text: str, answer: str) -> RefusedError:
        return RefusedError(f"{self.transport.where}: refused {text!r}: {answer[:80]}")

    def _unexpected(self, question: str, answer: str, expected: str) -> BadAnswerError:
        self.transport.mark_stale()
        return BadAnswerError(
            f"{self.transport.where}: {question!r} was answered with {answer[:120]!r}: {expected}; check that nobody else uses it"
        )
