"""A voltage source with a voltage and an output switch."""

from __future__ import annotations

from labctl.device import action
from labctl.errors import RefusedError
from labctl.scpi import ScpiDevice, number, switch


class DemoSource(ScpiDevice):
    """A voltage source.

    transport:  ``tcp://host:5025``
    """

    manual = "the command list of labctl_demo_source.simulator"
    checked_with = "labctl_demo_source.simulator"

    voltage = number("VOLT", "V", limits=(0.0, 5.0), tolerance=1e-3, doc="Output voltage.")
    output = switch("OUTP", doc="Whether the output is on.")

    @action
    def safe(self) -> None:
        """Output off."""
        self.output.set(False)

    def command(self, text: str) -> None:
        """Send a setting, which is answered with OK."""
        answer = self.query(text)
        if answer != "OK":
            self.transport.mark_stale()
            raise RefusedError(f"{self.transport.where}: {text!r} was answered with {answer!r}, expected OK")
