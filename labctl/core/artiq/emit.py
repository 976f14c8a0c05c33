"""Writes an EnvExperiment that plays a plan and runs without labctl.

Integer machine units and absolute times only, no `with parallel`, events sorted by time (ARTIQ.md 2). The file imports
artiq.experiment and numpy, for ARTIQ 7 to 9 beta. The same plan gives the same text.
"""

from __future__ import annotations

from collections.abc import Mapping

from labctl.core.artiq.binding import Bound
from labctl.core.artiq.device_db import DeviceDb
from labctl.core.artiq.emit_blocks import BlockWriter
from labctl.core.artiq.emit_entangler import EntanglerWriter
from labctl.core.artiq.emit_kernel import KernelWriter
from labctl.core.artiq.emit_set_up import SetUpWriter
from labctl.core.artiq.emit_tracker import NAT, STEP_RAD, TRACKER_POINTS, cosines, log_likelihoods
from labctl.core.artiq.names import Names, nodes
from labctl.core.artiq.plan import Feed, Follow, Keep, Pick, Plan, Stop
from labctl.core.artiq.slack import CALIBRATED, Costs, Cpu
from labctl.core.artiq.text import Text, identifier, quoted
from labctl.units import format_time

TRIES = 3
"""How often a round is tried again after an underflow."""
WIDTH = 100


def emit(
    plan: Plan, bound: Mapping[str, Bound], db: DeviceDb, costs: Costs = CALIBRATED
) -> tuple[str, dict[int, str]]:
    """The experiment's source, and which of its lines comes from which block of the schedule."""
    return _Experiment(plan, bound, db, costs).write()


class _Experiment:
    def __init__(self, plan: Plan, bound: Mapping[str, Bound], db: DeviceDb, costs: Costs) -> None:
        self._plan = plan
        self._bound = bound
        self._db = db
        self._text = Text()
        self._names = Names(plan)
        cpu = Cpu(costs, plan.ref_period_ps, plan.coarse_mu, plan.lead_mu)
        free = {name: cpu.free_mu(block) for name, block in plan.blocks.items()}
        self._blocks = BlockWriter(plan, db, self._names, self._text)
        self._kernel = KernelWriter(plan, self._names, self._blocks, self._text, free)
        self._entangler = EntanglerWriter(plan, self._names, self._text)
        self._set_up = SetUpWriter(bound, self._names, self._text, self._entangler)
        self._nodes = nodes(plan.root)
        self._dma = next((entry.name for entry in db.of_kind("dma")), "")

    def write(self) -> tuple[str, dict[int, str]]:
        plan, text = self._plan, self._text
        self._head()
        name = "".join(part.capitalize() for part in identifier(plan.schedule).split("_")) or "Schedule"
        text.add(f"class {identifier(name)}(EnvExperiment):")
        with text.inside():
            text.add(f'"""labctl: {quoted(plan.schedule)}"""')
            self._build()
            self._prepare()
            self._host()
            self._play()
            self._set_up.all()
            self._record()
            self._kernel.all()
            self._blocks.all()
        return text.source(), text.places

    def _head(self) -> None:
        plan, text = self._plan, self._text
        text.add(f'"""Schedule {quoted(plan.schedule)}, for the ARTIQ system of {quoted(plan.device_db)}.')
        text.add()
        text.add(
            f"Written by labctl from the schedule with SHA-256 {plan.schedule_sha256[:16]}; runs without labctl."
        )
        text.add(
            f"Times are integer machine units of {format_time(plan.ref_period_ps)}. What is expected when is in the"
        )
        text.add("JSON file beside this one. Lines, and what they are here:")
        for line, channel in plan.channels.items():
            counter = f", counted by {channel.counter}" if channel.counter else ""
            text.add(f"    {line}: {channel.device}{counter}")
        for line, (frequency, phase, amplitude) in plan.generators.items():
            channel = plan.channels[line]
            text.add(
                f"Set by hand: the generator that {channel.device} triggers ({line}) to pulses of "
                f"{format_time(channel.generator_ps)}, {frequency:g} Hz, {phase:g} turns, amplitude {amplitude:.6g}."
            )
        text.add('"""')
        text.add()
        text.add("import numpy")
        text.add("from artiq.experiment import *")
        text.add("from numpy import int32, int64")
        text.add()
        text.add()

    # host
    def _devices(self) -> list[str]:
        found: dict[str, None] = {self._plan.core: None}
        if self._kernel.dma():
            found[self._dma] = None
        for one in self._bound.values():
            for entry in (
                one.output,
                one.input,
                one.dds.cpld if one.dds else None,
                one.dds.entry if one.dds else None,
            ):
                if entry is not None:
                    found[entry.name] = None
        for block in self._plan.blocks.values():
            for event in block.events:
                found[event.device] = None
        for device in self._entangler.devices():
            found[device] = None
        return list(found)

    def _build(self) -> None:
        text = self._text
        with text.method("build", decorator=""):
            for device in self._devices():
                attribute = self._attribute(device)
                if attribute == device:
                    text.add(f'self.setattr_device("{device}")')
                else:
                    text.add(f'self.{attribute} = self.get_device("{device}")')
            text.add('self.setattr_argument("rounds", NumberValue(100, step=1, min=1))')
            if self._has(Pick):
                text.add(
                    'self.setattr_argument("seed", NumberValue(0, step=1, min=0))', comment="0: a new one"
                )

    def _has(self, kind: type[object]) -> bool:
        return any(isinstance(node, kind) for node in self._nodes)

    def _prepare(self) -> None:
        text = self._text
        invariants: list[str] = []
        with text.method("prepare", decorator=""):
            text.add("self.origin = int64(0)", comment="of the round in progress, machine units")
            for register, attribute in self._names.registers().items():
                text.add(f"self.{attribute} = int64(0)", comment=register)
            for variable in dict.fromkeys(node.variable for node in self._nodes if isinstance(node, Feed)):
                text.add(f"self.{variable} = int32(0)")
            if self._has(Pick):
                text.add("words = numpy.random.SeedSequence(int(self.seed) or None).generate_state(2)")
                text.add("self.seed_1 = int32(int(words[0]) % 2147483562 + 1)")
                text.add("self.seed_2 = int32(int(words[1]) % 2147483398 + 1)")
            for node in {node.into: node for node in self._nodes if isinstance(node, Follow)}.values():
                name = identifier(node.into)
                self._list(
                    f"{name}_log", f"[int32(n) for n in ({', '.join(map(str, log_likelihoods(node)))},)]"
                )
                invariants.append(f"{name}_log")
                if node.valid is not None:
                    waves = ", ".join(map(str, cosines(node)))
                    self._list(f"{name}_cos", f"[int32(n) for n in ({waves},)]")
                    invariants.append(f"{name}_cos")
                    text.add(f"self.{name}_recent = [int64(0)] * {2 * len(node.gates)}")
                text.add(f"self.{name}_belief = [int64(0)] * {TRACKER_POINTS}")
                text.add(f"self.{name}_top = int64(0)")
                text.add(f"self.{name}_curvature = int64(0)")
                text.add(f"self.{name}_updated = int64(0)")
            for block in self._blocks.used():
                if block.how == "table":
                    for attribute, value in self._blocks.table_attributes(block).items():
                        self._list(attribute, value)
                        invariants.append(attribute)
        text.lines.append("")
        names = ", ".join(f'"{one}"' for one in [*map(self._attribute, self._devices()), *invariants])
        self._list("kernel_invariants", f"{{{names}}}", owner="")

    def _attribute(self, device: str) -> str:
        own = {self._plan.core: "core", self._dma: "core_dma"}
        return own.get(device) or self._names.device(device)

    def _list(self, attribute: str, value: str, owner: str = "self.") -> None:
        """An assignment, wrapped at commas."""
        text = self._text
        line = f"{owner}{attribute} = "
        parts = value.split(", ")
        for k, part in enumerate(parts):
            more = part + (", " if k + 1 < len(parts) else "")
            if len(line) + len(more) > WIDTH and line.strip():
                text.add(line.rstrip())
                line = "    "
            line += more
        text.add(line.rstrip())

    def _host(self) -> None:
        plan, text = self._plan, self._text
        name = identifier(plan.schedule)
        with text.method("run", decorator=""):
            text.add("self.begin()")
            for call in self._set_up.before():
                text.add(call)
            text.add("self.play(int(self.rounds))")
        keeps = [node for node in self._nodes if isinstance(node, Keep)]
        columns: dict[int, list[tuple[str, str]]] = {
            node.number: [(column, self._kind(register)) for column, register in node.columns.items()]
            for node in keeps
        }
        with text.method("begin", doc="Empty datasets; records are appended as they come.", decorator=""):
            text.add("self.round_now = 0")
            text.add("self.try_now = 0")
            text.add("self.columns = {}", comment="report -> (dataset, kind) of its values")
            for number, found in columns.items():
                prefix = f"{name}." if number == 0 else f"{name}.{number}."
                entries = [("round", "int"), ("try", "int"), ("time_mu", "int"), ("origin_mu", "int"), *found]
                text.add(f"self.columns[{number}] = [")
                for column, kind in entries:
                    text.add(f'    ("{prefix}{quoted(column)}", "{kind}"),')
                text.add("]")
            text.add(f'self.set_dataset("{name}.underflow.round", [])')
            text.add(f'self.set_dataset("{name}.underflow.try", [])')
            for register, values in plan.registers.items():
                text.add(f'self.set_dataset("{name}.values.{quoted(register)}", "{" ".join(values)}")')
            text.add("for columns in self.columns.values():")
            with text.inside():
                text.add("for dataset, _ in columns:")
                with text.inside():
                    text.add("self.set_dataset(dataset, [])")
        doc = "One record: numbers from the core, in the order of its columns."
        with text.method("keep", "number, values", doc=doc, decorator='@rpc(flags={"async"})'):
            text.add("given = [self.round_now, self.try_now, *values]")
            text.add("for (dataset, kind), value in zip(self.columns[number], given):")
            with text.inside():
                if any(kind == "sigma" for found in columns.values() for _, kind in found):
                    text.add('if kind == "sigma":', comment="from the curvature of a log-likelihood")
                    with text.inside():
                        text.add(f"value = {STEP_RAD!r} * ({NAT} / max(int(value), 1)) ** 0.5")
                text.add('self.append_to_dataset(dataset, float(value) if kind == "sigma" else int(value))')
        doc = "Called by the core before each try of a round."
        with text.method("begin_round", "number, tried", doc=doc, decorator='@rpc(flags={"async"})'):
            text.add("self.round_now = int(number)")
            text.add("self.try_now = int(tried)")
        doc = "The core was late: records of this try of this round do not count."
        with text.method("underflow", "number, tried", "TNone", doc=doc, decorator="@rpc"):
            text.add(f'self.append_to_dataset("{name}.underflow.round", int(number))')
            text.add(f'self.append_to_dataset("{name}.underflow.try", int(tried))')
            text.add('print("underflow in round", number, "try", tried)')
        if self._has(Stop):
            doc = "The core waits here until this returns: put there what is not real-time."
            with text.method("host_point", "name", "TNone", doc=doc, decorator="@rpc"):
                text.add('print("host point", name)')

    def _kind(self, register: str) -> str:
        follows = {f"{node.into}.sigma_rad" for node in self._nodes if isinstance(node, Follow)}
        return "sigma" if register in follows else "int"

    # kernel
    def _play(self) -> None:
        text = self._text
        with text.method(
            "play",
            "rounds: TInt32",
            "TNone",
            "All rounds; a round in which the core was late is tried again.",
        ):
            text.add("self.core.reset()")
            text.add("self.set_up()")
            if self._kernel.dma():
                text.add("self.record_dma()")
                for block in self._kernel.dma():
                    text.add(f'{self._names.handle(block)} = self.core_dma.get_handle("labctl_{block.name}")')
            text.add("for number in range(rounds):")
            with text.inside():
                text.add("tried = 0")
                text.add("again = True")
                text.add("while again:")
                with text.inside():
                    text.add("again = False")
                    text.add("self.begin_round(number, tried)")
                    text.add("try:")
                    with text.inside():
                        text.add("self.core.break_realtime()")
                        text.add(f"self.one_round({self._kernel.handles.removeprefix(', ')})")
                    text.add("except RTIOUnderflow:")
                    with text.inside():
                        text.add("self.underflow(number, tried)")
                        text.add("self.core.reset()")
                        text.add("self.all_off()")
                        text.add(f"if tried == {TRIES}:")
                        with text.inside():
                            text.add("raise")
                        text.add("tried += 1")
                        text.add("again = True")
            text.add("self.core.break_realtime()")
            text.add("self.all_off()")

    def _record(self) -> None:
        text = self._text
        if self._kernel.dma():
            with text.method("record_dma", "", "TNone", "Record the blocks that are played by DMA."):
                for block in self._kernel.dma():
                    parts = -(-len(block.events) // 200)
                    text.add(f'with self.core_dma.record("labctl_{block.name}"):')
                    with text.inside():
                        for part in range(parts):
                            text.add(f"self.part_{block.name}_{part + 1}(int64({block.lead_mu}))")
