"""First light of the calcium link: the tracked fringe, heralded pairs at α = 17 %, the noise of each arm."""

from __future__ import annotations

from labctl.run.procedure import Figures, Outcome, Steps, mean, window_signal_to_noise
from labctl.units import ms

ROUNDS = 2000
FRINGE_SHOTS = 1000
GATE = 500 * ms
NOISE_GATES = 60
WINDOW_S = 60e-9
PUMP_CHANNEL = 4
"""AOM channel of the converter pump."""


def first_light(lab: Steps) -> Figures:
    """The tracked fringe, the noise, then ``ROUNDS`` heralded pairs; at the end the noise of each arm alone."""
    lab.say("phase stabilised on single clicks of the 393 nm reference: fringe scan")
    fringe = lab.run("fringe", FRINGE_SHOTS, "tracked phase fed forward")
    lab.say("noise: no signal light, both converters pumped")
    both = lab.run("noise", NOISE_GATES, "both converters", gate=GATE)
    lab.say("heralded entanglement, alpha = 17 %")
    link = lab.run(
        "link", ROUNDS, "alpha = 17 %", alpha=0.17, measure="fidelity", lock_monitor="charlie.wdm_lock"
    )
    lab.say("noise of each arm: one converter pumped at a time")
    arms = [noise_of(lab, "alice", "bob"), noise_of(lab, "bob", "alice")]
    lab.wait_ready(60.0)
    return Figures(
        link,
        [fringe, both],
        {
            "herald_rate": link.value("herald_rate"),
            "noise_rate": mean([arm.value("noise_rate") for arm in arms]),
            "signal_to_noise": window_signal_to_noise(link, both, WINDOW_S),
            "contrast": fringe.value("contrast"),
            "fidelity": link.value("fidelity"),
        },
    )


def noise_of(lab: Steps, on: str, off: str) -> Outcome:
    """Noise with only one node's converter pumped; the other's pump comes back afterwards, whatever happens."""
    lab.set(f"{off}.aom.output_{PUMP_CHANNEL}", False)
    try:
        return lab.run("noise", NOISE_GATES, f"converter of {on} only", gate=GATE)
    finally:
        lab.set(f"{off}.aom.output_{PUMP_CHANNEL}", True)
