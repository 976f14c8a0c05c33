"""What a herald at the midpoint leaves in the two nodes: single-photon and two-photon interference, closed form."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labctl.errors import LimitError


class HeraldedState(NamedTuple):
    """Probability per attempt of one detector's herald, and the state of the nodes it heralds.

    ``density_matrix`` is 4x4 complex, trace one, basis |AB> = 00, 01, 10, 11 with 0 dark and 1 bright.
    """

    probability: float
    density_matrix: NDArray[np.complex128]


class HeraldedPair(NamedTuple):
    """Probability per attempt of a two-photon herald and the fidelity of the pair it heralds."""

    probability: float
    fidelity: float


def single_photon_herald(
    alpha_a: float,
    alpha_b: float,
    eta_a: float,
    eta_b: float,
    click_noise_probability: float,
    mode_overlap: float,
    phase_contrast: float,
    *,
    sign: int = 1,
    number_resolving: bool = False,
) -> HeraldedState:
    """State heralded by exactly one click of two detectors behind a balanced beam splitter.

    Per node: bright probability alpha and node-to-click efficiency eta. ``click_noise_probability`` is per
    detector and window, ``mode_overlap`` the squared overlap of the wave packets (two-photon visibility),
    ``phase_contrast`` exp(-sigma_phi^2/2). ``sign`` is +1 or -1 by the detector that clicked. A
    number-resolving detector discards its two-photon events (noise is not resolved). Both detectors together herald twice as often.
    Cabrillo et al., PRA 59, 1025 (1999), extended to threshold detectors with noise and distinguishability.
    """
    _check_probabilities(
        alpha_a=alpha_a,
        alpha_b=alpha_b,
        eta_a=eta_a,
        eta_b=eta_b,
        click_noise_probability=click_noise_probability,
        mode_overlap=mode_overlap,
        phase_contrast=phase_contrast,
    )
    if sign not in (1, -1):
        raise LimitError(f"sign is +1 or -1, by the detector that clicked, not {sign}")
    noise, quiet = click_noise_probability, 1 - click_noise_probability
    noise_only = noise * quiet

    def one_photon(eta: float) -> float:
        return eta * quiet / 2 + (1 - eta) * noise_only

    bunched = 0.0 if number_resolving else eta_a * eta_b * quiet * (1 + mode_overlap) / 4
    one_of_two = (eta_a * (1 - eta_b) + eta_b * (1 - eta_a)) * quiet / 2
    both_lost = (1 - eta_a) * (1 - eta_b) * noise_only
    weights = np.array(
        [
            (1 - alpha_a) * (1 - alpha_b) * noise_only,
            (1 - alpha_a) * alpha_b * one_photon(eta_b),
            alpha_a * (1 - alpha_b) * one_photon(eta_a),
            alpha_a * alpha_b * (bunched + one_of_two + both_lost),
        ]
    )
    amplitude = math.sqrt(alpha_a * (1 - alpha_a) * alpha_b * (1 - alpha_b) * eta_a * eta_b * mode_overlap)
    probability = float(weights.sum())
    if probability == 0:
        raise LimitError("no photon and no noise can reach the detectors: nothing is ever heralded")
    state = np.diag(weights).astype(np.complex128)
    state[1, 2] = state[2, 1] = sign * quiet / 2 * amplitude * phase_contrast
    return HeraldedState(probability, state / probability)


def two_photon_herald(
    eta_a: float, eta_b: float, click_noise_probability: float, mode_overlap: float
) -> HeraldedPair:
    """Probability and fidelity of a coincidence herald (Barrett and Kok, PRA 71, 060310, and its relatives).

    True heralds P = eta_a eta_b/2 with fidelity (1 + M)/2; a coincidence with a noise click,
    P_false = 2p[eta_a(1 - eta_b) + eta_b(1 - eta_a)] + 4p^2 to lowest order in the noise probability p per
    detector and window, leaves the mixed state. The probability returned is P + P_false.
    """
    _check_probabilities(
        eta_a=eta_a, eta_b=eta_b, click_noise_probability=click_noise_probability, mode_overlap=mode_overlap
    )
    noise = click_noise_probability
    true = eta_a * eta_b / 2
    false = 2 * noise * (eta_a * (1 - eta_b) + eta_b * (1 - eta_a)) + 4 * noise**2
    if true + false == 0:
        raise LimitError("no photon and no noise can reach the detectors: nothing is ever heralded")
    return HeraldedPair(true + false, (true * (1 + mode_overlap) / 2 + false / 4) / (true + false))


def _check_probabilities(**arguments: float) -> None:
    for name, value in arguments.items():
        if not 0 <= value <= 1:
            raise LimitError(f"{name} must be between 0 and 1, not {value!r}")
