"""NI cards through NI's own API, here or on another computer: ``nidaqmx://host:port/Dev1``."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from labctl.errors import ConfigError, NotConnectedError
from labctl.transport.base import Transport


class NidaqmxTransport(Transport):
    """Calls to an NI card by NI's own API: ``nidaqmx://host:port/Dev1`` through a gRPC device server, ``nidaqmx://local/Dev1`` through the driver installed here.

    It carries calls of the ``nidaqmx`` package, not bytes: a driver hands ``session()`` to ``nidaqmx.Task``. A call that
    does not say itself how long it may wait is given up after ``timeout_s``.
    """

    def __init__(self, address: str, device: str = "", timeout_s: float = 1.0) -> None:
        super().__init__(address, device, timeout_s)
        self._channel: Any = None
        self._local = False
        self.on_call: Callable[[str], object] | None = None
        """Told the name of each call to a gRPC server before it goes out."""

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
            import nidaqmx  # noqa: F401  # pyright: ignore[reportUnusedImport]  # (the message says here what to install)
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
        self._channel = _with_deadlines(channel, max(self.timeout_s, 0.5), self._called)

    def _called(self, method: str) -> None:
        if self.on_call is not None:
            self.on_call(method)

    def _close(self) -> None:
        self._local = False
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _send(self, data: bytes) -> None:
        raise ConfigError(f"{self.where}: carries NI-DAQmx calls, not bytes; use another address")

    def _receive(self, timeout_s: float) -> bytes:
        raise ConfigError(f"{self.where}: carries NI-DAQmx calls, not bytes; use another address")


def _with_deadlines(channel: Any, margin_s: float, called: Callable[[str], object]) -> Any:
    """The gRPC channel with a time limit on each call: what the request says it may wait, and ``margin_s``.

    NI's package asks the channel for each of its 400 methods anew for every task, and the server for the version of its
    driver three times. A method is made once here, and a version asked once: neither changes while the channel lives.

    called:  told the name of each call
    """
    import grpc

    def limited(method: str, plain: Any) -> Callable[..., Any]:
        def call(request: Any, timeout: float | None = None, metadata: Any = None) -> Any:
            called(method)
            wait_s = getattr(request, "timeout", getattr(request, "time_to_wait", 0.0))
            limit_s = timeout if timeout is not None or wait_s < 0 else wait_s + margin_s
            return plain(request, timeout=limit_s, metadata=metadata)

        return call

    def asked_once(ask: Callable[..., Any]) -> Callable[..., Any]:
        answers: dict[bytes, Any] = {}

        def call(request: Any, timeout: float | None = None, metadata: Any = None) -> Any:
            question: bytes = request.SerializeToString()
            if question not in answers:
                answers[question] = ask(request, timeout, metadata)
            return answers[question]

        return call

    class Limiting(grpc.Channel):
        def __init__(self) -> None:
            self._made: dict[str, Any] = {}

        def unary_unary(self, method: str, *arguments: Any, **more: Any) -> Any:
            made = self._made.get(method)
            if made is None:
                made = limited(method, channel.unary_unary(method, *arguments, **more))
                if method.endswith("/GetSystemInfoAttributeUInt32"):
                    made = asked_once(made)
                self._made[method] = made
            return made

        def unary_stream(self, method: str, *arguments: Any, **more: Any) -> Any:
            made = self._made.get(method)
            if made is None:
                made = self._made[method] = channel.unary_stream(method, *arguments, **more)
            return made

        def stream_unary(self, method: str, *arguments: Any, **more: Any) -> Any:
            return channel.stream_unary(method, *arguments, **more)

        def stream_stream(self, method: str, *arguments: Any, **more: Any) -> Any:
            return channel.stream_stream(method, *arguments, **more)

        def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
            channel.subscribe(callback, try_to_connect)

        def unsubscribe(self, callback: Any) -> None:
            channel.unsubscribe(callback)

        def close(self) -> None:
            channel.close()

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            channel.close()

    return Limiting()
