"""Transports on their own: long messages, time limits, reads that are interrupted from another thread."""

from __future__ import annotations

import os
import socket
import threading
import tty
from collections.abc import Iterator

import pytest

from labctl.errors import NoAnswerError, NotConnectedError
from labctl.transport import Transport, connect


class Wire:
    """A transport and the other end of its wire."""

    def __init__(self, transport: Transport, other: int) -> None:
        self.transport = transport
        self.other = other


@pytest.fixture(params=["tcp", "serial"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    if request.param == "tcp":
        with socket.create_server(("127.0.0.1", 0)) as server:
            transport = connect(f"tcp://127.0.0.1:{server.getsockname()[1]}", "alice.box", 2.0)
            transport.open()
            other, _ = server.accept()
            with other:
                yield Wire(transport, other.fileno())
            transport.close()
        return
    master, slave = os.openpty()
    tty.setraw(slave)
    transport = connect(f"serial://{os.ttyname(slave)}", "alice.box", 2.0)
    transport.open()
    yield Wire(transport, master)
    transport.close()
    os.close(master)
    os.close(slave)


def test_a_message_longer_than_any_buffer_arrives_whole(wire: Wire) -> None:
    message = bytes(range(33, 97)) * 65536  # 4 MiB
    if wire.transport.address.scheme == "serial":
        message = message[:65536]
    came = bytearray()

    def read() -> None:
        while len(came) < len(message):
            came.extend(os.read(wire.other, 65536))

    reader = threading.Thread(target=read)
    reader.start()
    wire.transport.write(message)
    reader.join(20)
    assert bytes(came) == message


def test_what_has_come_is_read_without_waiting(wire: Wire) -> None:
    assert wire.transport.read_available() == b""
    os.write(wire.other, b"1.5\n2.5\n")
    assert wire.transport.read_until(b"\n") == b"1.5"
    assert wire.transport.read_available() == b"2.5\n"
    assert wire.transport.read_available() == b""


def test_no_answer_in_time(wire: Wire) -> None:
    wire.transport.write(b"temp?\n")
    os.write(wire.other, b"29")
    with pytest.raises(NoAnswerError, match=r"alice\.box at .*b'temp\?\\n'.*only b'29' came"):
        wire.transport.read_until(b"\n", 0.02)


def test_an_interrupted_read_ends_at_once_and_the_next_question_is_answered(wire: Wire) -> None:
    transport = wire.transport
    if transport.address.scheme == "tcp":
        transport.interrupt()  # before the read: it ends as well
    else:
        threading.Timer(0.02, transport.interrupt).start()
    with pytest.raises(NotConnectedError, match=r"alice\.box at"):
        transport.read_until(b"\n", 30.0)
    if transport.address.scheme == "serial":  # a new TCP connection would need somebody to accept it
        transport.write(b"temp?\n")
        assert os.read(wire.other, 100) == b"temp?\n"
        os.write(wire.other, b"295\n")
        assert transport.read_until(b"\n") == b"295"


@pytest.mark.parametrize("wire", ["tcp"], indirect=True)
def test_the_other_end_is_gone(wire: Wire) -> None:
    with socket.socket(fileno=os.dup(wire.other)) as end:
        end.shutdown(socket.SHUT_RDWR)
    with pytest.raises(NotConnectedError, match="closed by the instrument"):
        wire.transport.read_until(b"\n")
