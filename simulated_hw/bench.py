"""Which simulated instrument holds which parts of the world: the wiring of the simulated laboratory."""

from __future__ import annotations

from typing import Any

from labctl.errors import ConfigError
from labctl.sim.instrument import SimInstrument
from simulated_hw.agilent_ipcmini import SimAgilentIpcMini
from simulated_hw.bristol_871 import SimBristol871
from simulated_hw.hcp_tc038d import SimHcpTc038d
from simulated_hw.highfinesse_wavemeter import SimHighFinesse
from simulated_hw.idq_id900 import SimId900
from simulated_hw.meerstetter_tec import SimMeerstetterTec
from simulated_hw.moglabs_qrf import SimMoglabsQrf
from simulated_hw.nkt_koheras import SimNktKoheras
from simulated_hw.novatech_409b import SimNovatech409B
from simulated_hw.quantum_composers_9530 import Sim9530
from simulated_hw.rs_hmp4040 import SimHmp4040
from simulated_hw.scpi_generator import SimKeysight33622A, SimRigolDg4102, SimSmb100A
from simulated_hw.single_quantum_atlas import SimAtlas
from simulated_hw.srs_ldc501 import SimSrsLdc501
from simulated_hw.thorlabs_mdt693b import SimThorlabsMdt693b
from simulated_hw.thorlabs_mpc320 import SimThorlabsMpc320
from simulated_hw.thorlabs_pm100 import SimThorlabsPm100
from simulated_hw.timebase_dim3000 import SimTimebaseDim3000
from simulated_hw.toptica_dlcpro import SimDlcPro
from simulated_hw.world.laboratory import Laboratory
from simulated_hw.world.parts_tap import tap
from simulated_hw.world.rubidium import RubidiumLaboratory


def build(
    world: Laboratory | RubidiumLaboratory, device: str, instrument: str, parts: list[str]
) -> SimInstrument:
    """The simulated instrument that stands behind ``device``.

    instrument:  "module:Class" from the lab file
    parts:       names of parts of the world; all but the detector instruments take them as they are
    """
    held = [world.part(name) for name in parts]
    name = instrument.rpartition(":")[2]
    rng: Any = world.rng(device)
    match name:
        case "SimDlcPro":
            return SimDlcPro(held, world.now, rng)
        case "SimMoglabsQrf":
            return SimMoglabsQrf(held[0], world.now, rng)
        case "SimMeerstetterTec":
            return SimMeerstetterTec(held, world.now, rng)
        case "SimThorlabsPm100":
            return SimThorlabsPm100(held[0], world.now, rng)
        case "SimAtlas":
            return SimAtlas(held[0], world.detector_clicks, world.now)
        case "SimNktKoheras":
            return SimNktKoheras(held[0], world.now, rng)
        case "SimHcpTc038d":
            return SimHcpTc038d(held[0], world.now, rng)
        case "SimThorlabsMdt693b":
            return SimThorlabsMdt693b(held, world.now, rng)
        case "SimThorlabsMpc320":
            return SimThorlabsMpc320(held[0], world.now, rng)
        case "SimId900":
            return SimId900(held[0], world.now, rng)
        case "SimAgilentIpcMini":
            return SimAgilentIpcMini(held[0], world.now, rng)
        case "SimBristol871":
            return SimBristol871([tap(laser, world.now) for laser in held], world.now, rng)
        case "SimHmp4040":
            return SimHmp4040(held, world.now, rng)
        case "Sim9530":
            return Sim9530(held[0], world.now, rng)
        case "SimSrsLdc501":
            return SimSrsLdc501(held[0], held[1], world.now, rng)
        case "SimHighFinesse":
            return SimHighFinesse([tap(laser, world.now) for laser in held], world.now, rng)
        case "SimTimebaseDim3000":
            return SimTimebaseDim3000(held[0], world.now, rng)
        case "SimNovatech409B":
            return SimNovatech409B(held[0], world.now, rng)
        case "SimNiDaq":
            try:
                from simulated_hw.ni_daqmx import SimNiDaq
            except ModuleNotFoundError as error:
                raise ConfigError(f"needs the package {error.name!r}: pip install 'labctl[nidaq]'") from None
            if isinstance(world, Laboratory):
                world.watch_pmt()
            for drive in held[0].switches.values():
                drive(False)  # the lines of a card that has just been switched on are low
            return SimNiDaq(held[0], world.now, rng)
        case "SimRigolDg4102":
            return SimRigolDg4102(held, world.now, rng)
        case "SimKeysight33622A":
            return SimKeysight33622A(held, world.now, rng)
        case "SimSmb100A":
            return SimSmb100A(held, world.now, rng)
        case _:
            raise ConfigError(
                f"instrument = {instrument!r}: no simulated instrument of that name is wired in simulated_hw/bench.py"
            )
