"""Attempt loops on an entangler core: every clause that one fails, and what the core is told if it fails none.

The core (ARTIQ.md 2.5; OxfordIonTrapGroup/entangler-core and its forks) repeats a cycle by itself until its inputs show a
pattern exactly: one pulse per output on the coarse grid, one window per input, 1023 coarse cycles, at most four patterns
over four inputs. Its real period is four coarse cycles longer than programmed, so it is programmed with four less, and an
attempt takes what the schedule says.
"""

from __future__ import annotations

from labctl.config import ArtiqConfig, ArtiqEntangler
from labctl.core.artiq.device_db import DeviceDb
from labctl.core.artiq.plan import Attempts, Block, Cases, Chain, EntanglerLoop, Node, Plan, Turns
from labctl.errors import ConfigError

LONGEST_CYCLES = 1023
OVERHEAD_CYCLES = 4
"""The gateware's period is so many coarse cycles longer than programmed."""
MOST_PATTERNS = 4
OUTPUTS = INPUTS = 4
LEAST_AFTER_REFERENCE_MU = 8
LONGEST_RUN_MU = 2**31 - 1


def failing_clauses(plan: Plan, config: ArtiqConfig, db: DeviceDb) -> dict[str, list[str]]:
    """Body of each attempt loop -> the clauses it fails; none if it can be played by the entangler core."""
    loops = _loops(plan.root)
    found: dict[str, list[str]] = {}
    fits = ""
    for node in loops:
        failing = _clauses(plan, node, config, db)
        if fits and not failing:
            failing = [f"the core has the attempts of {fits}"]
        if sum(other.body == node.body for other in loops) > 1:
            failing.append("two loops play it")
        if not failing:
            fits = plan.blocks[node.body].place
        found[node.body] = failing
    return found


def told(plan: Plan, body: str, table: ArtiqEntangler, db: DeviceDb) -> EntanglerLoop:
    """What the core is told of a loop that fails no clause."""
    block = plan.blocks[body]
    (node,) = (loop for loop in _loops(plan.root) if loop.body == body)
    edges: dict[str, list[int]] = {}
    for event in block.events:
        if event.action in ("on", "off"):
            edges.setdefault(event.line, []).append(event.time_mu)
    windows = {window.register: window for window in block.windows}
    ending = {pattern: name for pattern, name in node.outcomes.items() if name != "again"}
    return EntanglerLoop(
        device=table.device,
        channel=db.find(table.device).channel,
        outputs={line: (table.outputs[line], on, off) for line, (on, off) in edges.items()},
        inputs={w.line: (table.inputs[w.line], w.open_mu, w.close_mu) for w in block.windows},
        patterns=[
            sum(
                1 << table.inputs[windows[gate].line]
                for gate, digit in zip(node.gates, pattern, strict=True)
                if digit == "1"
            )
            for pattern in ending
        ],
        outcomes=[*ending.values()],
        longest=LONGEST_RUN_MU // block.length_mu,
        reference_mu=table.reference_mu,
    )


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
    if cycles > LONGEST_CYCLES + OVERHEAD_CYCLES:
        failing.append(f"an attempt of {cycles} coarse cycles, more than {LONGEST_CYCLES + OVERHEAD_CYCLES}")
    elif block.length_mu % plan.coarse_mu:
        failing.append("its length is off the coarse grid")
    lines = [event.line for event in block.events] + [window.line for window in block.windows]
    used = table or ArtiqEntangler("", dict.fromkeys(lines, 0), dict.fromkeys(lines, 0))  # wired as one likes
    if plan.phase_mu:
        failing.append(f"the round begins {plan.phase_mu} mu after a coarse cycle begins")
    failing += _span(plan, block)
    failing += _outputs(plan, block, used.outputs)
    failing += _inputs(block, node, used)
    return failing


def _span(plan: Plan, block: Block) -> list[str]:
    failing: list[str] = []
    ends = [event.time_mu for event in block.events] + [window.close_mu for window in block.windows]
    if block.lead_mu or min(ends, default=0) < 0:
        failing.append("a line's delay has an event before the attempt")
    if max(ends, default=0) > block.length_mu - OVERHEAD_CYCLES * plan.coarse_mu:
        failing.append(f"something happens in its last {OVERHEAD_CYCLES} coarse cycles, which the core needs")
    return failing


def _outputs(plan: Plan, block: Block, wired: dict[str, int]) -> list[str]:
    failing: list[str] = []
    pulses: dict[str, int] = {}
    for event in block.events:
        if event.action == "on":
            pulses[event.line] = pulses.get(event.line, 0) + 1
        if event.action in ("on", "off") and event.time_mu % plan.coarse_mu:
            failing.append(f"{event.line} has an edge off the coarse grid")
    failing += [f"{line} has {count} pulses in an attempt" for line, count in pulses.items() if count > 1]
    failing += [f"{line} is not wired through it" for line in pulses if line not in wired]
    failing += [
        f"{line} is its output {wired[line]}; there are 0 to {OUTPUTS - 1}"
        for line in pulses
        if wired.get(line, 0) >= OUTPUTS
    ]
    elsewhere = {event.line for other in plan.blocks.values() if other is not block for event in other.events}
    failing += [f"{line} is needed outside the attempts, too" for line in pulses if line in elsewhere]
    return list(dict.fromkeys(failing))


def _inputs(block: Block, node: Attempts, table: ArtiqEntangler) -> list[str]:
    lines = [window.line for window in block.windows]
    failing = [
        f"{line} has {lines.count(line)} windows" for line in dict.fromkeys(lines) if lines.count(line) > 1
    ]
    failing += [
        f"{line} is not wired through it" for line in dict.fromkeys(lines) if line not in table.inputs
    ]
    failing += [
        f"{line} is its input {table.inputs[line]}; there are 0 to {INPUTS - 1}"
        for line in lines
        if table.inputs.get(line, 0) >= INPUTS
    ]
    if table.reference_mu and any(
        window.open_mu - table.reference_mu < LEAST_AFTER_REFERENCE_MU for window in block.windows
    ):
        failing.append(f"a window opens less than {LEAST_AFTER_REFERENCE_MU} mu after its reference")
    patterns = [pattern for pattern, name in node.outcomes.items() if name != "again"]
    if len(patterns) > MOST_PATTERNS:
        failing.append(f"{len(patterns)} patterns end the loop, more than {MOST_PATTERNS}")
    if any("1" not in pattern for pattern in patterns):
        failing.append("no click at all ends the loop")
    if {window.register for window in block.windows} != {*node.gates}:
        failing.append("a gate does not decide")
    return failing
