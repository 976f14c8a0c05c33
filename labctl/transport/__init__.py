"""Bytes to one instrument: ``connect("tcp://host:port")`` and its relatives serial://, visa://, zmq://, nidaqmx://."""

from labctl.errors import ConfigError
from labctl.transport.address import Address, parse_address
from labctl.transport.base import Transport
from labctl.transport.in_process import SimConnection, SimTransport
from labctl.transport.ni_card import NidaqmxTransport
from labctl.transport.serial_port import SerialTransport
from labctl.transport.tcp import TcpTransport
from labctl.transport.visa import VisaTransport
from labctl.transport.zeromq import ZmqTransport

__all__ = [
    "Address",
    "NidaqmxTransport",
    "SerialTransport",
    "SimConnection",
    "SimTransport",
    "TcpTransport",
    "Transport",
    "VisaTransport",
    "ZmqTransport",
    "connect",
    "parse_address",
]

_KINDS: dict[str, type[Transport]] = {
    "tcp": TcpTransport,
    "serial": SerialTransport,
    "visa": VisaTransport,
    "zmq": ZmqTransport,
    "nidaqmx": NidaqmxTransport,
}


def connect(address: str, device: str = "", timeout_s: float = 1.0) -> Transport:
    """An unopened transport for ``address``. ``sim://`` addresses are connected by the simulated lab itself."""
    parsed = parse_address(address)
    kind = _KINDS.get(parsed.scheme)
    if kind is None:
        raise ConfigError(
            f"{device or 'instrument'}: address {address!r} can only be used inside a simulated lab in virtual time"
        )
    return kind(address, device, timeout_s)
