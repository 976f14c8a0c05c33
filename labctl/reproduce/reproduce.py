"""A whole reproduction: blocks taken or found, merged, compared with the publication, written down as JSON and as a report."""

from __future__ import annotations

import fcntl
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from labctl.analysis.value import Estimate
from labctl.clock import VirtualClock
from labctl.errors import LabError, RunError, StorageError
from labctl.lab import folder_of
from labctl.reproduce import block as blocks
from labctl.reproduce.block import Block, Done
from labctl.reproduce.merged import Columns
from labctl.reproduce.pace import Pace, pace, plain
from labctl.reproduce.plan import Mode, Plan
from labctl.reproduce.processes import taken
from labctl.reproduce.rows import Row, compare
from labctl.run import folder as folders
from labctl.run import journal
from labctl.run.results import results


class BlockFigures(msgspec.Struct, frozen=True):
    """What one block alone says: where it lies in the laboratory time of its run, and its results."""

    start_s: float
    end_s: float
    rounds: int
    seed: int
    sha256: str
    results: dict[str, Estimate]


class Taken(msgspec.Struct):
    """A run, merged."""

    key: str
    analysis: str
    arguments: dict[str, Any]
    table: Columns
    results: dict[str, Estimate]
    labels: dict[str, str]
    blocks: list[BlockFigures]


class Reproduction(msgspec.Struct):
    """How it ended. ``sources`` are (lab, component, value, unit, source); ``paces`` are the machine's, no result."""

    plan: Plan
    seed: int
    mode: Mode
    runs: dict[str, Taken]
    rows: list[Row]
    sources: list[tuple[str, str, Any, str, str]]
    folder: Path
    paces: list[Pace]


def reproduce(
    plan: Plan,
    out: Path,
    *,
    seed: int = 1,
    mode: Mode = "quick",
    processes: int = 2,
    echo: Callable[[str], None] = print,
) -> Reproduction:
    """Take what is missing of a reproduction's blocks in ``out``, then merge and compare.

    The same plan, seed and mode give the same ``reproduction.json``, however many processes there are and however often
    it was killed in between.
    """
    folder = out / f"{plan.name}_{mode}_seed{seed}"
    with _alone(folder):
        wanted = _blocks(plan, folder, seed, mode)
        found = {index: done for index, one in enumerate(wanted) if (done := blocks.finished(one))}
        missing = [one for index, one in enumerate(wanted) if index not in found]
        missing.sort(key=lambda one: -one.rounds)  # long ones first, so that no process waits long at the end
        rounds = sum(one.rounds for one in missing)
        echo(
            f"{plan.title}: {len(wanted)} blocks, {len(found)} of them there already; {rounds} rounds to take"
        )
        for number, (one, done) in enumerate(taken(missing, processes), 1):
            echo(f"  {number}/{len(missing)}  {one.key} block {one.number}: {done.records} records")
            found[wanted.index(one)] = done
        runs = _merge(wanted, found)
        values = {key: run.results for key, run in runs.items()}
        rows, sources = compare(plan, values), _sources(plan, wanted)
        paces = _paces(runs, wanted, found)
        made = Reproduction(plan, seed, mode, runs, rows, sources, folder, paces)
        _write(made)
    return made


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """One process at a time in a reproduction's folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"{folder}: another process is taking this reproduction; wait for it"
                ) from None
            yield
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written ({error.strerror}); give another --out") from None


def _blocks(plan: Plan, folder: Path, seed: int, mode: Mode) -> list[Block]:
    """Every block of the plan in this mode, with its seed and fingerprint."""
    made: list[Block] = []
    digests: dict[Path, str] = {}
    for key, run in plan.runs.items():
        size = plan.size(key, mode)
        if size is None:
            continue
        lab = plan.lab_file(key)
        code = folder_of(lab)
        if code not in digests:
            digests[code] = blocks.code_digest(code)
        for number, rounds in enumerate(size.blocks()):
            one = Block(
                key,
                number,
                lab,
                run.sequence,
                {name: str(value) for name, value in run.arguments.items()},
                run.set,
                run.changes,
                rounds,
                blocks.block_seed(seed, key, number),
                folder / key / f"{number:04d}",
                run.label,
            )
            made.append(msgspec.structs.replace(one, fingerprint=blocks.fingerprint(one, digests[code])))
    return made


def _merge(wanted: list[Block], found: dict[int, Done]) -> dict[str, Taken]:
    """Block by block in order, one journal in memory at a time."""
    runs: dict[str, Taken] = {}
    for index, one in enumerate(wanted):
        run = runs.get(one.key)
        if run is None:
            made = blocks.lab_of(one)[2]
            run = runs[one.key] = Taken(one.key, made.analysis, made.arguments, Columns(), {}, {}, [])
        content = journal.read(found[index].journal)
        start_s = run.table.span_s
        run.table.add(content)
        alone = _figures(run.analysis, content.records, run.arguments)
        run.blocks.append(
            BlockFigures(
                start_s,
                run.table.span_s,
                len(content.records),
                one.seed,
                found[index].sha256,
                {key: value for key, (_, value) in alone.items()},
            )
        )
    for run in runs.values():
        whole = _figures(run.analysis, run.table.finish(), run.arguments)
        run.results = {key: value for key, (_, value) in whole.items()}
        run.labels = {key: label for key, (label, _) in whole.items()}
        rounds = len(run.table)
        run.results["rounds"] = Estimate(rounds, 0.0)
        run.results["live_hours"] = Estimate(run.table.span_s / 3600, 0.0, "h")
        run.labels |= {"rounds": "rounds", "live_hours": "laboratory time"}
    return runs


def _paces(runs: dict[str, Taken], wanted: list[Block], found: dict[int, Done]) -> list[Pace]:
    made: list[Pace] = []
    for key, run in runs.items():
        costs = [found[index].cost for index, one in enumerate(wanted) if one.key == key]
        one = pace(key, len(run.table), run.table.span_s, costs)
        if one is not None:
            made.append(one)
    return made


def _figures(analysis: str, rows: Any, arguments: dict[str, Any]) -> dict[str, tuple[str, Estimate]]:
    try:
        return {one.key: (one.label, one.value) for one in results(analysis, rows, arguments)}
    except LabError:  # records that determine nothing; the row that asks says so
        return {}


def _sources(plan: Plan, wanted: list[Block]) -> list[tuple[str, str, Any, str, str]]:
    """Component values of every lab that was used, as its file has them; guessed ones first."""
    from labctl.up.world import make_world

    labs: dict[Path, Block] = {}
    for one in wanted:
        labs.setdefault(one.lab, msgspec.structs.replace(one, changes={}))
    found: list[tuple[str, str, Any, str, str]] = []
    for one in labs.values():
        config, lab, _ = blocks.lab_of(one)
        world, _ = make_world(config, lab, VirtualClock())
        for source in world.sources():
            found.append((config.name, *source))
    order = ("guessed", "derived", "published")
    return sorted(found, key=lambda entry: order.index(entry[4].partition(":")[0]))


def _write(made: Reproduction) -> None:
    from labctl.reproduce.report import write

    summary = {
        "plan": made.plan.name,
        "seed": made.seed,
        "mode": made.mode,
        "rows": [msgspec.to_builtins(row) for row in made.rows],
        "runs": {
            key: {
                "arguments": run.arguments,
                "results": {name: _plain(value) for name, value in run.results.items()},
                "blocks": [
                    {
                        "start_s": one.start_s,
                        "end_s": one.end_s,
                        "rounds": one.rounds,
                        "seed": one.seed,
                        "sha256": one.sha256,
                        "results": {name: _plain(value) for name, value in one.results.items()},
                    }
                    for one in run.blocks
                ],
            }
            for key, run in made.runs.items()
        },
    }
    folders.write_json(made.folder / "reproduction.json", summary)
    folders.write_json(made.folder / "pace.json", {"runs": plain(made.paces)})
    write(made.folder / "report.html", made)


def _plain(value: Estimate) -> dict[str, Any]:
    error = value.standard_error
    return {
        "value": value.value,
        "standard_error": error if math.isfinite(error) else None,
        "unit": value.unit,
    }
