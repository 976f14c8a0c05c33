"""First light of the calcium link: measure the noise of each arm, the fringe, then heralded pairs at α = 17 %."""

from __future__ import annotations

from labctl.run.procedure import Figures, Outcome, Steps, mean, window_signal_to_noise
from labctl.units import ms

ROUNDS = 2000
GATE = 500 * ms
WINDOW_S = 60e-9
PUMP_CHANNEL = 4
"""AOM channel of the converter pump."""


def first_light(lab: Steps) -> Figures:
    """Noise with one converter on at a time and with both, the tracked fringe, then ``ROUNDS`` heralded pairs."""
    lab.say("noise of each arm: one converter pumped at a time, no signal light")
    arms = [noise_of(lab, "alice", "bob"), noise_of(lab, "bob", "alice")]
    both = lab.run("noise", 60, "both converters", gate=GATE)
    lab.wait_ready(60.0)
    lab.say("phase stabilised on single clicks of the 393 nm reference: fringe scan")
    fringe = lab.run("fringe", 3000, "tracked phase fed forward")
    lab.say("heralded entanglement, alpha = 17 %")
    link = lab.run("link", ROUNDS, "alpha = 17 %", alpha=0.17, measure="fidelity")
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
        return lab.run("noise", 60, f"converter of {on} only", gate=GATE)
    finally:
        lab.set(f"{off}.aom.output_{PUMP_CHANNEL}", True)
