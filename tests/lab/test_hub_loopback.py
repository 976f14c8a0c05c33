"""A hub that other machines could reach is refused in one line, before anything is started."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from labctl.config import load
from labctl.errors import ConfigError
from labctl.up.process import Task, only_here
from labctl.up.supervisor import Supervisor

ROOT = Path(__file__).parents[2]


def task(hub: str) -> Task:
    return Task("hub", "lab.toml", "", "", hub)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "localhost", "[::1]"])
def test_loopback_is_served(host: str) -> None:
    only_here(task(f"tcp://{host}:17700"))


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "10.0.4.2", "[::]", "lab-pc", "127.0.0.1.example.org"])
def test_what_others_could_reach_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="does not yet open devices to other machines") as error:
        only_here(task(f"tcp://{host}:17700"))
    assert "\n" not in str(error.value) and "lab.toml [hub]" in str(error.value)


def test_up_refuses_it_and_leaves_nothing_running() -> None:
    overrides = {"name": f"not-here-{os.getpid()}", "hub": {"address": "tcp://0.0.0.0:17700"}}
    config = load(ROOT / "configs" / "ca40_10km.toml", overrides)
    supervisor = Supervisor(config, ROOT, echo=lambda _: None)
    with pytest.raises(ConfigError, match=r"\[hub\]: address tcp://0\.0\.0\.0:17700 is not loopback"):
        supervisor.start()
    assert all(child.process is None for child in supervisor._children)
    assert not (supervisor.state / "runtime.json").exists()
    shutil.rmtree(supervisor.state)
