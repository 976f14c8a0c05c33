"""What a 729 nm pulse does near the line to another Zeeman state of D5/2 than the qubit's."""

from __future__ import annotations

import math

import numpy as np

from labctl.sim.played import PlayedPulse
from simulated_hw.world.ion import DS, ELEMENTS, MS, SD, SM, S, State, X
from simulated_hw.world.light import NodeLight, flop
from simulated_hw.world.parameters import Parameters


def driven(
    pulse: PlayedPulse, rabi_rad_per_s: float, cycles: float, light: NodeLight, p: Parameters
) -> State | None:
    """Channel of a pulse whose tone is nearer to the second line than to the qubit line; None for other pulses.

    rabi_rad_per_s:  of the pulse on the qubit line
    cycles:          what the noise of the field adds to the qubit line during the pulse
    """
    line = p.second_line
    if line is None:
        return None
    tone_hz = pulse.frequency_hz + light.qubit.detuning_hz
    apart_hz = (line.hz_per_t - p.field.line_hz_per_t) * light.field_t
    if abs(tone_hz) <= abs(tone_hz - apart_hz):
        return None
    span_s = pulse.duration_ps / 1e12
    noise_hz = line.hz_per_t / p.field.line_hz_per_t * cycles / span_s
    rabi = rabi_rad_per_s * line.rabi
    share = flop(rabi, tone_hz - apart_hz - noise_hz, span_s)
    error = min(1.0, 2 * p.qubit.pi_infidelity * rabi * span_s / math.pi)
    return exchange(share * (1 - error) + error / 2)


def exchange(share: float) -> State:
    """Population of S and X changes places with probability ``share``; what S and D had in common decays with S.

    X stands for all Zeeman states of D5/2 outside the qubit: right as long as only this line has filled it.
    """
    channel = np.eye(ELEMENTS, dtype=complex)
    channel[S, S] = channel[X, X] = 1 - share
    channel[X, S] = channel[S, X] = share
    for element in (SD, DS, SM, MS):
        channel[element, element] = math.sqrt(1 - share)
    return channel
