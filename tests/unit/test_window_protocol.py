"""Window protocol frames: both codecs against the golden frames, and against everything else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import agilent_ipcmini as driver
from simulated_hw import agilent_ipcmini as sim
from simulated_hw.world.parts_vacuum import VacuumChamber

# as on the wire (DEVICES.md 3.8)
READ_PRESSURE = b"\x02\x808120\x0388"
PRESSURE = b"\x02\x808121.0E-10\x03FE"
HIGH_VOLTAGE_ON = b"\x02\x8001111\x03B3"
ACKNOWLEDGED = b"\x02\x80\x06\x0385"
NO_SUCH_WINDOW = b"\x02\x802\x03B1"

ADDRESSES = st.integers(0, 31)
WINDOWS = st.integers(0, 999)
VALUES = st.text(st.sampled_from("0123456789.E-+ ABCxyz"), max_size=12)


def controller(**options: bool) -> sim.SimAgilentIpcMini:
    chamber = VacuumChamber(base_pressure_pa=1e-8)
    return sim.SimAgilentIpcMini(chamber, lambda: 0.0, np.random.default_rng(1), **options)


def answers(instrument: sim.SimAgilentIpcMini, *pieces: bytes) -> bytes:
    sent: list[bytes] = []
    session = instrument.session("main", sent.append)
    for piece in pieces:
        session.receive(piece)
    return b"".join(sent)


def test_driver_makes_the_golden_requests() -> None:
    assert driver.encode_request(0, 812, driver.READ) == READ_PRESSURE
    assert driver.encode_request(0, 11, driver.WRITE, b"1") == HIGH_VOLTAGE_ON


def test_driver_reads_the_golden_answers() -> None:
    assert driver.decode(PRESSURE, 0) == b"8121.0E-10"
    assert driver.decode(ACKNOWLEDGED, 0) == driver.ACK
    assert driver.decode(NO_SUCH_WINDOW, 0) in driver.REFUSALS


def test_simulator_reads_the_golden_requests_and_makes_the_golden_answers() -> None:
    assert sim.decode(READ_PRESSURE) == (0, b"8120")
    assert sim.decode(HIGH_VOLTAGE_ON) == (0, b"01111")
    assert sim.encode(0, b"8121.0E-10") == PRESSURE
    assert sim.encode(0, sim.ACK) == ACKNOWLEDGED
    assert sim.encode(0, sim.UNKNOWN_WINDOW) == NO_SUCH_WINDOW


def test_the_controller_answers_golden_requests_with_golden_answers() -> None:
    instrument = controller(command_digit=False)
    assert answers(instrument, READ_PRESSURE) == PRESSURE
    instrument.chamber.pumping = False
    assert answers(instrument, HIGH_VOLTAGE_ON) == ACKNOWLEDGED
    assert instrument.chamber.pumping
    assert answers(instrument, driver.encode_request(0, 999, driver.READ)) == NO_SUCH_WINDOW


def test_an_answer_has_the_structure_of_the_request() -> None:
    assert answers(controller(), READ_PRESSURE) == sim.encode(0, b"81201.0E-10")


@pytest.mark.parametrize(
    ("payload", "answer"),
    [
        (b"6001" + b"7", sim.OUT_OF_RANGE),
        (b"6131" + b"002999", sim.OUT_OF_RANGE),
        (b"6131" + b"7 kV", sim.WRONG_DATA),
        (b"0111" + b"2", sim.WRONG_DATA),
        (b"8121" + b"1", sim.DISABLED),
        (b"abc0", sim.WRONG_DATA),
        (b"8127", sim.WRONG_DATA),
        (b"", sim.WRONG_DATA),
    ],
)
def test_refusals(payload: bytes, answer: bytes) -> None:
    assert controller().answer(payload) == answer


def test_nothing_can_be_changed_from_afar_in_local_mode() -> None:
    instrument = controller()
    instrument.mode = 2
    assert instrument.answer(b"01110") == sim.DISABLED and instrument.chamber.pumping
    assert instrument.answer(b"00810") == sim.ACK
    assert instrument.answer(b"01110") == sim.ACK and not instrument.chamber.pumping


@given(ADDRESSES, WINDOWS, VALUES)
def test_the_simulator_decodes_what_the_driver_encodes(address: int, window: int, value: str) -> None:
    request = driver.encode_request(address, window, driver.WRITE, value.encode())
    assert sim.decode(request) == (address, f"{window:03d}1{value}".encode())


@given(ADDRESSES, VALUES)
def test_the_driver_decodes_what_the_simulator_encodes(address: int, value: str) -> None:
    assert driver.decode(sim.encode(address, value.encode()), address) == value.encode()
    with pytest.raises(ValueError, match="address"):
        driver.decode(sim.encode(address, value.encode()), (address + 1) % 32)


@given(st.binary(max_size=60))
def test_no_bytes_upset_the_driver(noise: bytes) -> None:
    """Noise is refused with a ValueError, never taken for an answer."""
    with pytest.raises(ValueError):
        driver.decode(noise, 0)


@given(st.integers(0, len(PRESSURE) - 1), st.integers(1, 255))
def test_one_wrong_byte_is_noticed(at: int, flip: int) -> None:
    spoiled = bytearray(PRESSURE)
    spoiled[at] ^= flip
    with pytest.raises(ValueError):
        driver.decode(bytes(spoiled), 0)
    assert sim.decode(bytes(spoiled)) is None


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_bytes_upset_the_simulator(pieces: list[bytes]) -> None:
    instrument = controller(command_digit=False)
    sent: list[bytes] = []
    session = instrument.session("main", sent.append)
    for piece in pieces:
        session.receive(piece)
    session.receive(b"\x03AA")  # the end of whatever frame was begun
    sent.clear()
    session.receive(READ_PRESSURE[:4])
    session.receive(READ_PRESSURE[4:])
    assert sent == [PRESSURE]


def test_other_addresses_are_not_answered() -> None:
    assert answers(controller(), driver.encode_request(3, 812, driver.READ)) == b""


def test_a_chamber_pumps_down_with_its_time_constant_and_fills_at_its_rate() -> None:
    chamber = VacuumChamber(base_pressure_pa=1e-9, time_constant_s=10.0, pressure_pa=1.001e-6)
    chamber.advance(10.0)
    assert chamber.pressure_pa == pytest.approx(1e-9 + 1e-6 / np.e)
    chamber.advance(1e4)
    assert chamber.pressure_pa == pytest.approx(1e-9)
    chamber.pumping = False
    chamber.advance(1e4 + 30)
    assert chamber.pressure_pa == pytest.approx(1e-9 * (1 + 30 / 10))
    assert chamber.pump_current_a() == 0
    chamber.pumping, chamber.leak_pa_per_s = True, 1e-8
    chamber.advance(2e4)
    assert chamber.pressure_pa == pytest.approx(1e-9 + 1e-8 * 10)
    chamber.pumping, chamber.leak_pa_per_s = False, 1e9
    chamber.advance(3e4)
    assert chamber.pressure_pa == 101325.0


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20))
def test_a_chamber_does_not_care_how_often_it_is_looked_at(steps: list[float]) -> None:
    often, once = VacuumChamber(pressure_pa=1e-6), VacuumChamber(pressure_pa=1e-6)
    now = 0.0
    for step in steps:
        now += step
        often.advance(now)
    once.advance(now)
    assert often.pressure_pa == pytest.approx(once.pressure_pa)
