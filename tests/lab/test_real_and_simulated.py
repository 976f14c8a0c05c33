"""One lab with a real and a simulated instrument: ``labctl up --sim alice.oven``.

The real one is played by a controller that this test serves by itself, outside the lab.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from labctl.clock import SystemClock
from labctl.sim.server import SimServer
from labctl.up.free_ports import free_ports
from simulated_hw.meerstetter_tec import SimMeerstetterTec
from simulated_hw.world.parts import HeatedBody

ROOT = Path(__file__).parents[2]
TWO_OVENS = """
name = "two_ovens"

[hub]
address = "tcp://127.0.0.1:{hub}"

[world]
model = "simulated_hw.world.laboratory:Laboratory"
build = "simulated_hw.bench:build"
parameters = "{parameters}"
speed = 100.0

[device.alice.oven]
driver = "drivers.meerstetter_tec:MeerstetterTec"
address = "tcp://127.0.0.1:{nobody}"
state = {{ temperature = 300.15, output = true }}

[device.bob.oven]
driver = "drivers.meerstetter_tec:MeerstetterTec"
address = "tcp://127.0.0.1:{real}"
state = {{ temperature = 333.15, output = true }}

[world.simulator.alice.oven]
instrument = "simulated_hw.meerstetter_tec:SimMeerstetterTec"
parts = ["alice.oven"]
address = "tcp://127.0.0.1:{alice}"

[world.simulator.bob.oven]
instrument = "simulated_hw.meerstetter_tec:SimMeerstetterTec"
parts = ["bob.oven"]
address = "tcp://127.0.0.1:{bob}"
"""
REAL_K = 333.15


@pytest.fixture
def real_oven() -> Iterator[int]:
    """Port of a controller that the lab knows nothing of, at a temperature nothing simulated has."""
    body = HeatedBody()
    body.temperature_k = body.setpoint_k = body.room_k = REAL_K
    server = SimServer()
    port = server.serve_tcp(
        SimMeerstetterTec(body, SystemClock().now, np.random.default_rng(1), identity="8065-TEC-REAL")
    )
    with server:
        yield port


def test_one_device_is_simulated_and_the_other_is_the_real_one(real_oven: int, tmp_path: Path) -> None:
    hub, nobody, alice, bob = free_ports(4)
    file = tmp_path / "two_ovens.toml"
    parameters = ROOT / "configs" / "world" / "ca40_10km.toml"
    file.write_text(
        TWO_OVENS.format(hub=hub, nobody=nobody, alice=alice, bob=bob, real=real_oven, parameters=parameters)
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path / "state")}

    def labctl(*words: str) -> str:
        command = [sys.executable, "-m", "labctl", "--lab", str(ROOT), "--lab-name", "two_ovens", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with subprocess.Popen(
        [sys.executable, "-m", "labctl", "--lab", str(ROOT), "up", str(file), "--sim", "alice.oven"],
        cwd=tmp_path,
        env={**environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            said = ""
            while "Ctrl-C makes them safe" not in said:
                line = process.stdout.readline()
                assert line, said
                said += line
            assert "simulated  alice.oven; the other 1 are real" in said
            values = json.loads(labctl("get", "--json", "alice.oven.temperature", "bob.oven.temperature"))
            assert values["bob.oven.temperature"]["value"] == pytest.approx(REAL_K, abs=0.1)
            assert values["alice.oven.temperature"]["value"] < REAL_K - 10
            labctl("fault", "alice.oven", "late", "0.01")
            assert [*json.loads(labctl("fault", "--json"))] == ["alice.oven"]
            for port in (nobody, bob):
                with socket.socket() as sock:
                    assert sock.connect_ex(("127.0.0.1", port)) != 0
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
    assert process.returncode == 130
