"""The table mode of a simulated MOGLabs QRF channel: rows played one after the other, with triggers, re-arming and restart."""

from __future__ import annotations

from dataclasses import dataclass, field

from simulated_hw.world.parts import RfChannel

MHZ = 1e6
STEP_S = 5e-6
"""Unit of a row's duration."""


@dataclass(frozen=True)
class Row:
    """One step of a table; ``steps`` of 5 us, 0 waits for a trigger."""

    frequency_hz: float
    power_dbm: float
    phase_deg: float
    steps: int
    flags: tuple[str, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether it lasts until a trigger."""
        return self.steps == 0 or "TRIG" in self.flags

    def text(self) -> str:
        """As TABLE,ENTRY shows it."""
        return ", ".join(
            (
                f"{self.frequency_hz / MHZ:.6f} MHz",
                f"{self.power_dbm:.3f} dBm",
                f"{self.phase_deg:.4f} deg",
                f"{self.steps}",
                *self.flags,
            )
        )


@dataclass
class Output:
    """One channel: its RF, its mode and its table."""

    rf: RfChannel
    mode: str = "NSB"
    signal: bool = False
    table: list[Row] = field(default_factory=list[Row])
    name: str = ""
    edge: str = "RISING"
    rearm: bool = False
    restart: bool = False
    armed: bool = False
    row: int | None = None
    """Index of the row being played, None while the table does not run."""
    row_since_s: float = 0.0
    stopping: bool = False

    def switch(self, what: str, on: bool) -> None:
        """Signal, amplifier or both."""
        if what in ("SIG", "ALL"):
            self.signal = self.rf.signal_on = on
        if what in ("POW", "ALL"):
            self.rf.amplifier_on = on

    def status(self) -> int:
        """The number STATUS gives."""
        running = self.row is not None
        return self.signal | self.rf.amplifier_on << 1 | self.armed << 2 | running << 3

    def state(self) -> str:
        """The word TABLE,STATUS gives."""
        return "RUNNING" if self.row is not None else "ARMED" if self.armed else "STOPPED"

    def trigger(self, now_s: float) -> None:
        """Start the armed table, or go on from a row that waits."""
        if self.row is None:
            if self.armed and self.table:
                self.armed = False
                self._play(0, now_s)
        elif self.table[self.row].waits:
            self._next(now_s)

    def halt(self) -> None:
        """Stop at once."""
        self.row, self.armed, self.stopping = None, False, False
        self.rf.signal_on = self.signal

    def advance(self, now_s: float) -> None:
        """Play the table up to ``now_s``."""
        self._skip_rounds(now_s)
        while self.row is not None:
            row = self.table[self.row]
            ends_s = self.row_since_s + row.steps * STEP_S
            if row.waits and not self.stopping:
                return
            if not row.waits and ends_s > now_s:
                return
            self._next(now_s if row.waits else ends_s)

    def _skip_rounds(self, now_s: float) -> None:
        """Leave out whole rounds of a table that restarts by itself."""
        if self.row is None or not (self.rearm and self.restart) or any(r.waits for r in self.table):
            return
        round_s = sum(r.steps for r in self.table) * STEP_S
        if not self.stopping and now_s - self.row_since_s > 2 * round_s:
            self.row_since_s += ((now_s - self.row_since_s) // round_s - 1) * round_s

    def _next(self, now_s: float) -> None:
        assert self.row is not None
        if self.stopping:
            self.halt()
        elif self.row + 1 < len(self.table):
            self._play(self.row + 1, now_s)
        else:
            self.row, self.armed = None, self.rearm
            self.rf.signal_on = self.signal
            if self.rearm and self.restart:
                self.trigger(now_s)

    def _play(self, index: int, now_s: float) -> None:
        self.row, self.row_since_s = index, now_s
        row = self.table[index]
        self.rf.frequency_hz, self.rf.power_dbm = row.frequency_hz, min(row.power_dbm, self.rf.limit_dbm)
        self.rf.phase_turns = row.phase_deg / 360
        self.rf.signal_on = self.signal and not {"SIG", "POW"} & {*row.flags}
