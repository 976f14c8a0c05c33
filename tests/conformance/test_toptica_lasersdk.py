"""The vendor's own client, unmodified, against the simulated DLC pro; and its typed tree as the schema of what is served."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from toptica.lasersdk.client import (
    Client,
    DecopError,
    DeviceNotFoundError,
    DeviceTimeoutError,
    SerialConnection,
)
from toptica.lasersdk.decop import SubscriptionValue, UserLevel
from toptica.lasersdk.dlcpro.v3_3_3 import DLCpro, NetworkConnection

from labctl.clock import ScaledClock
from labctl.sim.server import SimServer
from simulated_hw.toptica_dlcpro import SimDlcPro
from simulated_hw.world.parts import Laser

KINDS = {"Boolean": bool, "Integer": int, "Real": float, "String": str, "Binary": bytes}


def make_laser(wavelength_m: float) -> Laser:
    laser = Laser(
        np.random.default_rng(3),
        wavelength_m=wavelength_m,
        power_w=20e-3,
        nominal_current_a=0.12,
        threshold_current_a=0.04,
        largest_current_a=0.16,
        drift_hz_per_sqrt_s=0.0,
        lock_time_s=0.5,
    )
    laser.emission = True
    return laser


class Served:
    """A simulated controller of two heads, twenty times as fast as life, on two ports and a serial line."""

    def __init__(self) -> None:
        self.clock = ScaledClock(20.0)
        self.lasers = [make_laser(397e-9), make_laser(866e-9)]
        self.sim = SimDlcPro(self.lasers, self.clock.now, np.random.default_rng(5))
        self.server = SimServer(clock=self.clock)
        self.command = self.server.serve_tcp(self.sim, "command")
        self.monitor = self.server.serve_tcp(self.sim, "monitor")
        self.pty = self.server.serve_pty(self.sim, "command")

    def connection(self, timeout_s: float = 5.0) -> NetworkConnection:
        return NetworkConnection("127.0.0.1", self.command, self.monitor, timeout_s)


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    with made.server:
        yield made


@pytest.fixture
def dlc(served: Served) -> Iterator[DLCpro]:
    with DLCpro(served.connection()) as client:
        yield client


def attribute(dlc: DLCpro, name: str) -> Any:
    """The SDK's object for a parameter: ``laser1:dl:cc:current-set`` is ``dlc.laser1.dl.cc.current_set``."""
    found: Any = dlc
    for word in name.split(":"):
        word = word.replace("-", "_")
        found = getattr(found, word, None) or getattr(found, word + "_")
    return found


def test_every_parameter_served_is_in_the_vendors_tree(served: Served, dlc: DLCpro) -> None:
    """Name, type and access agree, and the SDK reads every one of them over the wire."""
    parameters = {**served.sim.system.parameters}
    assert len(parameters) > 130
    for name, parameter in parameters.items():
        theirs = attribute(dlc, name)
        kind = type(theirs).__name__
        assert theirs.name == name
        assert KINDS[kind.rpartition("Decop")[2]] is parameter.kind, name
        assert kind.startswith("Mutable") == (parameter.write is not None), name
        assert type(theirs.get()) is parameter.kind, name


def test_every_setting_takes_back_its_own_value(served: Served, dlc: DLCpro) -> None:
    dlc.change_ul(UserLevel.MAINTENANCE, "CAUTION")
    for name, parameter in served.sim.system.parameters.items():
        if parameter.write is not None and parameter.level >= 2:
            theirs = attribute(dlc, name)
            assert theirs.set(theirs.get()) == 0, name


def test_every_command_served_is_in_the_vendors_tree(served: Served, dlc: DLCpro) -> None:
    for name in served.sim.system.commands:
        assert callable(attribute(dlc, name)), name


def test_reads_and_writes(served: Served, dlc: DLCpro) -> None:
    assert dlc.serial_number.get() == "DLC PRO_000001"
    assert dlc.emission.get() is True
    assert dlc.uptime.get() >= 0
    assert dlc.laser1.dl.cc.current_set.get() == 120.0
    assert dlc.laser1.dl.cc.current_set.set(121.5) == 0
    assert dlc.laser1.dl.cc.current_act.get() == pytest.approx(121.5, abs=0.2)
    assert dlc.laser2.dl.cc.current_set.get() == 120.0
    assert dlc.laser1.dl.cc.current_set.set(121) == 0
    assert served.lasers[0].current_a == pytest.approx(0.121)
    assert dlc.system_label.set("Alice (rack 2)") == 0
    assert dlc.system_label.get() == "Alice (rack 2)"
    assert dlc.laser1.dl.lock.candidates.get() == b""
    assert dlc.laser1.dl.factory_settings.wavelength.get() == 397.0


def test_locks(served: Served, dlc: DLCpro) -> None:
    lock = dlc.laser1.dl.lock
    assert lock.state.get() == 0
    assert lock.lock_enabled.set(True) == 0
    assert lock.state.get() == 4
    served.clock.sleep(1.0)
    assert lock.state.get() == 5
    assert lock.state_txt.get() == "Locked"
    lock.open()
    assert lock.state.get() == 0
    lock.close()
    served.clock.sleep(1.0)
    assert lock.state.get() == 5


def test_errors(dlc: DLCpro) -> None:
    client = dlc._DLCpro__client  # type: ignore[attr-defined]
    assert isinstance(client, Client)
    with pytest.raises(DecopError, match="'-6'"):
        dlc.laser1.dl.cc.current_set.set(400.0)
    with pytest.raises(DecopError, match="'-3'"):
        client.set("laser1:emission", True)
    with pytest.raises(DecopError, match="'-5'"):
        client.set("laser1:dl:cc:enabled", 1.5)
    with pytest.raises(DecopError, match="Error: -4"):
        client.get("laser4:emission")
    with pytest.raises(DecopError, match="Error: -4"):
        client.set("no:such:thing", 1)
    dlc.laser1.dl.cc.enabled.set(False)
    with pytest.raises(DecopError, match="Error: -7 lockpoint not found"):
        dlc.laser1.dl.lock.close()
    assert dlc.laser1.dl.cc.current_set.get() == 120.0


def test_user_levels(dlc: DLCpro) -> None:
    with pytest.raises(DecopError, match="'-3'"):
        dlc.laser1.dl.cc.current_clip.set(130.0)
    assert dlc.change_ul(UserLevel.MAINTENANCE, "guess") == UserLevel.NORMAL
    assert dlc.change_ul(UserLevel.MAINTENANCE, "CAUTION") == UserLevel.MAINTENANCE
    assert dlc.change_ul(UserLevel.SERVICE, "guess") == UserLevel.MAINTENANCE
    assert dlc.ul.get() == 2
    assert dlc.laser1.dl.cc.current_clip.set(130.0) == 0
    with pytest.raises(DecopError, match="'-6'"):
        dlc.laser1.dl.cc.current_set.set(150.0)
    assert dlc.change_ul(UserLevel.READONLY) == UserLevel.READONLY
    with pytest.raises(DecopError, match="'-3'"):
        dlc.laser1.dl.cc.current_set.set(110.0)


def test_set_values_and_streams(dlc: DLCpro) -> None:
    client = dlc._DLCpro__client  # type: ignore[attr-defined]
    assert client.get_set_value("laser1:dl:cc:current-set", float) == 120.0
    assert dlc.system_summary() == "laser1: 397.0 nm, Idle\nlaser2: 866.0 nm, Idle\n"


def test_subscriptions(served: Served, dlc: DLCpro) -> None:
    states: list[Any] = []
    currents: list[Any] = []

    def keep(into: list[Any]) -> Any:
        def callback(subscription: object, timestamp: object, value: SubscriptionValue) -> None:
            into.append(value.get())

        return callback

    with (
        dlc.laser1.dl.lock.state.subscribe(keep(states)),
        dlc.laser2.dl.cc.current_set.subscribe(keep(currents), 50, 1.0),
    ):
        dlc.laser1.dl.lock.lock_enabled.set(True)
        for current in (120.2, 120.4, 123.0):
            dlc.laser2.dl.cc.current_set.set(current)
        for _ in range(100):
            dlc.run(timeout=0.02)
            if states[-1:] == [5] and currents[-1:] == [123.0]:
                break
    assert states[-1] == 5
    assert set(states) <= {0, 4, 5}
    assert currents[-1] == 123.0
    assert 120.2 not in currents[1:]


def test_subscription_to_nothing_gives_the_error(dlc: DLCpro) -> None:
    client = dlc._DLCpro__client  # type: ignore[attr-defined]
    seen: list[Any] = []
    with client.subscribe("no:such:thing", lambda *arguments: seen.append(arguments[2].value)):
        for _ in range(100):
            dlc.run(timeout=0.02)
            if seen:
                break
    assert isinstance(seen[0], DecopError)
    assert "-4" in str(seen[0])


def test_over_a_serial_line(served: Served) -> None:
    for _ in range(2):
        with DLCpro(SerialConnection(served.pty)) as dlc:
            assert dlc.serial_number.get() == "DLC PRO_000001"
            assert dlc.laser1.dl.cc.current_set.set(119.0) == 0
            assert dlc.laser1.dl.cc.current_set.get() == 119.0


def test_serial_client_over_tcp(served: Served) -> None:
    with DLCpro(SerialConnection(f"socket://127.0.0.1:{served.command}")) as dlc:
        assert dlc.system_type.get() == "DLC pro"


def test_silent_instrument_times_out(served: Served) -> None:
    with DLCpro(served.connection(0.3)) as dlc:
        served.sim.faults.switch("drop")
        with pytest.raises(DeviceTimeoutError):
            dlc.emission.get()


def test_nobody_there() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(DeviceNotFoundError):
        DLCpro(NetworkConnection("127.0.0.1", port, 0, 0.5)).open()
