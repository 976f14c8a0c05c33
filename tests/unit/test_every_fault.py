"""Every fault can be switched on every simulated instrument: from a test, from ``labctl fault`` and from a scenario."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.clock import VirtualClock
from labctl.errors import LimitError, UnknownNameError
from labctl.lab import simulated
from labctl.shelf import shelf
from labctl.sim.faults import ENDS, HAS_NO_MEANING, KINDS, UNASKED
from labctl.sim.inprocess import Bench
from labctl.sim.instrument import SimInstrument
from labctl.up.scenario import load, play
from labctl.up.services import WorldControl

ROOT = Path(__file__).parents[2]
SIMULATORS = sorted({one.simulator for one in shelf(ROOT) if one.simulator and not one.package})
FAULTS_OF_THE_FIELD = {
    "drop": "a reply that never comes",
    "late": "a reply after the client has given up",
    "split": "a packet cut in the middle of a line",
    "glue": "messages without anything between them",
    "unasked": "a message nobody asked for before the reply",
    "garble": "a checksum that is wrong",
    "echo": "an echo that was left on",
    "limit": "no room for another client",
    "silent": "an interface that hangs",
}
"""DEVICES.md 6.4, those of the wire; the others are an instrument's own."""
OWN = {
    "thorlabs_pm100": {"wedge"},
    "timebase_dim3000": {"refuse_quietly"},
    "bristol_871": {"busy", "no_signal"},
    "highfinesse_wavemeter": {"no_signal", "over_exposed"},
    "single_quantum_atlas": {"latch"},
    "toptica_dlcpro": {"unlock", "mode_hop"},
    "thorlabs_mdt693b": {"echo_off"},
}
"""DEVICES.md 6.4, those of an instrument: hanging on an unknown header, values not taken without a word, a busy banner, readings
that are states; and what its physics has."""


class World:
    lock = contextlib.nullcontext()


class Control(WorldControl):
    """What the command line and a scenario call over the bus."""

    def call(self, name: str, /, *arguments: Any) -> Any:
        return super().call(name.removeprefix("world."), *arguments)


def made(name: str) -> SimInstrument:
    return simulated(name, ROOT, lambda: 0.0)


def control(sim: SimInstrument) -> Control:
    world: Any = World()
    return Control(world, {"alice.it": sim}, VirtualClock())


def has_no_meaning(sim: SimInstrument) -> set[str]:
    return {*HAS_NO_MEANING.get(sim.faults.wire, ((), ""))[0]}


def test_the_faults_of_the_field_are_there() -> None:
    assert FAULTS_OF_THE_FIELD.keys() <= KINDS.keys()
    of = {name.partition(":")[0].rpartition(".")[2]: {*made(name).own_faults()} for name in SIMULATORS}
    assert [name for name, faults in OWN.items() if not faults <= of[name]] == []


@pytest.mark.parametrize("name", SIMULATORS)
def test_each_is_switched_on_and_off_by_the_command_and_by_a_scenario(name: str, tmp_path: Path) -> None:
    sim = made(name)
    by_hand = control(sim)
    for kind in KINDS.keys() - has_no_meaning(sim):
        by_hand.call("world.fault", "alice.it", kind, 1.0)
        assert by_hand.call("world.faults") == {"alice.it": {kind: 1.0}}
        by_hand.call("world.clear", "alice.it")
        assert by_hand.call("world.faults") == {}
    for kind in has_no_meaning(sim):
        with pytest.raises(LimitError, match="does not exist here"):
            by_hand.call("world.fault", "alice.it", kind, 1.0)

    kinds = sorted(KINDS.keys() - has_no_meaning(sim))
    tables = [
        f'[[fault]]\nat_s = 0.0\nfor_s = 0.01\ndevice = "alice.it"\nkind = "{kind}"\n' for kind in kinds
    ]
    (tmp_path / "all.toml").write_text("".join(tables))
    said: list[str] = []
    seen: set[str] = set()

    class Watching(Control):
        def call(self, name: str, /, *arguments: Any) -> Any:
            result = super().call(name, *arguments)
            seen.update(sim.faults.active)
            return result

    world: Any = World()
    play(
        Watching(world, {"alice.it": sim}, VirtualClock()),
        load(tmp_path / "all.toml"),
        threading.Event(),
        said.append,
    )
    assert seen == {*kinds}
    assert sim.faults.active == {}


@pytest.mark.parametrize("name", SIMULATORS)
def test_each_of_its_own_can_be_switched_on(name: str) -> None:
    sim = made(name)
    for kind in sim.own_faults():
        assert kind not in KINDS
        control(sim).call("world.fault", "alice.it", kind)
    with pytest.raises(UnknownNameError, match="has no fault 'earthquake'"):
        control(sim).call("world.fault", "alice.it", "earthquake")


@pytest.fixture
def meter() -> Iterator[tuple[SimInstrument, Bench]]:
    sim = made("simulated_hw.thorlabs_pm100:SimThorlabsPm100")
    yield sim, Bench({"it": sim}, VirtualClock())


def reply(bench: Bench) -> bytes:
    connection = bench.connection("it")
    connection.send(b"*IDN?\n")
    came = b"".join(iter(lambda: connection.receive(0.1), b""))
    connection.close()
    return came


def test_what_the_noises_do_in_virtual_time(meter: tuple[SimInstrument, Bench]) -> None:
    sim, bench = meter
    well = reply(bench)
    assert well.startswith(b"Thorlabs") and well.endswith(b"\n")
    sim.faults.switch("echo")
    assert reply(bench) == b"*IDN?\n" + well
    sim.faults.clear()
    sim.faults.switch("unasked")
    assert reply(bench) == UNASKED + well
    sim.faults.clear()
    sim.faults.switch("glue")
    assert reply(bench) == well.rstrip(ENDS)


def test_a_limit_of_clients_in_virtual_time(meter: tuple[SimInstrument, Bench]) -> None:
    sim, bench = meter
    first = bench.connection("it")
    sim.faults.switch("limit", 1)
    assert not bench.connection("it").open
    first.close()
    assert bench.connection("it").open
