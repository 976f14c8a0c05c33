"""First light of the rubidium link: heralded pairs, their fidelity, and a Bell test with settings drawn after the herald."""

from __future__ import annotations

from labctl.run.procedure import Figures, Steps

ROUNDS = 3000


def first_light(lab: Steps) -> Figures:
    """``ROUNDS`` pairs for the fidelity, as many for the Bell test."""
    lab.say("heralded entanglement of two atoms, populations and parity")
    pairs = lab.run("rubidium_link", ROUNDS, "fidelity", measure="fidelity")
    lab.say("Bell test, settings from the random source after each herald")
    test = lab.run("rubidium_link", ROUNDS, "Bell test", measure="bell")
    return Figures(
        pairs,
        [test],
        {
            "live_rate": pairs.value("live_rate"),
            "herald_rate": pairs.value("herald_rate"),
            "live_fraction": pairs.value("live_fraction"),
            "fidelity": pairs.value("fidelity"),
            "chsh_s": test.value("chsh_s"),
            "qber": test.value("qber"),
        },
    )
