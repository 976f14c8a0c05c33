"""labctl: control and data acquisition for remote atomic nodes.

>>> from labctl import connect                      # doctest: +SKIP
>>> lab = connect()                                 # doctest: +SKIP
>>> lab["alice.laser_397"].current.get()            # doctest: +SKIP
0.06
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labctl.bus.remote import Lab

__all__ = ["connect"]


def connect(address: str = "", timeout_s: float = 2.0) -> Lab:
    """The lab that is up, or the one whose hub is at ``address`` ("tcp://host:port"); NoHubError if there is none.

    timeout_s:  how long to wait for an instrument's answer unless a call says otherwise, s
    """
    from labctl.bus.client import Client
    from labctl.bus.remote import Lab

    if not address:
        from labctl.up.runtime import find

        address = find().hub
    return Lab(Client(address, timeout_s))
