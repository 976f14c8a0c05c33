"""Blocks over several processes: each takes one block at a time; an error ends them all, what is complete stays."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from typing import Any

from labctl.errors import LabError, RunError
from labctl.reproduce.block import Block, Done, take

LISTEN_S = 0.5
"""How often it is noticed that a process died."""


def taken(blocks: list[Block], processes: int) -> Iterator[tuple[Block, Done]]:
    """Take the blocks, as they come to an end; RunError with what went wrong in one of them."""
    if processes <= 1 or len(blocks) < 2:
        for block in blocks:
            yield block, take(block)
        return
    spawn = multiprocessing.get_context("spawn")
    jobs: Any = spawn.Queue()
    answers: Any = spawn.Queue()
    for number in range(len(blocks)):
        jobs.put(number)
    workers: list[BaseProcess] = [
        spawn.Process(target=_work, args=(blocks, jobs, answers), daemon=True)
        for _ in range(min(processes, len(blocks)))
    ]
    for worker in workers:
        jobs.put(None)
        worker.start()
    try:
        for _ in blocks:
            number, done = _answer(answers, workers)
            yield blocks[number], done
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
        for one in (jobs, answers):
            one.cancel_join_thread()
            one.close()


def _answer(answers: Any, workers: list[BaseProcess]) -> tuple[int, Done]:
    while True:
        try:
            number, done, error = answers.get(timeout=LISTEN_S)
        except queue.Empty:
            dead = [worker for worker in workers if worker.exitcode not in (None, 0)]
            if dead:
                raise RunError(
                    f"a process that took blocks died (exit code {dead[0].exitcode}); the complete blocks are kept:"
                    " give the same command again to go on"
                ) from None
            continue
        if error:
            raise RunError(error)
        return number, done


def _work(blocks: list[Block], jobs: Any, answers: Any) -> None:
    """What a process does; Ctrl-C is for its parent, and a parent that was killed takes it along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        number: int | None = jobs.get()
        if number is None:
            return
        block = blocks[number]
        try:
            done = take(block)
        except LabError as failure:
            answers.put((number, None, f"{block.key} block {block.number}: {failure}"))
            return
        answers.put((number, done, ""))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
