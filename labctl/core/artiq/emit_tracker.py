"""Writes the methods that track phases: a Bayes filter on a grid, in integers."""

from __future__ import annotations

import math

from labctl.core.artiq.emit_blocks import BlockWriter
from labctl.core.artiq.names import Names
from labctl.core.artiq.plan import Follow, Plan
from labctl.core.artiq.text import Text, identifier
from labctl.units import s

TRACKER_POINTS = 64
"""Grid of a phase tracker."""
NAT = 1024
"""Units of a log-likelihood in integers."""
COSINE = 1024
"""Units of a cosine in integers."""
STEP_RAD = 2 * math.pi / TRACKER_POINTS
MICROTURNS = 1_000_000
LONGEST_MU = 10**12
"""After so long without a click nothing is known any more."""


class TrackerWriter:
    """Methods for the trackers of one plan."""

    def __init__(self, plan: Plan, names: Names, text: Text) -> None:
        self._plan = plan
        self._names = names
        self._text = text

    def follow(self, node: Follow) -> None:
        """The method of one tracker: log-likelihoods on a grid; diffusion widens the posterior by the curvature at its peak."""
        text, names, name = self._text, self._names, identifier(node.into)
        counts = [
            f"self.{names.register(register)}" for one, other, _ in node.gates for register in (one, other)
        ]
        points = TRACKER_POINTS
        doc = f"Track {node.into} from the clicks of its reference gates; {NAT} units are a factor e in likelihood."
        with text.method(f"follow_{name}", "t: TInt64", "TNone", doc):
            diffusion = self._diffusion(node)
            longest = min(LONGEST_MU, 2**62 // max(diffusion, 1))
            text.add(f"elapsed = t - self.{name}_updated")
            text.add(f"self.{name}_updated = t")
            text.add(f"if elapsed > {longest}:")
            with text.inside():
                text.add(f"elapsed = int64({longest})")
            text.add(
                f"spread = int64(1048576) + self.{name}_curvature * ((elapsed * {diffusion}) >> 24)",
                comment="1 + variance gained / variance of the estimate, times 2^20",
            )
            text.add("keep = int32(int64(68719476736) // spread)", comment="times 2^16")
            for k, count in enumerate(counts):
                text.add(f"n{k} = int32({count})")
            text.add(f"belief = self.{name}_belief")
            text.add(f"top = self.{name}_top")
            text.add("most = int64(-4611686018427387904)")
            text.add("best = 0")
            text.add(f"for i in range({points}):")
            with text.inside():
                text.add("value = ((belief[i] - top) * keep) >> 16")
                for k in range(len(counts)):
                    text.add(f"if n{k} > 0:")
                    with text.inside():
                        text.add(
                            f"value += int64(n{k}) * self.{name}_log[{BlockWriter.after('i', points * k)}]"
                        )
                text.add("belief[i] = value")
                text.add("if value > most:")
                with text.inside():
                    text.add("most = value")
                    text.add("best = i")
            text.add(f"self.{name}_top = most")
            text.add(f"left = belief[(best + {points - 1}) % {points}] - most")
            text.add(f"right = belief[(best + 1) % {points}] - most")
            text.add(f"self.{name}_curvature = -(left + right)")
            text.add("aside = int64(0)")
            text.add("if left + right < 0:", comment="the peak between the points, of a parabola")
            with text.inside():
                for sign, one, other in (("", "right", "left"), ("-", "left", "right")):
                    text.add(f"if {one} > {other}:")
                    with text.inside():
                        part = f"({one} - {other}) * {MICROTURNS // points} // (int64(2) * self.{name}_curvature)"
                        text.add(f"aside = {f'-({part})' if sign else part}")
            text.add(
                f"self.{names.register(node.into)} = self.wrapped(best * {MICROTURNS // points} + aside)"
            )
            text.add(
                f"self.{names.register(f'{node.into}.sigma_rad')} = self.{name}_curvature",
                comment="the host makes radians of it",
            )
            total = " + ".join(f"n{k}" for k in range(len(counts)))
            text.add(f"self.{names.register(f'{node.into}.clicks')} = int64({total})")
            self._valid(node, names.register(f"{node.into}.clicks"), f"self.{name}_curvature")

    def _valid(self, node: Follow, clicks: str, curvature: str) -> None:
        """Whether the estimate may be used; the clicks of the last cycles fade by a sixteenth from one to the next."""
        rule, text, names, name = node.valid, self._text, self._names, identifier(node.into)
        if rule is None:
            return
        for k in range(2 * len(node.gates)):
            text.add(f"self.{name}_recent[{k}] += (int64(n{k}) << 16) - (self.{name}_recent[{k}] >> 4)")
        text.add("along = int64(0)")
        text.add("whole = int64(0)")
        for slot in range(len(node.gates)):
            one, other = f"self.{name}_recent[{2 * slot}]", f"self.{name}_recent[{2 * slot + 1}]"
            text.add(f"wave = self.{name}_cos[{BlockWriter.after('best', TRACKER_POINTS * slot)}]")
            text.add(f"along += (({one} - {other}) * wave) >> 10")
            text.add(f"whole += (((({one} + {other}) * wave) >> 10) * wave) >> 10")
        least = round(rule.agreement * node.contrast * COSINE)
        sharp = math.ceil(NAT * (STEP_RAD / rule.sigma_rad) ** 2)
        fewest, most = rule.clicks
        tests = [
            (f"{curvature} >= {sharp}", f"known to {rule.sigma_rad:g} rad"),
            (f"along * {COSINE} >= whole * {least}", "a fringe"),
            (f"self.{clicks} >= {fewest} and self.{clicks} <= {most}", "clicks in range"),
        ]
        if rule.lock:
            tests.append((f"self.{names.register(rule.lock)} >= {rule.lock_counts}", "locked"))
        valid = f"self.{names.register(f'{node.into}.valid')}"
        text.add(f"{valid} = 1")
        for test, reason in tests:
            text.add(f"if not ({test}):", comment=reason)
            with text.inside():
                text.add(f"{valid} = 0")

    def _diffusion(self, node: Follow) -> int:
        """Variance gained per machine unit, in the units that ``spread`` is written with."""
        per_mu = node.diffusion_rad2_per_s * self._plan.ref_period_ps / s
        return round(per_mu / (NAT * STEP_RAD**2) * 2**44)


def cosines(node: Follow) -> list[int]:
    """The expected fringe at each point of the grid, slot by slot."""
    return [
        round(COSINE * math.cos(STEP_RAD * i + 2 * math.pi * bias))
        for _, _, bias in node.gates
        for i in range(TRACKER_POINTS)
    ]


def log_likelihoods(node: Follow) -> list[int]:
    """What a click adds at each point of the grid: for each slot, detector 0 and then detector 1."""
    found: list[int] = []
    for _, _, bias in node.gates:
        for sign in (1, -1):
            for i in range(TRACKER_POINTS):
                share = (1 + sign * node.contrast * math.cos(STEP_RAD * i + 2 * math.pi * bias)) / 2
                found.append(round(NAT * math.log(max(share, 1e-6))))
    return found
