"""The stored pair of the calcium link: how fast pairs come at α = 17 %, how long they last, and what one is worth when the next comes."""

from __future__ import annotations

from labctl.run.procedure import Figures, Steps, link_worth
from labctl.units import s

LINK_ROUNDS = 2000
STORED_ROUNDS = 5000
ALPHA = 0.17


def stored_pair(lab: Steps) -> Figures:
    """Heralds, then pairs stored for as long as the next herald would take at the rate just measured, then their decay."""
    lab.say("heralded entanglement, alpha = 17 %")
    link = lab.run("link", LINK_ROUNDS, "alpha = 17 %", alpha=ALPHA, measure="fidelity")
    rate, fresh = link.value("herald_rate"), link.value("fidelity")
    lab.say("memory: pairs kept under KDD until the next herald would come")
    wait = round(s / rate.value)
    kept = lab.run("memory", STORED_ROUNDS, "next success", alpha=ALPHA, storage="next", mean_wait=wait)
    lab.say("memory: decay of the pair")
    decay = lab.run("memory", STORED_ROUNDS, "decay", alpha=ALPHA)
    worth = link_worth(fresh, rate, decay.value("decoherence_rate"))
    lab.say(
        f"clocked delivery above 1/2 needs a link efficiency of 0.826 with perfect pairs, of {worth['threshold'].compact()} "
        f"with pairs of {fresh.compact()}; this link has {worth['link_efficiency'].compact()} and would deliver "
        f"{worth['clocked_fidelity'].compact()}"
    )
    return Figures(
        decay,
        [link, kept],
        {
            "herald_rate": rate,
            "fidelity": fresh,
            "coherence_time": decay.value("coherence_time"),
            "decoherence_rate": decay.value("decoherence_rate"),
            "link_efficiency": worth["link_efficiency"],
            "stored_fidelity": kept.value("fidelity"),
            "stored_fidelity_450ms": kept.value("fidelity_within"),
            "fidelity_450ms": decay.value("fidelity_450ms"),
            "time_above_half": decay.value("time_above_half"),
        },
    )
