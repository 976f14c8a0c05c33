"""Plain nidaqmx scripts, as a user would write them, against the simulated card over real gRPC."""

# pyright: standard
# (nidaqmx carries incomplete types)

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import grpc
import nidaqmx
import numpy as np
import pytest
from nidaqmx.constants import AcquisitionType, CountDirection, LineGrouping, TaskMode
from nidaqmx.errors import DaqError, DaqReadError, RpcError
from nidaqmx.grpc_session_options import SessionInitializationBehavior
from nidaqmx.stream_readers import AnalogMultiChannelReader, CounterReader
from nidaqmx.system import System

from labctl.clock import VirtualClock
from simulated_hw.ni_daqmx import SimNiDaq
from simulated_hw.world.card_wiring import CardWiring

FINITE, CONTINUOUS = AcquisitionType.FINITE, AcquisitionType.CONTINUOUS
CLICKS_HZ = 50_000
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def clicks(after_s: float, until_s: float) -> int:
    """Exactly so many a second."""
    return int(until_s * CLICKS_HZ + 1e-6) - int(after_s * CLICKS_HZ + 1e-6)


def tenth_seconds(after_s: float, until_s: float) -> np.ndarray:
    """A clock from outside."""
    return np.arange(int(after_s * 10 + 1e-6) + 1, int(until_s * 10 + 1e-6) + 1) / 10


@dataclass
class Lab:
    """A served card, its world, and clients of it."""

    sim: SimNiDaq
    clock: VirtualClock
    port: int
    driven: dict[str, list[float]]
    levels: dict[str, bool]
    channels: list[grpc.Channel] = field(default_factory=list)

    def client(self, options: list[tuple[str, int]] = UNLIMITED) -> grpc.Channel:
        channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", options)
        self.channels.append(channel)
        return channel

    def session(self, name: str = "", channel: grpc.Channel | None = None, **more: object):
        return nidaqmx.GrpcSessionOptions(channel or self.channels[0], name, **more)

    def task(self, name: str = "") -> nidaqmx.Task:
        return nidaqmx.Task(name, grpc_options=self.session(name))


@pytest.fixture
def lab() -> Iterator[Lab]:
    clock = VirtualClock()
    driven: dict[str, list[float]] = {}
    levels: dict[str, bool] = {"port0/line8": True, "port0/line9": False, "port0/line10": True}
    wiring = CardWiring(
        clicks={"PFI8": clicks},
        clocks={"PFI9": tenth_seconds},
        voltages={"ai0": lambda t: 0.5 * t, "ai1": lambda t: np.where(t > 1.0, 20.0, -2.0)},
        levels={line: lambda line=line: levels[line] for line in levels},
        outputs={f"ao{n}": driven.setdefault(f"ao{n}", []).append for n in range(4)},
        switches={f"port0/line{n}": driven.setdefault(f"line{n}", []).append for n in range(4)},
    )
    sim = SimNiDaq(wiring, clock.now, np.random.default_rng(3), sleep=clock.sleep)
    lab = Lab(sim, clock, sim.listen(), driven, levels)
    lab.client()
    yield lab
    for channel in lab.channels:
        channel.close()
    sim.close()


def refused(code: int, call: Callable[[], object]) -> DaqError:
    with pytest.raises(DaqError) as caught:
        call()
    assert caught.value.error_code == code, str(caught.value)
    return caught.value


def test_the_system_shows_the_card(lab: Lab) -> None:
    system = System.remote(lab.session())
    assert system.driver_version[:2] == (25, 5)
    assert system.devices.device_names == ["Dev1"]
    card = system.devices["Dev1"]
    assert card.product_type == "PCIe-6363"
    assert card.product_category.name == "X_SERIES_DAQ"
    assert len(card.ai_physical_chans) == 32
    assert [c.name for c in card.ci_physical_chans] == [f"Dev1/ctr{n}" for n in range(4)]
    assert "/Dev1/PFI8" in card.terminals
    assert not card.is_simulated


# counting


def test_count_edges(lab: Lab) -> None:
    with lab.task() as task:
        channel = task.ci_channels.add_ci_count_edges_chan("Dev1/ctr0")
        assert channel.ci_count_edges_term == "/Dev1/PFI8"
        task.start()
        assert task.read() == 0
        lab.clock.advance(2.0)
        assert task.read() == 2 * CLICKS_HZ
        assert CounterReader(task.in_stream).read_one_sample_uint32() == 2 * CLICKS_HZ
        assert channel.ci_count == 2 * CLICKS_HZ
        task.stop()
        lab.clock.advance(1.0)
        task.start()
        lab.clock.advance(0.5)
        assert task.read(3) == [CLICKS_HZ / 2] * 3


def test_a_counter_nobody_started_shows_its_initial_count(lab: Lab) -> None:
    with lab.task() as task:
        task.ci_channels.add_ci_count_edges_chan("Dev1/ctr0", initial_count=7)
        assert task.read() == 7
        lab.clock.advance(1.0)
        assert task.read() == 7


def test_counting_down_wraps(lab: Lab) -> None:
    with lab.task() as task:
        down = CountDirection.COUNT_DOWN
        task.ci_channels.add_ci_count_edges_chan("Dev1/ctr0", initial_count=1000, count_direction=down)
        task.start()
        lab.clock.advance(1.0)
        assert task.read() == 2**32 + 1000 - CLICKS_HZ


def test_a_terminal_without_clicks_and_another(lab: Lab) -> None:
    with lab.task() as dark, lab.task() as bright:
        dark.ci_channels.add_ci_count_edges_chan("Dev1/ctr1")
        channel = bright.ci_channels.add_ci_count_edges_chan("Dev1/ctr2")
        channel.ci_count_edges_term = "PFI8"
        assert channel.ci_count_edges_term == "/Dev1/PFI8"
        dark.start()
        bright.start()
        lab.clock.advance(1.0)
        assert (dark.read(), bright.read()) == (0, CLICKS_HZ)
        refused(-200414, lambda: setattr(channel, "ci_count_edges_term", "/Dev1/PFI99"))


def gates(lab: Lab, count: int, rate_hz: float) -> np.ndarray:
    with lab.task() as counting, lab.task() as pulsing:
        counting.ci_channels.add_ci_count_edges_chan("Dev1/ctr0")
        counting.timing.cfg_samp_clk_timing(
            rate_hz, "/Dev1/Ctr1InternalOutput", sample_mode=FINITE, samps_per_chan=count
        )
        pulses = pulsing.co_channels.add_co_pulse_chan_freq("Dev1/ctr1", freq=rate_hz)
        pulsing.timing.cfg_implicit_timing(sample_mode=CONTINUOUS)
        assert pulses.co_pulse_freq == rate_hz
        counting.start()
        lab.clock.advance(0.3)
        pulsing.start()
        shown = np.zeros(count, np.uint32)
        CounterReader(counting.in_stream).read_many_sample_uint32(shown, count, 10.0)
        assert counting.is_task_done()
        return shown


def test_gated_counts(lab: Lab) -> None:
    shown = gates(lab, 501, 1000.0).astype(int)
    assert shown[0] == pytest.approx(0.3 * CLICKS_HZ, abs=51)  # what came before the first gate
    each = np.diff(shown)
    assert (each >= 0).all()
    assert each.sum() == pytest.approx(0.5 * CLICKS_HZ, abs=51)
    assert each.mean() == pytest.approx(CLICKS_HZ / 1000, rel=0.01)


def test_gates_from_outside(lab: Lab) -> None:
    with lab.task() as task:
        task.ci_channels.add_ci_count_edges_chan("Dev1/ctr0")
        task.timing.cfg_samp_clk_timing(10.0, "PFI9", sample_mode=CONTINUOUS)
        task.start()
        lab.clock.advance(0.55)
        assert task.in_stream.avail_samp_per_chan == 5
        shown = task.read(-1)
        assert len(shown) == 5
        assert np.diff(shown).sum() == pytest.approx(0.4 * CLICKS_HZ, abs=102)
        assert len(task.read(2, timeout=1.0)) == 2  # waits for them
        assert lab.clock.now() == pytest.approx(0.7, abs=0.005)


def test_two_counters_see_the_same_clicks(lab: Lab) -> None:
    with lab.task() as one, lab.task() as other:
        for task, counter in ((one, "ctr0"), (other, "ctr3")):
            task.ci_channels.add_ci_count_edges_chan(f"Dev1/{counter}").ci_count_edges_term = "/Dev1/PFI8"
            task.timing.cfg_samp_clk_timing(10.0, "/Dev1/PFI9", samps_per_chan=20)
            task.start()
        lab.clock.advance(1.03)
        lab.clock.advance(1.03)
        assert one.read(20) == other.read(20)


def test_a_counter_needs_a_clock(lab: Lab) -> None:
    with lab.task() as task:
        task.ci_channels.add_ci_count_edges_chan("Dev1/ctr0")
        task.timing.cfg_samp_clk_timing(1000.0)
        refused(-200303, task.start)


# analogue inputs


def test_finite_analogue_input(lab: Lab) -> None:
    lab.clock.advance(1.0)
    with lab.task() as task:
        task.ai_channels.add_ai_voltage_chan("Dev1/ai0", min_val=-1.0, max_val=1.0)
        task.timing.cfg_samp_clk_timing(1000.0, samps_per_chan=400)
        assert task.timing.samp_clk_rate == 1000.0
        values = np.array(task.read(-1))
        assert len(values) == 400
        times = 1.0 + np.arange(400) / 1000
        assert np.abs(values - 0.5 * times).max() < 6 * 38e-6 + 1 / 32768
        assert lab.clock.now() == pytest.approx(1.399, abs=0.004)


def test_one_value_on_demand(lab: Lab) -> None:
    lab.clock.advance(3.0)
    with lab.task() as task:
        task.ai_channels.add_ai_voltage_chan("Dev1/ai0:1")
        ramp, clipped = task.read()
        assert ramp == pytest.approx(1.5, abs=2e-3)
        assert clipped == pytest.approx(5.0, abs=1e-3)  # 20 V into +-5 V


def test_several_channels_in_order(lab: Lab) -> None:
    with lab.task() as task:
        task.ai_channels.add_ai_voltage_chan("Dev1/ai1, Dev1/ai0", "in")
        assert task.channel_names == ["in0", "in1"]
        task.timing.cfg_samp_clk_timing(1000.0, samps_per_chan=100)
        step, ramp = np.array(task.read(100))
        assert step == pytest.approx(-2.0, abs=2e-3)
        assert np.diff(ramp).sum() == pytest.approx(0.5 * 0.099, abs=2e-3)
        values = np.zeros((2, 100))
        AnalogMultiChannelReader(task.in_stream).read_many_sample(values, 100)
        assert values[0] == pytest.approx(-2.0, abs=2e-3)


def test_continuous_with_events(lab: Lab) -> None:
    chunks: list[list[float]] = []
    arrived = threading.Semaphore(0)
    with lab.task() as task:
        task.ai_channels.add_ai_voltage_chan("Dev1/ai0")
        task.timing.cfg_samp_clk_timing(1000.0, sample_mode=CONTINUOUS, samps_per_chan=1000)

        def take(handle: object, kind: int, count: int, data: object) -> int:
            chunks.append(task.read(count))
            arrived.release()
            return 0

        task.register_every_n_samples_acquired_into_buffer_event(100, take)
        task.start()
        for _ in range(8):
            lab.clock.advance(0.1)
            assert arrived.acquire(timeout=20)
        task.stop()
        task.register_every_n_samples_acquired_into_buffer_event(100, None)
    ramp = np.concatenate(chunks)
    assert len(ramp) == 800
    assert np.abs(ramp - 0.5 * np.arange(800) / 1000).max() < 2e-3  # no gap, nothing twice


def test_done_event(lab: Lab) -> None:
    done = threading.Event()
    with lab.task() as task:
        task.ai_channels.add_ai_voltage_chan("Dev1/ai0")
        task.timing.cfg_samp_clk_timing(100.0, samps_per_chan=50)
        task.register_done_event(lambda handle, status, data: done.set() or status)
        task.start()
        lab.clock.advance(0.4)
        assert not done.wait(0.05)
        assert not task.is_task_done()
        lab.clock.advance(0.1)
        assert done.wait(20)
        task.wait_until_done(1.0)


def test_events_are_registered_once_and_before_the_start(lab: Lab) -> None:
    with lab.task() as task:
        task.ai_channels.add_ai_voltage_chan("Dev1/ai0")
        task.timing.cfg_samp_clk_timing(1000.0, sample_mode=CONTINUOUS)
        register = task.register_every_n_samples_acquired_into_buffer_event
        register(100, lambda *_: 0)
        refused(-200966, lambda: register(100, lambda *_: 0))
        register(100, None)
        task.start()
        refused(-200960, lambda: register(100, lambda *_: 0))


def test_too_slow_a_reader_overruns(lab: Lab) -> None:
    with lab.task() as task:
        task.ai_channels.add_ai_voltage_chan("Dev1/ai0")
        task.timing.cfg_samp_clk_timing(1000.0, sample_mode=CONTINUOUS, samps_per_chan=100)
        assert task.in_stream.input_buf_size == 10_000
        task.start()
        lab.clock.advance(9.0)
        assert len(task.read(1000)) == 1000
        lab.clock.advance(3.0)
        refused(-200279, lambda: task.read(10))
        task.stop()
        task.start()
        lab.clock.advance(0.1)
        assert len(task.read(10)) == 10


def test_beyond_the_last_sample(lab: Lab) -> None:
    with lab.task() as task:
        task.ai_channels.add_ai_voltage_chan("Dev1/ai0")
        task.timing.cfg_samp_clk_timing(1000.0, samps_per_chan=100)
        task.start()
        assert len(task.read(60)) == 60
        refused(-200278, lambda: task.read(41))
        assert len(task.read(40)) == 40


def test_a_read_that_times_out_gives_what_came(lab: Lab) -> None:
    values = np.zeros((2, 200))
    with lab.task() as task:
        task.ai_channels.add_ai_voltage_chan("Dev1/ai0:1")
        task.timing.cfg_samp_clk_timing(1000.0, samps_per_chan=1000)
        task.start()
        reader = AnalogMultiChannelReader(task.in_stream)
        with pytest.raises(DaqReadError) as caught:
            reader.read_many_sample(values, 200, timeout=0.05)
        assert caught.value.error_code == -200284
        came = caught.value.samps_per_chan_read
        assert 50 <= came <= 54
        assert values[1, :came] == pytest.approx(-2.0, abs=2e-3)
        assert not values[:, came:].any()
        assert len(task.read(1000 - came)[0]) == 1000 - came


def test_two_million_samples_in_one_go(lab: Lab) -> None:
    with lab.task() as task:
        task.ai_channels.add_ai_voltage_chan("Dev1/ai0")
        task.timing.cfg_samp_clk_timing(2e6, samps_per_chan=2_000_000)
        task.start()
        lab.clock.advance(1.0)
        values = np.zeros((1, 2_000_000))
        AnalogMultiChannelReader(task.in_stream).read_many_sample(values, 2_000_000)
        assert values[0, ::100_000] == pytest.approx(np.arange(20) / 40, abs=3e-3)


def test_an_ordinary_channel_stops_at_four_mebibytes(lab: Lab) -> None:
    plain = lab.client([])
    with nidaqmx.Task(grpc_options=lab.session("", plain)) as task:
        task.ai_channels.add_ai_voltage_chan("Dev1/ai0")
        task.timing.cfg_samp_clk_timing(2e6, samps_per_chan=600_000)
        with pytest.raises(RpcError, match="RESOURCE_EXHAUSTED"):
            task.read(600_000)


# outputs


def test_analogue_outputs(lab: Lab) -> None:
    with lab.task() as task:
        task.ao_channels.add_ao_voltage_chan("Dev1/ao0:1", min_val=-5.0, max_val=5.0)
        assert task.write([1.25, -2.5]) == 1
        assert (lab.driven["ao0"], lab.driven["ao1"]) == ([1.25], [-2.5])
        refused(-200561, lambda: task.write([0.0, 5.2]))
    with lab.task() as task:
        task.ai_channels.add_ai_voltage_chan("Dev1/_ao1_vs_aognd", min_val=-10, max_val=10)
        assert task.read() == pytest.approx(-2.5, abs=3e-3)


def test_a_waveform_ends_at_its_last_value(lab: Lab) -> None:
    with lab.task() as task:
        task.ao_channels.add_ao_voltage_chan("Dev1/ao2")
        task.timing.cfg_samp_clk_timing(1000.0, samps_per_chan=500)
        refused(-200462, task.start)
        task.write(np.linspace(0.0, 4.0, 500))
        assert lab.driven["ao2"] == []
        task.start()
        lab.clock.advance(0.25)
        assert not task.is_task_done()
        refused(-200560, lambda: task.wait_until_done(0.1))
        assert lab.driven["ao2"][-1] == pytest.approx(4.0 * 0.35 / 0.499, abs=0.05)
        task.wait_until_done(1.0)
        assert lab.driven["ao2"][-1] == pytest.approx(4.0, abs=2e-4)  # in steps of its converter


def test_a_continuous_waveform_goes_round(lab: Lab) -> None:
    with lab.task() as task:
        task.ao_channels.add_ao_voltage_chan("Dev1/ao0")
        task.timing.cfg_samp_clk_timing(100.0, sample_mode=CONTINUOUS, samps_per_chan=4)
        task.write([0.0, 1.0, 2.0, 3.0], auto_start=True)
        assert task.out_stream.total_samp_per_chan_generated == 1
        for turn in range(1, 9):
            lab.clock.advance(0.01)
            assert task.out_stream.total_samp_per_chan_generated == turn + 1
            assert lab.driven["ao0"][-1] == pytest.approx(turn % 4, abs=2e-4)


def test_digital_outputs(lab: Lab) -> None:
    with lab.task() as task:
        task.do_channels.add_do_chan("Dev1/port0/line0")
        assert task.write(True) == 1
        assert task.read() is True
        task.write(False)
    assert lab.driven["line0"] == [True, False]
    with lab.task() as task:
        task.do_channels.add_do_chan("Dev1/port0/line0:3")
        task.write(0b1010)
        assert task.read() == 0b1010
    assert [lab.driven[f"line{n}"][-1] for n in range(1, 4)] == [True, False, True]
    with lab.task() as task:
        task.do_channels.add_do_chan("Dev1/port0/line0:1", line_grouping=LineGrouping.CHAN_PER_LINE)
        task.write([True, False])
        assert task.read() == [True, False]
    assert [lab.driven[f"line{n}"][-1] for n in range(2)] == [True, False]


def test_digital_inputs(lab: Lab) -> None:
    with lab.task() as task:
        task.di_channels.add_di_chan("Dev1/port0/line8:10", line_grouping=LineGrouping.CHAN_PER_LINE)
        assert task.read() == [True, False, True]
        lab.levels["port0/line9"] = True
        assert task.read() == [True, True, True]
    with lab.task() as task:
        task.di_channels.add_di_chan("Dev1/port0/line8:10")
        lab.levels["port0/line8"] = False
        assert task.read() == 0b110
    with lab.task() as task:
        task.di_channels.add_di_chan("Dev1/port0")
        assert task.read() == 0b110 << 8


# refusals

WRONG: list[tuple[int, Callable[[nidaqmx.Task], object]]] = [
    (-200220, lambda task: task.ai_channels.add_ai_voltage_chan("Dev9/ai0")),
    (-200170, lambda task: task.ai_channels.add_ai_voltage_chan("Dev1/ai32")),
    (-200170, lambda task: task.ao_channels.add_ao_voltage_chan("Dev1/ai0")),
    (-200478, lambda task: task.start()),
]


@pytest.mark.parametrize(("code", "call"), WRONG)
def test_what_the_card_does_not_have(lab: Lab, code: int, call: Callable[[nidaqmx.Task], object]) -> None:
    with lab.task() as task:
        assert str(code) in str(refused(code, lambda: call(task)))


def test_what_the_card_cannot_do(lab: Lab) -> None:
    with lab.task() as task:
        task.ai_channels.add_ai_voltage_chan("Dev1/ai0", min_val=-20.0, max_val=20.0)
        assert "Maximum Value: 10" in str(refused(-200077, task.start))
    with lab.task() as task:
        task.ai_channels.add_ai_voltage_chan("Dev1/ai0")
        task.timing.cfg_samp_clk_timing(5e6)
        refused(-200077, lambda: task.control(TaskMode.TASK_VERIFY))
        task.timing.cfg_samp_clk_timing(1e6)
        task.control(TaskMode.TASK_VERIFY)
    with lab.task() as task:
        task.ao_channels.add_ao_voltage_chan("Dev1/ao0", max_val=11.0)
        refused(-200077, lambda: task.write(1.0))
    with lab.task() as task:
        task.ai_channels.add_ai_voltage_chan("Dev1/ai0")
        refused(-200489, lambda: task.ai_channels.add_ai_voltage_chan("Dev1/ai0"))
        refused(-200559, lambda: task.ao_channels.add_ao_voltage_chan("Dev1/ao0"))
        task.start()
        refused(-200479, lambda: task.ai_channels.add_ai_voltage_chan("Dev1/ai1"))


def test_one_task_at_a_time_has_the_inputs(lab: Lab) -> None:
    other = lab.client()
    with lab.task() as mine, nidaqmx.Task(grpc_options=lab.session("", other)) as theirs:
        mine.ai_channels.add_ai_voltage_chan("Dev1/ai0")
        theirs.ai_channels.add_ai_voltage_chan("Dev1/ai1")
        mine.start()
        refused(-50103, theirs.start)
        mine.stop()
        theirs.start()
        refused(-50103, mine.read)
        theirs.stop()
        mine.control(TaskMode.TASK_RESERVE)
        refused(-50103, theirs.start)
        mine.control(TaskMode.TASK_UNRESERVE)
        theirs.start()


def test_a_reset_ends_everything(lab: Lab) -> None:
    with lab.task() as task:
        task.ao_channels.add_ao_voltage_chan("Dev1/ao0")
        task.timing.cfg_samp_clk_timing(100.0, sample_mode=CONTINUOUS, samps_per_chan=4)
        task.write([0.0, 1.0, 2.0, 3.0], auto_start=True)
        lab.clock.advance(0.02)
        System.remote(lab.session()).devices["Dev1"].reset_device()
        lab.clock.advance(0.02)
        assert lab.driven["ao0"][-1] == 0.0
        assert task.is_task_done()


# sessions and clients


def test_a_wrong_session_name(lab: Lab) -> None:
    with pytest.raises(DaqError, match="must match the task name"):
        nidaqmx.Task("one", grpc_options=lab.session("another"))
    assert lab.sim.tasks == []


def test_a_session_shared_by_two_clients(lab: Lab) -> None:
    other = lab.client()
    attach = SessionInitializationBehavior.ATTACH_TO_SERVER_SESSION
    with pytest.raises(RpcError, match="FAILED_PRECONDITION"):
        nidaqmx.Task("count", grpc_options=lab.session("count", other, initialization_behavior=attach))
    mine = lab.task("count")
    mine.ci_channels.add_ci_count_edges_chan("Dev1/ctr0")
    mine.start()
    lab.clock.advance(1.0)
    with nidaqmx.Task("count", grpc_options=lab.session("count", other)) as theirs:
        assert theirs.channel_names == ["Dev1/ctr0"]
        assert theirs.read() == CLICKS_HZ
    assert lab.sim.tasks == ["count"]  # it was only attached to
    new = SessionInitializationBehavior.INITIALIZE_SERVER_SESSION
    with pytest.raises(RpcError, match="ALREADY_EXISTS"):
        nidaqmx.Task("count", grpc_options=lab.session("count", other, initialization_behavior=new))
    theirs.close()
    assert lab.sim.tasks == []
    refused(-200088, mine.read)


def test_four_clients_at_once(lab: Lab) -> None:
    channels = [lab.client() for _ in range(4)]
    sums: list[int] = []

    def count(number: int) -> None:
        with nidaqmx.Task(grpc_options=lab.session("", channels[number])) as task:
            task.ci_channels.add_ci_count_edges_chan(f"Dev1/ctr{number}").ci_count_edges_term = "PFI8"
            task.timing.cfg_samp_clk_timing(10.0, "PFI9", samps_per_chan=10)
            shown = task.read(10, timeout=100.0)
            sums.append(round(shown[-1] - shown[0]))

    threads = [threading.Thread(target=count, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == pytest.approx([0.9 * CLICKS_HZ] * 4, abs=102)
    assert lab.sim.tasks == []


def test_clearing_a_task_ends_a_read_that_waits(lab: Lab) -> None:
    lab.sim._calls.sleep = lambda seconds: threading.Event().wait(0.002)  # type: ignore  (time stands still)
    waiting = lab.task("slow")
    waiting.ai_channels.add_ai_voltage_chan("Dev1/ai0")
    waiting.timing.cfg_samp_clk_timing(10.0, samps_per_chan=100)
    waiting.start()
    caught: list[DaqError] = []

    def read() -> None:
        try:
            waiting.read(100)
        except DaqError as error:
            caught.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    nidaqmx.Task("slow", grpc_options=lab.session("slow", lab.client())).close()
    thread.join(20)
    assert [error.error_code for error in caught] == [-200088]


def test_what_is_not_simulated_says_so(lab: Lab) -> None:
    with lab.task() as task, pytest.raises(RpcError, match="not supported by the NI gRPC Device Server"):
        task.ai_channels.add_ai_thrmcpl_chan("Dev1/ai0")


def test_a_server_that_is_gone(lab: Lab) -> None:
    task = lab.task()
    task.ci_channels.add_ci_count_edges_chan("Dev1/ctr0")
    lab.sim.close()
    with pytest.raises(RpcError, match="UNAVAILABLE"):
        task.start()


def test_nothing_warns(lab: Lab) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gates(lab, 3, 1000.0)
