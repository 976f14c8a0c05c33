"""The simulated rubidium laboratory: two trapped atoms, two photonic arms and a midpoint, played by a core."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.clock import Clock, VirtualClock
from labctl.errors import ConfigError
from labctl.sim.played import Clicks, Odds, Segment
from simulated_hw.world import photon
from simulated_hw.world import rubidium_parameters as values
from simulated_hw.world.attempt import Detector, Outlook
from simulated_hw.world.choice import choose
from simulated_hw.world.counters import ClickCounters
from simulated_hw.world.ion import DS, SD
from simulated_hw.world.laboratory_base import WIRE_STATE, LaboratoryBase, calm_span_s
from simulated_hw.world.parts import Nanowire, Tagger
from simulated_hw.world.phase import Wander
from simulated_hw.world.polarisation import Polariser
from simulated_hw.world.rubidium_atoms import RubidiumAtoms
from simulated_hw.world.rubidium_attempt import Prospect, RubidiumAttempts
from simulated_hw.world.rubidium_light import Bench
from simulated_hw.world.rubidium_phase import PhaseServo
from simulated_hw.world.rubidium_scene import NodeNow, Scene, node_now
from simulated_hw.world.rubidium_segments import RUBIDIUM
from simulated_hw.world.segments import NODES, Reading, Readings

INPUTS = 4
"""Inputs of the time tagger: detectors 0 and 1, start marker, spare."""
MARKER = 2


class RubidiumLaboratory(LaboratoryBase):
    """Satisfies labctl.sim.played.World; instruments reach its parts by name.

    parameters:  parsed TOML of component values (see rubidium_parameters.py)
    seed:        of everything random; the same seed and the same calls give the same bytes in virtual time
    """

    def __init__(self, parameters: Mapping[str, Any], seed: int, clock: Clock) -> None:
        self._p, sources = values.parse(parameters)
        super().__init__(sources, seed, clock)
        p = self._p
        self._arms = (p.alice, p.bob)
        self._benches = (Bench("alice", p, self.rng), Bench("bob", p, self.rng))
        self._nanowires = [
            Nanowire(peak_efficiency=p.detectors.efficiency, dark_rate_hz=p.detectors.dark_hz)
            for _ in range(2)
        ]
        self._polarisers = [
            Polariser(
                p.polarisation,
                self.rng(f"polarisation.{name}"),
                p.converter.signal_wavelength_m,
                p.run.powered,
            )
            for name in NODES
        ]
        self._couplings = [
            Wander(self.rng(f"{name}.coupling"), arm.coupling_drift, arm.coupling_drift_time_s, 0.0)
            for name, arm in zip(NODES, self._arms, strict=True)
        ]
        self._servo = PhaseServo(p, self.rng("phase"))
        self._counters = ClickCounters(self.rng("counters"), INPUTS)
        self._tagger = Tagger(INPUTS, self._all_counts)
        self._atoms = RubidiumAtoms(p, self.rng)
        self._attempts = RubidiumAttempts(p)
        self._readings = Readings(RUBIDIUM)
        self._clicks = self.rng("clicks")
        self._passive = [
            arm.collection * p.filters.other_transmission * photon.fibre_transmission(arm, p)
            for arm in self._arms
        ]
        self._noise_hz_per_w = [
            photon.noise_hz(1.0, p) * photon.fibre_transmission(arm, p) / 2 for arm in self._arms
        ]
        self._scene: Scene | None = None
        self._looked_s = self._checked_s = 0.0
        self._calm_s = calm_span_s(self._arms, p.polarisation)
        self._calm: tuple[tuple[Any, ...], float] | None = None
        """What the instruments were when only slow wandering went on, and until when the scene is good for that."""
        self._prospects: dict[tuple[int, tuple[bool, bool]], tuple[Reading, Prospect]] = {}
        self._chances: dict[tuple[int, tuple[bool, bool]], tuple[Reading, dict[str, float]]] = {}
        self._attempt_ps = 0.0
        """Time of an attempt with all that belongs to it, as it was last."""
        self._parts = self._name_parts()
        if p.run.powered:
            self.power_up()

    # what instruments use
    def detector_clicks(self, t0_s: float, t1_s: float) -> list[int]:
        """Clicks of each nanowire between two laboratory times: background and what the core's gates saw."""
        with self.lock:
            self._look(self.now())
            return self._counters.between(round(t0_s * 1e12), round(t1_s * 1e12), 2)

    def power_up(self) -> None:
        """Bring every instrument to its operating point, as an operator does in the morning."""
        with self.lock:
            for bench in self._benches:
                bench.power_up()
            for polariser in self._polarisers:
                polariser.align()
            for wire in self._nanowires:
                wire.bias_a, wire.trigger_v = wire.nominal_bias_a, wire.nominal_trigger_v
                wire.enabled, wire.latched = True, False
            self._servo.power_up()
            self._scene = None

    # what nobody in a real laboratory can ask
    def true_qubits(self) -> NDArray[np.complex128]:
        """Density matrix of the two qubits as it was left, shape (4, 4), basis SS, SD, DS, DD; S: a photon was emitted."""
        with self.lock:
            return self._atoms.pair.qubits()

    def atoms_present(self) -> tuple[bool, bool]:
        """Whether Alice and Bob have their atom."""
        return self._atoms.present

    def put_atoms(self) -> None:
        """Have an atom in each trap, cold, as after loading."""
        with self.lock:
            for trap, now in zip(self._atoms.trap, self._look(self.now()).nodes, strict=True):
                trap.catch()
                trap.temperature_k = now.cooled_k

    def outlook(self, body: Segment, start_ps: int) -> Outlook:
        """What an attempt that plays ``body`` would be with both atoms there, cause by cause."""
        with self.lock:
            scene = self._look(start_ps / 1e12)
            return self._attempts.prospect(self._readings.of(body), scene, (True, True)).outlook

    def coherence(self) -> float:
        """What recoil and second photons would leave of a pair's coherence now."""
        with self.lock:
            first, second = (trap.temperature_k for trap in self._atoms.trap)
            return self._attempts.coherence((first, second), self._look(self.now()))

    # what the core uses
    def wait_until_ps(self, time_ps: int) -> None:
        """Return when the laboratory clock has come to ``time_ps``."""
        while (left := time_ps - round(((now := self._clock.now()) - self._origin_s) * 1e12)) > 0:
            self._clock.sleep(max(left / 1e12, math.ulp(now)))

    def next_edge_ps(self, line: str, after_ps: int) -> int | None:
        """This laboratory has no trigger inputs."""
        return None

    def play(self, segment: Segment, start_ps: int) -> dict[str, Clicks]:
        """Play one segment once; an attempt is drawn from its odds."""
        with self.lock:
            reading = self._readings.of(segment)
            scene = self._at(start_ps)
            if reading.attempt:
                return self._play_attempt(reading, start_ps, scene)
            self._pass_time(segment.duration_ps, 0, scene)
            clicks = self._atoms.evolve(reading, start_ps, scene.nodes)
            for detector, gate in reading.midpoint_gates:
                clicks[gate.into] = self._background(
                    detector, gate.start_ps + start_ps, gate.duration_ps, scene
                )
            return clicks

    def play_many(self, segment: Segment, starts_ps: Sequence[int]) -> dict[str, list[int]]:
        """Play a segment at each of the given times; counts by register, one per start."""
        with self.lock:
            if not segment.gates and starts_ps:  # pumping: every attempt's odds have it
                self._pass_time(segment.duration_ps * len(starts_ps), 0, self._at(starts_ps[-1]))
                return {}
            played = [self.play(segment, start) for start in starts_ps]
            return {gate.into: [one[gate.into].count for one in played] for gate in segment.gates}

    def odds(self, body: Segment, start_ps: int) -> Odds:
        """Odds of an attempt to make a pair, or of a poll for atoms to see them, from the state of things now."""
        with self.lock:
            reading = self._readings.of(body)
            scene = self._at(start_ps)
            until_ps = start_ps + round(self._p.run.slice_s * 1e12)
            if not reading.attempt:
                return Odds(self._poll_patterns(reading, scene), until_ps)
            prospect = self._prospect(reading, scene)
            chances = self._patterns(reading, prospect)
            period_s = max(self._attempt_ps, body.duration_ps) / 1e12
            stays_s = min(
                trap.stays_s(risk / period_s)
                for trap, risk in zip(self._atoms.trap, prospect.risks, strict=True)
            )
            if stays_s < self._p.run.slice_s:
                until_ps = start_ps + round(stays_s * 1e12)
            return Odds(chances, until_ps)

    def play_given(self, body: Segment, pattern: str, start_ps: int) -> dict[str, Clicks]:
        """Play an attempt given its click pattern: click times, and the joint state of the atoms; or a poll."""
        with self.lock:
            reading = self._readings.of(body)
            scene = self._at(start_ps)
            gates = reading.midpoint_gates if reading.attempt else reading.counter_gates
            if len(pattern) != len(gates) or set(pattern) - {"0", "1"}:
                raise ConfigError(
                    f"segment {body.name!r}: pattern {pattern!r} does not fit its {len(gates)} gates"
                )
            if not reading.attempt:
                self._pass_time(body.duration_ps, 0, scene)
                return self._atoms.poll_given(reading, pattern, scene.nodes)
            return self._attempt_given(reading, self._prospect(reading, scene), pattern, start_ps, scene)

    def skip(self, segments: Sequence[tuple[Segment, int]], start_ps: int, duration_ps: int) -> None:
        """Account for time in which segments were played so many times without an event."""
        with self.lock:
            scene = self._at(start_ps + duration_ps)
            attempts = 0
            for segment, count in segments:
                reading = self._readings.of(segment)
                if reading.attempt:
                    self._counters.add(MARKER, count)
                    attempts += count
                    prospect = self._prospect(reading, scene)
                    self._pass_time(duration_ps, count, scene, prospect.risks)
            if attempts:
                self._attempt_ps = duration_ps / attempts
            else:
                self._pass_time(duration_ps, 0, scene)

    # the state of things now
    def _name_parts(self) -> dict[str, object]:
        parts: dict[str, object] = {
            "charlie.snspd": self._nanowires,
            "charlie.tagger": self._tagger,
            "charlie.phase_aom": self._servo.actuator,
        }
        for name, polariser in zip(NODES, self._polarisers, strict=True):
            parts[f"charlie.polarisation_{name}"] = polariser.paddles
        for index, bench in enumerate(self._benches):
            name = bench.node
            for nm, laser in bench.lasers.items():
                parts[f"{name}.laser_{nm}"] = laser
            parts[f"{name}.aom"], parts[f"{name}.microwave"] = bench.aom, bench.microwave
            parts[f"{name}.oven"], parts[f"{name}.etalon"] = bench.oven, bench.etalon
            parts[f"{name}.pump"], parts[f"{name}.chamber"] = bench.pump_seed, bench.chamber
            parts[f"{name}.mot_coil"], parts[f"{name}.field_coil"] = bench.mot_coil, bench.field_coil
            sensors = bench.sensors(lambda index=index: self._aligned_output_w(index))
            parts[f"{name}.power_in"], parts[f"{name}.power_out"] = sensors
        return parts

    def _at(self, time_ps: int) -> Scene:
        """The laboratory as the core has it: every slice it is seen whether somebody touched it."""
        time_s, scene, calm = time_ps / 1e12, self._scene, self._calm
        if scene is not None and time_s - self._checked_s < self._p.run.slice_s:
            return scene
        if scene is not None and calm is not None and time_s < calm[1] and calm[0] == self._touched():
            self._checked_s = time_s
            self._count_background(time_s, scene)
            return scene
        return self._look(time_s)

    def _look(self, time_s: float) -> Scene:
        """Bring everything up to a laboratory time, and how it is then."""
        passed = time_s - self._looked_s
        if passed > 0:
            for bench, coupling in zip(self._benches, self._couplings, strict=True):
                bench.advance(time_s)
                coupling.step(passed)
            for polariser in self._polarisers:
                polariser.advance(time_s, passed)
            self._looked_s = time_s
        nodes = self._node(0), self._node(1)
        scene = Scene(nodes, self._detectors(nodes))
        if scene != self._scene:
            self._scene = scene
            self._prospects.clear()
            self._chances.clear()
        self._count_background(time_s, scene)
        self._checked_s = time_s
        self._calm = (self._touched(), time_s + self._calm_s) if self._steady() else None
        return scene

    def _count_background(self, time_s: float, scene: Scene) -> None:
        first, second = scene.detectors
        self._counters.advance(round(time_s * 1e12), (first.noise_hz, second.noise_hz))

    def _steady(self) -> bool:
        """Whether only slow wandering goes on until somebody touches something, which may be at any time if the clock runs by itself."""
        return (
            isinstance(self._clock, VirtualClock)
            and all(bench.steady() for bench in self._benches)
            and all(polariser.steady() for polariser in self._polarisers)
        )

    def _touched(self) -> tuple[Any, ...]:
        """What a scene depends on beside time: nobody touched an instrument as long as it is equal."""
        return (
            *(bench.state() for bench in self._benches),
            *(polariser.state() for polariser in self._polarisers),
            *map(WIRE_STATE, self._nanowires),
        )

    def _node(self, node: int) -> NodeNow:
        bench = self._benches[node]
        passive = self._passive[node] * max(0.0, 1 + self._couplings[node].x)
        return node_now(
            bench.light(),
            bench.oven.temperature_k,
            bench.etalon.temperature_k,
            passive,
            self._polarisers[node].share(),
            self._p,
        )

    def _detectors(self, nodes: tuple[NodeNow, NodeNow]) -> tuple[Detector, Detector]:
        arriving_hz = sum(
            now.pump_w * per_w * now.polariser for now, per_w in zip(nodes, self._noise_hz_per_w, strict=True)
        )
        first, second = (
            Detector(
                eta := wire.efficiency() * self._p.midpoint.transmission, arriving_hz * eta + wire.dark_hz()
            )
            for wire in self._nanowires
        )
        return first, second

    def _aligned_output_w(self, node: int) -> float:
        """Power behind a converter's filters with 780 nm light in alignment mode, W."""
        with self.lock:
            p, now = self._p, self._look(self.now()).nodes[node]
            shift_hz = photon.etalon_offset_hz(now.etalon_k, now.light.converter.detuning_hz, p.filters)
            energy = p.lasers.laser_780.wavelength_m / p.converter.signal_wavelength_m
            return (
                p.alignment.power_w
                * photon.converter_efficiency(now.pump_w, now.oven_k, p)
                * p.filters.other_transmission
                * abs(photon.monochromatic(shift_hz, p.filters)) ** 2
                * energy
            )

    def _all_counts(self) -> list[int]:
        with self.lock:
            self._look(self.now())
            return self._counters.counts()

    def _background(self, detector: int, opens_ps: int, span_ps: int, scene: Scene) -> Clicks:
        count = int(self._clicks.poisson(scene.detectors[detector].noise_hz * span_ps / 1e12))
        if not count:
            return Clicks(0)
        times = np.sort(self._clicks.integers(0, span_ps, count))
        self._tagger.record_many(opens_ps + times, np.full(count, detector, np.int64))
        return Clicks(count, int(times[0]))

    def _pass_time(
        self, span_ps: int, attempts: int, scene: Scene, risks: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        self._atoms.pass_time(span_ps / 1e12, attempts, risks, scene.nodes)

    # attempts and polls
    def _prospect(self, reading: Reading, scene: Scene) -> Prospect:
        """Remembered while instruments and atoms stay as they are."""
        key = (id(reading), self._atoms.present)
        known = self._prospects.get(key)
        if known is None or known[0] is not reading:
            made = self._attempts.prospect(reading, scene, self._atoms.present)
            known = self._prospects[key] = (reading, made)
        return known[1]

    def _patterns(self, reading: Reading, prospect: Prospect) -> dict[str, float]:
        key = (id(reading), self._atoms.present)
        known = self._chances.get(key)
        if known is None or known[0] is not reading:
            outlook = prospect.outlook
            found = {pattern: outlook.probability(pattern) for pattern in outlook.patterns()}
            known = self._chances[key] = (reading, found)
        return known[1]

    def _poll_patterns(self, reading: Reading, scene: Scene) -> dict[str, float]:
        key = (id(reading), self._atoms.present)
        known = self._chances.get(key)
        if known is None or known[0] is not reading:
            if not reading.counter_gates or reading.midpoint_gates:
                raise ConfigError(
                    f"segment {reading.segment.name!r}: an attempt either excites and has gates of the midpoint, or polls "
                    "NODE.spcm"
                )
            chances = [chance for chance, _ in self._atoms.poll_chances(reading, scene.nodes)]
            found: dict[str, float] = {}
            for digits in itertools.product("01", repeat=len(chances)):
                one = math.prod(
                    chance if digit == "1" else 1 - chance
                    for chance, digit in zip(chances, digits, strict=True)
                )
                if "1" in digits:
                    found["".join(digits)] = one
            known = self._chances[key] = (reading, found)
        return known[1]

    def _play_attempt(self, reading: Reading, start_ps: int, scene: Scene) -> dict[str, Clicks]:
        prospect = self._prospect(reading, scene)
        chances = self._patterns(reading, prospect)
        quiet = "0" * len(prospect.outlook.gates)
        pattern = choose(
            self._clicks, [*chances, quiet], [*chances.values(), 1 - math.fsum(chances.values())]
        )
        return self._attempt_given(reading, prospect, pattern, start_ps, scene)

    def _attempt_given(
        self, reading: Reading, prospect: Prospect, pattern: str, start_ps: int, scene: Scene
    ) -> dict[str, Clicks]:
        """Draw what caused the clicks and when, and leave the atoms in the state that follows."""
        outlook = prospect.outlook
        ways = outlook.causes(pattern)
        weights = [outlook.way_probability(way) for way in ways]
        if not math.fsum(weights) > 0:
            raise ConfigError(f"segment {reading.segment.name!r}: pattern {pattern!r} cannot happen now")
        way = choose(self._clicks, ways, weights)
        clicks: dict[str, Clicks] = {}
        for (detector, gate), digit in zip(outlook.gates, pattern, strict=True):
            clicks[gate.into] = Clicks(0)
            if digit == "1":
                time = outlook.click_time_ps(
                    detector, way[detector], self._p.detectors.jitter_s, self._clicks
                )
                clicks[gate.into] = Clicks(1, time)
                self._counters.add(detector, 1)
                self._tagger.record(start_ps + gate.start_ps + time, detector)
        self._counters.add(MARKER, 1)
        self._tagger.record(start_ps + min(prospect.ready_ps), MARKER)
        state = outlook.state(way, self._servo.phase_rad())
        first, second = self._atoms.trap
        kept = self._attempts.coherence((first.temperature_k, second.temperature_k), scene)
        state[SD, DS] *= kept
        state[DS, SD] *= kept
        ready = prospect.ready_ps
        self._atoms.herald(state, (start_ps + ready[0], start_ps + ready[1]))
        self._pass_time(reading.segment.duration_ps, 1, scene, prospect.risks)
        self._atoms.evolve(reading, start_ps, scene.nodes, ready)
        return clicks
