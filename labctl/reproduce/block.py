"""One block of a reproduction: a fresh lab with a seed of its own, a run through the whole pipeline, a mark when it is done."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import numpy as np

from labctl.clock import wall_time
from labctl.config import LabConfig, load, merge, read_extended, simulating
from labctl.errors import RunError
from labctl.lab import folder_of, schedule
from labctl.reproduce.pace import Cost, used
from labctl.run import folder as folders
from labctl.schedule.items import Schedule, to_json

MARK = "block.json"


class Block(msgspec.Struct, frozen=True):
    """What a process has to know to take one block.

    folder:       of this block alone
    fingerprint:  of everything its bytes depend on
    """

    key: str
    number: int
    lab: Path
    sequence: str
    arguments: dict[str, str]
    set: dict[str, Any]
    changes: dict[str, Any]
    rounds: int
    seed: int
    folder: Path
    label: str = ""
    fingerprint: str = ""


class Done(msgspec.Struct, frozen=True):
    """A block that was taken: its journal, what hashing it gave, and what it took."""

    journal: Path
    records: int
    sha256: str
    cost: Cost = Cost()


def block_seed(seed: int, key: str, number: int) -> int:
    """The seed of one block: from the reproduction's seed, the run's name and the block's number, and nothing else."""
    return int(np.random.SeedSequence([seed, crc32(key.encode()), number]).generate_state(1)[0])


def lab_of(block: Block) -> tuple[LabConfig, Path, Schedule]:
    """Lab, lab folder and schedule of a block."""
    world: dict[str, Any] = {"seed": block.seed}
    if block.changes:
        world["changes"] = block.changes
    config = simulating(load(block.lab, {"world": world}), ("all",))
    lab = folder_of(block.lab)
    return config, lab, schedule(config, lab, block.sequence, block.arguments)


def fingerprint(block: Block, code: str) -> str:
    """Hash of what the block's journal depends on: software, lab, component values, schedule, rounds, seed."""
    config, _, made = lab_of(block)
    assert config.world is not None
    world = merge(read_extended(config.path.parent / config.world.parameters), config.world.changes)
    parts = [code, config.effective, world, to_json(made).decode(), block.set, block.rounds, block.seed]
    return folders.digest(json.dumps(parts, sort_keys=True, default=str).encode())


def code_digest(lab: Path) -> str:
    """Hash of labctl's own files and of the lab folder's code."""
    found = hashlib.sha256()
    package = Path(__file__).resolve().parents[1]
    for root in (package, *(lab / name for name in ("drivers", "sequences", "simulated_hw"))):
        for file in sorted(root.rglob("*.py")):
            if "_lab" in file.relative_to(root).parts:
                continue
            found.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    return found.hexdigest()


def finished(block: Block) -> Done | None:
    """The block as it was taken before, if it is complete and of the same making."""
    try:
        mark = json.loads((block.folder / MARK).read_text())
    except (OSError, json.JSONDecodeError):
        return None
    if mark.get("fingerprint") != block.fingerprint:
        return None
    journal = block.folder / mark["journal"]
    if not journal.exists():
        return None
    return Done(journal, mark["records"], mark["sha256"], msgspec.convert(mark.get("cost", {}), Cost))


def take(block: Block) -> Done:
    """Take the block from its beginning; what a killed process left of it is removed first."""
    from labctl.up.acquire import VirtualLab

    began_s, (cpu_s, _) = wall_time(), used()
    shutil.rmtree(block.folder, ignore_errors=True)
    block.folder.mkdir(parents=True)
    config, lab, made = lab_of(block)
    with VirtualLab(config, lab, block.seed, block.folder, report=False) as here:
        for name, value in block.set.items():
            device, _, signal = name.rpartition(".")
            here.devices[device].signal(signal).set(value)
        here.settle()
        outcome = here.run(made, block.rounds, label=block.label)
    if not outcome.complete:
        raise RunError(
            f"{block.key} block {block.number}: the run ended after {outcome.records} records:"
            f" {outcome.error or outcome.reason}; its folder is {outcome.folder}"
        )
    journal = outcome.folder / "journal"
    sha256 = folders.digest(journal.read_bytes())
    ended_s, (cpu_end_s, peak_bytes) = wall_time(), used()
    cost = Cost(began_s, ended_s, cpu_end_s - cpu_s, peak_bytes)
    mark = {
        "fingerprint": block.fingerprint,
        "journal": str(journal.relative_to(block.folder)),
        "records": outcome.records,
        "sha256": sha256,
        "cost": msgspec.to_builtins(cost),
    }
    folders.write_json(block.folder / MARK, mark)
    return Done(journal, outcome.records, sha256, cost)
