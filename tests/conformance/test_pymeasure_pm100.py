"""pymeasure's own ThorlabsPM100USB, unchanged, drives the simulated power meter through pyvisa-py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pymeasure.instruments.thorlabs import ThorlabsPM100USB

from labctl.sim.server import SimServer
from simulated_hw.thorlabs_pm100 import SimThorlabsPm100
from simulated_hw.world.parts import PowerSensor

pytestmark = pytest.mark.filterwarnings(
    "ignore:It is not known whether this device support SCPI:FutureWarning"
)


@pytest.fixture
def sim() -> SimThorlabsPm100:
    return SimThorlabsPm100(PowerSensor(lambda: 2e-4), lambda: 0.0, np.random.default_rng(2))


@pytest.fixture
def resource(sim: SimThorlabsPm100) -> Iterator[str]:
    server = SimServer()
    port = server.serve_tcp(sim)
    with server:
        yield f"TCPIP::127.0.0.1::{port}::SOCKET"


def client(resource: str) -> ThorlabsPM100USB:
    return ThorlabsPM100USB(
        resource, visa_library="@py", read_termination="\n", write_termination="\n", timeout=2000
    )


def test_it_reads_power_and_sets_the_wavelength(sim: SimThorlabsPm100, resource: str) -> None:
    meter = client(resource)
    assert meter.sensor_name == "S132C"
    assert meter.is_power_sensor and meter.wavelength_settable and meter.has_temperature_sensor
    assert not meter.is_energy_sensor
    assert meter.power == pytest.approx(2e-4, rel=1e-5)
    assert (meter.wavelength_min, meter.wavelength_max) == (400, 1700)
    meter.wavelength = 775
    assert meter.wavelength == 775
    assert sim.wavelength_m == pytest.approx(775e-9)
    assert meter.power == pytest.approx(4e-4, rel=1e-5)
    meter.wavelength = 5000  # pymeasure itself stops at the sensor's end
    assert meter.wavelength == 1700
    assert not sim.errors
    meter.adapter.close()


def test_it_notices_a_missing_sensor(sim: SimThorlabsPm100, resource: str) -> None:
    sim.sensor_connected = False
    with pytest.raises(OSError, match="No sensor connected"):
        client(resource)
