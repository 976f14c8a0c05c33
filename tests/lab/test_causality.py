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

from labctl.analysis.herald import HeraldedState, single_photon_herald
from labctl.clock import VirtualClock
from labctl.config import load
from labctl.core.phase_filter import PhaseFilter
from labctl.core.program import Straight, lower
from labctl.core.sim import SimCore
from labctl.device import Device
from labctl.errors import DeviceError
from labctl.lab import device_maker
from labctl.run.results import results
from labctl.schedule.items import Item, Pulse, Schedule
from labctl.sim.played import Record, Segment
from labctl.units import ns
from labctl.up.config_ports import with_free_ports
from labctl.up.world import Instruments, Laboratory, make_world
from sequences.fringe import fringe
from sequences.link import attempt, link
from sequences.phase_stabilisation import phase_stabilisation
from simulated_hw.world.ion import IonPair
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
        shared.set(f"charlie.polarisation_{name}.position_1", 1.3)
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


# phase and detectors

SIGNAL_M, LOCK_M = 1550e-9, 1548e-9
LINEWIDTH_HZ = 2.0
CYCLE_S = 375e-6
SHOT_S = 5 * CYCLE_S
SLOTS_S = (151e-6, 163e-6)
"""Middles of the two halves of a reference slot after its cycle began; light of the probe comes 417 us after the last."""
PROBE_S = 3 * CYCLE_S + 417e-6


def fringe_without_lock(shots: int, seed: int) -> float:
    """Contrast of ``fringe`` for the bare fibre of PHYSICS 5, by a model of its own.

    2.4 rad/ms on 100 km (as the root of the length) that keeps its sign for 1 ms; 45 rad/(K m) at 1 mK/min; vibrations of
    1 rad at 85 Hz and 0.1 rad at 600 Hz; lasers of 2 Hz; 0.5 MHz at each detector.
    """
    rng = np.random.default_rng(seed)
    diffusion = 2400.0**2 * 0.1 * 1e-3 + 2 * math.pi * LINEWIDTH_HZ
    begins = np.arange(shots)[:, None] * SHOT_S
    slots = (np.arange(4)[:, None] * CYCLE_S + np.array(SLOTS_S)).ravel()
    times = (begins + np.append(slots, PROBE_S)).ravel()
    steps = rng.standard_normal(times.size) * np.sqrt(diffusion * np.diff(times, prepend=0.0))
    phases = np.cumsum(steps) + 45 * 1e4 * 1e-3 / 60 * times
    phases += np.sin(2 * math.pi * 85 * times) + 0.1 * np.sin(2 * math.pi * 600 * times)
    shaped = phases.reshape(shots, 9)
    tracker = PhaseFilter(0.99, 15.0, (math.pi / 2, 0.0))
    wash = 0.995 * math.exp(-diffusion * 24e-6 / 4 / 2)
    cosines: list[float] = []
    for shot, one in enumerate(shaped):
        wave = 0.995 * np.cos(one[:8].reshape(4, 2) + np.array([math.pi / 2, 0.0]))
        counts = rng.poisson(6.0 * np.stack([1 + wave, 1 - wave], axis=-1)).astype(np.int64)
        tracker.follow(counts, shot * SHOT_S + (np.arange(4) + 1) * CYCLE_S)
        cosines.append(math.cos(one[8] - tracker.estimate()[0]))
    return wash * float(np.mean(cosines))


def test_no_wdm_lock_leaves_the_phase_to_the_bare_fibre(lab: Lab):
    """The contrast falls as an independent model of the bare fibre says; heralds come as before, and every cycle is void."""
    before = lab.herald_chance()
    with lab.world.lock:
        lock = lab.world.part("charlie.wdm")
        lock.unlock()
    lab.settle(1)
    expected = [fringe_without_lock(1500, seed) for seed in (1, 2)]
    found = lab.fringe_contrast(700)
    assert found == pytest.approx(np.mean(expected), abs=0.08)
    assert found < 0.85
    assert lab.herald_chance() == pytest.approx(before, rel=0.01)
    void = lab.records(phase_stabilisation(), 50)
    assert [int(r.values["phase_valid"]) for r in void] == [0] * 50
    schedule = link(lock_monitor="charlie.wdm_lock")
    rows = [(r.number, r.time_ps, dict(r.values)) for r in lab.records(schedule, 30)]
    counted = {r.key: r.value.value for r in results("heralded_pair", rows, schedule.arguments)}
    assert counted["valid_share"] == 0
    assert counted["void_lock"] >= 25  # the others had too few or too many clicks, or were uncertain as well
    with lab.world.lock:
        lock.enabled = False
        lock.enabled = True
    lab.records(phase_stabilisation(), 1)  # the lock looks at the clock when light is sent
    lab.settle(1)
    assert lab.fringe_contrast(300) > 0.965
    assert np.mean([int(r.values["phase_valid"]) for r in lab.records(phase_stabilisation(), 100)]) > 0.95


def test_no_tdm_reference_makes_every_cycle_void_for_its_clicks(lab: Lab):
    for node in ("alice", "bob"):
        lab.set(f"{node}.aom.output_3", False)
    lab.settle(1)
    dark = lab.records(phase_stabilisation(), 50)
    assert [int(r.values["phase_valid"]) for r in dark] == [0] * 50
    assert max(int(r.values["reference_clicks"]) for r in dark) <= 1
    assert all(int(r.values["lock_counts"]) == 26 for r in dark)  # not for the fibre lock


def fidelity(lab: Lab, alpha: float) -> float:
    """Overlap with the best Bell state of what a click of detector 0 leaves, phase known."""
    body = segment_of(attempt(alpha, 24_483 * ns, 60 * ns, 4 * ns))
    outlook = lab.world.outlook(body, lab.world.now_ps())  # type: ignore[attr-defined]
    pair = IonPair()
    pair.set(sum(outlook.state(way, 0.0) for way in outlook.causes("10")))
    rho = pair.qubits()
    return float((rho[1, 1] + rho[2, 2]).real / 2 + abs(rho[1, 2]))


def test_noisy_detectors_herald_more_and_worse(lab: Lab):
    """Rate, signal to noise and fidelity as PHYSICS 3.1 has them, with 6 kHz of dark counts in 60 ns."""
    dark_hz = 6000.0
    rate, noise, good = lab.herald_chance(), lab.noise_chance(), fidelity(lab, ALPHA)
    with lab.world.lock:
        wires = lab.world.part("charlie.snspd")
        quiet_hz = [wire.dark_rate_hz for wire in wires]
        for wire in wires:
            wire.dark_rate_hz = dark_hz
    try:
        lab.settle(1)
        extra = (dark_hz - quiet_hz[0]) * 60e-9
        eta = [e * 0.091 for e in (ETA_A, ETA_B)]
        p_before, p_after = noise / 2, noise / 2 + extra
        was, now = (single_photon_herald(ALPHA, ALPHA, *eta, p, 0.96, 1.0) for p in (p_before, p_after))
        assert lab.noise_chance() - noise == pytest.approx(2 * extra, rel=0.01)
        assert lab.herald_chance() / rate == pytest.approx(now.probability / was.probability, rel=0.01)
        assert now.probability / was.probability > 1.5
        assert rate / noise > 100 and lab.herald_chance() / lab.noise_chance() < 4
        # the ratio leaves out what the nodes themselves do badly, most of it
        ratio = bell_fidelity(now) / bell_fidelity(was)
        assert fidelity(lab, ALPHA) / good == pytest.approx(ratio, rel=0.03)
        assert ratio < 0.75
    finally:
        with lab.world.lock:
            for wire, hz in zip(wires, quiet_hz, strict=True):
                wire.dark_rate_hz = hz
        lab.settle(1)


def bell_fidelity(state: HeraldedState) -> float:
    rho = state.density_matrix
    return float((rho[1, 1] + rho[2, 2]).real / 2 + abs(rho[1, 2]))


def test_a_latched_detector_sees_nothing_until_it_is_biased_anew(lab: Lab):
    """Half the heralds, all of one sign, no worse; alignment light latches both, and bias off and on frees them."""
    before, good = lab.herald_chance(), fidelity(lab, ALPHA)
    body = segment_of(attempt(ALPHA, 24_483 * ns, 60 * ns, 4 * ns))
    snspd = lab.devices["charlie.snspd"]
    superconducting = snspd.signal("bias_voltage").get()
    with lab.world.lock:
        wires = lab.world.part("charlie.snspd")
        wires[1].latched = True
    lab.settle(1)
    odds = lab.world.odds(body, lab.world.now_ps()).patterns
    assert odds["01"] == 0 and odds["11"] == 0
    assert (odds["10"] + odds["01"]) / before == pytest.approx(0.5, rel=0.02)
    assert fidelity(lab, ALPHA) == pytest.approx(good, rel=0.005)
    assert snspd.signal("bias_voltage").get()[1] > 10 * superconducting[1]  # resistive: the driver shows it
    lab.world.play(segment_of(Pulse("bob.align_1550", 1_000_000 * ns)), lab.world.now_ps())
    assert [wire.latched for wire in wires] == [True, True]
    lab.settle(1)
    assert lab.herald_chance() == 0
    lab.set("charlie.snspd.bias", [0.0, 0.0])
    lab.settle(1)
    lab.set("charlie.snspd.bias", [20e-6, 20e-6])
    lab.settle(1)
    assert lab.herald_chance() == pytest.approx(before, rel=0.01)


def test_polarisation_off_takes_a_node_out(lab: Lab):
    """Paddles where they cross Alice's light with the polariser: her photons and her reference light are gone."""
    before = lab.herald_chance()
    aligned, crossed = PolarisationPaddles(), PolarisationPaddles()
    aligned.angles_rad = [1.3, 1.6, 1.1]

    def passing(positions: tuple[float, float]) -> float:
        crossed.angles_rad = [*positions, 1.1]
        return float(abs((crossed.jones(1550e-9) @ aligned.jones(1550e-9).conj().T)[0, 0]) ** 2)

    steps = np.linspace(0.0, 2.9, 30).tolist()
    worst = min(((one, two) for one in steps for two in steps), key=passing)
    for paddle, position in enumerate(worst, 1):
        lab.set(f"charlie.polarisation_alice.position_{paddle}", position)
    lab.settle(10)
    share = passing(worst)
    assert share < 0.1
    assert lab.herald_chance() / before == pytest.approx(share_of_alice(share), rel=0.06)
    # contrast of unequal arms: 2 sqrt(I J) / (I + J)
    washed = 2 * math.sqrt(share) / (1 + share)
    assert lab.fringe_contrast() == pytest.approx(0.985 * washed, abs=0.06)
