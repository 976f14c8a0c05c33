"""Rohde & Schwarz HMP4040 four-channel power supplies, for coils.

A command acts on the channel selected last, by whoever selected it. Each request here therefore selects and acts in one line
(``INST:NSEL 2;:VOLT 3.3;:VOLT?``), which the supply does as a whole: two clients cannot get at each other's channel. From
general knowledge, check with the manual: that a line is done as a whole, TCP port 5025.
"""

from __future__ import annotations

from drivers.line_device import LineDevice
from labctl.device import action
from labctl.errors import DeviceError, RefusedError
from labctl.signal import Signal

CHANNELS = (1, 2, 3, 4)
HIGHEST_V, HIGHEST_A = 32.05, 10.0
STEP_V, STEP_A = 1e-3, 1e-3
"""Resolution, and how much a read-back may differ."""
SWITCH = {"1": True, "0": False}


def _voltage(n: int) -> Signal[float]:
    return Signal(
        float,
        "V",
        read=lambda supply: supply.on_channel_number(n, "VOLT?"),
        write=lambda supply, volt: supply.set_number(n, "VOLT", volt, STEP_V),
        limits=(0.0, HIGHEST_V),
        doc=f"Voltage setpoint of channel {n}.",
    )


def _current(n: int) -> Signal[float]:
    return Signal(
        float,
        "A",
        read=lambda supply: supply.on_channel_number(n, "CURR?"),
        write=lambda supply, ampere: supply.set_number(n, "CURR", ampere, STEP_A),
        limits=(0.0, HIGHEST_A),
        doc=f"Current setpoint of channel {n}.",
    )


def _measured(n: int, what: str, unit: str) -> Signal[float]:
    return Signal(
        float,
        unit,
        read=lambda supply: supply.on_channel_number(n, f"MEAS:{what}?"),
        poll_s=2.0,
        doc=f"Measured at the terminals of channel {n}.",
    )


def _output(n: int) -> Signal[bool]:
    return Signal(
        bool,
        read=lambda supply: supply.is_on(n),
        write=lambda supply, on: supply.switch(n, on),
        poll_s=2.0,
        doc=f"Whether channel {n} gives current: its own switch and the master switch.",
    )


class RsHmp4040(LineDevice):
    """An HMP4040: ``voltage_1``, ``current_1``, ``measured_voltage_1``, ``measured_current_1``, ``output_1`` and so on to 4.

    transport:  ``tcp://host:5025``, ``visa://...`` or ``serial:///dev/ttyUSB0``
    """

    manual = "R&S HMP series SCPI programmers manual; DEVICES.md 3.8"
    checked_with = "pymeasure 0.16 HMP4040 against the same simulated supply; not yet tried on an instrument"
    identity_has = "HMP4040"
    expected = "an HMP4040 power supply"

    voltage_1, voltage_2, voltage_3, voltage_4 = map(_voltage, CHANNELS)
    current_1, current_2, current_3, current_4 = map(_current, CHANNELS)
    measured_voltage_1 = _measured(1, "VOLT", "V")
    measured_voltage_2 = _measured(2, "VOLT", "V")
    measured_voltage_3 = _measured(3, "VOLT", "V")
    measured_voltage_4 = _measured(4, "VOLT", "V")
    measured_current_1 = _measured(1, "CURR", "A")
    measured_current_2 = _measured(2, "CURR", "A")
    measured_current_3 = _measured(3, "CURR", "A")
    measured_current_4 = _measured(4, "CURR", "A")
    output_1, output_2, output_3, output_4 = map(_output, CHANNELS)

    @action
    def safe(self) -> None:
        """All outputs off, the master switch first. Tried twice, as an old answer may still be on a serial line."""
        try:
            self._all_off()
        except DeviceError:
            self._all_off()

    @action
    def unlock_panel(self) -> None:
        """Let the knobs at the front panel work beside remote control."""
        self.command("SYST:MIX")

    def not_ready(self) -> str:
        """An output that was switched on and is off: a fuse, a limit, or somebody at the front panel."""
        for n in CHANNELS:
            if self.signal(f"output_{n}").target and not self.is_on(n):
                return f"output {n} went off; look for a tripped fuse at the front panel, then set output_{n} again"
        return super().not_ready()

    def is_on(self, channel: int) -> bool:
        """Channel selected and master switch on."""
        return self.on_channel(channel, "OUTP:SEL?") and self.query_choice("OUTP:GEN?", SWITCH)

    def switch(self, channel: int, on: bool) -> None:
        """Switch one channel. RefusedError if the master switch would bring others on with it."""
        if not on:
            self._expect(channel, "OUTP:SEL OFF", False)
            return
        if not self.query_choice("OUTP:GEN?", SWITCH):
            waiting = [n for n in CHANNELS if n != channel and self.on_channel(n, "OUTP:SEL?")]
            if waiting:
                others = ", ".join(map(str, waiting))
                raise RefusedError(
                    f"{self.transport.where}: channel {others} would come on together with {channel} (selected, master switch off); deselect at the front panel or set output_{waiting[0]} to false"
                )
        self._expect(channel, "OUTP:SEL ON;:OUTP:GEN ON", True)

    def on_channel(self, channel: int, question: str) -> bool:
        """A question about one channel, answered with 0 or 1."""
        return self.query_choice(f"INST:NSEL {channel};:{question}", SWITCH)

    def on_channel_number(self, channel: int, question: str) -> float:
        """A question about one channel, answered with a number."""
        return self.query_number(f"INST:NSEL {channel};:{question}")

    def set_number(self, channel: int, header: str, value: float, step: float) -> None:
        """Set a value of one channel and read it back, all in one line."""
        held = self.on_channel_number(channel, f"{header} {value:.4f};:{header}?")
        if not abs(held - value) <= 1.001 * step:
            raise self._refused(f"{header} {value:.4f} of channel {channel}", f"{held:g}")

    def _expect(self, channel: int, command: str, on: bool) -> None:
        if self.on_channel(channel, f"{command};:OUTP:SEL?") != on:
            raise self._refused(f"{command} of channel {channel}", "off" if on else "on")

    def _all_off(self) -> None:
        each = "".join(f";:INST:NSEL {n};:OUTP:SEL OFF" for n in CHANNELS)
        if self.query_choice(f"OUTP:GEN OFF{each};:OUTP:GEN?", SWITCH):
            raise self._refused("OUTP:GEN OFF", "on")

    def _refused(self, text: str, held: str) -> RefusedError:
        return RefusedError(
            f"{self.transport.where}: did not take {text}, it stays {held}: {self.query('SYST:ERR?')}"
        )
