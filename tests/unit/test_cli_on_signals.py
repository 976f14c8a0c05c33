"""Signals are told in a thread of their own, whatever the main thread is doing just then."""

import os
import signal
import threading

import pytest

from labctl.cli.on_signals import on_signals

TICK = signal.SIGVTALRM
"""Of a timer that counts this process's own time; the timer of wall time is pytest-timeout's."""


def test_an_event_can_be_set_while_the_main_thread_has_its_lock() -> None:
    """A handler that did it in the main thread would wait for itself within a few milliseconds."""
    event, told = threading.Event(), list[int]()

    def tell(number: int) -> None:
        told.append(number)
        event.set()

    before = signal.getsignal(TICK)
    with on_signals(tell, TICK):
        signal.setitimer(signal.ITIMER_VIRTUAL, 1e-3, 1e-3)
        try:
            while len(told) < 30:
                event.clear()
                event.wait(0)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    assert set(told) == {TICK}
    assert signal.getsignal(TICK) == before
    assert "signals" not in {thread.name for thread in threading.enumerate()}


def test_the_second_one_interrupts_when_asked_to() -> None:
    told: list[int] = []
    first = False
    with pytest.raises(KeyboardInterrupt), on_signals(told.append, signal.SIGTERM, at_once=bool):
        os.kill(os.getpid(), signal.SIGTERM)
        first = True
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the second signal did not interrupt")
    assert first
    assert told == [signal.SIGTERM, signal.SIGTERM]


def test_other_threads_leave_the_handlers_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    during: list[object] = []

    def elsewhere() -> None:
        with on_signals(print, signal.SIGTERM):
            during.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert during == [before]
