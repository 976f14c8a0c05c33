"""Months of a simulated link in minutes: rounds per second of the whole pipeline, and one protocol beside SeQUeNCe on one link.

First the link of ca40_10km, as `labctl run link --virtual` takes it: core, world, time tags on disk, journal, heralds found
again in the tags, netCDF, figures and report; one process. "x real time" is laboratory time over processor time, "core" the
same rounds without anything behind the core. "per CPU s" is per second of processor time of the whole process, so that a
busy machine does not blur it; "per wall s" is what somebody waits for, here and now.

Then Barrett-Kok heralding (two photons, two rounds) over the same elementary link on both: 5 km of fibre with 0.2 dB/km from
each node to a midpoint with detectors of 85 %. Ours is `labctl run two_photon`, on the laboratory as it is and with all that
loses photons before the fibre made perfect. SeQUeNCe (PyPI `sequence`, extra "bench") has two nodes with one memory each and its
BarretKokA/B protocols; its memories emit into the fibre as often as ours do, so that both make pairs with one chance per
attempt: on the laboratory by construction, and with perfect nodes because it is one protocol: the table shows both chances.

SeQUeNCe has no ion, no phase, no noise photons, no readout, no instruments and writes nothing, and it plays attempt after attempt,
event by event; ours skips attempts without a herald. So ours pays for pairs, each with everything that a laboratory does with it,
and SeQUeNCe for attempts.

What limits ours: about a thousand Python calls and numpy calls on short arrays per round (1.5 to 2 ms). In a profile
of the core on a busy machine a quarter was the 64 reference slots before a herald and the phase filter over them, a seventh each
the instruments' light and the ions' pulses; the rest is flat. A pair of two photons takes minutes of laboratory time, in
which the lasers drift: their light is looked at every 20 s. Run ``python benchmarks/twin.py``.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from labctl.config import load, simulating
from labctl.core.program import lower
from labctl.core.sim import SimCore
from labctl.lab import schedule
from labctl.sim.played import Record
from labctl.up.acquire import VirtualLab

ROOT = Path(__file__).parents[1]
LAB = ROOT / "configs/ca40_10km.toml"
LINKS = (("link", 0.025, "bell"), ("link", 0.17, "fidelity"))
SECONDS = 5.0
"""Processor time given to each figure, s."""
FEW = 20
"""Pairs from which a rate is counted."""
NAME = 36
"""Width of the first column."""
KM, DB_PER_KM, DETECTOR = 5.0, 0.2, 0.85
FIBRE = 10 ** (-KM * DB_PER_KM / 10)
PERFECT: dict[str, dict[str, Any]] = {
    "alice": {"objective_collection": 1.0, "fibre_coupling": 1.0, "coupling_drift": 0.0},
    "bob": {"objective_collection": 1.0, "fibre_coupling": 1.0, "coupling_drift": 0.0},
    "atom": {"p32_to_s12": 1.0, "p32_to_d52": 0.0, "p32_to_d32": 0.0},
    "converter": {"peak_efficiency": 1.0, "noise_hz_per_nm": 0.0},
    "filters": {"other_transmission": 1.0, "etalon_fwhm_hz": 1e10},
    "midpoint": {"transmission": 1.0},
    "polarisation": {"drift_rad": 0.0},
}
"""What is changed so that every photon of an ion comes into its fibre."""


class Speed(NamedTuple):
    """How fast something was: attempts, pairs, seconds of processor and of wall time, pairs per attempt."""

    attempts: float
    pairs: float
    spent_s: float
    wall_s: float
    chance: float
    lab_s: float = 0.0
    core: float = 0.0


def main() -> None:
    """Print the tables."""
    print(
        f"{'ca40_10km':{NAME}}{'rounds per CPU s':>18}{'per wall s':>12}{'x real time':>13}{'core per CPU s':>16}"
        f"{'attempts per CPU s':>20}{'pairs per attempt':>19}",
        flush=True,
    )
    for sequence, alpha, measure in LINKS:
        found = ours(sequence, {"alpha": str(alpha), "measure": measure})
        print(
            f"{f'{sequence}, alpha {alpha:g}, {measure}':{NAME}}{found.pairs / found.spent_s:18.0f}"
            f"{found.pairs / found.wall_s:12.0f}{found.lab_s / found.spent_s:13.0f}{found.core:16.0f}"
            f"{found.attempts / found.spent_s:20.3g}{found.chance:19.2e}",
            flush=True,
        )
    print("\nBarrett-Kok over 2 x 5 km: the whole pipeline of labctl, and SeQUeNCe's timeline", flush=True)
    print(
        f"{'':{NAME}}{'pairs per CPU s':>18}{'per wall s':>12}{'attempts per CPU s':>20}{'pairs per attempt':>19}",
        flush=True,
    )
    for name, changes in (("photons as on ca40_10km", {}), ("every photon in its fibre", PERFECT)):
        two = ours("two_photon", {"measure": "bell"}, changes, core=False)
        beside(f"labctl, {name}", two)
        emits = 1.0 if changes else (2 * two.chance) ** 0.5 / (FIBRE * DETECTOR)
        other = sequence_link(emits)
        if other.pairs < FEW:  # too few in these seconds: as many as its attempts have on average
            other = other._replace(pairs=other.attempts * two.chance, chance=two.chance)
            beside("SeQUeNCe, attempts x that chance", other)
        else:
            beside("SeQUeNCe, the same", other)
        ratio = two.pairs / two.spent_s / (other.pairs / other.spent_s)
        print(f"{'labctl over SeQUeNCe':{NAME}}{ratio:18.3g}", flush=True)


def beside(name: str, found: Speed) -> None:
    """A row of the comparison."""
    print(
        f"{name:{NAME}}{found.pairs / found.spent_s:18.3g}{found.pairs / found.wall_s:12.3g}"
        f"{found.attempts / found.spent_s:20.3g}{found.chance:19.3g}",
        flush=True,
    )


def ours(
    sequence: str,
    arguments: dict[str, str],
    changes: dict[str, dict[str, Any]] | None = None,
    core: bool = True,
) -> Speed:
    """The whole pipeline, and the core alone."""
    world = {
        "changes": {
            table: {name: [value, "guessed: perfect"] for name, value in values.items()}
            for table, values in (changes or {}).items()
        }
    }
    config = simulating(load(LAB, {"world": world} if changes else {}), ("all",))
    with (
        tempfile.TemporaryDirectory() as folder,
        VirtualLab(config, ROOT, 1, Path(folder)) as lab,
    ):
        made = schedule(config, ROOT, sequence, arguments)
        lab.run(made, 50)  # loads what is compiled
        rounds = 200
        while True:
            begin, wall, lab_begin = time.process_time(), time.perf_counter(), lab.clock.now()
            outcome = lab.run(made, rounds)
            spent, waited = time.process_time() - begin, time.perf_counter() - wall
            lab_spent = lab.clock.now() - lab_begin
            if spent > SECONDS / 2:
                break
            rounds = round(rounds * min(8.0, 0.9 * SECONDS / spent))
        chance = outcome.value("herald_probability").value
        core_speed = alone(lab, made, max(200, rounds // 4)) if core else 0.0
    return Speed(rounds / chance, rounds, spent, waited, chance, lab_spent, core_speed)


def alone(lab: VirtualLab, made: Any, rounds: int) -> float:
    """Rounds per second of processor time of the core and the world, with nothing behind them."""
    core = SimCore(lab.world, lab.world.lock, lab.world.rng("core"))
    records: list[Record] = []
    begin = time.process_time()
    core.run(lower(made), rounds, records.append)
    return rounds / (time.process_time() - begin)


def sequence_link(in_fibre: float) -> Speed:
    """SeQUeNCe, with memories that emit into their fibre with probability ``in_fibre``."""
    try:
        from sequence.components.memory import Memory
        from sequence.components.optical_channel import ClassicalChannel, QuantumChannel
        from sequence.entanglement_management.generation import EntanglementGenerationA
        from sequence.kernel.timeline import Timeline
        from sequence.topology.node import BSMNode, Node
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"this comparison needs SeQUeNCe ({error.name} is missing): pip install -e '.[bench]'"
        ) from None

    class Counter:
        """Stands where the resource manager of a router would."""

        def __init__(self) -> None:
            self.pairs = self.failures = 0

        def update(self, protocol: object, memory: Any, state: str) -> None:
            self.pairs += state == "ENTANGLED"
            self.failures += state != "ENTANGLED"
            memory.reset()

    class Station(Node):
        """A node with one memory."""

        def __init__(self, name: str, timeline: Any) -> None:
            super().__init__(name, timeline)
            self.memory = Memory(f"{name}.memory", timeline, 0.9, 2000, in_fibre, 0, 1550)
            self.memory.owner = self
            self.memory.add_receiver(self)
            self.add_component(self.memory)
            self.resource_manager = Counter()

        def receive_message(self, src: str, msg: Any) -> None:
            self.protocols[0].received_message(src, msg)

        def get(self, photon: Any, **known: Any) -> None:
            self.send_qubit(known["dst"], photon)

        def again(self, other: str) -> None:
            self.protocols = [
                EntanglementGenerationA.create(self, f"{self.name}.eg", "charlie", other, self.memory)
            ]

    timeline = Timeline()
    alice, bob = Station("alice", timeline), Station("bob", timeline)
    charlie = BSMNode("charlie", timeline, ["alice", "bob"])
    charlie.get_components_by_type("SingleAtomBSM")[0].update_detectors_params("efficiency", DETECTOR)
    for seed, node in enumerate((alice, bob, charlie)):
        node.set_seed(seed)
    for node in (alice, bob):
        QuantumChannel(f"{node.name}.fibre", timeline, DB_PER_KM / 1e3, KM * 1e3).set_ends(node, charlie.name)
    for one in (alice, bob, charlie):
        for other in (alice, bob, charlie):
            if one is not other:
                length = KM * 1e3 * (1 if charlie in (one, other) else 2)
                ClassicalChannel(f"{one.name}-{other.name}", timeline, length).set_ends(one, other.name)
    timeline.init()
    tries = 0
    begin, wall = time.process_time(), time.perf_counter()
    while time.process_time() - begin < SECONDS / 2:
        for _ in range(20):
            timeline.time = round((tries + 1) * 1e9)
            alice.again("bob")
            bob.again("alice")
            alice.protocols[0].set_others(bob.protocols[0].name, "bob", [bob.memory.name])
            bob.protocols[0].set_others(alice.protocols[0].name, "alice", [alice.memory.name])
            alice.protocols[0].start()
            bob.protocols[0].start()
            timeline.run()
            tries += 1
    spent, waited = time.process_time() - begin, time.perf_counter() - wall
    pairs = alice.resource_manager.pairs
    return Speed(tries, pairs, spent, waited, pairs / tries)


if __name__ == "__main__":
    main()
