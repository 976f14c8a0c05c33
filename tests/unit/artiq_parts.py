"""Compiles schedules for the Kasli of the tests, and plays what comes out on the stand-in for ARTIQ."""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artiq_types import Kernels
from fake_artiq import Clicks, Machine, module

from labctl.config import ArtiqConfig, ArtiqLine, LabConfig, load
from labctl.core.artiq.compile import Experiment, compile_schedule
from labctl.core.artiq.device_db import DeviceDb, read
from labctl.schedule.items import Schedule
from labctl.schedule.lines import Line
from labctl.units import MHz, ns

ROOT = Path(__file__).parents[2]
DEVICE_DB = ROOT / "tests" / "data" / "artiq" / "device_db_kasli.py"
KASLI: DeviceDb = read(DEVICE_DB)
LAB: LabConfig = load(ROOT / "configs" / "ca40_10km.toml")

LINES = {
    **{f"n.out{k}": Line(grid_ps=ns, shortest_ps=ns) for k in range(8)},
    "n.led": Line(grid_ps=ns, shortest_ps=ns),
    "n.dds": Line(kind="tone", grid_ps=ns, lowest_hz=-10 * MHz, highest_hz=10 * MHz),
    "n.dds2": Line(kind="tone", grid_ps=ns, lowest_hz=-10 * MHz, highest_hz=10 * MHz),
    "n.other": Line(kind="tone", grid_ps=ns, lowest_hz=-10 * MHz, highest_hz=10 * MHz),
    "n.old": Line(kind="tone", grid_ps=ns, lowest_hz=-10 * MHz, highest_hz=10 * MHz),
    "n.awg": Line(kind="tone", grid_ps=250, shortest_ps=ns),
    "n.late": Line(grid_ps=ns, delay_ps=450 * ns),
    "n.in0": Line("in", "detector", grid_ps=ns, shortest_ps=ns),
    "n.in1": Line("in", "detector", grid_ps=ns, shortest_ps=ns),
    "n.slow": Line("in", "detector", grid_ps=ns, shortest_ps=ns, delay_ps=2_000 * ns),
}
CONFIG = ArtiqConfig(
    line={
        "n": {
            **{f"out{k}": f"ttl{4 + k}" for k in range(8)},
            "led": ArtiqLine("led0", grid_mu=8),
            "dds": ArtiqLine("urukul0_ch0", frequency_hz=80 * MHz),
            "dds2": ArtiqLine("urukul0_ch1", frequency_hz=80 * MHz),
            "other": ArtiqLine("urukul1_ch0", frequency_hz=100 * MHz, amplitude=0.5, attenuation_db=10.0),
            "old": ArtiqLine("urukul2_ch0", frequency_hz=80 * MHz),
            "awg": ArtiqLine("ttl_urukul1_sw3", trigger_ps=100 * ns, generator_ps=2_250),
            "late": "ttl_urukul1_sw2",
            "in0": "ttl0",
            "in1": "ttl1",
            "slow": "ttl2",
        }
    }
)


def compiled(schedule: Schedule, how: Mapping[str, str] | None = None) -> Experiment:
    """A schedule on the lines above."""
    return compile_schedule(schedule, LINES, CONFIG, KASLI, how=how)


@dataclass
class Round:
    """What one round did: events (time from its origin, device, action, words) in the order they were put in, registers."""

    events: list[tuple[int, str, str, tuple[int, ...]]]
    registers: dict[str, Any]


@dataclass
class Run:
    rounds: list[Round]
    datasets: dict[str, list[Any]]
    machine: Machine
    experiment: Any


def no_clicks(device: str, opened: int, closed: int) -> list[int]:
    return []


def quotient(number: int, divisor: int) -> int:
    """In kernels ``//`` rounds towards zero, and ``%`` below zero is neither Python's nor C's: emitted code stays above."""
    assert number >= 0 and divisor > 0, f"{number} // {divisor} differs in a kernel"
    return number // divisor


def remainder(number: int, divisor: int) -> int:
    """See :func:`quotient`."""
    assert number >= 0 and divisor > 0, f"{number} % {divisor} differs in a kernel"
    return number % divisor


class _Division(ast.NodeTransformer):
    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        name = {ast.FloorDiv: "quotient", ast.Mod: "remainder"}.get(type(node.op))
        return node if name is None else ast.Call(ast.Name(name, ast.Load()), [node.left, node.right], [])


def with_division_of_kernels(source: str) -> ast.Module:
    """The experiment with every division of its kernels checked."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and [ast.unparse(one) for one in node.decorator_list] == [
            "kernel"
        ]:
            node.body = [_Division().visit(statement) for statement in node.body]
    return ast.fix_missing_locations(tree)


def prepared(source: str, machine: Machine, arguments: Mapping[str, Any], device_db: Path = DEVICE_DB) -> Any:
    """An emitted experiment, built and prepared."""
    scope: dict[str, Any] = {}
    exec(device_db.read_text(), scope)
    made = module(machine, scope["device_db"], dict(arguments))
    package = types.ModuleType("artiq")
    before = {name: sys.modules.get(name) for name in ("artiq", "artiq.experiment")}
    sys.modules.update({"artiq": package, "artiq.experiment": made})
    namespace: dict[str, Any] = {"quotient": quotient, "remainder": remainder}
    try:
        exec(compile(with_division_of_kernels(source), "emitted.py", "exec"), namespace)
    finally:
        for name, old in before.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old
    cls = next(
        value
        for value in namespace.values()
        if isinstance(value, type)
        and value is not made.EnvExperiment
        and issubclass(value, made.EnvExperiment)
    )
    experiment = cls()
    experiment.prepare()
    classes = {name: entry["class"] for name, entry in scope["device_db"].items() if "class" in entry}
    Kernels(source, experiment, classes).check()
    return experiment


def play(
    source: str,
    rounds: int = 1,
    seed: int = 1,
    clicks: Clicks = no_clicks,
    hiccups: tuple[int, ...] = (),
    device_db: Path = DEVICE_DB,
) -> Run:
    """Run an emitted experiment in plain Python."""
    machine = Machine(clicks, hiccups=list(hiccups))
    experiment = prepared(source, machine, {"rounds": rounds, "seed": seed}, device_db)
    one_round, found = experiment.one_round, []

    def watched(*handles: Any) -> None:
        first = len(machine.events)
        one_round(*handles)
        origin = int(experiment.origin)
        events = [
            (time - origin, device, action, words) for time, device, action, words in machine.events[first:]
        ]
        registers = {name: value for name, value in vars(experiment).items() if name.startswith("r_")}
        found.append(Round(events, {name: int(value) for name, value in registers.items()}))

    experiment.one_round = watched
    experiment.run()
    return Run(found, experiment.datasets, machine, experiment)
