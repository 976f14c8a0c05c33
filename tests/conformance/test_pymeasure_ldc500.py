"""pymeasure's own LDC500Series, unchanged, drives the simulated LDC501 through pyvisa-py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pymeasure.errors import Error
from pymeasure.instruments.srs import LDC500Series
from pymeasure.instruments.srs.ldc500series import ThermometerType

from labctl.clock import SystemClock
from labctl.sim.server import SimServer
from simulated_hw.srs_ldc501 import SimSrsLdc501
from simulated_hw.world.parts import HeatedBody
from simulated_hw.world.parts_diode import LaserDiode


@pytest.fixture
def sim() -> SimSrsLdc501:
    body = HeatedBody(time_constant_s=1e-3)
    return SimSrsLdc501(body, LaserDiode(), SystemClock().now, np.random.default_rng(2))


@pytest.fixture
def ldc(sim: SimSrsLdc501) -> Iterator[LDC500Series]:
    server = SimServer()
    port = server.serve_tcp(sim)
    with server:
        client = LDC500Series(
            f"TCPIP::127.0.0.1::{port}::SOCKET",
            visa_library="@py",
            read_termination="\n",
            write_termination="\n",
            timeout=2000,
        )
        yield client
        client.adapter.close()


def test_the_laser_side(sim: SimSrsLdc501, ldc: LDC500Series) -> None:
    assert ldc.id.startswith("Stanford_Research_Systems,LDC501")
    assert ldc.ld.interlock_closed is True
    ldc.ld.current_range = "LOW"
    ldc.ld.current_limit = 150
    ldc.ld.current_setpoint = 80
    ldc.ld.enabled = True
    assert ldc.ld.enabled is True and sim.diode.on
    assert ldc.ld.current == pytest.approx(80, abs=0.05)
    assert (ldc.ld.current_setpoint, ldc.ld.current_limit, ldc.ld.current_range) == (80, 150, "LOW")
    assert ldc.ld.voltage == pytest.approx(1.74, abs=0.01)
    ldc.ld.voltage_limit = 4
    assert ldc.ld.voltage_limit == 4
    assert ldc.pd.current == pytest.approx(sim.diode.monitor_a() * 1e6, rel=1e-3)
    ldc.pd.responsivity = 20
    assert ldc.pd.power == pytest.approx(sim.diode.power_w() * 1e3, rel=1e-3)
    ldc.ld.mode = "CP"
    assert ldc.ld.mode == "CP" and ldc.pd.current_setpoint == pytest.approx(ldc.pd.current, abs=0.1)
    with pytest.raises(Error, match="Error setting value"):
        ldc.ld.current_setpoint = 400
    ldc.ld.enabled = False
    assert ldc.ld.enabled is False  # a setting has no answer: asking after it waits until it is done
    assert not sim.diode.on
    sim.diode.interlock_closed = False
    assert ldc.ld.interlock_closed is False


def test_the_temperature_side(sim: SimSrsLdc501, ldc: LDC500Series) -> None:
    ldc.tec.temperature_limits = (15, 45)
    assert ldc.tec.temperature_limits == (15, 45)
    ldc.tec.temperature_setpoint = 25
    ldc.tec.current_limit = 1
    ldc.tec.enabled = True
    assert ldc.tec.enabled is True and sim.body.enabled
    assert ldc.tec.check_temperature_stability(tolerance=0.1, period=0)
    assert ldc.tec.temperature_setpoint == 25
    assert ldc.tec.resistance_setpoint == pytest.approx(10, abs=0.01)
    assert ldc.tec.thermometer_type is ThermometerType.NTCAUTO
    ldc.tec.thermometer_type = ThermometerType.AD590
    assert ldc.tec.thermometer_type is ThermometerType.AD590
    with pytest.raises(Error, match="Error setting value"):
        ldc.tec.temperature_setpoint = 50
    assert ldc.check_errors() == [0, 0]
    assert ldc.tec.mode == "CT"
    ldc.tec.enabled = False
    assert ldc.tec.enabled is False  # as above
    assert not sim.body.enabled
