"""The Koheras driver against the simulated laser, over TCP and a pseudo-terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from drivers.nkt_koheras import ATTEMPTS, HOSTS, NktKoheras
from labctl.clock import VirtualClock
from labctl.errors import (
    BadAnswerError,
    DeviceError,
    LimitError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
)
from labctl.sim.inprocess import Bench
from labctl.sim.server import SimServer
from labctl.transport import SimTransport, connect
from simulated_hw.nkt_koheras import SimNktKoheras, wrap
from simulated_hw.world.parts_pump import PumpSeed


@dataclass
class Laser:
    """A served laser, how to reach it, and what to close at the end."""

    sim: SimNktKoheras
    clock: VirtualClock
    addresses: dict[str, str]
    opened: list[NktKoheras] = field(default_factory=list[NktKoheras])

    def driver(self, way: str = "tcp", module_address: int = 1, **options: float) -> NktKoheras:
        laser = NktKoheras(connect(self.addresses[way], "pump", 0.25), "pump", module_address, **options)
        laser.timeout_s = 0.15
        self.opened.append(laser)
        laser.open()
        return laser


@pytest.fixture
def laser() -> Iterator[Laser]:
    clock = VirtualClock()
    sim = SimNktKoheras(PumpSeed(), clock.now, np.random.default_rng(7))
    server = SimServer()
    port = server.serve_tcp(sim)
    addresses = {
        "tcp": f"tcp://127.0.0.1:{port}",
        "pty": f"serial://{server.serve_pty(sim)}",
        "handshake": f"serial://{server.serve_pty(sim)}?rtscts=1",
        "url": f"serial://socket://127.0.0.1:{port}",
    }
    with server:
        served = Laser(sim, clock, addresses)
        yield served
        for opened in served.opened:
            opened.close()


@pytest.mark.parametrize("way", ["tcp", "pty", "handshake", "url"])
def test_switch_on_and_tune(laser: Laser, way: str) -> None:
    pump = laser.driver(way)
    assert pump.identity() == "Koheras BASIK MIKRO K1x2, serial 19200042, firmware 0103"
    assert pump.emission.get() is False
    assert pump.status.get() == "off"
    assert pump.not_ready() == "emission is off"
    pump.power_setpoint.set(0.0123)
    pump.wavelength_offset.set(-150e-12)
    pump.emission.set(True)
    laser.clock.advance(0.05)
    assert laser.sim.seed.emission
    assert not pump.wavelength_offset.settled()
    assert "wavelength_offset" in pump.not_ready()
    laser.clock.advance(60)
    assert pump.power.get() == pytest.approx(0.0123, rel=3e-3)
    assert pump.power_setpoint.get() == pytest.approx(0.0123, abs=1e-6)
    assert pump.wavelength.get() == pytest.approx(1053.85e-9, abs=1e-13)
    assert pump.wavelength_offset.get() == pytest.approx(-150e-12, abs=1e-13)
    assert pump.temperature.get() == pytest.approx(laser.sim.seed.temperature_k, abs=0.06)
    assert pump.supply_voltage.get() == pytest.approx(12.0)
    assert pump.status.get() == "emission"
    assert pump.not_ready() == ""


def test_the_bytes_of_a_driver_and_no_address_twice_in_a_row(
    laser: Laser, monkeypatch: pytest.MonkeyPatch
) -> None:
    pump = laser.driver()
    asked: list[bytes] = []
    answer = laser.sim.answer

    def listen(message: bytes, crc_fits: bool) -> bytes | None:
        asked.append(message)
        return answer(message, crc_fits)

    monkeypatch.setattr(laser.sim, "answer", listen)
    for _ in range(len(HOSTS) + 1):
        pump.emission.get()
    pump.power_setpoint.set(0.02)
    hosts = [message[1] for message in asked]
    assert len(set(hosts[: len(HOSTS)])) == len(HOSTS) and set(hosts) == set(HOSTS)
    assert asked[0][2:] == b"\x04\x30" and asked[-1][2:] == b"\x05\x22\xd0\x07"


def test_safe_switches_emission_off(laser: Laser) -> None:
    pump = laser.driver("pty")
    pump.emission.set(True)
    pump.safe()
    assert not laser.sim.seed.emission
    assert pump.emission.get() is False


@pytest.mark.parametrize(
    ("trouble", "bits", "words"),
    [("interlock", 0x2, "interlock off"), ("error", 0x8000, "error")],
)
def test_trouble_is_named(laser: Laser, trouble: str, bits: int, words: str) -> None:
    pump = laser.driver()
    pump.emission.set(True)
    laser.sim.own_faults()[trouble]()
    assert laser.sim.status_bits() == bits
    assert pump.status.get() == words
    assert pump.not_ready() == f"the laser reports {words}"
    with pytest.raises(
        RefusedError, match=r"pump at tcp://127.*refused writing register 0x30 of module 0x01"
    ):
        pump.emission.set(True)


def test_supply_and_temperature_have_status_bits(laser: Laser) -> None:
    pump = laser.driver()
    laser.sim.seed.supply_v, laser.sim.seed.temperature_k = 9.0, 330.0
    assert pump.status.get() == "supply low, module temperature out of range"


def test_limits_hold_before_anything_is_sent(laser: Laser) -> None:
    pump = laser.driver()
    pump.narrow({"power_setpoint": (0.0, 0.03)})
    laser.sim.faults.switch("silent")
    for wrong in (0.031, -0.001, float("nan")):
        with pytest.raises(LimitError):
            pump.power_setpoint.set(wrong)
    with pytest.raises(LimitError):
        pump.wavelength_offset.set(401e-12)
    with pytest.raises(LimitError):
        pump.power.set(0.01)


def test_what_the_module_cannot_do_is_refused_by_it(laser: Laser) -> None:
    pump = laser.driver(highest_power_w=1.0, tuning_range_m=1.0)
    assert pump.power_setpoint.limits == pytest.approx((0.0, 0.65535))
    with pytest.raises(RefusedError, match="register 0x22"):
        pump.power_setpoint.set(0.05)
    with pytest.raises(RefusedError, match="register 0x2a"):
        pump.wavelength_offset.set(-3.2767e-9)
    with pytest.raises(RefusedError, match="register 0x8d"):
        pump.read(0x8D)
    assert pump.emission.get() is False


def test_another_module_is_not_taken_for_the_laser(laser: Laser) -> None:
    with pytest.raises(BadAnswerError, match=r"0x34 \(Koheras ADJUSTIK.*expected 0x33"):
        laser.driver(module_address=0x80)
    with pytest.raises(NoAnswerError, match=r"pump at tcp://127.*module 0x05"):
        laser.driver(module_address=0x05)


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_lost_replies_are_asked_for_again(laser: Laser, way: str) -> None:
    pump = laser.driver(way)
    pump.timeout_s = 0.05
    laser.sim.faults.switch("drop", ATTEMPTS - 1)
    pump.power_setpoint.set(0.01)
    assert laser.sim.seed.power_setpoint_w == pytest.approx(0.01)
    laser.sim.lost_replies = 0.15
    for step in range(40):
        pump.power_setpoint.set(step * 1e-4)
        assert pump.power_setpoint.get() == pytest.approx(step * 1e-4, abs=1e-7)


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_silence_is_bounded_and_named(laser: Laser, way: str) -> None:
    pump = laser.driver(way)
    laser.sim.faults.switch("silent")
    with pytest.raises(NoAnswerError) as failure:
        pump.power.get()
    text = str(failure.value)
    assert text.startswith(f"pump at {laser.addresses[way]}") and "no answer" in text
    assert f"failed {ATTEMPTS} times" in text and "0d 01 a" in text
    laser.sim.faults.clear()
    assert pump.power.get() == 0.0


def test_a_busy_module_is_asked_again_but_not_for_ever(laser: Laser) -> None:
    pump = laser.driver()
    laser.sim.busy = ATTEMPTS - 1
    assert pump.emission.get() is False
    laser.sim.busy = ATTEMPTS
    with pytest.raises(RefusedError, match=r"pump at .*busy"):
        pump.emission.get()
    assert pump.emission.get() is False


def test_a_request_that_arrives_spoilt_is_sent_again(laser: Laser, monkeypatch: pytest.MonkeyPatch) -> None:
    pump = laser.driver()
    answer = laser.sim.answer
    spoilt = iter([True, True])

    def noisy_line(message: bytes, crc_fits: bool) -> bytes | None:
        return answer(message, crc_fits and not next(spoilt, False))

    monkeypatch.setattr(laser.sim, "answer", noisy_line)
    pump.emission.set(True)
    assert laser.sim.seed.emission
    spoilt = iter([True] * ATTEMPTS)
    with pytest.raises(BadAnswerError, match=r"pump at .*wrong CRC"):
        pump.emission.set(True)


@pytest.mark.parametrize("kind", ["garble", "garbage"])
@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_broken_answers_are_refused_and_the_next_is_clean(laser: Laser, way: str, kind: str) -> None:
    pump = laser.driver(way)
    laser.sim.faults.switch(kind)
    with pytest.raises(DeviceError, match="pump at") as failure:
        pump.status.get()
    assert isinstance(failure.value, BadAnswerError | NoAnswerError)
    laser.sim.faults.clear()
    assert pump.status.get() == "off"


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_a_late_answer_is_never_taken_for_the_next(laser: Laser, way: str) -> None:
    pump = laser.driver(way)
    pump.timeout_s = 0.05
    laser.sim.seed.power_setpoint_w = 0.02
    laser.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError):
        pump.read_number(0x22, "<H")
    laser.sim.faults.clear()
    pump.timeout_s = 1.0  # the late answers come while these wait
    assert [pump.read_number(r, "<H") for r in (0x17, 0x22, 0x1E, 0x17)] == [0, 2000, 12000, 0]


def test_an_answer_to_an_earlier_request_is_passed_over(
    laser: Laser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A serial line has no connection to drop: the answer to an earlier request may come first."""
    pump = laser.driver("pty")
    laser.sim.seed.power_setpoint_w = 0.02
    stale = wrap(bytes((254, 0x01, 8, 0x22, 0x11, 0x22)))

    def after_a_stale_one(message: bytes) -> bytes:
        return stale + wrap(message)

    monkeypatch.setattr("simulated_hw.nkt_koheras.wrap", after_a_stale_one)
    assert pump.power_setpoint.get() == pytest.approx(0.02)


def test_another_register_than_asked_is_refused(laser: Laser, monkeypatch: pytest.MonkeyPatch) -> None:
    pump = laser.driver()
    replies = iter([b"\x08\x17\x00\x00", b"\x08\x22\x00"])
    answer = laser.sim.answer

    def wrong_ones_first(message: bytes, crc_fits: bool) -> bytes | None:
        return next(replies, None) or answer(message, crc_fits)

    monkeypatch.setattr(laser.sim, "answer", wrong_ones_first)
    with pytest.raises(BadAnswerError, match="reading register 0x22"):
        pump.power_setpoint.get()
    with pytest.raises(BadAnswerError, match="expected 2 bytes"):
        pump.power_setpoint.get()
    assert pump.power_setpoint.get() == 0.0


def test_a_broken_connection_comes_back(laser: Laser) -> None:
    pump = laser.driver()
    laser.sim.faults.switch("disconnect")
    with pytest.raises(NotConnectedError, match="pump at"):
        pump.status.get()
    assert pump.status.get() == "off"
    laser.sim.faults.switch("split", 0.02)
    assert pump.wavelength.get() == pytest.approx(1054e-9)


def test_several_clients_see_one_state(laser: Laser) -> None:
    clients = [laser.driver(way) for way in ("tcp", "tcp", "pty")]
    for number, pump in enumerate(clients):
        pump.power_setpoint.set(0.01 + number * 1e-3)
        assert [c.power_setpoint.get() for c in clients] == pytest.approx([0.01 + number * 1e-3] * 3)


def test_the_same_bytes_in_process() -> None:
    clock = VirtualClock()
    sim = SimNktKoheras(PumpSeed(), clock.now, np.random.default_rng(3), lost_replies=0.1)
    bench = Bench({"pump": sim}, clock)
    pump = NktKoheras(
        SimTransport("sim://pump", "pump", 1.0, lambda address: bench.connection(address.target), clock),
        "pump",
    )
    pump.open()
    pump.power_setpoint.set(0.02)
    pump.emission.set(True)
    clock.sleep(10)
    assert pump.power.get() == pytest.approx(0.02, rel=3e-3)
    sim.faults.switch("silent")
    before = clock.now()
    with pytest.raises(NoAnswerError):
        pump.status.get()
    assert clock.now() - before == pytest.approx(ATTEMPTS * 1.0, abs=0.2)
    pump.close()
