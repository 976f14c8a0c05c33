"""The monitoring line of the simulated DLC pro: our client, and what is said on the wire."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from drivers.decop_monitor import Monitor
from drivers.toptica_dlcpro import DlcPro
from labctl.clock import SystemClock, VirtualClock
from labctl.errors import BadAnswerError, ConfigError, NoAnswerError, NotConnectedError, RefusedError
from labctl.sim.server import SimServer
from labctl.transport import connect
from simulated_hw.toptica_dlcpro import SimDlcPro
from simulated_hw.world.parts import Laser

CURRENT = "laser1:dl:cc:current-set"
STATE = "laser1:dl:lock:state"


@dataclass
class Setup:
    sim: SimDlcPro
    laser: Laser
    clock: VirtualClock
    command: int
    port: int

    def monitor(self) -> Monitor:
        return Monitor(connect(f"tcp://127.0.0.1:{self.port}", "laser_397"))


@pytest.fixture
def setup() -> Iterator[Setup]:
    clock = VirtualClock()
    laser = Laser(
        np.random.default_rng(1),
        wavelength_m=397e-9,
        power_w=20e-3,
        nominal_current_a=0.12,
        threshold_current_a=0.04,
        largest_current_a=0.16,
        drift_hz_per_sqrt_s=0.0,
    )
    laser.emission = True
    sim = SimDlcPro(laser, clock.now, epoch_s=1_795_249_563.0)
    server = SimServer(clock=clock)
    command, port = (server.serve_tcp(sim, name) for name in sim.ports)
    with server:
        yield Setup(sim, laser, clock, command, port)


def test_tells_the_value_and_its_changes(setup: Setup) -> None:
    with setup.monitor() as monitor:
        monitor.subscribe(CURRENT)
        first = monitor.next(2.0)
        assert (first.name, first.value) == (CURRENT, 120.0)
        assert first.time.timestamp() == 1_795_249_563.0
        setup.laser.current_a = 0.121
        setup.clock.advance(1.0)
        second = monitor.next(2.0)
        assert second.value == 121.0
        assert second.time.timestamp() == 1_795_249_564.0


def test_bytes_on_the_wire(setup: Setup) -> None:
    with socket.create_connection(("127.0.0.1", setup.port), timeout=5) as raw:
        raw.sendall(b"(add 'laser1:dl:")
        SystemClock().sleep(0.03)
        raw.sendall(b"cc:enabled 100)\r\n")
        lines = raw.makefile("rb")
        assert lines.readline() == b"(2026-11-21T08:26:03.000Z 'laser1:dl:cc:enabled #t)\n"
        raw.sendall(
            b'(add \'nothing)\n(remove \'nothing)\nrubbish\n(add \'uptime "often")\n(change-ul 3 "")\n'
        )
        stamp = b"(2026-11-21T08:26:03.000Z"
        assert lines.readline() == b"(Error: -4 " + stamp + b" 'nothing) parameter 'nothing' not found)\n"
        assert lines.readline() == b"(Error: -4 " + stamp + b" 'nothing) not subscribed)\n"
        assert lines.readline() == b"(Error: -2 " + stamp + b" ') not understood)\n"
        assert (
            lines.readline()
            == b"(Error: -5 " + stamp + b" 'uptime) expected an interval in ms and a threshold)\n"
        )
        lines.close()


def test_interval_holds_updates_back(setup: Setup) -> None:
    with setup.monitor() as monitor:
        monitor.subscribe(CURRENT, interval_s=10.0)
        assert monitor.next(2.0).value == 120.0
        setup.laser.current_a = 0.121
        setup.clock.advance(9.0)
        with pytest.raises(NoAnswerError, match=r"laser_397 at .*no update of laser1:dl:cc:current-set"):
            monitor.next(0.1)
        setup.clock.advance(1.5)
        assert monitor.next(2.0).value == 121.0


def test_threshold_hides_small_changes(setup: Setup) -> None:
    with setup.monitor() as monitor:
        monitor.subscribe(CURRENT, threshold=1.0)
        assert monitor.next(2.0).value == 120.0
        for current_a in (0.1205, 0.1211):
            setup.laser.current_a = current_a
            setup.clock.advance(1.0)
            SystemClock().sleep(0.05)
        assert monitor.next(2.0).value == 121.1


def test_several_clients_each_with_their_own(setup: Setup) -> None:
    with setup.monitor() as one, setup.monitor() as two:
        one.subscribe(CURRENT)
        two.subscribe(STATE)
        two.subscribe("laser1:emission")
        assert one.next(2.0).name == CURRENT
        assert {two.next(2.0).name, two.next(2.0).name} == {STATE, "laser1:emission"}
        one.close()
        setup.laser.lock_enabled = True
        setup.clock.advance(1.0)
        update = two.next(2.0)
        assert (update.name, update.value) == (STATE, 4)
        setup.clock.advance(1.0)
        assert two.next(2.0).value == 5


def test_unsubscribe(setup: Setup) -> None:
    with setup.monitor() as monitor:
        monitor.subscribe(CURRENT)
        monitor.subscribe(STATE)
        monitor.next(2.0)
        monitor.next(2.0)
        monitor.unsubscribe(CURRENT)
        SystemClock().sleep(0.05)
        setup.laser.current_a = 0.1
        setup.clock.advance(1.0)
        with pytest.raises(NoAnswerError):
            monitor.next(0.1)


def test_unknown_parameter_is_refused_and_the_rest_goes_on(setup: Setup) -> None:
    with setup.monitor() as monitor:
        monitor.subscribe("laser1:nothing")
        monitor.subscribe(CURRENT)
        with pytest.raises(RefusedError, match=r"laser_397 at .*laser1:nothing: error -4"):
            monitor.next(2.0)
        assert monitor.next(2.0).value == 120.0


def test_a_broken_line_is_opened_anew_with_its_subscriptions(setup: Setup) -> None:
    with setup.monitor() as monitor:
        monitor.subscribe(CURRENT)
        monitor.subscribe(STATE)
        assert {monitor.next(2.0).name, monitor.next(2.0).name} == {CURRENT, STATE}
        setup.sim.faults.switch("disconnect")
        setup.laser.current_a = 0.11
        setup.clock.advance(1.0)
        with pytest.raises(NotConnectedError, match="laser_397 at tcp://"):
            monitor.next(2.0)
        updates = [monitor.next(2.0), monitor.next(2.0)]
        assert {update.name: update.value for update in updates} == {CURRENT: 110.0, STATE: 0}


def test_garbage_is_an_error_and_then_all_is_well(setup: Setup) -> None:
    with setup.monitor() as monitor:
        setup.sim.faults.switch("garbage")
        monitor.subscribe(CURRENT)
        with pytest.raises(BadAnswerError, match=r"laser_397 at .*monitoring line sent"):
            monitor.next(2.0)
        setup.sim.faults.clear()
        assert monitor.next(2.0).value == 120.0


def test_updates_in_pieces(setup: Setup) -> None:
    with setup.monitor() as monitor:
        setup.sim.faults.switch("split", 0.05)
        monitor.subscribe(CURRENT)
        assert monitor.next(2.0).value == 120.0


def test_a_wait_can_be_ended_by_another_thread(setup: Setup) -> None:
    ended: list[BaseException] = []
    with setup.monitor() as monitor:
        monitor.subscribe(CURRENT)

        def wait() -> None:
            try:
                for _ in monitor:
                    pass
            except NotConnectedError as error:
                ended.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        SystemClock().sleep(0.05)
        monitor.interrupt()
        thread.join(5)
        assert not thread.is_alive()
    assert len(ended) == 1


def test_the_driver_finds_it_from_its_address(setup: Setup) -> None:
    device = DlcPro(connect(f"tcp://127.0.0.1:{setup.command}?monitor={setup.port}", "laser_397"))
    with device, device.monitor() as monitor:
        monitor.subscribe(CURRENT)
        assert monitor.next(2.0).value == 120.0
    bare = DlcPro(connect(f"tcp://127.0.0.1:{setup.command}", "laser_397"))
    with pytest.raises(ConfigError, match="monitor"):
        bare.monitor()
