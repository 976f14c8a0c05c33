"""Writes the attempt loops that an entangler core plays, and what it is told of them beforehand."""

from __future__ import annotations

from labctl.core.artiq.course import run_mu
from labctl.core.artiq.entangler import INPUTS, OUTPUTS, OVERHEAD_CYCLES
from labctl.core.artiq.names import Names
from labctl.core.artiq.plan import Attempts, Block, EntanglerLoop, Plan
from labctl.core.artiq.text import Text

HERALDS, TIMING, GATES, STAMPS = 3, 8, 12, 40
"""Addresses of entangler-core: patterns, timing of output 0, of input 0, time stamp of input 0."""
TIMEOUT = 0x3FFF
NEVER_MU = 8 * 2000
"""Beyond the longest cycle: an output that stays off, an input that stays closed."""
READING_MU = 2_000
"""How far ahead of the clock a time stamp is asked for."""


class EntanglerWriter:
    """Code for the entangler core of one plan."""

    def __init__(self, plan: Plan, names: Names, text: Text) -> None:
        self._plan = plan
        self._names = names
        self._text = text

    def devices(self) -> list[str]:
        """The entangler core, if something is played by it."""
        return [block.entangler.device for block in self._plan.blocks.values() if block.entangler]

    def set_up(self) -> None:
        """Tell the core its timing; it takes over its outputs from here on."""
        for block in self._plan.blocks.values():
            if block.entangler is not None:
                self._told(block, block.entangler)

    def _told(self, block: Block, told: EntanglerLoop) -> None:
        text, core = self._text, f"self.{self._names.device(told.device)}"
        text.add(f"{core}.init()", block.place)
        outputs = {number: (line, on, off) for line, (number, on, off) in told.outputs.items()}
        inputs = {number: (line, start, stop) for line, (number, start, stop) in told.inputs.items()}
        never = ("not used", NEVER_MU, NEVER_MU)
        for number in range(OUTPUTS):
            line, on, off = outputs.get(number, never)
            text.add(f"{core}.set_timing_mu({TIMING + number}, {on}, {off})", block.place, line)
        for number in range(INPUTS):
            line, start, stop = inputs.get(number, never)
            since = told.reference_mu if number in inputs else 0
            text.add(
                f"{core}.set_timing_mu({GATES + number}, {start - since}, {stop - since})", block.place, line
            )
        cycle_mu = block.length_mu - OVERHEAD_CYCLES * self._plan.coarse_mu
        text.add(
            f"{core}.set_cycle_length_mu({cycle_mu})",
            block.place,
            f"repeats every {block.length_mu} mu: it needs {OVERHEAD_CYCLES} coarse cycles more",
        )
        word = sum((pattern << 4 * k) | (1 << (16 + k)) for k, pattern in enumerate(told.patterns))
        text.add(f"{core}.write({HERALDS}, {word})", block.place, "the patterns that end the loop")
        text.add(f"{core}.set_config(True, True)", block.place, "outputs are the core's, no partner")
        text.add("self.core.break_realtime()")

    def loop(self, name: str, node: Attempts, handles: str) -> None:
        """The method of one loop: run the core, until an outcome or the limit."""
        text, names, body = self._text, self._names, self._plan.blocks[node.body]
        told = body.entangler
        assert told is not None
        core = f"self.{names.device(told.device)}"
        outcome = f"self.{names.register(node.into)}"
        codes = self._plan.registers[node.into]
        doc = f"{node.place}: until {node.into} has an outcome, {node.limit} attempts at the most, on the entangler core."
        with text.method(name, f"t: TInt64{handles}", "TInt64", doc):
            text.add(f"{outcome} = int64(0)")
            for gate in node.gates:
                text.add(f"self.{names.register(gate)} = int64(0)")
                if names.has(f"{gate}.first_ps"):
                    text.add(f"self.{names.register(f'{gate}.first_ps')} = int64(-1)")
            text.add("count = 0")
            text.add(f"while {outcome} == 0 and count < {node.limit}:", node.place)
            with text.inside():
                text.add(f"attempts = {node.limit} - count")
                text.add(f"if attempts > {told.longest}:")
                with text.inside():
                    text.add(f"attempts = {told.longest}")
                text.add("at_mu(t)")
                half = body.length_mu - run_mu(body, 1)
                text.add(
                    f"end, match = {core}.run_mu(attempts * {body.length_mu} - {half})",
                    node.place,
                    "returns when it is over",
                )
                text.add(f"done = (end - t + {half}) // {body.length_mu}")
                text.add("count += int32(done)")
                text.add(f"t += done * {body.length_mu}")
                text.add(f"if match != {TIMEOUT}:")
                with text.inside():
                    self._outcomes(node, told, outcome, codes)
            if any(names.has(f"{gate}.first_ps") for gate in node.gates):
                self._stamps(node, body, told, core, outcome)
            text.add(f"if {outcome} == 0:")
            with text.inside():
                text.add(f"{outcome} = int64({codes.index('timeout')})", comment="timeout")
            text.add(f"self.{names.register(f'{node.into}.attempts')} = int64(count)")
            text.add("return t")

    def _outcomes(self, node: Attempts, told: EntanglerLoop, outcome: str, codes: list[str]) -> None:
        text, names = self._text, self._names
        windows = {window.register: window for window in self._plan.blocks[node.body].windows}
        for k, (pattern, meaning) in enumerate(zip(told.patterns, told.outcomes, strict=True)):
            text.add(f"if (match >> {k}) % 2 == 1:", comment=meaning)
            with text.inside():
                text.add(f"{outcome} = int64({codes.index(meaning)})")
                for gate in node.gates:
                    if pattern >> told.inputs[windows[gate].line][0] & 1:
                        text.add(f"self.{names.register(gate)} = int64(1)")
        for gate in node.gates:
            if names.has(f"{gate}.bright"):
                text.add(f"self.{names.register(f'{gate}.bright')} = self.{names.register(gate)}")

    def _stamps(self, node: Attempts, body: Block, told: EntanglerLoop, core: str, outcome: str) -> None:
        text, names = self._text, self._names
        windows = {window.register: window for window in body.windows}
        text.add(f"if {outcome} != 0:")
        with text.inside():
            text.add(f"at_mu(self.core.get_rtio_counter_mu() + {READING_MU})")
            for gate in node.gates:
                if not names.has(f"{gate}.first_ps"):
                    continue
                number, start, _ = told.inputs[windows[gate].line]
                text.add(f"if self.{names.register(gate)} > 0:")
                with text.inside():
                    text.add(f"stamp = {core}.get_timestamp_mu({STAMPS + number})", body.place)
                    text.add(
                        f"self.{names.register(f'{gate}.first_ps')} = int64(stamp - {start}) * {self._plan.ref_period_ps}"
                    )
                    text.add(f"delay_mu({READING_MU})")
