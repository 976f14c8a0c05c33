"""One schedule, three cores, the same edges: XY-8 and the link lowered for the simulated core, ARTIQ and an NI card.

The simulated core's are those of what it plays, ARTIQ's those of the plan that the sidecar holds, the NI card's are read off
the samples of its buffer; the delays of the lines are removed. The link's times are multiples of 1 ns: no NI card has such a
clock (and no buffer can loop until a herald, which `check` says), so for the link one pass with one attempt is lowered for a
clock of 1 ns that does not exist; XY-8 is lowered for the card of the lab file and could be played on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from artiq_parts import KASLI

from labctl.config import NidaqConfig, NidaqLine, load
from labctl.core import sim_edges
from labctl.core.artiq import edges as artiq_edges
from labctl.core.artiq.course import Choice
from labctl.core.artiq.lower import lower as lower_artiq
from labctl.core.edges import Edge, differences
from labctl.core.nidaq import edges as nidaq_edges
from labctl.core.nidaq import rules
from labctl.core.nidaq.binding import bind
from labctl.core.program import lower as lower_sim
from labctl.schedule.items import Schedule
from labctl.schedule.lines import Line
from labctl.schedule.problem import Problems
from labctl.units import ns, us
from sequences.decoupling import decoupling
from sequences.link import link

LAB = load(Path(__file__).parents[2] / "configs" / "ca40_10km_ni.toml")
LINK_CARD = NidaqConfig(
    tick_ps=1 * ns,
    line={
        node: {
            **{name: one for name, one in lines.items() if node != "charlie"},
            **(
                {"excite_854": NidaqLine(f"port0/line{20 + k}", trigger_ps=100 * ns, generator_ps=2250)}
                if node != "charlie"
                else {
                    d: NidaqLine(f"PFI{k}", counter=f"ctr{k}")
                    for k, d in enumerate(("snspd_0", "snspd_1"), 5)
                }
            ),
        }
        for k, (node, lines) in enumerate(LAB.core.nidaq.line.items())
    },
)
TRIGGERS = ("alice.excite_854", "bob.excite_854")
DELAYED = {
    name: msgspec.structs.replace(line, delay_ps=(k + 1) * us)
    for k, (name, line) in enumerate(LAB.line.items())
}


def three(
    schedule: Schedule,
    lines: Mapping[str, Line],
    card: NidaqConfig,
    choose: Mapping[str, str],
    choices: Mapping[str, Choice],
) -> tuple[list[Edge], list[Edge], list[Edge]]:
    """Edges on the simulated core, on ARTIQ, on an NI card."""
    simulated = sim_edges.edges(lower_sim(schedule), lines, choose, TRIGGERS)
    done = lower_artiq(schedule, lines, LAB.core.artiq, KASLI)
    assert done.plan is not None, [str(problem) for problem in done.problems]
    emitted = artiq_edges.edges(done.plan, done.bound, choices)
    problems = Problems()
    bound = bind(card, lines, rules.used(schedule.body), problems)
    buffered = nidaq_edges.edges(rules.first_pass(schedule, bound, card, choose), bound)
    return simulated, emitted, buffered


@pytest.mark.parametrize("lines", [LAB.line, DELAYED], ids=["no delays", "delays"])
def test_xy8(lines: Mapping[str, Line]) -> None:
    schedule = decoupling(sequence="xy8", pulses=8, spacing=100 * us)
    assert rules.check(schedule, lines, LAB.core.nidaq) == []
    phases = set[float]()
    for point in (0, 3):
        choose = {"phase_index": str(point)}
        simulated, emitted, buffered = three(schedule, lines, LAB.core.nidaq, choose, {"phase_index": point})
        assert differences(simulated, emitted) == []
        assert differences(simulated, buffered) == []
        assert differences(emitted, buffered) == []
        pulses = [edge for edge in simulated if edge.line == "alice.qubit_729" and edge.rising]
        assert len(pulses) == 10
        phases |= {edge.tone[1] for edge in pulses if edge.tone is not None}
    assert phases == {0.0, 0.25, 0.375}


@pytest.mark.parametrize("outcome", ["psi_plus", "timeout"])
def test_link(outcome: str) -> None:
    schedule = link(limit=1)
    choose = {"herald": outcome, "setting": "3"}
    choices: dict[str, Choice] = {"herald": (outcome, 1), "setting": 3}
    simulated, emitted, buffered = three(schedule, LAB.line, LINK_CARD, choose, choices)
    assert differences(simulated, emitted) == []
    assert differences(simulated, buffered) == []
    assert differences(emitted, buffered) == []
    assert len({edge.line for edge in simulated}) == (20 if outcome == "psi_plus" else 18)


def test_a_difference_is_told() -> None:
    one = [Edge(5, "a.x", True, (0.0, 0.25, 1.0)), Edge(9, "a.x", False)]
    other = [Edge(5, "a.x", True, (0.0, 0.26, 1.0)), Edge(8, "a.x", False)]
    assert differences(one, one) == []
    assert differences(one, other) == [
        "only in the first: a.x off at 9 ps",
        "only in the second: a.x off at 8 ps",
        "a.x on at 5 ps: tone (0.0, 0.25, 1.0) and (0.0, 0.26, 1.0)",
    ]
