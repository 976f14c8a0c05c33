"""The core's outbox: order, waiting for room, gathering, urgent items."""

import threading

from labctl.core.outbox import Outbox


def test_everything_waiting_is_taken_in_order():
    box: Outbox[int] = Outbox(10)
    for n in range(5):
        box.put(n)
    assert box.take_one(0) == 0
    assert box.take(0) == [1, 2, 3, 4]
    assert box.take(0) == [] and box.take_one(0) is None


def test_a_full_box_lets_the_writer_wait_and_ends_gathering():
    box: Outbox[int] = Outbox(3)
    writer = threading.Thread(target=lambda: [box.put(n) for n in range(10)])
    writer.start()
    taken: list[int] = []
    while len(taken) < 9:
        taken += (batch := box.take(5.0, gather_s=60.0))
        assert len(batch) == 3
    assert box.take(5.0) == [9]
    writer.join(5)
    assert taken == list(range(9)) and not writer.is_alive()


def test_an_urgent_item_ends_gathering():
    box: Outbox[str] = Outbox(100)
    writer = threading.Thread(target=lambda: (box.put("a"), box.put("b"), box.put("last", urgent=True)))
    writer.start()
    taken = box.take(5.0, gather_s=60.0)
    writer.join(5)
    assert taken == ["a", "b", "last"]


def test_closing_frees_a_writer_that_waits():
    box: Outbox[int] = Outbox(1)
    box.put(1)
    writer = threading.Thread(target=lambda: box.put(2))
    writer.start()
    box.close()
    writer.join(5)
    assert not writer.is_alive() and box.take(0) == []
