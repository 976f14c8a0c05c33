"""Delay alignment: time of flight of each node's photons, searched for in a wide gate."""

from __future__ import annotations

from labctl.schedule.items import Schedule
from labctl.units import ns, us
from sequences.photons import one_by_one


def delay(
    alpha: float = 0.5,
    flight: int = 24_483 * ns,
    gate: int = 2 * us,
    etalon_fwhm_hz: float = 40e6,
    photon_decay_s: float = 7.45e-9,
    limit: int = 10_000_000,
) -> Schedule:
    """One click of each node's photons in a wide gate around the expected time of flight.

    The gate is so wide that noise clicks too; the packet, whose shape is known, is found above it.

    alpha:           of both nodes: larger than for a pair, there is none here
    flight:          expected time of flight, ps: the middle of the gate
    gate:            length of the gate, ps
    etalon_fwhm_hz, photon_decay_s:  shape of the packet
    limit:           attempts after which a node is given up
    """
    shape = {"etalon_fwhm_hz": etalon_fwhm_hz, "photon_decay_s": photon_decay_s}
    return one_by_one("delay", alpha, flight, gate // 2 // ns * ns, gate, limit, shape)
