"""Months of a simulated link in minutes: rounds per second of the whole pipeline, beside SeQUeNCe on an elementary link.

Ours: the link of ca40_10km on the simulated laboratory, as `labctl run link --virtual` takes it: core, world, time tags
on disk, journal, heralds found again in the tags, netCDF, figures and report; one process. "x real time" is laboratory
time over processor time, "core" the same rounds without anything behind the core. All figures are per second of processor
time of the whole process, so that a busy machine does not blur them; on an idle one it is wall time but for the disk.

SeQUeNCe (PyPI `sequence`, extra "bench"): two nodes with one memory each, 5 km of fibre with 0.2 dB/km to a midpoint
with a Bell-state measurement, detectors of 85 %, photons as often as ours get into the fibre; its Barrett-Kok protocol (two photons,
two rounds), because its "single heralded" one needs two photons as well and takes the fidelity as an input. It has no
ion, no phase, no noise photons, no readout, no instruments, and plays attempt after attempt, event by event; ours
skips attempts without a click. Compared is what both are for: attempts, and pairs at our probability per attempt, per second.

What limits ours: about a thousand Python calls and numpy calls on short arrays per round (1.5 to 2 ms). In a profile
of the core on a busy machine a quarter was the 64 reference slots before a herald and the phase filter over them, a seventh each
the instruments' light and the ions' pulses; the rest is flat. It does not depend on how many attempts a round takes. Run ``python benchmarks/twin.py``.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from labctl.config import load, simulating
from labctl.core.program import lower
from labctl.core.sim import SimCore
from labctl.lab import schedule
from labctl.sim.played import Record
from labctl.up.acquire import VirtualLab

ROOT = Path(__file__).parents[1]
LAB = ROOT / "configs/ca40_10km.toml"
LINKS = ((0.025, "bell"), (0.17, "fidelity"))
SECONDS = 8.0
"""Processor time given to each figure, s."""
KM, DB_PER_KM, DETECTOR, IN_FIBRE = 5.0, 0.2, 0.85, 0.027


def main() -> None:
    """Print the table."""
    print(
        f"{'link of ca40_10km':28}{'rounds/s':>10}{'x real time':>13}{'core rounds/s':>15}{'attempts/s':>12}"
        f"{'pairs per attempt':>19}   tags",
        flush=True,
    )
    chances: list[float] = []
    for alpha, measure in LINKS:
        found = ours(alpha, measure)
        chances.append(found["chance"])
        print(
            f"{f'alpha {alpha:g}, {measure}':28}{found['rounds']:10.0f}{found['speed']:13.0f}{found['core']:15.0f}"
            f"{found['attempts']:12.3g}{found['chance']:19.2e}   {found['tags']}",
            flush=True,
        )
    attempts, pairs = sequence_link(IN_FIBRE)
    best_attempts, best_pairs = sequence_link(1.0)
    print("\nSeQUeNCe, Barrett-Kok over 2 x 5 km")
    print(f"{f'{IN_FIBRE:.1%} of photons in the fibre':36}{attempts:9.0f} attempts/s{pairs:9.2f} pairs/s")
    print(f"{'all photons in the fibre':36}{best_attempts:9.0f} attempts/s{best_pairs:9.2f} pairs/s")
    for (alpha, _), chance in zip(LINKS, chances, strict=True):
        print(
            f"{f'pairs at our chance, alpha {alpha:g}':36}{attempts * chance:9.3f} per second, one round taking one attempt"
        )


def ours(alpha: float, measure: str) -> dict[str, Any]:
    """Rounds per second and more, of the whole pipeline and of the core alone."""
    config = simulating(load(LAB), ("all",))
    with (
        tempfile.TemporaryDirectory() as folder,
        VirtualLab(config, ROOT, 1, Path(folder)) as lab,
    ):
        made = schedule(config, ROOT, "link", {"alpha": str(alpha), "measure": measure})
        lab.run(made, 100)  # loads what is compiled
        rounds = 500
        while True:
            begin, lab_begin = time.process_time(), lab.clock.now()
            outcome = lab.run(made, rounds)
            spent, lab_spent = time.process_time() - begin, lab.clock.now() - lab_begin
            if spent > SECONDS / 2:
                break
            rounds = round(rounds * min(8.0, 0.9 * SECONDS / spent))
        chance = outcome.value("herald_probability").value
        tags = (outcome.folder / "tags.parquet").stat().st_size
        core_rounds = max(200, rounds // 4)
        core = SimCore(lab.world, lab.world.lock, lab.world.rng("core"))
        records: list[Record] = []
        begin = time.process_time()
        core.run(lower(made), core_rounds, records.append)
        core_spent = time.process_time() - begin
    return {
        "rounds": rounds / spent,
        "speed": lab_spent / spent,
        "core": core_rounds / core_spent,
        "attempts": rounds / chance / spent,
        "chance": chance,
        "tags": f"{tags / rounds:.0f} bytes per round published",
    }


def sequence_link(in_fibre: float) -> tuple[float, float]:
    """Attempts and heralded pairs per second of SeQUeNCe."""
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
    begin = time.process_time()
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
    spent = time.process_time() - begin
    return tries / spent, alice.resource_manager.pairs / spent


if __name__ == "__main__":
    main()
