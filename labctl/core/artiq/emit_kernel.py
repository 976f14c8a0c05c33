"""Writes the methods that decide: attempt loops, branches, phase words, drawn settings, records."""

from __future__ import annotations

from labctl.core.artiq.emit_blocks import BlockWriter
from labctl.core.artiq.emit_entangler import EntanglerWriter
from labctl.core.artiq.emit_tracker import MICROTURNS, TrackerWriter
from labctl.core.artiq.names import Names, nodes
from labctl.core.artiq.plan import (
    PICK_RANGE,
    Attempts,
    Await,
    Block,
    Cases,
    Chain,
    Feed,
    Follow,
    Keep,
    Node,
    Pick,
    Plan,
    Play,
    Stop,
    Turns,
)
from labctl.core.artiq.text import Text, identifier, quoted


class KernelWriter:
    """Methods for the tree of one plan."""

    def __init__(
        self, plan: Plan, names: Names, blocks: BlockWriter, text: Text, free_mu: dict[str, int]
    ) -> None:
        self._plan = plan
        self._names = names
        self._blocks = blocks
        self._text = text
        self._free_mu = free_mu
        self._cases = 0
        self._loops: dict[int, str] = {}
        self._pending: list[Attempts] = []
        handles = [names.handle(block) for block in self.dma()]
        self.handles = "".join(f", {handle}" for handle in handles)

    def dma(self) -> list[Block]:
        """Blocks played by DMA."""
        return [block for block in self._blocks.used() if block.how == "dma"]

    def all(self) -> None:
        """Every method, the round first."""
        plan, text = self._plan, self._text
        doc = f"One pass of the schedule {plan.schedule}."
        with text.method("one_round", self.handles.removeprefix(", "), "TNone", doc):
            self._new_timeline()
            self._node(plan.root)
        while self._pending:
            self._attempts(self._pending.pop(0))
        follows = {node.into: node for node in nodes(plan.root) if isinstance(node, Follow)}
        for node in follows.values():
            TrackerWriter(plan, self._names, text).follow(node)
        found = nodes(plan.root)
        if any(isinstance(node, Feed) for node in found):
            self._phase_word()
        if any(isinstance(node, (Feed, Follow)) for node in found):
            self._wrapped()
        if any(isinstance(node, Pick) for node in found):
            self._draw()
        awaits = [node for node in found if isinstance(node, Await)]
        for node in awaits:
            self._await(node)
        if awaits or any(play.free for play in self._plays()):
            self._later()

    def _plays(self) -> list[Play]:
        between = [node.between for node in nodes(self._plan.root) if isinstance(node, Attempts)]
        plays = [node for node in nodes(self._plan.root) if isinstance(node, Play)]
        return plays + [play for play in between if play is not None]

    def _new_timeline(self) -> None:
        plan, text = self._plan, self._text
        mask = plan.coarse_mu - 1
        now = f"(now_mu() + {plan.lead_mu})" if plan.lead_mu else "now_mu()"
        text.add(
            f"t = ({now} & ~{mask}) + {plan.coarse_mu + plan.phase_mu}",
            comment="on the coarse grid" + (f", {plan.phase_mu} mu after it" if plan.phase_mu else ""),
        )
        text.add("self.origin = t")

    def _node(self, node: Node) -> None:
        text, names = self._text, self._names
        match node:
            case Play():
                self._play(node)
            case Chain():
                for one in node.nodes:
                    self._node(one)
            case Turns():
                text.add(f"for _ in range({node.count}):", node.place)
                with text.inside():
                    self._node(node.body)
                    if not text.lines[-1].strip() or text.lines[-1].rstrip().endswith(":"):
                        text.add("pass")
            case Cases():
                self._branch(node)
            case Attempts():
                self._pending.append(node)
                self._loops[id(node)] = self._loop_name(node)
                text.add(f"t = self.{self._loops[id(node)]}(t{self.handles})", node.place)
            case Follow():
                text.add(f"self.follow_{identifier(node.into)}(t)")
            case Feed():
                self._feed(node)
            case Pick():
                self._pick(node)
            case Keep():
                values = ", ".join(f"self.{names.register(register)}" for register in node.columns.values())
                text.add(f"self.keep({node.number}, [t - self.origin, self.origin, {values}])")
            case Stop():
                text.add(f'self.host_point("{identifier(node.name)}")')
                text.add("self.core.break_realtime()")
                self._new_timeline()
            case Await():
                text.add(f"t = self.{node.name}(t)", node.place, f"the next rising edge of {node.line}")
                text.add("self.origin = t")
                text.add(f"t += {node.rest_mu}", node.place)

    def _loop_name(self, node: Attempts) -> str:
        wanted = f"loop_{identifier(node.into)}"
        taken = set(self._loops.values())
        return wanted if wanted not in taken else f"{wanted}_{len(taken) + 1}"

    def _play(self, play: Play) -> None:
        text, block = self._text, self._plan.blocks[play.block]
        if play.aligned:
            mask, phase = self._plan.coarse_mu - 1, self._plan.phase_mu
            after = f" + {phase}" if phase else ""
            text.add(f"t = ((t + {mask - phase}) & ~{mask}){after}", block.place, "the next coarse cycle")
        if play.free:
            text.add(
                f"t = self.later(t, {self._free_mu[block.name]})", block.place, "this block may begin later"
            )
        played = self._blocks.like(block)
        if played is not None:
            handle = f", {self._names.handle(played)}" if played.how == "dma" else ""
            text.add(f"self.block_{played.name}(t{handle})", block.place)
        if block.length_mu:
            text.add(f"t += {block.length_mu}", block.place)

    def _branch(self, node: Cases) -> None:
        text, names = self._text, self._names
        self._cases += 1
        case = f"case_{self._cases}"
        text.add(f"{case} = self.{names.register(node.on)}")
        values = self._plan.registers.get(node.on)
        for name, inner in node.cases.items():
            code = values.index(name) if values is not None else int(name)
            text.add(f"if {case} == {code}:", comment=f"{node.on}: {name}")
            before = len(text.lines)
            with text.inside():
                self._node(inner)
                if len(text.lines) == before:
                    text.add("pass")

    # attempt loops
    def _attempts(self, node: Attempts) -> None:
        if self._plan.blocks[node.body].entangler is not None:
            EntanglerWriter(self._plan, self._names, self._text).loop(
                self._loops[id(node)], node, self.handles
            )
            return
        text, names = self._text, self._names
        outcome = f"self.{names.register(node.into)}"
        codes = self._plan.registers[node.into]
        every = (
            f", {self._plan.blocks[node.between.block].place.split(' / ')[-1]} before every {node.every}"
            if node.between
            else ""
        )
        doc = f"{node.place}: until {node.into} has an outcome, {node.limit} attempts at the most{every}."
        with text.method(self._loops[id(node)], f"t: TInt64{self.handles}", "TInt64", doc):
            text.add(f"{outcome} = int64(0)")
            text.add("count = 0")
            text.add(f"while {outcome} == 0 and count < {node.limit}:", node.place)
            with text.inside():
                if node.between is not None:
                    self._between(node, node.between)
                self._play(Play(node.body))
                text.add("count += 1")
                text.add("pattern = 0")
                for bit, gate in enumerate(node.gates):
                    text.add(f"if self.{names.register(gate)} > 0:")
                    with text.inside():
                        text.add(f"pattern += {1 << bit}")
                for pattern, name in node.outcomes.items():
                    if name != "again":
                        bits = sum(1 << k for k, digit in enumerate(pattern) if digit == "1")
                        text.add(f"if pattern == {bits}:", comment=f"{pattern}: {name}")
                        with text.inside():
                            text.add(f"{outcome} = int64({codes.index(name)})")
            text.add(f"if {outcome} == 0:")
            with text.inside():
                text.add(f"{outcome} = int64({codes.index('timeout')})", comment="timeout")
            text.add(f"self.{names.register(f'{node.into}.attempts')} = int64(count)")
            text.add("return t")

    def _between(self, node: Attempts, between: Play) -> None:
        text = self._text
        if node.every > 1:
            text.add(f"if count % {node.every} == 0:")
        with text.inside() if node.every > 1 else text.same():
            self._play(between)
            for track in node.tracks:
                text.add(f"self.follow_{identifier(track.into)}(t)")

    def _await(self, node: Await) -> None:
        plan, text = self._plan, self._text
        device, mask = f"self.{self._names.device(node.device)}", plan.coarse_mu - 1
        doc = (
            f"Wait for the next rising edge of {node.line}: {node.close_mu} mu after it, on the coarse grid."
        )
        with text.method(node.name, "t: TInt64", "TInt64", doc):
            text.add("t = self.later(t, 5000)")
            text.add("at_mu(t)")
            text.add(f"{device}._set_sensitivity(1)", node.place, f"{node.line} open")
            text.add(f"edge = {device}.timestamp_mu(t + {node.limit_mu})", node.place)
            text.add("if edge < 0:")
            with text.inside():
                text.add("self.core.break_realtime()")
                text.add(f"{device}._set_sensitivity(0)")
                text.add(
                    f'raise ValueError("no rising edge on {quoted(node.line)}: check what is connected to it")'
                )
            after = f" + {plan.phase_mu}" if plan.phase_mu else ""
            text.add(f"t = ((edge + {node.close_mu + mask}) & ~{mask}){after}")
            text.add("at_mu(t)")
            text.add(f"{device}._set_sensitivity(0)", node.place, f"{node.line} close")
            text.add(f"edge = {device}.timestamp_mu(t)", comment="edges of a comparator that bounces")
            text.add("while edge >= 0:")
            with text.inside():
                text.add(f"edge = {device}.timestamp_mu(t)")
            text.add("return t")

    def _later(self) -> None:
        text, mask = self._text, self._plan.coarse_mu - 1
        doc = "When a block that may wait begins: at t, or later if the core has not that much in hand."
        with text.method("later", "t: TInt64, ahead: TInt64", "TInt64", doc):
            text.add("least = self.core.get_rtio_counter_mu() + ahead")
            text.add("if t < least:")
            with text.inside():
                text.add(
                    f"t = least + ((t - least) & {mask})", comment="with the same phase to the coarse grid"
                )
            text.add("return t")

    # registers
    def _feed(self, node: Feed) -> None:
        register = self._names.register(node.register)
        self._text.add(
            f"self.{node.variable} = self.phase_word(self.{register}, {node.scale}, {node.offset}, {node.turn})",
            comment=f"{node.scale} * {node.register} + {node.offset} microturns",
        )

    def _phase_word(self) -> None:
        text = self._text
        doc = "Phase word of scale * value + offset microturns for a DDS with so many phase words in a turn."
        arguments = "value: TInt64, scale: TInt64, offset: TInt64, turn: TInt32"
        with text.method("phase_word", arguments, "TInt32", doc):
            text.add("microturns = int32(self.wrapped(value * scale + offset))")
            text.add(
                f"return (microturns * (turn >> 5) + {MICROTURNS // 64}) // {MICROTURNS // 32} % turn",
                comment="in 32 bits",
            )

    def _wrapped(self) -> None:
        """Kernels divide towards zero and have a remainder of their own below zero, so neither is used there."""
        text = self._text
        with text.method(
            "wrapped", "value: TInt64", "TInt64", "A phase in microturns as one from 0 to 999999."
        ):
            text.add("if value < 0:")
            with text.inside():
                text.add(f"return {MICROTURNS - 1} - (-1 - value) % {MICROTURNS}")
            text.add(f"return value % {MICROTURNS}")

    def _pick(self, node: Pick) -> None:
        text, register = self._text, self._names.register(node.into)
        text.add("number = self.draw()")
        text.add(f"self.{register} = int64(0)")
        for k, below in enumerate(node.below[:-1]):
            text.add(f"if number >= {below}:")
            with text.inside():
                text.add(f"self.{register} = int64({k + 1})")

    def _draw(self) -> None:
        text = self._text
        doc = f"A number from 0 to {PICK_RANGE - 1}, all equally likely (L'Ecuyer 1988, two combined generators)."
        with text.method("draw", "", "TInt32", doc):
            for seed, factor, modulus in (("seed_1", 40014, 2147483563), ("seed_2", 40692, 2147483399)):
                whole, rest = divmod(modulus, factor)
                now = f"self.{seed}"
                text.add(f"{now} = {factor} * ({now} % {whole}) - {rest} * ({now} // {whole})")
                text.add(f"if {now} < 0:", comment=f"the remainder of a division by {modulus}, in 32 bits")
                with text.inside():
                    text.add(f"{now} += {modulus}")
            text.add("number = self.seed_1 - self.seed_2")
            text.add("if number < 1:")
            with text.inside():
                text.add(f"number += {PICK_RANGE}")
            text.add("return number - 1")
