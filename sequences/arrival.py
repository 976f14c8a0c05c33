"""Arrival-time histogram of each node's photons: their wave packet at the midpoint."""

from __future__ import annotations

from labctl.schedule.items import Schedule
from labctl.units import ns
from sequences.photons import one_by_one


def arrival(
    alpha: float = 0.17,
    flight: int = 24_483 * ns,
    gate: int = 160 * ns,
    lead: int = 20 * ns,
    etalon_fwhm_hz: float = 40e6,
    limit: int = 10_000_000,
) -> Schedule:
    """One click of each node's photons in a gate wider than the wave packet.

    The packet is that of an exponential decay behind the etalon: with the etalon's width known, its shape gives the decay time.

    alpha:           of both nodes
    flight:          time of flight to the midpoint, ps
    gate:            length of the gate, ps
    lead:            how long before the light's arrival it opens, ps
    etalon_fwhm_hz:  of the filter that shapes the packet (see the sequence etalon)
    limit:           attempts after which a node is given up
    """
    return one_by_one("arrival", alpha, flight, lead, gate, limit, {"etalon_fwhm_hz": etalon_fwhm_hz})
