"""Names in the emitted file: devices, registers and handles as Python attributes, each its own."""

from __future__ import annotations

from labctl.core.artiq.plan import Attempts, Block, Cases, Chain, Feed, Follow, Keep, Node, Pick, Plan, Turns
from labctl.core.artiq.text import identifier


class Names:
    """Attributes for the registers and devices of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._registers: dict[str, str] = {}
        self._devices: dict[str, str] = {}
        self._plan = plan
        asked = {node.register for node in nodes(plan.root) if isinstance(node, Feed)}
        asked |= {
            register
            for node in nodes(plan.root)
            if isinstance(node, Keep)
            for register in node.columns.values()
        }
        for block in plan.blocks.values():
            for window in block.windows:
                self._add(window.register)
                if f"{window.register}.first_ps" in asked:
                    self._add(f"{window.register}.first_ps")
                if window.threshold is not None:
                    self._add(f"{window.register}.bright")
        for node in nodes(plan.root):
            match node:
                case Attempts():
                    self._add(node.into)
                    self._add(f"{node.into}.attempts")
                case Follow():
                    for suffix in ("", ".sigma_rad", ".clicks"):
                        self._add(node.into + suffix)
                    if node.valid is not None:
                        self._add(f"{node.into}.valid")
                case Pick():
                    self._add(node.into)
                case _:
                    pass

    def _add(self, register: str) -> None:
        if register not in self._registers:
            self._registers[register] = _fresh(f"r_{identifier(register)}", self._registers)

    def has(self, register: str) -> bool:
        """Whether anything uses a register."""
        return register in self._registers

    def register(self, register: str) -> str:
        """Attribute of a register."""
        return self._registers[register]

    def registers(self) -> dict[str, str]:
        """Register -> attribute."""
        return dict(self._registers)

    def device(self, device: str) -> str:
        """Attribute of a device."""
        if device not in self._devices:
            self._devices[device] = _fresh(identifier(device), self._devices)
        return self._devices[device]

    @staticmethod
    def handle(block: Block) -> str:
        """Local name of a DMA handle."""
        return f"dma_{block.name}"


def _fresh(name: str, taken: dict[str, str]) -> str:
    wanted, number = name, 1
    while name in taken.values():
        number += 1
        name = f"{wanted}_{number}"
    return name


def nodes(node: Node) -> list[Node]:
    """A node and everything in it, in order; trackers of attempt loops included."""
    match node:
        case Chain():
            inner = [one for part in node.nodes for one in nodes(part)]
        case Turns():
            inner = nodes(node.body)
        case Cases():
            inner = [one for case in node.cases.values() for one in nodes(case)]
        case Attempts():
            inner = list[Node](node.tracks)
        case _:
            inner = []
    return [node, *inner]
