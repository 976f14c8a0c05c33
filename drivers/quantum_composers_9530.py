"""Quantum Composers 9520/9530 digital delay generators (BNC 577 is of the same family), over TCP or serial.

Every command is answered: settings with ``ok``, mistakes with ``?1`` to ``?8``. Times off the generator's grid are refused,
and each setting is read back.
"""

from __future__ import annotations

from drivers.line_device import LineDevice
from labctl.device import action
from labctl.errors import BadAnswerError, DeviceError, LimitError, RefusedError
from labctl.signal import Signal
from labctl.transport import Transport

LETTERS = "ABCDEFGH"
REFUSALS = {
    1: "incorrect prefix",
    2: "missing keyword",
    3: "invalid keyword",
    4: "missing parameter",
    5: "invalid parameter",
    6: "a query only",
    7: "no query form",
    8: "not available in the present state",
}
SHORTEST_S, LONGEST_S = 10e-9, 999.9
EARLIEST_S = -99.9
SHORTEST_PERIOD_S, LONGEST_PERIOD_S = 50e-9, 5000.0
LOWEST_V, HIGHEST_V, TTL_V = 2.0, 20.0, 4.0
TIME_DIGITS, PERIOD_DIGITS, VOLT_DIGITS = 11, 9, 3
"""Decimals sent; more of them in the period upset the instrument (qmi)."""
MODES = {"normal": "NORM", "single": "SING", "burst": "BURS", "duty_cycle": "DCYC"}
TRIGGERS = {"off": "DIS", "external": "TRIG", "dual": "DUAL"}
REFERENCES = {"internal": "INT", "external": "EXT", "external_pll": "XPL"}
POLARITIES = {"normal": "NORM", "inverted": "INV"}
SWITCH = {"0": False, "1": True}


def _state(n: int) -> Signal[bool]:
    return Signal(
        bool,
        read=lambda qc: qc.query_choice(f"{qc.channel(n)}:STAT?", SWITCH),
        write=lambda qc, on: qc.set_word(f"{qc.channel(n)}:STAT", str(int(on))),
        doc=f"Whether channel {LETTERS[n - 1]} takes part when the generator runs.",
    )


def _time(n: int, keyword: str, lowest_s: float, doc: str) -> Signal[float]:
    return Signal(
        float,
        "s",
        read=lambda qc: qc.query_number(f"{qc.channel(n)}:{keyword}?"),
        write=lambda qc, seconds: qc.set_number(f"{qc.channel(n)}:{keyword}", seconds, TIME_DIGITS),
        limits=(lowest_s, LONGEST_S),
        doc=doc,
    )


def _delay(n: int) -> Signal[float]:
    return _time(n, "DEL", EARLIEST_S, f"From T0 to the pulse of channel {LETTERS[n - 1]}.")


def _width(n: int) -> Signal[float]:
    return _time(n, "WIDT", SHORTEST_S, f"Length of the pulse of channel {LETTERS[n - 1]}.")


def _words(header: str, words: dict[str, str], doc: str) -> Signal[str]:
    meanings = {word: meaning for meaning, word in words.items()}
    return Signal(
        str,
        read=lambda qc: qc.query_choice(f"{header}?", meanings),
        write=lambda qc, value: qc.set_word(header, words[value]),
        choices=tuple(words),
        doc=doc,
    )


def _polarity(n: int) -> Signal[str]:
    meanings = {word: meaning for meaning, word in POLARITIES.items()}
    return Signal(
        str,
        read=lambda qc: qc.query_choice(f"{qc.channel(n)}:POL?", meanings),
        write=lambda qc, value: qc.set_word(f"{qc.channel(n)}:POL", POLARITIES[value]),
        choices=tuple(POLARITIES),
        doc=f"Whether a pulse of channel {LETTERS[n - 1]} is high or low.",
    )


def _amplitude(n: int) -> Signal[float]:
    return Signal(
        float,
        "V",
        read=lambda qc: qc.read_amplitude(n),
        write=lambda qc, volt: qc.write_amplitude(n, volt),
        limits=(LOWEST_V, HIGHEST_V),
        doc=f"Level of channel {LETTERS[n - 1]} into a high impedance (half into 50 ohm); setting it ends ttl_{LETTERS[n - 1].lower()}.",
    )


def _ttl(n: int) -> Signal[bool]:
    return Signal(
        bool,
        read=lambda qc: qc.query_choice(f"{qc.channel(n)}:OUTP:MODE?", {"TTL": True, "ADJ": False}),
        write=lambda qc, on: qc.set_word(f"{qc.channel(n)}:OUTP:MODE", "TTL" if on else "ADJ"),
        doc=f"Fast output stage at a fixed 4 V for channel {LETTERS[n - 1]}, instead of the adjustable one.",
    )


class QuantumComposers9530(LineDevice):
    """A generator with up to eight channels: ``state_a``, ``delay_a``, ``width_a``, ``polarity_a``, ``amplitude_a``, ``ttl_a`` to h.

    transport:  ``tcp://host:2101`` or ``serial:///dev/ttyUSB0`` (38400 baud unless the address says otherwise)
    """

    manual = "Quantum Composers 9530 manual, programming; DEVICES.md 3.8"
    checked_with = (
        "qmi 0.54 QuantumComposers_9530 against the same simulated generator; not yet tried on an instrument"
    )
    identity_has = "QC,95"
    expected = "a Quantum Composers 9520 or 9530"
    ending = b"\r\n"

    state_a, state_b, state_c, state_d = map(_state, (1, 2, 3, 4))
    state_e, state_f, state_g, state_h = map(_state, (5, 6, 7, 8))
    delay_a, delay_b, delay_c, delay_d = map(_delay, (1, 2, 3, 4))
    delay_e, delay_f, delay_g, delay_h = map(_delay, (5, 6, 7, 8))
    width_a, width_b, width_c, width_d = map(_width, (1, 2, 3, 4))
    width_e, width_f, width_g, width_h = map(_width, (5, 6, 7, 8))
    polarity_a, polarity_b, polarity_c, polarity_d = map(_polarity, (1, 2, 3, 4))
    polarity_e, polarity_f, polarity_g, polarity_h = map(_polarity, (5, 6, 7, 8))
    amplitude_a, amplitude_b, amplitude_c, amplitude_d = map(_amplitude, (1, 2, 3, 4))
    amplitude_e, amplitude_f, amplitude_g, amplitude_h = map(_amplitude, (5, 6, 7, 8))
    ttl_a, ttl_b, ttl_c, ttl_d = map(_ttl, (1, 2, 3, 4))
    ttl_e, ttl_f, ttl_g, ttl_h = map(_ttl, (5, 6, 7, 8))
    running = Signal(
        bool,
        read=lambda qc: qc.query_choice(":PULSE0:STAT?", SWITCH),
        write=lambda qc, on: qc.set_word(":PULSE0:STAT", str(int(on))),
        poll_s=2.0,
        doc="Pulses are made, as after the RUN button.",
    )
    period = Signal(
        float,
        "s",
        read=lambda qc: qc.query_number(":PULSE0:PER?"),
        write=lambda qc, seconds: qc.set_number(":PULSE0:PER", seconds, PERIOD_DIGITS),
        limits=(SHORTEST_PERIOD_S, LONGEST_PERIOD_S),
        poll_s=10.0,
        doc="From T0 to T0.",
    )
    mode = _words(":PULSE0:MOD", MODES, "T0 endlessly, once, a burst of them, or on and off.")
    burst_count = Signal(
        int,
        read=lambda qc: qc.query_whole(":PULSE0:BCO?"),
        write=lambda qc, count: qc.set_number(":PULSE0:BCO", count, 0),
        limits=(1, 1_000_000),
        doc="How many T0 in burst mode.",
    )
    trigger = _words(":PULSE0:TRIG:MOD", TRIGGERS, "Whether T0 waits for the trigger input.")
    reference = Signal(
        str,
        read=lambda qc: qc.read_reference()[0],
        write=lambda qc, value: qc.write_reference(value),
        choices=tuple(REFERENCES),
        doc="Clock that times are counted with.",
    )

    def __init__(self, transport: Transport, name: str = "") -> None:
        super().__init__(transport, name)
        if transport.address.scheme == "serial":
            transport.address.options.setdefault("baudrate", "38400")
        self.channels = 8

    def learn(self) -> None:
        """How many channels there are."""
        answer = self.query(":INST:CAT?")
        names = [name.strip() for name in answer.split(",")]
        if names != ["T0", *(f"CH{letter}" for letter in LETTERS[: len(names) - 1])] or len(names) < 2:
            raise self.unexpected(":INST:CAT?", answer, "T0, CHA, CHB and so on")
        self.channels = len(names) - 1

    @action
    def safe(self) -> None:
        """Stop: no more pulses. Tried twice, as an old answer may still be on a serial line."""
        try:
            self.running.set(False)
        except DeviceError:
            self.running.set(False)

    def not_ready(self) -> str:
        """Stopped although it was started, or the reference clock not locked."""
        if self.running.target and not self.running.get():
            return "the generator has stopped"
        if not self.read_reference()[1]:
            return "the clock is not locked to the external reference; check that it is there and its rate"
        return super().not_ready()

    def channel(self, n: int) -> str:
        """Header of channel ``n`` from 1; LimitError if this generator does not have it."""
        if n > self.channels:
            raise LimitError(
                f"{self.name}: there is no channel {LETTERS[n - 1]}; this generator has A to {LETTERS[self.channels - 1]}"
            )
        return f":PULSE{n}"

    def read_amplitude(self, n: int) -> float:
        """Level of a channel in V; 4 V in TTL mode."""
        ttl = self.query_choice(f"{self.channel(n)}:OUTP:MODE?", {"TTL": True, "ADJ": False})
        return TTL_V if ttl else self.query_number(f"{self.channel(n)}:OUTP:AMPL?")

    def write_amplitude(self, n: int, volt: float) -> None:
        """Set the level, and only then let it out: the level before may be more than what is connected stands."""
        self.set_number(f"{self.channel(n)}:OUTP:AMPL", volt, VOLT_DIGITS)
        self.set_word(f"{self.channel(n)}:OUTP:MODE", "ADJ")

    def read_reference(self) -> tuple[str, bool]:
        """Which clock, and whether it is usable: an unlocked PLL has a question mark behind its name."""
        answer = self.query(":PULSE0:ICL:MOD?")
        for meaning, word in REFERENCES.items():
            if answer.rstrip("?") == word:
                return meaning, not answer.endswith("?")
        raise self.unexpected(":PULSE0:ICL:MOD?", answer, "INT, EXT or XPL")

    def write_reference(self, value: str) -> None:
        """Choose the clock; it may take a while to lock."""
        self.order(f":PULSE0:ICL:MOD {REFERENCES[value]}")
        held = self.read_reference()[0]
        if held != value:
            raise self._not_taken(f":PULSE0:ICL:MOD {REFERENCES[value]}", held)

    def set_number(self, header: str, value: float, digits: int) -> None:
        """Set a number with so many decimals, and read it back; LimitError if it has more of them.

        What is less than 1e-12 of the number itself no clock can tell, and is rounded.
        """
        sent = f"{value:.{digits}f}"
        step = 10.0**-digits
        if abs(float(sent) - value) > max(1e-4 * step, 1e-12 * abs(value)):
            raise LimitError(
                f"{self.name}: {value!r} for {header} is not a multiple of {step:g}; nothing was sent"
            )
        self.order(f"{header} {sent}")
        held = self.query_number(f"{header}?")
        if abs(held - float(sent)) > 0.5 * step:
            raise self._not_taken(f"{header} {sent}", f"{held:.{digits}f}")

    def set_word(self, header: str, word: str) -> None:
        """Set a word or digit, and read it back."""
        self.order(f"{header} {word}")
        held = self.query(f"{header}?")
        if held != word:
            raise self._not_taken(f"{header} {word}", held)

    def order(self, text: str) -> None:
        """Send a command that must be answered with ok."""
        answer = self.query(text)
        if answer.lower() != "ok":
            raise self.unexpected(text, answer, "ok")

    def query(self, text: str) -> str:
        """Send one line, return its answer; RefusedError if it is one of the eight refusals."""
        answer = super().query(text)
        if len(answer) == 2 and answer[0] == "?" and answer[1].isdecimal():
            why = REFUSALS.get(int(answer[1]), "unknown refusal")
            raise RefusedError(f"{self.transport.where}: refused {text!r}: {why} ({answer})")
        return answer

    def _not_taken(self, text: str, held: str) -> BadAnswerError:
        self.transport.mark_stale()
        return BadAnswerError(
            f"{self.transport.where}: said ok to {text!r}, but now says {held[:40]!r}; somebody else may be setting it"
        )
