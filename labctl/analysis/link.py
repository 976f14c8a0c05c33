"""How good a quantum link is: herald rate, signal-to-noise, link efficiency and what a stored pair is worth.

Functions of measured counts return an Estimate; pure formulas take and return plain numbers, and
``value.propagate`` carries standard errors through them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from labctl.analysis.value import Estimate, propagate
from labctl.errors import LimitError

MIXED_FIDELITY = 0.25
"""Fidelity of the fully mixed two-qubit state with any Bell state."""


def herald_rate(count: int, live_time_s: float) -> Estimate:
    """Herald rate in Hz from the heralds counted in a live time: n/T, standard error sqrt(n)/T (Poisson).

    With no herald the standard error is that of one, 1/T, so that an empty window does not look exact.
    """
    if count < 0 or not live_time_s > 0:
        raise LimitError(
            f"a herald rate needs a count >= 0 and a live time > 0 s, not {count} in {live_time_s} s"
        )
    return Estimate(count / live_time_s, math.sqrt(max(count, 1)) / live_time_s, "Hz")


def herald_rate_from_waits(waits_s: Sequence[float]) -> Estimate:
    """Herald rate in Hz from n exponentially distributed waiting times in s: (n-1)/T, error rate/sqrt(n-2).

    T is the sum of the waits. Unlike n/T this is unbiased, because here the last herald ends the measurement;
    its variance is rate^2/(n-2) (moments of the inverse gamma distribution). Needs three waits or more.
    """
    count, total = len(waits_s), math.fsum(waits_s)
    if count < 3 or not total > 0 or min(waits_s) < 0:
        raise LimitError(
            f"a rate from waiting times needs at least 3 waits, none negative; got {count}, sum {total} s"
        )
    rate = (count - 1) / total
    return Estimate(rate, rate / math.sqrt(count - 2), "Hz")


def signal_to_noise(
    signal_count: int, signal_window_s: float, noise_count: int, noise_window_s: float
) -> Estimate:
    """Ratio of signal to noise clicks inside the signal window.

    Clicks in the signal window are signal plus noise; the noise window (no photon expected) gives the noise,
    scaled by the ratio of the windows (s, total open time of each): SNR = (S - B)/B, B = N T_signal/T_noise.
    Standard error from the Poisson errors of both counts: (S/B) sqrt(1/S + 1/N).
    """
    if min(signal_count, noise_count) < 0 or not min(signal_window_s, noise_window_s) > 0:
        raise LimitError("a signal-to-noise ratio needs counts >= 0 and windows > 0 s")
    if noise_count == 0:
        raise LimitError(
            "no click in the noise window: the ratio has no upper bound; open the noise window for longer"
        )
    background = noise_count * signal_window_s / noise_window_s
    ratio = signal_count / background
    error = math.sqrt(max(signal_count, 1) * (1 + signal_count / noise_count)) / background
    return Estimate(ratio - 1, error)


def link_efficiency(entanglement_rate: Estimate, decoherence_rate: Estimate) -> Estimate:
    """Quantum link efficiency: entangling rate over decoherence rate, both in Hz (Humphreys 2018)."""
    if not decoherence_rate.value > 0:
        raise LimitError(f"the decoherence rate must be above 0 Hz, not {decoherence_rate}")

    def ratio(made: float, lost: float) -> float:
        return made / lost

    return propagate(ratio, entanglement_rate, decoherence_rate)


def clocked_fidelity_max(link_efficiency: float, fresh_fidelity: float = 1.0) -> float:
    """Best fidelity of entanglement delivered at every clock tick: 1/4 + (F0 - 1/4) eta^(1/(1-eta)).

    Humphreys et al., Nature 558, 268 (2018): a pair that is not ready counts as the mixed state, a ready one
    decays towards it; optimised over the clock period. F0 is the fidelity of a fresh pair (1 in the paper).
    """
    return MIXED_FIDELITY + (fresh_fidelity - MIXED_FIDELITY) * _delivered_share(link_efficiency)


def optimal_clock_period_s(entanglement_rate_hz: float, decoherence_rate_hz: float) -> float:
    """Clock period that gives ``clocked_fidelity_max``: ln(g/r)/(g - r), in s, for rates r and g in Hz."""
    if not min(entanglement_rate_hz, decoherence_rate_hz) > 0:
        raise LimitError("the optimal clock period needs both rates above 0 Hz")
    excess = decoherence_rate_hz / entanglement_rate_hz - 1
    return (math.log1p(excess) / excess if excess else 1.0) / entanglement_rate_hz


def deterministic_threshold(fresh_fidelity: float = 1.0) -> float:
    """Link efficiency above which clocked delivery beats fidelity 1/2 (0.826 for perfect fresh pairs)."""
    from labctl.analysis.special import root

    if not 0.5 < fresh_fidelity <= 1:
        raise LimitError(
            f"pairs of fidelity {fresh_fidelity} can never be delivered above 1/2; it must be in (0.5, 1]"
        )
    return math.exp(root(lambda log: clocked_fidelity_max(math.exp(log), fresh_fidelity) - 0.5, -20.0, 40.0))


def _delivered_share(efficiency: float) -> float:
    """eta^(1/(1-eta)), continuous through eta = 1 where it is 1/e."""
    if efficiency <= 0:
        return 0.0
    excess = efficiency - 1
    return math.exp(-math.log1p(excess) / excess if abs(excess) > 1e-12 else -1.0)


def stored_fidelity_exponential(
    fresh_fidelity: float, herald_rate_hz: float, decoherence_rate_hz: float
) -> float:
    """Mean fidelity of a stored pair when the next one succeeds, if it decays exponentially to the mixed state.

    <F> = 1/4 + (F0 - 1/4) r/(r + g) for heralds at rate r and decay at rate g, both in Hz.
    """
    share = herald_rate_hz / (herald_rate_hz + decoherence_rate_hz)
    return MIXED_FIDELITY + (fresh_fidelity - MIXED_FIDELITY) * share


def stored_fidelity_threshold(fresh_fidelity: float) -> float:
    """Ratio r/g above which ``stored_fidelity_exponential`` exceeds 1/2: x/(1-x), x = (1/4)/(F0 - 1/4)."""
    if not 0.5 < fresh_fidelity <= 1:
        raise LimitError(
            f"pairs of fidelity {fresh_fidelity} are never kept above 1/2; it must be in (0.5, 1]"
        )
    share = (0.5 - MIXED_FIDELITY) / (fresh_fidelity - MIXED_FIDELITY)
    return share / (1 - share)


@dataclass(frozen=True)
class TwoComponentDecay:
    """Decay of a stored Bell pair: coherences exponential, <ZZ> linear down to zero (gate errors).

    F(t) = [1 + 2 C0 exp(-t/tau) + max(0, Z0 - k t)]/4 with ``coherence`` C0, ``lifetime_s`` tau,
    ``zz`` Z0 and ``zz_loss_hz`` k (loss of <ZZ> per second).
    """

    coherence: float
    lifetime_s: float
    zz: float
    zz_loss_hz: float

    def __post_init__(self) -> None:
        if not (
            0 <= self.coherence <= 1 and 0 <= self.zz <= 1 and self.lifetime_s > 0 and self.zz_loss_hz > 0
        ):
            raise LimitError(f"coherence and zz must be in [0, 1], lifetime_s and zz_loss_hz above 0: {self}")

    def fidelity(self, time_s: float) -> float:
        """Fidelity after a storage time in s."""
        coherence = self.coherence * math.exp(-time_s / self.lifetime_s)
        return (1 + 2 * coherence + max(0.0, self.zz - self.zz_loss_hz * time_s)) / 4

    def at_next_success(self, herald_rate_hz: float, window_s: float = math.inf) -> float:
        """Mean fidelity when the next herald comes, over heralds that come within ``window_s``.

        The wait is exponential with the herald rate (Hz); the integral over it is done in closed form.
        """
        if not (herald_rate_hz > 0 and window_s > 0):
            raise LimitError("the mean over the next success needs a rate above 0 Hz and a window above 0 s")
        rate, total_rate = herald_rate_hz, herald_rate_hz + 1 / self.lifetime_s
        coherent = self.coherence * rate / total_rate * -math.expm1(-total_rate * window_s)
        end = min(window_s, self.zz / self.zz_loss_hz)
        gone = -math.expm1(-rate * end)
        zz = self.zz * gone - self.zz_loss_hz * (gone / rate - end * math.exp(-rate * end))
        return (1 + (2 * coherent + zz) / -math.expm1(-rate * window_s)) / 4
