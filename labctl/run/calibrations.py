"""Calibrations, and runs shown like them, by the name of their analysis."""

from __future__ import annotations

from labctl.run import ion_calibrations as ions
from labctl.run import light_calibrations as light
from labctl.run import stored
from labctl.run.curves import Calibrate
from labctl.run.phase_loop import phase_stabilisation

CALIBRATIONS: dict[str, Calibrate] = {
    "rabi": ions.rabi,
    "ramsey": ions.ramsey,
    "drift": ions.drift,
    "lines_729": ions.lines_729,
    "readout": ions.readout,
    "pumping": ions.pumping,
    "excitation": ions.excitation,
    "balance": light.balance,
    "arrival": light.arrival,
    "delay": light.delay,
    "converter": light.converter,
    "etalon": light.etalon,
    "phase_stabilisation": phase_stabilisation,
    "stored_pair": stored.stored_pair,
    "coherence": stored.coherence,
}
