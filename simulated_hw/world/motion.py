"""How much an ion moves: Doppler and EIT cooling, heating, and what that does to its Rabi frequency."""

from __future__ import annotations

import math

from simulated_hw.world import light as optics
from simulated_hw.world.light import NodeLight
from simulated_hw.world.parameters import Parameters
from simulated_hw.world.segments import Reading


class Motion:
    """Mean phonon number of one ion, and how long the beams of its last preparation block were on."""

    def __init__(self, parameters: Parameters) -> None:
        self._p = parameters
        self.quanta = parameters.preparation.doppler_quanta
        self._light: NodeLight | None = None
        self._targets: dict[str, float | None] = {}
        self.block_s = {"reset_854": 25e-6, "cool_397": 150e-6, "eit_397": 120e-6}

    def cool(self, beam: str, span_s: float, light: NodeLight) -> None:
        """Cooling light (``cool_397`` or ``eit_397``) is on for ``span_s``."""
        self.quanta = self._cooled(self.quanta, beam, span_s, light)

    def warm(self, span_s: float) -> None:
        """The trap heats the ion for ``span_s``."""
        p = self._p.preparation
        self.quanta = min(p.hot_quanta, self.quanta + p.heating_per_s * span_s)

    def prepared_quanta(self, light: NodeLight) -> float:
        """Mean phonon number after one more preparation block like the last one."""
        quanta = self.quanta
        for beam in ("cool_397", "eit_397"):
            quanta = self._cooled(quanta, beam, self.block_s[beam], light)
        return quanta

    def note(self, node: int, reading: Reading) -> None:
        """Remember how long the beams were on if this segment is a preparation block."""
        beams = reading.beams[node]
        if "reset_854" in beams and "cool_397" in beams:
            for beam in self.block_s:
                self.block_s[beam] = reading.on_s(node, beam)

    def rabi_spread(self) -> float:
        """Relative rms of the Rabi frequency from shot to shot, thermal state."""
        return rabi_spread(self.quanta, self._p)

    def _cooled(self, quanta: float, beam: str, span_s: float, light: NodeLight) -> float:
        if light != self._light:
            self._light = light
            self._targets = {
                "cool_397": optics.doppler_quanta(light, self._p),
                "eit_397": optics.eit_quanta(light, self._p),
            }
        target = self._targets[beam]
        if target is None:
            return quanta
        return target + (quanta - target) * math.exp(-span_s / self._p.preparation.cool_time_s)


def rabi_spread(quanta: float, p: Parameters) -> float:
    """Relative rms of the Rabi frequency of a thermal state: η² √(n(n+1)), one mode."""
    return p.preparation.lamb_dicke**2 * math.sqrt(quanta * (quanta + 1))
