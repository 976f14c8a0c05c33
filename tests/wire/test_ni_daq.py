"""The NI driver's roles against the simulated card, over gRPC on loopback."""

from __future__ import annotations

import ctypes.util
import platform
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import nidaqmx
import numpy as np
import pytest
from nidaqmx.constants import AcquisitionType

from drivers.ni_daq import NiAnalogOut, NiCounter, NiDevice, NiShutter
from labctl.clock import SystemClock, VirtualClock
from labctl.config import endpoints
from labctl.errors import (
    BadAnswerError,
    ConfigError,
    LimitError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
)
from labctl.transport import NidaqmxTransport, connect, parse_address
from simulated_hw.ni_daqmx import SimNiDaq
from simulated_hw.world.card_wiring import CardWiring

CLICKS_HZ = 20_000


def clicks(after_s: float, until_s: float) -> int:
    """Exactly so many a second."""
    return int(until_s * CLICKS_HZ + 1e-6) - int(after_s * CLICKS_HZ + 1e-6)


def half_seconds(after_s: float, until_s: float) -> np.ndarray[Any, Any]:
    return np.arange(int(after_s * 2 + 1e-6) + 1, int(until_s * 2 + 1e-6) + 1) / 2


@dataclass
class Card:
    """A served card and what it drives."""

    sim: SimNiDaq
    clock: VirtualClock
    port: int
    piezo_v: list[float]
    shutter: list[bool]

    def address(self, name: str = "Dev1") -> str:
        return f"nidaqmx://127.0.0.1:{self.port}/{name}"

    def transport(self, device: str = "alice.ni", timeout_s: float = 2.0) -> NidaqmxTransport:
        made = connect(self.address(), device, timeout_s)
        assert isinstance(made, NidaqmxTransport)
        return made

    def counter(self, timeout_s: float = 2.0, **options: str) -> NiCounter:
        return NiCounter(self.transport("alice.spcm", timeout_s), "alice.spcm", **options)

    def output(self, **options: Any) -> NiAnalogOut:
        return NiAnalogOut(self.transport("alice.piezo"), "alice.piezo", **options)

    def gate(self, **options: Any) -> NiShutter:
        return NiShutter(self.transport("alice.shutter"), "alice.shutter", **options)


@pytest.fixture
def card() -> Iterator[Card]:
    clock = VirtualClock()
    piezo_v: list[float] = []
    shutter: list[bool] = []
    wiring = CardWiring(
        clicks={"PFI8": clicks},
        clocks={"PFI9": half_seconds},
        outputs={"ao0": piezo_v.append},
        switches={"port0/line0": shutter.append},
    )
    sim = SimNiDaq(wiring, clock.now, np.random.default_rng(5), sleep=clock.sleep)
    yield Card(sim, clock, sim.listen(), piezo_v, shutter)
    sim.close()


# what the roles do


def test_it_knows_the_card(card: Card) -> None:
    with card.counter() as counter:
        assert counter.identity() == "PCIe-6363 01A2B3C4"
        assert counter.not_ready() == ""


def test_the_rate_is_counted_for_a_gate(card: Card) -> None:
    with card.counter() as counter:
        assert counter.gate_time.get() == 0.1
        counter.gate_time.set(0.5)
        before_s = card.clock.now()
        assert counter.rate.get() == pytest.approx(CLICKS_HZ, rel=0.005)
        assert 0.5 <= card.clock.now() - before_s < 0.6


def test_counts_in_gates(card: Card) -> None:
    with card.counter() as counter:
        assert counter.call("count", 1.0) == pytest.approx(CLICKS_HZ, abs=42)
        counts = counter.call("count_gates", 500, 1e-3)
        assert len(counts) == 500
        assert sum(counts) == pytest.approx(CLICKS_HZ / 2, abs=42)
        assert min(counts) >= 0
        assert max(counts) < 60  # 20 on average
    assert card.sim.tasks == []


def test_gates_that_the_timebase_does_not_divide_to(card: Card) -> None:
    with card.counter() as counter:
        counts, gate_s = counter._counted(100, 3.33333e-5)  # pyright: ignore[reportPrivateUsage]
        assert gate_s == 3333 / 100e6
        assert sum(counts) == pytest.approx(100 * gate_s * CLICKS_HZ, abs=42)


def test_gates_from_another_instrument(card: Card) -> None:
    with card.counter() as counter:
        counts = counter.call("count_clocked", 4, "PFI9")
        assert counts == pytest.approx([CLICKS_HZ / 2] * 4, abs=42)
        with pytest.raises(
            NoAnswerError, match=r"alice\.spcm at nidaqmx://.*PFI4.*-200284.*clock did not come"
        ):
            counter.count_clocked(1, "PFI4", 0.2)
        assert counter.count(0.1) == pytest.approx(CLICKS_HZ / 10, abs=42)


def test_another_terminal_and_other_counters(card: Card) -> None:
    with (
        card.counter(counter="ctr2", terminal="PFI8", clock="ctr3") as bright,
        card.counter(counter="ctr2", clock="ctr3") as dark,
    ):
        assert bright.count(0.1) == pytest.approx(CLICKS_HZ / 10, abs=42)
        assert dark.count(0.1) == 0


def test_a_voltage_is_set_and_measured(card: Card) -> None:
    with card.output(lowest_v=-1.0, highest_v=5.0) as piezo:
        piezo.voltage.set(3.3)
        assert card.piezo_v == pytest.approx([3.3], abs=2e-4)
        assert piezo.voltage.get() == pytest.approx(3.3, abs=2e-3)
        assert piezo.voltage.settled()
        assert piezo.describe()["signals"]["voltage"]["limits"] == (-1.0, 5.0)
        card.sim.card.drive("ao0", 1.0)  # somebody else
        assert not piezo.voltage.settled()


def test_while_the_inputs_are_taken_the_voltage_is_the_one_last_set(card: Card) -> None:
    with card.output() as piezo:
        with nidaqmx.Task(grpc_options=piezo.nidaqmx.session("")) as taken:
            taken.ai_channels.add_ai_voltage_chan("Dev1/ai0")
            taken.timing.cfg_samp_clk_timing(1000.0, sample_mode=AcquisitionType.CONTINUOUS)
            taken.start()
            with pytest.raises(
                RefusedError, match=r"-50103: The specified resource is reserved.*another program"
            ):
                piezo.voltage.get()
            piezo.voltage.set(2.0)
            assert piezo.voltage.get() == 2.0
        assert piezo.voltage.get() == pytest.approx(2.0, abs=2e-3)


def test_a_shutter(card: Card) -> None:
    with card.gate() as shutter:
        assert shutter.opened.get() is False
        shutter.opened.set(True)
        assert shutter.opened.get() is True
        shutter.opened.set(False)
        assert shutter.opened.get() is False
    assert card.shutter == [True, False]


def test_a_shutter_that_a_low_level_opens(card: Card) -> None:
    with card.gate(open_high=False) as shutter:
        shutter.safe()
        assert card.shutter == [True]
        assert shutter.opened.get() is False
        shutter.opened.set(True)
        assert card.shutter == [True, False]


def test_safe(card: Card) -> None:
    with card.output(safe_v=-2.5) as piezo, card.gate() as shutter, card.counter() as counter:
        piezo.voltage.set(5.0)
        shutter.opened.set(True)
        for device in (piezo, shutter, counter):
            device.call("safe")
        assert card.piezo_v[-1] == pytest.approx(-2.5, abs=2e-4)
        assert card.shutter[-1] is False
    assert card.piezo_v[-1] == pytest.approx(-2.5, abs=2e-4)  # closing changes nothing
    assert card.sim.tasks == []


def test_safe_from_a_second_connection(card: Card) -> None:
    """As a host does when the first is stuck halfway through the same request."""
    with card.gate() as stuck, card.gate() as second:
        with (
            pytest.raises(RefusedError, match="asked to open it: NI error -200088"),
            stuck.asking("to open it"),
            stuck.task("line") as halfway,
        ):
            halfway.do_channels.add_do_chan("Dev1/port0/line0")
            halfway.start()
            second.safe()
            halfway.write(True)
        assert card.shutter == [False]


# limits and options


def test_limits_are_checked_before_anything_is_asked(card: Card) -> None:
    with card.output(lowest_v=0.0, highest_v=5.0) as piezo, card.counter() as counter:
        with pytest.raises(
            LimitError, match=r"alice\.piezo\.voltage: 5.1 V is outside 0 V to 5 V; nothing was sent"
        ):
            piezo.voltage.set(5.1)
        piezo.narrow({"voltage": (1.0, 2.0)})
        with pytest.raises(LimitError, match="outside 1 V to 2 V"):
            piezo.voltage.set(0.5)
        for gates, gate_s in ((0, 0.1), (10**7, 1e-5), (5, 1e-6), (1, 11.0), (100, 2.0)):
            with pytest.raises(LimitError, match="nothing was counted"):
                counter.count_gates(gates, gate_s)
        with pytest.raises(LimitError, match="timeout"):
            counter.count_clocked(1, "PFI9", 1e6)
        with pytest.raises(LimitError, match="gate_time"):
            counter.gate_time.set(100.0)
    assert card.piezo_v == []


def test_ni_refuses_what_the_options_ask_too_much(card: Card) -> None:
    with card.output(highest_v=12.0) as piezo:
        with pytest.raises(
            RefusedError,
            match=r"alice\.piezo at nidaqmx://.*/Dev1: asked to set ao0 to 1 V: NI error -200077: .*Maximum Value: 10",
        ):
            piezo.voltage.set(1.0)
    with card.gate(line="port9/line0") as shutter:
        with pytest.raises(RefusedError, match=r"-200170.*port9/line0.*check the options in the lab file"):
            shutter.opened.set(True)
    assert card.sim.tasks == []


def test_options_that_cannot_be_meant(card: Card) -> None:
    with pytest.raises(ConfigError, match="must be two counters"):
        card.counter(counter="ctr1")
    with pytest.raises(ConfigError, match="must be in this order"):
        card.output(lowest_v=1.0)
    with pytest.raises(ConfigError, match="needs an address such as nidaqmx://"):
        NiCounter(connect("tcp://127.0.0.1:1", "alice.spcm"), "alice.spcm")


def test_it_describes_itself(card: Card) -> None:
    described = card.counter().describe()
    assert {"count", "count_gates", "count_clocked", "reset_card", "safe"} <= set(described["actions"])
    assert described["signals"]["rate"]["unit"] == "Hz"


# addresses


def test_addresses() -> None:
    address = parse_address("nidaqmx://10.0.4.20:31763/Dev1")
    assert (address.host, address.port, address.card) == ("10.0.4.20", 31763, "Dev1")
    assert parse_address("nidaqmx://[::1]:31763/cDAQ1Mod1").host == "::1"
    assert parse_address("nidaqmx://[::1]:31763/cDAQ1Mod1").port == 31763
    assert parse_address("nidaqmx://local/Dev2").card == "Dev2"
    assert endpoints(address) == []  # the roles of a card share it
    for bad in ("10.0.4.20:31763", "10.0.4.20/Dev1", "10.0.4.20:31763/", "local", "h:0/Dev1", "h:1/Dev1/ai0"):
        with pytest.raises(ConfigError, match=re.escape("e.g. nidaqmx://10.0.4.20:31763/Dev1")):
            parse_address(f"nidaqmx://{bad}")


def test_it_carries_no_bytes(card: Card) -> None:
    transport = card.transport()
    with pytest.raises(ConfigError, match="not bytes"):
        transport.write(b"*IDN?")
    transport.close()
    with pytest.raises(ConfigError, match="not bytes"):
        transport.read_available()


def test_another_card_than_the_one_there(card: Card) -> None:
    device = NiShutter(connect(card.address("Dev7"), "alice.shutter", 2.0), "alice.shutter")
    with pytest.raises(RefusedError, match=r"/Dev7: asked what card it is: NI error -200220: .*NI MAX"):
        device.open()
    assert not device.transport.is_open


@pytest.mark.skipif(
    bool(ctypes.util.find_library("nidaqmx")), reason="this computer has a real NI-DAQmx driver"
)
def test_a_local_card_without_the_driver() -> None:
    device = NiShutter(connect("nidaqmx://local/Dev1", "alice.shutter"), "alice.shutter")
    with pytest.raises(
        NotConnectedError, match=r"local/Dev1: .*Could not find.*NI-DAQmx.*nidaqmx://host:31763"
    ):
        device.open()
    assert not device.transport.is_open


# faults


def test_a_server_that_goes_and_comes_back(card: Card) -> None:
    with card.counter() as counter, card.gate() as shutter:
        shutter.opened.set(True)
        card.sim.close()
        for device, ask in ((counter, counter.rate.get), (shutter, shutter.opened.get)):
            for _ in range(2):  # the broken channel, and then no way to connect
                with pytest.raises(NotConnectedError) as caught:
                    ask()
                assert f"{device.name} at {card.address()}" in str(caught.value)
        with pytest.raises(NotConnectedError, match="cannot connect"):
            shutter.safe()
        card.sim.listen(port=card.port)
        assert counter.rate.get() == pytest.approx(CLICKS_HZ, rel=0.02)
        assert shutter.opened.get() is True
        shutter.safe()
        assert card.shutter == [True, False]


def test_a_server_that_goes_while_counting(card: Card) -> None:
    card.sim.close()
    card.sim._sleep = lambda seconds: threading.Event().wait(0.002)  # pyright: ignore  (time stands still)
    card.sim.listen(port=card.port)
    with card.counter() as counter:
        timer = threading.Timer(0.2, card.sim.close)
        timer.start()
        with pytest.raises(NotConnectedError, match=r"alice\.spcm at .*asked to count 1 gates of 5 s"):
            counter.count(5.0)
        timer.join()


def test_nobody_listens(card: Card) -> None:
    card.sim.close()
    with pytest.raises(
        NotConnectedError, match=r"alice\.spcm at nidaqmx://127.*cannot connect.*NI gRPC Device Server"
    ):
        card.counter().open()


@pytest.mark.parametrize("fault", ["silent", "drop", "late"])
def test_an_answer_that_does_not_come(card: Card, fault: str) -> None:
    with card.counter(timeout_s=0.5) as counter:
        # (two, as nidaqmx goes on without the answer to its first question, for the version)
        card.sim.faults.switch(fault, 0.8 if fault == "late" else 2)
        with pytest.raises(NoAnswerError, match=r"alice\.spcm at nidaqmx://.*DEADLINE_EXCEEDED"):
            counter.count(0.01)
        card.sim.faults.clear()
        for _ in range(3):  # no late answer is taken for another, and nothing is left reserved
            assert counter.count(0.01) == pytest.approx(CLICKS_HZ / 100, abs=42)
            assert counter.identity().startswith("PCIe-6363")


def test_a_shutter_whose_answer_was_lost_can_be_closed(card: Card) -> None:
    def told(high: bool) -> None:
        card.shutter.append(high)
        if high:
            card.sim.faults.switch("drop", 1)

    card.sim.card.wiring.switches["port0/line0"] = told
    with NiShutter(card.transport("alice.shutter", 0.5), "alice.shutter") as shutter:
        with pytest.raises(NoAnswerError, match="asked to open port0/line0"):
            shutter.opened.set(True)
        assert card.shutter == [True]  # it was done
        shutter.safe()
        assert card.shutter == [True, False]
        assert shutter.opened.get() is False


def test_a_reading_that_loses_its_answer_is_cleared_away(card: Card) -> None:
    with card.counter(timeout_s=0.5) as counter:
        with pytest.raises(NoAnswerError), counter.asking("to lose an answer"), counter.task("count") as task:
            task.ci_channels.add_ci_count_edges_chan("Dev1/ctr0")
            task.start()
            card.sim.faults.switch("drop", 1)
            task.read()
        assert card.sim.tasks == [f"labctl_{re.sub(r'[^A-Za-z0-9_]', '_', platform.node())}_alice_spcm_count"]
        assert counter.count(0.01) == pytest.approx(CLICKS_HZ / 100, abs=42)
        assert card.sim.tasks == []


def test_a_reading_asks_only_what_it_needs(card: Card) -> None:
    calls: list[str] = []
    with card.gate() as gate:
        gate.nidaqmx.on_call = lambda name: calls.append(name.rpartition("/")[2])
        gate.opened.get()
        calls.clear()
        gate.opened.get()
    asked = ["CreateTask", "GetTaskAttributeString", "CreateDOChan", "ReadDigitalLines", "ClearTask"]
    assert calls == asked  # nothing about versions, names and kinds that are known


def test_somebody_elses_task_is_left_alone(card: Card) -> None:
    with card.counter() as counter:
        with nidaqmx.Task(grpc_options=counter.nidaqmx.session("")) as theirs:
            theirs.ci_channels.add_ci_count_edges_chan("Dev1/ctr0")
            theirs.start()
            with pytest.raises(RefusedError, match=r"-50103.*ctr0.*end it, or reset the card"):
                counter.count(0.01)
            assert len(card.sim.tasks) == 1
            counter.call("reset_card")
            assert counter.count(0.01) == pytest.approx(CLICKS_HZ / 100, abs=42)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("disconnect", NotConnectedError), ("refuse", NotConnectedError), ("garbage", BadAnswerError)],
)
def test_a_broken_wire(card: Card, fault: str, kind: type[Exception]) -> None:
    with card.gate() as shutter:
        card.sim.faults.switch(fault, 2)
        with pytest.raises(kind, match=r"alice\.shutter at nidaqmx://.*asked to open port0/line0"):
            shutter.opened.set(True)
        card.sim.faults.clear()
        shutter.opened.set(True)
        assert card.shutter == [True]


def test_a_card_taken_out_and_put_back(card: Card) -> None:
    with card.counter() as counter:
        card.sim.own_faults()["unplug"]()
        with pytest.raises(NotConnectedError, match=r"-201003.*the card is gone"):
            counter.rate.get()
        card.sim.own_faults()["plug_in"]()
        assert counter.rate.get() == pytest.approx(CLICKS_HZ, rel=0.05)


def test_roles_of_one_card_at_the_same_time(card: Card) -> None:
    failures: list[BaseException] = []

    def work(device: NiDevice) -> None:
        try:
            with device:
                for turn in range(10):
                    if isinstance(device, NiCounter):
                        assert device.count(0.01) == pytest.approx(CLICKS_HZ / 100, abs=82)
                    elif isinstance(device, NiAnalogOut):
                        device.voltage.set(turn / 10)
                        assert device.voltage.get() == pytest.approx(turn / 10, abs=5e-3)
                    elif isinstance(device, NiShutter):
                        device.opened.set(bool(turn % 2))
                        assert device.opened.get() == bool(turn % 2)
        except BaseException as error:  # noqa: BLE001  (shown by the test)
            failures.append(error)

    threads = [threading.Thread(target=work, args=(d,)) for d in (card.counter(), card.output(), card.gate())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert card.sim.tasks == []


def test_two_servers_cannot_have_one_port(card: Card) -> None:
    other = SimNiDaq(CardWiring(), card.clock.now, np.random.default_rng(1))
    with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1"):
        other.listen(port=card.port)
    other.close()


def test_a_failing_part_does_not_stop_the_card(card: Card, caplog: pytest.LogCaptureFixture) -> None:
    with card.counter() as counter:
        good = card.sim.card.wiring.clicks["PFI8"]
        card.sim.card.wiring.clicks["PFI8"] = lambda a, b: 1 // 0
        card.sim.card._edges.clear()  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(BadAnswerError, match="UNKNOWN"):
            counter.count(0.05)
        card.sim.card.wiring.clicks["PFI8"] = good
        card.sim.card._edges.clear()  # pyright: ignore[reportPrivateUsage]
        assert counter.count(0.05) == pytest.approx(CLICKS_HZ / 20, abs=42)


def test_in_real_time() -> None:
    clock = SystemClock()
    sim = SimNiDaq(CardWiring(clicks={"PFI8": clicks}), clock.now, np.random.default_rng(4))
    port = sim.listen()
    with NiCounter(connect(f"nidaqmx://127.0.0.1:{port}/Dev1", "alice.spcm", 5.0), "alice.spcm") as counter:
        before_s = clock.now()
        assert sum(counter.count_gates(20, 0.005)) == pytest.approx(CLICKS_HZ / 10, abs=42)
        assert clock.now() - before_s >= 0.1
    sim.close()
