"""Emitted files are Python that ARTIQ's compiler takes: its dialect, checked on the syntax tree. And the command line."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path

import numpy as np
import pytest
from artiq_parts import CONFIG, DEVICE_DB, KASLI, LAB, LINES, compiled, no_clicks, play, prepared
from click.testing import CliRunner
from fake_artiq import Machine
from test_artiq_play import train, xy8

from labctl.cli import main
from labctl.config import load
from labctl.core.artiq.compile import compile_schedule
from labctl.core.artiq.device_db import read as read_device_db
from labctl.core.artiq.sidecar import read as read_sidecar
from labctl.core.phase_filter import PhaseFilter
from labctl.errors import ConfigError, DataError, ScheduleError
from labctl.schedule.items import Gate, Repeat, Report, Schedule, Series, Together, Track, Wait
from labctl.units import ns, us
from sequences.fringe import fringe
from sequences.link import link

SOURCES = {
    "link": lambda: compile_schedule(link(cool_every=5), LAB.line, LAB.core.artiq, KASLI).source,
    "link bell": lambda: compile_schedule(link(measure="bell"), LAB.line, LAB.core.artiq, KASLI).source,
    "fringe": lambda: compile_schedule(fringe(), LAB.line, LAB.core.artiq, KASLI).source,
    "xy8": lambda: compiled(xy8()).source,
    "xy8 table": lambda: compiled(xy8(), {"xy8": "table"}).source,
    "train dma": lambda: compiled(train()).source,
    "train source": lambda: compiled(train(), {"train": "source"}).source,
    "train table": lambda: compiled(train(), {"train": "table"}).source,
}
IN_KERNELS = (
    *(
        ast.arguments,
        ast.arg,
        ast.Expr,
        ast.Assign,
        ast.AugAssign,
        ast.For,
        ast.While,
        ast.If,
        ast.Return,
        ast.Try,
    ),
    *(
        ast.ExceptHandler,
        ast.Raise,
        ast.Pass,
        ast.Call,
        ast.Attribute,
        ast.Name,
        ast.Constant,
        ast.BinOp,
        ast.UnaryOp,
    ),
    *(ast.Compare, ast.BoolOp, ast.Subscript, ast.List, ast.keyword, ast.With, ast.withitem, ast.operator),
    *(ast.unaryop, ast.cmpop, ast.boolop, ast.expr_context),
)
"""What kernels may consist of: no closures, lambdas, comprehensions, dicts, f-strings, yields, asserts, imports."""
LARGEST_METHOD = 450
"""Statements after which the compiler gives up (ARTIQ.md 1: 600 edges)."""


def decorators(function: ast.FunctionDef) -> set[str]:
    return {ast.unparse(one).partition("(")[0] for one in function.decorator_list}


@pytest.mark.parametrize("name", SOURCES)
def test_the_dialect_of_kernels(name: str) -> None:
    source = SOURCES[name]()
    assert source.isascii() and "\t" not in source
    compile(source, "emitted.py", "exec")
    tree = ast.parse(source, feature_version=(3, 7))
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    modules = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports}
    assert modules == {"numpy", "artiq.experiment"}
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(classes) == 1
    methods = {node.name: node for node in classes[0].body if isinstance(node, ast.FunctionDef)}
    kernels = {name: node for name, node in methods.items() if decorators(node) == {"kernel"}}
    assert {"play", "one_round", "set_up", "all_off"} <= set(kernels)
    called = {node.func.attr for k in kernels.values() for node in ast.walk(k) if is_self_call(node)}
    assert called <= {name for name, node in methods.items() if decorators(node) & {"kernel", "rpc"}}
    assert set(kernels) - {"play"} <= called, "every kernel is used"
    for function in kernels.values():
        kernel(function)


def is_self_call(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="self"))):
            return True
        case _:
            return False


def kernel(function: ast.FunctionDef) -> None:
    inner = [node for statement in function.body for node in ast.walk(statement)]
    where = function.name
    assert len([node for node in inner if isinstance(node, ast.stmt)]) < LARGEST_METHOD, where
    for node in inner:
        assert isinstance(node, IN_KERNELS), f"{where}: {ast.unparse(node)}"
        if isinstance(node, ast.Constant):
            assert not isinstance(node.value, (float, complex, bytes)), f"{where}: {node.value!r}"
        if isinstance(node, ast.BinOp):
            assert not isinstance(node.op, (ast.Div, ast.Pow)), f"{where}: {ast.unparse(node)}"
        if isinstance(node, ast.Name):
            assert node.id not in ("parallel", "sequential", "interleave", "delay", "us", "ns", "ms"), where
        if isinstance(node, ast.With):
            assert [ast.unparse(item.context_expr).partition("(")[0] for item in node.items] == [
                "self.core_dma.record"
            ]
        if isinstance(node, ast.Try):
            assert not node.finalbody and not node.orelse, where
            assert not any(isinstance(one, ast.Return) for part in node.body for one in ast.walk(part)), where
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("seconds_to_mu", "mu_to_seconds", "pulse", "gate_rising"), where
    returns = [node for node in inner if isinstance(node, ast.Return)]
    assert ast.unparse(function.returns or ast.Name("")) in ("TNone", "TInt64", "TInt32"), where
    assert bool(returns) == (ast.unparse(function.returns or ast.Name("")) != "TNone"), where
    for argument in function.args.args[1:]:
        assert argument.annotation is not None or argument.arg.startswith("dma_"), where


@pytest.mark.parametrize("phase", [0.1, 1.0, 2.5, -2.0])
def test_the_integer_tracker_follows_the_bayes_filter(phase: float) -> None:
    """Same clicks, 40 cycles: within a small part of the posterior's own width."""
    contrast, diffusion, cycles = 0.99, 15.0, 40
    rng = np.random.default_rng(int(phase * 10) % 97)
    counts = np.empty((cycles, 2, 2), np.int64)
    for slot, bias in enumerate((0.25, 0.0)):
        share = (1 + contrast * math.cos(phase + 2 * math.pi * bias)) / 2
        counts[:, slot, 0] = rng.poisson(6 * share, cycles)
        counts[:, slot, 1] = rng.poisson(6 * (1 - share), cycles)
    slots = tuple((f"q{k}0", f"q{k}1", bias) for k, bias in enumerate((0.25, 0.0)))
    gates = [Together((Gate("n.in0", 20 * us, f"q{k}0"), Gate("n.in1", 20 * us, f"q{k}1"))) for k in (0, 1)]
    turn = Series((*gates, Wait(335 * us), Track(slots, "phase", contrast, diffusion)))
    report = Report({"phase": "phase", "sigma": "phase.sigma_rad", "clicks": "phase.clicks"})
    made = compiled(Schedule("track", Series((Repeat(cycles, turn), report))))
    given = {f"ttl{d}_counter": iter(counts[:, :, d].ravel()) for d in (0, 1)}

    def clicks(device: str, opened: int, closed: int) -> list[int]:
        return [opened] * next(given[device])

    run = play(made.source, clicks=clicks)
    reference = PhaseFilter(contrast, diffusion, (math.pi / 2, 0.0))
    reference.follow(counts, np.arange(cycles) * 375e-6)
    mean, sigma = reference.estimate()
    got = run.datasets["track.phase"][0] * 2e-6 * math.pi
    away = (got - mean + math.pi) % (2 * math.pi) - math.pi
    assert abs(away) < 0.35 * sigma
    assert run.datasets["track.sigma"][0] == pytest.approx(sigma, rel=0.25)
    assert run.datasets["track.clicks"][0] == counts[-1].sum()


def test_numbers_and_phase_words_of_32_bits_are_those_of_their_formulas() -> None:
    experiment = prepared(SOURCES["fringe"](), Machine(no_clicks), {"rounds": 1, "seed": 5})
    one, other = int(experiment.seed_1), int(experiment.seed_2)
    for _ in range(300):
        one, other = one * 40014 % 2147483563, other * 40692 % 2147483399
        assert experiment.draw() == (one - other - 1) % 2147483562
    for turn in (65536, 16384):
        for value in range(-1_200_000, 1_200_000, 9_973):
            word = experiment.phase_word(np.int64(value), np.int64(-3), np.int64(125), np.int32(turn))
            assert word == ((125 - 3 * value) % 1_000_000 * turn + 500_000) // 1_000_000 % turn


def test_boards_of_two_kinds_are_set_up_apart(tmp_path: Path) -> None:
    """The compiler takes objects of one class with attributes of the same types only: `sync` of CPLD, `sync_data` of AD9910."""
    device_db = tmp_path / "device_db.py"
    device_db.write_text(DEVICE_DB.read_text().replace('"sync_device": None', '"sync_device": "sync"', 2))
    source = compile_schedule(link(limit=2), LAB.line, LAB.core.artiq, read_device_db(device_db)).source
    calls = ["self.begin()", "self.set_up_boards_1()", "self.set_up_boards_2()", "self.play("]
    assert [
        line.strip()[: len(call)] for call, line in zip(calls, after(source, "def run(self)"), strict=False)
    ] == calls
    first, other = (after(source, f"def set_up_boards_{k}(self)") for k in (1, 2))
    inits = [[line.strip() for line in part if "cpld.init" in line] for part in (first, other)]
    assert inits == [["self.urukul0_cpld.init()", "self.urukul1_cpld.init()"], ["self.urukul2_cpld.init()"]]
    assert not any("cpld.init" in line for line in after(source, "def set_up(self)"))
    play(source, device_db=device_db)
    device_db.write_text(
        DEVICE_DB.read_text().replace(
            '"pll_n": 32', '"sync_delay_seed": "eeprom_urukul0:64" if i else -1, "pll_n": 32'
        )
    )
    with pytest.raises(ScheduleError) as caught:
        compile_schedule(link(limit=2), LAB.line, LAB.core.artiq, read_device_db(device_db))
    assert "has its synchronisation in an EEPROM" in caught.value.problems[0]


def after(source: str, head: str) -> list[str]:
    """The lines of a method."""
    body = source.partition(f"    {head}")[2].partition("\n")[2]
    return body.partition("\n\n")[0].splitlines()


def compile_link(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["compile", "link", "--core", "artiq", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_compile_writes_experiment_timeline_and_report(tmp_path: Path) -> None:
    code, out, err = compile_link(
        "--device-db", str(DEVICE_DB), "--set", "limit=3", "-o", str(tmp_path / "out")
    )
    assert (code, err) == (0, "")
    assert [Path(line).name for line in out.splitlines()] == ["link.py", "link.json", "link.txt"]
    ast.parse((tmp_path / "out" / "link.py").read_text())
    assert read_sidecar((tmp_path / "out" / "link.json").read_bytes()).plan.schedule == "link"
    report = (tmp_path / "out" / "link.txt").read_text()
    assert "attempt: link / attempt" in report and "slack at least" in report
    assert "an attempt of 10000 coarse cycles, more than 1027" in report
    assert json.loads((tmp_path / "out" / "link.json").read_text())["plan"]["ref_period_ps"] == 1000


def test_compile_lists_every_problem(tmp_path: Path) -> None:
    code, _, err = compile_link("--device-db", str(DEVICE_DB), "--set", "window=60500ps", "-o", str(tmp_path))
    assert code == 1
    assert "link cannot be compiled for ARTIQ, 2 problems" in err or "off this line's grid" in err
    assert list(tmp_path.iterdir()) == []


def test_compile_without_a_device_db(tmp_path: Path) -> None:
    code, _, err = compile_link("-o", str(tmp_path))
    assert code == 2 and "give --device-db FILE" in err
    code, _, err = compile_link("--device-db", str(tmp_path / "none.py"), "-o", str(tmp_path))
    assert code == 1 and "no such file" in err


def test_the_lab_file_says_which_key_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_text('name = "x"\n[core.artiq.line.n]\nout = { device = "ttl4", trigger = 3 }\n')
    with pytest.raises(ConfigError, match=r"\[core\]: unknown key 'trigger'"):
        load(file)
    file.write_text('name = "x"\n[core.artiq.line.n]\nout = "ttl4"\n[line.n.out]\n')
    assert load(file).core.artiq.line == {"n": {"out": "ttl4"}}


def test_a_sidecar_of_something_else() -> None:
    with pytest.raises(DataError, match="not the JSON file"):
        read_sidecar(b"{}")
    data = compiled(xy8()).sidecar.replace(b"labctl-artiq-1", b"labctl-artiq-9")
    with pytest.raises(DataError, match="'labctl-artiq-9'"):
        read_sidecar(data)


def test_ns_grid_of_the_shipped_lab() -> None:
    assert all(line.grid_ps in (250, 1000) for line in LAB.line.values())
    assert set(LAB.core.artiq.line) == {"alice", "bob", "charlie"}
    assert CONFIG.line["n"].keys() == {name.partition(".")[2] for name in LINES}
    assert ns == 1000
