"""The server of simulated instruments: one that fails leaves the others alone, and bytes keep their order."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from typing import ClassVar

import pytest

from labctl.sim.instrument import Send, Session, SimInstrument
from labctl.sim.server import SimServer
from labctl.transport import connect


class Echo(Session):
    def __init__(self, port: str, send: Send) -> None:
        super().__init__(send)
        self.port = port

    def _fail_on(self, port: str) -> None:
        if self.port == port:
            raise RuntimeError(f"fault in {port}")

    def connected(self) -> None:
        self._fail_on("connected")

    def receive(self, data: bytes) -> None:
        self._fail_on("receive")
        for line in data.splitlines(keepends=True):
            self.send(line)

    def tick(self, now_s: float) -> None:
        self._fail_on("tick")


class Brittle(SimInstrument):
    ports: ClassVar[tuple[str, ...]] = ("sound", "connected", "receive", "tick")

    def session(self, port: str, send: Send) -> Session:
        return Echo(port, send)


@pytest.fixture
def served() -> Iterator[tuple[Brittle, dict[str, int], str]]:
    instrument = Brittle()
    server = SimServer()
    ports = {name: server.serve_tcp(instrument, name) for name in instrument.ports}
    pty = server.serve_pty(instrument, "receive")
    with server:
        yield instrument, ports, pty


def ask(port: int, text: bytes = b"hello\n") -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(text)
        return client.recv(100)


def hung_up(port: int) -> bool:
    """Whether the other end closes the connection when spoken to (within five seconds)."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        try:
            client.sendall(b"hello\n")
            while client.recv(100):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True


@pytest.mark.parametrize("failing", ["connected", "receive", "tick"])
def test_a_failing_instrument_loses_its_client_only(
    served: tuple[Brittle, dict[str, int], str], failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, ports, _ = served
    with socket.create_connection(("127.0.0.1", ports["sound"]), timeout=5) as other:
        with caplog.at_level(logging.CRITICAL):
            assert hung_up(ports[failing])
        other.sendall(b"still there\n")
        assert other.recv(100) == b"still there\n"
    assert ask(ports["sound"]) == b"hello\n"


def test_a_serial_port_outlives_its_session(
    served: tuple[Brittle, dict[str, int], str], caplog: pytest.LogCaptureFixture
) -> None:
    _, ports, pty = served
    line = connect(f"serial://{pty}", "echo", 0.2)
    with caplog.at_level(logging.CRITICAL):
        for _ in range(2):
            line.open()
            line.write(b"hello\n")
            assert line.read_available(0.1) == b""
            line.close()
    assert ask(ports["sound"]) == b"hello\n"


def test_bytes_of_one_client_never_overtake_each_other(
    served: tuple[Brittle, dict[str, int], str],
) -> None:
    instrument, ports, _ = served
    with socket.create_connection(("127.0.0.1", ports["sound"]), timeout=5) as client:
        instrument.faults.switch("split", 0.05)
        instrument.faults.switch("late", 0.02)
        client.sendall(b"first line\nsecond line\n")
        got = b""
        while len(got) < 11:
            got += client.recv(100)
        instrument.faults.clear()
        client.sendall(b"third line\n")
        while len(got) < 34:
            got += client.recv(100)
    assert got == b"first line\nsecond line\nthird line\n"
