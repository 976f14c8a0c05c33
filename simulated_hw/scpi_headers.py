"""SCPI headers and numbers as simulated generators take them: long or short, any case, units after numbers."""

from __future__ import annotations

import re

NODES = """SOURce FREQuency FIXed CW VOLTage POWer LEVel IMMediate AMPLitude UNIT OFFSet PHASe FUNCtion SHAPe
OUTPut STATe LOAD IMPedance SYSTem ERRor NEXT ALL ANGLe"""
SHORT = {
    spelling: re.sub("[a-z]", "", name)
    for name in NODES.split()
    for spelling in (name.upper(), re.sub("[a-z]", "", name))
}
LEFT_OUT = {"FIX", "CW", "LEV", "IMM", "AMPL", "SHAP", "STAT", "NEXT"}
ROOTS = {"SOUR", "OUTP", "SYST", "UNIT"}
SCALES = {
    "": 1.0,
    "HZ": 1.0,
    "KHZ": 1e3,
    "MHZ": 1e6,
    "GHZ": 1e9,
    "DEG": 1.0,
    "V": 1.0,
    "VPP": 1.0,
    "DBM": 1.0,
}
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:E[-+]?\d+)?)\s*([A-Z]*)")


def canonical(command: str) -> str | None:
    """``:SOURce1:FREQuency:CW?`` as ``SOUR:FREQ? 1``: short, in capitals, channel apart; None if no such header exists."""
    header, _, argument = command.partition(" ")
    question = "?" if header.endswith("?") else ""
    if header.startswith("*"):
        return f"{header.upper()} {argument.strip()}".strip()
    path: list[str] = []
    channel = "1"
    for node in header.removesuffix("?").removeprefix(":").upper().split(":"):
        name = node.rstrip("0123456789")
        if name not in SHORT or (name != node and SHORT[name] not in ("SOUR", "OUTP")):
            return None
        channel = node[len(name) :] or channel
        if SHORT[name] not in LEFT_OUT:
            path.append(SHORT[name])
    if not path:
        return None
    root = [] if path[0] in ROOTS else ["SOUR"]
    return f"{':'.join(root + path)}{question} {channel} {argument.strip().upper()}".strip()


def number(text: str) -> float | None:
    """A number in the instrument's own unit, such as ``80 MHZ``; None if it is none."""
    match = _NUMBER.fullmatch(text)
    if match is None or match[2] not in SCALES:
        return None
    return float(match[1]) * SCALES[match[2]]
