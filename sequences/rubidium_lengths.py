"""The rubidium link over longer spools: ``rubidium_link`` with its length, and the arguments one changes most."""

from __future__ import annotations

from labctl.schedule.items import Schedule
from sequences.rubidium_link import rubidium_link


def link_20km(
    alpha: float = 0.025, measure: str = "fidelity", cycles: int = 50, echoes: int = -1, source: str = "qrng"
) -> Schedule:
    """``rubidium_link`` over 20 km of fibre; arguments as there."""
    return rubidium_link(20.0, alpha, measure, cycles=cycles, echoes=echoes, source=source)


def link_50km(
    alpha: float = 0.025, measure: str = "fidelity", cycles: int = 50, echoes: int = -1, source: str = "qrng"
) -> Schedule:
    """``rubidium_link`` over 50 km of fibre; arguments as there."""
    return rubidium_link(50.0, alpha, measure, cycles=cycles, echoes=echoes, source=source)


def link_70km(
    alpha: float = 0.025, measure: str = "fidelity", cycles: int = 50, echoes: int = -1, source: str = "qrng"
) -> Schedule:
    """``rubidium_link`` over 70 km of fibre; arguments as there."""
    return rubidium_link(70.0, alpha, measure, cycles=cycles, echoes=echoes, source=source)


def link_100km(
    alpha: float = 0.025, measure: str = "fidelity", cycles: int = 50, echoes: int = -1, source: str = "qrng"
) -> Schedule:
    """``rubidium_link`` over 100 km of fibre; arguments as there."""
    return rubidium_link(100.0, alpha, measure, cycles=cycles, echoes=echoes, source=source)
