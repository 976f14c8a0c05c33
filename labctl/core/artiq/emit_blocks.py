"""Writes the methods that play blocks: written out, from a table, by DMA; and those that read their gates."""

from __future__ import annotations

from labctl.core.artiq.device_db import DeviceDb
from labctl.core.artiq.names import Names
from labctl.core.artiq.plan import Block, Event, Plan, Window
from labctl.core.artiq.text import Text
from labctl.units import format_time

IN_ONE_METHOD = 200
"""Events written out in one method: the compiler gives up on 600 (ARTIQ.md 1)."""
COUNTER = {
    "count": "True, False, False, True",
    "relatch": "True, False, True, True",
    "latch": "False, False, True, False",
}
"""Arguments of EdgeCounter.set_config: count rising, count falling, send the count, reset to zero."""


class BlockWriter:
    """Methods for the blocks of one plan."""

    def __init__(self, plan: Plan, db: DeviceDb, names: Names, text: Text) -> None:
        self._plan = plan
        self._db = db
        self._names = names
        self._text = text

        self._like: dict[str, Block] = {}
        """Block -> the first one that does the same; those that let only time pass, or run on an entangler core, are not in it."""
        first: dict[object, Block] = {}
        for block in plan.blocks.values():
            if block.entangler is None and (block.events or block.windows):
                self._like[block.name] = first.setdefault(_deeds(block), block)

    def used(self) -> list[Block]:
        """Blocks that have a method; the others do the same as one of them, or nothing."""
        return list({block.name: block for block in self._like.values()}.values())

    def like(self, block: Block) -> Block | None:
        """The block whose method plays this one; None if nothing has to be done."""
        return self._like.get(block.name)

    def all(self) -> None:
        """Every method."""
        for block in self.used():
            self._block(block)
            for device, windows in by_device(block).items():
                self._read(block, device, windows)

    def _block(self, block: Block) -> None:
        others = sum(one is block for one in self._like.values()) - 1
        more = f", and {others} that do{'' if others > 1 else 'es'} the same" if others else ""
        head = (
            f"{block.place}{more}: {self._time(block.length_mu)}. {block.how.capitalize()}: {block.reason}."
        )
        handle = f", {self._names.handle(block)}" if block.how == "dma" else ""
        with self._text.method(f"block_{block.name}", f"t: TInt64{handle}", "TNone", head):
            if block.how == "table":
                self._text.add(f"self.table_{block.name}(t)")
            elif block.how == "dma":
                self._text.add(f"at_mu(t - {block.lead_mu})" if block.lead_mu else "at_mu(t)")
                self._text.add(f"self.core_dma.playback_handle({self._names.handle(block)})")
            elif len(block.events) > IN_ONE_METHOD:
                for part in range(-(-len(block.events) // IN_ONE_METHOD)):
                    self._text.add(f"self.part_{block.name}_{part + 1}(t)")
            else:
                self._events(block.events)
            for device in by_device(block):
                self._text.add(f"self.read_{block.name}_{self._names.device(device)}(t)")
        if block.how == "table":
            self._table(block)
        elif block.how == "dma" or len(block.events) > IN_ONE_METHOD:
            self._parts(block)

    def _parts(self, block: Block) -> None:
        """The events written out in several methods, and for DMA one that calls them all."""
        parts = range(0, len(block.events), IN_ONE_METHOD)
        for number, first in enumerate(parts):
            with self._text.method(f"part_{block.name}_{number + 1}", "t: TInt64", "TNone"):
                self._events(block.events[first : first + IN_ONE_METHOD])

    def _events(self, events: list[Event]) -> None:
        at: int | None = None
        for event in events:
            if event.time_mu != at:
                self._text.add(f"at_mu({self.after('t', event.time_mu)})", event.place)
            self._text.add(self.call(event), event.place, f"{event.line} {event.action}")
            at = None if event.action == "set" else event.time_mu

    @staticmethod
    def after(name: str, time_mu: int) -> str:
        """A time so long after (or before) a variable."""
        if time_mu == 0:
            return name
        return f"{name} + {time_mu}" if time_mu > 0 else f"{name} - {-time_mu}"

    def call(self, event: Event) -> str:
        """The call of one event."""
        device = f"self.{self._names.device(event.device)}"
        match event.action:
            case "on" | "off":
                return f"{device}.{event.action}()"
            case "open":
                return f"{device}._set_sensitivity(1)"
            case "close":
                return f"{device}._set_sensitivity(0)"
            case "count" | "latch" | "relatch":
                return f"{device}.set_config({COUNTER[event.action]})"
            case "set":
                frequency, phase, amplitude = event.words
                word = f"self.{phase}" if isinstance(phase, str) else str(phase)
                if self._db.find(event.device).kind == "ad9912":
                    return f"{device}.set_mu(int64({frequency}), {word})"
                tracked = ", phase_mode=2, ref_time_mu=self.origin" if event.tracking else ""
                return f"{device}.set_mu({frequency}, {word}, {amplitude}{tracked})"
            case "run":
                raise AssertionError("an entangler core is run by the method of its attempt loop")

    # tables
    def _table(self, block: Block) -> None:
        name = block.name
        kinds = self.kinds(block)
        with self._text.method(
            f"table_{name}", "t: TInt64", "TNone", f"{len(block.events)} events of {block.place}."
        ):
            self._text.add(f"for i in range({len(block.events)}):")
            with self._text.inside():
                self._text.add(f"at_mu(t + self.{name}_time[i])", block.place)
                self._text.add(f"unit = self.{name}_unit[i]")
                self._text.add(f"code = self.{name}_code[i]")
                for code, (action, cls) in enumerate(kinds):
                    self._text.add(f"if code == {code}:", comment=f"{action} {cls}")
                    with self._text.inside():
                        self._text.add(self._table_call(name, action, cls))

    def kinds(self, block: Block) -> list[tuple[str, str]]:
        """The different things a table does: action and class of the device."""
        return sorted({(event.action, self._db.find(event.device).cls) for event in block.events})

    def _table_call(self, name: str, action: str, cls: str) -> str:
        device = f"self.{name}_{cls.lower()}[unit]"
        match action:
            case "on" | "off":
                return f"{device}.{action}()"
            case "open":
                return f"{device}._set_sensitivity(1)"
            case "close":
                return f"{device}._set_sensitivity(0)"
            case "set":
                words = [f"self.{name}_{word}[i]" for word in ("frequency", "phase", "amplitude")]
                if cls == "AD9912":
                    return f"{device}.set_mu({', '.join(words[:2])})"
                words[0] = f"int32({words[0]})"
                return f"{device}.set_mu({', '.join(words)})"
            case _:
                return f"{device}.set_config({COUNTER[action]})"

    def table_attributes(self, block: Block) -> dict[str, str]:
        """Attribute -> expression of the lists of one table."""
        name, kinds = block.name, self.kinds(block)
        groups: dict[str, list[str]] = {}
        units: list[int] = []
        codes: list[int] = []
        for event in block.events:
            cls = self._db.find(event.device).cls
            group = groups.setdefault(cls, [])
            if event.device not in group:
                group.append(event.device)
            units.append(group.index(event.device))
            codes.append(kinds.index((event.action, cls)))
        times = [event.time_mu for event in block.events]
        made = {
            f"{name}_time": _numbers("int64", times),
            f"{name}_unit": _numbers("int32", units),
            f"{name}_code": _numbers("int32", codes),
        }
        for cls, group in groups.items():
            made[f"{name}_{cls.lower()}"] = (
                f"[{', '.join(f'self.{self._names.device(one)}' for one in group)}]"
            )
        if any(event.action == "set" for event in block.events):
            wide = any(self._db.find(e.device).kind == "ad9912" for e in block.events if e.action == "set")
            for position, word in enumerate(("frequency", "phase", "amplitude")):
                values = [int(event.words[position]) if event.words else 0 for event in block.events]
                kind = "int64" if wide and word == "frequency" else "int32"
                made[f"{name}_{word}"] = _numbers(kind, values)
        return made

    # gates
    def _read(self, block: Block, device: str, windows: list[Window]) -> None:
        names = self._names
        head = "; ".join(f"{w.register}: {w.line} from {w.open_mu} to {w.close_mu}" for w in windows[:4])
        with self._text.method(f"read_{block.name}_{names.device(device)}", "t: TInt64", "TNone", head + "."):
            if windows[0].mode == "counter":
                for window in windows:
                    self._text.add(
                        f"self.{names.register(window.register)} = int64(self.{names.device(device)}.fetch_count())",
                        block.place,
                    )
            else:
                self._stamps(block, device, windows)
            for window in windows:
                if window.threshold is None:
                    continue
                bright = names.register(f"{window.register}.bright")
                self._text.add(f"self.{bright} = int64(0)")
                self._text.add(f"if self.{names.register(window.register)} >= {window.threshold}:")
                with self._text.inside():
                    self._text.add(f"self.{bright} = int64(1)")

    def _stamps(self, block: Block, device: str, windows: list[Window]) -> None:
        names, text = self._names, self._text
        for window in windows:
            text.add(f"self.{names.register(window.register)} = int64(0)")
            if names.has(f"{window.register}.first_ps"):
                text.add(f"self.{names.register(f'{window.register}.first_ps')} = int64(-1)")
        last = max(window.close_mu for window in windows)
        ask = f"stamp = self.{names.device(device)}.timestamp_mu({self.after('t', last)})"
        text.add(ask, block.place)
        text.add("while stamp >= 0:")
        with text.inside():
            text.add("at = stamp - t")
            for k, window in enumerate(windows):
                register = names.register(window.register)
                low = f"at >= {windows[k].open_mu}" if k else ""
                high = f"at < {windows[k + 1].open_mu}" if k + 1 < len(windows) else ""
                condition = " and ".join(part for part in (low, high) if part)
                if condition:
                    text.add(f"if {condition}:")
                with text.inside() if condition else text.same():
                    if names.has(f"{window.register}.first_ps"):
                        text.add(f"if self.{register} == 0:")
                        with text.inside():
                            first = names.register(f"{window.register}.first_ps")
                            text.add(f"self.{first} = (at - {window.open_mu}) * {self._plan.ref_period_ps}")
                    text.add(f"self.{register} += 1")
            text.add(ask)

    def _time(self, time_mu: int) -> str:
        return format_time(time_mu * self._plan.ref_period_ps)


def _deeds(block: Block) -> object:
    """What a block does, whatever its name and place."""
    events = [(e.time_mu, e.action, e.device, e.words, e.tracking) for e in block.events]
    windows = [(w.register, w.device, w.mode, w.open_mu, w.close_mu, w.threshold) for w in block.windows]
    return block.how, block.lead_mu, block.length_mu, tuple(events), tuple(windows)


def by_device(block: Block) -> dict[str, list[Window]]:
    """The gates of a block by the device that reads them, those that close first first."""
    found: dict[str, list[Window]] = {}
    for window in sorted(block.windows, key=lambda one: (one.close_mu, one.device)):
        found.setdefault(window.device, []).append(window)
    return found


def _numbers(kind: str, values: list[int]) -> str:
    return f"[{kind}(n) for n in ({', '.join(map(str, values))},)]"
