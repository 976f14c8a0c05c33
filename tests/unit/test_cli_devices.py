"""Commands that talk to devices, on a hub and a host of the test's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from labctl.bus.client import Client
from labctl.bus.host import Host
from labctl.bus.hub import Hub
from labctl.bus.owner import HostedDevice
from labctl.bus.service import HostedService
from labctl.cli import main
from labctl.clock import SystemClock
from labctl.device import Device, action
from labctl.errors import UnknownNameError
from labctl.signal import Signal
from labctl.transport import connect


class Oven(Device):
    """An oven in memory."""

    manual = "a manual"

    def __init__(self, name: str, values: dict[str, Any], log: list[tuple[str, Any]]) -> None:
        super().__init__(connect("tcp://127.0.0.1:9", name), name)
        self.values = values
        self.log = log

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def write(self, name: str, value: Any) -> None:
        self.log.append((name, value))
        self.values[name] = value

    temperature = Signal(
        float,
        "K",
        read=lambda d: d.values["temperature"],
        write=lambda d, v: d.write("temperature", v),
        limits=(288.15, 343.15),
        poll_s=0.05,
        doc="of the crystal",
    )
    current = Signal(float, "A", read=lambda d: d.values["current"])
    output = Signal(bool, read=lambda d: d.values["output"], write=lambda d, v: d.write("output", v))
    bias: Signal[list[float]] = Signal(
        list[float], "A", read=lambda d: d.values["bias"], write=lambda d, v: d.write("bias", v)
    )

    @action
    def ramp(self, to: float, slowly: bool) -> str:
        """Go there."""
        return f"to {to!r}, {'slowly' if slowly else 'at once'}"

    @action
    def safe(self) -> None:
        """Output off."""
        self.write("output", False)


class World:
    """The control of a simulated world."""

    def __init__(self) -> None:
        self.faults: dict[str, dict[str, float]] = {}

    def call(self, name: str, /, *arguments: Any) -> Any:
        if name == "fault":
            device, kind, amount = arguments
            if kind == "flood":
                raise UnknownNameError(f"{device} has no fault 'flood'; it has late")
            self.faults.setdefault(device, {})[kind] = amount
            return None
        if name == "clear":
            self.faults.pop(*arguments)
            return None
        return self.faults

    def describe(self) -> dict[str, Any]:
        return {
            "driver": "test:World",
            "actions": {"fault": {"doc": "kinds: late", "arguments": "(device, kind, amount)"}},
        }


class Lab:
    """A hub, a host, and what happened in the oven."""

    def __init__(self, hub: str, log: list[tuple[str, Any]], world: World) -> None:
        self.hub = hub
        self.log = log
        self.world = world

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["--hub", self.hub, *arguments])


@pytest.fixture
def lab() -> Iterator[Lab]:
    values = {"temperature": 300.0, "current": 0.121, "output": True, "bias": [1e-5, 2e-5]}
    log: list[tuple[str, Any]] = []
    world = World()
    oven = HostedDevice("alice.oven", lambda: Oven("alice.oven", values, log), {"output": True})
    with Hub("tcp://127.0.0.1:0") as hub:
        address = hub.addresses.registry
        with Host("alice", [oven], address, services=[HostedService("world", world)]) as host:
            host.wait_registered()
            wait_until(address, "ready")
            log.clear()
            yield Lab(address, log, world)


def wait_until(hub: str, state: str) -> None:
    clock = SystemClock()
    deadline = clock.now() + 20
    with Client(hub) as client:
        while next(row.state for row in client.devices() if row.device == "alice.oven") != state:
            assert clock.now() < deadline, f"alice.oven did not become {state}"
            clock.sleep(0.02)


def test_ls(lab: Lab) -> None:
    lines = lab("ls").output.splitlines()
    assert lines[0].split() == ["device", "driver", "state", "age", "latency", "clock", "leased", "by", "reason"]  # fmt: skip
    assert lines[1].split()[:3] == ["alice.oven", "Oven", "ready"]
    rows = json.loads(lab("ls", "--json").output)
    assert [(row["device"], row["state"]) for row in rows] == [("alice.oven", "ready"), ("world", "ready")]


def test_ls_of_a_device(lab: Lab) -> None:
    text = lab("ls", "alice.oven").output
    assert "manual: a manual" in text
    assert [line.split() for line in text.splitlines() if line.startswith("temperature")] == [
        ["temperature", "26.85", "degC", "15", "to", "70", "degC", "of", "the", "crystal"]
    ]
    assert "current      0.121 A" in text
    assert "read-only" in text
    assert "ramp(to: float, slowly: bool) -> str" in text
    found = json.loads(lab("ls", "alice.oven", "--json").output)
    assert found["values"]["temperature"] == 300.0
    assert found["signals"]["temperature"]["limits"] == [288.15, 343.15]


def test_ls_of_a_service(lab: Lab) -> None:
    assert "fault(device, kind, amount)" in lab("ls", "world").output


def test_get(lab: Lab) -> None:
    assert lab("get", "alice.oven.temperature").output == "26.85 degC\n"
    both = lab("get", "alice.oven.current", "alice.oven.output").output.split()
    assert both == ["alice.oven.current", "0.121", "A", "alice.oven.output", "true"]
    found = json.loads(lab("get", "alice.oven.temperature", "--json").output)
    assert found == {"alice.oven.temperature": {"value": 300.0, "unit": "K"}}


@pytest.mark.parametrize(
    ("name", "text", "sent", "printed"),
    [
        ("temperature", "41.2", 314.35, "41.2 degC"),
        ("temperature", "314.35K", 314.35, "41.2 degC"),
        ("output", "off", False, "false"),
        ("bias", "20e-6,30uA", [2e-5, 3e-5], "2e-05,3e-05 A"),
        ("bias", "-1e-6,0", [-1e-6, 0.0], "-1e-06,0 A"),
    ],
)
def test_set(lab: Lab, name: str, text: str, sent: Any, printed: str) -> None:
    result = lab("set", f"alice.oven.{name}", text)
    assert result.stderr == ""
    assert result.output == printed + "\n"
    assert lab.log == [(name, pytest.approx(sent) if not isinstance(sent, bool) else sent)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["set", "alice.oven.temperature", "90"], "90 degC is outside 15 degC to 70 degC; nothing was sent"),
        (["set", "alice.oven.temperature", "hot"], "alice.oven.temperature: 'hot' is not a number"),
        (["set", "alice.oven.temperature", "3A"], "has the unit 'A'; expected K"),
        (["set", "alice.oven.temperature", "-300"], "is outside 15 degC to 70 degC"),
        (["set", "alice.oven.output", "perhaps"], "'perhaps' is not true or false"),
        (["set", "alice.oven.current", "0.1"], "alice.oven.current is read-only; nothing was sent"),
        (["set", "alice.oven.temprature", "20"], "did you mean 'temperature'?"),
        (["get", "alice.ovn.temperature"], "did you mean alice.oven?"),
        (["get", "temperature"], "is not of the form NODE.DEVICE.SIGNAL"),
        (["ls", "bob.oven"], "no device 'bob.oven'; did you mean alice.oven?"),
        (["call", "alice.oven.rmap", "1"], "it has ramp, safe"),
        (["call", "alice.oven.ramp", "high", "on"], "'high' is not of type float"),
        (["call", "alice.oven.ramp"], "missing a required argument: 'to'"),
        (["fault", "alice.oven", "flood"], "has no fault 'flood'; it has late"),
        (["safe", "alice.lamp"], "no device 'alice.lamp'"),
    ],
)
def test_refusals_are_one_line_and_send_nothing(lab: Lab, arguments: list[str], says: str) -> None:
    result = lab(*arguments)
    assert result.exit_code == 1
    assert says in result.stderr
    assert result.stderr.startswith("labctl: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert lab.log == []


def test_call(lab: Lab) -> None:
    assert lab("call", "alice.oven.ramp", "310.5", "yes").output == "to 310.5, slowly\n"
    assert lab("call", "alice.oven.ramp", "-2", "no", "--json").output == '"to -2.0, at once"\n'


def test_safe_and_restore(lab: Lab) -> None:
    assert lab("restore").output == "no device is safe: nothing to restore\n"
    assert lab("safe").output.startswith("safe: every device")
    assert ("output", False) in lab.log
    wait_until(lab.hub, "safe")
    assert " safe " in lab("ls").output
    assert lab("restore").output == "restored alice.oven\n"
    assert lab.log[-1] == ("output", True)
    assert lab("safe", "alice.oven").exit_code == 0


def test_watch(lab: Lab) -> None:
    stop = threading.Event()

    def change() -> None:
        with Client(lab.hub) as client:
            kelvin = 300.0
            while not stop.wait(0.05):
                kelvin = 301.0 if kelvin == 300.0 else 300.0
                client.set("alice.oven.temperature", kelvin)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        result = lab("watch", "alice.oven.*", "--count", "3", "--seconds", "20")
        states = lab("watch", "alice.o*n", "--count", "15", "--seconds", "20")
        as_json = lab("watch", "alice.oven.temperature", "--count", "1", "--json")
        silent = lab("watch", "bob.*", "--seconds", "0.2")
    finally:
        stop.set()
        thread.join()
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert {line.split()[1] for line in lines} == {"alice.oven.temperature"}
    assert {" ".join(line.split()[2:]) for line in lines} <= {"26.85 degC", "27.85 degC"}
    assert any(line.split()[1:] == ["alice.oven", "ready"] for line in states.stdout.splitlines())
    event = json.loads(as_json.stdout)
    assert (event["topic"], event["payload"]["unit"]) == ("signal.alice.oven.temperature", "K")
    assert silent.stdout == ""


def test_faults(lab: Lab) -> None:
    assert lab("fault", "alice.oven", "late", "0.5").output == "alice.oven: late 0.5\n"
    assert lab.world.faults == {"alice.oven": {"late": 0.5}}
    assert lab("fault").output.splitlines()[1].split() == ["alice.oven", "late", "0.5"]
    assert json.loads(lab("fault", "--json").output) == {"alice.oven": {"late": 0.5}}
    assert lab("fault", "alice.oven", "--clear").output == "alice.oven: faults cleared\n"
    assert lab.world.faults == {}


def test_a_hub_that_is_not_there() -> None:
    result = CliRunner().invoke(main, ["--hub", "tcp://127.0.0.1:9", "ls"])
    assert result.exit_code == 1
    assert "tcp://127.0.0.1:9" in result.stderr
    assert result.stderr.count("\n") == 1


def test_connect_by_address(lab: Lab) -> None:
    from labctl import connect as connect_to

    with connect_to(lab.hub) as found:
        assert found["alice.oven"].temperature.get() == 300.0
