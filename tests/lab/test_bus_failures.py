"""The bus when things die or talk nonsense: hosts killed, the hub down, random frames on every socket."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
import zmq
from bus_parts import Instrument, clock, hosted, wait_until

from labctl.bus.client import Client
from labctl.bus.events import Subscriber
from labctl.bus.host import Host
from labctl.bus.hub import Hub
from labctl.bus.stream import StreamSink, StreamSource
from labctl.bus.wire import WIRE_VERSION, Codec, Reply
from labctl.errors import BusError, LabError, WireError

LASER = "alice.laser"


@contextmanager
def host_process(hub: str, node: str, device: str) -> Iterator[subprocess.Popen[bytes]]:
    """A host in a process of its own, killed at the end."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("bus_parts.py")), hub, node, device],
        env={"PYTHONPATH": str(root), "PATH": ""},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ready(client: Client, device: str = LASER) -> bool:
    with suppress(BusError):
        return client.cached(device)["state"] == "ready"
    return False


def test_a_killed_host_is_dropped_and_the_error_is_one_line() -> None:
    with Hub("tcp://127.0.0.1:0") as hub, Client(hub.addresses.registry) as client:
        address = hub.addresses.registry
        with host_process(address, "alice", LASER) as process, Subscriber(address, "host.") as events:
            wait_until(lambda: ready(client), "ready")
            assert client.get(f"{LASER}.current") == 0.1
            events.drain(0.1)
            killed = clock.now()
            process.send_signal(signal.SIGKILL)
            process.wait()
            with pytest.raises(BusError) as error:
                client.get(f"{LASER}.current", timeout_s=8.0)  # longer than a dead host is believed alive
            gone = next(event for event in events.events(5.0) if event.payload["state"] == "gone")
            assert gone.topic == "host.alice"
            assert gone.payload["devices"] == [LASER]
            assert gone.time_wall > 0
            assert clock.now() - killed < 10  # a sanity bound; SILENT_S itself is checked below
            assert client.devices() == []
            with pytest.raises(BusError) as later:
                client.get(f"{LASER}.current")
        for text in (str(error.value), str(later.value)):
            assert "\n" not in text
            assert f"{LASER}.current: its host 'alice' (tcp://127.0.0.1:" in text
            assert "labctl ls" in text
        with host_process(address, "alice", LASER):  # started again: found without more ado
            wait_until(lambda: ready(client), "back")
            assert client.get(f"{LASER}.current") == 0.1


def test_silence_is_noticed_within_three_seconds() -> None:
    from labctl.bus import host, hub

    assert hub.SILENT_S + 0.1 + host.BEAT_S / 5 <= 3.0
    assert hub.SILENT_S > 3 * host.BEAT_S


def test_a_call_under_way_ends_when_its_host_dies() -> None:
    with Hub("tcp://127.0.0.1:0") as hub, Client(hub.addresses.registry) as client:
        with host_process(hub.addresses.registry, "alice", LASER) as process:
            wait_until(lambda: ready(client), "ready")
            waiter = clock.now()
            process.send_signal(signal.SIGSTOP)
            try:
                with pytest.raises(BusError, match=r"gone; the call may or may not"):
                    client.call(f"{LASER}.ponder", 60.0, timeout_s=90)
            finally:
                process.kill()
            assert clock.now() - waiter < 60


def test_requests_go_on_while_the_hub_is_down() -> None:
    hub = Hub("tcp://127.0.0.1:0").start()
    address = hub.addresses.registry
    instrument = Instrument()
    devices = [hosted(LASER, instrument), hosted("alice.other", Instrument())]
    with Host("alice", devices, address) as host, Client(address, timeout_s=1.0) as client:
        host.wait_registered()
        wait_until(lambda: ready(client), "ready")
        hub.close()
        client.set(f"{LASER}.current", 0.05)
        assert client.get(f"{LASER}.current") == 0.05
        assert client.get("alice.other.current") == 0.0  # never asked for before
        with client.lease([LASER]):
            client.set(f"{LASER}.current", 0.06)
        client.safe()
        assert instrument.values["current"] == 0.0
        with Hub(address):  # a new hub at the same address learns it all again
            wait_until(lambda: [r.device for r in client.devices()] == [LASER, "alice.other"], "registered")


# nonsense


def nonsense(rng: random.Random) -> list[bytes]:
    """Random frames: noise, almost-messages, messages of another version, lying arrays."""
    kind = rng.randrange(5)
    if kind == 0:
        return [rng.randbytes(rng.randrange(60)) for _ in range(rng.randrange(1, 5))]
    if kind == 1:
        return [b"\x91" * rng.randrange(1, 5000)]
    fields = [WIRE_VERSION, 1, "get", LASER, "current", [], "c"]
    if kind == 2:
        fields[0] = rng.choice([0, 2, -1, "1", None])
    elif kind == 3:
        verbs = [
            "get",
            "set",
            "call",
            "describe",
            "lease",
            "renew",
            "release",
            "safe",
            "register",
            "beat",
            "leave",
        ]
        fields[2] = rng.choice([*verbs, "exec"])
        fields[3] = rng.choice([LASER, "", "x" * 1000, 5])
        fields[4] = rng.choice(["current", "close", "__class__", "", None])
        junk = [None, 5, "x", [], [[]], {"a": 1}, ["a", 1, "c", [["d", "e", "f", True]]], [1e308], -1]
        fields[5] = [rng.choice(junk) for _ in range(rng.randrange(4))]
    else:
        array = msgspec.msgpack.Ext(rng.randrange(3), rng.randbytes(rng.randrange(12)))
        fields[5] = [array]
    return [msgspec.msgpack.encode(fields[: rng.choice([7, 7, 7, 4, 1])]), *([b"x"] * rng.randrange(3))]


def pelt(address: str, kind: int, rng: random.Random, topic: bool = False) -> None:
    """Send nonsense as zmq messages and as bare bytes."""
    sock = zmq.Context.instance().socket(kind)
    sock.linger = 500
    sock.connect(address)
    for _ in range(400):
        sock.send_multipart(([b"x."] if topic else []) + nonsense(rng))
    sock.close()
    where = urlsplit(address)
    with socket.create_connection((where.hostname, where.port)) as raw, suppress(OSError):
        raw.sendall(rng.randbytes(3000))


@pytest.mark.parametrize("seed", range(3))
def test_random_frames_on_every_socket_harm_nobody(seed: int) -> None:
    rng = random.Random(seed)
    instrument = Instrument()
    with (
        Hub("tcp://127.0.0.1:0") as hub,
        Host("alice", [hosted(LASER, instrument)], hub.addresses.registry) as host,
    ):
        host.wait_registered()
        with (
            Client(hub.addresses.registry) as client,
            Subscriber(hub.addresses.registry, ["x.", "device."]) as events,
        ):
            wait_until(lambda: ready(client), "ready")
            row = client.row(LASER)
            for address in (row.address, row.control, hub.addresses.registry):
                pelt(address, zmq.DEALER, rng)
            pelt(hub.addresses.publish, zmq.PUB, rng, topic=True)
            pelt(hub.addresses.subscribe, zmq.SUB if False else zmq.XSUB, rng)
            events.drain(0.3)
            wait_until(lambda: client.devices() and ready(client), "still listed and ready")
            assert client.get(f"{LASER}.wave") == 0
            with client.lease([LASER]):
                client.set(f"{LASER}.current", 0.1)
            client.safe()
            assert instrument.values["current"] == 0.0
            assert [entry for entry in instrument.log if entry[0] not in ("safe", "current")] == []


def test_random_frames_do_not_disturb_a_stream() -> None:
    rng = random.Random(7)
    with StreamSource() as source:
        for number in range(50):
            source.send(bytes([number]))
        pelt(source.address, zmq.DEALER, rng)
        with StreamSink(source.address) as sink:
            got = [sink.receive(5) for _ in range(50)]
        assert [message.frames[0] for message in got if message] == [bytes([n]) for n in range(50)]


def test_an_unreadable_request_is_answered_with_what_was_expected() -> None:
    with Hub("tcp://127.0.0.1:0") as hub:
        sock = zmq.Context.instance().socket(zmq.DEALER)
        sock.linger = 0
        sock.connect(hub.addresses.registry)
        sock.send(msgspec.msgpack.encode([WIRE_VERSION + 1, 5, "list"]))
        assert sock.poll(5000)
        reply = Codec().decode(Reply, [sock.recv()])
        assert reply.number == 0
        assert reply.error == (
            "WireError",
            "a message of version '2' came, expected a labctl bus Request of version 1; update the older of the two programs",
        )
        sock.close()


def test_a_reply_of_another_version_is_a_wire_error() -> None:
    router = zmq.Context.instance().socket(zmq.ROUTER)
    router.linger = 0
    port = router.bind_to_random_port("tcp://127.0.0.1")
    client = Client(f"tcp://127.0.0.1:{port}", timeout_s=0.3)
    try:
        with pytest.raises(LabError):
            client.devices()
        peer, _ = router.recv_multipart()
        router.send_multipart([peer, msgspec.msgpack.encode([9, 1, None, None])])
        with pytest.raises(WireError, match="version '9' came, expected a labctl bus Reply"):
            client.devices()
    finally:
        client.close()
        router.close()
