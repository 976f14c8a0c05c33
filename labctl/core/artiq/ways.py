"""How each block is emitted: written out, from a table or by DMA; why, and why not on an entangler core."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.config import ArtiqConfig
from labctl.core.artiq.device_db import DeviceDb
from labctl.core.artiq.entangler import failing_clauses, told
from labctl.core.artiq.plan import Block, Plan
from labctl.schedule.problem import Problems, near

WRITTEN_OUT = 40
"""Events of a block from which on it is not written out."""
DENSE_MU = 500
"""Mean spacing of events, mu of 1 ns, below which a block is played by DMA."""
FEW = 10
"""Fewer events than this are buffered anyway."""


def choose(plan: Plan, config: ArtiqConfig, db: DeviceDb, how: Mapping[str, str], problems: Problems) -> None:
    """Give every block its way and the reason."""
    for name, wanted in how.items():
        if name not in plan.blocks:
            problems.add(
                (plan.schedule,), f"no block {name!r} to be emitted as {wanted}", near(name, plan.blocks)
            )
    failing = failing_clauses(plan, config, db)
    dma = bool(db.of_kind("dma"))
    for block in plan.blocks.values():
        _automatic(block, dma)
        if failing.get(block.name):
            block.others["entangler"] = "; ".join(failing[block.name])
        elif block.name in failing:
            block.others[block.how] = "the entangler core repeats it by itself"
            block.how = "entangler"
            block.reason = "an attempt that the entangler core can repeat: no CPU time between attempts"
        wanted = how.get(block.name)
        if wanted is not None and wanted != block.how:
            _override(plan, block, wanted, dma, problems)
        if block.how == "entangler" and config.entangler is not None:
            block.entangler = told(plan, block.name, config.entangler, db)


def _automatic(block: Block, dma: bool) -> None:
    count = len(block.events)
    span = block.events[-1].time_mu - block.events[0].time_mu if block.events else 0
    dense = count >= FEW and span < DENSE_MU * (count - 1)
    block.others = {}
    if count <= WRITTEN_OUT and not dense:
        block.how = "source"
        block.reason = (
            f"{count} events, {WRITTEN_OUT} or fewer and not denser than one in {DENSE_MU} mu: written out"
        )
        return
    why = (
        f"{count} events, more than {WRITTEN_OUT}"
        if count > WRITTEN_OUT
        else f"{count} events in {span} mu, denser than one in {DENSE_MU} mu"
    )
    against = _against_dma(block, dma)
    if against:
        block.how, block.reason = "table", f"{why}: from a table"
        block.others["dma"] = against
        if _run_time(block):
            block.how, block.reason = (
                "source",
                f"{why}, but a DDS is set from a register: written out in parts",
            )
            block.others["table"] = "a DDS is set from a register"
    else:
        block.how, block.reason = "dma", f"{why}: recorded once, played by DMA"


def _override(plan: Plan, block: Block, wanted: str, dma: bool, problems: Problems) -> None:
    against = ""
    if wanted == "dma":
        against = _against_dma(block, dma)
    elif wanted == "table" and _run_time(block):
        against = "a DDS is set from a register"
    elif wanted not in ("source", "table", "dma"):
        against = (
            "there is source, table and dma"
            if wanted != "entangler"
            else block.others.get("entangler", "only attempt loops run on an entangler core")
        )
    if against:
        problems.add(
            tuple(block.place.split(" / ")), f"block {block.name!r} cannot be emitted as {wanted}: {against}"
        )
        return
    block.others[block.how] = "overridden"
    block.how, block.reason = wanted, "asked for"  # pyright: ignore[reportAttributeAccessIssue]


def _against_dma(block: Block, dma: bool) -> str:
    if not dma:
        return "device_db has no CoreDMA"
    if any(event.action == "set" for event in block.events):
        return "it sets DDS channels, whose drivers align to the time of the recording"
    if not block.events:
        return "it has no events"
    return ""


def _run_time(block: Block) -> bool:
    return any(isinstance(word, str) for event in block.events for word in event.words) or any(
        event.tracking for event in block.events
    )
