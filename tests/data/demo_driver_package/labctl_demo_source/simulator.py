"""The simulated voltage source."""

from __future__ import annotations

from labctl.sim.instrument import LineInstrument, on


class SimDemoSource(LineInstrument):
    """A voltage and a switch."""

    def __init__(self) -> None:
        super().__init__()
        self.volts = 0.0
        self.output = False

    def unknown(self, line: str) -> str:
        """A line nobody understands."""
        return "ERROR"

    @on(r"\*IDN\?")
    def identity(self) -> str:
        """Who it is."""
        return "DEMO,SOURCE,0001,1.0"

    @on(r"VOLT\?")
    def voltage(self) -> str:
        """Voltage, V."""
        return f"{self.volts:.4f}"

    @on(r"VOLT (\d+(?:\.\d+)?)")
    def set_voltage(self, text: str) -> str:
        """Set the voltage, V."""
        self.volts = float(text)
        return "OK"

    @on(r"OUTP\?")
    def read_output(self) -> str:
        """1 if the output is on."""
        return str(int(self.output))

    @on(r"OUTP ([01])")
    def set_output(self, text: str) -> str:
        """Switch the output."""
        self.output = text == "1"
        return "OK"


def demo() -> SimDemoSource:
    """One at zero volts."""
    return SimDemoSource()
