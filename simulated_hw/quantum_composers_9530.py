"""A simulated Quantum Composers 9530: its command language over a delay generator of the world (DEVICES.md 3.8)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from labctl.sim.instrument import LineInstrument
from simulated_hw.world.parts_pulses import DelayGenerator

PREFIX, NO_KEYWORD, KEYWORD, NO_PARAMETER, PARAMETER, QUERY_ONLY, NO_QUERY, UNAVAILABLE = range(1, 9)
LETTERS = "ABCDEFGH"
LONG_FORMS = {
    "STATE": "STAT",
    "PERIOD": "PER",
    "MODE": "MOD",
    "WIDTH": "WIDT",
    "DELAY": "DEL",
    "POLARITY": "POL",
    "OUTPUT": "OUTP",
    "AMPLITUDE": "AMPL",
    "TRIGGER": "TRIG",
    "LEVEL": "LEV",
    "ICLOCK": "ICL",
    "RATE": "RAT",
    "BCOUNTER": "BCO",
    "PCOUNTER": "PCO",
    "OCOUNTER": "OCO",
    "CMODE": "CMOD",
    "INSTRUMENT": "INST",
    "CATALOG": "CAT",
    "DISPLAY": "DISP",
    "ENABLE": "ENAB",
    "PULSE": "PULS",
}
MODES = ("NORM", "SING", "BURS", "DCYC")
PERIOD_DECIMALS = 9
_LINE = re.compile(r"([^\s?]*)(\?)?(?:\s+(.*))?")
_CHANNEL = re.compile(r"(PULS(?:E)?)(\d{1,2})")


class Refused(Exception):  # noqa: N818  (not an error of ours: the number that is answered)
    """A command that is answered with ``?n``."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Field:
    """A setting: the attribute that holds it, and what text stands for which value."""

    attribute: str
    read: Callable[[Any], str]
    parse: Callable[[str], Any]


def _switch(attribute: str) -> Field:
    meanings = {"0": False, "OFF": False, "1": True, "ON": True}

    def parse(text: str) -> bool:
        if text.upper() not in meanings:
            raise Refused(PARAMETER)
        return meanings[text.upper()]

    return Field(attribute, lambda value: str(int(value)), parse)


def _number(attribute: str, low: float, high: float, decimals: int, most_decimals: int = 15) -> Field:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise Refused(PARAMETER) from None
        if not low <= value <= high or len(text.partition(".")[2]) > most_decimals:
            raise Refused(PARAMETER)
        return round(value, decimals)

    return Field(attribute, lambda value: f"{value:.{decimals}f}", parse)


def _count(attribute: str, low: int = 1, high: int = 1_000_000) -> Field:
    def parse(text: str) -> int:
        if not text.isdecimal() or not text.isascii() or not low <= int(text) <= high:
            raise Refused(PARAMETER)
        return int(text)

    return Field(attribute, str, parse)


def _word(attribute: str, words: tuple[str, ...]) -> Field:
    def parse(text: str) -> str:
        if text.upper() not in words:
            raise Refused(PARAMETER)
        return text.upper()

    return Field(attribute, str, parse)


def _two_words(attribute: str, no: str, yes: str) -> Field:
    words = _word(attribute, (no, yes))
    return Field(attribute, lambda value: yes if value else no, lambda text: words.parse(text) == yes)


COUNTS = {"BCO": _count("burst"), "PCO": _count("pulses"), "OCO": _count("skips")}
SYSTEM = {
    "PER": _number("period_s", 50e-9, 5000.0, 9, PERIOD_DECIMALS),
    "MOD": _word("mode", MODES),
    **COUNTS,
}
CHANNEL = {
    "STAT": _switch("enabled"),
    "WIDT": _number("width_s", 10e-9, 999.99999999975, 11),
    "DEL": _number("delay_s", -999.99999999975, 999.99999999975, 11),
    "POL": _two_words("inverted", "NORM", "INV"),
    "OUTP:MOD": _two_words("adjustable", "TTL", "ADJ"),
    "OUTP:AMPL": _number("amplitude_v", 2.0, 20.0, 3),
    "CMOD": _word("mode", MODES),
    **COUNTS,
}
PANEL = {
    "ICL:RAT": _count("reference_mhz", 10, 100),
    "ICL:LEV": _number("reference_v", 0.02, 2.5, 3),
    "TRIG:EDGE": _word("trigger_edge", ("RIS", "FALL")),
    "TRIG:LEV": _number("trigger_v", 0.2, 15.0, 3),
}


class Sim9530(LineInstrument):
    """A 9534 or 9538, by the number of the generator's outputs.

    rng:  not used, a digital generator has nothing to draw
    """

    request_end: ClassVar[bytes] = b"\n"
    reply_end: ClassVar[bytes] = b"\r\n"
    longest_line: ClassVar[int] = 256

    def __init__(self, generator: DelayGenerator, now: Callable[[], float], rng: np.random.Generator) -> None:
        super().__init__()
        self.generator = generator
        self._now = now
        self.maker = "QC"
        self.trigger_mode = "TRIG" if generator.external else "DIS"
        self.trigger_edge, self.trigger_v = "RIS", 2.5
        self.reference, self.reference_mhz, self.reference_v = "INT", 10, 0.5
        self.reference_present = True
        self.display = True

    def own_faults(self) -> dict[str, Callable[[], None]]:
        """Somebody presses STOP; the reference clock goes away and comes back."""
        return {
            "stop_pressed": self.generator.stop,
            "reference_lost": lambda: setattr(self, "reference_present", False),
            "reference_back": lambda: setattr(self, "reference_present", True),
        }

    def answer(self, line: str) -> str | None:
        """ok, a value, or ?n; nothing to an empty line."""
        text = line.strip()
        if not text:
            return None
        try:
            return self._obey(text)
        except Refused as refused:
            return f"?{refused.code}"

    def unknown(self, line: str) -> str:
        """An invalid keyword."""
        return f"?{KEYWORD}"

    def _obey(self, text: str) -> str:
        if text[0] == "*":
            return self._common(text.upper())
        if text[0] != ":":
            raise Refused(PREFIX)
        match = _LINE.fullmatch(text[1:])
        if match is None:
            raise Refused(KEYWORD)
        words = [LONG_FORMS.get(word, word) for word in match[1].upper().split(":")]
        if words == [""]:
            raise Refused(NO_KEYWORD)
        question, argument = bool(match[2]), (match[3] or "").strip()
        if words == ["INST", "CAT"]:
            if not question:
                raise Refused(QUERY_ONLY)
            return ", ".join(["T0", *(f"CH{LETTERS[n]}" for n in range(len(self.generator.outputs)))])
        if words == ["DISP", "ENAB"]:
            return self._exchange(self, _switch("display"), question, argument)
        channel = _CHANNEL.fullmatch(words[0])
        if channel is None:
            raise Refused(KEYWORD)
        if len(words) == 1 or words[1] == "":
            raise Refused(NO_KEYWORD)
        return self._setting(int(channel[2]), ":".join(words[1:]), question, argument)

    def _common(self, text: str) -> str:
        if text == "*IDN?":
            return f"{self.maker},953{len(self.generator.outputs)},12345,2.0.1"
        if text == "*RST":
            fresh = DelayGenerator()
            self.generator.stop()
            for name in ("period_s", "mode", "burst", "pulses", "skips", "external"):
                setattr(self.generator, name, getattr(fresh, name))
            self.generator.outputs[:] = fresh.outputs[: len(self.generator.outputs)]
            self.trigger_mode = "DIS"
            return "ok"
        raise Refused(QUERY_ONLY if text == "*IDN" else KEYWORD)

    def _setting(self, number: int, name: str, question: bool, argument: str) -> str:
        """A setting of the generator (number 0) or of a channel."""
        if number > len(self.generator.outputs):
            raise Refused(KEYWORD)
        if number:
            field = CHANNEL.get(name)
            if field is None:
                raise Refused(KEYWORD)
            return self._exchange(self.generator.outputs[number - 1], field, question, argument)
        special = {"STAT": self._run, "TRIG:MOD": self._trigger, "ICL:MOD": self._clock}.get(name)
        if special is not None:
            return special(question, argument)
        if name in PANEL:
            return self._exchange(self, PANEL[name], question, argument)
        if name in SYSTEM:
            return self._exchange(self.generator, SYSTEM[name], question, argument)
        raise Refused(KEYWORD)

    def _exchange(self, holder: object, field: Field, question: bool, argument: str) -> str:
        if question:
            return field.read(getattr(holder, field.attribute))
        if not argument:
            raise Refused(NO_PARAMETER)
        setattr(holder, field.attribute, field.parse(argument))
        return "ok"

    def _run(self, question: bool, argument: str) -> str:
        if question:
            return str(int(self.generator.running))
        if not argument:
            raise Refused(NO_PARAMETER)
        if _switch("").parse(argument):
            self.generator.start(self._now())
        else:
            self.generator.stop()
        return "ok"

    def _trigger(self, question: bool, argument: str) -> str:
        reply = self._exchange(self, _word("trigger_mode", ("DIS", "TRIG", "DUAL")), question, argument)
        self.generator.external = self.trigger_mode != "DIS"
        return reply

    def _clock(self, question: bool, argument: str) -> str:
        """An unlocked PLL has a question mark behind its name."""
        reply = self._exchange(self, _word("reference", ("INT", "EXT", "XPL")), question, argument)
        return "XPL?" if reply == "XPL" and not self.reference_present else reply


def demo(now: Callable[[], float]) -> Sim9530:
    """A generator with eight outputs."""
    return Sim9530(DelayGenerator(), now, np.random.default_rng(1))
