"""The Atlas driver against the simulated Atlas, over real sockets and in virtual time."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.single_quantum_atlas import SingleQuantumAtlas
from drivers.websq import JsonCutter, parse_counts
from labctl.clock import Clock, ScaledClock, SystemClock, VirtualClock
from labctl.errors import (
    BadAnswerError,
    ConfigError,
    LimitError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
)
from labctl.sim.inprocess import Bench
from labctl.sim.instrument import Send, Session
from labctl.sim.server import SimServer
from labctl.transport import SimTransport, connect
from simulated_hw.single_quantum_atlas import SimAtlas
from simulated_hw.world.parts import Nanowire

LIGHT_HZ = 10_000.0


class Recording(SimAtlas):
    """Keeps the bytes that come on the control line."""

    received: bytes = b""
    sessions: dict[str, Session]

    def session(self, port: str, send: Send) -> Session:
        session = super().session(port, send)
        self.sessions = {**getattr(self, "sessions", {}), port: session}
        receive = session.receive

        def listen(data: bytes) -> None:
            self.received += data
            receive(data)

        session.receive = listen  # type: ignore[method-assign]
        return session


@dataclass
class Laboratory:
    """Two nanowires under steady light; clicks come regularly, so that sums are exact."""

    clock: Clock = field(default_factory=lambda: VirtualClock(1000.0))
    wires: list[Nanowire] = field(default_factory=lambda: [Nanowire(), Nanowire(peak_efficiency=0.4)])
    brighter_per_s: float = 0.0
    """How fast the light grows, relative to what it was at 1000 s."""
    asked: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    def counts(self, begin_s: float, end_s: float) -> list[int]:
        self.asked.append((begin_s, end_s))
        light_hz = LIGHT_HZ * (1 + self.brighter_per_s * (begin_s - 1000.0))
        return [
            round((light_hz * wire.efficiency() + wire.dark_hz()) * (end_s - begin_s)) for wire in self.wires
        ]

    def atlas(self) -> Recording:
        return Recording(self.wires, self.counts, self.clock.now, epoch_s=1.7e9, auto_bias_s=3.0)


@dataclass
class Setup:
    lab: Laboratory
    sim: Recording
    control: int
    counts: int

    def driver(self, timeout_s: float = 1.0, **options: int) -> SingleQuantumAtlas:
        address = f"tcp://127.0.0.1:{self.control}?counts={self.counts}"
        device = SingleQuantumAtlas(connect(address, "snspd", timeout_s), "snspd", **options)
        device.timeout_s = device.control.timeout_s = timeout_s
        return device


@pytest.fixture
def setup() -> Iterator[Setup]:
    lab = Laboratory()
    sim = lab.atlas()
    server = SimServer(clock=lab.clock)
    ports = [server.serve_tcp(sim, name) for name in sim.ports]
    with server:
        yield Setup(lab, sim, *ports)


@pytest.fixture
def atlas(setup: Setup) -> Iterator[SingleQuantumAtlas]:
    with setup.driver() as device:
        yield device


@dataclass
class Virtual:
    clock: VirtualClock
    lab: Laboratory
    sim: Recording
    device: SingleQuantumAtlas


@pytest.fixture
def virtual() -> Iterator[Virtual]:
    """The same bytes without sockets, where time passes at once."""
    clock = VirtualClock(1000.0)
    lab = Laboratory(clock)
    sim = lab.atlas()
    bench = Bench({"snspd": sim}, clock)
    transport = SimTransport(
        "sim://snspd",
        "snspd",
        1.0,
        lambda address: bench.connection(address.target, address.options.get("port", "")),
        clock,
    )
    with SingleQuantumAtlas(transport, "snspd") as device:
        yield Virtual(clock, lab, sim, device)


def switch_on(device: SingleQuantumAtlas) -> None:
    device.bias.set([20e-6, 20e-6])
    device.trigger_level.set([0.1, 0.1])
    device.enabled.set(True)


def test_settings_reach_the_nanowires_and_come_back(setup: Setup, atlas: SingleQuantumAtlas) -> None:
    atlas.bias.set([20.5e-6, 18e-6])
    atlas.trigger_level.set([0.1, -0.2])
    atlas.enabled.set(True)
    atlas.measurement_period.set(0.02)
    assert atlas.bias.get() == [20.5e-6, 18e-6]
    assert atlas.trigger_level.get() == [0.1, -0.2]
    assert atlas.enabled.get() is True
    assert atlas.measurement_period.get() == 0.02
    assert atlas.detectors.get() == 2
    assert atlas.bias_voltage.get() == pytest.approx([20.5e-6 * 50, 18e-6 * 50])
    wires = setup.lab.wires
    assert [wire.bias_a for wire in wires] == pytest.approx([20.5e-6, 18e-6])
    assert [wire.trigger_v for wire in wires] == pytest.approx([0.1, -0.2])
    assert all(wire.enabled for wire in wires)
    assert atlas.identity() == "Single Quantum WebSQ, 2 detectors"
    assert atlas.last_error.get() == ""


def test_the_bytes_of_a_setting(setup: Setup, atlas: SingleQuantumAtlas) -> None:
    setup.sim.received = b""
    atlas.bias.set([20e-6, 11e-6])
    assert setup.sim.received.startswith(
        b'{"command": "SetAllBiasCurrents", "label": "BiasCurrent", "value": [20.0, 11.0]}'
    )
    setup.sim.received = b""
    atlas.measurement_period.set(0.02)
    assert setup.sim.received.startswith(
        b'{"command": "SetMeasurementPeriod", "label": "InptMeasurementPeriod", "value": 20.0}'
    )


def test_limits_are_refused_before_anything_is_sent(setup: Setup, atlas: SingleQuantumAtlas) -> None:
    setup.sim.received = b""
    with pytest.raises(LimitError, match=r"snspd\.bias: 70 uA is outside 0 A to 50 uA; nothing was sent"):
        atlas.bias.set([10e-6, 70e-6])  # the instrument's bound is twice the critical current
    with pytest.raises(LimitError, match="has 1 numbers, expected 2"):
        atlas.bias.set([10e-6])
    with pytest.raises(LimitError, match="outside"):
        atlas.trigger_level.set([0.0, 2.0])
    with pytest.raises(LimitError, match="outside"):
        atlas.measurement_period.set(1e-4)
    with pytest.raises(LimitError, match="read-only"):
        atlas.count_rate.set([1.0, 1.0])
    with pytest.raises(LimitError, match="must be positive"):
        atlas.auto_bias([10.0, -1.0])
    assert setup.sim.received == b""


def test_rates_follow_the_light_and_the_bias(virtual: Virtual) -> None:
    atlas = virtual.device
    assert atlas.count_rate.get() == [0.0, 0.0]
    switch_on(atlas)
    virtual.clock.advance(0.2)
    assert atlas.count_rate.get() == pytest.approx([8500.0, 4000.0], abs=20)
    atlas.bias.set([20e-6, 10e-6])  # the second far below its plateau
    virtual.clock.advance(0.2)
    first, second = atlas.count_rate.get()
    assert first == pytest.approx(8500, abs=20) and second < 10


def test_a_new_period_does_not_mix_with_old_lines(virtual: Virtual) -> None:
    atlas = virtual.device
    switch_on(atlas)
    virtual.clock.advance(0.5)
    before = atlas.count_rate.get()
    atlas.measurement_period.set(0.5)
    assert atlas.count_rate.get() == pytest.approx(before, rel=1e-2)
    atlas.measurement_period.set(0.01)
    assert atlas.count_rate.get() == pytest.approx(before, rel=3e-2)


def test_a_line_of_the_old_period_that_comes_late_is_not_used(virtual: Virtual) -> None:
    atlas = virtual.device
    switch_on(atlas)
    virtual.clock.advance(0.5)
    before = atlas.count_rate.get()
    atlas.measurement_period.set(0.2)
    virtual.sim.faults.switch("late", 0.05)
    virtual.sim.sessions["counts"].send(b"1.0,9999,9999\n")
    virtual.sim.faults.clear()
    assert atlas.count_rate.get() == pytest.approx(before, rel=1e-2)


def test_a_reading_waits_for_the_whole_burst(setup: Setup, atlas: SingleQuantumAtlas) -> None:
    setup.sim.faults.switch("split", 0.01)  # each of the burst's messages takes so long
    for bias_a in (5e-6, 7e-6, 9e-6):
        setup.lab.wires[1].bias_a = bias_a  # behind the driver's back: no broadcast
        assert atlas.bias.get() == [0.0, bias_a]


def test_counts_are_of_exactly_the_periods_asked_for(virtual: Virtual) -> None:
    atlas = virtual.device
    switch_on(atlas)
    virtual.lab.brighter_per_s = 1.0  # so that each period has its own number of clicks
    atlas.count_rate.get()  # somebody reads along already
    virtual.clock.advance(0.55)  # in the middle of a period
    virtual.lab.asked.clear()
    called_s = virtual.clock.now()
    total = atlas.counts(1.0)
    counted = [pair for pair in virtual.lab.asked if pair[0] >= called_s - 1e-9][:10]
    assert counted[-1][1] - counted[0][0] == pytest.approx(1.0)
    assert total == [sum(each) for each in zip(*(virtual.lab.counts(*pair) for pair in counted), strict=True)]
    with pytest.raises(LimitError, match=r"0\.25 s is not a whole number of measurement periods of 0\.1 s"):
        atlas.counts(0.25)
    with pytest.raises(LimitError, match="not a whole number"):
        atlas.counts(float("nan"))


def test_counts_that_nobody_read_for_long_are_left_behind(virtual: Virtual) -> None:
    virtual.device.count_rate.get()
    first = virtual.sim.sessions["counts"]
    virtual.clock.advance(20)
    virtual.device.count_rate.get()
    assert virtual.sim.sessions["counts"] is first
    virtual.clock.advance(40)
    virtual.device.count_rate.get()
    assert virtual.sim.sessions["counts"] is not first


def test_counts_over_a_socket() -> None:
    clock = ScaledClock(20.0)
    lab = Laboratory(clock)
    sim = lab.atlas()
    server = SimServer(clock=clock)
    control, counts = (server.serve_tcp(sim, name) for name in sim.ports)
    with server, SingleQuantumAtlas(connect(f"tcp://127.0.0.1:{control}?counts={counts}", "snspd")) as atlas:
        switch_on(atlas)
        atlas.counts(0.1)  # a period that began after the switching on
        with socket.create_connection(("127.0.0.1", counts)) as plain:
            plain.settimeout(5)
            answer = b""
            while answer.count(b"\n") < 3:
                answer += plain.recv(4096)
            stamps = [parse_counts(line, 2)[0] for line in answer.splitlines()[:3]]
        assert stamps[1] - stamps[0] == pytest.approx(0.1, abs=2e-3)
        assert 1.7e9 < stamps[0] <= 1.7e9 + clock.now()
        assert atlas.count_rate.get() == pytest.approx([8500.0, 4000.0], abs=20)
        assert atlas.counts(1.0) == pytest.approx([8500, 4000], abs=20)


def test_safe_takes_the_bias_away_and_switches_off(setup: Setup, atlas: SingleQuantumAtlas) -> None:
    switch_on(atlas)
    atlas.call("safe")
    assert [(wire.bias_a, wire.enabled) for wire in setup.lab.wires] == [(0.0, False)] * 2


def test_safe_switches_off_even_if_the_bias_is_not_confirmed(setup: Setup) -> None:
    with setup.driver(timeout_s=0.2) as atlas:
        switch_on(atlas)
        setup.sim.faults.switch("silent")
        with pytest.raises(NoAnswerError):
            atlas.safe()
        setup.sim.faults.clear()
        assert atlas.enabled.get() is False
    assert [wire.bias_a for wire in setup.lab.wires] == [0.0, 0.0]


def test_not_ready_says_why(virtual: Virtual) -> None:
    atlas, wires = virtual.device, virtual.lab.wires
    assert atlas.not_ready() == "the detectors are off"
    atlas.enabled.set(True)
    assert atlas.not_ready() == "no bias on detector 1, 2"
    switch_on(atlas)
    virtual.clock.advance(11)
    assert atlas.not_ready() == ""
    virtual.sim.latch(2)
    virtual.clock.advance(5)
    assert atlas.not_ready() == ""  # too early to tell from a detector in the dark
    virtual.clock.advance(6)
    assert atlas.not_ready().startswith("detector 2 counted nothing for 10 s with 20 uA bias: latched?")
    assert atlas.bias_voltage.get()[1] == pytest.approx(0.1)
    atlas.bias.set([20e-6, 0.0])
    atlas.bias.set([20e-6, 20e-6])
    assert not wires[1].latched
    virtual.clock.advance(11)
    assert atlas.not_ready() == ""


def test_too_much_bias_latches(virtual: Virtual) -> None:
    atlas = virtual.device
    switch_on(atlas)
    atlas.bias.set([26e-6, 20e-6])
    atlas.bias.set([20e-6, 20e-6])
    assert [wire.latched for wire in virtual.lab.wires] == [True, False]


def test_auto_bias_finds_the_dark_counts_wanted(virtual: Virtual) -> None:
    atlas = virtual.device
    with pytest.raises(RefusedError, match="the detectors are off"):
        atlas.auto_bias([10.0, 10.0])
    switch_on(atlas)
    began_s = virtual.clock.now()
    bias = atlas.auto_bias([2.0, 5.0])
    assert virtual.clock.now() - began_s >= 3.0
    assert bias == pytest.approx([wire.bias_a for wire in virtual.lab.wires], abs=1e-9)
    assert [wire.dark_hz() for wire in virtual.lab.wires] == pytest.approx([2.0, 5.0], rel=0.01)


def test_auto_bias_is_bounded(virtual: Virtual) -> None:
    switch_on(virtual.device)
    with pytest.raises(NoAnswerError, match=r"snspd at sim://snspd: the automatic bias still runs after 1 s"):
        virtual.device.auto_bias([2.0, 5.0], 1.0)
    virtual.device.safe()  # ends it
    assert virtual.device.control.ask("StartAutoIV") is False


def test_a_refusal_names_what_was_refused(setup: Setup, atlas: SingleQuantumAtlas) -> None:
    with pytest.raises(
        RefusedError, match=r"snspd at tcp://127.*ErrorMessage: SetAllBiasCurrents: \[99\.0, 0\]"
    ):
        atlas.apply("SetAllBiasCurrents", "BiasCurrent", [99.0, 0])
    assert atlas.detectors.get() == 2


def test_a_setting_without_effect_is_a_refusal(setup: Setup) -> None:
    with setup.driver(timeout_s=0.2) as atlas:
        with pytest.raises(RefusedError, match=r"had no effect: BiasCurrent is \[0\.0, 0\.0\]"):
            atlas.apply("SetAllTriggerLevels", "BiasCurrent", [7.0, 7.0])


def test_the_wrong_number_of_detectors_is_noticed(setup: Setup) -> None:
    with pytest.raises(RefusedError, match=r"has 2 detectors, expected 4; set `detectors` in the lab file"):
        setup.driver(detectors=4).open()
    with pytest.raises(ConfigError, match="must be positive"):
        setup.driver(detectors=0)


def test_an_address_without_counts_port_is_explained(setup: Setup) -> None:
    transport = connect(f"tcp://127.0.0.1:{setup.control}", "snspd")
    with (
        SingleQuantumAtlas(transport, "snspd") as atlas,
        pytest.raises(ConfigError, match="missing option 'counts'"),
    ):
        atlas.count_rate.get()


def test_several_clients_hear_each_other(setup: Setup, atlas: SingleQuantumAtlas) -> None:
    with setup.driver() as other:
        atlas.bias.set([5e-6, 6e-6])
        assert other.bias.get() == [5e-6, 6e-6]
        other.measurement_period.set(0.05)
        assert atlas.measurement_period.get() == 0.05
    with socket.create_connection(("127.0.0.1", setup.control)) as gone:
        gone.sendall(b'{"request": "labelProps"')  # hangs up in the middle
    assert atlas.bias.get() == [5e-6, 6e-6]
    with pytest.raises(RefusedError):
        atlas.apply("SetAllBiasCurrents", "BiasCurrent", [-1.0, 0.0])


def test_broadcasts_are_not_taken_for_answers(setup: Setup, atlas: SingleQuantumAtlas) -> None:
    for _ in range(3):
        setup.sim.broadcast("Temperature", 2.5)
        setup.sim.broadcast("BiasCurrent", [99.0, 99.0])  # an old setting, still under way
        assert atlas.bias.get() == [0.0, 0.0]
    assert atlas.control.labels["Temperature"] == 2.5


def test_an_error_nobody_asked_for_is_kept(virtual: Virtual) -> None:
    virtual.sim.broadcast("ErrorCryostat", "too warm")
    assert virtual.device.last_error.get() == "ErrorCryostat: too warm"
    assert virtual.device.bias.get() == [0.0, 0.0]


def test_glued_and_split_messages_are_read(setup: Setup, atlas: SingleQuantumAtlas) -> None:
    setup.sim.glue()
    switch_on(atlas)
    assert atlas.bias.get() == [20e-6, 20e-6]
    setup.sim.glue(False)
    setup.sim.faults.switch("split", 0.002)
    assert atlas.trigger_level.get() == [0.1, 0.1]


def test_silence_names_device_and_address(setup: Setup) -> None:
    with setup.driver(timeout_s=0.15) as atlas:
        setup.sim.faults.switch("silent")
        with pytest.raises(NoAnswerError, match=rf"snspd at tcp://127\.0\.0\.1:{setup.control}.*labelProps"):
            atlas.bias.get()
        with pytest.raises(NoAnswerError, match="BiasVoltage"):
            atlas.bias_voltage.get()
        with pytest.raises(NoAnswerError, match="no counts within"):
            atlas.counts_line().next(0.1)
        setup.sim.faults.clear()
        assert atlas.bias.get() == [0.0, 0.0]


def test_a_late_reply_is_not_the_next_answer(setup: Setup) -> None:
    with setup.driver(timeout_s=0.15) as atlas:
        setup.sim.faults.switch("late", 0.25)
        with pytest.raises(NoAnswerError):
            atlas.bias.get()
        setup.sim.faults.clear()
        atlas.bias.set([3e-6, 4e-6])
        for _ in range(10):
            assert atlas.bias.get() == [3e-6, 4e-6]
            atlas.control.listen(0.05)  # the late replies would come now


@pytest.mark.parametrize("fault", ["garbage", "garble"])
def test_garbage_is_a_bad_answer_and_then_it_recovers(setup: Setup, fault: str) -> None:
    with setup.driver(timeout_s=0.3) as atlas:
        setup.sim.faults.switch(fault)
        with pytest.raises((BadAnswerError, NoAnswerError), match="snspd at tcp"):
            atlas.bias.get()
        setup.sim.faults.clear()
        with suppress(BadAnswerError):  # garbage that was on its way still
            atlas.bias.get()
        assert atlas.bias.get() == [0.0, 0.0]


def test_garbage_on_the_counts_line(virtual: Virtual) -> None:
    atlas = virtual.device
    assert atlas.count_rate.get() == [0.0, 0.0]
    virtual.sim.faults.switch("garbage")
    with pytest.raises(BadAnswerError, match="counts port sent"):
        atlas.counts_line().next(1.0)
        atlas.counts_line().next(1.0)
    virtual.sim.faults.clear()
    assert atlas.count_rate.get() == [0.0, 0.0]


def test_a_lost_connection_comes_back(setup: Setup, atlas: SingleQuantumAtlas) -> None:
    setup.sim.faults.switch("disconnect")
    with pytest.raises(NotConnectedError, match="snspd at tcp"):
        atlas.bias.get()
    assert atlas.bias.get() == [0.0, 0.0]
    setup.sim.faults.switch("refuse")
    with pytest.raises((NotConnectedError, NoAnswerError)):
        for _ in range(200):
            atlas.bias.get()
            atlas.control.listen(0.01)
    setup.sim.faults.clear()
    assert atlas.bias.get() == [0.0, 0.0]


def test_the_simulator_survives_garbage_and_half_messages(setup: Setup, atlas: SingleQuantumAtlas) -> None:
    with socket.create_connection(("127.0.0.1", setup.control)) as plain:
        plain.sendall(b'\x00\xff garbage }}} [1,2] {"a":')
        plain.sendall(b'1}{"request":["x"]}{"command":"SetAllBiasCurrents","value":"much"}{{{\x17')
        plain.sendall(b'{"command":"SetMeasurementPeriod","value":' + b"9" * 400 + b'}{"request":"Num')
        plain.sendall(b'berOfDetectors"}')
        plain.settimeout(2)
        answer = b""
        while b"NumberOfDetectors" not in answer or not answer.endswith(b"\x17"):
            answer += plain.recv(4096)
    labels = [json.loads(part)["label"] for part in answer.split(b"\x17") if part]
    assert labels.count("NumberOfDetectors") == 1
    assert set(labels) == {"NumberOfDetectors", "ErrorMessage"}
    SystemClock().sleep(0.05)  # every client is told of the errors
    atlas.last_error.get()
    assert atlas.detectors.get() == 2


def test_it_describes_itself(atlas: SingleQuantumAtlas) -> None:
    described = atlas.describe()
    assert set(described["actions"]) == {"safe", "auto_bias", "counts"}
    assert described["signals"]["bias"]["limits"] == (0.0, pytest.approx(50e-6))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=6)


@given(OBJECTS, st.sampled_from([b"\x17", b"", b"\x17\n", b" "]), st.data())
def test_the_cutter_finds_every_object_in_pieces_of_any_size(
    objects: list[dict[str, object]], between: bytes, data: st.DataObject
) -> None:
    ascii_only = data.draw(st.booleans())
    stream = between.join(
        json.dumps(each, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass") for each in objects
    )
    cutter, found, at = JsonCutter(), list[object](), 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream)))
        found += cutter.feed(stream[at : at + step])
        at += step
    assert found == objects
    assert not cutter.garbage


@given(st.binary(max_size=200), OBJECTS)
def test_the_cutter_recovers_after_garbage(garbage: bytes, objects: list[dict[str, object]]) -> None:
    cutter = JsonCutter()
    cutter.feed(garbage)
    stream = b"".join(json.dumps(each).encode() + b"\x17" for each in objects)
    assert cutter.feed(b"\x17" + stream) == objects
    assert len(cutter.garbage) <= 80


@given(st.binary(max_size=60))
def test_lines_of_counts_parse_or_say_why(line: bytes) -> None:
    try:
        time_s, counts = parse_counts(line, 2)
    except ValueError:
        return
    assert time_s >= 0 and len(counts) == 2 and min(counts) >= 0


@given(st.floats(0, 2e9), st.lists(st.integers(0, 10**12), min_size=1, max_size=8))
def test_lines_of_counts_come_back(time_s: float, counts: list[int]) -> None:
    line = f"{time_s!r},{','.join(map(str, counts))}".encode()
    assert parse_counts(line, len(counts)) == (time_s, counts)
