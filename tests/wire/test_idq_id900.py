"""The ID900 driver against the simulated ID900, over real ZeroMQ sockets and in virtual time."""

# pyright: standard
# (pyzmq carries incomplete types)

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from drivers.idq_id900 import IdqId900
from labctl.clock import VirtualClock
from labctl.errors import (
    BadAnswerError,
    ConfigError,
    LimitError,
    NoAnswerError,
    RefusedError,
)
from labctl.sim.inprocess import Bench
from labctl.sim.zmq_server import ZmqServer
from labctl.transport import SimTransport, connect
from simulated_hw.id900_scpi import Command, ScpiError, header, link, parse_chain, whole
from simulated_hw.id900_tags import Counter, Histogram, Recorder, TagReader
from simulated_hw.idq_id900 import SimId900
from simulated_hw.world.parts import Tagger

S = 1_000_000_000_000
"""Picoseconds in a second."""


@dataclass
class Laboratory:
    """A tagger whose inputs 1 to 4 are channels 0 to 3, and its clock."""

    clock: VirtualClock = field(default_factory=lambda: VirtualClock(10.0))
    clicks: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    tagger: Tagger = field(init=False)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.tagger = Tagger(4, lambda: [*self.clicks])

    def click(self, *tags: tuple[int, int]) -> list[tuple[int, int]]:
        """Clicks at (ps after now, input), recorded as the world does; returns their times of the laboratory."""
        now_ps = round(self.clock.now() * S)
        with self.lock:
            for after_ps, number in tags:
                self.clicks[number - 1] += 1
                self.tagger.record(now_ps + after_ps, number - 1)
        return [(now_ps + after_ps, number) for after_ps, number in tags]

    def sim(self, **options: int) -> SimId900:
        return SimId900(self.tagger, self.clock.now, np.random.default_rng(1), **options)


@dataclass
class Setup:
    lab: Laboratory
    sim: SimId900
    ports: dict[str, int]

    @property
    def address(self) -> str:
        options = "&".join(f"{name}={port}" for name, port in self.ports.items() if name != "command")
        return f"zmq://127.0.0.1:{self.ports['command']}?{options}"

    def driver(self, timeout_s: float = 2.0) -> IdqId900:
        device = IdqId900(connect(self.address, "tagger", timeout_s), "tagger")
        device.timeout_s = timeout_s
        return device


@pytest.fixture
def setup() -> Iterator[Setup]:
    lab = Laboratory()
    sim = lab.sim()
    server = ZmqServer(lab.lock, lab.clock)
    ports = {name: server.serve(sim, name) for name in sim.ports}
    with server:
        yield Setup(lab, sim, ports)


@pytest.fixture
def tagger(setup: Setup) -> Iterator[IdqId900]:
    with setup.driver() as device:
        yield device


@dataclass
class Virtual:
    lab: Laboratory
    sim: SimId900
    device: IdqId900


@pytest.fixture
def virtual() -> Iterator[Virtual]:
    """The same frames without sockets, where time passes at once."""
    lab = Laboratory()
    sim = lab.sim()
    bench = Bench({"tagger": sim}, lab.clock)
    transport = SimTransport(
        "sim://tagger",
        "tagger",
        1.0,
        lambda address: bench.connection(address.target, address.options.get("port", "")),
        lab.clock,
    )
    with IdqId900(transport, "tagger") as device:
        for number in (1, 2, 3, 4):
            device.signal(f"enabled_{number}").set(True)
        yield Virtual(lab, sim, device)


def test_settings_come_back(tagger: IdqId900) -> None:
    assert tagger.identity().startswith("IDQ ID900")
    for number in (1, 2, 3, 4):
        tagger.signal(f"threshold_{number}").set(-0.1 * number)
        tagger.signal(f"enabled_{number}").set(number % 2 == 0)
        tagger.signal(f"delay_{number}").set(number * 1.5e-9)
    for number in (1, 2, 3, 4):
        assert tagger.signal(f"threshold_{number}").get() == pytest.approx(-0.1 * number)
        assert tagger.signal(f"enabled_{number}").get() is (number % 2 == 0)
        assert tagger.signal(f"delay_{number}").get() == number * 1.5e-9
    tagger.integration_time.set(0.25)
    assert tagger.integration_time.get() == 0.25
    assert tagger.resolution.get() == 100e-12
    tagger.high_resolution()
    assert tagger.resolution.get() == 13e-12
    assert tagger.count_1.get() == 0


def test_limits_are_refused_before_anything_is_sent(setup: Setup, tagger: IdqId900) -> None:
    asked: list[str] = []
    answer = setup.sim.answer
    setup.sim.answer = lambda text: (asked.append(text), answer(text))[1]  # type: ignore[method-assign]
    with pytest.raises(LimitError, match=r"tagger\.threshold_1: 3 V is outside -2 V to 2 V"):
        tagger.threshold_1.set(3.0)
    with pytest.raises(LimitError, match="not a multiple of 1 ps"):
        tagger.delay_2.set(1.5e-13)
    with pytest.raises(LimitError, match="outside"):
        tagger.integration_time.set(0.0)
    with pytest.raises(LimitError, match="read-only"):
        tagger.resolution.set(1e-12)
    with pytest.raises(LimitError, match="input 5 is not one of 1, 2, 3, 4"):
        tagger.start_stream(5)
    with pytest.raises(LimitError, match="gate from 5 ps to 5 ps is empty"):
        tagger.gate(1, 2, 5, 5)
    assert asked == []
    with pytest.raises(LimitError, match="multiple of 100 ps and 1 to 16384"):
        tagger.histogram(1, 2, 150, 10)
    assert asked == ["DEVI:RES:BWID?"]


def test_counters_show_the_last_whole_cycle(virtual: Virtual) -> None:
    lab, device = virtual.lab, virtual.device
    device.integration_time.set(1.0)
    lab.clicks[0] += 500
    lab.clicks[1] += 7
    assert device.count_1.get() == 0  # the first cycle still runs
    lab.clock.advance(1.0)
    assert (device.count_1.get(), device.count_2.get()) == (500, 7)
    lab.clock.advance(0.5)
    lab.clicks[0] += 50
    assert device.count_1.get() == 500
    lab.clock.advance(0.5)
    assert (device.count_1.get(), device.count_2.get()) == (50, 0)
    device.enabled_1.set(False)
    lab.clicks[0] += 1000
    lab.clock.advance(1.0)
    assert device.count_1.get() == 0
    device.command("INPU2:COUN:MODE ACCU;RESE")
    lab.clicks[1] += 3
    assert device.count_2.get() == 3


def test_the_histogram_is_that_of_the_tags(virtual: Virtual) -> None:
    lab, device = virtual.lab, virtual.device
    assert device.histogram(1, 2, 100, 50) == [0] * 50
    rng = np.random.default_rng(7)
    expected = [0] * 50
    for begin in range(0, 40_000_000, 40_000):
        after = int(rng.integers(0, 80)) * 100
        lab.click((begin, 1), (begin + after, 2))
        if after < 5000:
            expected[after // 100] += 1
    assert device.histogram(1, 2, 100, 50) == expected
    assert sum(expected) > 100
    assert device.histogram(1, 2, 100, 50) == expected  # reading does not empty it
    lab.click((0, 1), (700, 2), (900, 2))
    expected[7] += 1
    expected[9] += 1  # every stop counts, against the same reference
    assert device.histogram(1, 2, 100, 50) == expected
    device.clear_histogram()
    assert device.histogram(1, 2, 100, 50) == [0] * 50
    lab.click((0, 1), (700, 2))
    assert device.histogram(2, 1, 100, 50) == [0] * 50  # another histogram begins empty


def test_a_histogram_goes_on_if_the_instrument_spells_its_settings_otherwise(virtual: Virtual) -> None:
    answer = virtual.sim.answer
    virtual.sim.answer = lambda text: answer(text).replace("TSCO", "tsco")  # type: ignore[method-assign]
    virtual.device.histogram(1, 2, 100, 10)
    virtual.lab.click((0, 1), (700, 2))
    assert sum(virtual.device.histogram(1, 2, 100, 10)) == 1
    assert sum(virtual.device.histogram(1, 2, 100, 10)) == 1


def test_delays_move_the_histogram(virtual: Virtual) -> None:
    device = virtual.device
    device.delay_2.set(1e-9)
    device.histogram(1, 2, 100, 50)
    virtual.lab.click((0, 1), (700, 2))
    assert device.histogram(1, 2, 100, 50).index(1) == 17
    device.delay_1.set(1.5e-9)
    device.clear_histogram()
    virtual.lab.click((100_000, 1), (100_700, 2))
    assert device.histogram(1, 2, 100, 50).index(1) == 2


def test_a_gate_lets_through_what_falls_into_it(virtual: Virtual) -> None:
    lab, device = virtual.lab, virtual.device
    device.histogram(1, 2, 100, 100)
    device.gate(2, 3, 1000, 3000)
    lab.click((0, 1), (0, 3), (900, 2), (1000, 2), (2900, 2), (3000, 2), (5000, 2))
    found = device.histogram(1, 2, 100, 100)
    assert [at for at, count in enumerate(found) if count] == [10, 29]
    device.ungate(2)
    device.clear_histogram()
    lab.click((50_000, 1), (50_900, 2))
    assert device.histogram(1, 2, 100, 100).index(1) == 9


def test_start_is_an_input_of_its_own() -> None:
    lab = Laboratory()
    sim = lab.sim(start_channel=2)
    sim.answer("STAR:ENAB ON;:INPU2:ENAB ON;:HIST1:REF:LINK STAR;:HIST1:STOP:LINK INPU2;:HIST1:BCOU 10")
    lab.click((0, 3), (400, 2))
    assert sim.answer("HIST1:DATA?") == "[0,0,0,0,1,0,0,0,0,0]"
    assert sim.answer("STAR:COUN:MODE ACCU;RESE;:STAR:COUN?") == "0"
    assert (
        sim.answer("INPU0:ENAB?;:DELA0:VALU?;:HIST5:DATA?").splitlines() == ['-222,"Data out of range"'] * 3
    )


def test_only_records_are_recorded(virtual: Virtual) -> None:
    lab, device = virtual.lab, virtual.device
    device.histogram(1, 2, 100, 10)
    assert device.recording.get() is False
    device.recording.set(True)
    assert device.recording.get() is True
    lab.click((0, 1), (300, 2))
    lab.clock.advance(1.0)
    device.recording.set(False)
    assert device.recording.get() is False
    lab.click((0, 1), (500, 2))
    assert device.histogram(1, 2, 100, 10) == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    device.command("REC:NUM 2;DUR 1e12;PLAY")
    assert device.recording.get() is True
    lab.clock.advance(2.0)
    assert device.recording.get() is False


def test_a_stream_brings_the_tags_recorded_since_its_start(setup: Setup, tagger: IdqId900) -> None:
    tagger.enabled_1.set(True)
    tagger.delay_1.set(5e-9)
    setup.lab.click((0, 1))
    tagger.enabled_2.set(True)  # an exchange: the click from before has gone by
    tagger.start_stream(1)
    sent = setup.lab.click(*((k * 100_000, 1) for k in range(20_000)), (50, 2))
    tags: list[int] = []
    while len(tags) < 20_000:
        more = tagger.read_tags(1, 2.0)
        assert more
        tags += more
    assert tags == [time_ps + 5000 for time_ps, number in sent if number == 1]
    with pytest.raises(RefusedError, match="streamed already"):
        tagger.start_stream(1)
    late = setup.lab.click((3 * S, 1))
    tagger.delay_1.get()
    tagger.stop_stream(1)
    rest: list[int] = []
    with pytest.raises(RefusedError, match="no stream of input 1"):  # once the end has come
        for _ in range(10):
            rest += tagger.read_tags(1, 1.0)
    assert rest == [late[0][0] + 5000]
    with pytest.raises(RefusedError, match="is not streamed"):
        tagger.stop_stream(1)


def test_streams_in_virtual_time(virtual: Virtual) -> None:
    lab, device = virtual.lab, virtual.device
    device.start_stream(1)
    device.start_stream(3)
    sent = lab.click((0, 3), (1000, 1), (2000, 1))
    assert device.read_tags(1) == [sent[1][0], sent[2][0]]
    assert device.read_tags(3) == [sent[0][0]]
    assert device.read_tags(3, 0.5) == []
    device.stop_stream(3)
    assert device.read_tags(3) == []
    with pytest.raises(RefusedError, match="no stream"):
        device.read_tags(3)


def test_safe_ends_what_others_left_behind(setup: Setup, tagger: IdqId900) -> None:
    with setup.driver() as other:
        other.start_stream(2)
        other.recording.set(True)
    with pytest.raises(RefusedError, match=r"tagger at zmq://.*refused 'start-stream.*in use"):
        tagger.start_stream(2)
    tagger.call("safe")
    assert tagger.recording.get() is False
    assert not any(setup.sim.sending)
    tagger.start_stream(2)
    tagger.safe()


def test_safe_goes_on_after_a_failure(setup: Setup) -> None:
    with setup.driver(timeout_s=0.2) as tagger:
        tagger.recording.set(True)
        tagger.start_stream(1)
        setup.sim.faults.switch("drop", 1)
        with pytest.raises(NoAnswerError, match="REC:STOP"):
            tagger.safe()
        assert json.loads(setup.sim.service.answer("list")) == []
        assert tagger.recording.get() is False  # it was done, only the answer was lost


def test_not_ready_names_the_input(setup: Setup, tagger: IdqId900) -> None:
    tagger.enabled_2.set(True)
    assert tagger.not_ready() == ""
    setup.sim.miscalibrate(3)
    assert tagger.not_ready() == ""  # it is off
    setup.sim.miscalibrate(2)
    assert tagger.not_ready() == "input 2 reports error 1: call recalibrate"
    tagger.recalibrate()
    assert tagger.not_ready() == ""
    setup.sim.input_errors[2] = 1002
    assert tagger.not_ready() == "input 2 reports error 1002: check its rate and threshold"


def test_refusals_name_command_and_answer(tagger: IdqId900) -> None:
    with pytest.raises(
        RefusedError, match=r"tagger at zmq://.*'REC:NONSENSE 1' was answered with .*Undefined header"
    ):
        tagger.command("REC:NONSENSE 1")
    with pytest.raises(RefusedError, match="Undefined header"):
        tagger.query_whole("INPU1:NONSENSE?")
    with pytest.raises(RefusedError, match="Data out of range"):
        tagger.command("HIST1:BCOU 99999")
    with pytest.raises(BadAnswerError, match="expected a whole number"):
        tagger.query_whole("*IDN?")
    with pytest.raises(BadAnswerError, match="expected 3 lines"):
        tagger.exchange("INPU1:COUN?;:INPU2:COUN?", 3)


def test_another_instrument_is_noticed(setup: Setup) -> None:
    setup.sim.answer = lambda text: "ACME,DMM"  # type: ignore[method-assign]
    with pytest.raises(RefusedError, match="is 'ACME,DMM', expected an ID900"):
        setup.driver().open()


def test_an_address_without_service_is_explained(setup: Setup) -> None:
    transport = connect(f"zmq://127.0.0.1:{setup.ports['command']}", "tagger")
    with IdqId900(transport, "tagger") as tagger:
        with pytest.raises(ConfigError, match="missing option 'stream1'"):
            tagger.start_stream(1)
        tagger.safe()


def test_the_service_may_be_on_another_machine(setup: Setup) -> None:
    transport = connect(f"zmq://10.0.0.9:5555?dlt=6060&stream2={4243}&dlt_host=localhost", "tagger")
    device = IdqId900(transport, "tagger")
    assert device._service_address("dlt") == "zmq://localhost:6060"
    assert device._service_address("stream2", socket="pair") == "zmq://localhost:4243?socket=pair"


def test_several_clients_at_once(setup: Setup, tagger: IdqId900) -> None:
    with setup.driver() as other:
        for k in range(20):
            tagger.threshold_1.set(0.01 * k)
            assert other.threshold_1.get() == pytest.approx(0.01 * k)
    assert tagger.threshold_1.get() == pytest.approx(0.19)


def test_silence_names_device_and_address(setup: Setup) -> None:
    with setup.driver(timeout_s=0.15) as tagger:
        setup.sim.faults.switch("silent")
        with pytest.raises(
            NoAnswerError, match=rf"tagger at zmq://127\.0\.0\.1:{setup.ports['command']}.*COUN"
        ):
            tagger.count_1.get()
        with pytest.raises(NoAnswerError, match="start-stream"):
            tagger.start_stream(1)
        setup.sim.faults.clear()
        assert tagger.count_1.get() == 0


def test_nobody_listening_is_no_answer() -> None:
    device = IdqId900(connect("zmq://127.0.0.1:1", "tagger"), "tagger")
    device.timeout_s = 0.1
    with pytest.raises(NoAnswerError, match=r"tagger at zmq://127\.0\.0\.1:1: no answer to b'\*IDN\?'"):
        device.open()


@pytest.mark.parametrize("virtual_time", [False, True])
def test_a_late_reply_is_not_the_next_answer(setup: Setup, virtual: Virtual, virtual_time: bool) -> None:
    sim = virtual.sim if virtual_time else setup.sim
    with setup.driver(timeout_s=0.15) as real:
        tagger = virtual.device if virtual_time else real
        tagger.timeout_s = 0.15
        sim.faults.switch("late", 0.25)
        with pytest.raises(NoAnswerError):
            tagger.query("*IDN?")
        sim.faults.clear()
        for _ in range(8):
            assert tagger.query_whole("INPU1:COUN?") == 0
            tagger.transport.clock.sleep(0.04)


@pytest.mark.parametrize("fault", ["garbage", "garble"])
def test_garbage_is_a_bad_answer_and_then_it_recovers(setup: Setup, tagger: IdqId900, fault: str) -> None:
    setup.sim.faults.switch(fault)
    with pytest.raises((BadAnswerError, RefusedError), match="tagger at zmq"):
        tagger.threshold_1.get()
    with pytest.raises((BadAnswerError, RefusedError), match="tagger at zmq"):
        tagger.start_stream(1)
    setup.sim.faults.clear()
    assert tagger.threshold_1.get() == 0.5


def test_a_stream_of_broken_words_is_a_bad_answer(setup: Setup, tagger: IdqId900) -> None:
    tagger.start_stream(1)
    setup.sim.service._sessions["stream1"].send(b"half")
    with pytest.raises(BadAnswerError, match="sent 4 bytes, expected 64-bit time tags"):
        tagger.read_tags(1, 2.0)


def test_the_simulator_survives_garbage(setup: Setup, tagger: IdqId900) -> None:
    context = zmq.Context.instance()
    for port in ("command", "dlt"):
        with context.socket(zmq.REQ) as plain:
            plain.linger = 0
            plain.connect(f"tcp://127.0.0.1:{setup.ports[port]}")
            for junk in (
                b"",
                b"\x00\xff;;:;?",
                b"INPU1",
                b":" * 500,
                b"HIST1:BWID " + b"9" * 500,
                b'stop --id "',
            ):
                plain.send(junk)
                assert plain.poll(2000)
                plain.recv()
    with context.socket(zmq.DEALER) as odd:
        odd.linger = 0
        odd.connect(f"tcp://127.0.0.1:{setup.ports['command']}")
        odd.send(b"*IDN?")
        odd.send_multipart([b"a", b"b", b"", b"*IDN?"])
    assert tagger.count_1.get() == 0


def test_a_failing_session_does_not_stop_the_server(setup: Setup) -> None:
    with setup.driver(timeout_s=0.2) as tagger:
        answer = setup.sim.answer
        setup.sim.answer = lambda text: str(1 // 0)  # type: ignore[method-assign]
        with pytest.raises(NoAnswerError):
            tagger.count_1.get()
        setup.sim.answer = answer  # type: ignore[method-assign]
        assert tagger.count_1.get() == 0


def test_it_describes_itself(tagger: IdqId900) -> None:
    described = tagger.describe()
    assert {"histogram", "clear_histogram", "start_stream", "stop_stream", "read_tags", "safe"} <= set(
        described["actions"]
    )
    assert described["signals"]["delay_3"]["unit"] == "s"


def test_the_tag_reader_follows_a_forgetting_tagger() -> None:
    tagger = Tagger(4, lambda: [0] * 4, most_tags=10)
    reader = TagReader(tagger)
    seen: list[int] = []
    for time_ps in range(100):
        tagger.record(time_ps, time_ps % 2)
        if time_ps % 3 == 0:
            seen += [tag[0] for tag in reader.take()]
    seen += [tag[0] for tag in reader.take()]
    assert seen == [*range(100)]


@given(st.lists(st.tuples(st.floats(0.001, 3.0), st.integers(0, 50)), max_size=30), st.floats(0.1, 2.0))
def test_no_click_is_lost_or_counted_twice(steps: list[tuple[float, int]], integration_s: float) -> None:
    counter = Counter(True, integration_s)
    now_s, total = 0.0, 0
    for step_s, clicks in steps:
        now_s += step_s
        total += clicks
        counter.add(clicks, now_s)
        began_s, before = counter._cycle_began
        assert now_s - integration_s - 1e-6 <= began_s <= now_s + 1e-6
        assert 0 <= counter.value() <= before <= total
    counter.cyclic = False
    assert counter.value() == total


def test_finished_records_are_reported_once() -> None:
    recorder = Recorder(enabled=True, number=3, duration_ps=1000)
    assert recorder.finished(10) == 0
    recorder.play(100)
    assert [recorder.finished(t) for t in (100, 1099, 1100, 3100, 9000)] == [0, 0, 1, 2, 0]
    recorder.number = 0
    recorder.play(10_000)
    recorder.stop(10_500)
    assert [recorder.finished(10_500), recorder.finished(20_000)] == [1, 0]
    assert recorder.takes(10_499) and not recorder.takes(10_500)


@given(st.lists(st.integers(0, 5000), max_size=40), st.lists(st.integers(0, 5000), max_size=40))
def test_histograms_against_counting_by_hand(references: list[int], stops: list[int]) -> None:
    histogram = Histogram("INPU1", "INPU2", 10, 20)
    histogram.flush()
    histogram.add(np.array(sorted(references), np.int64), np.array(sorted(stops), np.int64))
    expected = [0] * 20
    for stop in stops:
        before = [reference for reference in references if reference <= stop]
        if before and stop - max(before) < 200:
            expected[(stop - max(before)) // 10] += 1
    assert histogram.data.tolist() == expected


NODE = st.from_regex(r"[A-Z][A-Z0-9]{0,8}", fullmatch=True)
ARGUMENT = st.from_regex(r"[!-:<-~]([ -:<-~]{0,10}[!-:<-~])?", fullmatch=True) | st.just("")


@st.composite
def chains(draw: st.DrawFn) -> tuple[str, list[Command]]:
    """A chain as written, with commands in the same block written short by chance, and what it means."""
    commands = [
        Command(tuple(path), query, argument)
        for path, query, argument in draw(
            st.lists(
                st.tuples(st.lists(NODE, min_size=1, max_size=4), st.booleans(), ARGUMENT),
                min_size=1,
                max_size=6,
            )
        )
    ]
    text, block = "", tuple[str, ...]()
    for command in commands:
        short = bool(text) and command.path[:-1] == block and draw(st.booleans())
        head = command.path[-1] if short else ("" if not text else ":") + ":".join(command.path)
        text += (
            (";" if text else "")
            + head
            + "?" * command.query
            + (f" {command.argument}" if command.argument else "")
        )
        block = command.path[:-1]
    return text, commands


@given(chains())
def test_chains_mean_what_they_say(chain: tuple[str, list[Command]]) -> None:
    text, commands = chain
    assert parse_chain(text) == commands


def test_chains_of_the_manual() -> None:
    assert [c.path for c in parse_chain("INPU1:ENAB ON;THRE -0.4V;:TSCO7:WIND:BEGI:LINK DELA3;DELAY 5")] == [
        ("INPU1", "ENAB"),
        ("INPU1", "THRE"),
        ("TSCO7", "WIND", "BEGI", "LINK"),
        ("TSCO7", "WIND", "BEGI", "DELAY"),
    ]
    assert [c.path for c in parse_chain("INPU1:COUN?;*IDN?;MODE?")] == [
        ("INPU1", "COUN"),
        ("*IDN",),
        ("INPU1", "MODE"),
    ]


@given(st.text(max_size=80))
def test_any_text_is_answered(text: str) -> None:
    sim = Laboratory().sim()
    assert all(line for line in sim.answer(text).split("\n") if line)
    assert json.loads(sim.service.answer(text)) is not None


def test_headers_are_taken_long_short_and_between() -> None:
    pattern = header("INPUt#:COUNter:INTEgration")
    for good in ("INPU1:COUN:INTE", "INPUT12:COUNTER:INTEGRATION", "INPU:COUNT:INTEG"):
        assert pattern.fullmatch(good)
    for bad in ("INP1:COUN:INTE", "INPU1:COUN", "INPU1:COUNTERS:INTE"):
        assert not pattern.fullmatch(bad)
    assert whole("1e12", 0, 10**13) == 10**12
    assert link("dela3") == "DELA3" and link("STARt") == "STAR"
    for bad in ("DELA", "INPU5", "FOO1", "STAR1"):
        with pytest.raises(ScpiError):
            link(bad)


@given(st.lists(st.integers(0, 2**63 - 1), max_size=50))
def test_stream_frames_are_little_endian_words(times: list[int]) -> None:
    sim = Laboratory().sim()
    frames: list[bytes] = []
    sim.session("stream1", frames.append)
    sim.service.answer("start-stream --address x --channel 1 --stream-port 4242")
    sim.service.add(1, times)
    assert b"".join(frames) == struct.pack(f"<{len(times)}Q", *times)
