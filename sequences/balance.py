"""Balance of the nodes: clicks per attempt of each node alone, and the α that makes Bob's equal to Alice's."""

from __future__ import annotations

from labctl.schedule.items import Schedule
from labctl.units import ns
from sequences.photons import one_by_one


def balance(
    alpha: float = 0.17,
    flight: int = 24_483 * ns,
    window: int = 60 * ns,
    window_lead: int = 4 * ns,
    limit: int = 10_000_000,
) -> Schedule:
    """One click of each node's photons at the midpoint, counted in attempts.

    Interference is best when αA ηA = αB ηB (PHYSICS.md 3.1).

    alpha:        of both nodes
    flight:       time of flight to the midpoint, ps
    window:       length of the signal gate, ps
    window_lead:  how long before the light's arrival the gate opens, ps
    limit:        attempts after which a node is given up
    """
    return one_by_one("balance", alpha, flight, window_lead, window, limit, {})
