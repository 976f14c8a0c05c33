"""Who has exclusive control of which device of a host, and until when."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from labctl.clock import Clock
from labctl.errors import ConfigError, LeaseError

SHORTEST_S, LONGEST_S = 0.2, 3600.0


@dataclass(frozen=True)
class Lease:
    """One device, taken by one client."""

    client: str
    owner: str
    """For people: who and what for."""
    ends: float
    """On the table's clock, s."""


class Leases:
    """The leases of one host's devices; safe to use from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, Lease] = {}
        self._mutex = threading.Lock()

    def take(self, devices: Sequence[str], client: str, owner: str, ttl_s: float) -> None:
        """Take all of ``devices`` for ``ttl_s`` s, or none: LeaseError says who has one."""
        if not SHORTEST_S <= ttl_s <= LONGEST_S:
            raise ConfigError(f"a lease lasts {SHORTEST_S} s to {LONGEST_S} s, not {ttl_s} s")
        with self._mutex:
            for device in devices:
                self.check(device, client)
            self._held.update(dict.fromkeys(devices, Lease(client, owner, self._clock.now() + ttl_s)))

    def renew(self, devices: Sequence[str], client: str, ttl_s: float) -> None:
        """Keep ``devices`` for another ``ttl_s`` s; LeaseError if one is no longer held."""
        with self._mutex:
            for device in devices:
                held = self._held.get(device)
                if held is None or held.client != client:
                    now = f"now {held.owner!r} has it" if held else "it was made safe"
                    raise LeaseError(
                        f"{device}: the lease ran out ({now}); stop, check the device, take a new lease"
                    )
            ends = self._clock.now() + ttl_s
            for device in devices:
                held = self._held[device]
                self._held[device] = Lease(client, held.owner, ends)

    def release(self, devices: Sequence[str], client: str) -> list[str]:
        """Give back those of ``devices`` that ``client`` has; which ones they were."""
        with self._mutex:
            given = [name for name in devices if name in self._held and self._held[name].client == client]
            for name in given:
                del self._held[name]
        return given

    def check(self, device: str, client: str) -> None:
        """LeaseError if somebody other than ``client`` has ``device``."""
        held = self._held.get(device)
        if held is not None and held.client != client:
            left = max(0.0, held.ends - self._clock.now())
            raise LeaseError(
                f"{device} is leased by {held.owner!r} for another {left:.1f} s unless renewed; ask them or wait (reading always works)"
            )

    def holder(self, device: str) -> str:
        """Owner of ``device``'s lease, "" if it is free."""
        held = self._held.get(device)
        return "" if held is None else held.owner

    def expired(self) -> dict[str, str]:
        """Device to owner of the leases that ran out; they are forgotten by this call."""
        now = self._clock.now()
        if all(lease.ends > now for lease in [*self._held.values()]):
            return {}
        with self._mutex:
            out = {name: lease.owner for name, lease in self._held.items() if lease.ends <= now}
            for name in out:
                del self._held[name]
        return out
