"""Bytes to one instrument: ``connect("tcp://host:port")`` and its relatives serial://, visa://, zmq://, nidaqmx://.

After a missing or broken answer a connection is dropped and opened anew before the next request, so a late reply is
never taken for the answer to another question.
"""

# pyright: standard
# (pyvisa, pyserial, pyzmq and nidaqmx carry no complete types; this is the one file of labctl that touches them)

from __future__ import annotations

import contextlib
import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from labctl.clock import Clock, SystemClock
from labctl.errors import ConfigError, NoAnswerError, NotConnectedError


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


class Transport(ABC):
    """A byte stream to one instrument. One thread uses it at a time; ``interrupt`` may come from any thread."""

    def __init__(self, address: str, device: str = "", timeout_s: float = 1.0) -> None:
        self.address = parse_address(address)
        self.device = device
        """Name of the device, for messages."""
        self.timeout_s = timeout_s
        self._buffer = bytearray()
        self._stale = False
        self._sent = b""
        self.after_open: Callable[[], None] | None = None
        """Called after each fresh connection, also those that ``write`` opens by itself: read a banner, log in, subscribe."""

    # what a kind of transport provides
    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _send(self, data: bytes) -> None: ...

    @abstractmethod
    def _receive(self, timeout_s: float) -> bytes:
        """Some bytes, or b"" when none came within ``timeout_s``; raises NotConnectedError when the other end has gone."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether there is a connection."""

    @property
    def clock(self) -> Clock:
        """The clock that timeouts are counted on."""
        return _SYSTEM

    def interrupt(self) -> None:  # noqa: B027  (only some transports can)
        """Make a read in progress in another thread fail at once, where the transport can."""

    def sibling(self, address: str) -> Transport:
        """An unopened transport of the same lab to a further port of the same instrument."""
        return connect(address, self.device, self.timeout_s)

    def port_address(self, name: str, **options: str) -> str:
        """Address for ``sibling`` of the same instrument's port called ``name``: an option of this address, with ``options``.

        ``tcp://host:12000?counts=12345`` gives ``tcp://host:12345``; ``sim://device`` gives ``sim://device?port=counts``.
        """
        own = self.address
        if own.scheme == "sim":
            return str(Address("sim", own.target, {"port": name, **options}))
        if own.scheme not in ("tcp", "zmq"):
            raise ConfigError(
                f"{self.where}: has one port only; its {name!r} port needs a tcp:// or zmq:// address"
            )
        return str(Address(own.scheme, f"{own.target.rpartition(':')[0]}:{own.option_port(name)}", options))

    # what drivers use
    @property
    def where(self) -> str:
        """``device at address``, for messages."""
        return f"{self.device or 'instrument'} at {self.address}"

    def open(self) -> None:
        """Connect; NotConnectedError names device, address and what to check."""
        if not self.is_open:
            self._buffer.clear()
            self._open()
            self._stale = False
            self._sent = b""
            if self.after_open is not None:
                try:
                    self.after_open()
                except BaseException:
                    self.close()
                    raise

    def close(self) -> None:
        """Disconnect; harmless when not connected."""
        self._buffer.clear()
        self._close()

    def reset(self) -> None:
        """Forget everything unread by opening a fresh connection."""
        self.close()
        self.open()

    @property
    def unread(self) -> int:
        """How many bytes have come that nobody has read; before a question, any are out of step with it."""
        return len(self._buffer)

    def mark_stale(self) -> None:
        """Say that what is still to come belongs to an old question: the next write opens a fresh connection."""
        self._stale = True

    def write(self, data: bytes) -> None:
        """Send ``data``."""
        if self._stale or not self.is_open:
            self.reset()
        self._sent = data
        self._send(data)

    def read_until(self, end: bytes, timeout_s: float | None = None) -> bytes:
        """The bytes before the next ``end`` (which is consumed); NoAnswerError after ``timeout_s`` seconds."""
        deadline = self.clock.now() + (self.timeout_s if timeout_s is None else timeout_s)
        searched = 0
        while True:
            at = self._buffer.find(end, searched)
            if at >= 0:
                answer = bytes(self._buffer[:at])
                del self._buffer[: at + len(end)]
                return answer
            searched = max(0, len(self._buffer) - len(end) + 1)
            self._fill(deadline, f"an answer ending in {end!r}")

    def read_exactly(self, count: int, timeout_s: float | None = None) -> bytes:
        """Exactly ``count`` bytes; NoAnswerError after ``timeout_s`` seconds."""
        deadline = self.clock.now() + (self.timeout_s if timeout_s is None else timeout_s)
        while len(self._buffer) < count:
            self._fill(deadline, f"{count} bytes")
        answer = bytes(self._buffer[:count])
        del self._buffer[:count]
        return answer

    def read_available(self, timeout_s: float = 0.0) -> bytes:
        """Whatever has come, waiting up to ``timeout_s`` s for the first byte; b"" if nothing."""
        if not self._buffer:
            self._buffer += self._receive(timeout_s)
        answer = bytes(self._buffer)
        self._buffer.clear()
        return answer

    def read_frame(self, timeout_s: float | None = None) -> bytes:
        """The next message of a transport that keeps message borders (zmq://); NoAnswerError after ``timeout_s`` seconds."""
        raise NotConnectedError(
            f"{self.where}: this transport is a byte stream without frames; use a zmq:// address"
        )

    def _fill(self, deadline: float, expected: str) -> None:
        remaining = deadline - self.clock.now()
        got = self._receive(remaining) if remaining > 0 else b""
        if not got and self.clock.now() >= deadline:
            self._stale = True
            came = f"only {bytes(self._buffer[-60:])!r} came" if self._buffer else "nothing came"
            raise NoAnswerError(
                f"{self.where}: no answer {f'to {self._sent[:80]!r}' if self._sent else 'after connecting'}: expected {expected}, {came}; check that the instrument is on and idle"
            )
        self._buffer += got

    def _no_frame(self, wait_s: float) -> NoAnswerError:
        """The error for a message that did not come; what comes later belongs to an old question."""
        self._stale = True
        asked = f"no answer to {self._sent[:80]!r}" if self._sent else "nothing came"
        return NoAnswerError(f"{self.where}: {asked} within {wait_s:g} s; check that the instrument is on")

    def _lost(self, error: BaseException | str) -> NotConnectedError:
        """The error for a connection that broke, with the connection closed."""
        self._close()
        return NotConnectedError(
            f"{self.where}: connection lost ({error}); check power and cable, it is retried by itself"
        )


_SYSTEM = SystemClock()


class TcpTransport(Transport):
    """A TCP connection."""

    def __init__(self, address: str, device: str = "", timeout_s: float = 1.0) -> None:
        super().__init__(address, device, timeout_s)
        self._socket: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._socket is not None

    def _open(self) -> None:
        try:
            self._socket = socket.create_connection(
                (self.address.host, self.address.port), timeout=max(self.timeout_s, 0.5)
            )
        except OSError as error:
            raise NotConnectedError(
                f"{self.where}: cannot connect ({error.strerror or error}); check that the instrument is on, its cable, and the address in the lab file"
            ) from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        self._socket.settimeout(max(self.timeout_s, 0.5))
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._lost(error) from None

    def _receive(self, timeout_s: float) -> bytes:
        if self._socket is None:
            raise NotConnectedError(f"{self.where}: not connected")
        self._socket.settimeout(max(timeout_s, 1e-4))
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return b""
        except OSError as error:
            raise self._lost(error) from None
        if not data:
            raise self._lost("closed by the instrument")
        return data

    def interrupt(self) -> None:
        """Shut the connection down: a read in another thread fails at once."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


class SerialTransport(Transport):
    """A serial port through pyserial: ``serial:///dev/ttyUSB0?baudrate=57600`` or ``serial://socket://host:port``."""

    def __init__(self, address: str, device: str = "", timeout_s: float = 1.0) -> None:
        super().__init__(address, device, timeout_s)
        self._port: Any = None

    @property
    def is_open(self) -> bool:
        """Whether the port is open."""
        return self._port is not None

    def _open(self) -> None:
        import serial

        options = self.address.options
        try:
            self._port = serial.serial_for_url(
                self.address.target,
                baudrate=int(options.get("baudrate", "9600")),
                rtscts=options.get("rtscts") == "1",
                timeout=0.1,
                write_timeout=max(self.timeout_s, 0.5),
            )
            self._port.reset_input_buffer()
        except (OSError, ValueError) as error:  # SerialException is an OSError
            raise NotConnectedError(
                f"{self.where}: cannot open the port ({error}); check that it exists and nobody else has it"
            ) from None

    def _close(self) -> None:
        if self._port is not None:
            self._port.close()
            self._port = None

    def _send(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except OSError as error:
            raise self._lost(error) from None

    def _receive(self, timeout_s: float) -> bytes:
        if self._port is None:
            raise NotConnectedError(f"{self.where}: not connected")
        try:
            self._port.timeout = max(timeout_s, 1e-4)
            first: bytes = self._port.read(1)
            waiting = self._port.in_waiting if first else 0
            return first + (self._port.read(waiting) if waiting else b"")
        except OSError as error:
            raise self._lost(error) from None

    def interrupt(self) -> None:
        """Cancel a read in another thread, where the port can."""
        cancel = getattr(self._port, "cancel_read", None)
        if cancel is not None:
            cancel()


class VisaTransport(Transport):
    """A VISA resource through pyvisa: ``visa://TCPIP::10.0.4.15::5025::SOCKET`` (pyvisa-py unless ``?library=...``)."""

    def __init__(self, address: str, device: str = "", timeout_s: float = 1.0) -> None:
        super().__init__(address, device, timeout_s)
        self._resource: Any = None

    @property
    def is_open(self) -> bool:
        """Whether the resource is open."""
        return self._resource is not None

    def _open(self) -> None:
        import pyvisa
        import pyvisa.constants

        try:
            manager: Any = pyvisa.ResourceManager(self.address.options.get("library", "@py"))
            self._resource = manager.open_resource(
                self.address.target, open_timeout=int(max(self.timeout_s, 0.5) * 1000)
            )
        except (OSError, ValueError, pyvisa.Error) as error:
            raise NotConnectedError(
                f"{self.where}: cannot open the VISA resource ({error}); check the instrument and the address in the lab file"
            ) from None
        # framing is the driver's: no terminations here
        self._resource.read_termination = None
        self._resource.write_termination = None

    def _close(self) -> None:
        if self._resource is not None:
            self._resource.close()
            self._resource = None

    def _send(self, data: bytes) -> None:
        import pyvisa
        import pyvisa.constants

        try:
            self._resource.write_raw(data)
        except (OSError, pyvisa.Error) as error:
            raise self._lost(error) from None

    def _receive(self, timeout_s: float) -> bytes:
        import pyvisa
        import pyvisa.constants

        if self._resource is None:
            raise NotConnectedError(f"{self.where}: not connected")
        self._resource.timeout = max(1, int(timeout_s * 1000))
        try:
            return self._resource.read_bytes(
                1
            )  # one at a time: a timeout in the middle of more would lose the rest
        except pyvisa.errors.VisaIOError as error:
            if error.error_code == pyvisa.constants.StatusCode.error_timeout:
                return b""
            raise self._lost(error) from None
        except OSError as error:
            raise self._lost(error) from None


class ZmqTransport(Transport):
    """A ZeroMQ REQ socket: one request, one reply, each one frame (``zmq://host:port``; ``?socket=pair`` for a stream)."""

    def __init__(self, address: str, device: str = "", timeout_s: float = 1.0) -> None:
        super().__init__(address, device, timeout_s)
        self._socket: Any = None

    @property
    def is_open(self) -> bool:
        """Whether the socket is open (ZeroMQ connects in the background: this says nothing about the other end)."""
        return self._socket is not None

    def _open(self) -> None:
        import zmq

        kind = zmq.PAIR if self.address.options.get("socket") == "pair" else zmq.REQ
        self._socket = zmq.Context.instance().socket(kind)
        self._socket.linger = 0
        if kind == zmq.REQ:
            self._socket.setsockopt(zmq.REQ_RELAXED, 1)
            self._socket.setsockopt(zmq.REQ_CORRELATE, 1)
        self._socket.connect(f"tcp://{self.address.target}")

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, data: bytes) -> None:
        self._socket.send(data)

    def _receive(self, timeout_s: float) -> bytes:
        raise NotConnectedError(f"{self.where}: a ZeroMQ instrument is read a frame at a time")

    def read_frame(self, timeout_s: float | None = None) -> bytes:
        """The next frame; NoAnswerError after ``timeout_s`` seconds."""
        if self._socket is None:
            raise NotConnectedError(f"{self.where}: not connected")
        wait_s = self.timeout_s if timeout_s is None else timeout_s
        if not self._socket.poll(int(wait_s * 1000)):
            raise self._no_frame(wait_s)
        return b"".join(self._socket.recv_multipart())


class NidaqmxTransport(Transport):
    """Calls to an NI card by NI's own API: ``nidaqmx://host:port/Dev1`` through a gRPC device server, ``nidaqmx://local/Dev1`` through the driver installed here.

    It carries calls of the ``nidaqmx`` package, not bytes: a driver hands ``session()`` to ``nidaqmx.Task``. A call that
    does not say itself how long it may wait is given up after ``timeout_s``.
    """

    def __init__(self, address: str, device: str = "", timeout_s: float = 1.0) -> None:
        super().__init__(address, device, timeout_s)
        self._channel: Any = None
        self._local = False

    @property
    def is_open(self) -> bool:
        """Whether there is a channel (or the local driver is used)."""
        return self._local or self._channel is not None

    @property
    def card(self) -> str:
        """NI's name of the card."""
        return self.address.card

    def session(self, name: str) -> Any:
        """``nidaqmx.GrpcSessionOptions`` for a task called ``name``; None for the local driver. Connects if need be.

        A task of that name that is left from a connection that broke is taken up again.
        """
        if self._stale or not self.is_open:
            self.reset()
        if self._local:
            return None
        import nidaqmx

        return nidaqmx.GrpcSessionOptions(self._channel, name)

    def _open(self) -> None:
        try:
            import grpc
            import nidaqmx  # noqa: F401  (the message shall say here what to install)
        except ImportError as error:
            raise ConfigError(
                f"{self.where}: needs the package {error.name!r}: pip install 'labctl[nidaq]'"
            ) from None
        if self.address.target.startswith("local/"):
            self._local = True
            return
        host, port = self.address.host, self.address.port
        try:  # gRPC itself would say neither at once nor why
            socket.create_connection((host, port), timeout=max(self.timeout_s, 0.5)).close()
        except OSError as error:
            raise NotConnectedError(
                f"{self.where}: cannot connect ({error.strerror or error}); check that the computer with the card is on and its NI gRPC Device Server runs and listens beyond loopback"
            ) from None
        options = [
            ("grpc.max_receive_message_length", -1),  # a long read is more than the usual 4 MiB
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),  # a new channel does not wait for an old one's retries
        ]
        channel = grpc.insecure_channel(self.address.target.rpartition("/")[0], options)
        self._channel = _with_deadlines(channel, max(self.timeout_s, 0.5))

    def _close(self) -> None:
        self._local = False
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _send(self, data: bytes) -> None:
        raise ConfigError(f"{self.where}: carries NI-DAQmx calls, not bytes; use another address")

    def _receive(self, timeout_s: float) -> bytes:
        raise ConfigError(f"{self.where}: carries NI-DAQmx calls, not bytes; use another address")


def _with_deadlines(channel: Any, margin_s: float) -> Any:
    """The gRPC channel with a time limit on each call: what the request says it may wait, and ``margin_s``."""
    import grpc

    class Details(grpc.ClientCallDetails):
        def __init__(self, given: Any, timeout: float | None) -> None:
            self.method, self.metadata, self.timeout = given.method, given.metadata, timeout
            self.credentials, self.wait_for_ready = given.credentials, given.wait_for_ready
            self.compression = given.compression

    class Deadlines(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            wait_s = getattr(request, "timeout", getattr(request, "time_to_wait", 0.0))
            return continuation(
                Details(client_call_details, None if wait_s < 0 else wait_s + margin_s), request
            )

    return grpc.intercept_channel(channel, Deadlines())


_KINDS: dict[str, type[Transport]] = {
    "tcp": TcpTransport,
    "serial": SerialTransport,
    "visa": VisaTransport,
    "zmq": ZmqTransport,
    "nidaqmx": NidaqmxTransport,
}


class SimConnection(Protocol):
    """A connection to a simulated instrument in the same process (see labctl.sim.inprocess)."""

    open: bool

    def send(self, data: bytes) -> None:
        """Bytes to the instrument."""
        ...

    def receive(self, timeout_s: float) -> bytes:
        """The next bytes, or b"" after ``timeout_s`` s."""
        ...

    def receive_frame(self, timeout_s: float) -> bytes | None:
        """The next message, which may be empty, or None after ``timeout_s`` s."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


class SimTransport(Transport):
    """Reaches a simulated instrument in the same process: ``sim://device`` or ``sim://device?port=monitor``.

    dial:   opens a connection to the port named in the address
    clock:  the virtual clock that timeouts are counted on
    """

    def __init__(
        self,
        address: str,
        device: str,
        timeout_s: float,
        dial: Callable[[Address], SimConnection],
        clock: Clock,
    ) -> None:
        super().__init__(address, device, timeout_s)
        self._dial = dial
        self._clock = clock
        self._connection: SimConnection | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    @property
    def clock(self) -> Clock:
        """The simulated lab's clock."""
        return self._clock

    def _open(self) -> None:
        self._connection = self._dial(self.address)
        if not self._connection.open:
            self._connection = None
            raise NotConnectedError(
                f"{self.where}: the simulated instrument refuses connections; clear its faults"
            )

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(self, data: bytes) -> None:
        assert self._connection is not None
        try:
            self._connection.send(data)
        except NotConnectedError as error:
            raise self._lost(error) from None

    def _receive(self, timeout_s: float) -> bytes:
        if self._connection is None:
            raise NotConnectedError(f"{self.where}: not connected")
        try:
            return self._connection.receive(timeout_s)
        except NotConnectedError as error:
            raise self._lost(error) from None

    def read_frame(self, timeout_s: float | None = None) -> bytes:
        """What the session sent in one go, also if that is nothing."""
        if self._connection is None:
            raise NotConnectedError(f"{self.where}: not connected")
        wait_s = self.timeout_s if timeout_s is None else timeout_s
        try:
            frame = self._connection.receive_frame(wait_s)
        except NotConnectedError as error:
            raise self._lost(error) from None
        if frame is None:
            raise self._no_frame(wait_s)
        return frame

    def sibling(self, address: str) -> SimTransport:
        """A further connection in the same simulated lab."""
        return SimTransport(address, self.device, self.timeout_s, self._dial, self._clock)


def connect(address: str, device: str = "", timeout_s: float = 1.0) -> Transport:
    """An unopened transport for ``address``. ``sim://`` addresses are connected by the simulated lab itself."""
    parsed = parse_address(address)
    kind = _KINDS.get(parsed.scheme)
    if kind is None:
        raise ConfigError(
            f"{device or 'instrument'}: address {address!r} can only be used inside a simulated lab in virtual time"
        )
    return kind(address, device, timeout_s)
