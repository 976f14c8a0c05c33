"""Ports for copies of a lab: no two processes are given the same, though neither has used them yet."""

from __future__ import annotations

import socket
import subprocess
import sys

from labctl.up.free_ports import BLOCK, free_ports

ASK = "import sys; from labctl.up.free_ports import free_ports; print(*free_ports(100), flush=True); sys.stdin.read()"


def test_processes_that_ask_at_once_are_given_different_ports() -> None:
    others = [
        subprocess.Popen(
            [sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    given = list(free_ports(BLOCK + 1))
    for other in others:
        assert other.stdout is not None
        given += map(int, other.stdout.readline().split())
    for other in others:
        other.communicate()
    assert len(given) == BLOCK + 1 + 300
    assert len(set(given)) == len(given)


def test_a_port_in_use_is_passed_over() -> None:
    first = free_ports(1)[0]
    with socket.create_server(("127.0.0.1", first + 1)) as taken:
        assert taken.getsockname()[1] not in free_ports(3)
