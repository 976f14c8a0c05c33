"""Checks the shape of a schedule: loops, attempt loops, branches, draws and trackers, without its lines."""

from __future__ import annotations

import math
from itertools import product

from labctl.schedule.items import (
    Attempt,
    Branch,
    Draw,
    Gate,
    Item,
    LineTrigger,
    Pulse,
    Repeat,
    Series,
    Together,
    Track,
    duration,
)
from labctl.schedule.problem import At, Path, Problems, inside
from labctl.schedule.timeline import MOST_ENTRIES, straight
from labctl.schedule.usage import course
from labctl.units import format_time

BEGIN = At()
MOST_GATES = 12
"""Most gates that decide an attempt: their outcome table has two to that power entries."""


class ShapeCheck:
    """One walk over a schedule's items, noting loops and branches that cannot be played."""

    def __init__(self, core_reaction_ps: int, problems: Problems) -> None:
        self._reaction_ps = core_reaction_ps
        self._problems = problems
        self._at = BEGIN
        self._courses: dict[int, At] = {}

    def run(self, item: Item, path: Path, at: At = BEGIN, measured: bool = False) -> None:
        """Check an item and everything in it.

        at:        its beginning after its innermost block
        measured:  whether the size of the straight piece it belongs to has been looked at
        """
        self._at = at
        if not measured and straight(item):
            measured = True
            self._size(item, path)
        match item:
            case Series() | Together():
                here = inside(path, item.name)
                self._at = at if here == path else BEGIN
                self._group(item, here, measured)
            case Repeat():
                self._repeat(item, path, measured)
            case Attempt():
                self._at = BEGIN
                self._attempt(item, inside(path, "attempt"))
            case Branch():
                if not item.cases:
                    self._add(path, f"the branch on {item.on!r} has no cases")
                for name, case in item.cases.items():
                    self.run(case, inside(path, name))
            case Gate():
                self._gate(item, path)
            case Draw():
                self._draw(item, path)
            case Track():
                self._track(item, path)
            case LineTrigger():
                self._trigger(item, path)
            case _:
                pass

    def _add(self, path: Path, what: str, hint: str = "", line: str = "") -> None:
        self._problems.add(path, what, hint, line=line, time_ps=self._at)

    def _size(self, item: Item, path: Path) -> None:
        count = _entries(item)
        if count > MOST_ENTRIES:
            self._add(
                path,
                f"a straight piece of {count} pulses and gates, more than {MOST_ENTRIES}",
                "put a Report into its loop, so that the core keeps it as a loop",
            )

    def _group(self, item: Series | Together, path: Path, measured: bool) -> None:
        at = self._at
        if isinstance(item, Series) and item.kind == "anchored" and item.reaction < self._reaction_ps:
            self._add(
                path,
                f"anchored {format_time(item.reaction)} after the herald, but the core takes "
                f"{format_time(self._reaction_ps)} to react",
                f"give it reaction={self._reaction_ps} or more",
            )
        for part in item.items:
            self._at = at
            found = _reacting(part) if isinstance(item, Together) else []
            if found:
                self._add(
                    path,
                    f"a Together with {_listed(found)} in one of its branches",
                    "only pulses, gates, tones and waits run side by side; put the rest before or after",
                )
            self.run(part, path, at, measured)
            if isinstance(item, Series):
                at = at.plus(*self._course(part))

    def _course(self, item: Item) -> At:
        """Kept by identity: a checked schedule is not changed."""
        if id(item) not in self._courses:
            self._courses[id(item)] = course(item)
        return self._courses[id(item)]

    def _repeat(self, item: Repeat, path: Path, measured: bool) -> None:
        if item.count < 1:
            self._add(path, f"a loop of {item.count} turns", "a loop needs at least one turn")
        if duration(item.body) == 0:
            self._add(path, "a loop in which no time passes", "put a pulse or a wait into its body")
        self.run(item.body, path, self._at, measured)

    def _attempt(self, item: Attempt, path: Path) -> None:
        if item.limit < 1:
            self._add(path, f"a limit of {item.limit} attempts", "allow at least one")
        if duration(item.body) == 0:
            self._add(path, "an attempt in which no time passes", "put its pulses and gates into the body")
        self._only_straight(item.body, path, "the body of an attempt loop")
        before = BEGIN if item.every is None else At().plus(*course(item.every.body))
        self.run(item.body, path, before)
        self._at = BEGIN
        if item.every is not None:
            if item.every.attempts < 1:
                self._add(path, f"a block put before every {item.every.attempts} attempts", "count from 1")
            body = item.every.body
            for part in body.items if isinstance(body, Series) else (body,):
                if not isinstance(part, Track):
                    self._only_straight(part, path, "a block interleaved into an attempt loop")
            self.run(body, path)
        self._at = BEGIN
        self._outcomes(item, path)

    def _only_straight(self, item: Item, path: Path, what: str) -> None:
        found = _reacting(item)
        if "Draw" in found:
            self._add(
                path,
                "a setting is drawn before the herald",
                "draw it after the attempt loop: settings must not exist while the pair is being made",
            )
        rest = [name for name in found if name != "Draw"]
        if rest:
            self._add(
                path,
                f"{_listed(rest)} in {what}",
                "it must be straight: pulses, gates, tones, waits and loops of these",
            )

    def _outcomes(self, item: Attempt, path: Path) -> None:
        """The outcome table has to name every pattern, and only patterns with a click can end the loop."""
        digits = len(item.gates)
        if not 1 <= digits <= MOST_GATES:
            self._add(
                path,
                f"{digits} gates decide the attempt",
                f"name 1 to {MOST_GATES} registers of its gates in gates=...",
            )
            return
        patterns = ["".join(bits) for bits in product("01", repeat=digits)]
        missing = [pattern for pattern in patterns if pattern not in item.outcomes]
        if missing:
            self._add(
                path,
                f"no outcome for the click pattern{'s' if len(missing) > 1 else ''} {_some(missing)}",
                'name an outcome for each, or "again"',
            )
        strange = [pattern for pattern in item.outcomes if pattern not in patterns]
        if strange:
            self._add(
                path,
                f"{_some(strange)} cannot be a click pattern of {digits} gate{'s' if digits > 1 else ''}",
                f'patterns have {digits} digits "0" or "1", one for each of {", ".join(item.gates)}',
            )
        if item.outcomes.get("0" * digits, "again") != "again":
            self._add(
                path,
                f"an attempt without a click has the outcome {item.outcomes['0' * digits]!r}",
                'it must be "again"; the outcome of giving up is "timeout"',
            )
        if "timeout" in item.outcomes.values():
            self._add(
                path,
                'an outcome called "timeout"',
                "that is what the loop gives when its limit is reached; take another name",
            )
        if not set(item.outcomes.values()) - {"again"}:
            self._add(path, "no click pattern ends the attempt loop", "name an outcome")

    def _gate(self, item: Gate, path: Path) -> None:
        if not item.into:
            self._add(path, "a gate without a register", 'name one: into="..."', line=item.line)
        if item.threshold is not None and item.threshold < 1:
            self._add(
                path,
                f"a threshold of {item.threshold} calls every count bright",
                "thresholds begin at 1",
                line=item.line,
            )

    def _draw(self, item: Draw, path: Path) -> None:
        fair = all(math.isfinite(weight) and weight >= 0 for weight in item.weights)
        if not fair or not math.isfinite(sum(item.weights)) or not sum(item.weights) > 0:
            self._add(
                path,
                f"cannot draw {item.into!r} with weights {_some([f'{weight:g}' for weight in item.weights])}",
                "weights are not negative and not all zero",
            )

    def _trigger(self, item: LineTrigger, path: Path) -> None:
        if item.reaction < self._reaction_ps:
            self._add(
                path,
                f"{format_time(item.reaction)} after the edge, but the core takes "
                f"{format_time(self._reaction_ps)} to react",
                f"give it reaction={self._reaction_ps} or more",
                line=item.line,
            )
        if item.limit < 1:
            self._add(
                path,
                f"waits for an edge for {format_time(item.limit)}",
                "two periods of the mains are 40 ms",
                line=item.line,
            )

    def _track(self, item: Track, path: Path) -> None:
        if not 0 < item.contrast <= 1:
            self._add(path, f"the tracker of {item.into!r} assumes a contrast of {item.contrast:g}", "0 to 1")
        if not 0 <= item.diffusion_rad2_per_s < math.inf:
            self._add(
                path,
                f"the tracker of {item.into!r} assumes a diffusion of {item.diffusion_rad2_per_s:g} rad²/s",
                "it cannot be negative",
            )
        if not item.gates or not all(math.isfinite(bias) for _, _, bias in item.gates):
            self._add(
                path,
                f"the tracker of {item.into!r} has no reference gates or a bias that is no number",
                "give (register at detector 0, register at detector 1, bias in turns) for each slot",
            )
        if item.valid is not None and not (
            0 <= item.valid.clicks[0] <= item.valid.clicks[1] and item.valid.sigma_rad > 0
        ):
            self._add(
                path,
                f"the phase {item.into!r} is never valid: {item.valid.clicks[0]} to {item.valid.clicks[1]} clicks "
                f"and at most {item.valid.sigma_rad:g} rad",
                "give the fewest and the most clicks of a cycle, and a standard deviation above 0",
            )
        if item.valid is not None and not item.valid.agreement <= 0.9:
            self._problems.add(
                path,
                f"the phase {item.into!r} is hardly ever valid: agreement of {item.valid.agreement:g}",
                "that of a good fringe varies around 1 by its shot noise; give 0.9 at most",
            )


def _entries(item: Item) -> int:
    """Pulses and gates of a straight item, loops multiplied out."""
    match item:
        case Pulse() | Gate():
            return 1
        case Series() | Together():
            return sum(_entries(part) for part in item.items)
        case Repeat():
            return max(0, item.count) * _entries(item.body)
        case _:
            return 0


def _reacting(item: Item) -> list[str]:
    """Kinds of items in an item that depend on what happens, in the order found."""
    if straight(item):
        return []
    match item:
        case Series() | Together():
            found = [kind for part in item.items for kind in _reacting(part)]
        case Repeat():
            found = _reacting(item.body)
        case Branch():
            found = ["Branch", *(kind for case in item.cases.values() for kind in _reacting(case))]
        case _:
            found = [type(item).__name__]
    return list(dict.fromkeys(found))


def _listed(kinds: list[str]) -> str:
    return " and ".join(f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}" for kind in kinds)


def _some(words: list[str]) -> str:
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")
