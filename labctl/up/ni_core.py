"""The NI core of a lab: its card by the lab file, reached as the lab's devices are."""

from __future__ import annotations

import numpy as np

from labctl.clock import Clock
from labctl.config import LabConfig
from labctl.core.session import CoreSession
from labctl.errors import ConfigError
from labctl.lab import Connect
from labctl.transport import NidaqmxTransport

ANSWER_S = 10.0
"""How long the card's computer may take to answer a call, s: a million samples take a second to write."""


def ni_core(config: LabConfig, dial: Connect, clock: Clock, rng: np.random.Generator) -> CoreSession:
    """The core of ``[core.nidaq]``; ConfigError if the lab has none or the nidaqmx package is missing.

    dial:   makes a transport from address, device and timeout
    clock:  of the laboratory
    """
    device = config.core.nidaq.device
    if device not in config.device:
        near = f"; there is {', '.join(config.device)}" if device else ""
        raise ConfigError(
            f"{config.path} [core.nidaq] device = {device!r}: name the device of this lab that is the NI card{near}"
        )
    try:
        from labctl.core.nidaq.card import Card
        from labctl.core.nidaq.play import NiCore
    except ImportError as error:
        raise ConfigError(
            f"the NI core needs the package {error.name!r}: pip install 'labctl[nidaq]'"
        ) from None
    transport = dial(config.device[device].address, device, ANSWER_S)
    if not isinstance(transport, NidaqmxTransport):
        raise ConfigError(
            f"{config.path} [device.{device}]: the NI core needs an address such as nidaqmx://10.0.4.20:31763/Dev1"
        )
    card = Card(transport, config.core.nidaq)
    return CoreSession(NiCore(card, config.line, config.core.nidaq, clock, rng))
