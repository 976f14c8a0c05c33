"""The simulated laboratory: two ions, two photonic arms and a midpoint, composed from their parts and played by a core."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labctl.clock import Clock, ScaledClock, VirtualClock
from labctl.errors import ConfigError
from labctl.sim.played import Clicks, Odds, Segment, TagLayout
from simulated_hw.world import parameters as values
from simulated_hw.world import photon
from simulated_hw.world.atoms import Atoms
from simulated_hw.world.attempt import ArmState, AttemptModel, Detector, Outlook, reference_amplitude
from simulated_hw.world.attempt_play import MARKER, AttemptPlay, marked_ps
from simulated_hw.world.card import Photomultiplier, sequencer, wired
from simulated_hw.world.card_wiring import CardWiring
from simulated_hw.world.choice import choose
from simulated_hw.world.counters import ClickCounters
from simulated_hw.world.fibre_phase import ArmPhase
from simulated_hw.world.gates import MidpointGates
from simulated_hw.world.laboratory_base import WIRE_STATE, LaboratoryBase, calm_span_s
from simulated_hw.world.light import Bench, NodeLight
from simulated_hw.world.mains import LINES as MAINS_LINES
from simulated_hw.world.mains import Mains
from simulated_hw.world.parts import HeatedBody, Laser, Nanowire, PowerSensor, RfChannel, Tagger
from simulated_hw.world.parts_coils import CoilChannel
from simulated_hw.world.parts_lock import FibreLock
from simulated_hw.world.parts_piezo import Piezo
from simulated_hw.world.parts_polarisation import PolarisationPaddles
from simulated_hw.world.parts_pump import PumpSeed
from simulated_hw.world.parts_vacuum import VacuumChamber
from simulated_hw.world.phase import Wander
from simulated_hw.world.polarisation import Polariser
from simulated_hw.world.segments import NODES, Reading, Readings
from simulated_hw.world.two_rounds import TwoRoundModel, TwoRounds, twice

Part = (
    Laser
    | PumpSeed
    | VacuumChamber
    | PolarisationPaddles
    | HeatedBody
    | CoilChannel
    | list[RfChannel]
    | PowerSensor
    | list[Nanowire]
    | FibreLock
    | Tagger
    | Piezo
    | CardWiring
)
OPENED = 64
"""Plays remembered for the background between their gates."""
INPUTS = 4
"""Inputs of the time tagger: detectors 0 and 1, start marker, spare."""
NOTICED_S = 0.005
"""On a clock that runs faster, what somebody does to the laboratory is noticed so soon on the machine's clock, at the latest."""
DRIFT_STEP_S = 1e-3
"""Parts drift in steps of this at least."""


class Scene(NamedTuple):
    """The laboratory at one moment."""

    arms: tuple[ArmState, ArmState]
    detectors: tuple[Detector, Detector]
    lights: tuple[NodeLight, NodeLight]


class Kept(NamedTuple):
    """A scene in which only slow wandering goes on, and what the instruments were then.

    touched:           see ``Laboratory._touched``
    quanta:            phonon numbers of both ions at an attempt, rounded
    from_ps, until_ps: laboratory time for which it is good
    """

    scene: Scene
    touched: tuple[Any, ...]
    quanta: tuple[float, float]
    from_ps: int
    until_ps: int


class Laboratory(LaboratoryBase):
    """Satisfies labctl.sim.played.World; instruments reach its parts by name.

    parameters:  parsed TOML of component values (see simulated_hw/world/parameters.py)
    seed:        of everything random; the same seed and the same calls give the same bytes in virtual time
    """

    def __init__(self, parameters: Mapping[str, Any], seed: int, clock: Clock) -> None:
        self._p, sources = values.parse(parameters)
        super().__init__(sources, seed, clock)
        fast = clock.speed if isinstance(clock, ScaledClock) else 0.0
        self._slice_s = max(self._p.run.slice_s, NOTICED_S * fast)
        p = self._p
        self._nodes = (p.alice, p.bob)
        self._benches = (Bench("alice", p, self.rng), Bench("bob", p, self.rng))
        self._nanowires = [
            Nanowire(peak_efficiency=p.detectors.efficiency, dark_rate_hz=p.detectors.dark_hz)
            for _ in range(2)
        ]
        if p.run.powered:
            for wire in self._nanowires:
                wire.bias_a, wire.trigger_v, wire.enabled = wire.nominal_bias_a, wire.nominal_trigger_v, True
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
            Wander(self.rng(f"{name}.coupling"), node.coupling_drift, node.coupling_drift_time_s, 0.0)
            for name, node in zip(NODES, self._nodes, strict=True)
        ]
        self._counters = ClickCounters(self.rng("counters"), INPUTS)
        self._tagger = Tagger(INPUTS, self._all_counts)
        self._phase = ArmPhase(
            p.phase,
            self._nodes,
            p.converter.signal_wavelength_m,
            self.rng("phase"),
            self.rng("unseen phase"),
        )
        self._pmt = Photomultiplier(self.rng("alice.pmt"), p.readout.dark_hz)
        self._atoms = Atoms(p, self.rng, self._pmt)
        self._model = AttemptModel(p)
        self._two_rounds = TwoRoundModel(p, self._model)
        self._mains = None if p.mains is None else Mains(p.mains.frequency_hz, p.mains.start_turns)
        self._readings = Readings()
        self._attempts = AttemptPlay(
            self.rng("clicks"), p.detectors.jitter_s, self._phase, self._atoms, self._counters, self._tagger
        )
        self._stray = self.rng("background tags")
        self._outlooks: tuple[Reading, Scene, Outlook | TwoRounds] | None = None
        """The last one; a scene does not change."""
        self._opened: deque[tuple[Reading, int]] = deque(maxlen=OPENED)
        """What was played last with detectors open, with its start."""
        self._gates = MidpointGates(p, self.rng("gates"), self._phase.walk, self._counters, self._tagger)
        self._parts = self._name_parts()
        self._drifted_s = 0.0
        self._kept: Kept | None = None
        self._told: tuple[Outlook | TwoRounds, dict[str, float]] | None = None
        """The odds told last, and of what."""
        self._held: tuple[Scene, int] | None = None
        """What the core was last told odds of, and until when (ps)."""
        self._calm_s = max(self._slice_s, calm_span_s(self._nodes, p.polarisation))
        self._noise_hz_per_w = tuple(
            photon.noise_hz(1.0, p) * photon.fibre_transmission(node, p) / 2 for node in self._nodes
        )

    # what instruments use
    def detector_clicks(self, t0_s: float, t1_s: float) -> list[int]:
        """Clicks of each nanowire between two laboratory times: background and what the core's gates saw."""
        with self.lock:
            self._look(self.now())
            return self._counters.between(round(t0_s * 1e12), round(t1_s * 1e12), 2)

    def pmt_clicks(self, t0_s: float, t1_s: float) -> int:
        """Counts of Alice's photomultiplier between two laboratory times, gated or not."""
        with self.lock:
            self._pmt.advance(self.now_ps())
            return self._pmt.between(t0_s, t1_s)

    def watch_pmt(self) -> None:
        """Have Alice's photomultiplier count from now on, also while the core does not."""
        with self.lock:
            self._pmt.watching = True
            self._pmt.advance(self.now_ps())

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

    # what nobody in a real laboratory can ask
    def true_qubits(self) -> NDArray[np.complex128]:
        """Density matrix of the two qubits as it was left, shape (4, 4), basis SS, SD, DS, DD."""
        with self.lock:
            return self._atoms.pair.qubits()

    def true_phase_rad(self, time_ps: int) -> float:
        """Optical phase of Alice's arm minus Bob's at the midpoint, as reference light has it."""
        with self.lock:
            return self._phase.walk.at(time_ps)

    def outlook(self, body: Segment, start_ps: int) -> Outlook:
        """What an attempt that plays ``body``, with one 854 nm pulse, would be, cause by cause."""
        with self.lock:
            return self._model.outlook(self._readings.of(body), *self._look(start_ps / 1e12)[:2])

    def two_rounds(self, body: Segment, start_ps: int) -> TwoRounds:
        """The same of an attempt with two 854 nm pulses."""
        with self.lock:
            return self._two_rounds.outlook(self._readings.of(body), *self._look(start_ps / 1e12)[:2])

    # what the core uses
    def wait_until_ps(self, time_ps: int) -> None:
        """Return when the laboratory clock has come to ``time_ps``."""
        while (left := time_ps - self.now_ps()) > 0:
            self._clock.sleep(max(left / 1e12, math.ulp(self._clock.now())))

    def next_edge_ps(self, line: str, after_ps: int) -> int | None:
        """When a comparator of the mains next rises after a laboratory time, ps; None for other lines."""
        if self._mains is None or line not in MAINS_LINES:
            return None
        return self._mains.next_edge_ps(after_ps)

    def play(self, segment: Segment, start_ps: int) -> dict[str, Clicks]:
        """Play one segment once; an attempt is drawn from its odds, whatever the ions did before."""
        with self.lock:
            reading = self._readings.of(segment)
            scene = self._look(start_ps / 1e12)
            if reading.attempt:
                return self._play_attempt(reading, start_ps, scene)
            self._pmt.advance(start_ps)
            clicks = self._atoms.evolve(reading, start_ps, scene.lights)
            self._atoms.shine([(reading, 1)], scene.lights)
            self._pmt.advance(start_ps + segment.duration_ps)
            if any("align_1550" in beams for beams in reading.beams):
                self._gates.dazzle(reading, scene.arms, scene.detectors, self._nanowires)
            if reading.midpoint_gates:
                self._opened.append((reading, start_ps))
                clicks.update(self._gates.clicks(reading, start_ps, scene.arms, scene.detectors))
            clicks.update(
                {g.into: Clicks(self._phase.lock_clicks(g.duration_ps)) for g in reading.lock_gates}
            )
            return {gate.into: clicks[gate.into] for gate in segment.gates}

    def play_many(self, segment: Segment, starts_ps: Sequence[int]) -> dict[str, list[int]]:
        """Play a segment at each of the given times; counts by register, one per start."""
        with self.lock:
            reading = self._readings.of(segment)
            if reading.attempt or reading.counter_gates or not starts_ps:
                played = [self.play(segment, start) for start in starts_ps]
                return {gate.into: [one[gate.into].count for one in played] for gate in segment.gates}
            scene = self._scene(starts_ps[-1])
            span_s = (starts_ps[-1] - starts_ps[0] + segment.duration_ps) / 1e12
            self._pmt.advance(starts_ps[0])
            self._atoms.pass_time([(reading, len(starts_ps))], span_s, scene.lights)
            self._pmt.advance(starts_ps[-1] + segment.duration_ps)
            self._atoms.play_later(reading, starts_ps[-1])
            held = {
                g.into: [self._phase.lock_clicks(g.duration_ps)] * len(starts_ps) for g in reading.lock_gates
            }
            if not reading.midpoint_gates:
                return held
            self._opened.extend((reading, start_ps) for start_ps in starts_ps[-OPENED // 2 :])
            counts = self._gates.counts(reading, np.array(starts_ps, np.int64), scene.arms, scene.detectors)
            self._count_background(starts_ps[-1] + segment.duration_ps, scene)
            return held | {
                gate.into: counts[:, index].tolist() for index, (_, gate) in enumerate(reading.midpoint_gates)
            }

    def odds(self, body: Segment, start_ps: int) -> Odds:
        """Odds of the click patterns of one attempt from the instruments' state now."""
        with self.lock:
            scene = self._look(start_ps / 1e12)
            outlook = self._outlook(self._readings.of(body), scene)
            if self._told is None or self._told[0] is not outlook:
                self._told = outlook, outlook.odds()
            kept = self._kept
            until_ps = start_ps + round(self._slice_s * 1e12) if kept is None else kept.until_ps
            self._held = scene, until_ps
            return Odds(self._told[1], until_ps, passing=isinstance(outlook, TwoRounds))

    def play_given(self, body: Segment, pattern: str, start_ps: int) -> dict[str, Clicks]:
        """Play an attempt given its click pattern: click times, and the joint state of the ions."""
        with self.lock:
            reading = self._readings.of(body)
            scene = self._scene(start_ps)
            outlook = self._outlook(reading, scene)
            if len(pattern) != len(outlook.gates) or set(pattern) - {"0", "1"}:
                raise ConfigError(
                    f"segment {body.name!r}: pattern {pattern!r} does not fit its {len(outlook.gates)} gates"
                )
            self._opened.append((reading, start_ps))
        return self._attempts.given(reading, outlook, pattern, start_ps, scene.lights)

    def skip(self, segments: Sequence[tuple[Segment, int]], start_ps: int, duration_ps: int) -> None:
        """Account for time in which segments were played so many times without a herald."""
        with self.lock:
            scene = self._scene(start_ps + duration_ps)
            played = [(self._readings.of(segment), count) for segment, count in segments]
            for reading, count in played:
                if reading.attempt:
                    self._counters.add(MARKER, count)
                elif reading.midpoint_gates:
                    self._gates.pass_time(reading, count, start_ps, duration_ps, scene.arms, scene.detectors)
            self._count_background(start_ps + duration_ps, scene)
            self._pmt.advance(start_ps)
            self._atoms.pass_time(played, duration_ps / 1e12, scene.lights)
            self._pmt.advance(start_ps + duration_ps)

    def tag_layout(self, body: Segment) -> TagLayout | None:
        """Where the time tagger has an attempt: see labctl.sim.played.TaggingWorld."""
        with self.lock:
            reading = self._readings.of(body)
            gates = [gate for _, gate in reading.midpoint_gates]
            spans = {(gate.start_ps, gate.duration_ps) for gate in gates}
            if not reading.attempt or len(spans) != 1 or any(gate.threshold != 1 for gate in gates):
                return None
            ((start_ps, window_ps),) = spans
            detectors = tuple(detector for detector, _ in reading.midpoint_gates)
            return TagLayout(MARKER, detectors, start_ps - marked_ps(reading), window_ps)

    def tagged(
        self, since_ps: int, until_ps: int, quiet: Sequence[tuple[Segment, int]]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """What the time tagger recorded, with the markers of the attempts that were skipped."""
        with self.lock:
            times, channels = self._tagger.between(since_ps, until_ps)
            skipped = [(self._readings.of(body), start_ps) for body, start_ps in quiet]
            more = [(start_ps + marked_ps(reading), MARKER) for reading, start_ps in skipped]
            more += self._background(since_ps, until_ps, [*self._opened, *skipped])
            more = [tag for tag in more if since_ps <= tag[0] < until_ps]
            if more:
                times = np.concatenate([times, np.array([time for time, _ in more], np.int64)])
                channels = np.concatenate([channels, np.array([channel for _, channel in more], np.int64)])
                order = np.argsort(times, kind="stable")
                times, channels = times[order], channels[order]
            return times, channels.astype(np.uint8)

    def _background(
        self, since_ps: int, until_ps: int, opened: Sequence[tuple[Reading, int]]
    ) -> list[tuple[int, int]]:
        """Tags of background while no gate is open: in the gates it has been drawn with the rest.

        The detectors' counts have it already (see ClickCounters), drawn as a number and without times.
        """
        found: list[tuple[int, int]] = []
        detectors = self._scene(until_ps).detectors
        for number, detector in enumerate(detectors):
            clicks = self._stray.poisson(detector.noise_hz * (until_ps - since_ps) / 1e12)
            for time_ps in self._stray.integers(since_ps, until_ps, clicks).tolist():
                if not any(
                    place == number
                    and start_ps + gate.start_ps <= time_ps < start_ps + gate.start_ps + gate.duration_ps
                    for reading, start_ps in opened
                    for place, gate in reading.midpoint_gates
                ):
                    found.append((time_ps, number))
        return found

    # the state of things now
    def _name_parts(self) -> dict[str, Part]:
        parts: dict[str, Part] = {"charlie.snspd": self._nanowires, "charlie.tagger": self._tagger}
        parts["charlie.wdm"] = self._phase.lock
        for name, polariser in zip(NODES, self._polarisers, strict=True):
            parts[f"charlie.polarisation_{name}"] = polariser.paddles
        for index, bench in enumerate(self._benches):
            name = bench.node
            for nm, laser in bench.lasers.items():
                parts[f"{name}.laser_{nm}"] = laser
            parts[f"{name}.oven"], parts[f"{name}.etalon"] = bench.oven, bench.etalon
            parts[f"{name}.aom"] = bench.aom
            parts[f"{name}.pump"], parts[f"{name}.coil"] = bench.pump_seed, bench.coil
            parts[f"{name}.chamber"] = bench.chamber
            sensors = bench.sensors(lambda index=index: self._aligned_output_w(index))
            parts[f"{name}.power_in"], parts[f"{name}.power_out"] = sensors
        alice = self._benches[0]
        parts["alice.piezo"] = alice.piezo
        parts["core.card"] = sequencer(self.play)
        parts["alice.card"] = wired(alice.shutter_397, alice.piezo, self.pmt_clicks)
        return parts

    def _look(self, time_s: float) -> Scene:
        """Bring everything up to a laboratory time, and how it is then."""
        scene = self._survey(time_s)
        self._count_background(round(time_s * 1e12), scene)
        return scene

    def _survey(self, time_s: float) -> Scene:
        """The same without letting the detectors' background click."""
        self._phase.advance(time_s)
        time_ps = round(time_s * 1e12)
        kept = self._kept
        if (
            kept is not None
            and kept.from_ps <= time_ps < kept.until_ps
            and kept.touched == self._touched()
            and kept.quanta == self._quanta(kept.scene.lights)
        ):
            return kept.scene
        drifted = time_s - self._drifted_s
        if drifted >= DRIFT_STEP_S:
            for bench, coupling in zip(self._benches, self._couplings, strict=True):
                bench.advance(time_s)
                coupling.step(drifted)
            for polariser in self._polarisers:
                polariser.advance(time_s, drifted)
            self._drifted_s = time_s
        arms = self._arm(0), self._arm(1)
        scene = Scene(arms, self._detectors(arms), (arms[0].light, arms[1].light))
        self._kept = None
        if self._steady():
            until_ps = time_ps + round(self._calm_s * 1e12)
            self._kept = Kept(scene, self._touched(), self._quanta(scene.lights), time_ps, until_ps)
        return scene

    def _touched(self) -> tuple[Any, ...]:
        """What a scene depends on beside time: nobody touched an instrument as long as it is equal."""
        return (
            *(bench.state() for bench in self._benches),
            *(polariser.state() for polariser in self._polarisers),
            *map(WIRE_STATE, self._nanowires),
            *(motion.block_s["reset_854"] for motion in self._atoms.motion),
        )

    def _quanta(self, lights: tuple[NodeLight, NodeLight]) -> tuple[float, float]:
        """Phonon numbers at an attempt, to 0.001: the same again and again as long as the ions are cooled."""
        first, second = self._atoms.motion
        return round(first.prepared_quanta(lights[0]), 3), round(second.prepared_quanta(lights[1]), 3)

    def _scene(self, time_ps: int) -> Scene:
        """The laboratory within an attempt loop: what its odds were told of, as long as they hold."""
        if self._held is not None and time_ps <= self._held[1]:
            self._phase.advance(time_ps / 1e12)
            return self._held[0]
        return self._survey(time_ps / 1e12)

    def _count_background(self, time_ps: int, scene: Scene) -> None:
        first, second = scene.detectors
        self._counters.advance(time_ps, (first.noise_hz, second.noise_hz))

    def _steady(self) -> bool:
        """Whether only slow wandering can change the odds until the core's caller touches something.

        With a clock that runs by itself instruments may be touched at any time.
        """
        return (
            isinstance(self._clock, VirtualClock)
            and all(bench.steady() for bench in self._benches)
            and all(polariser.steady() for polariser in self._polarisers)
            and self._phase.lock.steady()
        )

    def _arm(self, node: int) -> ArmState:
        bench, values_of = self._benches[node], self._nodes[node]
        light = bench.light()
        coupling = values_of.objective_collection * values_of.fibre_coupling
        return ArmState(
            light,
            bench.oven.temperature_k,
            bench.etalon.temperature_k,
            light.pump.power * self._p.converter.pump_power_w,
            coupling * max(0.0, 1 + self._couplings[node].x),
            self._polarisers[node].share(),
            self._atoms.motion[node].prepared_quanta(light),
            self._atoms.motion[node].block_s["reset_854"],
        )

    def _detectors(self, arms: tuple[ArmState, ArmState]) -> tuple[Detector, Detector]:
        arriving_hz = sum(
            arm.pump_w * per_w * arm.polariser for arm, per_w in zip(arms, self._noise_hz_per_w, strict=True)
        )
        transmission = self._p.midpoint.transmission
        first, second = (
            Detector(eta := wire.efficiency() * transmission, arriving_hz * eta + wire.dark_hz())
            for wire in self._nanowires
        )
        return first, second

    def _outlook(self, reading: Reading, scene: Scene) -> Outlook | TwoRounds:
        known = self._outlooks
        if known is None or known[0] is not reading or known[1] is not scene:
            model = self._two_rounds if twice(reading) else self._model
            known = (reading, scene, model.outlook(reading, scene.arms, scene.detectors))
            self._outlooks = known
        return known[2]

    def _aligned_output_w(self, node: int) -> float:
        """Power behind a converter's filters with the reference beam in alignment mode, W."""
        with self.lock:
            p, arm = self._p, self._look(self.now()).arms[node]
            energy = p.lasers.laser_393.wavelength_m / p.converter.signal_wavelength_m
            return (
                p.alignment.power_w
                * arm.light.reference.power
                * photon.converter_efficiency(arm.pump_w, arm.oven_k, p)
                * p.filters.other_transmission
                * abs(reference_amplitude(arm, p)) ** 2
                * energy
            )

    def _all_counts(self) -> list[int]:
        with self.lock:
            self._look(self.now())
            return self._counters.counts()

    # attempts
    def _play_attempt(self, reading: Reading, start_ps: int, scene: Scene) -> dict[str, Clicks]:
        outlook = self._outlook(reading, scene)
        odds = outlook.odds()
        quiet = "0" * len(outlook.gates)
        pattern = choose(self.rng("clicks"), [*odds, quiet], [*odds.values(), 1 - math.fsum(odds.values())])
        self._opened.append((reading, start_ps))
        return self._attempts.given(reading, outlook, pattern, start_ps, scene.lights)
