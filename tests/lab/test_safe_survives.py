"""What was made safe stays safe when its host is killed and started again, until it is restored."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from bus_parts import Instrument, hosted, wait_until

from labctl.bus.client import Client
from labctl.bus.host import Host
from labctl.bus.hub import Hub
from labctl.bus.safe_mark import SafeMark, forget_all
from labctl.config import LabConfig, load
from labctl.errors import BusError, DeviceError, NoHubError
from labctl.up.config_ports import with_free_ports
from labctl.up.supervisor import Supervisor

ROOT = Path(__file__).parents[2]
LASER = "alice.laser"


@pytest.fixture
def hub() -> Iterator[str]:
    with Hub("tcp://127.0.0.1:0") as running:
        yield running.addresses.registry


@contextmanager
def host_process(hub: str, marks: Path | str, found_a: float) -> Iterator[subprocess.Popen[bytes]]:
    """A host of the laser in a process of its own, killed with SIGKILL at the end."""
    program = str(Path(__file__).with_name("bus_parts.py"))
    process = subprocess.Popen(
        [sys.executable, program, hub, "alice", LASER, str(marks), str(found_a)],
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def is_in(client: Client, state: str, device: str = LASER) -> bool:
    with suppress(BusError, NoHubError):
        return client.cached(device)["state"] == state
    return False


@pytest.mark.parametrize("way", ["safe", "action"])
def test_a_killed_host_comes_back_safe_until_restored(hub: str, tmp_path: Path, way: str) -> None:
    marks = tmp_path / "not there yet" / "safe"
    with Client(hub, owner="night shift") as client:
        with host_process(hub, marks, 0.0):
            wait_until(lambda: is_in(client, "ready"), "ready")
            assert client.get(f"{LASER}.current") == 0.1
            if way == "safe":
                client.safe([LASER])
            else:
                client.call(f"{LASER}.safe")
        for _ in range(2):  # however often it dies
            with host_process(hub, marks, 0.15):  # somebody left it on: it is made safe, not declared
                wait_until(lambda: is_in(client, "safe"), "safe after the restart")
                assert client.get(f"{LASER}.current") == 0.0
                reason = client.cached(LASER)["reason"]
                assert (
                    "made safe by night shift at 20" in reason and "before its host was restarted" in reason
                )
        with host_process(hub, marks, 0.15):
            wait_until(lambda: is_in(client, "safe"), "safe")
            client.restore(LASER)
            wait_until(lambda: is_in(client, "ready"), "restored")
            assert client.get(f"{LASER}.current") == 0.1
        with host_process(hub, marks, 0.0):
            wait_until(lambda: is_in(client, "ready"), "ready: restored before the host died")
            assert client.get(f"{LASER}.current") == 0.1


def test_a_host_without_a_folder_sets_the_declared_state(hub: str) -> None:
    with Client(hub) as client:
        with host_process(hub, "", 0.0):
            wait_until(lambda: is_in(client, "ready"), "ready")
            client.safe([LASER])
        with host_process(hub, "", 0.0):
            wait_until(lambda: is_in(client, "ready"), "ready")
            assert client.get(f"{LASER}.current") == 0.1


def test_the_mark_is_there_before_safe_is_carried_out(hub: str, tmp_path: Path) -> None:
    instrument = Instrument(connections=1)
    with (
        Host("alice", [hosted(LASER, instrument, current=0.1)], hub, safe_marks=tmp_path) as host,
        Client(hub) as client,
    ):
        host.wait_registered()
        wait_until(lambda: is_in(client, "ready"), "ready")
        lane = host._lanes[LASER]
        seen: list[bool] = []
        carry_out = lane.device.safe

        def safe() -> None:
            seen.append(any(tmp_path.iterdir()))
            carry_out()

        lane.device.safe = safe
        client.safe([LASER])
        assert seen == [True]


def test_a_lease_that_ran_out_is_remembered_too(hub: str, tmp_path: Path) -> None:
    with Host("alice", [hosted(LASER, Instrument(), current=0.1)], hub, safe_marks=tmp_path) as host:
        host.wait_registered()
        with Client(hub) as client:
            wait_until(lambda: is_in(client, "ready"), "ready")
            client.control(client.row(LASER).control, "lease", [[LASER], "run 17", 0.3])
            wait_until(lambda: is_in(client, "safe"), "safe")
    assert "the lease of 'run 17' ran out" in SafeMark(tmp_path, LASER).read()


def test_safe_is_carried_out_where_it_cannot_be_remembered(hub: str, tmp_path: Path) -> None:
    marks = tmp_path / "safe"
    marks.mkdir()
    instrument = Instrument()
    with Host("alice", [hosted(LASER, instrument, current=0.1)], hub, safe_marks=marks) as host:
        host.wait_registered()
        with Client(hub) as client:
            wait_until(lambda: is_in(client, "ready"), "ready")
            marks.rmdir()
            marks.write_text("a file where the folder was")
            client.safe([LASER])
            assert instrument.values["current"] == 0.0
            assert "cannot be written" in client.cached(LASER)["reason"]
            with pytest.raises(DeviceError, match=r"alice\.laser stays safe: .* cannot be removed"):
                client.restore(LASER)
            assert is_in(client, "safe")


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00", b"2026-01-01T00:00:00Z"])
def test_a_mark_that_was_cut_short_means_safe(tmp_path: Path, content: bytes) -> None:
    mark = SafeMark(tmp_path, LASER)
    mark.write("made safe by somebody")
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert "before its host was restarted" in mark.read()
    forget_all(tmp_path)
    assert mark.read() == ""


def test_a_name_is_never_a_path(tmp_path: Path) -> None:
    for device in ("../x", "a/b", "."):
        assert SafeMark(tmp_path / "in", device).write("r") == ""
        assert SafeMark(tmp_path / "in", device).read()
    assert [*tmp_path.iterdir()] == [tmp_path / "in"]
    assert len([*(tmp_path / "in").iterdir()]) == 3


@pytest.mark.timeout(300)
def test_a_lab_keeps_a_laser_off_past_kill_9_and_a_fresh_start_turns_it_on() -> None:
    laser = "alice.laser_397"
    config = with_free_ports(load(ROOT / "configs" / "ca40_10km.toml"), f"safe-{os.getpid()}")
    with up(config) as supervisor, Client(supervisor.hub) as client:
        wait_until(lambda: is_in(client, "ready", laser), "ready", 60)
        client.safe([laser])
        (host,) = [child for child in supervisor._children if child.name == "alice"]
        assert host.process is not None
        killed = host.process
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        wait_until(lambda: host.process not in (None, killed), "started again", 60)
        wait_until(lambda: is_in(client, "safe", laser), "safe", 60)
        wait_until(lambda: is_in(client, "ready", "alice.laser_854"), "the others as declared", 60)
        assert client.get(f"{laser}.enabled") is False
        assert any((supervisor.state / "safe").iterdir())
    with up(config) as supervisor, Client(supervisor.hub) as client:
        wait_until(lambda: is_in(client, "ready", laser), "declared by a fresh start", 60)
        assert client.get(f"{laser}.enabled") is True
    shutil.rmtree(supervisor.state)


@contextmanager
def up(config: LabConfig) -> Iterator[Supervisor]:
    """The lab, supervised in a thread."""
    stop = threading.Event()
    with Supervisor(config, ROOT, echo=lambda _: None) as supervisor:
        thread = threading.Thread(target=supervisor.run_until, args=(stop,))
        thread.start()
        try:
            yield supervisor
        finally:
            stop.set()
            thread.join()
