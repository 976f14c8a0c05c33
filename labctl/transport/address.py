"""Instrument addresses: ``tcp://host:port?option=value`` and its relatives, parsed and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from labctl.errors import ConfigError


@dataclass(frozen=True)
class Address:
    """A parsed instrument address."""

    scheme: str
    target: str
    """Everything between ``scheme://`` and the options: ``host:port``, a device path, a VISA resource or ``host:port/Dev1``."""
    options: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def host(self) -> str:
        """Host of a ``host:port`` target, without the brackets of an IPv6 address."""
        return self.target.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Port of a ``host:port`` target."""
        return int(self.target.rpartition(":")[2].partition("/")[0])

    @property
    def card(self) -> str:
        """NI's name of the card in a ``nidaqmx://host:port/Dev1`` address."""
        return self.target.rpartition("/")[2]

    def option_port(self, name: str) -> int:
        """A further port given as an option, e.g. ``?monitor=1999``."""
        if name not in self.options:
            raise ConfigError(f"address {self}: missing option {name!r}; write {self}?{name}=PORT")
        return int(self.options[name])

    def __str__(self) -> str:
        tail = "&".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.scheme}://{self.target}" + (f"?{tail}" if tail else "")


def parse_address(text: str) -> Address:
    """Split ``scheme://target?option=value``; ConfigError says what is wrong with it."""
    scheme, separator, rest = text.partition("://")
    if not separator or not scheme or not rest:
        raise ConfigError(f"address {text!r} is not of the form scheme://target, e.g. tcp://10.0.4.12:1998")
    target, _, query = rest.partition("?")
    address = Address(
        scheme, target.rstrip("/") if scheme in ("tcp", "zmq") else target, dict(parse_qsl(query))
    )
    if scheme in ("tcp", "zmq"):
        parts = urlsplit(f"//{address.target}")
        try:
            port = parts.port
        except ValueError:
            port = None
        if not parts.hostname or not port:
            raise ConfigError(
                f"address {text!r} needs a host and a port from 1 to 65535, e.g. {scheme}://10.0.4.12:1998"
            )
    elif scheme == "nidaqmx":
        if not re.fullmatch(r"(local|[^/]+:[1-9]\d{0,4})/[^/:,\s]+", target):
            raise ConfigError(
                f"address {text!r} needs the computer and NI's name of the card, e.g. {scheme}://10.0.4.20:31763/Dev1, or {scheme}://local/Dev1 for a card in this computer"
            )
    elif scheme not in ("serial", "visa", "sim"):
        raise ConfigError(
            f"address {text!r}: unknown scheme {scheme!r}; use tcp, serial, visa, zmq, nidaqmx or sim"
        )
    return address
