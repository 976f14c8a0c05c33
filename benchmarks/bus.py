"""Round trip of reading one value over loopback TCP, client and server in separate processes: labctl and its peers.

The reference ("bare") is a pyzmq DEALER/ROUTER echo with msgspec in blocking threads: the least this transport costs.
Rounds are interleaved, so that everybody sees the same machine; ZeroMQ's six thread wake-ups still make it bimodal on a
virtual machine (about 30 us while cores stay awake, 80 to 120 us when they sleep between them), bare or not. "rpyc" is
the call as people write it (two round trips), "rpyc kept" keeps the remote method (one).
``python benchmarks/bus.py [--json] [--rounds N]``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

TARGET = 1.3
LONGEST_S = 55.0
CALLS = {"bare": 300, "labctl": 300, "rpyc": 200, "rpyc kept": 200, "qmi": 100, "pydase": 40}
PACKAGES = {"bare": "pyzmq", "labctl": "", "rpyc kept": "rpyc"}


# servers: each prints where it listens, and ends when its standard input does


def ready(address: str) -> None:
    print(address, flush=True)


def parent_gone() -> None:
    sys.stdin.read()


def serve_bare() -> None:
    import msgspec
    import zmq

    router = zmq.Context.instance().socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")

    def loop() -> None:
        encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode
        while True:
            peer, data = router.recv_multipart()
            number = decode(data)[1]
            router.send_multipart([peer, encode([1, number, 0.12, None])])

    threading.Thread(target=loop, daemon=True).start()
    ready(f"tcp://127.0.0.1:{port}")
    parent_gone()


def serve_hub() -> None:
    from labctl.bus.hub import Hub

    with Hub("tcp://127.0.0.1:0") as hub:
        ready(hub.addresses.registry)
        parent_gone()


def serve_labctl(hub: str) -> None:
    from labctl.bus.host import Host
    from labctl.bus.owner import HostedDevice
    from labctl.device import Device, action
    from labctl.signal import Signal
    from labctl.transport import connect

    class Laser(Device):
        amperes = 0.12
        current = Signal(float, "A", read=lambda device: device.amperes, limits=(0.0, 0.18), poll_s=1.0)

        def open(self) -> None: ...

        def close(self) -> None: ...

        @action
        def safe(self) -> None:
            self.amperes = 0.0

    laser = HostedDevice("alice.laser_397", lambda: Laser(connect("tcp://127.0.0.1:9"), "alice.laser_397"))
    with Host("alice", [laser], hub) as host:
        host.wait_registered()
        ready(hub)
        parent_gone()


def serve_rpyc() -> None:
    import rpyc
    from rpyc.utils.server import ThreadedServer

    class Laser(rpyc.Service):
        def exposed_current(self) -> float:
            return 0.12

    server = ThreadedServer(Laser, hostname="127.0.0.1", port=0)
    server._listen()
    threading.Thread(target=server.start, daemon=True).start()
    ready(str(server.port))
    parent_gone()


def serve_qmi() -> None:
    import qmi
    from qmi.core.rpc import QMI_RpcObject, rpc_method

    class Laser(QMI_RpcObject):
        @rpc_method
        def current(self) -> float:
            return 0.12

    qmi.start(
        "bench_server",
        config_file=None,
        init_logging=False,
        context_cfg={"bench_server": {"host": "127.0.0.1", "tcp_server_port": 0}},
    )
    qmi.make_rpc_object("laser", Laser)
    ready(f"127.0.0.1:{qmi.context().get_tcp_server_port()}")
    parent_gone()
    qmi.stop()


def serve_pydase() -> None:
    import logging

    import pydase

    class Laser(pydase.DataService):
        current = 0.12

    logging.disable(logging.WARNING)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = pydase.Server(Laser(), host="127.0.0.1", web_port=port)
    threading.Thread(target=server.run, daemon=True).start()
    ready(f"ws://127.0.0.1:{port}")
    parent_gone()


SERVERS: dict[str, Callable[..., None]] = {
    "bare": serve_bare,
    "hub": serve_hub,
    "labctl": serve_labctl,
    "rpyc": serve_rpyc,
    "rpyc kept": serve_rpyc,
    "qmi": serve_qmi,
    "pydase": serve_pydase,
}


# clients: each gives a function that reads the value once


@contextlib.contextmanager
def read_bare(address: str) -> Iterator[Callable[[], float]]:
    import itertools

    import msgspec
    import zmq

    dealer = zmq.Context.instance().socket(zmq.DEALER)
    dealer.linger = 0
    dealer.connect(address)
    encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode
    numbers = itertools.count(1)

    def read() -> float:
        dealer.send(encode([1, next(numbers), "get", "alice.laser_397", "current", [], "0123456789abcdef"]))
        return decode(dealer.recv())[2]

    yield read
    dealer.close()


@contextlib.contextmanager
def read_labctl(address: str) -> Iterator[Callable[[], float]]:
    from labctl.bus.client import Client

    with Client(address) as client:
        yield lambda: client.get("alice.laser_397.current")


@contextlib.contextmanager
def read_rpyc(address: str) -> Iterator[Callable[[], float]]:
    import rpyc

    connection = rpyc.connect("127.0.0.1", int(address))
    yield connection.root.current  # the method kept: one round trip, rpyc at its best
    connection.close()


@contextlib.contextmanager
def read_rpyc_written(address: str) -> Iterator[Callable[[], float]]:
    import rpyc

    connection = rpyc.connect("127.0.0.1", int(address))
    yield lambda: connection.root.current()  # as people write it: the attribute, then the call
    connection.close()


@contextlib.contextmanager
def read_qmi(address: str) -> Iterator[Callable[[], float]]:
    import qmi

    qmi.start("bench_client", config_file=None, init_logging=False)
    qmi.context().connect_to_peer("bench_server", address)
    yield qmi.get_rpc_object("bench_server.laser").current
    qmi.stop()


@contextlib.contextmanager
def read_pydase(address: str) -> Iterator[Callable[[], float]]:
    import logging

    import pydase

    logging.disable(logging.WARNING)
    client = pydase.Client(url=address)
    proxy: Any = client.proxy
    yield lambda: proxy.current
    client.disconnect()


CLIENTS = {
    "bare": read_bare,
    "labctl": read_labctl,
    "rpyc": read_rpyc_written,
    "rpyc kept": read_rpyc,
    "qmi": read_qmi,
    "pydase": read_pydase,
}


@contextlib.contextmanager
def server(name: str, *arguments: str) -> Iterator[str]:
    """A server process; its address."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", name, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError(f"the {name} server did not start")
        yield address
    finally:
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def measure(rounds: int) -> dict[str, dict[str, Any]]:
    """Median and 99th percentile, s, of every peer that is installed."""
    started = time.perf_counter()
    out: dict[str, dict[str, Any]] = {}
    times: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        readers: dict[str, Callable[[], float]] = {}
        for name, open_client in CLIENTS.items():
            package = PACKAGES.get(name, name)
            try:
                out[name] = {"version": version(package) if package else "this"}
            except PackageNotFoundError:
                out[name] = {"missing": f"not installed: pip install {package}"}
                continue
            arguments = [stack.enter_context(server("hub"))] if name == "labctl" else []
            try:
                readers[name] = stack.enter_context(
                    open_client(stack.enter_context(server(name, *arguments)))
                )
                times[name] = []
                for _ in range(20):
                    if abs(readers[name]() - 0.12) > 1e-12:
                        raise RuntimeError(f"{name} gave a wrong value")
            except Exception as error:
                if name in ("bare", "labctl"):
                    raise
                out[name] = {"missing": f"{type(error).__name__}: {error}"}
                readers.pop(name, None)
        for _ in range(rounds):
            if time.perf_counter() - started > LONGEST_S:
                break
            for name, read in readers.items():
                for _ in range(CALLS[name]):
                    before = time.perf_counter()
                    read()
                    times[name].append(time.perf_counter() - before)
    for name in readers:
        taken = sorted(times[name])
        out[name] |= {
            "calls": len(taken),
            "median_us": 1e6 * taken[len(taken) // 2],
            "p99_us": 1e6 * taken[int(len(taken) * 0.99)],
        }
        out[name]["to_bare"] = out[name]["median_us"] / out["bare"]["median_us"]
    return out


def table(results: dict[str, dict[str, Any]]) -> str:
    """For people."""
    lines = [f"{'':10} {'version':>10} {'calls':>7} {'median us':>10} {'p99 us':>8} {'to bare':>8}"]
    for name, row in results.items():
        if "missing" in row:
            lines.append(f"{name:10} {row['missing']}")
        else:
            lines.append(
                f"{name:10} {row['version']:>10} {row['calls']:7} {row['median_us']:10.0f} {row['p99_us']:8.0f} {row['to_bare']:8.2f}"
            )
    ours = results["labctl"]
    there = {name: row["median_us"] for name, row in results.items() if "to_bare" in row}
    below = [
        name
        for name, median in there.items()
        if name not in ("bare", "labctl") and ours["median_us"] < median
    ]
    above = [name for name in there if name not in ("bare", "labctl", *below)]
    lines.append(f"at most {TARGET} x bare: {'met' if ours['to_bare'] <= TARGET else 'NOT met'}")
    lines.append(
        f"below {', '.join(below) or 'nobody'}" + (f"; NOT below {', '.join(above)}" if above else "")
    )
    if there.get("rpyc kept", ours["median_us"]) < there["bare"]:
        lines.append(
            "rpyc kept is below bare here: no round trip over ZeroMQ, which has threads of its own, is"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        SERVERS[arguments.serve[0]](*arguments.serve[1:])
        return
    results = measure(arguments.rounds)
    print(json.dumps(results, indent=1) if arguments.json else table(results))


if __name__ == "__main__":
    main()
