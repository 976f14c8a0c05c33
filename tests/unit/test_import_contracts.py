"""Every import contract of pyproject.toml is kept by the tree and broken by each of the imports planted against it.

The packages are copied once; all violations of a contract are planted in the copy, import-linter has to name each, and
the copy is put back.
"""

import itertools
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("labctl", "drivers", "sequences", "simulated_hw")
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACTS = [contract["name"] for contract in SETTINGS["contracts"]]
ROOMS = {room for layer in SETTINGS["contracts"][0]["layers"] for room in layer.split(" | ")}
LAYERS = "labctl is layers, each room imports only from below"
ANYWHERE = (
    "labctl.up.planted",
    "labctl.run.planted",
    "drivers.planted",
    "sequences.planted",
    "simulated_hw.planted",
)


class Plant(NamedTuple):
    """One import that must not be: a new module that has it, and the contract it breaks."""

    contract: str
    module: str
    imported: str

    def __str__(self) -> str:
        return f"{self.module}-{self.imported}"


def library(contract: str, names: str, *modules: str) -> list[Plant]:
    return [Plant(contract, module, name) for name in names.split() for module in (*ANYWHERE, *modules)]


def layers() -> list[Plant]:
    """Every room imports the room above it, and its neighbour where two stand side by side."""
    rows = [layer.split(" | ") for layer in SETTINGS["contracts"][0]["layers"]]
    upward = [(low, above[0]) for above, row in itertools.pairwise(rows) for low in row]
    upward.remove(("signal", "device"))  # the exemption: see pyproject.toml
    upward.append(("signal", "scpi"))
    sideways = [(one, other) for row in rows for one in row for other in row if one != other]
    return [Plant(LAYERS, f"labctl.{low}", f"labctl.{high}") for low, high in upward + sideways]


PLANTS = [
    *layers(),
    *(
        Plant("labctl never imports the lab folder", f"labctl.{room}.planted", folder)
        for room in ("cli", "up", "run", "core")
        for folder in ("drivers", "sequences", "simulated_hw")
    ),
    *(
        Plant("drivers, sequences and simulated_hw do not know each other", f"{one}.planted", other)
        for one in PACKAGES[1:]
        for other in PACKAGES[1:]
        if one != other
    ),
    *(
        Plant(
            "drivers know devices, signals, transports, SCPI, units and errors",
            "drivers.planted",
            f"labctl.{room}",
        )
        for room in sorted(ROOMS - {"device", "signal", "scpi", "transport", "units", "errors"})
    ),
    *(
        Plant(
            "sequences know schedules, units and what a procedure is given",
            "sequences.planted",
            f"labctl.{room}",
        )
        for room in sorted(ROOMS - {"schedule", "units"})
    ),
    *(
        Plant(
            "simulated_hw knows what a simulated instrument is, clock, units and errors",
            "simulated_hw.world.planted",
            f"labctl.{room}",
        )
        for room in sorted(ROOMS - {"sim", "clock", "units", "errors"})
    ),
    *(
        Plant(
            "conformance knows drivers, simulated instruments and how to find them",
            "labctl.conformance.planted",
            f"labctl.{room}",
        )
        for room in sorted(
            ROOMS
            - {
                "conformance",
                "__main__",
                "shelf",
                "lab",
                "device",
                "signal",
                "transport",
                "sim",
                "clock",
                "errors",
            }
        )
    ),
    *library("pytest only in conformance", "pytest", "labctl.bus.planted"),
    *library("zmq only behind bus, transport and sim", "zmq", "labctl.core.planted"),
    *library("pyvisa and pyserial only behind transport", "pyvisa pyvisa_py serial", "labctl.sim.planted"),
    *(
        Plant("nidaqmx and gRPC only in drivers, simulated_hw, transport and the NI core", module, name)
        for name in ("nidaqmx", "grpc")
        for module in ("labctl.up.planted", "labctl.sim.planted", "labctl.core.planted", "sequences.planted")
    ),
    *library("HDF5 and xarray only behind run.store", "h5py h5netcdf xarray", "labctl.analysis.planted"),
    *library("numba only in tags, core and the world", "numba", "labctl.bus.planted"),
    *library("matplotlib and jinja2 only for the report", "matplotlib jinja2", "labctl.analysis.planted"),
    *library("click and rich only in cli", "click rich", "labctl.bus.planted"),
    *library("no Qt", "PySide6 PyQt5 PyQt6 pyqtgraph", "labctl.cli.planted"),
]


LINTER = """
import contextlib, io, json, sys
sys.path.insert(0, ".")
from importlinter.cli import lint_imports
for _ in sys.stdin:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = lint_imports(no_cache=True)
    print(json.dumps([code, said.getvalue()]), flush=True)
"""


class Tree:
    """A copy of the packages in which imports are planted, and import-linter's opinion of it.

    The linter runs in a process of its own, started in the copy, so that it never sees the packages of the tests.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        self.linter = subprocess.Popen(
            [sys.executable, "-c", LINTER],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"COLUMNS": "300", "NO_COLOR": "1"},
        )

    def broken(self) -> tuple[set[str], str]:
        """Names of the broken contracts, and all that was said; every contract of pyproject.toml must have been looked at."""
        assert self.linter.stdin is not None
        assert self.linter.stdout is not None
        print(file=self.linter.stdin, flush=True)
        code, said = json.loads(self.linter.stdout.readline())
        verdicts = dict(re.findall(r"^(.+?) (KEPT|BROKEN)\b", said, re.MULTILINE))
        assert sorted(verdicts) == sorted(CONTRACTS), said
        broken = {name for name, verdict in verdicts.items() if verdict == "BROKEN"}
        assert (code != 0) == bool(broken), said
        return broken, said

    def broken_by(self, plants: list[Plant]) -> tuple[set[str], str]:
        """As ``broken``, with these imports planted; the tree is as before afterwards."""
        before: dict[Path, str | None] = {}
        for plant in plants:
            file = self._file(plant.module)
            text = file.read_text() if file.exists() else None
            before.setdefault(file, text)
            file.write_text(f"{text or ''}\nimport {plant.imported}\n")
        try:
            return self.broken()
        finally:
            for file, text in before.items():
                if text is None:
                    file.unlink()
                else:
                    file.write_text(text)

    def _file(self, module: str) -> Path:
        path = self.folder.joinpath(*module.split("."))
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    tree = Tree(tmp_path_factory.mktemp("tree"))
    with tree.linter:
        yield tree


def test_every_contract_has_a_violation_planted() -> None:
    assert {plant.contract for plant in PLANTS} == set(CONTRACTS)


def test_the_tree_keeps_every_contract(tree: Tree) -> None:
    assert tree.broken()[0] == set()


@pytest.mark.parametrize("contract", CONTRACTS)
def test_planted_imports_break_their_contract_and_no_other(tree: Tree, contract: str) -> None:
    plants = [plant for plant in PLANTS if plant.contract == contract]
    broken, said = tree.broken_by(plants)
    assert broken == {contract}
    missed = [str(plant) for plant in plants if f"{plant.module} -> {plant.imported} (l." not in said]
    assert missed == [], said


def test_a_room_without_a_place_in_the_layers_is_found(tree: Tree) -> None:
    assert tree.broken_by([Plant(LAYERS, "labctl.annex", "json")])[0] == {LAYERS}
