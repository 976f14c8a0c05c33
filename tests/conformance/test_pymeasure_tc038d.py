"""pymeasure's own TC038D, unchanged, drives the simulated oven through pyvisa-py over a pseudo-terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pymeasure.instruments.hcp import TC038D

from labctl.clock import VirtualClock
from labctl.sim.server import SimServer
from simulated_hw.hcp_tc038d import SimHcpTc038d
from simulated_hw.world.parts import HeatedBody


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def sim(clock: VirtualClock) -> SimHcpTc038d:
    return SimHcpTc038d(HeatedBody(), clock.now, np.random.default_rng(2))


@pytest.fixture
def oven(sim: SimHcpTc038d) -> Iterator[TC038D]:
    server = SimServer()
    path = server.serve_pty(sim)
    with server:
        client = TC038D(f"ASRL{path}::INSTR", visa_library="@py")
        yield client
        client.adapter.close()


def test_it_heats_and_reads(sim: SimHcpTc038d, clock: VirtualClock, oven: TC038D) -> None:
    oven.ping(54321)
    assert oven.temperature == pytest.approx(21.0, abs=0.05)
    oven.setpoint = 45.5
    assert oven.setpoint == 45.5
    assert sim.body.setpoint_k == pytest.approx(318.65)
    clock.advance(100)
    assert oven.temperature == pytest.approx(45.5, abs=0.15)


def test_it_understands_refusals(sim: SimHcpTc038d, oven: TC038D) -> None:
    with pytest.raises(ValueError, match="Variable data error"):
        oven.setpoint = 900
    with pytest.raises(ValueError, match="Wrong start address"):
        oven.ask("R,0x108")
    assert oven.setpoint == pytest.approx(21.0)
