"""Bulk streams: every message once and in order, whatever the reader does."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from bus_parts import clock, wait_until

from labctl.bus import stream
from labctl.bus.stream import StreamSink, StreamSource
from labctl.errors import BusError


def produce(source: StreamSource, count: int, failures: list[BaseException]) -> threading.Thread:
    def run() -> None:
        try:
            for number in range(1, count + 1):
                source.send(number.to_bytes(4, "big"), np.full(100, number))
            source.finish(20)
        except BusError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def check(message: object) -> int:
    assert len(message.frames) == 2
    assert int.from_bytes(message.frames[0], "big") == message.sequence
    np.testing.assert_array_equal(np.frombuffer(message.frames[1], np.int64), np.full(100, message.sequence))
    return message.sequence


def test_nothing_is_lost_to_a_slow_reader() -> None:
    failures: list[BaseException] = []
    with StreamSource(window=16) as source, StreamSink(source.address, credit=4) as sink:
        thread = produce(source, 300, failures)
        got: list[int] = []
        for message in sink:
            got.append(check(message))
            if message.sequence % 50 == 0:
                clock.sleep(0.05)
        thread.join()
        assert got == [*range(1, 301)]
        assert sink.ended
        assert source.acknowledged == 300
    assert failures == []


def test_large_arrays_arrive_whole() -> None:
    with StreamSource() as source, StreamSink(source.address) as sink:
        array = np.arange(1_000_000, dtype=np.int64)
        source.send(array)
        message = sink.receive(5)
        assert message is not None
        np.testing.assert_array_equal(np.frombuffer(message.frames[0], np.int64), array)


@pytest.mark.parametrize("stop_after", [0, 1, 37, 99])
def test_a_reader_that_died_is_followed_by_one_that_resumes(stop_after: int) -> None:
    failures: list[BaseException] = []
    with StreamSource(window=20) as source:
        thread = produce(source, 100, failures)
        kept: list[int] = []
        first = StreamSink(source.address, credit=8)
        while len(kept) < stop_after:
            message = first.receive(5)
            assert message is not None
            kept.append(check(message))
            first.acknowledge(message.sequence)
        first.receive(0.2)  # received, but never safe
        first._socket.close()  # dies without a word
        with StreamSink(source.address, credit=8, resume_after=len(kept), owner="second") as second:
            kept += [check(message) for message in second]
        thread.join()
    assert kept == [*range(1, 101)]
    assert failures == []


def test_a_broken_connection_loses_and_doubles_nothing() -> None:
    failures: list[BaseException] = []
    with StreamSource(window=20) as source, StreamSink(source.address, credit=8) as sink:
        thread = produce(source, 200, failures)
        got: list[int] = []
        for message in sink:
            got.append(check(message))
            if message.sequence in (20, 21, 150):
                sink._socket.disconnect(source.address)
                sink._socket.connect(source.address)
        thread.join()
    assert got == [*range(1, 201)]
    assert failures == []


def test_without_a_reader_the_source_refuses_loudly() -> None:
    with StreamSource(window=3) as source:
        for number in range(3):
            assert source.send(b"x", timeout_s=0) == number + 1
        with pytest.raises(BusError, match="nobody reads it; the message was not sent"):
            source.send(b"x", timeout_s=0.05)
        with pytest.raises(BusError, match="3 messages are not safe"):
            source.finish(0.05)
        with StreamSink(source.address) as sink:
            assert [message.sequence for message in sink] == [1, 2, 3]
        wait_until(lambda: source.acknowledged == 3, "acknowledged")


def test_bytes_are_bounded_too() -> None:
    with StreamSource(max_bytes=100) as source:
        source.send(bytes(1000), timeout_s=0)  # one message of any size always goes
        with pytest.raises(BusError):
            source.send(b"x", timeout_s=0)


def test_a_second_reader_is_refused_while_the_first_lives() -> None:
    with StreamSource() as source, StreamSink(source.address, owner="recorder") as first:
        source.send(b"1")
        assert first.receive(5) is not None
        with StreamSink(source.address) as second:
            stop = threading.Event()

            def live() -> None:
                while not stop.is_set():
                    first.receive(0.1)

            thread = threading.Thread(target=live)
            thread.start()
            with pytest.raises(BusError, match="'recorder' reads this stream already"):
                second.receive(20)
            stop.set()
            thread.join()


def test_messages_that_are_gone_are_an_error_not_a_gap() -> None:
    with StreamSource() as source:
        for _ in range(5):
            source.send(b"x")
        with StreamSink(source.address) as sink:
            for _ in range(5):
                message = sink.receive(5)
                assert message is not None
                sink.acknowledge(message.sequence)
        wait_until(lambda: source.acknowledged == 5, "acknowledged")
        clock.sleep(2.1)  # until the first reader counts as dead
        with StreamSink(source.address, resume_after=2) as late:
            with pytest.raises(BusError, match="cannot go on after message 2"):
                late.receive(5)
        with StreamSink(source.address, resume_after=9) as ahead:
            with pytest.raises(BusError, match="cannot go on after message 9"):
                ahead.receive(5)


def test_only_what_was_received_can_be_acknowledged() -> None:
    with StreamSource() as source, StreamSink(source.address) as sink:
        source.send(b"x")
        assert sink.receive(5) is not None
        with pytest.raises(BusError, match="cannot acknowledge message 2"):
            sink.acknowledge(2)


def test_a_source_that_died_is_an_error_for_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SOURCE_SILENT_S", 0.8)
    source = StreamSource()
    with StreamSink(source.address) as sink:
        source.send(b"x")
        assert sink.receive(5) is not None
        assert sink.receive(1.5) is None  # quiet, but alive
        source.close()  # without an end
        with pytest.raises(BusError, match="source does not answer; message 1 was the last that came"):
            sink.receive(10)
