"""The MOGLabs driver against the simulated synthesizer."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.moglabs_qrf import MoglabsQrf
from labctl.clock import VirtualClock
from labctl.errors import BadAnswerError, LimitError, NoAnswerError, NotConnectedError, RefusedError
from labctl.sim.server import SimServer
from labctl.transport import connect
from simulated_hw.moglabs_qrf import SimMoglabsQrf
from simulated_hw.world.parts import RfChannel


@dataclass
class Synthesizer:
    sim: SimMoglabsQrf
    clock: VirtualClock
    port: int

    @property
    def rf(self) -> list[RfChannel]:
        return [output.rf for output in self.sim.outputs]

    def driver(self) -> MoglabsQrf:
        qrf = MoglabsQrf(connect(f"tcp://127.0.0.1:{self.port}", "aom", 0.2), "aom")
        qrf.timeout_s = 0.2
        qrf.open()
        return qrf


def instrument(clock: VirtualClock) -> SimMoglabsQrf:
    return SimMoglabsQrf([RfChannel() for _ in range(4)], clock.now, np.random.default_rng(4))


@pytest.fixture
def synth() -> Iterator[Synthesizer]:
    clock = VirtualClock()
    sim = instrument(clock)
    server = SimServer()
    port = server.serve_tcp(sim)
    with server:
        yield Synthesizer(sim, clock, port)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_every_signal_of_every_channel(synth: Synthesizer, n: int) -> None:
    qrf = synth.driver()
    rf = synth.rf[n - 1]
    values = {
        "frequency": 200.125e6,
        "power_dbm": 29.5,
        "phase": math.pi / 2,
        "limit_dbm": 33.0,
        "output": True,
    }
    for kind, value in values.items():
        signal = qrf.signal(f"{kind}_{n}")
        signal.set(value)
        assert signal.get() == pytest.approx(value)
        assert signal.settled()
    assert rf.frequency_hz == pytest.approx(200.125e6)
    assert (rf.power_dbm, rf.phase_turns, rf.limit_dbm) == pytest.approx((29.5, 0.25, 33.0))
    assert rf.signal_on and rf.amplifier_on
    assert [other.signal_on for other in synth.rf].count(True) == 1
    qrf.signal(f"output_{n}").set(False)
    assert not rf.signal_on and not rf.amplifier_on
    assert qrf.signal(f"output_{n}").get() is False
    assert 300 < qrf.temperature.get() < 310
    assert "QRF" in qrf.identity()
    qrf.close()


def test_the_aom_feels_it(synth: Synthesizer) -> None:
    qrf = synth.driver()
    qrf.power_dbm_1.set(30.0)
    qrf.output_1.set(True)
    assert synth.rf[0].relative_power() == pytest.approx(1.0)
    qrf.frequency_1.set(90e6)
    assert synth.rf[0].relative_power() == pytest.approx(0.5)
    qrf.close()


def test_half_on_is_not_on(synth: Synthesizer) -> None:
    qrf = synth.driver()
    qrf.order("ON,2,SIG")
    assert qrf.output_2.get() is False
    qrf.order("ON,2,POW")
    assert qrf.output_2.get() is True
    qrf.close()


def test_safe_switches_everything_off_even_if_one_channel_fails(synth: Synthesizer) -> None:
    qrf = synth.driver()
    for n in (1, 2, 3, 4):
        qrf.signal(f"output_{n}").set(True)
    synth.sim.faults.switch("drop", 1)
    with pytest.raises(NoAnswerError, match="aom at"):
        qrf.safe()
    assert not any(rf.signal_on or rf.amplifier_on for rf in synth.rf)
    qrf.safe()
    qrf.close()


def test_limits_hold_before_anything_is_sent(synth: Synthesizer) -> None:
    qrf = synth.driver()
    qrf.limit_dbm_1.set(20.0)
    assert qrf.power_dbm_1.limits == (-50.0, 20.0)
    synth.sim.faults.switch("silent")
    refused: list[tuple[str, float]] = [
        ("frequency_1", 19.9e6),
        ("frequency_1", 401e6),
        ("power_dbm_1", 20.5),
        ("power_dbm_2", 34.5),
        ("phase_1", 7.0),
        ("limit_dbm_1", 40.0),
        ("temperature", 300.0),
    ]
    for name, value in refused:
        with pytest.raises(LimitError):
            qrf.signal(name).set(value)
    tables: list[list[list[float]]] = [
        [],
        [[80e6, 10.0, 0.0]],
        [[80e6, 10.0, 0.0, 1e-3], [10e6, 10.0, 0.0, 1e-3]],
        [[80e6, 20.5, 0.0, 1e-3]],
        [[80e6, 10.0, 0.0, 7e-6]],
        [[80e6, 10.0, 0.0, -5e-6]],
        [[80e6, 10.0, math.nan, 5e-6]],
        [[80e6, 10.0, 0.0, 5e-6]] * 8192,
    ]
    for rows in tables:
        with pytest.raises(LimitError):
            qrf.load_table(1, rows)
    with pytest.raises(LimitError):
        qrf.arm_table(5)
    assert synth.rf[0] == RfChannel(limit_dbm=20.0) and synth.rf[1] == RfChannel()
    qrf.close()


def test_refusals_carry_the_instruments_words(synth: Synthesizer) -> None:
    qrf = synth.driver()
    synth.rf[0].limit_dbm = 10.0  # lowered behind the driver's back
    with pytest.raises(RefusedError, match=r"aom at tcp://127.*refused 'POW,1,30.000': Power exceeds limit"):
        qrf.power_dbm_1.set(30.0)
    with pytest.raises(RefusedError, match="Command not defined"):
        qrf.ask("NONSENSE")
    with pytest.raises(RefusedError, match="not in table mode"):
        qrf.arm_table(1)
    qrf.close()


def test_lowering_the_limit_lowers_the_power(synth: Synthesizer) -> None:
    qrf = synth.driver()
    qrf.power_dbm_3.set(30.0)
    qrf.limit_dbm_3.set(25.0)
    assert qrf.power_dbm_3.get() == 25.0
    qrf.close()


def test_a_table_plays_row_by_row(synth: Synthesizer) -> None:
    qrf = synth.driver()
    qrf.output_1.set(True)
    qrf.load_table(
        1,
        [
            [80e6, 10.0, 0.0, 1e-3],
            [90e6, 20.0, math.pi, 2e-3],
            [100e6, 30.0, 0.0, 0.0],
            [110e6, -10.0, 0.0, 1e-3, 0],
        ],
    )
    qrf.arm_table(1)
    assert synth.rf[0].power_dbm == -50.0
    qrf.start_table(1)
    assert qrf.frequency_1.get() == 80e6
    synth.clock.advance(1.5e-3)
    assert (qrf.frequency_1.get(), qrf.power_dbm_1.get()) == (90e6, 20.0)
    assert qrf.phase_1.get() == pytest.approx(math.pi)
    synth.clock.advance(1.0)
    assert qrf.frequency_1.get() == 100e6
    assert synth.rf[0].relative_power() > 0
    synth.sim.hardware_trigger(1)
    assert qrf.frequency_1.get() == 110e6
    assert not synth.rf[0].signal_on
    synth.clock.advance(1.0)
    assert qrf.ask("TABLE,STATUS,1") == "STOPPED"
    assert synth.rf[0].signal_on
    with pytest.raises(RefusedError, match="not armed"):
        qrf.start_table(1)
    qrf.leave_table_mode(1)
    qrf.frequency_1.set(80e6)
    qrf.close()


def test_a_restarting_table_and_stop(synth: Synthesizer) -> None:
    qrf = synth.driver()
    qrf.load_table(2, [[80e6, 0.0, 0.0, 1e-3], [90e6, 0.0, 0.0, 1e-3]])
    qrf.order("TABLE,REARM,2,on")
    qrf.order("TABLE,RESTART,2,on")
    qrf.arm_table(2)
    qrf.start_table(2)
    synth.clock.advance(86400.0005)
    assert qrf.frequency_2.get() == 80e6
    synth.clock.advance(1e-3)
    assert qrf.frequency_2.get() == 90e6
    qrf.stop_table(2)
    assert qrf.ask("TABLE,STATUS,2") == "RUNNING"
    synth.clock.advance(1e-3)
    assert qrf.ask("TABLE,STATUS,2") == "STOPPED"
    qrf.close()


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("FREQ,1", "80.000000 MHz (0x147AE148)"),
        ("freq , 1 , 200.125 mhz", "OK"),
        ("FREQ,1,200125000HZ", "OK"),
        ("FREQ,1,500", "ERR: Frequency out of range"),
        ("FREQ,5", "ERR: Invalid channel"),
        ("FREQ,1,fast", "ERR: Invalid value"),
        ("POW,1,1W", "OK"),
        ("PHASE,1,3.14159rad", "OK"),
        ("MODE,1,NSA", "OK"),
        ("MODE,1,XYZ", "ERR: Invalid mode"),
        ("STATUS,1", "0"),
        ("VERSION", "UC: 1.4.2, FPGA: 0.5.3"),
        ("ALIGNPH", "OK"),
        ("ALIGNPH,1,2", "OK"),
        ("CLKSRC,EXT,10", "OK"),
        ("CLKSRC", "INT"),
        ("TABLE,ENTRIES,1", "0"),
        ("TABLE,ENTRY,1,5", "Invalid entry number"),
        ("TABLE,APPEND,1,80,10,0", "ERR: Expected frequency, power, phase, duration and flags"),
        ("TABLE,APPEND,1,80,10,0,20,SIG,TRIG", "OK"),
        ("TABLE,ARM,1", "ERR: Channel is not in table mode"),
        ("TABLE,NAME,1,\xfft", "OK"),
        ("REBOOT", "OK"),
        ("", "ERR: Command not defined"),
    ],
)
def test_grammar(line: str, reply: str) -> None:
    assert instrument(VirtualClock()).answer(line) == reply


def test_table_entries_read_back_as_text() -> None:
    sim = instrument(VirtualClock())
    sim.answer("TABLE,APPEND,1,80,10,90,20,SIG")
    assert sim.answer("TABLE,ENTRY,1,1") == "80.000000 MHz, 10.000 dBm, 90.0000 deg, 20, SIG"
    changed = sim.answer("TABLE,ENTRY,1,1,81,10,90,0")
    assert changed == "81.000000 MHz, 10.000 dBm, 90.0000 deg, 0"
    assert (sim.answer("TABLE,ENTRY,1,1,81,10,9020") or "").startswith("Invalid")


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_no_bytes_upset_the_simulator(pieces: list[bytes]) -> None:
    sent: list[bytes] = []
    clock = VirtualClock()
    session = instrument(clock).session("main", sent.append)
    for piece in pieces:
        session.receive(piece)
    clock.advance(2000)
    session.tick(0.0)
    sent.clear()
    session.receive(b"\r\nVERSION\r\n")
    assert sent[-1] == b"UC: 1.4.2, FPGA: 0.5.3\r\n"


COMMANDS = st.sampled_from(
    ["FREQ", "POW", "LIMIT", "PHASE", "MODE", "ON", "TABLE,APPEND", "TABLE,ENTRY", "TABLE,NAME"]
)


@given(COMMANDS, st.text(st.characters(codec="latin-1"), max_size=30))
def test_no_argument_upsets_the_simulator(command: str, argument: str) -> None:
    answer = instrument(VirtualClock()).answer(f"{command},1,{argument}")
    assert answer is not None and answer.encode("latin-1")
    assert answer == "OK" or answer.startswith(("ERR: ", "Invalid")) or command == "TABLE,ENTRY"


def test_sleep_holds_back_the_next_answer(synth: Synthesizer) -> None:
    qrf = synth.driver()
    qrf.order("SLEEP,500")
    with pytest.raises(NoAnswerError):
        qrf.frequency_1.get()
    synth.clock.advance(1.0)
    assert qrf.frequency_1.get() == 80e6
    qrf.close()


def test_silence_then_a_late_answer_never_taken_for_the_next(synth: Synthesizer) -> None:
    qrf = synth.driver()
    synth.sim.faults.switch("late", 0.3)
    with pytest.raises(NoAnswerError) as failure:
        qrf.frequency_1.get()
    assert f"aom at tcp://127.0.0.1:{synth.port}" in str(failure.value)
    synth.sim.faults.clear()
    assert qrf.power_dbm_1.get() == -50.0
    assert qrf.output_1.get() is False
    qrf.close()


@pytest.mark.parametrize("kind", ["garble", "garbage"])
def test_broken_answers_are_refused_and_the_next_is_clean(synth: Synthesizer, kind: str) -> None:
    qrf = synth.driver()
    synth.sim.faults.switch(kind)
    for attempt in (
        lambda: qrf.frequency_1.get(),
        lambda: qrf.power_dbm_1.get(),
        lambda: qrf.frequency_1.set(81e6),
    ):
        with pytest.raises(BadAnswerError, match="aom at"):
            attempt()
    synth.sim.faults.clear()
    assert qrf.frequency_1.get() == 81e6
    qrf.close()


def test_half_a_line_several_clients_and_one_that_leaves(synth: Synthesizer) -> None:
    with socket.create_connection(("127.0.0.1", synth.port), 2) as leaver:
        leaver.sendall(b"FREQ,1,1")
    with socket.create_connection(("127.0.0.1", synth.port), 2) as slow:
        slow.sendall(b"VERS")
        clients = [synth.driver() for _ in range(3)]
        for count, qrf in enumerate(clients):
            qrf.frequency_2.set(80e6 + count * 1e6)
            assert [other.frequency_2.get() for other in clients] == [80e6 + count * 1e6] * 3
        for qrf in clients:
            qrf.close()
        slow.sendall(b"ION\r\n")
        assert slow.recv(100) == b"UC: 1.4.2, FPGA: 0.5.3\r\n"


def test_a_broken_connection_and_split_replies(synth: Synthesizer) -> None:
    qrf = synth.driver()
    synth.sim.faults.switch("disconnect")
    with pytest.raises(NotConnectedError, match="aom at"):
        qrf.frequency_1.get()
    synth.sim.faults.switch("split", 0.02)
    assert qrf.frequency_1.get() == 80e6
    qrf.close()
