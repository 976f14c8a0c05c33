"""A fibre tap that takes a little of a laser's light to a wavemeter."""

from __future__ import annotations

from collections.abc import Callable

from simulated_hw.world.parts import Laser

LIGHT_M_S = 299792458.0


def tap(laser: Laser, now: Callable[[], float]) -> Callable[[], float | None]:
    """Asks for the frequency of the laser's light, Hz; None while it gives none.

    The laser's line is at the vacuum wavelength it is built for; its light is off that by its detuning.
    """

    def frequency_hz() -> float | None:
        laser.advance(now())
        return LIGHT_M_S / laser.wavelength_m + laser.detuning_hz() if laser.power_w() > 0 else None

    return frequency_hz
