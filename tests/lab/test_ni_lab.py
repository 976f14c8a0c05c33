"""The lab file with an NI card: three devices on one simulated card, over gRPC, and what they do to the ion."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from drivers.ni_daq import NiAnalogOut, NiCounter, NiShutter
from labctl import config as configs
from labctl.clock import ScaledClock
from labctl.config import LabConfig
from labctl.core.program import Straight, lower
from labctl.errors import ConfigError, DeviceError
from labctl.lab import device_maker
from labctl.schedule.items import Item, Schedule
from labctl.shelf import shelf
from labctl.sim.played import OpenGate, PlayedPulse, Segment
from labctl.units import ns, us
from labctl.up.acquire import VirtualLab
from labctl.up.config_ports import with_free_ports
from labctl.up.world import Instruments, make_world
from sequences.link import attempt

ROOT = Path(__file__).parents[2]
NI = ROOT / "configs" / "ca40_10km_ni.toml"
ROLES = ("alice.counter", "alice.piezo", "alice.shutter")
CYCLE = 400 * us
COOLED = 200 * us


def segment_of(item: Item) -> Segment:
    root = lower(Schedule("attempt", item)).root
    assert isinstance(root, Straight)
    return root.segment({})


ATTEMPT = segment_of(attempt(0.05, 24_483 * ns, 60 * ns, 4 * ns))


def cooling(node: str = "alice", counted: bool = False) -> Segment:
    """Cooling light for half the time."""
    pulses = tuple(
        PlayedPulse(f"{node}.{beam}", 0, COOLED, 0.0, 0.0, 1.0) for beam in ("cool_397", "repump_866")
    )
    gates = (OpenGate(f"{node}.pmt", 0, COOLED, "n"),) if counted else ()
    return Segment(pulses, gates, CYCLE, "cooling")


def play_cooling(world: Any, start_s: float, duration_s: float, node: str = "alice") -> None:
    """What the core tells the world of a time in which it did nothing but cool."""
    span_ps = round(duration_s * 1e12)
    world.skip([(cooling(node), span_ps // CYCLE)], round(start_s * 1e12), span_ps)


def expected_hz(world: Any, share: float = COOLED / CYCLE) -> float:
    known = {name: float(value) for name, value, _, _ in world.sources() if name.startswith("readout.")}
    return known["readout.dark_hz"] + share * (known["readout.bright_hz"] + known["readout.stray_hz"])


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[VirtualLab]:
    with VirtualLab(configs.load(NI), ROOT, 5, tmp_path) as here:
        yield here


def counter(lab: VirtualLab) -> NiCounter:
    return cast("NiCounter", lab.devices["alice.counter"])


def shutter(lab: VirtualLab) -> NiShutter:
    return cast("NiShutter", lab.devices["alice.shutter"])


def herald_chance(lab: VirtualLab) -> float:
    odds = lab.world.odds(ATTEMPT, lab.world.now_ps())
    return odds.patterns["10"] + odds.patterns["01"]


def test_the_lab_with_a_card_has_the_link_of_the_lab_without(lab: VirtualLab, tmp_path: Path):
    with VirtualLab(configs.load(ROOT / "configs" / "ca40_10km.toml"), ROOT, 5, tmp_path) as plain:
        assert herald_chance(lab) == pytest.approx(herald_chance(plain), rel=0.02)


def test_without_its_397_nm_light_alice_hardly_heralds(lab: VirtualLab):
    before = herald_chance(lab)
    shutter(lab).signal("opened").set(False)
    closed = herald_chance(lab)
    assert (
        closed < 0.85 * before
    )  # Alice's ion is no longer pumped: half of it is in the wrong state; Bob's is as it was
    shutter(lab).signal("opened").set(True)
    assert herald_chance(lab) == pytest.approx(before, rel=0.05)


def test_closed_shutter_means_no_cooling_and_no_fluorescence(lab: VirtualLab):
    world = cast("Any", lab.world)
    motion = world._atoms.motion
    motion[0].quanta = motion[1].quanta = 100.0
    shutter(lab).signal("opened").set(False)
    for node in ("alice", "bob"):
        play_cooling(world, world.now(), 0.01, node)
    assert motion[0].quanta >= 100.0
    assert motion[1].quanta < 50.0
    dark = world.play(cooling(counted=True), world.now_ps())["n"].count
    assert dark <= 3
    shutter(lab).signal("opened").set(True)
    play_cooling(world, world.now(), 0.01)
    assert motion[0].quanta < 50.0


def test_safe_closes_the_shutter(lab: VirtualLab):
    before = herald_chance(lab)
    assert shutter(lab).signal("opened").get() is True
    shutter(lab).safe()
    assert shutter(lab).signal("opened").get() is False
    assert herald_chance(lab) < 0.85 * before


def test_the_counter_counts_the_clicks_of_the_world(lab: VirtualLab):
    world = cast("Any", lab.world)
    start = world.now()
    play_cooling(world, start + 0.3, 0.2)
    counted = counter(lab).count(1.0)
    inside = world.pmt_clicks(start + 0.3, start + 0.5)
    assert inside > 1000
    assert inside <= counted <= world.pmt_clicks(start, world.now())


def test_the_rate_is_that_of_a_cooled_ion_and_falls_to_the_dark_rate(lab: VirtualLab):
    world = cast("Any", lab.world)
    counter(lab).signal("gate_time").set(0.5)
    play_cooling(world, world.now(), 1.0)
    bright_hz = counter(lab).signal("rate").get()
    assert bright_hz == pytest.approx(expected_hz(world), rel=0.06)
    lab.clock.advance(1.0)
    assert counter(lab).signal("rate").get() == pytest.approx(expected_hz(world, 0.0), abs=80)
    shutter(lab).safe()
    play_cooling(world, world.now(), 1.0)
    assert counter(lab).signal("rate").get() == pytest.approx(expected_hz(world, 0.0), abs=80)


def test_counts_of_a_readout_are_counted_once(lab: VirtualLab):
    world = cast("Any", lab.world)
    world.pmt_clicks(0.0, world.now())
    start_ps = world.now_ps()
    seen = 0
    for number in range(200):
        seen += world.play(cooling(counted=True), start_ps + number * CYCLE)["n"].count
    end = start_ps / 1e12 + 200 * CYCLE / 1e12
    assert seen > 200
    assert world.pmt_clicks(start_ps / 1e12, end) == pytest.approx(seen, abs=30)  # and dark counts in between


def test_the_piezo_follows_the_card(lab: VirtualLab):
    piezo = cast("NiAnalogOut", lab.devices["alice.piezo"])
    part = cast("Any", lab.world).part("alice.piezo")
    piezo.signal("voltage").set(4.0)
    lab.clock.advance(1.0)
    herald_chance(lab)  # somebody looks
    assert part.voltage_v == pytest.approx(60.0, abs=0.1)
    assert piezo.signal("voltage").get() == pytest.approx(4.0, abs=0.01)
    piezo.safe()
    assert piezo.signal("voltage").get() == pytest.approx(0.0, abs=0.01)


def test_the_same_seed_gives_the_same_counts(tmp_path: Path):
    def counts() -> list[int]:
        with VirtualLab(configs.load(NI), ROOT, 9, tmp_path) as here:
            play_cooling(here.world, here.clock.now(), 0.5)
            return counter(here).count_gates(5, 0.05)

    assert counts() == counts()


def test_three_devices_on_one_port_over_the_network():
    config = with_free_ports(configs.load(NI))
    addresses = {config.device[name].address for name in ROLES}
    assert len(addresses) == 1
    assert addresses != {configs.load(NI).device["alice.counter"].address}
    clock = ScaledClock(20.0)
    world, simulated = make_world(config, ROOT, clock, seed=3)
    instruments = Instruments(config, world, simulated, clock).start()
    devices = {name: device_maker(config, name, ROOT)() for name in ROLES}
    try:
        for device in devices.values():
            device.open()
        gate = devices["alice.shutter"].signal("opened")
        assert gate.get() is False  # the lines of a card are low until somebody drives them
        gate.set(True)
        cast("Any", world).power_up()
        play_cooling(world, cast("Any", world).now(), 60.0)
        count = cast("NiCounter", devices["alice.counter"]).count(0.5)
        assert count / 0.5 == pytest.approx(expected_hz(world), rel=0.1)
        devices["alice.shutter"].safe()
        assert gate.get() is False
        instruments.close()
        with pytest.raises(DeviceError, match=r"alice\.counter at nidaqmx://127\.0\.0\.1"):
            devices["alice.counter"].signal("rate").get()
    finally:
        for device in devices.values():
            device.close()
        instruments.close()


def overridden(tables: dict[str, Any]) -> LabConfig:
    return with_free_ports(configs.load(NI, tables))


def refused(config: LabConfig) -> str:
    clock = ScaledClock(1.0)
    world, simulated = make_world(config, ROOT, clock)
    with pytest.raises(ConfigError) as error:
        Instruments(config, world, simulated, clock)
    return str(error.value)


def test_a_card_has_one_simulator():
    table = {"instrument": "simulated_hw.ni_daqmx:SimNiDaq", "parts": ["alice.card"]}
    text = refused(overridden({"world": {"simulator": {"alice": {"piezo": table}}}}))
    assert "[world.simulator.alice.piezo]" in text and "[world.simulator.alice.counter] already" in text


def test_what_is_no_card_cannot_serve_one():
    table = {"instrument": "simulated_hw.rs_hmp4040:SimHmp4040", "parts": ["alice.coil"]}
    text = refused(overridden({"world": {"simulator": {"alice": {"counter": table}}}}))
    assert "[world.simulator.alice.counter]" in text and "SimHmp4040 is no simulated NI card" in text


def test_a_card_in_this_computer_cannot_be_simulated():
    text = refused(overridden({"device": {"alice": {"counter": {"address": "nidaqmx://local/Dev1"}}}}))
    assert "is a card in this computer" in text


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "simulated_hw.ni_daqmx", raising=False)
    monkeypatch.setitem(sys.modules, "nidaqmx", None)
    monkeypatch.setitem(sys.modules, "nidaqmx._stubs.nidaqmx_pb2_grpc", None)
    with pytest.raises(
        ConfigError, match=r"\[world\.simulator\.alice\.counter\]: needs .*labctl\[nidaq\]"
    ) as error:
        make_world(configs.load(NI), ROOT, ScaledClock(1.0))
    assert "\n" not in str(error.value)


def test_the_shelf_lists_the_roles_with_the_card():
    found = {one.driver: one for one in shelf(ROOT) if one.driver.startswith("drivers.ni_daq:")}
    assert {*found} == {f"drivers.ni_daq:Ni{role}" for role in ("Card", "Counter", "AnalogOut", "Shutter")}
    for one in found.values():
        assert one.transports == ("nidaqmx",) and one.simulator == "simulated_hw.ni_daqmx:SimNiDaq"
        assert not one.problem
