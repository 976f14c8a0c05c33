"""Data that an experiment published, analysed by the same code as the simulated runs; its files are not part of labctl."""

from __future__ import annotations

from pathlib import Path

import msgspec

from labctl.analysis.ledger import bits_of, ledger
from labctl.analysis.value import Estimate
from labctl.errors import RunError


class SiftedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ``[recorded.KEY]`` table: both parties' sifted key bits.

    alice, bob:  files of packed bits, relative to the plan; where they are absent the rows that ask say so
    rounds:      of the whole run
    disclosed:   bits that the experimenters' error correction told
    source:      where the files come from
    """

    alice: str
    bob: str
    rounds: int
    disclosed: int
    source: str


def results(folder: Path, key: SiftedKey) -> dict[str, Estimate]:
    """Figures of a sifted key; RunError if its files are not there."""
    parts: list[bytes] = []
    for name in (key.alice, key.bob):
        try:
            parts.append((folder / name).read_bytes())
        except OSError as error:
            raise RunError(
                f"{name}: the recorded data are not on this machine ({error.strerror}); they are {key.source}"
            ) from None
    found = ledger(bits_of(parts[0]), bits_of(parts[1]), key.rounds, key.disclosed)
    return {
        "bits": Estimate(found.bits, 0.0),
        "errors": Estimate(found.errors, 0.0),
        "disclosed": Estimate(key.disclosed, 0.0),
        "qber": found.error_rate,
        "share": found.share,
        "efficiency": found.efficiency,
        "spread": found.spread,
    }
