"""What of a rubidium node decides what happens next, worked out once while its instruments stand still."""

from __future__ import annotations

from dataclasses import dataclass

from simulated_hw.world import photon
from simulated_hw.world import rubidium_light as optics
from simulated_hw.world.attempt import Detector
from simulated_hw.world.rubidium_light import NodeLight
from simulated_hw.world.rubidium_parameters import Parameters


@dataclass(frozen=True, slots=True)
class NodeNow:
    """One node now: light, rates of its atom, and the way of its photon."""

    light: NodeLight
    fluorescence: float
    """Relative to the operating point."""
    bright_hz: float
    stray_hz: float
    cloud_hz: float
    loading_hz: float
    cooled_k: float
    pump_rate: float
    transmission: float
    """From emission to the beam splitter, without the etalon."""
    packet: photon.Packet
    pump_w: float
    polariser: float
    oven_k: float
    etalon_k: float

    def counts_hz(self, beam: str, atom: bool) -> float:
        """Counts per second while the cooling light (with the cloud: ``mot_780``) is on."""
        return (
            self.stray_hz + (self.bright_hz if atom else 0.0) + (self.cloud_hz if beam == "mot_780" else 0.0)
        )


@dataclass(frozen=True, slots=True)
class Scene:
    """The laboratory at one moment."""

    nodes: tuple[NodeNow, NodeNow]
    detectors: tuple[Detector, Detector]


def node_now(
    light: NodeLight, oven_k: float, etalon_k: float, passive: float, polariser: float, p: Parameters
) -> NodeNow:
    """A node from the state of its instruments.

    passive:  transmission of everything but converter, etalon and polariser
    """
    shining = optics.fluorescence(light, p)
    pump_w = light.converter.power * p.converter.pump_power_w
    shift_hz = -light.converter.detuning_hz
    return NodeNow(
        light,
        shining,
        p.readout.bright_hz * shining,
        p.readout.stray_hz * light.cool.power,
        p.readout.cloud_hz * shining * light.mot,
        optics.loading_hz(light, p),
        optics.cooled_k(light, p),
        optics.pump_rate(light, p),
        passive * polariser * photon.converter_efficiency(pump_w, oven_k, p),
        photon.packet(photon.etalon_offset_hz(etalon_k, -shift_hz, p.filters), shift_hz, p),
        pump_w,
        polariser,
        oven_k,
        etalon_k,
    )
