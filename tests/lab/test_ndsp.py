"""Devices as ARTIQ controllers and runs as ARTIQ datasets, seen by clients that know only sipyco's wire protocols."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bus_parts import Instrument, hosted, wait_until
from click.testing import CliRunner

from labctl.bus.client import Client
from labctl.bus.host import Host
from labctl.bus.hub import Hub
from labctl.cli import main
from labctl.core.artiq.device_db import read as read_device_db
from labctl.errors import BusError
from labctl.ndsp import pyon, served
from labctl.ndsp.datasets import NOTIFIER, DatasetMirror
from labctl.ndsp.publisher import StructPublisher
from labctl.ndsp.rpc import Method, RpcServer

ROOT = Path(__file__).parents[2]
LASER = "alice.laser_397"


class Wire:
    """Lines to and from a server."""

    def __init__(self, port: int, banner: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10.0)
        self.file = self.socket.makefile("rb")
        self.send(banner)

    def send(self, line: str) -> None:
        self.socket.sendall(line.encode() + b"\n")

    def receive(self) -> str:
        """The next line; "" once the server has hung up."""
        return self.file.readline().decode().rstrip("\n")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()


class Rpc(Wire):
    """As sipyco's Client does it, of version 1 (sipyco 1.8) or 2 (1.10)."""

    def __init__(self, port: int, version: int, target: str | None = None) -> None:
        super().__init__(port, "ARTIQ pc_rpc")
        self.version = version
        self.hello = json.loads(self.receive())
        name = target or self.hello["targets"][0]
        self.send(name if version == 1 else f"{name} pyon_v2")
        answer = self.receive()
        self.methods = pyon.decode(answer, version) if answer else None

    def ask(self, request: Any) -> dict[str, Any]:
        self.send(pyon.encode(request, self.version))
        return pyon.decode(self.receive(), self.version)

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        answer = self.ask({"action": "call", "name": name, "args": arguments, "kwargs": named})
        assert answer["status"] == "ok", answer
        return answer["ret"]

    def fails(self, name: str, *arguments: Any) -> dict[str, Any]:
        answer = self.ask({"action": "call", "name": name, "args": arguments, "kwargs": {}})
        assert answer["status"] == "failed"
        return answer["exception"]


@pytest.fixture(scope="module")
def instrument() -> Instrument:
    return Instrument(connections=1)


@pytest.fixture(scope="module")
def client(instrument: Instrument) -> Iterator[Client]:
    with ExitStack() as opened:
        hub = opened.enter_context(Hub("tcp://127.0.0.1:0")).addresses.registry
        opened.enter_context(Host("alice", [hosted(LASER, instrument, current=0.1)], hub))
        client = opened.enter_context(Client(hub))
        wait_until(lambda: [row for row in client.devices() if row.state == "ready"], "the laser is ready")
        yield client


@pytest.fixture
def devices(client: Client) -> Iterator[served.ServedDevices]:
    serving = served.ServedDevices(client, {LASER: 0})
    yield serving
    serving.close()


@pytest.fixture(params=pyon.VERSIONS)
def laser(devices: served.ServedDevices, request: pytest.FixtureRequest) -> Iterator[Rpc]:
    with Rpc(devices.ports[LASER], request.param) as rpc:
        yield rpc


def test_a_controller_says_what_it_is(laser: Rpc) -> None:
    assert laser.hello == {
        "targets": ["alice_laser_397"],
        "description": f"labctl: {LASER}",
        "features": ["pyon_v2"],
    }
    assert {"get_current", "set_current", "get_wave", "relock", "safe", "ping", "terminate"} <= laser.methods
    assert "set_wave" not in laser.methods
    listed = laser.ask({"action": "get_rpc_method_list"})["ret"]["methods"]
    assert {*listed} == laser.methods
    specification, text = listed["set_current"]
    assert specification["args"] == ["self", "value"] and "In A" in text
    assert listed["relock"][0]["args"] == ["self", "times"]


def test_signals_and_actions(laser: Rpc, instrument: Instrument) -> None:
    assert laser.call("ping") is True
    laser.call("set_current", np.float64(0.12))
    assert instrument.values["current"] == 0.12
    assert laser.call("get_current") == 0.12
    laser.call("set_current", value=0.05)
    assert laser.call("get_current") == 0.05
    assert laser.call("relock", np.int32(3)) == "locked after 3"
    assert laser.call("samples", 4).tolist() == [0, 1, 2, 3]


def test_errors_reach_the_client_in_words(laser: Rpc, instrument: Instrument) -> None:
    before = len(instrument.log)
    wrong = laser.fails("set_current", 7.0)
    assert wrong["class"] == "GenericRemoteException"
    assert "LimitError" in wrong["message"] and "nothing was sent" in wrong["message"]
    assert len(instrument.log) == before
    assert "RefusedError" in laser.fails("fail")["message"]
    missing = laser.fails("set_wave", 1)
    assert missing["class"] == "AttributeError" and "no method 'set_wave'" in missing["message"]
    assert laser.fails("relock", 1, 2)["class"] == "GenericRemoteException"
    assert "unknown action" in laser.ask({"action": "dance"})["exception"]["message"]
    laser.send("][")
    assert pyon.decode(laser.receive(), laser.version)["status"] == "failed"
    assert laser.call("ping") is True


def test_safe_is_the_labs_own(laser: Rpc, client: Client, instrument: Instrument) -> None:
    laser.call("set_current", 0.1)
    laser.call("safe")
    assert instrument.values["current"] == 0.0
    wait_until(lambda: client.devices()[0].state == "safe", "the laser is safe")
    client.restore(LASER)
    wait_until(lambda: client.devices()[0].state == "ready", "the laser is ready again")


def test_several_clients_and_strangers(devices: served.ServedDevices) -> None:
    port = devices.ports[LASER]
    with Wire(port, "GET / HTTP/1.1") as stranger, Rpc(port, 2) as one, Rpc(port, 1) as other:
        assert stranger.receive() == ""
        assert one.call("ping") and other.call("ping") and one.call("ping")
        with Rpc(port, 2, "nobody") as lost:
            assert lost.methods is None
        with Wire(port, "ARTIQ pc_rpc") as half:
            half.socket.sendall(b"alice_la")
        assert one.call("ping")


def test_terminate_ends_the_serving(devices: served.ServedDevices) -> None:
    with Rpc(devices.ports[LASER], 2) as rpc:
        assert not devices.ended.is_set()
        assert rpc.call("terminate") is None
        assert devices.ended.is_set()


def test_a_port_in_use_is_one_line(devices: served.ServedDevices, client: Client) -> None:
    port = devices.ports[LASER]
    with pytest.raises(BusError, match=rf"cannot listen on 127\.0\.0\.1:{port} .*take another port"):
        served.ServedDevices(client, {LASER: port})


def test_ipv6_is_served_too() -> None:
    """ARTIQ's own entries say ``::1``."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no ::1 ({error})")
    server = RpcServer({"t": {"ping": Method(lambda: True)}}, "", ("127.0.0.1", "::1"))
    try:
        with socket.create_connection(("::1", server.port), 10.0) as sock, sock.makefile("rb") as file:
            sock.sendall(b"ARTIQ pc_rpc\n")
            assert json.loads(file.readline())["targets"] == ["t"]
    finally:
        server.close()


def test_calls_on_a_target_come_one_at_a_time() -> None:
    inside, most, gate = [0], [0], threading.Barrier(3)

    def work() -> int:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        for _ in range(1000):
            pass
        inside[0] -= 1
        return most[0]

    server = RpcServer({"t": {"work": Method(work)}}, "")

    def ask() -> None:
        with Rpc(server.port, 2) as rpc:
            gate.wait(10)
            for _ in range(20):
                rpc.call("work")

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.close()
    assert most == [1]


# datasets


class Datasets(Wire):
    """As sipyco's Subscriber keeps its copy."""

    def __init__(self, port: int, version: int) -> None:
        super().__init__(port, "ARTIQ sync_struct")
        self.version = version
        self.send(NOTIFIER)
        self.struct = pyon.decode(self.receive(), version)["struct"]

    def follow(self, until: Any) -> None:
        """Take changes until ``until(struct)``."""
        while not until(self.struct):
            change = pyon.decode(self.receive(), self.version)
            target = self.struct
            for key in change["path"]:
                target = target[key]
            match change["action"]:
                case "setitem":
                    target[change["key"]] = change["value"]
                case "append":
                    target.append(change["x"])
                case "delitem":
                    del target[change["key"]]
                case other:
                    raise AssertionError(other)


@pytest.mark.parametrize("version", pyon.VERSIONS)
def test_changes_of_a_dictionary_arrive_in_order(version: int) -> None:
    publisher = StructPublisher(NOTIFIER, version)
    publisher.set("a", (False, [1], {}))
    with Datasets(publisher.port, version) as first, Wire(publisher.port, "ARTIQ sync_struct") as stranger:
        stranger.send("schedule")
        assert stranger.receive() == ""
        for number in range(200):
            publisher.append("a", (1,), number)
        publisher.set("b", (False, 2.5, {}))
        publisher.set("b", (False, 2.5, {}))
        publisher.delete("b")
        publisher.set("end", (False, 0, {}))
        with Datasets(publisher.port, version) as late:
            first.follow(lambda struct: "end" in struct)
            assert first.struct == late.struct == {"a": (False, [1, *range(200)], {}), "end": (False, 0, {})}
        publisher.close()
        assert first.receive() == ""


def test_a_run_and_the_signals_become_datasets(
    client: Client, tmp_path: Path, instrument: Instrument
) -> None:
    publisher = StructPublisher(NOTIFIER, 2)
    mirror = DatasetMirror(publisher, tmp_path, client.hub_address)
    try:
        with Datasets(publisher.port, 2) as seen:
            instrument.values["power"] = 0.25
            key = f"labctl.signal.{LASER}.power"
            seen.follow(lambda struct: struct.get(key, (0, 0))[1] == 0.25)
            result = CliRunner().invoke(
                main,
                [
                    "run",
                    "noise",
                    "--virtual",
                    "--rounds",
                    "5",
                    "--config",
                    str(ROOT / "configs" / "ca40_10km.toml"),
                    "--runs",
                    str(tmp_path),
                ],
            )
            assert result.exit_code == 0, result.output
            seen.follow(lambda struct: struct.get("labctl.run.state", (0, 0))[1] == "ended")
            seen.follow(lambda struct: "labctl.figure.noise_rate.error" in struct)
            assert seen.struct["labctl.run.rid"][1] == 1
            assert seen.struct["labctl.run.sequence"][1] == "noise"
            assert len(seen.struct["labctl.run.n0"][1]) == seen.struct["labctl.run.records"][1] == 5
            assert seen.struct["labctl.figure.noise_rate"][1] > 0
    finally:
        mirror.close()
        publisher.close()


# the command line


def test_device_db_entries_are_read_by_artiqs_rules(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["artiq", "device-db", "--config", str(ROOT / "configs" / "ca40_10km.toml")]
    )
    assert result.exit_code == 0
    file = tmp_path / "device_db.py"
    core = (ROOT / "tests" / "data" / "artiq" / "device_db_kasli.py").read_text()
    file.write_text(f"{core}\n{result.stdout}")
    table: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), table)
    entry = table["device_db"]["alice_laser_397"]
    assert entry["type"] == "controller" and entry["target_name"] == "alice_laser_397"
    assert entry["command"] == f"labctl serve --ndsp {LASER} -p {{port}} --bind {{bind}}"
    controllers = [
        one for one in table["device_db"].values() if isinstance(one, dict) and one["type"] == "controller"
    ]
    assert len({one["port"] for one in controllers}) == len(controllers) > 20
    assert read_device_db(file).entries


def test_serve_without_a_lab_or_a_task_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    nothing = CliRunner().invoke(main, ["serve"])
    assert nothing.exit_code == 2 and "give --ndsp" in nothing.stderr
    open_door = CliRunner().invoke(main, ["serve", "--ndsp", "--bind", "*"])
    assert open_door.exit_code == 1 and "--open-to-everybody" in open_door.stderr
