"""The Meerstetter driver against the simulated controller, over TCP and a pseudo-terminal."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from drivers.meerstetter_tec import FLASH_TARGET, MeerstetterTec, encode_request
from labctl.clock import VirtualClock
from labctl.errors import BadAnswerError, LimitError, NoAnswerError, NotConnectedError, RefusedError
from labctl.sim.inprocess import Bench
from labctl.sim.server import SimServer
from labctl.transport import SimTransport, connect
from simulated_hw.meerstetter_tec import SimMeerstetterTec
from simulated_hw.world.parts import HeatedBody


@dataclass
class Oven:
    """A served controller and how to reach it."""

    sim: SimMeerstetterTec
    clock: VirtualClock
    addresses: dict[str, str]

    @property
    def body(self) -> HeatedBody:
        return self.sim.channels[0].body

    def driver(self, way: str = "tcp", **options: float) -> MeerstetterTec:
        tec = MeerstetterTec(connect(self.addresses[way], "oven", 0.2), "oven", **options)  # type: ignore[arg-type]
        tec.timeout_s = 0.2
        tec.open()
        return tec


@pytest.fixture
def oven() -> Iterator[Oven]:
    clock = VirtualClock()
    sim = SimMeerstetterTec([HeatedBody(), HeatedBody()], clock.now, np.random.default_rng(7))
    server = SimServer()
    port = server.serve_tcp(sim)
    addresses = {
        "tcp": f"tcp://127.0.0.1:{port}",
        "pty": f"serial://{server.serve_pty(sim)}",
        "url": f"serial://socket://127.0.0.1:{port}",
        "visa": f"visa://TCPIP::127.0.0.1::{port}::SOCKET",
    }
    with server:
        yield Oven(sim, clock, addresses)


@pytest.mark.parametrize("way", ["tcp", "pty", "url", "visa"])
def test_heat_and_read_back(oven: Oven, way: str) -> None:
    tec = oven.driver(way)
    assert tec.identity() == "8065-TEC-SW-G01"
    assert tec.status.get() == "ready"
    assert tec.output.get() is False
    assert tec.not_ready() == "the output is off"
    tec.temperature.set(318.15)
    tec.output.set(True)
    assert oven.body.enabled and oven.body.setpoint_k == pytest.approx(318.15, abs=1e-4)
    assert tec.setpoint.get() == pytest.approx(318.15, abs=1e-4)
    assert tec.status.get() == "run"
    assert tec.stable.get() is False
    assert tec.current.get() == pytest.approx(oven.body.drive_a())
    assert "target 45.000 degC" in tec.not_ready() and "21.0" in tec.not_ready()
    oven.clock.advance(120)
    assert tec.temperature.get() == pytest.approx(318.15, abs=0.01)
    assert tec.voltage.get() == pytest.approx(2 * tec.current.get())
    assert tec.stable.get() is True
    assert tec.temperature.settled()
    assert tec.not_ready() == ""
    assert tec.error_number.get() == 0
    tec.close()


def test_the_target_does_not_wear_the_flash(oven: Oven) -> None:
    tec = oven.driver()
    for step in range(50):
        tec.temperature.set(300.0 + 0.1 * step)
    assert oven.sim.flash_writes == 0
    tec.store_target()
    assert oven.sim.flash_writes == 1
    oven.sim.power_cycle()
    assert tec.setpoint.get() == pytest.approx(304.9, abs=1e-3)
    tec.temperature.set(310.0)
    assert tec.setpoint.get() == pytest.approx(310.0, abs=1e-3)
    tec.close()


def test_safe_switches_the_heater_off(oven: Oven) -> None:
    tec = oven.driver()
    tec.output.set(True)
    tec.safe()
    assert not oven.body.enabled
    assert tec.output.get() is False
    tec.close()


def test_tolerance_belongs_to_the_device(oven: Oven) -> None:
    coarse, fine = oven.driver(tolerance_k=50.0), oven.driver(tolerance_k=0.01)
    coarse.output.set(True)
    coarse.temperature.set(313.15)
    fine.temperature.set(313.15)
    assert coarse.not_ready() == "" and coarse.temperature.settled()
    assert "temperature" in fine.not_ready() and not fine.temperature.settled()
    assert fine.describe()["signals"]["temperature"]["tolerance"] == 0.01
    coarse.close()
    fine.close()


def test_limits_hold_before_anything_is_sent(oven: Oven) -> None:
    oven.body.highest_k = 353.15
    tec = oven.driver()
    assert tec.temperature.limits == pytest.approx((283.15, 353.15), abs=1e-4)
    before = oven.sim.channels[0].live_target_c
    oven.sim.faults.switch("silent")
    for wrong in (354.0, 282.0, float("nan"), float("inf")):
        with pytest.raises(LimitError):
            tec.temperature.set(wrong)
    assert oven.sim.channels[0].live_target_c == before
    with pytest.raises(LimitError):
        tec.setpoint.set(300.0)
    tec.close()


def test_the_driver_keeps_its_own_range_where_the_controller_allows_more(oven: Oven) -> None:
    oven.body.lowest_k, oven.body.highest_k = 200.0, 900.0
    tec = oven.driver()
    assert tec.temperature.limits == (283.15, 473.15)
    tec.close()


def test_refusals_say_what_and_where(oven: Oven) -> None:
    tec = oven.driver()
    oven.body.highest_k = 303.15  # lowered behind the driver's back
    with pytest.raises(RefusedError, match=r"oven at tcp://127.*\+07, value out of the controller's range"):
        tec.temperature.set(310.0)
    with pytest.raises(RefusedError, match="no such parameter"):
        tec.read_int(999)
    assert tec.status.get() == "ready"
    tec.close()
    with pytest.raises(RefusedError, match="no such channel"):
        oven.driver(instance=3)


def test_channels_are_separate(oven: Oven) -> None:
    second = oven.driver(instance=2)
    second.temperature.set(330.0)
    second.output.set(True)
    assert oven.sim.channels[1].body.enabled and not oven.body.enabled
    second.close()


def test_a_controller_in_error_is_not_ready(oven: Oven) -> None:
    tec = oven.driver()
    tec.output.set(True)
    oven.sim.fail(32)
    assert tec.status.get() == "error"
    assert tec.error_number.get() == 32
    assert "error 32" in tec.not_ready()
    assert not oven.body.enabled
    tec.close()


def test_another_address_and_another_instrument(oven: Oven) -> None:
    with pytest.raises(NoAnswerError, match="oven at tcp://"):
        oven.driver(device_address=9)
    oven.sim.ident = f"{'1234-LDD-SW-A01':<20}"
    with pytest.raises(BadAnswerError, match="expected a TEC controller"):
        oven.driver()


def test_several_clients_see_one_state(oven: Oven) -> None:
    clients = [oven.driver("tcp") for _ in range(4)] + [oven.driver("pty")]
    for number, tec in enumerate(clients):
        tec.temperature.set(300.0 + number)
        assert [c.setpoint.get() for c in clients] == pytest.approx([300.0 + number] * 5, abs=1e-4)
    for tec in clients:
        tec.close()


def test_half_a_frame_garbage_and_a_client_that_leaves(oven: Oven) -> None:
    host, port = "127.0.0.1", int(oven.addresses["tcp"].rpartition(":")[2])
    frame = encode_request(2, 5, "?IF") + b"\r"
    with socket.create_connection((host, port), 2) as leaver:
        leaver.sendall(frame[:8])
    with socket.create_connection((host, port), 2) as client:
        client.settimeout(2)
        client.sendall(b"\x00\xff#02\r!\r#020005?IF0000\r" + frame[:6])
        tec = oven.driver()
        assert tec.identity() == "8065-TEC-SW-G01"
        tec.close()
        client.sendall(frame[6:])
        answer = b""
        while not answer.endswith(b"\r"):
            answer += client.recv(100)
        assert answer.startswith(b"!0200058065-TEC-SW-G01") and answer.count(b"!") == 1


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_silence_names_device_and_address(oven: Oven, way: str) -> None:
    tec = oven.driver(way)
    oven.sim.faults.switch("silent")
    with pytest.raises(NoAnswerError) as failure:
        tec.temperature.get()
    assert "oven at" in str(failure.value) and oven.addresses[way] in str(failure.value)
    oven.sim.faults.clear()
    assert tec.temperature.get() == pytest.approx(294.15, abs=0.01)
    tec.close()


@pytest.mark.parametrize("kind", ["garble", "garbage"])
def test_broken_answers_are_refused_and_the_next_is_clean(oven: Oven, kind: str) -> None:
    tec = oven.driver()
    oven.sim.faults.switch(kind)
    with pytest.raises(BadAnswerError, match="oven at"):
        tec.status.get()
    oven.sim.faults.clear()
    assert tec.status.get() == "ready"
    tec.close()


def test_a_late_answer_is_never_taken_for_the_next(oven: Oven) -> None:
    tec = oven.driver()
    oven.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError):
        tec.read_int(104, 1)
    oven.sim.faults.clear()
    assert tec.temperature.get() == pytest.approx(294.15, abs=0.01)
    assert tec.status.get() == "ready"
    tec.close()


def test_on_a_serial_line_the_sequence_number_catches_a_late_answer(
    oven: Oven, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A serial line has no connection to drop: the answer to an earlier question may come first. It is never believed."""
    tec = oven.driver("pty")
    answer = oven.sim.answer
    stale = answer(encode_request(2, 1, "?VR006801").decode())

    def late_one_first(line: str) -> str:
        return f"{stale}\r{answer(line)}"

    monkeypatch.setattr(oven.sim, "answer", late_one_first)
    with pytest.raises(BadAnswerError, match="sequence"):
        tec.read_int(104, 1)
    monkeypatch.undo()
    assert tec.status.get() == "ready"
    tec.output.set(True)
    replies = iter([stale])

    def late_one_instead(line: str) -> str | None:
        return next(replies, None) or answer(line)

    monkeypatch.setattr(oven.sim, "answer", late_one_instead)
    tec.safe()
    assert not oven.body.enabled
    tec.close()


def test_a_broken_connection_comes_back(oven: Oven) -> None:
    tec = oven.driver()
    oven.sim.faults.switch("disconnect")
    with pytest.raises(NotConnectedError, match="oven at"):
        tec.status.get()
    assert tec.status.get() == "ready"
    oven.sim.faults.switch("split", 0.01)
    assert tec.identity() == "8065-TEC-SW-G01"
    tec.close()


def test_broadcast_address_and_flash_saving_switch(oven: Oven) -> None:
    tec = oven.driver(device_address=0)
    tec.write_float(FLASH_TARGET, 30.0)
    assert oven.sim.flash_writes == 1
    assert tec.ask("VS006C0100000001") == ""
    tec.write_float(FLASH_TARGET, 31.0)
    assert oven.sim.flash_writes == 1 and oven.sim.channels[0].flash_target_c == 31.0
    tec.close()


def test_the_same_bytes_in_process() -> None:
    clock = VirtualClock()
    sim = SimMeerstetterTec(HeatedBody(), clock.now, np.random.default_rng(3))
    bench = Bench({"oven": sim}, clock)
    tec = MeerstetterTec(
        SimTransport("sim://oven", "oven", 1.0, lambda address: bench.connection(address.target), clock)
    )
    tec.open()
    tec.output.set(True)
    tec.temperature.set(350.0)
    clock.sleep(100)
    assert tec.temperature.get() == pytest.approx(350.0, abs=0.01)
    sim.faults.switch("silent")
    with pytest.raises(NoAnswerError):
        tec.status.get()
    tec.close()
