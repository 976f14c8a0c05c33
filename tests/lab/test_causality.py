"""Change a cause through an instrument's own wire protocol, and the link's rate, noise and contrast follow as the model says.

Real drivers over real sockets, the world in virtual time. Rates are exact odds of one attempt, so they are compared
with formulas written out here, not with statistics.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from labctl.clock import VirtualClock
from labctl.config import load
from labctl.core.program import Straight, lower
from labctl.core.sim import SimCore
from labctl.device import Device
from labctl.errors import DeviceError
from labctl.lab import device_maker
from labctl.run.results import results
from labctl.schedule.items import Item, Schedule
from labctl.sim.played import Record, Segment
from labctl.units import ns
from labctl.up.config_ports import with_free_ports
from labctl.up.world import Instruments, Laboratory, make_world
from sequences.fringe import fringe
from sequences.link import attempt, link
from simulated_hw.world.parts_polarisation import PolarisationPaddles

ROOT = Path(__file__).parents[2]
ALPHA = 0.17
ETA_A, ETA_B = 0.026, 0.028
"""Photons in the fibre per excitation, published."""


@dataclass
class Lab:
    """A simulated laboratory with its instruments on real sockets and their drivers."""

    world: Laboratory
    clock: VirtualClock
    devices: dict[str, Device]

    def set(self, name: str, value: object) -> None:
        device, _, signal = name.rpartition(".")
        self.devices[device].signal(signal).set(value)

    def settle(self, seconds: float = 200.0) -> None:
        """Laboratory time for temperatures and locks."""
        for _ in range(int(seconds)):
            with self.world.lock:
                self.clock.advance(1.0)
            for device in self.devices.values():
                if "locked" in type(device).signals:
                    device.signal("locked").get()  # its simulated instrument looks at the clock when asked

    def herald_chance(self, alpha: float = ALPHA) -> float:
        """Chance per attempt that exactly one detector clicks, from the state of the laboratory now."""
        return self._chance(alpha)

    def noise_chance(self) -> float:
        """The same with hardly any light from the ions."""
        return self._chance(1e-9)

    def _chance(self, alpha: float) -> float:
        odds = self.world.odds(segment_of(attempt(alpha, 24_483 * ns, 60 * ns, 4 * ns)), self.world.now_ps())
        return odds.patterns["10"] + odds.patterns["01"]

    def records(self, schedule: Schedule, rounds: int) -> list[Record]:
        found: list[Record] = []
        SimCore(self.world, self.world.lock, np.random.default_rng(1)).run(
            lower(schedule), rounds, found.append
        )
        return found

    def fringe_contrast(self, shots: int = 600) -> float:
        schedule = fringe()
        rows = [(r.number, r.time_ps, dict(r.values)) for r in self.records(schedule, shots)]
        return next(r.value.value for r in results("fringe", rows, schedule.arguments) if r.key == "contrast")


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    config = with_free_ports(load(ROOT / "configs" / "ca40_10km.toml"))
    clock = VirtualClock()
    world, simulated = make_world(config, ROOT, clock, seed=11)
    instruments = Instruments(config, world, simulated, clock).start()
    devices: dict[str, Device] = {}
    try:
        for name, table in config.device.items():
            device = devices[name] = device_maker(config, name, ROOT)()
            device.open()
            for signal, value in table.state.items():
                device.signal(signal).set(value)
        lab = Lab(world, clock, devices)
        lab.settle()
        yield lab
    finally:
        for device in devices.values():
            device.close()
        instruments.close()


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    """The lab at its operating point before and after each test."""
    yield shared
    for name in ("alice", "bob"):
        shared.set(f"{name}.etalon.temperature", 303.15)
        shared.set(f"{name}.oven.temperature", 314.35)
        for channel in (3, 4):
            shared.set(f"{name}.aom.power_dbm_{channel}", 30.0)
            shared.set(f"{name}.aom.output_{channel}", True)
        for laser in (397, 866, 854, 729):
            shared.set(f"{name}.laser_{laser}.lock", True)
        shared.set(f"{name}.coils.current_1", 1.5)
        shared.set(f"charlie.polarisation_{name}.position_2", 1.6)
    shared.settle()


def segment_of(item: Item) -> Segment:
    """A straight item as the core hands it to the world."""
    root = lower(Schedule("attempt", item)).root
    assert isinstance(root, Straight)
    return root.segment({})


def share_of_alice(factor: float) -> float:
    """Rate relative to before, when Alice's photons arrive ``factor`` times as often."""
    return (ETA_A * factor + ETA_B) / (ETA_A + ETA_B)


def test_the_operating_point_is_the_published_link(lab: Lab):
    chance = lab.herald_chance()
    assert chance == pytest.approx(ALPHA * (ETA_A + ETA_B) * 0.091, rel=0.02)
    assert chance / 375e-6 == pytest.approx(2.226, rel=0.02)
    assert chance / lab.noise_chance() > 100


def test_etalon_detuned_by_its_width(lab: Lab):
    """A Lorentzian photon (7.45 ns: 21.4 MHz) through a Lorentzian etalon (40 MHz), 40 MHz away."""
    before = lab.herald_chance()
    lab.set("alice.etalon.temperature", 303.15 + 0.020)  # 2 GHz/K
    lab.settle()
    width = 40e6 + 1 / (2 * math.pi * 7.45e-9)
    expected = 1 / (1 + (2 * 40e6 / width) ** 2)
    assert lab.herald_chance() / before == pytest.approx(share_of_alice(expected), rel=0.03)


def test_oven_two_kelvin_off(lab: Lab):
    """Phase matching: sinc², half its height 1.25 K from the best temperature; the noise stays."""
    before, noise = lab.herald_chance(), lab.noise_chance()
    lab.set("alice.oven.temperature", 316.35)
    lab.settle()
    x = 1.39156 * 2 * 2.0 / 2.5
    assert lab.herald_chance() / before == pytest.approx(share_of_alice((math.sin(x) / x) ** 2), rel=0.03)
    assert lab.noise_chance() == pytest.approx(noise, rel=0.05)


def test_pump_at_half_power(lab: Lab):
    """Conversion goes as sin²(π/2 √(P/P0)), its noise as P; the power meter sees the half."""
    before, noise = lab.herald_chance(), lab.noise_chance()
    meter = lab.devices["alice.power_in"].signal("power")
    full_w = meter.get()
    assert full_w == pytest.approx(0.060, rel=0.02)
    lab.set(
        "alice.aom.power_dbm_4", 30.0 + 20 * math.log10(0.5)
    )  # half the acoustic amplitude: half the light
    lab.settle(5)
    assert meter.get() == pytest.approx(full_w / 2, rel=0.01)
    efficiency = math.sin(math.pi / 2 * math.sqrt(0.5)) ** 2
    assert lab.herald_chance() / before == pytest.approx(share_of_alice(efficiency), rel=0.02)
    assert 0.70 < lab.noise_chance() / noise < 0.80  # one of two equal sources halved, dark counts the same
    assert lab.herald_chance() / lab.noise_chance() > before / noise


def test_pump_seed_at_half_power_does_the_same(lab: Lab):
    before = lab.herald_chance()
    lab.set("alice.pump.power_setpoint", 0.010)
    try:
        lab.settle(5)
        lab.devices["alice.pump"].signal("power").get()
        assert lab.devices["alice.power_in"].signal("power").get() == pytest.approx(0.030, rel=0.01)
        expected = share_of_alice(math.sin(math.pi / 2 * math.sqrt(0.5)) ** 2)
        assert lab.herald_chance() / before == pytest.approx(expected, rel=0.02)
    finally:
        lab.set("alice.pump.power_setpoint", 0.020)
        lab.settle(5)


def test_854_unlocked(lab: Lab):
    """Off resonance the 2.25 ns pulse brings less to P3/2: generalised Rabi flopping at the laser's detuning."""
    before = lab.herald_chance()
    laser = lab.devices["alice.laser_854"]
    laser.call("unlock")
    lab.set("alice.laser_854.piezo_voltage", laser.signal("piezo_voltage").get() + 0.5)  # 150 MHz
    lab.settle(2)
    assert laser.signal("locked").get() is False
    with lab.world.lock:
        detuning = 2 * math.pi * lab.world.part("alice.laser_854").detuning_hz()
    area = 2 * math.asin(math.sqrt(ALPHA))
    rabi = area / 2.25e-9
    total = math.hypot(rabi, detuning)
    alpha = (rabi / total) ** 2 * math.sin(total * 2.25e-9 / 2) ** 2
    assert alpha < 0.9 * ALPHA
    # at the most what the pulse still excites; less, because the same laser no longer empties D5/2 before the next attempt
    rate = lab.herald_chance() / before
    assert share_of_alice(0.4 * alpha / ALPHA) < rate < share_of_alice(alpha / ALPHA) * 1.01


def test_729_unlocked_takes_that_node_out(lab: Lab):
    before = lab.herald_chance()
    lab.devices["bob.laser_729"].call("unlock")
    lab.set("bob.laser_729.piezo_voltage", lab.devices["bob.laser_729"].signal("piezo_voltage").get() + 0.5)
    lab.settle(2)
    assert lab.herald_chance() / before == pytest.approx(ETA_A / (ETA_A + ETA_B), rel=0.02)


def test_reference_light_blocked_loses_the_phase_but_no_photons(lab: Lab):
    before = lab.herald_chance()
    assert lab.fringe_contrast() > 0.97
    lab.set("alice.aom.output_3", False)
    lab.settle(1)
    assert lab.fringe_contrast() < 0.15  # light of one arm alone does not interfere
    lab.set("bob.aom.output_3", False)
    lab.settle(1)
    assert lab.herald_chance() == pytest.approx(before, rel=0.01)
    blocked = lab.records(link(), 30)
    assert all(
        float(r.values["phase_sigma_rad"]) > 0.25 for r in blocked
    )  # every round says that its phase is unknown


def test_the_coil_supply_moves_the_zeeman_frequency(lab: Lab):
    """28 GHz/T on the line from -1/2 to -5/2; the 10 us π pulse then misses it as Rabi says, and that node is out."""
    before = lab.herald_chance()
    lab.set("bob.coils.current_1", 1.530)  # 30 mA: 3.6 uT, 101 kHz
    lab.settle(2)
    after = lab.herald_chance()
    with lab.world.lock:
        field_t = lab.world.part("bob.coil").field_t()
    detuning = 2 * math.pi * 27.988e9 * (field_t - 1.5 * 1.2e-4)
    rabi = math.pi / 10e-6
    total = math.hypot(rabi, detuning)
    shelved = (rabi / total) ** 2 * math.sin(total * 10e-6 / 2) ** 2
    assert shelved < 0.3
    expected = (ETA_A + ETA_B * shelved) / (ETA_A + ETA_B)
    assert after / before == pytest.approx(expected, abs=0.02)


def test_a_paddle_turned_turns_photons_away(lab: Lab):
    """What the paddles do at 1550 nm, relative to where they undo the fibre, projected on the polariser."""
    before = lab.herald_chance()
    lab.set("charlie.polarisation_alice.position_2", 0.9)
    lab.settle(5)
    aligned, turned = PolarisationPaddles(), PolarisationPaddles()
    aligned.angles_rad, turned.angles_rad = [1.3, 1.6, 1.1], [1.3, 0.9, 1.1]
    expected = abs((turned.jones(1550e-9) @ aligned.jones(1550e-9).conj().T)[0, 0]) ** 2
    assert expected < 0.7
    assert lab.herald_chance() / before == pytest.approx(share_of_alice(expected), rel=0.05)


def test_a_leak_trips_the_vacuum_interlock(lab: Lab):
    vacuum = lab.devices["alice.vacuum"]
    assert vacuum.not_ready() == ""
    assert vacuum.signal("pressure").get() == pytest.approx(3e-9, rel=0.3)
    with lab.world.lock:
        lab.world.part("alice.chamber").leak_pa_per_s = 1e-7
    lab.settle(300)
    assert "vacuum interlock" in vacuum.not_ready()
    with lab.world.lock:
        lab.world.part("alice.chamber").leak_pa_per_s = 0.0
    lab.settle(300)
    assert vacuum.not_ready() == ""


def test_the_wavemeter_reads_the_laser_that_the_dlc_pro_drives(lab: Lab):
    meter = lab.devices["charlie.wavemeter"].signal("frequency_1")
    locked = meter.get()
    laser = lab.devices["alice.laser_397"]
    laser.call("unlock")
    lab.set("alice.laser_397.piezo_voltage", laser.signal("piezo_voltage").get() + 1.0)
    lab.settle(10)
    with lab.world.lock:
        detuning = lab.world.part("alice.laser_397").detuning_hz()
    assert abs(detuning) > 50e6
    assert meter.get() - locked == pytest.approx(detuning, abs=5e6)
    lab.set("alice.laser_397.enabled", False)
    lab.settle(10)
    with pytest.raises(DeviceError, match=r"charlie\.wavemeter"):
        meter.get()  # no light: a state, not a number
    lab.set("alice.laser_397.enabled", True)


def test_a_gate_at_the_wrong_time_sees_no_photons(lab: Lab):
    late = segment_of(attempt(ALPHA, 24_483 * ns + 200 * ns, 60 * ns, 4 * ns))
    odds = lab.world.odds(late, lab.world.now_ps())
    assert odds.patterns["10"] + odds.patterns["01"] == pytest.approx(lab.noise_chance(), rel=0.05)


def test_detector_bias_off(lab: Lab):
    before = lab.herald_chance()
    lab.set("charlie.snspd.bias", [0.0, 20e-6])
    lab.settle(1)
    assert lab.herald_chance() / before == pytest.approx(0.5, rel=0.02)
    lab.set("charlie.snspd.bias", [20e-6, 20e-6])
