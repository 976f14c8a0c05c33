"""pymeasure's own HMP4040, unchanged, drives the simulated supply through pyvisa-py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pymeasure.instruments.rohdeschwarz import hmp

from labctl.clock import VirtualClock
from labctl.sim.server import SimServer
from simulated_hw.rs_hmp4040 import SimHmp4040
from simulated_hw.world.parts_coils import CoilChannel


@pytest.fixture
def sim() -> SimHmp4040:
    return SimHmp4040([CoilChannel(), CoilChannel()], VirtualClock(1.0).now, np.random.default_rng(2))


@pytest.fixture
def supply(sim: SimHmp4040) -> Iterator[hmp.HMP4040]:
    server = SimServer()
    port = server.serve_tcp(sim)
    with server:
        client = hmp.HMP4040(
            f"TCPIP::127.0.0.1::{port}::SOCKET",
            visa_library="@py",
            read_termination="\n",
            write_termination="\n",
            timeout=2000,
        )
        yield client
        client.adapter.close()


def test_voltages_and_currents(sim: SimHmp4040, supply: hmp.HMP4040) -> None:
    assert supply.id.startswith("ROHDE&SCHWARZ,HMP4040")
    assert supply.version == 1999.0
    supply.control_method = "MIX"
    supply.beep()
    supply.selected_channel = 2
    assert supply.selected_channel == 2
    supply.voltage = 3.3
    supply.current = 1.5
    assert (supply.voltage, supply.current) == (3.3, 1.5)
    assert (sim.coils[1].set_v, sim.coils[1].limit_a) == (3.3, 1.5)
    assert (supply.min_voltage, supply.max_voltage, supply.min_current, supply.max_current) == (
        0,
        32.05,
        0,
        10,
    )
    supply.voltage_and_current = (5.0, 2.0)
    assert supply.voltage_and_current == [5.0, 2.0]
    supply.voltage_step = 0.5
    supply.step_voltage_up()
    assert (supply.voltage_step, supply.voltage) == (0.5, 5.5)
    supply.current_step = 0.1
    supply.step_current_down()
    assert supply.current == 1.9
    supply.voltage_to_max()
    supply.current_to_min()
    assert (supply.voltage, supply.current) == (32.05, 0.0)
    assert supply.check_errors() == []


def test_outputs(sim: SimHmp4040, supply: hmp.HMP4040) -> None:
    supply.selected_channel = 1
    supply.voltage_and_current = (4.0, 1.0)
    supply.selected_channel_active = True
    assert supply.selected_channel_active is True and not sim.coils[0].on
    supply.output_enabled = True
    assert supply.output_enabled is True and sim.coils[0].on
    sim.coils[0].flowing_a = sim.coils[0].end_a()
    assert supply.measured_current == pytest.approx(1.0, abs=1e-3)
    assert supply.measured_voltage == pytest.approx(2.0, abs=5e-3)
    supply.set_channel_state(2, True)
    assert supply.selected_channel == 1 and sim.coils[1].on
    supply.output_enabled = False
    assert supply.output_enabled is False
    assert not any(coil.on for coil in sim.coils)
