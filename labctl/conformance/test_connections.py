"""Opening, closing, several clients, and nothing left behind."""

from __future__ import annotations

import gc
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from labctl.conformance.recording import Wire
from labctl.conformance.tried import HOST, Tried, alike, names_itself
from labctl.errors import LabError, NoAnswerError, NotConnectedError
from labctl.sim.faults import HAS_NO_MEANING

ROUNDS = 5
CYCLES = 10
FEW = 3
"""So many signals are read each time a device is opened again."""
GRACE_S = 3.0
"""How long a socket or thread may take to go."""


def test_nobody_there_is_an_error_that_says_where(tried: Tried) -> None:
    """``open`` at an address where nothing listens."""
    device = tried.device(address=tried.nowhere)
    with pytest.raises((NotConnectedError, NoAnswerError)) as raised:
        device.open()
    assert names_itself(raised.value, device), str(raised.value)
    device.close()


def test_no_room_for_another_client_is_an_error_that_says_where(tried: Tried) -> None:
    """All connections of the instrument are taken; when one is free again, it is used."""
    kinds, why = HAS_NO_MEANING.get(tried.scheme, ((), ""))
    if why := tried.does_not_apply("two clients") or ("limit" in kinds and why):
        pytest.skip(why)
    device = tried.device()
    tried.fault("limit", 0)
    with pytest.raises((NotConnectedError, NoAnswerError)) as raised:
        device.open()
        tried.steady(device)
    assert names_itself(raised.value, device), str(raised.value)
    tried.cure()
    device.open()
    tried.steady(device)


def test_closing_twice_and_before_opening_is_harmless(asked: Tried) -> None:
    """And a closed device can be opened again."""
    device = asked.device()
    device.close()
    device.open()
    before = device.identity()
    device.close()
    device.close()
    device.open()
    assert device.identity() == before


def test_two_clients_at_once_get_their_own_answers(tried: Tried) -> None:
    """Two connections, each asking for everything that is steady, at the same time."""
    if why := tried.does_not_apply("two clients"):
        pytest.skip(why)
    first, second = tried.open("first"), tried.open("second")
    well = tried.steady(first)
    wrong: list[str] = []

    def ask(device: Any) -> None:
        try:
            for _ in range(ROUNDS):
                for name, value in well.items():
                    got = device.signal(name).get()
                    if not alike(device, name, got, value):
                        wrong.append(f"{device.name}.{name} is {got!r}, was {value!r}")
        except LabError as error:
            wrong.append(str(error))

    threads = [threading.Thread(target=ask, args=(device,)) for device in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_half_a_question_of_another_client_disturbs_nobody(tried: Tried) -> None:
    """Somebody sends the first half of a question, waits, and goes away."""
    if why := tried.does_not_apply("half a question"):
        pytest.skip(why)
    wire = Wire()
    device = tried.open(wire=wire)
    well = tried.steady(device)
    question = wire.sent[-1]
    with socket.create_connection((HOST, tried.port)) as other:
        other.sendall(question[: max(1, len(question) // 2)])
        tried.wait(0.05)
        assert {name: device.signal(name).get() for name in well} == well
    assert {name: device.signal(name).get() for name in well} == well


def test_nothing_is_left_when_closed(tried: Tried) -> None:
    """No thread and no open file more than before, however often it was opened."""

    def cycle() -> None:
        device = tried.open()
        device.identity()
        for name in [*type(device).signals][:FEW]:
            device.signal(name).get()
        device.close()

    cycle()  # what is made once stays
    before = _left()
    for _ in range(CYCLES):
        cycle()
    for _ in range(int(GRACE_S / 0.05)):
        gc.collect()
        files, threads = _left()
        if files <= before[0] and threads <= before[1]:
            return
        tried.wait(0.05)
    pytest.fail(f"files and threads {before} before, {_left()} after {CYCLES} times open and close")


def _left() -> tuple[int, int]:
    """Open files (0 where there is no /proc) and threads, but for those of the simulated instrument."""
    folder = Path("/proc/self/fd")
    threads = [one for one in threading.enumerate() if not one.name.startswith("simulated-")]
    return (len([*folder.iterdir()]) if folder.is_dir() else 0), len(threads)
