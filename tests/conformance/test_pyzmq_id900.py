"""A plain pyzmq client that knows nothing of labctl uses the simulated ID900 as a vendor's script would."""

# pyright: standard
# (pyzmq carries incomplete types)

from __future__ import annotations

import ast
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import zmq

from labctl.clock import VirtualClock
from labctl.sim.zmq_server import ZmqServer
from simulated_hw.idq_id900 import SimId900
from simulated_hw.world.parts import Tagger

S = 1_000_000_000_000


@dataclass
class Bench:
    clock: VirtualClock
    lock: threading.RLock
    tagger: Tagger
    clicks: list[int]
    ports: dict[str, int]
    command: Callable[[str], str]
    service: Callable[[str], Any]

    def click(self, *tags: tuple[int, int]) -> None:
        """Clicks at (ps after now, input)."""
        with self.lock:
            for after_ps, number in tags:
                self.clicks[number - 1] += 1
                self.tagger.record(round(self.clock.now() * S) + after_ps, number - 1)


def ask(port: int) -> tuple[zmq.Socket[bytes], Callable[[str], str]]:
    with socket.create_connection(("127.0.0.1", port)):
        pass  # such scripts look first whether somebody listens
    client = zmq.Context.instance().socket(zmq.REQ)
    client.linger = 0
    client.rcvtimeo = 5000
    client.connect(f"tcp://127.0.0.1:{port}")

    def exchange(text: str) -> str:
        client.send_string(text)
        return client.recv().decode("utf-8")

    return client, exchange


@pytest.fixture
def bench() -> Iterator[Bench]:
    clock, lock, clicks = VirtualClock(100.0), threading.RLock(), [0, 0, 0, 0]
    tagger = Tagger(4, lambda: [*clicks])
    sim = SimId900(tagger, clock.now, np.random.default_rng(3))
    server = ZmqServer(lock, clock)
    ports = {name: server.serve(sim, name) for name in sim.ports}
    with server:
        first, command = ask(ports["command"])
        second, dlt = ask(ports["dlt"])
        yield Bench(clock, lock, tagger, clicks, ports, command, lambda text: json.loads(dlt(text)))
        first.close()
        second.close()


def test_inputs_and_counters(bench: Bench) -> None:
    assert "ID900" in bench.command("*IDN?")
    assert bench.command("DEVIce:RESolution HIRES") == ""
    assert int(bench.command("DEVI:RES:BWID?")) == 13
    for number in (1, 2, 3, 4):
        block = f"INPU{number}:ENAB ON;THRE -0.4V;EDGE RISING;COUP DC;SELE UNSHAPED"
        assert bench.command(block) == ""
        assert bench.command(f"DELA{number}:VALU {100 * number};:DELA{number}:LINK INPU{number}") == ""
        assert bench.command(f"INPU{number}:COUN:MODE CYCL;INTE 500000000;RESEt") == ""
    with bench.lock:
        bench.clicks[:] = [10, 20, 30, 40]
    bench.clock.advance(0.5)
    query = ";:".join(f"INPU{number}:COUNter?" for number in (1, 2, 3, 4))
    assert [int(line) for line in bench.command(query).splitlines()] == [10, 20, 30, 40]
    assert bench.command("INPU1:COUN:MODE ACCU;RESEt") == ""
    with bench.lock:
        bench.clicks[0] += 3
    assert bench.command("INPU1:COUN?") == "3"
    assert bench.command("INPU1:HIRES:ERROR?") == "0"


def test_a_gated_histogram_of_one_record(bench: Bench) -> None:
    for number in (1, 2, 3):
        bench.command(f"INPU{number}:ENAB ON;:DELA{number}:VALUe 0;LINK INPU{number}")
    for setting in (
        "REC:TRIG:ARM:MODE MANUal",
        "REC:ENABle ON",
        "REC:STOP",
        "REC:NUM 1",
        f"REC:DURation {1.5 * 1e12}",
        "TSCO6:WIND:ENAB OFF;:TSCO6:FIR:LINK DELA2;:TSCO6:OPOUt ONLYFIR",
        "TSCO7:WIND:ENAB ON;:TSCO7:FIR:LINK DELA2",
        "TSCO7:WIND:BEGI:LINK DELA3;DELAY 100000;EDGE RISING",
        "TSCO7:WIND:END:LINK DELA3;DELAY 600000;EDGE RISING",
        "TSCO7:OPIN ONLYFIR;:TSCO7:OPOUt MUTE",
        "HIST1:REF:LINK TSCO5;:HIST1:STOP:LINK TSCO6",
        "HIST2:REF:LINK TSCO5;:HIST2:STOP:LINK TSCO7",
        "HIST1:BCOUnt 1024;BWID 1000;FLUSh",
        "HIST2:BCOUnt 1024;BWID 1000;FLUSh",
    ):
        assert bench.command(setting) == "", setting
    stops = [50_000, 150_000, 599_900, 600_000, 900_000]
    bench.click((0, 1), (0, 3), (10_000, 2))  # before PLAY
    assert bench.command("REC:STAGe?") != "PLAYING"
    bench.clock.advance(1.0)
    assert bench.command("REC:PLAY") == ""
    bench.click((0, 1), (0, 3), *((stop, 2) for stop in stops))
    assert bench.command("REC:STAGe?") == "PLAYING"
    bench.clock.advance(2.0)
    assert bench.command("REC:STAGe?") != "PLAYING"
    bench.click((0, 1), (20_000, 2))  # after the record
    free = ast.literal_eval(bench.command("HIST1:DATA?"))
    gated = ast.literal_eval(bench.command("HIST2:DATA?"))
    assert len(free) == len(gated) == 1024
    assert [at for at, count in enumerate(free) if count] == [stop // 1000 for stop in stops]
    assert [at for at, count in enumerate(gated) if count] == [150, 599]


def test_time_tags_through_the_service(bench: Bench) -> None:
    bench.command("INPU1:ENAB ON;:INPU2:ENAB ON")
    for setting in (
        "REC:TRIG:ARM:MODE MANUal",
        "REC:ENABle ON",
        "REC:STOP",
        "REC:NUM 1",
        "REC:DURation 1e12",
    ):
        assert bench.command(setting) == ""
    assert bench.service("list") == []
    streams, names = {}, {}
    for channel in (1, 2):
        assert bench.command(f"RAW{channel}:ERRORS:CLEAR") == ""
        streams[channel] = zmq.Context.instance().socket(zmq.PAIR)
        streams[channel].linger = 0
        streams[channel].rcvtimeo = 5000
        streams[channel].connect(f"tcp://localhost:{bench.ports[f'stream{channel}']}")
        names[channel] = bench.service(
            f"start-stream --address 127.0.0.1 --channel {channel} --stream-port {bench.ports[f'stream{channel}']}"
        )["id"]
        assert bench.command(f"RAW{channel}:SEND ON") == ""
    assert sorted(bench.service("list")) == sorted(names.values())
    assert bench.command("REC:PLAY") == ""
    begin_ps = round(bench.clock.now() * S)
    wanted = {channel: [begin_ps + k * 100 * channel for k in range(10_000)] for channel in (1, 2)}
    bench.click(*((time_ps - begin_ps, channel) for channel, times in wanted.items() for time_ps in times))
    bench.clock.advance(2.0)
    assert int(bench.command("REC:NUMber?")) == 1
    assert bench.command("REC:STAGe?").upper() != "PLAYING"
    for channel, name in names.items():
        status = bench.service(f"status --id {name}")
        assert status["acquisitions_count"] == 1
        assert status["timestamps_count"] == 10_000
        assert status["inactivity"] >= 0
        stopped = bench.service(f"stop --id {name}")["status"]
        assert stopped["errors"] == []
        assert bench.command(f"RAW{channel}:SEND OFF") == ""
        assert int(bench.command(f"RAW{channel}:ERRORS?")) == 0
        received = b""
        while message := streams[channel].recv():  # the empty message is the end
            received += message
        assert [*struct.unpack(f"<{len(received) // 8}Q", received)] == wanted[channel]
        streams[channel].close()
    assert bench.service("list") == []


@pytest.mark.parametrize(
    ("request_text", "says"),
    [
        ("make-coffee", "unknown command"),
        ("stop --id nothing", "no acquisition has the id 'nothing'"),
        ("start-stream --channel 1 --stream-port 1", "missing --address"),
        ("start-stream --address x --channel 1 --stream-port 1", "cannot stream to port 1"),
        ("start-stream --address x --channel 9 --stream-port 1", "channel 9 is not one of 1 to 4"),
        ("start-stream --address x --channel one --stream-port 1", "--channel 'one' is no number"),
        ('start-save --address x --channel 1 --filename "a b.bin" --format bin', "writes no files"),
        ("stop --id 'open quote", "quot"),
    ],
)
def test_the_service_says_why_not(bench: Bench, request_text: str, says: str) -> None:
    assert says in bench.service(request_text)["error"]["description"]


def test_a_client_that_timed_out_is_answered_again(bench: Bench) -> None:
    client = zmq.Context.instance().socket(zmq.REQ)
    client.linger = 0
    client.setsockopt(zmq.REQ_RELAXED, 1)
    client.setsockopt(zmq.REQ_CORRELATE, 1)
    client.connect(f"tcp://127.0.0.1:{bench.ports['command']}")
    client.send_string("*IDN?")  # gives up without reading the answer
    client.send_string("REC:NUM?")
    assert client.poll(5000)
    assert client.recv_string() == "1"
    client.close()
