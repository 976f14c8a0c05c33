"""Checks that an attempt's photon is seen and its ion left alone: gates open when it arrives, no spoiling light meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from labctl.schedule.items import Attempt, Branch, Gate, Item, Pulse, Repeat, Series, Together
from labctl.schedule.lines import Line
from labctl.schedule.problem import At, Path, Problems, inside
from labctl.schedule.timeline import straight
from labctl.schedule.usage import length_of, spans
from labctl.units import format_time


@dataclass(frozen=True)
class _Leaf:
    """A pulse or gate of an attempt: its block, when in it and when after the attempt began, ps; of loops the first turn."""

    item: Pulse | Gate
    path: Path
    in_block: At
    at: int

    @property
    def end(self) -> int:
        """When it ends, ps after the attempt began."""
        return self.at + max(0, self.item.duration)


class PhotonCheck:
    """One walk over a schedule's attempt loops."""

    def __init__(self, lines: Mapping[str, Line], problems: Problems) -> None:
        self._lines = lines
        self._problems = problems

    def run(self, item: Item, path: Path) -> None:
        """Check the attempts in an item."""
        match item:
            case Series() | Together():
                for part in item.items:
                    self.run(part, inside(path, item.name))
            case Repeat():
                self.run(item.body, path)
            case Branch():
                for name, case in item.cases.items():
                    self.run(case, inside(path, name))
            case Attempt() if straight(item.body):
                self._attempt(item, inside(path, "attempt"))
            case _:
                pass

    def _attempt(self, item: Attempt, path: Path) -> None:
        leaves = list(_leaves(item.body, path, At(), 0))
        for leaf in leaves:
            line = self._lines.get(leaf.item.line)
            if line is None or not isinstance(leaf.item, Pulse):
                continue
            closes = leaf.end
            for detector, flight in line.photon_ps.items():
                gates = [
                    one
                    for one in leaves
                    if isinstance(one.item, Gate)
                    and one.item.line == detector
                    and one.item.into in item.gates
                ]
                arrives = leaf.at + flight
                seen = [gate for gate in gates if gate.at <= arrives < gate.end]
                if gates and not seen:
                    self._missed(leaf, detector, arrives, gates)
                closes = max([closes, *(gate.end for gate in seen)])
            self._spoiled(item, leaf, line, closes, leaves)

    def _missed(self, leaf: _Leaf, detector: str, arrives: int, gates: list[_Leaf]) -> None:
        gate = min(gates, key=lambda one: abs(one.at - arrives))
        self._problems.add(
            gate.path,
            f"closed when the photon of {leaf.item.line} arrives, {format_time(arrives)} after the attempt begins: this gate "
            f"is open from {format_time(gate.at)} to {format_time(gate.end)}",
            "move the gate, or correct photon_ps of the line in the lab file",
            line=detector,
            time_ps=gate.in_block,
        )

    def _spoiled(self, item: Attempt, leaf: _Leaf, line: Line, closes: int, leaves: list[_Leaf]) -> None:
        for name, start, stop in spans(item.body, 0, set(line.spoiled_by)):
            both = min(stop, closes) - max(start, leaf.at)
            if both <= 0:
                continue
            own = [one for one in leaves if one.item.line == name and one.at <= max(start, leaf.at)]
            place = max(own, key=lambda one: one.at, default=leaf)
            self._problems.add(
                place.path,
                f"on for {format_time(both)} inside the photon window of {leaf.item.line}, from its pulse until the gate of "
                "its photon closes: it spoils the ion's state",
                f"turn {name} off before the pulse, and on after the gate",
                line=name,
                time_ps=place.in_block,
            )
            return


def _leaves(item: Item, path: Path, in_block: At, at: int) -> Iterator[_Leaf]:
    match item:
        case Pulse() | Gate():
            yield _Leaf(item, path, in_block, at)
        case Series() | Together():
            here = inside(path, item.name)
            in_block = in_block if here == path else At()
            for part in item.items:
                yield from _leaves(part, here, in_block, at)
                if isinstance(item, Series):
                    in_block, at = in_block.plus(length_of(part)), at + length_of(part)
        case Repeat():
            yield from _leaves(item.body, path, in_block, at)
        case _:
            pass
