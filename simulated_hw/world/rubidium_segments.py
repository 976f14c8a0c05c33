"""Lines of the rubidium laboratory."""

from __future__ import annotations

from simulated_hw.world.segments import Wiring

RUBIDIUM = Wiring(
    "simulated rubidium laboratory",
    (
        "mot_780",
        "cool_780",
        "pump_795",
        "microwave",
        "fort_off",
        "excite_420",
        "transfer_480",
        "blow_780",
    ),
    "excite_420",
    "spcm",
)
