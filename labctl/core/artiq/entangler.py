"""Could an attempt loop run on an entangler core? Every clause it fails, and the period it would have.

Limits of the gateware: ARTIQ.md 2.5 (OxfordIonTrapGroup/entangler-core): one pulse per output and cycle on the coarse
grid, one window per input, 1023 coarse cycles, at most four exact patterns over at most four inputs.
"""

from __future__ import annotations

from labctl.config import ArtiqConfig
from labctl.core.artiq.device_db import DeviceDb
from labctl.core.artiq.plan import Attempts, Block, Cases, Chain, Node, Plan, Turns
from labctl.errors import ConfigError

LONGEST_CYCLES = 1023
OVERHEAD_CYCLES = 4
"""The gateware's period is so many coarse cycles longer than programmed."""
MOST_PATTERNS = 4
MOST_INPUTS = 4


def failing_clauses(plan: Plan, config: ArtiqConfig, db: DeviceDb) -> dict[str, list[str]]:
    """Body of each attempt loop -> the clauses it fails; none if it would fit."""
    return {node.body: _clauses(plan, node, config, db) for node in _loops(plan.root)}


def _loops(node: Node) -> list[Attempts]:
    match node:
        case Attempts():
            return [node]
        case Chain():
            return [loop for one in node.nodes for loop in _loops(one)]
        case Turns():
            return _loops(node.body)
        case Cases():
            return [loop for case in node.cases.values() for loop in _loops(case)]
        case _:
            return []


def _clauses(plan: Plan, node: Attempts, config: ArtiqConfig, db: DeviceDb) -> list[str]:
    block = plan.blocks[node.body]
    failing: list[str] = []
    table = config.entangler
    if table is None:
        failing.append("no [core.artiq.entangler] in the lab file")
    else:
        try:
            if db.find(table.device).kind != "entangler":
                failing.append(f"{table.device} is no entangler core")
        except ConfigError:
            failing.append(f"device_db has no {table.device!r}")
    if node.between is not None:
        failing.append("a block is interleaved between the attempts")
    cycles = -(-block.length_mu // plan.coarse_mu)
    if cycles > LONGEST_CYCLES:
        failing.append(f"an attempt of {cycles} coarse cycles, more than {LONGEST_CYCLES}")
    elif block.length_mu % plan.coarse_mu:
        failing.append("its length is off the coarse grid")
    failing += _outputs(plan, block, set() if table is None else set(table.outputs))
    failing += _inputs(block, node, set() if table is None else set(table.inputs))
    return failing


def _outputs(plan: Plan, block: Block, wired: set[str]) -> list[str]:
    failing: list[str] = []
    pulses: dict[str, int] = {}
    for event in block.events:
        if event.action == "on":
            pulses[event.line] = pulses.get(event.line, 0) + 1
        if event.action in ("on", "off") and event.time_mu % plan.coarse_mu:
            failing.append(f"{event.line} has an edge off the coarse grid")
    failing += [f"{line} has {count} pulses in an attempt" for line, count in pulses.items() if count > 1]
    failing += [f"{line} is not wired through it" for line in pulses if line not in wired]
    return list(dict.fromkeys(failing))


def _inputs(block: Block, node: Attempts, wired: set[str]) -> list[str]:
    lines = [window.line for window in block.windows]
    failing = [
        f"{line} has {lines.count(line)} windows" for line in dict.fromkeys(lines) if lines.count(line) > 1
    ]
    failing += [f"{line} is not wired through it" for line in dict.fromkeys(lines) if line not in wired]
    patterns = [pattern for pattern, name in node.outcomes.items() if name != "again"]
    if len(patterns) > MOST_PATTERNS:
        failing.append(f"{len(patterns)} patterns end the loop, more than {MOST_PATTERNS}")
    if len(node.gates) > MOST_INPUTS:
        failing.append(f"{len(node.gates)} gates decide, more than {MOST_INPUTS}")
    return failing


def true_period_mu(plan: Plan, block: Block) -> int:
    """Period of the attempts on the gateware, mu."""
    return (block.length_mu // plan.coarse_mu + OVERHEAD_CYCLES) * plan.coarse_mu
