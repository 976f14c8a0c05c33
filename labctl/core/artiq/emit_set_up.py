"""Writes the methods that set a system up: directions of TTLs, DDS boards, everything off."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.core.artiq.binding import Bound
from labctl.core.artiq.emit_entangler import EntanglerWriter
from labctl.core.artiq.names import Names
from labctl.core.artiq.text import Text

Boards = dict[str, list[Bound]]
"""Name of a board's CPLD -> its channels in use."""


class SetUpWriter:
    """Set-up methods for the lines of one plan."""

    def __init__(
        self, bound: Mapping[str, Bound], names: Names, text: Text, entangler: EntanglerWriter
    ) -> None:
        self._bound = bound
        self._names = names
        self._text = text
        self._entangler = entangler
        self._groups = _groups(bound)

    def before(self) -> list[str]:
        """What the host has to call before the kernel that plays."""
        if len(self._groups) < 2:
            return []
        return [f"self.set_up_boards_{number + 1}()" for number in range(len(self._groups))]

    def all(self) -> None:
        """Every method."""
        text, names = self._text, self._names
        doc = "Directions of TTLs, DDS boards with their nominal tones, everything off."
        with text.method("set_up", "", "TNone", doc):
            text.add("self.core.break_realtime()")
            for one in self._bound.values():
                for entry, way in ((one.output, "output"), (one.input, "input")):
                    if entry is not None and entry.cls == "TTLInOut":
                        text.add(f"self.{names.device(entry.name)}.{way}()")
                        text.add("delay_mu(1000)")
            text.add("self.all_off()")
            if not self.before():
                for boards in self._groups:
                    self._boards(boards)
            self._entangler.set_up()
        for number, boards in enumerate(self._groups if self.before() else []):
            doc = "DDS boards of one kind: ARTIQ compiles CPLDs with and without sync_device, or of different proto_rev, only apart."
            with text.method(f"set_up_boards_{number + 1}", "", "TNone", doc):
                text.add("self.core.reset()")
                self._boards(boards)
        doc = "Every output off, every input closed, one after the other."
        with text.method("all_off", "", "TNone", doc):
            for one in self._bound.values():
                if one.output is not None:
                    text.add(f"self.{names.device(one.output.name)}.off()", comment=one.line)
                    text.add("delay_mu(1000)")
                if one.input is not None:
                    text.add(f"self.{names.device(one.input.name)}._set_sensitivity(0)", comment=one.line)
                    text.add("delay_mu(1000)")

    def _boards(self, boards: Boards) -> None:
        text = self._text
        for board, lines in boards.items():
            cpld = f"self.{self._names.device(board)}"
            text.add(f"{cpld}.init()")
            text.add("self.core.break_realtime()")
            if any(one.dds is not None and one.dds.attenuation_db is not None for one in lines):
                text.add(f"{cpld}.get_att_mu()", comment="what the other channels have stays")
                text.add("self.core.break_realtime()")
            for one in lines:
                self._channel(one)

    def _channel(self, one: Bound) -> None:
        text, dds = self._text, one.dds
        if dds is None:
            return
        channel = f"self.{self._names.device(dds.entry.name)}"
        text.add(f"{channel}.init()", comment=one.line)
        text.add("self.core.break_realtime()")
        if dds.attenuation_db is not None:
            text.add(
                f"{channel}.set_att_mu({255 - round(dds.attenuation_db * 8)})",
                comment=f"{dds.attenuation_db:g} dB",
            )
            text.add("self.core.break_realtime()")
        frequency, phase, amplitude = dds.ftw(0.0), dds.pow(0.0), dds.asf(1.0)
        if dds.is_ad9910:
            text.add(
                f"{channel}.set_mu({frequency}, {phase}, {amplitude})", comment=f"{dds.frequency_hz:g} Hz"
            )
        else:
            text.add(f"{channel}.set_mu(int64({frequency}), {phase})", comment=f"{dds.frequency_hz:g} Hz")
        text.add("self.core.break_realtime()")


def _groups(bound: Mapping[str, Bound]) -> list[Boards]:
    """The boards by kind: of one kind are those whose CPLD objects have attributes of the same types."""
    found: dict[object, Boards] = {}
    for one in bound.values():
        if one.dds is not None:
            arguments = one.dds.cpld.arguments
            kind = arguments.get("sync_device") is None, arguments.get("proto_rev")
            found.setdefault(kind, {}).setdefault(one.dds.cpld.name, []).append(one)
    return list(found.values())
